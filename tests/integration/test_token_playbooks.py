# SPDX-License-Identifier: GPL-3.0-or-later
"""encrypt_tokens, rotate_token_key and clear_tokens as an operator runs them, where a release serves whose table has got its ciphertext columns."""

from __future__ import annotations

import base64
import collections.abc
import dataclasses
import os
import typing as t
from pathlib import Path

import pytest
from ansible_collections.lastro.deploy.plugins.module_utils import _environment_file, _lock
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from .leaks import leaked
from .test_operator_playbooks import OTHER_RUN, Operator
from .token_table import text_of
from .world_support import Live

COLUMNS = "SELECT column_name::text FROM information_schema.columns WHERE table_name = 'credentials' AND column_name LIKE 'token%' ORDER BY 1"


@dataclasses.dataclass(frozen=True)
class LoudOperator(Operator):
    """One who wants to see everything, and all that they saw."""

    outputs: list[str] = dataclasses.field(default_factory=list)

    def __call__(self, playbook: str, *options: str, fails: bool = False, language: str = "en", **variables: object) -> str:
        self.outputs.append(super().__call__(playbook, *options, "-vvv", fails=fails, language=language, **variables))
        return self.outputs[-1]


@pytest.fixture
def operator(live: Live) -> collections.abc.Iterator[LoudOperator]:
    """r1 serves; its table gets the columns of r2 by hand."""
    operator = LoudOperator(live.world)
    operator.rows("ALTER TABLE credentials ADD token_encrypted bytea, ADD token_nonce bytea")
    yield operator
    live.snapshot.restore()


def opened(operator: Operator, key: str) -> list[str]:
    cipher = AESGCM(base64.urlsafe_b64decode(key))
    rows = operator.rows("SELECT token_encrypted, token_nonce FROM credentials ORDER BY id")
    return [cipher.decrypt(bytes(nonce), bytes(ciphertext), None).decode() for ciphertext, nonce in rows]


TABLES = [{"table": "credentials"}]


def test_encrypt_rotate_and_clear_by_hand(operator: LoudOperator, tmp_path: Path) -> None:
    tokens = [row[0] for row in operator.rows("SELECT token FROM credentials ORDER BY id")]
    (environment,) = (operator.world.home / "calendar-api" / "env").glob("*.env")
    key = _environment_file.read(str(environment))["TOKEN_ENCRYPTION_KEY"]
    assert len(tokens) > 0

    before = operator.everything()
    told = operator("playbooks/encrypt_tokens.yml", "--check", "--diff", deploy_tokens=TABLES)
    assert f"credentials: would write {len(tokens)} of {len(tokens)} rows" in told
    assert (operator.rows("SELECT count(token_encrypted) FROM credentials"), operator.everything()) == ([(0,)], before)
    _lock.take(operator.state, _lock.Request(OTHER_RUN, 3600, actor="ana"))
    assert "ana" in operator("playbooks/encrypt_tokens.yml", fails=True, deploy_tokens=TABLES)
    _lock.release(operator.state, OTHER_RUN)
    told = operator("playbooks/encrypt_tokens.yml", encrypt_finish=True, deploy_tokens=TABLES)
    assert f"credentials: wrote {len(tokens)} of {len(tokens)} rows" in told
    assert opened(operator, key) == tokens
    assert operator.lock_is_free()

    # The key of the profile is the new one now; the one in the host's environment file was the one so far.
    assert "rotate_previous_key" in operator("playbooks/rotate_token_key.yml", fails=True)
    other = text_of(os.urandom(32))
    rotation: dict[str, t.Any] = {"deploy_tokens": TABLES, "rotate_previous_key": key, "deploy_env": environment_with(environment, other)}
    before, columns = operator.everything(), operator.rows(COLUMNS)
    checked = operator("playbooks/rotate_token_key.yml", "--check", "--diff", **rotation)
    assert f"credentials: would write {len(tokens)} of {len(tokens)} rows" in checked
    assert (operator.rows(COLUMNS), operator.everything(), opened(operator, key)) == (columns, before, tokens)
    operator("playbooks/rotate_token_key.yml", **rotation)
    assert opened(operator, key) == tokens
    swap = {**rotation, "rotate_shadow": "swapped"}
    told = operator("playbooks/rotate_token_key.yml", language="pt_BR", **swap)
    assert "colunas trocadas" in told
    assert opened(operator, other) == tokens
    operator("playbooks/rotate_token_key.yml", rotate_back=True, **swap)
    assert opened(operator, key) == tokens
    operator("playbooks/rotate_token_key.yml", rotate_back=True, **{**swap, "rotate_shadow": "dropped"})
    assert operator.rows(COLUMNS) == [("token",), ("token_encrypted",), ("token_nonce",)]

    before = operator.everything()
    checked = operator("playbooks/clear_tokens.yml", "--check", "--diff", clear_proposals=str(tmp_path), deploy_tokens=TABLES)
    assert f"credentials: would write {len(tokens)} of {len(tokens)} rows" in checked
    assert (operator.rows("SELECT count(token) FROM credentials"), operator.everything(), list(tmp_path.iterdir())) == ([(len(tokens),)], before, [])
    told = operator("playbooks/clear_tokens.yml", clear_proposals=str(tmp_path), deploy_tokens=TABLES)
    assert "Write-ahead log" in told
    assert operator.rows("SELECT count(token) FROM credentials") == [(0,)]
    assert "op.drop_column('credentials', 'token'" in (tmp_path / "drop_credentials_token.py").read_text()
    assert opened(operator, key) == tokens
    assert leaked([*tokens, key, other], "".join(operator.outputs)) == []
    assert "PLAY RECAP" in operator.outputs[0] and len("".join(operator.outputs)) > 100_000
    assert operator.lock_is_free()


def environment_with(path: Path, key: str) -> dict[str, str]:
    """The variables of the release with another key."""
    return {**_environment_file.read(str(path)), "TOKEN_ENCRYPTION_KEY": key}
