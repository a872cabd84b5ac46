# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A server that outlives its starter and is found again by its exact command line: no pid file can be stale or missing."""

from __future__ import annotations

import collections.abc
import contextlib
import dataclasses
import json
import os
import signal
import time
from pathlib import Path

Condition = collections.abc.Callable[[], bool]


def _fields(pid: int) -> list[str]:
    # After the program's name in parentheses: state, parent, process group, ...
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()


def alive(pid: int) -> bool:
    """Whether *pid* runs; our own ended child is reaped and counts as gone."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    try:
        return _fields(pid)[0] != "Z"
    except (OSError, IndexError):
        return False


def processes() -> list[int]:
    """Every process of this machine that we may see."""
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]


def children(parent: int) -> list[int]:
    """The direct children of *parent*."""
    found = []
    for pid in processes():
        with contextlib.suppress(OSError, IndexError):
            if int(_fields(pid)[1]) == parent:
                found.append(pid)
    return found


def wait_until(condition: Condition, *, seconds: float, what: str) -> None:
    """Poll *condition*. Raises RuntimeError when it does not hold after *seconds*."""
    limit = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > limit:
            raise RuntimeError(f"{what}: not within {seconds:g} s")
        time.sleep(0.02)


@dataclasses.dataclass(frozen=True)
class Daemon:
    """One command, in a session of its own. Its command line names a file in its own directory, so that no other process has the same one."""

    command: tuple[str, ...]
    log: Path
    environment: dict[str, str]

    def pids(self) -> list[int]:
        """The processes that run exactly this command."""
        wanted = "\0".join(self.command).encode() + b"\0"
        found = []
        for pid in processes():
            with contextlib.suppress(OSError):
                if Path(f"/proc/{pid}/cmdline").read_bytes() == wanted and alive(pid):
                    found.append(pid)
        return found

    def start(self, ready: Condition, *, seconds: float = 120) -> None:
        """Start, unless it runs, and wait until it is *ready*. Raises RuntimeError with the log's end."""
        if not self.pids():
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
            actions = [
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(self.log), flags, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ]
            pid = os.posix_spawn(self.command[0], self.command, self.environment, file_actions=actions, setsid=True)
        else:
            pid = self.pids()[0]
        wait_until(lambda: ready() or not alive(pid), seconds=seconds, what=self.command[0])
        if not alive(pid):
            raise RuntimeError(f"{self.command[0]} ended: {self.log.read_text(encoding='utf-8')[-2000:]}")

    def stop(self, *, seconds: float = 20) -> None:
        """SIGTERM, and SIGKILL to whatever still runs after *seconds*. Does nothing where it does not run."""
        pids = self.pids()
        for number, patience in ((signal.SIGTERM, seconds), (signal.SIGKILL, 5.0)):
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            with contextlib.suppress(RuntimeError):
                wait_until(lambda: not any(alive(pid) for pid in pids), seconds=patience, what="stop")
                return


def environment(home: Path) -> dict[str, str]:
    """A clean environment for a server: nothing of ours is inherited."""
    return {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(home), "LC_ALL": "C.UTF-8"}


def keep(base: Path, **values: int | str) -> None:
    """Remember what a server was created with, readable by us alone."""
    descriptor = os.open(base / "server.json", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        json.dump(values, stream)


def kept(base: Path) -> dict[str, str]:
    """What ``keep`` remembered, as strings. Raises OSError where nothing was."""
    return {name: str(value) for name, value in json.loads((base / "server.json").read_text(encoding="utf-8")).items()}


__all__ = ("Condition", "Daemon", "alive", "children", "environment", "keep", "kept", "processes", "wait_until")
