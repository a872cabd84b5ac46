# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures that every kind of test shares: a real PostgreSQL server and a fresh database on it."""

from __future__ import annotations

import collections.abc
import secrets
import shutil
import tempfile
from pathlib import Path

import psycopg2
import pytest
from demo.postgres import Postgres


@pytest.fixture(scope="session")
def postgres() -> collections.abc.Iterator[Postgres]:
    """One PostgreSQL 18 server for the whole session."""
    base = Path(tempfile.mkdtemp(prefix="lastro-test-"))
    base.chmod(0o755)
    server = Postgres.create(base / "postgres")
    try:
        yield server
    finally:
        server.stop("immediate")
        shutil.rmtree(base)


@pytest.fixture
def database(postgres: Postgres) -> collections.abc.Iterator[str]:
    """URL of a fresh, empty database; dropped afterwards."""
    name = f"test_{secrets.token_hex(6)}"
    connection = psycopg2.connect(postgres.url())
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            cursor.execute(f'CREATE DATABASE "{name}" TEMPLATE template0')
            yield postgres.url(name)
            cursor.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
    finally:
        connection.close()
