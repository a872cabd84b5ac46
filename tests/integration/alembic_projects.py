# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole applications of different kinds for the tests of alembic: a branching chain of 44 revisions, an asynchronous one, two with Flask-Migrate."""

from __future__ import annotations

import importlib.resources
import shutil
from pathlib import Path

from .alembic_project import ENV, INI, App

HEADER = "import sqlalchemy as sa\nfrom alembic import op\n"
ASYNC_ENV = """
import asyncio
import os
from alembic import context
from sqlalchemy import pool
from sqlalchemy.ext.asyncio import create_async_engine

def run(connection):
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()

async def online():
    engine = create_async_engine(context.config.get_main_option("sqlalchemy.url"), poolclass=pool.NullPool)
    async with engine.connect() as connection:
        await connection.run_sync(run)
    await engine.dispose()

if context.is_offline_mode():
    context.configure(url=context.config.get_main_option("sqlalchemy.url"), literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()
else:
    asyncio.run(online())
"""
FLASK_APP = """
import os
from flask import Flask
from flask_migrate import Migrate
from flask_sqlalchemy import SQLAlchemy

db = SQLAlchemy()

class Pet(db.Model):
    __tablename__ = "t1"
    id = db.Column(db.Integer, primary_key=True)
    a = db.Column(db.Text)

def create_app():
    app = Flask(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = os.environ["DATABASE_URL"].replace("postgresql://", "postgresql+psycopg2://")
    db.init_app(app)
    Migrate(app, db, compare_type=True)
    return app
"""


def _revision(folder: Path, name: str, down: object, upgrade: str, downgrade: str, *, labels: str = "None", depends: str = "None") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    head = f'"""message of {name}"""\n{HEADER}revision = {name!r}\ndown_revision = {down!r}\nbranch_labels = {labels}\ndepends_on = {depends}\n'
    (folder / f"{name}.py").write_text(f"{head}def upgrade():\n    {upgrade}\ndef downgrade():\n    {downgrade}\n")


def _table(name: str) -> tuple[str, str]:
    return f"op.create_table('t_{name}', sa.Column('id', sa.Integer, primary_key=True), sa.Column('a', sa.Text))", f"op.drop_table('t_{name}')"


def _column(table: str, name: str) -> tuple[str, str]:
    return f"op.add_column('t_{table}', sa.Column('c_{name}', sa.Text))", f"op.drop_column('t_{table}', 'c_{name}')"


def branching(directory: Path, url: str) -> App:
    """44 revisions in two version_locations: a trunk with three branches and merges, and a second base with a label that depends on the trunk."""
    main, audit = directory / "migrations" / "versions", directory / "audit"
    (directory / "migrations").mkdir(parents=True)
    # A separator that every Alembic from 1.10 on takes.
    ini = INI + "version_path_separator = os\nversion_locations = %(here)s/migrations/versions:%(here)s/audit\n"
    (directory / "alembic.ini").write_text(ini)
    own = "version_table='schema_revisions', version_table_schema='admin', "
    (directory / "migrations" / "env.py").write_text(ENV.replace("context.configure(", f"context.configure({own}"))
    _revision(main, "m00", None, *_table("m00"))
    below = "m00"
    for number in range(3):
        left, right, merge = (f"{kind}{number}" for kind in ("left", "right", "merge"))
        for side in (left, right):
            at = below
            for step in range(5):
                name = f"{side}_{step}"
                _revision(main, name, at, *(_table(name) if step == 0 else _column(f"{side}_0", name)))
                at = name
        _revision(main, merge, (f"{left}_4", f"{right}_4"), "pass", "pass")
        below = merge
    _revision(main, "m90", below, "op.execute('ALTER TABLE t_m00 DROP COLUMN a')", "op.add_column('t_m00', sa.Column('a', sa.Text))")
    _revision(audit, "a00", None, *_table("a00"), labels="('audit',)", depends="('m00',)")
    for step in range(1, 9):
        _revision(audit, f"a{step:02}", f"a{step - 1:02}", *_column("a00", f"a{step:02}"))
    return App(directory, url)


def asynchronous(directory: Path, url: str) -> App:
    """An env.py with an asyncpg engine, and a pyproject.toml in place of alembic.ini."""
    App.create(directory, url)
    (directory / "alembic.ini").unlink()
    (directory / "pyproject.toml").write_text('[tool.alembic]\nscript_location = "%(here)s/migrations"\nprepend_sys_path = ["."]\n')
    (directory / "migrations" / "env.py").write_text(ASYNC_ENV)
    return App(directory, url.replace("postgresql://", "postgresql+asyncpg://"))


def flask(directory: Path, url: str, *, pushes: bool) -> App:
    """Flask-Migrate's own env.py; *pushes*: it makes the context itself."""
    templates = Path(str(importlib.resources.files("flask_migrate"))) / "templates" / "flask"
    migrations = directory / "migrations"
    shutil.copytree(templates, migrations)
    (migrations / "alembic.ini.mako").rename(migrations / "alembic.ini")
    (directory / "web.py").write_text(FLASK_APP)
    if pushes:
        env = migrations / "env.py"
        env.write_text("import sys\nsys.path.insert(0, '.')\nimport web\nweb.create_app().app_context().push()\n" + env.read_text())
        ini = migrations / "alembic.ini"
        ini.write_text(ini.read_text().replace("[alembic]\n", "[alembic]\nscript_location = %(here)s\n"))
    _revision(migrations / "versions", "f1", None, *_table("x"))
    _revision(migrations / "versions", "f2", "f1", "op.rename_table('t_x', 't1')", "op.rename_table('t1', 't_x')")
    return App(directory, url)
