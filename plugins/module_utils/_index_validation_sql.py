# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the catalog says of tables and their indexes, and what PostgreSQL itself makes of an expected index.

PRIVATE to the collection: may change at any time.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import typing as t

from ._index_validation_compare import Column, Definition, Expected, Index, and_terms, quoted

with contextlib.suppress(ImportError):  # _postgres.connect says so
    import psycopg2
    import psycopg2.errors

if t.TYPE_CHECKING:
    from psycopg2.extensions import connection as PostgresConnection

# One query for any number of tables. to_jsonb makes a column of newer servers optional, to_regclass raises for no name.
FACTS = """
WITH want AS (
  SELECT DISTINCT e->>'schema' AS schema, e->>'table' AS tbl FROM jsonb_array_elements(%s::jsonb) AS x(e)
), rel AS (
  SELECT w.*, to_regclass(quote_ident(w.schema) || '.' || quote_ident(w.tbl)) AS reloid FROM want w
)
SELECT jsonb_build_object(
  'schema', r.schema, 'table', r.tbl, 'exists', r.reloid IS NOT NULL, 'indexes', COALESCE((
    SELECT jsonb_agg(jsonb_build_object(
      'name', ic.relname, 'method', am.amname, 'unique', i.indisunique, 'valid', i.indisvalid AND i.indisready AND i.indislive,
      'nulls_not_distinct', COALESCE((to_jsonb(i)->>'indnullsnotdistinct')::bool, false),
      'predicate', COALESCE(pg_get_expr(i.indpred, i.indrelid), ''), 'text', pg_get_indexdef(i.indexrelid),
      'building', EXISTS (SELECT FROM pg_stat_progress_create_index g WHERE g.index_relid = ic.oid),
      'constraint', COALESCE((SELECT c.conname FROM pg_constraint c
                              WHERE c.conindid = ic.oid AND c.conrelid = i.indrelid AND c.contype IN ('p', 'u', 'x') LIMIT 1), ''),
      'leaves', (SELECT jsonb_agg(lc.relname) FROM pg_partition_tree(ic.oid) pt JOIN pg_class lc ON lc.oid = pt.relid WHERE ic.relkind = 'I' AND pt.isleaf),
      'bad_leaves', CASE WHEN ic.relkind <> 'I' THEN 0 ELSE (SELECT count(*) FROM pg_partition_tree(r.reloid) WHERE isleaf) - (
          SELECT count(*) FROM pg_partition_tree(ic.oid) pt JOIN pg_index pi ON pi.indexrelid = pt.relid
          WHERE pt.isleaf AND pi.indisvalid AND pi.indisready) END,
      'columns', (
        SELECT jsonb_agg(jsonb_build_object(
          'name', COALESCE(quote_ident(a.attname), pg_get_indexdef(i.indexrelid, g, false)), 'included', g > i.indnkeyatts,
          'descending', g <= i.indnkeyatts AND COALESCE(pg_index_column_has_property(i.indexrelid, g, 'desc'), false),
          'nulls_first', g <= i.indnkeyatts AND COALESCE(pg_index_column_has_property(i.indexrelid, g, 'nulls_first'), false),
          'opclass', CASE WHEN g <= i.indnkeyatts AND NOT oc.opcdefault THEN oc.opcname::text ELSE '' END,
          'opclass_options', COALESCE(array_to_string(ia.attoptions, ', '), ''),
          'collation', CASE WHEN g > i.indnkeyatts OR i.indcollation[g-1] = 0
                              OR i.indcollation[g-1] = COALESCE(a.attcollation, ty.typcollation) THEN '' ELSE quote_ident(co.collname) END
        ) ORDER BY g)
        FROM generate_series(1, i.indnatts) g
        JOIN pg_attribute ia ON ia.attrelid = i.indexrelid AND ia.attnum = g
        JOIN pg_type ty ON ty.oid = ia.atttypid
        LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[g-1] AND i.indkey[g-1] <> 0
        LEFT JOIN pg_opclass oc ON g <= i.indnkeyatts AND oc.oid = i.indclass[g-1]
        LEFT JOIN pg_collation co ON g <= i.indnkeyatts AND co.oid = i.indcollation[g-1])
    ) ORDER BY ic.relname)
    FROM pg_index i JOIN pg_class ic ON ic.oid = i.indexrelid JOIN pg_am am ON am.oid = ic.relam
    WHERE i.indrelid = r.reloid), '[]'::jsonb))
FROM rel r
"""

# EXECUTE runs no COMMIT, so that what a contract holds stays in this transaction, which is rolled back.
EXECUTE = "DO $lastro$ BEGIN EXECUTE current_setting('lastro.statement'); END $lastro$"


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of the contract and its indexes."""

    exists: bool
    indexes: tuple[Index, ...]


class NotPossibleError(Exception):
    """PostgreSQL cannot make the expected index; the text is its own reason."""


class NoCloneError(Exception):
    """No temporary table can be made here (a standby, no TEMP or no SELECT right, a lock); the text says why."""


def read_tables(connection: PostgresConnection, names: t.Iterable[tuple[str, str]]) -> dict[tuple[str, str], Table]:
    """Facts about the tables (schema, name), in one query. Raises psycopg2.Error."""
    wanted = json.dumps([{"schema": schema, "table": table} for schema, table in names])
    with connection.cursor() as cursor:
        cursor.execute(FACTS, (wanted,))
        rows: list[dict[str, t.Any]] = [row[0] for row in cursor.fetchall()]
    return {(row["schema"], row["table"]): Table(row["exists"], tuple(map(_index, row["indexes"]))) for row in rows}


def _index(row: dict[str, t.Any]) -> Index:
    definition = Definition(
        method=row["method"],
        unique=row["unique"],
        columns=tuple(Column(**column) for column in row["columns"]),
        terms=and_terms(row["predicate"]),
        predicate=row["predicate"],
        nulls_not_distinct=row["nulls_not_distinct"],
    )
    return Index(
        name=row["name"],
        definition=definition,
        text=row["text"],
        valid=row["valid"],
        building=row["building"],
        constraint=row["constraint"],
        leaves=tuple(row["leaves"] or ()),
        bad_leaves=row["bad_leaves"],
    )


def canonical(connection: PostgresConnection, expected: Expected) -> Definition:
    """What PostgreSQL makes of *expected*, on an empty temporary clone of its table that is rolled back.

    Raises NotPossibleError with PostgreSQL's reason, NoCloneError where no clone can be made.
    """
    unique = "UNIQUE " if expected.unique else ""
    statement = f"CREATE {unique}INDEX lastro_expected_index ON pg_temp.lastro_expected USING {quoted(expected.method)} ({', '.join(expected.columns)})"
    if expected.where:
        statement += f" WHERE ({expected.where})"
    with connection.cursor() as cursor:
        cursor.execute("SAVEPOINT lastro_clone")
        try:
            cursor.execute(f"CREATE TEMPORARY TABLE lastro_expected (LIKE {expected.relation}) ON COMMIT DROP")
            cursor.execute("SELECT set_config('lastro.statement', %s, true)", (statement,))
            cursor.execute(EXECUTE)
            table = read_tables(connection, [("pg_temp", "lastro_expected")])[("pg_temp", "lastro_expected")]
            if len(table.indexes) != 1:
                raise NotPossibleError("its columns or predicate are more than one statement")
            return table.indexes[0].definition
        except _no_clone_errors() as error:
            raise NoCloneError(reason(error)) from None
        except psycopg2.Error as error:
            raise NotPossibleError(reason(error)) from None
        finally:
            cursor.execute("ROLLBACK TO SAVEPOINT lastro_clone")


def _no_clone_errors() -> tuple[type[Exception], ...]:
    errors = psycopg2.errors
    return (errors.InsufficientPrivilege, errors.ReadOnlySqlTransaction, errors.QueryCanceled, errors.LockNotAvailable)


def reason(error: Exception) -> str:
    """PostgreSQL's message in one line, without position and context."""
    message = getattr(getattr(error, "diag", None), "message_primary", None)
    return str(message or str(error).split("\n", 1)[0]).strip()


__all__ = ("EXECUTE", "NoCloneError", "NotPossibleError", "Table", "canonical", "read_tables", "reason")
