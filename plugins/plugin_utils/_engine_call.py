# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A call of the engine's program on a host, seen from the controller. PRIVATE to the collection: may change at any time."""

from __future__ import annotations

import json
import shlex
import typing as t
from pathlib import PurePosixPath

from ansible_collections.lastro.deploy.plugins.module_utils import _engine_program, _supervisor, _systemd
from ansible_collections.lastro.deploy.plugins.module_utils._argspec import ArgumentSpec
from ansible_collections.lastro.deploy.plugins.module_utils._errors import LastroError
from ansible_collections.lastro.deploy.plugins.modules import caddy, caddy_info, journal, ledger, lock, slot, step_status, supervisor_info, timers

SPECS: dict[str, ArgumentSpec] = {
    "caddy": caddy.SPEC,
    "caddy_info": caddy_info.SPEC,
    "journal": journal.SPEC,
    "ledger": ledger.SPEC,
    "lock": lock.SPEC,
    "slot": slot.SPEC,
    "step_status": step_status.SPEC,
    "supervisor": _supervisor.argument_spec(),
    "supervisor_info": supervisor_info.SPEC,
    "systemd": _systemd.argument_spec(),
    "timers": timers.SPEC,
}
NOT_THERE = (126, 127)
"""What a shell answers where the program, or its interpreter, is not there or may not run (POSIX, Shell and Utilities, 2.8.2)."""

Answered = t.Mapping[str, t.Any]


class Call(t.NamedTuple):
    """One call: the program's path on the host, and what it reads."""

    program: str
    request: bytes

    @property
    def command(self) -> str:
        """For the shell."""
        return shlex.quote(self.program)


def plan(name: str, arguments: t.Mapping[str, t.Any], *, write: bool) -> Call | None:
    """The call that stands for the module *name*; None where the module itself has to run.

    That is where no state directory is named, and where an option is wrong: the module says it in Ansible's own words.
    """
    if name not in SPECS:
        return None
    try:
        options = SPECS[name].checked(name, arguments)
    except LastroError:
        return None
    state_dir = str(options.get("state_dir") or PurePosixPath(options.get("progress_file") or "").parent)
    if not state_dir.startswith("/"):
        return None
    return Call(_engine_program.path_of(state_dir), json.dumps({"call": name, "options": options, "write": write}).encode())


def read(name: str, answered: Answered) -> dict[str, t.Any]:
    """The module's result from what the command *answered* (rc, stdout, stderr)."""
    lines = answered["stdout"].strip().splitlines()
    try:
        result = json.loads(lines[-1]) if answered["rc"] == 0 else None
    except (IndexError, ValueError):
        result = None
    if isinstance(result, dict):
        return result
    said = (answered["stderr"].strip() or answered["stdout"].strip()).splitlines()
    return {"failed": True, "msg": f"{name} ended with code {answered['rc']}: {said[-1] if said else 'no output'}"}


__all__ = ("NOT_THERE", "Call", "plan", "read")
