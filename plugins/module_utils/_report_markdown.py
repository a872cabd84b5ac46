# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A report as Markdown. PRIVATE to the collection."""

from __future__ import annotations

import re
import typing as t

from ._report_details import Detail, Field, Table, label
from ._report_model import PhaseRow, Report
from ._texts import format_duration, mark, status_title

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~])")


def render(report: Report) -> str:
    """The document; it ends with a newline."""
    language = report.language
    blocks = [
        f"# {_text(report.title)}: {_text(report.outcome_title)}",
        _text(report.outcome_sentence),
        _fields(report.facts),
        _problem(report),
        _section("decision", _details(report.decision), language),
        _section("figures", _fields(report.figures), language),
        _section("timeline", _timeline(report), language),
        _section("gates", _table(report.gates), language),
        _section("checklist", _checklist(report), language),
        _section("signoffs", _table(report.signoffs), language),
        _section("asked", _table(report.requests), language),
        _section("details", _evidence(report), language),
        _section("plan", _details(report.plan), language),
        f"{_text(label('journal', language))} sha256: `{report.journal_sha256}`",
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _text(text: str) -> str:
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def _section(name: str, content: str, language: str) -> str:
    return f"## {_text(label(name, language).capitalize())}\n\n{content}" if content else ""


def _fields(fields: t.Iterable[Field]) -> str:
    return "\n".join(f"- {_text(field.label)}: {_text(field.value)}" for field in fields)


def _grid(columns: t.Sequence[str], rows: t.Iterable[t.Sequence[str]]) -> str:
    lines = [[_text(cell) for cell in row] for row in rows]
    if not lines:
        return ""
    head = [[_text(column) for column in columns], ["---"] * len(columns)]
    return "\n".join(f"| {' | '.join(line)} |" for line in head + lines)


def _table(table: Table) -> str:
    return _grid(table.columns, table.rows)


def _details(details: t.Sequence[Detail]) -> str:
    fields = _fields(one for one in details if isinstance(one, Field))
    tables = [f"{_text(one.label)}:\n\n{_table(one)}" for one in details if isinstance(one, Table)]
    return "\n\n".join(block for block in (fields, *tables) if block)


def _problem(report: Report) -> str:
    pairs = (("problem", report.problem), ("remedy", report.remedy))
    return "\n\n".join(f"**{_text(label(key, report.language))}:** {_text(text)}" for key, text in pairs if text)


def _timeline(report: Report) -> str:
    language = report.language
    columns = ("", *(label(key, language) for key in ("phase", "host", "summary", "duration")))
    rows: list[t.Sequence[str]] = []
    for row in report.phases:
        sign = mark("rolled_back" if row.phase == "rollback" and row.status == "ok" else row.status)
        rows.append((sign, row.title, row.host, row.summary or status_title(row.status, language), format_duration(row.seconds, language)))
        rows += [(mark(host.status), row.title, host.host, host.summary, format_duration(host.seconds, language)) for host in row.hosts]
    return _grid(columns, rows)


def _checklist(report: Report) -> str:
    columns = ("id", *(label(key, report.language) for key in ("item", "status", "evidence")))
    return _grid(columns, ((item.id, item.item, item.title, "; ".join(item.proof)) for item in report.checklist))


def _evidence(report: Report) -> str:
    return "\n\n".join(f"### {_text(row.title)}\n\n{inner}" for row in report.phases if (inner := _phase_details(row)))


def _phase_details(row: PhaseRow) -> str:
    hosts = [f"{_text(host.host)}:\n\n{inner}" for host in row.hosts if (inner := _details(host.details))]
    return "\n\n".join(block for block in (_details(row.details), *hosts) if block)


__all__ = ("render",)
