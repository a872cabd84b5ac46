# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Backend of the module C(backup_info): the backups in a directory and at a store, how old and how good each is; reads, never writes.

PRIVATE to the collection: may change at any time.
"""

from __future__ import annotations

import dataclasses
import time
import typing as t
from pathlib import Path

from . import _backup_manifest, _backup_upload
from ._argspec import ArgumentSpec
from ._backup_manifest import SUFFIX, Manifest
from ._errors import LastroError, Text
from ._gates import parse_positive
from ._progress import Progress, progress_argument_spec, silent
from ._rclone import Store
from ._texts_format import LANGUAGES, counted, format_duration, format_size, format_time, say


@dataclasses.dataclass(frozen=True)
class Backup:
    """A backup here or at the store. *problem* says why it is no good one; *off_site* is None where no store was asked."""

    manifest: Manifest
    problem: str
    off_site: bool | None

    @property
    def good(self) -> bool:
        """Whether the backup on this host can be used, as far as was looked."""
        return not self.problem


def argument_spec() -> ArgumentSpec:
    """The module's options."""
    own = ArgumentSpec(
        {
            "dest": {"type": "path", "required": True},
            "database": {"type": "str", "default": ""},
            "max_age": {"type": "str"},
            "verify": {"type": "str", "default": "size", "choices": ["size", "read"]},
            "upload": _backup_upload.options(),
        }
    )
    return progress_argument_spec().merge(own)


def run(params: t.Mapping[str, t.Any], *, progress: Progress = silent, now: t.Callable[[], float] = time.time) -> dict[str, t.Any]:
    """Return values of the module. Raises LastroError where *max_age* is given and the last good backup, here or at the store, is older."""
    dest, database = Path(params["dest"]), params["database"]
    max_age = parse_positive(params["max_age"], "max_age") if params["max_age"] else None
    store = _backup_upload.store_from_params(params["upload"])
    backups = look(dest, database, store, read=params["verify"] == "read", progress=progress)
    moment = now()
    facts = facts_of(backups, moment)
    if max_age is not None:
        _check_age([one.manifest for one in backups if one.good], str(dest), moment, max_age, facts)
        if store:
            _check_age([one.manifest for one in backups if one.off_site], store.at(), moment, max_age, facts)
    return {"changed": False, **facts}


def look(dest: Path, database: str, store: Store | None, *, read: bool, progress: Progress) -> list[Backup]:
    """The backups whose manifest can be read, newest first. Raises LastroError where the store does not answer."""
    away = {manifest.name: manifest for manifest in _backup_upload.stored(store, database)} if store else {}
    here = {manifest.name: manifest for path in sorted(dest.glob(f"*{SUFFIX}")) if (manifest := _readable(path)) and database in ("", manifest.database)}
    found = []
    for name in {*here, *away}:
        manifest = here.get(name) or away[name]
        problem = _problem(dest, manifest, read=read, progress=progress) if name in here else "it is at the store alone"
        copied = name in away and (away[name].size, away[name].sha256) == (manifest.size, manifest.sha256)
        found.append(Backup(manifest, problem, copied if store else None))
    return sorted(found, key=lambda one: (one.manifest.timestamp, one.manifest.name), reverse=True)


def _readable(path: Path) -> Manifest | None:
    try:
        return _backup_manifest.read(path)
    except LastroError:
        return None


def _problem(dest: Path, manifest: Manifest, *, read: bool, progress: Progress) -> str:
    if not manifest.verified:
        return "it was never verified"
    if not read:
        sizes = [((dest / one.name).stat().st_size if (dest / one.name).exists() else None, one) for one in manifest.files]
        wrong = [f"{one.name} is missing" if size is None else f"{one.name} has {size} bytes, not {one.size}" for size, one in sizes if size != one.size]
        return "; ".join(wrong)
    try:
        _backup_manifest.check_file(dest, manifest, progress=progress)
    except LastroError as error:
        return error.message
    return ""


def facts_of(backups: t.Sequence[Backup], now: float) -> dict[str, t.Any]:
    """{backups, newest_good, text} of backups, newest first."""
    told = [
        {
            **{name: getattr(one.manifest, name) for name in ("name", "run_id", "created", "database", "size", "rows")},
            "age": round(now - one.manifest.timestamp),
            "verified": list(one.manifest.verified),
            "encrypted": one.manifest.encryption == "age",
            "good": one.good,
            "problem": one.problem,
            "off_site": one.off_site,
        }
        for one in backups
    ]
    newest = next((one["name"] for one in told if one["good"]), "")
    return {"backups": told, "newest_good": newest, "text": {language: as_text(told, language) for language in LANGUAGES}}


def as_text(backups: t.Sequence[t.Mapping[str, t.Any]], language: str) -> str:
    """A line for each backup, newest first."""
    lines = []
    for one in backups:
        state = say(language, "good", "bom") if one["good"] else one["problem"]
        where = (
            "" if one["off_site"] is None else say(language, ", off-site", ", fora do host") if one["off_site"] else say(language, ", here alone", ", só aqui")
        )
        rows = counted(one["rows"], language, ("row", "rows"), ("linha", "linhas"))
        age = format_duration(one["age"], language)
        made = f"{format_time(one['created'], language)} ({say(language, f'{age} ago', f'há {age}')})"
        lines.append(f"{one['name']}  {made}  {format_size(one['size'], language)}  {rows}  {'+'.join(one['verified'])}  {state}{where}")
    return "\n".join(lines) or say(language, "no backups", "nenhum backup")


def _check_age(good: t.Sequence[Manifest], where: str, now: float, max_age: float, facts: t.Mapping[str, t.Any]) -> None:
    """Raises LastroError unless each database has a good backup that is young enough, and there is one at all."""
    limit = format_duration(max_age)
    remedy = Text(
        en="Find out why the last backups failed (status and log of the schedule), and make one now with the playbook backup.",
        pt_BR="Descubra por que os últimos backups falharam (situação e log do agendamento) e faça um agora com o playbook backup.",
    )
    if not good:
        raise LastroError(f"There is no good backup in {where}; one of the last {limit} is expected.", remedy=remedy, **facts)
    for database in sorted({one.database for one in good}):
        last = next(one for one in good if one.database == database)
        if now - last.timestamp > max_age:
            age = format_duration(now - last.timestamp)
            raise LastroError(f"The last good backup in {where} of {database} is {last.name}, {age} old; at most {limit} is expected.", remedy=remedy, **facts)


__all__ = ("Backup", "argument_spec", "as_text", "facts_of", "look", "run")
