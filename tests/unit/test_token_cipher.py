# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import base64
import json
import os
import re
import typing as t
from pathlib import Path

import pytest
from ansible_collections.lastro.deploy.plugins.module_utils import _token_cipher
from ansible_collections.lastro.deploy.plugins.module_utils._errors import LastroError
from ansible_collections.lastro.deploy.plugins.module_utils._token_cipher import COLUMN_TYPES, ColumnType, KeyRing, Verdict, binding, decode, encode
from ansible_collections.lastro.deploy.plugins.module_utils._token_codec import Codec
from ansible_collections.lastro.deploy.plugins.module_utils._token_columns import Column, Table
from ansible_collections.lastro.deploy.plugins.module_utils._token_keys import parse_key
from ansible_collections.lastro.deploy.plugins.module_utils._token_sql import ENCRYPTED_LOOKING, Row, array_literal, copy_line
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

DOCUMENT = (Path(__file__).parents[2] / "docs" / "token-format.md").read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r"```(\w+)\n(.*?)```", DOCUMENT.partition("## Format `bound`")[0], re.DOTALL))
VECTORS = [json.loads(line) for line in BLOCKS["json"].splitlines()]
# What PostgreSQL's text can hold: no NUL, no lone surrogates.
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
BOUND = dict(re.findall(r"```(\w+)\n(.*?)```", DOCUMENT.partition("## Format `bound`")[2].partition("## The undo file")[0], re.DOTALL))
OLD, NEW = os.urandom(32), os.urandom(32)


@pytest.mark.parametrize("vector", [json.loads(line) for line in BOUND["json"].splitlines()], ids=lambda vector: str(vector["name"]))
def test_the_documented_reader_and_the_ring_agree_on_bound_vectors(vector: dict[str, t.Any]) -> None:
    space: dict[str, t.Any] = {}
    exec(BOUND["python"], space)
    ciphertext, nonce, place = bytes.fromhex(vector["ciphertext"]), bytes.fromhex(vector["nonce"]), (vector["table"], vector["column"], vector["row"])
    assert space["read_bound_token"](vector["key"], ciphertext, nonce, *place) == vector["text"]
    ring = KeyRing([parse_key(vector["key"])], random=lambda _size: nonce)
    assert ring.encrypt([vector["text"]], [binding(*place)]) == [(ciphertext, nonce)]
    assert ring.judge(vector["text"], ciphertext, nonce, (binding(*place), None)) == Verdict("verified", vector["text"])
    for other in (("public.others", *place[1:]), (place[0], "other", place[2]), (*place[:2], [*place[2], "1"]), (*place[:2], ["9"])):
        assert ring.judge(None, ciphertext, nonce, (binding(*other), None)).kind in ("wrong_key", "corrupt")


def table_of(column_type: ColumnType) -> Table:
    """A table whose columns are of this type."""
    source, ciphertext, nonce = (Column(name, False, "pg_catalog", "text", "text", "S") for name in ("token", "token_encrypted", "token_nonce"))
    return Table(1, "public", "credentials", (), source, ciphertext, nonce, column_type)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: str(vector["name"]))
def test_the_documented_reader_and_the_ring_agree_on_the_vectors(vector: dict[str, str]) -> None:
    space: dict[str, t.Any] = {}
    exec(BLOCKS["python"], space)
    ciphertext, nonce = bytes.fromhex(vector["ciphertext"]), bytes.fromhex(vector["nonce"])
    assert space["read_token"](vector["key"], ciphertext, nonce) == vector["text"]
    ring = KeyRing([parse_key(vector["key"])], random=lambda _count: nonce)
    assert ring.encrypt([vector["text"]]) == [(ciphertext, nonce)]
    assert ring.judge(vector["text"], ciphertext, nonce) == Verdict("verified", vector["text"])


@given(st.lists(TEXTS, max_size=5), st.sampled_from(COLUMN_TYPES))
def test_what_is_encrypted_comes_back(texts: list[str], column_type: ColumnType) -> None:
    ring = KeyRing([NEW, OLD])
    sealed = ring.encrypt(texts)
    assert len({one.nonce for one in sealed}) == len(texts)
    for text, one in zip(texts, sealed, strict=True):
        assert AESGCM(NEW).decrypt(one.nonce, one.ciphertext, None).decode() == text
        stored = [encode(column_type, one.ciphertext), encode(column_type, one.nonce)]
        values = [bytes.fromhex(value[2:]) if column_type == "bytea" else value for value in stored]
        assert Codec(ring, table_of(column_type)).judge(Row(("1",), "7", text, *values)) == Verdict("verified", text)
        assert Codec(ring, table_of(column_type)).judge(Row(("1",), "7", None, *values)) == Verdict("verified", text)
        assert Codec(ring, table_of(column_type)).judge(Row(("1",), "7", text + "x", *values)) == Verdict("mismatch", text)


@given(st.binary(max_size=100))
def test_base64_without_padding_is_read(data: bytes) -> None:
    assert decode("base64", base64.b64encode(data).decode().rstrip("=")) == data
    assert decode("base64url", base64.urlsafe_b64encode(data).decode().rstrip("=")) == data


@settings(max_examples=25)
@given(st.sampled_from([0, 1, 1_000_000]))
def test_any_length_is_encrypted(length: int) -> None:
    ring = KeyRing([NEW])
    (one,) = ring.encrypt(["ç" * length])
    assert len(one.ciphertext) == 2 * length + 16
    assert ring.judge("ç" * length, one.ciphertext, one.nonce).kind == "verified"


def test_a_batch_takes_its_nonces_in_one_call() -> None:
    asked: list[int] = []

    def random(count: int) -> bytes:
        asked.append(count)
        return os.urandom(count)

    KeyRing([NEW], random=random).encrypt(["a", "b", "c"])
    assert asked == [36]


def flipped(data: bytes, place: int) -> bytes:
    changed = bytearray(data)
    changed[place] ^= 1
    return bytes(changed)


TOKEN = "ya29.a-token-of-usual-length-0123456789"


def test_the_kinds_of_failure_are_told_apart() -> None:
    ring = KeyRing([NEW, OLD])
    (good,) = ring.encrypt([TOKEN])
    (foreign,) = KeyRing([os.urandom(32)]).encrypt([TOKEN])
    for clear in (TOKEN, None, "another text that is in the clear column"):
        for damaged in (flipped(good.ciphertext, 0), flipped(good.ciphertext, -1), good.ciphertext[:-3], good.ciphertext[:15], b""):
            assert ring.judge(clear, damaged, good.nonce) == Verdict("corrupt")
        assert ring.judge(clear, good.ciphertext, good.nonce[:-1]) == Verdict("corrupt")
        assert ring.judge(clear, *foreign) == Verdict("wrong_key")
    (old,) = KeyRing([OLD]).encrypt([TOKEN])
    assert ring.judge(TOKEN, *old).kind == "verified"
    assert KeyRing([NEW]).judge(TOKEN, *old).kind == "wrong_key"


@pytest.mark.parametrize("data", [b"\xff\xfe", b"with \x00 inside"])
def test_bytes_that_no_text_column_could_have_held_are_damage(data: bytes) -> None:
    nonce = os.urandom(12)
    assert KeyRing([NEW]).judge(None, AESGCM(NEW).encrypt(nonce, data, None), nonce) == Verdict("corrupt")


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        (Row(("1",), "7", None, None, None), "none"),
        (Row(("1",), "7", "t", None, None), "pending"),
        (Row(("1",), "7", "", "00", None), "pending"),
        (Row(("1",), "7", None, "00", None), "corrupt"),
        (Row(("1",), "7", None, None, "00"), "corrupt"),
        (Row(("1",), "7", "t", "no hex", "00"), "corrupt"),
    ],
)
def test_rows_without_a_whole_pair(row: Row, kind: str) -> None:
    assert Codec(KeyRing([NEW]), table_of("hex")).judge(row).kind == kind


@pytest.mark.parametrize("value", ["a b", "Zg==Zg==", "é"])
def test_text_in_another_encoding_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        decode("base64url", value)


def test_what_looks_encrypted() -> None:
    looks = [Fernet(Fernet.generate_key()).encrypt(b"t").decode(), "v1:abc", "v12:abc", "vault:v3:abc", "enc:abc", "ENC[AES256,data]", '{"p":"abc","h":{}}']
    looks += ["nacl:abc", "brng:abc", "fips:abc", "-----BEGIN PGP MESSAGE-----", "age-encryption.org/v1"]
    assert [text for text in looks if not re.search(ENCRYPTED_LOOKING, text)] == []
    plain = ["ya29.a0AfB", "1//0gAAAA", "v1.1f699f1069f60", "ghp_abc", "eyJhbGciOiJIUzI1NiJ9.e30.x", "", "gAAAA", '{"access_token": "abc"}']
    assert [text for text in plain if re.search(ENCRYPTED_LOOKING, text)] == []


def test_without_cryptography_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_token_cipher, "HAS_CRYPTOGRAPHY", False)
    with pytest.raises(LastroError, match="Install cryptography"):
        KeyRing([NEW])


def test_values_are_escaped_for_arrays_and_for_copy() -> None:
    assert array_literal([]) == "{}"
    assert array_literal(["", 'a"b', "c\\d", "e,{f}"]) == '{"","a\\"b","c\\\\d","e,{f}"}'
    assert copy_line(["a\tb", "c\nd\re", "\\N"]) == "a\\tb\tc\\nd\\re\t\\\\N\n"
