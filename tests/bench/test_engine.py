# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the engine itself costs: tasks and module calls of each phase, in units of one empty module call of the same run."""

from __future__ import annotations

import collections.abc
import dataclasses
import json
import shutil
import statistics
import tempfile
from pathlib import Path

import pytest
from demo.world import World

from tests.integration.world_support import deploy, outcome, play

CALLBACKS = Path(__file__).parent / "callback_plugins"
EMPTY_CALLS = 10
AFTER = "close"

EMPTY = f"""
- hosts: primary
  gather_facts: false
  tasks:
    - ansible.builtin.ping:
      loop: "{{{{ range({EMPTY_CALLS}) | list }}}}"
"""


@dataclasses.dataclass
class Cost:
    """What one phase took."""

    tasks: int = 0
    modules: int = 0
    seconds: float = 0.0


@pytest.fixture(scope="module")
def world() -> collections.abc.Iterator[World]:
    """r1 serves."""
    world = World(Path(tempfile.mkdtemp(prefix="lastro-bench-")) / "demo")
    try:
        world.create()
        first = deploy(world, "r1")
        assert first.code == 0, first.output
        yield world
    finally:
        world.remove()
        shutil.rmtree(world.home.parent)


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def costs(path: Path) -> dict[str, Cost]:
    """By phase, in the order of the run. A task counts for the phase whose result is written next; what comes after the last one is the close."""
    found: dict[str, Cost] = {}
    waiting = Cost()
    for task in lines(path):
        waiting = Cost(waiting.tasks + 1, waiting.modules + bool(task["module"]), waiting.seconds + float(str(task["seconds"])))
        if task["phase"]:
            found[str(task["phase"])] = waiting
            waiting = Cost()
    return {**found, AFTER: waiting}


def one_empty_call(world: World) -> float:
    """Seconds of a module call that does nothing, on the same connection."""
    playbook, times = world.home / "empty.yml", world.home / "empty.jsonl"
    playbook.write_text(EMPTY, encoding="utf-8")
    played = play(world, str(playbook), ANSIBLE_CALLBACK_PLUGINS=str(CALLBACKS), ANSIBLE_CALLBACKS_ENABLED="task_times", LASTRO_TASK_TIMES=str(times))
    assert played.code == 0, played.output
    return statistics.fmean(float(str(task["seconds"])) for task in lines(times) if task["action"] == "ping") / EMPTY_CALLS


def test_tasks_and_module_calls_of_a_deploy(world: World) -> None:
    times = world.home / "times.jsonl"
    landed = deploy(world, "r2", ANSIBLE_CALLBACK_PLUGINS=str(CALLBACKS), ANSIBLE_CALLBACKS_ENABLED="task_times", LASTRO_TASK_TIMES=str(times))
    assert (landed.code, outcome(world)) == (0, "deployed"), landed.output
    unit = one_empty_call(world)
    found = costs(times)
    print(f"\nr1 -> r2 on one host; an empty module call takes {unit:.2f} s\n{'phase':<18} tasks  module calls  in empty calls")
    total = Cost()
    for phase, cost in found.items():
        print(f"{phase:<18} {cost.tasks:>5} {cost.modules:>13} {cost.seconds / unit:>15.1f}")
        total = Cost(total.tasks + cost.tasks, total.modules + cost.modules, total.seconds + cost.seconds)
    print(f"{'total':<18} {total.tasks:>5} {total.modules:>13} {total.seconds / unit:>15.1f}")
    assert list(found)[:3] == ["open", "preflight", "stage"] and list(found)[-1] == AFTER
    assert total.modules > len(found)
