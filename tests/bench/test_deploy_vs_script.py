# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""r1 -> r2 on one systemd host: a deploy against a shell script that goes through the same checklist over the same kind of connection."""

from __future__ import annotations

import collections.abc
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from tests.fleet.support import Snapshot, answer, deploy, journal, outcome, play, revision, rows
from tests.fleet.world import CA_CERT, FleetWorld
from tests.hosts.fleet import USER, Fleet

SCRIPT = Path(__file__).with_name("deploy_by_hand.sh")
ROUNDS = 3 if os.environ.get("LASTRO_FULL") else 1
USERS = 50_000
SHORTEST_WATCH = "2s"
LIMIT = 3.0

Steps = dict[str, float]


@pytest.fixture(scope="module")
def moment() -> collections.abc.Iterator[Snapshot]:
    """r1 serves."""
    home = Path(tempfile.mkdtemp(prefix="lastro-bench-"))
    fleet = Fleet(home / "hosts")
    fleet.up({"one1": "one"})
    try:
        world = FleetWorld.create(home / "prod", fleet, groups=dict.fromkeys(("primary", "app", "proxy"), ("one1",)), users=USERS)
        for command in (play(world, "lastro.deploy.tool_environment"), deploy(world, "r1", LASTRO_WATCH=SHORTEST_WATCH)):
            assert command.code == 0, command.output
        yield Snapshot.take(world)
    finally:
        fleet.down()
        shutil.rmtree(home)


def begin(moment: Snapshot) -> None:
    """r1 again, and nothing of r2 on the host."""
    moment.restore()
    moment.world.primary.sh("cd /opt/calendar-api; rm -rf releases/r2-* env/r2-* artifacts/source-*; rm -rf /var/backups/*/*; sync")


def by_deploy(moment: Snapshot) -> Steps:
    """Seconds of each phase, and of the rest of the command; the samples of the watch are waiting, and left out."""
    begin(moment)
    began = time.monotonic()
    command = deploy(moment.world, "r2", LASTRO_WATCH=SHORTEST_WATCH)
    seconds = time.monotonic() - began
    assert (command.code, outcome(moment.world)) == (0, "deployed"), command.output
    results = {record["phase"]: record for record in journal(moment.world) if record["kind"] in ("result", "verdict")}
    steps = {phase: float(record["seconds"]) for phase, record in results.items()}
    waited = float(results["watch"]["evidence"]["seconds"])
    steps["watch"] -= waited
    return {**steps, "plan, plays, close": seconds - waited - sum(steps.values())}


def by_script(moment: Snapshot) -> Steps:
    """Seconds of each step, as the script says them."""
    begin(moment)
    world = moment.world
    settings = {
        "SSH_OPTIONS": " ".join(world.fleet.ssh_options()),
        "HOST": f"{USER}@{world.primary.address}",
        "LIVE": answer(world)[1],
        "REPOSITORY": world.state["repository"],
        "WHEELS": str(next(Path(world.state["build_dir"]).rglob("wheels-*.tar"))),
        "URL": world.state["url"],
        "CA_CERT": CA_CERT,
    }
    finished = subprocess.run([SCRIPT], env={**os.environ, **settings}, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return {name: float(seconds) for name, seconds in (line.split() for line in finished.stdout.splitlines())}


def assert_landed(world: FleetWorld) -> None:
    """Both have done the work."""
    assert answer(world)[1].startswith("r2-")
    assert revision(world) == ["0004"]
    assert rows(world, "SELECT count(*), count(token_encrypted) FROM credentials") == [(USERS, USERS)]


def show(title: str, rounds: list[Steps]) -> float:
    """Print the medians; the median of the whole."""
    whole = statistics.median(sum(steps.values()) for steps in rounds)
    print(f"\n{title:<20} {whole:>6.1f} s")
    for name in rounds[0]:
        print(f"  {name:<18} {statistics.median(steps[name] for steps in rounds):>6.1f} s")
    return whole


def test_a_deploy_takes_at_most_three_times_as_long_as_a_script(moment: Snapshot) -> None:
    deploys: list[Steps] = []
    scripts: list[Steps] = []
    for _round in range(ROUNDS):
        scripts.append(by_script(moment))
        assert_landed(moment.world)
        deploys.append(by_deploy(moment))
        assert_landed(moment.world)
    print(f"\nr1 -> r2 on one host, {USERS} tokens, median of {ROUNDS}; waiting of the watch is left out")
    ratio = show("deploy", deploys) / show("script", scripts)
    print(f"\na deploy takes {ratio:.2f} times as long")
    assert ratio <= LIMIT
