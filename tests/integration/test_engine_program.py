# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine's program: it answers as the modules do, stands on a host by itself, and where it cannot, the modules run."""

from __future__ import annotations

import ast
import inspect
import io
import json
import os
import stat
import subprocess
import sys
import typing as t
import zipfile
from pathlib import Path

import pytest
from ansible_collections.lastro.deploy.plugins.module_utils import _engine, _engine_program, _journal, _ledger, _lock
from ansible_collections.lastro.deploy.plugins.plugin_utils import _engine_call

from tests.integration.test_engine_modules import RUN, play

ENTRY = {"release": "r1-0000001", "state": "good", "live": True, "run_id": RUN}

CALLS = """
    - lastro.deploy.lock: {state_dir: "{{ state }}", run_id: "{{ run }}"}
      register: r1
    - lastro.deploy.journal: {state_dir: "{{ state }}", run_id: "{{ run }}", record: {kind: opened, run_id: "{{ run }}"}, enter: open, lease_seconds: 60}
      register: r2
    - lastro.deploy.ledger: {state_dir: "{{ state }}", release: r1-0000001, state: good, live: true, run_id: "{{ run }}"}
      register: r3
    - lastro.deploy.slot: {state_dir: "{{ state }}", processes: {web: {ports: [8001, 8002]}}, release: r1-0000001}
      register: r4
    - lastro.deploy.caddy_info: {state_dir: "{{ state }}"}
      register: r5
    - lastro.deploy.timers: {state_dir: "{{ state }}", run_id: "{{ run }}", seconds: 60}
      register: r6
    - lastro.deploy.journal: {state_dir: "{{ state }}", run_id: another, lease_seconds: 60}
      register: r7
      ignore_errors: true
    - lastro.deploy.ledger: {state_dir: "{{ state }}", state: excellent}
      register: r8
      ignore_errors: true
"""
TIMED = ("time", "since", "expires_at", "verified", "recorded")


def timeless(value: object) -> object:
    """Without what Ansible and the clock add."""
    if isinstance(value, dict):
        return {name: timeless(one) for name, one in value.items() if name not in (*TIMED, "invocation", "warnings", "deprecations", "exception")}
    return [timeless(one) for one in value] if isinstance(value, list) else value


def program(state: Path) -> Path:
    return Path(_engine_program.path_of(str(state)))


def installed(tmp_path: Path) -> Path:
    path = program(tmp_path / "state")
    assert _engine_program.install(path)
    return path


def first_line(path: Path) -> str:
    return path.read_bytes().partition(b"\n")[0].decode()


def ask(path: Path, call: str, options: t.Mapping[str, object], **environment: str) -> dict[str, t.Any]:
    request = json.dumps({"call": call, "options": options, "write": True})
    finished = subprocess.run([path], input=request, capture_output=True, text=True, check=True, env={"PATH": os.environ["PATH"], **environment})
    answer: dict[str, t.Any] = json.loads(finished.stdout)
    return answer


def test_a_playbook_gets_the_same_answers_from_the_program_and_from_modules(tmp_path: Path) -> None:
    found = []
    for pipelining in ("1", "0"):
        directory = tmp_path / pipelining
        directory.mkdir()
        # Without pipelining nothing is sent to a command, and the modules run.
        calls = CALLS.replace("register", f"vars: {{ansible_pipelining: {bool(int(pipelining))}}}\n      register")
        code, output, answers = play(directory, calls)
        assert code == 0, output
        assert program(directory / "state").exists() == bool(int(pipelining))
        assert _ledger.load(directory / "state" / "ledger.json").live == "r1-0000001"
        assert _journal.state_of(_journal.read_run(directory / "state", RUN)).phases == {"open": "started"}
        found.append({name: timeless(answer) for name, answer in answers.items()})
    assert found[0].keys() == {f"r{number}" for number in range(1, 9)}
    for name, answer in found[0].items():
        assert json.loads(json.dumps(answer).replace(str(tmp_path / "1"), str(tmp_path / "0"))) == found[1][name], name
    assert "has lost the lock" in str(found[0]["r7"]) and "must be one of" in str(found[0]["r8"])


def test_a_check_asks_what_is_there_and_installs_nothing(tmp_path: Path) -> None:
    calls = '\n    - lastro.deploy.ledger: {state_dir: "{{ state }}", release: r1-0000001, state: good, live: true}\n      register: r1\n'
    code, output, found = play(tmp_path, calls, "--check")
    assert (code, found["r1"]["changed"]) == (0, True), output
    assert not (tmp_path / "state").exists()
    path = installed(tmp_path)
    code, output, found = play(tmp_path, calls, "--check", "-vvv")
    assert (code, found["r1"]["changed"], str(path) in output) == (0, True, True), output
    assert [entry.name for entry in (tmp_path / "state").iterdir()] == ["bin"]


@pytest.mark.parametrize("spoil", ["may not run", "its Python is gone"])
def test_where_it_cannot_run_it_is_put_there_anew(tmp_path: Path, spoil: str) -> None:
    path = installed(tmp_path)
    if spoil == "may not run":
        path.chmod(0o644)
    else:
        path.write_bytes(path.read_bytes().replace(sys.executable.encode(), b"/nowhere/python", 1))
    code, output, found = play(tmp_path, '\n    - lastro.deploy.ledger: {state_dir: "{{ state }}"}\n      register: r1\n')
    assert (code, found["r1"]["releases"]) == (0, []), output
    assert first_line(path) == f"#!{sys.executable} -ISB" and os.access(path, os.X_OK)


def test_where_there_is_no_place_for_it_the_module_runs(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    (state / "bin").write_text("in the way", encoding="utf-8")
    code, output, found = play(tmp_path, '\n    - lastro.deploy.ledger: {state_dir: "{{ state }}", release: r1-0000001}\n      register: r1\n')
    assert (code, found["r1"]["changed"]) == (0, True), output
    assert _ledger.load(state / "ledger.json").get("r1-0000001")


def test_its_files(tmp_path: Path) -> None:
    state = tmp_path / "state"
    older = state / "bin" / "engine-0000000000000000.pyz"
    older.parent.mkdir(parents=True, mode=0o755)
    older.write_bytes(b"")
    state.chmod(0o711)
    path = installed(tmp_path)
    assert [entry.name for entry in state.iterdir()] == ["bin"] and [entry.name for entry in path.parent.iterdir()] == [path.name]
    assert [stat.S_IMODE(entry.stat().st_mode) for entry in (state, path.parent, path)] == [0o711, 0o755, 0o755]
    assert first_line(path) == f"#!{sys.executable} -ISB"
    assert not _engine_program.install(path, f"/{'long/' * 30}python")


def test_it_needs_nothing_but_the_standard_library_and_uses_its_bytecode(tmp_path: Path) -> None:
    path = installed(tmp_path)
    options = {"state_dir": str(tmp_path / "state"), "version": "", "sha256": "", "revisions": [], "forget": [], "keep": 5, **ENTRY}
    seen = ask(path, "ledger", options, PYTHONVERBOSE="")
    assert (seen["changed"], seen["live"]) == (True, "r1-0000001")
    # Its own package shadows nothing and is shadowed by nothing: neither the environment nor the directory has a say.
    (tmp_path / "lastro_engine").mkdir()
    (tmp_path / "lastro_engine" / "__init__.py").write_text("raise SystemExit(3)", encoding="utf-8")
    assert ask(path, "ledger", options, PYTHONPATH=str(tmp_path))["changed"] is False
    # Bytecode of another Python version is passed over.
    content = io.BytesIO()
    with zipfile.ZipFile(path) as whole, zipfile.ZipFile(content, "w") as other:
        for name in whole.namelist():
            other.writestr(name, b"\0" * 32 if name.endswith(".pyc") else whole.read(name))
    path.write_bytes(f"#!{sys.executable} -ISB\n".encode() + content.getvalue())
    assert ask(path, "ledger", options)["changed"] is False


def test_a_failure_says_what_to_do_and_a_crash_is_one(tmp_path: Path) -> None:
    path = installed(tmp_path)
    lost = ask(path, "timers", {"state_dir": str(tmp_path / "state"), "run_id": RUN, "seconds": 60})
    assert lost == {"changed": False, "renewed": []}
    options: dict[str, object] = {
        "state_dir": str(tmp_path / "state"),
        "run_id": RUN,
        "record": None,
        "enter": "",
        "gate": "",
        "hosts": [],
        "lease_seconds": 60,
        "renew_on": [],
    }
    refused = ask(path, "journal", options)
    assert refused["failed"] and "has lost the lock to nobody" in refused["problem"] and refused["remedy"]["pt_BR"]
    _lock.take(tmp_path / "state", _lock.Request(run_id=RUN, lease_seconds=10))
    assert ask(path, "journal", options)["wanted"] is False
    for rc, stdout, stderr, said in (
        (1, "", "Traceback\nKeyError: 'x'\n", "journal ended with code 1: KeyError: 'x'"),
        (0, "no JSON", "", "journal ended with code 0: no JSON"),
        (137, "", "", "journal ended with code 137: no output"),
    ):
        assert _engine_call.read("journal", {"rc": rc, "stdout": stdout, "stderr": stderr}) == {"failed": True, "msg": said}
    assert _engine_call.read("journal", {"rc": 0, "stdout": 'a banner\n{"changed": false}\n', "stderr": ""}) == {"changed": False}


def test_it_has_every_backend_and_what_they_import_of_each_other() -> None:
    parts = {part.__name__.rpartition(".")[2]: ast.parse(inspect.getsource(part)) for part in _engine_program.PARTS}
    wanted = {backend for backend, _function in _engine.BACKENDS.values()}
    for tree in parts.values():
        own = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level == 1]
        wanted.update(*([node.module] if node.module else [one.name for one in node.names] for node in own))
    assert wanted | {"_engine"} == parts.keys()


def test_each_module_that_it_stands_for_is_planned_and_no_other() -> None:
    assert _engine_call.SPECS.keys() == _engine.BACKENDS.keys()
    call = _engine_call.plan("timers", {"state_dir": "/var/lib/it's", "run_id": RUN, "seconds": "60"}, write=False)
    assert call is not None and call.command.startswith("'/var/lib/it'\"'\"'s/bin/engine-")
    assert json.loads(call.request) == {"call": "timers", "options": {"state_dir": "/var/lib/it's", "run_id": RUN, "seconds": 60}, "write": False}
    assert _engine_call.plan("pg_dump", {"state_dir": "/var/lib/x"}, write=True) is None
    assert _engine_call.plan("timers", {"state_dir": "/var/lib/x", "run_id": RUN}, write=True) is None
    assert _engine_call.plan("step_status", {"results_file": "/r"}, write=True) is None
    polled = _engine_call.plan("step_status", {"results_file": "/r", "progress_file": "/var/lib/x/progress.json"}, write=True)
    assert polled is not None and polled.program.startswith("/var/lib/x/bin/")
