# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which backups may go, on the host and at the store alike: a pure plan over manifests of ours, and what runs pin.

PRIVATE to the collection: may change at any time.
"""

from __future__ import annotations

import dataclasses
import typing as t
from pathlib import Path

from . import _journal
from ._backup_manifest import SECONDS_PER_DAY, Manifest
from ._errors import LastroError, Text

_GONE_WELL = frozenset({"deployed", "nothing_to_do"})


@dataclasses.dataclass(frozen=True)
class Retention:
    """Good backups older than *days* go, but never one of the newest *keep_at_least* or one of *keep* (names of backups, ids of runs).

    Where *state_dir* is given, backups of runs that did not end well, as their journals there say, stay too.
    """

    days: int
    keep_at_least: int
    keep: frozenset[str] = frozenset()
    state_dir: Path | None = None


def options() -> dict[str, t.Any]:
    """The option C(retention) of a module."""
    return {
        "type": "dict",
        "apply_defaults": True,
        "options": {
            "days": {"type": "int", "default": 30},
            "keep_at_least": {"type": "int", "default": 5},
            "keep": {"type": "list", "elements": "str", "default": []},
            "state_dir": {"type": "path"},
        },
    }


def from_params(params: t.Mapping[str, t.Any]) -> Retention:
    """The option as an object. Raises LastroError for a value that could remove the last good backup."""
    if params["days"] < 0 or params["keep_at_least"] < 1:
        raise LastroError(
            "retention needs days of 0 or more and keep_at_least of 1 or more: the last good backup is never removed.",
            remedy=Text(en="Correct the option.", pt_BR="Corrija a opção: o último backup bom nunca é removido."),
        )
    state_dir = Path(params["state_dir"]) if params["state_dir"] else None
    return Retention(params["days"], params["keep_at_least"], frozenset(params["keep"]), state_dir)


def prunable(backups: t.Sequence[Manifest], *, now: float, days: int, keep_at_least: int, keep: t.Collection[str]) -> list[Manifest]:
    """What retention removes of *backups* (newest first, good ones only).

    That is what is older than *days*, not one of the newest *keep_at_least*, and neither by its name nor by its run in *keep*.
    """
    older = [backup for backup in backups[max(0, keep_at_least) :] if now - backup.timestamp > days * SECONDS_PER_DAY]
    return [backup for backup in older if not {backup.name, backup.run_id} & {*keep}]


def plan(backups: t.Sequence[Manifest], retention: Retention, *, now: float, coming: str = "") -> list[Manifest]:
    """What goes of *backups* (newest first, good ones only) once the backup *coming*, which is not among them, is there as the newest good one."""
    least = retention.keep_at_least - bool(coming)
    gone = prunable(backups, now=now, days=retention.days, keep_at_least=least, keep=retention.keep | {coming} - {""})
    return [backup for backup in gone if not (retention.state_dir and backup.run_id and not ended_well(retention.state_dir, backup.run_id))]


def ended_well(state_dir: Path, run_id: str) -> bool:
    """Whether nobody needs the backup of the run any more: its journal says so, or it had none (a backup by hand). In doubt, no."""
    try:
        records = _journal.read_run(state_dir, run_id)
        state = _journal.state_of(records)
    except (OSError, KeyError, TypeError):
        return False
    return not _journal.journal_file(state_dir, run_id).exists() or state.outcome in _GONE_WELL


__all__ = ("Retention", "ended_well", "from_params", "options", "plan", "prunable")
