# SPDX-License-Identifier: GPL-3.0-or-later
"""The words of a run: every phase, status and outcome in both languages."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.lastro.deploy.plugins.module_utils import _journal, _texts, _texts_format
from ansible_collections.lastro.deploy.plugins.module_utils._decide import SCOPES
from ansible_collections.lastro.deploy.plugins.module_utils._errors import LastroError, Text
from ansible_collections.lastro.deploy.plugins.module_utils._texts_summary import scope_title

TOKENS = {"table": "credentials", "total": 50000, "encrypted": 50000, "already": 0, "verified": 50000, "clear_left": 0}
WHY = {"en": "no revision needs it", "pt_BR": "nenhuma revisão precisa"}

SUMMARIES: list[tuple[str, dict[str, t.Any], str, str]] = [
    ("open", {"left_over": [], "took_over": None}, "lock taken, nothing left over", "trava obtida, nada deixado para trás"),
    (
        "open",
        {"left_over": ["maintenance flag", "part file"], "took_over": "r-1"},
        "taken over from run r-1, put right: maintenance flag, part file",
        "assumida da execução r-1, corrigido: maintenance flag, part file",
    ),
    ("preflight", {"checks": 31, "hosts": 4, "findings": []}, "31 checks on 4 hosts", "31 verificações em 4 hosts"),
    ("preflight", {"checks": 1, "hosts": ["a"], "findings": 2}, "1 check on 1 host, 2 findings", "1 verificação em 1 host, 2 achados"),
    ("preflight", {}, "0 checks", "0 verificações"),
    (
        "preflight",
        {"checks": 2, "restorable": False},
        "2 checks, no identity: a restore would need a person",
        "2 verificações, sem identity: uma restauração precisaria de uma pessoa",
    ),
    ("preflight", {"checks": 2, "restorable": True}, "2 checks", "2 verificações"),
    (
        "stage",
        {"release": {"id": "r3-1", "version": "r3"}, "files": 1214, "wheels": 31, "hosts": ["a", "b"]},
        "r3, 1,214 files, 31 wheels on 2 hosts",
        "r3, 1.214 arquivos, 31 wheels em 2 hosts",
    ),
    (
        "backup",
        {"size": 214_000_000, "raw_size": 1_200_000_000, "tables": 18, "rows": 9, "verified": ["decode"], "hashes": "rows"},
        "1.2 GB in 214 MB, decoded, hashes of 18 tables",
        "1,2 GB em 214 MB, decodificado, hashes de 18 tabelas",
    ),
    ("backup", {"size": 999_950, "tables": ["a"], "hashes": {}}, "1.0 MB, 1 table", "1,0 MB, 1 tabela"),
    ("backup", {"hashes": "counts", "tables": 3, "verified": ["by hand"]}, "by hand, 3 tables", "by hand, 3 tabelas"),
    ("backup", {"size": 999_950, "uploaded": {"to": "o:b"}}, "1.0 MB, copied off-site", "1,0 MB, copiado para fora do host"),
    (
        "rehearse",
        {"applied": ["a", "b"], "seconds": 0.8, "long_locks": [], "irreversible": []},
        "2 revisions, 0.8 s, no long lock, reversible",
        "2 revisões, 0,8 s, nenhum lock longo, reversível",
    ),
    (
        "rehearse",
        {"applied": ["a"], "seconds": 4.2, "long_locks": [{"seconds": 1.5}, {"seconds": 3.1}], "irreversible": ["a"]},
        "1 revision, 4.2 s, a lock held for 3.1 s, not reversible",
        "1 revisão, 4,2 s, um lock mantido por 3,1 s, não reversível",
    ),
    ("maintenance_enter", {"wanted": True, "in_flight": 0}, "page shown, 0 requests in flight", "página no ar, 0 requisições em curso"),
    ("maintenance_enter", {"wanted": False, "reason": WHY}, "not needed, no revision needs it", "dispensada, nenhuma revisão precisa"),
    ("maintenance_enter", {}, "page shown", "página no ar"),
    ("maintenance_enter", {"second_backup": {"name": "r"}}, "page shown, backed up behind it", "página no ar, backup feito com ela no ar"),
    (
        "migrate",
        {"before": ["a1b2"], "after": ["c3d4"], "applied": [{"revision": "b2", "seconds": 0.2}, {"revision": "c3d4", "seconds": 0.7}]},
        "a1b2 -> c3d4, 2 revisions",
        "a1b2 -> c3d4, 2 revisões",
    ),
    ("migrate", {"before": [], "after": ["c3d4", "e5"], "applied": ["c3d4"]}, "empty -> c3d4+e5, 1 revision", "vazio -> c3d4+e5, 1 revisão"),
    ("migrate", {"before": ["c3d4"], "after": ["c3d4"], "applied": []}, "c3d4, nothing pending", "c3d4, nada pendente"),
    ("protect", {"tables": [TOKENS]}, "50,000 tokens encrypted and verified, 0 clear", "50.000 tokens cifrados e verificados, 0 em claro"),
    (
        "protect_finish",
        {"tables": [{**TOKENS, "encrypted": 7, "already": 49993}, {**TOKENS, "encrypted": 0, "clear_left": 1, "verified": 49999}]},
        "7 newly encrypted, 99,999 of 100,000 verified, 1 clear",
        "7 cifrados agora, 99.999 de 100.000 verificados, 1 em claro",
    ),
    ("validate", {"total": 4, "valid": 4, "used": 4}, "4 indexes, 4 used by the planner", "4 índices, 4 usados pelo planejador"),
    ("validate", {"total": 1, "valid": 0}, "1 index, 0 valid", "1 índice, 0 válidos"),
    (
        "switch",
        {"release": "r3", "hosts": ["app1", "app2"], "slot": "b", "requests_failed": 0},
        "app1, app2: r3 answers, slot b, 0 requests failed",
        "app1, app2: r3 responde, slot b, 0 requisições perdidas",
    ),
    ("switch", {"hosts": ["a", "b", "c", "d"]}, "4 hosts: the release answers", "4 hosts: a versão responde"),
    ("smoke", {"passed": 12, "total": 12}, "12 of 12 assertions", "12 de 12 verificações"),
    ("maintenance_leave", {"left": True}, "users are served again", "usuários atendidos de novo"),
    ("maintenance_leave", {"left": False}, "maintenance stays as a person set it", "a manutenção fica como uma pessoa a deixou"),
    (
        "watch",
        {"verdict": "pass", "samples": 60, "seconds": 300.2, "gates": [{"name": "a", "verdict": "pass"}]},
        "pass, 1 gate, 60 samples in 5m 00s",
        "aprovada, 1 limite, 60 amostras em 5m 00s",
    ),
    (
        "watch",
        {"verdict": "inconclusive", "samples": 6, "gates": [{"name": "p95", "verdict": "inconclusive"}, {"name": "b", "verdict": "pass"}]},
        "inconclusive, 2 gates: p95, 6 samples",
        "inconclusiva, 2 limites: p95, 6 amostras",
    ),
    (
        "contract",
        {"before": ["a"], "after": ["b"], "applied": ["b"], "cleared": 50000},
        "a -> b, 1 revision, 50,000 clear values removed",
        "a -> b, 1 revisão, 50.000 valores em claro removidos",
    ),
    ("contract", {}, "nothing to take away", "nada a remover"),
    ("close", {}, "report written, lock released", "relatório gravado, trava liberada"),
    (
        "rollback",
        {"scope": "code", "release": "r2", "reason": {"en": "schema stays (compatible)", "pt_BR": "o esquema fica (compatível)"}},
        "code: r2 answers again; schema stays (compatible)",
        "código: r2 responde de novo; o esquema fica (compatível)",
    ),
    ("rollback", {"scope": "needs_human", "release": "r2", "reason": "look"}, "needs a person: look", "precisa de uma pessoa: look"),
    (
        "rollback",
        {"scope": "restore", "release": "r2", "reason": "look", "kept_as": "app_failed_r", "tables": 4},
        "restore: r2 answers again; 4 tables compared; the failed database is kept as app_failed_r; look",
        "restauração: r2 responde de novo; 4 tabelas comparadas; o banco que falhou fica guardado como app_failed_r; look",
    ),
    (
        "rollback",
        {"scope": "needs_human", "reason": "look", "next": {"en": "Give it.", "pt_BR": "Informe."}},
        "needs a person: look; Give it.",
        "precisa de uma pessoa: look; Informe.",
    ),
    ("a_hook", {"x": 1}, "done", "feita"),
]


@pytest.mark.parametrize(("phase", "evidence", "en", "pt_br"), SUMMARIES)
def test_summaries(phase: str, evidence: dict[str, t.Any], en: str, pt_br: str) -> None:
    assert _texts.phase_summary(phase, "ok", evidence, "en") == en
    assert _texts.phase_summary(phase, "ok", evidence, "pt_BR") == pt_br


@pytest.mark.parametrize("language", _texts.LANGUAGES)
@pytest.mark.parametrize("phase", _texts.KNOWN_PHASES)
@pytest.mark.parametrize("status", ["ok", "failed", "skipped", "unreachable"])
def test_every_phase_has_words_without_evidence(phase: str, status: str, language: str) -> None:
    assert _texts.phase_summary(phase, status, None, language)
    assert len(_texts.phase_title(phase, language)) <= _texts.NAME_WIDTH


def test_the_phases_outcomes_and_scopes_of_the_engine_are_known() -> None:
    assert set(_journal.PHASES) <= set(_texts.KNOWN_PHASES)
    for language in _texts.LANGUAGES:
        assert all(_texts.outcome_sentence(outcome, language) for outcome in _journal.OUTCOMES)
    assert all(scope_title(scope, "pt_BR") != scope for scope in SCOPES)
    assert all(_texts.outcome_title(outcome, "en") == outcome for outcome in _journal.OUTCOMES)


def test_a_failed_phase_says_its_problem() -> None:
    problem = "\n  GET /api/schedule: 500, expected 200\nsecond line"
    assert _texts.phase_summary("smoke", "failed", {"passed": 1}, "pt_BR", problem=problem) == "GET /api/schedule: 500, expected 200"
    assert _texts.phase_summary("smoke", "failed", {"problem": problem}, "en") == "GET /api/schedule: 500, expected 200"
    cut = _texts.phase_summary("smoke", "failed", {}, "en", problem="x" * 101)
    assert (len(cut), cut[-2:]) == (100, "x…")
    assert _texts.phase_summary("smoke", "failed", {}, "en", problem="y" * 100) == "y" * 100
    reason = {"en": "errors: 62.0%", "pt_BR": "errors: 62,0%"}
    assert _texts.phase_summary("watch", "failed", {"reason": reason}, "pt_BR", problem="errors: 62.0%") == "errors: 62,0%"


def test_a_skipped_phase_says_why() -> None:
    assert _texts.phase_summary("maintenance_enter", "skipped", {"reason": WHY}, "pt_BR") == "nenhuma revisão precisa"
    assert _texts.phase_summary("migrate", "skipped", {"why": "deploy_migrations is empty"}, "pt_BR") == "deploy_migrations is empty"
    assert _texts.phase_summary("open", "skipped", {}, "en") == "not needed"


@pytest.mark.parametrize(
    ("status", "sign"), [("ok", "✔"), ("failed", "✖"), ("unreachable", "✖"), ("rolled_back", "↩"), ("skipped", "–"), ("started", "…"), ("odd", " ")]
)
def test_marks(status: str, sign: str) -> None:
    assert _texts.mark(status) == sign


def test_lines_stand_in_columns() -> None:
    lines = [
        _texts.line("backup", "ok", "1.2 GB in 214 MB", 6.34),
        _texts.line("maintenance_enter", "skipped", "not needed", 0.0),
        _texts.line("rollback", "ok", "code: r2 answers again", 125, "pt_BR"),
    ]
    assert lines[0] == " ✔ backup            1.2 GB in 214 MB                                                6.3 s"
    assert lines[2] == " ↩ reversão          code: r2 answers again                                         2m 05s"
    assert {len(line) for line in lines} == {_texts.LINE_WIDTH}
    assert {line.index(text) for line, text in zip(lines, ("1.2", "not", "code"), strict=True)} == {21}
    assert _texts.line("rollback", "failed", "x", None).startswith(" ✖ rollback ")
    assert _texts.line("smoke", "failed", "x" * 100, 1.0).endswith("x" * 100 + "    1.0 s")


def test_the_title_of_a_run() -> None:
    plan = {
        "app": "calendar-api",
        "deploy_environment": "prod",
        "version": "r3",
        "run_id": "20261121T221004-7c1f",
        "release": {"id": "r3-3f9c2e1", "version": "r3"},
    }
    title = _texts.run_title(plan)
    assert title.startswith("calendar-api · prod · r3 (3f9c2e1)  ")
    assert title.endswith("  run 20261121T221004-7c1f")
    assert len(title) == _texts.LINE_WIDTH
    assert _texts.run_title({**plan, "release": None}, "pt_BR").startswith("calendar-api · prod · r3  ")
    assert "execução 2026" in _texts.run_title(plan, "pt_BR")


@pytest.mark.parametrize(
    ("release", "text", "name"),
    [
        ({"id": "r3-3f9c2e1", "version": "r3"}, "r3 (3f9c2e1)", "r3"),
        ({"id": "sha256:abc", "version": "r3"}, "r3 (sha256:abc)", "r3"),
        ({"id": "r3", "version": "r3"}, "r3", "r3"),
        ({"id": "only"}, "only", "only"),
        ({}, "–", ""),
        ("r2", "r2", "r2"),
        (None, "–", ""),
    ],
)
def test_releases(release: object, text: str, name: str) -> None:
    assert _texts.release_text(release) == text
    assert _texts.release_name(release) == name


def test_outcomes() -> None:
    assert _texts.outcome_text("rolled_back", {"version": "r2", "id": "r2-1"}, "en") == "outcome: rolled_back · r2 serves"
    assert _texts.outcome_text("rolled_back", "r2", "pt_BR") == "resultado: revertido · r2 no ar"
    assert _texts.outcome_text("needs_human", None, "en") == "outcome: needs_human"
    record = {"outcome": "deployed", "serves": "r2", "report": "reports/x.html"}
    assert _texts.outcome_line(record, "en") == "outcome: deployed · r2 serves · report: reports/x.html"
    assert _texts.outcome_line({"outcome": "deployed"}, "pt_BR") == "resultado: implantado"


@pytest.mark.parametrize(
    ("seconds", "en", "pt_br"),
    [
        (0.04, "0.0 s", "0,0 s"),
        (0.41, "0.4 s", "0,4 s"),
        (59.94, "59.9 s", "59,9 s"),
        (59.96, "1m 00s", "1m 00s"),
        (125, "2m 05s", "2m 05s"),
        (3720, "1h 02m", "1h 02m"),
        (-1, "0.0 s", "0,0 s"),
        (None, "", ""),
    ],
)
def test_durations(seconds: float | None, en: str, pt_br: str) -> None:
    assert _texts.format_duration(seconds) == en
    assert _texts.format_duration(seconds, "pt_BR") == pt_br


@pytest.mark.parametrize(
    ("size", "en", "pt_br"),
    [
        (0, "0 B", "0 B"),
        (812, "812 B", "812 B"),
        (18_200, "18 kB", "18 kB"),
        (1_234_567_890, "1.2 GB", "1,2 GB"),
        (9_960, "10 kB", "10 kB"),
        (5e18, "5,000 PB", "5.000 PB"),
    ],
)
def test_sizes(size: float, en: str, pt_br: str) -> None:
    assert _texts.format_size(size) == en
    assert _texts.format_size(size, "pt_BR") == pt_br


@pytest.mark.parametrize(
    ("metric", "value", "en", "pt_br"),
    [
        ("error_rate", 0.1234, "12.3%", "12,3%"),
        ("latency_p95", 1204.4, "1,204 ms", "1.204 ms"),
        ("requests", 1000.0, "1,000", "1.000"),
        ("own", 2.345, "2.35", "2,35"),
        ("requests", None, "–", "–"),
        ("requests", "many", "many", "many"),
    ],
)
def test_metrics(metric: str, value: object, en: str, pt_br: str) -> None:
    assert _texts.format_metric(metric, value) == en
    assert _texts.format_metric(metric, value, "pt_BR") == pt_br


def test_times() -> None:
    assert _texts.format_time("2026-11-21T22:10:04.123456Z") == "2026-11-21 22:10:04 UTC"
    assert _texts.format_time("2026-11-21T19:10:04-03:00", "pt_BR") == "21/11/2026 22:10:04 UTC"
    assert _texts.format_time("soon") == "soon"


def test_picking_a_language() -> None:
    assert _texts_format.pick(Text("a", "b"), "pt_BR") == "b"
    assert _texts_format.pick({"en": "a"}, "pt_BR") == "a"
    assert _texts_format.pick(None, "en") == ""
    assert _texts.check_language("pt_BR") == "pt_BR"
    with pytest.raises(LastroError, match="no language") as caught:
        _texts.check_language("fr")
    assert "pt_BR" in caught.value.remedy.pt_BR


def test_the_reason_of_a_watch_with_several_gates() -> None:
    gate = {"name": "x", "metric": "requests", "limit": "> 5", "worst": 9, "samples": 3, "verdict": "pass", "cause": "held", "breached_from": None}
    assert _texts.watch_reason([gate, gate], 7) == Text("all 2 gates held in 7 samples", "os 2 limites foram mantidos em 7 amostras")
    missing = {**gate, "verdict": "inconclusive", "cause": "no_data"}
    assert _texts.watch_reason([gate, missing, missing], 7).en == "; ".join(["x (requests > 5): not enough data (3 samples with a value)"] * 2)
