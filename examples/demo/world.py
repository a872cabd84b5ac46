# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo's world: its directory, its servers, its secrets; made anew each time and taken away without a trace."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import json
import os
import secrets
import shutil
import signal
import sys
import tempfile
import typing as t
from pathlib import Path

import psycopg2
import pyrage
from calendar_api.repository import build_repository
from psycopg2 import sql

from .caddy import Caddy
from .postgres import Postgres, bin_directory, free_port
from .process import Daemon, alive, environment, processes, wait_until
from .supervisor import Supervisor
from .valkey import Valkey

ROOT = Path(__file__).resolve().parents[2]
MARK = "LASTRO_DEMO"
"""Every process that a demo starts carries its directory in this variable, so that stopping ends those and no others."""
ROLE = "calendar"
USERS = 50_000


@dataclasses.dataclass(frozen=True)
class World:
    """A demo below *home*. *state* is what inventories/demo reads: addresses, ports and secrets, 0600."""

    home: Path

    @property
    def state_file(self) -> Path:
        """What stands in the way of nobody but us."""
        return self.home / "state.json"

    @property
    def state(self) -> dict[str, t.Any]:
        """The demo's facts. Raises OSError where no demo was made."""
        return t.cast(dict[str, t.Any], json.loads(self.state_file.read_text(encoding="utf-8")))

    @property
    def database_url(self) -> str:
        """The application's database, as its own role."""
        return str(self.state["database_url"])

    @property
    def environment(self) -> dict[str, str]:
        """What the demo's commands run with."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return {**os.environ, MARK: str(self.home), "PATH": path, "PYTHONPATH": str(ROOT / "examples"), "LASTRO_DEMO_STATE": str(self.state_file)}

    def create(self, make_postgres: t.Callable[[Path], Postgres] = Postgres.create) -> None:
        """Make directory, servers, database and repository. A demo that stands is taken away first.

        *make_postgres* gives a running server in a directory that is not there yet.
        """
        self.remove()
        self.home.mkdir(mode=0o700, parents=True)
        # Root runs PostgreSQL as nobody, who may not be able to reach this directory.
        base = Path(tempfile.mkdtemp(prefix="lastro-demo-")) if os.geteuid() == 0 else self.home
        self._save({"postgres_base": str(base)})
        if os.geteuid() == 0:
            base.chmod(0o755)
        postgres = make_postgres(base / "postgres")
        valkey = Valkey.create(self.home / "valkey")
        valkey.start()
        caddy = Caddy.create(self.home / "caddy")
        caddy.start()
        supervisor = Supervisor.create(self.home / "supervisor")
        supervisor.start()
        self._save({**self.state, **_facts(self.home, postgres, valkey, caddy, supervisor)})
        _create_database(postgres, self.state["database_password"])
        build_repository(self.home / "repository")
        self.provider.start((self.home / "provider" / "address").exists)
        address = (self.home / "provider" / "address").read_text(encoding="utf-8").strip()
        self._save({**self.state, "oauth_base_url": address})

    @property
    def provider(self) -> Daemon:
        """The local OAuth provider."""
        base = self.home / "provider"
        base.mkdir(mode=0o700, exist_ok=True)
        variables = {
            **environment(base),
            "PYTHONPATH": str(ROOT / "examples"),
            "GOOGLE_CLIENT_ID": self.state["google_client_id"],
            "GOOGLE_CLIENT_SECRET": self.state["google_client_secret"],
        }
        command = (sys.executable, "-m", "calendar_api.provider", "--ready-file", str(base / "address"))
        return Daemon(command, base / "provider.log", variables)

    def remove(self) -> None:
        """End every process and remove every file of the demo. Does nothing where there is none; works after a crash anywhere."""
        self._end_commands()
        if self.state_file.exists():
            state = self.state
            if "google_client_id" in state:
                self.provider.stop()
            for kind, name in ((Supervisor, "supervisor"), (Caddy, "caddy"), (Valkey, "valkey")):
                with contextlib.suppress(OSError):
                    kind.open(self.home / name).stop()
            base = Path(state["postgres_base"])
            _stop_postgres(base / "postgres")
            if base != self.home:
                shutil.rmtree(base, ignore_errors=True)
        if self.home.exists():
            shutil.rmtree(self.home)

    def _end_commands(self) -> None:
        found = [pid for pid in processes() if pid != os.getpid() and _carries(pid, f"{MARK}={self.home}")]
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not any(alive(pid) for pid in found), seconds=10, what="ending the demo's commands")

    def _save(self, state: dict[str, t.Any]) -> None:
        part = self.state_file.with_suffix(".part")
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            json.dump(state, stream, indent=1)
        part.replace(self.state_file)


def _facts(home: Path, postgres: Postgres, valkey: Valkey, caddy: Caddy, supervisor: Supervisor) -> dict[str, t.Any]:
    identity = pyrage.x25519.Identity.generate()
    password = secrets.token_urlsafe(18)
    public_port = free_port()
    return {
        "home": str(home),
        "root": str(ROOT),
        "url": f"http://127.0.0.1:{public_port}",
        "public_port": public_port,
        "loopback_port": free_port(),
        "postgres_port": postgres.port,
        "postgres_bin": str(bin_directory()),
        "admin_url": postgres.url(ROLE),
        "database_password": password,
        "database_url": postgres.url(ROLE, user=ROLE, password=password),
        "redis_url": valkey.url,
        "caddy": caddy.variables(),
        "supervisor": supervisor.variables(),
        "secret_key": secrets.token_urlsafe(32),
        "token_encryption_key": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        "google_client_id": f"{secrets.token_hex(8)}.apps.example.org",
        "google_client_secret": secrets.token_urlsafe(24),
        "backup_recipient": str(identity.to_public()),
        "backup_identity": str(identity),
    }


def _create_database(postgres: Postgres, password: str) -> None:
    connection = psycopg2.connect(postgres.url())
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            cursor.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(ROLE), sql.Literal(password)))
            cursor.execute(sql.SQL("CREATE DATABASE {0} OWNER {0} TEMPLATE template0").format(sql.Identifier(ROLE)))
    finally:
        connection.close()


def _stop_postgres(base: Path) -> None:
    if (base / "data" / "postmaster.pid").exists():
        with contextlib.suppress(RuntimeError):
            Postgres(base=base, port=0, password="").stop("immediate")


def _carries(pid: int, variable: str) -> bool:
    try:
        return variable.encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False


__all__ = ("MARK", "ROOT", "USERS", "World")
