# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that a crash leaves either old or new, never half. PRIVATE to the collection."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import typing as t
from pathlib import Path

from ._errors import LastroError, Text


@contextlib.contextmanager
def writing(path: Path) -> t.Iterator[None]:
    """Raises LastroError that names *path* where the work inside meets a full or read-only disk, or missing rights."""
    try:
        yield
    except OSError as error:
        raise LastroError(
            f"{path} cannot be written: {error.strerror or error}.",
            remedy=Text(
                en="Free some space on that disk, or correct the directory's owner and mode, and run the command again.",
                pt_BR="Libere espaço nesse disco, ou corrija o dono e o modo do diretório, e execute o comando de novo.",
            ),
        ) from error


def fsync_directory(directory: Path) -> None:
    """Make a rename, creation or removal in *directory* survive a power cut."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomic(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Write *content* under a temporary name with *mode* from the first byte, fsync, rename, fsync the directory."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, mode)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            os.fchmod(stream.fileno(), mode)
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    fsync_directory(path.parent)


def put_private(path: Path, content: str, owner: str, *, write: bool) -> bool:
    """Have a file 0600 with *content* in a directory 0700, owned by *owner* ("" for whoever runs this); whether that changes anything.

    Raises LastroError, also for a user that this host does not know.
    """
    wanted = (0o600, content, _user(owner) if owner else os.geteuid())
    with writing(path):
        found = (path.stat().st_mode & 0o7777, path.read_text(encoding="utf-8", errors="replace"), path.stat().st_uid) if path.exists() else None
        if write and found != wanted:
            path.parent.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            make_directory(path.parent, 0o700)
            write_atomic(path, content.encode())
            if owner:
                os.chown(path, wanted[2], -1)
    return found != wanted


def _user(name: str) -> int:
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        raise LastroError(
            f"This host has no user {name}.",
            remedy=Text(en="Create it, or correct deploy_user in the profile.", pt_BR="Crie-o, ou corrija deploy_user no perfil."),
        ) from None


def make_directory(path: Path, mode: int) -> None:
    """Make *path* and the parents that are missing, each with *mode* whatever the umask. Raises OSError."""
    missing = [parent for parent in reversed(path.parents) if not parent.exists()]
    for directory in (*missing, path):
        directory.mkdir(exist_ok=True)
        directory.chmod(mode)


def remove(path: Path) -> None:
    """Remove a file, if it is there, for good. Raises OSError."""
    try:
        path.unlink()
    except FileNotFoundError:
        return
    fsync_directory(path.parent)


def append_line(path: Path, line: str, *, mode: int = 0o600) -> None:
    """Append one line (without its newline) and fsync. Creates the file with *mode*. Raises OSError.

    A line that an earlier crash (or a full disk) left torn gets its newline first, so that it spoils itself alone.
    """
    new = not path.exists()
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, mode)
    try:
        size = os.fstat(descriptor).st_size
        torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        _write_all(descriptor, (b"\n" if torn else b"") + line.encode() + b"\n")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if new:
        fsync_directory(path.parent)


def _write_all(descriptor: int, content: bytes) -> None:
    # On a disk that fills up the first write is short; only the next one fails.
    while content:
        content = content[os.write(descriptor, content) :]


def read_json_lines(path: Path) -> list[dict[str, t.Any]]:
    """The records of a JSON-lines file; torn lines are left out; [] if there is no file."""
    return parse_json_lines(path.read_bytes()) if path.exists() else []


def parse_json_lines(content: bytes) -> list[dict[str, t.Any]]:
    """The records in the bytes of a JSON-lines file; torn lines are left out."""
    records: list[dict[str, t.Any]] = []
    # Only a newline ends a record: splitlines would also cut at U+2028 and the like inside a string.
    for line in content.decode("utf-8", errors="replace").split("\n"):
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict):
            records.append(record)
    return records


__all__ = ("append_line", "fsync_directory", "make_directory", "parse_json_lines", "put_private", "read_json_lines", "remove", "write_atomic", "writing")
