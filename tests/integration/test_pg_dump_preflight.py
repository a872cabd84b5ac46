# SPDX-License-Identifier: GPL-3.0-or-later
"""What the module pg_dump finds before a backup begins, and what does not stop one."""

from __future__ import annotations

import concurrent.futures
import contextlib
import threading
import typing as t
from pathlib import Path

import psycopg2
import pytest
from ansible_collections.lastro.deploy.plugins.module_utils import _backup_preflight
from ansible_collections.lastro.deploy.plugins.module_utils._postgres import parse_url
from demo.postgres import Postgres, bin_directory
from pyrage import x25519

from .dump_support import Dump
from .module_process import until
from .sql import execute, rows


@pytest.fixture
def dump(capsys: pytest.CaptureFixture[str], database: str, tmp_path: Path) -> Dump:
    return Dump(capsys, database, tmp_path / "backups", str(x25519.Identity.generate().to_public()))


@contextlib.contextmanager
def locked_for(url: str, table: str, seconds: float) -> t.Iterator[None]:
    """*table* is locked until somebody has waited for it that long."""
    waiting = f"SELECT 1 FROM pg_locks WHERE NOT granted AND relation = '{table}'::regclass"

    def release() -> None:
        try:
            until(lambda: rows(url, waiting))
            threading.Event().wait(seconds)
        finally:
            other.rollback()

    with contextlib.closing(psycopg2.connect(url)) as other, other.cursor() as cursor, concurrent.futures.ThreadPoolExecutor(1) as pool:
        cursor.execute(f"LOCK TABLE {table}")
        released = pool.submit(release)
        yield
        released.result()


def test_the_timeouts_of_the_role_are_told_and_do_not_hold(dump: Dump, database: str, postgres: Postgres) -> None:
    # Each of them is far shorter than what the backup takes.
    timeouts = {"statement_timeout": "100ms", "transaction_timeout": "100ms", "idle_in_transaction_session_timeout": "100ms", "lock_timeout": "100ms"}
    name = database.rpartition("/")[2]
    execute(
        database,
        "DROP ROLE IF EXISTS hasty",
        "CREATE ROLE hasty LOGIN PASSWORD 'hasty-password'",
        "CREATE TABLE filled AS SELECT n, repeat(md5(n::text), 20) AS text FROM generate_series(1, 60000) n",
        f'ALTER DATABASE "{name}" OWNER TO hasty',
        "ALTER TABLE filled OWNER TO hasty",
        *(f"ALTER ROLE hasty SET {timeout} = '{value}'" for timeout, value in timeouts.items()),
    )
    with locked_for(database, "filled", 0.3):
        result = dump(database_url=postgres.url(name, user="hasty", password="hasty-password"), globals="without_passwords")
    assert result.get("failed") is None, result
    assert result["timeouts"] == timeouts
    assert (result["rows"], result["seconds"] > 0.1) == (60000, True)
    assert dump(name="b2")["timeouts"] == {}


def test_a_dump_of_somebody_else_is_told(dump: Dump, database: str) -> None:
    assert "Another pg_dump" not in str(dump(check=True))  # first: in one process Ansible keeps warnings
    with contextlib.closing(psycopg2.connect(database, application_name="pg_dump")) as other:
        result = dump(check=True)
        assert f"process {other.info.backend_pid} of postgres" in str(result["warnings"])


def test_a_server_that_was_upgraded_and_not_restarted_is_told(dump: Dump, tmp_path: Path) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("pg_dump", "pg_restore"):
        (programs / name).symlink_to(bin_directory() / name)
    installed = programs / "postgres"
    installed.write_text("#!/bin/sh\necho 'postgres (PostgreSQL) 18.99'\n", encoding="utf-8")
    installed.chmod(0o755)
    assert "installed on this host is" not in str(dump(check=True))  # first: in one process Ansible keeps warnings
    result = dump(check=True, bin_dir=str(programs))
    assert f"The server runs {result['server_version']}, but installed on this host is 18.99" in str(result["warnings"])


@pytest.mark.parametrize(
    ("url", "here"),
    [
        ("postgresql:///a?host=/run/postgresql", True),
        ("postgresql:///a", True),
        ("postgresql://localhost/a", True),
        ("postgresql://127.0.0.1/a", True),
        ("postgresql://[::1]/a", True),
        ("postgresql://db.example.org/a", False),
        ("postgresql://10.0.0.1/a", False),
        ("postgresql://localhost/a?hostaddr=10.0.0.1", False),
    ],
)
def test_only_a_server_on_this_host_is_compared_with_what_is_installed_here(url: str, here: bool) -> None:
    assert _backup_preflight.is_here(parse_url(url)) is here
