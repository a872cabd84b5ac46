# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest
from ansible_collections.lastro.deploy.plugins.module_utils._errors import LastroError
from ansible_collections.lastro.deploy.plugins.module_utils._token_keys import keys_from_params, parse_key
from hypothesis import given
from hypothesis import strategies as st

KEYS = st.binary(min_size=32, max_size=32).filter(lambda key: len(set(key)) > 1)


@given(KEYS, st.sampled_from([base64.urlsafe_b64encode, base64.standard_b64encode]), st.booleans())
def test_a_key_is_read_in_both_alphabets_with_and_without_padding(key: bytes, encode: object, padded: bool) -> None:
    text = encode(key).decode()  # type: ignore[operator]
    assert parse_key(text if padded else text.rstrip("=")) == key
    assert parse_key(f"  {text}\n") == key


@pytest.mark.parametrize("length", [1, 16, 31, 33, 64])
def test_another_length_is_named_and_the_key_is_not(length: int) -> None:
    text = base64.urlsafe_b64encode(os.urandom(length)).decode()
    with pytest.raises(LastroError) as caught:
        parse_key(text, name="TOKEN_ENCRYPTION_KEY")
    assert f"TOKEN_ENCRYPTION_KEY decodes to {length} bytes, 32 are needed." in str(caught.value)
    assert "urandom(32)" in caught.value.remedy.pt_BR
    assert text.rstrip("=") not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is empty"),
        ("  ", "is empty"),
        ("not base64 at all!", "is not base64 (18 characters)"),
        ("=" * 4, "is not base64"),
        ("A" * 45, "is not base64"),
        ("é" * 43, "is not base64"),
        (base64.b64encode(b"k" * 32).decode(), "32 times the same byte"),
        (base64.b64encode(bytes(32)).decode(), "32 times the same byte"),
    ],
)
def test_what_is_no_key_is_refused(text: str, problem: str) -> None:
    with pytest.raises(LastroError) as caught:
        parse_key(text)
    assert problem in caught.value.message
    assert len(text) < 5 or text not in str(caught.value)


def new_key() -> tuple[bytes, str]:
    key = os.urandom(32)
    return key, base64.urlsafe_b64encode(key).decode()


def test_keys_come_from_the_option_or_from_the_file(tmp_path: Path) -> None:
    (one, one_text), (two, two_text) = new_key(), new_key()
    path = tmp_path / "env"
    path.write_text(f'TOKEN_ENCRYPTION_KEY="{one_text},{two_text}"\nOTHER="{two_text}"\n')
    file = {"environment_file": str(path), "key_variable": "TOKEN_ENCRYPTION_KEY"}
    assert keys_from_params(file) == (one, two)
    assert keys_from_params({**file, "key_variable": "OTHER"}) == (two,)
    assert keys_from_params({**file, "encryption_keys": [two_text, one_text]}) == (two, one)
    assert keys_from_params({"encryption_keys": None, "environment_file": None}) == ()


def test_a_bad_key_among_several_is_named_by_its_place(tmp_path: Path) -> None:
    _key, text = new_key()
    short = base64.b64encode(b"x" * 31).decode()
    with pytest.raises(LastroError, match="encryption_keys, key 2 of 2, decodes to 31 bytes"):
        keys_from_params({"encryption_keys": [text, short]})
    path = tmp_path / "env"
    path.write_text(f'K="{text},"\n')
    with pytest.raises(LastroError, match="K, key 2 of 2, is empty"):
        keys_from_params({"environment_file": str(path), "key_variable": "K"})


def test_a_file_without_the_variable_or_no_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "env"
    with pytest.raises(LastroError, match="cannot be read: No such file"):
        keys_from_params({"environment_file": str(path), "key_variable": "K"})
    path.write_text('K=""\n')
    with pytest.raises(LastroError, match="has no K") as caught:
        keys_from_params({"environment_file": str(path), "key_variable": "K"})
    assert "key_variable" in caught.value.remedy.en
