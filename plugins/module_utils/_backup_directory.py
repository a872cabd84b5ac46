# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The directory of backups: room on its disk, part files that only a finished backup leaves, retention.

PRIVATE to the collection: may change at any time.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import time
import typing as t
from pathlib import Path

from ._backup_manifest import SUFFIX, Manifest, manifest_path, read, sha256_of, to_bytes
from ._backup_stream import disk_error
from ._errors import LastroError, Text
from ._files import fsync_directory

LEAST_ROOM = 16 * 1024 * 1024
ROOM_AFTER_LAST = 1.2
ROOM_OF_DATABASE = 0.6
_PART = re.compile(r"\.[A-Za-z0-9][A-Za-z0-9._-]*\.(?:(?:dump|globals\.sql)(?:\.zst|\.gz)?(?:\.age)?|manifest\.json)\.(\d+)\.part\Z")
# A part whose process id belongs to another program by now, and which nobody holds, is left over all the same.
_LEFT_OVER_SECONDS = 60


class Forecast(t.NamedTuple):
    """Bytes that a backup will need and bytes that are free for it."""

    needed: int
    free: int


def existing_parent(path: Path) -> Path:
    """*path*, or the nearest directory above it that exists."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def check_writable(dest: Path) -> None:
    """Raises LastroError where backups could not be written into *dest*."""
    if not dest.is_absolute():
        raise LastroError(
            f"dest is {str(dest)!r}, which depends on the current directory.",
            remedy=Text(en="Give dest an absolute path.", pt_BR="Informe em dest um caminho absoluto."),
        )
    parent = existing_parent(dest)
    if not parent.is_dir():
        problem = f"{parent} is not a directory"
    elif not os.access(parent, os.W_OK | os.X_OK):
        problem = f"{parent} cannot be written by this user or is mounted read-only"
    else:
        return
    raise LastroError(
        f"Backups cannot be written to {dest}: {problem}.",
        remedy=Text(
            en="Give dest a directory that the user of this task may write, or create it with that owner.",
            pt_BR="Informe em dest um diretório em que o usuário desta tarefa possa escrever, ou crie-o com esse dono.",
        ),
    )


def forecast(dest: Path, *, last_size: int | None, database_size: int) -> Forecast:
    """What the next backup will need, by the last good one or else by the database, and what is free."""
    expected = last_size * ROOM_AFTER_LAST if last_size is not None else database_size * ROOM_OF_DATABASE
    disk = os.statvfs(existing_parent(dest))
    return Forecast(needed=max(LEAST_ROOM, int(expected)), free=disk.f_bavail * disk.f_frsize)


def check_room(path: Path, room: Forecast, *, option: str = "dest") -> None:
    """Raises LastroError where the disk of *path*, which is the value of *option*, is too small."""
    if room.free < room.needed:
        raise LastroError(
            f"The disk is too full for {'a backup' if option == 'dest' else 'a restored copy'} in {path}: "
            f"{room.needed} bytes are needed, {room.free} are free.",
            remedy=Text(
                en=f"Free space below {option}, shorten retention.days, or put {option} on a larger disk.",
                pt_BR=f"Libere espaço em {option}, reduza retention.days, ou coloque {option} em um disco maior.",
            ),
            forecast=room._asdict(),
        )


def prepare(dest: Path) -> None:
    """Create *dest* (0700) where it is missing and remove the part files of runs that were killed."""
    try:
        dest.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise disk_error(dest, error) from error
    for path in dest.glob(".*.part"):
        match = _PART.match(path.name)
        if match and not path.is_symlink():
            _remove_left_over(path, int(match.group(1)))


def _remove_left_over(path: Path, owner: int) -> None:
    with contextlib.suppress(OSError), path.open("rb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if owner == os.getpid() or not _alive(owner) or time.time() - path.stat().st_mtime > _LEFT_OVER_SECONDS:
            _remove_uncommitted(path, path.name.removeprefix(".").removesuffix(f".{owner}.part"))
            path.unlink()


def _remove_uncommitted(mark: Path, final_name: str) -> None:
    """Remove the files whose run was killed between their renames and that of its manifest, which is still the part *mark*."""
    if final_name.endswith(SUFFIX) and not mark.with_name(final_name).exists():
        with contextlib.suppress(LastroError):
            for one in read(mark, final_name=final_name).files:
                path = mark.with_name(one.name)
                if path.exists() and sha256_of(path) == (one.sha256, one.size):
                    path.unlink()


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


class Part:
    """A file under its temporary name, held by a lock of ours; ``commit`` gives it its final name."""

    def __init__(self, final: Path) -> None:
        self.final = final
        self.path = final.with_name(f".{final.name}.{os.getpid()}.part")
        self.committed = False
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        self.stream: t.IO[bytes] = os.fdopen(descriptor, "wb")
        fcntl.flock(descriptor, fcntl.LOCK_EX)

    def sync(self) -> None:
        """Have the disk hold everything written so far. Raises OSError."""
        self.stream.flush()
        os.fsync(self.stream.fileno())

    def commit(self) -> None:
        """Rename to the final name and make that durable. Raises OSError."""
        self.path.replace(self.final)
        self.committed = True
        fsync_directory(self.final.parent)

    def close(self) -> None:
        """Give the file up; one that was not committed is removed."""
        if not self.committed:
            self.path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # what could not be flushed is gone with the file
            self.stream.close()


@contextlib.contextmanager
def part_file(final: Path) -> t.Iterator[Part]:
    """A part file for *final*, 0600 from the first byte, gone at the end unless committed. Raises LastroError."""
    try:
        part = Part(final)
    except OSError as error:
        raise disk_error(final, error) from error
    try:
        yield part
    finally:
        part.close()


def commit(parts: t.Sequence[Part], manifest: Manifest) -> None:
    """Give *parts* and their manifest the final names, the manifest last: from there on the backup counts. All are on the disk before. Raises LastroError."""
    dest = parts[0].final.parent
    with part_file(manifest_path(dest, manifest.name)) as mark:
        try:
            mark.stream.write(to_bytes(manifest))
            mark.sync()
            for part in (*parts, mark):
                part.commit()
        except OSError as error:
            raise disk_error(dest / manifest.file, error) from error


def remove(dest: Path, backups: t.Iterable[Manifest]) -> tuple[list[str], list[str]]:
    """Remove *backups*, each manifest first, so that a half-removed one counts no more; their names, and what could not be removed."""
    removed = []
    troubles = []
    for backup in backups:
        try:
            manifest_path(dest, backup.name).unlink(missing_ok=True)
            fsync_directory(dest)
            for one in backup.files:
                (dest / one.name).unlink(missing_ok=True)
            fsync_directory(dest)
        except OSError as error:
            troubles.append(f"The backup {backup.name} is past its retention, but could not be removed: {error.strerror}.")
        else:
            removed.append(backup.name)
    return removed, troubles


__all__ = ("Forecast", "Part", "check_room", "check_writable", "commit", "existing_parent", "forecast", "part_file", "prepare", "remove")
