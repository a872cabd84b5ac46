# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The index contract: each expected index is there, valid, as described, and used by the planner. PRIVATE to the collection.

C(run) is what the module does. The steps: one catalog query, one for what the catalog alone cannot judge, one for the planner's answers on indexes,
one for each query, one for the reports.
"""

from __future__ import annotations

import contextlib
import dataclasses
import typing as t

from . import _index_validation_plan as planner
from . import _index_validation_repair as repairs
from . import _index_validation_reports as reports
from ._argspec import ArgumentSpec
from ._errors import LastroError, Text
from ._index_validation_compare import Index, differences, plainly_fits, text_differences
from ._index_validation_contract import Expected, Query, expected_from, index_options, query_from, query_options
from ._index_validation_findings import IndexFinding, bad_entry, cannot_exist, decide, no_table
from ._index_validation_server import reason
from ._index_validation_sql import UNDEFINED_FUNCTION, Canonical, Facts, canonicalise, read_facts
from ._index_validation_text import Judged, Validated, text
from ._postgres import ConnectionSettings, connect, connection_argument_spec, redact, require_psycopg2, settings_from_params
from ._progress import Progress, file_progress, progress_argument_spec, silent

with contextlib.suppress(ImportError):  # _postgres.connect says so
    import psycopg2

if t.TYPE_CHECKING:
    from psycopg2.extensions import connection as PostgresConnection

APPLICATION_NAME = "lastro index_validation"
FAIL_ON = ("contract", "queries", *reports.REPORTS)
_TRY_AGAIN = Text(
    en="Look at what the server says, raise statement_timeout or lock_timeout where it ran out of time, and run this again.",
    pt_BR="Veja o que o servidor diz, aumente statement_timeout ou lock_timeout se faltou tempo, e execute de novo.",
)


@dataclasses.dataclass(frozen=True)
class Contract:
    """All that is asked for. *before* are the findings that an earlier call returned, by their keys; None where there was none."""

    expected: tuple[Expected, ...] = ()
    queries: tuple[Query, ...] = ()
    report: tuple[str, ...] = ()
    thresholds: reports.Thresholds = dataclasses.field(default_factory=reports.Thresholds)
    standbys: tuple[str, ...] = ()
    fail_on: tuple[str, ...] = ("contract", "queries")
    before: frozenset[tuple[str, ...]] | None = None
    statement_timeout: str = "30s"
    lock_timeout: str = "2s"


def argument_spec() -> ArgumentSpec:
    """The options of the module index_validation."""
    one_of = [["index", "table"]]
    queries = {"options": query_options(), "required_one_of": one_of, "mutually_exclusive": one_of}
    own = ArgumentSpec(
        options={
            "indexes": {"type": "list", "elements": "dict", "default": [], "options": index_options()},
            "queries": {"type": "list", "elements": "dict", "default": [], **queries},
            "report": {"type": "list", "elements": "str", "default": [], "choices": list(reports.REPORTS)},
            "thresholds": {"type": "dict", "default": {}, "options": reports.threshold_options()},
            "standbys": {"type": "list", "elements": "str", "default": []},
            "fail_on": {"type": "list", "elements": "str", "default": ["contract", "queries"], "choices": list(FAIL_ON)},
            "before": {"type": "list", "elements": "dict"},
            "report_only": {"type": "bool", "default": False},
            "repair": {"type": "str", "default": "none", "choices": ["none", "reindex_concurrently"]},
            "repair_timeout": {"type": "str", "default": "1h"},
            "statement_timeout": {"type": "str", "default": "30s"},
            "lock_timeout": {"type": "str", "default": "2s"},
        }
    )
    return connection_argument_spec().merge(own).merge(progress_argument_spec())


def contract_from(params: t.Mapping[str, t.Any]) -> Contract:
    """The contract from the module's options."""
    before = params.get("before")
    return Contract(
        expected=tuple(map(expected_from, params["indexes"])),
        queries=tuple(map(query_from, params["queries"])),
        report=tuple(name for name in reports.REPORTS if name in (*params["report"], *params["fail_on"])),
        thresholds=reports.Thresholds(**{name: value for name, value in params["thresholds"].items() if value is not None}),
        standbys=tuple(params["standbys"]),
        fail_on=tuple(params["fail_on"]),
        before=None if before is None else frozenset(tuple(str(one.get(name, "")) for name in ("about", "kind", "table", "index")) for one in before),
        statement_timeout=params["statement_timeout"],
        lock_timeout=params["lock_timeout"],
    )


def run(params: t.Mapping[str, t.Any], *, check_mode: bool = False) -> dict[str, t.Any]:
    """The module's return values. Raises LastroError with all findings unless ``report_only``, and where the server cannot be asked."""
    settings, contract = settings_from_params(params), contract_from(params)
    options = repairs.Options(enabled=params["repair"] != "none", timeout=params["repair_timeout"], check_mode=check_mode)
    validated = validate(settings, contract, options, file_progress(params.get("progress_file")))
    result = as_result(validated)
    failing = [finding for finding in validated.findings if fails(finding, contract)]
    if failing and not params["report_only"]:
        raise _error(validated, failing, result)
    return result


def fails(finding: IndexFinding, contract: Contract) -> bool:
    """Whether a finding is a failure. One of a report that stood before is none: it is not this change's."""
    old = contract.before is not None and not finding.new and finding.about not in ("contract", "queries")
    return finding.about in contract.fail_on and not old


def as_result(validated: Validated) -> dict[str, t.Any]:
    """What was found as return values."""
    return {
        "changed": any(one.changes for one in validated.repairs),
        "total": len(validated.entries),
        "valid": sum(1 for one in validated.entries if one.index),
        "used": sum(1 for plan in validated.plans if plan.verdict in planner.USED),
        "findings": [finding.as_result() for finding in validated.findings],
        "plans": [plan.as_result() for plan in validated.plans],
        "reports": {report.name: report.as_result() for report in validated.reports},
        "repairs": [one.as_result() for one in validated.repairs],
        "compared_as_text": validated.facts.server.text_reason,
        "text": text(validated)._asdict(),
    }


def _error(validated: Validated, failing: t.Sequence[IndexFinding], result: t.Mapping[str, t.Any]) -> LastroError:
    lines = "".join(f"\n- {finding.index}: {finding.difference.en}{'' if finding.new else ' (so before this run)'}" for finding in failing)
    statements = "\n".join(dict.fromkeys(finding.remedy for finding in failing))
    count = len(failing)
    return LastroError(
        f"The index contract has {count} finding{'s' if count > 1 else ''} ({result['valid']} of {result['total']} indexes are right):{lines}",
        remedy=Text(
            en=f"Put this into a migration and apply it, or correct the contract in deploy_indexes:\n{statements}",
            pt_BR=f"Coloque isto numa migração e aplique-a, ou corrija o contrato em deploy_indexes:\n{statements}",
        ),
        **result,
    )


def validate(settings: ConnectionSettings, contract: Contract, repair: repairs.Options = repairs.NONE, progress: Progress = silent) -> Validated:
    """Compare the contract with the database; changes nothing but what *repair* allows. Raises LastroError where the server cannot be asked."""
    require_psycopg2()
    session = {"statement_timeout": contract.statement_timeout, "lock_timeout": contract.lock_timeout}
    try:
        with connect(settings, application_name=APPLICATION_NAME, autocommit=True, **session) as connection:
            facts = read_facts(connection, contract.expected, contract.queries)
            planned = repairs.plan(contract.expected, facts) if repair.enabled else []
            done = repairs.repair(settings, planned, repair, progress)
            if any(one.changes for one in done) and not repair.check_mode:
                facts = read_facts(connection, contract.expected, contract.queries)
            return _validate(connection, settings, contract, facts, done)
    except psycopg2.Error as error:
        raise LastroError(f"PostgreSQL at {settings} refused the validation: {redact(reason(error), settings)}.", remedy=_TRY_AGAIN) from None


def _validate(connection: PostgresConnection, settings: ConnectionSettings, contract: Contract, facts: Facts, done: t.Sequence[repairs.Repair]) -> Validated:
    entries = judge(connection, contract.expected, facts)
    asked = {query.index for query in contract.queries}
    answers = planner.probe(connection, facts, [(one.expected, one.index) for one in entries if one.index and one.index.name not in asked])
    answers += [planner.check_query(connection, query, facts, number) for number, query in enumerate(contract.queries)]
    made = reports.read(connection, contract.report, reports.Asked(settings, facts.server, contract.thresholds, contract.standbys))
    findings = [one.finding for one in entries if one.finding] + [finding for _plan, finding in answers if finding]
    findings += [finding for report in made if report.name in contract.fail_on for finding in report.findings]
    known = contract.before or frozenset()
    return Validated(
        facts=facts,
        entries=tuple(entries),
        findings=tuple(dataclasses.replace(finding, new=finding.key not in known) for finding in findings),
        plans=tuple(plan for plan, _finding in answers),
        reports=tuple(made),
        repairs=tuple(done),
    )


def judge(connection: PostgresConnection, expected: t.Sequence[Expected], facts: Facts) -> list[Judged]:
    """For each entry the index that fulfils it, or the finding why none does. PostgreSQL is asked once, and only what the catalog leaves open."""
    unclear = [one for one in expected if _is_unclear(one, facts)]
    why = facts.server.text_reason
    canonical = [Canonical(no_clone=why)] * len(unclear) if why else canonicalise(connection, unclear)
    known = dict(zip(map(id, unclear), canonical))  # noqa: B905
    return [Judged(one, *_judged(one, facts, known.get(id(one)))) for one in expected]


def _is_unclear(expected: Expected, facts: Facts) -> bool:
    table = facts.tables[expected.schema, expected.table]
    if expected.problem or not table.exists:
        return False
    named = [index for index in table.indexes if index.name == expected.name]
    return not any(plainly_fits(expected, index) for index in named or table.indexes)


def _judged(expected: Expected, facts: Facts, canonical: Canonical | None) -> tuple[Index | None, IndexFinding | None]:
    table = facts.tables[expected.schema, expected.table]
    if expected.problem or not table.exists:
        bad = bad_entry(expected, expected.problem) if expected.problem else no_table(expected, schema_exists=table.schema_exists)
        return None, bad
    elsewhere = facts.elsewhere(expected)
    if canonical is None:
        return decide(expected, table.indexes, lambda index: [] if plainly_fits(expected, index) else [ANOTHER], elsewhere)
    if canonical.definition:
        definition = canonical.definition
        return decide(expected, table.indexes, lambda index: differences(definition, index.definition, expected.match), elsewhere)
    by_text = decide(expected, table.indexes, lambda index: text_differences(expected, index), elsewhere)
    if canonical.no_clone:
        return by_text[0], by_text[1] and _as_text(by_text[1], canonical.no_clone)
    # A function of the table's own row type is not known for its clone.
    if canonical.state == UNDEFINED_FUNCTION and by_text[0]:
        return by_text
    return None, cannot_exist(expected, canonical.impossible)


ANOTHER = Text("another definition", "outra definição")


def _as_text(finding: IndexFinding, why: str) -> IndexFinding:
    words = finding.difference
    return dataclasses.replace(finding, difference=Text(f"{words.en} (compared as text: {why})", f"{words.pt_BR} (comparado como texto: {why})"))


__all__ = ("FAIL_ON", "Contract", "Validated", "argument_spec", "as_result", "contract_from", "fails", "judge", "run", "validate")
