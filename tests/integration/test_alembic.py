# SPDX-License-Identifier: GPL-3.0-or-later
"""alembic and alembic_info against a real server and a real project: a chain of eight revisions."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time
import typing as t
from pathlib import Path

import psycopg2
import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.lastro.deploy.plugins.modules import alembic, alembic_info

INI = "[alembic]\nscript_location = %(here)s/migrations\nprepend_sys_path = .\n"
ENV = """
import os
from alembic import context
from sqlalchemy import create_engine, pool
url = context.config.get_main_option("sqlalchemy.url")
assert os.environ["DATABASE_URL"].split("://")[1] == url.split("://")[1]
if context.is_offline_mode():
    context.configure(url=url, literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()
else:
    with create_engine(url, poolclass=pool.NullPool).connect() as connection:
        context.configure(connection=connection)
        with context.begin_transaction():
            context.run_migrations()
"""
REVISION = """
import time
import sqlalchemy as sa
from alembic import op
revision = {name!r}
down_revision = {down!r}
def upgrade():
    {upgrade}
def downgrade():
    {downgrade}
"""
CONCURRENT = "with op.get_context().autocommit_block():\n        "
CHAIN = {
    "r1": (
        "op.create_table('users', sa.Column('id', sa.Integer, primary_key=True), sa.Column('email', sa.Text), sa.Column('token', sa.Text))",
        "op.drop_table('users')",
    ),
    "r2": (
        "op.create_table('notes', sa.Column('id', sa.Integer, primary_key=True)); op.create_index('ix_notes', 'notes', ['id'])",
        "op.drop_table('notes')",
    ),
    "r3": ("op.add_column('users', sa.Column('name', sa.Text))", "op.drop_column('users', 'name')"),
    "r4": (
        CONCURRENT + "op.create_index('uq_email', 'users', ['email'], unique=True, postgresql_concurrently=True)",
        CONCURRENT + "op.drop_index('uq_email', table_name='users', postgresql_concurrently=True)",
    ),
    "r5": (
        "op.execute('ALTER TABLE users ADD CONSTRAINT uq_email UNIQUE USING INDEX uq_email')",
        "op.execute('ALTER TABLE users DROP CONSTRAINT uq_email');" + "op.create_index('uq_email', 'users', ['email'], unique=True)",
    ),
    "r6": ("op.add_column('users', sa.Column('token_encrypted', sa.LargeBinary))", "op.drop_column('users', 'token_encrypted')"),
    "r7": ("op.execute(\"UPDATE users SET name = 'none; so far' WHERE name IS NULL\")", "op.execute('UPDATE users SET name = NULL')"),
    "r8": ("op.drop_column('users', 'token')", "op.add_column('users', sa.Column('token', sa.Text))"),
}


@dataclasses.dataclass
class App:
    """An application's release with its migrations, and the database."""

    directory: Path
    url: str

    @classmethod
    def create(cls, directory: Path, url: str, chain: dict[str, tuple[str, str]] = CHAIN) -> App:
        (directory / "migrations" / "versions").mkdir(parents=True)
        (directory / "alembic.ini").write_text(INI)
        (directory / "migrations" / "env.py").write_text(ENV)
        app = cls(directory, url)
        down: str | None = None
        for name, (upgrade, downgrade) in chain.items():
            app.revision(name, down, upgrade, downgrade)
            down = name
        return app

    def revision(self, name: str, down: object, upgrade: str, downgrade: str) -> Path:
        path = self.directory / "migrations" / "versions" / f"{name}.py"
        path.write_text(f'"""message of {name}\n\nmore"""\n' + REVISION.format(name=name, down=down, upgrade=upgrade, downgrade=downgrade))
        return path

    def options(self, **options: object) -> dict[str, t.Any]:
        named = {"database_url": self.url, "chdir": str(self.directory), "python": sys.executable, **options}
        return {name: value for name, value in named.items() if value is not None}

    def rows(self, query: str) -> list[tuple[t.Any, ...]]:
        with contextlib.closing(psycopg2.connect(self.url)) as connection, connection, connection.cursor() as cursor:
            cursor.execute(query)
            return cursor.fetchall() if cursor.description else []

    def files(self) -> set[str]:
        return {str(path) for path in self.directory.rglob("*")}


class Modules:
    """The two modules, called in process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def _call(self, main: t.Callable[[], None], options: dict[str, t.Any], *, check: bool, fails: bool) -> dict[str, t.Any]:
        with patch_module_args({**options, "_ansible_check_mode": check, "_ansible_diff": True}), pytest.raises(SystemExit):
            main()
        result: dict[str, t.Any] = json.loads(self._capsys.readouterr().out)
        assert bool(result.get("failed")) == fails, result
        return result

    def alembic(self, app: App, *, check: bool = False, fails: bool = False, **options: object) -> dict[str, t.Any]:
        return self._call(alembic.main, app.options(**options), check=check, fails=fails)

    def info(self, app: App, *, check: bool = False, fails: bool = False, **options: object) -> dict[str, t.Any]:
        return self._call(alembic_info.main, app.options(**options), check=check, fails=fails)


@pytest.fixture
def modules(capsys: pytest.CaptureFixture[str]) -> Modules:
    return Modules(capsys)


@pytest.fixture
def app(tmp_path: Path, database: str) -> App:
    return App.create(tmp_path / "release", database)


def names(entries: list[dict[str, t.Any]]) -> list[str]:
    return [entry["revision"] for entry in entries]


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
    assert [finding["rule"] for finding in result["findings"]] == ["drop-column"]
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
    assert names(modules.info(app, from_revision=[], revision="current")["pending"]) == list(CHAIN)
    assert modules.info(app, from_revision=["nope"], fails=True)["code"] == "revision"


def test_database_ahead_unstamped_and_two_heads(modules: Modules, app: App) -> None:
    modules.alembic(app)
    (app.directory / "migrations" / "versions" / "r8.py").unlink()
    info = modules.info(app)
    assert (info["status"], info["unknown"], info["current"], info["pending"]) == ("database_ahead", ["r8"], ["r8"], [])
    assert (info["compatible"], info["reversible"], info["version_table"]) == (False, False, "public.alembic_version")
    assert names(modules.info(app, from_revision=["r5"])["pending"]) == ["r6", "r7"]
    for options in ({}, {"state": "downgraded", "revision": "r7"}):
        refused = modules.alembic(app, fails=True, **options)
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
    options = {"database_url": None, "environment_file": str(file), "environment": {"PLAIN": 7}}
    result = modules.alembic(app, revision="r2", **options)
    assert result["after"] == ["r2"]
    env.write_text("import os\nraise ValueError(os.environ['DATABASE_URL'] + os.environ['DATABASE_URL'].replace('%', '%%') + os.environ['API_TOKEN'])\n")
    broken = modules.info(app, fails=True, **options)
    text = json.dumps(broken)
    assert broken["code"] == "env"
    for word in (secret, encoded, encoded.replace("%", "%%"), "clear-token-value"):
        assert word not in text
    assert "ValueError: ********" in broken["traceback_tail"][-1]
    app.rows(f"REASSIGN OWNED BY {role} TO postgres; DROP ROLE {role}")


@contextlib.contextmanager
def running(app: App, **options: object) -> t.Iterator[subprocess.Popen[bytes]]:
    """The module alembic in a process of its own."""
    program = (
        "import json, sys; from ansible.module_utils.testing import patch_module_args\n"
        "from ansible_collections.lastro.deploy.plugins.modules import alembic\n"
        "with patch_module_args(json.loads(sys.stdin.readline())): alembic.main()"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    process = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
    assert process.stdin is not None
    process.stdin.write(json.dumps(app.options(**options)).encode() + b"\n")
    process.stdin.flush()
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def finished(process: subprocess.Popen[bytes]) -> dict[str, t.Any]:
    result: dict[str, t.Any] = json.loads(process.communicate(timeout=60)[0])
    return result


def until(condition: t.Callable[[], t.Any], seconds: float = 20) -> t.Any:  # noqa: ANN401
    """What *condition* says once it says something."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        threading.Event().wait(0.02)
    raise AssertionError("the condition was never met")


def sessions(app: App, where: str) -> list[tuple[t.Any, ...]]:
    return app.rows(
        f"SELECT pid, query_start FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'lastro.deploy migrate' AND {where}"
    )


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
            waits = {until(lambda: sessions(app, "wait_event_type = 'Lock'"))[0][1]}
            until(lambda: len(waits.update(row[1] for row in sessions(app, "wait_event_type = 'Lock'")) or waits) > 2)
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
        "op.execute(\"CREATE FUNCTION wait(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1 FROM pg_sleep(0.5)'\")\n    "
        + 'op.execute("INSERT INTO users (id) VALUES (1)")\n    '
        + CONCURRENT
        + "op.execute('CREATE INDEX CONCURRENTLY slow_one ON users (wait(id))')\n        "
        + "op.execute(\"DO $$ BEGIN ASSERT current_setting('statement_timeout') = '300ms', current_setting('statement_timeout'); END $$\")",
        "pass",
    )
    result = modules.alembic(app, revision="limits", statement_timeout="300ms")
    assert result["after"] == ["limits"]
    assert result["settings"]["statement_timeout"] == "300ms"
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
            "breaking_findings": ["unrenderable"],
            "blocking_findings": [],
        },
        {"revision": "oneway", "message": "message of oneway", "kind": "expand", "reversible": False, "breaking_findings": [], "blocking_findings": []},
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


def written(app: App, file: str, text: str) -> None:
    (app.directory / file).write_text(text)


def no_alembic(app: App) -> str:
    path = app.directory / "python-without-alembic"
    path.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S "$@"\n')
    path.chmod(0o755)
    return str(path)


SPOILED: dict[str, tuple[t.Callable[[App], dict[str, object]], str, str]] = {
    "no alembic.ini": (lambda app: {"config": "missing.ini"}, "config", "missing.ini"),
    "no directory": (lambda app: {"chdir": str(app.directory / "gone")}, "chdir", "gone"),
    "no script_location": (lambda app: written(app, "alembic.ini", "[alembic]\nscript_location = nowhere\n") or {}, "config", "nowhere"),
    "broken env.py": (lambda app: written(app, "migrations/env.py", "import no_such_app\n") or {}, "env", "no_such_app"),
    "env.py that ends the process": (lambda app: written(app, "migrations/env.py", "raise SystemExit('bye')\n") or {}, "env", "SystemExit: bye"),
    "env.py that runs nothing": (lambda app: written(app, "migrations/env.py", "import os\n") or {}, "env", "never calls"),
    "env.py for another database": (
        lambda app: written(app, "migrations/env.py", ENV.replace("create_engine(url, poolclass", "create_engine('sqlite://', poolclass")) or {},
        "dialect",
        "sqlite",
    ),
    "env.py that connects elsewhere": (
        lambda app: (
            written(app, "migrations/env.py", ENV.replace("create_engine(url,", "create_engine(url.replace('127.0.0.1', '127.0.0.2').replace(':', ':1', 0),"))
            or {}
        ),
        "connect",
        "cannot connect",
    ),
    "import error in a revision": (
        lambda app: written(app, "migrations/versions/bad.py", "import no_such\n") or {},
        "revision_files",
        "bad.py: ModuleNotFoundError",
    ),
    "syntax error in a revision": (lambda app: written(app, "migrations/versions/bad.py", "def x(:\n") or {}, "revision_files", "bad.py: SyntaxError"),
    "unknown revision": (lambda app: {"revision": "nope"}, "revision", "nope"),
    "relative revision": (lambda app: {"revision": "+1"}, "option", "relative"),
    "interpreter missing": (lambda app: {"python": "/nonexistent/python"}, "python", "/nonexistent/python"),
    "interpreter that is none": (lambda app: {"python": "/bin/true"}, "ended", "/bin/true"),
    "alembic not installed": (lambda app: {"python": no_alembic(app)}, "alembic_missing", "cannot import Alembic"),
    "wrong password": (lambda app: {"database_url": app.url.replace("@", "x@")}, "", "password authentication failed"),
    "unreachable database": (lambda app: {"database_url": "postgresql://u:hunter2@127.0.0.1:1/x"}, "", "cannot be reached"),
}


@pytest.mark.parametrize("what", list(SPOILED))
def test_bad_input_is_one_message_with_its_remedy(modules: Modules, app: App, what: str) -> None:
    spoil, code, words = SPOILED[what]
    options = spoil(app)
    before = app.files()
    for call in (modules.info, modules.alembic):
        result = call(app, fails=True, **options)
        assert (result.get("code", ""), words in result["msg"]) == (code, True), result["msg"]
        assert result["remedy"]["en"] in result["msg"]
        assert result["remedy"]["pt_BR"]
        assert len(result.get("traceback_tail", [])) <= 5
        secret = str(options.get("database_url", app.url)).split(":")[2].split("@")[0]
        assert secret not in json.dumps({name: value for name, value in result.items() if name != "invocation"})
    assert app.rows("SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace") == [(0,)]
    assert app.files() == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"lock_timeout": "2 seconds"}, "'2 seconds' is not a duration"),
        ({"deadline": 0}, "deadline"),
        ({"state": "downgraded"}, "needs the revision"),
    ],
)
def test_options_that_make_no_sense(modules: Modules, app: App, options: dict[str, object], words: str) -> None:
    result = modules.alembic(app, fails=True, **options)
    assert (result["code"], words in result["msg"]) == ("option", True)


def test_env_py_of_other_shapes(modules: Modules, app: App) -> None:
    online = ENV.replace("if context.is_offline_mode():", "if False:")
    written(app, "migrations/env.py", online)
    assert modules.info(app)["findings"][0]["rule"] == "drop-column", "an env.py without an offline part is rendered all the same"
    written(app, "migrations/env.py", ENV.replace("    context.configure(url=url", "    raise RuntimeError('online only')\n    context.configure(url=url"))
    info = modules.info(app)
    assert {finding["rule"] for finding in info["findings"]} == {"unrenderable"}
    assert info["compatible"] is False
    # one transaction around everything, env.py's own: it is env.py that commits
    written(app, "migrations/env.py", ENV.replace(".connect() as connection", ".begin() as connection"))
    result = modules.alembic(app, revision="r3")
    assert (result["after"], names(result["applied"])) == (["r3"], ["r1", "r2", "r3"])
    # a statement before configure() opens a transaction that nobody commits
    written(app, "migrations/env.py", ENV.replace("context.configure(connection", "connection.exec_driver_sql('SELECT 1'); context.configure(connection"))
    result = modules.alembic(app, revision="r6", fails=True)
    assert result["after"] == ["r3"]
    written(app, "migrations/versions/r4.py", (app.directory / "migrations/versions/r5.py").read_text().replace("'r5'", "'r4'").replace("'r4'\n", "'r3'\n"))


def test_a_session_whose_limits_are_not_in_force_is_refused(modules: Modules, app: App) -> None:
    written(
        app,
        "migrations/env.py",
        ENV.replace("context.configure(connection", "connection.exec_driver_sql('SET lock_timeout = 0'); connection.commit(); context.configure(connection"),
    )
    result = modules.alembic(app, fails=True)
    assert (result["code"], "lock_timeout is 0" in result["msg"], result["after"]) == ("settings", True, [])


def test_a_revision_that_fails_leaves_those_before_it(modules: Modules, app: App) -> None:
    app.revision("r3", "r2", "op.execute('CREATE TABLE third (id int)'); raise KeyError('nothing there')", "pass")
    result = modules.alembic(app, fails=True)
    assert (result["code"], result["revision"], result["after"], result["changed"]) == ("migration", "r3", ["r2"], True)
    assert "KeyError: 'nothing there'" in result["msg"]
    assert app.rows("SELECT to_regclass('third')") == [(None,)]
