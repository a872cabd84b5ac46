# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The interpreter with the libraries that the collection's modules import on a host. PRIVATE to the collection."""

from __future__ import annotations

import os
import typing as t
from pathlib import Path

from . import _virtualenv
from ._files import fsync_directory, writing
from ._whole_directory import discard, is_complete

ENVIRONMENTS = "venvs"


def plan(path: Path, wheels: Path, python: str) -> tuple[Path, bool, bool]:
    """(the environment that *path* shall point to, whether it has to be made, whether *path* has to be pointed there)."""
    wanted = path.parent / ENVIRONMENTS / _virtualenv.directory_name(wheels, python)
    return wanted, not is_complete(wanted), not path.is_symlink() or path.resolve() != wanted.resolve()


def run(options: t.Mapping[str, t.Any], *, write: bool = True) -> dict[str, t.Any]:
    """The result of the module C(tool_environment) for its options. Raises LastroError.

    An environment is never changed once it is made, and a link points to the one in force: what runs keeps its files. The
    environment before stays, older ones go.
    """
    path, wheels = Path(options["path"]), Path(options["wheels"])
    wanted, make, point = plan(path, wheels, options["python"])
    before = path.resolve() if path.is_symlink() else None
    installed = 0
    if write and (make or point):
        with writing(wanted):
            installed = _virtualenv.make(wanted, wheels, options["python"]) if make else 0
            _point(path, wanted)
            for old in wanted.parent.glob("[!.]*"):
                if old.resolve() not in (wanted.resolve(), before):
                    discard(old)
    return {
        "changed": make or point,
        "interpreter": str(path / "bin" / "python"),
        "wheels": installed,
        "diff": {"before": {"environment": before.name if before else ""}, "after": {"environment": wanted.name}},
    }


def _point(path: Path, environment: Path) -> None:
    """Point the link *path* to *environment*, at once."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}.new")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(os.path.relpath(environment, path.parent))
    fresh.replace(path)
    fsync_directory(path.parent)


__all__ = ("plan", "run")
