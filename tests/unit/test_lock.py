# SPDX-License-Identifier: GPL-3.0-or-later
"""The lease lock: one winner, an end that runs out, and takeovers that need no force or name the very run."""

from __future__ import annotations

import collections.abc
import datetime
import json
import multiprocessing
import os
import signal
import stat
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
from ansible_collections.lastro.deploy.plugins.module_utils import _controller, _lock
from ansible_collections.lastro.deploy.plugins.module_utils._errors import LastroError
from ansible_collections.lastro.deploy.plugins.modules import lock as lock_module

NOON = datetime.datetime(2026, 11, 21, 12, 0, 0, tzinfo=datetime.UTC)
ROUNDS = 50
CallModule = collections.abc.Callable[..., dict[str, t.Any]]


def at(seconds: float) -> collections.abc.Callable[[], datetime.datetime]:
    """A clock that stands *seconds* after noon."""
    return lambda: NOON + datetime.timedelta(seconds=seconds)


def request(run_id: str, **other: t.Any) -> _lock.Request:  # noqa: ANN401 - as Request takes them
    return _lock.Request(run_id=run_id, lease_seconds=120, **other)


def on_disk(state_dir: Path) -> dict[str, t.Any]:
    found: dict[str, t.Any] = json.loads((state_dir / "lock.json").read_text(encoding="utf-8"))
    return found


def race(name: str, base: Path, barrier: t.Any, wins: t.Any) -> None:  # noqa: ANN401 - multiprocessing's own types
    """Try for the lock of each round at the same moment as the other process."""
    for number in range(ROUNDS):
        barrier.wait()
        try:
            _lock.take(base / str(number), request(name))
            wins.put((number, name))
        except LastroError as error:
            assert "is held by" in error.message


def test_of_two_processes_one_wins(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    barrier, wins = context.Barrier(2), context.Queue()
    racers = [context.Process(target=race, args=(name, tmp_path, barrier, wins)) for name in ("a", "b")]
    for racer in racers:
        racer.start()
    won = dict(wins.get(timeout=60) for _unused in range(ROUNDS))
    for racer in racers:
        racer.join(60)
        assert racer.exitcode == 0
    assert wins.empty()
    assert sorted(won) == list(range(ROUNDS))
    for number, name in won.items():
        assert on_disk(tmp_path / str(number))["run_id"] == name


def test_take_says_who_has_it_and_until_when(tmp_path: Path) -> None:
    state_dir = tmp_path / "new" / "state"
    taken, other = _lock.take(state_dir, request("r-1", actor="ana", reason="release day", controller={"pid": 7}), now=at(0))
    assert other == {}
    assert (
        on_disk(state_dir)
        == taken
        == {
            "run_id": "r-1",
            "actor": "ana",
            "reason": "release day",
            "controller": {"pid": 7},
            "since": "2026-11-21T12:00:00.000000Z",
            "expires_at": "2026-11-21T12:02:00.000000Z",
        }
    )
    assert stat.S_IMODE((state_dir / "lock.json").stat().st_mode) == 0o600
    with pytest.raises(LastroError, match=r"held by ana \(run r-1\) since 2026-11-21T12:00:00Z; the lease runs until 2026-11-21T12:02:00Z") as caught:
        _lock.take(state_dir, request("r-2"), now=at(119))
    assert caught.value.facts["holder"] == taken
    assert "deploy_force_unlock=r-1" in caught.value.remedy.en and "deploy_force_unlock=r-1" in caught.value.remedy.pt_BR
    assert on_disk(state_dir) == taken


def test_ones_own_lock_is_pushed_on(tmp_path: Path) -> None:
    first, _unused = _lock.take(tmp_path, request("r-1", actor="ana"), now=at(0))
    again, other = _lock.take(tmp_path, request("r-1", actor="bob"), now=at(60))
    assert other == {}
    assert again == {**first, "expires_at": "2026-11-21T12:03:00.000000Z"}


def test_an_expired_lease_is_taken_over(tmp_path: Path) -> None:
    first, _unused = _lock.take(tmp_path, request("r-1"), now=at(0))
    with pytest.raises(LastroError):
        _lock.take(tmp_path, request("r-2"), now=at(119.999))
    taken, other = _lock.take(tmp_path, request("r-2"), now=at(120))
    assert other == first
    assert on_disk(tmp_path)["run_id"] == taken["run_id"] == "r-2"


def test_renew(tmp_path: Path) -> None:
    _lock.take(tmp_path, request("r-1"), now=at(0))
    # Expired but nobody took it: it is still one's own.
    renewed = _lock.renew(tmp_path, "r-1", 120, now=at(500))
    assert on_disk(tmp_path) == renewed
    assert renewed["expires_at"] == "2026-11-21T12:10:20.000000Z"
    _lock.take(tmp_path, request("r-2"), now=at(700))
    with pytest.raises(LastroError, match="Run r-1 has lost the lock to r-2") as caught:
        _lock.renew(tmp_path, "r-1", 120, now=at(701))
    assert caught.value.facts["holder"] == on_disk(tmp_path)
    assert on_disk(tmp_path)["run_id"] == "r-2"
    assert _lock.release(tmp_path, "r-2") is True
    with pytest.raises(LastroError, match="to nobody"):
        _lock.renew(tmp_path, "r-1", 120)


@pytest.mark.parametrize("option", ["dead_run_id", "force_run_id"])
def test_takeover_names_the_very_run(option: str, tmp_path: Path) -> None:
    first, _unused = _lock.take(tmp_path, request("r-1"), now=at(0))
    with pytest.raises(LastroError):
        _lock.take(tmp_path, request("r-2", **{option: "r-0"}), now=at(1))
    assert on_disk(tmp_path) == first
    _unused, other = _lock.take(tmp_path, request("r-2", **{option: "r-1"}), now=at(1))
    assert other == first
    # The same words do nothing once somebody else has it.
    with pytest.raises(LastroError):
        _lock.take(tmp_path, request("r-3", **{option: "r-1"}), now=at(2))


def test_release_leaves_anothers_lock_alone(tmp_path: Path) -> None:
    assert _lock.release(tmp_path, "r-1") is False
    _lock.take(tmp_path, request("r-1"), now=at(0))
    before = on_disk(tmp_path)
    assert _lock.release(tmp_path, "r-2") is False
    assert on_disk(tmp_path) == before
    assert _lock.release(tmp_path, "r-1", write=False) is True
    assert on_disk(tmp_path) == before
    assert _lock.release(tmp_path, "r-1") is True
    assert not (tmp_path / "lock.json").exists()
    assert _lock.holder_of(tmp_path) == {}


def test_a_holder_that_was_killed_is_known_on_its_machine(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout and process.stdout.readline()
        _lock.take(tmp_path, request("r-1", controller=_controller.this_controller(process.pid)))
        holder = _lock.holder_of(tmp_path)
        assert not _controller.has_died(holder["controller"])
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert _controller.has_died(holder["controller"])
    _unused, other = _lock.take(tmp_path, request("r-2", dead_run_id=holder["run_id"]))
    assert other == holder


@pytest.mark.parametrize("content", [b"", b"{", b"null", b"[1]", b"{}", b'{"run_id": "r-1"}', b"\xff"])
def test_a_file_that_says_nothing_holds_nothing(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "lock.json").write_bytes(content)
    assert _lock.holder_of(tmp_path) == {}
    _lock.take(tmp_path, request("r-2"))
    assert on_disk(tmp_path)["run_id"] == "r-2"


def test_a_directory_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LastroError, match=r"lock\.json cannot be written: Not a directory"):
        _lock.take(tmp_path / "file" / "state", request("r-1"))


def test_a_full_disk_leaves_the_holder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, _unused = _lock.take(tmp_path, request("r-1"))

    def full(*_arguments: object) -> t.NoReturn:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(LastroError, match="No space left on device"):
        _lock.renew(tmp_path, "r-1", 120)
    monkeypatch.undo()
    assert on_disk(tmp_path) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lock.guard", "lock.json"]


def test_module(tmp_path: Path, call_module: CallModule) -> None:
    state_dir = tmp_path / "state"
    options = {"state_dir": str(state_dir), "run_id": "r-1", "actor": "ana"}
    checked = call_module(lock_module, check=True, **options)
    assert (checked["changed"], checked["holder"]["run_id"]) == (True, "r-1")
    assert not state_dir.exists()
    assert call_module(lock_module, check=True, **options, state="absent")["changed"] is False
    assert not state_dir.exists()

    taken = call_module(lock_module, **options)
    assert (taken["changed"], taken["taken_over"], taken["diff"]["before"]) == (True, {}, {})
    assert taken["holder"] == on_disk(state_dir)
    assert call_module(lock_module, **options)["changed"] is False

    before = (state_dir / "lock.json").read_bytes()
    refused = call_module(lock_module, **{**options, "run_id": "r-2"})
    assert refused["failed"] and refused["holder"]["run_id"] == "r-1" and refused["remedy"]["pt_BR"]
    assert call_module(lock_module, **{**options, "run_id": "r-2"}, state="absent")["holder"]["run_id"] == "r-1"
    forced = call_module(lock_module, check=True, **{**options, "run_id": "r-2"}, force_run_id="r-1")
    assert (forced["changed"], forced["taken_over"]["run_id"]) == (True, "r-1")
    released = call_module(lock_module, check=True, **options, state="absent")
    assert (released["changed"], released["holder"]) == (True, {})
    assert (state_dir / "lock.json").read_bytes() == before

    assert call_module(lock_module, **options, state="absent")["changed"] is True
    assert not (state_dir / "lock.json").exists()
    assert call_module(lock_module, **options, state="absent")["changed"] is False
