# SPDX-License-Identifier: GPL-3.0-or-later
"""The strategy supervisor against a supervisorctl that answers from a list."""

from __future__ import annotations

import collections.abc
import configparser
import dataclasses
import shlex
import typing as t
from pathlib import Path

import pytest
from ansible_collections.lastro.deploy.plugins.module_utils import _dead_man, _process, _supervisor
from ansible_collections.lastro.deploy.plugins.module_utils._errors import LastroError
from ansible_collections.lastro.deploy.plugins.module_utils._process import Command, Entry, Finished, Machine, Process
from ansible_collections.lastro.deploy.plugins.module_utils._supervisor import Plan, Server
from hypothesis import given
from hypothesis import strategies as st

SERVER = Server(Path("/etc/supervisor/conf.d"), ("supervisorctl",), Path("/var/lib/lastro/a/log"), "/usr/bin/env python3", "/usr/bin:/bin")
STATE = Path("/var/lib/lastro/a")


def process(command: Command, *, stop_seconds: int = 30, user: str = "") -> Process:
    return Process("calendar-api", "web", "blue", "r2", 8001, Path("/opt/calendar%api"), command, "10.0.0.1", stop_seconds, user)


def test_the_file_of_a_process() -> None:
    awkward = process(("service", "{bind}", "{release_dir}", "a ;b #c", "100%", "it's"), stop_seconds=300, user="calendar")
    assert _supervisor.program_text(SERVER, awkward, STATE) == (
        '; lastro: {"app": "calendar-api", "process": "web", "slot": "blue", "release": "r2", "port": 8001}\n'
        "; Written by lastro.deploy. The variables come from the environment file when the process starts: no secret stands here.\n"
        "[program:calendar-api-web-blue]\n"
        "command=/var/lib/lastro/a/bin/environment_file.py /opt/calendar%%api/env/r2.env /usr/bin/env "
        "PATH=/opt/calendar%%api/releases/r2/venv/bin:/usr/bin:/bin PORT=8001 DEPLOY_RELEASE=r2 "
        "service 10.0.0.1:8001 /opt/calendar%%api/releases/r2 'a '';b ''#c' 100%% 'it'\"'\"'s'\n"
        "directory=/opt/calendar%%api/releases/r2\n"
        "user=calendar\n"
        "autostart=true\n"
        "autorestart=true\n"
        "startsecs=1\n"
        "startretries=3\n"
        "stopsignal=TERM\n"
        "stopwaitsecs=300\n"
        "killasgroup=true\n"
        "redirect_stderr=true\n"
        "stdout_logfile=/var/lib/lastro/a/log/calendar-api-web-blue.log\n"
        "stdout_logfile_maxbytes=10MB\n"
        "stdout_logfile_backups=3\n"
    )
    text = _supervisor.program_text(SERVER, process("gunicorn -b {bind} 'x {release}' 5%"), STATE)
    assert "DEPLOY_RELEASE=r2 gunicorn -b 10.0.0.1:8001 'x r2' 5%%\n" in text
    assert "user=" not in text


def test_the_file_of_a_timer() -> None:
    assert _supervisor.timer_text(SERVER, "calendar-api-timer-x", STATE, "x") == (
        "; Written by lastro.deploy: puts our change back on this host when nobody confirms it in time.\n"
        "[program:calendar-api-timer-x]\n"
        "command=/var/lib/lastro/a/bin/dead_man.py run /var/lib/lastro/a/timers x\n"
        "directory=/\n"
        "autostart=true\n"
        "autorestart=unexpected\n"
        "exitcodes=0\n"
        "startsecs=0\n"
        "redirect_stderr=true\n"
        "stdout_logfile=/var/lib/lastro/a/log/timer-x.log\n"
        "stdout_logfile_maxbytes=1MB\n"
        "stdout_logfile_backups=1\n"
    )


@given(st.lists(st.text(st.sampled_from("a;#% \t'\"\\é$"), min_size=1, max_size=8), min_size=1, max_size=4))
def test_supervisor_reads_the_same_arguments(arguments: list[str]) -> None:
    text = _supervisor.program_text(SERVER, process(tuple(arguments)), STATE)
    # As supervisor does: comments behind a space are cut, %% becomes %, and the line is split as a shell would.
    parser = configparser.RawConfigParser(inline_comment_prefixes=(";", "#"), strict=False)
    parser.read_string(text)
    command = parser["program:calendar-api-web-blue"]["command"] % {}
    assert shlex.split(command)[-len(arguments) :] == arguments


@pytest.mark.parametrize("command", ["serve ;x", "serve 'a #b'", "serve\nmore", "serve\rmore", "serve\t;", ("serve", "a\nb"), "serve 'x", "serve \\"])
def test_a_command_that_supervisor_would_cut(command: Command) -> None:
    with pytest.raises(LastroError, match=r"The command of the process web has .*\. Write the command as a list of arguments\."):
        _supervisor.command_text(process(command))


@pytest.mark.parametrize("command", ["serve;x", "serve a#b", ("serve", ";x", "a #b"), "serve 'two words' \"it's\""])
def test_a_command_that_stays_whole(command: Command) -> None:
    wanted = shlex.split(command) if isinstance(command, str) else list(command)
    assert shlex.split(_supervisor.command_text(process(command))) == wanted


FILE = Entry(Path("/etc/supervisor/conf.d/x.conf"), 0o644, "new")
OTHER = dataclasses.replace(FILE, content="old")


@pytest.mark.parametrize(
    ("before", "after", "state", "describes", "moves"),
    [
        (None, FILE, "", True, True),
        (OTHER, FILE, "RUNNING", True, False),
        (dataclasses.replace(FILE, mode=0o600), FILE, "RUNNING", True, False),
        (FILE, FILE, "RUNNING", False, False),
        (FILE, FILE, "STARTING", False, False),
        (FILE, FILE, "BACKOFF", False, False),
        (FILE, FILE, "STOPPED", False, True),
        (FILE, FILE, "EXITED", False, True),
        (FILE, FILE, "FATAL", False, True),
        (FILE, FILE, "", False, True),
        (FILE, None, "RUNNING", True, True),
        (FILE, None, "", True, False),
        (None, None, "RUNNING", False, True),
        (None, None, "", False, False),
    ],
)
def test_what_changes(before: Entry | None, after: Entry | None, state: str, *, describes: bool, moves: bool) -> None:
    plan = Plan("x", before, after, state)
    assert (plan.describes, plan.moves, plan.changes) == (describes, moves, describes or moves)
    assert len(plan.diff()) == describes + moves


class Fake:
    """supervisorctl: each call takes the next answer, and a second."""

    def __init__(self, *answers: tuple[str, int, str]) -> None:
        self.answers = list(answers)
        self.now = 0.0
        self.calls: list[str] = []

    def run(self, arguments: t.Sequence[str]) -> Finished:
        self.calls.append(" ".join(arguments[1:]))
        self.now += 1
        wanted, code, output = self.answers.pop(0)
        assert (arguments[0], arguments[1]) == ("supervisorctl", wanted)
        return Finished(code, output)

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    @property
    def machine(self) -> Machine:
        return Machine(self.run, lambda: self.now, _dead_man.World(lambda: self.now, self.sleep, lambda _url: True))


Call = collections.abc.Callable[..., dict[str, t.Any]]


@pytest.fixture
def call(tmp_path: Path) -> Call:
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "env").mkdir()
    (tmp_path / "env/r2.env").touch()
    server = {"config_dir": str(tmp_path / "conf.d"), "ctl": ["supervisorctl"], "log_dir": None, "python": "python3", "path": "/bin"}
    base: dict[str, t.Any] = {
        "app": "a",
        "state_dir": str(tmp_path),
        "server": server,
        "root": str(tmp_path),
        "process": "web",
        "slot": "blue",
        "release": "r2",
    }
    base |= {"port": 0, "command": "serve", "bind_address": "::1", "stop": None, "stop_seconds": 2, "user": None}
    base |= {"timer": "x", "run_id": "run-1", "seconds": 60, "revert": [], "dead_runs": [], "processes": ["web"]}
    base |= {"errors_after": None, "errors_of": "", "error_pattern": "ERROR"}

    def run(state: str, fake: Fake, *, write: bool = True, **other: object) -> dict[str, t.Any]:
        options = {**base, "state": state, **other}
        result = _supervisor.info(options, fake.machine) if state == "info" else _supervisor.run(options, fake.machine, write=write)
        assert fake.answers == []
        return result

    return run


LINE = "a-web-blue                       {}   some words\n"
ADDED = ("update", 0, "a-web-blue: added process group\n")


def state(name: str) -> tuple[str, int, str]:
    return ("status", 0 if name in {"RUNNING", "STARTING"} else 3, LINE.format(name))


def test_a_start_waits_until_it_runs(call: Call, tmp_path: Path) -> None:
    fake = Fake(("status", 0, ""), ADDED, state("STARTING"), state("STARTING"), state("RUNNING"))
    assert call("started", fake)["changed"] is True
    assert fake.calls == ["status", "update a-web-blue", "status", "status", "status"]
    assert (tmp_path / "conf.d/a-web-blue.conf").stat().st_mode & 0o777 == 0o644
    # What a crash before the update left is told to supervisor all the same.
    assert call("started", Fake(state("RUNNING"), ("update", 0, "")))["changed"] is False
    assert call("started", Fake(state("RUNNING"), ADDED, state("RUNNING")))["changed"] is True
    started = Fake(state("STOPPED"), ("update", 0, ""), state("STOPPED"), ("start", 0, "a-web-blue: started\n"))
    assert call("started", started)["changed"] is True
    assert call("info", Fake(state("RUNNING")))["programs"] == {"web-blue": {"state": "RUNNING", "release": "r2", "port": 0}}


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        ([ADDED, state("BACKOFF")], "a-web-blue (r2) does not run: BACKOFF some words.\n"),
        ([("update", 0, ""), state("FATAL"), ("start", 7, "a-web-blue: ERROR (spawn error)\n")], "does not run: a-web-blue: ERROR (spawn error).\n"),
        ([ADDED, *[state("STARTING")] * 30], "does not run: STARTING some words.\n"),
        ([("update", 0, ""), ("status", 0, "")], "does not run: unknown.\n"),
    ],
)
def test_what_does_not_run_is_stopped_and_told(call: Call, answers: list[tuple[str, int, str]], told: str) -> None:
    fake = Fake(("status", 0, ""), *answers, ("stop", 0, ""))
    with pytest.raises(LastroError) as error:
        call("started", fake)
    assert told in error.value.message
    assert fake.calls[-1] == "stop a-web-blue"
    assert fake.now < 2 + _supervisor.GRACE_SECONDS + 5


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (("update", 1, "error: <class 'xmlrpc.client.Fault'>, <Fault 92: 'CANT_REREAD: x'>\n"), "supervisorctl update a-web-blue failed: error:"),
        (("update", 1, "ERROR: no such group: a-web-blue\n"), "supervisor does not see"),
        (
            ("update", 1, "error: <class 'ConnectionRefusedError'>, [Errno 111] Connection refused: file: x\n"),
            "supervisor does not answer on this host: error:",
        ),
    ],
)
def test_a_file_that_supervisor_does_not_take_is_taken_back(call: Call, tmp_path: Path, answer: tuple[str, int, str], told: str) -> None:
    file = tmp_path / "conf.d/a-web-blue.conf"
    for before in (None, "old\n"):
        if before:
            file.write_text(before, encoding="utf-8")
        with pytest.raises(LastroError) as error:
            call("started", Fake(("status", 0, ""), answer))
        assert told in error.value.message
        assert (file.read_text(encoding="utf-8") if file.exists() else None) == before


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (("status", 4, "unix:///run/a b.sock no such file\n"), "supervisor does not answer on this host: unix:///run/a b.sock no such file."),
        (("status", 7, "http://localhost:9001 refused connection\n"), "supervisor does not answer on this host: http://localhost:9001 refused connection."),
        (("status", 1, "error: <class 'PermissionError'>, [Errno 13] Permission denied: x\n"), "supervisor does not answer on this host: error:"),
        (("status", 127, "supervisorctl: No such file or directory"), "supervisor does not answer on this host: supervisorctl: No such"),
        (("status", 1, "Server requires authentication\n"), "supervisorctl status failed: Server requires authentication."),
        (("status", 2, ""), "supervisorctl status failed: exit status 2."),
    ],
)
@pytest.mark.parametrize("wanted", ["started", "stopped", "info"])
def test_a_supervisor_that_does_not_answer(call: Call, tmp_path: Path, wanted: str, answer: tuple[str, int, str], told: str) -> None:
    with pytest.raises(LastroError) as error:
        call(wanted, Fake(answer))
    assert error.value.message.startswith(told)
    assert list((tmp_path / "conf.d").iterdir()) == []


def test_a_stop_takes_the_file_away_and_tells_supervisor(call: Call, tmp_path: Path) -> None:
    file = tmp_path / "conf.d/a-web-blue.conf"
    file.write_text("x", encoding="utf-8")
    assert call("stopped", Fake(state("RUNNING")), write=False)["changed"] is True
    assert file.exists()
    assert call("stopped", Fake(state("RUNNING"), ("update", 0, "a-web-blue: stopped\na-web-blue: removed process group\n")))["changed"] is True
    assert not file.exists()
    assert call("stopped", Fake(("status", 0, "")))["changed"] is False
    # A file that supervisor had not read yet.
    file.write_text("x", encoding="utf-8")
    assert call("stopped", Fake(("status", 0, ""), ("update", 1, "ERROR: no such group: a-web-blue\n")))["changed"] is True
    with pytest.raises(LastroError, match="has problems; not removing"):
        call("stopped", Fake(state("RUNNING"), ("update", 1, "a-web-blue: has problems; not removing\n")))


def test_a_timer_is_a_program_of_its_own(call: Call, tmp_path: Path) -> None:
    file = tmp_path / "conf.d/a-timer-x.conf"
    armed = call("armed", Fake(("update", 0, "a-timer-x: added process group\n")))
    assert (armed["changed"], armed["program"], len(armed["diff"])) == (True, "a-timer-x", 2)
    assert file.read_text(encoding="utf-8").startswith("; Written by lastro.deploy")
    # One that had ended is started, one that runs is not hurt by it.
    again = call("armed", Fake(("update", 0, ""), ("start", 0, "a-timer-x: ERROR (already started)\n")))
    assert (again["changed"], len(again["diff"])) == (True, 1)
    with pytest.raises(LastroError, match=r"supervisorctl start a-timer-x failed: a-timer-x: ERROR \(spawn error\)\."):
        call("armed", Fake(("update", 0, ""), ("start", 7, "a-timer-x: ERROR (spawn error)\n")))
    other = call("disarmed", Fake(), run_id="run-2")
    assert (other["changed"], other["timer"]["run_id"], file.exists()) == (False, "run-1", True)
    assert call("disarmed", Fake(), write=False)["changed"] is True
    taken = call("disarmed", Fake(("update", 0, "a-timer-x: removed process group\n")))
    assert (taken["changed"], taken["timer"]["changed"], file.exists()) == (True, True, False)
    assert call("disarmed", Fake(("update", 1, "ERROR: no such group: a-timer-x\n")))["changed"] is False


def test_logs_lie_in_the_state_directory_unless_the_profile_says_otherwise() -> None:
    server = {"config_dir": "/c", "ctl": ["s"], "log_dir": None, "python": "p", "path": "/bin"}
    assert _supervisor.server_from({"server": server, "state_dir": "/s"}).log_dir == Path("/s/log")
    assert _supervisor.server_from({"server": {**server, "log_dir": "/l"}}).log_dir == Path("/l")
    assert _process.program_name("a", "web", "blue") == "a-web-blue"


def test_files_of_other_apps_are_not_read(call: Call, tmp_path: Path) -> None:
    header = Process("a-b", "web", "blue", "r9", 1, tmp_path, "x").header(";")
    (tmp_path / "conf.d/a-b-web-blue.conf").write_text(header, encoding="utf-8")
    (tmp_path / "conf.d/b-web-blue.conf").write_bytes(b"\xff")
    (tmp_path / "conf.d/a-web-green.conf").write_text("by hand", encoding="utf-8")
    assert call("info", Fake(("status", 0, "")))["programs"] == {}
    with pytest.raises(LastroError, match="none cannot be read: No such file or directory"):
        call(
            "info", Fake(("status", 0, "")), server={"config_dir": str(tmp_path / "none"), "ctl": ["supervisorctl"], "log_dir": None, "python": "", "path": ""}
        )
