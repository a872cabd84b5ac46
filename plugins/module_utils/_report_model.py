# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run's journal says, as a report in one language. PRIVATE to the collection.

The model is made from the journal's records alone; _report_html and _report_markdown show it, JSON is the model itself.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ._clock import from_text
from ._errors import LastroError, Text
from ._report_details import GATE_COLUMNS, Detail, Field, Table, as_text, details, gate_row, label
from ._texts import KNOWN_PHASES, format_time, outcome_sentence, outcome_title, phase_summary, phase_title, release_text
from ._texts_format import pick
from ._texts_summary import scope_title

Record = t.Mapping[str, t.Any]
WORST_FIRST = ("failed", "unreachable", "started", "ok", "skipped")


@dataclasses.dataclass(frozen=True)
class HostRow:
    """What one host reported on a phase."""

    host: str
    status: str
    seconds: float | None
    summary: str
    problem: str
    remedy: str
    details: tuple[Detail, ...]


@dataclasses.dataclass(frozen=True)
class PhaseRow:
    """One pass through a phase. *start* is in seconds after the run's begin; *hosts* is empty for a single host."""

    phase: str
    title: str
    host: str
    status: str
    start: float
    seconds: float | None
    summary: str
    problem: str
    remedy: str
    evidence: Record
    details: tuple[Detail, ...]
    hosts: tuple[HostRow, ...]


@dataclasses.dataclass(frozen=True)
class Item:
    """One item of the checklist. *state*: executed, failed, not_needed, signed or open (*title* is its word); *proof* says by what, whom and when."""

    id: str
    item: str
    state: str
    title: str
    proof: tuple[str, ...]


ITEM_STATES = ("failed", "open", "executed", "not_needed", "signed")
"""An item that is executed and signed has the first of both states."""


@dataclasses.dataclass(frozen=True)
class Report:
    """All that a report shows. *title* is one line, *facts* stand at the top, *seconds* is the length of the run."""

    language: str
    run_id: str
    title: str
    outcome: str
    outcome_title: str
    outcome_sentence: str
    seconds: float
    facts: tuple[Field, ...]
    problem: str
    remedy: str
    decision: tuple[Field | Table, ...]
    figures: tuple[Field, ...]
    phases: tuple[PhaseRow, ...]
    gates: Table
    gate_verdicts: tuple[str, ...]
    checklist: tuple[Item, ...]
    signoffs: Table
    requests: Table
    plan: tuple[Detail, ...]
    journal_sha256: str

    def as_dict(self) -> dict[str, t.Any]:
        """The model as JSON's types."""
        return dataclasses.asdict(self)


@dataclasses.dataclass
class _Pass:
    """The records of one pass through a phase, while they are gathered."""

    phase: str
    started: str
    results: list[Record] = dataclasses.field(default_factory=list)
    verdict: Record | None = None


def make_report(records: t.Sequence[Record], *, sha256: str, language: str, checklist: t.Sequence[Record] = (), figures: Record | None = None) -> Report:
    """The report of one run. *checklist* and *figures* are the options of the module. Raises LastroError for a checklist that names no such phase."""
    opened = next((record for record in records if record.get("kind") == "opened"), {})
    outcome_record = next((record for record in reversed(records) if record.get("kind") == "outcome"), {})
    outcome = str(outcome_record.get("outcome") or "")
    begin = str(opened.get("time") or records[0].get("time") or "")
    end = str((outcome_record or records[-1]).get("time") or begin)
    seconds = _between(begin, end)
    phases = tuple(_phase_row(one, begin, bool(outcome), language) for one in _passes(records))
    signoffs = [signoff for row in phases if row.phase == "preflight" for signoff in row.evidence.get("signoffs") or ()]
    failed = next((row for row in phases if row.status in ("failed", "unreachable")), None)
    gates = [(gate, verdict) for row in phases for gate in _gates_of(row) for verdict in (str(gate.get("verdict") or ""),)]
    release = release_text(opened.get("release"))
    return Report(
        language=language,
        run_id=str(opened.get("run_id") or ""),
        title=f"{opened.get('app', '')} · {opened.get('environment', '')} · {release}",
        outcome=outcome,
        outcome_title=outcome_title(outcome, language),
        outcome_sentence=outcome_sentence(outcome, language),
        seconds=seconds,
        facts=_facts(opened, outcome_record, seconds, language),
        problem=failed.problem if failed else "",
        remedy=failed.remedy if failed else "",
        decision=_decision(records, language),
        figures=tuple(Field(_figure_label(key, language), as_text(key, value, language)) for key, value in (figures or {}).items()),
        phases=phases,
        gates=_rows("gates", GATE_COLUMNS, [gate_row(gate, language, lambda text: format_time(text, language)) for gate, _verdict in gates], language),
        gate_verdicts=tuple(verdict for _gate, verdict in gates),
        checklist=tuple(_item(raw, phases, signoffs, language) for raw in checklist),
        signoffs=_events("signoffs", ("name", "actor", "time"), ("name", "by", "time"), signoffs, language),
        requests=_events("asked", ("request", "actor", "reason", "time"), ("what", "by", "reason", "time"), _of_kind(records, "request"), language),
        plan=details(opened.get("plan") or {}, language),
        journal_sha256=sha256,
    )


def _of_kind(records: t.Sequence[Record], kind: str) -> list[Record]:
    return [record for record in records if record.get("kind") == kind]


def _between(begin: str, end: str) -> float:
    try:
        return max(round((from_text(end) - from_text(begin)).total_seconds(), 3), 0.0)
    except (TypeError, ValueError):
        return 0.0


def _figure_label(key: str, language: str) -> str:
    return label("failed_requests" if key == "failed" else key, language)


def _facts(opened: Record, outcome: Record, seconds: float, language: str) -> tuple[Field, ...]:
    release = opened.get("release")
    pairs = {
        "run": opened.get("run_id"),
        "release": release_text(release),
        "previous": release_text(opened.get("previous")),
        "serves": release_text(outcome.get("serves")),
        "actor": opened.get("actor"),
        "reason": pick(opened.get("reason"), language),
        "started": format_time(str(opened.get("time") or ""), language),
        "duration": as_text("seconds", seconds, language),
    }
    fields = [Field(label(key, language), str(value or "–")) for key, value in pairs.items()]
    if isinstance(release, t.Mapping) and release.get("sha256"):
        fields.append(Field("sha256", str(release["sha256"])))
    return tuple(fields)


def _decision(records: t.Sequence[Record], language: str) -> tuple[Field | Table, ...]:
    found: list[Field | Table] = []
    for record in _of_kind(records, "decision"):
        found.append(Field(label("scope", language), scope_title(str(record.get("scope") or ""), language)))
        found.append(Field(label("reason", language), pick(record.get("reason"), language)))
        found += details({"facts": record.get("facts")}, language)
    return tuple(found)


def _rows(name: str, columns: t.Sequence[str], rows: t.Sequence[tuple[str, ...]], language: str) -> Table:
    return Table(label(name, language), tuple(label(column, language) for column in columns), tuple(rows))


def _events(name: str, columns: t.Sequence[str], keys: t.Sequence[str], records: t.Sequence[Record], language: str) -> Table:
    rows = [tuple(format_time(str(one.get(key) or ""), language) if key == "time" else pick(one.get(key), language) for key in keys) for one in records]
    return _rows(name, columns, rows, language)


def _passes(records: t.Sequence[Record]) -> list[_Pass]:
    passes: list[_Pass] = []
    for record in records:
        kind, phase, time = record.get("kind"), str(record.get("phase") or ""), str(record.get("time") or "")
        if kind not in ("intent", "result", "verdict"):
            continue
        if not passes or passes[-1].phase != phase:
            passes.append(_Pass(phase, time))
        if kind == "result":
            passes[-1].results.append(record)
        elif kind == "verdict":
            passes[-1].verdict = record
    return passes


def _phase_row(one: _Pass, begin: str, has_outcome: bool, language: str) -> PhaseRow:
    records = [one.verdict] if one.verdict else one.results
    record = _worst(records)
    # The report is made while the phase close runs: an outcome in the journal is what it proves.
    status = str(record.get("status") or ("ok" if one.phase == "close" and has_outcome else "started"))
    evidence: dict[str, t.Any] = {}
    for part in records:
        evidence.update(part.get("evidence") or {})
    hosts = {str(result.get("host") or ""): result for result in one.results}
    reporter = next(iter(hosts), "") if len(hosts) == 1 else ""
    return PhaseRow(
        phase=one.phase,
        title=phase_title(one.phase, language),
        host=reporter,
        status=status,
        start=_between(begin, one.started),
        seconds=_seconds(one),
        summary=_summary(one.phase, status, record, evidence, language),
        problem=str(record.get("problem") or ""),
        remedy=pick(record.get("remedy"), language),
        evidence=evidence,
        details=details(evidence, language, leave_out=("gates", "problem", "remedy", "signoffs")),
        hosts=tuple(_host_row(one.phase, host, result, language) for host, result in hosts.items()) if len(hosts) > 1 else (),
    )


def _worst(records: t.Sequence[Record]) -> Record:
    known = [record for record in records if record.get("status") in WORST_FIRST]
    return min(known, key=lambda record: WORST_FIRST.index(record["status"]), default={})


def _seconds(one: _Pass) -> float | None:
    if one.verdict and one.verdict.get("seconds") is not None:
        return float(one.verdict["seconds"])
    if one.verdict:
        return _between(one.started, str(one.verdict.get("time") or one.started))
    return max((float(result["seconds"]) for result in one.results if result.get("seconds") is not None), default=None)


def _summary(phase: str, status: str, record: Record, evidence: Record, language: str) -> str:
    return "" if status == "started" else phase_summary(phase, status, evidence, language, problem=str(record.get("problem") or ""))


def _host_row(phase: str, host: str, result: Record, language: str) -> HostRow:
    evidence = result.get("evidence") or {}
    status = str(result.get("status") or "started")
    return HostRow(
        host=host,
        status=status,
        seconds=result.get("seconds"),
        summary=_summary(phase, status, result, evidence, language),
        problem=str(result.get("problem") or ""),
        remedy=pick(result.get("remedy"), language),
        details=details(evidence, language, leave_out=("gates", "problem", "remedy", "signoffs")),
    )


def _gates_of(row: PhaseRow) -> list[Record]:
    return [gate for gate in row.evidence.get("gates") or () if isinstance(gate, t.Mapping)]


def _item(raw: Record, phases: t.Sequence[PhaseRow], signoffs: t.Sequence[Record], language: str) -> Item:
    parts = [_executed(raw, phases)] if raw.get("phases") else []
    parts += [_signed(raw["signoff"], signoffs, language)] if raw.get("signoff") else []
    state = min((state for state, _proof in parts), key=ITEM_STATES.index, default="open")
    proof = tuple(line for _state, lines in parts for line in lines)
    return Item(str(raw["id"]), str(raw["item"]), state, label(state, language), proof)


def _signed(name: str, signoffs: t.Sequence[Record], language: str) -> tuple[str, tuple[str, ...]]:
    signed = [record for record in signoffs if record.get("name") == name]
    if not signed:
        return "open", (name,)
    return "signed", tuple(f"{name}: {record.get('by', '')}, {format_time(str(record.get('time') or ''), language)}" for record in signed[-1:])


def _executed(raw: Record, phases: t.Sequence[PhaseRow]) -> tuple[str, tuple[str, ...]]:
    wanted = raw.get("phases") or ()
    unknown = [phase for phase in wanted if phase not in KNOWN_PHASES]
    if unknown:
        raise LastroError(
            f"checklist: item {raw['id']} names {unknown[0]!r}, which is no phase.",
            remedy=Text(en=f"The phases are {', '.join(KNOWN_PHASES)}.", pt_BR=f"As fases são {', '.join(KNOWN_PHASES)}."),
        )
    last = {row.phase: row for row in phases}
    rows = [last[phase] for phase in wanted if phase in last]
    proof = tuple(f"{row.title}: {row.summary}" for row in rows)
    statuses = {row.status for row in rows}
    if statuses & {"failed", "unreachable"}:
        return "failed", proof
    if len(rows) < len(set(wanted)) or not rows or "started" in statuses:
        return "open", proof
    return ("not_needed" if statuses == {"skipped"} else "executed"), proof


__all__ = ("HostRow", "Item", "PhaseRow", "Report", "make_report")
