# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What retention removes, and what it never does; what of an upload's settings is a secret."""

from __future__ import annotations

import json
import typing as t
from pathlib import Path

import pytest
from ansible_collections.lastro.deploy.plugins.module_utils import _backup_info, _backup_retention, _backup_upload, _journal, _rclone
from ansible_collections.lastro.deploy.plugins.module_utils._backup_manifest import SECONDS_PER_DAY, Manifest
from ansible_collections.lastro.deploy.plugins.module_utils._backup_retention import Retention
from ansible_collections.lastro.deploy.plugins.module_utils._errors import LastroError
from hypothesis import given
from hypothesis import strategies as st

from .test_backup_pieces import NOW, manifest

AGES = st.lists(st.integers(min_value=0, max_value=90), max_size=12).map(sorted)
OUTCOMES = ["deployed", "nothing_to_do", "failed_nothing_changed", "rolled_back", "rollback_incomplete", "needs_human", ""]


def backups(ages: t.Sequence[int]) -> list[Manifest]:
    """Good ones, newest first, each of a run of its own."""
    return [manifest(f"b{index}", age_days=age, run_id=f"run-{index}") for index, age in enumerate(ages)]


@given(AGES, st.integers(min_value=0, max_value=60), st.integers(min_value=1, max_value=6), st.sets(st.integers(min_value=0, max_value=12)), st.booleans())
def test_the_plan(ages: list[int], days: int, least: int, pinned: set[int], named: bool) -> None:
    history = backups(ages)
    keep = frozenset(f"{'b' if named else 'run-'}{index}" for index in pinned)
    retention = Retention(days, least, keep)
    gone = _backup_retention.plan(history, retention, now=NOW)
    left = [one for one in history if one not in gone]
    assert len(left) >= min(least, len(history))
    assert left[:1] == history[:1]
    assert all((NOW - one.timestamp) / SECONDS_PER_DAY > days for one in gone)
    assert not {one.name for one in gone} & keep and not {one.run_id for one in gone} & keep
    assert all((NOW - one.timestamp) / SECONDS_PER_DAY <= days for one in left[least:] if not {one.name, one.run_id} & keep)
    coming = _backup_retention.plan(history, retention, now=NOW, coming="new")
    assert {one.name for one in gone} <= {one.name for one in coming}  # the new one counts as one of the newest
    assert len(history) + 1 - len(coming) >= min(least, len(history) + 1)


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_a_run_that_did_not_end_well_pins_its_backups(tmp_path: Path, outcome: str) -> None:
    history = [*backups([0]), manifest("old", age_days=99, run_id="run-x"), manifest("old-drained", age_days=99, run_id="run-x")]
    _journal.append(tmp_path, "run-x", {"kind": "opened", "run_id": "run-x"})
    if outcome:
        _journal.append(tmp_path, "run-x", {"kind": "outcome", "outcome": outcome})
    gone = _backup_retention.plan(history, Retention(30, 1, state_dir=tmp_path), now=NOW)
    assert [one.name for one in gone] == (["old", "old-drained"] if outcome in ("deployed", "nothing_to_do") else [])
    assert len(_backup_retention.plan(history, Retention(30, 1), now=NOW)) == 2


def test_a_backup_by_hand_has_no_journal_and_a_damaged_journal_pins(tmp_path: Path) -> None:
    history = [*backups([0]), manifest("hand", age_days=99), manifest("manual-1", age_days=99, run_id="manual-1"), manifest("torn", age_days=99, run_id="torn")]
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "torn.jsonl").write_text(json.dumps({"kind": "outcome"}) + "\n", encoding="utf-8")
    assert [one.name for one in _backup_retention.plan(history, Retention(30, 1, state_dir=tmp_path), now=NOW)] == ["hand", "manual-1"]


@pytest.mark.parametrize(("days", "least"), [(-1, 5), (30, 0)])
def test_a_retention_that_could_remove_the_last_good_one(days: int, least: int) -> None:
    with pytest.raises(LastroError, match="the last good backup is never removed"):
        _backup_retention.from_params({"days": days, "keep_at_least": least, "keep": [], "state_dir": None})


def test_what_of_the_settings_is_a_secret() -> None:
    params = {"config": {"type": "s3", "env_auth": False, "access_key_id": "AKID4711", "secret_access_key": "hush-hush", "tuning": {"a": 1}, "none": None}}
    assert _backup_upload.ordinary_values(params) == {"s3", "false"}
    assert _backup_upload.ordinary_values(None) == set()
    store = _rclone.Store("rclone", "off", "b/a", {"type": "s3", "secret_access_key": "hush-hush"}, 20)
    assert "hush" not in repr(store)
    assert store.redact("s3: hush-hush was wrong") == "s3: ******** was wrong"
    assert store.environment()["RCLONE_CONFIG_OFF_SECRET_ACCESS_KEY"] == "hush-hush"


def test_what_the_task_sets_for_rclone_reaches_it_but_no_other_remote(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RCLONE_CA_CERT", "/etc/ssl/our.pem")
    monkeypatch.setenv("RCLONE_CONFIG_OFF_ENDPOINT", "http://elsewhere")
    given = _rclone.Store("rclone", "off", "b", {"type": "s3"}, 20).environment()
    assert (given["RCLONE_CA_CERT"], given["RCLONE_CONFIG"]) == ("/etc/ssl/our.pem", "/dev/null")
    assert "RCLONE_CONFIG_OFF_ENDPOINT" not in given
    own = _rclone.Store("rclone", "off", "b", {}, 20).environment()
    assert own["RCLONE_CONFIG_OFF_ENDPOINT"] == "http://elsewhere" and "RCLONE_CONFIG" not in own


def test_the_log_of_rclone_is_read_as_it_grows(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("w+b", buffering=0) as stream:
        log = _rclone.Log(stream)
        stream.write(b'{"level":"notice","stats":{"bytes":70000}}\n{"level":"error","msg":"first')
        log.read()
        assert (log.bytes, log.complaint) == (70000, "")
        stream.write(b' cause"}\n{"level":"notice","msg":"all is well"}\n')
        log.read()
        assert (log.bytes, log.complaint) == (70000, "first cause")
        stream.write(b"panic: out of memory\n")
        log.read()
        assert log.complaint == "panic: out of memory"


def test_a_program_that_cannot_be_run(tmp_path: Path) -> None:
    (tmp_path / "rclone").write_bytes(b"\x7fELF not really")
    (tmp_path / "rclone").chmod(0o755)
    store = _rclone.Store(str(tmp_path / "rclone"), "off", "b", {"type": "s3"}, 20)
    with pytest.raises(LastroError, match="could not be run: Exec format error"):
        _rclone.files(store)


def test_what_the_list_says_of_each() -> None:
    one = manifest("b1", age_days=1)
    facts = _backup_info.facts_of([_backup_info.Backup(one, "", None), _backup_info.Backup(one, "its file is missing", False)], NOW)
    first, second = facts["text"]["pt_BR"].splitlines()
    assert first.endswith("read  bom") and "há 24h 00m" in first
    assert second.endswith("its file is missing, só aqui")
    assert facts["newest_good"] == "b1"
    assert _backup_info.as_text([], "pt_BR") == "nenhum backup"


def test_a_stopped_program_with_no_words_is_told_by_its_status(tmp_path: Path) -> None:
    program = tmp_path / "rclone"
    program.write_text("#!/bin/sh\nexit 7\n", encoding="utf-8")
    program.chmod(0o755)
    with pytest.raises(LastroError, match="off:b: exit status 7"):
        _rclone.files(_rclone.Store(str(program), "off", "b", {"type": "s3"}, 20))
    program.write_text("#!/bin/sh\nkill -9 $$\n", encoding="utf-8")
    with pytest.raises(LastroError, match="ended by signal 9"):
        _rclone.files(_rclone.Store(str(program), "off", "b", {"type": "s3"}, 20))
