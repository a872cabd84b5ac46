# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of API keys: its columns, its rows and every statement on them. No key is in any. PRIVATE to the collection."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import typing as t

from ._errors import LastroError, Text
from ._token_cipher import ColumnType, decode, encode

with contextlib.suppress(ImportError):
    from psycopg2 import sql
    from psycopg2.extras import Json

if t.TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor

COLUMNS = {
    "name": "name",
    "generation": "generation",
    "key_hash": "key_hash",
    "salt_id": "salt_id",
    "created_at": "created_at",
    "revoke_after": "revoke_after",
    "revoked_at": "revoked_at",
}
"""What each column is for, and how it is called where the options do not say."""

NAMED = 10
"""How many duplicates of a kind are named."""

_CATALOG = """
SELECT a.attname, t.typname, a.attnotnull AND NOT a.atthasdef AND a.attidentity = '' AND a.attgenerated = ''
  FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
 WHERE a.attrelid = pg_catalog.to_regclass(pg_catalog.format('%%I.%%I', %s::text, %s::text)) AND a.attnum > 0 AND NOT a.attisdropped"""

_UNIQUE = """
SELECT count(*) > 0 FROM pg_catalog.pg_index i
 WHERE i.indrelid = pg_catalog.to_regclass(pg_catalog.format('%%I.%%I', %s::text, %s::text))
   AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL AND i.indnkeyatts = 2
   AND (SELECT array_agg(a.attname::text ORDER BY a.attname) FROM pg_catalog.pg_attribute a
         WHERE a.attrelid = i.indrelid AND a.attnum = ANY ((i.indkey::int2[])[0:1])) = %s::text[]"""


@dataclasses.dataclass(frozen=True)
class Table:
    """The table as the options and the catalog say; *columns* maps each purpose to its name, *form* is that of the hash."""

    schema: str
    name: str
    columns: t.Mapping[str, str]
    form: ColumnType

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"


@dataclasses.dataclass(frozen=True)
class Row:
    """One generation of a key, with the server's view of time: *age* in seconds, *over* once its grace has passed."""

    name: str
    generation: int
    key_hash: bytes = dataclasses.field(repr=False)
    salt_id: str
    age: float
    created_at: str
    revoke_after: str | None
    revoked_at: str | None
    over: bool

    @property
    def valid(self) -> bool:
        """Whether the application takes this key."""
        return self.revoked_at is None and not self.over

    def as_result(self) -> dict[str, t.Any]:
        """What modules return of it; the hash stays where it is."""
        names = ("name", "generation", "salt_id", "created_at", "revoke_after", "revoked_at")
        return {**{name: getattr(self, name) for name in names}, "age_seconds": round(self.age, 3), "valid": self.valid}


def columns_from_params(params: t.Mapping[str, t.Any]) -> dict[str, str]:
    """The columns' names. Raises LastroError where two purposes share one."""
    columns = {purpose: (params.get("columns") or {}).get(purpose) or name for purpose, name in COLUMNS.items()}
    if len(set(columns.values())) < len(columns):
        raise LastroError(
            "columns names one column for two purposes.",
            remedy=Text(en="Give each of them a column of its own.", pt_BR="Dê a cada um deles uma coluna própria."),
        )
    return columns


def read_table(cursor: Cursor, params: t.Mapping[str, t.Any], *, written: t.Collection[str] | None = None) -> Table:
    """Ask the catalog for the table. *written* names the columns that a new row gets besides ours, None where none is written.

    Raises LastroError where table or columns are not as they must be.
    """
    schema, name, columns = params["schema"], params["table"], columns_from_params(params)
    cursor.execute(_CATALOG, (schema, name))
    found = {row[0]: (row[1], row[2]) for row in cursor.fetchall()}
    if not found:
        raise LastroError(
            f"{schema}.{name} does not exist in this database.",
            remedy=Text(
                en="Run the migration that makes the table, or name the right one in table and schema.",
                pt_BR="Execute a migração que cria a tabela, ou indique a tabela certa em table e schema.",
            ),
        )
    absent = sorted({*columns.values(), *(written or ())} - set(found))
    if absent:
        raise LastroError(
            f"{schema}.{name} has no column {', '.join(absent)}.",
            remedy=Text(
                en=f"Add it with a migration, or say in columns what it is called. The table's columns are: {', '.join(sorted(found))}.",
                pt_BR=f"Crie-a com uma migração, ou diga em columns como se chama. As colunas da tabela são: {', '.join(sorted(found))}.",
            ),
        )
    if written is not None:
        _check_needed(f"{schema}.{name}", {column for column, (_type, needed) in found.items() if needed} - {*columns.values(), *written})
    return Table(schema, name, columns, _form(params, found[columns["key_hash"]][0]))


def _check_needed(table: str, needed: t.Collection[str]) -> None:
    if needed:
        raise LastroError(
            f"{table} demands a value in {', '.join(sorted(needed))}, and none is given.",
            remedy=Text(en="Give it in column_values.", pt_BR="Informe-o em column_values."),
        )


def _form(params: t.Mapping[str, t.Any], found: str) -> ColumnType:
    asked: ColumnType | None = params.get("hash_format")
    if found == "bytea" and asked in (None, "bytea"):
        return "bytea"
    if found in ("text", "varchar") and asked is not None and asked != "bytea":
        return asked
    raise LastroError(
        f"hash_format is {asked or 'not given'}, but the column of the hash is {found}.",
        remedy=Text(
            en="A bytea column needs no hash_format; for text or varchar say hex, base64 or base64url, as the application reads it.",
            pt_BR="Uma coluna bytea dispensa hash_format; para text ou varchar informe hex, base64 ou base64url, como a aplicação a lê.",
        ),
    )


def lock_number(table: str, name: str) -> int:
    """The advisory lock of one key's rotation, a signed 64-bit number."""
    digest = hashlib.sha256(f"lastro.deploy api key {table} {name}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


class Statements:
    """Every statement on the rows of one table."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._names: dict[str, sql.Composable] = {purpose: sql.Identifier(name) for purpose, name in table.columns.items()}
        self._names["table"] = sql.Identifier(table.schema, table.name)

    def rows(self, cursor: Cursor, name: str | None, *, lock: bool = False) -> list[Row]:
        """The generations of *name* (of all names where it is None), oldest first; with *lock* nobody changes them meanwhile."""
        statement = self._format(
            "SELECT {name}::text, {generation}, {key_hash}, {salt_id}::text, extract(epoch FROM now() - {created_at})::float8,"
            " {created}, {after}, {revoked}, coalesce({revoke_after} <= now(), false) FROM {table}{where} ORDER BY {name}, {generation}{lock}",
            **{alias: _moment(self._names[purpose]) for alias, purpose in (("created", "created_at"), ("after", "revoke_after"), ("revoked", "revoked_at"))},
            where=self._format(" WHERE {name} = %s") if name is not None else sql.SQL(""),
            lock=sql.SQL(" FOR UPDATE" if lock else ""),
        )
        cursor.execute(statement, () if name is None else (name,))
        return [Row(row[0], int(row[1]), self._hash(row[2]), row[3] or "", row[4] or 0.0, *row[5:]) for row in cursor.fetchall()]

    def is_unique(self, cursor: Cursor) -> bool:
        """Whether a unique index keeps (name, generation) apart."""
        pair = sorted([self._table.columns["name"], self._table.columns["generation"]])
        cursor.execute(_UNIQUE, (self._table.schema, self._table.name, pair))
        return bool(cursor.fetchall()[0][0])

    def duplicates(self, cursor: Cursor) -> dict[str, list[dict[str, t.Any]]]:
        """C(generations) that stand several times, and C(hashes) that several rows share: an application that looks for one row finds more."""
        cursor.execute(
            self._format(
                "SELECT {name}::text, {generation}, count(*) FROM {table} GROUP BY {name}, {generation}"
                " HAVING count(*) > 1 ORDER BY {name}, {generation} LIMIT %s"
            ),
            (NAMED,),
        )
        generations = [{"name": name, "generation": generation, "rows": rows} for name, generation, rows in cursor.fetchall()]
        cursor.execute(
            self._format(
                "SELECT array_agg({name}::text || ' ' || {generation}::text ORDER BY {name}, {generation}) FROM {table}"
                " GROUP BY {key_hash} HAVING count(*) > 1 ORDER BY 1 LIMIT %s"
            ),
            (NAMED,),
        )
        return {"generations": generations, "hashes": [{"keys": keys, "rows": len(keys)} for (keys,) in cursor.fetchall()]}

    def make_unique(self, cursor: Cursor) -> None:
        """Add the constraint UNIQUE (name, generation)."""
        cursor.execute(self._format("ALTER TABLE {table} ADD UNIQUE ({name}, {generation})"))

    def retire(self, cursor: Cursor, name: str, seconds: float) -> None:
        """Let every generation of *name* that is not revoked end in *seconds* from now, unless it ends before."""
        cursor.execute(
            self._format(
                "UPDATE {table} SET {revoke_after} = LEAST(coalesce({revoke_after}, 'infinity'), now() + make_interval(secs => %s))"
                " WHERE {name} = %s AND {revoked_at} IS NULL"
            ),
            (seconds, name),
        )

    def revoke(self, cursor: Cursor, name: str, generations: t.Sequence[int]) -> None:
        """Mark these generations as revoked now."""
        cursor.execute(
            self._format("UPDATE {table} SET {revoked_at} = now() WHERE {name} = %s AND {generation} = ANY (%s) AND {revoked_at} IS NULL"),
            (name, list(generations)),
        )

    def insert(self, cursor: Cursor, name: str, generation: int, *, key_hash: bytes, salt_id: str, values: t.Mapping[str, t.Any]) -> None:
        """A new generation, valid from now on."""
        row = {"name": name, "generation": generation, "key_hash": encode(self._table.form, key_hash), "salt_id": salt_id}
        cells = {self._table.columns[purpose]: value for purpose, value in row.items()}
        cells |= {column: Json(value) if isinstance(value, dict) else value for column, value in values.items()}
        columns = sql.SQL(", ").join(map(sql.Identifier, cells))
        places = sql.SQL(", ").join([sql.Placeholder()] * len(cells))
        cursor.execute(
            self._format("INSERT INTO {table} ({columns}, {created_at}) VALUES ({places}, now())", columns=columns, places=places),
            list(cells.values()),
        )

    def _hash(self, value: str | memoryview | None) -> bytes:
        try:
            return b"" if value is None else decode(self._table.form, value)
        except ValueError:
            return b""  # no hash in this form: no key fits it

    def _format(self, text: str, **more: sql.Composable) -> sql.Composed:
        return sql.SQL(text).format(**self._names, **more)


def _moment(column: sql.Composable) -> sql.Composed:
    return sql.SQL("to_char({}::timestamptz AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')").format(column)


__all__ = ("COLUMNS", "Row", "Statements", "Table", "columns_from_params", "lock_number", "read_table")
