# SPDX-License-Identifier: GPL-3.0-or-later
"""Databases for tests that need several, or a server other than the session's."""

from __future__ import annotations

import contextlib
import secrets

import psycopg2
from demo.postgres import Postgres


def fresh(server: Postgres) -> str:
    """URL of a new, empty database; it goes with its server."""
    name = f"test_{secrets.token_hex(6)}"
    with contextlib.closing(psycopg2.connect(server.url())) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {name} TEMPLATE template0")
    return server.url(name)
