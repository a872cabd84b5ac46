# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The calls that the engine makes again and again of a host: one run makes some fifty of them. PRIVATE to the collection.

Each is a module of its own. Once :mod:`_engine_program` stands on the host, the action plugins send them to it instead, which takes a
third of a module's time: nothing is packed, copied and compiled anew. The answers are the same, since the same code gives them.
"""

from __future__ import annotations

import importlib
import json
import sys
import typing as t

from ._errors import LastroError

Options = t.Mapping[str, t.Any]
Result = dict[str, t.Any]

BACKENDS: dict[str, tuple[str, str]] = {
    "caddy": ("_caddy", "answer"),
    "caddy_info": ("_proxy_flags", "answer"),
    "journal": ("_journal_call", "answer"),
    "ledger": ("_ledger", "answer"),
    "lock": ("_lock", "answer"),
    "slot": ("_slots", "answer"),
    "step_status": ("_step", "answer"),
    "supervisor": ("_supervisor", "answer"),
    "supervisor_info": ("_supervisor", "answer_info"),
    "systemd": ("_systemd", "answer"),
    "timers": ("_step", "answer_timers"),
}
"""By module: the backend, and its function that answers."""


class Answer(t.Protocol):
    """What a module does with its options. Raises LastroError."""

    def __call__(self, options: Options, *, write: bool) -> Result:
        """The module's result; nothing changes without *write*."""


def main() -> None:
    """Answer one call: ``{"call", "options", "write"}`` on standard input, the module's result on standard output."""
    request = json.load(sys.stdin)
    backend, function = BACKENDS[request["call"]]
    answer: Answer = getattr(importlib.import_module(f"{__package__}.{backend}"), function)
    try:
        result = answer(request["options"], write=request["write"])
    except LastroError as error:
        result = {"failed": True, **error.as_result()}
    json.dump(result, sys.stdout)


__all__ = ("BACKENDS", "Answer", "main")
