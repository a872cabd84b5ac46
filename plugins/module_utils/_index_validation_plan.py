# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the planner uses an index, asked with EXPLAIN in a read-only transaction; nothing is executed. PRIVATE to the collection."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import typing as t

from ._index_validation_compare import Column, Expected, Index, IndexFinding, quoted
from ._index_validation_sql import reason

with contextlib.suppress(ImportError):  # _postgres.connect says so
    import psycopg2

if t.TYPE_CHECKING:
    from psycopg2.extensions import connection as PostgresConnection

SMALL_BYTES = 64 * 8192
"""Up to this size the planner rightly reads a table as a whole, so that its choice says nothing."""
PROBED_METHODS = ("btree", "hash")
USED = ("usable", "chosen")

# EXECUTE runs no COMMIT, so that what a query holds stays in this read-only transaction.
_EXPLAIN = """
DO $lastro$
DECLARE plan text;
BEGIN
  EXECUTE 'EXPLAIN (VERBOSE, FORMAT JSON) ' || current_setting('lastro.statement') INTO plan;
  PERFORM set_config('lastro.plan', plan, true);
END $lastro$;
SELECT current_setting('lastro.plan')
"""


@dataclasses.dataclass(frozen=True)
class Query:
    """A query of the contract and what is asked of its plan: an index by name, or any index of a table."""

    sql: str
    index: str = ""
    table: str = ""
    verdict: str = "usable"

    @property
    def label(self) -> str:
        """What messages call it."""
        return self.index or self.table


@dataclasses.dataclass(frozen=True)
class Scan:
    """One node of a plan that reads a table; *index* is empty for a sequential scan. A bitmap index scan names no table."""

    node: str
    index: str
    schema: str
    table: str

    def words(self) -> str:
        """The node for messages."""
        return f"{self.node} using {self.index}" if self.index else f"{self.node} on {self.table}"


@dataclasses.dataclass(frozen=True)
class Plan:
    """The answer for one query: usable, chosen, not_used, other_index, too_small, not_probed or not_explained."""

    query: str
    verdict: str
    index: str
    detail: str

    def as_result(self) -> dict[str, str]:
        """The answer as a return value."""
        return dataclasses.asdict(self)


class NotExplainedError(Exception):
    """PostgreSQL makes no plan for the query; the text is its own reason."""


def scans(connection: PostgresConnection, sql: str, *, seqscan: bool) -> list[Scan]:
    """The nodes that read tables in the plan of *sql*. Raises NotExplainedError."""
    with connection.cursor() as cursor:
        cursor.execute("SAVEPOINT lastro_explain")
        try:
            cursor.execute(
                "SELECT set_config('lastro.statement', %s, true), set_config('enable_seqscan', %s, true)",
                (sql, "on" if seqscan else "off"),
            )
            cursor.execute(_EXPLAIN)
            ((text,),) = cursor.fetchall()
        except psycopg2.Error as error:
            raise NotExplainedError(reason(error)) from None
        finally:
            cursor.execute("ROLLBACK TO SAVEPOINT lastro_explain")
    return list(_nodes(json.loads(text)[0]["Plan"]))


def _nodes(node: dict[str, t.Any]) -> t.Iterator[Scan]:
    if "Index Name" in node or "Relation Name" in node:
        yield Scan(node["Node Type"], node.get("Index Name", ""), node.get("Schema", ""), node.get("Relation Name", ""))
    for child in node.get("Plans", ()):
        yield from _nodes(child)


def probe(connection: PostgresConnection, expected: Expected, index: Index) -> tuple[Plan, IndexFinding | None]:
    """Whether *index* can serve equality on its leading column, whatever the table's size."""
    definition = index.definition
    label = f"equality on {definition.keys[0].words()}"
    if definition.method not in PROBED_METHODS:
        return Plan(label, "not_probed", index.name, f"no probe for method {definition.method}: give a query in queries"), None
    names = {index.name, *index.leaves}
    found: list[Scan] = []
    for count in dict.fromkeys((1, len(definition.keys))):
        conditions = [_equality(expected, column) for column in definition.keys[:count]] + ([definition.predicate] if definition.predicate else [])
        sql = f"SELECT 1 FROM {expected.relation} WHERE {' AND '.join(conditions)}"  # noqa: S608 - quoted names and the catalog's own expressions
        try:
            found = scans(connection, sql, seqscan=False)
        except NotExplainedError as error:
            remedy = f"GRANT SELECT ON {expected.relation} TO {quoted(connection.info.user)};" if "permission denied" in str(error) else f"EXPLAIN {sql};"
            finding = IndexFinding(expected.label, f"{index.name} usable for {label}", "", f"the planner cannot be asked: {error}", remedy)
            return Plan(label, "not_explained", index.name, str(error)), finding
        used = next((scan for scan in found if scan.index in names), None)
        if used:
            return Plan(label, "usable", index.name, used.words()), None
    other = next((scan for scan in found if scan.index), None)
    if other:
        return Plan(label, "other_index", index.name, f"the planner takes {other.index} for the same condition"), None
    if not found:
        return Plan(label, "too_small", index.name, "table too small to decide: there is nothing to read"), None
    plan = Plan(label, "not_used", index.name, found[0].words())
    name = f"{quoted(expected.schema)}.{quoted(index.name)}"
    remedy = f"REINDEX INDEX CONCURRENTLY {name}; -- after the transactions that are older than the index have ended"
    return plan, IndexFinding(expected.label, f"{index.name} usable for {label}", found[0].words(), "the planner cannot use it", remedy)


def _equality(expected: Expected, column: Column) -> str:
    collation = f" COLLATE {column.collation}" if column.collation else ""
    # A value of the right type that the planner does not know; the sub-select itself reads no table.
    return f"({column.name}){collation} = (SELECT {column.name} FROM {expected.relation} WHERE false)"  # noqa: S608 - as above


def check_query(connection: PostgresConnection, query: Query, leaves: t.Mapping[str, t.Sequence[str]]) -> tuple[Plan, IndexFinding | None]:
    """The planner's verdict on a query of the contract. *leaves* maps a partitioned index to the indexes of its partitions."""
    names = {query.index, *leaves.get(query.index, ())}
    try:
        usable = scans(connection, query.sql, seqscan=False)
        chosen = scans(connection, query.sql, seqscan=True) if query.verdict == "chosen" else []
        small = query.verdict == "chosen" and _size(connection, chosen) <= SMALL_BYTES
    except NotExplainedError as error:
        why = f"PostgreSQL makes no plan for the query: {error}"
        finding = IndexFinding(query.label, query.sql, "", why, "-- correct this query in the contract")
        return Plan(query.sql, "not_explained", query.label, str(error)), finding
    if query.verdict == "chosen" and _fulfils(query, names, chosen):
        return Plan(query.sql, "chosen", query.label, _words(chosen)), None
    if _fulfils(query, names, usable):
        if query.verdict == "usable":
            return Plan(query.sql, "usable", query.label, _words(usable)), None
        if small:
            return Plan(query.sql, "too_small", query.label, f"table too small to decide: {_words(chosen)}"), None
    actual = _words(chosen or usable)
    what = f"{query.index or 'an index of ' + query.table} {query.verdict} for: {query.sql}"
    finding = IndexFinding(query.label, what, actual, f"the planner does not use it: {actual}", f"EXPLAIN {query.sql.rstrip(' ;')};")
    return Plan(query.sql, "not_used", query.label, actual), finding


def _fulfils(query: Query, names: t.AbstractSet[str], found: t.Sequence[Scan]) -> bool:
    if query.index:
        return any(scan.index in names for scan in found)
    schema, _dot, table = query.table.rpartition(".")
    own = [scan for scan in found if scan.table == table and schema in ("", scan.schema)]
    return bool(own) and all(scan.index or scan.node.startswith("Bitmap") for scan in own)


def _words(found: t.Sequence[Scan]) -> str:
    return ", ".join(dict.fromkeys(scan.words() for scan in found)) or "a plan that reads no table"


def _size(connection: PostgresConnection, found: t.Sequence[Scan]) -> int:
    """Bytes of the tables that the plan reads."""
    relations = [f"{quoted(scan.schema)}.{quoted(scan.table)}" for scan in found if scan.table]
    with connection.cursor() as cursor:
        cursor.execute("SELECT COALESCE(sum(pg_relation_size(to_regclass(name))), 0)::bigint FROM unnest(%s::text[]) AS name", (relations,))
        ((size,),) = cursor.fetchall()
    return int(size)


__all__ = ("SMALL_BYTES", "USED", "NotExplainedError", "Plan", "Query", "Scan", "check_query", "probe", "scans")
