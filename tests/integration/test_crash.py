# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""kill -9 of ansible-playbook in each phase of r2, and the dead-man timer: a release always answers, and the next deploy finishes without force."""

from __future__ import annotations

import collections.abc
import json
import random
import time

from calendar_api import seed
from demo import story as demo_story
from demo.process import wait_until
from demo.world import USERS

from .world_support import Live, answer, deploy, has_entered, kill, outcome, revision, rows, start_deploy

PHASES = [
    "open",
    "preflight",
    "stage",
    "backup",
    "maintenance_enter",
    "migrate",
    "protect",
    "validate",
    "switch",
    "protect_finish",
    "smoke",
    "maintenance_leave",
    "watch",
    "contract",
]
ALWAYS_TRIED = ("switch",)
MOST_DELAY = 1.5


def chosen(generator: random.Random, count: int) -> list[str]:
    """*count* phases in their order: the most delicate one always, the others by chance."""
    others = [phase for phase in PHASES if phase not in ALWAYS_TRIED]
    picked = {*ALWAYS_TRIED, *generator.sample(others, count - len(ALWAYS_TRIED))}
    return [phase for phase in PHASES if phase in picked]


def test_kill_in_a_phase_then_the_next_deploy_finishes(live: Live, seeded: random.Random, rounds: collections.abc.Callable[[int, int], int]) -> None:
    for phase in chosen(seeded, rounds(2, len(PHASES))):
        delay = seeded.uniform(0, MOST_DELAY)
        _kill_and_finish(live, phase, delay)


def _kill_and_finish(live: Live, phase: str, delay: float) -> None:
    world, context = live.world, f"killed {delay:.2f} s into {phase}"
    live.snapshot.restore()
    runs = len(demo_story.journals(world))
    process = start_deploy(world, "r2")
    wait_until(lambda: has_entered(world, phase, runs) or process.poll() is not None, seconds=600, what=f"r2 enters {phase}")
    # The moment of a crash within its phase is chance; the seed repeats it.
    time.sleep(delay)
    kill(process)
    status, release, _body = answer(world)
    assert (status, release.split("-")[0]) in ((200, "r1"), (200, "r2")), context
    following = deploy(world, "r2")
    assert following.code == 0, f"{context}: {following.output}"
    assert outcome(world) in ("deployed", "nothing_to_do"), context
    status, release, _body = answer(world)
    assert (status, release.split("-")[0]) == (200, "r2"), context
    assert revision(world) == ["0004"], context
    assert demo_story.token_figures(world) == {"total": USERS, "encrypted": USERS, "verified": USERS, "clear_left": 0}, context
    clear = dict(rows(world, "SELECT user_id, token FROM credentials WHERE user_id <> 1"))
    assert clear == {user: token for user, token in seed.tokens(users=USERS).items() if user != 1}, context
    assert rows(world, "SELECT count(*) FROM pg_index WHERE NOT indisvalid") == [(0,)], context
    assert rows(world, "SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal") == [(0,)], context
    assert not list((world.home / "state" / "proxy").glob("maintenance*flag")), context
    assert not (world.home / "state" / "lock.json").exists(), context


def test_a_living_run_keeps_its_lock_a_dead_one_loses_its_maintenance_a_human_keeps_theirs(live: Live) -> None:
    world = live.world
    live.snapshot.restore()
    runs = len(demo_story.journals(world))
    flag = world.home / "state" / "proxy" / "maintenance.flag"
    process = start_deploy(world, "r2", "-e", "deploy_maintenance=always", "-e", "deploy_lease_seconds=30")
    wait_until(lambda: has_entered(world, "preflight", runs) or process.poll() is not None, seconds=600, what="r2 enters preflight")
    second = deploy(world, "r2")
    assert second.code != 0, second.output
    assert "The lock is held by" in second.output
    assert "deploy_force_unlock=" in second.output
    wait_until(lambda: has_entered(world, "migrate", runs) or process.poll() is not None, seconds=600, what="r2 enters migrate")
    assert flag.exists()
    assert answer(world, "/api/schedule?day=2026-01-01")[0] == 503
    kill(process)
    wait_until(lambda: not flag.exists(), seconds=120, what="the timer takes the flag away")
    status, release, _body = answer(world)
    assert (status, release.split("-")[0]) == (200, "r1")
    human = json.dumps({"run_id": "", "by": "ana", "message": "I look into it", "until": "", "since": "2026-11-21T22:10:04Z"})
    flag.write_text(human, encoding="utf-8")
    following = deploy(world, "r2")
    assert following.code == 0, following.output
    assert outcome(world) == "deployed"
    assert answer(world, "/api/schedule?day=2026-01-01")[0] == 503
    assert flag.read_text(encoding="utf-8") == human
    flag.unlink()
    assert answer(world)[1].split("-")[0] == "r2"
