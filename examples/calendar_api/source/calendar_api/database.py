# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way to PostgreSQL."""

import sqlalchemy
from sqlalchemy import orm
from sqlalchemy.exc import DBAPIError

from .config import Settings


def engine_url(address: str) -> sqlalchemy.URL:
    """SQLAlchemy's URL with the driver psycopg2, from postgres://, postgresql:// or postgresql+driver://."""
    scheme, separator, rest = address.partition("://")
    if scheme.partition("+")[0] not in ("postgres", "postgresql"):
        raise ValueError("the database URL does not start with postgresql://")
    return sqlalchemy.make_url(f"postgresql+psycopg2{separator}{rest}")


def create_sessions(settings: Settings) -> orm.sessionmaker[orm.Session]:
    """A session factory over a small pool: at most one connection for each of gunicorn's eight threads."""
    engine = sqlalchemy.create_engine(
        engine_url(settings.database_url),
        pool_size=4,
        max_overflow=4,
        pool_timeout=5,
        pool_recycle=600,
        pool_pre_ping=True,
        # An error that is logged must not show what was written: a token may be part of it.
        hide_parameters=True,
        connect_args={"application_name": f"calendar-api {settings.release}", "connect_timeout": 5},
    )
    return orm.sessionmaker(engine)


def sql_state(error: DBAPIError) -> str | None:
    """PostgreSQL's five-character code of an error that SQLAlchemy raised; None where the server did not send one."""
    return getattr(error.orig, "pgcode", None)
