# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A virtual environment with an application's requirements, made once and kept in the system's temporary directory."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COMPLETE = "complete"


def application_venv(requirements: Path, base: Path | None = None) -> Path:
    """The interpreter of an environment that holds exactly *requirements*; wheels only.

    It lies in *base* (by default a directory of this user's own in the system's temporary directory), under a hash of
    the requirements and of the interpreter, and is made again only where it is not complete. Several processes may ask
    at once: one makes it, the others wait. Raises RuntimeError where pip fails or *base* belongs to somebody else.
    """
    base = base or Path(tempfile.gettempdir()) / f"lastro-venv-{os.getuid()}"
    base.mkdir(mode=0o700, parents=True, exist_ok=True)
    owner = base.lstat()
    if not stat.S_ISDIR(owner.st_mode) or owner.st_uid != os.getuid() or owner.st_mode & 0o022:
        raise RuntimeError(f"{base} is not a directory that only this user can write: remove it")
    key = hashlib.sha256(b"\0".join((requirements.read_bytes(), sys.version.encode(), sys.base_prefix.encode()))).hexdigest()[:16]
    directory = base / key
    with (base / f"{key}.lock").open("w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (directory / COMPLETE).exists():
            _make(directory, requirements)
    return directory / "bin" / "python"


def _make(directory: Path, requirements: Path) -> None:
    started = time.monotonic()
    if directory.exists():
        shutil.rmtree(directory)
    # Without a pip of its own it is made in a fourth of the time; ours installs into it.
    _run(sys.executable, "-m", "venv", "--without-pip", str(directory))
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(directory / "bin" / "python"))
    _run(*pip, "install", "--quiet", "--only-binary=:all:", "--no-deps", "--requirement", str(requirements))
    _run(*pip, "check")
    (directory / COMPLETE).write_text(f"{time.monotonic() - started:.1f} s\n", encoding="utf-8")


def _run(*command: str) -> None:
    finished = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if finished.returncode != 0:
        raise RuntimeError(f"{' '.join(command[1:4])} ended with {finished.returncode}: {(finished.stderr or finished.stdout).strip()[-2000:]}")


__all__ = ("application_venv",)
