# SPDX-License-Identifier: GPL-3.0-or-later
"""A small application with Alembic migrations, for the tests of alembic and alembic_info: a chain of eight revisions."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import subprocess
import sys
import typing as t
from pathlib import Path

import psycopg2
import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.lastro.deploy.plugins.modules import alembic, alembic_info

from .module_process import started

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
    def create(cls, directory: Path, url: str, chain: dict[str, tuple[str, str]] | None = None) -> App:
        (directory / "migrations" / "versions").mkdir(parents=True)
        (directory / "alembic.ini").write_text(INI)
        (directory / "migrations" / "env.py").write_text(ENV)
        app = cls(directory, url)
        down: str | None = None
        for name, (upgrade, downgrade) in (CHAIN if chain is None else chain).items():
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
        with contextlib.closing(psycopg2.connect(self.url)) as opened, opened as connection, connection.cursor() as cursor:
            cursor.execute(query)
            return cursor.fetchall() if cursor.description else []

    def files(self) -> set[str]:
        return {str(path) for path in self.directory.rglob("*")}


class Modules:
    """The two modules, called in process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.verbosity = 0

    def _call(self, main: t.Callable[[], None], options: dict[str, t.Any], *, check: bool, fails: bool) -> dict[str, t.Any]:
        switches = {"_ansible_check_mode": check, "_ansible_diff": True, "_ansible_verbosity": self.verbosity}
        with patch_module_args({**options, **switches}), pytest.raises(SystemExit):
            main()
        result: dict[str, t.Any] = json.loads(self._capsys.readouterr().out)
        assert bool(result.get("failed")) == fails, result
        return result

    def alembic(self, app: App, *, check: bool = False, fails: bool = False, **options: object) -> dict[str, t.Any]:
        return self._call(alembic.main, app.options(**options), check=check, fails=fails)

    def info(self, app: App, *, check: bool = False, fails: bool = False, **options: object) -> dict[str, t.Any]:
        return self._call(alembic_info.main, app.options(**options), check=check, fails=fails)


def names(entries: list[dict[str, t.Any]]) -> list[str]:
    return [entry["revision"] for entry in entries]


def running(app: App, module: str = "alembic", **options: object) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
    """One of the modules in a process of its own."""
    return started(module, app.options(**options))


def sessions(app: App, where: str) -> list[tuple[t.Any, ...]]:
    return app.rows(
        f"SELECT pid, query_start FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'lastro.deploy migrate' AND {where}"
    )


def written(app: App, file: str, text: str) -> dict[str, t.Any]:
    """Put *text* into a file of the application; no options."""
    (app.directory / file).write_text(text)
    return {}
