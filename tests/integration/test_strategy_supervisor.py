# SPDX-License-Identifier: GPL-3.0-or-later
"""The strategy role's kind supervisor under a real supervisord, with its dead-man timers before a real Caddy."""

from __future__ import annotations

import collections.abc
import contextlib
import dataclasses
import json
import secrets
import subprocess
import sys
import typing as t
import urllib.request
from pathlib import Path

import pytest
import redis
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
BROKEN = """
import os, sys
print("cannot reach", os.environ["DATABASE_URL"], "with", os.environ["TOKEN_KEY"], flush=True)
sys.exit(3)
"""


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
    one.play(one.strategy("prepare"))
    return one


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


def test_prepared_twice_changes_nothing(lab: Lab) -> None:
    assert lab.play(lab.strategy("prepare")).changed == 0
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in (lab.state / "bin").iterdir()}
    assert modes == {"environment_file.py": "0o755", "dead_man.py": "0o755", "log_tail.py": "0o755"}


def test_a_process_starts_runs_and_stops(lab: Lab) -> None:
    port = free_port()
    awkward = ["service", "{bind}", "{release_dir}", "a ;b #c", "100%", "it's"]
    checked = lab.play(lab.start(port, command=awkward), options=["--check", "--diff"])
    assert checked.changed == 1
    assert list(lab.supervisor.programs.iterdir()) == []
    started = lab.play(lab.start(port, command=awkward), lab.strategy("status"), facts=["strategy_status"], options=["-vvv", "--diff"])
    assert started.facts["strategy_status"] == {"web-blue": {"state": "RUNNING", "release": "r2", "port": port}}
    wait_until(lambda: listens(port), seconds=10, what="the service")
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
    again = lab.play(lab.start(port, command=awkward), lab.strategy("status"), facts=["strategy_status"])
    assert (again.changed, again.facts) == (0, started.facts)
    lab.ctl("stop", "calendar-api-web-blue")
    assert lab.play(lab.start(port, command=awkward)).changed == 1
    wait_until(lambda: listens(port), seconds=10, what="the service after a stop by hand")
    (lab.root / f"releases/r2/stopped-{port}").unlink(missing_ok=True)
    stopped = lab.play(lab.stop(), lab.stop(), lab.strategy("status"), facts=["strategy_status"])
    assert (stopped.changed, stopped.facts["strategy_status"]) == (2, {})
    assert (lab.root / f"releases/r2/stopped-{port}").exists()
    assert not listens(port)
    assert "calendar-api-web-blue" not in lab.ctl("status")


def test_a_stop_that_was_cut_short_is_seen_and_ended(lab: Lab) -> None:
    port = free_port()
    lab.play(lab.start(port, slot="green"))
    (lab.supervisor.programs / "calendar-api-web-green.conf").unlink()
    seen = lab.play(lab.strategy("status"), lab.stop("green"), facts=["strategy_status"])
    assert seen.facts["strategy_status"] == {"web-green": {"state": "RUNNING", "release": "", "port": 0}}
    assert not listens(port)
    assert lab.play(lab.strategy("status"), facts=["strategy_status"]).facts["strategy_status"] == {}


def test_a_release_that_does_not_run_shows_its_log_without_secrets(lab: Lab) -> None:
    failed = lab.play(lab.start(free_port(), release="r3"), fails=True, options=["-vvv"])
    assert "calendar-api-web-blue (r3) does not run" in failed.output
    assert "cannot reach [DATABASE_URL] with [TOKEN_KEY]" in failed.output
    assert lab.secret not in failed.output
    assert "STOPPED" in lab.ctl("status", "calendar-api-web-blue") or "FATAL" in lab.ctl("status", "calendar-api-web-blue")
    lab.play(lab.stop())


def test_a_command_that_supervisor_would_cut_is_refused(lab: Lab) -> None:
    refused = lab.play(lab.start(free_port(), command="service one ;two"), fails=True)
    assert "Write the command as a list of arguments." in refused.output
    assert list(lab.supervisor.programs.iterdir()) == []


def fired(lab: Lab) -> Path:
    return lab.state / "timers/maintenance.fired"


def test_a_timer_puts_slot_and_maintenance_back_behind_a_real_proxy(base: Path, lab: Lab) -> None:
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
        lab.play(
            lab.start(ports["blue"]),
            lab.start(ports["green"], slot="green"),
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
        wait_until(lambda: listens(public), seconds=15, what="the proxy without maintenance")
        assert ask(public)["environment"]["PORT"] == str(ports["blue"])
        told = lab.play(lab.disarm(), lab.disarm(), facts=["strategy_timer_result"], options=["-v"])
        assert told.changed == 3
        assert "returned to blue" in told.output
        assert told.facts["strategy_timer_result"] == {"disarmed": True, "run_id": "run-1", "fired": None, "changed": False}
        assert "timer" not in lab.ctl("status")
        assert [path.name for path in (lab.state / "timers").iterdir()] == []
    finally:
        lab.play(lab.stop(), lab.stop("green"))
        caddy.stop()


def test_a_timer_is_renewed_and_taken_back(lab: Lab, tmp_path: Path) -> None:
    flag = tmp_path / "maintenance.flag"
    flag.write_text(json.dumps({"run_id": "run-1"}), encoding="utf-8")
    item: dict[str, object] = {"kind": "remove_flag", "path": str(flag), "run_id": "run-1"}
    lab.play(lab.timer(30, item))
    deadline = lab.state / "timers/maintenance.deadline"
    first = float(deadline.read_text(encoding="utf-8"))
    assert lab.renew(600) == ["maintenance"]
    assert float(deadline.read_text(encoding="utf-8")) > first + 500
    other = lab.play(lab.timer(30, item, run_id="run-2"), fails=True)
    assert "belongs to the run run-1 and runs out in" in other.output
    kept = lab.play(lab.disarm("run-2"), facts=["strategy_timer_result"])
    assert kept.facts["strategy_timer_result"]["disarmed"] is False
    assert "RUNNING" in lab.ctl("status", "calendar-api-timer-maintenance")
    # A program that was killed comes back, and still knows its time.
    pid = lab.ctl("pid", "calendar-api-timer-maintenance").strip()
    subprocess.run(["kill", "-9", pid], check=True)
    wait_until(lambda: lab.ctl("pid", "calendar-api-timer-maintenance").strip() not in {pid, "0"}, seconds=10, what="the timer")
    lab.play(lab.disarm())
    assert flag.exists()
    assert "timer" not in lab.ctl("status")
    checked = lab.play(lab.timer(1, item), lab.disarm(), options=["--check"])
    assert checked.changed == 0
    assert list((lab.state / "timers").iterdir()) == []


def test_a_timer_that_fired_can_be_armed_again(lab: Lab, tmp_path: Path) -> None:
    flag = tmp_path / "maintenance.flag"
    flag.write_text("by hand", encoding="utf-8")
    item: dict[str, object] = {"kind": "remove_flag", "path": str(flag), "run_id": "run-1"}
    lab.play(lab.timer(0, item))
    wait_until(fired(lab).exists, seconds=10, what="the timer")
    assert flag.exists()
    lab.play(lab.timer(0, item, run_id="run-2"))
    wait_until(lambda: fired(lab).exists() and json.loads(fired(lab).read_text(encoding="utf-8"))["run_id"] == "run-2", seconds=10, what="the second timer")
    lab.play(lab.disarm("run-2"))


def test_the_embedded_servers_leave_nothing_running(base: Path) -> None:
    deep = base / ("a-directory-with-a-rather-long-name-" * 3) / "supervisor"
    server = Supervisor.create(deep)
    (server.programs / "stubborn.conf").write_text(
        "[program:stubborn]\ncommand=/bin/sh -c 'trap \"\" TERM; while :; do sleep 1; done'\nstopwaitsecs=600\n", encoding="utf-8"
    )
    subprocess.run([*server.ctl, "update"], check=True, capture_output=True)
    wait_until(lambda: "RUNNING" in subprocess.run([*server.ctl, "status"], capture_output=True, text=True, check=False).stdout, seconds=10, what="stubborn")
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
