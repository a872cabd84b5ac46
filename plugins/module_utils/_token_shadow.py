# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The shadow columns: a second ciphertext and nonce, under the next key, that change names with the first. PRIVATE to the collection."""

from __future__ import annotations

import contextlib
import typing as t

from ._token_columns import Table, shadow_name
from ._token_guard import Sleep, execute_all, guard_of_shadow, locked, read_guard, take_out

with contextlib.suppress(ImportError):
    from psycopg2 import sql

if t.TYPE_CHECKING:
    from psycopg2.extensions import connection as PostgresConnection
    from psycopg2.extensions import cursor as Cursor

_DEPENDENTS = """
SELECT DISTINCT pg_catalog.pg_describe_object(d.classid, d.objid, d.objsubid)
  FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
 WHERE d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = %s AND a.attname = ANY (%s)
UNION
SELECT 'privileges on column ' || a.attname FROM pg_catalog.pg_attribute a WHERE a.attrelid = %s AND a.attname = ANY (%s) AND a.attacl IS NOT NULL
UNION
SELECT 'NOT NULL on column ' || a.attname FROM pg_catalog.pg_attribute a WHERE a.attrelid = %s AND a.attname = ANY (%s) AND a.attnotnull
 ORDER BY 1"""


def dependents(cursor: Cursor, table: Table) -> list[str]:
    """What hangs on ciphertext and nonce, in PostgreSQL's words: it would stay with the old columns when the names change."""
    cursor.execute(_DEPENDENTS, (table.oid, [table.ciphertext.name, table.nonce.name]) * 3)
    return [str(row[0]) for row in cursor.fetchall()]


def add(connection: PostgresConnection, table: Table, *, sleep: Sleep) -> None:
    """Add the shadow columns, empty, of the types of the others. Raises LastroError where the lock does not come."""
    parts = [
        sql.SQL("ADD COLUMN IF NOT EXISTS {} {}").format(sql.Identifier(shadow_name(column.name)), sql.Identifier(column.type_schema, column.type_name))
        for column in (table.ciphertext, table.nonce)
    ]
    _alter(connection, table, parts, sleep=sleep)


def swap(connection: PostgresConnection, table: Table, *, sleep: Sleep) -> bool:
    """Exchange the names in one transaction; false, and nothing done, where under its lock a ciphertext has no shadow.

    Raises LastroError where the lock does not come.
    """
    pairs = [(sql.Identifier(column.name), sql.Identifier(shadow_name(column.name))) for column in (table.ciphertext, table.nonce)]
    (ciphertext, shadow), (nonce, shadow_nonce) = pairs
    aside = sql.Identifier("lastro_deploy_aside")
    lock = sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(table.identifier)
    check = sql.SQL("SELECT EXISTS (SELECT FROM {} WHERE ({} IS NOT NULL AND {} IS NOT NULL) IS DISTINCT FROM ({} IS NOT NULL AND {} IS NOT NULL))").format(
        table.identifier, ciphertext, nonce, shadow, shadow_nonce
    )
    renames = [
        sql.SQL("ALTER TABLE {} RENAME COLUMN {} TO {}").format(table.identifier, old, new)
        for one, other in pairs
        for old, new in ((one, aside), (other, one), (aside, other))
    ]

    def act(cursor: Cursor) -> bool:
        cursor.execute(lock)
        cursor.execute(check)
        if cursor.fetchall() != [(False,)]:
            return False
        execute_all(cursor, renames)
        return True

    return locked(connection, table, act, sleep=sleep)


def drop(connection: PostgresConnection, table: Table, *, sleep: Sleep) -> None:
    """Drop the shadow columns and their trigger. Raises LastroError where the lock does not come."""
    shadowed = guard_of_shadow(table)
    with connection.cursor() as cursor:
        state = read_guard(cursor, shadowed)
    connection.commit()
    if state != "absent":
        take_out(connection, shadowed, sleep=sleep)
    parts = [sql.SQL("DROP COLUMN {}").format(sql.Identifier(column.name)) for column in (shadowed.ciphertext, shadowed.nonce)]
    _alter(connection, table, parts, sleep=sleep)


def _alter(connection: PostgresConnection, table: Table, parts: t.Iterable[sql.Composable], *, sleep: Sleep) -> None:
    statement = sql.SQL("ALTER TABLE {} {}").format(table.identifier, sql.SQL(", ").join(parts))
    locked(connection, table, lambda cursor: cursor.execute(statement), sleep=sleep)


__all__ = ("add", "dependents", "drop", "swap")
