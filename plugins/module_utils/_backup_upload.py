# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The copy of a backup at an off-site store: sent, read back, its manifest last; retention there.

What the store says of a file is not believed: only bytes that came back with our size and SHA-256 count.

PRIVATE to the collection: may change at any time.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import tempfile
import time
import typing as t
from pathlib import Path

from . import _backup_manifest, _backup_retention, _rclone
from ._backup_manifest import SUFFIX, Manifest, StoredFile
from ._backup_retention import Retention
from ._errors import LastroError, Text
from ._progress import Progress, silent
from ._rclone import Store

LEAST_TIMEOUT = 5
_REMOTE = re.compile(r"[A-Za-z][A-Za-z0-9_]*\Z")
_OPTION_REMEDY = Text(en="Correct the option upload.", pt_BR="Corrija a opção upload.")


def options() -> dict[str, t.Any]:
    """The option C(upload) of a module."""
    return {
        "type": "dict",
        "options": {
            "remote": {"type": "str", "required": True},
            "path": {"type": "str", "required": True},
            "config": {"type": "dict", "default": {}, "no_log": True},
            "rclone": {"type": "path"},
            "timeout": {"type": "int", "default": 120},
        },
    }


def ordinary_values(params: t.Mapping[str, t.Any] | None) -> set[str]:
    """The values of the option that are no secrets although Ansible takes each value of C(config) for one."""
    return _rclone.ordinary_in(_config(params["config"])) if params else set()


def _config(given: t.Mapping[str, t.Any]) -> dict[str, str]:
    """Settings as rclone reads them: texts, numbers and true or false as they are, the rest as JSON."""
    return {str(name): value if isinstance(value, str) else json.dumps(value) for name, value in given.items() if value is not None}


def store_from_params(params: t.Mapping[str, t.Any] | None, config: str = "") -> Store | None:
    """The store that the option names, with *config* (JSON) as its settings where that is given; None where the option is not.

    Raises LastroError, also where this host has no rclone.
    """
    if not params:
        return None
    if config:
        params = {**params, "config": json.loads(config)}
    path = params["path"].rstrip("/")
    for wrong, problem in (
        (not _REMOTE.match(params["remote"]), f"upload.remote is {params['remote']!r}: letters, digits and underscores are allowed, the first a letter."),
        (not path, f"upload.path is {params['path']!r}: a directory of its own is needed, such as bucket/calendar-api."),
        (bool(params["config"]) and "type" not in params["config"], "upload.config has no type, which tells rclone what kind of store it is."),
        (params["timeout"] < LEAST_TIMEOUT, f"upload.timeout is {params['timeout']}: {LEAST_TIMEOUT} seconds or more are expected."),
    ):
        if wrong:
            raise LastroError(problem, remedy=_OPTION_REMEDY)
    return Store(_rclone.find_program(params["rclone"]), params["remote"], path, _config(params["config"]), params["timeout"])


def lacking(store: Store, dest: Path, manifest: Manifest, *, progress: Progress = silent) -> list[StoredFile]:
    """What of the backup the store does not give back as it is here, the manifest last, which goes with whatever is missing. Raises LastroError."""
    with _telling_that_the_backup_is_good(store, dest, manifest):
        there = _rclone.files(store)
        missing = [file for file in manifest.files if not _gives_back(store, file, there, progress)]
        mark = _mark(dest, manifest)
        return [*missing, mark] if missing or not _gives_back(store, mark, there, silent) else []


def _mark(dest: Path, manifest: Manifest) -> StoredFile:
    path = _backup_manifest.manifest_path(dest, manifest.name)
    digest, size = _backup_manifest.sha256_of(path)
    return StoredFile(path.name, size, digest)


def _gives_back(store: Store, file: StoredFile, there: t.Mapping[str, int], progress: Progress) -> bool:
    return there.get(file.name) == file.size and _rclone.read(store, file.name, file.size, progress=progress) == (file.sha256, file.size)


def finish(
    store: Store,
    dest: Path,
    manifest: Manifest,
    retention: Retention,
    *,
    progress: Progress,
    now: t.Callable[[], float],
    missing: t.Sequence[StoredFile] | None = None,
) -> tuple[dict[str, t.Any], list[str]]:
    """Have the backup at the store, then keep retention there: (``as_result``, what could not be removed). Raises LastroError.

    *missing* is what ``lacking`` has said, where it was asked before.
    """
    started = time.monotonic()
    if missing is None:
        missing = lacking(store, dest, manifest, progress=progress)
    with _telling_that_the_backup_is_good(store, dest, manifest), _one_of_many(dest) as alone:
        if alone:
            _sweep(store, dest)
        _send_all(store, dest, missing, progress)
    pruned, troubles = prune(store, retention, manifest.database, now=now())
    return as_result(store, manifest, missing, pruned, time.monotonic() - started), troubles


def as_result(store: Store, manifest: Manifest, missing: t.Sequence[StoredFile], pruned: t.Sequence[str] = (), seconds: float = 0.0) -> dict[str, t.Any]:
    """The return value C(uploaded)."""
    return {"to": store.at(manifest.file), "sent": [file.name for file in missing], "pruned": [*pruned], "seconds": round(seconds, 3)}


def _send_all(store: Store, dest: Path, missing: t.Sequence[StoredFile], progress: Progress) -> None:
    """The manifest is the last of *missing*. One that is there already goes first: it is the mark of a whole copy, which there is not."""
    if not missing:
        return
    if missing[-1].name in _rclone.files(store):
        _rclone.delete(store, missing[-1].name)
    moves = _rclone.moves(store)
    for file in missing:
        _send(store, dest / file.name, file, moves=moves, progress=progress)


def _send(store: Store, source: Path, file: StoredFile, *, moves: bool, progress: Progress) -> None:
    """Write, read back, and only then give the final name. A store that cannot rename shows a file only when it has all of it."""
    name = part_name(file.name) if moves else file.name
    _rclone.put(store, source, name, progress=progress)
    digest, size = _rclone.read(store, name, file.size, progress=progress)
    if (digest, size) != (file.sha256, file.size):
        with contextlib.suppress(LastroError):
            _rclone.delete(store, name)
        what = f"{size} bytes came back of {file.size}" if size != file.size else f"all {size} bytes came back, but with another SHA-256"
        raise LastroError(
            f"{store.at(file.name)} is not what was sent: {what}.",
            remedy=Text(
                en="Do not trust this store, or the way to it, until you know why; try another one.",
                pt_BR="Não confie nesse armazenamento, nem no caminho até ele, antes de saber o motivo; tente outro.",
            ),
        )
    if moves:
        _rclone.rename(store, name, file.name)


def part_name(name: str) -> str:
    """The name of a file at the store until it was read back."""
    return f".{name}.part"


@contextlib.contextmanager
def _one_of_many(dest: Path) -> t.Iterator[bool]:
    """Tell other uploads from *dest* that there is one; whether it is the only one."""
    descriptor = os.open(dest, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            alone = True
        except BlockingIOError:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            alone = False
        yield alone
    finally:
        os.close(descriptor)


def _sweep(store: Store, dest: Path) -> None:
    """Remove the parts that uploads of backups of ours, killed since, have left there."""
    ours = {part_name(name) for path in dest.glob(f"*{SUFFIX}") for name in (path.name, *_files_of(path))}
    for name in ours & {*_rclone.files(store)}:
        _rclone.delete(store, name)


def _files_of(path: Path) -> list[str]:
    try:
        return [one.name for one in _backup_manifest.read(path).files]
    except LastroError:
        return []


@contextlib.contextmanager
def _telling_that_the_backup_is_good(store: Store, dest: Path, manifest: Manifest) -> t.Iterator[None]:
    """A LastroError of the store says what is to be done about the copy, and that the backup on this host is good all the same."""
    path = dest / manifest.file
    try:
        yield
    except LastroError as error:
        raise LastroError(
            f"The backup {path} is good, but it has no proved copy at {store.at()}: {error.message}",
            remedy=Text(
                en=f"{error.remedy.en} Then run it again under the same name: it uploads only what is missing.",
                pt_BR=f"{error.remedy.pt_BR} Depois execute de novo com o mesmo nome: só o que falta é enviado.",
            ),
            path=str(path),
            manifest=str(_backup_manifest.manifest_path(dest, manifest.name)),
        ) from error


def stored(store: Store, database: str = "") -> list[Manifest]:
    """The backups of *database* (all where it is empty) whose whole copy the store claims to have, newest first. Raises LastroError."""
    there = _rclone.files(store)
    found = []
    with tempfile.TemporaryDirectory() as directory:
        _rclone.fetch(store, SUFFIX, Path(directory))
        for path in sorted(Path(directory).iterdir()):
            with contextlib.suppress(LastroError):
                manifest = _backup_manifest.read(path)
                if database in ("", manifest.database) and manifest.verified and all(there.get(one.name) == one.size for one in manifest.files):
                    found.append(manifest)
    return sorted(found, key=lambda manifest: (manifest.timestamp, manifest.name), reverse=True)


def prune(store: Store, retention: Retention, database: str, *, now: float) -> tuple[list[str], list[str]]:
    """Remove the copies that are past *retention*, each manifest first; their names, and what could not be removed."""
    removed: list[str] = []
    troubles: list[str] = []
    try:
        gone = _backup_retention.plan(stored(store, database), retention, now=now)
    except LastroError as error:
        return [], [f"Old copies at the store were not looked for: {error.message}"]
    for backup in gone:
        try:
            _rclone.delete(store, f"{backup.name}{SUFFIX}")
            for one in backup.files:
                _rclone.delete(store, one.name)
        except LastroError as error:
            troubles.append(f"The copy of {backup.name} is past its retention, but could not be removed: {error.message}")
        else:
            removed.append(backup.name)
    return removed, troubles


__all__ = ("as_result", "finish", "lacking", "options", "ordinary_values", "part_name", "prune", "store_from_params", "stored")
