# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A report as one HTML page that needs nothing from elsewhere. PRIVATE to the collection."""

from __future__ import annotations

import string
import typing as t
from html import escape

from ._report_details import Detail, Field, Table, label
from ._report_model import HostRow, Item, PhaseRow, Report
from ._texts import format_duration, mark, status_title

TONES = {
    "ok": "good",
    "pass": "good",
    "executed": "good",
    "signed": "good",
    "deployed": "good",
    "nothing_to_do": "good",
    "failed": "bad",
    "unreachable": "bad",
    "fail": "bad",
    "needs_human": "bad",
    "rollback_incomplete": "bad",
    "failed_nothing_changed": "warn",
    "rolled_back": "warn",
    "inconclusive": "warn",
    "open": "warn",
    "started": "warn",
}
"""The colour of a status, verdict, state or outcome; quiet for all others."""

_PAGE = string.Template("""<!DOCTYPE html>
<html lang="$lang">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="color-scheme" content="light dark">
<title>$title · $outcome</title>
<style>$style</style>
</head>
<body>
<header class="$tone">
<p class="app">$title</p>
<h1><span class="badge">$outcome</span></h1>
<p class="sentence">$sentence</p>
</header>
<main>
$body
</main>
<footer>lastro.deploy · $journal sha256 <code>$sha256</code></footer>
</body>
</html>
""")

_STYLE = """
:root{--page:#f5f6f8;--card:#fff;--ink:#1c2430;--soft:#5b6675;--line:#dfe3e9;--good:#157347;--good-bg:#e3f4ea;--warn:#8a5a00;--warn-bg:#fdf1d6;
--bad:#b3261e;--bad-bg:#fbe5e3;--quiet:#5b6675;--quiet-bg:#eceff3;--bar:#3a6ea5}
@media (prefers-color-scheme:dark){:root{--page:#12161c;--card:#1b212a;--ink:#e6eaf0;--soft:#98a4b3;--line:#303945;--good:#6fd39b;--good-bg:#143324;
--warn:#f0c36a;--warn-bg:#3a2d10;--bad:#ff9a92;--bad-bg:#43191a;--quiet:#98a4b3;--quiet-bg:#28303b;--bar:#6ea3dc}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:1080px;padding:24px 20px 40px;background:var(--page);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
header{background:var(--card);border:1px solid var(--line);border-left:6px solid var(--tone);border-radius:10px;padding:20px 24px}
h1{margin:6px 0 4px;font-size:26px;line-height:1.2}h2{margin:34px 0 10px;font-size:17px}
.app{margin:0;color:var(--soft);font-weight:600}.sentence{margin:6px 0 0}
.good{--tone:var(--good);--tone-bg:var(--good-bg)}.warn{--tone:var(--warn);--tone-bg:var(--warn-bg)}.bad{--tone:var(--bad);--tone-bg:var(--bad-bg)}
.quiet{--tone:var(--quiet);--tone-bg:var(--quiet-bg)}
.badge{color:var(--tone)}
.chip{display:inline-block;padding:1px 9px;border-radius:99px;background:var(--tone-bg);color:var(--tone);font-size:13px;
font-weight:600;white-space:nowrap}
section>.card,.callout{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:4px 18px;overflow-x:auto}
.callout{border-left:6px solid var(--tone);margin-top:16px;padding:12px 20px}.callout p{margin:4px 0}
dl{display:grid;grid-template-columns:max-content 1fr;gap:4px 20px;margin:12px 0}dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}
.tiles{display:flex;flex-wrap:wrap;gap:12px}.tile{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:10px 18px;min-width:130px}
.tile b{display:block;font-size:22px}.tile span{color:var(--soft);font-size:13px}
table{border-collapse:collapse;width:100%;margin:8px 0}th{text-align:left;color:var(--soft);font-weight:600;font-size:13px}
th,td{padding:7px 12px 7px 0;border-bottom:1px solid var(--line);vertical-align:top;overflow-wrap:anywhere}tr:last-child>td{border-bottom:0}
td.number{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}th.number{text-align:right}
.mark{color:var(--tone);font-weight:700;white-space:nowrap}.name{white-space:nowrap;font-weight:600}.host{color:var(--soft);font-weight:400}
.track{position:relative;display:block;height:6px;min-width:120px;margin-top:8px;border-radius:3px;background:var(--quiet-bg)}
.track i{position:absolute;top:0;bottom:0;min-width:2px;border-radius:3px;background:var(--bar)}.track.bad i{background:var(--bad)}
details{margin:4px 0}summary{cursor:pointer;color:var(--soft);font-size:13px}details table{font-size:13px}details dl{font-size:13px}
code,.id{font:13px ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;overflow-wrap:anywhere}footer{margin-top:36px;color:var(--soft);font-size:13px}
th::first-letter{text-transform:uppercase}details p{margin:10px 0 2px}
@media print{body{background:#fff;max-width:none}header,section>.card,.tile{break-inside:avoid}}
"""


def render(report: Report) -> str:
    """The page."""
    language = report.language
    sections = (
        _facts(report),
        _problem(report),
        _decision(report),
        _figures(report),
        _section("timeline", _timeline(report), language),
        _section("gates", _gates(report), language) if report.gates.rows else "",
        _section("checklist", _checklist(report), language) if report.checklist else "",
        _section("signoffs", _table(report.signoffs), language) if report.signoffs.rows else "",
        _section("asked", _table(report.requests), language) if report.requests.rows else "",
        _section("plan", _details(report.plan), language) if report.plan else "",
    )
    return _PAGE.substitute(
        lang=language.replace("_", "-"),
        title=escape(report.title),
        outcome=escape(report.outcome_title),
        sentence=escape(report.outcome_sentence),
        tone=_tone(report.outcome),
        style=_STYLE,
        body="\n".join(section for section in sections if section),
        journal=escape(label("journal", language)),
        sha256=escape(report.journal_sha256),
    )


def _tone(status: str) -> str:
    return TONES.get(status, "quiet")


def _section(name: str, content: str, language: str) -> str:
    return f'<section id="{name}"><h2>{escape(label(name, language))}</h2><div class="card">{content}</div></section>'


def _fields(fields: t.Iterable[Field]) -> str:
    inner = "".join(f"<dt>{escape(field.label)}</dt><dd>{escape(field.value)}</dd>" for field in fields)
    return f"<dl>{inner}</dl>" if inner else ""


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in table.columns)
    rows = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in table.rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _details(details: t.Sequence[Detail]) -> str:
    tables = "".join(f"<p>{escape(one.label)}</p>{_table(one)}" for one in details if isinstance(one, Table))
    return _fields(one for one in details if isinstance(one, Field)) + tables


def _facts(report: Report) -> str:
    return f'<section id="facts"><div class="card" style="margin-top:16px">{_fields(report.facts)}</div></section>'


def _problem(report: Report) -> str:
    if not report.problem:
        return ""
    remedy = f"<p><b>{escape(label('remedy', report.language))}:</b> {escape(report.remedy)}</p>" if report.remedy else ""
    return f'<div class="callout bad"><p><b>{escape(label("problem", report.language))}:</b> {escape(report.problem)}</p>{remedy}</div>'


def _decision(report: Report) -> str:
    if not report.decision:
        return ""
    return f'<div class="callout warn" id="decision"><p><b>{escape(label("decision", report.language))}</b></p>{_details(report.decision)}</div>'


def _figures(report: Report) -> str:
    if not report.figures:
        return ""
    tiles = "".join(f'<div class="tile"><b>{escape(field.value)}</b><span>{escape(field.label)}</span></div>' for field in report.figures)
    return f'<section id="figures"><h2>{escape(label("figures", report.language))}</h2><div class="tiles">{tiles}</div></section>'


def _timeline(report: Report) -> str:
    language = report.language
    head = "".join(f"<th{kind}>{escape(label(key, language))}</th>" for key, kind in (("phase", ""), ("summary", ""), ("duration", ' class="number"')))
    rows = "".join(_phase(row, report) for row in report.phases)
    return f"<table><thead><tr><th></th>{head}<th></th></tr></thead><tbody>{rows}</tbody></table>"


def _phase(row: PhaseRow, report: Report) -> str:
    language = report.language
    sign = mark("rolled_back" if row.phase == "rollback" and row.status == "ok" else row.status)
    inner = _details(row.details) + "".join(_host(host, language) for host in row.hosts)
    more = f"<details><summary>{escape(label('details', language))}</summary>{inner}</details>" if inner else ""
    where = f' <span class="host">{escape(row.host)}</span>' if row.host else ""
    shown = row.summary or status_title(row.status, language)
    return (
        f'<tr class="{_tone(row.status)}"><td class="mark" title="{escape(status_title(row.status, language))}">{sign}</td>'
        f'<td class="name">{escape(row.title)}{where}</td><td>{escape(shown)}{_remedy(row.remedy, row.status)}{more}</td>'
        f'<td class="number">{escape(format_duration(row.seconds, language))}</td><td>{_bar(row, report.seconds)}</td></tr>'
    )


def _remedy(remedy: str, status: str) -> str:
    return f'<br><span class="host">{escape(remedy)}</span>' if remedy and status in ("failed", "unreachable") else ""


def _host(host: HostRow, language: str) -> str:
    head = f'<span class="mark">{mark(host.status)}</span> {escape(host.host)}: {escape(host.summary)} {escape(format_duration(host.seconds, language))}'
    return f'<div class="{_tone(host.status)}"><p>{head}</p>{_details(host.details)}</div>'


def _bar(row: PhaseRow, total: float) -> str:
    if row.seconds is None or total <= 0:
        return ""
    left = min(100 * row.start / total, 100.0)
    width = min(100 * row.seconds / total, 100.0 - left)
    tone = " bad" if _tone(row.status) == "bad" else ""
    return f'<span class="track{tone}"><i style="left:{left:.2f}%;width:{width:.2f}%"></i></span>'


def _gates(report: Report) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in report.gates.columns)
    rows = []
    for cells, verdict in zip(report.gates.rows, report.gate_verdicts, strict=True):
        shown = [f"<td>{escape(cell)}</td>" for cell in cells]
        shown[5] = f'<td><span class="chip {_tone(verdict)}">{escape(cells[5])}</span></td>'
        rows.append(f"<tr>{''.join(shown)}</tr>")
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _checklist(report: Report) -> str:
    language = report.language
    head = "".join(f"<th>{escape(label(key, language))}</th>" for key in ("item", "status", "evidence"))
    rows = "".join(_item(item) for item in report.checklist)
    return f"<table><thead><tr><th></th>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _item(item: Item) -> str:
    proof = "<br>".join(escape(one) for one in item.proof)
    chip = f'<span class="chip {_tone(item.state)}">{escape(item.title)}</span>'
    return f'<tr><td class="id">{escape(item.id)}</td><td>{escape(item.item)}</td><td>{chip}</td><td>{proof}</td></tr>'


__all__ = ("TONES", "render")
