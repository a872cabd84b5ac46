# SPDX-License-Identifier: GPL-3.0-or-later
"""alembic and alembic_info on a real server: where the database stands, up, down, phases, check mode."""

from __future__ import annotations

import contextlib
import json
import typing as t
from pathlib import Path

import psycopg2
import pytest

from .alembic_project import CHAIN, CONCURRENT, ENV, App, Modules, names


@pytest.fixture
def modules(capsys: pytest.CaptureFixture[str]) -> Modules:
    return Modules(capsys)


@pytest.fixture
def app(tmp_path: Path, database: str) -> App:
    return App.create(tmp_path / "release", database)


def test_info_on_an_empty_database(modules: Modules, app: App) -> None:
    before = app.files()
    result = modules.info(app)
    assert result["changed"] is False
    assert (result["status"], result["current"], result["heads"], result["unknown"]) == ("pending", [], ["r8"], [])
    assert names(result["pending"]) == list(CHAIN)
    assert [entry["kind"] for entry in result["pending"]] == ["expand"] * 7 + ["contract"]
    assert result["pending"][0]["message"] == "message of r1"
    assert result["phases"] == {"expand": list(CHAIN)[:7], "contract": ["r8"], "misplaced": []}
    assert (result["compatible"], result["reversible"], result["needs_maintenance"]) == (False, True, False)
    assert [(finding["revision"], finding["rule"], finding["severity"], finding["table"]) for finding in result["findings"]] == [
        ("r8", "drop-column", "contract", "users")
    ]
    assert "CREATE UNIQUE INDEX CONCURRENTLY uq_email" in result["sql"][3]["sql"]
    assert app.rows("SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace") == [(0,)]
    assert app.files() == before


def test_upgrade_then_nothing_then_downgrade(modules: Modules, app: App, tmp_path: Path) -> None:
    progress = tmp_path / "progress"
    result = modules.alembic(app, revision="r6", progress_file=str(progress))
    assert (result["changed"], result["before"], result["after"]) == (True, [], ["r6"])
    assert names(result["applied"]) == names(result["planned"]) == ["r1", "r2", "r3", "r4", "r5", "r6"]
    assert [entry["statements"] for entry in result["applied"]] == [1, 2, 1, 1, 1, 1]
    assert result["applied"][0]["message"] == "message of r1"
    assert all(entry["seconds"] > 0 for entry in result["applied"])
    assert result["settings"] == {"lock_timeout": "2s", "statement_timeout": "15min", "client_connection_check_interval": "1s"}
    assert (result["retried"], result["blockers"], result["invalid_indexes"], result["repaired_indexes"]) == (0, [], [], [])
    assert json.loads(progress.read_text())["done"] == 6
    assert app.rows("SELECT conname FROM pg_constraint WHERE conname = 'uq_email'") == [("uq_email",)]

    again = modules.alembic(app, revision="r6")
    assert (again["changed"], again["applied"], again["before"], again["after"], again["diff"]) == (False, [], ["r6"], ["r6"], [])
    assert modules.alembic(app, revision="r3")["changed"] is False

    down = modules.alembic(app, state="downgraded", revision="r2")
    assert (names(down["applied"]), down["after"], down["losses"]) == (["r6", "r5", "r4", "r3"], ["r2"], [])
    assert modules.alembic(app, state="downgraded", revision="r2")["changed"] is False
    assert modules.alembic(app, state="downgraded", revision="r5")["changed"] is False
    base = modules.alembic(app, state="downgraded", revision="base")
    assert base["after"] == []
    assert app.rows("SELECT count(*) FROM pg_class WHERE relname IN ('users', 'notes')") == [(0,)]
    assert modules.alembic(app, state="downgraded", revision="base")["changed"] is False
    assert modules.alembic(app)["after"] == ["r8"]


def test_check_mode_shows_the_sql_and_changes_nothing(modules: Modules, app: App) -> None:
    modules.alembic(app, revision="r4")
    result = modules.alembic(app, check=True)
    assert (result["changed"], result["before"], result["after"], result["applied"]) == (True, ["r4"], ["r4"], [])
    assert names(result["planned"]) == ["r5", "r6", "r7", "r8"]
    assert [entry["after_header"] for entry in result["diff"]] == [f"upgrade r{n} message of r{n}" for n in (5, 6, 7, 8)]
    assert "ALTER TABLE users DROP COLUMN token;" in result["diff"][3]["after"]
    assert [finding["rule"] for finding in result["findings"]] == ["drop-column", "values-lost"]
    back = modules.alembic(app, check=True, state="downgraded", revision="r3")
    assert "DROP INDEX CONCURRENTLY uq_email" in back["diff"][0]["after"]
    assert app.rows("SELECT version_num FROM alembic_version") == [("r4",)]
    assert modules.alembic(app)["planned"] == result["planned"]


def test_phases(modules: Modules, app: App) -> None:
    refused = modules.alembic(app, phase="contract", fails=True)
    assert refused["code"] == "expand_first"
    result = modules.alembic(app, phase="expand")
    assert (result["after"], names(result["applied"])[-1]) == (["r7"], "r7")
    assert modules.alembic(app, phase="expand")["changed"] is False
    info = modules.info(app, check=True)
    assert (info["status"], info["compatible"], info["phases"]["contract"]) == ("pending", False, ["r8"])
    app.revision("r9", "r8", "op.add_column('users', sa.Column('late', sa.Text))", "op.drop_column('users', 'late')")
    for phase in ("expand", "contract"):
        refused = modules.alembic(app, phase=phase, fails=True)
        assert (refused["code"], refused["misplaced"]) == ("misplaced", ["r9"])
        assert "r8" in refused["msg"]
        assert refused["remedy"]["pt_BR"]
    info = modules.info(app)
    assert info["needs_maintenance"] is True
    assert info["needs_maintenance_reason"] == "r9: expanding behind a contracting revision"
    (app.directory / "migrations" / "versions" / "r9.py").unlink()
    assert modules.alembic(app, phase="contract")["after"] == ["r8"]
    assert modules.info(app)["status"] == "up_to_date"


def test_info_between_two_revisions_for_a_rollback(modules: Modules, app: App) -> None:
    modules.alembic(app)
    compatible = modules.info(app, from_revision=["r4"], revision="r7")
    assert (names(compatible["pending"]), compatible["compatible"], compatible["status"]) == (["r5", "r6", "r7"], True, "pending")
    breaking = modules.info(app, from_revision=["r7"], revision="current")
    assert (names(breaking["pending"]), breaking["compatible"]) == (["r8"], False)
    # Its downgrade adds the column that it drops, empty: only somebody who knows where the values stand may call that a way back.
    assert (breaking["reversible"], breaking["pending"][0]["reversible"], compatible["reversible"]) == (False, False, True)
    assert [(one["rule"], one["severity"], one["statement"]) for one in breaking["findings"] if one["kind"] == "irreversible"] == [
        ("values-lost", "note", "column users.token")
    ]
    for allowed in ("values-lost", "r8:values-lost"):
        assert modules.info(app, from_revision=["r7"], revision="current", lint={"allow": [allowed]})["reversible"] is True
    assert names(modules.info(app, from_revision=[], revision="current")["pending"]) == list(CHAIN)
    assert modules.info(app, from_revision=["nope"], fails=True)["code"] == "revision"


def test_database_ahead_unstamped_and_two_heads(modules: Modules, app: App) -> None:
    modules.alembic(app)
    (app.directory / "migrations" / "versions" / "r8.py").unlink()
    info = modules.info(app)
    assert (info["status"], info["unknown"], info["current"], info["pending"]) == ("database_ahead", ["r8"], ["r8"], [])
    assert (info["compatible"], info["reversible"], info["version_table"]) == (False, False, "public.alembic_version")
    assert names(modules.info(app, from_revision=["r5"])["pending"]) == ["r6", "r7"]
    for state, revision in (("upgraded", "heads"), ("downgraded", "r7")):
        refused = modules.alembic(app, fails=True, state=state, revision=revision)
        assert (refused["code"], refused["unknown"]) == ("database_ahead", ["r8"])
    app.rows("DROP TABLE alembic_version")
    assert modules.info(app)["status"] == "unstamped"
    assert modules.info(app, revision="current")["pending"] == []
    app.rows("DROP TABLE users, notes")
    app.revision("side", "r7", "pass", "pass")
    app.revision("other", "r7", "pass", "pass")
    info = modules.info(app)
    assert (info["status"], info["heads"]) == ("multiple_heads", ["other", "side"])
    refused = modules.alembic(app, fails=True)
    assert (refused["code"], refused["heads"]) == ("multiple_heads", ["other", "side"])
    assert "alembic merge heads" in refused["msg"]
    app.revision("merged", ("side", "other"), "pass", "pass")
    assert modules.alembic(app, phase="expand")["after"] == ["merged"]


def test_environment_file_with_percent_signs_and_no_secret_anywhere(modules: Modules, app: App, tmp_path: Path) -> None:
    role, secret = f"owner_{app.url[-8:]}", "p%2F@ss:w%20rd'\""
    app.rows(f"CREATE ROLE {role} LOGIN SUPERUSER PASSWORD 'p%2F@ss:w%20rd''\"'")
    encoded = "p%252F%40ss%3Aw%2520rd%27%22"
    url = app.url.replace(app.url.split("//")[1].split("@")[0], f"{role}:{encoded}")
    file = tmp_path / "env"
    file.write_text(f'DATABASE_URL="{url}"\nAPI_TOKEN="clear-token-value"\nSECRET_SALT=abc\n')
    env = app.directory / "migrations" / "env.py"
    env.write_text("import os\nassert os.environ['API_TOKEN'] == 'clear-token-value' and os.environ['PLAIN'] == '7'\n" + ENV)
    options: dict[str, t.Any] = {"database_url": None, "environment_file": str(file), "environment": {"PLAIN": 7}}
    result = modules.alembic(app, revision="r2", **options)
    assert result["after"] == ["r2"]
    env.write_text("import os\nraise ValueError(os.environ['DATABASE_URL'] + os.environ['DATABASE_URL'].replace('%', '%%') + os.environ['API_TOKEN'])\n")
    assert "traceback_tail" not in modules.info(app, fails=True, **options)
    modules.verbosity = 3
    broken = modules.info(app, fails=True, **options)
    text = json.dumps(broken)
    assert broken["code"] == "env"
    for word in (secret, encoded, encoded.replace("%", "%%"), "clear-token-value"):
        assert word not in text
    assert "ValueError: ********" in broken["traceback_tail"][-1]
    app.rows(f"REASSIGN OWNED BY {role} TO postgres; DROP ROLE {role}")


def test_an_interrupted_concurrent_build_is_reported_and_repaired(modules: Modules, app: App) -> None:
    modules.alembic(app, revision="r3")
    app.rows("INSERT INTO users (id, email) VALUES (1, 'a'), (2, 'a')")
    result = modules.alembic(app, revision="r4", fails=True)
    assert (result["sqlstate"], result["revision"], result["after"]) == ("23505", "r4", ["r3"])
    assert result["invalid_indexes"] == [{"index": "public.uq_email", "table": "users"}]
    assert "'a'" not in json.dumps(result)
    app.rows("DELETE FROM users WHERE id = 2")
    stays = modules.alembic(app, revision="r4", repair="none", fails=True)
    assert (stays["sqlstate"], stays["repaired_indexes"]) == ("42P07", [])
    result = modules.alembic(app, revision="r4")
    assert (result["after"], result["repaired_indexes"], result["invalid_indexes"]) == (["r4"], ["uq_email"], [])
    assert app.rows("SELECT indisvalid FROM pg_index WHERE indexrelid = 'uq_email'::regclass") == [(True,)]


def test_an_invalid_index_of_somebody_else_is_a_warning(modules: Modules, app: App) -> None:
    modules.alembic(app, revision="r3")
    app.rows("INSERT INTO users (id, email) VALUES (1, 'a'), (2, 'a')")
    with contextlib.closing(psycopg2.connect(app.url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor, pytest.raises(psycopg2.errors.UniqueViolation):
            cursor.execute("CREATE UNIQUE INDEX CONCURRENTLY theirs ON users (email)")
    result = modules.alembic(app, revision="r3")
    assert result["invalid_indexes"] == [{"index": "public.theirs", "table": "users"}]
    assert "public.theirs" in str(result["warnings"])


def test_a_concurrent_build_has_its_own_limits(modules: Modules, app: App) -> None:
    app.revision("limits", "r3", CONCURRENT + "op.execute('CREATE INDEX CONCURRENTLY slow_one ON users (pg_temp.wait(id))')", "pass")
    app.revision(
        "limits",
        "r3",
        "op.execute(\"CREATE FUNCTION wait(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1 FROM pg_sleep(1.2)'\")\n    "
        + 'op.execute("INSERT INTO users (id) VALUES (1)")\n    '
        + CONCURRENT
        + "op.execute('CREATE INDEX CONCURRENTLY slow_one ON users (wait(id))')\n        "
        + "op.execute(\"DO $$ BEGIN ASSERT current_setting('statement_timeout') = '1s', current_setting('statement_timeout'); END $$\")",
        "pass",
    )
    result = modules.alembic(app, revision="limits", statement_timeout="1s")
    assert result["after"] == ["limits"]
    assert result["settings"]["statement_timeout"] == "1s"
    assert "opaque-block" in [finding["rule"] for finding in result["findings"]]


def test_a_downgrade_does_not_lose_rows_unasked(modules: Modules, app: App) -> None:
    modules.alembic(app, revision="r6")
    app.rows("INSERT INTO users (id, email, token_encrypted) VALUES (1, 'a', 'x')")
    for check in (True, False):
        result = modules.alembic(app, check=check, state="downgraded", revision="r1", fails=True)
        assert result["losses"] == [{"revision": "r6", "what": "column users.token_encrypted"}]
        assert "users.token_encrypted" in result["msg"]
    assert app.rows("SELECT version_num FROM alembic_version") == [("r6",)]
    result = modules.alembic(app, state="downgraded", revision="base", accept_loss=True)
    assert [loss["what"] for loss in result["losses"]] == ["column users.token_encrypted", "table users"]
    assert result["after"] == []


def test_a_downgrade_that_cannot_be_judged_or_undoes_nothing(modules: Modules, app: App) -> None:
    app.revision("read", "r8", "op.get_bind().execute(sa.text('SELECT 1')).scalar()", "op.get_bind().execute(sa.text('SELECT 1')).scalar()")
    app.revision("oneway", "read", "op.execute('CREATE TABLE t (id int)')", "raise NotImplementedError")
    info = modules.info(app)
    assert info["pending"][-2:] == [
        {
            "revision": "read",
            "message": "message of read",
            "kind": "contract",
            "reversible": True,
            "neutral": False,
            "breaking_findings": ["unrenderable"],
            "blocking_findings": [],
        },
        {
            "revision": "oneway",
            "message": "message of oneway",
            "kind": "expand",
            "reversible": False,
            "neutral": False,
            "breaking_findings": [],
            "blocking_findings": [],
        },
    ]
    assert [finding["rule"] for finding in info["findings"]] == ["drop-column", "unrenderable", "empty-downgrade"]
    assert info["reversible"] is False
    assert modules.alembic(app)["after"] == ["oneway"]
    refused = modules.alembic(app, state="downgraded", revision="read", accept_loss=True, fails=True)
    assert (refused["code"], "oneway" in refused["msg"]) == ("irreversible", True)
    app.revision("oneway", "read", "op.execute('CREATE TABLE t (id int)')", "op.execute('ALTER TABLE t RENAME TO u'); op.execute('DROP TABLE u')")
    refused = modules.alembic(app, state="downgraded", revision="r8", fails=True)
    assert refused["losses"] == [{"revision": "oneway", "what": "table u"}, {"revision": "read", "what": "its downgrade cannot be rendered as SQL"}]
    assert modules.alembic(app, state="downgraded", revision="r8", accept_loss=True)["after"] == ["r8"]
