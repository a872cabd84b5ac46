# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the operator reads: the lines of a run, its outcome, titles, in English and Brazilian Portuguese. PRIVATE to the collection.

Everything here is pure. Numbers and durations follow the language.
"""

from __future__ import annotations

import typing as t

from ._errors import Text
from ._gates import METRICS
from ._texts_format import LANGUAGES, check_language, format_duration, format_number, format_size, format_time, pick, say
from ._texts_summary import phase_summary

NAME_WIDTH = 17
SUMMARY_WIDTH = 60
SECONDS_WIDTH = 8
LINE_WIDTH = 3 + NAME_WIDTH + 1 + SUMMARY_WIDTH + 1 + SECONDS_WIDTH

MARKS = {"ok": "✔", "failed": "✖", "unreachable": "✖", "rolled_back": "↩", "skipped": "–", "started": "…"}

_PHASES = {
    "open": Text("open", "abertura"),
    "preflight": Text("preflight", "verificações"),
    "stage": Text("stage", "preparo"),
    "backup": Text("backup", "backup"),
    "rehearse": Text("rehearse", "ensaio"),
    "maintenance_enter": Text("maintenance_enter", "manutenção: entra"),
    "migrate": Text("migrate", "migração"),
    "protect": Text("protect", "proteção"),
    "validate": Text("validate", "índices"),
    "switch": Text("switch", "troca"),
    "protect_finish": Text("protect_finish", "proteção: fim"),
    "smoke": Text("smoke", "teste de fumaça"),
    "maintenance_leave": Text("maintenance_leave", "manutenção: sai"),
    "load": Text("load", "carga"),
    "watch": Text("watch", "observação"),
    "contract": Text("contract", "contração"),
    "rollback": Text("rollback", "reversão"),
    "close": Text("close", "encerramento"),
}
KNOWN_PHASES = tuple(_PHASES)
"""Every phase of the design, in the order of a run."""

_STATUSES = {
    "ok": Text("done", "feita"),
    "failed": Text("failed", "falhou"),
    "unreachable": Text("unreachable", "inacessível"),
    "skipped": Text("not needed", "dispensada"),
    "started": Text("not finished", "não terminou"),
}

_OUTCOMES = {
    "deployed": Text("deployed", "implantado"),
    "nothing_to_do": Text("nothing_to_do", "nada a fazer"),
    "failed_nothing_changed": Text("failed_nothing_changed", "falhou sem mudar nada"),
    "rolled_back": Text("rolled_back", "revertido"),
    "rollback_incomplete": Text("rollback_incomplete", "reversão incompleta"),
    "needs_human": Text("needs_human", "precisa de uma pessoa"),
    "": Text("not finished", "não terminou"),
}

_OUTCOME_SENTENCES = {
    "deployed": Text("The new release is live and kept its promises.", "A nova versão está no ar e cumpriu o prometido."),
    "nothing_to_do": Text("This release was live already; nothing was changed.", "Esta versão já estava no ar; nada foi mudado."),
    "failed_nothing_changed": Text(
        "The run stopped before anything changed; the release before it is still live.",
        "A execução parou antes de mudar qualquer coisa; a versão anterior continua no ar.",
    ),
    "rolled_back": Text("The new release failed and the last good one is live again.", "A nova versão falhou e a última versão boa está no ar de novo."),
    "rollback_incomplete": Text(
        "The new release failed and going back did not fully work: look at the failed steps below.",
        "A nova versão falhou e a reversão não se completou: veja abaixo os passos que falharam.",
    ),
    "needs_human": Text(
        "The run stopped where only a person may decide; the reason stands below.",
        "A execução parou onde só uma pessoa pode decidir; o motivo está abaixo.",
    ),
    "": Text("The journal has no outcome: the run goes on, or it was cut off.", "O diário não tem resultado: a execução continua, ou foi interrompida."),
}


def phase_title(phase: str, language: str) -> str:
    """The name of a phase in the output, at most 17 characters for the phases of the design; in English its id."""
    return pick(_PHASES.get(phase, phase), language)


def status_title(status: str, language: str) -> str:
    """A status (ok, failed, skipped, unreachable, started) as a word."""
    return pick(_STATUSES.get(status, status), language)


def mark(status: str) -> str:
    """The sign before a line: ✔ ok, ✖ failed or unreachable, ↩ rolled_back, – skipped, … started."""
    return MARKS.get(status, " ")


def line(phase: str, status: str, summary: str, seconds: float | None, language: str = "en") -> str:
    """One line of the output in fixed columns; a summary that is too long moves the seconds, never loses text."""
    sign = mark("rolled_back" if phase == "rollback" and status == "ok" else status)
    text = f" {sign} {phase_title(phase, language):<{NAME_WIDTH}} {summary:<{SUMMARY_WIDTH}} {format_duration(seconds, language):>{SECONDS_WIDTH}}"
    return text.rstrip()


def run_title(plan: t.Mapping[str, t.Any], language: str = "en") -> str:
    """The first line of a run: app, environment, release, and at the right its id.

    *plan* has run_id, app, deploy_environment (or environment), and release (``{id, version}``) or version.
    """
    environment = plan.get("deploy_environment") or plan.get("environment") or ""
    left = f"{plan.get('app', '')} · {environment} · {release_text(plan.get('release') or plan.get('version'))}"
    right = f"{say(language, 'run', 'execução')} {plan.get('run_id', '')}"
    return f"{left:<{LINE_WIDTH - len(right) - 1}} {right}"


def release_text(release: object) -> str:
    """A release as people name it: "r3 (3f9c2e1)" for the id r3-3f9c2e1; "–" for none."""
    if isinstance(release, t.Mapping):
        version, identity = str(release.get("version") or ""), str(release.get("id") or "")
        seal = identity.removeprefix(f"{version}-")[:12]
        return f"{version} ({seal})" if version and seal not in ("", version) else version or identity or "–"
    return str(release) if release else "–"


def release_name(release: object) -> str:
    """The shortest name of a release: its version, else its id; "" for none."""
    if isinstance(release, t.Mapping):
        return str(release.get("version") or release.get("id") or "")
    return str(release) if release else ""


def outcome_title(outcome: str, language: str) -> str:
    """The outcome as a word; in English the outcome itself."""
    return pick(_OUTCOMES.get(outcome, outcome), language)


def outcome_sentence(outcome: str, language: str) -> str:
    """What the outcome means, as a sentence; "" for an unknown one."""
    return pick(_OUTCOME_SENTENCES.get(outcome), language)


def outcome_text(outcome: str, serves: object, language: str) -> str:
    """The last line of a run: "outcome: rolled_back · r2 serves". *serves* is a name, ``{id, version}`` or None."""
    text = f"{say(language, 'outcome', 'resultado')}: {outcome_title(outcome, language)}"
    name = release_name(serves)
    return f"{text} · {name} {say(language, 'serves', 'no ar')}" if name else text


def outcome_line(record: t.Mapping[str, t.Any], language: str) -> str:
    """The last line of a run from its outcome record, with the report's path where the record has one (C(report))."""
    text = outcome_text(str(record.get("outcome") or ""), record.get("serves"), language)
    report = record.get("report")
    return f"{text} · {say(language, 'report', 'relatório')}: {report}" if report else text


def format_metric(metric: str, value: object, language: str = "en") -> str:
    """A metric's value with its unit: 12.3%, 1,204 ms, 7; "–" where there is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "–" if value is None else str(value)
    unit = METRICS[metric].unit if metric in METRICS else "count"
    if unit == "ratio":
        return f"{format_number(value * 100, language, decimals=1)}%"
    if unit == "ms":
        return f"{format_number(value, language)} ms"
    return format_number(value, language, decimals=0 if float(value).is_integer() else 2)


def watch_reason(gates: t.Sequence[t.Mapping[str, t.Any]], samples: int) -> Text:
    """Why a watch ended as it did, from its gates (as the module returns them)."""
    return Text(en=_watch_reason(gates, samples, "en"), pt_BR=_watch_reason(gates, samples, "pt_BR"))


def _watch_reason(gates: t.Sequence[t.Mapping[str, t.Any]], samples: int, language: str) -> str:
    worst = [gate for gate in gates if gate["verdict"] == "fail"] or [gate for gate in gates if gate["verdict"] == "inconclusive"]
    if not worst:
        en = f"all {len(gates)} gates held in {samples} samples" if len(gates) != 1 else f"the gate held in {samples} samples"
        pt_br = f"os {len(gates)} limites foram mantidos em {samples} amostras" if len(gates) != 1 else f"o limite foi mantido em {samples} amostras"
        return say(language, en, pt_br)
    return "; ".join(_gate_reason(gate, language) for gate in worst)


def _gate_reason(gate: t.Mapping[str, t.Any], language: str) -> str:
    promise = f"{gate['metric']} {gate['limit']}"
    label = promise if gate["name"] in (promise, gate["metric"]) else f"{gate['name']} ({promise})"
    worst = format_metric(gate["metric"], gate["worst"], language)
    if gate["cause"] == "no_data":
        seen = format_number(gate["samples"], language)
        return say(language, f"{label}: not enough data ({seen} samples with a value)", f"{label}: dados insuficientes ({seen} amostras com valor)")
    if gate["cause"] == "pending":
        return say(language, f"{label}: still beyond the limit at the end, at worst {worst}", f"{label}: ainda fora do limite no fim, no pior caso {worst}")
    since = format_time(gate["breached_from"] or "", language)
    return say(language, f"{label}: at worst {worst}, since {since}", f"{label}: no pior caso {worst}, desde {since}")


def lost_primary(problem: str, language: str) -> str:
    """What an operator reads when the host that holds journal and lock is gone in the middle of a run."""
    return say(
        language,
        f"✖ {problem}\n   It holds lock and journal, so this run ends here without an outcome. What it has armed puts itself back when its lease\n"
        "   runs out. Once the host answers, deploy again: that run takes over without force, finishes or goes back.",
        f"✖ {problem}\n   Ele guarda a trava e o diário, por isso esta execução termina aqui sem resultado. O que ela armou se desfaz quando o prazo\n"
        "   acaba. Quando o host responder, faça o deploy de novo: essa execução assume sem force, conclui ou volta.",
    )


__all__ = (
    "KNOWN_PHASES",
    "LANGUAGES",
    "check_language",
    "format_duration",
    "format_metric",
    "format_number",
    "format_size",
    "format_time",
    "line",
    "lost_primary",
    "mark",
    "outcome_line",
    "outcome_sentence",
    "outcome_text",
    "outcome_title",
    "phase_summary",
    "phase_title",
    "release_name",
    "release_text",
    "run_title",
    "status_title",
    "watch_reason",
)
