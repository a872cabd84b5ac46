# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Alembic's environment: DATABASE_URL where it is set, else sqlalchemy.url of the configuration."""

import os

import sqlalchemy
from alembic import context
from calendar_api.database import engine_url
from calendar_api.models import Base

# The variable never passes through the configuration, whose parser would trip over a percent sign.
address = os.environ.get("DATABASE_URL") or context.config.get_main_option("sqlalchemy.url")
if not address:
    raise SystemExit("DATABASE_URL is not set: give it the form postgresql://user:password@host:5432/database")
url = engine_url(address)
# One transaction for each revision: what is applied stays applied, and an index can be built outside of one.
options = {"target_metadata": Base.metadata, "transaction_per_migration": True}

if context.is_offline_mode():
    context.configure(url=url, literal_binds=True, dialect_opts={"paramstyle": "named"}, **options)
    with context.begin_transaction():
        context.run_migrations()
else:
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool, connect_args={"application_name": "calendar-api migrations"})
    with engine.connect() as connection:
        context.configure(connection=connection, **options)
        with context.begin_transaction():
            context.run_migrations()
