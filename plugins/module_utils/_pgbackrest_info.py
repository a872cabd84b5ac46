# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What pgBackRest says of a stanza and of its repository, and what a run still has to do there. Pure; PRIVATE to the collection.

Sources: the JSON of ``pgbackrest info --output=json`` (documented as stable) and the text of ``pgbackrest verify --output=text --verbose``.
"""

from __future__ import annotations

import dataclasses
import json
import re
import typing as t

from ._errors import LastroError, Text

RUN_ID = "run_id"
RESTORE_POINT = "restore_point"
RESTORE_LSN = "restore_lsn"
VERIFIED = "verified"

_BACKUP_LINE = re.compile(r"\s*backup: (\S+), status: ([^,]+)")
_ARCHIVE_LINE = re.compile(r"\s*archiveId: (\S+), total WAL checked: (\d+), total valid WAL: (\d+)")
_PROGRESS = re.compile(r"backup file .*\((?:.*, )?([\d.]+)([KMGTP]?)B, ([\d.]+)%\)")
_UNITS = {"": 1, **{unit: 1024**power for power, unit in enumerate("KMGTP", start=1)}}


@dataclasses.dataclass(frozen=True)
class Backup:
    """One backup of a stanza. Times in seconds since 1970; *size* is what it takes in the repository, *raw_size* the cluster's, in bytes."""

    label: str
    kind: str
    annotations: t.Mapping[str, str]
    damaged: bool
    needs: tuple[str, ...]
    started: int
    stopped: int
    size: int
    raw_size: int
    stop_lsn: str


@dataclasses.dataclass(frozen=True)
class Stanza:
    """A stanza in one repository. *status* is pgBackRest's code: 0 ok, 2 no valid backup yet; others are trouble."""

    name: str
    repo: int
    status: int
    message: str
    busy: bool
    encrypted: bool
    system_id: str
    backups: tuple[Backup, ...]

    def of_run(self, run_id: str) -> Backup | None:
        """The newest backup that carries the annotation of the run."""
        return next((backup for backup in reversed(self.backups) if backup.annotations.get(RUN_ID) == run_id), None)


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a run has to do: its *backup* where there is one already, else the *kind* to ask for; then its *steps*."""

    backup: Backup | None
    kind: str
    steps: tuple[str, ...]


def parse(text: str, stanza: str, repo: int | None) -> Stanza:
    """The stanza in *repo*, or in its first repository. Raises LastroError for an answer that does not have it."""
    try:
        found = next(one for one in json.loads(text) if one["name"] == stanza)
        first = min((one for one in found["repo"] if repo in (None, one["key"])), key=lambda one: one["key"])
        key = first["key"]
        databases = [one for one in found["db"] if one["repo-key"] == key]
        backups = [_backup(one) for one in found["backup"] if one["database"]["repo-key"] == key]
        return Stanza(
            name=stanza,
            repo=key,
            status=first["status"]["code"],
            message=first["status"]["message"],
            busy=found["status"]["lock"]["backup"]["held"],
            encrypted=first["cipher"] != "none",
            system_id=str(max(databases, key=lambda one: one["id"])["system-id"]) if databases else "",
            backups=tuple(sorted(backups, key=lambda one: (one.stopped, one.label))),
        )
    except (ValueError, KeyError, TypeError, StopIteration) as error:
        raise LastroError(
            f"pgBackRest's answer has no stanza {stanza}{'' if repo is None else f' in repository {repo}'} ({type(error).__name__}).",
            remedy=Text(
                en="Correct stanza, repo or config; `pgbackrest info` lists what there is.",
                pt_BR="Corrija stanza, repo ou config; `pgbackrest info` lista o que existe.",
            ),
        ) from None


def _backup(found: t.Mapping[str, t.Any]) -> Backup:
    return Backup(
        label=found["label"],
        kind=found["type"],
        annotations=found.get("annotation") or {},
        damaged=bool(found["error"]),
        needs=tuple(found["reference"] or ()),
        started=found["timestamp"]["start"],
        stopped=found["timestamp"]["stop"],
        size=found["info"]["repository"]["delta"],
        raw_size=found["info"]["size"],
        stop_lsn=(found.get("lsn") or {}).get("stop") or "",
    )


def plan(stanza: Stanza, *, run_id: str, kind: str, verify: bool) -> Plan:
    """What the run has not done yet."""
    backup = stanza.of_run(run_id)
    known = backup.annotations if backup else {}
    steps = (
        ("backup", backup is None),
        ("restore_point", RESTORE_LSN not in known),
        ("verify", verify and VERIFIED not in known),
    )
    wanted = "" if backup else _kind(stanza, kind)
    return Plan(backup, wanted, tuple(name for name, missing in steps if missing))


def _kind(stanza: Stanza, kind: str) -> str:
    """pgBackRest makes a full backup where there is nothing to build on, whatever is asked for."""
    if not any(backup.kind == "full" for backup in stanza.backups):
        return "full"
    return "incr" if kind == "auto" else kind


def verify_problems(text: str, backup: Backup) -> tuple[list[str], list[str]]:
    """What ``verify`` found wrong with *backup*, what it builds on or the archive, and what with other backups.

    The exit status does not tell (2.45 ends with 0 on a damaged file), so only a line that says "valid" of the backup counts.
    """
    states = {match.group(1): match.group(2).strip() for line in text.splitlines() if (match := _BACKUP_LINE.match(line))}
    needed = (*backup.needs, backup.label)
    own = [f"backup {label} is {states.get(label, 'not mentioned')}" for label in needed if states.get(label) != "valid"]
    own += [
        f"of {match.group(2)} WAL segments in the archive {match.group(1)} {match.group(3)} are valid"
        for line in text.splitlines()
        if (match := _ARCHIVE_LINE.match(line)) and match.group(2) != match.group(3)
    ]
    return own, [f"backup {label} is {state}" for label, state in states.items() if state != "valid" and label not in needed]


def file_done(line: str) -> tuple[int, float] | None:
    """(bytes of the file, percent of the backup) of a line of pgBackRest's detailed log; None for any other line."""
    match = _PROGRESS.search(line)
    return (int(float(match.group(1)) * _UNITS[match.group(2)]), float(match.group(3))) if match else None


__all__ = ("RESTORE_LSN", "RESTORE_POINT", "RUN_ID", "VERIFIED", "Backup", "Plan", "Stanza", "file_done", "parse", "plan", "verify_problems")
