# SPDX-License-Identifier: GPL-3.0-or-later
"""alembic among others: two at once, blockers, deadlines."""

from __future__ import annotations

import collections.abc
import contextlib
import time
import types
from pathlib import Path

import psycopg2
import pytest
from ansible_collections.lastro.deploy.plugins.module_utils import _alembic_catalog, _alembic_child, _alembic_migrate

from .alembic_project import CHAIN, App, Modules, names, running, sessions
from .module_process import finished, until


@pytest.fixture
def modules(capsys: pytest.CaptureFixture[str]) -> Modules:
    return Modules(capsys)


@pytest.fixture
def app(tmp_path: Path, database: str) -> App:
    return App.create(tmp_path / "release", database)


def test_two_at_once_apply_each_revision_once(app: App) -> None:
    with contextlib.closing(psycopg2.connect(app.url)) as holder, holder.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(hashtext('alembic'), hashtext('alembic_version'))")
        with running(app) as first, running(app) as second:
            until(lambda: len(sessions(app, "query LIKE '%pg_try_advisory_lock%' OR query = 'COMMIT'")) == 2)
            holder.close()
            results = [finished(first), finished(second)]
    assert sorted(names(results[0]["applied"]) + names(results[1]["applied"])) == list(CHAIN)
    assert [result["after"] for result in results] == [["r8"], ["r8"]]
    assert sorted(result["changed"] for result in results) == [False, True]


DEADLINE = 600


def deadline_passes_once(monkeypatch: pytest.MonkeyPatch, seen: collections.abc.Callable[[_alembic_migrate.Run], object]) -> None:
    """The clock by which the child is waited for jumps past the deadline when *seen* of the run, however long the run took to get there."""
    tick, jumps = _alembic_migrate.Run.tick, list[int]()

    def look(run: _alembic_migrate.Run) -> None:
        tick(run)
        if not jumps and seen(run):
            jumps.append(DEADLINE)

    monkeypatch.setattr(_alembic_migrate.Run, "tick", look)
    monkeypatch.setattr(_alembic_child, "time", types.SimpleNamespace(monotonic=lambda: time.monotonic() + sum(jumps)))


def test_a_held_advisory_lock_is_named_at_the_deadline(modules: Modules, app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    with contextlib.closing(psycopg2.connect(app.url, application_name="colleague")) as holder, holder.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(hashtext('alembic'), hashtext('alembic_version'))")
        deadline_passes_once(monkeypatch, lambda run: run.waiting and run.watch.found())
        result = modules.alembic(app, deadline=DEADLINE, fails=True)
    assert result["code"] == "deadline"
    assert "another migration held the lock" in result["msg"]
    assert "colleague" in result["msg"]
    assert (result["changed"], result["applied"], result["after"]) == (False, [], [])
    assert sessions(app, "true") == []


def test_a_blocker_is_waited_for_then_named(modules: Modules, app: App) -> None:
    modules.alembic(app, revision="r2")
    with contextlib.closing(psycopg2.connect(app.url, application_name="psql of ana")) as holder, holder.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM users WHERE email = 'ana@example.org' OR id = 4711")
        result = modules.alembic(app, lock_timeout="300ms", retries=2, retry_delay=0.05, fails=True)
        assert (result["code"], result["sqlstate"], result["revision"], result["retried"]) == ("database", "55P03", "r3", 2)
        assert (result["changed"], result["before"], result["after"]) == (False, ["r2"], ["r2"])
        assert result["settings"]["lock_timeout"] == "300ms"
        [blocker] = result["blockers"]
        assert (blocker["application"], blocker["user"], blocker["state"]) == ("psql of ana", "postgres", "idle in transaction")
        assert blocker["pid"] == holder.info.backend_pid
        assert blocker["query"] == "SELECT COUNT(*) FROM USERS WHERE EMAIL = ? OR ID = ?"
        assert "psql of ana" in result["msg"]
        assert "blockers" in result["remedy"]["pt_BR"]
        with running(app, lock_timeout="200ms", retries=50, retry_delay=0.05) as process:
            tries: set[object] = set()

            def third() -> bool:
                tries.update(row[1] for row in sessions(app, "wait_event_type = 'Lock'"))
                return len(tries) > 2

            until(third)
            holder.rollback()
            result = finished(process)
    assert (result["after"], names(result["applied"])) == (["r8"], [f"r{n}" for n in range(3, 9)])
    assert result["retried"] >= 2
    assert [one["application"] for one in result["blockers"]] == ["psql of ana"]


def test_what_is_locked_is_looked_at_all_the_same(modules: Modules, app: App) -> None:
    modules.alembic(app, revision="r2")
    with contextlib.closing(psycopg2.connect(app.url, application_name="psql of ana")) as holder, holder.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(hashtext('alembic'), hashtext('alembic_version'))")
        cursor.execute("LOCK TABLE users IN ACCESS EXCLUSIVE MODE")
        assert names(modules.alembic(app, check=True)["planned"]) == [f"r{n}" for n in range(3, 9)]
        info = modules.info(app)
        assert {one["table"]: one["bytes"] for one in info["tables"]}["public.users"] == -1
        assert names(info["pending"]) == [f"r{n}" for n in range(3, 9)]


def test_a_server_that_dies_while_it_is_asked_is_one_message(modules: Modules, app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(connection: psycopg2.extensions.connection, _texts: object) -> None:
        with contextlib.closing(psycopg2.connect(app.url)) as other, other.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s)", (connection.info.backend_pid,))
        connection.cursor().execute("SELECT 1")

    monkeypatch.setattr(_alembic_catalog, "read", broken)
    for call in (modules.alembic, modules.info):
        result = call(app, fails=True)
        assert (result["code"], result["remedy"]["en"] in result["msg"]) == ("session", True)


SLEEPING = {**dict(list(CHAIN.items())[:3]), "slow": ("op.execute('CREATE TABLE half (id int)'); op.execute('SELECT pg_sleep(60)')", "op.drop_table('half')")}


def sleeping(tmp_path: Path, database: str) -> App:
    return App.create(tmp_path / "sleeping", database, SLEEPING)


def test_the_deadline_ends_the_process_and_its_session(modules: Modules, tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    app = sleeping(tmp_path, database)
    asleep = "query LIKE '%pg_sleep%' AND state = 'active'"
    deadline_passes_once(monkeypatch, lambda run: run.revision == "slow" and sessions(app, asleep))
    result = modules.alembic(app, deadline=DEADLINE, fails=True)
    assert (result["code"], result["after"], names(result["applied"])) == ("deadline", ["r3"], ["r1", "r2", "r3"])
    assert "revision slow ran" in result["msg"]
    assert sessions(app, "true") == []
    result = modules.alembic(app, statement_timeout="1s", fails=True)
    assert (result["sqlstate"], result["retried"], result["revision"]) == ("57014", 0, "slow")
    assert "statement_timeout" in result["msg"]
    assert app.rows("SELECT to_regclass('half')") == [(None,)]
