# SPDX-License-Identifier: GPL-3.0-or-later
"""Phase protect with API keys: those that a deploy rotates, and their evidence."""

from __future__ import annotations

import collections.abc
import json
import typing as t
from pathlib import Path

from .key_table import SALT, Keys

Player = collections.abc.Callable[[dict[str, t.Any]], t.Any]
Role = collections.abc.Callable[..., dict[str, t.Any]]


def test_phase_protect_rotates_with_both_valid(keys: Keys, tmp_path: Path, player: Player, include_role: Role) -> None:
    (tmp_path / "r2.env").write_text(f'DATABASE_URL="{keys.url}"\nAPI_KEY_SALT="{SALT}"\n')
    channel = {"redis_url": "redis://:hunter-fourteen@127.0.0.1:1/0", "channel": "api-keys"}
    profile = [
        {"name": "auditor", "rotate": "deploy", "generation": 2, "grace": "1h", "sink": {"file": str(keys.file)}, "notify": channel},
        {"name": "client", "rotate_if_older_than": "0s", "sink": {"file": str(keys.file.with_name("client.key"))}},
    ]
    protect = include_role(
        "protect",
        "main",
        deploy_api_keys=profile,
        deploy_early_check=False,
        deploy_work_env=str(tmp_path / "r2.env"),
        deploy_lease={"state_dir": str(tmp_path), "run_id": "run", "seconds": 120, "others": []},
    )
    keys.converge()
    old = keys.file.read_text()
    keep = {"ansible.builtin.set_fact": {"first_evidence": "{{ protect_evidence }}"}}
    played = player({})(protect, keep, protect, facts=["first_evidence", "protect_evidence"], options=["-vvv"])
    assert keys.generations() == [1, 2]
    assert keys.generations("client") == []
    assert keys.delivered() == 2
    new = keys.file.read_text()
    assert keys.accepts(old) and keys.accepts(new)
    (evidence,) = played.facts["first_evidence"]["api_keys"]
    assert {name: evidence[name] for name in ("name", "generation", "created", "revoked", "notified")} == {
        "name": "auditor",
        "generation": 2,
        "created": True,
        "revoked": [],
        "notified": [],
    }
    assert "does not answer PUBLISH: connection refused" in evidence["notify_problems"][0]
    assert [secret for secret in (old, new, SALT, "hunter-fourteen") if secret in played.output + json.dumps(played.facts)] == []
    assert played.facts["protect_evidence"]["api_keys"][0]["created"] is False
