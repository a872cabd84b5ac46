# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which table and columns hold tokens: the options, and what the catalog says of them. PRIVATE to the collection."""

from __future__ import annotations

import contextlib
import dataclasses
import typing as t

from ._argspec import ArgumentSpec
from ._errors import LastroError, Text
from ._token_cipher import COLUMN_TYPES, FORMATS, ColumnType, Format

with contextlib.suppress(ImportError):
    from psycopg2 import sql

if t.TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor

TABLE_KINDS = ("r", "p")
MAX_NAME = 63
SHADOW_SUFFIX = "__shadow"

_TABLE = """
SELECT c.oid, c.relkind
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = %s AND c.relname = %s"""

_COLUMNS = """
SELECT a.attname, a.attnotnull, n.nspname, t.typname, b.typname, b.typcategory
  FROM pg_catalog.pg_attribute a
  JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
  JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
  JOIN pg_catalog.pg_type b ON b.oid = CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE t.oid END
 WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped"""

_UNIQUE_INDEXES = """
SELECT i.indisprimary, array_agg(a.attname::text ORDER BY k.position), bool_and(a.attnotnull)
  FROM pg_catalog.pg_index i
  CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k(number, position)
  JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number
 WHERE i.indrelid = %s AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL
   AND k.position <= i.indnkeyatts
 GROUP BY i.indexrelid, i.indisprimary
 ORDER BY i.indisprimary DESC"""


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of the catalog: its type, that type's name below a domain, and the category of that."""

    name: str
    not_null: bool
    type_schema: str
    type_name: str
    base_type: str
    category: str


@dataclasses.dataclass(frozen=True)
class Names:
    """What the options say, before the catalog was asked."""

    schema: str
    table: str
    key_columns: tuple[str, ...]
    source: str
    ciphertext: str
    nonce: str
    column_type: ColumnType | None
    hash_column: str | None = None
    key_id_column: str | None = None
    format: Format = "compat"


@dataclasses.dataclass(frozen=True)
class Table:
    """A table that was found fit: *keys* identify a row, in this order; *column_type* is that of ciphertext and nonce.

    *lookup* holds the token's HMAC, *key_id* names the key, *shadow* is a second ciphertext and nonce, under another key.
    """

    oid: int
    schema: str
    name: str
    keys: tuple[Column, ...]
    source: Column
    ciphertext: Column
    nonce: Column
    column_type: ColumnType
    lookup: Column | None = None
    key_id: Column | None = None
    shadow: tuple[Column, Column] | None = None

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"

    @property
    def identifier(self) -> sql.Identifier:
        """The qualified table in a statement."""
        return sql.Identifier(self.schema, self.name)


def columns_argument_spec() -> ArgumentSpec:
    """The options that go with the doc fragment C(token_columns)."""
    return ArgumentSpec(
        options={
            "schema": {"type": "str", "default": "public"},
            "table": {"type": "str", "required": True},
            "key_columns": {"type": "list", "elements": "str", "no_log": False},
            "source": {"type": "str", "default": "token"},
            "ciphertext": {"type": "str", "default": "token_encrypted"},
            "nonce": {"type": "str", "default": "token_nonce"},
            "column_type": {"type": "str", "choices": list(COLUMN_TYPES)},
            "format": {"type": "str", "default": "compat", "choices": list(FORMATS)},
            "hash_column": {"type": "str"},
            "key_id_column": {"type": "str", "no_log": False},
            "encryption_keys": {"type": "list", "elements": "str", "no_log": True},
            "key_variable": {"type": "str", "default": "TOKEN_ENCRYPTION_KEY", "no_log": False},
            "application_name": {"type": "str", "default": "lastro.deploy tokens"},
        },
    )


def names_from_params(params: t.Mapping[str, t.Any]) -> Names:
    """The names that the options of ``columns_argument_spec`` give."""
    return Names(
        schema=params["schema"],
        table=params["table"],
        key_columns=tuple(params.get("key_columns") or ()),
        source=params["source"],
        ciphertext=params["ciphertext"],
        nonce=params["nonce"],
        column_type=params.get("column_type"),
        hash_column=params.get("hash_column"),
        key_id_column=params.get("key_id_column"),
        format=params.get("format") or "compat",
    )


def read_table(cursor: Cursor, names: Names) -> Table:
    """Ask the catalog for the table. Raises LastroError where table, columns or key are not as they must be."""
    oid = _find_table(cursor, names)
    columns = columns_of(cursor, oid)
    _require_columns(names, columns)
    keys = _find_key(cursor, oid, names)
    _check_types(names, columns)
    shadow = [columns.get(shadow_name(name)) for name in (names.ciphertext, names.nonce)]
    return Table(
        oid=oid,
        schema=names.schema,
        name=names.table,
        keys=tuple(columns[key] for key in keys),
        source=columns[names.source],
        ciphertext=columns[names.ciphertext],
        nonce=columns[names.nonce],
        column_type=_column_type(names, columns),
        lookup=columns[names.hash_column] if names.hash_column else None,
        key_id=columns[names.key_id_column] if names.key_id_column else None,
        shadow=(shadow[0], shadow[1]) if shadow[0] and shadow[1] else None,
    )


def columns_of(cursor: Cursor, oid: int) -> dict[str, Column]:
    """The columns of a table, by name."""
    cursor.execute(_COLUMNS, (oid,))
    return {row[0]: Column(*row) for row in cursor.fetchall()}


def shadow_name(column: str) -> str:
    """What a column's shadow is called, cut to the length that PostgreSQL allows."""
    return column.encode()[: MAX_NAME - len(SHADOW_SUFFIX)].decode(errors="ignore") + SHADOW_SUFFIX


def _find_table(cursor: Cursor, names: Names) -> int:
    cursor.execute(_TABLE, (names.schema, names.table))
    row = cursor.fetchone()
    if row is None or row[1] not in TABLE_KINDS:
        what = "does not exist in this database" if row is None else "is not a table"
        raise LastroError(
            f"{names.schema}.{names.table} {what}.",
            remedy=Text(
                en="Name the table that holds the tokens in table and schema, and check that the URL names the right database.",
                pt_BR="Indique em table e schema a tabela que contém os tokens e verifique se a URL aponta para o banco certo.",
            ),
        )
    return int(row[0])


def _require_columns(names: Names, columns: t.Mapping[str, Column]) -> None:
    optional = [(option, name) for option, name in (("hash_column", names.hash_column), ("key_id_column", names.key_id_column)) if name]
    roles = [names.source, names.ciphertext, names.nonce, *(name for _option, name in optional), *names.key_columns]
    if len({*roles}) != len(roles):
        raise LastroError(
            "source, ciphertext, nonce, hash_column, key_id_column and key_columns name the same column twice.",
            remedy=Text(en="Give each of them a column of its own.", pt_BR="Dê a cada um deles uma coluna própria."),
        )
    absent = [name for name in (names.ciphertext, names.nonce) if name not in columns]
    if absent and names.source in columns:
        raise LastroError(
            f"{names.schema}.{names.table} has no column {' and no column '.join(absent)}: the migration that adds them must run first.",
            remedy=Text(
                en="Run the migration that adds the ciphertext and nonce columns, or name the right columns in ciphertext and nonce.",
                pt_BR="Execute a migração que cria as colunas do texto cifrado e do nonce, ou indique as colunas certas em ciphertext e nonce.",
            ),
        )
    for option, name in [("source", names.source), *optional, *(("key_columns", key) for key in names.key_columns)]:
        if name not in columns:
            raise LastroError(
                f"{names.schema}.{names.table} has no column {name} (option {option}).",
                remedy=Text(
                    en=f"The table's columns are: {', '.join(sorted(columns))}.",
                    pt_BR=f"As colunas da tabela são: {', '.join(sorted(columns))}.",
                ),
            )


def _find_key(cursor: Cursor, oid: int, names: Names) -> tuple[str, ...]:
    cursor.execute(_UNIQUE_INDEXES, (oid,))
    indexes: list[tuple[bool, list[str], bool]] = cursor.fetchall()
    wanted = names.key_columns
    if not wanted and indexes and indexes[0][0]:
        wanted = tuple(indexes[0][1])
    fits = any(not_null and set(columns) <= set(wanted) for _primary, columns, not_null in indexes)
    values = {names.source, names.ciphertext, names.nonce}
    if wanted and fits and not values & set(wanted):
        return wanted
    what = f"({', '.join(wanted)}) does not identify its rows" if wanted else "has no primary key"
    raise LastroError(
        f"{names.schema}.{names.table} {what}: no row could be updated safely.",
        remedy=Text(
            en="Add a primary key, or name in key_columns columns that are NOT NULL and have a unique index that is neither partial nor deferrable.",
            pt_BR="Crie uma chave primária, ou indique em key_columns colunas NOT NULL com índice único que não seja parcial nem adiável.",
        ),
    )


def _check_types(names: Names, columns: t.Mapping[str, Column]) -> None:
    source = columns[names.source]
    if source.category != "S" or source.base_type == "bpchar":
        raise LastroError(
            f"Column {source.name} of {names.schema}.{names.table} is of type {source.type_name}; text or varchar is needed.",
            remedy=Text(en="Name the column that holds the clear tokens in source.", pt_BR="Indique em source a coluna que contém os tokens em texto claro."),
        )
    for option, name in (("hash_column", names.hash_column), ("key_id_column", names.key_id_column)):
        if name and not (columns[name].base_type == "bytea" or (columns[name].category == "S" and columns[name].base_type != "bpchar")):
            raise LastroError(
                f"Column {name} of {names.schema}.{names.table} (option {option}) is of type {columns[name].type_name}; bytea, text or varchar is needed.",
                remedy=Text(en="Let a migration change its type: text holds hex.", pt_BR="Altere o tipo numa migração: text guarda hexadecimal."),
            )


def _column_type(names: Names, columns: t.Mapping[str, Column]) -> ColumnType:
    stated = names.column_type
    pair = (columns[names.ciphertext], columns[names.nonce])
    if stated in (None, "bytea") and all(column.base_type == "bytea" for column in pair):
        return "bytea"
    if stated is not None and stated != "bytea" and all(column.category == "S" and column.base_type != "bpchar" for column in pair):
        return stated
    found = " and ".join(f"{column.name} is {column.type_name}" for column in pair)
    raise LastroError(
        f"column_type is {stated or 'not given'}, but in {names.schema}.{names.table} {found}.",
        remedy=Text(
            en="bytea columns need no column_type; for text columns say base64, base64url or hex, as the application reads them.",
            pt_BR="Colunas bytea dispensam column_type; para colunas de texto informe base64, base64url ou hex, como a aplicação as lê.",
        ),
    )


__all__ = ("Column", "Names", "Table", "columns_argument_spec", "columns_of", "names_from_params", "read_table", "shadow_name")
