# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known of one stored backup: its manifest, which is the commit mark, and the list of good ones in a directory.

PRIVATE to the collection: may change at any time.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import os
import re
import typing as t
from pathlib import Path

from ._errors import LastroError, Text
from ._files import write_atomic
from ._progress import Progress, silent

FORMAT = "lastro-backup/1"
SUFFIX = ".manifest.json"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z")
COMPRESSED = {"zstd": ".zst", "gzip": ".gz", "none": ""}
"""What a file's name says of its compression."""
GLOBALS = "globals.sql"
"""The kind of the file with roles and tablespaces."""
PART = "data{}.dump"
"""The kind of the file with a part of the rows."""
MOST_PARTS = 64
CHUNK = 1 << 20
SECONDS_PER_DAY = 86_400

_DAMAGED = Text(
    en="Use another backup; keep the damaged file apart until you know why it changed, and look at the disk.",
    pt_BR="Use outro backup; guarde o arquivo danificado à parte até saber por que ele mudou e examine o disco.",
)


@dataclasses.dataclass(frozen=True)
class TableState:
    """Rows of one table in one snapshot; *hash* (decimal text) covers *columns*, or is None where only rows were counted."""

    rows: int
    hash: str | None = None
    columns: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Difference:
    """A table that is not as expected: *reason* is rows, content, columns, missing or unexpected."""

    table: str
    reason: str
    expected_rows: int | None
    found_rows: int | None


@dataclasses.dataclass(frozen=True)
class DatabaseLocale:
    """What a new database needs so that text sorts and compares as it did in the old one."""

    encoding: str
    collate: str
    ctype: str
    provider: str
    locale: str


@dataclasses.dataclass(frozen=True)
class StoredFile:
    """A file of a backup: its bare *name*, bytes, and SHA-256 in hex; for a part of the dump the bytes before compression and encryption too."""

    name: str
    size: int
    sha256: str
    raw_size: int = 0


@dataclasses.dataclass(frozen=True)
class Manifest:
    """One verified backup. Sizes in bytes; *created* is ISO 8601 in UTC; *file* is a bare name beside the manifest.

    *more* are the backup's other files: parts with rows of large tables, and roles and tablespaces as SQL. *extensions* are their versions by name.
    *copy* is the directory of a stopped cluster with the restored backup, as long as nobody used it up (``_scratch_cluster.reopened``).
    """

    name: str
    run_id: str
    created: str
    database: str
    server_version: str
    client_version: str
    snapshot_lsn: str
    database_size: int
    locale: DatabaseLocale
    tables: t.Mapping[str, TableState]
    hashes: str
    file: str
    size: int
    sha256: str
    raw_size: int
    compression: str
    encryption: str
    recipients: tuple[str, ...]
    verified: tuple[str, ...]
    seconds: t.Mapping[str, float]
    more: tuple[StoredFile, ...] = ()
    extensions: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    copy: str = ""

    @property
    def files(self) -> tuple[StoredFile, ...]:
        """Every stored file of the backup, the dump first."""
        return (StoredFile(self.file, self.size, self.sha256, self.raw_size), *self.more)

    @property
    def parts(self) -> tuple[StoredFile, ...]:
        """The files with rows that the dump itself has not, each an archive of its own."""
        return tuple(one for one in self.more if one.raw_size)

    @property
    def dump_size(self) -> int:
        """Bytes of the dump's files."""
        return self.size + sum(one.size for one in self.parts)

    @property
    def dump_raw_size(self) -> int:
        """Bytes of the dump before compression and encryption."""
        return self.raw_size + sum(one.raw_size for one in self.parts)

    @property
    def rows(self) -> int:
        """Rows of all tables."""
        return sum(table.rows for table in self.tables.values())

    @property
    def timestamp(self) -> float:
        """*created* as seconds since the epoch."""
        return datetime.datetime.fromisoformat(self.created).timestamp()


def file_name(name: str, *, compression: str, encryption: str, kind: str = "dump") -> str:
    """The name of a backup's file: ``NAME.dump``, then ``.zst`` or ``.gz`` and ``.age`` for the links of its chain."""
    return f"{name}.{kind}{COMPRESSED[compression]}{'.age' if encryption == 'age' else ''}"


def manifest_path(dest: Path, name: str) -> Path:
    """Where the manifest of the backup *name* is."""
    return dest / f"{name}{SUFFIX}"


def utc(seconds: float) -> str:
    """ISO 8601 in UTC, to the microsecond: two backups within one second keep their order."""
    return datetime.datetime.fromtimestamp(seconds, tz=datetime.UTC).isoformat(timespec="microseconds")


def write(dest: Path, manifest: Manifest) -> Path:
    """Write the manifest beside its file: from here on the backup counts."""
    path = manifest_path(dest, manifest.name)
    write_atomic(path, to_bytes(manifest))
    return path


def to_bytes(manifest: Manifest) -> bytes:
    """The manifest as its file has it: JSON with FORMAT and the fields of ``Manifest``."""
    content = {"format": FORMAT, **dataclasses.asdict(manifest)}
    return (json.dumps(content, indent=1, sort_keys=True) + "\n").encode()


def read(path: Path, *, final_name: str = "") -> Manifest:
    """The manifest at *path*, which is to get *final_name*. Raises LastroError where there is none or it is not one of ours."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        manifest = _from_json(content)
    except FileNotFoundError:
        raise LastroError(
            f"There is no manifest {path}, so there is no finished backup of that name.",
            remedy=Text(
                en="Name a backup whose manifest exists, or make one with pg_dump.", pt_BR="Indique um backup cujo manifesto exista, ou faça um com pg_dump."
            ),
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise LastroError(f"{path} is not a readable manifest of a backup of ours ({type(error).__name__}).", remedy=_DAMAGED) from error
    if not NAME.match(manifest.name) or (final_name or path.name) != manifest.name + SUFFIX or not _has_own_files(manifest):
        raise LastroError(f"The manifest {path} names a file that is not its own.", remedy=_DAMAGED)
    return manifest


def _has_own_files(manifest: Manifest) -> bool:
    chain = {"compression": manifest.compression, "encryption": manifest.encryption}
    more = {one.name for one in manifest.more}
    allowed = {file_name(manifest.name, **chain, kind=kind) for kind in (GLOBALS, *(PART.format(number) for number in range(1, MOST_PARTS + 1)))}
    return manifest.file == file_name(manifest.name, **chain) and more <= allowed


def _from_json(content: dict[str, t.Any]) -> Manifest:
    if content.pop("format") != FORMAT:
        raise ValueError("another format")
    tables = {name: TableState(rows=int(one["rows"]), hash=one["hash"], columns=tuple(one["columns"])) for name, one in content["tables"].items()}
    lists: dict[str, tuple[t.Any, ...]] = {key: tuple(content[key]) for key in ("recipients", "verified")}
    lists["more"] = tuple(StoredFile(**one) for one in content.get("more", ()))
    manifest = Manifest(**{**content, **lists, "tables": tables, "locale": DatabaseLocale(**content["locale"])})
    assert_types(manifest)
    return manifest


def assert_types(manifest: Manifest) -> None:
    """Raises ValueError where a field that decides something has a wrong type."""
    if not all(
        isinstance(value, int) and value >= 0
        for value in (manifest.raw_size, manifest.database_size, *(size for one in manifest.more for size in (one.size, one.raw_size)), manifest.size)
    ):
        raise ValueError("a size is not a number")
    if datetime.datetime.fromisoformat(manifest.created).tzinfo is None:
        raise ValueError("the time has no zone")


def good_ones(dest: Path, database: str) -> list[Manifest]:
    """The backups of *database* in *dest* that can be used, newest first; what cannot be read is left out."""
    found = []
    for path in sorted(dest.glob(f"*{SUFFIX}")):
        try:
            manifest = read(path)
        except LastroError:
            continue
        if manifest.database == database and manifest.verified and all(_has_size(dest / one.name, one.size) for one in manifest.files):
            found.append(manifest)
    return sorted(found, key=lambda manifest: (manifest.timestamp, manifest.name), reverse=True)


def _has_size(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except OSError:
        return False


def sha256_of(path: Path, *, progress: Progress = silent) -> tuple[str, int]:
    """SHA-256 (hex) and size of the file as the disk has it, not the page cache where the system lets us ask."""
    digest = hashlib.sha256()
    size = 0
    with path.open("rb", buffering=0) as stream:
        total = os.fstat(stream.fileno()).st_size
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
            size += len(chunk)
            progress(size, max(total, size), "bytes")
    return digest.hexdigest(), size


def check_file(dest: Path, manifest: Manifest, *, progress: Progress = silent) -> None:
    """Re-read every stored file. Raises LastroError that says how one differs from its manifest."""
    for one in manifest.files:
        path = dest / one.name
        try:
            digest, size = sha256_of(path, progress=progress)
        except OSError as error:
            raise LastroError(f"The backup file {path} cannot be read: {error.strerror}.", remedy=_DAMAGED) from error
        if size != one.size:
            raise LastroError(f"The backup file {path} has {size} bytes, its manifest says {one.size}: it was cut or overwritten.", remedy=_DAMAGED)
        if digest != one.sha256:
            raise LastroError(
                f"The backup file {path} has the right size but another SHA-256 than its manifest says: it was damaged or changed.", remedy=_DAMAGED
            )


def compare(expected: t.Mapping[str, TableState], found: t.Mapping[str, TableState]) -> list[Difference]:
    """Tables of *found* that are not as *expected*, by name. A hash is compared where both sides have one."""
    differences = []
    for table in sorted({*expected, *found}):
        one, other = expected.get(table), found.get(table)
        reason = _reason(one, other)
        if reason:
            differences.append(Difference(table, reason, one.rows if one else None, other.rows if other else None))
    return differences


def _reason(expected: TableState | None, found: TableState | None) -> str:
    if expected is None:
        return "unexpected"
    if found is None:
        return "missing"
    if expected.rows != found.rows:
        return "rows"
    if expected.hash is None or found.hash is None:
        return ""
    if expected.columns != found.columns:
        return "columns"
    return "" if expected.hash == found.hash else "content"


__all__ = (
    "COMPRESSED",
    "FORMAT",
    "GLOBALS",
    "MOST_PARTS",
    "NAME",
    "PART",
    "SUFFIX",
    "DatabaseLocale",
    "Difference",
    "Manifest",
    "StoredFile",
    "TableState",
    "check_file",
    "compare",
    "file_name",
    "good_ones",
    "manifest_path",
    "read",
    "sha256_of",
    "to_bytes",
    "utc",
    "write",
)
