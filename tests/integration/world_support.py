# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A demo world for tests: deploys with captured output, what clients and the database see, and a way back to an earlier moment."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
import signal
import subprocess
import sys
import threading
import typing as t
import urllib.error
import urllib.request
from pathlib import Path

import psycopg2
from demo import story
from demo.process import wait_until
from demo.world import ROLE, ROOT, World

from . import sql

PLAYBOOK = str(Path(sys.executable).parent / "ansible-playbook")
SNAPSHOT = "calendar_snapshot"


@dataclasses.dataclass(frozen=True)
class Command:
    """How a playbook ended and what it printed."""

    code: int
    output: str


def play(world: World, playbook: str, *arguments: str, **environment: str) -> Command:
    """Run a playbook on the demo's inventory and capture everything it prints."""
    command = [PLAYBOOK, playbook, "-i", "inventories/demo", *arguments]
    variables = {**world.environment, "ANSIBLE_FORCE_COLOR": "0", **environment}
    finished = subprocess.run(
        command, cwd=ROOT, env=variables, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    return Command(finished.returncode, finished.stdout)


def deploy(world: World, release: str, *arguments: str, **environment: str) -> Command:
    """Deploy a release."""
    return play(world, "deploy.yml", "-e", f"deploy_version={release}", *arguments, **environment)


def variables_file(world: World, values: dict[str, t.Any]) -> str:
    """Extra variables as an argument of ansible-playbook, in a file so that no secret is in argv."""
    path = world.home / "test-variables.json"
    path.write_text(json.dumps(values), encoding="utf-8")
    path.chmod(0o600)
    return f"@{path}"


def start_deploy(world: World, release: str, *arguments: str) -> subprocess.Popen[bytes]:
    """Start a deploy and leave it running; its output goes to a file in the world."""
    command = [PLAYBOOK, "deploy.yml", "-i", "inventories/demo", "-e", f"deploy_version={release}", *arguments]
    with (world.home / "deploy.log").open("ab") as log:
        return subprocess.Popen(command, cwd=ROOT, env=world.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def kill(process: subprocess.Popen[bytes]) -> None:
    """kill -9, and wait until it is gone. What it started on the host goes on, as after a real crash of the controller."""
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=30)


def journal(world: World, index: int = -1) -> list[dict[str, t.Any]]:
    """The records of a run, by default the newest."""
    path = story.journals(world)[index]
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def outcome(world: World) -> str:
    """The outcome of the newest run."""
    return story.newest_outcome(world)


def has_entered(world: World, phase: str, runs: int) -> bool:
    """Whether a run after the first *runs* has entered *phase*."""
    found = story.journals(world)
    if len(found) <= runs:
        return False
    return any(record["kind"] == "intent" and record.get("phase") == phase for record in journal(world))


def answer(world: World, path: str = "/health", *, method: str = "GET", body: object = None) -> tuple[int, str, str]:
    """(status, X-Release, body) of a request through the proxy; status 0 where there is no answer."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(world.state["url"] + path, method=method, data=data, headers={"Content-Type": "application/json"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=10) as reply:
            return reply.status, reply.headers.get("X-Release", ""), reply.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers.get("X-Release", ""), error.read().decode()
    except (urllib.error.URLError, ConnectionError):
        return 0, "", ""


def rows(world: World, query: str, *values: object, superuser: bool = False) -> list[tuple[t.Any, ...]]:
    """What a query finds in the application's database."""
    connection = psycopg2.connect(world.state["admin_url"] if superuser else world.database_url)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(query, values)
            return cursor.fetchall()
    finally:
        connection.close()


def revision(world: World) -> list[str]:
    """The database's Alembic revisions."""
    return [row[0] for row in rows(world, "SELECT version_num FROM alembic_version ORDER BY 1")]


def restored_databases(world: World) -> list[str]:
    """The databases that restores have made or kept."""
    # The application's own database may be closed meanwhile.
    found = sql.rows(server_url(world), f"SELECT datname FROM pg_database WHERE datname ~ '^{ROLE}_(restored|failed)_' ORDER BY 1")
    return [name for (name,) in found]


def server_url(world: World, database: str = "postgres") -> str:
    """URL of the superuser in another *database* than the application's."""
    return f"{str(world.state['admin_url']).rpartition('/')[0]}/{database}"


class Snapshot:
    """The world at one moment: database, state directory and supervised programs; releases on disk stay as they are."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.kept = world.home / "snapshot"
        self._stop()
        self._database(f"CREATE DATABASE {SNAPSHOT} TEMPLATE {ROLE} OWNER {ROLE}")
        for directory in self._directories():
            shutil.copytree(directory, self.kept / directory.name, symlinks=True)
        self._start()

    def restore(self) -> None:
        """Bring that moment back and wait until the application answers."""
        self._stop()
        gone = [ROLE, *restored_databases(self.world)]
        self._database(*(f'DROP DATABASE "{name}" WITH (FORCE)' for name in gone), f"CREATE DATABASE {ROLE} TEMPLATE {SNAPSHOT} OWNER {ROLE}")
        for directory in self._directories():
            shutil.rmtree(directory)
            shutil.copytree(self.kept / directory.name, directory, symlinks=True)
        self._start()

    def _directories(self) -> list[Path]:
        return [self.world.home / "state", Path(self.world.state["supervisor"]["config_dir"])]

    def _control(self, *arguments: str) -> None:
        subprocess.run([*self.world.state["supervisor"]["ctl"], *arguments], capture_output=True, check=False)

    def _stop(self) -> None:
        self._control("stop", "all")

    def _start(self) -> None:
        self._control("update")
        self._control("start", "all")
        wait_until(lambda: answer(self.world)[0] == 200, seconds=60, what="the application answers")

    def _database(self, *statements: str) -> None:
        ended = f"SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE datname IN ('{ROLE}', '{SNAPSHOT}')"
        sql.execute(server_url(self.world), ended, *statements)


@dataclasses.dataclass(frozen=True)
class Live:
    """A world in which r1 serves, and the way back to that moment."""

    world: World
    snapshot: Snapshot


class ArgumentWatch:
    """Collects the command lines of every process while it runs: what `ps` would have shown."""

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> ArgumentWatch:
        self._thread.start()
        return self

    def __exit__(self, *_details: object) -> None:
        self._end.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._end.wait(0.05):
            for entry in Path("/proc").iterdir():
                if entry.name.isdecimal():
                    with contextlib.suppress(OSError):
                        self.seen.add((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))


def files_below(*directories: Path) -> list[Path]:
    """Every regular file below the directories."""
    return [path for directory in directories for path in sorted(directory.rglob("*")) if path.is_file()]


__all__ = (
    "PLAYBOOK",
    "ROOT",
    "ArgumentWatch",
    "Command",
    "Live",
    "Snapshot",
    "answer",
    "deploy",
    "files_below",
    "has_entered",
    "journal",
    "kill",
    "outcome",
    "play",
    "revision",
    "rows",
    "start_deploy",
    "variables_file",
)
