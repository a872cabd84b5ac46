# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The two slots of each process on a host: which one is live, which comes next, on which port. PRIVATE to the collection."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import secrets
import socket
import typing as t
from pathlib import Path

from ._files import write_atomic, writing

SLOTS = ("blue", "green")

PORTS = range(10_000, 65_536)
CLIENTS = Path("/proc/sys/net/ipv4/ip_local_port_range")
ENOUGH_PORTS = 1_000

Programs = t.Mapping[str, t.Mapping[str, t.Any]]
"""What the strategy's status says: "web-blue" -> {state, release, port}."""


@dataclasses.dataclass(frozen=True)
class SlotPlan:
    """What a switch does with one process.

    *needed* is false where the wanted release runs in the live slot already. *live_release* is "" where nothing runs.
    """

    process: str
    live_slot: str
    live_port: int
    live_release: str
    next_slot: str
    next_port: int
    needed: bool
    leftover: bool

    def as_dict(self) -> dict[str, t.Any]:
        """The plan as plain data."""
        return dataclasses.asdict(self)


def other(slot: str) -> str:
    """The other slot."""
    return SLOTS[1 - SLOTS.index(slot)]


def plan_process(process: str, ports: t.Sequence[int], serving: str, programs: Programs, release: str) -> SlotPlan:
    """Decide for one process. *serving* is the slot that the proxy points to (or that the state file names)."""
    port = dict(zip(SLOTS, ports or (0, 0), strict=True))
    live = programs.get(f"{process}-{serving}", {})
    running = live.get("release", "") if live.get("state") == "RUNNING" else ""
    spare = programs.get(f"{process}-{other(serving)}", {})
    if running == release:
        return SlotPlan(process, serving, port[serving], running, serving, port[serving], needed=False, leftover=bool(spare))
    return SlotPlan(process, serving, port[serving], running, other(serving), port[other(serving)], needed=True, leftover=bool(spare))


def load_ports(path: Path) -> dict[str, list[int]]:
    """Ports that were chosen before; {} where there is no file."""
    if not path.exists():
        return {}
    return t.cast(dict[str, list[int]], json.loads(path.read_text(encoding="utf-8"))["ports"])


def choose_ports(
    processes: t.Mapping[str, t.Mapping[str, t.Any]], kept: t.Mapping[str, t.Sequence[int]], free: t.Callable[[int], list[int]]
) -> dict[str, list[int]]:
    """The two ports of each process that listens: those of the profile, those kept from before, else free ones.

    A process without the key ``ports`` does not listen.
    """
    listening = {name: spec["ports"] for name, spec in processes.items() if spec.get("ports") is not None}
    chosen = {name: list(ports or kept.get(name) or ()) for name, ports in listening.items()}
    taken = {port for ports in chosen.values() for port in ports}
    for name, known in chosen.items():
        found = known
        # What is free now may have been given to another process a moment ago, which does not listen yet.
        while not found or (not known and not taken.isdisjoint(found)):
            found = free(len(SLOTS))
        chosen[name] = found
        taken.update(found)
    return chosen


def ports_for_servers(said: str) -> range:
    """The ports that no client is given, where I(said) is Linux' C(ip_local_port_range), "first last"; "" where it is not known.

    A slot's port is free between two releases: a client that got it would keep the next one from starting. Where nearly all may be clients', all ports.
    """
    first, last = (int(word) for word in said.split() or ("0", "0"))
    beside = max(range(PORTS.start, first), range(max(last + 1, PORTS.start), PORTS.stop), key=len)
    return beside if len(beside) >= ENOUGH_PORTS else PORTS


def free_ports(count: int, pick: t.Callable[[t.Sequence[int]], int] = secrets.choice, said_in: Path = CLIENTS) -> list[int]:
    """TCP ports that nothing listens on now, at any address; all different."""
    ports = ports_for_servers(said_in.read_text(encoding="ascii") if said_in.exists() else "")
    found: set[int] = set()
    while len(found) < count:
        port = pick(ports)
        with socket.socket() as one, contextlib.suppress(OSError):
            one.bind(("", port))
            found.add(port)
    return sorted(found)


def save_ports(path: Path, ports: t.Mapping[str, t.Sequence[int]]) -> None:
    """Keep the ports for later runs. Raises LastroError on a full or read-only disk."""
    with writing(path):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomic(path, json.dumps({"ports": ports}).encode())


def answer(options: t.Mapping[str, t.Any], *, write: bool) -> dict[str, t.Any]:
    """The result of the module C(slot). Raises LastroError."""
    path = Path(options["state_dir"]) / "ports.json"
    kept = load_ports(path)
    ports = choose_ports(options["processes"], kept, free_ports)
    if ports != kept and write:
        save_ports(path, ports)
    plans = [plan_process(name, ports.get(name, ()), options["serving"], options["programs"], options["release"]) for name in options["processes"]]
    return {
        "changed": ports != kept,
        "diff": {"before": {"ports": kept}, "after": {"ports": ports}},
        "processes": [plan.as_dict() for plan in plans],
        "ports": ports,
        "needed": any(plan.needed for plan in plans),
    }


__all__ = ("SLOTS", "SlotPlan", "answer", "choose_ports", "free_ports", "load_ports", "other", "plan_process", "ports_for_servers", "save_ports")
