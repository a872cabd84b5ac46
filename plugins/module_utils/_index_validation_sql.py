# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the catalog says of tables and their indexes, and what PostgreSQL itself makes of an expected index.

PRIVATE to the collection: may change at any time.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import json
import typing as t

from ._index_validation_compare import SHAPES, Definition, Index, Leaf, and_terms
from ._index_validation_contract import Column, Expected, Query, quoted
from ._index_validation_server import Item, Unit, ask

if t.TYPE_CHECKING:
    from psycopg2.extensions import connection as PostgresConnection

CANNOT_CLONE = ("42501", "25006", "55P03", "P0001", "53")
"""States (or their beginnings) that say nothing of the entry: no right, read-only, a lock, an event trigger, no resources."""
UNDEFINED_FUNCTION = "42883"

# What makes an index, of pg_index i, its pg_class ic and pg_am am; as text, which is the same for all indexes of the same shape. indoption's bits are those
# of PostgreSQL's pg_index.h (1: DESC, 2: NULLS FIRST). to_jsonb makes a column of newer servers optional. Look-ups stand in CASE, to be made where they
# decide something: a thousand tables have few columns with a collation.
DEFINITION = """jsonb_build_object(
  'method', am.amname, 'unique', i.indisunique,
  'nulls_not_distinct', COALESCE((to_jsonb(i)->>'indnullsnotdistinct')::bool, false),
  'predicate', COALESCE(pg_get_expr(i.indpred, i.indrelid), ''),
  'columns', (
    SELECT jsonb_agg(jsonb_build_object(
      'name', pg_get_indexdef(i.indexrelid, ia.attnum, false), 'included', ia.attnum > i.indnkeyatts,
      'descending', ia.attnum <= i.indnkeyatts AND i.indoption[ia.attnum-1] & 1 = 1,
      'nulls_first', ia.attnum <= i.indnkeyatts AND i.indoption[ia.attnum-1] & 2 = 2,
      'opclass', CASE WHEN ia.attnum > i.indnkeyatts THEN ''
                      WHEN ia.attoptions IS NULL AND i.indclass[ia.attnum-1] = ANY (ARRAY(SELECT oc.oid FROM pg_opclass oc WHERE oc.opcdefault)) THEN ''
                      ELSE (SELECT oc.opcname::text FROM pg_opclass oc WHERE oc.oid = i.indclass[ia.attnum-1]) END,
      'opclass_options', COALESCE(array_to_string(ia.attoptions, ', '), ''),
      'collation', CASE WHEN ia.attnum > i.indnkeyatts OR i.indcollation[ia.attnum-1] = 0 THEN '' ELSE (
        SELECT CASE WHEN co.oid = COALESCE(
            (SELECT a.attcollation FROM pg_attribute a WHERE a.attrelid = i.indrelid AND a.attnum = i.indkey[ia.attnum-1]),
            (SELECT ty.typcollation FROM pg_type ty WHERE ty.oid = ia.atttypid)) THEN '' ELSE quote_ident(co.collname) END
        FROM pg_collation co WHERE co.oid = i.indcollation[ia.attnum-1]) END
    ) ORDER BY ia.attnum)
    FROM pg_attribute ia WHERE ia.attrelid = i.indexrelid AND ia.attnum > 0))::text"""

# Builds that run. A role that may not see other sessions' progress sees that there are some, and their locks.
BUILDS = """
  SELECT g.command, g.index_relid, COALESCE(g.relid, l.relation) AS relid, g.phase, g.blocks_done, g.blocks_total
  FROM pg_stat_progress_create_index g
  LEFT JOIN pg_locks l ON g.relid IS NULL AND l.pid = g.pid AND l.locktype = 'relation' AND l.mode = 'ShareUpdateExclusiveLock'"""

# What is done with an unfinished index of pg_index i, empty for one that nobody works on. REINDEX tells the index that it replaces, not always its copy.
BUILDING = """COALESCE((
      SELECT COALESCE(b.phase || CASE WHEN b.blocks_total > 0 THEN ', ' || 100 * b.blocks_done / b.blocks_total || ' %%' ELSE '' END, '?')
      FROM builds b WHERE b.index_relid = i.indexrelid
                       OR (b.relid = i.indrelid AND (COALESCE(b.index_relid, 0) = 0 OR b.command LIKE 'REINDEX%%')) LIMIT 1), '')"""

# One query for any number of tables. Names are joined, not resolved: to_regclass raises where the role may not use a schema. pg_inherits is walked
# by hand: pg_partition_tree would keep a lock on each partition. The conindid of a foreign key is an index of the table that it refers to.
FACTS = f"""
WITH RECURSIVE want AS (
  SELECT DISTINCT e->>'schema' AS schema, e->>'table' AS tbl FROM jsonb_array_elements(%(tables)s::jsonb) AS x(e)
), rel AS (
  SELECT w.*, n.oid AS nspoid, t.oid AS reloid, t.relkind, n.oid IS NOT NULL AND has_schema_privilege(n.oid, 'USAGE') AS usage,
         t.oid IS NOT NULL AND has_table_privilege(t.oid, 'SELECT') AS readable
  FROM want w LEFT JOIN pg_namespace n ON n.nspname = w.schema
  LEFT JOIN pg_class t ON t.relnamespace = n.oid AND t.relname = w.tbl AND t.relkind IN ('r', 'p', 'm', 'f')
), builds AS MATERIALIZED ({BUILDS}
), parts AS (
  SELECT rel.reloid AS root, rel.reloid AS part FROM rel WHERE rel.relkind = 'p'
  UNION ALL SELECT parts.root, h.inhrelid FROM parts JOIN pg_inherits h ON h.inhparent = parts.part
), own AS MATERIALIZED (
  SELECT i.indexrelid, i.indrelid FROM pg_index i JOIN rel ON rel.reloid = i.indrelid
), index_parts AS (
  SELECT own.indexrelid AS root, own.indexrelid AS part FROM own JOIN pg_class c ON c.oid = own.indexrelid AND c.relkind = 'I'
  UNION ALL SELECT index_parts.root, h.inhrelid FROM index_parts JOIN pg_inherits h ON h.inhparent = index_parts.part
), leaves AS (
  SELECT p.root, lc.relname AS index, li.indrelid, li.indisvalid AND li.indisready AS good
  FROM index_parts p JOIN pg_class lc ON lc.oid = p.part AND lc.relkind = 'i' JOIN pg_index li ON li.indexrelid = p.part
), facts AS (
  SELECT i.indrelid, jsonb_agg(jsonb_build_object(
    'name', ic.relname, 'definition', {DEFINITION}, 'text', pg_get_indexdef(i.indexrelid),
    'valid', i.indisvalid, 'ready', i.indisready, 'live', i.indislive,
    'building', CASE WHEN i.indisvalid AND i.indisready THEN '' ELSE {BUILDING} END,
    'constraint', COALESCE(c.conname, ''),
    'constraint_kind', CASE c.contype WHEN 'p' THEN 'primary_key' WHEN 'u' THEN 'unique' WHEN 'x' THEN 'exclusion' ELSE 'none' END,
    'partitioned', ic.relkind = 'I',
    'leaves', CASE WHEN ic.relkind = 'I' THEN (
      SELECT jsonb_agg(jsonb_build_object('index', l.index, 'schema', ln.nspname, 'table', lt.relname) ORDER BY lt.relname)
      FROM leaves l JOIN pg_class lt ON lt.oid = l.indrelid JOIN pg_namespace ln ON ln.oid = lt.relnamespace WHERE l.root = ic.oid) END,
    'uncovered', CASE WHEN ic.relkind = 'I' THEN (
      SELECT jsonb_agg(pn.nspname || '.' || pt.relname ORDER BY pt.relname)
      FROM parts p JOIN pg_class pt ON pt.oid = p.part AND pt.relkind <> 'p' JOIN pg_namespace pn ON pn.oid = pt.relnamespace
      WHERE p.root = i.indrelid AND NOT EXISTS (SELECT FROM leaves l WHERE l.root = ic.oid AND l.indrelid = p.part AND l.good)) END
  ) ORDER BY ic.relname) AS indexes
  FROM own JOIN pg_index i ON i.indexrelid = own.indexrelid JOIN pg_class ic ON ic.oid = i.indexrelid JOIN pg_am am ON am.oid = ic.relam
  LEFT JOIN pg_constraint c ON c.conindid = own.indexrelid AND c.contype IN ('p', 'u', 'x')
  GROUP BY i.indrelid
)
SELECT 'server', jsonb_build_object(
  'database', current_database(), 'version', current_setting('server_version_num')::int, 'version_text', current_setting('server_version'),
  'role', current_user, 'standby', pg_is_in_recovery(), 'read_only', current_setting('transaction_read_only') = 'on',
  'temporary', has_database_privilege(current_database(), 'TEMP'))
UNION ALL
SELECT 'table', jsonb_build_object('schema', r.schema, 'table', r.tbl, 'schema_exists', r.nspoid IS NOT NULL, 'exists', r.reloid IS NOT NULL,
  'usage', r.usage, 'readable', r.readable, 'indexes', COALESCE(f.indexes, '[]'::jsonb))
FROM rel r LEFT JOIN facts f ON f.indrelid = r.reloid
UNION ALL
SELECT 'named', jsonb_build_object('index', ic.relname, 'schema', n.nspname, 'table', t.relname)
FROM (SELECT DISTINCT name FROM jsonb_array_elements_text(%(names)s::jsonb) AS x(name)) x
JOIN pg_class ic ON ic.relname = x.name AND ic.relkind IN ('i', 'I')
JOIN pg_index i ON i.indexrelid = ic.oid JOIN pg_class t ON t.oid = i.indrelid JOIN pg_namespace n ON n.oid = t.relnamespace
WHERE n.nspname <> 'pg_toast' AND n.nspname !~ '^pg_temp_' AND ic.oid NOT IN (SELECT own.indexrelid FROM own)
"""  # noqa: S608 - put together from our own texts

CLONE = "pg_temp.lastro_expected"
_CLONED = f"""
SELECT CASE WHEN count(*) = 1 THEN min({DEFINITION}) ELSE '' END
FROM pg_index i JOIN pg_class ic ON ic.oid = i.indexrelid JOIN pg_am am ON am.oid = ic.relam WHERE i.indrelid = '{CLONE}'::regclass
"""  # noqa: S608 - put together from our own texts


@dataclasses.dataclass(frozen=True)
class Server:
    """Who was asked. *text_reason* says why no temporary clone can be made there, in PostgreSQL's words; empty where it can."""

    database: str
    version: int
    version_text: str
    role: str
    text_reason: str


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of the contract and its indexes. *usage* and *readable* are the role's rights to its schema and rows."""

    schema_exists: bool
    exists: bool
    usage: bool
    readable: bool
    indexes: tuple[Index, ...]


@dataclasses.dataclass(frozen=True)
class Facts:
    """The catalog's answer. *named* maps the names of the indexes of these tables, and of the contract wherever they are, to (schema, table)."""

    server: Server
    tables: t.Mapping[tuple[str, str], Table]
    named: t.Mapping[str, t.Sequence[tuple[str, str]]]

    def elsewhere(self, expected: Expected) -> str:
        """The other table of the same schema that has an index of the entry's name, as schema.table; empty where none has."""
        others = (".".join(place) for place in self.named.get(expected.name, ()) if place[0] == expected.schema and place[1] != expected.table)
        return next(others, "") if expected.name else ""


def read_facts(connection: PostgresConnection, expected: t.Sequence[Expected], queries: t.Sequence[Query] = ()) -> Facts:
    """Facts about the tables and names of a contract, in one query. Raises psycopg2.Error."""
    tables = [{"schema": schema, "table": table} for schema, table in dict.fromkeys((one.schema, one.table) for one in expected)]
    names = [name for name in dict.fromkeys([*(one.name for one in expected), *(query.index for query in queries)]) if name]
    with connection.cursor() as cursor:
        cursor.execute(FACTS, {"tables": json.dumps(tables), "names": json.dumps(names)})
        return _facts(cursor)


def _facts(rows: t.Iterable[tuple[str, dict[str, t.Any]]]) -> Facts:
    """From what FACTS gave, row by row: all of them at once would be the most memory that a validation needs."""
    server: list[Server] = []
    found: dict[tuple[str, str], Table] = {}
    named: dict[str, list[tuple[str, str]]] = collections.defaultdict(list)
    for kind, row in rows:
        if kind == "server":
            server.append(_server(row))
            continue
        place = (row["schema"], row["table"])
        if kind == "table":
            found[place] = _table(row)
        for name in [row["index"]] if kind == "named" else [index.name for index in found[place].indexes]:
            named[name].append(place)
    return Facts(server[0], found, named)


def _server(row: dict[str, t.Any]) -> Server:
    why = ""
    if row["standby"]:
        why = "the server is a standby"
    elif row["read_only"]:
        why = "the role's transactions are read-only"
    elif not row["temporary"]:
        why = f"permission denied to create temporary tables in database {row['database']}"
    return Server(row["database"], row["version"], row["version_text"], row["role"], why)


def _table(row: dict[str, t.Any]) -> Table:
    return Table(row["schema_exists"], row["exists"], row["usage"], row["readable"], tuple(map(_index, row["indexes"])))


def _index(row: dict[str, t.Any]) -> Index:
    names = ("name", "text", "valid", "ready", "live", "building", "constraint", "constraint_kind", "partitioned")
    return Index(
        definition=definition_from(row["definition"]),
        leaves=tuple(Leaf(**leaf) for leaf in row["leaves"] or ()),
        uncovered=tuple(row["uncovered"] or ()),
        **{name: row[name] for name in names},
    )


@functools.lru_cache(maxsize=SHAPES)
def definition_from(text: str) -> Definition:
    """What DEFINITION gave. Indexes of the same shape share it."""
    row = json.loads(text)
    return Definition(
        method=row["method"],
        unique=row["unique"],
        columns=tuple(Column(**column) for column in row["columns"]),
        terms=and_terms(row["predicate"]),
        predicate=row["predicate"],
        nulls_not_distinct=row["nulls_not_distinct"],
    )


@dataclasses.dataclass(frozen=True)
class Canonical:
    """What PostgreSQL makes of an entry; or why it makes nothing: *impossible*, or *no_clone* where it could not be asked."""

    definition: Definition | None = None
    impossible: str = ""
    no_clone: str = ""
    state: str = ""


def canonicalise(connection: PostgresConnection, entries: t.Sequence[Expected]) -> list[Canonical]:
    """What PostgreSQL makes of each entry, on empty temporary clones of their tables that are rolled back, in one round trip.

    A clone's locks (its source's, its own) are given back before the next one is made, each index's before the next index.
    """
    by_table: dict[str, list[Expected]] = {}
    for one in entries:
        by_table.setdefault(one.relation, []).append(one)
    units = [
        Unit(
            before=(f"CREATE TEMPORARY TABLE lastro_expected (LIKE {relation}) ON COMMIT DROP",),
            items=tuple(Item(run=(one.create("lastro_expected_index", CLONE, concurrently=False),), ask=(_CLONED,)) for one in group),
        )
        for relation, group in by_table.items()
    ]
    order = [one for group in by_table.values() for one in group]
    answers = dict(zip(map(id, order), ask(connection, units, read_only=False)))  # noqa: B905
    return [_canonical(answers[id(one)].said, answers[id(one)].state, answers[id(one)].message) for one in entries]


def _canonical(said: tuple[str, ...], state: str, message: str) -> Canonical:
    if state:
        return Canonical(no_clone=message, state=state) if state.startswith(CANNOT_CLONE) else Canonical(impossible=message, state=state)
    if not said or not said[0]:
        return Canonical(impossible="its columns or predicate are more than one statement")
    return Canonical(definition_from(said[0]))


def may_not_use(expected: Expected, table: Table, role: str) -> tuple[str, str]:
    """What right *role* lacks to the entry's table, in PostgreSQL's words, and the SQL that gives it; empty texts where it has all."""
    if not table.usage:
        return f"permission denied for schema {expected.schema}", f"GRANT USAGE ON SCHEMA {quoted(expected.schema)} TO {quoted(role)};"
    if not table.readable:
        return f"permission denied for table {expected.table}", f"GRANT SELECT ON {expected.relation} TO {quoted(role)};"
    return "", ""


__all__ = (
    "BUILDING",
    "BUILDS",
    "CLONE",
    "DEFINITION",
    "UNDEFINED_FUNCTION",
    "Canonical",
    "Facts",
    "Server",
    "Table",
    "canonicalise",
    "may_not_use",
    "read_facts",
)
