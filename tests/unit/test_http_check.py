# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

import pytest
import requests
import urllib3.exceptions
from ansible_collections.lastro.deploy.plugins.module_utils import _http, _http_check
from ansible_collections.lastro.deploy.plugins.module_utils._errors import LastroError
from ansible_collections.lastro.deploy.plugins.module_utils._http_check import Check


def answer(status: int = 200, body: bytes = b"{}", seconds: float = 0.1, headers: dict[str, str] | None = None) -> _http.Answer:
    return _http.Answer(status=status, headers=requests.structures.CaseInsensitiveDict(headers or {}), body=body, seconds=seconds)


def check(expression: str = "", **fields: object) -> Check:
    matcher = _http_check.compile_expression(expression) if expression else None
    return Check(name="n", label="GET /", url="http://h/", expression=expression, matcher=matcher, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("expected", "found", "problem"),
    [
        (check(), answer(), ""),
        (check(), answer(500), "500, expected 200"),
        (check(statuses=(200, 204)), answer(302), "302, expected 200 or 204"),
        (check("a == 'b'"), answer(body=b'{"a": "b"}'), ""),
        (check("a == 'b'"), answer(body=b'{"a": "c"}'), "200, but its JSON does not fulfil a == 'b'"),
        (check("length(items)"), answer(body=b'{"items": []}'), "200, but its JSON does not fulfil length(items)"),
        (check("length(a)"), answer(body=b'{"a": 1}'), "200, but length(a) cannot be evaluated on its JSON (JMESPathTypeError)"),
        (check("a"), answer(body=b"<html>", headers={"Content-Type": "text/html; x"}), "200, but its body is not JSON (text/html, 6 bytes)"),
        (check("a"), answer(body=b"\xff\xfe"), "200, but its body is not JSON (no content type, 2 bytes)"),
        (check(expected_headers={"x-release": "r2"}), answer(headers={"X-Release": "r2"}), ""),
        (check(expected_headers={"X-Release": "r2"}), answer(headers={"X-Release": "r1"}), "200, but the header X-Release has another value than expected"),
        (check(expected_headers={"X-Release": "r2"}), answer(), "200, but the header X-Release is missing"),
        (check(max_seconds=0.5), answer(seconds=0.7), "200 after 0.700 s, expected at most 0.5 s"),
        (check(max_seconds=0.5), answer(seconds=0.5), ""),
    ],
)
def test_judge(expected: Check, found: _http.Answer, problem: str) -> None:
    assert _http_check.judge(expected, found) == problem


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (requests.exceptions.TooManyRedirects(), "too many redirects"),
        (requests.exceptions.InvalidHeader("Authorization: hunter2"), "the request failed (InvalidHeader)"),
        (requests.exceptions.ConnectionError("gone"), "the connection broke before the answer was whole"),
        (urllib3.exceptions.ProtocolError("gone"), "the connection broke before the answer was whole"),
        (OSError(113, "x"), "no route to host"),
        (ValueError("said by us"), "said by us"),
    ],
)
def test_failures_are_put_in_words_of_our_own(error: Exception, words: str) -> None:
    assert _http._reason(error, 5) == words


@pytest.mark.parametrize(
    ("url", "redacted"),
    [("http://u:p@h:1/a?token=x#f", "http://h:1/a"), ("https://h/", "https://h/")],
)
def test_redact_url(url: str, redacted: str) -> None:
    assert _http.redact_url(url) == redacted


@pytest.mark.parametrize("library", ["requests", "jmespath"])
def test_a_missing_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    monkeypatch.setattr(_http, "HAS_REQUESTS", False)
    monkeypatch.setattr(_http_check, "HAS_JMESPATH", False)
    with pytest.raises(LastroError, match=f"This Python has no {library}") as caught:
        _http.open_session() if library == "requests" else _http_check.compile_expression("a")
    assert library in caught.value.remedy.pt_BR


def test_a_header_file_is_read_without_its_newline(tmp_path: Path) -> None:
    path = tmp_path / "header"
    path.write_text("Bearer abc\n", encoding="utf-8")
    path.chmod(0o400)
    assert _http_check.read_header_files({"Authorization": str(path)}) == {"Authorization": "Bearer abc"}


@pytest.mark.parametrize(
    ("content", "mode", "reason"),
    [
        (b"Bearer abc", 0o644, "has mode 0644, expected 0600 or stricter"),
        (b"\n", 0o600, "must hold one line"),
        (b"a\nb", 0o600, "must hold one line"),
        (b"\xff", 0o600, "it is not UTF-8 text"),
        (None, 0o600, "No such file or directory"),
    ],
)
def test_header_files_that_cannot_be_used(tmp_path: Path, content: bytes | None, mode: int, reason: str) -> None:
    path = tmp_path / "header"
    if content is not None:
        path.write_bytes(content)
        path.chmod(mode)
    with pytest.raises(LastroError, match=reason) as caught:
        _http_check.read_header_files({"Authorization": str(path)})
    assert "abc" not in str(caught.value)
