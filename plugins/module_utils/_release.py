# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A release on a host: its directory with the files of the artifact, and its virtual environment. PRIVATE to the collection."""

from __future__ import annotations

import dataclasses
import os
import re
import typing as t
from pathlib import Path

from . import _virtualenv
from ._artifact import digest
from ._errors import LastroError, Text
from ._files import writing
from ._progress import Progress, silent
from ._tar import extract
from ._whole_directory import begin, discard, finish, is_complete

ENVIRONMENTS = "venvs"


@dataclasses.dataclass(frozen=True)
class Staging:
    """What to stage: *archive* and *wheels* are files on this host, *sha256* belongs to the archive."""

    root: Path
    release: str
    archive: Path
    sha256: str
    wheels: Path
    requirements: str
    python: str

    @property
    def directory(self) -> Path:
        """Where the release lives."""
        return self.root / "releases" / self.release

    @property
    def environment(self) -> Path:
        """The virtual environment: one for all releases with the same wheels and interpreter, never changed once it is made."""
        return self.root / ENVIRONMENTS / _virtualenv.directory_name(self.wheels, self.python)


def stage(staging: Staging, *, progress: Progress = silent) -> dict[str, int]:
    """Put the release in place; {files, wheels}. What a crash left unfinished is made anew. Raises LastroError."""
    check_archive(staging)
    directory = staging.directory
    with writing(directory):
        discard(directory)
        begin(directory)
        progress(0, 3, "steps")
        files = extract(staging.archive, directory)
        progress(1, 3, "steps")
        wheels = 0
        if not is_complete(staging.environment):
            wheels = _virtualenv.make(staging.environment, staging.wheels, staging.python, directory / staging.requirements)
        (directory / "venv").symlink_to(os.path.relpath(staging.environment, directory))
        progress(3, 3, "steps")
        finish(directory)
    return {"files": files, "wheels": wheels}


def check_archive(staging: Staging) -> None:
    """Raises LastroError where the archive on this host is not the one that the controller built."""
    try:
        found = digest(staging.archive)
    except OSError as error:
        raise LastroError(
            f"The artifact {staging.archive} on this host cannot be read: {error.strerror}.",
            remedy=Text(en="Run the command again; it copies the artifact.", pt_BR="Execute o comando de novo; ele copia o artefato."),
        ) from error
    if found != staging.sha256:
        raise LastroError(
            f"The artifact on this host has the SHA-256 {found[:12]}…, {staging.sha256[:12]}… was built.",
            remedy=Text(
                en=f"Remove {staging.archive} on the host and run the command again.", pt_BR=f"Remova {staging.archive} no host e execute o comando de novo."
            ),
        )


def remove(root: Path, releases: t.Iterable[str]) -> list[str]:
    """Remove releases with their environment files; the ids that were there. Raises LastroError."""
    removed = []
    for release in releases:
        directory = root / "releases" / checked(release)
        with writing(directory):
            if discard(directory):
                removed.append(release)
            (root / "env" / f"{release}.env").unlink(missing_ok=True)
    if removed:
        _discard_unused(root)
    return removed


def _discard_unused(root: Path) -> None:
    """Remove the virtual environments that no release uses any more."""
    used = {(release / "venv").resolve() for release in (root / "releases").iterdir()}
    for environment in (root / ENVIRONMENTS).glob("[!.]*"):
        if environment.resolve() not in used:
            with writing(environment):
                discard(environment)


def checked(release: str) -> str:
    """*release*, if it may be the name of a directory. Raises LastroError."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", release):
        raise LastroError(
            f"{release!r} is not the id of a release.",
            remedy=Text(en="Give ids as the ledger lists them, such as r2-3f9c2e1.", pt_BR="Use ids como no ledger, por exemplo r2-3f9c2e1."),
        )
    return release


def run(options: t.Mapping[str, t.Any], *, progress: Progress = silent, write: bool = True) -> dict[str, t.Any]:
    """The result of the module C(release) for its options. Raises LastroError."""
    root = Path(options["root"])
    removed = [release for release in options["remove"] if (root / "releases" / checked(release)).exists()]
    result: dict[str, t.Any] = {"changed": bool(removed), "files": 0, "wheels": 0, "removed": removed}
    before: dict[str, list[str]] = {"releases": removed}
    after: dict[str, list[str]] = {"releases": []}
    if write:
        remove(root, options["remove"])
    if options["release"]:
        archive, wheels = Path(options["archive"]), Path(options["wheels"])
        staging = Staging(root, checked(options["release"]), archive, options["sha256"], wheels, options["requirements"], options["python"])
        result["directory"] = str(staging.directory)
        if not is_complete(staging.directory):
            result["changed"] = True
            after = {"releases": [options["release"]]}
            if write:
                result |= stage(staging, progress=progress)
    return {**result, "diff": {"before": before, "after": after}}


__all__ = ("Staging", "check_archive", "checked", "remove", "run", "stage")
