# SPDX-License-Identifier: GPL-3.0-or-later
"""The strategy systemd on a real host that systemd has booted, played over SSH; each answer is checked from outside."""

from __future__ import annotations

import collections.abc
import contextlib
import dataclasses
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import typing as t
import urllib.request
from pathlib import Path

import pytest
from ansible_collections.lastro.deploy.plugins.module_utils import _environment_file, _process
from demo.process import wait_until

from ..hosts.fleet import Fleet, Host
from ..hosts.podman import HostsError

ROOT = Path(__file__).parents[2]
APP = "/opt/calendar-api"
STATE = "/var/lib/lastro/calendar-api"
WRITABLE = "/srv/calendar"
FLAG = f"{STATE}/proxy/maintenance.flag"
UNITS = "/etc/systemd/system"
SERVICE = """#!/usr/bin/python3
import http.server, json, os, signal, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_): pass
    def do_GET(self):
        writes = {path: os.access(path, os.W_OK) for path in (".", "/tmp", "/srv/calendar", "/var/lib/calendar-free")}
        seen = {"arguments": sys.argv[1:], "environment": dict(os.environ), "cwd": os.getcwd(), "uid": os.getuid(), "writes": writes}
        seen["home"] = os.access("/home/ops", os.F_OK)
        body = json.dumps(seen).encode()
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers(); self.wfile.write(body)
def leave(*_):
    open("/srv/calendar/stopped-" + os.environ["PORT"], "w").close(); sys.exit(0)
signal.signal(signal.SIGTERM, leave)
print("listening", flush=True)
http.server.ThreadingHTTPServer(("", int(os.environ["PORT"])), Handler).serve_forever()
"""
BROKEN = """#!/usr/bin/python3
import os, sys
print("cannot reach", os.environ["DATABASE_URL"], "with", os.environ["TOKEN_KEY"], flush=True)
sys.exit(3)
"""
DEAF = """#!/usr/bin/python3
import os, signal, time
signal.signal(signal.SIGTERM, lambda *_: open("/srv/calendar/asked-" + os.environ["PORT"], "w").close())
open("/srv/calendar/deaf-" + os.environ["PORT"], "w").close()
while True:
    time.sleep(60)
"""
WSGI = """
import os, time
def app(environ, start_response):
    if environ["PATH_INFO"] == "/slow":
        open("/srv/calendar/slow", "w").close()
        time.sleep(2)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [os.environ["DEPLOY_RELEASE"].encode()]
"""
Task = dict[str, t.Any]


@dataclasses.dataclass(frozen=True)
class Played:
    output: str
    changed: int
    facts: dict[str, t.Any]


@dataclasses.dataclass(frozen=True)
class Lab:
    host: Host
    secret: str
    variables: dict[str, str]
    role: t.Callable[..., Task]

    def play(self, *tasks: Task, fact: str = "", options: t.Sequence[str] = (), fails: bool = False) -> Played:
        """One ansible-playbook with these tasks; *fact* is brought back."""
        directory = self.host.fleet.directory
        answer = directory / "fact.json"
        answer.unlink(missing_ok=True)
        keep = {
            "ansible.builtin.copy": {"content": f"{{{{ {fact} | to_json }}}}", "dest": str(answer)},
            "delegate_to": "localhost",
            "become": False,
            "changed_when": False,
        }
        play = [{"hosts": "app", "gather_facts": False, "tasks": [*tasks, *([keep] if fact else [])]}]
        (directory / "play.yml").write_text(json.dumps(play), encoding="utf-8")
        command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(self.host.fleet.inventory), "-i", "more.yml", "play.yml", *options]
        environment = {
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"),
            "ANSIBLE_STDOUT_CALLBACK": "default",
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_LOCAL_TEMP": str(directory / "local"),
            "ANSIBLE_SSH_CONTROL_PATH_DIR": str(directory / "cp"),
        }
        finished = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, check=False)
        output = finished.stdout + finished.stderr
        assert (finished.returncode != 0) is fails, output
        changed = re.search(r"app1 .*changed=(\d+)", finished.stdout)
        found = json.loads(answer.read_text(encoding="utf-8")) if answer.exists() else {}
        return Played(output, int(changed[1]) if changed else 0, found)

    def strategy(self, tasks: str, **variables: object) -> Task:
        return self.role("strategy", f"systemd/{tasks}.yml", **variables)

    def start(self, port: int, command: object, *, release: str = "r2", slot: str = "blue", seconds: int = 5, limits: dict[str, object] | None = None) -> Task:
        spec = {"command": command, "ports": [port, port], "stop_seconds": seconds, "writable": [WRITABLE], **({"limits": limits} if limits else {})}
        where = {"strategy_slot": slot, "strategy_port": port, "strategy_release": release, "strategy_bind_address": self.host.address}
        return self.strategy("start", strategy_process="web", strategy_spec=spec, **where)

    def stop(self, slot: str = "blue") -> Task:
        return self.strategy("stop", strategy_process="web", strategy_slot=slot)

    def arm(self, seconds: int, run_id: str = "run-1") -> Task:
        item = {"kind": "remove_flag", "path": FLAG, "run_id": run_id}
        return self.strategy("arm", strategy_timer={"name": "maintenance", "run_id": run_id, "seconds": seconds, "revert": [item]})

    def disarm(self, run_id: str = "run-1") -> Task:
        return self.strategy("disarm", strategy_timer_name="maintenance", strategy_timer_run_id=run_id)

    def ask(self, port: int, path: str = "/") -> bytes:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"http://{self.host.address}:{port}{path}", timeout=10) as answer:
            return t.cast(bytes, answer.read())

    def answers(self, port: int) -> bool:
        with contextlib.suppress(OSError):
            self.ask(port)
            return True
        return False

    def there(self, path: str) -> bool:
        return self.host.sh(f"test -e {path} && echo yes || echo no").strip() == "yes"

    def show(self, unit: str, *names: str) -> dict[str, str]:
        found = self.host.run("systemctl", "show", *(f"--property={name}" for name in names), f"{unit}.service")
        return dict(line.split("=", 1) for line in found.splitlines() if "=" in line)

    def raise_flag(self, run_id: str) -> None:
        self.host.run("sh", "-c", f"mkdir -p {STATE}/proxy; cat > {FLAG}", stdin=json.dumps({"run_id": run_id}))


@pytest.fixture(scope="module")
def host() -> collections.abc.Iterator[Host]:
    """One app host."""
    fleet, problem = Fleet(Path(tempfile.mkdtemp(prefix="lastro-h-"))), ""
    try:
        fleet.up({"app1": "app"})
    except HostsError as error:
        shutil.rmtree(fleet.directory, ignore_errors=True)
        problem = str(error)
    if problem:
        pytest.fail(f"The strategy systemd needs a real host: {problem}", pytrace=False)
    yield fleet.hosts["app1"]
    fleet.down()
    assert not fleet.directory.exists()


@pytest.fixture(scope="module")
def lab(host: Host, include_role: collections.abc.Callable[..., Task]) -> Lab:
    secret = secrets.token_hex(24)
    variables = {
        "TOKEN_KEY": secret,
        "DATABASE_URL": f"postgresql://app:{secret}-db@db/x",
        "PORT": "1",
        "AWKWARD": "50% #; $HOME ${X} `id` \"two\" 'one' back\\slash \\n é  ",
        "LINES": f"first\n\tsecond \\\n{secret}-line\n",
        "EMPTY": "",
    }
    host.sh(f"useradd --system calendar; install -d {APP}/env {STATE}; install -d -m 777 /var/lib/calendar-free; install -d -o calendar {WRITABLE}")
    for release, program in (("r2", SERVICE), ("r3", BROKEN), ("r4", DEAF)):
        directory = f"{APP}/releases/{release}"
        host.sh(f"install -d {directory}/venv/bin; touch {APP}/env/{release}.env; chmod 600 {APP}/env/{release}.env")
        host.run("sh", "-c", f"cat > {directory}/venv/bin/service; chmod 755 {directory}/venv/bin/service", stdin=program)
        host.run("sh", "-c", f"cat > {APP}/env/{release}.env", stdin=_environment_file.render(variables))
    host.run("sh", "-c", f"cat > {APP}/releases/r2/wsgi.py", stdin=WSGI)
    profile = {"deploy_app": "calendar-api", "deploy_root": APP, "deploy_state_dir": STATE, "deploy_user": "calendar", "deploy_processes": {"web": {}}}
    (host.fleet.directory / "more.yml").write_text(json.dumps({"app": {"vars": profile}}), encoding="utf-8")
    one = Lab(host, secret, variables, include_role)
    assert one.play(one.strategy("prepare"), one.strategy("prepare")).changed == 1
    return one


def test_a_process_starts_runs_and_stops(lab: Lab) -> None:
    awkward = ["service", "{bind}", "{release_dir}", "a ;b #c", ";", "100%", "%n", "it's", "$HOME ${TOKEN_KEY}", "two\nlines", 'so "quoted" \\', ""]
    start = lab.start(8001, awkward, limits={"memory_max": "64M", "cpu_quota": "50%", "tasks_max": 40})
    checked = lab.play(start, options=["--check", "--diff"])
    assert checked.changed == 1
    assert "+MemoryMax=64M" in checked.output
    assert not lab.there(f"{UNITS}/calendar-api-web-blue.service")
    started = lab.play(start, start, lab.strategy("status"), fact="strategy_status", options=["-vvv", "--diff"])
    assert (started.changed, started.facts) == (1, {"web-blue": {"state": "RUNNING", "release": "r2", "port": 8001}})
    wait_until(lambda: lab.answers(8001), seconds=60, what="the service")
    seen = json.loads(lab.ask(8001))
    release = f"{APP}/releases/r2"
    assert seen["arguments"] == [f"{lab.host.address}:8001", release, *awkward[3:]]
    assert (seen["cwd"], seen["uid"] > 0, seen["home"]) == (release, True, False)
    assert seen["writes"] == {".": False, "/tmp": True, WRITABLE: True, "/var/lib/calendar-free": False}
    # The slot's own values win over the environment file's; systemd has read the others as we do.
    expected = {**lab.variables, "PORT": "8001", "DEPLOY_RELEASE": "r2"}
    assert {name: seen["environment"].get(name) for name in expected} == expected
    assert seen["environment"]["PATH"].startswith(f"{release}/venv/bin:")
    # Secrets stand nowhere but in the environment file.
    for command in (
        ("cat", f"{UNITS}/calendar-api-web-blue.service"),
        ("systemctl", "show", "calendar-api-web-blue.service"),
        ("journalctl", "--no-pager"),
        ("ps", "axww", "-o", "args"),
    ):
        assert lab.secret not in lab.host.run(*command), command
    assert lab.secret not in started.output
    assert lab.host.run("journalctl", "--unit=calendar-api-web-blue", "--output=cat").count("listening\n") == 1
    assert lab.host.run("systemctl", "is-enabled", "calendar-api-web-blue").strip() == "enabled"
    stopped = lab.play(lab.stop(), lab.stop(), lab.strategy("status"), fact="strategy_status")
    assert (stopped.changed, stopped.facts) == (1, {})
    assert lab.there(f"{WRITABLE}/stopped-8001")
    assert not lab.answers(8001)
    assert lab.show("calendar-api-web-blue", "LoadState", "ActiveState") == {"LoadState": "not-found", "ActiveState": "inactive"}
    assert "calendar-api" not in lab.host.sh(f"find {UNITS} -name 'calendar*'")


def control_group(lab: Lab, unit: str, *files: str) -> str:
    """The first of *files* in the unit's control group, of the one kind (memory.max) or the other (memory/.../memory.limit_in_bytes)."""
    group = lab.show(unit, "ControlGroup")["ControlGroup"]
    places = " ".join(f"/sys/fs/cgroup{group}/{file} /sys/fs/cgroup/*{group}/{file}" for file in files)
    return lab.host.sh(f"for file in {places}; do if [ -e $file ]; then cat $file; exit; fi; done; echo none").strip()


def test_limits_hold_in_the_control_group(lab: Lab) -> None:
    lab.play(lab.start(8001, "service", limits={"memory_max": "64M", "tasks_max": 40}))
    try:
        assert control_group(lab, "calendar-api-web-blue", "memory.max", "memory.limit_in_bytes") == str(64 * 1024 * 1024)
        assert control_group(lab, "calendar-api-web-blue", "pids.max") == "40"
    finally:
        lab.play(lab.stop())


def test_gunicorn_runs_and_a_stop_lets_requests_end(lab: Lab) -> None:
    lab.play(lab.start(8001, "gunicorn --workers 2 --bind {bind} wsgi:app", seconds=20))
    wait_until(lambda: lab.answers(8001), seconds=60, what="gunicorn")
    answers: list[bytes] = []
    slow = threading.Thread(target=lambda: answers.append(lab.ask(8001, "/slow")))
    slow.start()
    wait_until(lambda: lab.there(f"{WRITABLE}/slow"), seconds=60, what="the slow request")
    assert lab.play(lab.stop()).changed == 1
    slow.join()
    assert answers == [b"r2"]
    assert not lab.answers(8001)


def test_another_release_in_the_same_slot_takes_its_place(lab: Lab) -> None:
    lab.play(lab.start(8001, "service"))
    assert lab.play(lab.start(8002, "service")).changed == 1
    wait_until(lambda: lab.answers(8002), seconds=60, what="the service")
    assert not lab.answers(8001)
    lab.play(lab.stop())


def test_new_lines_of_errors_are_counted(lab: Lab) -> None:
    speaks = ["sh", "-c", "echo '2026-11-21 [7] [ERROR] one'; echo INFO fine; echo 'CRITICAL: two' >&2; exec sleep 600"]
    errors = lab.strategy("errors", strategy_release="r2")
    before = lab.play(lab.strategy("status"), lab.start(8001, speaks), errors, fact="strategy_log_errors")
    wait_until(lambda: "two" in lab.host.run("journalctl", "--unit=calendar-api-web-blue", "--output=cat"), seconds=60, what="the lines")
    assert int(str(before.facts)) <= 2
    earlier = {"ansible.builtin.set_fact": {"strategy_log_positions": {"since": float(lab.host.sh("date +%s")) - 60}}}
    assert int(str(lab.play(earlier, errors, fact="strategy_log_errors").facts)) == 2
    assert int(str(lab.play(earlier, lab.strategy("errors", strategy_release="r3"), fact="strategy_log_errors").facts)) == 0
    only_one = lab.strategy("errors", strategy_release="r2", strategy_error_pattern="CRITICAL")
    assert int(str(lab.play(earlier, only_one, fact="strategy_log_errors").facts)) == 1
    lab.play(lab.stop())


def test_a_program_that_ends_at_once_is_told_and_not_tried_for_ever(lab: Lab) -> None:
    failed = lab.play(lab.start(8001, "service", release="r3"), fails=True, options=["-vvv"])
    assert "calendar-api-web-blue (r3) does not run: it ended with exit status 3." in failed.output
    assert "cannot reach [DATABASE_URL] with [TOKEN_KEY]" in failed.output
    assert lab.secret not in failed.output
    state = lab.show("calendar-api-web-blue", "ActiveState", "MainPID", "UnitFileState")
    assert state["ActiveState"] in {"inactive", "failed"} and state["MainPID"] == "0" and state["UnitFileState"] == "disabled"
    assert lab.host.run("journalctl", "--unit=calendar-api-web-blue", "--output=cat").count("cannot reach") == 1
    missing = lab.play(lab.start(8001, "no-such-program"), fails=True)
    assert "does not run: it ended with exit status 127." in missing.output
    assert "no-such-program" in missing.output
    ended = lab.play(lab.start(8001, "true"), fails=True)
    assert "does not run: it ended without an error." in ended.output
    status = lab.play(lab.strategy("status"), lab.stop(), fact="strategy_status")
    assert status.changed == 1
    assert status.facts["web-blue"]["state"] in {"STOPPED", "FATAL"}
    assert lab.show("calendar-api-web-blue", "LoadState", "ActiveState") == {"LoadState": "not-found", "ActiveState": "inactive"}


def test_a_program_that_ignores_the_signal_is_killed_when_its_own_seconds_have_passed(lab: Lab) -> None:
    lab.play(lab.start(8001, "service", release="r4", seconds=3))
    wait_until(lambda: lab.there(f"{WRITABLE}/deaf-8001"), seconds=60, what="the program")
    began = time.monotonic()
    assert lab.play(lab.stop()).changed == 1
    assert 3 <= time.monotonic() - began < _process.STOP_SECONDS
    assert lab.there(f"{WRITABLE}/asked-8001")
    assert lab.show("calendar-api-web-blue", "LoadState", "ActiveState") == {"LoadState": "not-found", "ActiveState": "inactive"}


def test_a_timer_fires_while_nobody_is_there(lab: Lab) -> None:
    lab.raise_flag("run-1")
    lab.play(lab.arm(600))
    assert lab.there(FLAG)
    lab.host.run(f"{STATE}/bin/dead_man.py", "renew", f"{STATE}/timers", "run-1", "1")
    wait_until(lambda: not lab.there(FLAG), seconds=60, what="the timer")
    told = lab.play(lab.disarm(), lab.disarm(), fact="strategy_timer_result", options=["-v"])
    assert told.changed == 1
    assert '"result": "removed"' in told.output
    assert told.facts == {"disarmed": True, "run_id": "run-1", "fired": None, "changed": False}
    assert "timer" not in lab.host.sh(f"find {UNITS} {STATE}/timers -name '*timer-*' -o -name 'maintenance*'")


def test_a_timer_is_renewed_and_taken_back_by_its_own_run(lab: Lab) -> None:
    lab.raise_flag("run-1")
    lab.play(lab.arm(30))
    renewed = json.loads(lab.host.run(f"{STATE}/bin/dead_man.py", "renew", f"{STATE}/timers", "run-1", "600"))
    assert renewed == {"renewed": ["maintenance"]}
    refused = lab.play(lab.arm(30, "run-2"), fails=True)
    assert "The timer maintenance belongs to the run run-1 and runs out in" in refused.output
    kept = lab.play(lab.disarm("run-2"), fact="strategy_timer_result")
    assert (kept.changed, kept.facts["disarmed"], kept.facts["run_id"]) == (0, False, "run-1")
    assert lab.show("calendar-api-timer-maintenance", "ActiveState") == {"ActiveState": "active"}
    # A program that was killed comes back, and still knows its time.
    pid = lab.show("calendar-api-timer-maintenance", "MainPID")["MainPID"]
    lab.host.run("kill", "-9", pid)
    wait_until(lambda: lab.show("calendar-api-timer-maintenance", "MainPID")["MainPID"] not in {pid, "0"}, seconds=60, what="the timer")
    assert lab.play(lab.arm(1), lab.disarm(), options=["--check"]).changed == 1
    assert lab.play(lab.disarm()).changed == 1
    assert lab.there(FLAG)
    assert lab.show("calendar-api-timer-maintenance", "LoadState") == {"LoadState": "not-found"}


def test_after_a_reboot_what_served_serves_and_what_was_due_is_put_back(lab: Lab) -> None:
    lab.raise_flag("run-1")
    lab.play(lab.start(8001, "gunicorn --bind {bind} wsgi:app"), lab.start(8002, "service", slot="green"), lab.arm(600))
    lab.play(lab.stop("green"), lab.start(8002, "service", release="r3", slot="green"), fails=True)
    # Its time passes while the host is down: until then the timer is held.
    lab.host.run("systemctl", "kill", "--signal=STOP", "calendar-api-timer-maintenance.service")
    lab.host.run(f"{STATE}/bin/dead_man.py", "renew", f"{STATE}/timers", "run-1", "0")
    assert lab.there(FLAG)
    before = lab.host.sh("cat /proc/1/stat").split()[21]
    lab.host.reboot()
    assert lab.host.sh("cat /proc/1/stat").split()[21] != before
    wait_until(lambda: lab.answers(8001), seconds=60, what="what served")
    assert lab.ask(8001) == b"r2"
    wait_until(lambda: not lab.there(FLAG), seconds=60, what="the timer")
    status = lab.play(lab.strategy("status"), fact="strategy_status").facts
    assert status["web-blue"] == {"state": "RUNNING", "release": "r2", "port": 8001}
    assert status["web-green"]["state"] == "STOPPED"
    ended = lab.play(lab.stop(), lab.stop("green"), lab.disarm(), fact="strategy_timer_result")
    assert ended.changed == 3
    assert ended.facts["fired"]["what"][0]["result"] == "removed"
