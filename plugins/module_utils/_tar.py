# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Unpacks tar files that must not reach beyond their directory. PRIVATE to the collection."""

from __future__ import annotations

import copy
import gzip
import os
import tarfile
import zlib
from pathlib import Path

from ._errors import LastroError, Text


def extract(path: Path, directory: Path) -> int:
    """Unpack the tar file at *path* into *directory* as this user, nothing outside of it; how many members it has. Raises LastroError.

    What may be unpacked is what Python's filter "data" lets through (PEP 706).
    """
    try:
        with tarfile.open(path) as tar:
            if hasattr(tarfile, "data_filter"):
                tar.extractall(directory, filter="data")
            else:
                _extract_checked(tar, directory)
            return len(tar.getmembers())
    except (FileNotFoundError, EOFError, tarfile.TarError, zlib.error, gzip.BadGzipFile) as error:
        raise LastroError(
            f"{path.name} cannot be unpacked: {error}.",
            remedy=Text(
                en="Build a whole .tar.gz without links that lead out of it, and run the command again.",
                pt_BR="Gere um .tar.gz inteiro, sem links que levem para fora dele, e execute o comando de novo.",
            ),
        ) from None


def _extract_checked(tar: tarfile.TarFile, directory: Path) -> None:
    """What the filter does, for Python before 3.11.4 (Debian 12 has 3.11.2). Raises tarfile.TarError."""
    for member in tar:
        # One by one: a link that stands there already counts for those behind it.
        tar.extract(checked(member, directory), directory)


def checked(member: tarfile.TarInfo, directory: Path) -> tarfile.TarInfo:
    """*member* as it may be unpacked into *directory*: no other place, no other owner, no device. Raises tarfile.TarError."""
    found = copy.copy(member)
    found.name = member.name.lstrip("/")
    place = _inside(directory, directory / found.name, member)
    if member.issym() or member.islnk():
        if Path(member.linkname).is_absolute():
            raise tarfile.TarError(f"{member.name!r} is a link to an absolute path")
        _inside(directory, (place.parent if member.issym() else directory) / member.linkname, member)
    elif not (member.isreg() or member.isdir()):
        raise tarfile.TarError(f"{member.name!r} is neither a file nor a directory nor a link")
    found.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
    found.uid, found.gid, found.uname, found.gname = os.geteuid(), os.getegid(), "", ""
    return found


def _inside(directory: Path, place: Path, member: tarfile.TarInfo) -> Path:
    real = Path(os.path.realpath(place))
    if not real.is_relative_to(os.path.realpath(directory)):
        raise tarfile.TarError(f"{member.name!r} would be unpacked outside of its directory")
    return real


__all__ = ("checked", "extract")
