# SPDX-License-Identifier: GPL-3.0-or-later
"""alembic when something dies under it: controller, module, its child, the backend, the server; inside a revision, inside a concurrent build, between two."""

from __future__ import annotations

import collections.abc
import contextlib
import functools
import itertools
import json
import os
import signal
import subprocess
import sys
import time
import typing as t
from pathlib import Path

import psycopg2
import pytest
from demo.postgres import Postgres

from ..conftest import FULL
from .alembic_project import CONCURRENT, App, Modules, running, sessions
from .alembic_server import fresh
from .module_process import finished, until

ROOT = Path(__file__).parents[2]
VICTIMS = ("controller", "module", "child", "backend", "server")
# What the contract says, and what is asked of cores that others load, too; nothing else would release the locks before.
RELEASE_SECONDS = 2.0 if FULL else 10.0
SLOW = 'op.execute("DO $$ BEGIN WHILE EXISTS (SELECT FROM slow) LOOP PERFORM pg_sleep(0.02); END LOOP; END $$")'
LOGGED = "op.execute(\"INSERT INTO log VALUES ('{name}')\"); "
GATE = "import pathlib, threading\n    while not op.get_context().as_sql and pathlib.Path({gate!r}).exists(): threading.Event().wait(0.02)\n    "


@pytest.fixture
def modules(capsys: pytest.CaptureFixture[str]) -> Modules:
    return Modules(capsys)


@pytest.fixture(scope="module")
def own_server() -> collections.abc.Iterator[Postgres]:
    """A server that may be stopped."""
    # Processes die here, no machine does: what they wrote is there, and recovery need not sync every file first.
    with Postgres.temporary(fsync="off") as server:
        yield server


def project(directory: Path, url: str) -> App:
    """Four revisions, each of which notes that it ran; r2 can be held open, r3 builds concurrently, r4 can be held before its first statement."""
    gate = str(directory / "gate")
    chain = {
        "r1": ("op.execute('CREATE TABLE log (name text); CREATE TABLE slow (id int); CREATE TABLE users (id int)'); " + LOGGED.format(name="r1"), "pass"),
        "r2": ("op.execute('ALTER TABLE users ADD COLUMN email text'); " + LOGGED.format(name="r2") + SLOW, "pass"),
        "r3": (CONCURRENT + "op.create_index('ix_email', 'users', ['email'], postgresql_concurrently=True)", "pass"),
        "r4": (GATE.format(gate=gate) + LOGGED.format(name="r4"), "pass"),
    }
    return App.create(directory, url, chain)


@contextlib.contextmanager
def inside_a_revision(app: App) -> t.Iterator[str]:
    """r2 sleeps with ACCESS EXCLUSIVE on users until it is let go; yields how to see that it does."""
    app.rows("INSERT INTO slow VALUES (1)")
    yield "query LIKE '%pg_sleep%' AND state = 'active'"
    app.rows("DELETE FROM slow")


@contextlib.contextmanager
def inside_a_concurrent_build(app: App) -> t.Iterator[str]:
    """r3 waits for a snapshot that is older than its index."""
    with contextlib.closing(psycopg2.connect(app.url)) as holder, holder.cursor() as cursor:
        holder.set_session(isolation_level="REPEATABLE READ")
        cursor.execute("SELECT count(*) FROM log")
        yield "query LIKE '%CONCURRENTLY%' AND wait_event_type = 'Lock'"


@contextlib.contextmanager
def between_revisions(app: App) -> t.Iterator[str]:
    """r3 is committed, r4 has not said anything yet."""
    gate = app.directory / "gate"
    gate.touch()
    yield "state LIKE 'idle%' AND (SELECT version_num FROM alembic_version) = 'r3'"
    gate.unlink()


PLACES = {"revision": inside_a_revision, "concurrent build": inside_a_concurrent_build, "between": between_revisions}
# An administrator who ends the session is one way of losing the backend among others.
CELLS = [*itertools.product(VICTIMS, PLACES), ("session", "revision")]


@contextlib.contextmanager
def controller(app: App) -> t.Iterator[subprocess.Popen[bytes]]:
    """ansible-playbook, which runs the module here; it is killed alone, what it has started is not."""
    play = [{"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": [{"lastro.deploy.alembic": app.options()}]}]
    file = app.directory / "play.yml"
    file.write_text(json.dumps(play))
    environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections")}
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "localhost,", "-e", f"ansible_python_interpreter={sys.executable}", str(file)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def child_of(process: subprocess.Popen[bytes]) -> int:
    [child] = [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
    assert "postgresql" not in Path(f"/proc/{child}/cmdline").read_text()
    return child


def invalid(app: App) -> list[dict[str, str]]:
    found = app.rows(
        "SELECT n.nspname || '.' || c.relname, i.indrelid::regclass::text FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
        " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE NOT i.indisvalid"
    )
    return [{"index": index, "table": table} for index, table in found]


def recovered(app: App, backend: int) -> bool:
    """Whether the server answers, without the *backend* that died."""
    try:
        return not app.rows(f"SELECT 1 FROM pg_stat_activity WHERE pid = {backend}")
    except (psycopg2.OperationalError, psycopg2.InterfaceError):  # the server ends this session too, also while it asks
        return False


def kill(victim: str, process: subprocess.Popen[bytes], backend: int, app: App, server: Postgres) -> None:
    """End the victim. A client that dies leaves no session, and so no lock, for longer than RELEASE_SECONDS."""
    if victim == "server":
        server.stop("immediate")
        server.start()
    elif victim == "backend":
        os.kill(backend, signal.SIGKILL)  # the server ends every session then, and recovers
        until(functools.partial(recovered, app, backend))
    elif victim == "session":
        app.rows(f"SELECT pg_terminate_backend({backend})")
    else:
        os.kill(child_of(process) if victim == "child" else process.pid, signal.SIGKILL)
    if victim in ("module", "child"):
        died = time.monotonic()
        until(lambda: app.rows(f"SELECT 1 FROM pg_locks WHERE pid = {backend} AND granted") == [])
        assert time.monotonic() - died <= RELEASE_SECONDS


BEFORE = {"revision": "r1", "concurrent build": "r2", "between": "r3"}
CODES = {"child": "ended", "session": "database", "backend": "database", "server": "database"}


@pytest.mark.parametrize(("victim", "place"), CELLS)
def test_the_next_call_finishes_the_work(
    modules: Modules, own_server: Postgres, tmp_path: Path, *, victim: str, place: str, rounds: collections.abc.Callable[[int, int], int]
) -> None:
    for number in range(rounds(1, 5)):
        app = project(tmp_path / f"release{number}", fresh(own_server))
        modules.alembic(app, revision="r1")
        with controller(app) if victim == "controller" else running(app) as process:
            with PLACES[place](app) as seen:
                [(backend, _begun)] = until(functools.partial(sessions, app, seen))
                kill(victim, process, backend, app, own_server)
            if victim in CODES:
                result = finished(process)
                assert (result["failed"], result["code"], result["after"]) == (True, CODES[victim], [BEFORE[place]]), result
                assert sessions(app, "true") == []
            process.wait()
        if victim != "controller":
            left = [{"index": "public.ix_email", "table": "users"}] if place == "concurrent build" else []
            assert invalid(app) == modules.info(app)["invalid_indexes"] == left
        again = modules.alembic(app)
        assert (again["after"], again["invalid_indexes"], invalid(app)) == (["r4"], [], [])
        # The release whose controller died goes on by itself, so the next call may find nothing left to do.
        if victim != "controller":
            assert again["before"] == [BEFORE[place]]
        assert app.rows("SELECT name FROM log ORDER BY 1") == [("r1",), ("r2",), ("r4",)]
        assert app.rows("SELECT indisvalid FROM pg_index WHERE indexrelid = 'ix_email'::regclass") == [(True,)]
