# SPDX-License-Identifier: GPL-3.0-or-later
"""The two slots of a process: which is live, which comes next, and on which ports."""

from __future__ import annotations

import collections.abc
import json
import socket
import typing as t
from pathlib import Path

import pytest
from ansible_collections.lastro.deploy.plugins.module_utils import _slots
from ansible_collections.lastro.deploy.plugins.modules import slot as slot_module

PORTS = [8001, 8002]
CallModule = collections.abc.Callable[..., dict[str, t.Any]]


def program(release: str, state: str = "RUNNING") -> dict[str, t.Any]:
    return {"state": state, "release": release, "port": 0}


@pytest.mark.parametrize(
    ("programs", "serving", "release", "expected"),
    [
        # (live slot, its port, its release, next slot, its port, needed, leftover)
        ({}, "blue", "r1", ("blue", 8001, "", "green", 8002, True, False)),
        ({"web-blue": program("r1")}, "blue", "r2", ("blue", 8001, "r1", "green", 8002, True, False)),
        ({"web-blue": program("r1")}, "blue", "r1", ("blue", 8001, "r1", "blue", 8001, False, False)),
        ({"web-green": program("r1"), "web-blue": program("r0", "STOPPED")}, "green", "r2", ("green", 8002, "r1", "blue", 8001, True, True)),
        ({"web-blue": program("r1"), "web-green": program("r2")}, "blue", "r1", ("blue", 8001, "r1", "blue", 8001, False, True)),
        # What has crashed does not serve, even where it is the wanted release.
        ({"web-blue": program("r1", "FATAL")}, "blue", "r1", ("blue", 8001, "", "green", 8002, True, False)),
        ({"other-blue": program("r1")}, "blue", "r1", ("blue", 8001, "", "green", 8002, True, False)),
    ],
)
def test_plan(programs: dict[str, t.Any], serving: str, release: str, expected: tuple[object, ...]) -> None:
    plan = _slots.plan_process("web", PORTS, serving, programs, release)
    names = ("live_slot", "live_port", "live_release", "next_slot", "next_port", "needed", "leftover")
    assert plan.as_dict() == {"process": "web", **dict(zip(names, expected, strict=True))}


def test_a_process_that_does_not_listen() -> None:
    plan = _slots.plan_process("worker", (), "green", {"worker-green": program("r1")}, "r2")
    assert (plan.live_port, plan.next_slot, plan.next_port, plan.needed) == (0, "blue", 0, True)


def test_other() -> None:
    assert [_slots.other(slot) for slot in _slots.SLOTS] == ["green", "blue"]


@pytest.mark.parametrize(
    ("said", "servers"),
    [("32768\t60999\n", (10_000, 32_768)), ("1024 49151\n", (49_152, 65_536)), ("1024 65535\n", (10_000, 65_536)), ("", (10_000, 65_536))],
)
def test_ports_beside_those_of_clients(said: str, servers: tuple[int, int], tmp_path: Path) -> None:
    (tmp_path / "range").write_text(said, encoding="ascii")
    assert _slots.ports_for_servers(said) == range(*servers)
    assert set(_slots.free_ports(50, said_in=tmp_path / "range")) <= set(range(*servers))


def test_free_ports_can_be_bound(tmp_path: Path) -> None:
    ports = _slots.free_ports(4, said_in=tmp_path / "not there")
    assert len(set(ports)) == 4
    for port in ports:
        with socket.socket() as one:
            one.bind(("127.0.0.1", port))


def test_a_port_that_somebody_listens_on_is_not_chosen() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        taken, (free, other) = listener.getsockname()[1], _slots.free_ports(2)
        offers = iter([taken, other, other, taken, free])
        assert _slots.free_ports(2, lambda _ports: next(offers)) == [free, other]
        assert next(offers, None) is None


def test_ports_of_the_profile_then_kept_ones_then_free_ones() -> None:
    processes: dict[str, dict[str, t.Any]] = {"web": {"ports": PORTS}, "api": {"ports": []}, "admin": {"ports": []}, "worker": {}}
    asked: list[int] = []

    def free(count: int) -> list[int]:
        asked.append(count)
        return [9001, 9002]

    assert _slots.choose_ports(processes, {"web": [1, 2], "api": [7001, 7002], "gone": [3, 4]}, free) == {
        "web": PORTS,
        "api": [7001, 7002],
        "admin": [9001, 9002],
    }
    assert asked == [2]


def test_free_ports_of_two_processes_do_not_meet() -> None:
    offers = iter([[8002, 9000], [9001, 9002], [9002, 9003], [9001, 9004], [9005, 9006]])
    processes: dict[str, dict[str, t.Any]] = {"a": {"ports": []}, "b": {"ports": []}, "web": {"ports": PORTS}}
    assert _slots.choose_ports(processes, {}, lambda _count: next(offers)) == {"a": [9001, 9002], "b": [9005, 9006], "web": PORTS}


def test_module(tmp_path: Path, call_module: CallModule) -> None:
    state_dir = tmp_path / "state"
    options: dict[str, t.Any] = {"state_dir": str(state_dir), "processes": {"web": {"ports": []}, "worker": {}}, "release": "r2"}
    assert call_module(slot_module, check=True, **options)["changed"] is True
    assert not state_dir.exists()
    planned = call_module(slot_module, **options)
    assert (planned["changed"], planned["needed"]) == (True, True)
    assert json.loads((state_dir / "ports.json").read_text(encoding="utf-8")) == {"ports": planned["ports"]}
    assert [plan["process"] for plan in planned["processes"]] == ["web", "worker"]
    assert planned["processes"][0]["next_port"] == planned["ports"]["web"][1]
    running = {"web-green": program("r2"), "worker-green": program("r2")}
    again = call_module(slot_module, **options, serving="green", programs=running)
    assert (again["changed"], again["needed"], again["ports"]) == (False, False, planned["ports"])
    assert call_module(slot_module, **options, serving="green", programs={**running, "worker-green": program("r1")})["needed"] is True
    fixed = call_module(slot_module, **{**options, "processes": {"web": {"ports": PORTS}}})
    assert (fixed["changed"], fixed["diff"]) == (True, {"before": {"ports": planned["ports"]}, "after": {"ports": {"web": PORTS}}})
    assert _slots.load_ports(state_dir / "ports.json") == {"web": PORTS}


def test_module_on_a_directory_that_cannot_be(tmp_path: Path, call_module: CallModule) -> None:
    (tmp_path / "file").touch()
    refused = call_module(slot_module, state_dir=str(tmp_path / "file" / "state"), processes={"web": {"ports": PORTS}})
    assert refused["failed"] and "ports.json cannot be written" in refused["msg"]
