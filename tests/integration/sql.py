# SPDX-License-Identifier: GPL-3.0-or-later
"""Statements on a database, each call over a connection of its own."""

from __future__ import annotations

import contextlib
import typing as t

import psycopg2


def execute(url: str, *statements: str) -> None:
    """Run *statements*, each on its own."""
    with contextlib.closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)


def rows(url: str, query: str) -> list[tuple[t.Any, ...]]:
    """The answer to *query*."""
    with contextlib.closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute(query)
        return cursor.fetchall()
