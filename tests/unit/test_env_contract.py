# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import base64
import json
import secrets
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.lastro.deploy.plugins.module_utils import _environment_file
from ansible_collections.lastro.deploy.plugins.module_utils._weak_secrets import weakness
from ansible_collections.lastro.deploy.plugins.modules import env_contract
from hypothesis import assume, example, given
from hypothesis import strategies as st


def key(size: int = 32) -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(size)).decode()


def write(path: Path, mode: int = 0o600, **variables: str) -> Path:
    path.write_text(_environment_file.render(variables), encoding="utf-8")
    path.chmod(mode)
    return path


def call(capsys: pytest.CaptureFixture[str], path: Path | str, contract: dict[str, Any], **options: object) -> dict[str, Any]:
    with patch_module_args({"environment_file": str(path), "contract": contract, **options}), pytest.raises(SystemExit):
        env_contract.main()
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answer


def problems(answer: dict[str, Any]) -> dict[str, str]:
    return {finding["variable"]: finding["problem"] for finding in answer["findings"]}


CONTRACT: dict[str, Any] = {
    "DATABASE_URL": {"type": "postgres_url"},
    "REDIS_URL": {"type": "redis_url"},
    "TOKEN_ENCRYPTION_KEY": {"type": "key", "bytes": 32},
    "SECRET_KEY": {"type": "string", "min_length": 32, "secret": True},
    "WORKERS": {"type": "int"},
    "DEBUG": {"type": "bool"},
    "LOG_LEVEL": {"type": "choice", "choices": ["info", "warning"]},
    "PROVIDER": {"type": "url", "pattern": "^https://"},
    "NAME": None,
    "SPARE": {"required": False},
}


def good() -> dict[str, str]:
    return {
        "DATABASE_URL": "postgresql+psycopg2://calendar:s%40cret-9@db:5432/calendar",
        "REDIS_URL": "rediss://:pw@cache:6379/0",
        "TOKEN_ENCRYPTION_KEY": key(),
        "SECRET_KEY": secrets.token_urlsafe(32),
        "WORKERS": "4",
        "DEBUG": "False",
        "LOG_LEVEL": "info",
        "PROVIDER": "https://login.local.test/oauth",
        "NAME": "calendar",
    }


@pytest.mark.parametrize("check_mode", [False, True])
def test_a_right_file_passes(tmp_path: Path, capsys: pytest.CaptureFixture[str], check_mode: bool) -> None:
    path = write(tmp_path / "env", 0o600, **good())
    answer = call(capsys, path, CONTRACT, _ansible_check_mode=check_mode)
    assert answer["checked"] == 10
    assert answer["findings"] == []
    assert answer["changed"] is False


def test_all_findings_come_at_once_and_no_value_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = {
        **good(),
        "DATABASE_URL": "mysql://calendar:hunter-two@db/calendar",
        "REDIS_URL": "http://:hunter-three@cache:6379",
        "TOKEN_ENCRYPTION_KEY": key(31),
        "SECRET_KEY": "hunter-four",
        "WORKERS": "four-and-a-half",
        "DEBUG": "perhaps",
        "LOG_LEVEL": "loudest",
        "PROVIDER": "http://login.local.test/oauth",
        "NAME": "",
    }
    path = write(tmp_path / "env", mode=0o640, **bad)
    answer = call(capsys, path, {**CONTRACT, "ABSENT": {"type": "key"}})
    assert answer["failed"] is True
    found = problems(answer)
    assert found.pop(str(path)) == "has mode 0640, expected 0600 or stricter: others may read or change it"
    assert found == {
        "DATABASE_URL": "The database URL starts with mysql, not with postgresql",
        "REDIS_URL": "is no URL of the right scheme (scheme http, 31 characters), expected redis or rediss or unix",
        "TOKEN_ENCRYPTION_KEY": "it decodes to 31 bytes, 32 are needed",
        "SECRET_KEY": "has 11 characters, expected at least 32",
        "WORKERS": "its 15 characters are not a whole number",
        "DEBUG": "its 7 characters are neither true nor false",
        "LOG_LEVEL": "its 7 characters are none of info, warning",
        "PROVIDER": "its 29 characters do not match the pattern ^https://",
        "NAME": "is empty",
        "ABSENT": "is missing",
    }
    assert answer["checked"] == 11
    assert "breaks its contract in 11 points" in answer["msg"]
    for variable in found:
        assert f"- {variable}: " in answer["msg"]
        assert f"- {variable}: " in answer["remedy"]["pt_BR"]
    without_invocation = json.dumps({name: value for name, value in answer.items() if name != "invocation"})
    for value in bad.values():
        assert not value or value not in without_invocation


def test_report_only_returns_what_otherwise_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = call(capsys, write(tmp_path / "env"), {"A": {"type": "key", "bytes": 16}}, report_only=True)
    assert "failed" not in answer
    (finding,) = answer["findings"]
    assert finding["variable"] == "A"
    assert "os.urandom(16)" in finding["remedy"]["en"]
    assert "os.urandom(16)" in finding["remedy"]["pt_BR"]


SECRET = {"type": "string", "secret": True}


@pytest.mark.parametrize(
    ("rule", "value", "problem"),
    [
        ({"type": "key"}, base64.b64encode(b"a" * 32).decode(), "same byte"),
        ({"type": "key"}, base64.b64encode(bytes(range(32))).decode(), "only count up"),
        ({"type": "key"}, base64.b64encode(b"changeme" * 4).decode(), "placeholder's text"),
        ({"type": "key"}, "<sua-chave-base64>", "placeholder from documentation"),
        ({"type": "key"}, "FILL_IN", "placeholder from documentation"),
        ({"type": "key"}, "%%%", "is not base64"),
        ({"type": "key", "bytes": 16}, "abc%", "is not base64 (4 characters)"),
        ({"type": "key", "bytes": 16}, base64.b64encode(b"b" * 15).decode(), "decodes to 15 bytes, 16 are needed"),
        ({"type": "key", "bytes": 16}, base64.b64encode(b"b" * 16).decode(), "all 16 bytes are equal"),
        (SECRET, "change-me-please-now", "placeholder from documentation"),
        (SECRET, "your-secret-goes-here", "placeholder from documentation"),
        (SECRET, "zzzzzzzzzzzz", "one character, 12 times"),
        (SECRET, "ab" * 32, "all 32 bytes are equal"),
        (SECRET, bytes(range(32)).hex(), "only count up"),
        (SECRET, bytes(range(31, -1, -1)).hex(), "only count down"),
        (SECRET, base64.b64encode(b"your-256-bit-secret" * 2).decode(), "placeholder's text"),
        (SECRET, "your-256-bit-secret", "placeholder from documentation"),
        (SECRET, "django-insecure-0e5q!k2", "placeholder from documentation"),
        (SECRET, "09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7", "are published in documentation"),
        (SECRET, "09D25E094FAA6CA2556C818166B7A9563B93F7099F6F0F4CAA6CF63B88E8D3E7", "are published in documentation"),
        ({"type": "key"}, "81HqDtbqAywKSOumSha3BhWNOdQ26slT6K0YaZeZyPs=", "are published in documentation"),
        ({"type": "key"}, "__79_Pv6-fj39vX08_Lx8O_u7ezr6uno5-bl5OPi4eA", "is weak"),
        ({"type": "string"}, "changeme", "placeholder from documentation"),
        ({"type": "postgres_url"}, "postgresql://user:pass@host:5432/dbname", "placeholder from documentation"),
        ({"type": "postgres_url"}, "postgresql://app:hunter-nine@db:5432/", "names no database"),
        ({"type": "url"}, "//nowhere", "no scheme"),
        ({"type": "url"}, "https://h:notaport/", "its address or port cannot be read"),
        ({"type": "url"}, "https:///path", "a URL without a host (scheme https)"),
        ({"type": "redis_url"}, "unix:///", "without a path"),
    ],
)
def test_weak_and_malformed_values(tmp_path: Path, capsys: pytest.CaptureFixture[str], rule: dict[str, Any], value: str, problem: str) -> None:
    answer = call(capsys, write(tmp_path / "env", A=value), {"A": rule}, report_only=True)
    (finding,) = answer["findings"]
    assert problem in finding["problem"]
    assert value not in json.dumps(answer["findings"])


@pytest.mark.parametrize(
    ("rule", "value"),
    [
        ({"type": "key", "bytes": 16}, key(16)),
        ({"type": "key"}, f"{key()},{key()}"),
        ({"type": "redis_url"}, "unix:///run/redis.sock"),
        ({"type": "string"}, "a todo list of my secrets"),
        ({"type": "bool"}, "off"),
        ({"type": "int"}, "-1"),
    ],
)
def test_right_values(tmp_path: Path, capsys: pytest.CaptureFixture[str], rule: dict[str, Any], value: str) -> None:
    assert call(capsys, write(tmp_path / "env", A=value), {"A": rule})["findings"] == []


def test_one_key_for_two_purposes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shared = key()
    other_spelling = base64.b64encode(base64.urlsafe_b64decode(shared)).decode().rstrip("=")
    path = write(tmp_path / "env", A=shared, B=other_spelling, C=shared, D=f"{key()},{shared}", E="same-text", F="same-text", G=f"{shared},{shared}")
    contract = {"A": {"type": "key"}, "B": {"type": "key"}, "C": SECRET, "D": {"type": "key"}, "E": {}, "F": {}, "G": {"type": "key"}}
    found = problems(call(capsys, path, contract, report_only=True))
    assert found == {
        "B": "has the same value as A; one leak would open both",
        "C": "has the same value as A; one leak would open both",
        "D": "has the same value as A; one leak would open both",
        "G": "holds the same key twice among its 2",
    }


def test_one_key_as_hexadecimal_and_as_base64(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shared = secrets.token_bytes(32)
    path = write(tmp_path / "env", SALT=shared.hex(), KEY=base64.b64encode(shared).decode(), OTHER=secrets.token_hex(32))
    found = problems(call(capsys, path, {"SALT": SECRET, "KEY": {"type": "key"}, "OTHER": SECRET}, report_only=True))
    assert found == {"KEY": "has the same value as SALT; one leak would open both"}


@given(st.binary(min_size=32, max_size=32).filter(lambda value: len(set(value)) > 8))
@example(b"<" + bytes(range(100, 130)) + b">")
def test_random_bytes_are_no_placeholder(value: bytes) -> None:
    assume(value not in {bytes((value[0] + step * place) % 256 for place in range(32)) for step in (1, -1)})
    assume(not all(32 <= byte < 127 for byte in value))
    assert weakness(value) == ""


@pytest.mark.parametrize(
    ("name", "entry", "problem"),
    [
        ("A", {"type": "kee"}, "type kee is unknown"),
        ("A", {"size": 3}, "unknown size; known are type, bytes"),
        ("A", {"type": "choice"}, "type choice needs choices"),
        ("A", {"pattern": "("}, "pattern is no regular expression"),
        ("A", {"bytes": "32"}, "bytes is a str, expected int"),
        ("A", {"bytes": True}, "bytes is a bool, expected int"),
        ("A", "key", "it is a str, expected a mapping"),
        ("not a name", {}, "its name is not a variable name"),
    ],
)
def test_a_wrong_contract_is_named_and_the_rest_still_checked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, entry: object, problem: str
) -> None:
    found = problems(call(capsys, write(tmp_path / "env"), {name: entry, "B": {"type": "int"}}, report_only=True))
    assert problem in found[name]
    assert found["B"] == "is missing"


@pytest.mark.parametrize(("content", "reason"), [(None, "No such file or directory"), (b"A=\xff", "it is not UTF-8 text")])
def test_a_file_that_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None, reason: str) -> None:
    path = tmp_path / "env"
    if content is not None:
        path.write_bytes(content)
        path.chmod(0o600)
    answer = call(capsys, path, {"A": {"type": "kee"}})
    assert answer["checked"] == 0
    assert problems(answer)[str(path)] == f"cannot be read: {reason}"
    assert "A" in problems(answer)
