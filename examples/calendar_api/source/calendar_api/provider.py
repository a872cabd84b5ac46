# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The OAuth provider's side: where a user logs in, and where tokens come from."""

import datetime
from typing import Any
from urllib.parse import urlencode

import requests

from .config import Settings

TIMEOUT = (3, 10)
SCOPE = "openid email profile calendar"


class ProviderError(Exception):
    """The provider does not answer, or it refuses. The message holds no token."""


class Provider:
    """Three addresses below OAUTH_BASE_URL: /authorize, /token, /userinfo."""

    def __init__(self, settings: Settings) -> None:
        self._base = settings.oauth_base_url.rstrip("/")
        self._client = {"client_id": settings.google_client_id, "client_secret": settings.google_client_secret}

    def login_address(self, *, state: str, redirect_uri: str, login_hint: str | None = None) -> str:
        """Where the browser goes to log in."""
        query = {"response_type": "code", "client_id": self._client["client_id"], "redirect_uri": redirect_uri, "scope": SCOPE, "state": state}
        if login_hint:
            query["login_hint"] = login_hint
        return f"{self._base}/authorize?{urlencode(query)}"

    def exchange(self, *, code: str, redirect_uri: str) -> tuple[str, datetime.datetime]:
        """(token, expiry) for the code that the browser brought back."""
        return self._token({"grant_type": "authorization_code", "code": code, "redirect_uri": redirect_uri})

    def renew(self, token: str) -> tuple[str, datetime.datetime]:
        """(token, expiry) in the place of *token*."""
        return self._token({"grant_type": "refresh_token", "refresh_token": token})

    def who(self, token: str) -> tuple[str, str]:
        """(email, name) of the user that *token* belongs to."""
        answer = self._call("GET", "/userinfo", headers={"Authorization": f"Bearer {token}"})
        return answer["email"], answer.get("name") or answer["email"]

    def _token(self, form: dict[str, str]) -> tuple[str, datetime.datetime]:
        answer = self._call("POST", "/token", data={**form, **self._client})
        lifetime = datetime.timedelta(seconds=int(answer["expires_in"]))
        return answer["access_token"], datetime.datetime.now(datetime.UTC) + lifetime

    def _call(self, method: str, path: str, **keywords: Any) -> dict[str, Any]:  # noqa: ANN401 - requests has as many
        try:
            response = requests.request(method, self._base + path, timeout=TIMEOUT, allow_redirects=False, **keywords)
        except requests.RequestException as error:
            raise ProviderError(f"the provider does not answer ({type(error).__name__})") from None
        if response.status_code != 200:
            raise ProviderError(f"the provider refused with status {response.status_code}")
        answer: dict[str, Any] = response.json()
        return answer
