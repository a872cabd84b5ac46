# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Staging and production of calendar-api as two inventories of one network: what production demands, and the checklist, item by item.

The tests stand in the order of the story and share its hosts.
"""

from __future__ import annotations

import collections.abc
import concurrent.futures
import dataclasses
import hashlib
import hmac
import json
import re
import secrets
import shutil
import subprocess
import tempfile
import typing as t
from pathlib import Path

import pytest

from ..fleet.__main__ import KINDS
from ..fleet.support import STATE, answer, journal, outcome, play, revision, rows, runs
from ..fleet.world import ROOT, FleetWorld
from ..hosts.fleet import Fleet
from .world_support import Command

SIGNOFFS = {"tech_lead": "ana", "devops": "bruno", "google_login": "carla", "secrets_rotated": "davi", "secrets_in_a_vault": "elisa"}
"""Who signs what."""
EVIDENCE_KEY = secrets.token_urlsafe(32)
WATCH = {
    "for": "3s",
    "interval": "500ms",
    "probes": [{"url": "{{ deploy_url }}/health"}, {"url": "{{ deploy_url }}/api/schedule?day=2026-01-01"}],
    "gates": [
        {"metric": "error_rate", "op": "<=", "value": "10%", "on_breach": "rollback"},
        {"metric": "log_errors", "op": "<=", "value": 0, "on_breach": "rollback"},
    ],
}
BEFORE_THE_POLICY: dict[str, t.Any] = {"deploy_evidence": {}, "deploy_signoffs": []}
"""How r1 has landed in production: before anybody demanded a proof."""


@dataclasses.dataclass(frozen=True)
class Environment:
    """One of the two; *secrets_file* is the vault that the playbook new_secrets has made."""

    world: FleetWorld
    secrets_file: Path
    password_file: Path

    @property
    def name(self) -> str:
        return str(self.world.state["environment"])

    def play(self, playbook: str, release: str, **variables: object) -> Command:
        options = ("-e", f"@{self.secrets_file}", "--vault-password-file", str(self.password_file))
        return play(self.world, playbook, *options, "-e", json.dumps({"deploy_version": release, **variables}))

    def deploy(self, release: str, **variables: object) -> Command:
        return self.play(f"lastro.deploy.{self.name}", release, **variables)

    def report(self) -> dict[str, t.Any]:
        """The report of the newest run, as a program reads it."""
        return t.cast(dict[str, t.Any], json.loads(self.world.primary.run("cat", f"{STATE}/reports/{runs(self.world)[-1]}.json")))


@dataclasses.dataclass(frozen=True)
class Both:
    """Staging on one host, production on four."""

    home: Path
    staging: Environment
    production: Environment

    @property
    def evidence(self) -> Path:
        return self.home / "evidence"


def together(*calls: t.Callable[[], Command]) -> list[Command]:
    """What commands print that run at the same time, on hosts apart."""
    with concurrent.futures.ThreadPoolExecutor(len(calls)) as pool:
        return [future.result() for future in [pool.submit(call) for call in calls]]


def landed(*commands: Command) -> None:
    for command in commands:
        assert command.code == 0, command.output


@pytest.fixture(scope="module")
def both() -> collections.abc.Iterator[Both]:
    """r1 serves in both."""
    home = Path(tempfile.mkdtemp(prefix="lastro-e-"))
    fleet = Fleet(home / "hosts")
    fleet.up({"one1": "one", **KINDS})
    try:
        yield make_both(home, fleet)
    finally:
        fleet.down()
        shutil.rmtree(home)


def make_both(home: Path, fleet: Fleet) -> Both:
    shared = {"deploy_build_dir": str(home / "build"), "deploy_watch": WATCH}
    evidence = {"key": EVIDENCE_KEY, "dir": str(home / "evidence")}
    one = dict.fromkeys(("primary", "app", "proxy"), ("one1",))
    staging = FleetWorld.create(home / "staging", fleet, environment="staging", groups=one, variables={**shared, "deploy_evidence": evidence})
    production = FleetWorld.create(
        home / "prod", fleet, variables={**shared, "deploy_evidence": {**evidence, "from": "staging"}, "deploy_signoffs": list(SIGNOFFS)}
    )
    both = Both(home, *(make_secrets(world) for world in (staging, production)))
    landed(*together(*(lambda world=world: play(world, "lastro.deploy.tool_environment") for world in (staging, production))))
    landed(*together(lambda: both.staging.deploy("r1"), lambda: both.production.deploy("r1", **BEFORE_THE_POLICY)))
    return both


def make_secrets(world: FleetWorld) -> Environment:
    password = world.home / "vault-password"
    password.touch(mode=0o600)
    password.write_text(secrets.token_urlsafe(16), encoding="utf-8")
    landed(play(world, "lastro.deploy.new_secrets", "-e", f"new_secrets_dest={world.home / 'secrets'}", "--vault-password-file", str(password)))
    return Environment(world, world.home / "secrets" / "vault.yml", password)


def picture(world: FleetWorld) -> dict[str, object]:
    """What a refusal must leave alone."""
    return {
        "revision": revision(world),
        "hosts": {
            host.name: host.sh("ls /opt/calendar-api/releases /etc/systemd/system /etc/caddy/sites 2>/dev/null || :") for host in world.hosts("app", "proxy")
        },
        "backups": world.primary.sh("ls /var/backups/calendar-api"),
        "release": answer(world)[1],
        "tokens": rows(world, "SELECT md5(string_agg(credentials::text, ',' ORDER BY id)) FROM credentials"),
    }


def refused(both: Both, release: str, *, unproved: bool, unsigned: t.Collection[str], **variables: object) -> None:
    """Production does not take *release*, says all of the reasons at once, and is as it was."""
    before = picture(both.production.world)
    command = both.production.deploy(release, **variables)
    said = " ".join(command.output.split())
    assert command.code == 2, command.output
    assert outcome(both.production.world) == "failed_nothing_changed"
    assert (f"staging has not proved this artifact of {release}" in said) is unproved, command.output
    assert (f"Deploy it there first: ansible-playbook deploy.yml -i staging -e deploy_version={release}." in said) is unproved
    assert set(re.findall(rf"(\w+) has not signed {release}-\w+ off", said)) == set(unsigned), command.output
    assert picture(both.production.world) == before


def test_production_wants_proof_and_sign_offs(both: Both) -> None:
    refused(both, "r2", unproved=True, unsigned=SIGNOFFS)


def test_a_policy_refuses_the_inventory_of_the_other(both: Both) -> None:
    known = len(runs(both.production.world))
    command = both.production.play("lastro.deploy.staging", "r2")
    assert command.code == 2
    assert "deploy_environment: is 'prod', this playbook is for staging." in command.output
    assert len(runs(both.production.world)) == known


def test_staging_proves_r2(both: Both) -> None:
    landed(both.staging.deploy("r2"))
    opened = journal(both.staging.world)[0]
    sha256 = opened["release"]["sha256"]
    proof = json.loads((both.evidence / "calendar-api" / "staging" / f"{sha256}.json").read_text(encoding="utf-8"))
    claimed = proof.pop("hmac")
    signed = json.dumps(proof, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    assert claimed == hmac.new(EVIDENCE_KEY.encode(), signed, hashlib.sha256).hexdigest()
    assert {name: proof[name] for name in ("app", "environment", "sha256", "outcome", "run_id")} == {
        "app": "calendar-api",
        "environment": "staging",
        "sha256": sha256,
        "outcome": "deployed",
        "run_id": opened["run_id"],
    }
    assert sha256 in {hashlib.sha256(path.read_bytes()).hexdigest() for path in (both.home / "build").rglob("source-*.tar.gz")}
    assert [(gate["metric"], gate["verdict"]) for gate in proof["gates"]] == [("error_rate", "pass"), ("log_errors", "pass")]
    assert revision(both.production.world) == ["0001"]


def test_a_proof_is_not_enough(both: Both) -> None:
    refused(both, "r2", unproved=False, unsigned=SIGNOFFS)


def sign(both: Both, release: str) -> None:
    for name, person in SIGNOFFS.items():
        landed(both.production.play("lastro.deploy.approve", release, approve_name=name, approve_by=person))


def test_another_artifact_of_the_same_name_is_refused(both: Both) -> None:
    """The sign-offs are there; what is built from another commit is neither what they are for nor what staging has proved."""
    sign(both, "r2")
    other = both.home / "other"
    git = ("git", "-C", str(other), "-c", "user.name=other", "-c", "user.email=other@example.org")
    subprocess.run(["git", "clone", "--quiet", "--branch", "r2", both.production.world.state["repository"], str(other)], check=True, capture_output=True)
    (other / "README.md").write_text("Not what was tested.\n", encoding="utf-8")
    subprocess.run([*git, "commit", "--quiet", "--all", "--message", "Changed"], check=True)
    subprocess.run([*git, "tag", "--force", "r2"], check=True, capture_output=True)
    refused(both, "r2", unproved=True, unsigned=SIGNOFFS, deploy_source={"type": "git", "url": str(other)}, deploy_build_dir=str(both.home / "other-build"))


def checklist() -> list[str]:
    """The ids of the team's checklist."""
    return re.findall(r"^\| (calendar-api-\d+) \|", (ROOT / "docs/checklists/calendar-api.md").read_text(encoding="utf-8"), re.MULTILINE)


def test_the_checklist_is_filled_in(both: Both, capsys: pytest.CaptureFixture[str]) -> None:
    """r2 lands in production, and r4, which drops the clear text: between them each item was executed, or somebody has signed it."""
    landed(*together(lambda: both.production.deploy("r2"), lambda: both.staging.deploy("r4")))
    of_r2 = both.production.report()
    assert_what_r2_has_left(both.production.world, of_r2)
    sign(both, "r4")
    landed(both.production.deploy("r4"))
    of_r4 = both.production.report()
    assert_what_r4_has_left(both.production.world, of_r4)
    items = {item["id"]: item for report in (of_r4, of_r2) for item in report["checklist"] if item["state"] in ("executed", "signed")}
    with capsys.disabled():
        print(f"\ncalendar-api in production: {len(items)} of {len(checklist())} items")
        for name, item in sorted(items.items()):
            print(f"{name}  {item['state']:<9} {'; '.join(item['proof'])}")
    assert sorted(items) == checklist() and len(items) == 26
    assert all(item["proof"] and all(item["proof"]) for item in items.values())
    # One release cannot do all: the column goes in a release of its own, once r2 has proved itself.
    assert {item["id"]: item["state"] for item in of_r2["checklist"] if item["state"] not in ("executed", "signed")} == {"calendar-api-016": "not_needed"}


def phase(report: dict[str, t.Any], name: str) -> dict[str, t.Any]:
    """The evidence of a phase."""
    return t.cast(dict[str, t.Any], next(row for row in report["phases"] if row["phase"] == name)["evidence"])


def assert_what_r2_has_left(world: FleetWorld, report: dict[str, t.Any]) -> None:
    assert report["outcome"] == "deployed" and answer(world)[1].startswith("r2-")
    # 008, 023
    assert (phase(report, "migrate")["after"], revision(world)) == (["0004"], ["0004"])
    # 013, 015: the assertions by name, what the provider has given, and the one booking
    assertions = {check["name"]: check["status"] for check in phase(report, "smoke")["checks"]}
    assert assertions["a credential is renewed at the provider"] == 200
    assert assertions["twenty ask for one slot at once"] in (201, 409)
    assert rows(world, "SELECT count(*) FROM bookings WHERE slot = '1970-01-01 smoke test'") == [(1,)]
    # 020
    assert {row[1] for row in report["gates"]["rows"]} == {"error_rate", "log_errors"} and set(report["gate_verdicts"]) == {"pass"}
    # 021: the processes run with the key that the playbook has made, and no other
    assert rows(world, "SELECT count(*) FROM credentials WHERE token_encrypted IS NULL") == [(0,)]
    assert json.loads(answer(world, "/api/users/2/token-check")[2])["readable"] is True
    # 017, 026, and the interactive part of 013
    assert {(name, person) for name, person, _time in report["signoffs"]["rows"]} == set(SIGNOFFS.items())


def assert_what_r4_has_left(world: FleetWorld, report: dict[str, t.Any]) -> None:
    assert report["outcome"] == "deployed" and answer(world)[1].startswith("r4-")
    order = [row["phase"] for row in report["phases"]]
    assert order.index("watch") < order.index("contract")
    assert [one["revision"] for one in phase(report, "contract")["applied"]] == ["0005"]
    assert rows(world, "SELECT column_name FROM information_schema.columns WHERE table_name = 'credentials' AND column_name = 'token'") == []
    assert json.loads(answer(world, "/api/users/2/token-check")[2])["readable"] is True
