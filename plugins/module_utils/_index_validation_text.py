# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an index validation found, as a person reads it, in both languages. Pure. PRIVATE to the collection."""

from __future__ import annotations

import collections
import dataclasses
import typing as t

from ._errors import Text
from ._index_validation_compare import Index, columns_text
from ._index_validation_contract import Expected
from ._index_validation_findings import IndexFinding
from ._index_validation_plan import USED, Plan
from ._index_validation_repair import Repair
from ._index_validation_reports import Report
from ._index_validation_sql import Facts

SHOWN = 50
"""So many indexes are shown one by one; of more, those that are right are counted."""

_VERDICTS = {
    "usable": Text("The planner can use it", "O planejador consegue usá-lo"),
    "chosen": Text("The planner chooses it", "O planejador o escolhe"),
    "chosen_generic": Text("The planner chooses it in a generic plan", "O planejador o escolhe num plano genérico"),
    "other_index": Text("Another index serves the same", "Outro índice serve o mesmo"),
    "too_small": Text("Table too small to decide", "Tabela pequena demais para decidir"),
    "not_probed": Text("Not asked of the planner", "Não perguntado ao planejador"),
    "not_used": Text("The planner does not use it", "O planejador não o usa"),
    "not_explained": Text("The planner cannot be asked", "Não se pode perguntar ao planejador"),
}
_SIGNS = {**dict.fromkeys(USED, "✓"), "not_used": "✗", "not_explained": "✗"}
_REPORTS = {
    "invalid": Text("Invalid or unfinished indexes", "Índices inválidos ou inacabados"),
    "duplicates": Text("Indexes that another one makes needless", "Índices que outro torna desnecessários"),
    "unused": Text("Unused indexes", "Índices sem uso"),
    "missing_fk": Text("Foreign keys without an index", "Chaves estrangeiras sem índice"),
    "bloat": Text("Bloated indexes", "Índices inchados"),
    "slow": Text("Slow statements", "Consultas lentas"),
}


@dataclasses.dataclass(frozen=True)
class Judged:
    """An entry of the contract with the index that fulfils it, or the finding why none does."""

    expected: Expected
    index: Index | None
    finding: IndexFinding | None


@dataclasses.dataclass(frozen=True)
class Validated:
    """Everything that a validation found."""

    facts: Facts
    entries: tuple[Judged, ...]
    findings: tuple[IndexFinding, ...]
    plans: tuple[Plan, ...]
    reports: tuple[Report, ...] = ()
    repairs: tuple[Repair, ...] = ()


def text(validated: Validated) -> Text:
    """The whole of it in each language."""
    return Text(*("\n".join(_lines(validated, place)) for place in (0, 1)))


def _say(place: int, en: str, pt_br: str) -> str:
    return (en, pt_br)[place]


def _lines(validated: Validated, place: int) -> t.Iterator[str]:
    server = validated.facts.server
    yield f"✓ {_say(place, 'Connected to the database', 'Conectado ao banco')}: {server.database} (PostgreSQL {server.version_text})"
    if server.text_reason:
        said = _say(place, "Definitions that differ in writing were compared as text", "Definições escritas de outro modo foram comparadas como texto")
        yield f"! {said}: {server.text_reason}"
    tables = [(name, table) for name, table in validated.facts.tables.items() if table.exists]
    for (schema, name), table in tables[:SHOWN]:
        words = _say(place, "Indexes of the table", "Total de índices na tabela")
        yield f"✓ {words} '{name if schema == 'public' else f'{schema}.{name}'}': {len(table.indexes)}"
    for one in validated.repairs:
        yield f"{'✓' if not one.problem else '✗'} {_say(place, 'Repair', 'Reparo')}: {one.statement}" + (f" ({one.problem})" if one.problem else "")
    yield from _entries(validated, place)
    yield from _queries(validated, place)
    for report in validated.reports:
        yield from _report(report, place)
    yield from ("", _summary(validated, place))


def _entries(validated: Validated, place: int) -> t.Iterator[str]:
    plans: dict[str, list[Plan]] = collections.defaultdict(list)
    for plan in validated.plans:
        plans[plan.index].append(plan)
    few = len(validated.entries) <= SHOWN
    for one in validated.entries:
        mine = plans[one.index.name] if one.index else []
        bad = [plan for plan in mine if _SIGNS.get(plan.verdict) == "✗"]
        if not few and one.index and not bad:
            continue
        yield from ("", f"{_say(place, 'Validating', 'Validando')}: {one.expected.label}")
        if one.index:
            yield f"  ✓ {_say(place, 'Index found', 'Índice encontrado')}" + ("" if one.expected.name else f": {one.index.name}")
            yield f"  ✓ {_say(place, 'Right columns', 'Colunas corretas')}: {columns_text(one.index.definition.columns)[1:].replace(')', '', 1).strip()}"
        for plan in mine:
            yield f"  {_SIGNS.get(plan.verdict, '!')} {_VERDICTS[plan.verdict][place]}: {plan.detail}"
        finding = one.finding
        if finding:
            yield from _finding(finding, place)
    right = sum(1 for one in validated.entries if one.index)
    if not few and right:
        yield from ("", f"✓ {right} {_say(place, 'indexes are there as described', 'índices estão como descritos')}")


def _finding(finding: IndexFinding, place: int) -> t.Iterator[str]:
    old = "" if finding.new else _say(place, " (so before this run)", " (já era assim antes desta execução)")
    yield f"  ✗ {finding.difference[place][:1].upper()}{finding.difference[place][1:]}{old}"
    if finding.actual:
        yield f"    {_say(place, 'Found', 'Encontrado')}: {finding.actual}"
    yield f"    {_say(place, 'Remedy', 'Correção')}: {finding.remedy}"


def _queries(validated: Validated, place: int) -> t.Iterator[str]:
    of_entries = {one.index.name for one in validated.entries if one.index}
    for finding in validated.findings:
        if finding.about == "queries":
            yield from ("", f"{_say(place, 'Query plan', 'Plano de consulta')}: {finding.expected}")
            yield from _finding(finding, place)
    for plan in validated.plans:
        if plan.index not in of_entries and plan.verdict not in ("not_used", "not_explained"):
            yield from ("", f"{_say(place, 'Query plan', 'Plano de consulta')}: {plan.query}")
            yield f"  {_SIGNS.get(plan.verdict, '!')} {_VERDICTS[plan.verdict][place]}: {plan.detail}"


def _report(report: Report, place: int) -> t.Iterator[str]:
    yield from ("", f"{_REPORTS[report.name][place]}: {len(report.rows)}" + (f" ({report.note[place]})" if report.note.en else ""))
    for finding in report.findings[:SHOWN]:
        yield f"  ! {finding.index}: {finding.difference[place]}"
        yield f"    {_say(place, 'Remedy', 'Correção')}: {finding.remedy}"


def _summary(validated: Validated, place: int) -> str:
    total, right = len(validated.entries), sum(1 for one in validated.entries if one.index)
    used = sum(1 for plan in validated.plans if plan.verdict in USED)
    if not validated.findings:
        english = f"SUCCESS: all {total} indexes are there as described; {used} used by the planner"
        return "✓ " + _say(place, english, f"SUCESSO: todos os {total} índices foram criados corretamente; {used} usados pelo planejador")
    count = len(validated.findings)
    english = f"FAILURE: {right} of {total} indexes are right; findings: {count}"
    return "✗ " + _say(place, english, f"FALHA: {right} de {total} índices estão corretos; achados: {count}")


__all__ = ("Judged", "Validated", "text")
