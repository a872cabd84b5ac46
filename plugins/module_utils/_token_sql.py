# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pages of rows and guarded batches of writes. PRIVATE to the collection.

Keys travel as text in both directions, so that any type that PostgreSQL can compare works. A row is written only while
its ``xmin`` is the one that was read: whatever another session committed meanwhile stays. No statement holds a clear
token: psycopg2 puts parameters into the statement's text, and the server may log that.
"""

from __future__ import annotations

import contextlib
import io
import typing as t

from ._copy_rows import CopyRows, RawRow
from ._token_cipher import ColumnType, Sealed, encode
from ._token_columns import Column, Table

with contextlib.suppress(ImportError):
    from psycopg2 import extensions, sql

if t.TYPE_CHECKING:
    from psycopg2.extensions import connection as PostgresConnection
    from psycopg2.extensions import cursor as Cursor

_BYTEA_OID = 17
PAGE_BYTES = 8 * 1024 * 1024
"""A page ends early where its values reach this size, so that a table of large values needs no more memory."""

ENCRYPTED_LOOKING = (
    r"^(gAAAA[A-Za-z0-9_-]|v[0-9]+:|vault:v[0-9]|enc:|ENC\[|nacl:|brng:|fips:|AQICAH|\$aes|age-encryption\.org|-----BEGIN (PGP|AGE)|\{\"p\": ?\")"
)
"""Beginnings of Fernet, Vault transit, KMS, age, PGP, CipherSweet and Rails ciphertexts, and of the usual home-made prefixes."""

Value: t.TypeAlias = "str | bytes | None"
Which = t.Literal["pending", "clear", "sealed", "all"]


class Row(t.NamedTuple):
    """A row as it was read: *key* is its key as text, *version* its xmin; ciphertext and nonce as the column holds them."""

    key: tuple[str, ...]
    version: str
    source: str | None
    ciphertext: Value
    nonce: Value
    lookup: Value = None
    key_id: Value = None
    shadow: Value = None
    shadow_nonce: Value = None


class Counts(t.NamedTuple):
    """One look at the whole table, in rows. *sealed*: both columns filled; *undoable*: sealed without a clear text.

    *largest*: bytes of the largest row's values.
    """

    total: int
    null_rows: int
    sealed: int
    pending: int
    clear_values: int
    undoable: int
    suspicious: int
    largest: int


def read_bytes(connection: PostgresConnection) -> None:
    """From now on its bytea values come as bytes (with C(bytea_output) hex): twice as quick as the driver's memoryview."""
    extensions.register_type(extensions.new_type((_BYTEA_OID,), "LASTRO_BYTES", _of_hex), connection)


def _of_hex(value: str | bytes | None, _cursor: Cursor) -> bytes | None:
    return bytes.fromhex(value[2:]) if isinstance(value, str) else value


def array_literal(values: t.Iterable[str]) -> str:
    """PostgreSQL's text form of an array. One literal is parsed several times faster than ARRAY[...] of as many constants.

    No value holds NUL, since no text of PostgreSQL does: so it can stand between them while all are escaped at once.
    """
    every = list(values)
    if not every:
        return "{}"
    return '{"' + "\0".join(every).replace("\\", "\\\\").replace('"', '\\"').replace("\0", '","') + '"}'


def _plain_array(values: t.Iterable[str]) -> str:
    """The same of values that need no quotes, in a fifth of the time."""
    return f"{{{','.join(values)}}}"


def column_kind(column: Column) -> ColumnType:
    """How a column other than ciphertext and nonce holds bytes."""
    return "bytea" if column.base_type == "bytea" else "hex"


def _sent(kind: ColumnType, data: bytes) -> str:
    """How bytes travel in an array: as the column's text, or for bytea as base64, which is shorter than its own form and needs no quotes."""
    return encode("base64" if kind == "bytea" else kind, data)


def copy_line(fields: t.Iterable[str]) -> str:
    """One line of COPY's text format."""
    escaped = (field.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r") for field in fields)
    return "\t".join(escaped) + "\n"


class Statements:
    """Every statement on the rows of one table."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._source = sql.Identifier(table.source.name)
        self._ciphertext = sql.Identifier(table.ciphertext.name)
        self._nonce = sql.Identifier(table.nonce.name)
        # Qualified, so that ORDER BY never takes them for an output column of the same name.
        self._keys = [sql.Identifier("t", column.name) for column in table.keys]
        self._types = [sql.Identifier(column.type_schema, column.type_name) for column in table.keys]
        sealed = sql.SQL("({} IS NOT NULL AND {} IS NOT NULL)").format(self._ciphertext, self._nonce)
        pending = sql.SQL("({} IS NOT NULL AND NOT {})").format(self._source, sealed)
        if table.lookup:
            pending = sql.SQL("({} OR {} AND {} IS NULL)").format(pending, sealed, sql.Identifier(table.lookup.name))
        self._verified = tuple(column for column in (table.source, table.ciphertext, table.nonce, table.lookup) if column)
        further = (table.lookup, table.key_id, *(table.shadow or ()))
        self._further = [sql.Identifier("t", column.name) if column else sql.SQL("NULL::bytea") for column in further] if any(further) else []
        self._where: dict[Which, sql.Composable] = {
            "pending": pending,
            "clear": sql.SQL("({} IS NOT NULL)").format(self._source),
            "sealed": sealed,
            "all": sql.SQL("true"),
        }

    def where(self, which: Which) -> sql.Composable:
        """The condition of a kind of rows, of the table as C(t)."""
        return self._where[which]

    def count(self, cursor: Cursor) -> Counts:
        """Count the table's rows in one scan."""
        statement = sql.SQL(
            "SELECT count(*), count(*) FILTER (WHERE {source} IS NULL AND {ciphertext} IS NULL AND {nonce} IS NULL),"
            " count(*) FILTER (WHERE {sealed}), count(*) FILTER (WHERE {pending}), count({source}),"
            " count(*) FILTER (WHERE {source} IS NULL AND {sealed}), count(*) FILTER (WHERE {pending} AND {source}::text ~ %s),"
            " coalesce(max(coalesce(octet_length({source}::text), 0) + coalesce(octet_length({ciphertext}), 0)), 0)"
            " FROM {table} AS t"
        ).format(**self._names(), sealed=self._where["sealed"], pending=self._where["pending"])
        cursor.execute(statement, (ENCRYPTED_LOOKING,))
        return Counts(*cursor.fetchall()[0])

    def suspicious_keys(self, cursor: Cursor, limit: int) -> list[tuple[str, ...]]:
        """Keys of rows that wait for encryption though their value already looks encrypted."""
        statement = sql.SQL("SELECT {keys} FROM {table} AS t WHERE {pending} AND {source}::text ~ %s ORDER BY {order} LIMIT %s").format(
            **self._names(), keys=_joined(sql.SQL("{}::text").format(key) for key in self._keys), pending=self._where["pending"], order=_joined(self._keys)
        )
        cursor.execute(statement, (ENCRYPTED_LOOKING, limit))
        return [tuple(row) for row in cursor.fetchall()]

    def page(self, cursor: Cursor, which: Which, limit: int, *, after: tuple[str, ...] | None = None, backwards: bool = False, sized: bool = True) -> list[Row]:
        """At most *limit* rows (with *sized* fewer where they are large) in the order of the key, those behind *after*."""
        aliases = [sql.Identifier(f"k{number}") for number in range(len(self._keys))]
        direction = sql.SQL(" DESC" if backwards else " ASC")
        further = [sql.Identifier(f"f{number}") for number in range(len(self._further))]
        size = sql.SQL(", coalesce(octet_length({source}::text), 0) + coalesce(octet_length({ciphertext}), 0) AS size").format(**self._names())
        page = sql.SQL(
            "SELECT {keys}, xmin::text AS version, {source}::text AS source, {ciphertext} AS ciphertext, {nonce} AS nonce{further}{size}"
            " FROM {table} AS t WHERE {where}{after} ORDER BY {order} LIMIT %s"
        ).format(
            **self._names(),
            keys=_joined(sql.SQL("{} AS {}").format(key, alias) for key, alias in zip(self._keys, aliases, strict=True)),
            further=_listed(sql.SQL("{} AS {}").format(one, alias) for one, alias in zip(self._further, further, strict=True)),
            size=size if sized else sql.SQL(""),
            where=self._where[which],
            after=self._behind() if after else sql.SQL(""),
            order=_joined(key + direction for key in self._keys),
        )
        window = _joined(alias + direction for alias in aliases)
        short = sql.SQL(
            "(SELECT * FROM (SELECT *, sum(size) OVER (ORDER BY {window} ROWS UNBOUNDED PRECEDING) - size AS before FROM ({page}) AS page) AS sized"
            " WHERE before < {bytes})"
        ).format(window=window, page=page, bytes=sql.Literal(PAGE_BYTES))
        # Other output names than k0, k1, ...: ORDER BY would take those, and sort as text.
        texts = _joined(sql.SQL("{}::text AS {}").format(alias, sql.Identifier(f"t{number}")) for number, alias in enumerate(aliases))
        statement = sql.SQL("SELECT {texts}, version, source, ciphertext, nonce{further} FROM {rows} AS rows ORDER BY {window}").format(
            texts=texts, further=_listed(further), rows=short if sized else sql.SQL("({})").format(page), window=window
        )
        cursor.execute(statement, (*(after or ()), limit))
        return self._rows(cursor)

    def stream(self, cursor: Cursor, size: int, take: t.Callable[[list[RawRow]], None]) -> None:
        """Every row to *take*, *size* at a time, in the order of the table's file; ``row`` makes a Row of one. The server reads on meanwhile."""
        values = [sql.SQL("{}" if column.base_type == "bytea" else "{}::text").format(sql.Identifier("t", column.name)) for column in self._verified]
        fields = _joined([*values, *(sql.SQL("{}::text").format(key) for key in self._keys)])
        rows = CopyRows(size, take)
        cursor.copy_expert(sql.SQL("COPY (SELECT {fields} FROM {table} AS t) TO STDOUT (FORMAT binary)").format(**self._names(), fields=fields), rows)
        rows.finish()

    def row(self, raw: RawRow) -> Row:
        """The row behind what ``stream`` hands on, without its version."""
        fields = [column.base_type == "bytea" for column in self._verified] + [False] * len(self._keys)
        values = [value if value is None or is_bytes else value.decode() for value, is_bytes in zip(raw, fields, strict=True)]
        count = len(self._verified)
        return Row(t.cast("tuple[str, ...]", tuple(values[count:])), "", *t.cast("list[t.Any]", values[:count]))

    def rows_at(self, cursor: Cursor, keys: t.Sequence[tuple[str, ...]]) -> list[Row]:
        """The rows that have these keys, in no order."""
        texts = _joined(sql.SQL("{}::text").format(key) for key in self._keys)
        values = _joined(sql.Identifier("t", column.name) for column in (self._table.ciphertext, self._table.nonce))
        statement = sql.SQL(
            "SELECT {texts}, t.xmin::text, {source}::text, {values}{further} FROM {table} AS t JOIN unnest({arrays}) AS v({aliases}) ON {join}"
        ).format(
            **{**self._names(), "source": sql.Identifier("t", self._table.source.name)},
            **self._joining(),
            texts=texts,
            values=values,
            further=_listed(self._further),
        )
        cursor.execute(statement, [array_literal(column) for column in zip(*keys, strict=True)])
        return self._rows(cursor)

    def random_rows(self, cursor: Cursor, total: int, limit: int) -> list[Row]:
        """About *limit* rows with both columns filled, from pages of the table taken at random."""
        percent = min(100.0, 300.0 * limit / max(total, 1))
        statement = sql.SQL(
            "SELECT {keys}, xmin::text, {source}::text, {ciphertext}, {nonce}{further} FROM {table} AS t TABLESAMPLE SYSTEM (%s) WHERE {sealed} LIMIT %s"
        ).format(
            **self._names(), keys=_joined(sql.SQL("{}::text").format(key) for key in self._keys), sealed=self._where["sealed"], further=_listed(self._further)
        )
        cursor.execute(statement, (percent, limit))
        return self._rows(cursor)

    def write_sealed(self, cursor: Cursor, rows: t.Sequence[Row], sealed: t.Sequence[Sealed], *, lookups: t.Sequence[bytes] = (), key_id: bytes = b"") -> int:
        """Write ciphertext and nonce (and the HMACs, and the key's name) of rows that are as they were read. Returns how many were."""
        kind = self._table.column_type
        written: list[tuple[Column, t.Iterable[str]]] = [
            (self._table.ciphertext, (_sent(kind, one.ciphertext) for one in sealed)),
            (self._table.nonce, (_sent(kind, one.nonce) for one in sealed)),
        ]
        if self._table.lookup:
            written.append((self._table.lookup, (_sent(column_kind(self._table.lookup), one) for one in lookups)))
        if self._table.key_id:
            written.append((self._table.key_id, [_sent(column_kind(self._table.key_id), key_id)] * len(rows)))
        names = [sql.Identifier(f"w{number}") for number in range(len(written))]
        statement = sql.SQL(
            "UPDATE {table} AS t SET {sets} FROM unnest({arrays}{values}, %s::text[]) AS v({aliases}{names}, version) WHERE {join} AND t.xmin = v.version::xid"
        ).format(
            **self._names(),
            **self._joining(),
            sets=_joined(
                sql.SQL("{} = decode(v.{}, 'base64')" if column.base_type == "bytea" else "{} = v.{}").format(sql.Identifier(column.name), name)
                for (column, _values), name in zip(written, names, strict=True)
            ),
            values=_listed(sql.SQL("%s::text[]") for _one in written),
            names=_listed(names),
        )
        arrays = [_plain_array(values) for _column, values in written]
        cursor.execute(statement, (*self._key_arrays(rows), *arrays, _plain_array(row.version for row in rows)))
        return cursor.rowcount

    def clear_source(self, cursor: Cursor, rows: t.Sequence[Row]) -> int:
        """Set the clear text NULL in rows that are as they were read. Returns how many were."""
        statement = sql.SQL(
            "UPDATE {table} AS t SET {source} = NULL FROM unnest({arrays}, %s::text[]) AS v({aliases}, version) WHERE {join} AND t.xmin = v.version::xid"
        ).format(**self._names(), **self._joining())
        cursor.execute(statement, (*self._key_arrays(rows), _plain_array(row.version for row in rows)))
        return cursor.rowcount

    def write_source(self, cursor: Cursor, rows: t.Sequence[Row], texts: t.Sequence[str]) -> int:
        """Write clear text to rows that are as they were read; it reaches the server by COPY alone. Returns how many were.

        The temporary table is emptied by the commit.
        """
        columns = [sql.SQL("k{} {}").format(sql.SQL(str(number)), kind) for number, kind in enumerate(self._types)]
        create = "CREATE TEMPORARY TABLE IF NOT EXISTS lastro_tokens ({}, version text, clear text) ON COMMIT DELETE ROWS"
        cursor.execute(sql.SQL(create).format(_joined(columns)))
        lines = io.StringIO("".join(copy_line((*row.key, row.version, text)) for row, text in zip(rows, texts, strict=True)))
        cursor.copy_expert("COPY pg_temp.lastro_tokens FROM STDIN", lines)
        statement = sql.SQL("UPDATE {table} AS t SET {source} = v.clear FROM pg_temp.lastro_tokens AS v WHERE {join} AND t.xmin = v.version::xid").format(
            **self._names(), **self._joining()
        )
        cursor.execute(statement)
        return cursor.rowcount

    def _rows(self, cursor: Cursor) -> list[Row]:
        width = len(self._keys)
        return [Row(row[:width], *row[width:]) for row in cursor]

    def _names(self) -> dict[str, sql.Composable]:
        return {"table": self._table.identifier, "source": self._source, "ciphertext": self._ciphertext, "nonce": self._nonce}

    def _behind(self) -> sql.Composable:
        values = _joined(sql.SQL("%s::{}").format(kind) for kind in self._types)
        return sql.SQL(" AND ({}) > ({})").format(_joined(self._keys), values)

    def _joining(self) -> dict[str, sql.Composable]:
        aliases = [sql.Identifier(f"k{number}") for number in range(len(self._keys))]
        pairs = [sql.SQL("{} = v.{}").format(key, alias) for key, alias in zip(self._keys, aliases, strict=True)]
        return {
            "arrays": _joined(sql.SQL("%s::text[]::{}[]").format(kind) for kind in self._types),
            "aliases": _joined(aliases),
            "join": sql.SQL(" AND ").join(pairs),
        }

    def _key_arrays(self, rows: t.Sequence[Row]) -> list[str]:
        return [array_literal(row.key[number] for row in rows) for number in range(len(self._keys))]


def _joined(parts: t.Iterable[sql.Composable]) -> sql.Composed:
    return sql.SQL(", ").join(parts)


def _listed(parts: t.Iterable[sql.Composable]) -> sql.Composed:
    """What follows other things in a list."""
    return sql.SQL("").join(sql.SQL(", {}").format(part) for part in parts)


__all__ = (
    "ENCRYPTED_LOOKING",
    "PAGE_BYTES",
    "Counts",
    "Row",
    "Statements",
    "Value",
    "Which",
    "array_literal",
    "column_kind",
    "copy_line",
    "read_bytes",
)
