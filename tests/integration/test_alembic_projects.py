# SPDX-License-Identifier: GPL-3.0-or-later
"""alembic and alembic_info with whole applications: every driver, Flask-Migrate, branches and bases; PostgreSQL 18 and the distribution's."""

from __future__ import annotations

import collections.abc
import contextlib
import shutil
import tempfile
import typing as t
from pathlib import Path

import psycopg2
import pytest
from demo.postgres import Postgres

from . import postgres_servers
from .alembic_project import CHAIN, App, Modules, names
from .alembic_projects import asynchronous, branching, flask
from .alembic_server import fresh

DRIVERS = ("psycopg2", "psycopg", "asyncpg")
CLIENT_CHECK = 14
"""The first major that notices by itself that a client is gone."""


@pytest.fixture
def modules(capsys: pytest.CaptureFixture[str]) -> Modules:
    return Modules(capsys)


@contextlib.contextmanager
def of_major(major: int) -> collections.abc.Iterator[Postgres]:
    base = Path(tempfile.mkdtemp(prefix="lastro-test-"))
    base.chmod(0o755)
    running = postgres_servers.create(major, base / "postgres")
    try:
        yield running
    finally:
        running.stop("immediate")
        shutil.rmtree(base)


@pytest.fixture(scope="module", params=[18, 15])
def server(request: pytest.FixtureRequest, postgres: Postgres) -> collections.abc.Iterator[Postgres]:
    """The session's server, then the distribution's."""
    with contextlib.nullcontext(postgres) if request.param == 18 else of_major(request.param) as running:
        yield running


@pytest.fixture
def url(server: Postgres) -> str:
    return fresh(server)


def test_branches_merges_bases_and_labels(modules: Modules, url: str, tmp_path: Path) -> None:
    app = branching(tmp_path / "app", url)
    app.rows("CREATE SCHEMA admin")
    info = modules.info(app)
    assert (len(info["pending"]), info["status"], info["heads"]) == (44, "multiple_heads", ["a08", "m90"])
    assert [one["revision"] for one in info["pending"] if one["kind"] == "contract"] == ["m90"]
    assert sum(one["neutral"] for one in info["pending"]) == 3
    assert modules.info(app, revision="audit@head")["pending"][-1]["revision"] == "a08"
    audit = modules.alembic(app, revision="audit@head")
    assert (len(audit["applied"]), audit["after"]) == (10, ["a08"])
    assert modules.alembic(app, revision="nobody@head", fails=True)["code"] == "revision"
    trunk = modules.alembic(app, revision="left1_2")
    assert sorted(trunk["after"]) == ["a08", "left1_2"]
    rest = modules.alembic(app, revision="m90")
    assert len(audit["applied"]) + len(trunk["applied"]) + len(rest["applied"]) == 44
    assert app.rows("SELECT version_num FROM admin.schema_revisions ORDER BY 1") == [("a08",), ("m90",)]
    assert app.rows("SELECT to_regclass('alembic_version')") == [(None,)]
    assert modules.info(app)["pending"] == []
    assert modules.alembic(app, revision="m90")["changed"] is False
    down = modules.alembic(app, state="downgraded", revision="merge0")
    assert sorted(down["after"]) == ["a08", "merge0"]
    assert sorted(modules.alembic(app, revision="m90")["after"]) == ["a08", "m90"]
    base = modules.alembic(app, state="downgraded", revision="audit@base", accept_loss=True)
    assert base["after"] == ["m90"]
    tables = app.rows("SELECT relname FROM pg_class WHERE relkind = 'r' AND relname LIKE 't\\_%' ORDER BY 1")
    stamped = modules.alembic(app, state="stamped", revision="audit@head")
    assert (sorted(stamped["after"]), stamped["changed"]) == (["a08", "m90"], True)
    assert modules.alembic(app, state="stamped", revision="heads")["changed"] is False
    assert app.rows("SELECT relname FROM pg_class WHERE relkind = 'r' AND relname LIKE 't\\_%' ORDER BY 1") == tables
    assert modules.alembic(app, state="stamped", revision="base")["after"] == []


def test_another_version_table_than_env_py_says(modules: Modules, url: str, tmp_path: Path) -> None:
    app = App.create(tmp_path / "app", url)
    named: dict[str, t.Any] = {"version_table": "mine", "version_table_schema": "public"}
    assert modules.alembic(app, revision="r2", **named)["after"] == ["r2"]
    assert app.rows("SELECT version_num FROM public.mine") == [("r2",)]
    assert modules.info(app, **named)["current"] == ["r2"]
    assert (modules.info(app)["current"], modules.info(app)["status"]) == ([], "unstamped")


@pytest.mark.parametrize("driver", DRIVERS)
def test_every_driver(modules: Modules, url: str, tmp_path: Path, driver: str) -> None:
    all_states(modules, url, tmp_path, driver)


@pytest.mark.parametrize("major", postgres_servers.PINS)
def test_every_other_major(modules: Modules, tmp_path: Path, major: int) -> None:
    if not postgres_servers.npm_is_here():
        pytest.skip("npm carries these servers for x86-64 alone")
    with of_major(major) as running:
        all_states(modules, fresh(running), tmp_path, DRIVERS[major % len(DRIVERS)], client_check=major >= CLIENT_CHECK)


def all_states(modules: Modules, url: str, tmp_path: Path, driver: str, *, client_check: bool = True) -> None:
    """Up, blocked, repaired and down again by one *driver*."""
    options: dict[str, t.Any] = {}
    if driver == "asyncpg":
        app, options = asynchronous(tmp_path / "app", url), {"config": "pyproject.toml"}
    else:
        app, options = App.create(tmp_path / "app", url.replace("postgresql:", f"postgresql+{driver}:")), {}
    plain = App(app.directory, url)
    assert names(modules.info(app, **options)["pending"]) == list(CHAIN)
    result = modules.alembic(app, revision="r5", lock_timeout="1700ms", **options)
    assert (result["after"], result["settings"]["lock_timeout"]) == (["r5"], "1700ms")
    assert result["settings"]["client_connection_check_interval"] == ("1s" if client_check else "")
    with contextlib.closing(psycopg2.connect(url, application_name="nightly report")) as holder, holder.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM users")
        blocked = modules.alembic(app, fails=True, lock_timeout="200ms", retries=1, retry_delay=0.05, **options)
        assert (blocked["sqlstate"], blocked["retried"], blocked["after"]) == ("55P03", 1, ["r5"])
        assert [one["application"] for one in blocked["blockers"]] == ["nightly report"]
    assert modules.alembic(app, **options)["after"] == ["r8"]
    plain.rows("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'ix_notes'::regclass")
    assert modules.alembic(app, **options, repair="reindex")["repaired_indexes"] == ["public.ix_notes"]
    assert modules.alembic(app, state="downgraded", revision="base", **options)["after"] == []
    stamped: dict[str, t.Any] = {"state": "stamped", "revision": "r4", **options}
    assert modules.alembic(app, check=True, **stamped)["changed"] is True
    assert plain.rows("SELECT version_num FROM alembic_version") == []
    assert [modules.alembic(app, **stamped)["changed"] for _twice in range(2)] == [True, False]
    assert plain.rows("SELECT version_num, to_regclass('users') FROM alembic_version") == [("r4", None)]
    broken = modules.info(app, fails=True, **{**options, "database_url": app.url.replace("@", "wrong@")})
    assert "password authentication failed" in broken["msg"]


def test_flask_migrate(modules: Modules, url: str, tmp_path: Path) -> None:
    app = flask(tmp_path / "needs", url, pushes=False)
    options: dict[str, t.Any] = {"config": "migrations/alembic.ini", "flask_app": "web:create_app"}
    assert names(modules.info(app, **options)["pending"]) == ["f1", "f2"]
    without = modules.info(app, **{**options, "flask_app": ""}, fails=True)
    assert without["code"] in ("config", "flask_context")
    assert modules.info(app, **{**options, "flask_app": "nothing:here"}, fails=True)["code"] == "flask_app"
    assert modules.alembic(app, check_models=True, **options)["model_differences"] == []
    # The table had another name when it was made: what it holds now cannot be told, so somebody has to say it.
    down: dict[str, t.Any] = {"state": "downgraded", "revision": "base", **options}
    assert modules.alembic(app, fails=True, **down)["code"] == "data_loss"
    assert modules.alembic(app, accept_loss=True, **down)["after"] == []
    assert app.rows("SELECT to_regclass('t1'), to_regclass('t_x')") == [(None, None)]
    assert modules.alembic(app, state="stamped", revision="f1", **options)["after"] == ["f1"]
    assert modules.alembic(app, state="stamped", revision="base", **options)["after"] == []
    assert modules.alembic(app, **options)["after"] == ["f2"]
    (app.directory / "web.py").write_text((app.directory / "web.py").read_text().replace("a = db.Column(db.Text)", "b = db.Column(db.Text)"))
    assert modules.info(app, check_models=True, **options)["model_differences"] == ["add_column t1.b", "remove_column t1.a"]


def test_flask_migrate_whose_env_py_makes_its_context(modules: Modules, url: str, tmp_path: Path) -> None:
    app = flask(tmp_path / "pushes", url, pushes=True)
    assert modules.alembic(app, config="migrations/alembic.ini")["after"] == ["f2"]
    assert modules.alembic(app, config="migrations/alembic.ini")["changed"] is False
    env = app.directory / "migrations" / "env.py"
    env.write_text("".join(line for line in env.read_text().splitlines(keepends=True) if "app_context" not in line))
    assert modules.info(app, config="migrations/alembic.ini", fails=True)["code"] == "flask_context"


def test_x_arguments_reach_env_py(modules: Modules, url: str, tmp_path: Path) -> None:
    app = App.create(tmp_path / "app", url)
    env = app.directory / "migrations" / "env.py"
    env.write_text(env.read_text() + "\nassert context.get_x_argument(as_dictionary=True) == {'tenant': 'a=b', 'dry': '1'}\n")
    assert modules.info(app, x_args=["tenant=a=b", "dry=1"])["status"] == "pending"
    assert modules.info(app, x_args=[], fails=True)["code"] == "env"
