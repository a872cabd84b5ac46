# SPDX-License-Identifier: GPL-3.0-or-later
"""alembic_info with rehearsal_url: a copy on another server, up and down again, and what reading the SQL could not see."""

from __future__ import annotations

import collections.abc
import contextlib
import tempfile
import typing as t
from pathlib import Path

import psycopg2
import pytest
from ansible_collections.lastro.deploy.plugins.module_utils import _alembic_copy
from ansible_collections.lastro.deploy.plugins.modules import rehearsal_copy
from demo.postgres import Postgres, bin_directory
from pyrage import x25519

from .alembic_project import CHAIN, App, Modules, running
from .dump_support import Dump
from .module_process import until

DO = "op.execute(\"DO $$ BEGIN EXECUTE 'ALTER TABLE users {}'; END $$\")"


@pytest.fixture
def modules(capsys: pytest.CaptureFixture[str]) -> Modules:
    return Modules(capsys)


@pytest.fixture(scope="module")
def elsewhere() -> collections.abc.Iterator[Postgres]:
    """The server for the copies."""
    with Postgres.temporary() as server:
        yield server


@pytest.fixture
def app(tmp_path: Path, database: str) -> App:
    return App.create(tmp_path / "release", database, dict(list(CHAIN.items())[:4]))


def on(server: Postgres, url: str = "") -> dict[str, t.Any]:
    """Where the copy is made, and with which programs."""
    return {"rehearsal_url": url or server.url(), "bin_dir": str(bin_directory())}


def everything(url: str) -> list[tuple[t.Any, ...]]:
    with contextlib.closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT datname FROM pg_database WHERE NOT datistemplate ORDER BY 1")
        return cursor.fetchall()


def world(app: App) -> list[tuple[t.Any, ...]]:
    return app.rows("SELECT attrelid::regclass::text, attname, atttypid FROM pg_attribute WHERE attrelid >= 16384 ORDER BY 1, 2") + app.rows(
        "SELECT * FROM users"
    )


def test_what_a_do_block_does_is_seen_on_the_copy(modules: Modules, app: App, elsewhere: Postgres) -> None:
    modules.alembic(app)
    app.rows("INSERT INTO users (id, email, token) SELECT n, n::text, 'x' FROM generate_series(1, 100) n")
    app.revision("rewrite", "r4", DO.format("ALTER id TYPE bigint"), DO.format("ALTER id TYPE integer"))
    app.revision("remove", "rewrite", DO.format("DROP token"), "op.add_column('users', sa.Column('token', sa.Integer))")
    app.revision("plain", "remove", "op.add_column('users', sa.Column('more', sa.Text))", "op.drop_column('users', 'more')")
    app.revision("long", "plain", "op.execute('LOCK TABLE users'); op.execute('SELECT pg_sleep(1.2)')", "pass")
    before = world(app)
    result = modules.info(app, **on(elsewhere))
    rehearsal = result["rehearsal"]
    assert (rehearsal["rows"], rehearsal["problem"]) == (True, "")
    assert [(one["revision"], one["table"]) for one in rehearsal["rewrites"]] == [("rewrite", "users")]
    assert [one["removed"] for one in rehearsal["revisions"]] == [[], ["column users.token"], [], []]
    assert [(one["revision"], one["table"], one["mode"]) for one in rehearsal["long_locks"]] == [("long", "users", "AccessExclusiveLock")]
    assert rehearsal["seconds"] >= 1.2
    assert rehearsal["reverted"] == []
    found = [(one["revision"], one["rule"], one["kind"], one["table"]) for one in result["findings"] if one["engine"] == "rehearsal"]
    assert ("rewrite", "rehearsal-rewrite", "wait", "users") in found
    assert ("remove", "rehearsal-removal", "contract", "users") in found
    assert "plain" not in [revision for revision, *_rest in found]
    (app.directory / "migrations" / "versions" / "long.py").unlink()
    again = modules.info(app, **on(elsewhere))
    assert again["rehearsal"]["reverted"] == ["plain", "remove", "rewrite"]
    assert again["rehearsal"]["not_reverted"] == [
        {"revision": "remove", "what": "missing: column users.token text"},
        {"revision": "remove", "what": "left over: column users.token integer"},
    ]
    assert [one["reversible"] for one in again["pending"]] == [True, False, True]
    assert again["reversible"] is False
    assert world(app) == before
    assert everything(elsewhere.url()) == [("postgres",)]


def test_from_nothing_and_a_revision_that_fails(modules: Modules, app: App, elsewhere: Postgres) -> None:
    result = modules.info(app, **on(elsewhere))
    assert result["rehearsal"]["reverted"] == ["r4", "r3", "r2", "r1"]
    assert (result["rehearsal"]["not_reverted"], result["rehearsal"]["problem"]) == ([], "")
    assert [one for one in result["findings"] if one["engine"] == "rehearsal"] == []
    modules.alembic(app)
    app.rows("INSERT INTO users (id) VALUES (1)")
    app.revision("fails", "r4", DO.format("ALTER email SET NOT NULL"), "pass")
    failing = modules.info(app, **on(elsewhere))
    assert failing["rehearsal"]["failed_revision"] == "fails"
    assert "email" in failing["rehearsal"]["problem"]
    assert ("fails", "rehearsal-failed") in [(one["revision"], one["rule"]) for one in failing["findings"]]
    refused = modules.info(app, **on(elsewhere), lint={"deny": ["rehearsal-failed"]}, fails=True)
    assert refused["code"] == "denied"
    assert everything(elsewhere.url()) == [("postgres",)]


def test_a_large_database_is_copied_without_rows(modules: Modules, app: App, elsewhere: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_alembic_copy, "WITH_ROWS", 0)
    modules.alembic(app)
    app.rows("INSERT INTO users (id) VALUES (1)")
    app.revision("passes", "r4", "op.alter_column('users', 'email', nullable=False)", "op.alter_column('users', 'email', nullable=True)")
    result = modules.info(app, **on(elsewhere))
    assert (result["rehearsal"]["rows"], result["rehearsal"]["problem"], result["rehearsal"]["reverted"]) == (False, "", ["passes"])


def test_what_a_killed_rehearsal_left_is_dropped(
    modules: Modules, app: App, elsewhere: Postgres, call_module: collections.abc.Callable[..., dict[str, t.Any]]
) -> None:
    left = "lastro_rehearsal_0123456789ab"

    def leave() -> None:
        with contextlib.closing(psycopg2.connect(elsewhere.url())) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(f"CREATE DATABASE {left}")

    leave()
    assert call_module(rehearsal_copy, check=True, rehearsal_url=elsewhere.url())["removed"] == [left]
    assert (left,) in everything(elsewhere.url())
    answers = [call_module(rehearsal_copy, rehearsal_url=elsewhere.url()) for _twice in range(2)]
    assert [(one["changed"], one["removed"]) for one in answers] == [(True, [left]), (False, [])]
    assert everything(elsewhere.url()) == [("postgres",)]
    leave()
    assert modules.info(app, **on(elsewhere))["rehearsal"]["problem"] == ""
    assert everything(elsewhere.url()) == [("postgres",)]


def test_a_server_that_cannot_take_a_copy(modules: Modules, app: App, elsewhere: Postgres) -> None:
    with contextlib.closing(psycopg2.connect(elsewhere.url())) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("CREATE ROLE small LOGIN PASSWORD 'a-password-that-is-long'")
    url = elsewhere.url(user="small", password="a-password-that-is-long")
    refused = modules.info(app, **on(elsewhere, url), fails=True)
    assert (refused["code"], "CREATEDB" in refused["remedy"]["en"]) == ("rehearsal", True)
    wrong = modules.info(app, **on(elsewhere, url.replace("long@", "short@")), fails=True)
    assert "a-password-that-is" not in wrong["msg"]


def servers_of(directory: Path) -> list[Path]:
    """The processes that run on a cluster below *directory*."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if str(directory).encode() in (process / "cmdline").read_bytes() and b"postgres" in (process / "cmdline").read_bytes():
                found.append(process)
    return found


@pytest.fixture
def scratch(elsewhere: Postgres) -> collections.abc.Iterator[dict[str, t.Any]]:
    """A directory that every account may enter, and programs that every account may run."""
    directory = Path(tempfile.mkdtemp(prefix="lastro-test-"))
    directory.chmod(0o755)
    yield {"rehearsal_cluster": str(directory), "bin_dir": str(elsewhere.installation / "bin")}
    assert list(directory.iterdir()) == []
    directory.rmdir()


def test_a_cluster_of_its_own_comes_and_goes(modules: Modules, app: App, scratch: dict[str, t.Any]) -> None:
    modules.alembic(app, revision="r2")
    app.rows("INSERT INTO users (id, email) VALUES (1, 'a')")
    result = modules.info(app, **scratch)
    assert (result["rehearsal"]["rows"], result["rehearsal"]["reverted"], result["rehearsal"]["problem"]) == (True, ["r4", "r3"], "")
    assert servers_of(Path(scratch["rehearsal_cluster"])) == []
    refused = modules.info(app, **{**scratch, "bin_dir": "/nowhere"}, fails=True)
    assert (refused["code"], "no programs of a PostgreSQL server" in refused["msg"]) == ("rehearsal", True)
    late = modules.info(app, **scratch, deadline=0.9, fails=True)
    assert late["code"] == "deadline"


def test_the_copy_that_has_proved_the_backup_is_the_rehearsals(
    modules: Modules, app: App, scratch: dict[str, t.Any], capsys: pytest.CaptureFixture[str]
) -> None:
    modules.alembic(app, revision="r2")
    app.rows("INSERT INTO users (id, email) VALUES (1, 'a')")
    recipient = str(x25519.Identity.generate().to_public())
    made = Dump(capsys, app.url, app.directory / "backups", recipient)(verify="restore", keep_copy=True, **scratch)
    kept = Path(made["kept_copy"])
    assert list(Path(scratch["rehearsal_cluster"]).iterdir()) == [kept]
    before = world(app)
    result = modules.info(app, rehearsal_copy=str(kept))
    assert (result["rehearsal"]["rows"], result["rehearsal"]["reverted"], result["rehearsal"]["problem"]) == (True, ["r4", "r3"], "")
    assert (kept.exists(), world(app)) == (False, before)
    gone = modules.info(app, rehearsal_copy=str(kept), fails=True)
    assert (gone["code"], "is no cluster that was kept" in gone["msg"]) == ("rehearsal", True)


def test_a_killed_module_takes_its_cluster_along(
    modules: Modules, app: App, scratch: dict[str, t.Any], call_module: collections.abc.Callable[..., dict[str, t.Any]]
) -> None:
    app.revision("slow", "r4", "op.execute('SELECT pg_sleep(60)')", "pass")
    directory = Path(scratch["rehearsal_cluster"])
    with running(app, "alembic_info", **scratch) as process:
        until(lambda: servers_of(directory))
        used = call_module(rehearsal_copy, rehearsal_cluster=str(directory))
        assert (used["removed"], len(list(directory.iterdir()))) == ([], 1), "one that is in use stays"
        process.kill()
        process.wait()
    until(lambda: servers_of(directory) == [])
    [left] = directory.iterdir()
    assert call_module(rehearsal_copy, check=True, rehearsal_cluster=str(directory))["removed"] == [str(left)]
    (app.directory / "migrations" / "versions" / "slow.py").unlink()
    assert modules.info(app, **scratch)["rehearsal"]["problem"] == ""
