# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal: what survives a crash, what its records mean together, and which phases may be entered."""

from __future__ import annotations

import collections.abc
import datetime
import json
import os
import stat
import typing as t
from pathlib import Path

import pytest
from ansible_collections.lastro.deploy.plugins.module_utils import _files, _journal, _journal_call, _lock
from ansible_collections.lastro.deploy.plugins.module_utils._errors import LastroError
from ansible_collections.lastro.deploy.plugins.modules import journal as journal_module
from hypothesis import given
from hypothesis import strategies as st

NOON = datetime.datetime(2026, 11, 21, 12, 0, 0, tzinfo=datetime.UTC)
RUN = "20261121T120000-0001"
CallModule = collections.abc.Callable[..., dict[str, t.Any]]
Record = dict[str, t.Any]


def at(seconds: float) -> collections.abc.Callable[[], datetime.datetime]:
    return lambda: NOON + datetime.timedelta(seconds=seconds)


def intent(phase: str) -> Record:
    return {"kind": "intent", "phase": phase}


def result(phase: str, status: str = "ok", **evidence: object) -> Record:
    return {"kind": "result", "phase": phase, "status": status, "evidence": evidence}


def acknowledged(phase: str, host: str, status: str = "ok", **other: object) -> Record:
    return {"kind": "acknowledged", "phase": phase, "host": host, "status": status, **other}


def write(state_dir: Path, *records: Record, run_id: str = RUN) -> None:
    for record in records:
        _journal.append(state_dir, run_id, record, now=at(0))


# --- the file ---------------------------------------------------------------------------------------------------------

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | texts, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=6
)


@given(records=st.lists(st.dictionaries(texts, values, min_size=1, max_size=3), min_size=1, max_size=4), data=st.data())
def test_any_truncation_yields_the_whole_lines(records: list[Record], data: st.DataObject) -> None:
    lines = [json.dumps(record, sort_keys=True, ensure_ascii=False).encode() for record in records]
    content = b"".join(line + b"\n" for line in lines)
    cut = data.draw(st.integers(0, len(content)))
    ends = [sum(len(one) + 1 for one in lines[: index + 1]) - 1 for index in range(len(lines))]  # where the line is whole but for its newline
    assert _files.parse_json_lines(content[:cut]) == [record for record, end in zip(records, ends, strict=True) if end <= cut]


def test_every_truncation_of_a_real_journal_and_the_next_record(tmp_path: Path) -> None:
    write(tmp_path, {"kind": "opened", "run_id": RUN, "actor": "Zoë"}, intent("backup"), result("backup", size=1))
    path = _journal.journal_file(tmp_path, RUN)
    whole, records = path.read_bytes(), _journal.read_run(tmp_path, RUN)
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        read = _journal.read_run(tmp_path, RUN)
        assert read == records[: len(read)]
        assert len(read) == sum(line in whole[:cut] for line in whole.splitlines())
        _journal.append(tmp_path, RUN, {"kind": "outcome", "outcome": "deployed"}, now=at(1))
        assert [record["kind"] for record in _journal.read_run(tmp_path, RUN)] == [*[record["kind"] for record in read], "outcome"]


def test_a_record_is_on_the_disk_before_append_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[tuple[str, bytes]] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        synced.append((path.name, path.read_bytes() if path.is_file() else b""))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    write(tmp_path, {"kind": "opened", "run_id": RUN})
    line = b'{"kind": "opened", "run_id": "' + RUN.encode() + b'", "time": "2026-11-21T12:00:00.000000Z"}\n'
    assert synced == [(f"{RUN}.jsonl", line), ("runs", b"")]
    path = _journal.journal_file(tmp_path, RUN)
    assert (stat.S_IMODE(path.stat().st_mode), stat.S_IMODE(path.parent.stat().st_mode)) == (0o600, 0o700)


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, intent("backup"))
    real = os.write
    room = 5

    def half(descriptor: int, content: bytes) -> int:
        nonlocal room
        if not room:
            raise OSError(28, os.strerror(28))
        written = real(descriptor, content[:room])
        room -= written
        return written

    monkeypatch.setattr(os, "write", half)
    with pytest.raises(LastroError, match=r"0001\.jsonl cannot be written: No space left on device") as caught:
        write(tmp_path, result("backup"))
    assert caught.value.remedy.pt_BR
    monkeypatch.undo()
    assert [record["kind"] for record in _journal.read_run(tmp_path, RUN)] == ["intent"]
    write(tmp_path, result("backup"))
    assert [record["kind"] for record in _journal.read_run(tmp_path, RUN)] == ["intent", "result"]


def test_a_directory_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "runs").touch()
    with pytest.raises(LastroError, match="cannot be written: File exists"):
        write(tmp_path, intent("backup"))


# --- what the records mean --------------------------------------------------------------------------------------------


def test_folding() -> None:
    opened = {"kind": "opened", "run_id": RUN, "release": {"id": "r2"}}
    state = _journal.state_of(
        [
            opened,
            {"kind": "from a newer version"},
            {"no": "kind"},
            intent("preflight"),
            result("preflight", checks=3),
            intent("backup"),
            result("backup", "skipped", skipped_because="x"),
            intent("migrate"),
        ]
    )
    assert (state.run_id, state.opened) == (RUN, opened)
    assert state.phases == {"preflight": "ok", "backup": "skipped", "migrate": "started"}
    assert state.evidence["preflight"] == {"checks": 3}
    assert state.sound and not state.outcome


def test_the_first_failure_is_the_reason() -> None:
    state = _journal.state_of(
        [
            {**result("smoke", "failed", tries=3), "problem": "500", "remedy": {"en": "look"}},
            {**result("watch", "unreachable"), "problem": "later"},
            {"kind": "decision", "scope": "code"},
            {"kind": "outcome", "outcome": "rolled_back"},
        ]
    )
    assert (state.failed_phase, state.problem, state.remedy, state.sound) == ("smoke", "500", {"en": "look"}, False)
    assert (state.phases["watch"], state.decision["scope"], state.outcome) == ("unreachable", "code", "rolled_back")


def test_a_request_to_roll_back_closes_the_gate() -> None:
    assert _journal.state_of([{"kind": "request", "what": "reload proxy"}]).sound
    state = _journal.state_of([{"kind": "request", "what": "roll back", "by": "app1"}])
    assert not state.sound and not state.failed_phase
    assert state.requests[0]["by"] == "app1"


def test_one_hosts_failure_closes_the_gate_and_its_success_opens_nothing() -> None:
    assert _journal.state_of([intent("switch"), acknowledged("switch", "a")]).phases == {"switch": "started"}
    state = _journal.state_of([intent("switch"), acknowledged("switch", "a", "failed", problem="down"), acknowledged("switch", "b")])
    assert (state.sound, state.failed_phase, state.problem) == (False, "switch", "down")


def test_verdict_needs_every_host() -> None:
    records = [
        intent("stage"),
        acknowledged("stage", "a", evidence={"checks": 2, "files": 10, "pending": [1], "nothing_to_do": True}),
        acknowledged("stage", "b", evidence={"checks": 3, "files": 11, "pending": [1, 2], "nothing_to_do": False}),
    ]
    found = _journal.verdict(records, "stage", ["a", "b"])
    assert found["status"] == "ok"
    assert found["evidence"] == {"hosts": ["a", "b"], "checks": 5, "files": 11, "pending": [1, 2], "nothing_to_do": False}
    missing = _journal.verdict(records, "stage", ["a", "b", "c"])
    assert (missing["status"], missing["problem"]) == ("failed", "c did not answer")
    assert _journal.verdict([], "stage", ["a"])["status"] == "failed"


def test_verdict_keeps_a_failure_that_was_reported() -> None:
    records = [
        intent("switch"),
        acknowledged("switch", "a", "failed", problem="no health", remedy={"en": "look"}),
        acknowledged("switch", "a"),  # a second report does not take it back
        acknowledged("switch", "b", "failed"),
    ]
    found = _journal.verdict(records, "switch", ["a", "b"])
    assert (found["status"], found["problem"], found["remedy"]) == ("failed", "a: no health; b: failed", {"en": "look"})


def test_a_host_may_report_several_parts() -> None:
    gates = [{"name": "error_rate", "verdict": "pass"}, {"name": "log_errors app1", "verdict": "fail"}]
    records = [
        intent("watch"),
        acknowledged("watch", "app1", evidence={"verdict": "pass", "gates": gates[:1]}),
        acknowledged("watch", "app1", "failed", problem="3 lines", evidence={"verdict": "fail", "gates": gates[1:], "log_errors": {"app1": 3}}),
        acknowledged("watch", "app2", evidence={"log_errors": {"app2": 0}}),
    ]
    found = _journal.verdict(records, "watch", ["app1", "app2"])
    assert (found["status"], found["problem"]) == ("failed", "app1: 3 lines")
    assert found["evidence"] == {"hosts": ["app1", "app2"], "verdict": "fail", "gates": gates, "log_errors": {"app1": 3, "app2": 0}}


def test_a_batch_that_never_began_is_not_blamed() -> None:
    records = [intent("switch"), acknowledged("switch", "a"), acknowledged("switch", "b", "failed", problem="b cannot be reached", remedy={"en": "look"})]
    found = _journal.verdict(records, "switch", ["a", "b", "c"])
    assert (found["status"], found["problem"], found["remedy"]) == ("failed", "b: b cannot be reached", {"en": "look"})


def test_verdict_counts_only_after_the_last_intent_and_its_own_phase() -> None:
    records = [intent("switch"), acknowledged("switch", "a"), intent("switch"), acknowledged("stage", "a")]
    assert _journal.verdict(records, "switch", ["a"])["status"] == "failed"


def test_verdict_of_hosts_that_all_skipped() -> None:
    records = [intent("maintenance_enter"), acknowledged("maintenance_enter", "a", "skipped"), acknowledged("maintenance_enter", "b", "skipped")]
    assert _journal.verdict(records, "maintenance_enter", ["a", "b"])["status"] == "skipped"
    assert _journal.verdict([*records[:2], acknowledged("maintenance_enter", "b")], "maintenance_enter", ["a", "b"])["status"] == "ok"
    assert _journal.verdict(records[:1], "maintenance_enter", [])["status"] == "ok"


def test_seconds_since_the_last_intent(tmp_path: Path) -> None:
    _journal.append(tmp_path, RUN, intent("backup"), now=at(0))
    _journal.append(tmp_path, RUN, intent("backup"), now=at(10))
    records = _journal.read_run(tmp_path, RUN)
    assert _journal.seconds_since_intent(records, "backup", at(11.5)) == 1.5
    assert _journal.seconds_since_intent(records, "migrate", at(11.5)) == 0.0


def test_unfinished_runs_since_the_last_that_came_to_an_end(tmp_path: Path) -> None:
    assert _journal.unfinished(tmp_path, before="9") == []
    for run_id, outcome in (("1", ""), ("2", "deployed"), ("3", ""), ("4", ""), ("5", "")):
        write(tmp_path, {"kind": "opened", "run_id": run_id}, intent("switch" if run_id == "3" else "backup"), run_id=run_id)
        if outcome:
            write(tmp_path, {"kind": "outcome", "outcome": outcome}, run_id=run_id)
    found = _journal.unfinished(tmp_path, before="5")
    assert [state.run_id for state in found] == ["4", "3"]
    assert _journal.reached(found) == ["backup", "switch"]
    assert _journal.run_ids(tmp_path) == ["1", "2", "3", "4", "5"]


# --- one call ---------------------------------------------------------------------------------------------------------


def call(state_dir: Path, record: Record | None = None, *, run_id: str = RUN, seconds: float = 0, **other: t.Any) -> dict[str, t.Any]:  # noqa: ANN401
    options: dict[str, t.Any] = {"hosts": [], "lease_seconds": 0, **other}
    return _journal_call.run(_journal_call.Call(state_dir=state_dir, run_id=run_id, record=record, **options), now=at(seconds))


def wanted(state_dir: Path) -> set[str]:
    """The phases that may be entered now; nothing is written."""
    return {phase for phase in _journal.PHASES if call(state_dir, enter=phase, write=False)["wanted"]}


def test_everything_is_wanted_while_the_run_is_sound(tmp_path: Path) -> None:
    assert wanted(tmp_path) == set(_journal.PHASES)
    write(tmp_path, intent("preflight"), result("preflight", nothing_to_do=False))
    assert wanted(tmp_path) == set(_journal.PHASES)


@pytest.mark.parametrize(
    "record", [result("backup", "failed"), acknowledged("switch", "a", "failed"), {"kind": "request", "what": "roll back"}], ids=["result", "host", "request"]
)
def test_after_a_failure_only_the_way_back_is_wanted(record: Record, tmp_path: Path) -> None:
    write(tmp_path, record)
    assert wanted(tmp_path) == {"rollback", "close"}
    before = _journal.read_run(tmp_path, RUN)
    refused = call(tmp_path, enter="migrate")
    assert (refused["wanted"], refused["record"], refused["seconds"]) == (False, {}, 0.0)
    assert _journal.read_run(tmp_path, RUN) == before
    assert call(tmp_path, enter="rollback")["wanted"] is True
    assert _journal.read_run(tmp_path, RUN)[-1]["phase"] == "rollback"


def test_nothing_to_do_is_only_closed(tmp_path: Path) -> None:
    write(
        tmp_path,
        intent("preflight"),
        acknowledged("preflight", "db1", evidence={"nothing_to_do": True}),
        acknowledged("preflight", "app1", evidence={"nothing_to_do": True}),
    )
    call(tmp_path, {"kind": "verdict", "phase": "preflight"}, hosts=["db1", "app1"])
    assert wanted(tmp_path) == {"close"}
    # Should it fail all the same, what happens next is decided as always.
    write(tmp_path, {"kind": "request", "what": "roll back"})
    assert wanted(tmp_path) == {"rollback", "close"}


def test_a_call_writes_and_tells(tmp_path: Path) -> None:
    write(tmp_path, {"kind": "opened", "run_id": "0", "release": {"id": "r1"}}, intent("switch"), run_id="0")
    entered = call(tmp_path, enter="backup")
    assert (entered["wanted"], entered["record"]["time"]) == (True, "2026-11-21T12:00:00.000000Z")
    done = call(tmp_path, result("backup", size=7), seconds=2.5)
    assert done["seconds"] == done["record"]["seconds"] == 2.5
    assert _journal.read_run(tmp_path, RUN)[-1] == done["record"]
    assert (done["run"]["phases"], done["run"]["evidence"], done["run"]["sound"]) == ({"backup": "ok"}, {"backup": {"size": 7}}, True)
    assert (done["left_over"], done["earlier"][0]["release"], done["reached"]) == (["0"], {"id": "r1"}, ["backup", "switch"])
    assert done["changed"] is False


def test_what_an_outcome_does_not_settle_is_left_over(tmp_path: Path) -> None:
    for run_id, outcome in (("0-a", "deployed"), ("0-b", "needs_human"), ("0-c", ""), ("0-d", "rollback_incomplete")):
        write(tmp_path, {"kind": "opened", "run_id": run_id}, *([{"kind": "outcome", "outcome": outcome}] if outcome else []), run_id=run_id)
    assert call(tmp_path)["left_over"] == ["0-d", "0-c", "0-b"]


def test_the_second_backup_and_what_has_happened_since(tmp_path: Path) -> None:
    def taken(run_id: str) -> list[dict[str, t.Any]]:
        evidence = {"since": {"proxy1": "22:10"}, "second_backup": {"manifest": f"/b/{run_id}", "name": run_id}}
        return [{"kind": "opened", "run_id": run_id}, {"kind": "verdict", "phase": "maintenance_enter", "status": "ok", "evidence": evidence}]

    assert call(tmp_path)["second_backup"] == {}
    write(tmp_path, *taken("0"), run_id="0")
    found = {"manifest": "/b/0", "name": "0", "run_id": "0", "since": {"proxy1": "22:10"}, "left": False}
    assert call(tmp_path)["second_backup"] == found
    # A later run that begins to open the door, here this very one, makes it old.
    write(tmp_path, intent("maintenance_leave"))
    assert call(tmp_path)["second_backup"] == {**found, "left": True}
    write(tmp_path, *taken("1"), intent("maintenance_leave"), run_id="1")
    (tmp_path / "runs" / f"{RUN}.jsonl").unlink()
    assert call(tmp_path)["second_backup"] == {**found, "manifest": "/b/1", "name": "1", "run_id": "1", "left": True}


def test_a_verdict_names_its_host_and_lasts_since_the_intent(tmp_path: Path) -> None:
    call(tmp_path, enter="switch")
    call(tmp_path, acknowledged("switch", "a"))
    judged = call(tmp_path, {"kind": "verdict", "phase": "switch", "host": "db1"}, seconds=4, hosts=["a"])
    assert (judged["record"]["status"], judged["record"]["host"], judged["seconds"]) == ("ok", "db1", 4)
    assert call(tmp_path, {"kind": "verdict", "phase": "switch"}, hosts=["a", "b"])["run"]["failed_phase"] == "switch"


def test_a_gate_opens_for_hosts_that_have_said_so(tmp_path: Path) -> None:
    def gate(*hosts: str) -> bool:
        answer = call(tmp_path, gate="switch", hosts=list(hosts))
        assert answer["record"] == {}
        return bool(answer["wanted"])

    call(tmp_path, enter="switch")
    assert not gate("a")
    call(tmp_path, acknowledged("switch", "a"))
    assert gate("a") and not gate("a", "b")
    call(tmp_path, {"kind": "request", "what": "roll back"})
    assert not gate("a")


def test_check_mode_writes_nothing(tmp_path: Path) -> None:
    shown = call(tmp_path / "state", enter="backup", write=False)
    assert (shown["wanted"], shown["record"], shown["run"]["phases"]) == (True, intent("backup"), {"backup": "started"})
    assert not (tmp_path / "state").exists()


def test_the_newest_run_can_be_read_and_not_written(tmp_path: Path) -> None:
    assert call(tmp_path, run_id="")["run"]["run_id"] == ""
    for run_id in ("1", "2"):
        write(tmp_path, {"kind": "opened", "run_id": run_id}, run_id=run_id)
    assert call(tmp_path, run_id="")["run"]["run_id"] == "2"
    with pytest.raises(LastroError, match="run_id is empty"):
        call(tmp_path, enter="backup", run_id="")
    assert len(_journal.read_run(tmp_path, "2")) == 1


def test_the_lease_is_renewed_in_the_same_call(tmp_path: Path) -> None:
    _lock.take(tmp_path, _lock.Request(run_id=RUN, lease_seconds=120), now=at(0))
    call(tmp_path, enter="backup", seconds=60, lease_seconds=120, write=False)
    assert _lock.holder_of(tmp_path)["expires_at"] == "2026-11-21T12:02:00.000000Z"
    call(tmp_path, enter="backup", seconds=60, lease_seconds=120)
    assert _lock.holder_of(tmp_path)["expires_at"] == "2026-11-21T12:03:00.000000Z"
    _lock.take(tmp_path, _lock.Request(run_id="other", lease_seconds=120, force_run_id=RUN))
    with pytest.raises(LastroError, match="has lost the lock to other"):
        call(tmp_path, result("backup"), lease_seconds=120)
    assert [record["kind"] for record in _journal.read_run(tmp_path, RUN)] == ["intent"]


def test_module(tmp_path: Path, call_module: CallModule) -> None:
    options = {"state_dir": str(tmp_path / "state"), "run_id": RUN}
    assert call_module(journal_module, check=True, **options, enter="backup")["wanted"] is True
    assert not (tmp_path / "state").exists()
    written = call_module(journal_module, **options, enter="backup")
    assert written["changed"] is False
    assert _journal.read_run(tmp_path / "state", RUN) == [written["record"]]
    read = call_module(journal_module, state_dir=str(tmp_path / "state"))
    assert (read["run"]["phases"], read["record"]) == ({"backup": "started"}, {})
    lost = call_module(journal_module, **options, lease_seconds=60)
    assert lost["failed"] and "has lost the lock to nobody" in lost["msg"]


def test_the_call_that_ends_a_phase_enters_the_next(tmp_path: Path) -> None:
    call(tmp_path, enter="backup")
    turned = call(tmp_path, result("backup", size=7), seconds=2, enter="migrate")
    assert (turned["wanted"], turned["record"]["kind"], turned["seconds"]) == (True, "result", 2)
    assert [(record["kind"], record["phase"]) for record in _journal.read_run(tmp_path, RUN)] == [
        ("intent", "backup"),
        ("result", "backup"),
        ("intent", "migrate"),
    ]
    assert turned["run"]["phases"] == {"backup": "ok", "migrate": "started"}
    assert call(tmp_path, result("migrate", "failed"), enter="validate")["wanted"] is False
    assert [record["phase"] for record in _journal.read_run(tmp_path, RUN)] == ["backup", "backup", "migrate", "migrate"]


def test_a_record_that_enters_nothing_wants_nothing(tmp_path: Path) -> None:
    assert call(tmp_path, result("backup"))["wanted"] is False
    assert call(tmp_path)["wanted"] is False
