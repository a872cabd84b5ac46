# SPDX-License-Identifier: GPL-3.0-or-later
"""alembic on a busy server: ten at once; readers and writers beside a migration that a long transaction is in the way of."""

from __future__ import annotations

import collections.abc
import concurrent.futures
import contextlib
import dataclasses
import os
import subprocess
import sys
import threading
import time
import typing as t
from pathlib import Path

import psycopg2
import pytest
from demo.postgres import Postgres

from .alembic_project import CHAIN, INI, App, Modules, names, running
from .alembic_server import fresh
from .module_process import finished, until

AT_ONCE = 10
LOCK_TIMEOUT = 0.5
LONG_SECONDS = 3.0
CLIENTS = 6


@pytest.fixture
def modules(capsys: pytest.CaptureFixture[str]) -> Modules:
    return Modules(capsys)


def test_ten_at_once_apply_each_revision_once(postgres: Postgres, tmp_path: Path, rounds: collections.abc.Callable[[int, int], int]) -> None:
    for number in range(rounds(2, 20)):
        app = App.create(tmp_path / f"release{number}", fresh(postgres))
        with contextlib.ExitStack() as stack:
            processes = [stack.enter_context(running(app)) for _one in range(AT_ONCE)]
            results = [finished(process) for process in processes]
        assert [result.get("failed", False) for result in results] == [False] * AT_ONCE
        assert [result["after"] for result in results] == [["r8"]] * AT_ONCE
        assert sorted(name for result in results for name in names(result["applied"])) == list(CHAIN)
        assert [result["invalid_indexes"] for result in results] == [[]] * AT_ONCE
        assert app.rows("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()") == [(0,)]


@dataclasses.dataclass
class Load:
    """What clients of the table got while something happened: seconds of the longest query, how many queries, the longest queue for a lock.

    *elsewhere* are the seconds of the longest query on a table that nobody locks: what the machine itself makes a client wait.
    """

    longest: float = 0.0
    elsewhere: float = 0.0
    queries: int = 0
    queue: int = 0


@contextlib.contextmanager
def load(app: App) -> t.Iterator[Load]:
    """Half of the clients read, half write, one after the other without a pause; another session counts who waits for a lock."""
    found, stop, lock = Load(), threading.Event(), threading.Lock()

    def client(number: int) -> None:
        with contextlib.closing(psycopg2.connect(app.url, application_name="client")) as connection, connection.cursor() as cursor:
            connection.autocommit = True
            while not stop.wait(0.005):
                begun = time.monotonic()
                cursor.execute("SELECT email FROM users WHERE id = 7" if number % 2 else "UPDATE users SET email = 'x' WHERE id = %s", (number,))
                with lock:
                    found.longest = max(found.longest, time.monotonic() - begun)
                    found.queries += 1

    def queue() -> None:
        with contextlib.closing(psycopg2.connect(app.url)) as connection, connection.cursor() as cursor:
            connection.autocommit = True
            while not stop.wait(0.02):
                begun = time.monotonic()
                cursor.execute(
                    "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'client' AND wait_event_type = 'Lock' AND wait_event = 'relation'"
                )
                [(waiting,)] = cursor.fetchall()
                found.queue = max(found.queue, waiting)
                found.elsewhere = max(found.elsewhere, time.monotonic() - begun)

    with concurrent.futures.ThreadPoolExecutor(CLIENTS + 1) as pool:
        running_ones = [pool.submit(client, number) for number in range(CLIENTS)] + [pool.submit(queue)]
        try:
            until(lambda: found.queries > CLIENTS)
            yield found
        finally:
            stop.set()
            for one in running_ones:
                one.result()


@contextlib.contextmanager
def long_transaction(app: App) -> t.Iterator[None]:
    """A session that has read the table, and stays in its transaction until the migration has been in its way for LONG_SECONDS."""
    waiting = "SELECT 1 FROM pg_locks WHERE relation = 'users'::regclass AND mode = 'AccessExclusiveLock' AND NOT granted"

    def end() -> None:
        try:
            until(lambda: app.rows(waiting))
            threading.Event().wait(LONG_SECONDS)
        finally:
            connection.rollback()

    with contextlib.closing(psycopg2.connect(app.url, application_name="nightly report")) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM users")
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            ended = pool.submit(end)
            yield
            ended.result()


def busy(directory: Path, postgres: Postgres, modules: Modules) -> App:
    app = App.create(directory, fresh(postgres), dict(list(CHAIN.items())[:3]))
    modules.alembic(app, revision="r2")
    # Nobody else is to be in the way, the server's own vacuum neither.
    app.rows("ALTER TABLE users SET (autovacuum_enabled = off)")
    app.rows("INSERT INTO users (id, email) SELECT n, 'x' FROM generate_series(1, 1000) n")
    return app


def test_a_busy_table_and_a_long_transaction(modules: Modules, postgres: Postgres, tmp_path: Path) -> None:
    """Beside it, in the same run, what the command line does to the same clients."""
    ours, theirs = busy(tmp_path / "ours", postgres, modules), busy(tmp_path / "theirs", postgres, modules)
    with load(ours) as with_us, long_transaction(ours):
        result = modules.alembic(ours, lock_timeout=f"{LOCK_TIMEOUT * 1000:.0f}ms", retries=50, retry_delay=0.2)
    assert (result["after"], [one["application"] for one in result["blockers"] if one["application"] != "client"]) == (["r3"], ["nightly report"])
    assert result["retried"] > 0
    assert with_us.longest <= LOCK_TIMEOUT + 1 + with_us.elsewhere
    command = [str(Path(sys.executable).with_name("alembic")), "upgrade", "head"]
    (theirs.directory / "alembic.ini").write_text(f"{INI}sqlalchemy.url = {theirs.url.replace('%', '%%')}\n")
    with load(theirs) as with_them, long_transaction(theirs):
        subprocess.run(command, cwd=theirs.directory, env={**os.environ, "DATABASE_URL": theirs.url}, check=True, capture_output=True)
    assert theirs.rows("SELECT version_num FROM alembic_version") == [("r3",)]
    print(
        f"longest wait: ours {with_us.longest:.2f} s, command line {with_them.longest:.2f} s; "
        f"queue: ours {with_us.queue}, command line {with_them.queue} of {CLIENTS} clients"
    )
    assert with_them.longest > with_us.longest
    assert with_them.queue == CLIENTS
