# SPDX-License-Identifier: GPL-3.0-or-later
"""Rotation of the token key: in place, and by shadow columns with their way back, while the application writes."""

from __future__ import annotations

import collections.abc
import random
from pathlib import Path

import pytest
from ansible_collections.lastro.deploy.plugins.module_utils import _token_guard
from ansible_collections.lastro.deploy.plugins.module_utils._postgres import parse_url
from ansible_collections.lastro.deploy.plugins.module_utils._progress import silent
from ansible_collections.lastro.deploy.plugins.module_utils._token_encryption import converge
from pyrage import x25519

from .token_table import KEY, OTHER_KEY, Credentials, ModuleRun, application, fast_enough, opened, options, sealed, text_of

Rounds = collections.abc.Callable[[int, int], int]
FORWARD = [text_of(OTHER_KEY), text_of(KEY)]
BACK = [text_of(KEY), text_of(OTHER_KEY)]


def columns(credentials: Credentials) -> list[str]:
    return [row[0] for row in credentials.sql("SELECT column_name::text FROM information_schema.columns WHERE table_name = 'credentials' ORDER BY 1")]


def test_a_key_ring_rotates_in_place_once(credentials: Credentials, run: ModuleRun, tmp_path: Path) -> None:
    credentials.create(700)
    credentials.sql("UPDATE credentials SET token = NULL WHERE id = 5")
    expected = [row[:2] for row in credentials.rows()]
    run(guard_trigger=False)
    run(state="cleared")
    credentials.sql("UPDATE credentials SET token_encrypted = %s, token_nonce = %s WHERE id = 9", *sealed("renewed", OTHER_KEY))
    expected[8] = (9, "renewed")
    predicted = run(state="rotated", encryption_keys=FORWARD, check=True)
    assert (predicted["changed"], predicted["rotated"]) == (True, 698)
    assert credentials.triggers() == []
    identity = x25519.Identity.generate()
    undo = {"path": str(tmp_path / "undo"), "recipients": [str(identity.to_public())]}
    result = run(state="rotated", encryption_keys=FORWARD, backup=undo)
    assert [result[name] for name in ("changed", "rotated", "verified", "swapped", "clear_left", "guard_trigger")] == [True, 698, 699, False, 0, False]
    rows = credentials.rows()
    assert [(key, opened(ciphertext, nonce, OTHER_KEY)) for key, _token, ciphertext, nonce in rows] == expected
    again = run(state="rotated", encryption_keys=FORWARD)
    assert (again["changed"], again["rotated"], again["verified"]) == (False, 0, 699)
    assert credentials.rows() == rows
    assert run(state="rotated", encryption_keys=[text_of(OTHER_KEY)])["changed"] is False
    assert "Wrong key" in run(state="rotated", encryption_keys=[text_of(KEY)])["msg"]
    # The undo file of the rotation knows the new ciphertexts.
    credentials.sql("UPDATE credentials SET token_encrypted = NULL, token_nonce = NULL WHERE id = 9")
    assert run(state="decrypted", encryption_keys=None, backup={"path": undo["path"], "identity": str(identity)})["decrypted"] == 698


def test_the_key_id_column_names_the_key(credentials: Credentials, run: ModuleRun) -> None:
    credentials.create(20)
    credentials.sql("ALTER TABLE credentials ADD kid text, ADD kid_bytes bytea")
    run(key_id_column="kid")
    (old,) = {row[0] for row in credentials.sql("SELECT kid FROM credentials")}
    assert len(bytes.fromhex(old)) == 4
    # A row whose name of the key is missing gets it, under the same key.
    credentials.sql("UPDATE credentials SET kid = NULL WHERE id = 3")
    assert run(state="rotated", key_id_column="kid")["rotated"] == 1
    assert run(state="rotated", key_id_column="kid")["changed"] is False
    assert run(state="rotated", key_id_column="kid", encryption_keys=FORWARD)["rotated"] == 20
    (new,) = {row[0] for row in credentials.sql("SELECT kid FROM credentials")}
    assert new != old
    assert run(state="rotated", key_id_column="kid_bytes", encryption_keys=FORWARD)["rotated"] == 20
    assert {bytes(row[0]).hex() for row in credentials.sql("SELECT kid_bytes FROM credentials")} == {new}


def test_shadow_columns_are_filled_swapped_and_swapped_back(credentials: Credentials, run: ModuleRun) -> None:
    credentials.create(300)
    credentials.sql("UPDATE credentials SET token = NULL WHERE id = 5")
    run()
    texts = [row[:2] for row in credentials.rows()]
    before = credentials.rows()
    predicted = run(state="rotated", shadow="filled", encryption_keys=FORWARD, check=True)
    assert (predicted["changed"], predicted["rotated"], columns(credentials)) == (True, 299, ["id", "token", "token_encrypted", "token_nonce"])

    filled = run(state="rotated", shadow="filled", encryption_keys=FORWARD)
    assert [filled[name] for name in ("changed", "rotated", "swapped", "verified")] == [True, 299, False, 299]
    assert credentials.rows() == before
    assert "token_encrypted__shadow" in columns(credentials)
    assert run(state="rotated", shadow="filled", encryption_keys=FORWARD)["changed"] is False
    assert "299 ciphertexts of public.credentials are not under the first key" in run(state="rotated", shadow="dropped", encryption_keys=FORWARD)["msg"]
    # The running application, old or new, keeps the shadow honest.
    credentials.sql("UPDATE credentials SET token = 'both', token_encrypted = %s, token_nonce = %s WHERE id = 1", *sealed("both"))
    credentials.sql("UPDATE credentials SET token = 'clear alone' WHERE id = 2")
    assert credentials.sql("SELECT count(*) FROM credentials WHERE id < 3 AND token_encrypted__shadow IS NULL") == [(2,)]
    assert run()["encrypted"] == 1
    texts[:2] = [(1, "both"), (2, "clear alone")]

    swapped = run(state="rotated", shadow="swapped", encryption_keys=FORWARD)
    assert [swapped[name] for name in ("changed", "rotated", "swapped", "verified")] == [True, 2, True, 299]
    assert [(key, opened(ciphertext, nonce, OTHER_KEY)) for key, _token, ciphertext, nonce in credentials.rows()] == texts
    for shadow in ("swapped", "filled"):
        again = run(state="rotated", shadow=shadow, encryption_keys=FORWARD)
        assert (again["changed"], again["rotated"], again["swapped"], again["verified"]) == (False, 0, False, 299)

    # The way back, after the new release has written under the new key.
    credentials.sql("UPDATE credentials SET token = 'newest', token_encrypted = %s, token_nonce = %s WHERE id = 3", *sealed("newest", OTHER_KEY))
    texts[2] = (3, "newest")
    back = run(state="rotated", shadow="swapped", encryption_keys=BACK)
    assert (back["rotated"], back["swapped"]) == (1, True)
    assert credentials.stale() == []
    assert [row[:2] for row in credentials.rows()] == texts

    run(state="rotated", shadow="swapped", encryption_keys=FORWARD)
    dropped = run(state="rotated", shadow="dropped", encryption_keys=[text_of(OTHER_KEY)])
    assert (dropped["changed"], columns(credentials)) == (True, ["id", "token", "token_encrypted", "token_nonce"])
    assert [name for name in credentials.triggers() if "shadow" in name] == []
    assert run(state="rotated", shadow="dropped", encryption_keys=[text_of(OTHER_KEY)])["changed"] is False
    assert [(key, opened(ciphertext, nonce, OTHER_KEY)) for key, _token, ciphertext, nonce in credentials.rows()] == texts


@pytest.mark.parametrize(
    ("ddl", "named"),
    [
        ("CREATE VIEW seen AS SELECT token_encrypted FROM credentials", "rule _RETURN on view seen"),
        ("ALTER TABLE credentials ADD CONSTRAINT pair CHECK ((token_encrypted IS NULL) = (token_nonce IS NULL))", "constraint pair on table credentials"),
        ("CREATE INDEX by_nonce ON credentials (token_nonce)", "index by_nonce"),
        ("GRANT SELECT (token_nonce) ON credentials TO pg_monitor", "privileges on column token_nonce"),
    ],
)
def test_what_hangs_on_the_columns_stops_the_shadow(credentials: Credentials, run: ModuleRun, ddl: str, named: str) -> None:
    credentials.create(3)
    run()
    credentials.sql(ddl)
    result = run(state="rotated", shadow="filled", encryption_keys=FORWARD)
    assert f"What hangs on token_encrypted and token_nonce of public.credentials would break: {named}" in result["msg"]
    assert "token_encrypted__shadow" not in columns(credentials)
    assert run(state="rotated", encryption_keys=FORWARD)["rotated"] == 3


def test_shadow_and_columns_of_a_key_ring_exclude_each_other(credentials: Credentials, run: ModuleRun) -> None:
    credentials.create(1)
    assert "shadow goes without hash_column and key_id_column" in run(state="rotated", shadow="filled", key_id_column="kid")["msg"]


def test_a_swap_that_a_writer_overtakes_is_tried_again_and_then_told(credentials: Credentials, run: ModuleRun, monkeypatch: pytest.MonkeyPatch) -> None:
    credentials.create(5)
    run()
    taken: list[int] = []
    real = _token_guard.locked

    def overtaken(connection: object, table: object, act: object, *, sleep: object) -> object:
        if len(taken) < 2 and credentials.sql("SELECT 1 FROM pg_trigger WHERE tgname LIKE 'lastro_shadow%%'"):
            taken.append(1)
            credentials.sql("UPDATE credentials SET token = 'w', token_encrypted = %s, token_nonce = %s WHERE id = 1", *sealed("w"))
        return real(connection, table, act, sleep=sleep)  # type: ignore[arg-type]

    monkeypatch.setattr("ansible_collections.lastro.deploy.plugins.module_utils._token_shadow.locked", overtaken)
    result = run(state="rotated", shadow="swapped", encryption_keys=FORWARD)
    assert (result["swapped"], result["verified"], len(taken)) == (True, 5, 2)
    assert [opened(ciphertext, nonce, OTHER_KEY) for _key, _token, ciphertext, nonce in credentials.rows()] == [row[1] for row in credentials.rows()]


def test_filled_online_and_swapped_while_nobody_writes(credentials: Credentials, run: ModuleRun, seeded: random.Random, rounds: Rounds) -> None:
    credentials.create(5000)
    run(guard_trigger=False)
    keys = {"old": KEY, "new": OTHER_KEY}
    for _round in range(rounds(1, 10)):
        ring = [text_of(keys["new"]), text_of(keys["old"])]
        with application(credentials, both=True, seed=seeded.randrange(2**32), key=keys["old"]) as written:
            filled = options(state="rotated", shadow="filled", encryption_keys=ring, batch_size=200, pause=0.005)
            with written.measured():
                converge(parse_url(credentials.url), filled, progress=silent)
        fast_enough(written, "rotation, shadow columns")
        # Maintenance: the old processes have stopped.
        swapped = run(state="rotated", shadow="swapped", encryption_keys=ring)
        assert (swapped["swapped"], swapped["verified"], swapped["clear_left"]) == (True, 5000, 0)
        assert credentials.lost(written, keys["new"]) == ([], [])
        with application(credentials, both=True, seed=seeded.randrange(2**32), key=keys["new"]):
            assert run(state="rotated", shadow="swapped", encryption_keys=ring)["changed"] is False
        stale = [key for key, token, ciphertext, nonce in credentials.rows() if opened(ciphertext, nonce, keys["new"]) != token]
        assert stale == []
        keys = {"old": keys["new"], "new": keys["old"]}
