# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is asked of the table before its first row is written: who depends on the clear column, and which constraints the new rows would break.

A row that a constraint refuses stands in the server's log, clear token and all; so each is tried on an image of the rows first. PRIVATE to the collection.
"""

from __future__ import annotations

import contextlib
import typing as t

from ._token_cipher import NONCE_BYTES, TAG_BYTES, ColumnType
from ._token_columns import Column, Table, columns_of
from ._token_sql import Statements, Which, column_kind

with contextlib.suppress(ImportError):
    from psycopg2 import sql

if t.TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor

_DEPENDENTS = """
WITH clear AS (SELECT a.attrelid, a.attnum FROM pg_catalog.pg_attribute a WHERE a.attrelid = %s AND a.attname = %s),
     needs AS (SELECT d.classid, d.objid FROM pg_catalog.pg_depend d, clear
                WHERE d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = clear.attrelid AND d.refobjsubid = clear.attnum)
SELECT 'unique index', x.relname::text FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid, clear
 WHERE i.indrelid = clear.attrelid AND i.indisunique AND (clear.attnum = ANY (i.indkey::int2[]) OR i.indexrelid IN (SELECT objid FROM needs))
UNION
SELECT CASE v.relkind WHEN 'm' THEN 'materialized view' ELSE 'view' END, v.relname::text
  FROM needs JOIN pg_catalog.pg_rewrite r ON needs.classid = 'pg_catalog.pg_rewrite'::regclass AND r.oid = needs.objid
  JOIN pg_catalog.pg_class v ON v.oid = r.ev_class AND v.relkind IN ('v', 'm')
UNION
SELECT 'generated column', a.attname::text
  FROM needs JOIN pg_catalog.pg_attrdef f ON needs.classid = 'pg_catalog.pg_attrdef'::regclass AND f.oid = needs.objid
  JOIN pg_catalog.pg_attribute a ON a.attrelid = f.adrelid AND a.attnum = f.adnum AND a.attgenerated <> ''
 ORDER BY 1, 2"""

_CONSTRAINTS = """
SELECT conname::text, pg_catalog.pg_get_expr(conbin, conrelid) FROM pg_catalog.pg_constraint WHERE conrelid = %s AND contype = 'c' ORDER BY 1"""

_LIMITS = """
SELECT attname::text, atttypmod - 4 FROM pg_catalog.pg_attribute
 WHERE attrelid = %s AND attname = ANY (%s) AND atttypid = 'pg_catalog.varchar'::regtype AND atttypmod > 4"""

_ROWS: dict[str, Which] = {"encrypted": "pending", "cleared": "clear", "decrypted": "sealed"}


def dependents(cursor: Cursor, table: Table, accepted: t.Collection[str]) -> list[str]:
    """Unique indexes, views and generated columns on the clear column, less those whose name is *accepted*.

    A unique index is no hindrance where the HMAC of the token takes its place.
    """
    cursor.execute(_DEPENDENTS, (table.oid, table.source.name))
    found = [(kind, name) for kind, name in cursor.fetchall() if name not in accepted and not (kind == "unique index" and table.lookup)]
    return [f"{kind} {name}" for kind, name in found]


def broken_constraints(cursor: Cursor, table: Table, statements: Statements, state: str) -> dict[str, int]:
    """CHECK constraints and lengths that rows would break once they are as *state* makes them, each with the number of such rows."""
    image = _image(table, state)
    checks = _checks(cursor, table, image)
    if not checks or state not in _ROWS:
        return {}
    columns = [sql.SQL("{} AS {}").format(image.get(name, sql.Identifier("t", name)), sql.Identifier(name)) for name in columns_of(cursor, table.oid)]
    rows = sql.SQL("SELECT {} FROM {} AS t WHERE {}").format(sql.SQL(", ").join(columns), table.identifier, statements.where(_ROWS[state]))
    counts = [sql.SQL("count(*) FILTER (WHERE NOT ({}))").format(check) for _name, check in checks]
    cursor.execute(sql.SQL("SELECT {} FROM ({}) AS image").format(sql.SQL(", ").join(counts), rows))
    found = zip((name for name, _check in checks), cursor.fetchall()[0], strict=True)
    return {name: count for name, count in found if count}


def _checks(cursor: Cursor, table: Table, image: t.Mapping[str, sql.Composable]) -> list[tuple[str, sql.Composable]]:
    cursor.execute(_CONSTRAINTS, (table.oid,))
    checks: list[tuple[str, sql.Composable]] = [(f"constraint {name}", sql.SQL(expression)) for name, expression in cursor.fetchall()]
    cursor.execute(_LIMITS, (table.oid, list(image)))
    lengths = [(name, sql.SQL("length({}) <= {}").format(sql.Identifier(name), sql.Literal(limit))) for name, limit in cursor.fetchall()]
    return checks + [(f"length of column {name}", check) for name, check in lengths]


def _image(table: Table, state: str) -> dict[str, sql.Composable]:
    """What a row's columns will be like; as long as they will be, without what they will say."""
    kind = table.column_type
    if state == "cleared":
        return {table.source.name: sql.SQL("NULL::{}").format(sql.Identifier(table.source.type_schema, table.source.type_name))}
    if state == "decrypted":
        return {table.source.name: sql.SQL("repeat('x', greatest({} - {}, 0))").format(_size(kind, table.ciphertext), sql.Literal(TAG_BYTES))}
    size = sql.SQL("octet_length({}::text) + {}").format(sql.Identifier("t", table.source.name), sql.Literal(TAG_BYTES))
    image = {table.ciphertext.name: _filler(kind, size), table.nonce.name: _filler(kind, sql.Literal(NONCE_BYTES))}
    for column, length in ((table.lookup, 32), (table.key_id, 4)):
        if column:
            image[column.name] = _filler(column_kind(column), sql.Literal(length))
    return image


def _filler(kind: ColumnType, size: sql.Composable) -> sql.Composable:
    """As many bytes as a column of this type holds them."""
    if kind == "bytea":
        return sql.SQL("decode(repeat('00', {}), 'hex')").format(size)
    if kind == "hex":
        return sql.SQL("repeat('0', 2 * ({}))").format(size)
    return sql.SQL("repeat('A', 4 * (({} + 2) / 3))").format(size)


def _size(kind: ColumnType, column: Column) -> sql.Composable:
    """How many bytes a column holds, roughly for base64."""
    name = sql.Identifier("t", column.name)
    return sql.SQL({"bytea": "octet_length({})", "hex": "length({}) / 2"}.get(kind, "length({}) * 3 / 4")).format(name)


__all__ = ("broken_constraints", "dependents")
