# SPDX-License-Identifier: GPL-3.0-or-later
"""The strategy systemd against a systemctl that answers from a small model of units."""

from __future__ import annotations

import collections.abc
import dataclasses
import re
import sys
import typing as t
from pathlib import Path

import pytest
from ansible_collections.lastro.deploy.plugins.module_utils import _dead_man, _environment_file, _systemd, _systemd_unit
from ansible_collections.lastro.deploy.plugins.module_utils._errors import LastroError
from ansible_collections.lastro.deploy.plugins.module_utils._process import Command, Entry, Finished, Machine, Process
from ansible_collections.lastro.deploy.plugins.module_utils._systemd import Plan, Seen
from ansible_collections.lastro.deploy.plugins.modules import systemd, systemd_info
from hypothesis import given
from hypothesis import strategies as st

STATE = Path("/var/lib/lastro/a%b")


def process(command: Command, *, stop_seconds: int = 30, user: str = "calendar", root: str = "/opt/calendar%api") -> Process:
    return Process("calendar-api", "web", "blue", "r2", 8001, Path(root), command, "10.0.0.1", stop_seconds, user)


def test_the_file_of_a_process() -> None:
    awkward = process(("service", "{bind}", "{release_dir}", "a ;b", ";", "100%", "$HOME", 'it\'s "so"', "a\nb\\"), stop_seconds=300)
    text = _systemd_unit.unit_text(awkward, ["MemoryMax=512M", "CPUQuota=150%"], ["/srv/up loads", "/srv/50%"])
    hardening = "\n".join(_systemd_unit.HARDENING)
    assert text == (
        '# lastro: {"app": "calendar-api", "process": "web", "slot": "blue", "release": "r2", "port": 8001}\n'
        "# Written by lastro.deploy. The variables come from the environment file when the process starts: no secret stands here.\n"
        "[Unit]\n"
        "Description=calendar-api web, slot blue, release r2\n"
        "Wants=network-online.target\n"
        "After=network-online.target\n"
        "StartLimitIntervalSec=600\n"
        "StartLimitBurst=100\n"
        "\n"
        "[Service]\n"
        "Type=exec\n"
        "ExecStart=/usr/bin/env PATH=/opt/calendar%%api/releases/r2/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "
        "PORT=8001 DEPLOY_RELEASE=r2 service 10.0.0.1:8001 /opt/calendar%%api/releases/r2 "
        '"a ;b" ";" 100%% $$HOME "it\'s \\"so\\"" "a\\x0ab\\\\"\n'
        "WorkingDirectory=/opt/calendar%%api/releases/r2\n"
        "EnvironmentFile=/opt/calendar%%api/env/r2.env\n"
        "User=calendar\n"
        "Restart=on-failure\n"
        "RestartSec=2\n"
        "KillMode=mixed\n"
        "TimeoutStopSec=300\n"
        "MemoryMax=512M\n"
        "CPUQuota=150%\n"
        f"{hardening}\n"
        "ProtectHome=yes\n"
        'ReadWritePaths="/srv/up loads" /srv/50%%\n'
        "\n"
        "[Install]\n"
        "WantedBy=multi-user.target\n"
    )
    bare = _systemd_unit.unit_text(process("gunicorn -b {bind} 'x {release}' 5%", stop_seconds=0, user="", root="/home/app"))
    assert 'DEPLOY_RELEASE=r2 gunicorn -b 10.0.0.1:8001 "x r2" 5%%\n' in bare
    assert "ProtectHome=read-only\n" in bare
    # 0 seconds would be for ever.
    assert "TimeoutStopSec=1ms\n" in bare
    assert "User=" not in bare and "ReadWritePaths" not in bare


def test_the_file_of_a_timer() -> None:
    assert _systemd_unit.timer_text("calendar-api", STATE, "slot-app1") == (
        "# Written by lastro.deploy: puts our change back on this host when nobody confirms it in time.\n"
        "[Unit]\n"
        "Description=calendar-api dead-man timer slot-app1\n"
        "Wants=network-online.target\n"
        "After=network-online.target\n"
        "StartLimitIntervalSec=0\n"
        "\n"
        "[Service]\n"
        "Type=exec\n"
        "ExecStart=/var/lib/lastro/a%%b/bin/dead_man.py run /var/lib/lastro/a%%b/timers slot-app1\n"
        "Restart=on-failure\n"
        "RestartSec=1\n"
        "NoNewPrivileges=yes\n"
        "\n"
        "[Install]\n"
        "WantedBy=multi-user.target\n"
    )


def read_by_systemd(line: str) -> list[str]:
    """The words of an ExecStart, as systemd.service(5) and systemd.syntax(7) say: split, unquoted, unescaped, then % and $ looked at."""
    words = []
    for match in re.finditer(r'"((?:[^"\\]|\\.)*)"|(\S+)', line):
        word = match[2] if match[1] is None else re.sub(r"\\(x[0-9a-f]{2}|.)", lambda at: chr(int(at[1][1:], 16)) if len(at[1]) > 1 else at[1], match[1])
        assert match[1] is not None or not set(word) & set("\\'\";")
        assert not re.search(r"(?<!%)(%%)*%(?!%)", word) and not re.search(r"(?<!\$)(\$\$)*\$(?!\$)", word)
        words.append(word.replace("%%", "%").replace("$$", "$"))
    return words


@given(st.lists(st.text(st.sampled_from("a;#% \t\n'\"\\é$~{}"), max_size=8), min_size=1, max_size=4))
def test_systemd_reads_the_same_arguments(arguments: list[str]) -> None:
    line = _systemd_unit.join(arguments)
    assert "\n" not in line
    assert read_by_systemd(line) == arguments


def test_a_command_that_cannot_be_split() -> None:
    with pytest.raises(LastroError, match=r"has a quotation mark or backslash too many. Write the command as a list of arguments\."):
        _systemd_unit.unit_text(process("serve 'x"))


@pytest.mark.parametrize(
    ("limits", "lines"),
    [
        (None, []),
        ({"memory_max": None, "cpu_quota": None, "tasks_max": None}, []),
        ({"memory_max": "512M", "cpu_quota": "150%", "tasks_max": "512"}, ["MemoryMax=512M", "CPUQuota=150%", "TasksMax=512"]),
        ({"memory_max": "1073741824"}, ["MemoryMax=1073741824"]),
    ],
)
def test_limits(limits: dict[str, str | None] | None, lines: list[str]) -> None:
    assert _systemd_unit.limits_from({"limits": limits, "process": "web"}) == lines


@pytest.mark.parametrize("limits", [{"memory_max": "512MB"}, {"memory_max": "0"}, {"cpu_quota": "1.5"}, {"tasks_max": "many"}, {"tasks_max": "-1"}])
def test_a_limit_that_systemd_would_ignore(limits: dict[str, str]) -> None:
    with pytest.raises(LastroError, match=r"limits.\w+ of the process web is '.*'\. Write it as in \w+: \d+") as error:
        _systemd_unit.limits_from({"limits": limits, "process": "web"})
    assert error.value.remedy.pt_BR.startswith("Escreva como em ")


FILE = Entry(Path("/etc/systemd/system/x.service"), 0o644, "new")
OTHER = dataclasses.replace(FILE, content="old")


@pytest.mark.parametrize(
    ("before", "after", "state", "enabled", "changes"),
    [
        (None, FILE, "", False, "describes moves links"),
        (OTHER, FILE, "RUNNING", True, "describes"),
        (FILE, FILE, "RUNNING", True, ""),
        (FILE, FILE, "RUNNING", False, "links"),
        (FILE, FILE, "BACKOFF", True, "moves"),
        (FILE, FILE, "FATAL", False, "moves links"),
        (FILE, FILE, "STOPPED", True, "moves"),
        (FILE, None, "RUNNING", True, "describes moves links"),
        (FILE, None, "STOPPED", False, "describes"),
        (FILE, None, "FATAL", False, "describes moves"),
        (None, None, "RUNNING", False, "moves"),
        (None, None, "", True, "links"),
        (None, None, "", False, ""),
    ],
)
def test_what_changes(before: Entry | None, after: Entry | None, state: str, *, enabled: bool, changes: str) -> None:
    plan = Plan("x", before, after, state, enabled)
    assert " ".join(name for name in ("describes", "moves", "links") if getattr(plan, name)) == changes
    assert plan.changes is bool(changes)
    assert len(plan.diff()) == len(changes.split())


@pytest.mark.parametrize(
    ("properties", "state"),
    [
        ({}, ""),
        ({"LoadState": "not-found", "ActiveState": "inactive"}, ""),
        ({"LoadState": "not-found", "ActiveState": "active"}, "RUNNING"),
        ({"LoadState": "not-found", "ActiveState": "failed"}, "FATAL"),
        ({"LoadState": "loaded", "ActiveState": "inactive"}, "STOPPED"),
        ({"LoadState": "bad-setting", "ActiveState": "inactive"}, "STOPPED"),
        ({"LoadState": "loaded", "ActiveState": "activating", "SubState": "start"}, "STARTING"),
        ({"LoadState": "loaded", "ActiveState": "activating", "SubState": "auto-restart-queued"}, "BACKOFF"),
        ({"LoadState": "loaded", "ActiveState": "deactivating"}, "STOPPING"),
        ({"LoadState": "loaded", "ActiveState": "maintenance"}, "MAINTENANCE"),
    ],
)
def test_states(properties: dict[str, str], state: str) -> None:
    assert Seen(properties).state == state


DONE = Finished(0, "")


class Fake:
    """systemctl with one unit or more. A start is *start*: what it answers, and the properties that each look after it finds."""

    def __init__(self, *looks: dict[str, str], start: Finished = DONE, refuse: t.Mapping[str, Finished] | None = None) -> None:
        self.units: dict[str, dict[str, str]] = {}
        self.looks, self.start, self.refuse = list(looks), start, refuse or {}
        self.now = 1000.0
        self.calls: list[str] = []
        self.log = ""

    def run(self, arguments: t.Sequence[str]) -> Finished:
        program, verb, *rest = arguments
        name = rest[-1].removesuffix(".service") if rest else ""
        self.calls.append(f"{verb} {name}".strip())
        if program == "journalctl":
            return Finished(0, self.log)
        if verb in self.refuse:
            return self.refuse[verb]
        if verb == "show":
            assert rest[0] == f"--property={_systemd.PROPERTIES}"
            return Finished(0, "\n".join(self.block(unit) for unit in rest[1:]))
        if verb in {"start", "restart"}:
            self.units[name] = {"LoadState": "loaded", "ActiveState": "active", "MainPID": "7"}
            return self.start
        if verb == "stop":
            self.units.pop(name, None)
            self.looks.clear()
        return Finished(0, "")

    def block(self, unit: str) -> str:
        found = self.units.get(unit.removesuffix(".service"), {"LoadState": "not-found", "ActiveState": "inactive"})
        if self.looks and "MainPID" in found:
            found = {**found, **self.looks.pop(0)}
        return "".join(f"{name}={value}\n" for name, value in {"Id": unit, **found}.items())

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    @property
    def machine(self) -> Machine:
        return Machine(self.run, lambda: self.now, _dead_man.World(lambda: self.now, self.sleep, lambda _url: True))


Call = collections.abc.Callable[..., dict[str, t.Any]]


@pytest.fixture
def units(tmp_path: Path) -> Path:
    directory = tmp_path / "system"
    directory.mkdir()
    return directory


@pytest.fixture
def call(tmp_path: Path, units: Path) -> Call:
    (tmp_path / "env").mkdir()
    (tmp_path / "env/r2.env").write_text(_environment_file.render({"TOKEN": "s3cret-value"}), encoding="utf-8")
    base: dict[str, t.Any] = {"app": "a", "state_dir": str(tmp_path), "root": str(tmp_path), "process": "web", "slot": "blue", "release": "r2"}
    base |= {"port": 0, "command": "serve", "bind_address": "::1", "stop": None, "stop_seconds": 2, "user": None, "limits": None, "writable": []}
    base |= {"timer": "x", "run_id": "run-1", "seconds": 60, "revert": [], "dead_runs": [], "processes": ["web"]}
    base |= {"errors_after": None, "errors_of": "", "error_pattern": "ERROR"}

    def run(state: str, fake: Fake, *, write: bool = True, **other: object) -> dict[str, t.Any]:
        options = {**base, "state": state, **other}
        if state == "info":
            return _systemd.info(options, fake.machine, units=units)
        return _systemd.run(options, fake.machine, write=write, units=units)

    return run


def test_a_start_waits_until_it_has_run_for_a_second(call: Call, units: Path) -> None:
    fake = Fake()
    checked = call("started", fake, write=False)
    assert (checked["changed"], list(units.iterdir())) == (True, [])
    assert call("started", fake) == checked
    assert fake.now >= 1000 + _systemd.SETTLE_SECONDS
    assert fake.calls[1:4] == ["show a-web-blue", "daemon-reload", "start a-web-blue"]
    file = units / "a-web-blue.service"
    assert file.stat().st_mode & 0o777 == 0o644
    assert (units / "multi-user.target.wants/a-web-blue.service").readlink() == file
    fake.calls.clear()
    assert call("started", fake) == {"changed": False, "diff": [], "program": "a-web-blue"}
    assert fake.calls == ["show a-web-blue"]
    assert call("info", fake)["programs"] == {"web-blue": {"state": "RUNNING", "release": "r2", "port": 0}}
    # A link that somebody took away comes back, and nothing is restarted for it.
    (units / "multi-user.target.wants/a-web-blue.service").unlink()
    again = call("started", fake)
    assert (again["changed"], again["diff"]) == (True, [{"before": {"enabled": False}, "after": {"enabled": True}}])
    assert "start a-web-blue" not in fake.calls


def test_another_release_in_the_same_slot_is_loaded_while_nothing_runs(call: Call) -> None:
    fake = Fake()
    call("started", fake)
    fake.calls.clear()
    assert call("started", fake, command="serve more")["changed"] is True
    assert fake.calls[:5] == ["show a-web-blue", "stop a-web-blue", "reset-failed a-web-blue", "daemon-reload", "start a-web-blue"]
    # A crash between file and load: the next start loads it.
    fake.units["a-web-blue"] = {"LoadState": "loaded", "ActiveState": "inactive", "NeedDaemonReload": "yes"}
    fake.calls.clear()
    assert call("started", fake, command="serve more")["changed"] is True
    assert fake.calls[:3] == ["show a-web-blue", "daemon-reload", "start a-web-blue"]


@pytest.mark.parametrize(
    ("looks", "start", "told"),
    [
        (
            [{"ActiveState": "activating", "SubState": "auto-restart", "ExecMainCode": "1", "ExecMainStatus": "3"}],
            Finished(0, ""),
            "it ended with exit status 3",
        ),
        ([{}, {"ActiveState": "failed", "ExecMainCode": "2", "ExecMainStatus": "9"}], Finished(0, ""), "signal 9 ended it"),
        ([{}, {}, {"MainPID": "8", "ExecMainCode": "1", "ExecMainStatus": "1"}], Finished(0, ""), "it ended with exit status 1"),
        (
            [{"ActiveState": "failed", "ExecMainCode": "1", "ExecMainStatus": "203"}],
            Finished(1, "Job for a-web-blue.service failed because x.\nSee y\n"),
            "exit status 203",
        ),
        ([{"ActiveState": "inactive"}], Finished(0, ""), "it ended without an error"),
        ([{"ActiveState": "failed"}], Finished(0, ""), "failed"),
        ([{"LoadState": "bad-setting", "ActiveState": "inactive"}], Finished(1, "Failed to start a: bad unit file setting.\n"), "bad unit file setting"),
    ],
)
def test_what_does_not_run_is_stopped_and_told(call: Call, units: Path, looks: list[dict[str, str]], start: Finished, told: str) -> None:
    fake = Fake(*looks, start=start)
    fake.log = "cannot use s3cret-value\n"
    with pytest.raises(LastroError) as error:
        call("started", fake)
    assert told in error.value.message.splitlines()[0]
    assert error.value.message.splitlines()[1:] == ["journalctl -u a-web-blue ends with:", "cannot use [TOKEN]"]
    assert "stop a-web-blue" in fake.calls
    # It is told by the next status, and not started at boot.
    assert call("info", fake)["programs"] == {"web-blue": {"state": "STOPPED", "release": "r2", "port": 0}}
    assert not (units / "multi-user.target.wants/a-web-blue.service").is_symlink()


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (Finished(127, "systemctl: No such file or directory"), "systemd does not answer on this host: systemctl: No such file or directory."),
        (Finished(1, "System has not been booted with systemd as init system (PID 1). Can't operate.\n"), "systemd does not answer on this host: System"),
        (Finished(1, "Failed to connect to bus: No such file or directory\n"), "systemd does not answer on this host: Failed to connect"),
    ],
)
@pytest.mark.parametrize("wanted", ["started", "stopped", "info"])
def test_a_systemd_that_does_not_answer(call: Call, units: Path, wanted: str, answer: Finished, told: str) -> None:
    with pytest.raises(LastroError) as error:
        call(wanted, Fake(refuse={"show": answer}))
    assert error.value.message.startswith(told)
    assert list(units.iterdir()) == []


def test_a_stop_leaves_nothing(call: Call, units: Path) -> None:
    fake = Fake()
    call("started", fake)
    assert call("stopped", fake, write=False)["changed"] is True
    fake.calls.clear()
    stopped = call("stopped", fake)
    assert (stopped["changed"], len(stopped["diff"])) == (True, 3)
    assert fake.calls == ["show a-web-blue", "stop a-web-blue", "reset-failed a-web-blue", "daemon-reload"]
    assert [path.name for path in units.rglob("*")] == ["multi-user.target.wants"]
    assert call("stopped", fake) == {"changed": False, "diff": [], "program": "a-web-blue"}
    # One without a file, since a stop was cut short, is seen and ended.
    fake.units["a-web-blue"] = {"LoadState": "not-found", "ActiveState": "active"}
    assert call("info", fake)["programs"] == {"web-blue": {"state": "RUNNING", "release": "", "port": 0}}
    assert call("stopped", fake)["changed"] is True
    refusing = Fake(refuse={"stop": Finished(4, "Failed to stop a-web-blue.service: Access denied\n")})
    call("started", refusing)
    with pytest.raises(LastroError, match=r"systemctl stop a-web-blue.service failed: Failed to stop a-web-blue.service: Access denied\.") as error:
        call("stopped", refusing)
    assert "ansible_become" in error.value.remedy.pt_BR
    assert (units / "a-web-blue.service").exists()


def test_a_timer_is_a_unit_of_its_own(call: Call, units: Path, tmp_path: Path) -> None:
    fake = Fake()
    file = units / "a-timer-x.service"
    armed = call("armed", fake)
    assert (armed["changed"], armed["program"], len(armed["diff"])) == (True, "a-timer-x", 2)
    assert fake.calls == ["daemon-reload", "restart a-timer-x"]
    assert (units / "multi-user.target.wants/a-timer-x.service").readlink() == file
    assert (tmp_path / "timers/x.deadline").read_text(encoding="utf-8") == "1060.000\n"
    assert len(call("armed", fake)["diff"]) == 1
    assert fake.calls[2:] == ["show a-timer-x", "restart a-timer-x"]
    assert call("info", fake)["programs"] == {}
    with pytest.raises(LastroError, match="belongs to the run run-1"):
        call("armed", fake, run_id="run-2")
    other = call("disarmed", fake, run_id="run-2")
    assert (other["changed"], other["timer"]["run_id"], file.exists()) == (False, "run-1", True)
    assert call("disarmed", fake, write=False)["changed"] is True
    taken = call("disarmed", fake)
    assert (taken["changed"], taken["timer"]["changed"], [path.name for path in units.rglob("*")]) == (True, True, ["multi-user.target.wants"])
    assert call("disarmed", fake)["changed"] is False
    assert call("armed", Fake(), write=False)["changed"] is True
    assert list((tmp_path / "timers").iterdir()) == []


def test_a_value_that_systemd_would_leave_out_is_named(call: Call, units: Path, tmp_path: Path) -> None:
    values = {"GOOD": "two\nlines\tand é", "KEY": "s3cret\r\nvalue", "BELL": "\x07"}
    (tmp_path / "env/r2.env").write_text(_environment_file.render(values), encoding="utf-8", newline="")
    with pytest.raises(LastroError, match=r"systemd gives a process no value with a control character: BELL, KEY\.") as error:
        call("started", Fake())
    assert "s3cret" not in str(error.value)
    assert list(units.iterdir()) == []
    (tmp_path / "env/r2.env").unlink()
    assert call("started", Fake(), write=False)["changed"] is True
    with pytest.raises(LastroError, match=r"env/r2\.env cannot be read: No such file or directory"):
        call("started", Fake())
    (tmp_path / "env/r2.env").write_bytes(b'A="\xff"')
    with pytest.raises(LastroError, match=r"env/r2\.env cannot be read: it is not UTF-8\."):
        call("started", Fake())
    assert list(units.iterdir()) == []


def test_a_host_is_prepared_once(call: Call, tmp_path: Path) -> None:
    state = tmp_path / "state"
    assert call("prepared", Fake(), state_dir=str(state))["changed"] is True
    assert sorted(str(path.relative_to(state)) for path in state.rglob("*")) == ["bin", "bin/dead_man.py", "timers"]
    assert (state / "bin/dead_man.py").read_text(encoding="utf-8").startswith(f"#!{sys.executable}\n")
    assert call("prepared", Fake(), state_dir=str(state))["changed"] is False


def test_files_of_other_apps_are_not_read(call: Call, units: Path, tmp_path: Path) -> None:
    header = Process("a-b", "web", "blue", "r9", 1, tmp_path, "x").header("#")
    (units / "a-b-web-blue.service").write_text(header, encoding="utf-8")
    (units / "b-web-blue.service").write_bytes(b"\xff")
    (units / "a-web-green.service").write_text("by hand", encoding="utf-8")
    assert call("info", Fake())["programs"] == {}
    assert call("info", Fake(), processes=[])["programs"] == {}


def test_the_modules_say_what_they_did_or_what_is_missing(call_module: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = call_module(systemd, app="a", state="prepared", state_dir=str(tmp_path / "state"))
    assert prepared["changed"] is True
    monkeypatch.setenv("PATH", str(tmp_path))
    stopped = call_module(systemd, app="a", state="stopped", process="web", slot="blue")
    assert (stopped["failed"], stopped["problem"]) == (True, "systemd does not answer on this host: systemctl: No such file or directory.")
    assert stopped["remedy"]["pt_BR"].startswith("Faça o deploy em um host iniciado pelo systemd")
    refused = call_module(systemd, app="a", state="prepared", state_dir=str(tmp_path), limits={"memory": "1G"})
    assert "memory" in refused["msg"]
    assert call_module(systemd_info, app="a", processes=["web"])["failed"] is True
