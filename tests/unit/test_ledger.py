# SPDX-License-Identifier: GPL-3.0-or-later
"""The ledger: which releases are there, which one serves, and which may be removed."""

from __future__ import annotations

import collections.abc
import datetime
import json
import stat
import typing as t
from pathlib import Path

import pytest
from ansible_collections.lastro.deploy.plugins.module_utils import _ledger
from ansible_collections.lastro.deploy.plugins.module_utils._errors import LastroError
from ansible_collections.lastro.deploy.plugins.module_utils._ledger import Ledger, Release
from ansible_collections.lastro.deploy.plugins.modules import ledger as ledger_module
from hypothesis import given
from hypothesis import strategies as st

CallModule = collections.abc.Callable[..., dict[str, t.Any]]


def at(hour: int) -> collections.abc.Callable[[], datetime.datetime]:
    return lambda: datetime.datetime(2026, 11, 21, hour, tzinfo=datetime.UTC)


def history(*events: tuple[str, str, bool | None]) -> Ledger:
    """A ledger after (release, state, live) events, one an hour."""
    ledger = Ledger()
    for hour, (release, state, live) in enumerate(events):
        ledger = _ledger.record(ledger, Release(release, state=state), live=live, now=at(hour))
    return ledger


FIVE = [(f"r{number}", "good", True) for number in range(1, 6)]


def test_retention_keeps_the_live_the_last_good_and_the_newest_good() -> None:
    ledger = history(*FIVE)
    assert ledger.live == "r5"
    assert ledger.prunable(2) == ("r1", "r2", "r3")
    assert ledger.prunable(5) == ()
    # The live one stays, however old.
    back = _ledger.record(ledger, Release("r1", state="good", run_id="rollback"), live=True, now=at(9))
    assert back.prunable(1) == ("r2", "r3", "r4", "r5")
    old_and_live = Ledger(ledger.releases, live="r1")
    assert old_and_live.prunable(1) == ("r2", "r3", "r4")
    assert old_and_live.prunable(0) == ("r2", "r3", "r4", "r5")
    # Nothing serves: the last good one is kept as what there is to go back to.
    assert Ledger(ledger.releases).prunable(0) == ("r1", "r2", "r3", "r4")


def test_bad_and_unfinished_ones_count_for_nothing_and_outlive_the_failure() -> None:
    failed = history(*FIVE, ("r6", "bad", False), ("r7", "unfinished", None))
    assert failed.prunable(5) == ()
    assert failed.prunable(2) == ("r1", "r2", "r3")
    assert _ledger.record(failed, Release("r8", state="good"), live=True, now=at(9)).prunable(9) == ("r6", "r7")
    assert history(("r1", "bad", None), ("r2", "unfinished", None)).prunable(0) == ()


def test_rollback_targets_are_good_ones_alone() -> None:
    assert Ledger().last_good() is None
    assert history(("r1", "unfinished", None), ("r2", "bad", True)).last_good() is None
    ledger = history(("r1", "good", True), ("r2", "good", True), ("r3", "unfinished", None), ("r4", "bad", None))
    good = ledger.last_good()
    assert good and good.id == "r2"
    other = ledger.last_good(besides="r2")
    assert other and other.id == "r1"
    # Where a bad one serves, the one that was verified last.
    fallen = Ledger(ledger.releases, live="r4").last_good()
    assert fallen and fallen.id == "r2"


releases = st.tuples(st.integers(1, 6).map("r{}".format), st.sampled_from(_ledger.STATES), st.sampled_from([None, True, False]))


@given(events=st.lists(releases, max_size=12), keep=st.integers(0, 4))
def test_what_holds_after_any_history(events: list[tuple[str, str, bool | None]], keep: int) -> None:
    ledger = history(*events)
    ids = [release.id for release in ledger.releases]
    assert len(ids) == len(set(ids))
    assert ledger.live in {"", *ids}
    prunable = set(ledger.prunable(keep))
    good = [release for release in ledger.releases if release.state == "good"]
    target = ledger.last_good()
    assert (target is None) is (not good)
    assert ledger.live not in prunable
    if target:
        assert target.state == "good" and target.id not in prunable
    newest = sorted(good, key=lambda release: release.verified)[-keep:] if keep else []
    assert not prunable & {release.id for release in newest}
    assert len([release for release in good if release.id not in prunable]) <= keep + 2


def test_recording() -> None:
    staged = _ledger.record(Ledger(), Release("r1", "v1", "abc", run_id="run-1"), now=at(1))
    assert staged.releases == (Release("r1", "v1", "abc", "unfinished", "run-1", (), "2026-11-21T01:00:00.000000Z", ""),)
    assert staged.live == ""
    good = _ledger.record(staged, Release("r1", state="good", run_id="run-1", revisions=("a1",)), live=True, now=at(2))
    first = Release("r1", "v1", "abc", "good", "run-1", ("a1",), "2026-11-21T01:00:00.000000Z", "2026-11-21T02:00:00.000000Z")
    assert good == Ledger((first,), "r1")
    # Said once more it is the same; staged again it stays good; verified by another run it is newer.
    assert _ledger.record(good, Release("r1", state="good", run_id="run-1"), live=True, now=at(3)) == good
    again = _ledger.record(good, Release("r1", run_id="run-2"), now=at(3)).get("r1")
    assert again and (again.state, again.verified, again.revisions, again.run_id) == ("good", first.verified, ("a1",), "run-2")
    newer = _ledger.record(good, Release("r1", state="good", run_id="run-2"), now=at(3)).get("r1")
    assert newer and newer.verified == "2026-11-21T03:00:00.000000Z"
    # A rollback names the release alone, and keeps what is known of it.
    bad = _ledger.record(good, Release("r1", state="bad"), live=False, now=at(3))
    known = bad.get("r1")
    assert known and (known.state, known.version, known.run_id, known.revisions, bad.live) == ("bad", "v1", "run-1", ("a1",), "")
    assert bad.get("r9") is None


def test_live() -> None:
    ledger = history(("r1", "good", True), ("r2", "unfinished", None))
    assert ledger.live == "r1"
    assert _ledger.record(ledger, Release("r2"), live=False).live == "r1"
    assert _ledger.record(ledger, Release("r1"), live=False).live == ""
    assert _ledger.forget(ledger, ["r2", "r9"]) == Ledger(ledger.releases[:1], "r1")
    assert _ledger.forget(ledger, ["r1"]) == Ledger(ledger.releases[1:], "")


def test_file(tmp_path: Path) -> None:
    path = tmp_path / "state" / "ledger.json"
    assert _ledger.load(path) == Ledger()
    ledger = _ledger.record(history(*FIVE), Release("r6", state="good", revisions=("a", "b")), live=True)
    _ledger.save(path, ledger)
    assert _ledger.load(path) == ledger
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    # What an older version of the collection wrote.
    path.write_text('{"releases": [{"id": "r1", "state": "good"}]}', encoding="utf-8")
    assert _ledger.load(path) == Ledger((Release("r1", state="good"),))


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"releases": [{"id": "r1", "colour": "red"}]}', '{"releases": [7]}'])
def test_a_file_that_cannot_be_understood(content: str, tmp_path: Path, call_module: CallModule) -> None:
    path = tmp_path / "ledger.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(LastroError, match=r"ledger\.json is damaged"):
        _ledger.load(path)
    refused = call_module(ledger_module, state_dir=str(tmp_path), release="r1")
    assert refused["failed"] and refused["remedy"]["pt_BR"]
    assert path.read_text(encoding="utf-8") == content


def test_module(tmp_path: Path, call_module: CallModule) -> None:
    state_dir = tmp_path / "state"
    options: dict[str, t.Any] = {
        "state_dir": str(state_dir),
        "release": "r2",
        "version": "v2",
        "sha256": "abc",
        "run_id": "run-1",
        "state": "good",
        "live": True,
    }
    assert call_module(ledger_module, state_dir=str(state_dir)) | {"invocation": {}} == {
        "changed": False,
        "diff": {"before": {"live": "", "releases": []}, "after": {"live": "", "releases": []}},
        "last_good": {},
        "live": "",
        "prunable": [],
        "releases": [],
        "invocation": {},
    }
    checked = call_module(ledger_module, check=True, **options)
    assert (checked["changed"], checked["live"], state_dir.exists()) == (True, "r2", False)
    recorded = call_module(ledger_module, **options, revisions=["a1"])
    assert (recorded["changed"], recorded["live"], recorded["last_good"]) == (True, "r2", {})
    assert json.loads((state_dir / "ledger.json").read_text(encoding="utf-8")) == {"live": "r2", "releases": recorded["releases"]}
    assert call_module(ledger_module, **options, revisions=["a1"])["changed"] is False
    assert call_module(ledger_module, state_dir=str(state_dir))["last_good"]["revisions"] == ["a1"]
    call_module(ledger_module, **{**options, "release": "r3", "run_id": "run-2"})
    pruned = call_module(ledger_module, state_dir=str(state_dir), keep=0)
    assert (pruned["prunable"], pruned["changed"]) == (["r2"], False)
    forgotten = call_module(ledger_module, state_dir=str(state_dir), forget=["r2"])
    assert (forgotten["changed"], [release["id"] for release in forgotten["releases"]]) == (True, ["r3"])


def test_module_on_a_directory_that_cannot_be(tmp_path: Path, call_module: CallModule) -> None:
    (tmp_path / "file").touch()
    refused = call_module(ledger_module, state_dir=str(tmp_path / "file"), release="r1")
    assert refused["failed"] and "cannot be written" in refused["msg"]
