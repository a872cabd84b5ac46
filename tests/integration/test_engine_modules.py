# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine's small modules and action plugins as a playbook runs them: packed, started, shown."""

from __future__ import annotations

import collections.abc
import json
import os
import re
import signal
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
from ansible_collections.lastro.deploy.plugins.module_utils import _controller, _journal, _lock

ROOT = Path(__file__).resolve().parents[2]
RUN = "20261121T120000-0001"


def play(directory: Path, tasks: str, *options: str, **variables: object) -> tuple[int, str, dict[str, t.Any]]:
    """Exit status, output, and the registered variables r1, r2, ... of a play with these tasks."""
    registered = re.findall(r"register: (r\d+)", tasks)
    kept = ", ".join(f"'{name}': {name}" for name in registered)
    answer = directory / "answer.json"
    answer.unlink(missing_ok=True)
    ending = (
        f'\n    - ansible.builtin.copy: {{content: "{{{{ {{ {kept} }} | to_json }}}}", dest: {answer}}}\n      check_mode: false\n      changed_when: false\n'
    )
    (directory / "play.yml").write_text(f"- hosts: localhost\n  gather_facts: false\n  tasks:\n{tasks.rstrip()}{ending}", encoding="utf-8")
    (directory / "hosts").write_text(f"localhost ansible_connection=local ansible_python_interpreter={sys.executable}\n", encoding="utf-8")
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_") or name.startswith("ANSIBLE_WORKER_")},
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"),
        "ANSIBLE_HOME": str(directory / "home"),
        "ANSIBLE_REMOTE_TEMP": str(directory / "remote"),
        "ANSIBLE_STDOUT_CALLBACK": "default",
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_PIPELINING": "1",
    }
    command = [
        str(Path(sys.executable).with_name("ansible-playbook")),
        "-i",
        "hosts",
        "play.yml",
        "-e",
        json.dumps({"state": str(directory / "state"), "run": RUN, **variables}),
    ]
    finished = subprocess.run([*command, *options], cwd=directory, env=environment, capture_output=True, text=True, check=False)
    found = json.loads(answer.read_text(encoding="utf-8")) if answer.exists() else {}
    return finished.returncode, finished.stdout + finished.stderr, found


@pytest.fixture
def dead_and_living() -> collections.abc.Iterator[tuple[dict[str, t.Any], dict[str, t.Any]]]:
    """The identities of a controller process that was killed and of one that lives."""
    sleeper = [sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()"]
    with (
        subprocess.Popen(sleeper, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as dead,
        subprocess.Popen(sleeper, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as living,
    ):
        for process in (dead, living):
            assert process.stdout and process.stdout.readline()
        identities = (_controller.this_controller(dead.pid), _controller.this_controller(living.pid))
        dead.send_signal(signal.SIGKILL)
        dead.wait()
        yield identities
        living.kill()


LOCK = """
    - lastro.deploy.lock: {state_dir: "{{ state }}", run_id: "{{ run }}", actor: ana}
      register: r1
    - lastro.deploy.lock: {state_dir: "{{ other }}", run_id: "{{ run }}"}
      register: r2
      ignore_errors: true
    - lastro.deploy.lock: {state_dir: "{{ other }}", run_id: "{{ run }}", force_run_id: living}
      register: r3
    - lastro.deploy.lock: {state_dir: "{{ state }}", run_id: "{{ run }}", state: absent}
      register: r4
"""


def test_the_lock_of_a_dead_controller_is_taken_over(tmp_path: Path, dead_and_living: tuple[dict[str, t.Any], dict[str, t.Any]]) -> None:
    dead, living = dead_and_living
    _lock.take(tmp_path / "state", _lock.Request(run_id="dead", lease_seconds=3600, controller=dead))
    _lock.take(tmp_path / "other", _lock.Request(run_id="living", lease_seconds=3600, controller=living, actor="bob"))
    code, output, found = play(tmp_path, LOCK, other=str(tmp_path / "other"))
    assert code == 0, output
    assert (found["r1"]["changed"], found["r1"]["taken_over"]["run_id"], found["r1"]["holder"]["actor"]) == (True, "dead", "ana")
    assert found["r2"]["failed"] and "held by bob (run living)" in found["r2"]["msg"]
    assert (found["r3"]["changed"], found["r3"]["taken_over"]["run_id"]) == (True, "living")
    assert _lock.holder_of(tmp_path / "other")["run_id"] == RUN
    assert found["r4"]["changed"] and _lock.holder_of(tmp_path / "state") == {}


JOURNAL = """
    - lastro.deploy.journal: {state_dir: "{{ state }}", run_id: "{{ run }}", enter: backup}
      register: r1
    - lastro.deploy.journal:
        state_dir: "{{ state }}"
        run_id: "{{ run }}"
        record: {kind: result, phase: backup, status: ok, evidence: {size: 214000000, raw_size: 1200000000, tables: 18}}
    - lastro.deploy.journal: {state_dir: "{{ state }}", run_id: "{{ run }}", record: {kind: acknowledged, phase: switch, host: app1, status: ok}}
    - lastro.deploy.journal:
        state_dir: "{{ state }}"
        run_id: "{{ run }}"
        record: {kind: result, phase: smoke, status: failed, problem: "GET /api: 500", remedy: {en: Look there., pt_BR: Olhe lá.}}
      vars: {deploy_language: pt_BR}
      register: r2
    - lastro.deploy.journal: {state_dir: "{{ state }}", run_id: "{{ run }}", enter: watch}
      register: r3
    - lastro.deploy.journal: {state_dir: "{{ state }}", run_id: "{{ run }}", lease_seconds: 5}
      register: r4
      ignore_errors: true
"""


def test_the_journal_shows_the_line_of_a_phase_that_has_ended(tmp_path: Path) -> None:
    code, output, found = play(tmp_path, JOURNAL)
    assert code == 0, output
    backup, smoke = (line for line in output.splitlines() if line.startswith((" ✔", " ✖")))
    assert backup.startswith(" ✔ backup") and "214 MB" in backup
    assert smoke.startswith(" ✖ teste de fumaça") and "GET /api: 500" in output and "Olhe lá." in output
    assert "Look there." not in output
    records = _journal.read_run(tmp_path / "state", RUN)
    assert [(record["kind"], record["phase"]) for record in records] == [
        ("intent", "backup"),
        ("result", "backup"),
        ("acknowledged", "switch"),
        ("result", "smoke"),
    ]
    assert (found["r1"]["wanted"], found["r2"]["run"]["sound"], found["r3"]["wanted"]) == (True, False, False)
    assert found["r4"]["failed"] and "lost the lock" in found["r4"]["msg"]


ENDS = """
    - lastro.deploy.findings:
        host: app1
        findings: [{variable: SECRET_KEY, problem: is missing, remedy: {en: Set it., pt_BR: Defina.}}]
      register: r1
      ignore_errors: true
    - lastro.deploy.findings:
        host: app1
        findings:
          - {variable: SECRET_KEY, problem: is missing, remedy: {en: Set it., pt_BR: Defina.}}
          - {target: "db:5432", problem: does not answer, remedy: {en: Start it., pt_BR: Inicie.}}
          - {problem: the rest, remedy: {en: Set it.}}
      register: r2
      ignore_errors: true
    - lastro.deploy.outcome: {outcome: deployed, serves: {id: r2-0000001, version: r2}, report: /r/x.html, expected: [deployed, nothing_to_do]}
      register: r3
    - lastro.deploy.outcome: {outcome: rolled_back, serves: {id: r1-0000001, version: r1}, language: pt_BR, expected: [deployed]}
      register: r4
      ignore_errors: true
"""


def test_findings_and_outcomes_end_a_run(tmp_path: Path) -> None:
    code, output, found = play(tmp_path, ENDS)
    assert code == 0, output
    one, three = found["r1"], found["r2"]
    assert (one["failed"], one["problem"], one["msg"]) == (True, "app1: SECRET_KEY: is missing", "app1: SECRET_KEY: is missing Set it.")
    assert three["problem"] == "3 findings on app1: SECRET_KEY: is missing; db:5432: does not answer; the rest"
    assert three["remedy"]["en"] == "Set it. Start it." and three["remedy"]["pt_BR"].split() == ["Defina.", "Inicie."]
    assert len(three["findings"]) == 3
    assert (found["r3"]["outcome"], found["r3"]["changed"]) == ("deployed", False)
    assert [line for line in output.splitlines() if "r2" in line and "/r/x.html" in line and "deployed" in line]
    assert found["r4"]["failed"] and "r1" in found["r4"]["msg"] and found["r4"]["outcome"] == "rolled_back"


SMALL = """
    - lastro.deploy.ledger: {state_dir: "{{ state }}", release: r1-0000001, state: good, live: true, run_id: "{{ run }}"}
      register: r1
    - lastro.deploy.slot: {state_dir: "{{ state }}", processes: {web: {ports: []}}, release: r1-0000001}
      register: r2
    - lastro.deploy.signoff: {state_dir: "{{ state }}", release: r1-0000001, name: qa, by: eva}
      register: r3
    - lastro.deploy.random_file: {path: "{{ state }}/token"}
      register: r4
    - lastro.deploy.host_probe: {python: "{{ ansible_python_interpreter }}", directories: ["{{ state }}"], min_free_mb: 1}
      register: r5
    - lastro.deploy.release: {root: "{{ state }}", remove: [r0-0000001]}
      register: r6
    - lastro.deploy.step_status: {results_file: "{{ state }}/none"}
      register: r7
"""


def test_small_modules_run_on_a_host(tmp_path: Path) -> None:
    code, output, found = play(tmp_path, SMALL, "--diff")
    assert code == 0, output
    assert [found[f"r{number}"]["changed"] for number in range(1, 8)] == [True, True, True, True, False, False, False]
    assert '+    "live": "r1-0000001"' in output and '"name": "qa"' in output  # what is different now
    state = tmp_path / "state"
    assert sorted(path.name for path in state.iterdir()) == ["bin", "ledger.json", "ports.json", "signoffs.jsonl", "token"]
    assert (state / "token").read_text(encoding="ascii") not in output + json.dumps(found)
    assert json.loads((state / "ports.json").read_text(encoding="utf-8"))["ports"] == found["r2"]["ports"]
    assert (found["r5"]["findings"], found["r7"]["finished"]) == ([], False)
