# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A release on a host: its directory with the files of the artifact and its own virtual environment. PRIVATE to the collection."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import tarfile
import typing as t
from pathlib import Path

from ._artifact import digest
from ._errors import LastroError, Text
from ._files import fsync_directory
from ._progress import Progress, silent

UNFINISHED = ".lastro-unfinished"


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


def is_complete(directory: Path) -> bool:
    """Whether a release was staged to its end."""
    return directory.is_dir() and not (directory / UNFINISHED).exists()


def stage(staging: Staging, *, progress: Progress = silent) -> dict[str, int]:
    """Put the release in place; {files, wheels}. What a crash left unfinished is made anew. Raises LastroError."""
    check_archive(staging)
    directory = staging.directory
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(mode=0o755, parents=True)
    (directory / UNFINISHED).touch()
    progress(0, 3, "steps")
    with tarfile.open(staging.archive) as tar:
        tar.extractall(directory, filter="data")
        files = len(tar.getmembers())
    progress(1, 3, "steps")
    wheels = _install(staging)
    progress(3, 3, "steps")
    os.sync()
    (directory / UNFINISHED).unlink()
    fsync_directory(directory)
    return {"files": files, "wheels": wheels}


def check_archive(staging: Staging) -> None:
    """Raises LastroError where the archive on this host is not the one that the controller built."""
    found = digest(staging.archive)
    if found != staging.sha256:
        raise LastroError(
            f"The artifact on this host has the SHA-256 {found[:12]}…, {staging.sha256[:12]}… was built.",
            remedy=Text(
                en=f"Remove {staging.archive} on the host and run the command again.", pt_BR=f"Remova {staging.archive} no host e execute o comando de novo."
            ),
        )


def _install(staging: Staging) -> int:
    venv = staging.directory / "venv"
    _run([staging.python, "-m", "venv", "--without-pip", str(venv)], "create the virtual environment")
    unpacked = staging.root / "wheels" / staging.wheels.stem
    shutil.rmtree(unpacked, ignore_errors=True)
    with tarfile.open(staging.wheels) as tar:
        tar.extractall(unpacked, filter="data")
    pip = next(unpacked.glob("pip-*.whl"))
    _run(
        [
            str(venv / "bin" / "python"),
            str(pip / "pip"),
            "install",
            "--quiet",
            "--no-index",
            "--disable-pip-version-check",
            f"--find-links={unpacked}",
            f"--requirement={staging.directory / staging.requirements}",
        ],
        "install the wheels",
    )
    count = len(list(unpacked.iterdir()))
    shutil.rmtree(unpacked)
    return count


def _run(command: list[str], what: str) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON", "VIRTUAL_ENV", "__PYVENV"))}
    try:
        finished = subprocess.run(command, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
        reason = "" if finished.returncode == 0 else " ".join(finished.stderr.split())[-300:]
    except OSError as error:
        reason = str(error)
    if reason:
        raise LastroError(
            f"This host cannot {what}: {reason}",
            remedy=Text(
                en="Check deploy_python (an interpreter with the module venv) and the free space below deploy_root on the host.",
                pt_BR="Verifique deploy_python (um interpretador com o módulo venv) e o espaço livre em deploy_root no host.",
            ),
        )


def remove(root: Path, releases: t.Iterable[str]) -> list[str]:
    """Remove releases with their environment files; the ids that were there."""
    removed = []
    for release in releases:
        directory = root / "releases" / release
        if directory.exists():
            shutil.rmtree(directory)
            removed.append(release)
        (root / "env" / f"{release}.env").unlink(missing_ok=True)
    return removed


def run(options: t.Mapping[str, t.Any], *, progress: Progress = silent, write: bool = True) -> dict[str, t.Any]:
    """The result of the module C(release) for its options. Raises LastroError."""
    root = Path(options["root"])
    removed = [release for release in options["remove"] if (root / "releases" / release).exists()]
    result: dict[str, t.Any] = {"changed": bool(removed), "files": 0, "wheels": 0, "removed": removed}
    before: dict[str, list[str]] = {"releases": removed}
    after: dict[str, list[str]] = {"releases": []}
    if write:
        remove(root, options["remove"])
    if options["release"]:
        archive, wheels = Path(options["archive"]), Path(options["wheels"])
        staging = Staging(root, options["release"], archive, options["sha256"], wheels, options["requirements"], options["python"])
        result["directory"] = str(staging.directory)
        if not is_complete(staging.directory):
            result["changed"] = True
            after = {"releases": [options["release"]]}
            if write:
                result |= stage(staging, progress=progress)
    return {**result, "diff": {"before": before, "after": after}}


__all__ = ("Staging", "check_archive", "is_complete", "remove", "run", "stage")
