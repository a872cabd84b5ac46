# SPDX-License-Identifier: GPL-3.0-or-later
"""alembic among others and when it is killed: two at once, blockers, deadlines, interrupted builds."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

import psycopg2
import pytest

from .alembic_project import CHAIN, App, Modules, finished, names, running, sessions, until


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


def test_a_held_advisory_lock_is_named_at_the_deadline(modules: Modules, app: App) -> None:
    with contextlib.closing(psycopg2.connect(app.url, application_name="colleague")) as holder, holder.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(hashtext('alembic'), hashtext('alembic_version'))")
        result = modules.alembic(app, deadline=3, fails=True)
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


SLEEPING = {**dict(list(CHAIN.items())[:3]), "slow": ("op.execute('CREATE TABLE half (id int)'); op.execute('SELECT pg_sleep(60)')", "op.drop_table('half')")}


def sleeping(tmp_path: Path, database: str) -> App:
    return App.create(tmp_path / "sleeping", database, SLEEPING)


def awake(app: App) -> None:
    app.revision("slow", "r3", "op.execute('CREATE TABLE half (id int)')", "op.drop_table('half')")


@pytest.mark.parametrize("victim", ["child", "module", "backend"])
def test_killed_in_the_middle_of_a_revision(modules: Modules, tmp_path: Path, database: str, victim: str) -> None:
    app = sleeping(tmp_path, database)
    with running(app) as process:
        [(backend, _start)] = until(lambda: sessions(app, "query LIKE '%pg_sleep%' AND state = 'active'"))
        [child] = [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
        assert "postgresql" not in Path(f"/proc/{child}/cmdline").read_text()
        if victim == "backend":
            app.rows(f"SELECT pg_terminate_backend({backend})")
        else:
            os.kill(child if victim == "child" else process.pid, signal.SIGKILL)
        if victim == "module":
            process.wait()
        else:
            result = finished(process)
            assert result["failed"] is True
            assert (result["changed"], result["after"], names(result["applied"])) == (True, ["r3"], ["r1", "r2", "r3"])
            assert result["code"] == ("ended" if victim == "child" else "database")
            assert sessions(app, "true") == []
    until(lambda: not Path(f"/proc/{child}").exists() or "State:\tZ" in Path(f"/proc/{child}/status").read_text())
    until(lambda: sessions(app, "true") == [], seconds=5)
    awake(app)
    again = modules.alembic(app)
    assert (again["before"], again["after"], names(again["applied"])) == (["r3"], ["slow"], ["slow"])


def test_the_deadline_ends_the_process_and_its_session(modules: Modules, tmp_path: Path, database: str) -> None:
    app = sleeping(tmp_path, database)
    result = modules.alembic(app, deadline=4, fails=True)
    assert (result["code"], result["after"], names(result["applied"])) == ("deadline", ["r3"], ["r1", "r2", "r3"])
    assert "revision slow ran" in result["msg"]
    assert sessions(app, "true") == []
    result = modules.alembic(app, statement_timeout="200ms", fails=True)
    assert (result["sqlstate"], result["retried"], result["revision"]) == ("57014", 0, "slow")
    assert "statement_timeout" in result["msg"]
    assert app.rows("SELECT to_regclass('half')") == [(None,)]


def test_killed_inside_a_concurrent_build(modules: Modules, app: App) -> None:
    modules.alembic(app, revision="r3")
    with contextlib.closing(psycopg2.connect(app.url)) as holder, holder.cursor() as cursor:
        holder.set_session(isolation_level="REPEATABLE READ")
        cursor.execute("SELECT count(*) FROM users")
        with running(app, lock_timeout="200ms") as process:
            until(lambda: sessions(app, "query LIKE '%CONCURRENTLY%' AND wait_event_type = 'Lock'"))
            process.kill()
            process.wait()
        until(lambda: sessions(app, "true") == [], seconds=5)
    assert modules.alembic(app, check=True)["invalid_indexes"] == [{"index": "public.uq_email", "table": "users"}]
    result = modules.alembic(app)
    assert (result["before"], result["after"], result["repaired_indexes"], result["invalid_indexes"]) == (["r3"], ["r8"], ["uq_email"], [])
