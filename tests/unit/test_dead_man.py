# SPDX-License-Identifier: GPL-3.0-or-later
"""The dead-man timer without waiting: time passes when the timer sleeps."""

from __future__ import annotations

import collections.abc
import http.server
import io
import json
import stat
import threading
from pathlib import Path

import pytest
from ansible_collections.lastro.deploy.plugins.module_utils import _dead_man as dead_man
from ansible_collections.lastro.deploy.plugins.module_utils._dead_man import Timer, World, decide


class Fake:
    """A world whose clock moves only while something sleeps; *meanwhile* happens at the given second."""

    def __init__(self, *, answering: collections.abc.Iterable[bool] = ()) -> None:
        self.now = 1_800_000_000.0
        self.start = self.now
        self.answering = list(answering)
        self.probed: list[str] = []
        self.meanwhile: dict[float, collections.abc.Callable[[], object]] = {}

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        for second in [second for second in self.meanwhile if self.start + second <= self.now]:
            self.meanwhile.pop(second)()

    def answers(self, url: str) -> bool:
        self.probed.append(url)
        return self.answering.pop(0) if self.answering else False

    @property
    def world(self) -> World:
        return World(lambda: self.now, self.sleep, self.answers)

    @property
    def passed(self) -> float:
        return self.now - self.start


@pytest.fixture
def timer(tmp_path: Path) -> Timer:
    return Timer(tmp_path / "timers", "maintenance")


def flag_spec(path: Path, run_id: str = "run-1") -> dict[str, object]:
    return {"run_id": run_id, "revert": [{"kind": "remove_flag", "path": str(path), "run_id": run_id}]}


@pytest.mark.parametrize(
    ("deadline", "claimed", "fired", "now", "expected"),
    [
        (10.0, False, False, 9.9, "wait"),
        (10.0, False, False, 10.0, "fire"),
        (None, False, False, 0.0, "disarmed"),
        (None, True, False, 0.0, "fire"),
        (10.0, False, True, 99.0, "fired"),
        (None, False, True, 0.0, "fired"),
        (None, True, True, 0.0, "fired"),
    ],
)
def test_decide(deadline: float | None, claimed: bool, fired: bool, now: float, expected: str) -> None:
    assert decide(deadline, claimed=claimed, fired=fired, now=now) == expected


def test_it_fires_when_the_time_has_passed_and_records_what_it_did(timer: Timer, tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    flag.write_text(json.dumps({"run_id": "run-1", "by": "ci"}), encoding="utf-8")
    fake = Fake()
    assert dead_man.arm(timer, flag_spec(flag), 60, fake.world) == {"armed": True, "run_id": "run-1", "seconds_left": 60}
    assert {stat.S_IMODE(path.stat().st_mode) for path in (timer.spec, timer.deadline)} == {0o600}
    assert json.loads(timer.spec.read_text(encoding="utf-8"))["deadline_file"] == str(timer.deadline)
    assert dead_man.run(timer, fake.world) == "fired"
    assert 60 <= fake.passed <= 61
    assert not flag.exists()
    record = json.loads(timer.fired.read_text(encoding="utf-8"))
    assert (record["name"], record["run_id"], record["when"]) == ("maintenance", "run-1", "2027-01-15T08:01:00Z")
    assert [item["result"] for item in record["what"]] == ["removed"]
    assert not timer.deadline.exists()
    assert not timer.firing.exists()
    # Started again (a restart of the machine): nothing is done twice.
    flag.write_text(json.dumps({"run_id": "run-1"}), encoding="utf-8")
    assert dead_man.run(timer, fake.world) == "fired"
    assert flag.exists()


def test_renewing_postpones(timer: Timer, tmp_path: Path) -> None:
    fake = Fake()
    dead_man.arm(timer, flag_spec(tmp_path / "flag"), 10, fake.world)
    other = Timer(timer.directory, "other")
    dead_man.arm(other, flag_spec(tmp_path / "flag", "run-2"), 10, fake.world)
    before = other.deadline.read_text(encoding="utf-8")
    renewed: list[list[str]] = []
    fake.meanwhile = {9: lambda: renewed.append(dead_man.renew(timer.directory, "run-1", 10, fake.world))}
    assert dead_man.run(timer, fake.world) == "fired"
    assert 19 <= fake.passed <= 20
    assert renewed == [["maintenance"]]
    assert other.deadline.read_text(encoding="utf-8") == before
    assert dead_man.renew(tmp_path / "none", "run-1", 10, fake.world) == []


def test_disarming_stops_it(timer: Timer, tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    flag.write_text(json.dumps({"run_id": "run-1"}), encoding="utf-8")
    fake = Fake()
    dead_man.arm(timer, flag_spec(flag), 10, fake.world)
    assert dead_man.disarm(timer, "run-2", fake.world) == {"disarmed": False, "run_id": "run-1", "fired": None, "changed": False}
    fake.meanwhile = {5: lambda: dead_man.disarm(timer, "run-1", fake.world)}
    assert dead_man.run(timer, fake.world) == "disarmed"
    assert flag.exists()
    assert list(timer.directory.iterdir()) == []
    assert dead_man.disarm(timer, "run-1", fake.world)["changed"] is False


def test_whoever_disarms_too_late_learns_what_was_done(timer: Timer, tmp_path: Path) -> None:
    fake = Fake()
    dead_man.arm(timer, flag_spec(tmp_path / "none"), 10, fake.world)
    dead_man.run(timer, fake.world)
    result = dead_man.disarm(timer, "run-1", fake.world)
    assert result["changed"] is True
    assert result["fired"]["what"][0]["result"] == "absent"
    assert list(timer.directory.iterdir()) == []


def test_a_revert_that_is_under_way_is_waited_for(timer: Timer, tmp_path: Path) -> None:
    fake = Fake()
    dead_man.arm(timer, flag_spec(tmp_path / "none"), 10, fake.world)
    timer.deadline.rename(timer.firing)
    fake.meanwhile = {2: lambda: dead_man.fire(timer, fake.world)}
    assert dead_man.disarm(timer, "run-1", fake.world)["fired"]["run_id"] == "run-1"
    assert fake.passed == 2


def test_a_revert_that_was_killed_is_done_again(timer: Timer, tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    flag.write_text(json.dumps({"run_id": "run-1"}), encoding="utf-8")
    fake = Fake()
    dead_man.arm(timer, flag_spec(flag), 10, fake.world)
    timer.deadline.rename(timer.firing)
    assert dead_man.run(timer, fake.world) == "fired"
    assert not flag.exists()


def test_one_of_two_that_meet_wins(timer: Timer, tmp_path: Path) -> None:
    fake = Fake()
    dead_man.arm(timer, flag_spec(tmp_path / "none"), 0, fake.world)
    real = timer.deadline
    read = fake.now

    def clock() -> float:
        # Between the look at the deadline and the claim somebody disarms.
        real.unlink(missing_ok=True)
        return read

    assert dead_man.run(timer, World(clock, fake.sleep, fake.answers)) == "disarmed"


def test_another_runs_timer_is_left_alone_until_it_has_run_out(timer: Timer, tmp_path: Path) -> None:
    fake = Fake()
    dead_man.arm(timer, flag_spec(tmp_path / "none"), 10, fake.world)
    fake.sleep(4)
    assert dead_man.arm(timer, flag_spec(tmp_path / "none", "run-2"), 10, fake.world) == {"armed": False, "run_id": "run-1", "seconds_left": 6.0}
    assert dead_man.arm(timer, flag_spec(tmp_path / "none", "run-1"), 10, fake.world)["armed"] is True
    fake.sleep(10)
    assert dead_man.arm(timer, flag_spec(tmp_path / "none", "run-2"), 10, fake.world)["armed"] is True


@pytest.mark.parametrize("content", ["", "by hand", '{"by": "Ana"}', '{"run_id": "run-2"}', "[1]", "7"])
def test_a_flag_that_is_not_ours_stays(timer: Timer, tmp_path: Path, content: str) -> None:
    flag = tmp_path / "flag"
    flag.write_text(content, encoding="utf-8")
    fake = Fake()
    dead_man.arm(timer, flag_spec(flag), 1, fake.world)
    dead_man.run(timer, fake.world)
    assert flag.read_text(encoding="utf-8") == content
    assert json.loads(timer.fired.read_text(encoding="utf-8"))["what"][0]["result"] == "kept: not ours"


def slot_item(directory: Path, slot: str) -> dict[str, object]:
    return {"kind": "slot", "directory": str(directory), "host": "app1", "slot": slot, "probe_url": "http://127.0.0.1:8001/health"}


def test_the_slot_goes_back_only_to_one_that_answers(tmp_path: Path) -> None:
    flag = tmp_path / "app1.green"
    flag.touch()
    fake = Fake(answering=[False, False, True])
    spec = {"revert": [slot_item(tmp_path, "blue")]}
    assert dead_man.revert(spec, fake.world)[0]["result"] == "returned to blue"
    assert not flag.exists()
    assert fake.probed == ["http://127.0.0.1:8001/health"] * 3
    assert dead_man.revert({"revert": [slot_item(tmp_path, "green")]}, Fake(answering=[True]).world)[0]["result"] == "returned to green"
    assert stat.S_IMODE(flag.stat().st_mode) == 0o644
    assert dead_man.revert(spec, Fake().world)[0]["result"] == "kept: the old slot does not answer"
    assert flag.exists()


def test_one_revert_that_fails_does_not_stop_the_next(tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    flag.write_text(json.dumps({"run_id": "r"}), encoding="utf-8")
    (tmp_path / "directory").mkdir()
    items = [
        {"kind": "slot", "host": "app1"},
        {"path": "x"},
        slot_item(tmp_path / "missing", "green"),
        {"kind": "remove_flag", "path": str(flag), "run_id": "r"},
    ]
    results = [one["result"] for one in dead_man.revert({"revert": items}, Fake(answering=[True]).world)]
    assert results[0].startswith("failed: KeyError")
    assert results[1].startswith("failed: KeyError")
    assert results[2].startswith("failed: FileNotFoundError")
    assert results[3] == "removed"
    assert not flag.exists()


def test_a_half_written_deadline_is_its_last_known_value(timer: Timer, tmp_path: Path) -> None:
    path = tmp_path / "deadline"
    assert dead_man.read_deadline(path, 5.0) is None
    path.write_text("", encoding="utf-8")
    assert dead_man.read_deadline(path, 5.0) == 5.0
    assert dead_man.read_deadline(path, None) == 0.0
    path.write_text("1800000000.5\n", encoding="utf-8")
    assert dead_man.read_deadline(path, None) == 1800000000.5
    assert dead_man.read_deadline(tmp_path, 7.0) == 7.0


class Health(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_unused: object) -> None:
        pass

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/health?full=1" else 503)
        self.send_header("Content-Length", "0")
        self.end_headers()


def test_answers_asks_for_real() -> None:
    server = http.server.HTTPServer(("127.0.0.1", 0), Health)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        assert dead_man.answers(f"{url}/health?full=1") is True
        assert dead_man.answers(url) is False
        assert dead_man.answers(url.replace("http", "https")) is False
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert dead_man.answers(f"{url}/health?full=1") is False
    assert dead_man.answers("http://127.0.0.1:port/") is False


def test_the_command_line(tmp_path: Path) -> None:
    fake = Fake()
    directory = str(tmp_path)
    armed = dead_man.main(["arm", directory, "switch", "10"], fake.world, io.StringIO(json.dumps({"run_id": "r", "revert": []})))
    assert armed["armed"] is True
    assert dead_man.main(["renew", directory, "r", "20"], fake.world, io.StringIO()) == {"renewed": ["switch"]}
    assert dead_man.main(["run", directory, "switch"], fake.world, io.StringIO()) == {"ended": "fired"}
    assert dead_man.main(["disarm", directory, "switch", "r"], fake.world, io.StringIO())["fired"]["what"] == []
    with pytest.raises(ValueError, match="unknown command explode"):
        dead_man.main(["explode", directory, "switch"], fake.world, io.StringIO())
