# SPDX-License-Identifier: GPL-3.0-or-later
"""Reports: what stands in them, that they are whole, and that the files do not change without a reason."""

from __future__ import annotations

import hashlib
import html.parser
import json
import re
import stat
import typing as t
from pathlib import Path

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.lastro.deploy.plugins.module_utils import _report, _report_html
from ansible_collections.lastro.deploy.plugins.module_utils._errors import LastroError
from ansible_collections.lastro.deploy.plugins.module_utils._report_details import Field, Table, details
from ansible_collections.lastro.deploy.plugins.module_utils._report_model import make_report
from ansible_collections.lastro.deploy.plugins.modules import report as module

RUN = "20261121T221004-7c1f"
BOTH = {"en": "schema stays (compatible)", "pt_BR": "o esquema fica (compatível)"}
GATES = [
    {
        "name": "errors",
        "metric": "error_rate",
        "limit": "<= 10%",
        "worst": 0.625,
        "samples": 14,
        "verdict": "fail",
        "breached_from": "2026-11-21T22:11:00.000000Z",
    },
    {"metric": "latency_p95", "limit": "< 2s", "worst": 1204.2, "samples": 14, "verdict": "pass", "breached_from": None},
]
CHECKLIST = [
    {"id": "c-001", "item": "Full backup | all tables", "phases": ["backup"]},
    {"id": "c-002", "item": "Watched", "phases": ["migrate", "watch"]},
    {"id": "c-003", "item": "Login by hand", "signoff": "qa"},
    {"id": "c-004", "item": "Go", "signoff": "tech_lead"},
    {"id": "c-005", "item": "Remove the column", "phases": ["contract"]},
    {"id": "c-006", "item": "Maintenance", "phases": ["maintenance_enter"]},
]


def at(second: int, **record: object) -> dict[str, t.Any]:
    return {"time": f"2026-11-21T22:{10 + second // 60:02d}:{second % 60:02d}.000000Z", **record}


def result(second: int, phase: str, evidence: dict[str, t.Any], host: str = "db1", status: str = "ok", **more: object) -> list[dict[str, t.Any]]:
    return [
        at(second, kind="intent", phase=phase, host=host),
        at(second + 1, kind="result", phase=phase, host=host, status=status, seconds=1.0, evidence=evidence, **more),
    ]


def journal() -> list[dict[str, t.Any]]:
    release = {"id": "r3-3f9c2e1", "version": "r3", "sha256": "ab" * 32}
    opened = {"run_id": RUN, "app": "calendar-api", "environment": "prod", "release": release, "previous": {"id": "r2-1", "version": "r2"}}
    backup = {"path": "/b/x.dump", "size": 214_000_000, "raw_size": 1_200_000_000, "tables": 18, "verified": ["decode"], "hashes": "rows"}
    migrate = {"after": ["c3d4"], "before": ["a1b2"], "applied": [{"seconds": 0.4, "revision": "c3d4"}]}
    watched = {"verdict": "fail", "samples": 14, "seconds": 62.0, "gates": GATES, "ok": False}
    remedy = {"en": "Look at r3's errors.", "pt_BR": "Veja os erros da r3."}
    return [
        at(0, kind="opened", actor="ana", reason="ticket <b>4711</b> & more", plan={"hosts": ["app1"], "migrations": {"when": "auto"}}, **opened),
        *result(0, "preflight", {"checks": 3, "signoffs": [at(0, name="tech_lead", by="maria", release="r3-3f9c2e1", comment="")]}),
        *result(1, "backup", backup),
        *result(3, "maintenance_enter", {"wanted": False, "reason": BOTH}, status="skipped"),
        *result(5, "migrate", migrate),
        at(7, kind="intent", phase="switch", host="db1"),
        at(9, kind="result", phase="switch", host="app1", status="ok", seconds=2.0, evidence={"release": "r3", "hosts": ["app1"]}),
        at(9, kind="result", phase="switch", host="app2", status="unreachable", seconds=2.0, problem="app2 is gone", remedy=remedy),
        at(10, kind="verdict", phase="switch", status="ok", evidence={"release": "r3", "hosts": ["app1", "app2"]}),
        *result(11, "watch", watched, status="failed", problem="errors: at worst 62.5%", remedy=remedy),
        at(74, kind="request", what="roll back", by="handler", reason="queue grows"),
        at(75, kind="decision", scope="code", reason=BOTH, facts={"migration": "compatible", "switched": True, "since": None}),
        *result(76, "rollback", {"scope": "code", "release": "r2", "reason": BOTH}),
        at(78, kind="intent", phase="close", host="db1"),
        at(80, kind="outcome", outcome="rolled_back", serves={"id": "r2-1", "version": "r2"}),
    ]


def keep(state: Path, records: list[dict[str, t.Any]]) -> Path:
    path = state / "runs" / f"{RUN}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")
    return path


def arguments(base: Path, **changes: object) -> dict[str, t.Any]:
    options = {"state_dir": str(base / "state"), "run_id": RUN, "dest": str(base / "deep" / "reports"), "checklist": CHECKLIST}
    return {**options, "figures": {"requests": 18234, "failed": 31, "note": "from the demo"}, **changes}


def call(capsys: pytest.CaptureFixture[str], options: dict[str, t.Any]) -> dict[str, t.Any]:
    with patch_module_args(options), pytest.raises(SystemExit):
        module.main()
    found: dict[str, t.Any] = json.loads(capsys.readouterr().out)
    return found


class Page(html.parser.HTMLParser):
    """Fails on a tag that is not closed in its order, and keeps the text and the addresses."""

    VOID = frozenset({"meta", "br", "link", "img"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.texts: list[str] = []
        self.lang: str | None = None
        self.feed(text)
        self.close()
        assert self.stack == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        assert not {"src", "href"} & set(attributes), "the page needs nothing from elsewhere"
        if tag == "html":
            self.lang = attributes["lang"]
        if tag not in self.VOID:
            self.stack.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return "\n".join(self.texts)


SAID = {
    "en": [
        "calendar-api · prod · r3 (3f9c2e1)",
        "rolled_back",
        "1.2 GB in 214 MB, decoded, hashes of 18 tables",
        "a1b2 -> c3d4, 1 revision",
        "app1, app2: r3 answers",
        "Look at r3's errors.",
        "schema stays (compatible)",
        "62.5%",
        "1,204 ms",
        "18,234",
        "failed requests",
        "tech_lead: maria, 2026-11-21 22:10:00 UTC",
        "queue grows",
        "app2 is gone",
        "1m 20s",
        "report written, lock released",
    ],
    "pt_BR": [
        "revertido",
        "1,2 GB em 214 MB, decodificado, hashes de 18 tabelas",
        "app1, app2: r3 responde",
        "Veja os erros da r3.",
        "o esquema fica (compatível)",
        "62,5%",
        "18.234",
        "requisições com falha",
        "tech_lead: maria, 21/11/2026 22:10:00 UTC",
        "em aberto",
        "executado",
        "assinado",
    ],
}


@pytest.mark.parametrize("language", ["en", "pt_BR"])
def test_all_three_files_say_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str], language: str) -> None:
    sha256 = hashlib.sha256(keep(tmp_path / "state", journal()).read_bytes()).hexdigest()
    found = call(capsys, arguments(tmp_path, language=language))
    assert (found["changed"], found["outcome"], found["sha256"]) == (True, "rolled_back", sha256)
    paths = {name: Path(path) for name, path in found["paths"].items()}
    assert {name: path.name for name, path in paths.items()} == {"html": f"{RUN}.html", "md": f"{RUN}.md", "json": f"{RUN}.json"}
    assert stat.S_IMODE(paths["md"].parent.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in paths.values()} == {0o600}
    page = Page(paths["html"].read_text(encoding="utf-8"))
    assert page.lang == language.replace("_", "-")
    markdown = re.sub(r"\\(.)", r"\1", paths["md"].read_text(encoding="utf-8"))
    model = paths["json"].read_text(encoding="utf-8")
    for words in [*SAID[language], sha256, "c-005", "ticket <b>4711</b> & more", "/b/x.dump"]:
        assert words in page.text, words
        assert words in markdown, words
        assert words in model, words


def test_the_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keep(tmp_path / "state", journal())
    model = json.loads(Path(call(capsys, arguments(tmp_path, formats=["json"]))["paths"]["json"]).read_text())
    assert {item["id"]: item["state"] for item in model["checklist"]} == {
        "c-001": "executed",
        "c-002": "failed",
        "c-003": "open",
        "c-004": "signed",
        "c-005": "open",
        "c-006": "not_needed",
    }
    assert model["checklist"][0]["proof"] == ["backup: 1.2 GB in 214 MB, decoded, hashes of 18 tables"]
    phases = {phase["phase"]: phase for phase in model["phases"]}
    assert list(phases) == ["preflight", "backup", "maintenance_enter", "migrate", "switch", "watch", "rollback", "close"]
    assert [(host["host"], host["status"]) for host in phases["switch"]["hosts"]] == [("app1", "ok"), ("app2", "unreachable")]
    assert (phases["switch"]["start"], phases["switch"]["seconds"], phases["switch"]["host"]) == (7.0, 3.0, "")
    assert (phases["backup"]["host"], phases["backup"]["hosts"]) == ("db1", [])
    assert phases["close"]["status"] == "ok"
    assert phases["migrate"]["evidence"]["applied"] == [{"seconds": 0.4, "revision": "c3d4"}]
    assert (model["problem"], model["gate_verdicts"]) == ("errors: at worst 62.5%", ["fail", "pass"])
    assert model["seconds"] == 80.0


def written(file: str) -> tuple[int, int, int]:
    """What changes where a file is written anew."""
    found = Path(file).stat()
    return found.st_ino, found.st_mtime_ns, found.st_mode


def test_a_second_report_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = keep(tmp_path / "state", journal())
    first = call(capsys, arguments(tmp_path))
    before = {name: written(file) for name, file in first["paths"].items()}
    again = call(capsys, arguments(tmp_path))
    assert (again["changed"], again["diff"]) == (False, [])
    assert {name: written(file) for name, file in again["paths"].items()} == before
    Path(first["paths"]["md"]).chmod(0o644)
    Path(first["paths"]["md"]).parent.chmod(0o755)
    assert call(capsys, arguments(tmp_path))["changed"]
    assert stat.S_IMODE(Path(first["paths"]["md"]).stat().st_mode) == 0o600
    assert stat.S_IMODE(Path(first["paths"]["md"]).parent.stat().st_mode) == 0o700
    with path.open("a") as stream:
        stream.write('{"torn": \n')
    assert call(capsys, arguments(tmp_path))["changed"]


def test_check_mode_and_diff(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keep(tmp_path / "state", journal())
    found = call(capsys, arguments(tmp_path, _ansible_check_mode=True, _ansible_diff=True))
    assert found["changed"]
    assert not (tmp_path / "deep").exists()
    page, markdown, _model = found["diff"]
    assert (page["before"], markdown["before"]) == ("", "")
    assert markdown["after"].startswith("# calendar-api")
    assert re.fullmatch(r"sha256 [0-9a-f]{64}\n", page["after"])
    call(capsys, arguments(tmp_path))
    changed = call(capsys, arguments(tmp_path, figures={"requests": 5}, formats=["md"], _ansible_check_mode=True))
    assert list(changed["paths"]) == ["md"]
    assert "18,234" in changed["diff"][0]["before"]
    assert "18,234" not in changed["diff"][0]["after"]


def test_a_run_that_was_cut_off(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = [*journal()[:2], at(4, kind="intent", phase="backup", host="db1")]
    keep(tmp_path / "state", records)
    found = call(capsys, arguments(tmp_path, formats=["html", "json"], figures=None, language="pt_BR"))
    assert found["outcome"] == ""
    page = Page(Path(found["paths"]["html"]).read_text())
    assert "não terminou" in page.text
    model = json.loads(Path(found["paths"]["json"]).read_text())
    assert (model["phases"][0]["status"], model["phases"][0]["seconds"], model["seconds"]) == ("started", None, 4.0)
    assert model["checklist"][0]["state"] == "open"


def test_a_phase_entered_twice_counts_as_it_ended() -> None:
    records = [
        at(0, kind="opened"),
        *result(1, "smoke", {}, status="failed", problem="no"),
        *result(4, "backup", {}),
        *result(6, "smoke", {"passed": 1, "total": 1}),
    ]
    made = make_report(records, sha256="", language="en", checklist=[{"id": "1", "item": "x", "phases": ["smoke", "backup"]}])
    assert [row.status for row in made.phases] == ["failed", "ok", "ok"]
    assert made.checklist[0].state == "executed"
    assert made.checklist[0].proof == ("smoke: 1 of 1 assertion", "backup: done")


def test_a_journal_of_odd_records_still_makes_a_report() -> None:
    records: list[dict[str, object]] = [
        {"kind": "result", "phase": "stage", "host": "a", "status": "ok"},
        {"kind": "result", "phase": "stage", "host": "b", "status": "odd", "seconds": None},
    ]
    made = make_report([*records, {"time": 7, "kind": "verdict", "phase": "stage", "status": "ok", "seconds": 2}], sha256="", language="en")
    assert (made.seconds, made.phases[0].seconds, len(made.phases[0].hosts)) == (0.0, 2.0, 2)
    Page(_report_html.render(made))


def test_details_in_words() -> None:
    evidence = {
        "release": "r3",
        "empty": [],
        "accepted": True,
        "some_ratio": 0.5,
        "wait_seconds": 90,
        "raw_size": 1000,
        "nested": {"a": {"b": [1, 2]}},
        "revisions": [{"seconds": 1.0, "revision": "a", "note": BOTH}, {"revision": "b"}],
        "verdict": "fail",
        "tags": ["x", "y"],
    }
    fields = {one.label: one for one in details(evidence, "pt_BR", leave_out=("tags",))}
    assert fields["accepted"] == Field("accepted", "sim")
    assert fields["some ratio"] == Field("some ratio", "0,50")
    assert fields["wait seconds"] == Field("wait seconds", "1m 30s")
    assert fields["tamanho do banco"] == Field("tamanho do banco", "1,0 kB")
    assert fields["veredito"] == Field("veredito", "reprovada")
    assert fields["nested"] == Table("nested", ("nome", "valor"), (("a", "b: 1, 2"),))
    assert fields["revisions"] == Table("revisions", ("revisão", "duração", "note"), (("a", "1,0 s", BOTH["pt_BR"]), ("b", "", "")))
    assert next(iter(fields)) == "versão"
    assert {"empty", "tags"} & set(fields) == set()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"run_id": "../x"}, "no id of a run"),
        ({"run_id": "20260101T000000-dead"}, "cannot be read: No such file"),
        ({"checklist": [{"id": "1", "item": "x", "phases": ["bakcup"]}]}, "'bakcup', which is no phase"),
        ({"dest": "/proc/1/reports"}, "dest /proc/1/reports cannot be used"),
    ],
)
def test_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, t.Any], words: str) -> None:
    keep(tmp_path / "state", journal())
    found = call(capsys, arguments(tmp_path, **changes))
    assert found["failed"]
    assert words in found["problem"]
    assert found["remedy"]["pt_BR"]


def test_a_journal_without_a_record_and_a_dest_that_is_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keep(tmp_path / "state", [])
    assert "has no record" in call(capsys, arguments(tmp_path))["problem"]
    keep(tmp_path / "state", journal())
    (tmp_path / "file").write_text("")
    assert "cannot be used" in call(capsys, arguments(tmp_path, dest=str(tmp_path / "file")))["problem"]


def test_an_item_needs_phases_or_a_signoff(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keep(tmp_path / "state", journal())
    assert "phases" in call(capsys, arguments(tmp_path, checklist=[{"id": "1", "item": "x"}]))["msg"]


@pytest.mark.parametrize(
    ("item", "state"),
    [
        ({"phases": ["backup"], "signoff": "tech_lead"}, "executed"),
        ({"phases": ["maintenance_enter"], "signoff": "tech_lead"}, "not_needed"),
        ({"phases": ["backup"], "signoff": "qa"}, "open"),
        ({"phases": ["watch"], "signoff": "tech_lead"}, "failed"),
        ({"phases": []}, "open"),
    ],
)
def test_an_item_that_a_machine_does_and_a_person_signs(item: dict[str, t.Any], state: str) -> None:
    made = make_report(journal(), sha256="", language="en", checklist=[{"id": "1", "item": "x", **item}])
    assert made.checklist[0].state == state
    assert len(made.checklist[0].proof) == ("signoff" in item) + len(item["phases"])


def test_an_unknown_language_is_refused_by_the_backend_too(tmp_path: Path) -> None:
    with pytest.raises(LastroError, match="no language"):
        _report.plan_report({"language": "fr"})
