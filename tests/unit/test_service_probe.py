# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lastro.deploy.plugins.module_utils import _environment_file, _http, _service_probe
from ansible_collections.lastro.deploy.plugins.module_utils import _service_probe_kinds as kinds
from ansible_collections.lastro.deploy.plugins.module_utils._errors import LastroError, Text
from ansible_collections.lastro.deploy.plugins.module_utils._service_probe import Probe
from ansible_collections.lastro.deploy.plugins.module_utils._service_probe_kinds import Reply, Target

REMEDY = Text(en="do", pt_BR="faça")


def test_all_targets_are_asked_at_once() -> None:
    together = threading.Barrier(5)

    def ask(target: Target) -> Reply:
        together.wait(60)
        if target.name == "t3":
            raise LastroError("it is down.", remedy=REMEDY)
        return Reply(version=target.name)

    probes = _service_probe.probe_all([Probe(Target(name=f"t{number}", kind="tcp")) for number in range(5)], ask=ask)
    assert [probe.reply.version for probe in probes] == ["t0", "t1", "t2", "", "t4"]
    assert [probe.finding.problem if probe.finding else "" for probe in probes] == ["", "", "", "it is down", ""]


def test_a_probe_that_hangs_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_service_probe, "GRACE", 0.1)
    over = threading.Event()

    def ask(target: Target) -> Reply:
        over.wait(20)
        return Reply()

    try:
        (probe,) = _service_probe.probe_all([Probe(Target(name="slow", kind="tcp", timeout=0.1))], ask=ask)
    finally:
        over.set()
    assert probe.finding is not None
    assert probe.finding.problem == "no answer within 0.2 s"


def test_a_target_with_a_finding_is_not_asked() -> None:
    finding = _service_probe.Finding("x", "is wrong", REMEDY)

    def ask(target: Target) -> Reply:
        raise AssertionError

    assert _service_probe.probe_all([Probe(Target(name="x", kind="tcp"), finding=finding)], ask=ask)[0].finding is finding


def test_a_url_gives_host_and_port_and_shows_no_password() -> None:
    target = kinds.resolve(Target(name="db", kind="postgres", url="postgresql+psycopg2://u:hunter2@db.local/x"))
    assert (target.host, target.port, target.address) == ("db.local", 5432, "db.local:5432")
    assert "hunter2" not in repr(target)
    assert kinds.resolve(Target(name="x", kind="http", url="http://h/")).port == 80


def params(entry: dict[str, Any], environment_file: Path | None = None) -> dict[str, Any]:
    target = {"min_days": 14, **entry}
    return {"targets": [target], "environment_file": str(environment_file) if environment_file else None, "timeout": 1.0, "report_only": True}


@pytest.mark.parametrize(
    ("entry", "name", "problem"),
    [
        ({"kind": "tcp", "host": "h"}, "h:", "a target of kind tcp needs a URL, or host and port (1 to 65535)"),
        ({"kind": "tcp", "host": "h", "port": 65536, "name": "x"}, "x", "a target of kind tcp needs a URL, or host and port (1 to 65535)"),
        ({"kind": "postgres", "host": "h", "port": 1}, "h:1", "a target of kind postgres needs a URL"),
        ({"kind": "tls", "url": "https://"}, "tls", "its URL has no host or no port"),
        ({"kind": "tls", "url": "https://h:x"}, "tls", "its URL has an address or port that cannot be read"),
        ({"kind": "http", "url": "gopher://h/"}, "http", "its URL starts with gopher, expected http or https"),
        ({"kind": "redis", "url": "http://h/"}, "redis", "its URL is not a Redis URL (scheme http)"),
        ({"kind": "postgres", "url": "mysql://h/x"}, "postgres", "The database URL starts with mysql, not with postgresql"),
        ({"kind": "redis", "url_variable": "REDIS_URL"}, "REDIS_URL", "url_variable needs the option environment_file"),
        ({"kind": "tcp", "host": "h", "port": 1, "timeout": -1.0}, "h:1", "its timeout is not above 0 seconds"),
    ],
)
def test_bad_targets_are_findings(entry: dict[str, Any], name: str, problem: str) -> None:
    result = _service_probe.run(params(entry))
    (finding,) = result["findings"]
    assert (finding["target"], finding["problem"]) == (name, problem)
    assert finding["remedy"]["pt_BR"]


def test_a_url_comes_from_the_environment_file(tmp_path: Path) -> None:
    path = tmp_path / "env"
    entry = {"kind": "redis", "url_variable": "REDIS_URL"}
    assert _service_probe.run(params(entry, path))["findings"][0]["problem"] == f"the environment file {path} cannot be read: No such file or directory"
    path.write_bytes(b"\xff")
    assert _service_probe.run(params(entry, path))["findings"][0]["problem"] == f"the environment file {path} cannot be read: it is not UTF-8 text"
    path.write_text(_environment_file.render({"OTHER": "x"}), encoding="utf-8")
    assert _service_probe.run(params(entry, path))["findings"][0]["problem"] == f"the environment file {path} has no REDIS_URL"


@pytest.mark.parametrize(
    ("kind", "url", "library"), [("redis", "redis://h/0", "redis"), ("http", "http://h/", "requests"), ("postgres", "postgresql://h/x", "psycopg2")]
)
def test_a_missing_library_is_a_finding(monkeypatch: pytest.MonkeyPatch, kind: str, url: str, library: str) -> None:
    monkeypatch.setattr(kinds, "HAS_REDIS", False)
    monkeypatch.setattr(_http, "HAS_REQUESTS", False)
    monkeypatch.setattr("ansible_collections.lastro.deploy.plugins.module_utils._postgres.HAS_PSYCOPG2", False)
    (finding,) = _service_probe.run(params({"kind": kind, "url": url}))["findings"]
    assert finding["problem"] == f"This Python has no {library}"


def test_passwords_in_options_are_registered() -> None:
    assert _service_probe.secrets_in(params({"kind": "redis", "url": "redis://:a%40b@h"})) == {"a%40b", "a@b"}
    assert _service_probe.secrets_in(params({"kind": "redis", "url": "redis://h:["})) == set()
    assert _service_probe.secrets_in(params({"kind": "redis", "url": "redis://[h"})) == set()
