# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts that die in the middle of a deploy of calendar-api: what users get, how the run ends, and that the next deploy heals."""

from __future__ import annotations

import dataclasses
import typing as t

import pytest
from demo.process import wait_until
from demo.traffic import summarise

from ..fleet.support import STATE, Snapshot, Traffic, answer, deploy, has_entered, journal, outcome, play, revision, rows, runs, start_deploy
from ..fleet.world import FleetWorld

GOOD = {"deployed", "nothing_to_do"}
BACK = {"rolled_back", "rollback_incomplete"}


def acknowledged(world: FleetWorld, phase: str, host: str, before: int) -> bool:
    """Whether a run after the first *before* has heard from a host that its part of a phase is done."""
    if not has_entered(world, phase, before):
        return False
    return any(record["kind"] == "acknowledged" and (record["phase"], record["host"], record["status"]) == (phase, host, "ok") for record in journal(world))


@dataclasses.dataclass(frozen=True)
class Fault:
    """What happens, when, how the run may end, and what puts the world right before the next deploy."""

    when: t.Callable[[FleetWorld, int], bool]
    strike: t.Callable[[FleetWorld], object]
    ends: frozenset[str]
    mend: t.Callable[[FleetWorld], object] = lambda _world: None


def dies(name: str, when: t.Callable[[FleetWorld, int], bool], ends: t.Collection[str]) -> Fault:
    """A host whose power is cut, and comes back after the run."""
    return Fault(when, lambda world: world.fleet.hosts[name].kill(), frozenset(ends), lambda world: world.fleet.hosts[name].start())


FAULTS = {
    "app host before its batch": dies("app2", lambda world, before: has_entered(world, "backup", before), {"rollback_incomplete"}),
    "app host during its batch": dies("app2", lambda world, before: acknowledged(world, "switch", "app1", before), {"rollback_incomplete"}),
    "app host after its batch": dies("app2", lambda world, before: has_entered(world, "protect_finish", before), {"deployed"}),
    "proxy host restarts": Fault(
        lambda world, before: acknowledged(world, "switch", "app1", before), lambda world: world.proxy.reboot(), frozenset({"deployed", *BACK})
    ),
    "database restarts": Fault(
        lambda world, before: has_entered(world, "protect", before),
        lambda world: world.primary.run("systemctl", "restart", "postgresql"),
        frozenset({"deployed", *BACK}),
    ),
}


def serving(world: FleetWorld) -> list[str]:
    """The release of each process that runs on the app hosts, as systemd says it."""
    script = "for unit in $(systemctl list-units --state=active --plain --no-legend 'calendar-api-web-*' | cut -d' ' -f1); do systemctl cat $unit; done"
    return [
        line.partition("DEPLOY_RELEASE=")[2].partition('"')[0].split()[0]
        for host in world.hosts("app")
        for line in host.sh(script).splitlines()
        if "DEPLOY_RELEASE=" in line
    ]


def leftovers(world: FleetWorld) -> str:
    """Locks, flags and timers that lie on any host."""
    found = f"ls {STATE}/lock.json {STATE}/proxy/maintenance.flag {STATE}/timers/*.deadline 2>/dev/null || :"
    return "".join(host.sh(found) for host in world.fleet.hosts.values())


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_in_the_middle_of_a_deploy(fleet_world: FleetWorld, fleet_moment: Snapshot, name: str) -> None:
    world, fault = fleet_world, FAULTS[name]
    fleet_moment.restore()
    before = len(runs(world))
    with Traffic(world, rate=20) as requests:
        process = start_deploy(world, "r2")
        wait_until(lambda: fault.when(world, before) or process.poll() is not None, seconds=600, what=f"the moment of: {name}")
        assert process.poll() is None, (world.home / "deploy.log").read_text(encoding="utf-8")
        fault.strike(world)
        code = process.wait(timeout=900)
    said = (world.home / "deploy.log").read_text(encoding="utf-8")
    ended = outcome(world)
    assert ended in fault.ends, said
    assert (code == 0) is (ended in GOOD), said
    # Who got an answer of the application got the old or the new release.
    figures = summarise(requests.records)
    print(
        f"\n{name}: {ended}; {figures['requests']} requests, {figures['failed']} failed, by release {figures['by_release']}, by status {figures['by_status']}"
    )
    assert {release.partition("-")[0] for release in figures["by_release"]} <= {"r1", "r2", ""}, figures
    fault.mend(world)
    wait_until(lambda: answer(world)[0] == 200, seconds=60, what="the application answers")
    assert answer(world)[1].partition("-")[0] in ({"r2"} if ended in GOOD else {"r1"} if ended == "rolled_back" else {"r1", "r2"})
    healed = deploy(world, "r2")
    assert healed.code == 0, healed.output
    assert outcome(world) in GOOD
    assert [release.partition("-")[0] for release in serving(world)] == ["r2", "r2"]
    assert leftovers(world) == ""
    assert revision(world) == ["0004"]
    assert rows(world, "SELECT count(*) FROM credentials WHERE token_encrypted IS NULL") == [(0,)]


def test_a_part_of_the_hosts_wants_consent(fleet_world: FleetWorld, fleet_moment: Snapshot) -> None:
    world = fleet_world
    fleet_moment.restore()
    known, before = len(runs(world)), serving(world)
    refused = deploy(world, "r2", "--limit", "all:!app2")
    assert refused.code == 2
    assert "--limit all:!app2 leaves hosts at another release." in refused.output
    assert "--limit 'all:!app2:localhost' -e deploy_accept_limit=true" in refused.output
    assert (len(runs(world)), serving(world)) == (known, before)
    agreed = deploy(world, "r2", "--limit", "all:!app2:localhost", "-e", "deploy_accept_limit=true")
    assert (agreed.code, outcome(world)) == (0, "deployed"), agreed.output
    assert sorted(release.partition("-")[0] for release in serving(world)) == ["r1", "r2"]
    whole = deploy(world, "r2")
    assert (whole.code, outcome(world)) == (0, "deployed"), whole.output
    assert [release.partition("-")[0] for release in serving(world)] == ["r2", "r2"]
    again = deploy(world, "r2")
    assert (again.code, outcome(world)) == (0, "nothing_to_do"), again.output


def test_the_primary_is_gone(fleet_world: FleetWorld, fleet_moment: Snapshot) -> None:
    """Nothing can be written down any more: the run says so, and the next one takes over."""
    world = fleet_world
    fleet_moment.restore()
    before = len(runs(world))
    process = start_deploy(world, "r2")
    wait_until(lambda: has_entered(world, "stage", before) or process.poll() is not None, seconds=600, what="stage")
    world.primary.kill()
    try:
        code = process.wait(timeout=900)
    finally:
        world.primary.start()
    said = (world.home / "deploy.log").read_text(encoding="utf-8")
    assert code != 0
    assert "db1 cannot be reached" in said and "It holds lock and journal" in said, said
    wait_until(lambda: answer(world)[0] == 200, seconds=60, what="the database is back")
    healed = play(world, "deploy.yml", "-e", "deploy_version=r2")
    assert (healed.code, outcome(world)) == (0, "deployed"), healed.output
    assert leftovers(world) == ""
