# SPDX-License-Identifier: GPL-3.0-or-later
"""Sessions of dead runs on a real server, and what a connection makes of a URL."""

from __future__ import annotations

import collections.abc
import contextlib
import dataclasses
import secrets
import subprocess
import typing as t

import psycopg2
import pytest
from ansible_collections.lastro.deploy.plugins.module_utils import _postgres, _session
from ansible_collections.lastro.deploy.plugins.module_utils._errors import LastroError
from ansible_collections.lastro.deploy.plugins.modules import session as session_module
from demo.postgres import Postgres, bin_directory
from demo.process import wait_until

CallModule = collections.abc.Callable[..., dict[str, t.Any]]


@contextlib.contextmanager
def sessions(url: str, *names: str) -> t.Iterator[None]:
    """Open sessions with these application names."""
    with contextlib.ExitStack() as stack:
        for name in names:
            stack.enter_context(contextlib.closing(psycopg2.connect(url, application_name=name)))
        yield


def names(url: str) -> list[str]:
    """The application names of all sessions on the URL's database but those of this function."""
    with contextlib.closing(psycopg2.connect(url, application_name="names")) as connection, connection.cursor() as cursor:
        others = "datname = current_database() AND application_name <> 'names' AND backend_type = 'client backend'"
        cursor.execute(f"SELECT application_name FROM pg_stat_activity WHERE {others} ORDER BY 1")
        return [row[0] for row in cursor.fetchall()]


def left(url: str, *wanted: str) -> None:
    """Until exactly these sessions are left: the server may see a moment later that a module has closed its own."""
    wait_until(lambda: names(url) == list(wanted), seconds=60, what=f"{', '.join(wanted)} and no other sessions")


def test_sessions_of_dead_runs_end_and_no_others(database: str, postgres: Postgres, call_module: CallModule) -> None:
    elsewhere = postgres.url()
    with sessions(database, "lastro.deploy alembic", "lastro.deploy", "gunicorn", _session.OWN), sessions(elsewhere, "lastro.deploy alembic"):
        checked = call_module(session_module, check=True, database_url=database)
        assert (checked["changed"], checked["ended"]) == (True, 2)
        left(database, "gunicorn", "lastro.deploy", "lastro.deploy alembic", _session.OWN)
        ended = call_module(session_module, database_url=database)
        assert (ended["changed"], ended["ended"], ended["diff"]) == (True, 2, {"before": {"sessions": 2}, "after": {"sessions": 0}})
        left(database, "gunicorn", _session.OWN)
        assert "lastro.deploy alembic" in names(elsewhere)
        again = call_module(session_module, database_url=database)
        assert (again["changed"], again["ended"]) == (False, 0)
        assert call_module(session_module, database_url=database, application_name="guni")["ended"] == 1


def test_what_may_not_be_ended(database: str, postgres: Postgres, call_module: CallModule) -> None:
    role, password = f"r_{secrets.token_hex(4)}", secrets.token_hex(8)
    with contextlib.closing(psycopg2.connect(postgres.url())) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{password}'")
        try:
            weak = postgres.url(_postgres.parse_url(database).database, user=role, password=password)
            with sessions(database, "lastro.deploy"):
                refused = call_module(session_module, database_url=weak)
                assert refused["failed"] and "1 database sessions of a dead run do not end: permission denied" in refused["problem"]
                assert password not in str(refused) and refused["remedy"]["pt_BR"]
                left(database, "lastro.deploy")
        finally:
            cursor.execute(f"DROP ROLE {role}")


def test_sessions_that_stay(database: str) -> None:
    clock = iter(range(100))
    with sessions(database, "lastro.deploy"), pytest.raises(LastroError, match="1 database sessions of a dead run do not end: they are still there after 0 s"):
        _session.end(_postgres.parse_url(database), "lastro.deploy", timeout=0, clock=lambda: next(clock))


def test_a_server_that_is_not_there(call_module: CallModule) -> None:
    refused = call_module(session_module, database_url="postgresql://u:s3cret@127.0.0.1:1/d")
    assert refused["failed"] and "cannot be reached" in refused["problem"] and "s3cret" not in str(refused)


# --- connections ------------------------------------------------------------------------------------------------------


def joined(url: str, query: str) -> str:
    return f"{url}{'&' if '?' in url else '?'}{query}"


def test_parameters_of_a_url_do_not_break_a_connection(database: str) -> None:
    url = joined(database, "application_name=app&prepared_statement_cache_size=0&options=-c%20search_path%3Dlastro&connect_timeout=7&client_encoding=utf8")
    settings = _postgres.parse_url(url.replace("postgresql://", "postgresql+psycopg2://", 1))
    with _postgres.connect(settings, application_name="lastro.deploy test", lock_timeout="2s") as connection, connection.cursor() as cursor:
        found = {}
        for name in ("application_name", "search_path", "lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout"):
            cursor.execute("SELECT current_setting(%s)", (name,))
            ((found[name],),) = cursor.fetchall()
    assert found == {
        "application_name": "lastro.deploy test",
        "search_path": "lastro",
        "lock_timeout": "2s",
        "statement_timeout": "0",
        "idle_in_transaction_session_timeout": "0",
    }


def test_a_transaction_is_rolled_back_unless_committed(database: str) -> None:
    settings = _postgres.parse_url(database)
    with _postgres.connect(settings, application_name="lastro.deploy test") as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE kept ()")
        connection.commit()
        cursor.execute("CREATE TABLE lost ()")
    with _postgres.connect(settings, application_name="lastro.deploy test", autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass('kept') IS NOT NULL, to_regclass('lost') IS NOT NULL")
        assert cursor.fetchall() == [(True, False)]


def test_a_program_connects_with_the_password_of_the_file(postgres: Postgres, database: str) -> None:
    role, password = f"r_{secrets.token_hex(4)}", "50%: sure\\'" + secrets.token_hex(4)
    with contextlib.closing(psycopg2.connect(postgres.url())) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute(f"CREATE ROLE {role} LOGIN PASSWORD %s", (password,))
        try:
            name = _postgres.parse_url(database).database
            settings = _postgres.parse_url(
                joined(_postgres.parse_url(postgres.url(name, user=role)).url(), "options=-c%20search_path%3Dlastro&target_session_attrs=read-write")
            )
            settings = dataclasses.replace(settings, password=password)
            with _postgres.libpq_environment(settings, application_name="lastro.deploy test") as environment:
                query = "SELECT current_user, current_setting('search_path'), current_setting('application_name')"
                asked = subprocess.run([bin_directory() / "psql", "-XAtc", query], env=environment, capture_output=True, text=True, check=True)
            assert asked.stdout.strip() == f"{role}|lastro|lastro.deploy test"
        finally:
            cursor.execute(f"DROP ROLE {role}")
