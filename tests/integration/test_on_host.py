# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a module does when its host is gone, and how timers on another host hear of a long step: two real hosts, over SSH."""

from __future__ import annotations

import collections.abc
import dataclasses
import json
import os
import subprocess
import tempfile
import typing as t
from pathlib import Path

import pytest

from ..hosts.fleet import Fleet
from .pythons import VERSIONS, programs

ROOT = Path(__file__).parents[2]
STATE = "/var/lib/lastro/calendar-api"
RUN = "20261121T120000-0001"
LOCK = {"lastro.deploy.lock": {"state_dir": STATE, "run_id": RUN, "lease_seconds": 6, "actor": "a test"}}
SLOW = """#!/usr/bin/python3
import pathlib, time
from ansible.module_utils.basic import AnsibleModule
module = AnsibleModule({"lock": {"type": "path"}, "progress_file": {"type": "path"}})
lock = pathlib.Path(module.params["lock"])
before, until = lock.read_bytes(), time.monotonic() + 120
# The run's own lock is renewed after the timers elsewhere.
while lock.read_bytes() == before and time.monotonic() < until:
    time.sleep(0.1)
module.exit_json(changed=lock.read_bytes() != before)
"""


@dataclasses.dataclass(frozen=True)
class Lab:
    """Hosts app1 and app2, and the ansible-playbook that plays on them."""

    fleet: Fleet
    playbook: Path

    def play(self, *plays: dict[str, t.Any]) -> tuple[int, str, dict[str, t.Any]]:
        """Exit code, output, and what the plays have written to *answer*."""
        directory = self.fleet.directory
        answer = directory / "answer.json"
        answer.unlink(missing_ok=True)
        (directory / "library").mkdir(exist_ok=True)
        (directory / "library" / "slow.py").write_text(SLOW, encoding="utf-8")
        (directory / "play.yml").write_text(json.dumps([{"gather_facts": False, **play} for play in plays]), encoding="utf-8")
        environment = {
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"),
            "ANSIBLE_STDOUT_CALLBACK": "default",
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_HOME": str(directory / "home"),
        }
        command = [str(self.playbook), "-i", str(self.fleet.inventory), "play.yml", "-e", f"answer={answer}"]
        finished = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, check=False)
        output = finished.stdout + finished.stderr
        return finished.returncode, output, json.loads(answer.read_text(encoding="utf-8")) if answer.exists() else {"output": output}


def keep(content: str) -> dict[str, t.Any]:
    """A task that writes a value to the answer, on the controller."""
    return {"ansible.builtin.copy": {"content": content, "dest": "{{ answer }}"}, "delegate_to": "localhost", "become": False}


@pytest.fixture(scope="module")
def fleet() -> collections.abc.Iterator[Fleet]:
    """Two hosts."""
    with tempfile.TemporaryDirectory(prefix="lastro-test-") as directory:
        fleet = Fleet(Path(directory) / "fleet")
        fleet.up({"app1": "app", "app2": "app"})
        try:
            yield fleet
        finally:
            fleet.down()


@pytest.fixture(params=sorted({VERSIONS[0], VERSIONS[-1]}))
def lab(fleet: Fleet, request: pytest.FixtureRequest) -> Lab:
    """The hosts, played on by the oldest and the newest Python of this machine."""
    return Lab(fleet, programs(request.param) / "ansible-playbook")


def test_a_long_step_tells_the_timers_on_another_host_that_the_run_lives(lab: Lab) -> None:
    app2 = lab.fleet.hosts["app2"]
    app2.sh(f'mkdir -p {STATE}/timers; echo \'{{"run_id": "{RUN}"}}\' > {STATE}/timers/maintenance.json; echo 1.0 > {STATE}/timers/maintenance.deadline')
    app2.sh(f'echo \'{{"run_id": "another"}}\' > {STATE}/timers/other.json; echo 2.0 > {STATE}/timers/other.deadline')
    lease = {"state_dir": STATE, "run_id": RUN, "seconds": 6, "others": ["app2"]}
    step = {"lastro.deploy.step": {"module": "slow", "title": "slow", "options": {"lock": f"{STATE}/lock.json"}, "lease": lease}, "register": "done"}
    began = float(app2.sh("date +%s"))
    code, output, found = lab.play({"hosts": "app1", "tasks": [LOCK, step, keep("{{ done | to_json }}")]})
    assert (code, found.get("changed")) == (0, True), output
    deadline, ended = float(app2.sh(f"cat {STATE}/timers/maintenance.deadline")), float(app2.sh("date +%s"))
    # Renewed for six seconds, while the step went on.
    assert began + 6 <= deadline < ended + 7, output
    assert app2.sh(f"cat {STATE}/timers/other.deadline").strip() == "2.0"


def test_a_host_that_is_gone_is_a_failure_that_rescue_sees(lab: Lab) -> None:
    app2 = lab.fleet.hosts["app2"]
    app2.kill()
    try:
        ledger = {"lastro.deploy.ledger": {"state_dir": STATE}}
        told = {"ansible.builtin.set_fact": {"told": "{{ ansible_failed_result }}"}}
        away = {"block": [{**ledger, "when": "inventory_hostname == 'app2'"}], "rescue": [told]}
        # Another host's task that needs the one that is gone.
        delegated = {"block": [{**ledger, "delegate_to": "app2", "when": "inventory_hostname == 'app1'"}], "rescue": [told]}
        answer = "{{ {'app1': hostvars.app1.told, 'app2': hostvars.app2.told, 'here': ansible_play_hosts} | to_json }}"
        code, output, found = lab.play(
            {"hosts": "app", "serial": 1, "tasks": [away, delegated]},
            {"hosts": "app1", "tasks": [keep(answer.replace("ansible_play_hosts", "groups.app"))]},
        )
        assert code == 0, output
        for host in ("app1", "app2"):
            assert found[host]["unreached"] == "app2", found
            assert found[host]["problem"].startswith("app2 cannot be reached: ") and "app2" in found[host]["remedy"]["pt_BR"]
        # A renewal that does not get there is said and ends nothing.
        lease = {"state_dir": STATE, "run_id": RUN, "seconds": 6, "others": ["app2"]}
        step = {"lastro.deploy.step": {"module": "slow", "options": {"lock": f"{STATE}/lock.json"}, "lease": lease}, "register": "done"}
        code, output, found = lab.play({"hosts": "app1", "tasks": [LOCK, step, keep("{{ done | to_json }}")]})
        assert (code, found.get("changed")) == (0, True), output
        assert "The timers on app2 were not renewed: app2 cannot be reached" in " ".join(output.split())
    finally:
        app2.start()
