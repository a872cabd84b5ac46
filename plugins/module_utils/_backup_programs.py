# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The client programs of PostgreSQL: which ones fit the server, and how one runs as a child of ours.

PRIVATE to the collection: may change at any time.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
import re
import signal
import subprocess
import tempfile
import typing as t
from pathlib import Path

from ._errors import LastroError, Text

PROGRAMS = ("pg_dump", "pg_restore")
PACKAGED = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin")
_VERSION = re.compile(r"\(PostgreSQL\) (\d+(?:\.\d+)*\w*)")
_SECONDS_FOR_VERSION = 20
# pg_dump writes and pg_restore reads 4 KiB at a time: the more a pipe holds, the less each waits for the other. Linux allows anybody 1 MiB.
_PIPE = 1 << 20
_STDERR_LIMIT = 64 * 1024
# Lines in which the server or the program repeats values of rows or whole statements.
_WITH_VALUES = re.compile(r"^\s*(?:DETAIL|CONTEXT|Command was|STATEMENT|LINE \d+|HINT)\b", re.IGNORECASE)
_VALUE = re.compile(r'(: )"[^"]*"$')


@dataclasses.dataclass(frozen=True)
class Client:
    """A directory with pg_dump and pg_restore of one *version*, for example 18.6."""

    directory: Path
    version: str

    @property
    def major(self) -> int:
        """The number that must not be below the server's."""
        return major(self.version)

    def program(self, name: str) -> str:
        """Full path of a program."""
        return str(self.directory / name)


def major(version: str) -> int:
    """18 for 18.6 or 18beta1."""
    match = re.match(r"\d+", version)
    return int(match.group()) if match else 0


def directories(bin_dir: str | None) -> list[Path]:
    """Where clients may be: *bin_dir* alone where it is given, else where packages put them, then PATH."""
    if bin_dir:
        return [Path(bin_dir)]
    packaged = [path for pattern in PACKAGED for path in sorted(Path("/").glob(pattern.lstrip("/")))]
    return packaged + [Path(entry) for entry in os.environ.get("PATH", "").split(os.pathsep) if entry]


def installed_clients(bin_dir: str | None) -> list[Client]:
    """The clients that are there, each version asked of the program itself. Debian's wrapper, which chooses for itself, is none."""
    found: list[Client] = []
    for directory in directories(bin_dir):
        if all(os.access(directory / name, os.X_OK) and (directory / name).resolve().name == name for name in PROGRAMS):
            version = version_of(directory / "pg_dump")
            if version and not any(client.directory == directory for client in found):
                found.append(Client(directory, version))
    return found


def version_of(program: Path) -> str:
    """What the program says of itself, for example 18.6; an empty text where it does not work."""
    try:
        # A backend knows no AnsibleModule, so there is no run_command here.
        finished = subprocess.run(  # pylint: disable=ansible-bad-function
            [str(program), "--version"], capture_output=True, text=True, timeout=_SECONDS_FOR_VERSION, check=False, env={**os.environ, "LC_ALL": "C"}
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    match = _VERSION.search(finished.stdout)
    return match.group(1) if match and finished.returncode == 0 else ""


def choose(clients: t.Sequence[Client], wanted: int) -> Client | None:
    """The client with the lowest major that is at least *wanted*; the first of equals."""
    return min((client for client in clients if client.major >= wanted), key=lambda client: client.major, default=None)


def find_client(server_version: str, bin_dir: str | None = None, *, at_least: int = 0) -> Client:
    """A client for this server. Raises LastroError that names what was found and what to install."""
    wanted = max(major(server_version), at_least)
    clients = installed_clients(bin_dir)
    client = choose(clients, wanted)
    if client:
        return client
    remedy = Text(
        en=f"Install postgresql-client-{wanted} (Debian, Ubuntu) or postgresql{wanted} (Red Hat) on this host, or name its directory in bin_dir.",
        pt_BR=f"Instale postgresql-client-{wanted} (Debian, Ubuntu) ou postgresql{wanted} (Red Hat) neste host, ou indique o diretório dele em bin_dir.",
    )
    where = bin_dir or ", ".join(PACKAGED) + " or PATH"
    if not clients:
        raise LastroError(f"No pg_dump with its pg_restore was found in {where}; the server is {server_version}.", remedy=remedy, server_version=server_version)
    newest = max(clients, key=lambda one: one.major)
    raise LastroError(
        f"pg_dump {newest.version} in {newest.directory} is older than the server {server_version}"
        + (f" or than the pg_dump {at_least} that made the backup" if at_least > major(server_version) else "")
        + ": it would refuse.",
        remedy=remedy,
        server_version=server_version,
        client_version=newest.version,
    )


@dataclasses.dataclass
class Program:
    """A running child and where its error output goes."""

    name: str
    process: subprocess.Popen[bytes]
    errors: t.IO[bytes]

    @property
    def source(self) -> t.IO[bytes]:
        """Its standard output."""
        if self.process.stdout is None:
            raise ValueError("started without an output pipe")
        return self.process.stdout

    @property
    def sink(self) -> t.IO[bytes]:
        """Its standard input."""
        if self.process.stdin is None:
            raise ValueError("started without an input pipe")
        return self.process.stdin

    def wait(self) -> int:
        """End its input, wait for it, and return its exit status (negative: the signal that ended it)."""
        if self.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()
        return self.process.wait()

    def complaint(self) -> str:
        """What it said on standard error, without values of rows, on one line; what happened to it where it said nothing."""
        self.errors.seek(0)
        text = self.errors.read(_STDERR_LIMIT).decode("utf-8", errors="replace")
        status = self.process.poll()
        if status is not None and status < 0:
            return f"ended by signal {-status} ({signal.Signals(-status).name})"
        return without_values(text) or f"exit status {status}"


def without_values(text: str) -> str:
    """Error output on one line, without the lines and quotations that may repeat values of rows."""
    lines = [_VALUE.sub(r'\1"..."', line.strip()) for line in text.splitlines() if line.strip() and not _WITH_VALUES.match(line)]
    lines = [line for line in lines if "warning: errors ignored" not in line]
    errors = [line for line in lines if "error:" in line.lower()] or lines
    return " ".join(errors[:3])[:1000]


@contextlib.contextmanager
def running(
    name: str,
    command: t.Sequence[str],
    environment: t.Mapping[str, str],
    *,
    reads: bool = False,
    writes: bool = False,
    output: t.IO[bytes] | None = None,
) -> t.Iterator[Program]:
    """The child *command*, with a pipe to its input (*reads*) or from its output (*writes*), which may go to the file *output* instead.

    Killed and reaped at the end if it still runs.
    """
    with tempfile.TemporaryFile() as errors:
        # A backend knows no AnsibleModule, so there is no run_command here.
        process = subprocess.Popen(  # pylint: disable=ansible-bad-function
            list(command),
            stdin=subprocess.PIPE if reads else subprocess.DEVNULL,
            stdout=subprocess.PIPE if writes else output or subprocess.DEVNULL,
            stderr=errors,
            env={**environment, "LC_ALL": "C"},
        )
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):  # a system that allows less keeps its own size
                    fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE)
        try:
            yield Program(name, process, errors)
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
    process.wait()


__all__ = ("Client", "Program", "choose", "directories", "find_client", "installed_clients", "major", "running", "without_values")
