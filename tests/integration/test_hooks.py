# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a user's own tasks and logs may ask of a run: each topic, and each gate on the log, does what it says and no more."""

from __future__ import annotations

import json
import typing as t
from pathlib import Path

import pytest
from demo.world import World

from .world_support import Live, answer, deploy, journal, outcome, variables_file


@pytest.fixture
def world(live: Live) -> World:
    """r1 serves."""
    live.snapshot.restore()
    return live.world


def hook(world: World, name: str, *tasks: dict[str, t.Any]) -> list[str]:
    """The value of one hook: a task file of the user's."""
    path = world.home / f"{name}.yml"
    path.write_text(json.dumps(tasks), encoding="utf-8")
    return [str(path)]


def notifying(topic: str) -> dict[str, t.Any]:
    """A task that changes something and notifies."""
    return {"name": topic, "ansible.builtin.command": {"argv": ["true"]}, "changed_when": True, "notify": topic}


def asking(world: World, name: str) -> dict[str, t.Any]:
    """A task that writes down which status a user gets at this moment."""
    asked = {"url": f"{world.state['url']}/ready", "status_code": [200, 503]}
    copied = {"content": "{{ asked.status }}", "dest": str(world.home / name)}
    return {"block": [{"ansible.builtin.uri": asked, "register": "asked"}, {"ansible.builtin.copy": copied}]}


def loads(world: World) -> int:
    """How often Caddy was told to take a configuration."""
    log = (world.home / "caddy" / "caddy.log").read_text(encoding="utf-8")
    return sum(1 for line in log.splitlines() if '"uri":"/load"' in line)


def test_a_hook_asks_for_a_rollback(world: World) -> None:
    command = deploy(world, "r2", "-e", variables_file(world, {"deploy_hooks": {"after_smoke": hook(world, "back", notifying("roll back"))}}))
    assert command.code != 0
    assert outcome(world) == "rolled_back", command.output
    status, release, _body = answer(world)
    assert (status, release.partition("-")[0]) == (200, "r1")
    entered = [record["phase"] for record in journal(world) if record["kind"] == "intent"]
    assert "smoke" in entered and "rollback" in entered and "watch" not in entered
    assert [record["what"] for record in journal(world) if record["kind"] == "request"] == ["roll back"]


def test_new_errors_in_the_log_end_the_watch(world: World) -> None:
    watch = {
        "for": "4s",
        "interval": "50ms",
        # r3 answers 500 from its 30th request on, and logs each; no gate is on the answers.
        "probes": [{"url": f"{world.state['url']}/api/schedule?day=2026-01-01"}],
        "gates": [
            {"metric": "requests", "op": ">=", "value": 0, "on_breach": "warn"},
            {"name": "the log", "metric": "log_errors", "op": "<=", "value": 0},
        ],
    }
    command = deploy(world, "r3", "-e", variables_file(world, {"deploy_watch": watch}))
    assert command.code != 0
    assert outcome(world) == "rolled_back", command.output
    verdict = next(record for record in journal(world) if record["kind"] == "verdict" and record["phase"] == "watch")
    assert verdict["status"] == "failed"
    counted = verdict["evidence"]["log_errors"]["demo"]
    assert counted > 0
    assert f"demo: {counted} new error lines in the application's log since the switch (promised <= 0)" in command.output
    assert [gate["verdict"] for gate in verdict["evidence"]["gates"]] == ["pass", "fail"]


def test_a_hook_leaves_maintenance_and_one_reloads_the_proxy(world: World) -> None:
    hooks = {
        "before_migrate": hook(world, "shut", asking(world, "shut")),
        "after_migrate": hook(world, "leave", notifying("leave maintenance")),
        "before_protect": hook(world, "open", asking(world, "open")),
        "after_validate": hook(world, "reload", notifying("reload proxy")),
    }
    before = loads(world)
    command = deploy(world, "r2", "-e", variables_file(world, {"deploy_maintenance": "always", "deploy_hooks": hooks}))
    assert (command.code, outcome(world)) == (0, "deployed"), command.output
    assert (world.home / "shut").read_text(encoding="utf-8") == "503"
    assert (world.home / "open").read_text(encoding="utf-8") == "200"
    assert not (Path(world.home) / "state" / "proxy" / "maintenance.flag").exists()
    # The deploy itself reloads nothing: r2's site is that of r1.
    assert loads(world) == before + 1
    assert answer(world)[1].startswith("r2-")
