# SPDX-License-Identifier: GPL-3.0-or-later
"""From an inventory to a plan: everything that is wrong in one list, before any host is contacted."""

from __future__ import annotations

import datetime
import io
import json
import os
import re
import subprocess
import sys
import tarfile
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible_collections.lastro.deploy.plugins.action import plan as plan_action
from ansible_collections.lastro.deploy.plugins.module_utils import _plan
from ansible_collections.lastro.deploy.plugins.module_utils._artifact import digest

ROOT = Path(__file__).resolve().parents[2]
KNOWN = set(yaml.safe_load((ROOT / "roles" / "deploy" / "defaults" / "main.yml").read_text(encoding="utf-8")))
GROUPS = {"all": ["app1", "db1"], "app": ["app1"], "primary": ["db1"], "proxy": ["app1"]}
MOMENT = datetime.datetime(2026, 11, 21, 22, 10, 4, tzinfo=datetime.UTC)


def profile(**other: object) -> dict[str, t.Any]:
    """A profile without a fault, with some options changed (None takes one out)."""
    complete: dict[str, t.Any] = {
        "deploy_app": "calendar-api",
        "deploy_version": "r1",
        "deploy_environment": "staging",
        "deploy_source": {"type": "archive", "url": "/srv/r1.tar.gz"},
        "deploy_root": "/opt/calendar-api",
        "deploy_state_dir": "/var/lib/lastro/calendar-api",
        "deploy_processes": {"web": {"command": "gunicorn", "ports": [8001, 8002], "health": {"path": "/health"}}, "worker": {"command": "rq"}},
        "deploy_env": {"DATABASE_URL": "postgresql://u:s3cret@h/d"},
        "deploy_database": {"url": "postgresql://u:s3cret@h/d"},
        "deploy_backup": {"dest": "/var/backups", "recipients": ["age1x"]},
        **other,
    }
    return {name: value for name, value in complete.items() if value is not None}


def found(groups: dict[str, list[str]] | None = None, unreadable: dict[str, str] | None = None, **other: object) -> list[str]:
    findings = _plan.findings(profile(**other), GROUPS if groups is None else groups, KNOWN, unreadable or {})
    assert all(finding.problem and finding.remedy for finding in findings)
    assert "s3cret" not in " ".join(map(str, findings))
    return [str(finding) for finding in findings]


def test_a_profile_without_a_fault() -> None:
    assert found() == []
    assert (
        found({**GROUPS, "proxy": []}, deploy_proxy="none", deploy_reason="x", deploy_force_unlock="r", deploy_rollback_scope="code", deploy_address="::1")
        == []
    )
    assert found(deploy_backup={"provider": "pgbackrest", "stanza": "main"}) == []
    assert found(deploy_migrations={}, deploy_tokens=[], deploy_rollback_scope="", deploy_backup={"dest": "/b", "encryption": "none"}) == []


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"limits": {"memory_max": "512M", "cpu_quota": "150%", "tasks_max": 512}, "writable": ["/srv/uploads"]}, []),
        ({"limits": {}, "writable": []}, []),
        (
            {"limits": {"memory_max": "0.5G", "memory": "1G", "tasks_max": True}},
            [
                "deploy_processes.web.limits: has memory_max: 0.5G, memory: 1G, tasks_max: True. "
                "Give it the form {memory_max: 512M, cpu_quota: 150%, tasks_max: 512}; each may be left out."
            ],
        ),
        ({"limits": ["512M"]}, ["deploy_processes.web.limits: is not a dictionary. Give it the form {memory_max: 512M, cpu_quota: 150%, tasks_max: 512}."]),
        ({"writable": ["uploads"]}, ["deploy_processes.web.writable: is not a list of absolute paths. Name the directories that the process writes to."]),
        ({"writable": "/srv"}, ["deploy_processes.web.writable: is not a list of absolute paths. Name the directories that the process writes to."]),
    ],
)
def test_what_systemd_holds_a_process_to(spec: dict[str, t.Any], expected: list[str]) -> None:
    assert found(deploy_strategy="systemd", deploy_processes={"web": {"command": "x", **spec}}) == expected


CASES: list[tuple[dict[str, t.Any], str]] = [
    # not there
    ({"deploy_app": None}, "deploy_app: is missing. Set it"),
    ({"deploy_version": "  "}, "deploy_version: is missing."),
    ({"deploy_environment": None}, "deploy_environment: is missing."),
    ({"deploy_root": "opt/x"}, "deploy_root: is not an absolute path. Start it with a slash."),
    ({"deploy_state_dir": "~/x"}, "deploy_state_dir: is not an absolute path."),
    # not one of
    ({"deploy_strategy": "compose"}, "deploy_strategy: is 'compose'. Choose one of supervisor, systemd."),
    ({"deploy_proxy": "nginx"}, "deploy_proxy: is 'nginx'. Choose one of caddy, none."),
    ({"deploy_environment": "live"}, "deploy_environment: is 'live'. Choose one of demo, staging, prod."),
    ({"deploy_language": "de"}, "deploy_language: is 'de'. Choose one of en, pt_BR."),
    ({"deploy_maintenance": True}, "deploy_maintenance: is True. Choose one of auto, always, never."),
    ({"deploy_rollback_scope": "all"}, "deploy_rollback_scope: is 'all'. Choose one of nothing, code,"),
    # source
    ({"deploy_source": None}, "deploy_source: names no url. Give it the form {type: git,"),
    ({"deploy_source": "https://x"}, "deploy_source: names no url."),
    ({"deploy_source": {"type": "git"}}, "deploy_source: names no url."),
    ({"deploy_source": {"type": "svn", "url": "x"}}, "deploy_source.type: is 'svn'. Choose one of git, archive."),
    # processes
    ({"deploy_processes": None}, "deploy_processes: names no process."),
    ({"deploy_processes": ["web"]}, "deploy_processes: names no process."),
    ({"deploy_processes": {"web": {}}}, "deploy_processes.web: has no command."),
    ({"deploy_processes": {"web": "gunicorn"}}, "deploy_processes.web: has no command."),
    ({"deploy_processes": {"web": {"command": "x", "ports": [1], "health": {}}}}, "deploy_processes.web.ports: is not a list of two ports."),
    ({"deploy_processes": {"web": {"command": "x", "ports": 80, "health": {"path": "/"}}}}, "deploy_processes.web.ports: is not a list of two ports."),
    ({"deploy_processes": {"web": {"command": "x", "ports": []}}}, "deploy_processes.web.health: is missing. Name the path"),
    (
        {"deploy_processes": {"web": {"command": "x", "limits": {"tasks_max": 5}}}},
        "deploy_processes.web.limits: is for systemd alone. Set deploy_strategy: systemd",
    ),
    ({"deploy_processes": {"web": {"command": "x", "writable": ["/srv"]}}}, "deploy_processes.web.writable: is for systemd alone."),
    # environment, database, backup
    ({"deploy_env": None}, "deploy_env: is not a dictionary."),
    ({"deploy_env": {"NOT A NAME": "s3cret"}}, "deploy_env.NOT A NAME: is not a variable's name."),
    ({"deploy_database": None}, "deploy_database: has no url."),
    ({"deploy_migrations": {"when": "never"}}, "deploy_migrations.when: is 'never'. Choose one of auto, before_switch, after_switch."),
    ({"deploy_migrations": {"rehearsal_url": "u", "rehearsal_cluster": "/c"}}, "deploy_migrations: has rehearsal_url and rehearsal_cluster."),
    ({"deploy_backup": None}, "deploy_backup: has no dest."),
    ({"deploy_backup": {"provider": "tape"}}, "deploy_backup.provider: is 'tape'. Choose one of pg_dump, pgbackrest"),
    ({"deploy_backup": {"provider": "pgbackrest"}}, "deploy_backup.stanza: is missing. Name pgBackRest's stanza"),
    ({"deploy_backup": {"dest": "/b", "recipients": ["age1x"], "upload": {"remote": "offsite"}}}, "deploy_backup.upload: has no remote and path."),
    (
        {"deploy_backup": {"dest": "/b", "recipients": ["age1x"], "upload": {"remote": "o", "path": "b/a", "config": {"provider": "AWS"}}}},
        "deploy_backup.upload.config: has no type.",
    ),
    ({"deploy_backup": {"dest": "/b"}}, "deploy_backup.recipients: is empty. Name at least one age recipient"),
    # lists
    ({"deploy_tokens": {"table": "x"}}, "deploy_tokens: is a dict. Give it a list."),
    ({"deploy_signoffs": "qa"}, "deploy_signoffs: is a str. Give it a list."),
    # watch
    ({"deploy_watch": ["x"]}, "deploy_watch: is not a dictionary with a list of gates."),
    ({"deploy_watch": {"gates": ["error_rate"]}}, "deploy_watch: is not a dictionary with a list of gates."),
    ({"deploy_watch": {"gates": [{"metric": "error_rate", "op": "<="}]}}, "deploy_watch.gates[0]: lacks one of metric, op, value. Give it the form {metric:"),
    ({"deploy_watch": {"for": "soon"}}, "deploy_watch: for is 'soon', which is no duration."),
    ({"deploy_watch": {"for": "1s"}}, "deploy_watch: interval is longer than for. Make the interval shorter or for longer."),
    ({"deploy_watch": {"gates": [{"metric": "error_rate", "op": "<=", "value": "1%"}]}}, "deploy_watch: gates[0].metric is error_rate, but the watch has no"),
    (
        {"deploy_watch": {"for": "5s", "gates": [{"metric": "db_deadlocks_delta", "op": "<=", "value": 0, "for": "6s"}]}},
        "deploy_watch: gates[0].for is longer than the watch",
    ),
    # batches and waits
    ({"deploy_batches": "50%"}, 'deploy_batches: is not a list of sizes. Give it the form [1, "50%"]'),
    ({"deploy_batches": []}, "deploy_batches: is not a list of sizes."),
    ({"deploy_batches": [1, "half"]}, "deploy_batches: has 'half'. Give it the form"),
    ({"deploy_drain_seconds": 61}, "deploy_drain_seconds: is 61. Give it whole seconds, at most half of deploy_lease_seconds (120)."),
    ({"deploy_start_seconds": 30, "deploy_lease_seconds": 50}, "deploy_start_seconds: is 30. Give it whole seconds, at most half of"),
    ({"deploy_start_seconds": "long"}, "deploy_start_seconds: is long."),
    # evidence
    ({"deploy_evidence": "x"}, "deploy_evidence: is not a dictionary."),
    ({"deploy_evidence": {"from": "demo"}}, "deploy_evidence.key: is missing. Give staging and production the same"),
    ({"deploy_evidence": {"key": "s3cret"}}, "deploy_evidence.key: has 6 characters, fewer than 32."),
    ({"deploy_evidence": {"key": "k" * 32, "from": "staging"}}, "deploy_evidence.from: is 'staging'. Name another environment"),
    ({"deploy_evidence": {"key": "k" * 32, "from": "prod", "max_age": "a week"}}, "deploy_evidence: max_age is 'a week', which is no duration."),
    # not an option
    ({"deploy_versoin": "r1"}, "deploy_versoin: is not an option. Did you mean deploy_version?"),
    ({"colour_of_the_report": 1}, "colour_of_the_report: is not an option. See docs/profile.md"),
    # not filled in
    ({"deploy_app": "FILL_IN"}, "deploy_app: is not filled in. Replace FILL_IN"),
    ({"deploy_backup": {"dest": "/b", "recipients": ["age1x", {"deep": "FILL_IN"}]}}, "deploy_backup.recipients[1].deep: is not filled in."),
    ({"deploy_env": {"DATABASE_URL": "postgresql://FILL_IN@h/d"}}, "deploy_env.DATABASE_URL: is not filled in."),
]


@pytest.mark.parametrize(("change", "message"), CASES, ids=[case[1].partition(".")[0] for case in CASES])
def test_each_kind_of_finding(change: dict[str, t.Any], message: str) -> None:
    first, *others = found(**change)
    assert first.startswith(message)
    assert len(others) == ("ports" in message and "web" in message and change["deploy_processes"]["web"].get("health") == {})


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({**GROUPS, "primary": []}, "primary: the group has 0 hosts. Put exactly one host in it"),
        ({**GROUPS, "primary": ["a", "b"]}, "primary: the group has 2 hosts."),
        ({"primary": ["db1"], "proxy": ["p1"]}, "app: the group has no host."),
        ({"primary": ["db1"], "app": ["a"]}, "proxy: the group has no host."),  # caddy is the default
        ({**GROUPS, "app": ["FILL_IN_APP1"], "all": ["FILL_IN_APP1", "FILL_IN_x"]}, "hosts: FILL_IN_APP1 is still the template's."),
    ],
)
def test_groups(groups: dict[str, list[str]], message: str) -> None:
    (finding,) = found(groups)
    assert finding.startswith(message)


FLEET = {"primary": ["db1"], "app": ["a", "b"], "proxy": ["p1", "p2"]}


def test_a_part_of_the_hosts() -> None:
    assert _plan.taking_part(FLEET) == FLEET
    limited = {**FLEET, "deploy_limited": ["a", "db1", "p1", "p2"]}
    assert _plan.taking_part(limited) == {**FLEET, "app": ["a"]}
    assert found(limited) == []
    free = {"web": {"command": "x", "ports": [], "health": {"path": "/"}}}
    assert found(limited, deploy_processes=free) == [
        "deploy_processes.web.ports: is [], so the ports of a host that is left out are not known. Name two ports."
    ]
    assert found({**FLEET, "deploy_limited": [*FLEET["app"], *FLEET["proxy"], "db1"]}, deploy_processes=free) == []
    assert found({**FLEET, "deploy_limited": ["a", "p1"]}) == [
        "--limit: leaves out p2 of the group proxy. Only hosts of app may be left out: the others are needed in every run.",
        "--limit: leaves out db1 of the group primary. Only hosts of app may be left out: the others are needed in every run.",
    ]


def test_all_at_once_and_each_option_blamed_once() -> None:
    messages = found(
        {**GROUPS, "primary": []},
        {"deploy_env": "'vault_x' is undefined"},
        deploy_env="FILL_IN",
        deploy_source={"type": "FILL_IN", "url": ""},
        deploy_root="",
        deploy_backup=None,
    )
    assert [message.partition(" ")[0] for message in messages] == [
        "deploy_env:",
        "deploy_source.type:",
        "deploy_env:",
        "primary:",
        "deploy_root:",
        "deploy_backup:",
    ]
    assert messages[0] == "deploy_env: cannot be evaluated: 'vault_x' is undefined Set what it refers to."


# --- the action plugin ------------------------------------------------------------------------------------------------


def test_run_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWX_JOB_ID", "JOB_ID"):
        monkeypatch.delenv(name, raising=False)
    made = {plan_action._run_id(MOMENT) for _unused in range(20)}
    assert len(made) > 1 and all(re.fullmatch(r"20261121T221004-[0-9a-f]{4}", one) for one in made)
    monkeypatch.setenv("JOB_ID", "../deploy #7")
    assert plan_action._run_id(MOMENT) == "20261121T221004-_deploy_7"
    monkeypatch.setenv("AWX_JOB_ID", "815")
    assert plan_action._run_id(MOMENT) == "20261121T221004-815"


def test_policy() -> None:
    assert plan_action._policy(profile(), None) == plan_action._policy(profile(), "staging") == []
    (finding,) = plan_action._policy(profile(), "prod")
    assert str(finding) == "deploy_environment: is 'staging', this playbook is for prod. Run it with the inventory of prod (-i prod)."
    assert plan_action._refusal([finding])["msg"].startswith("The inventory needs 1 correction before any host is contacted:\n  - deploy_environment: is")


class Site:
    """An inventory of hosts that cannot be reached, with an ssh that tells when it is started."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.touched = directory / "contacted"
        ssh = directory / "ssh"
        ssh.write_text(f"#!/bin/sh\ntouch '{self.touched}'\nexit 255\n", encoding="utf-8")
        ssh.chmod(0o755)

    def play(self, playbook: str | Path, inventory: str | Path, *options: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
        command = [Path(sys.executable).with_name("ansible-playbook"), playbook, "-i", inventory, *options]
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "PROD_", "STAGING_")) or name.startswith("ANSIBLE_WORKER_")
        }
        environment = {
            **kept,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"),
            "ANSIBLE_HOME": str(self.directory / "home"),
            "ANSIBLE_SSH_EXECUTABLE": str(self.directory / "ssh"),
            "ANSIBLE_NOCOLOR": "1",
        }
        return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)

    def inventory(self, **other: object) -> Path:
        """An inventory file with the profile."""
        path = self.directory / "inventory.yml"
        hosts = {"app": {"hosts": {"app1": None}}, "proxy": {"hosts": {"app1": None}}, "primary": {"hosts": {"db1": None}}}
        variables = {**profile(deploy_build_dir=str(self.directory / "build")), **other}
        path.write_text(
            json.dumps({"all": {"children": hosts, "vars": {name: value for name, value in variables.items() if value is not None}}}), encoding="utf-8"
        )
        return path


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def placeholders(path: str, value: object) -> list[str]:
    """Where a template says FILL_IN, with what a default in an expression says."""
    if isinstance(value, dict):
        return [one for key, item in value.items() for one in placeholders(f"{path}.{key}", item)]
    if isinstance(value, list):
        return [one for index, item in enumerate(value) for one in placeholders(f"{path}[{index}]", item)]
    return [path] if "FILL_IN" in str(value) else []


def test_the_unfilled_template_stops_with_one_list(site: Site) -> None:
    finished = site.play("deploy.yml", "prod")
    output = finished.stdout + finished.stderr
    assert finished.returncode not in (0, 4), output  # 4 would be: unreachable
    assert not site.touched.exists()
    template = yaml.safe_load((ROOT / "inventories" / "prod" / "group_vars" / "all" / "main.yml").read_text(encoding="utf-8"))
    wanted = [one for name, value in template.items() for one in placeholders(name, value)]
    assert len(wanted) > 12
    assert [one for one in wanted if f"- {one}" not in output] == []
    for host in ("FILL_IN_APP1", "FILL_IN_APP2", "FILL_IN_PROXY1"):
        assert f"hosts: {host} is still the template's." in output
    assert len(re.findall(r"The inventory needs \d+ corrections before any host is contacted", output)) == 1
    assert not (ROOT / ".lastro" / "build" / "FILL_IN").exists()


def test_the_playbook_of_another_environment_refuses(site: Site) -> None:
    finished = site.play("lastro.deploy.prod", site.inventory())
    assert finished.returncode != 0 and not site.touched.exists()
    assert "deploy_environment: is 'staging', this playbook is for prod. Run it with the inventory of prod (-i prod)." in finished.stdout + finished.stderr


PLAY = """
- hosts: localhost
  connection: local
  gather_facts: false
  tasks:
    - lastro.deploy.plan:
      register: first
    - lastro.deploy.plan: {title: false}
      register: again
    - lastro.deploy.plan: {artifact: false, title: false}
      register: without
    - &change
      ansible.builtin.set_fact: {deploy_env: {DATABASE_URL: other}}
      delegate_to: db1
      delegate_facts: true
    - lastro.deploy.plan: {title: false}
      register: changed
    - <<: *change
      ansible.builtin.set_fact: {deploy_source: {type: archive, url: "{{ first.archive }}", sha256: "0000"}}
    - lastro.deploy.plan:
      register: wrong
      ignore_errors: true
    - ansible.builtin.copy:
        content: "{{ {'first': first, 'again': again, 'without': without, 'changed': changed, 'wrong': wrong} | to_json }}"
        dest: "{{ answer }}"
"""


def test_a_plan(site: Site) -> None:
    archive = site.directory / "r1.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("requirements.txt"), io.BytesIO())
    (site.directory / "play.yml").write_text(PLAY, encoding="utf-8")
    answer = site.directory / "answer.json"
    inventory = site.inventory(deploy_source={"type": "archive", "url": str(archive)}, deploy_actor="ana", deploy_reason="{{ 'release' }} day")
    finished = site.play("play.yml", inventory, "-e", f"answer={answer}", cwd=site.directory)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert not site.touched.exists()
    plans = json.loads(answer.read_text(encoding="utf-8"))
    first, again, without, changed, wrong = (plans[name] for name in ("first", "again", "without", "changed", "wrong"))
    assert first["archive"] == str(archive)
    assert first["release"]["sha256"] == digest(archive) and first["release"]["version"] == "r1"
    assert re.fullmatch(r"r1-[0-9a-f]{7}", first["release"]["id"])
    assert (first["changed"], first["app"], first["deploy_environment"], first["actor"], first["reason"]) == (
        False,
        "calendar-api",
        "staging",
        "ana",
        "release day",
    )
    assert first["hosts"] == {"app": ["app1"], "proxy": ["app1"], "primary": ["db1"]}
    assert first["batches"] == [["app1"]]
    assert first["build_dir"] == str(site.directory / "build" / "calendar-api")
    assert first["controller"]["pid"] > 0 and first["controller"] == again["controller"]
    assert again["release"] == first["release"]
    assert "release" not in without and "archive" not in without and without["run_id"]
    # Another environment is another release, although the artifact is the same.
    assert changed["release"]["sha256"] == first["release"]["sha256"] and changed["release"]["id"] != first["release"]["id"]
    assert wrong["failed"] and "deploy_source.sha256 says 0000" in wrong["problem"] and wrong["remedy"]["pt_BR"]
    # The run's first line, once: the other plans asked for none, or failed.
    assert finished.stdout.count("calendar-api · staging · r1") == 1, finished.stdout


def test_what_cannot_be_evaluated_is_a_finding_among_the_others(site: Site) -> None:
    inventory = site.inventory(deploy_env={"SECRET_KEY": "{{ vault_secret_key }}"}, deploy_root="{{ nowhere }}/x", deploy_language="de")
    (site.directory / "play.yml").write_text(
        "- hosts: localhost\n  connection: local\n  gather_facts: false\n  tasks: [lastro.deploy.plan: {}]\n", encoding="utf-8"
    )
    finished = site.play("play.yml", inventory, cwd=site.directory)
    output = finished.stdout + finished.stderr
    assert finished.returncode != 0 and "The inventory needs 3 corrections" in output, output
    assert re.search(r"- deploy_env: cannot be evaluated: .*vault_secret_key.* Set what it refers to\.", output)
    assert re.search(r"- deploy_root: cannot be evaluated: .*nowhere", output)
    assert "- deploy_language: is 'de'" in output
