# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fleet world for tests: deploys with captured output, what clients and the database see, and a way back to an earlier moment."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import http.client
import json
import socket
import ssl
import subprocess
import sys
import threading
import typing as t
from pathlib import Path

import psycopg2
from demo import traffic
from demo.process import wait_until

from ..integration.world_support import Command
from .world import ROOT, FleetWorld

BIN = Path(sys.executable).parent
INVENTORY = "inventories/fleet"
STATE = "/var/lib/lastro/calendar-api"
SNAPSHOT = "calendar_snapshot"
UNITS = "calendar-api-*"


def play(world: FleetWorld, playbook: str, *arguments: str, python: Path = BIN, **environment: str) -> Command:
    """Run a playbook on the fleet's inventory and capture everything it prints; *python* is the bin directory of the controller's environment."""
    command = [str(python / "ansible-playbook"), playbook, "-i", INVENTORY, *arguments]
    variables = {**world.environment, "ANSIBLE_FORCE_COLOR": "0", **environment}
    finished = subprocess.run(
        command, cwd=ROOT, env=variables, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    return Command(finished.returncode, finished.stdout)


def deploy(world: FleetWorld, release: str, *arguments: str, python: Path = BIN, **environment: str) -> Command:
    """Deploy a release."""
    return play(world, "deploy.yml", "-e", f"deploy_version={release}", *arguments, python=python, **environment)


def start_deploy(world: FleetWorld, release: str, *arguments: str) -> subprocess.Popen[bytes]:
    """Start a deploy and leave it running; its output goes to deploy.log in the world."""
    command = [str(BIN / "ansible-playbook"), "deploy.yml", "-i", INVENTORY, "-e", f"deploy_version={release}", *arguments]
    with (world.home / "deploy.log").open("ab") as log:
        return subprocess.Popen(command, cwd=ROOT, env=world.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def runs(world: FleetWorld) -> list[str]:
    """The ids of all runs, oldest first."""
    return [Path(name).stem for name in world.primary.sh(f"ls {STATE}/runs/*.jsonl 2>/dev/null || :").split()]


def journal(world: FleetWorld, index: int = -1) -> list[dict[str, t.Any]]:
    """The records of a run, by default the newest."""
    return [json.loads(line) for line in world.primary.run("cat", f"{STATE}/runs/{runs(world)[index]}.jsonl").splitlines()]


def outcome(world: FleetWorld) -> str:
    """The outcome of the newest run; "" where it has none."""
    return next((str(record["outcome"]) for record in reversed(journal(world)) if record["kind"] == "outcome"), "") if runs(world) else ""


def has_entered(world: FleetWorld, phase: str, before: int) -> bool:
    """Whether a run after the first *before* has entered *phase*."""
    return len(runs(world)) > before and any(record["kind"] == "intent" and record.get("phase") == phase for record in journal(world))


class _Connection(http.client.HTTPSConnection):
    """HTTPS to an address, with a name that only the hosts can resolve."""

    def __init__(self, world: FleetWorld) -> None:
        super().__init__(world.state["name"], timeout=10)
        self.address = world.proxy.address
        self.trusted = context(world)

    def connect(self) -> None:
        self.sock = self.trusted.wrap_socket(socket.create_connection((self.address, 443), timeout=self.timeout), server_hostname=self.host)


def context(world: FleetWorld) -> ssl.SSLContext:
    """Whom clients of this world trust: the tests' authority alone."""
    return ssl.create_default_context(cafile=str(world.ca_file))


def answer(world: FleetWorld, path: str = "/health", *, method: str = "GET", body: object = None) -> tuple[int, str, str]:
    """(status, X-Release, body) of a request through the proxy; status 0 where there is no answer."""
    data = None if body is None else json.dumps(body).encode()
    with contextlib.closing(_Connection(world)) as connection:
        try:
            connection.request(method, path, body=data, headers={"Content-Type": "application/json"})
            reply = connection.getresponse()
            return reply.status, reply.headers.get("X-Release", ""), reply.read().decode()
        except (OSError, http.client.HTTPException):
            return 0, "", ""


def rows(world: FleetWorld, query: str, *values: object) -> list[tuple[t.Any, ...]]:
    """What a query finds in the application's database."""
    connection = psycopg2.connect(world.state["controller_database_url"])
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(query, values)
            return cursor.fetchall()
    finally:
        connection.close()


def revision(world: FleetWorld) -> list[str]:
    """The database's Alembic revisions."""
    return [row[0] for row in rows(world, "SELECT version_num FROM alembic_version ORDER BY 1")]


class Traffic:
    """Constant requests over HTTPS, half of them on kept connections, until the block ends; *records* has what each got."""

    def __init__(self, world: FleetWorld, *, rate: float = 100.0) -> None:
        settings = {"tls": context(world), "name": world.state["name"], "rate": rate, "users": world.state["users"]}
        self.records: list[traffic.Record] = []
        self._client = traffic.Client(traffic.Settings(host=world.proxy.address, port=443, **settings), self.records.append)
        self._end = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._client.run(self._end.is_set)))

    def __enter__(self) -> Traffic:
        self._thread.start()
        return self

    def __exit__(self, *_details: object) -> None:
        self._end.set()
        self._thread.join()


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """The world at one moment: database, state directories, units; releases on disk stay as they are. ``take`` makes one, there is one at a time."""

    world: FleetWorld

    @classmethod
    def take(cls, world: FleetWorld) -> Snapshot:
        """Keep this moment."""
        snapshot = cls(world)
        snapshot._each(f"systemctl stop '{UNITS}'")
        snapshot._database(f"DROP DATABASE IF EXISTS {SNAPSHOT}", f"CREATE DATABASE {SNAPSHOT} TEMPLATE calendar OWNER calendar")
        snapshot._each(
            "mkdir -p /root/snapshot/units; cd /root/snapshot; rm -rf state units/*; cp -a /var/lib/lastro state 2>/dev/null || :; "
            f"cp -a /etc/systemd/system/{UNITS} units 2>/dev/null || :"
        )
        snapshot._start()
        return snapshot

    def restore(self) -> None:
        """Bring that moment back and wait until the application answers."""
        self._each(f"systemctl stop '{UNITS}' 'lastro-*' || :; systemctl reset-failed '{UNITS}' 2>/dev/null || :")
        self._database("DROP DATABASE IF EXISTS calendar WITH (FORCE)", f"CREATE DATABASE calendar TEMPLATE {SNAPSHOT} OWNER calendar")
        self._each(
            f"rm -rf /etc/systemd/system/{UNITS} /var/lib/lastro; cp -a /root/snapshot/state /var/lib/lastro 2>/dev/null || :; "
            f"cp -a /root/snapshot/units/. /etc/systemd/system/; systemctl daemon-reload"
        )
        self._start()

    def _each(self, script: str) -> None:
        for host in self.world.hosts():
            host.sh(script)

    def _start(self) -> None:
        for host in self.world.hosts("app"):
            host.sh("cd /root/snapshot/units; for unit in *.service; do [ ! -f $unit ] || systemctl enable --now $unit; done")
        wait_until(lambda: answer(self.world)[0] == 200, seconds=60, what="the application answers")

    def _database(self, *statements: str) -> None:
        ended = "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE datname IN ('calendar', 'calendar_snapshot');"
        self.world.primary.run("su", "postgres", "-c", "psql -q -v ON_ERROR_STOP=1", stdin="\n".join([ended, *(f"{one};" for one in statements)]) + "\n")


__all__ = (
    "Snapshot",
    "Traffic",
    "answer",
    "context",
    "deploy",
    "has_entered",
    "journal",
    "outcome",
    "play",
    "revision",
    "rows",
    "runs",
    "start_deploy",
)
