# SPDX-License-Identifier: GPL-3.0-or-later
"""How keys are made, and what is decided for them: properties over any table, with no server."""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import json
import re
import string
import zlib
from pathlib import Path

import pytest
from ansible_collections.lastro.deploy.plugins.filter import profile
from ansible_collections.lastro.deploy.plugins.module_utils._api_key_make import base62, hash_of, make, parse_salt, prefix_problem
from ansible_collections.lastro.deploy.plugins.module_utils._api_key_plan import Held, Plan, Seen, State, Wish, decide
from ansible_collections.lastro.deploy.plugins.module_utils._api_key_table import Row
from ansible_collections.lastro.deploy.plugins.module_utils._errors import LastroError
from ansible_collections.lastro.deploy.plugins.module_utils._plan import findings
from ansible_collections.lastro.deploy.plugins.module_utils._texts_summary import phase_summary
from hypothesis import given
from hypothesis import strategies as st

VECTORS = [json.loads(line) for line in (Path(__file__).parents[2] / "docs" / "api-keys.md").read_text().splitlines() if line.startswith('{"style"')]
DIGITS = string.digits + string.ascii_uppercase + string.ascii_lowercase


def number(text: str) -> int:
    """The inverse of base 62, by another way."""
    return sum(DIGITS.index(digit) * 62**place for place, digit in enumerate(reversed(text)))


@given(st.binary(min_size=32, max_size=32), st.from_regex(r"\A[a-z0-9]{1,8}(_[a-z0-9]{1,8}){0,2}\Z"))
def test_prefixed_keys_hold_every_bit_and_their_checksum(secret: bytes, prefix: str) -> None:
    assert prefix_problem("prefixed", prefix) == ""
    key = make("prefixed", prefix, lambda size: secret[:size])
    body, _separator, end = key.rpartition("_")
    before, _separator, digits = body.rpartition("_")
    assert (before, len(digits), len(end)) == (prefix, 43, 6)
    assert number(digits).to_bytes(32, "big") == secret
    assert number(end) == zlib.crc32(body.encode())


@given(st.binary(min_size=32, max_size=32))
def test_plain_keys(secret: bytes) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", make("plain", "", lambda size: secret[:size]))


@given(st.integers(0, 2**260))
def test_base62(value: int) -> None:
    assert number(base62(value, 50)) == value


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["style"])
def test_vectors_of_the_documentation(vector: dict[str, str]) -> None:
    assert len(VECTORS) == 2
    assert make("plain" if vector["style"] == "plain" else "prefixed", vector["prefix"], lambda size: bytes(range(1, size + 1))) == vector["key"]
    assert hmac.new(vector["salt"].encode(), vector["key"].encode(), hashlib.sha256).hexdigest() == vector["key_hash"]
    assert hash_of(vector["salt"].encode(), vector["key"]).hex() == vector["key_hash"]


def test_salts_in_each_form() -> None:
    assert parse_salt("c0ffee" * 8, "hex", "salt") == bytes.fromhex("c0ffee" * 8)
    assert parse_salt("aGVsbG8gdGhlcmUsIGEgc2FsdA==", "base64", "salt") == b"hello there, a salt"
    with pytest.raises(LastroError, match="salt is weak: all 16 bytes are equal"):
        parse_salt("ab" * 16, "hex", "salt")


def row(generation: int, *, age: float = 0.0, over: bool = False, revoked: bool = False) -> Row:
    moment = "2026-11-26T00:00:00.000000Z"
    return Row("auditor", generation, b"%032d" % generation, "1", age, moment, moment if over else None, moment if revoked else None, over)


@st.composite
def tables(draw: st.DrawFn) -> tuple[Row, ...]:
    """Any generations, with gaps, over and revoked as it comes."""
    generations = sorted(draw(st.sets(st.integers(1, 9), max_size=5)))
    return tuple(row(each, age=draw(st.floats(0, 1000)), over=draw(st.booleans()), revoked=draw(st.booleans())) for each in generations)


def after(wish: Wish, seen: Seen, plan: Plan) -> Seen:
    """What table and sink are once the plan is carried out."""
    rows = [dataclasses.replace(each, revoked_at="now") if each.generation in plan.revoke else each for each in seen.rows]
    rows += [row(plan.create)] if plan.create is not None else []
    file, pending = seen.file, seen.pending
    if plan.create is not None or plan.deliver:
        file, pending = Held(there=True, generation=rows[-1].generation), Held()
    return Seen(tuple(rows), seen.unique or plan.constrain, file, Held() if plan.withdraw else pending)


@given(tables(), st.booleans(), st.sampled_from(["current", "none", "absent"]), st.sampled_from(["current", "none", "absent"]), st.data())
def test_a_plan_that_is_carried_out_leaves_nothing_to_do(rows: tuple[Row, ...], unique: bool, file: str, pending: str, data: st.DataObject) -> None:
    def held(what: str) -> Held:
        return Held(there=what != "absent", generation=rows[-1].generation if rows and what == "current" else None)

    following = rows[-1].generation + 1 if rows else 1
    asked: list[tuple[State, int | None, float | None]] = [("present", None, None), ("rotated", None, 500.0), ("revoked", None, None)]
    asked += [("rotated", following, None), ("rotated", max(following - 1, 1), None)]
    state, generation, older_than = data.draw(st.sampled_from(asked))
    wish = Wish("auditor", state, generation, older_than, salt_id="1", grace=data.draw(st.sampled_from([0.0, 60.0])))
    seen = Seen(rows, unique, held(file), held(pending))
    try:
        plan = decide(wish, seen)
    except LastroError:
        # Only where the newest key is dead and nobody asked for the next one, where its text is lost, or where the file is somebody else's.
        assert (rows and not rows[-1].valid and generation is not None) or file != "current" or not rows
        return
    assert plan.create in (None, following)
    # A key that the table knows is never written over before it was delivered.
    assert plan.deliver or not (state != "revoked" and rows and pending == "current")
    done = after(wish, seen, plan)
    assert decide(wish, done) == Plan()
    if wish.state != "revoked":
        assert done.current is not None
        assert done.current.valid
        assert done.file == Held(there=True, generation=done.rows[-1].generation)
        assert not plan.revoke or rows[-1].generation not in plan.revoke or not rows[-1].valid or plan.create is not None
    else:
        assert not any(each.valid for each in done.rows)
        assert plan.create is None


def test_two_keys_of_a_profile_share_no_file() -> None:
    items = [{"name": name, "sink": {"file": "/k"}} for name in ("auditor", "client")]
    (found,) = [each for each in findings({"deploy_api_keys": items}, {}, ["deploy_api_keys"], {}) if each.option.startswith("deploy_api_keys")]
    assert (found.option, found.problem) == ("deploy_api_keys[1].sink", "is the file of deploy_api_keys[0].")


def test_what_a_profile_item_becomes() -> None:
    key = {"name": "auditor", "rotate": "deploy", "rotate_if_older_than": "90d", "sink": {"file": "/k"}}
    assert profile.api_key_options(key) == {"name": "auditor", "rotate_if_older_than": "90d", "sink": {"file": "/k"}, "state": "rotated"}
    assert profile.api_key_options({"name": "a"}) == {"name": "a", "state": "present"}
    assert profile.api_key_options(key, [{"generation": 1}, {"generation": 4}], "0s") == {
        "name": "auditor",
        "sink": {"file": "/k"},
        "generation": 5,
        "grace": "0s",
        "state": "rotated",
    }
    assert profile.api_key_options(key, [])["generation"] == 1


def test_what_the_operator_reads() -> None:
    quiet = {"created": False, "delivered": False, "revoked": [], "notify_problems": []}
    keys = [
        {**quiet, "name": "a", "generation": 2, "created": True, "delivered": True, "revoked": [1]},
        {**quiet, "name": "b", "generation": 1, "delivered": True},
        {**quiet, "name": "c", "generation": 3, "notify_problems": ["redis: no"]},
    ]
    assert profile.api_key_lines(keys, "en").splitlines() == [
        "a: generation 2, new; revoked: 1",
        "b: generation 1, delivered after an interrupted run",
        "c: generation 3, as before; redis: no",
    ]
    assert profile.api_key_lines(keys[:1], "pt_BR", check=True) == "a: geração 2, seria criada; revogadas: 1"
    assert profile.token_evidence([], keys[:1]) == {"tables": [], "api_keys": keys[:1]}
    assert phase_summary("protect", "ok", {"tables": [], "api_keys": keys}, "en") == "3 API keys, 1 new"
    assert phase_summary("protect", "ok", {"tables": [], "api_keys": keys}, "pt_BR") == "3 chaves de API, 1 nova"


@pytest.mark.parametrize(
    ("item", "problem"),
    [
        ("auditor", "has no name or no sink"),
        ({"name": "auditor"}, "has no name or no sink"),
        ({"rotate": "sometimes"}, "is 'sometimes'"),
        ({"state": "revoked"}, "is not an option"),
        ({"rotate_if_older": "90d"}, "is not an option"),
        ({"return_secret": True}, "is not an option"),
        ({"rotate_if_older_than": "90d", "generation": 2}, "mutually exclusive"),
        ({"grace": "soon"}, "which is no duration"),
        ({"sink": {"mode": "0600"}}, "missing required arguments: file"),
        ({"notify": {"redis_url": "redis://h"}}, "required together: redis_url, channel"),
    ],
)
def test_a_profile_that_is_wrong(item: object, problem: str) -> None:
    whole = {"name": "auditor", "sink": {"file": "/k"}, **item} if isinstance(item, dict) and "name" not in item else item
    found = [each for each in findings({"deploy_api_keys": [whole]}, {}, ["deploy_api_keys"], {}) if each.option.startswith("deploy_api_keys[0]")]
    assert len(found) == 1
    assert problem in found[0].problem
