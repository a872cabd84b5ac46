# SPDX-License-Identifier: GPL-3.0-or-later
"""The profile that a user copies: the modules accept it, it names all that the application reads, and it holds no secret."""

from __future__ import annotations

import ast
import base64
import os
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.lastro.deploy.plugins.module_utils import _environment_file, _http_check
from ansible_collections.lastro.deploy.plugins.module_utils._env_contract import run as check_environment
from ansible_collections.lastro.deploy.plugins.module_utils._gates import METRICS, parse_duration, parse_gates
from ansible_collections.lastro.deploy.plugins.module_utils._journal import PHASES
from calendar_api import repository

PROFILE = repository.HERE / "profile.yml"
# Each variable of the checklist's section 2, and where the provider is.
VARIABLES = {"DATABASE_URL", "REDIS_URL", "SECRET_KEY", "TOKEN_ENCRYPTION_KEY", "GOOGLE_CLIENT_ID", "GOOGLE_CLIENT_SECRET", "OAUTH_BASE_URL"}


@pytest.fixture
def profile() -> dict[str, t.Any]:
    loaded = yaml.safe_load(PROFILE.read_text(encoding="utf-8"))
    assert isinstance(loaded, dict)
    return loaded


def required_by(release: str) -> set[str]:
    """The variables whose absence stops *release*, read from its source."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(repository.files(release)["calendar_api/config.py"])):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isupper() and node.value.isidentifier():
            names.add(node.value)
    return names - {"DEPLOY_RELEASE"}


def test_every_variable_is_given_and_has_a_contract(profile: dict[str, t.Any]) -> None:
    assert set(profile["deploy_env"]) == set(profile["deploy_env_contract"]) == VARIABLES
    assert required_by("r1") | {"TOKEN_ENCRYPTION_KEY"} == required_by("r2") == required_by("r4") == VARIABLES


def test_secrets_come_by_lookup(profile: dict[str, t.Any]) -> None:
    for name, value in profile["deploy_env"].items():
        assert value == "{{ lookup('ansible.builtin.env', '" + name + "') }}"
    assert profile["deploy_database"] == {"url": "{{ deploy_env.DATABASE_URL }}"}
    assert all(value.startswith("{{ lookup(") for value in (profile["deploy_backup"]["identity"], *profile["deploy_backup"]["recipients"]))


def environment_file(directory: Path, **changes: str) -> str:
    values = {
        "DATABASE_URL": "postgresql://calendar:p%25w@127.0.0.1:5432/calendar",
        "REDIS_URL": "redis://127.0.0.1:6379/0",
        "SECRET_KEY": base64.urlsafe_b64encode(os.urandom(32)).decode(),
        "TOKEN_ENCRYPTION_KEY": base64.urlsafe_b64encode(os.urandom(32)).decode(),
        "GOOGLE_CLIENT_ID": "calendar",
        "GOOGLE_CLIENT_SECRET": base64.urlsafe_b64encode(os.urandom(24)).decode(),
        "OAUTH_BASE_URL": "http://127.0.0.1:8099",
        **changes,
    }
    path = directory / "environment"
    path.touch(mode=0o600)
    path.write_text(_environment_file.render({name: value for name, value in values.items() if value}), encoding="utf-8")
    return str(path)


def test_the_contract_takes_a_right_environment(profile: dict[str, t.Any], tmp_path: Path) -> None:
    result = check_environment({"environment_file": environment_file(tmp_path), "contract": profile["deploy_env_contract"], "report_only": False})
    assert (result["checked"], result["findings"]) == (len(VARIABLES), [])


def test_the_contract_finds_a_short_key_and_what_is_missing(profile: dict[str, t.Any], tmp_path: Path) -> None:
    path = environment_file(tmp_path, TOKEN_ENCRYPTION_KEY=base64.urlsafe_b64encode(os.urandom(31)).decode(), REDIS_URL="")
    result = check_environment({"environment_file": path, "contract": profile["deploy_env_contract"], "report_only": True})
    assert {finding["variable"] for finding in result["findings"]} == {"TOKEN_ENCRYPTION_KEY", "REDIS_URL"}


def test_the_smoke_checks_are_checks(profile: dict[str, t.Any]) -> None:
    validator = ArgumentSpecValidator(_http_check.argument_spec().options)
    result = validator.validate({"base_url": "http://127.0.0.1:8001", "release": "r2", "checks": profile["deploy_smoke"]})
    assert not result.error_messages
    checks = _http_check.plan_checks(result.validated_parameters)
    assert {(check.method, check.url.partition("8001")[2].partition("?")[0]) for check in checks} == {
        ("GET", "/health"),
        ("GET", "/ready"),
        ("GET", "/api/schedule"),
        ("GET", "/api/users/1/token-check"),
        ("POST", "/api/users/1/renew"),
        ("POST", "/api/bookings"),
    }
    assert [(check.requests, check.parallel) for check in checks if check.url.endswith("/api/bookings")] == [(20, 20)]


def test_the_gates_are_gates(profile: dict[str, t.Any]) -> None:
    watch = profile["deploy_watch"]
    sources = {source for metric in METRICS.values() for source in metric.sources}
    gates = parse_gates(watch["gates"], sources=sources, duration=parse_duration(watch["for"], "for"))
    assert [gate.metric for gate in gates if gate.on_breach == "rollback"] == ["error_rate"]


def test_no_key_is_a_method_of_a_dictionary(profile: dict[str, t.Any]) -> None:
    def keys(value: object) -> list[str]:
        if isinstance(value, dict):
            return [*map(str, value), *(name for item in value.values() for name in keys(item))]
        return [name for item in value for name in keys(item)] if isinstance(value, list) else []

    assert not {"get", "keys", "items", "values", "update", "pop"}.intersection(keys(profile))
    assert all(name.startswith("deploy_") for name in profile)


def test_the_ports_and_the_tokens(profile: dict[str, t.Any]) -> None:
    assert list(profile["deploy_processes"]) == ["web"]
    assert len(profile["deploy_processes"]["web"]["ports"]) == 2
    assert profile["deploy_tokens"] == [{"table": "credentials", "source": "token", "ciphertext": "token_encrypted", "nonce": "token_nonce", "clear": "never"}]


def test_each_item_of_the_checklist_is_executed_or_signed(profile: dict[str, t.Any]) -> None:
    items = {item["id"]: item for item in profile["deploy_checklist"]}
    assert sorted(items) == [f"calendar-api-{number:03d}" for number in range(1, 27)]
    page = (Path(__file__).parents[2] / "docs" / "checklists" / "calendar-api.md").read_text(encoding="utf-8")
    for name, item in items.items():
        _start, _id, text, done_by, how, _end = (cell.strip() for cell in next(line for line in page.splitlines() if line.startswith(f"| {name} ")).split("|"))
        assert text == item["item"].strip()
        assert done_by == ", ".join([*item.get("phases", []), *(["sign-off"] if "signoff" in item else [])])
        assert how
    people = {name for name, item in items.items() if "phases" not in item}
    assert people == {"calendar-api-017", "calendar-api-026"}
    assert set().union(*(item.get("phases", []) for item in items.values())) <= set(PHASES)
