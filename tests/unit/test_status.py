# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What status tells of a state directory; it writes nothing."""

from __future__ import annotations

import datetime
import json
import typing as t
from pathlib import Path

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.lastro.deploy.plugins.module_utils import _dead_man, _journal, _ledger, _lock, _status
from ansible_collections.lastro.deploy.plugins.module_utils._errors import LastroError
from ansible_collections.lastro.deploy.plugins.modules import status_info

NOON = datetime.datetime(2026, 11, 21, 12, 0, tzinfo=datetime.UTC)
OLD, MIDDLE, NEW = "20261121T100000-aaaa", "20261121T110000-bbbb", "20261121T115900-cccc"
RELEASE = {"id": "r3-3f9c2e1", "version": "r3", "sha256": "00"}


def noon() -> datetime.datetime:
    return NOON


def journal(state_dir: Path, run_id: str, *phases: str, outcome: str = "", status: str = "ok") -> None:
    """A journal of a run that entered *phases*, the last one with *status*."""
    opened = {"kind": "opened", "run_id": run_id, "app": "calendar-api", "release": RELEASE, "actor": "ana"}
    _journal.append(state_dir, run_id, opened, now=noon)
    for phase in phases:
        _journal.append(state_dir, run_id, {"kind": "intent", "phase": phase}, now=noon)
        _journal.append(state_dir, run_id, {"kind": "result", "phase": phase, "status": status if phase == phases[-1] else "ok"}, now=noon)
    if outcome:
        _journal.append(state_dir, run_id, {"kind": "outcome", "outcome": outcome}, now=noon)


def lock(state_dir: Path, run_id: str, *, seconds_ago: int = 30) -> None:
    """The lock, taken so long ago for two minutes."""
    moment = NOON - datetime.timedelta(seconds=seconds_ago)
    _lock.take(state_dir, _lock.Request(run_id, 120, actor="ana", reason="r3", controller={"pid": 1}), now=lambda: moment)


def arm(state_dir: Path, name: str, run_id: str, seconds: float) -> _dead_man.Timer:
    timer = _dead_man.Timer(state_dir / "timers", name)
    world = _dead_man.World(NOON.timestamp, lambda _seconds: None, lambda _url: True)
    _dead_man.arm(timer, {"run_id": run_id, "revert": []}, seconds, world)
    return timer


def read(state_dir: Path, limit: int = 10) -> dict[str, t.Any]:
    return _status.read(state_dir, limit=limit, now=noon)


def files(directory: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in directory.rglob("*")}


def test_nothing_has_happened_yet(tmp_path: Path) -> None:
    found = read(tmp_path / "none")
    assert (found["holder"], found["ledger"], found["runs"], found["left_over"], found["timers"]) == ({}, {"live": "", "releases": []}, [], [], [])
    assert found["text"]["en"].splitlines() == [
        "lock          free",
        "live          –",
        "releases      none",
        "left over     none",
        "timers        none",
        "last runs     none",
    ]
    assert not (tmp_path / "none").exists()


def test_holder_without_the_controller(tmp_path: Path) -> None:
    lock(tmp_path, NEW)
    assert read(tmp_path)["holder"] == {
        "run_id": NEW,
        "actor": "ana",
        "reason": "r3",
        "since": "2026-11-21T11:59:30.000000Z",
        "expires_at": "2026-11-21T12:01:30.000000Z",
        "expired": False,
    }


@pytest.mark.parametrize(("seconds_ago", "expired"), [(119, False), (120, True), (3600, True)])
def test_lease_runs_out(tmp_path: Path, seconds_ago: int, expired: bool) -> None:
    lock(tmp_path, NEW, seconds_ago=seconds_ago)
    assert read(tmp_path)["holder"]["expired"] is expired


def test_runs_newest_first_and_only_as_many_as_wanted(tmp_path: Path) -> None:
    journal(tmp_path, OLD, "open", outcome="deployed")
    journal(tmp_path, MIDDLE, "open", "preflight", "smoke", "rollback", outcome="rolled_back")
    journal(tmp_path, NEW, "open", "migrate", status="failed")
    found = read(tmp_path)
    assert [(run["run_id"], run["outcome"]) for run in found["runs"]] == [(NEW, "unfinished"), (MIDDLE, "rolled_back"), (OLD, "deployed")]
    assert found["runs"][0]["reached"] == ["open", "migrate"]
    assert found["runs"][0]["failed_phase"] == "migrate"
    assert (found["runs"][1]["app"], found["runs"][1]["actor"], found["runs"][1]["release"]) == ("calendar-api", "ana", RELEASE)
    assert found["runs"][1]["started"] == "2026-11-21T12:00:00.000000Z"
    assert [run["run_id"] for run in read(tmp_path, 1)["runs"]] == [NEW]
    assert read(tmp_path, 0)["runs"] == read(tmp_path, -1)["runs"] == []


def test_a_run_that_holds_the_lock_is_not_left_over(tmp_path: Path) -> None:
    journal(tmp_path, OLD, "open", outcome="deployed")
    journal(tmp_path, MIDDLE, "open", "switch")
    journal(tmp_path, NEW, "open", "stage")
    lock(tmp_path, NEW)
    found = read(tmp_path)
    assert found["left_over"] == [MIDDLE]
    assert [run["running"] for run in found["runs"]] == [True, False, False]


def test_a_run_whose_lease_has_run_out_is_left_over(tmp_path: Path) -> None:
    journal(tmp_path, NEW, "open", "stage")
    lock(tmp_path, NEW, seconds_ago=600)
    found = read(tmp_path)
    assert found["left_over"] == [NEW]
    assert not found["runs"][0]["running"]


def test_what_an_outcome_closed_is_not_left_over(tmp_path: Path) -> None:
    journal(tmp_path, OLD, "open")
    journal(tmp_path, NEW, "open", outcome="deployed")
    assert read(tmp_path)["left_over"] == []


def test_a_journal_of_torn_lines_is_a_run(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / f"{NEW}.jsonl").write_text('{"kind": "ope')
    run = read(tmp_path)["runs"][0]
    assert (run["run_id"], run["release"], run["outcome"], run["reached"]) == (NEW, {}, "unfinished", [])
    assert "not finished" in read(tmp_path)["text"]["en"]


def test_timers(tmp_path: Path) -> None:
    arm(tmp_path, "maintenance", NEW, 90)
    late = arm(tmp_path, "slot-app1", NEW, -5)
    firing = arm(tmp_path, "slot-app2", NEW, -5)
    firing.deadline.rename(firing.firing)
    _dead_man.fire(arm(tmp_path, "slot-app3", MIDDLE, 0), _dead_man.World(NOON.timestamp, lambda _seconds: None, lambda _url: True))
    gone = arm(tmp_path, "slot-app4", NEW, 5)
    gone.deadline.unlink()
    assert late.deadline.exists()
    assert [tuple(timer.values()) for timer in read(tmp_path)["timers"]] == [
        ("maintenance", NEW, "armed", 90.0),
        ("slot-app1", NEW, "armed", 0.0),
        ("slot-app2", NEW, "firing", 0.0),
        ("slot-app3", MIDDLE, "fired", 0.0),
    ]


def test_a_timer_taken_back_meanwhile(tmp_path: Path) -> None:
    timer = arm(tmp_path, "maintenance", NEW, 90)
    timer.spec.unlink()
    assert _status.timer_facts(timer.spec, NOON) == {}


@pytest.mark.parametrize("content", ["{", "{}", '{"releases": [{"id": "r1", "surprise": 1}]}'])
def test_a_damaged_ledger_is_one_clear_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "ledger.json").write_text(content)
    with pytest.raises(LastroError, match="ledger") as caught:
        read(tmp_path)
    assert caught.value.remedy.en and caught.value.remedy.pt_BR


def test_a_damaged_timer_is_one_clear_error(tmp_path: Path) -> None:
    arm(tmp_path, "maintenance", NEW, 90).spec.write_text("{")
    with pytest.raises(LastroError, match="cannot be read: a file in it is damaged") as caught:
        read(tmp_path)
    assert "become" in caught.value.remedy.en and "become" in caught.value.remedy.pt_BR


def test_what_may_not_be_read_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "timers" / "maintenance.deadline").mkdir(parents=True)
    (tmp_path / "timers" / "maintenance.json").write_text("{}")
    with pytest.raises(LastroError, match="cannot be read: Is a directory"):
        read(tmp_path)


@pytest.fixture
def busy(tmp_path: Path) -> Path:
    """A run under way after one that was rolled back and one that was cut off."""
    journal(tmp_path, OLD, "open", "rollback", outcome="rolled_back")
    journal(tmp_path, MIDDLE, "open", "preflight")
    journal(tmp_path, NEW, "open", "migrate")
    lock(tmp_path, NEW)
    arm(tmp_path, "maintenance", NEW, 90)
    _dead_man.fire(arm(tmp_path, "slot-app1", MIDDLE, 0), _dead_man.World(NOON.timestamp, lambda _seconds: None, lambda _url: True))
    firing = arm(tmp_path, "slot-app2", MIDDLE, 0)
    firing.deadline.rename(firing.firing)
    ledger = _ledger.record(_ledger.Ledger(), _ledger.Release("r2-aaaaaaa", "r2", state="good", revisions=("c3d4",)), live=True, now=noon)
    _ledger.save(tmp_path / "ledger.json", _ledger.record(ledger, _ledger.Release("r3-3f9c2e1", "r3", state="bad"), now=noon))
    return tmp_path


def test_text_in_english(busy: Path) -> None:
    assert read(busy)["text"]["en"].splitlines() == [
        f"lock          held by ana (run {NEW}) since 2026-11-21 11:59:30 UTC; the lease runs until 2026-11-21 12:01:30 UTC",
        "live          r2 (aaaaaaa)",
        "releases      r2 (aaaaaaa) good, r3 (3f9c2e1) bad",
        f"left over     {MIDDLE}",
        f"timers        maintenance (run {NEW}): armed, 1m 30s left",
        f"              slot-app1 (run {MIDDLE}): has put its change back",
        f"              slot-app2 (run {MIDDLE}): fires now",
        f"last runs     {NEW}  r3 (3f9c2e1)  ana  running (migrate)         2026-11-21 12:00:00 UTC",
        f"              {MIDDLE}  r3 (3f9c2e1)  ana  not finished (preflight)  2026-11-21 12:00:00 UTC",
        f"              {OLD}  r3 (3f9c2e1)  ana  rolled_back               2026-11-21 12:00:00 UTC",
    ]


def test_text_in_portuguese(busy: Path) -> None:
    lock(busy, NEW, seconds_ago=30)
    text = read(busy)["text"]["pt_BR"]
    for part in (
        f"trava         com ana (execução {NEW}) desde 21/11/2026 11:59:30 UTC; o prazo vai até",
        "no ar         r2 (aaaaaaa)",
        "versões       r2 (aaaaaaa) boa, r3 (3f9c2e1) ruim",
        f"interrompidas {MIDDLE}",
        "armado, faltam 1m 30s",
        "já desfez sua mudança",
        "disparando agora",
        "em andamento (migração)",
        "não terminou (verificações)",
        "revertido",
    ):
        assert part in text


def test_text_of_a_lease_that_has_run_out(tmp_path: Path) -> None:
    lock(tmp_path, NEW, seconds_ago=600)
    text = read(tmp_path)["text"]
    assert "the lease has run out, the next run takes over" in text["en"]
    assert "o prazo acabou, a próxima execução assume" in text["pt_BR"]


@pytest.mark.parametrize("check", [False, True])
def test_module_reads_and_writes_nothing(busy: Path, capsys: pytest.CaptureFixture[str], check: bool) -> None:
    before = files(busy)
    with patch_module_args({"state_dir": str(busy), "limit": 2, "_ansible_check_mode": check}), pytest.raises(SystemExit) as ended:
        status_info.main()
    answer = json.loads(capsys.readouterr().out)
    assert ended.value.code == 0
    assert answer["changed"] is False
    assert answer["ledger"]["live"] == "r2-aaaaaaa"
    assert [run["run_id"] for run in answer["runs"]] == [NEW, MIDDLE]
    assert files(busy) == before


def test_module_names_what_it_cannot_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "ledger.json").write_text("{")
    with patch_module_args({"state_dir": str(tmp_path)}), pytest.raises(SystemExit) as ended:
        status_info.main()
    answer = json.loads(capsys.readouterr().out)
    assert ended.value.code == 1
    assert set(answer["remedy"]) == {"en", "pt_BR"}
    assert str(tmp_path) in answer["msg"]
