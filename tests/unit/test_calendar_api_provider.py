# SPDX-License-Identifier: GPL-3.0-or-later
"""The local OAuth provider: what it decides, and what it answers over HTTP."""

from __future__ import annotations

import collections.abc
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from calendar_api import provider as module
from calendar_api import seed
from calendar_api.provider import Provider, RefusedError, issue, serving, well_formed

CLIENT = {"client_id": "calendar", "client_secret": "not-a-secret"}
BACK = "http://127.0.0.1:9/oauth/callback"
ASK = {"response_type": "code", "client_id": "calendar", "redirect_uri": BACK, "state": "s&1"}


@pytest.fixture
def provider() -> Provider:
    return Provider(client_id=CLIENT["client_id"], client_secret=CLIENT["client_secret"])


def code(provider: Provider, **query: str) -> str:
    return parse_qs(urlsplit(provider.authorize({**ASK, **query})).query)["code"][0]


def test_tokens_have_a_form_that_damage_breaks() -> None:
    token = issue()
    assert well_formed(token)
    assert token != issue()
    assert issue(bytes(32)) == issue(bytes(32))
    for damaged in ("", token[:-1], token[1:], token.replace(".", "", 1), token[:20] + ("a" if token[20] != "a" else "b") + token[21:]):
        assert not well_formed(damaged)


def test_a_code_gives_a_token_once(provider: Provider) -> None:
    given = code(provider, login_hint="bia@example.org")
    form = {"grant_type": "authorization_code", "code": given, "redirect_uri": BACK, **CLIENT}
    token = str(provider.token(form)["access_token"])
    assert well_formed(token)
    assert provider.userinfo(f"Bearer {token}") == {"email": "bia@example.org", "name": "Bia"}
    with pytest.raises(RefusedError, match="invalid_grant"):
        provider.token(form)


def test_the_browser_comes_back_with_its_state(provider: Provider) -> None:
    address = provider.authorize({**ASK, "redirect_uri": BACK + "?from=login"})
    assert address.startswith(BACK + "?from=login&code=")
    assert parse_qs(urlsplit(address).query)["state"] == ["s&1"]


@pytest.mark.parametrize(
    ("change", "error"),
    [({"response_type": "token"}, "invalid_request"), ({"redirect_uri": "javascript:1"}, "invalid_request"), ({"client_id": "other"}, "unauthorized_client")],
)
def test_login_requests_that_are_refused(provider: Provider, change: dict[str, str], error: str) -> None:
    with pytest.raises(RefusedError, match=error):
        provider.authorize({**ASK, **change})


def test_a_renewed_token_belongs_to_the_same_user_and_the_old_one_to_nobody(provider: Provider) -> None:
    old = str(provider.token({"grant_type": "authorization_code", "code": code(provider), "redirect_uri": BACK, **CLIENT})["access_token"])
    new = str(provider.token({"grant_type": "refresh_token", "refresh_token": old, **CLIENT})["access_token"])
    assert provider.userinfo(f"Bearer {new}")["email"] == module.DEFAULT_EMAIL
    with pytest.raises(RefusedError, match="invalid_token"):
        provider.userinfo(f"Bearer {old}")


def test_a_seeded_token_can_be_renewed(provider: Provider) -> None:
    answer = provider.token({"grant_type": "refresh_token", "refresh_token": seed.token(1, 7), **CLIENT})
    assert well_formed(str(answer["access_token"]))


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({"grant_type": "refresh_token", "refresh_token": "garbage", **CLIENT}, "invalid_grant"),
        ({"grant_type": "authorization_code", "code": "never given", "redirect_uri": BACK, **CLIENT}, "invalid_grant"),
        ({"grant_type": "password", **CLIENT}, "unsupported_grant_type"),
        ({"grant_type": "refresh_token", **CLIENT, "client_secret": "wrong"}, "invalid_client"),
        ({}, "invalid_client"),
    ],
)
def test_grants_that_are_refused(provider: Provider, form: dict[str, str], error: str) -> None:
    with pytest.raises(RefusedError, match=error):
        provider.token(form)


def test_a_code_is_for_the_address_that_it_was_given_for(provider: Provider) -> None:
    with pytest.raises(RefusedError, match="invalid_grant"):
        provider.token({"grant_type": "authorization_code", "code": code(provider), "redirect_uri": BACK + "/other", **CLIENT})


def test_memory_stays_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_REMEMBERED", 3)
    remembered = module.Remembered()
    for number in range(10):
        remembered[str(number)] = number
    assert list(remembered) == ["7", "8", "9"]


@pytest.fixture
def address(provider: Provider) -> collections.abc.Iterator[str]:
    with serving(provider) as base:
        yield base


def test_login_over_http(address: str) -> None:
    with requests.Session() as session:
        answer = session.get(address + "/authorize", params={**ASK, "login_hint": "caio@example.org"}, allow_redirects=False, timeout=10)
        assert answer.status_code == 302
        given = parse_qs(urlsplit(answer.headers["Location"]).query)["code"][0]
        form = {"grant_type": "authorization_code", "code": given, "redirect_uri": BACK, **CLIENT}
        answer = session.post(address + "/token", data=form, timeout=10)
        assert (answer.status_code, answer.json()["expires_in"]) == (200, module.LIFETIME)
        headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
        assert session.get(address + "/userinfo", headers=headers, timeout=10).json()["email"] == "caio@example.org"
        assert session.post(address + "/token", data=form, timeout=10).status_code == 400


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/", 404), ("POST", "/", 404), ("GET", "/health", 200), ("GET", "/userinfo", 401)])
def test_other_addresses(address: str, method: str, path: str, status: int) -> None:
    assert requests.request(method, address + path, data={} if method == "GET" else {"a": "b"}, timeout=10).status_code == status


def test_a_form_without_an_end_is_refused(address: str) -> None:
    answer = requests.post(address + "/token", data=iter([b"grant_type=refresh_token"]), timeout=10)
    assert answer.status_code == 400


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_program(tmp_path: Path, number: signal.Signals) -> None:
    ready = tmp_path / "address"
    environment = {"PATH": os.environ["PATH"], "GOOGLE_CLIENT_ID": "calendar", "GOOGLE_CLIENT_SECRET": "not-a-secret"}
    command = [sys.executable, str(Path(str(module.__file__))), "--port", "0", "--ready-file", str(ready)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            deadline = time.monotonic() + 60
            while not ready.exists() and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.02)
            base = ready.read_text(encoding="utf-8").strip()
            form = {"grant_type": "refresh_token", "refresh_token": seed.token(1, 1)}
            assert requests.post(base + "/token", data={**form, **CLIENT}, timeout=10).status_code == 200
            assert requests.post(base + "/token", data=form, timeout=10).status_code == 401
        finally:
            process.send_signal(number)
        output, _unused = process.communicate(timeout=60)
        assert (process.returncode, output) == (0, "")


def test_the_program_says_its_address_where_it_gets_no_file() -> None:
    with subprocess.Popen([sys.executable, str(Path(str(module.__file__)))], env={"PATH": os.environ["PATH"]}, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            base = process.stdout.readline().strip()
            # Without a client of its own it takes any.
            assert requests.post(base + "/token", data={"grant_type": "refresh_token", "refresh_token": issue()}, timeout=10).status_code == 200
        finally:
            process.terminate()


def test_seeded_tokens_are_the_same_again_and_others_with_another_seed() -> None:
    first = seed.tokens(seed=1, users=200)
    assert first == seed.tokens(seed=1, users=200)
    assert list(first) == list(range(1, 201))
    assert len(set(first.values()) | set(seed.tokens(seed=2, users=200).values())) == 400
    assert all(well_formed(token) for token in first.values())
