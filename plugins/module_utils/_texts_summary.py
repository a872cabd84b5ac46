# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The middle column of a run's output: what each phase proved, in a few words. PRIVATE to the collection.

Evidence may lack any key: a summary says what there is.
"""

from __future__ import annotations

import collections.abc
import typing as t

from ._errors import Text
from ._texts_format import counted, format_duration, format_number, format_size, pick, say, shortened

Evidence = t.Mapping[str, t.Any]
PROBLEM_WIDTH = 100
NAMES_SHOWN = 3

_VERIFIED = {
    "read": Text("read back", "relido"),
    "decode": Text("decoded", "decodificado"),
    "decrypt": Text("decrypted", "decifrado"),
}

_SKIPPED = {
    "backup": Text("not needed", "dispensado"),
    "rehearse": Text("no pending revision", "nenhuma revisão pendente"),
    "maintenance_enter": Text("not needed", "dispensada"),
    "maintenance_leave": Text("maintenance was not on", "a manutenção não estava ligada"),
    "migrate": Text("no pending revision", "nenhuma revisão pendente"),
    "protect": Text("no tokens to protect", "nenhum token a proteger"),
    "protect_finish": Text("no tokens to protect", "nenhum token a proteger"),
    "validate": Text("no index in the contract", "nenhum índice no contrato"),
    "smoke": Text("no assertion in the profile", "nenhuma verificação no perfil"),
    "watch": Text("no gate in the profile", "nenhum limite no perfil"),
    "contract": Text("nothing to take away", "nada a remover"),
    "rollback": Text("nothing to take back", "nada a desfazer"),
}

_SCOPES = {
    "nothing": Text("nothing", "nada"),
    "code": Text("code", "código"),
    "migration": Text("migration", "migração"),
    "code_and_migration": Text("code and migration", "código e migração"),
    "restore": Text("restore", "restauração"),
    "needs_human": Text("needs a person", "precisa de uma pessoa"),
}

_VERDICTS = {
    "pass": Text("pass", "aprovada"),
    "fail": Text("fail", "reprovada"),
    "inconclusive": Text("inconclusive", "inconclusiva"),
}


def scope_title(scope: str, language: str) -> str:
    """The scope of a rollback as words."""
    return pick(_SCOPES.get(scope, scope), language)


def verdict_title(verdict: str, language: str) -> str:
    """A verdict (pass, fail, inconclusive) as a word."""
    return pick(_VERDICTS.get(verdict, verdict), language)


def verified_title(way: str, language: str) -> str:
    """A way in which a backup was verified (decoded, restored, ...) as a word."""
    return pick(_VERIFIED.get(way, way), language)


def phase_summary(phase: str, status: str, evidence: Evidence | None, language: str, *, problem: str = "") -> str:
    """What a phase proved, or why it failed or was skipped.

    A failed phase says the first line of *problem* (or ``evidence["problem"]``), at most 100 characters; a skipped one
    says ``evidence["why"]`` or ``evidence["reason"]`` (text or {en, pt_BR}). A failed watch says its ``reason``.
    """
    evidence = evidence or {}
    if status in ("failed", "unreachable"):
        said = pick(evidence.get("reason"), language) if phase == "watch" else ""
        text = shortened(said or problem or pick(evidence.get("problem"), language), PROBLEM_WIDTH)
        return text or (say(language, "the host does not answer", "o host não responde") if status == "unreachable" else say(language, "failed", "falhou"))
    if status == "skipped":
        why = pick(evidence.get("why"), language) or pick(evidence.get("reason"), language) or pick(_SKIPPED.get(phase), language)
        return shortened(why or say(language, "not needed", "dispensada"), PROBLEM_WIDTH)
    summary = _SUMMARIES.get(phase)
    return (summary(evidence, language) if summary else "") or say(language, "done", "feita")


def _amount(value: object) -> int:
    """A count that evidence gives as a number or as the things themselves."""
    if isinstance(value, int | float):
        return int(value)
    return len(value) if isinstance(value, collections.abc.Collection) and not isinstance(value, str) else 0


def _names(value: object) -> list[str]:
    return [str(one) for one in value] if isinstance(value, list | tuple) else [value] if isinstance(value, str) else []


def _name(release: object) -> str:
    if isinstance(release, t.Mapping):
        return str(release.get("version") or release.get("id") or "")
    return str(release or "")


def _joined(*parts: str) -> str:
    return ", ".join(part for part in parts if part)


def _open(evidence: Evidence, language: str) -> str:
    taken = evidence.get("took_over")
    lock = say(language, f"taken over from run {taken}", f"assumida da execução {taken}") if taken else say(language, "lock taken", "trava obtida")
    left = _names(evidence.get("left_over"))
    if not left:
        return _joined(lock, say(language, "nothing left over", "nada deixado para trás"))
    return f"{lock}, {say(language, 'put right', 'corrigido')}: {', '.join(left)}"


def _preflight(evidence: Evidence, language: str) -> str:
    checks = counted(_amount(evidence.get("checks")), language, ("check", "checks"), ("verificação", "verificações"))
    hosts = _amount(evidence.get("hosts"))
    where = f" {say(language, 'on', 'em')} {counted(hosts, language, ('host', 'hosts'), ('host', 'hosts'))}" if hosts else ""
    findings = _amount(evidence.get("findings"))
    alone = evidence.get("restorable") is not False
    return _joined(
        checks + where,
        counted(findings, language, ("finding", "findings"), ("achado", "achados")) if findings else "",
        "" if alone else say(language, "no identity: a restore would need a person", "sem identity: uma restauração precisaria de uma pessoa"),
    )


def _stage(evidence: Evidence, language: str) -> str:
    parts = [
        counted(_amount(evidence[key]), language, en, pt_br)
        for key, en, pt_br in (("files", ("file", "files"), ("arquivo", "arquivos")), ("wheels", ("wheel", "wheels"), ("wheel", "wheels")))
        if evidence.get(key)
    ]
    hosts = _amount(evidence.get("hosts"))
    where = f" {say(language, 'on', 'em')} {counted(hosts, language, ('host', 'hosts'), ('host', 'hosts'))}" if hosts else ""
    return _joined(_name(evidence.get("release")), *parts) + where


def _backup(evidence: Evidence, language: str) -> str:
    size, raw = evidence.get("size"), evidence.get("raw_size")
    sizes = ""
    if size is not None:
        sizes = format_size(size, language)
        if raw is not None:
            sizes = f"{format_size(raw, language)} {say(language, 'in', 'em')} {sizes}"
    verified = [verified_title(one, language) for one in _names(evidence.get("verified"))]
    tables, hashes = _amount(evidence.get("tables")), evidence.get("hashes")
    of_tables = counted(tables, language, ("table", "tables"), ("tabela", "tabelas")) if tables else ""
    proof = f"{say(language, 'hashes of', 'hashes de')} {of_tables}" if tables and hashes == "rows" else of_tables
    off_site = say(language, "copied off-site", "copiado para fora do host") if evidence.get("uploaded") else ""
    return _joined(sizes, *verified, proof, off_site, _name(evidence.get("label")))


def _rehearse(evidence: Evidence, language: str) -> str:
    applied = _names(evidence.get("applied")) or evidence.get("applied")
    longest = max((float(one["seconds"]) for one in evidence.get("long_locks") or ()), default=0.0)
    held = format_duration(longest, language)
    locks = say(language, f"a lock held for {held}", f"um lock mantido por {held}") if longest else say(language, "no long lock", "nenhum lock longo")
    one_way = _amount(evidence.get("irreversible"))
    back = say(language, "not reversible", "não reversível") if one_way else say(language, "reversible", "reversível")
    return _joined(_revisions(_amount(applied), language), format_duration(evidence.get("seconds"), language), locks, back)


def _maintenance_enter(evidence: Evidence, language: str) -> str:
    reason = pick(evidence.get("reason"), language)
    if evidence.get("wanted") is False:
        return _joined(say(language, "not needed", "dispensada"), reason)
    flying = evidence.get("in_flight")
    drained = (
        ""
        if flying is None
        else counted(_amount(flying), language, ("request in flight", "requests in flight"), ("requisição em curso", "requisições em curso"))
    )
    second = evidence.get("second_backup")
    kept = say(language, "backed up behind it", "backup feito com ela no ar") if second else ""
    return _joined(say(language, "page shown", "página no ar"), drained, kept, reason)


def _revisions(count: int, language: str) -> str:
    return counted(count, language, ("revision", "revisions"), ("revisão", "revisões"))


def _heads(value: object, language: str) -> str:
    return "+".join(_names(value)) or say(language, "empty", "vazio")


def _migrate(evidence: Evidence, language: str) -> str:
    applied = _amount(evidence.get("applied"))
    before, after = _heads(evidence.get("before"), language), _heads(evidence.get("after"), language)
    if not applied and before == after:
        return f"{after}, {say(language, 'nothing pending', 'nada pendente')}"
    return f"{before} -> {after}, {_revisions(applied, language)}"


def _protect(evidence: Evidence, language: str) -> str:
    tables = [table for table in evidence.get("tables") or () if isinstance(table, t.Mapping)]
    keys = _api_keys(evidence, language)
    if keys and not tables:
        return keys
    total, encrypted, verified, clear = (sum(_amount(table.get(key)) for table in tables) for key in ("total", "encrypted", "verified", "clear_left"))
    left = say(language, f"{format_number(clear)} clear", f"{format_number(clear, language)} em claro")
    if encrypted == verified == total:
        tokens = counted(total, language, ("token", "tokens"), ("token", "tokens"))
        return _joined(f"{tokens} {say(language, 'encrypted and verified', 'cifrados e verificados')}", left, keys)
    new = f"{format_number(encrypted, language)} {say(language, 'newly encrypted', 'cifrados agora')}"
    proved = f"{format_number(verified, language)} {say(language, 'of', 'de')} {format_number(total, language)} {say(language, 'verified', 'verificados')}"
    return _joined(new, proved, left, keys)


def _api_keys(evidence: Evidence, language: str) -> str:
    keys = [key for key in evidence.get("api_keys") or () if isinstance(key, t.Mapping)]
    made = sum(bool(key.get("created")) for key in keys)
    total = counted(len(keys), language, ("API key", "API keys"), ("chave de API", "chaves de API"))
    return f"{total}, {format_number(made, language)} {say(language, 'new', 'nova' if made == 1 else 'novas')}" if keys else ""


def _validate(evidence: Evidence, language: str) -> str:
    total, valid, used = (evidence.get(key) for key in ("total", "valid", "used"))
    parts = [counted(_amount(total), language, ("index", "indexes"), ("índice", "índices"))]
    if valid is not None and valid != total:
        parts.append(counted(_amount(valid), language, ("valid", "valid"), ("válido", "válidos")))
    if used is not None:
        parts.append(f"{format_number(_amount(used), language)} {say(language, 'used by the planner', 'usados pelo planejador')}")
    return _joined(*parts)


def _switch(evidence: Evidence, language: str) -> str:
    hosts = _names(evidence.get("hosts"))
    many = counted(_amount(evidence.get("hosts")), language, ("host", "hosts"), ("host", "hosts"))
    where = ", ".join(hosts) if 0 < len(hosts) <= NAMES_SHOWN else many
    release = _name(evidence.get("release")) or say(language, "the release", "a versão")
    slot, lost = evidence.get("slot"), evidence.get("requests_failed")
    return _joined(
        f"{where}: {release} {say(language, 'answers', 'responde')}",
        "" if slot in (None, "") else f"slot {slot}",
        "" if lost is None else counted(_amount(lost), language, ("request failed", "requests failed"), ("requisição perdida", "requisições perdidas")),
    )


def _smoke(evidence: Evidence, language: str) -> str:
    passed, total = _amount(evidence.get("passed")), _amount(evidence.get("total"))
    noun = counted(total, language, ("assertion", "assertions"), ("verificação", "verificações"))
    return f"{format_number(passed, language)} {say(language, 'of', 'de')} {noun}"


def _maintenance_leave(evidence: Evidence, language: str) -> str:
    if evidence.get("left") is False:
        return say(language, "maintenance stays as a person set it", "a manutenção fica como uma pessoa a deixou")
    return say(language, "users are served again", "usuários atendidos de novo")


def _watch(evidence: Evidence, language: str) -> str:
    gates = [gate for gate in evidence.get("gates") or () if isinstance(gate, t.Mapping)]
    bad = [str(gate.get("name") or gate.get("metric")) for gate in gates if gate.get("verdict") not in (None, "pass")]
    verdict = verdict_title(str(evidence.get("verdict") or ""), language)
    head = _joined(verdict, counted(len(gates), language, ("gate", "gates"), ("limite", "limites")))
    body = counted(_amount(evidence.get("samples")), language, ("sample", "samples"), ("amostra", "amostras"))
    seconds = evidence.get("seconds")
    span = "" if seconds is None else f" {say(language, 'in', 'em')} {format_duration(seconds, language)}"
    return _joined(f"{head}: {', '.join(bad)}" if bad else head, body + span)


def _contract(evidence: Evidence, language: str) -> str:
    applied, cleared = _amount(evidence.get("applied")), _amount(evidence.get("cleared"))
    moved = _migrate(evidence, language) if applied else ""
    clear = counted(cleared, language, ("clear value removed", "clear values removed"), ("valor em claro removido", "valores em claro removidos"))
    return _joined(moved, clear if cleared else "") or pick(_SKIPPED["contract"], language)


def _close(evidence: Evidence, language: str) -> str:
    return _joined(say(language, "report written", "relatório gravado"), say(language, "lock released", "trava liberada"))


def _rollback(evidence: Evidence, language: str) -> str:
    scope, reason = str(evidence.get("scope") or ""), pick(evidence.get("reason"), language)
    release = _name(evidence.get("release"))
    back = f"{release} {say(language, 'answers again', 'responde de novo')}" if release and scope not in ("nothing", "needs_human") else ""
    kept = evidence.get("kept_as")
    restored = say(language, f"{evidence.get('tables')} tables compared", f"{evidence.get('tables')} tabelas comparadas") if kept else ""
    failed = say(language, f"the failed database is kept as {kept}", f"o banco que falhou fica guardado como {kept}") if kept else ""
    said = "; ".join(part for part in (back, restored, failed, reason, pick(evidence.get("next"), language)) if part)
    return ": ".join(part for part in (scope_title(scope, language), said) if part)


_SUMMARIES: dict[str, t.Callable[[Evidence, str], str]] = {
    "open": _open,
    "preflight": _preflight,
    "stage": _stage,
    "backup": _backup,
    "rehearse": _rehearse,
    "maintenance_enter": _maintenance_enter,
    "migrate": _migrate,
    "protect": _protect,
    "validate": _validate,
    "switch": _switch,
    "protect_finish": _protect,
    "smoke": _smoke,
    "maintenance_leave": _maintenance_leave,
    "watch": _watch,
    "contract": _contract,
    "close": _close,
    "rollback": _rollback,
}

__all__ = ("Evidence", "phase_summary", "scope_title", "verdict_title", "verified_title")
