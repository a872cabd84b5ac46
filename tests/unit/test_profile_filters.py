# SPDX-License-Identifier: GPL-3.0-or-later
"""The pure steps from a profile to what modules take."""

from __future__ import annotations

import typing as t

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.lastro.deploy.plugins.filter import profile

HOSTS: dict[str, dict[str, t.Any]] = {
    "app1": {"deploy_address": "10.0.0.1", "switch_plan": {"ports": {"web": [8001, 8002]}}},
    "app2": {"stage_slots": {"ports": {"web": [9001, 9002], "api": [1, 2]}}},
    "app3": {"stage_slots": {"ports": {}}},
    "app4": {},
}


def test_all_are_filters() -> None:
    assert set(profile.FilterModule().filters()) == {
        "api_key_lines",
        "api_key_options",
        "batch_sizes",
        "before_batch",
        "before_switch",
        "doors",
        "environment_file",
        "health_checks",
        "judge_log_errors",
        "pick",
        "rehearsed",
        "rollback_target",
        "serving",
        "token_evidence",
        "upstreams",
        "watches_logs",
    }


@pytest.mark.parametrize(
    ("when", "kinds", "run"),
    [("auto", "eec", "ee"), ("auto", "ece", "e"), ("auto", "ee", "ee"), ("before_switch", "ece", "ece"), ("after_switch", "ee", ""), ("auto", "", "")],
)
def test_the_revisions_before_the_switch(when: str, kinds: str, run: str) -> None:
    pending = [{"kind": {"e": "expand", "c": "contract"}[kind]} for kind in kinds]
    assert profile.before_switch(pending, when) == pending[: len(run)]


def test_a_door_that_could_not_be_looked_at_is_open() -> None:
    assert profile.doors(["p1", "p2"], {"p1": {"rollback_door": "22:10"}, "p2": {}}) == {"p1": "22:10", "p2": ""}


def test_environment_file() -> None:
    assert profile.environment_file({"B": 1, "A": "x y"}) == 'A="x y"\nB="1"\n'


def test_health_checks() -> None:
    processes: dict[str, dict[str, t.Any]] = {
        "web": {"health": {"path": "/health", "release": "build.release"}},
        "api": {"health": {"path": "/up", "status": 204}},
        "worker": {"command": "rq"},
    }
    assert profile.health_checks(processes) == [
        {"name": "web health", "path": "/health", "method": "GET", "expect": {"status": 200, "json": "build.release == '{release}'"}},
        {"name": "api health", "path": "/up", "method": "GET", "expect": {"status": 204}},
    ]


def test_upstreams() -> None:
    assert profile.upstreams(list(HOSTS), HOSTS, {}) == [
        {"host": "app1", "address": "10.0.0.1", "ports": {"blue": 8001, "green": 8002}, "loopback_port": 9101},
        {"host": "app2", "address": "127.0.0.1", "ports": {"blue": 9001, "green": 9002}, "loopback_port": 9102},
        {"host": "app3", "address": "127.0.0.1", "ports": {"blue": 0, "green": 0}, "loopback_port": 9103},
        {"host": "app4", "address": "127.0.0.1", "ports": {"blue": 0, "green": 0}, "loopback_port": 9104},
    ]
    chosen = profile.upstreams(["app2", "app1"], HOSTS, {"loopback_ports": [7001, 7002, 7003]})
    assert [(one["host"], one["loopback_port"]) for one in chosen] == [("app2", 7001), ("app1", 7002)]
    with pytest.raises(AnsibleFilterError, match=r"deploy_site\.loopback_ports has 1 ports for 2 app hosts"):
        profile.upstreams(["app1", "app2"], HOSTS, {"loopback_ports": [7001]})


def test_what_this_run_has_found_goes_before_what_was_staged() -> None:
    both = {"app1": {"stage_slots": {"ports": {"web": [1, 2]}}, "switch_plan": {"ports": {"web": [3, 4]}}}}
    assert profile.upstreams(["app1"], both, {})[0]["ports"] == {"blue": 3, "green": 4}


def test_a_host_that_takes_no_part_has_the_ports_of_its_profile() -> None:
    away = {"app1": {"stage_slots": {"failed": True}, "deploy_processes": {"worker": {"command": "rq"}, "web": {"ports": [8001, 8002]}}}}
    assert profile.upstreams(["app1"], away, {})[0]["ports"] == {"blue": 8001, "green": 8002}


def test_what_serves_and_what_nobody_knows() -> None:
    looked = {"rollback_looked": True, "switch_plan": {"processes": [{"live_release": "r2"}, {"live_release": ""}]}}
    stale = {"rollback_looked": False, "switch_plan": {"processes": [{"live_release": "r1"}]}}
    assert profile.serving(["a", "b"], {"a": looked, "b": looked}) == ["r2"]
    assert profile.serving(["a", "b", "c"], {"a": looked, "b": stale, "c": {}}) == ["r2", "unknown"]


def test_batches_become_the_serial_of_a_play() -> None:
    assert profile.batch_sizes({"app": ["a", "b", "c"], "deploy_batch_001": ["b", "c"], "deploy_batch_000": ["a"]}) == [1, 2]
    assert profile.batch_sizes({"app": ["a", "b"]}) == [1]
    assert profile.before_batch([["a"], ["b", "c"], ["d"]], "c") == ["a"]
    assert profile.before_batch([["a"], ["b", "c"], ["d"]], "d") == ["a", "b", "c"]


def test_what_a_rehearsal_has_seen_counts() -> None:
    def revision(name: str, **said: object) -> dict[str, t.Any]:
        return {"revision": name, "kind": "expand", "reversible": True, "breaking_findings": [], "blocking_findings": [], **said}

    staged = {"pending": [revision("a"), revision("b", kind="contract", breaking_findings=["rename"])], "needs_maintenance": False, "files": 3}
    seen = {"pending": [revision("a", kind="contract", reversible=False, breaking_findings=["rehearsal-removal"]), revision("b")], "needs_maintenance": True}
    assert profile.rehearsed(staged, seen) == {
        "pending": [
            revision("a", kind="contract", reversible=False, breaking_findings=["rehearsal-removal"]),
            revision("b", kind="contract", breaking_findings=["rename"]),
        ],
        "needs_maintenance": True,
        "files": 3,
    }
    assert profile.rehearsed(staged, {"pending": [], "needs_maintenance": False}) == staged


def test_pick() -> None:
    assert profile.pick({"a": 1, "b": None}, "b", "c") == {"b": None}


def test_token_evidence() -> None:
    assert profile.token_evidence([])["skipped_because"]
    table = {"table": "credentials", "total": 5, "clear_left": 0, "changed": True, "sample": "secret"}
    assert profile.token_evidence([table]) == {"tables": [{"table": "credentials", "total": 5, "clear_left": 0}]}


def release(name: str, state: str = "good", verified: str = "") -> dict[str, str]:
    return {"id": name, "state": state, "verified": verified}


GOOD = [release("r1", verified="1"), release("r3", verified="3"), release("r2", verified="2"), release("r4", "bad", "4"), release("r5", "unfinished")]


@pytest.mark.parametrize(
    ("releases", "live", "standalone", "expected"),
    [
        (GOOD, "r3", False, "r3"),  # a failed run: what served before still stands in the ledger
        (GOOD, "r3", True, "r2"),  # by hand: the good one before it
        (GOOD, "r4", False, "r3"),
        (GOOD, "r4", True, "r3"),
        (GOOD, "", False, "r3"),
        (GOOD[:1], "r1", False, "r1"),
        (GOOD[:1], "r1", True, None),
        (GOOD[3:], "r4", False, None),
        ([], "", False, None),
    ],
)
def test_rollback_target(releases: list[dict[str, str]], live: str, standalone: bool, expected: str | None) -> None:
    assert profile.rollback_target({"releases": releases, "live": live}, standalone).get("id") == expected
