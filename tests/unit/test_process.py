# SPDX-License-Identifier: GPL-3.0-or-later
"""What every strategy shares, without a process manager."""

from __future__ import annotations

import shlex
import stat
import sys
import typing as t
from pathlib import Path

import pytest
from ansible_collections.lastro.deploy.plugins.module_utils import _dead_man, _process
from ansible_collections.lastro.deploy.plugins.module_utils._errors import LastroError
from ansible_collections.lastro.deploy.plugins.module_utils._process import Entry, Process

PROCESS = Process("calendar-api", "web", "blue", "r2", 8001, Path("/opt/app"), "serve {bind} {port} {release_dir} {release} {other}", "10.0.0.1")


def options(**other: object) -> dict[str, t.Any]:
    base = {"app": "a", "process": "web", "slot": "blue", "release": "r2", "port": 8001, "root": "/opt/app", "command": "serve", "bind_address": "::1"}
    return {**base, "stop": None, "stop_seconds": None, "user": None, **other}


def test_names_and_places_of_a_process() -> None:
    assert PROCESS.program == "calendar-api-web-blue"
    assert PROCESS.directory == Path("/opt/app/releases/r2")
    assert PROCESS.environment_file == Path("/opt/app/env/r2.env")
    assert PROCESS.variables("/bin") == {"PATH": "/opt/app/releases/r2/venv/bin:/bin", "PORT": "8001", "DEPLOY_RELEASE": "r2"}


def test_the_values_of_the_slot_go_into_the_command() -> None:
    assert PROCESS.placed() == "serve 10.0.0.1:8001 8001 /opt/app/releases/r2 r2 {other}"
    process = _process.process_from(options(command=["serve", "{bind}", 4, True]))
    assert process.placed() == ("serve", "::1:8001", "4", "True")


@pytest.mark.parametrize("command", ["", "  ", [], None, {"serve": 1}, ["serve", None], ["serve", ["a"]], 5])
def test_a_command_is_a_text_or_a_list(command: object) -> None:
    with pytest.raises(LastroError, match="Write the command as a text or as a list") as error:
        _process.process_from(options(command=command))
    assert error.value.remedy.pt_BR.startswith("Escreva o comando")


@pytest.mark.parametrize(("stop", "seconds", "expected"), [(None, None, 30), ("drain", None, 300), ("drain", 7, 7), (None, 0, 0), ("other", None, 30)])
def test_seconds_of_a_stop(stop: str | None, seconds: int | None, expected: int) -> None:
    assert _process.process_from(options(stop=stop, stop_seconds=seconds)).stop_seconds == expected


def test_a_header_is_read_again() -> None:
    line = PROCESS.header(";")
    assert line == '; lastro: {"app": "calendar-api", "process": "web", "slot": "blue", "release": "r2", "port": 8001}'
    told = {"app": "calendar-api", "process": "web", "slot": "blue", "release": "r2", "port": 8001}
    assert _process.read_header(f"# more\n{line}\n[program:x]\n", ";") == told
    for text in ("", line.replace(";", "#"), "; lastro: {", "; lastro: []", '; lastro: {"app": "x"}', f" {line}"):
        assert _process.read_header(text, ";") == {}


def test_manager_and_files_say_together_what_runs() -> None:
    states = {"app-web-blue": "RUNNING", "app-worker-green": "STOPPING", "app-gone-blue": "RUNNING", "app-timer-x": "RUNNING", "other-web-green": "RUNNING"}
    headers = [
        {"app": "app", "process": "web", "slot": "blue", "release": "r2", "port": 8001},
        {"app": "app", "process": "gone", "slot": "blue", "release": "r1", "port": 0},
        {"app": "app", "process": "web", "slot": "green", "release": "r1", "port": 8002},
        {"app": "app-web", "process": "web", "slot": "green", "release": "r9", "port": 9},
    ]
    assert _process.programs("app", ["web", "worker"], states, headers) == {
        "web-blue": {"state": "RUNNING", "release": "r2", "port": 8001},
        # Described, and not loaded.
        "web-green": {"state": "STOPPED", "release": "r1", "port": 8002},
        # Loaded, and not described.
        "worker-green": {"state": "STOPPING", "release": "", "port": 0},
        # No process of the profile any more.
        "gone-blue": {"state": "RUNNING", "release": "r1", "port": 0},
    }


def modes(directory: Path) -> dict[str, str]:
    return {str(path.relative_to(directory)): f"{stat.S_IMODE(path.stat().st_mode):04o}" for path in sorted(directory.rglob("*"))}


def test_a_host_is_prepared_once(tmp_path: Path) -> None:
    state = tmp_path / "state"
    wanted = [*_process.directories(state, tmp_path / "var/log"), *_process.own_programs(state, sys.executable)]
    first = _process.prepare(wanted, write=False)
    assert (first["changed"], list(tmp_path.iterdir())) == (True, [])
    assert _process.prepare(wanted, write=True) == first
    assert modes(tmp_path) == {
        "state": "0755",
        "state/bin": "0755",
        "state/bin/dead_man.py": "0755",
        "state/bin/environment_file.py": "0755",
        "state/bin/log_tail.py": "0755",
        "state/timers": "0700",
        "var": "0750",
        "var/log": "0750",
    }
    assert _process.prepare(wanted, write=True) == {"changed": False, "diff": {"before": {}, "after": {}}}
    text = (state / "bin/dead_man.py").read_text(encoding="utf-8")
    assert text == f"#!{sys.executable}\n{Path(_dead_man.__file__).read_text(encoding='utf-8')}"
    (state / "timers").chmod(0o755)
    (state / "bin/log_tail.py").write_text("old", encoding="utf-8")
    again = _process.prepare(wanted, write=True)
    assert set(again["diff"]["before"]) == {str(state / "timers"), str(state / "bin/log_tail.py")}
    assert again["diff"]["after"][str(state / "timers")] == {"mode": "0700"}
    assert _process.prepare(wanted, write=True)["changed"] is False


def test_what_is_in_the_way_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LastroError, match="file cannot be written"):
        _process.place(Entry(tmp_path / "file", 0o755))
    with pytest.raises(LastroError, match=r"file/x cannot be read: Not a directory"):
        _process.look(tmp_path / "file" / "x")
    with pytest.raises(LastroError, match="cannot be written"):
        _process.remove(tmp_path / "file" / "x")
    _process.remove(tmp_path / "none")
    _process.remove(tmp_path / "file")
    assert _process.look(tmp_path / "file") is None


def test_a_diff_names_the_modes(tmp_path: Path) -> None:
    entry = Entry(tmp_path / "a", 0o644, "text\n")
    assert _process.difference(None, entry) == {
        "before_header": f"{tmp_path}/a (absent)",
        "before": "",
        "after_header": f"{tmp_path}/a (0644)",
        "after": "text\n",
    }
    assert _process.difference(Entry(tmp_path / "a", 0o600, "old"), None)["after_header"] == f"{tmp_path}/a (absent)"


def test_the_end_of_a_log_without_secrets(tmp_path: Path) -> None:
    log, environment = tmp_path / "log", tmp_path / "env/r2.env"
    log.write_text("token s3cret-value at /usr/bin:/bin\n", encoding="utf-8")
    # Without the list of secrets nothing can be kept back.
    assert _process.clean_tail(log, environment) == ""
    environment.parent.mkdir()
    environment.write_text('TOKEN="s3cret-value"\nPATH="/usr/bin:/bin"\n', encoding="utf-8")
    assert _process.clean_tail(log, environment) == "token [TOKEN] at /usr/bin:/bin"
    environment.write_bytes(b"\xff\xfe")
    assert _process.clean_tail(log, environment) == ""
    process = _process.process_from(options(root=str(tmp_path)))
    error = _process.not_running(process, "FATAL  Exited too quickly.", tmp_path / "none")
    assert str(error).startswith(f"a-web-blue (r2) does not run: FATAL  Exited too quickly.\n{tmp_path}/none ends with:\n(nothing)\n")
    assert error.as_result()["program"] == "a-web-blue"


def test_a_program_ends_or_cannot_start() -> None:
    program = "import sys; print('out', flush=True); print('err', file=sys.stderr); sys.exit(3)"
    assert _process.run_command([sys.executable, "-c", program]) == (3, "out\nerr\n")
    assert _process.run_command(["/nowhere/program"]) == (127, "/nowhere/program: No such file or directory")
    assert _process.this_machine().run(shlex.split("true")) == (0, "")


def test_a_timer_is_set_and_taken_back(tmp_path: Path) -> None:
    now = [1000.0]
    world = _dead_man.World(lambda: now[0], lambda _seconds: None, lambda _url: True)
    first: dict[str, t.Any] = {"state_dir": str(tmp_path), "timer": "x", "run_id": "run-1", "seconds": 60, "revert": [], "dead_runs": []}
    other = {**first, "run_id": "run-2"}
    told = {"before": {"timer": "x", "run_id": ""}, "after": {"timer": "x", "run_id": "run-1", "seconds": 60}}
    assert _process.set_timer(first, world, write=False) == told
    assert list(tmp_path.iterdir()) == []
    assert _process.set_timer(first, world, write=True) == told
    assert (tmp_path / "timers/x.deadline").read_text(encoding="utf-8") == "1060.000\n"
    for write in (False, True):
        with pytest.raises(LastroError, match=r"The timer x belongs to the run run-1 and runs out in 60.0 s. Wait until") as error:
            _process.set_timer(other, world, write=write)
        assert error.value.remedy.pt_BR.startswith("Espere")
    assert _process.take_timer_back(other, world, write=True) == {"disarmed": False, "run_id": "run-1", "fired": None, "changed": False}
    assert _process.take_timer_back({**other, "dead_runs": ["run-1"]}, world, write=False)["changed"] is True
    assert (tmp_path / "timers/x.deadline").exists()
    assert _process.take_timer_back(first, world, write=True) == {"disarmed": True, "run_id": "run-1", "fired": None, "changed": True}
    assert list((tmp_path / "timers").iterdir()) == []
    (tmp_path / "timers").rmdir()
    (tmp_path / "timers").touch()
    with pytest.raises(LastroError, match="timers cannot be written"):
        _process.set_timer(first, world, write=True)
