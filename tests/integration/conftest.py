# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures of the role tests: a directory for servers, and a runner that plays a role's task files with ansible-playbook."""

from __future__ import annotations

import collections.abc
import dataclasses
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import typing as t
from pathlib import Path

import pytest
from demo.postgres import Postgres
from demo.world import World

from ..fleet.__main__ import KINDS
from ..fleet.support import Snapshot as FleetSnapshot
from ..fleet.support import deploy as fleet_deploy
from ..fleet.support import play as fleet_play
from ..fleet.world import FleetWorld
from ..hosts.fleet import Fleet
from .key_table import Keys, empty_table, fresh_database
from .token_table import Credentials, ModuleRun
from .world_support import Live, Snapshot, deploy

ROOT = Path(__file__).parents[2]


@dataclasses.dataclass(frozen=True)
class Played:
    """What a playbook did: *facts* are those that were asked for, undefined ones left out."""

    code: int
    output: str
    changed: int
    facts: dict[str, t.Any]


@dataclasses.dataclass(frozen=True)
class Player:
    """Plays tasks on this machine with *variables*, as one play of ansible-playbook."""

    directory: Path
    variables: dict[str, t.Any]

    def __call__(self, *tasks: dict[str, t.Any], facts: t.Sequence[str] = (), options: t.Sequence[str] = (), fails: bool = False) -> Played:
        name = secrets.token_hex(4)
        answer = self.directory / f"{name}.facts"
        # A play's "vars:" would hide what its tasks set.
        inventory = {"all": {"hosts": {"app1": {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, **self.variables}}}}
        content = "{% set found = {} %}" + "".join(
            f"{{% if {fact} is defined %}}{{% set _ = found.update({{'{fact}': {fact}}}) %}}{{% endif %}}" for fact in facts
        )
        keep = {"ansible.builtin.copy": {"content": content + "{{ found | to_json }}", "dest": str(answer)}, "changed_when": False, "check_mode": False}
        play = [{"hosts": "app1", "gather_facts": False, "tasks": [*tasks, keep]}]
        for suffix, document in (("inventory.yml", inventory), ("play.yml", play)):
            (self.directory / f"{name}.{suffix}").write_text(json.dumps(document), encoding="utf-8")
        command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", f"{name}.inventory.yml", f"{name}.play.yml", *options]
        environment = {
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"),
            "ANSIBLE_STDOUT_CALLBACK": "default",
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_PIPELINING": "1",
            "ANSIBLE_LOCAL_TEMP": str(self.directory / "local"),
            "ANSIBLE_REMOTE_TEMP": str(self.directory / "remote"),
        }
        finished = subprocess.run(command, cwd=self.directory, env=environment, capture_output=True, text=True, check=False)
        output = finished.stdout + finished.stderr
        assert (finished.returncode != 0) is fails, output
        changed = re.search(r"changed=(\d+)", finished.stdout)
        found = json.loads(answer.read_text(encoding="utf-8")) if answer.exists() else {}
        return Played(finished.returncode, output, int(changed[1]) if changed else 0, found)


def role(name: str, tasks_from: str, loop: list[str] | None = None, **variables: object) -> dict[str, t.Any]:
    """A task that includes a role of the collection."""
    task = {"ansible.builtin.include_role": {"name": f"lastro.deploy.{name}", "tasks_from": tasks_from}, "vars": variables}
    return task if loop is None else {**task, "loop": loop}


@pytest.fixture(scope="session")
def servers() -> collections.abc.Iterator[World]:
    """The demo's servers, on which nothing was deployed yet."""
    world = World(Path(tempfile.mkdtemp(prefix="lastro-test-")) / "demo")
    try:
        world.create()
        yield world
    finally:
        world.remove()
        shutil.rmtree(world.home.parent)


@pytest.fixture(scope="session")
def live(servers: World) -> Live:
    """r1 deployed with its users, and the way back to this moment."""
    first = deploy(servers, "r1", LASTRO_WATCH="5s")
    assert first.code == 0, first.output
    return Live(servers, Snapshot(servers))


@pytest.fixture(scope="module")
def base() -> collections.abc.Iterator[Path]:
    """A directory for the servers of one test file, removed afterwards."""
    directory = Path(tempfile.mkdtemp(prefix="lastro-test-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture(scope="session")
def include_role() -> collections.abc.Callable[..., dict[str, t.Any]]:
    """``role``, for test files that cannot import this one."""
    return role


@pytest.fixture(scope="module")
def player(base: Path) -> collections.abc.Callable[[dict[str, t.Any]], Player]:
    """Makes a ``Player`` for variables."""
    (base / "plays").mkdir(mode=0o700)
    return lambda variables: Player(base / "plays", variables)


@pytest.fixture(scope="module")
def key_database(postgres: Postgres) -> collections.abc.Iterator[str]:
    """URL of a database for the API keys of one test file."""
    with fresh_database(postgres) as url:
        yield url


@pytest.fixture
def keys(key_database: str, tmp_path: Path) -> Keys:
    """A new table of API keys, and an empty directory for the file of one."""
    return empty_table(key_database, tmp_path)


@pytest.fixture
def credentials(database: str) -> collections.abc.Iterator[Credentials]:
    """A table of tokens, with a connection that looks at it from outside."""
    table = Credentials(database)
    yield table
    table.connection.close()


@pytest.fixture
def run(database: str, capsys: pytest.CaptureFixture[str]) -> ModuleRun:
    """The modules of token encryption, on that table."""
    return ModuleRun(database, capsys)


@pytest.fixture
def clusters() -> collections.abc.Iterator[Path]:
    """Where throw-away clusters are made: their account reaches it."""
    directory = Path(tempfile.mkdtemp(prefix="lastro-test-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture(scope="session")
def fleet_world() -> collections.abc.Iterator[FleetWorld]:
    """Real hosts on which r1 serves."""
    directory = Path(tempfile.mkdtemp(prefix="lastro-f-"))
    fleet = Fleet(directory / "hosts")
    fleet.up(KINDS)
    try:
        one = FleetWorld.create(directory / "prod", fleet)
        for command in (fleet_play(one, "lastro.deploy.tool_environment"), fleet_deploy(one, "r1")):
            assert command.code == 0, command.output
        yield one
    finally:
        fleet.down()
        shutil.rmtree(directory)


@pytest.fixture(scope="session")
def fleet_moment(fleet_world: FleetWorld) -> FleetSnapshot:
    """The way back to r1."""
    return FleetSnapshot.take(fleet_world)
