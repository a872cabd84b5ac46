# SPDX-License-Identifier: GPL-3.0-or-later
"""The strategy supervisor under a real supervisord, with its dead-man timers before a real Caddy.

Each task file of the role is played at least once; the rest calls the module that it consists of.
"""

from __future__ import annotations

import collections.abc
import contextlib
import dataclasses
import json
import secrets
import subprocess
import sys
import time
import types
import typing as t
import urllib.request
from pathlib import Path

import pytest
import redis
from ansible_collections.lastro.deploy.plugins.module_utils import _dead_man, _engine_program, _environment_file, _log_tail, _process
from ansible_collections.lastro.deploy.plugins.modules import supervisor as supervisor_module
from ansible_collections.lastro.deploy.plugins.modules import supervisor_info
from demo.caddy import Caddy
from demo.postgres import free_port
from demo.process import alive, wait_until
from demo.supervisor import Supervisor
from demo.valkey import Valkey

SERVICE = """
import http.server, json, os, signal, sys, time
class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_): pass
    def do_GET(self):
        body = json.dumps({"arguments": sys.argv[1:], "environment": dict(os.environ), "cwd": os.getcwd()}).encode()
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers(); self.wfile.write(body)
def leave(*_):
    open("stopped-" + os.environ["PORT"], "w").close(); sys.exit(0)
signal.signal(signal.SIGTERM, leave)
print("listening", flush=True)
http.server.HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""
STUBBORN = """
import os, signal, time
signal.signal(signal.SIGTERM, lambda *_: open("asked-" + os.environ["PORT"], "w").close())
open("deaf-" + os.environ["PORT"], "w").close()
while True:
    time.sleep(60)
"""
BROKEN = """
import os, sys
print("cannot reach", os.environ["DATABASE_URL"], "with", os.environ["TOKEN_KEY"], flush=True)
sys.exit(3)
"""


Answer = dict[str, t.Any]
CallModule = collections.abc.Callable[..., Answer]


@dataclasses.dataclass(frozen=True)
class Lab:
    supervisor: Supervisor
    root: Path
    state: Path
    secret: str
    play: t.Callable[..., t.Any]
    role: t.Callable[..., dict[str, t.Any]]

    def strategy(self, tasks: str, **variables: object) -> dict[str, t.Any]:
        return self.role("strategy", f"supervisor/{tasks}.yml", **variables)

    def start(self, port: int, *, release: str = "r2", slot: str = "blue", command: object = "service {port} {release}") -> dict[str, t.Any]:
        spec = {"command": command, "ports": [port, port], "stop_seconds": 5}
        return self.strategy("start", strategy_process="web", strategy_spec=spec, strategy_slot=slot, strategy_port=port, strategy_release=release)

    def stop(self, slot: str = "blue") -> dict[str, t.Any]:
        return self.strategy("stop", strategy_process="web", strategy_slot=slot)

    def release(self, name: str, program: str, **variables: str) -> None:
        directory = self.root / "releases" / name
        (directory / "venv/bin").mkdir(parents=True)
        service = directory / "venv/bin/service"
        service.write_text(f"#!{sys.executable}\n{program}", encoding="utf-8")
        service.chmod(0o755)
        environment = self.root / "env" / f"{name}.env"
        environment.parent.mkdir(exist_ok=True)
        environment.touch(mode=0o600)
        environment.write_text("".join(f'{key}="{value}"\n' for key, value in variables.items()), encoding="utf-8")

    def ctl(self, *arguments: str) -> str:
        return subprocess.run([*self.supervisor.ctl, *arguments], capture_output=True, text=True, check=False).stdout

    def programs(self) -> list[str]:
        return sorted(path.name for path in self.supervisor.programs.iterdir())

    def timer(self, seconds: int, *revert: dict[str, object], run_id: str = "run-1") -> dict[str, t.Any]:
        return self.strategy("arm", strategy_timer={"name": "maintenance", "run_id": run_id, "seconds": seconds, "revert": list(revert)})

    def renew(self, seconds: int) -> list[str]:
        program = [str(self.state / "bin/dead_man.py"), "renew", str(self.state / "timers"), "run-1", str(seconds)]
        return t.cast(list[str], json.loads(subprocess.run(program, capture_output=True, check=True).stdout)["renewed"])

    def disarm(self, run_id: str = "run-1") -> dict[str, t.Any]:
        return self.strategy("disarm", strategy_timer_name="maintenance", strategy_timer_run_id=run_id)


@pytest.fixture(scope="module")
def supervisor(base: Path) -> collections.abc.Iterator[Supervisor]:
    server = Supervisor.create(base / "supervisor")
    yield server
    server.stop()
    assert server.daemon.pids() == []


@pytest.fixture(scope="module")
def lab(base: Path, supervisor: Supervisor, player: collections.abc.Callable[..., t.Any], include_role: collections.abc.Callable[..., t.Any]) -> Lab:
    (base / "state").mkdir(mode=0o711)
    variables = {
        "deploy_app": "calendar-api",
        "deploy_root": str(base / "root"),
        "deploy_state_dir": str(base / "state"),
        "deploy_supervisor": supervisor.variables(),
        "deploy_processes": {"web": {}, "worker": {}},
    }
    one = Lab(supervisor, base / "root", base / "state", secrets.token_hex(24), player(variables), include_role)
    secret = {"TOKEN_KEY": one.secret, "DATABASE_URL": f"postgresql://app:{one.secret}-db@db/x", "PORT": "1", "WITH_PERCENT": "50% #; off"}
    one.release("r2", SERVICE, **secret)
    one.release("r3", BROKEN, **secret)
    one.release("r4", STUBBORN, **secret)
    one.play(one.strategy("prepare"))
    return one


@dataclasses.dataclass(frozen=True)
class Module:
    """The modules of the strategy, called in this process."""

    lab: Lab
    call_module: CallModule
    server: dict[str, t.Any]

    def __call__(self, state: str, *, check: bool = False, **options: object) -> Answer:
        return self._call(supervisor_module, check=check, state=state, state_dir=str(self.lab.state), **options)

    def start(
        self, port: int, *, release: str = "r2", slot: str = "blue", command: object = "service {port} {release}", check: bool = False, seconds: int = 5
    ) -> Answer:
        process = {"process": "web", "slot": slot, "release": release, "port": port, "command": command, "stop_seconds": seconds}
        return self("started", check=check, root=str(self.lab.root), **process)

    def stop(self, slot: str = "blue", *, check: bool = False) -> Answer:
        return self("stopped", check=check, process="web", slot=slot)

    def arm(self, seconds: int, *revert: dict[str, object], run_id: str = "run-1", check: bool = False, dead_runs: t.Sequence[str] = ()) -> Answer:
        return self("armed", check=check, timer="maintenance", run_id=run_id, seconds=seconds, revert=list(revert), dead_runs=list(dead_runs))

    def disarm(self, run_id: str = "run-1", *, check: bool = False) -> Answer:
        return self("disarmed", check=check, timer="maintenance", run_id=run_id)

    def status(self) -> Answer:
        answer = self._call(supervisor_info, processes=["web", "worker"])
        return t.cast(Answer, answer.get("programs", answer))

    def errors(self, release: str, after: object = None) -> tuple[int, Answer]:
        """The new lines of errors of a release, and where its logs end now."""
        answer = self._call(supervisor_info, processes=["web"], state_dir=str(self.lab.state), errors_of=release, **({"errors_after": after} if after else {}))
        return int(str(answer["log_errors"])), t.cast(Answer, answer["log_positions"])

    def _call(self, module: types.ModuleType, **options: object) -> Answer:
        return self.call_module(module, app="calendar-api", server=self.server, **options)


@pytest.fixture
def module(lab: Lab, call_module: CallModule) -> Module:
    return Module(lab, call_module, lab.supervisor.variables())


def ask(port: int) -> dict[str, t.Any]:
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"http://127.0.0.1:{port}/", timeout=5) as answer:
        return t.cast(dict[str, t.Any], json.loads(answer.read()))


def listens(port: int) -> bool:
    with contextlib.suppress(OSError):
        ask(port)
        return True
    return False


def all_arguments() -> str:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                found.append((entry / "cmdline").read_bytes().decode(errors="replace"))
    return "\n".join(found)


def test_prepared_twice_changes_nothing(lab: Lab, module: Module) -> None:
    assert module("prepared")["changed"] is False
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in (lab.state / "bin").iterdir()}
    engine = Path(_engine_program.path_of(str(lab.state))).name
    assert modes == {"environment_file.py": "0o755", "dead_man.py": "0o755", "log_tail.py": "0o755", engine: "0o755"}
    assert {path.name: oct(path.stat().st_mode & 0o777) for path in lab.state.iterdir()} == {"bin": "0o755", "timers": "0o700", "log": "0o750"}
    # What the role put there came out of the module's archive; it is what stands here.
    for name, backend in (("environment_file", _environment_file), ("dead_man", _dead_man), ("log_tail", _log_tail)):
        source = Path(str(backend.__file__)).read_text(encoding="utf-8")
        assert (lab.state / "bin" / f"{name}.py").read_text(encoding="utf-8") == f"#!/usr/bin/env python3\n{source}"


def test_a_process_starts_runs_and_stops(lab: Lab, module: Module) -> None:
    port = free_port()
    awkward = ["service", "{bind}", "{release_dir}", "a ;b #c", "100%", "it's"]
    checked = lab.play(lab.start(port, command=awkward), options=["--check", "--diff"])
    assert checked.changed == 1
    assert f"stdout_logfile={lab.state}/log/calendar-api-web-blue.log" in checked.output
    assert lab.programs() == []
    started = lab.play(lab.start(port, command=awkward), lab.strategy("status"), facts=["strategy_status"], options=["-vvv", "--diff"])
    assert started.facts["strategy_status"] == {"web-blue": {"state": "RUNNING", "release": "r2", "port": port}}
    wait_until(lambda: listens(port), seconds=60, what="the service")
    seen = ask(port)
    release = str(lab.root / "releases/r2")
    assert seen["arguments"] == [f"127.0.0.1:{port}", release, "a ;b #c", "100%", "it's"]
    assert seen["cwd"] == release
    # The slot's own values win over the environment file's.
    assert {name: seen["environment"][name] for name in ("PORT", "DEPLOY_RELEASE", "TOKEN_KEY", "WITH_PERCENT")} == {
        "PORT": str(port),
        "DEPLOY_RELEASE": "r2",
        "TOKEN_KEY": lab.secret,
        "WITH_PERCENT": "50% #; off",
    }
    assert seen["environment"]["PATH"].startswith(f"{release}/venv/bin:")
    for text in (started.output, all_arguments(), *(path.read_text(encoding="utf-8") for path in lab.supervisor.programs.iterdir())):
        assert lab.secret not in text
    again = module.start(port, command=awkward)
    assert (again["changed"], again["diff"]) == (False, [])
    assert module.status() == started.facts["strategy_status"]
    lab.ctl("stop", "calendar-api-web-blue")
    assert module.start(port, command=awkward, check=True)["diff"] == [
        {"before": {"calendar-api-web-blue": "STOPPED"}, "after": {"calendar-api-web-blue": "RUNNING"}}
    ]
    assert module.start(port, command=awkward)["changed"] is True
    wait_until(lambda: listens(port), seconds=60, what="the service after a stop by hand")
    (lab.root / f"releases/r2/stopped-{port}").unlink(missing_ok=True)
    stopped = lab.play(lab.stop(), lab.stop(), lab.strategy("status"), facts=["strategy_status"])
    assert (stopped.changed, stopped.facts["strategy_status"]) == (1, {})
    assert (lab.root / f"releases/r2/stopped-{port}").exists()
    assert not listens(port)
    assert "calendar-api-web-blue" not in lab.ctl("status")


def test_another_release_in_the_same_slot_takes_its_place(lab: Lab, module: Module) -> None:
    ports = free_port(), free_port()
    module.start(ports[0])
    moved = module.start(ports[1])
    assert moved["changed"] is True
    assert f"PORT={ports[0]} " in moved["diff"][0]["before"]
    assert f"PORT={ports[1]} " in moved["diff"][0]["after"]
    wait_until(lambda: listens(ports[1]), seconds=60, what="the service")
    assert not listens(ports[0])
    module.stop()
    assert lab.programs() == []


def test_new_lines_of_errors_are_counted(lab: Lab, module: Module) -> None:
    speaks = ["sh", "-c", "echo 2026-11-21 [7] [ERROR] one; echo INFO fine; echo CRITICAL: two >&2; exec sleep 600"]
    module.start(free_port(), slot="green", release="r3", command=speaks)
    log = lab.state / "log" / "calendar-api-web-green.log"
    wait_until(lambda: "two" in log.read_text(encoding="utf-8"), seconds=60, what="the first lines")
    counted, now = module.errors("r3")
    assert counted == 0  # nothing to begin from
    module.start(free_port(), slot="green", release="r2", command=speaks)
    wait_until(lambda: module.errors("r2", now)[0] == 2, seconds=60, what="the lines of the second release")
    # Of another release, and with a place that is later, there are none.
    assert module.errors("r3", now)[0] == 0
    assert module.errors("r2", module.errors("r2")[1])[0] == 0
    module.stop("green")


def test_check_mode_says_what_would_change_and_changes_nothing(lab: Lab, module: Module, tmp_path: Path) -> None:
    port = free_port()
    elsewhere = dataclasses.replace(module, server={**module.server, "log_dir": str(tmp_path / "log")})
    assert elsewhere("prepared", check=True)["diff"] == {
        "before": {str(tmp_path / "log"): "absent"},
        "after": {str(tmp_path / "log"): {"mode": "0750"}},
    }
    assert list(tmp_path.iterdir()) == []
    assert module.stop(check=True) == {**module.stop(check=True), "changed": False, "diff": []}
    assert module.start(port, check=True)["changed"] is True
    assert (lab.programs(), lab.ctl("status")) == ([], "")
    module.start(port)
    assert module.start(port, check=True)["changed"] is False
    stopping = module.stop(check=True)
    assert (stopping["changed"], stopping["diff"][1]) == (True, {"before": {"calendar-api-web-blue": "RUNNING"}, "after": {"calendar-api-web-blue": "unknown"}})
    assert "RUNNING" in lab.ctl("status")
    assert module.stop()["changed"] is True
    item: dict[str, object] = {"kind": "remove_flag", "path": str(tmp_path / "flag"), "run_id": "run-1"}
    assert module.arm(60, item, check=True)["changed"] is True
    assert module.disarm(check=True)["timer"] == {"disarmed": True, "run_id": "run-1", "fired": None, "changed": False}
    assert (list((lab.state / "timers").iterdir()), lab.programs(), lab.ctl("status")) == ([], [], "")
    module.arm(60, item)
    assert "belongs to the run run-1" in module.arm(60, item, run_id="run-2", check=True)["problem"]
    assert module.disarm(check=True)["changed"] is True
    assert "RUNNING" in lab.ctl("status", "calendar-api-timer-maintenance")
    assert module.disarm()["changed"] is True


def test_a_stop_that_was_cut_short_is_seen_and_ended(lab: Lab, module: Module) -> None:
    port = free_port()
    module.start(port, slot="green")
    (lab.supervisor.programs / "calendar-api-web-green.conf").unlink()
    assert module.status() == {"web-green": {"state": "RUNNING", "release": "", "port": 0}}
    assert module.stop("green")["changed"] is True
    assert not listens(port)
    assert module.status() == {}


def test_a_program_that_ignores_the_signal_is_killed_when_its_own_seconds_have_passed(lab: Lab, module: Module) -> None:
    port = free_port()
    directory = lab.root / "releases/r4"
    module.start(port, release="r4", seconds=3)
    wait_until((directory / f"deaf-{port}").exists, seconds=60, what="the program")
    pid = int(lab.ctl("pid", "calendar-api-web-blue"))
    began = time.monotonic()
    assert module.stop()["changed"] is True
    assert (directory / f"asked-{port}").exists()
    assert 2 <= time.monotonic() - began < _process.STOP_SECONDS
    assert not alive(pid)
    assert lab.ctl("status") == ""


def test_a_release_that_does_not_run_shows_its_log_without_secrets(lab: Lab, module: Module) -> None:
    failed = lab.play(lab.start(free_port(), release="r3"), fails=True, options=["-vvv"])
    assert "calendar-api-web-blue (r3) does not run" in failed.output
    assert "cannot reach [DATABASE_URL] with [TOKEN_KEY]" in failed.output
    assert lab.secret not in failed.output
    assert "STOPPED" in lab.ctl("status", "calendar-api-web-blue") or "FATAL" in lab.ctl("status", "calendar-api-web-blue")
    module.stop()


def test_a_program_that_ends_at_once_is_told_with_a_remedy(lab: Lab, module: Module) -> None:
    port = free_port()
    for _attempt in range(2):
        ended = module.start(port, command="true")
        assert ended["failed"] is True
        assert ended["problem"].startswith("calendar-api-web-blue (r2) does not run: ")
        assert ended["problem"].splitlines()[1] == f"{lab.state}/log/calendar-api-web-blue.log ends with:"
        assert ended["remedy"] == {
            "en": "Read the log, mend the release or its environment, and deploy again.",
            "pt_BR": "Leia o log, corrija a versão ou o ambiente dela e faça o deploy de novo.",
        }
        assert "STOPPED" in lab.ctl("status", "calendar-api-web-blue") or "FATAL" in lab.ctl("status", "calendar-api-web-blue")
    module.stop()


def test_a_command_that_supervisor_would_cut_is_refused(lab: Lab, module: Module) -> None:
    refused = module.start(free_port(), command="service one ;two")
    assert refused["problem"] == "The command of the process web has a line break, or a ; or # after a space."
    assert refused["remedy"]["en"] == "Write the command as a list of arguments."
    assert lab.programs() == []


def test_a_supervisor_that_is_not_there_changes_nothing(base: Path, module: Module) -> None:
    server = Supervisor.create(base / "dead")
    (server.programs / "calendar-api-web-green.conf").touch()
    server.stop()
    dead = dataclasses.replace(module, server=server.variables())
    absent = dataclasses.replace(module, server={**server.variables(), "ctl": ["/nowhere/supervisorctl"]})
    for one, reason in ((dead, f"unix://{server.socket} no such file"), (absent, "/nowhere/supervisorctl: No such file or directory")):
        for answer in (one.start(free_port()), one.stop("green"), one.status(), one.start(free_port(), check=True)):
            assert answer["failed"] is True
            assert answer["problem"] == f"supervisor does not answer on this host: {reason}."
            assert "systemctl start supervisor" in answer["remedy"]["en"]
            assert "systemctl start supervisor" in answer["remedy"]["pt_BR"]
    assert [path.name for path in server.programs.iterdir()] == ["calendar-api-web-green.conf"]
    assert "supervisor does not answer" in dead.arm(60)["problem"]
    assert "supervisor does not answer" in dead.disarm()["problem"]
    assert module.disarm()["timer"]["fired"] is None


def test_a_directory_that_supervisor_does_not_read_is_told(module: Module, tmp_path: Path) -> None:
    elsewhere = dataclasses.replace(module, server={**module.server, "config_dir": str(tmp_path)})
    answer = elsewhere.start(free_port())
    assert answer["problem"] == f"supervisor does not see {tmp_path}/calendar-api-web-blue.conf."
    assert "deploy_supervisor.config_dir" in answer["remedy"]["en"]
    assert list(tmp_path.iterdir()) == []
    missing = dataclasses.replace(module, server={**module.server, "config_dir": str(tmp_path / "none")})
    assert "cannot be read" in missing.status()["problem"]
    assert "cannot be written" in missing.start(free_port())["problem"]


def fired(lab: Lab) -> Path:
    return lab.state / "timers/maintenance.fired"


def test_a_timer_puts_slot_and_maintenance_back_behind_a_real_proxy(base: Path, lab: Lab, module: Module) -> None:
    caddy = Caddy.create(base / "caddy")
    ports = {"blue": free_port(), "green": free_port()}
    flags = lab.state / "proxy"
    public = free_port()
    variables: dict[str, object] = {
        "deploy_caddy": caddy.variables(),
        "proxy_site": {"address": f":{public}"},
        "proxy_upstreams": [{"host": "app1", "address": "127.0.0.1", "ports": ports, "loopback_port": free_port()}],
    }
    try:
        module.start(ports["blue"])
        module.start(ports["green"], slot="green")
        lab.play(
            lab.role("proxy", "caddy/configure.yml", **variables),
            lab.role("proxy", "caddy/switch.yml", proxy_host_name="app1", proxy_slot="green"),
            lab.role("proxy", "caddy/maintenance_on.yml", **variables, proxy_maintenance={"run_id": "run-1", "by": "ci"}),
            lab.timer(
                600,
                {"kind": "slot", "directory": str(flags), "host": "app1", "slot": "blue", "probe_url": f"http://127.0.0.1:{ports['blue']}/"},
                {"kind": "remove_flag", "path": str(flags / "maintenance.flag"), "run_id": "run-1"},
            ),
        )
        assert "RUNNING" in lab.ctl("status", "calendar-api-timer-maintenance")
        assert not listens(public)
        assert lab.renew(2) == ["maintenance"]
        wait_until(lambda: listens(public), seconds=60, what="the proxy without maintenance")
        assert ask(public)["environment"]["PORT"] == str(ports["blue"])
        told = lab.play(lab.disarm(), lab.disarm(), facts=["strategy_timer_result"], options=["-v"])
        assert told.changed == 1
        assert "returned to blue" in told.output
        assert told.facts["strategy_timer_result"] == {"disarmed": True, "run_id": "run-1", "fired": None, "changed": False}
        assert "timer" not in lab.ctl("status")
        assert [path.name for path in (lab.state / "timers").iterdir()] == []
    finally:
        module.stop()
        module.stop("green")
        caddy.stop()


def test_a_timer_is_renewed_and_taken_back(lab: Lab, module: Module, tmp_path: Path) -> None:
    flag = tmp_path / "maintenance.flag"
    flag.write_text(json.dumps({"run_id": "run-1"}), encoding="utf-8")
    item: dict[str, object] = {"kind": "remove_flag", "path": str(flag), "run_id": "run-1"}
    module.arm(30, item)
    deadline = lab.state / "timers/maintenance.deadline"
    first = float(deadline.read_text(encoding="utf-8"))
    assert lab.renew(600) == ["maintenance"]
    assert float(deadline.read_text(encoding="utf-8")) > first + 500
    other = module.arm(30, item, run_id="run-2")
    assert "belongs to the run run-1 and runs out in" in other["problem"]
    assert other["remedy"]["en"].startswith("Wait until it has run out")
    kept = module.disarm("run-2")
    assert (kept["changed"], kept["timer"]["disarmed"], kept["timer"]["run_id"]) == (False, False, "run-1")
    assert "RUNNING" in lab.ctl("status", "calendar-api-timer-maintenance")
    # A program that was killed comes back, and still knows its time.
    pid = lab.ctl("pid", "calendar-api-timer-maintenance").strip()
    subprocess.run(["kill", "-9", pid], check=True)
    wait_until(lambda: lab.ctl("pid", "calendar-api-timer-maintenance").strip() not in {pid, "0"}, seconds=60, what="the timer")
    # Of a run that is known to be dead it is taken over, with the same program.
    assert module.arm(30, item, run_id="run-2", dead_runs=["run-1"])["changed"] is True
    assert json.loads((lab.state / "timers/maintenance.json").read_text(encoding="utf-8"))["run_id"] == "run-2"
    assert module.disarm("run-2")["timer"] == {"disarmed": True, "run_id": "run-2", "fired": None, "changed": True}
    assert flag.exists()
    assert "timer" not in lab.ctl("status")
    checked = lab.play(lab.timer(1, item), lab.disarm(), options=["--check"])
    assert checked.changed == 0
    assert list((lab.state / "timers").iterdir()) == []


def test_a_timer_that_fired_can_be_armed_again(lab: Lab, module: Module, tmp_path: Path) -> None:
    flag = tmp_path / "maintenance.flag"
    flag.write_text("by hand", encoding="utf-8")
    item: dict[str, object] = {"kind": "remove_flag", "path": str(flag), "run_id": "run-1"}
    module.arm(0, item)
    wait_until(fired(lab).exists, seconds=60, what="the timer")
    assert flag.exists()
    module.arm(0, item, run_id="run-2")
    wait_until(lambda: fired(lab).exists() and json.loads(fired(lab).read_text(encoding="utf-8"))["run_id"] == "run-2", seconds=60, what="the second timer")
    assert module.disarm("run-2")["timer"]["fired"]["what"] == [{"item": item, "result": "kept: not ours"}]


def test_the_embedded_servers_leave_nothing_running(base: Path) -> None:
    deep = base / ("a-directory-with-a-rather-long-name-" * 3) / "supervisor"
    server = Supervisor.create(deep)
    (server.programs / "stubborn.conf").write_text(
        "[program:stubborn]\ncommand=/bin/sh -c 'trap \"\" TERM; while :; do sleep 1; done'\nstopwaitsecs=600\n", encoding="utf-8"
    )
    subprocess.run([*server.ctl, "update"], check=True, capture_output=True)
    wait_until(lambda: "RUNNING" in subprocess.run([*server.ctl, "status"], capture_output=True, text=True, check=False).stdout, seconds=60, what="stubborn")
    pid = int(subprocess.run([*server.ctl, "pid", "stubborn"], capture_output=True, text=True, check=True).stdout)
    server.stop(seconds=1)
    assert not alive(pid)
    assert not server.socket.parent.exists()
    valkey = Valkey.create(base / "valkey")
    assert Valkey.open(base / "valkey") == valkey
    assert valkey.password not in all_arguments()
    assert (valkey.config.stat().st_mode & 0o777) == 0o600
    with contextlib.closing(redis.Redis.from_url(valkey.url)) as client:
        assert client.set("a", "b")
    valkey.stop()
    assert valkey.daemon.pids() == []
    valkey.stop()
