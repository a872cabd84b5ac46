# SPDX-License-Identifier: GPL-3.0-or-later
"""Long steps: a module that runs asynchronously while the lease is renewed, and what ends it."""

from __future__ import annotations

import collections.abc
import datetime
import itertools
import json
import os
import subprocess
import sys
import time
import types
import typing as t
from pathlib import Path

import pytest
from ansible_collections.lastro.deploy.plugins.action import step as step_action
from ansible_collections.lastro.deploy.plugins.module_utils import _argspec, _lock, _step
from ansible_collections.lastro.deploy.plugins.module_utils._clock import from_text
from ansible_collections.lastro.deploy.plugins.modules import step_status

ROOT = Path(__file__).resolve().parents[2]
RUN = "20261121T120000-0001"
CallModule = collections.abc.Callable[..., dict[str, t.Any]]

# A module that takes a while and notes what it sees of the world when it begins and when it ends.
SLOW = """#!/usr/bin/python
import json, os, time
from ansible_collections.lastro.deploy.plugins.module_utils._argspec import ArgumentSpec

def look(state_dir):
    files = {"lock": "lock.json", "deadline": "timers/drain.deadline", "other": "timers/other.deadline"}
    found = {}
    for name, file in files.items():
        path = os.path.join(state_dir, file)
        if os.path.exists(path):
            with open(path) as stream:
                found[name] = stream.read()
    return found

def renewing(state_dir, found):
    # The lease is renewed before the timers: a look between the two would see one of them.
    lock, deadline = (os.stat(os.path.join(state_dir, file)).st_mtime_ns for file in ("lock.json", "timers/drain.deadline"))
    return deadline < lock or look(state_dir) != found

def main():
    module = ArgumentSpec({"seconds": {"type": "float"}, "state_dir": {"type": "path"}, "progress_file": {"type": "path"}, "rob": {"type": "bool"},
                           "fail": {"type": "bool"}, "die": {"type": "bool"}}).create_module()
    options = module.params
    before = look(options["state_dir"])
    with open(os.path.join(options["state_dir"], "pid"), "w") as stream:
        stream.write(str(os.getpid()))
    if options["rob"]:
        with open(os.path.join(options["state_dir"], "lock.json"), "w") as stream:
            json.dump({**json.loads(before["lock"]), "run_id": "robber"}, stream)
    if options["die"]:
        os.kill(os.getpid(), 9)
    until = time.monotonic() + (0 if module.check_mode else options["seconds"])
    # On a slow machine the first renewal may come later.
    patience = until + (60 if options["seconds"] == 3 and not module.check_mode else 0)
    while time.monotonic() < until or (time.monotonic() < patience and look(options["state_dir"]) == before):
        if os.path.exists(os.path.join(options["state_dir"], "stop")):
            break
        if options["progress_file"]:
            with open(options["progress_file"], "w") as stream:
                json.dump({"done": 1, "total": 4, "unit": "rows", "seconds": 1}, stream)
        time.sleep(0.05)
    if options["fail"]:
        module.fail_json(msg="as asked", started=True)
    after = look(options["state_dir"])
    while time.monotonic() < patience and options["seconds"] == 3 and not module.check_mode and renewing(options["state_dir"], after):
        after = look(options["state_dir"])
    module.exit_json(changed=True, before=before, after=after, now=time.time(), progress_file=options["progress_file"], check=module.check_mode)

main()
"""

# A module that tells what it was told, and how.
TOLD = """#!/usr/bin/python
from pathlib import Path
from ansible_collections.lastro.deploy.plugins.module_utils import _secret_pipe
from ansible_collections.lastro.deploy.plugins.module_utils._argspec import ArgumentSpec

def main():
    module = ArgumentSpec({"word": {"type": "str", "no_log": True}, "word_pipe": {"type": "path"}}).create_module()
    piped = _secret_pipe.take(Path(module.params["word_pipe"]), timeout=30) if module.params["word_pipe"] else ""
    module.exit_json(length=len(module.params["word"] or ""), piped=len(piped), pipe=module.params["word_pipe"])

main()
"""
WORD = "a-word-that-no-file-may-have"

PLAY = """
- hosts: localhost
  gather_facts: false
  vars:
    lease: {state_dir: "{{ state }}", run_id: "{{ run }}", seconds: 3}
    slow: {state_dir: "{{ state }}", seconds: 3}
  tasks:
    - lastro.deploy.lock: {state_dir: "{{ state }}", run_id: "{{ run }}", lease_seconds: 3}
      when: not ansible_check_mode
    - lastro.deploy.step: {module: told, options: {}, secrets: {word: "{{ word }}"}, lease: "{{ lease }}", progress: false}
      register: told
    - lastro.deploy.step: {module: slow, title: rows, options: "{{ slow }}", lease: "{{ lease }}"}
      register: whole
    - ansible.builtin.set_fact: {leftovers: "{{ lookup('ansible.builtin.fileglob', asyncs ~ '/*', state ~ '/progress.json', wantlist=true) }}"}
    - lastro.deploy.step: {module: slow, options: "{{ slow | combine({'seconds': 0, 'fail': true}) }}", progress: false}
      register: failing
      ignore_errors: true
    - lastro.deploy.step: {module: slow, options: "{{ slow | combine({'seconds': 0, 'die': true}) }}", progress: false}
      register: dying
      ignore_errors: true
      when: not ansible_check_mode
    - lastro.deploy.step: {module: slow, options: "{{ slow | combine({'seconds': 600}) }}", limit: 4}
      register: limited
      ignore_errors: true
    - ansible.builtin.set_fact: {stopped: "{{ lookup('ansible.builtin.file', state ~ '/pid') }}"}
    - lastro.deploy.step: {module: slow, options: "{{ slow | combine({'seconds': 600, 'rob': true}) }}", lease: "{{ lease }}", limit: 600}
      register: robbed
      ignore_errors: true
      when: not ansible_check_mode
    - lastro.deploy.step: {module: none_such, options: {}}
      register: missing
      ignore_errors: true
      when: not ansible_check_mode
    - ansible.builtin.copy:
        content: "{{ {'told': told, 'whole': whole, 'failing': failing, 'dying': dying, 'limited': limited, 'robbed': robbed, 'missing': missing,
                      'leftovers': leftovers, 'stopped': stopped} | to_json }}"
        dest: "{{ answer }}"
      check_mode: false
"""


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state directory with an armed timer of the run, one of another, and one that is not armed."""
    (tmp_path / "state" / "timers").mkdir(parents=True)
    for name, run_id in (("drain", RUN), ("other", "another"), ("idle", RUN)):
        (tmp_path / "state" / "timers" / f"{name}.json").write_text(json.dumps({"run_id": run_id}), encoding="utf-8")
        if name != "idle":
            (tmp_path / "state" / "timers" / f"{name}.deadline").write_text("1.0\n", encoding="utf-8")
    return tmp_path / "state"


def play(directory: Path, *options: str) -> dict[str, t.Any]:
    (directory / "library").mkdir(exist_ok=True)
    (directory / "library" / "slow.py").write_text(SLOW, encoding="utf-8")
    (directory / "library" / "told.py").write_text(TOLD, encoding="utf-8")
    (directory / "play.yml").write_text(PLAY, encoding="utf-8")
    (directory / "hosts").write_text(f"localhost ansible_connection=local ansible_python_interpreter={sys.executable}\n", encoding="utf-8")
    variables = {"word": WORD, "state": str(directory / "state"), "run": RUN, "answer": str(directory / "answer.json"), "asyncs": str(directory / "async")}
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_") or name.startswith("ANSIBLE_WORKER_")},
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"),
        "ANSIBLE_HOME": str(directory / "home"),
        "ANSIBLE_ASYNC_DIR": str(directory / "async"),
        "ANSIBLE_REMOTE_TEMP": str(directory / "remote"),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_PIPELINING": "1",
    }
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "hosts", "play.yml", "-e", json.dumps(variables), *options]
    try:
        finished = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, check=False)
    finally:
        (directory / "state" / "stop").touch()  # for a module that the step has given up
    assert finished.returncode == 0, finished.stdout + finished.stderr
    found: dict[str, t.Any] = json.loads((directory / "answer.json").read_text(encoding="utf-8"))
    return found


def runs(pid: str) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_real_run(tmp_path: Path, state: Path) -> None:
    found = play(tmp_path)
    pipe = state / "word.pipe"
    assert (found["told"]["length"], found["told"]["piped"], found["told"]["pipe"], pipe.exists()) == (0, len(WORD), str(pipe), False)
    whole = found["whole"]
    assert (whole["changed"], whole["check"], whole["progress_file"]) == (True, False, str(state / "progress.json"))
    # While it ran, the lease was pushed on: it would have run out at its end. So were the run's own armed timers.
    leases = [from_text(json.loads(whole[when]["lock"])["expires_at"]) for when in ("before", "after")]
    assert leases[1] - leases[0] > datetime.timedelta(seconds=1.5)
    # The timers come after the lease, for as many seconds, each from its own moment; they are written in milliseconds.
    assert whole["before"]["deadline"] == "1.0\n" and leases[1].timestamp() - 0.001 <= float(whole["after"]["deadline"]) <= whole["now"] + 3
    assert whole["after"]["other"] == "1.0\n"
    assert sorted(path.name for path in (state / "timers").glob("*.deadline")) == ["drain.deadline", "other.deadline"]
    assert found["leftovers"] == []

    assert found["failing"]["failed"] and found["failing"]["msg"] == "as asked"
    assert found["dying"]["failed"] and found["dying"]["data"] == ""  # a module that was killed has said nothing
    assert found["missing"]["failed"] and "none_such" in found["missing"]["msg"]

    assert found["limited"]["failed"] and "imeout exceeded" in found["limited"]["msg"]
    assert not runs(found["stopped"])

    assert found["robbed"]["failed"] and f"Run {RUN} has lost the lock to robber." in found["robbed"]["msg"]
    assert found["robbed"]["holder"]["run_id"] == json.loads((state / "lock.json").read_text(encoding="utf-8"))["run_id"] == "robber"


def test_in_check_mode_the_module_runs_without_this_machinery(tmp_path: Path, state: Path) -> None:
    began = time.monotonic()
    found = play(tmp_path, "--check")
    assert time.monotonic() - began < 300  # nothing of 600 s was waited for
    assert (found["whole"]["check"], found["whole"]["progress_file"]) == (True, None)
    assert found["failing"]["msg"] == "as asked"
    assert (found["told"]["length"], found["told"]["pipe"]) == (len(WORD), None)
    assert not (tmp_path / "async").exists() and not (state / "lock.json").exists()


# A supervisor that is late to make its child's process group, as async_wrapper is on a busy machine.
LATE = """
import os, subprocess, sys
started, joined = os.pipe(), os.pipe()
child = os.fork()
if child == 0:
    subprocess.run([sys.executable, "-c", sys.argv[1], str(started[1]), str(joined[1])], pass_fds=(started[1], joined[1]))
    os._exit(0)
module = os.read(started[0], 100).decode()
os.setpgid(child, child)
print(module, os.read(joined[0], 100).decode() == f"True {child}", flush=True)
os.killpg(child, 9)
os.waitpid(child, 0)
"""

MODULE = """
import os, sys, time
sys.path.insert(0, {collections!r})
from ansible_collections.lastro.deploy.plugins.module_utils import _argspec
os.write(int(sys.argv[1]), str(os.getpid()).encode())
found = _argspec.join_the_group_of_async_wrapper(60)
os.write(int(sys.argv[2]), f"{{found}} {{os.getpgrp()}}".encode())
time.sleep(600)
"""


def test_a_module_that_was_started_before_its_group_ends_with_it(tmp_path: Path) -> None:
    (tmp_path / "async_wrapper.py").write_text(LATE, encoding="utf-8")
    module = MODULE.format(collections=str(ROOT / "collections"))
    finished = subprocess.run([sys.executable, tmp_path / "async_wrapper.py", module], capture_output=True, text=True, check=True, start_new_session=True)
    pid, joined = finished.stdout.split()
    assert joined == "True"
    until = time.monotonic() + 30
    while runs(pid):
        assert time.monotonic() < until
        time.sleep(0.01)


def test_no_group_is_joined_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    group = os.getpgrp()
    assert _argspec.join_the_group_of_async_wrapper() is False
    monkeypatch.setattr(os, "getppid", lambda: 2**22 + 1)  # no such process
    assert _argspec.join_the_group_of_async_wrapper() is False
    # A parent whose group never comes: the module does its work all the same.
    program = [sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()", "async_wrapper"]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout and process.stdout.readline()
        monkeypatch.setattr(os, "getppid", lambda: process.pid)
        assert _argspec.join_the_group_of_async_wrapper(0.1) is False
        process.kill()
    assert os.getpgrp() == group


# --- the loop, with a clock of its own --------------------------------------------------------------------------------


class Host(step_action.ActionModule):
    """The action plugin on a host that answers from a script; time passes where the host waits for a module that still runs."""

    def __init__(self, answers: t.Iterable[dict[str, t.Any]]) -> None:
        self.answers = iter(answers)
        self.asked: list[tuple[float, str, dict[str, t.Any]]] = []
        self.now = 100.0
        self._task: t.Any = types.SimpleNamespace(async_val=0, check_mode=False)

    def _execute_module(  # type: ignore[override]
        self, module_name: str, module_args: dict[str, t.Any], task_vars: object, wrap_async: bool = False
    ) -> dict[str, t.Any]:
        del task_vars
        assert self._task.async_val == (50 if wrap_async else 0)  # left over, it would make the executor poll the task
        self.asked.append((self.now, module_name, module_args))
        answer = next(self.answers)
        if answer is RUNNING:
            self.now += module_args["wait"]
        return answer


STARTED = {"started": True, "results_file": "/r/j1"}
RUNNING = {"finished": False, "outcome": "", "progress": {"done": 1000, "total": 50000, "unit": "rows", "seconds": 0.5}}
OPTIONS: dict[str, t.Any] = {"module": "slow", "options": {"a": 1}, "title": "protect", "limit": 50, "progress": True, "secrets": {}, "lease": {}}


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> collections.abc.Callable[..., tuple[Host, dict[str, t.Any], list[str]]]:
    """``watched(answers, **options)``: the host, the result, and the lines that were shown."""

    def run(answers: t.Iterable[dict[str, t.Any]], **options: object) -> tuple[Host, dict[str, t.Any], list[str]]:
        host, shown = Host(answers), list[str]()

        monkeypatch.setattr(step_action, "time", types.SimpleNamespace(monotonic=lambda: host.now))
        monkeypatch.setattr(step_action, "display", types.SimpleNamespace(display=shown.append))
        return host, host._watched({**OPTIONS, **options}, {}), shown

    return run


Watched = collections.abc.Callable[..., tuple[Host, dict[str, t.Any], list[str]]]


def test_progress_is_shown_every_five_seconds(watched: Watched) -> None:
    host, outcome, shown = watched([STARTED, *[RUNNING] * 2, {"finished": True, "outcome": '{"changed": true, "exception": "x"}', "progress": {}}])
    assert outcome == {"changed": True}
    assert [" ".join(line.split()) for line in shown] == ["… protect 2 % of 50,000 rows, 2,000 rows/s, 24 s left"] * 2
    assert host.asked[0][1:] == ("slow", {"a": 1})
    assert host.asked[1][1:] == ("lastro.deploy.step_status", {"results_file": "/r/j1", "wait": 4.0})
    assert [later[0] - earlier[0] for earlier, later in itertools.pairwise(host.asked)] == [0, 4, 4]  # a quick module is not waited for


def test_progress_lines() -> None:
    rows = {"done": 3, "total": 10, "unit": "rows", "seconds": 1}
    lines: list[tuple[dict[str, t.Any], str]] = [
        ({}, "12 s"),
        ({"done": 0, "total": 10, "unit": "MB", "seconds": 0}, "0 % of 10 MB, 0 MB/s, 0 s left"),
        ({**rows, "age": 4.9}, "30 % of 10 rows, 3 rows/s, 2 s left"),
        ({**rows, "age": 5.2}, "30 % of 10 rows for 5 s; 12 s"),
        ({**rows, "unit": "steps", "age": 7}, "3 of 10 steps, 12 s"),
        ({**rows, "total": 0, "age": 1}, "3 rows; 12 s"),
        ({**rows, "total": 0, "age": 9}, "3 rows for 9 s; 12 s"),
        ({"done": 0, "total": 0, "unit": "building indexes", "age": 2}, "building indexes; 12 s"),
        ({"done": 0, "total": 0, "unit": "building indexes", "age": 8.4}, "building indexes for 8 s; 12 s"),
    ]
    assert [" ".join(step_action._progress_line("backup", progress, 12.3).split()) for progress, _line in lines] == [
        f"… backup {line}" for _unused, line in lines
    ]


def test_the_lease_is_renewed_in_good_time(watched: Watched) -> None:
    lease = {"state_dir": "/s", "run_id": RUN, "seconds": 30}
    host, outcome, _unused = watched([STARTED, *[RUNNING] * 10, {"finished": True, "outcome": "{}", "progress": {}}], lease=lease)
    assert outcome == {}
    assert host.asked[0][2] == {"a": 1, "progress_file": "/s/progress.json"}
    renewals = [(moment, arguments) for moment, _unused, arguments in host.asked[1:] if "run_id" in arguments]
    assert renewals[0][1] == {
        "results_file": "/r/j1",
        "wait": 4.0,
        "progress_file": "/s/progress.json",
        "state_dir": "/s",
        "run_id": RUN,
        "lease_seconds": 30,
    }
    times = [100.0, *[moment for moment, _unused in renewals]]
    assert all(5 <= later - earlier <= 9 for earlier, later in itertools.pairwise(times))
    assert len(renewals) == 5


def test_a_module_that_never_answers(watched: Watched) -> None:
    def forever() -> t.Iterator[dict[str, t.Any]]:
        yield STARTED
        while True:
            yield RUNNING

    host, outcome, _unused = watched(forever())
    assert outcome == {"failed": True, "msg": "protect did not end within 50 s and was stopped."}
    assert 65 < host.now - 100 < 70
    assert watched(forever(), title="")[1]["msg"].startswith("slow did not end")


def test_a_start_or_a_poll_that_fails(watched: Watched) -> None:
    assert watched([{"failed": True, "msg": "no"}])[1] == {"failed": True, "msg": "no"}
    assert watched([STARTED, RUNNING, {"failed": True, "msg": "lost"}])[1] == {"failed": True, "msg": "lost"}


# --- what the host is asked at each poll ------------------------------------------------------------------------------


def test_step_status(tmp_path: Path, state: Path, call_module: CallModule) -> None:
    results, progress = tmp_path / "j1", tmp_path / "progress.json"
    options = {"results_file": str(results), "progress_file": str(progress)}
    assert call_module(step_status, **options)["finished"] is False
    for content in ('{"started": true, "finished": false, "ansible_job_id": "j1"}', '{"torn', "[1]"):
        results.write_text(content, encoding="utf-8")
        assert call_module(step_status, **options)["finished"] is False
    progress.write_text('{"done": 5}', encoding="utf-8")
    os.utime(progress, (100, 100))
    assert _step.status({**options, "state_dir": None, "wait": 0}, clock=lambda: 107.5)["progress"] == {"done": 5, "age": 7.5}
    assert _step.status({**options, "state_dir": None, "wait": 0}, clock=lambda: 99.0)["progress"] == {"done": 5, "age": 0}
    assert call_module(step_status, **options)["progress"].keys() == {"done", "age"}
    # A module may return "started" itself.
    results.write_text('{"changed": true, "started": 5}', encoding="utf-8")
    assert call_module(step_status, check=True, **options)["finished"] is True
    done = call_module(step_status, **options)
    assert (done["finished"], json.loads(done["outcome"]), done["changed"]) == (True, {"changed": True, "started": 5}, False)
    assert not results.exists() and not progress.exists()
    results.write_text('{"failed": true, "msg": "Timeout exceeded", "ansible_job_id": "j1"}', encoding="utf-8")
    assert call_module(step_status, results_file=str(results))["finished"] is True


def test_a_poll_waits_for_the_end_and_no_longer(tmp_path: Path) -> None:
    results, looks = tmp_path / "j1", list[float]()

    def sleep(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 3:
            results.write_text('{"changed": true}', encoding="utf-8")

    options = {"results_file": str(results), "progress_file": None, "state_dir": None, "wait": 4.0}
    assert _step.status(options, write=False, sleep=sleep)["finished"] is False and looks == []
    assert _step.status(options, sleep=sleep)["finished"] is True and len(looks) == 3
    assert _step.status(options, sleep=looks.append)["finished"] is False
    assert sum(looks[3:]) == pytest.approx(4.0)


def test_step_status_renews(state: Path, call_module: CallModule) -> None:
    options = {"results_file": "/none", "state_dir": str(state), "run_id": RUN, "lease_seconds": 500}
    lost = call_module(step_status, **options)
    assert lost["failed"] and "has lost the lock to nobody" in lost["msg"]
    assert (state / "timers" / "drain.deadline").read_text(encoding="utf-8") == "1.0\n"
    before, _unused = _lock.take(state, _lock.Request(run_id=RUN, lease_seconds=10))
    assert call_module(step_status, check=True, **options)["finished"] is False
    assert _lock.holder_of(state) == before
    call_module(step_status, **options)
    assert from_text(_lock.holder_of(state)["expires_at"]) - from_text(before["expires_at"]) > datetime.timedelta(seconds=489)
    assert _step.renew_timers(state, RUN, 23.4567, lambda: 100.0) == ["drain"]
    assert (state / "timers" / "drain.deadline").read_text(encoding="utf-8") == "123.457\n"
    assert (state / "timers" / "other.deadline").read_text(encoding="utf-8") == "1.0\n"
