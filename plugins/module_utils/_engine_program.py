# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The backends behind :mod:`_engine` as one executable file (a zip application of PEP 441). PRIVATE to the collection."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import io
import marshal
import sys
import types
import typing as t
import zipfile
from pathlib import Path

from . import (
    _argspec,
    _caddy,
    _clock,
    _dead_man,
    _engine,
    _environment_file,
    _errors,
    _files,
    _gates,
    _journal,
    _journal_call,
    _ledger,
    _lock,
    _log_errors,
    _log_tail,
    _process,
    _proxy_flags,
    _slots,
    _step,
    _supervisor,
    _systemd,
    _systemd_unit,
)
from ._files import make_directory, write_atomic, writing

PARTS: tuple[types.ModuleType, ...] = (
    _argspec,
    _caddy,
    _clock,
    _dead_man,
    _engine,
    _environment_file,
    _errors,
    _files,
    _gates,
    _journal,
    _journal_call,
    _ledger,
    _lock,
    _log_errors,
    _log_tail,
    _process,
    _proxy_flags,
    _slots,
    _step,
    _supervisor,
    _systemd,
    _systemd_unit,
)
"""What the backends of ``_engine.BACKENDS`` import of each other. Named above once more, since Ansible packs for a module what it imports by name."""
PACKAGE = "lastro_engine"
START = f"from {PACKAGE}._engine import main\n\nmain()\n"
FLAGS = "-ISB"
"""Isolated, without site packages, and without writing bytecode: the standard library is all it needs."""
LONGEST_SHEBANG = 127
WHEN = (1980, 1, 1, 0, 0, 0)
"""The earliest time that an archive can have; nobody looks at it."""


def _sources() -> dict[str, str]:
    """By the name in the archive."""
    own = {f"{PACKAGE}/{part.__name__.rpartition('.')[2]}.py": inspect.getsource(part) for part in PARTS}
    return {"__main__.py": START, f"{PACKAGE}/__init__.py": "", **own}


# Once, when it is imported: each task of a run is a process of its own.
SOURCES: t.Final = _sources()
DIGEST: t.Final = hashlib.sha256("".join(f"{name}\n{source}" for name, source in SOURCES.items()).encode()).hexdigest()


def path_of(state_dir: str) -> str:
    """Where the program of these sources stands. Another version of the collection has another one."""
    return f"{state_dir}/bin/engine-{DIGEST[:16]}.pyz"


def build(python: str) -> bytes:
    """The program for the interpreter *python*, with bytecode beside each source. Another Python version would read the sources."""
    content = io.BytesIO(f"#!{python} {FLAGS}\n".encode())
    content.seek(0, io.SEEK_END)
    with zipfile.ZipFile(content, "a") as archive:
        for name, source in SOURCES.items():
            archive.writestr(zipfile.ZipInfo(name, WHEN), source)
            archive.writestr(zipfile.ZipInfo(f"{name}c", WHEN), _bytecode(source, name))
    return content.getvalue()


def install(path: Path, python: str = sys.executable) -> bool:
    """Have the program at *path*, and no other version's beside it; False where this host cannot start it. Raises LastroError."""
    if len(f"#!{python} {FLAGS}") > LONGEST_SHEBANG or " " in python:
        return False
    with writing(path):
        path.parent.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
        make_directory(path.parent, 0o755)
        write_atomic(path, build(python), mode=0o755)
        for other in path.parent.glob("engine-*.pyz"):
            if other != path:
                other.unlink(missing_ok=True)
    return True


def _bytecode(source: str, name: str) -> bytes:
    """The file that PEP 552 describes, unchecked: nobody changes the source beside it."""
    code = compile(source, name, "exec", dont_inherit=True)
    unchecked = (0b01).to_bytes(4, "little")
    return importlib.util.MAGIC_NUMBER + unchecked + importlib.util.source_hash(source.encode()) + marshal.dumps(code)


__all__ = ("build", "install", "path_of")
