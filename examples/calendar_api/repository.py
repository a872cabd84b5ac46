# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The releases of calendar-api: ``source`` is r1, every other one an overlay of files on the one that it was made from.

Only the files here go into a release; caches and whatever else lies about do not.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
RELEASES = ("r1", "r2", "r3", "r4", "r5")
# r3 turns out to be bad, so r4 is made from r2.
MADE_FROM = {"r2": "r1", "r3": "r2", "r4": "r2", "r5": "r4"}
MESSAGES = {
    "r1": "Bookings, schedules, login",
    "r2": "One booking for a slot by constraint; tokens encrypted beside the clear ones",
    "r3": "Watch how busy the calendar is",
    "r4": "Take back the watching; tokens encrypted alone",
    "r5": "Forget the names of users",
}
AUTHOR = "calendar-api <calendar-api@example.org>"
IGNORED = frozenset({"__pycache__", ".git"})
# Git is told all of it here: neither the user's configuration nor a variable of the shell changes a commit.
_SETTINGS = ("init.defaultBranch=main", "core.autocrlf=false", "core.fileMode=true", "commit.gpgSign=false", "gc.auto=0", "safe.directory=*")


def files(release: str) -> dict[str, bytes]:
    """The files of *release* by their path in it. Raises ValueError for a release that does not exist."""
    if release not in RELEASES:
        raise ValueError(f"{release!r} is not a release: {', '.join(RELEASES)}")
    if release not in MADE_FROM:
        return _read(HERE / "source")
    return {**files(MADE_FROM[release]), **_read(HERE / "releases" / release)}


def extract(release: str, directory: Path) -> None:
    """Write the files of *release* into *directory*, which is made. Raises ValueError for a release that does not exist."""
    found = files(release)
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in found.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(0o644)


def build_repository(directory: Path) -> None:
    """Make a git repository in *directory* (absent or empty), with a commit and a tag for each release.

    Author, dates and content are fixed, so every repository has the same commits. Raises ValueError where
    *directory* holds something, RuntimeError where git fails.
    """
    directory.mkdir(parents=True, exist_ok=True)
    if any(directory.iterdir()):
        raise ValueError(f"{directory} is not empty")
    _git(directory, "init", "--quiet", "--template=", "--object-format=sha1")
    before: set[str] = set()
    for number, release in enumerate(RELEASES):
        found = files(release)
        for name in before - set(found):
            (directory / name).unlink()
        extract(release, directory)
        before = set(found)
        _git(directory, "add", "--all", "--force", ".")
        _git(directory, "commit", "--quiet", "--no-verify", f"--message={MESSAGES[release]}", date=f"2026-0{number + 1}-15T12:00:00+0000")
        _git(directory, "tag", release)


def _read(base: Path) -> dict[str, bytes]:
    paths = sorted(path for path in base.rglob("*") if path.is_file() and not IGNORED.intersection(path.parts[len(base.parts) :]))
    return {path.relative_to(base).as_posix(): path.read_bytes() for path in paths}


def _git(directory: Path, *arguments: str, date: str = "2026-01-01T00:00:00+0000") -> None:
    name, _unused, address = AUTHOR.rstrip(">").partition(" <")
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "LC_ALL": "C",
        "HOME": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        **{f"GIT_{role}_{part}": value for role in ("AUTHOR", "COMMITTER") for part, value in (("NAME", name), ("EMAIL", address), ("DATE", date))},
    }
    options = [word for setting in _SETTINGS for word in ("-c", setting)]
    command = ["git", *options, *arguments]
    finished = subprocess.run(command, cwd=directory, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if finished.returncode != 0:
        raise RuntimeError(f"git {arguments[0]} ended with {finished.returncode}: {finished.stderr.strip()}")


__all__ = ("RELEASES", "build_repository", "extract", "files")
