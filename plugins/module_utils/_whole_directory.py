# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A directory that is whole or not there, whatever happens while it is made. PRIVATE to the collection."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from ._files import fsync_directory

UNFINISHED = ".lastro-unfinished"


def is_complete(directory: Path) -> bool:
    """Whether *directory* was made to its end."""
    return directory.is_dir() and not (directory / UNFINISHED).exists()


def begin(directory: Path) -> None:
    """Make *directory*, marked as unfinished from its first moment, also after a power cut. Raises OSError."""
    fresh = _hidden(directory, "new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(mode=0o755, parents=True)
    (fresh / UNFINISHED).touch()
    fsync_directory(fresh)
    fresh.rename(directory)
    fsync_directory(directory.parent)


def discard(directory: Path) -> bool:
    """Remove *directory*; killed in the middle it is gone all the same, never half there. False where there was none. Raises OSError."""
    gone = _hidden(directory, "gone")
    shutil.rmtree(gone, ignore_errors=True)
    if not directory.exists():
        return False
    directory.rename(gone)
    fsync_directory(gone.parent)
    shutil.rmtree(gone)
    return True


def _hidden(directory: Path, what: str) -> Path:
    return directory.with_name(f".{directory.name}.{what}")


def finish(directory: Path) -> None:
    """Say that *directory* is whole, once all of it is on the disk. Raises OSError."""
    os.sync()
    (directory / UNFINISHED).unlink()
    fsync_directory(directory)


__all__ = ("UNFINISHED", "begin", "discard", "finish", "is_complete")
