# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A release on a host: its directory with the files of the artifact, and its virtual environment. PRIVATE to the collection."""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import hashlib
import os
import re
import shutil
import subprocess
import tarfile
import typing as t
import zlib
from pathlib import Path

from ._artifact import digest
from ._errors import LastroError, Text
from ._files import fsync_directory, writing
from ._progress import Progress, silent

UNFINISHED = ".lastro-unfinished"
WHEELS = ".lastro-wheels"
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
        interpreter = hashlib.sha256(self.python.encode()).hexdigest()[:8]
        return self.root / ENVIRONMENTS / f"{self.wheels.stem}-{interpreter}"


def is_complete(directory: Path) -> bool:
    """Whether a release was staged to its end."""
    return directory.is_dir() and not (directory / UNFINISHED).exists()


def stage(staging: Staging, *, progress: Progress = silent) -> dict[str, int]:
    """Put the release in place; {files, wheels}. What a crash left unfinished is made anew. Raises LastroError."""
    check_archive(staging)
    directory = staging.directory
    with writing(directory):
        _discard(directory)
        _begin(directory)
        progress(0, 3, "steps")
        with _open_tar(staging.archive) as tar:
            tar.extractall(directory, filter="data")
            files = len(tar.getmembers())
        progress(1, 3, "steps")
        wheels = 0 if is_complete(staging.environment) else _install(staging)
        (directory / "venv").symlink_to(os.path.relpath(staging.environment, directory))
        progress(3, 3, "steps")
        os.sync()
        (directory / UNFINISHED).unlink()
        fsync_directory(directory)
    return {"files": files, "wheels": wheels}


def _begin(directory: Path) -> None:
    """Make the directory so that it is marked as unfinished from its first moment, also after a power cut."""
    fresh = _hidden(directory, "new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(mode=0o755, parents=True)
    (fresh / UNFINISHED).touch()
    fsync_directory(fresh)
    fresh.rename(directory)
    fsync_directory(directory.parent)


def _discard(directory: Path) -> bool:
    """Remove a release; killed in the middle it is gone all the same, never half there. False where there was none."""
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


@contextlib.contextmanager
def _open_tar(path: Path) -> t.Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(path) as tar:
            yield tar
    except (FileNotFoundError, EOFError, tarfile.TarError, zlib.error, gzip.BadGzipFile) as error:
        raise LastroError(
            f"{path.name} cannot be unpacked: {error}.",
            remedy=Text(
                en="Build a whole .tar.gz without links that lead out of it, and run the command again.",
                pt_BR="Gere um .tar.gz inteiro, sem links que levem para fora dele, e execute o comando de novo.",
            ),
        ) from None


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


def _install(staging: Staging) -> int:
    venv = staging.environment
    _discard(venv)
    _begin(venv)
    _run([staging.python, "-m", "venv", "--without-pip", str(venv)], "create the virtual environment")
    unpacked = staging.directory / WHEELS
    with _open_tar(staging.wheels) as tar:
        tar.extractall(unpacked, filter="data")
    pip = next(unpacked.glob("pip-*.whl"), unpacked / "pip.whl")
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
    os.sync()
    (venv / UNFINISHED).unlink()
    fsync_directory(venv)
    return count


def _run(command: list[str], what: str) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON", "VIRTUAL_ENV", "__PYVENV"))}
    environment["PIP_CONFIG_FILE"] = os.devnull  # this host's own indexes and constraints are not the release's
    try:
        # A backend knows no AnsibleModule, so there is no run_command here.
        finished = subprocess.run(  # pylint: disable=ansible-bad-function
            command, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
        )
        reason = "" if finished.returncode == 0 else " ".join(finished.stderr.split())[-300:] or f"exit status {finished.returncode}"
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
    """Remove releases with their environment files; the ids that were there. Raises LastroError."""
    removed = []
    for release in releases:
        directory = root / "releases" / checked(release)
        with writing(directory):
            if _discard(directory):
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
                _discard(environment)


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


__all__ = ("Staging", "check_archive", "checked", "is_complete", "remove", "run", "stage")
