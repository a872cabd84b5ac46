# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""calendar-api on four real hosts over SSH: the certificate of the site, and what users notice of a deploy and of the way back."""

from __future__ import annotations

import subprocess
import typing as t

import pytest
from demo.traffic import summarise

from ..fleet.authority import Authority, Certificate
from ..fleet.support import Snapshot, Traffic, answer, deploy, journal, outcome, play, revision, rows, runs
from ..fleet.world import FleetWorld, now
from .pythons import VERSIONS, programs


def ends_soon(world: FleetWorld) -> Certificate:
    return world.authority.issue(world.state["name"], now(), days=13.5)


def for_another(world: FleetWorld) -> Certificate:
    return world.authority.issue("elsewhere.test", now())


def without_the_authority_between(world: FleetWorld) -> Certificate:
    return world.authority.below(now()).issue(world.state["name"], now())


def of_another_authority(world: FleetWorld) -> Certificate:
    return Authority.create(now()).issue(world.state["name"], now())


@pytest.mark.parametrize(
    ("certificate", "problem"),
    [
        (ends_soon, "ends in 13 days, expected at least 14"),
        (for_another, "is not accepted: Hostname mismatch, certificate is not valid for 'proxy1.test'"),
        (without_the_authority_between, "is not accepted: unable to get local issuer certificate"),
        (of_another_authority, "is not accepted: unable to get local issuer certificate"),
    ],
)
def test_a_bad_certificate_stops_a_deploy_before_anything_is_changed(
    fleet_world: FleetWorld, fleet_moment: Snapshot, certificate: t.Callable[[FleetWorld], Certificate], problem: str
) -> None:
    world = fleet_world
    fleet_moment.restore()
    before = {host.name: host.sh("ls -R /opt/calendar-api/releases /etc/systemd/system") for host in world.hosts("app")}
    world.certify(certificate(world))
    try:
        command = deploy(world, "r2")
    finally:
        world.certify(world.authority.issue(world.state["name"], now()))
    assert command.code == 2, command.output
    assert f"the certificate of proxy1.test:443 {problem}" in " ".join(command.output.split()), command.output
    assert "Renew the certificate of proxy1.test" in command.output
    assert outcome(world) == "failed_nothing_changed"
    assert {record["phase"] for record in journal(world) if record["kind"] == "intent"} <= {"open", "preflight", "rollback"}
    assert revision(world) == ["0001"]
    assert {host.name: host.sh("ls -R /opt/calendar-api/releases /etc/systemd/system") for host in world.hosts("app")} == before
    assert answer(world)[1].startswith("r1-")


def test_a_whole_chain_is_accepted(fleet_world: FleetWorld, fleet_moment: Snapshot) -> None:
    world = fleet_world
    fleet_moment.restore()
    between = world.authority.below(now())
    own = between.issue(world.state["name"], now(), days=14.5)
    world.certify(Certificate(own.certificate + between.own.certificate, own.key))
    try:
        command = deploy(world, "r1")
    finally:
        world.certify(world.authority.issue(world.state["name"], now()))
    assert (command.code, outcome(world)) == (0, "nothing_to_do"), command.output


def test_users_lose_no_request_while_r2_lands_and_while_r1_comes_back(fleet_world: FleetWorld, fleet_moment: Snapshot) -> None:
    world = fleet_world
    fleet_moment.restore()
    known = len(runs(world))
    with Traffic(world) as landing:
        command = deploy(world, "r2")
    assert command.code == 0, command.output
    with Traffic(world) as returning:
        back = play(world, "lastro.deploy.rollback")
    assert back.code == 0, back.output
    assert len(runs(world)) == known + 2 and outcome(world) == "rolled_back"
    for requests, releases in ((landing, {"r1", "r2"}), (returning, {"r1", "r2"})):
        figures = summarise(requests.records)
        print(f"\n{figures['requests']} requests, {figures['failed']} failed, {figures['by_client']}, p95 {figures['p95_ms']} ms, p99 {figures['p99_ms']} ms")
        assert figures["failed"] == 0, figures
        assert min(figures["by_client"][kind] for kind in ("keep-alive", "new")) > 500
        assert {name.partition("-")[0] for name in figures["by_release"]} == releases
    booked = {slot for (slot,) in rows(world, "SELECT slot FROM bookings")}
    assert set(summarise(landing.records + returning.records)["posted"]) <= booked


def test_a_controller_of_another_python_than_its_hosts(fleet_world: FleetWorld, fleet_moment: Snapshot, capsys: pytest.CaptureFixture[str]) -> None:
    world = fleet_world
    fleet_moment.restore()
    python = programs(max(VERSIONS, key=lambda version: int(version.partition(".")[2])))
    controller = subprocess.run([python / "ansible", "--version"], capture_output=True, text=True, check=True).stdout
    core, version = controller.splitlines()[0], next(line for line in controller.splitlines() if "python version" in line).split("=")[1].split("(")[0].strip()
    with capsys.disabled():
        print(f"\nfleet: r1, r2, r3 with {core} on Python {version}, hosts with {world.primary.run('python3', '--version').strip()}")
    seen = []
    for release, code in (("r1", 0), ("r2", 0), ("r3", 2)):
        # r3 breaks once users have looked at the schedule for a while.
        with Traffic(world, rate=20):
            command = deploy(world, release, python=python)
        assert command.code == code, command.output
        seen.append((outcome(world), answer(world)[1].partition("-")[0], revision(world)))
    assert seen == [("nothing_to_do", "r1", ["0001"]), ("deployed", "r2", ["0004"]), ("rolled_back", "r2", ["0004"])]
