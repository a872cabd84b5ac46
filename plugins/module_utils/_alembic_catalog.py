# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the database knows of the tables that pending revisions name: size, columns, what is proven already. PRIVATE to the collection."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import typing as t

from ._alembic_sql import NAME, plain, statements

with contextlib.suppress(ImportError):  # _postgres.connect says so
    import psycopg2

if t.TYPE_CHECKING:
    from psycopg2.extensions import connection as PostgresConnection

_NAMED = re.compile(
    rf"\b(?:TABLE|ONLY|EXISTS|ON|INTO|UPDATE|FROM|JOIN|INDEX|REFERENCES|VIEW|CONCURRENTLY|PARTITION|INHERIT|CLUSTER|LOCK|TRUNCATE|FULL\)?) ({NAME})"
)
_MEASURED = "coalesce((SELECT sum(pg_table_size(p.relid)) FROM pg_partition_tree(c.oid) p), pg_table_size(c.oid))::bigint"
# Measuring waits for whoever holds ACCESS EXCLUSIVE; what the last ANALYZE or VACUUM noted does not.
_NOTED = """(WITH RECURSIVE tree(oid) AS (SELECT c.oid UNION SELECT h.inhrelid FROM pg_inherits h JOIN tree ON h.inhparent = tree.oid)
  SELECT nullif(sum(greatest(p.relpages, 0)), 0) * current_setting('block_size')::bigint FROM tree JOIN pg_class p ON p.oid = tree.oid)::bigint"""
_RELATIONS = """
SELECT w.name, n.nspname::text, c.relname::text, c.relkind::text, c.oid::bigint, greatest(c.reltuples, 0)::bigint,
  {size},
  (SELECT i.indrelid::bigint FROM pg_index i WHERE i.indexrelid = c.oid)
FROM unnest(%(names)s::text[], %(quoted)s::text[]) AS w(name, quoted)
JOIN pg_class c ON c.oid = to_regclass(w.quoted) JOIN pg_namespace n ON n.oid = c.relnamespace
"""
_TABLES_OF = """
SELECT DISTINCT n.nspname || '.' || c.relname, n.nspname::text, c.relname::text, c.relkind::text, c.oid::bigint, greatest(c.reltuples, 0)::bigint,
  {size}, NULL::bigint
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = ANY(%(oids)s::oid[])
"""
_COLUMNS = """
SELECT a.attrelid::bigint, a.attname::text, format_type(a.atttypid, a.atttypmod), a.attnotnull,
  EXISTS (SELECT FROM pg_constraint k WHERE k.conrelid = a.attrelid AND k.contype = 'c' AND k.convalidated
          AND pg_get_constraintdef(k.oid) = 'CHECK ((' || quote_ident(a.attname) || ' IS NOT NULL))')
FROM pg_attribute a WHERE a.attrelid = ANY(%(oids)s::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
"""
_KEYS = """
SELECT i.indrelid::bigint, array_agg(a.attname::text ORDER BY k.place) FROM pg_index i
CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k(number, place)
JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number
WHERE i.indisprimary AND i.indrelid = ANY(%(oids)s::oid[]) GROUP BY 1
"""
UTC = frozenset({"UTC", "Etc/UTC", "GMT", "Etc/GMT", "UCT", "Zulu", "Universal", "Greenwich"})


@dataclasses.dataclass(frozen=True)
class Column:
    """A column as it is now: its type as PostgreSQL writes it, NOT NULL, and whether a validated CHECK proves that it has no NULL."""

    type: str
    not_null: bool
    proven: bool


@dataclasses.dataclass(frozen=True)
class Table:
    """A table or materialized view: its *size* in bytes (partitions and TOAST included, indexes not) and the *rows* that the statistics say.

    Where somebody has locked it, the size is that of the statistics, or None.
    """

    schema: str
    name: str
    size: int | None
    rows: int
    columns: t.Mapping[str, Column]
    primary_key: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Catalog:
    """Tables by each name that the revisions give them; an index's name leads to its table. *utc*: whether sessions are in UTC."""

    tables: t.Mapping[str, Table]
    utc: bool

    def size_of(self, table: str) -> int | None:
        """Bytes of a table, 0 where there is none yet; None where no table is named or its size is not known."""
        if not table:
            return None
        found = self.tables.get(table)
        return found.size if found else 0

    def column(self, table: str, column: str) -> Column | None:
        """A column, if it is there now."""
        found = self.tables.get(table)
        return found.columns.get(column) if found else None

    @classmethod
    def from_result(cls, tables: t.Iterable[t.Mapping[str, t.Any]]) -> Catalog:
        """The sizes alone, from C(as_result); a bare name leads to the largest table of that name."""
        found: dict[str, Table] = {}
        for one in tables:
            schema, _dot, name = one["table"].partition(".")
            table = Table(schema, name, None if one["bytes"] < 0 else one["bytes"], one["rows"], {})
            found[one["table"]] = table
            found.setdefault(name, table)
        return cls(found, utc=False)

    def as_result(self) -> list[dict[str, t.Any]]:
        """The tables that are named, the largest first."""
        found = {(table.schema, table.name): table for table in self.tables.values()}.values()
        sized = [{"table": f"{one.schema}.{one.name}", "bytes": -1 if one.size is None else one.size, "rows": one.rows} for one in found]
        return sorted(sized, key=lambda one: -one["bytes"])


def names(sql: str) -> set[str]:
    """Everything in *sql* that may be the name of a table or an index."""
    found = {plain(match) for statement in statements(sql) for match in _NAMED.findall(statement.pattern_text)}
    return {name for name in found if name.count(".") <= 1}


def read(connection: PostgresConnection, texts: t.Iterable[str]) -> Catalog:
    """What the database knows of the tables that *texts* (SQL) name. Raises psycopg2.Error."""
    try:
        return _read(connection, texts, _MEASURED)
    except psycopg2.errors.LockNotAvailable:
        connection.rollback()
        return _read(connection, texts, _NOTED)


def _read(connection: PostgresConnection, texts: t.Iterable[str], size: str) -> Catalog:
    wanted = sorted({name for text in texts for name in names(text)})
    quoted = [".".join('"' + part.replace('"', '""') + '"' for part in name.split(".")) for name in wanted]
    with connection.cursor() as cursor:
        cursor.execute("SHOW timezone")
        zone = cursor.fetchone()
        cursor.execute(_RELATIONS.format(size=size), {"names": wanted, "quoted": quoted})
        relations = cursor.fetchall()
        of_indexes = {row[7] for row in relations if row[7] is not None}
        cursor.execute(_TABLES_OF.format(size=size), {"oids": sorted(of_indexes)})
        behind = cursor.fetchall()
        oids = sorted({row[4] for row in [*relations, *behind]})
        cursor.execute(_COLUMNS, {"oids": oids})
        columns: dict[int, dict[str, Column]] = {}
        for oid, name, kind, not_null, proven in cursor.fetchall():
            columns.setdefault(oid, {})[name] = Column(kind, not_null, proven)
        cursor.execute(_KEYS, {"oids": oids})
        keys = {oid: tuple(names) for oid, names in cursor.fetchall()}
    tables = {row[4]: Table(row[1], row[2], row[6], row[5], columns.get(row[4], {}), keys.get(row[4], ())) for row in [*relations, *behind] if row[3] in "rpmf"}
    return Catalog({row[0]: tables[row[7] or row[4]] for row in relations if (row[7] or row[4]) in tables}, bool(zone and zone[0] in UTC))


_SIZED = re.compile(
    r"(character varying|varchar|numeric|decimal|text|bit varying|varbit|timestamp)\b(?: ?\( ?(\d+)(?: ?, ?(\d+))? ?\))?( with(?:out)? time zone)?\Z"
)
_SAME = {"varchar": "character varying", "decimal": "numeric", "varbit": "bit varying"}


def _parsed(kind: str) -> tuple[str, int | None, int, str] | None:
    match = _SIZED.match(" ".join(kind.lower().split()))
    if not match:
        return None
    name = _SAME.get(match[1], match[1])
    zone = "tz" if match[4] == " with time zone" else ""
    return name, int(match[2]) if match[2] else None, int(match[3] or 0), zone


def no_rewrite(old: str, new: str, *, utc: bool) -> bool:
    """Whether PostgreSQL 12 and newer change a column's type from *old* to *new* without reading or rewriting the table.

    Source: the binary-coercible casts of pg_cast and the support functions of varchar, numeric and timestamp, seen on 15 and 18.
    """
    before, after = _parsed(old.replace("timestamptz", "timestamp with time zone")), _parsed(new.lower().replace("timestamptz", "timestamp with time zone"))
    if before is None or after is None:
        return before is None and after is None and " ".join(old.lower().split()) == " ".join(new.lower().split())
    (kind, size, scale, zone), (new_kind, new_size, new_scale, new_zone) = before, after
    wider = new_size is None or (size is not None and new_size >= size)
    if "text" in (kind, new_kind):
        return {kind, new_kind} <= {"text", "character varying"} and (new_kind == "text" or new_size is None)
    if kind != new_kind:
        return False
    if kind == "numeric":
        return wider and (new_size is None or scale == new_scale)
    if kind == "timestamp":
        finer = (6 if new_size is None else new_size) >= (6 if size is None else size)
        return finer and (zone == new_zone or utc)
    return wider


def same_to_code(old: str, new: str) -> bool:
    """Whether code sees the same type behind it: another length, no other kind."""
    before, after = _parsed(old), _parsed(new.lower())
    if before is None or after is None:
        return False
    texts = {"text", "character varying"}
    return (before[0], before[3]) == (after[0], after[3]) or {before[0], after[0]} <= texts


__all__ = ("Catalog", "Column", "Table", "names", "no_rewrite", "read", "same_to_code")
