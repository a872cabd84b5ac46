# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Evidence as labelled values and tables for readers; every word of the report in both languages. PRIVATE to the collection."""

from __future__ import annotations

import dataclasses
import typing as t

from ._errors import Text
from ._texts import format_metric
from ._texts_format import format_duration, format_number, format_size, pick, say
from ._texts_summary import scope_title, verdict_title, verified_title


@dataclasses.dataclass(frozen=True)
class Field:
    """A value with its label, both ready to show."""

    label: str
    value: str


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of text below a label; each row is as long as *columns*."""

    label: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


Detail: t.TypeAlias = "Field | Table"

_LABELS = {
    "action": Text("action", "ação"),
    "actor": Text("by", "por"),
    "after": Text("after", "depois"),
    "already": Text("encrypted before", "já cifrados"),
    "api_keys": Text("API keys", "chaves de API"),
    "applied": Text("applied", "aplicadas"),
    "asked": Text("Asked for", "Solicitações"),
    "before": Text("before", "antes"),
    "breached_from": Text("breached from", "violado desde"),
    "checklist": Text("Checklist", "Checklist"),
    "checks": Text("checks", "verificações"),
    "clear_left": Text("clear left", "em claro restantes"),
    "cleared": Text("clear values removed", "valores em claro removidos"),
    "created": Text("new", "nova"),
    "decision": Text("Decision", "Decisão"),
    "delivered": Text("delivered", "entregue"),
    "details": Text("details", "detalhes"),
    "duration": Text("duration", "duração"),
    "encrypted": Text("encrypted", "cifrados"),
    "evidence": Text("evidence", "prova"),
    "executed": Text("executed", "executado"),
    "facts": Text("facts", "fatos"),
    "failed": Text("failed", "falhou"),
    "failed_requests": Text("failed requests", "requisições com falha"),
    "figures": Text("Figures", "Números"),
    "files": Text("files", "arquivos"),
    "findings": Text("findings", "achados"),
    "gate": Text("gate", "nome"),
    "gates": Text("Gates", "Limites"),
    "generation": Text("generation", "geração"),
    "hashes": Text("hashes", "hashes"),
    "host": Text("host", "host"),
    "hosts": Text("hosts", "hosts"),
    "in_flight": Text("requests in flight", "requisições em curso"),
    "item": Text("item", "item"),
    "journal": Text("journal", "diário"),
    "left": Text("left", "saiu"),
    "left_over": Text("left over", "deixado para trás"),
    "limit": Text("limit", "limite"),
    "metric": Text("metric", "métrica"),
    "name": Text("name", "nome"),
    "kept_as": Text("failed database kept as", "banco que falhou guardado como"),
    "failed_state": Text("dump of the failed state", "dump do estado que falhou"),
    "next": Text("what to do", "o que fazer"),
    "backup_type": Text("type of backup", "tipo do backup"),
    "label": Text("label", "rótulo"),
    "restore_command": Text("how to restore it", "como restaurar"),
    "restore_point": Text("restore point", "ponto de restauração"),
    "restorable": Text("restores by itself", "restaura sozinho"),
    "second_backup": Text("backup behind the closed door", "backup com a porta fechada"),
    "since": Text("since", "desde"),
    "no": Text("no", "não"),
    "not_needed": Text("not needed", "dispensado"),
    "notified": Text("told", "avisados"),
    "notify_problems": Text("not told", "não avisados"),
    "open": Text("open", "em aberto"),
    "outcome": Text("outcome", "resultado"),
    "passed": Text("passed", "aprovadas"),
    "path": Text("path", "caminho"),
    "phase": Text("phase", "fase"),
    "plan": Text("Plan", "Plano"),
    "previous": Text("release before", "versão anterior"),
    "problem": Text("what went wrong", "o que deu errado"),
    "raw_size": Text("database size", "tamanho do banco"),
    "reason": Text("reason", "motivo"),
    "release": Text("release", "versão"),
    "remedy": Text("what to do", "o que fazer"),
    "request": Text("request", "solicitação"),
    "requests": Text("requests", "requisições"),
    "revision": Text("revision", "revisão"),
    "revoked": Text("revoked", "revogadas"),
    "rows": Text("rows", "linhas"),
    "run": Text("run", "execução"),
    "samples": Text("samples", "amostras"),
    "samples_file": Text("file of samples", "arquivo de amostras"),
    "scope": Text("scope", "alcance"),
    "seconds": Text("duration", "duração"),
    "serves": Text("serves now", "no ar agora"),
    "signed": Text("signed", "assinado"),
    "signoffs": Text("Sign-offs", "Aprovações"),
    "size": Text("size", "tamanho"),
    "slot": Text("slot", "slot"),
    "started": Text("started", "início"),
    "status": Text("status", "situação"),
    "summary": Text("what it proved", "o que provou"),
    "table": Text("table", "tabela"),
    "tables": Text("tables", "tabelas"),
    "time": Text("time", "hora"),
    "timeline": Text("Timeline", "Linha do tempo"),
    "took_over": Text("taken over from run", "assumida da execução"),
    "total": Text("total", "total"),
    "used": Text("used by the planner", "usados pelo planejador"),
    "valid": Text("valid", "válidos"),
    "value": Text("value", "valor"),
    "verdict": Text("verdict", "veredito"),
    "verified": Text("verified", "verificado"),
    "wanted": Text("wanted", "necessária"),
    "wheels": Text("wheels", "wheels"),
    "worst": Text("worst value", "pior valor"),
    "yes": Text("yes", "sim"),
}

FIRST = ("before", "after", "table", "index", "revision", "name", "host", "release", "path")
"""Keys that come first, in this order; the journal keeps its keys sorted by their letters."""
GATE_COLUMNS = ("gate", "metric", "limit", "worst", "samples", "verdict", "breached_from")


_WORDS: dict[str, t.Callable[[str, str], str]] = {"scope": scope_title, "verdict": verdict_title, "verified": verified_title}


def label(key: str, language: str) -> str:
    """A key of the journal, or of the report, as a word."""
    return pick(_LABELS.get(key) or key.replace("_", " "), language)


def details(evidence: t.Mapping[str, t.Any], language: str, *, leave_out: t.Collection[str] = ()) -> tuple[Detail, ...]:
    """What evidence holds, empty values left out."""
    kept = (key for key in _ordered(evidence) if key not in leave_out and evidence[key] not in (None, "", [], {}))
    return tuple(_detail(key, evidence[key], language) for key in kept)


def _ordered(keys: t.Iterable[str]) -> list[str]:
    return sorted(dict.fromkeys(keys), key=lambda key: FIRST.index(key) if key in FIRST else len(FIRST))


def _detail(key: str, value: object, language: str) -> Detail:
    name = label(key, language)
    if _is_text(value):
        return Field(name, pick(value, language))
    if isinstance(value, t.Mapping):
        rows = tuple((str(one), as_text(str(one), value[one], language)) for one in value)
        return Table(name, (label("name", language), label("value", language)), rows)
    if isinstance(value, list | tuple) and value and all(isinstance(one, t.Mapping) and not _is_text(one) for one in value):
        return _table(name, value, language)
    return Field(name, as_text(key, value, language))


def _table(name: str, records: t.Sequence[t.Mapping[str, t.Any]], language: str) -> Table:
    keys = _ordered(key for record in records for key in record)
    rows = tuple(tuple(as_text(key, record.get(key), language) for key in keys) for record in records)
    return Table(name, tuple(label(key, language) for key in keys), rows)


def _is_text(value: object) -> bool:
    return isinstance(value, t.Mapping) and "en" in value and set(value) <= {"en", "pt_BR"}


def as_text(key: str, value: object, language: str) -> str:
    """One value as its key means it: bytes for sizes, durations for seconds, yes and no, numbers."""
    if isinstance(value, bool):
        return label("yes" if value else "no", language)
    if isinstance(value, int | float):
        return _number_text(key, value, language)
    if isinstance(value, str) and key in _WORDS:
        return _WORDS[key](value, language)
    if isinstance(value, list | tuple):
        return ", ".join(as_text(key, one, language) for one in value)
    if isinstance(value, t.Mapping) and not _is_text(value):
        return ", ".join(f"{label(str(one), language)}: {as_text(str(one), value[one], language)}" for one in value)
    return pick(value, language)


def _number_text(key: str, value: float, language: str) -> str:
    if key == "size" or key.endswith(("_size", "bytes")):
        return format_size(value, language)
    if key == "seconds" or key.endswith("_seconds"):
        return format_duration(value, language)
    return format_number(value, language, decimals=0 if float(value).is_integer() else 2)


def gate_row(gate: t.Mapping[str, t.Any], language: str, time: t.Callable[[str], str]) -> tuple[str, ...]:
    """A gate as a row below ``GATE_COLUMNS``; *time* shows a time of the journal."""
    metric = str(gate.get("metric") or "")
    since = gate.get("breached_from")
    return (
        str(gate.get("name") or metric),
        metric,
        str(gate.get("limit") or ""),
        format_metric(metric, gate.get("worst"), language),
        as_text("samples", gate.get("samples"), language),
        verdict_title(str(gate.get("verdict") or ""), language),
        time(str(since)) if since else say(language, "never", "nunca"),
    )


__all__ = ("GATE_COLUMNS", "Detail", "Field", "Table", "as_text", "details", "gate_row", "label")
