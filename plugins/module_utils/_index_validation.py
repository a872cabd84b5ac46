# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The index contract: each expected index is there, valid, as described, and used by the planner. PRIVATE to the collection."""

from __future__ import annotations

import contextlib
import dataclasses
import typing as t

from . import _index_validation_plan as planner
from ._argspec import ArgumentSpec
from ._errors import LastroError, Text
from ._index_validation_compare import Expected, Index, IndexFinding, decide, described, differences, missing, plainly_fits, text_differences
from ._index_validation_plan import Plan, Query
from ._index_validation_sql import NoCloneError, NotPossibleError, Table, canonical, read_tables, reason
from ._postgres import ConnectionSettings, connect, connection_argument_spec, redact, require_psycopg2, settings_from_params

with contextlib.suppress(ImportError):  # _postgres.connect says so
    import psycopg2

if t.TYPE_CHECKING:
    from psycopg2.extensions import connection as PostgresConnection

_TRY_AGAIN = Text(
    en="Look at what the server says, raise statement_timeout or lock_timeout where it ran out of time, and run this again.",
    pt_BR="Veja o que o servidor diz, aumente statement_timeout ou lock_timeout se faltou tempo, e execute de novo.",
)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What the contract was compared with: *valid* of *total* indexes, *used* of *plans*."""

    total: int
    valid: int
    findings: tuple[IndexFinding, ...]
    plans: tuple[Plan, ...]

    def as_result(self) -> dict[str, t.Any]:
        """The outcome as return values."""
        return {
            "total": self.total,
            "valid": self.valid,
            "used": sum(1 for plan in self.plans if plan.verdict in planner.USED),
            "findings": [finding.as_result() for finding in self.findings],
            "plans": [plan.as_result() for plan in self.plans],
        }


def argument_spec() -> ArgumentSpec:
    """The options of the module index_validation."""
    index: dict[str, t.Any] = {
        "name": {"type": "str"},
        "schema": {"type": "str", "default": "public"},
        "table": {"type": "str", "required": True},
        "columns": {"type": "list", "elements": "str", "required": True},
        "unique": {"type": "bool", "default": False},
        "where": {"type": "str"},
        "method": {"type": "str", "default": "btree"},
        "match": {"type": "str", "default": "exact", "choices": ["exact", "prefix"]},
    }
    query: dict[str, t.Any] = {
        "sql": {"type": "str", "required": True},
        "index": {"type": "str"},
        "table": {"type": "str"},
        "verdict": {"type": "str", "default": "usable", "choices": ["usable", "chosen"]},
    }
    one_of = [["index", "table"]]
    own = ArgumentSpec(
        options={
            "indexes": {"type": "list", "elements": "dict", "default": [], "options": index},
            "queries": {"type": "list", "elements": "dict", "default": [], "options": query, "required_one_of": one_of, "mutually_exclusive": one_of},
            "statement_timeout": {"type": "str", "default": "30s"},
            "lock_timeout": {"type": "str", "default": "2s"},
        }
    )
    return connection_argument_spec().merge(own)


def run(params: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """The module's return values. Raises LastroError with all findings, or where the server cannot be asked."""
    settings = settings_from_params(params)
    expected = [_expected(entry) for entry in params["indexes"]]
    queries = [Query(entry["sql"], entry.get("index") or "", entry.get("table") or "", entry["verdict"]) for entry in params["queries"]]
    outcome = validate(settings, expected, queries, statement_timeout=params["statement_timeout"], lock_timeout=params["lock_timeout"])
    result = outcome.as_result()
    if outcome.findings:
        raise _error(outcome, result)
    return result


def _expected(entry: t.Mapping[str, t.Any]) -> Expected:
    return Expected(
        schema=entry["schema"],
        table=entry["table"],
        columns=tuple(column.strip() for column in entry["columns"]),
        name=entry.get("name") or "",
        unique=entry["unique"],
        where=entry.get("where") or "",
        method=entry["method"],
        match=entry["match"],
    )


def _error(outcome: Outcome, result: t.Mapping[str, t.Any]) -> LastroError:
    lines = "".join(f"\n- {finding.index}: {finding.difference}" for finding in outcome.findings)
    statements = "\n".join(dict.fromkeys(finding.remedy for finding in outcome.findings))
    count = len(outcome.findings)
    return LastroError(
        f"The index contract has {count} finding{'s' if count > 1 else ''} ({outcome.valid} of {outcome.total} indexes are right):{lines}",
        remedy=Text(
            en=f"Put this into a migration and apply it, or correct the contract in deploy_indexes:\n{statements}",
            pt_BR=f"Coloque isto numa migração e aplique-a, ou corrija o contrato em deploy_indexes:\n{statements}",
        ),
        **result,
    )


def validate(
    settings: ConnectionSettings, expected: t.Sequence[Expected], queries: t.Sequence[Query], *, statement_timeout: str = "30s", lock_timeout: str = "2s"
) -> Outcome:
    """Compare the contract with the database; changes nothing. Raises LastroError where the server cannot be asked."""
    require_psycopg2()
    try:
        with connect(settings, application_name="lastro index_validation", statement_timeout=statement_timeout, lock_timeout=lock_timeout) as connection:
            return _validate(connection, expected, queries)
    except psycopg2.Error as error:
        raise LastroError(f"PostgreSQL at {settings} refused the validation: {redact(reason(error), settings)}.", remedy=_TRY_AGAIN) from None


def _validate(connection: PostgresConnection, expected: t.Sequence[Expected], queries: t.Sequence[Query]) -> Outcome:
    tables = read_tables(connection, {(one.schema, one.table) for one in expected})
    judged = [(one, *_judge(connection, one, tables[one.schema, one.table])) for one in expected]
    connection.rollback()  # takes the clones' locks and names away; what follows only reads
    with connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION READ ONLY")
    answers: list[tuple[Plan, IndexFinding | None]] = []
    asked = {query.index for query in queries}
    for one, index, _finding in judged:
        if index and index.name not in asked:
            answers.append(planner.probe(connection, one, index))
    leaves = {index.name: index.leaves for table in tables.values() for index in table.indexes}
    answers += [planner.check_query(connection, query, leaves) for query in queries]
    return Outcome(
        total=len(judged),
        valid=sum(1 for _one, index, _finding in judged if index),
        findings=(*(finding for _one, _index, finding in judged if finding), *(finding for _plan, finding in answers if finding)),
        plans=tuple(plan for plan, _finding in answers),
    )


def _judge(connection: PostgresConnection, expected: Expected, table: Table) -> tuple[Index | None, IndexFinding | None]:
    """The index that fulfils the entry, or the finding why none does."""
    if not expected.columns or not all(expected.columns):
        return None, IndexFinding(expected.label, "", "", "its columns are empty", "-- name the columns of this index in the contract")
    if not table.exists:
        remedy = f"-- apply the migration that creates {expected.relation}, or correct schema and table in the contract"
        return None, IndexFinding(expected.label, described(expected), "", f"the table {expected.relation} does not exist", remedy)
    named = [index for index in table.indexes if index.name == expected.name]
    if any(plainly_fits(expected, index) for index in named or table.indexes):
        return decide(expected, table.indexes, lambda index: [] if plainly_fits(expected, index) else ["another definition"])
    try:
        definition = canonical(connection, expected)
    except NotPossibleError as error:
        remedy = "-- correct columns, method and where in the contract, or apply the migration that they need"
        return None, missing(expected, difference=f"it cannot exist: {error}", remedy=remedy)
    except NoCloneError as error:
        index, finding = decide(expected, table.indexes, lambda index: text_differences(expected, index))
        return index, finding and dataclasses.replace(finding, difference=f"{finding.difference} (compared as text: {error})")
    return decide(expected, table.indexes, lambda index: differences(definition, index.definition, expected.match))


__all__ = ("Outcome", "argument_spec", "run", "validate")
