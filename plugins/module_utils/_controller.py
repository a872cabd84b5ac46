# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which controller process a run belongs to, and whether it still lives. PRIVATE to the collection."""

from __future__ import annotations

import contextlib
import typing as t
from pathlib import Path

UNKNOWN = "unknown"

Controller = dict[str, t.Any]
"""{machine: text that names one boot of one machine, pid, started: clock ticks since that boot}."""


def this_controller(pid: int) -> Controller:
    """The identity of the process *pid* on this machine."""
    return {"machine": _machine(), "pid": pid, "started": _started(pid)}


def has_died(controller: t.Mapping[str, t.Any]) -> bool:
    """Whether *controller* was a process of this machine (this boot or an earlier one of it) and is gone.

    False where that cannot be known, as for another machine's process.
    """
    machine, _slash, boot = str(controller.get("machine", "")).partition("/")
    own_machine, _slash, own_boot = _machine().partition("/")
    unnamed = own_machine.partition(" ")[0] in ("", UNKNOWN) and boot != own_boot
    if machine != own_machine or unnamed or not own_boot:
        return False
    return boot != own_boot or _started(int(controller.get("pid", 0))) != controller.get("started")


def _machine() -> str:
    """Machine id and namespace of process ids, a slash, and the boot's id, which is empty where the system has none (macOS).

    Two containers may share machine id and boot, and know nothing of each other's processes.
    """
    namespace = ""
    with contextlib.suppress(OSError):
        namespace = str(Path("/proc/self/ns/pid").readlink())
    return f"{_line(Path('/etc/machine-id')) or UNKNOWN} {namespace}/{_line(Path('/proc/sys/kernel/random/boot_id'))}"


def _line(path: Path) -> str:
    """The one line of a small file; "" where there is none."""
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _started(pid: int) -> int:
    """The process's start in clock ticks since boot (field 22 of /proc/PID/stat, proc(5)); 0 where it is gone or a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0
    fields = text.rpartition(")")[2].split()
    return 0 if fields[0] == "Z" else int(fields[19])


__all__ = ("Controller", "has_died", "this_controller")
