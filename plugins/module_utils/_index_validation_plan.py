# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the planner uses an index, asked with EXPLAIN in a read-only transaction; nothing is executed. PRIVATE to the collection.

Three questions that are kept apart. *usable*: can the index serve the query at all, whatever the size of the table (C(enable_seqscan) off)?
*chosen*: does the planner take it as things are? *chosen_generic*: does it also with a plan that does not know the parameters' values, as
prepared statements get after some calls?
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import typing as t

from ._errors import Text
from ._index_validation_compare import Index
from ._index_validation_contract import Column, Expected, Query, is_one_statement, quoted
from ._index_validation_findings import IndexFinding, entry_finding
from ._index_validation_scans import Scan, TableSize, plan_scans
from ._index_validation_server import Answer, Item, Unit, ask
from ._index_validation_sql import Facts, may_not_use

with contextlib.suppress(ImportError):  # _postgres.connect says so
    from psycopg2.extensions import adapt

if t.TYPE_CHECKING:
    from psycopg2.extensions import connection as PostgresConnection

SMALL_BYTES = 64 * 8192
"""Up to this size the planner rightly reads a table as a whole, so that its choice says nothing."""
PROBED_METHODS = ("btree", "hash")
USED = ("usable", "chosen", "chosen_generic")

NO_SEQSCAN = "SET LOCAL enable_seqscan = off"
CUSTOM = "SET LOCAL plan_cache_mode = force_custom_plan"
GENERIC = "SET LOCAL plan_cache_mode = force_generic_plan"
SIZES = """
SELECT COALESCE(jsonb_object_agg(n.nspname || '.' || c.relname, jsonb_build_array(c.reltuples, pg_relation_size(c.oid))), '{}'::jsonb)
FROM (SELECT DISTINCT node->>'Schema' AS schema, node->>'Relation Name' AS tbl
      FROM jsonb_path_query(current_setting('lastro.said')::jsonb, 'strict $.**') AS node WHERE jsonb_typeof(node) = 'object' AND node ? 'Relation Name') x
JOIN pg_namespace n ON n.nspname = x.schema JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = x.tbl
"""


@dataclasses.dataclass(frozen=True)
class Plan:
    """The answer for one query.

    *verdict* is the question that was asked where its answer is yes (usable, chosen, chosen_generic), else not_used, other_index, too_small,
    not_probed or not_explained. *answers* has all three, each yes, no, too_small or unknown; *rows* is the estimate of rows read, -1 without one.
    """

    query: str
    verdict: str
    index: str
    detail: str
    answers: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    rows: int = -1

    def as_result(self) -> dict[str, t.Any]:
        """The answer as a return value."""
        answers = {name: self.answers.get(name, "unknown") for name in USED}
        return {"query": self.query, "verdict": self.verdict, "index": self.index, "detail": self.detail, **answers, "rows": self.rows}


def probe(connection: PostgresConnection, facts: Facts, wanted: t.Sequence[tuple[Expected, Index]]) -> list[tuple[Plan, IndexFinding | None]]:
    """Whether each index can serve equality on its leading columns, whatever the table's size; all of them in one round trip."""
    asked = [(expected, index, _probes(expected, index)) for expected, index in wanted]
    by_table: dict[str, list[int]] = {}
    for place, (expected, _index, statements) in enumerate(asked):
        if statements:
            by_table.setdefault(expected.relation, []).append(place)
    units = [Unit(tuple(_probe_item(*asked[place][1:]) for place in places), before=(NO_SEQSCAN,)) for places in by_table.values()]
    answers = dict(zip(itertools.chain.from_iterable(by_table.values()), ask(connection, units)))  # noqa: B905
    return [_probed(facts, *one, answers.get(place, Answer())) for place, one in enumerate(asked)]


def _probe_item(index: Index, statements: t.Sequence[str]) -> Item:
    """The question for the plans of an index's probes, up to the first that uses the index."""
    name = index.leaves[0].index if index.leaves else index.name
    return Item(ask=tuple(f"EXPLAIN (COSTS OFF, FORMAT JSON) {sql}" for sql in statements), until=f'"Index Name": {json.dumps(name)}')


def _probes(expected: Expected, index: Index) -> list[str]:
    """Queries that the index should serve: equality on its first column, and on all; on one partition where there are some."""
    definition = index.definition
    if definition.method not in PROBED_METHODS or (index.partitioned and not index.leaves):
        return []
    leaf = index.leaves[0] if index.leaves else None
    relation = f"{quoted(leaf.schema)}.{quoted(leaf.table)}" if leaf else expected.relation
    found = []
    for count in dict.fromkeys((1, len(definition.keys))):
        conditions = [_equality(relation, column) for column in definition.keys[:count]] + ([definition.predicate] if definition.predicate else [])
        found.append(f"SELECT 1 FROM {relation} WHERE {' AND '.join(conditions)}")  # noqa: S608 - quoted names and the catalog's own expressions
    return found


def _equality(relation: str, column: Column) -> str:
    collation = f" COLLATE {column.collation}" if column.collation else ""
    # A value of the right type that the planner does not know; the sub-select itself reads no table.
    return f"({column.name}){collation} = (SELECT {column.name} FROM {relation} WHERE false)"  # noqa: S608 - as above


def _probed(facts: Facts, expected: Expected, index: Index, statements: t.Sequence[str], answer: Answer) -> tuple[Plan, IndexFinding | None]:
    definition = index.definition
    label = f"equality on {definition.keys[0].words()}"
    if definition.method not in PROBED_METHODS:
        return Plan(label, "not_probed", index.name, f"no probe for method {definition.method}: give a query in queries"), None
    if not statements:
        return Plan(label, "too_small", index.name, "table too small to decide: it has no partition"), None
    if answer.state:
        return _not_asked(facts, expected, index, Plan(label, "not_explained", index.name, answer.message), f"EXPLAIN {statements[0]};")
    return _read(expected, index, label, list(map(plan_scans, answer.said)))


def _read(expected: Expected, index: Index, label: str, scans: t.Sequence[t.Sequence[Scan]]) -> tuple[Plan, IndexFinding | None]:
    """What the plans of an index's probes say of it."""
    names = {index.name, *(leaf.index for leaf in index.leaves)}
    used = next((scan for found in scans for scan in found if scan.index in names), None)
    if used:
        return Plan(label, "usable", index.name, used.words(), {"usable": "yes"}), None
    other = next((scan for scan in scans[-1] if scan.index), None)
    if other:
        return Plan(label, "other_index", index.name, f"the planner takes {other.index} for the same condition"), None
    if not scans[-1]:
        return Plan(label, "too_small", index.name, "table too small to decide: there is nothing to read"), None
    words = Text("the planner cannot use it", "o planejador não consegue usá-lo")
    remedy = f"REINDEX INDEX CONCURRENTLY {quoted(expected.schema)}.{quoted(index.name)}; -- after the transactions that are older than the index have ended"
    finding = _probe_finding(entry_finding(expected, "not_usable", words, remedy, scans[-1][0].words()), index)
    return Plan(label, "not_used", index.name, scans[-1][0].words(), {"usable": "no"}), finding


def _not_asked(facts: Facts, expected: Expected, index: Index, plan: Plan, remedy: str) -> tuple[Plan, IndexFinding | None]:
    _why, grant = may_not_use(expected, facts.tables[expected.schema, expected.table], facts.server.role)
    words = Text(f"the planner cannot be asked: {plan.detail}", f"não se pode perguntar ao planejador: {plan.detail}")
    return plan, _probe_finding(entry_finding(expected, "not_explained", words, grant or remedy), index)


def _probe_finding(finding: IndexFinding, index: Index) -> IndexFinding:
    return dataclasses.replace(finding, about="queries", expected=f"{index.name} usable for equality on {index.definition.keys[0].words()}")


def check_query(connection: PostgresConnection, query: Query, facts: Facts, number: int) -> tuple[Plan, IndexFinding | None]:
    """The planner's verdict on a query of the contract, in one round trip. *number* makes its prepared statement's name."""
    if why := _bad_query(query):
        return _query_finding(query, "not_explained", why)
    given = bool(query.parameters) or not query.parameter_count
    values = ", ".join(map(_literal, query.parameters)) if given else ", ".join(["NULL"] * query.parameter_count)
    # Without values there is only the generic plan to look at.
    plain = CUSTOM if given else GENERIC
    settings = [(NO_SEQSCAN, plain), (plain,), *([(GENERIC,)] if given and query.parameter_count else [])]
    items = [explained(f"lastro_query_{number}_{place}", query.statement, values, run) for place, run in enumerate(settings)]
    answers = ask(connection, [Unit(tuple(items))])
    bad = next((answer for answer in answers if answer.state), None)
    if bad:
        why = Text(f"PostgreSQL makes no plan for the query: {bad.message}", f"o PostgreSQL não faz plano para a consulta: {bad.message}")
        return _query_finding(query, "not_explained", why, detail=bad.message)
    usable, chosen, *generic = (Reading.of(answer) for answer in answers)
    return _judged(query, _relevant(query, facts), usable, chosen, generic[0] if generic else chosen, given=given)


def explained(name: str, statement: str, values: str, settings: t.Sequence[str]) -> Item:
    """The question for the plan of *statement* with *values*, prepared as *name*, and for the sizes of what it reads.

    A name is good once: the plan of a statement without parameters is kept, whatever is set later.
    """
    execute = f"EXPLAIN (VERBOSE, FORMAT JSON) EXECUTE {name}" + (f"({values})" if values else "")
    return Item(run=(*settings, f"PREPARE {name} AS {statement}"), ask=(execute, SIZES))


def _bad_query(query: Query) -> Text | None:
    if not is_one_statement(query.sql):
        problem = Text("it is more than one statement", "é mais de um comando")
    elif query.parameters and len(query.parameters) != query.parameter_count:
        count = len(query.parameters)
        problem = Text(f"it takes {query.parameter_count} parameters, {count} are given", f"recebe {query.parameter_count} parâmetros, há {count}")
    elif query.verdict == "chosen" and query.parameter_count and not query.parameters:
        problem = Text("chosen needs values in parameters", "chosen precisa de valores em parameters")
    else:
        return None
    return Text(f"PostgreSQL makes no plan for the query: {problem.en}", f"o PostgreSQL não faz plano para a consulta: {problem.pt_BR}")


def _literal(value: object) -> str:
    return "NULL" if value is None else adapt(value).getquoted().decode()


@dataclasses.dataclass(frozen=True)
class Reading:
    """What one plan reads, and how large what it reads is."""

    scans: tuple[Scan, ...]
    sizes: t.Mapping[str, TableSize]

    @classmethod
    def of(cls, answer: Answer) -> Reading:
        """From the two answers of an item: plan and sizes."""
        sizes = {name: TableSize(*size) for name, size in json.loads(answer.said[1]).items()}
        return cls(tuple(plan_scans(answer.said[0], sizes)), sizes)

    def words(self) -> str:
        """The nodes that read tables."""
        return ", ".join(dict.fromkeys(scan.words() for scan in self.scans)) or "a plan that reads no table"

    def rows(self) -> int:
        """The estimate of rows that the plan reads in all."""
        return round(sum(scan.rows for scan in self.scans if scan.table))

    def small(self, tables: t.Collection[str]) -> bool:
        """Whether what it reads of *tables* (of all, where it reads none of them) is too little for a choice to say anything."""
        sizes = [size.size for name, size in self.sizes.items() if name in tables] or [size.size for size in self.sizes.values()]
        return sum(sizes) <= SMALL_BYTES


def _relevant(query: Query, facts: Facts) -> tuple[set[str], set[str]]:
    """Index names that count for the query, and the tables (schema.table) whose size decides."""
    names, tables = {query.index} - {""}, set[str]()
    for (schema, table), known in facts.tables.items():
        for index in known.indexes:
            if query.index and index.name == query.index:
                names |= {leaf.index for leaf in index.leaves}
                tables |= {f"{schema}.{table}", *(f"{leaf.schema}.{leaf.table}" for leaf in index.leaves)}
    return names, tables | {".".join(place) for place in facts.named.get(query.index, ())}


def _judged(
    query: Query, relevant: tuple[set[str], set[str]], usable: Reading, chosen: Reading, generic: Reading, *, given: bool
) -> tuple[Plan, IndexFinding | None]:
    names, tables = relevant
    answers = {"usable": "yes" if _fulfils(query, names, usable) else "no"}
    for name, reading in (("chosen", chosen if given else None), ("chosen_generic", generic)):
        if reading is None:
            answers[name] = "unknown"
        elif _fulfils(query, names, reading):
            answers[name] = "yes"
        else:
            answers[name] = "too_small" if answers["usable"] == "yes" and reading.small(tables) else "no"
    reading = {"usable": usable, "chosen": chosen, "chosen_generic": generic}[query.verdict]
    state = answers[query.verdict]
    if state == "no":
        does = reading.words()
        why = Text(f"the planner does not use it: {does}", f"o planejador não o usa: {does}")
        if answers["usable"] == "yes":
            why = Text(f"the planner could use it, but does not choose it: {does}", f"o planejador poderia usá-lo, mas não o escolhe: {does}")
        return _query_finding(query, "not_used", why, does, answers=answers)
    actual = chosen if query.verdict == "usable" else reading
    over = _over_limit(query, actual, tables)
    if over:
        return _query_finding(query, "over_limit", over, actual.words(), answers=answers, rows=actual.rows())
    verdict = query.verdict if state == "yes" else "too_small"
    detail = reading.words() if state == "yes" else f"table too small to decide: {reading.words()}"
    return Plan(query.sql, verdict, query.label, detail, answers, actual.rows()), None


def _over_limit(query: Query, reading: Reading, tables: t.Collection[str]) -> Text | None:
    """What the plan reads beyond max_rows_scanned and must_not; a table that is too small to decide is no fault of the plan."""
    wrong = [scan.qualified for scan in reading.scans if scan.sequential and _named(scan, query.no_seq_scan_on)]
    wrong = [name for name in dict.fromkeys(wrong) if not reading.small({name})]
    if wrong:
        names = ", ".join(wrong)
        return Text(f"the planner reads {names} as a whole", f"o planejador lê {names} por inteiro")
    rows, limit = reading.rows(), query.max_rows_scanned
    if limit is not None and rows > limit:
        return Text(f"about {rows} rows are read, at most {limit} are wanted", f"cerca de {rows} linhas são lidas, no máximo {limit} são desejadas")
    return None


def _named(scan: Scan, tables: t.Collection[str]) -> bool:
    return scan.table in tables or scan.qualified in tables


def _fulfils(query: Query, names: t.AbstractSet[str], reading: Reading) -> bool:
    if query.index:
        return any(scan.index in names for scan in reading.scans)
    own = [scan for scan in reading.scans if scan.table and _named(scan, (query.table,))]
    return bool(own) and not any(scan.sequential for scan in own)


def _query_finding(
    query: Query, kind: str, why: Text, actual: str = "", *, answers: t.Mapping[str, str] | None = None, rows: int = -1, detail: str = ""
) -> tuple[Plan, IndexFinding | None]:
    what = f"{query.index or 'an index of ' + query.table} {query.verdict} for: {query.sql}"
    unexplained = kind == "not_explained"
    remedy = "-- correct this query in the contract" if unexplained else f"EXPLAIN {query.statement};"
    finding = IndexFinding("queries", kind, query.label, query.table, what, actual, why, remedy)
    return Plan(query.sql, "not_explained" if unexplained else "not_used", query.label, detail or actual or why.en, answers or {}, rows), finding


__all__ = ("GENERIC", "SMALL_BYTES", "USED", "Plan", "Reading", "check_query", "explained", "probe")
