# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A project of the user's own, from a tree of files. PRIVATE to the collection: may change at any time."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from ._errors import LastroError, Text
from ._files import write_atomic

# Under its real name it would rule over this repository.
RENAMED = {"gitignore": ".gitignore"}


@dataclasses.dataclass(frozen=True)
class File:
    """A file to write: its path below the project's directory, and its content."""

    name: str
    content: bytes


def make_plan(src: Path, dest: Path) -> list[File]:
    """The files of *src* that *dest* lacks, by name. Raises LastroError, with all names, where one is there and differs."""
    wanted = [File(RENAMED.get(str(path.relative_to(src)), str(path.relative_to(src))), path.read_bytes()) for path in sorted(src.rglob("*")) if path.is_file()]
    changed = [file.name for file in wanted if _is_there(dest / file.name) and _content(dest / file.name) != file.content]
    if changed:
        raise LastroError(
            f"Nothing was written: these files of {dest} differ from what would be written: {', '.join(changed)}.",
            remedy=Text(en="Move them away, or name another directory.", pt_BR="Mova-os ou indique outro diretório."),
            differing=changed,
        )
    return [file for file in wanted if not _is_there(dest / file.name)]


def write(plan: list[File], dest: Path) -> None:
    """Write the files of *plan*, each whole or not at all. Raises LastroError where the directory cannot be written."""
    try:
        for file in plan:
            (dest / file.name).parent.mkdir(parents=True, exist_ok=True)
            write_atomic(dest / file.name, file.content, mode=0o644)
    except OSError as error:
        raise LastroError(
            f"{dest} cannot be written: {error.strerror}.",
            remedy=Text(en="Name a directory that you may write.", pt_BR="Indique um diretório em que você possa escrever."),
        ) from error


def _is_there(path: Path) -> bool:
    return path.is_symlink() or path.exists()


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


__all__ = ("RENAMED", "File", "make_plan", "write")
