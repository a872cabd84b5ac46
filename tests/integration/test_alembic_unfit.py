# SPDX-License-Identifier: GPL-3.0-or-later
"""alembic against what cannot take a migration: PgBouncer that pools transactions, a standby, a database that is read-only."""

from __future__ import annotations

import collections.abc
import contextlib
import os
import shutil
import subprocess
import tempfile
import typing as t
from pathlib import Path
from urllib.parse import urlsplit

import psycopg2
import pytest
from demo.postgres import Postgres, free_port

from .alembic_project import App, Modules
from .module_process import until


@pytest.fixture
def modules(capsys: pytest.CaptureFixture[str]) -> Modules:
    return Modules(capsys)


@pytest.fixture
def app(tmp_path: Path, database: str) -> App:
    return App.create(tmp_path / "release", database)


def refused(call: collections.abc.Callable[..., dict[str, t.Any]], app: App, url: str, code: str) -> None:
    before = app.files()
    result = call(app, database_url=url, fails=True)
    assert (result["code"], result["remedy"]["en"] in result["msg"], bool(result["remedy"]["pt_BR"])) == (code, True, True)
    assert app.files() == before
    assert app.rows("SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace") == [(0,)]


@contextlib.contextmanager
def bouncer(app: App, mode: str, **settings: int) -> collections.abc.Iterator[str]:
    """PgBouncer in front of the application's database; its URL there."""
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    assert program, "install pgbouncer (tests/bin/install-clients)"
    there = urlsplit(app.url)
    base, port = Path(tempfile.mkdtemp(prefix="lastro-test-")), free_port()
    base.chmod(0o755)
    (base / "users").write_text(f'"{there.username}" "{there.password}"\n')
    (base / "pgbouncer.ini").write_text(
        f"[databases]\n* = host={there.hostname} port={there.port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        f"auth_type = plain\nauth_file = {base / 'users'}\npool_mode = {mode}\nignore_startup_parameters = options,extra_float_digits\n"
        + "".join(f"{name} = {value}\n" for name, value in settings.items())
    )
    as_nobody = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"] if os.geteuid() == 0 else []
    process = subprocess.Popen([*as_nobody, program, str(base / "pgbouncer.ini")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = app.url.replace(f":{there.port}/", f":{port}/")

    def answers() -> bool:
        try:
            psycopg2.connect(url).close()
        except psycopg2.OperationalError:
            return False
        return True

    try:
        until(answers)
        yield url
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(base)


def test_a_pooler_of_transactions_is_refused_and_one_of_sessions_is_not(modules: Modules, app: App) -> None:
    names = ("default_transaction_read_only", "statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
    asked = ", ".join(f"current_setting('{name}')" for name in names)
    for takes_turns in (0, 1):
        with bouncer(app, "transaction", server_round_robin=takes_turns) as url:
            pooled = App(app.directory, url)
            # Two clients at once, so that the pool has two processes to give.
            with contextlib.closing(psycopg2.connect(url)) as busy, busy.cursor() as cursor:
                cursor.execute("SELECT 1")
                before = pooled.rows(f"SELECT {asked}")
            for call in (modules.alembic, modules.info):
                refused(call, app, url, "pooler")
            assert [pooled.rows(f"SELECT {asked}") for _each in range(4)] == [before] * 4, "whoever comes next finds the session as it was"
    with bouncer(app, "session") as url:
        assert modules.info(app, database_url=url)["status"] == "pending"
        assert modules.alembic(app, database_url=url)["after"] == ["r8"]


def test_a_read_only_database(modules: Modules, app: App) -> None:
    name = urlsplit(app.url).path[1:]
    app.rows(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    refused(modules.alembic, app, app.url, "read_only")
    assert modules.info(app)["status"] == "pending"


def test_a_standby(modules: Modules, tmp_path: Path) -> None:
    with Postgres.temporary() as server:
        app = App.create(tmp_path / "release", server.url())
        server.stop()
        # A server that recovers for ever, with nobody to follow, answers like any standby.
        (server.data / "standby.signal").touch()
        server.start()
        refused(modules.alembic, app, app.url, "standby")
        assert modules.info(app)["status"] == "pending"
