# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a key is handed over: a file, and a pending one beside it until the table knows the key. PRIVATE to the collection.

A key is written to the pending file before its hash is committed, and takes the file's place afterwards. Whoever comes after
a crash compares both with the table: a pending key that the table knows is delivered, any other is none.
"""

from __future__ import annotations

import dataclasses
import glob
import grp
import os
import pwd
import re
import typing as t
from pathlib import Path

from ._errors import LastroError, Text
from ._files import fsync_directory, remove, write_atomic, writing

MODES = ("0600", "0400", "0640", "0440")
KEY = re.compile(r"[A-Za-z0-9._~+/=-]{0,256}\Z")
"""What may stand in the file: a key, of whoever made it. Anything else was never meant to be replaced by one."""


@dataclasses.dataclass(frozen=True)
class Sink:
    """The file at *path* with its mode, and its owner and group by number (-1 leaves what the process gives)."""

    path: Path
    mode: int
    uid: int
    gid: int

    @property
    def pending(self) -> Path:
        """The file that holds a key until the table has its hash."""
        return self.path.with_name(f".{self.path.name}.pending")

    def read(self) -> str | None:
        """The key in the file; None where there is no file."""
        return _read(self.path)

    def read_pending(self) -> str | None:
        """The key that waits; None where none does."""
        return _read(self.pending)

    def drifted(self) -> bool:
        """Whether the file has another mode, owner or group than it should."""
        found = self.path.stat()
        wanted = (self.mode, found.st_uid if self.uid < 0 else self.uid, found.st_gid if self.gid < 0 else self.gid)
        return (found.st_mode & 0o7777, found.st_uid, found.st_gid) != wanted

    def check(self) -> None:
        """Raises LastroError where no key could be written; nothing is written."""
        directory = self.path.parent
        if not self.path.is_absolute() or not directory.is_dir() or not os.access(directory, os.W_OK | os.X_OK):
            what = "is no absolute path" if not self.path.is_absolute() else f"is in {directory}, which " + _lack(directory)
            raise LastroError(
                f"sink.file {self.path} {what}.",
                remedy=Text(
                    en="Name a file in a directory that exists on this host and that the module's user may write.",
                    pt_BR="Indique um arquivo em um diretório que exista neste host e no qual o usuário do módulo possa escrever.",
                ),
            )
        ordinary = not self.path.is_symlink() and (self.path.is_file() or not self.path.exists())
        if not ordinary or not KEY.match(self.read() or ""):
            raise LastroError(
                f"sink.file {self.path} {'holds something that is no key' if ordinary else 'is no ordinary file'}.",
                remedy=Text(en="Remove it, or name another file.", pt_BR="Remova-o ou indique outro arquivo."),
            )

    def prepare(self, key: str) -> None:
        """Have the pending file hold *key* even after a power cut. Raises LastroError; then nothing of the key is left."""
        with writing(self.pending):
            self._remove_litter()
            write_atomic(self.pending, key.encode())
            try:
                self._dress(self.pending)
            except OSError:
                remove(self.pending)
                raise

    def deliver(self) -> None:
        """Let the pending file take the file's place, for good. Raises LastroError; the next run does it then."""
        with writing(self.path):
            os.replace(self.pending, self.path)
            fsync_directory(self.path.parent)

    def dress(self) -> None:
        """Give the file its mode, owner and group. Raises LastroError."""
        with writing(self.path):
            self._dress(self.path)

    def withdraw(self) -> None:
        """Remove the pending file, if there is one. Raises LastroError."""
        with writing(self.pending):
            remove(self.pending)

    def _dress(self, path: Path) -> None:
        os.chown(path, self.uid, self.gid, follow_symlinks=False)
        path.chmod(self.mode)
        fsync_directory(path.parent)

    def _remove_litter(self) -> None:
        for part in self.path.parent.glob(f".{glob.escape(self.pending.name)}.*.part"):
            part.unlink(missing_ok=True)


def sink_from_params(options: t.Mapping[str, t.Any] | None) -> Sink | None:
    """The sink that the option C(sink) describes. Raises LastroError for a user or group that this host does not know."""
    if not options:
        return None
    return Sink(
        path=Path(options["file"]),
        mode=int(options["mode"], 8),
        uid=_number("owner", options["owner"], lambda name: pwd.getpwnam(name).pw_uid),
        gid=_number("group", options["group"], lambda name: grp.getgrnam(name).gr_gid),
    )


def _number(option: str, name: str | None, ask: t.Callable[[str], int]) -> int:
    if not name:
        return -1
    try:
        return ask(name)
    except KeyError:
        raise LastroError(
            f"sink.{option} is {name}, which this host does not know.",
            remedy=Text(en="Create it, or correct the option.", pt_BR="Crie-o ou corrija a opção."),
        ) from None


def _lack(directory: Path) -> str:
    return "this user may not write" if directory.is_dir() else "is no directory"


def _read(path: Path) -> str | None:
    try:
        with path.open("rb") as stream:
            return stream.read(1024).decode("utf-8", errors="replace").strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise LastroError(
            f"{path} cannot be read: {error.strerror}.",
            remedy=Text(en="Give the module's user the right to read it.", pt_BR="Dê ao usuário do módulo o direito de lê-lo."),
        ) from error


__all__ = ("MODES", "Sink", "sink_from_params")
