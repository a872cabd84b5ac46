# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The artifact of a release, built once on the controller: a source tarball and the wheels it needs. PRIVATE to the collection."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import gzip
import hashlib
import os
import re
import shlex
import subprocess
import sys
import tarfile
import tempfile
import typing as t
import zlib
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from ._errors import LastroError, Text
from ._files import fsync_directory, writing

PIP = "pip==26.3"
"""The pip that hosts install with; it travels as a wheel, since a host may have none."""


@dataclasses.dataclass(frozen=True)
class Source:
    """Where a release comes from. *kind* is git (url, version: any tag, branch or commit) or archive (a .tar.gz at url)."""

    kind: str
    url: str
    version: str
    sha256: str = ""


@dataclasses.dataclass(frozen=True)
class Target:
    """The interpreter of the hosts: version "3.11" and pip's platform tags, newest first."""

    python: str
    platforms: tuple[str, ...] = ()


def digest(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def build_source(source: Source, build_dir: Path) -> Path:
    """The source tarball below *build_dir*; the same bytes for the same source every time. Raises LastroError."""
    with writing(build_dir):
        build_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = _local_archive(source) if source.kind == "archive" else _git_archive(source, build_dir)
    found = digest(path)
    if source.sha256 and found != source.sha256:
        raise LastroError(
            f"The artifact {path.name} has the SHA-256 {found[:12]}…, deploy_source.sha256 says {source.sha256[:12]}….",
            remedy=Text(
                en="Fetch the artifact again, or correct deploy_source.sha256 if you know that the new content is right.",
                pt_BR="Baixe o artefato de novo, ou corrija deploy_source.sha256 se você sabe que o novo conteúdo está certo.",
            ),
        )
    return path


def _local_archive(source: Source) -> Path:
    path = Path(source.url.removeprefix("file://")).expanduser().absolute()
    if not path.is_file():
        raise LastroError(
            f"The artifact {path} does not exist on the controller.",
            remedy=Text(en="Correct deploy_source.url: the path of a .tar.gz file.", pt_BR="Corrija deploy_source.url: o caminho de um arquivo .tar.gz."),
        )
    return path


def _git_archive(source: Source, build_dir: Path) -> Path:
    with tempfile.TemporaryDirectory(dir=build_dir) as scratch:
        repository = Path(scratch) / "repository"
        _git("init", "--quiet", "--bare", str(repository), source=source)
        url, helper = _without_credentials(source.url, Path(scratch) / "credentials")
        _git(*helper, "-C", str(repository), "fetch", "--quiet", "--depth=1", "--", url, source.version, source=source)
        commit = _git("-C", str(repository), "rev-parse", "FETCH_HEAD^{commit}", source=source).decode().strip()
        path = build_dir / f"source-{commit[:12]}.tar.gz"
        if path.exists():
            return path
        content = _git("-C", str(repository), "archive", "--format=tar", commit, source=source)
    part = path.with_suffix(f".{os.getpid()}.part")
    with part.open("wb") as raw:
        with gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0) as packed:
            packed.write(content)
        raw.flush()
        os.fsync(raw.fileno())
    part.replace(path)
    fsync_directory(build_dir)
    return path


def _without_credentials(url: str, file: Path) -> tuple[str, list[str]]:
    """The URL for git's command line and options that name *file*, which then holds user and password (argv is seen by all)."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or "@" not in parts.netloc:
        return url, []
    user, _at, host = parts.netloc.rpartition("@")
    known = user if ":" in user else f"{user}:"
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(f"{parts.scheme}://{known}@{host}\n")
    return urlunsplit(parts._replace(netloc=host)), ["-c", "credential.helper=", "-c", f"credential.helper=store --file={shlex.quote(str(file))}"]


def _git(*arguments: str, source: Source) -> bytes:
    # No prompt may wait for an answer that nobody gives, and a caller's repository is not ours.
    environment = {name: value for name, value in os.environ.items() if name not in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")}
    environment |= {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C.UTF-8"}
    try:
        # A backend knows no AnsibleModule, so there is no run_command here.
        finished = subprocess.run(  # pylint: disable=ansible-bad-function
            ["git", "-c", "protocol.file.allow=always", *arguments], env=environment, capture_output=True, stdin=subprocess.DEVNULL, check=False
        )
    except FileNotFoundError:
        raise LastroError("The controller has no git.", remedy=Text(en="Install git on the controller.", pt_BR="Instale o git no controlador.")) from None
    if finished.returncode == 0:
        return finished.stdout
    reason = _redact(finished.stderr.decode(errors="replace"))[:300]
    raise LastroError(
        f"git cannot fetch {source.version} of the repository in deploy_source.url: {reason}",
        remedy=Text(
            en="Check deploy_source.url, that deploy_version is a tag, branch or commit of it, and that the controller may read it.",
            pt_BR="Verifique deploy_source.url, se deploy_version é uma tag, branch ou commit dele, e se o controlador pode lê-lo.",
        ),
    )


def _redact(text: str) -> str:
    """*text* on one line, URLs in it without user and password."""
    return re.sub(r"://\S*@", "://", " ".join(text.split()))


def read_member(archive: Path, name: str) -> bytes:
    """The content of one file in the tarball; b"" where there is none. Raises LastroError where it is no tarball."""
    try:
        with tarfile.open(archive) as tar:
            for candidate in (name, f"./{name}"):
                try:
                    member = tar.extractfile(candidate)
                except KeyError:
                    continue
                if member:
                    return member.read()
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise LastroError(
            f"The artifact {archive.name} cannot be unpacked: {error}.",
            remedy=Text(
                en="Give deploy_source.url a whole .tar.gz file.",
                pt_BR="Indique um arquivo .tar.gz inteiro em deploy_source.url.",
            ),
        ) from None
    return b""


def read_list(path: str | None) -> bytes:
    """The content of a requirements or constraints file on this machine; b"" for none. Raises LastroError."""
    try:
        return Path(path).read_bytes() if path else b""
    except OSError as error:
        raise LastroError(
            f"{path} cannot be read: {error.strerror}.",
            remedy=Text(en="Name a file on the controller.", pt_BR="Indique um arquivo no controlador."),
        ) from error


def build_wheels(archive: Path, requirements: str, target: Target, build_dir: Path) -> Path:
    """One tar file with every wheel that *requirements* (a file in the tarball) needs on *target*, and pip's own.

    Built once for the same requirements and interpreter. Raises LastroError that names requirements without a fitting wheel.
    """
    wanted = read_member(archive, requirements)
    if not wanted:
        raise LastroError(
            f"The release has no {requirements}.",
            remedy=Text(
                en="Add it, with exact versions, or name the right file in deploy_requirements.",
                pt_BR="Adicione-o, com versões exatas, ou indique o arquivo certo em deploy_requirements.",
            ),
        )
    return collect_wheels(wanted, target, build_dir)


def collect_wheels(wanted: bytes, target: Target, build_dir: Path, constraints: bytes = b"") -> Path:
    """One tar file with every wheel that *wanted* (the text of a requirements file) needs on *target* within *constraints*, and pip's own.

    Hosts that ask at the same time wait for the one that builds. Raises LastroError that names requirements without a fitting wheel.
    """
    parts = [wanted, constraints, target.python.encode(), *(platform.encode() for platform in target.platforms), PIP.encode()]
    key = hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]
    path = build_dir / f"wheels-{key}.tar"
    with writing(build_dir):
        build_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _held(build_dir):
            if not path.exists():
                _pack_wheels(wanted, constraints, target, path)
    return path


@contextlib.contextmanager
def _held(directory: Path) -> t.Iterator[None]:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _pack_wheels(wanted: bytes, constraints: bytes, target: Target, path: Path) -> None:
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        listed = Path(scratch) / "requirements.txt"
        listed.write_bytes(wanted)
        limits = Path(scratch) / "constraints.txt"
        limits.write_bytes(constraints)
        wheels = Path(scratch) / "wheels"
        _download(["--requirement", str(listed), "--constraint", str(limits), PIP], target, wheels)
        part = path.with_suffix(f".{os.getpid()}.part")
        with part.open("wb") as raw:
            with tarfile.open(fileobj=raw, mode="w") as tar:
                for wheel in sorted(wheels.iterdir()):
                    tar.add(wheel, arcname=wheel.name, filter=_anonymous)
            raw.flush()
            os.fsync(raw.fileno())
        part.replace(path)
    fsync_directory(path.parent)


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """*member* without who made it and when, so that the same wheels give the same bytes."""
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = ""
    return member


def _download(wanted: list[str], target: Target, directory: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--only-binary=:all:", f"--dest={directory}"]
    if target.python != f"{sys.version_info.major}.{sys.version_info.minor}" or target.platforms:
        command += [
            f"--python-version={target.python}",
            "--implementation=cp",
            *(f"--platform={platform}" for platform in target.platforms or ("manylinux_2_28_x86_64", "manylinux2014_x86_64")),
        ]
    # A backend knows no AnsibleModule, so there is no run_command here.
    finished = subprocess.run(  # pylint: disable=ansible-bad-function
        [*command, *wanted], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )
    if finished.returncode == 0:
        return
    missing = sorted(set(re.findall(r"No matching distribution found for ([^\s(]+)", finished.stderr)))
    problem = (
        f"No wheel for Python {target.python} fits: {', '.join(missing)}."
        if missing
        else f"pip cannot download the wheels: {_redact(finished.stderr)[-300:] or f'exit status {finished.returncode}'}"
    )
    raise LastroError(
        problem,
        remedy=Text(
            en="Pin a version that has a wheel for the hosts' Python, or build the wheel and name its directory in PIP_FIND_LINKS on the controller.",
            pt_BR="Fixe uma versão que tenha wheel para o Python dos hosts, ou construa o wheel e indique o diretório em PIP_FIND_LINKS no controlador.",
        ),
        missing=missing,
    )


def release_id(version: str, sha256: str, parts: t.Iterable[str]) -> str:
    """The id of a release: its version and seven hex digits of everything that makes it (artifact, environment, processes)."""
    sealed = hashlib.sha256("\0".join([sha256, *parts]).encode()).hexdigest()
    return f"{re.sub(r'[^A-Za-z0-9._]+', '_', version)}-{sealed[:7]}"


__all__ = ("Source", "Target", "build_source", "build_wheels", "collect_wheels", "digest", "read_list", "read_member", "release_id")
