# SPDX-License-Identifier: GPL-3.0-or-later
"""What an operator is told while the server alone is at work: what runs, and for how long."""

from __future__ import annotations

import contextlib
import time
import typing as t
from pathlib import Path

import psycopg2
import pytest
from ansible_collections.lastro.deploy.plugins.action import step
from ansible_collections.lastro.deploy.plugins.module_utils import _backup_snapshot, _step
from ansible_collections.lastro.deploy.plugins.module_utils._postgres import connect, parse_url
from demo.postgres import Postgres, bin_directory

from .module_process import finished, started, until
from .sql import execute, rows

GO = "lastro-test-go"
# As an index over a large table, which takes until the test lets it go.
SLOW = f"""CREATE FUNCTION public.slow(one int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN
  WHILE NOT EXISTS (SELECT FROM pg_catalog.pg_stat_activity WHERE application_name = '{GO}') LOOP
    PERFORM pg_catalog.pg_sleep(0.02), pg_catalog.pg_stat_clear_snapshot();
  END LOOP;
  RETURN one;
END $$"""


@contextlib.contextmanager
def let_go(url: str) -> t.Iterator[None]:
    """The slow function returns."""
    with contextlib.closing(psycopg2.connect(url, application_name=GO)):
        yield


@pytest.fixture
def slow(database: str) -> str:
    """A database with a slow index over two rows."""
    with let_go(database):
        execute(database, "CREATE TABLE one AS SELECT generate_series(1, 2) AS id", SLOW, "CREATE INDEX slow_index ON one (public.slow(id))")
    return database


def line(path: Path, later: float) -> str:
    """What `step` shows *later* than now, where nothing was told since."""
    seen = _step.status({"results_file": "/none", "progress_file": str(path), "state_dir": None, "wait": 0}, clock=lambda: time.time() + later)
    return " ".join(step._progress_line("backup", seen["progress"], 90).split())


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_restore_that_builds_an_index_says_so(slow: str, postgres: Postgres, tmp_path: Path, jobs: int) -> None:
    dump = {"database_url": slow, "dest": str(tmp_path), "name": "b1", "encryption": "none", "bin_dir": str(bin_directory())}
    with started("pg_dump", dump) as process:
        assert finished(process)["changed"]
    path, into = tmp_path / "progress", f"slow_{jobs}"
    options = {"database_url": slow, "dest": str(tmp_path), "into": into, "jobs": jobs, "bin_dir": str(bin_directory()), "progress_file": str(path)}
    with started("pg_restore", options) as process:
        building = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{into}' AND query LIKE 'CREATE INDEX%' AND state = 'active'"
        until(lambda: rows(slow, building) == [(1,)])
        until(lambda: line(path, 34).startswith("… backup building indexes for "))
        assert line(path, 34).endswith("; 90 s") and int(line(path, 34).split()[5]) >= 34
        with let_go(slow):
            assert finished(process)["compared"]["equal"] == 1
    assert "bytes counted" in path.read_text(encoding="utf-8")
    execute(postgres.url(), f"DROP DATABASE {into} WITH (FORCE)")


def test_a_table_that_is_counted_for_long_is_a_share_of_the_bytes(database: str, tmp_path: Path) -> None:
    """Somebody has locked the last and largest one, so that its count takes until it goes."""
    execute(database, "CREATE TABLE a AS SELECT generate_series(1, 1000) AS id", "CREATE TABLE b AS SELECT generate_series(1, 100000) AS id", "ANALYZE")
    path = tmp_path / "progress"
    with contextlib.closing(psycopg2.connect(database)) as other, other.cursor() as cursor:
        cursor.execute("LOCK TABLE b")
        with started("pg_dump", _waiting(database, path)) as process:
            until(lambda: rows(database, "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'b'::regclass") == [(1,)])
            said = line(path, 34)
            other.rollback()
            assert finished(process)["tables"] == 2
    assert " % of " in said and "bytes counted for " in said, said


def _waiting(database: str, path: Path) -> dict[str, object]:
    given = {"database_url": database, "dest": str(path.with_name("backups")), "name": "b1", "encryption": "none", "bin_dir": str(bin_directory())}
    return {**given, "lock_wait_timeout": "60s", "progress_file": str(path)}


def test_each_table_is_told_before_it_is_counted(database: str) -> None:
    execute(database, "CREATE TABLE a AS SELECT generate_series(1, 1000) AS id", "CREATE TABLE b AS SELECT generate_series(1, 3000) AS id", "ANALYZE")
    told: list[tuple[int, int, str]] = []
    with connect(parse_url(database), application_name="test", autocommit=True) as connection:
        _backup_snapshot.measure(connection, hashes=False, progress=lambda *figures: told.append(figures))
    sizes = dict(rows(database, "SELECT relname, pg_relation_size(oid) FROM pg_class WHERE relname IN ('a', 'b')"))
    total = sum(sizes.values())
    assert told == [(done, total, "bytes counted") for done in (0, sizes["a"], total)]
