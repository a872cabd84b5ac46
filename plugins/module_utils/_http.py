# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One HTTP request with a deadline, and its failure in words without a secret. PRIVATE to the collection."""

from __future__ import annotations

import dataclasses
import errno
import http.cookiejar
import os
import socket
import ssl
import time
import typing as t
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from ._errors import LastroError, Text

try:
    import requests
    import requests.adapters
    import urllib3.exceptions

    HAS_REQUESTS = True
except ImportError:
    HAS_REQUESTS = False

BODY_LIMIT = 16 * 1024 * 1024
MAX_PARALLEL = 64


class RequestFailedError(Exception):
    """No answer came; the text says why, with neither URL nor secret."""


@dataclasses.dataclass(frozen=True)
class Answer:
    """What the server said. *seconds* last from the request to the end of the body."""

    status: int
    headers: t.Mapping[str, str]
    body: bytes = dataclasses.field(repr=False)
    seconds: float


def require_requests() -> None:
    """Raises LastroError where the library requests is missing in the interpreter that runs the module."""
    if not HAS_REQUESTS:
        raise LastroError(
            "This Python has no requests.",
            remedy=Text(
                en="Install requests in the interpreter that ansible_python_interpreter names for this host.",
                pt_BR="Instale requests no interpretador que ansible_python_interpreter indica para este host.",
            ),
        )


def redact_url(url: str) -> str:
    """*url* without user, password, query and fragment."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def url_secrets(url: str) -> set[str]:
    """The password in *url*, as written and decoded, to be registered as censored; empty where there is none."""
    try:
        password = urlsplit(url).password
    except ValueError:
        return set()
    return {password, unquote(password)} if password else set()


def url_problem(url: str) -> str:
    """Why *url* cannot be asked over HTTP; empty where it can."""
    try:
        parts = urlsplit(url)
        _port = parts.port
    except ValueError:
        return "is no URL: its address or port cannot be read"
    if parts.scheme not in ("http", "https"):
        return f"starts with {parts.scheme or 'no scheme'}, expected http or https"
    return "" if parts.hostname else "has no host"


def open_session(ca_cert: str | None = None) -> requests.Session:
    """A session that asks directly (no proxy, no netrc), keeps no cookie, and trusts *ca_cert*, else the system's authorities, else those of certifi."""
    require_requests()
    session = requests.Session()
    session.trust_env = False
    session.cookies.set_policy(http.cookiejar.DefaultCookiePolicy(allowed_domains=[]))
    for scheme in ("http://", "https://"):
        session.mount(scheme, requests.adapters.HTTPAdapter(pool_maxsize=MAX_PARALLEL))
    system = ssl.get_default_verify_paths().cafile
    session.verify = ca_cert or (system if system and Path(system).exists() else True)
    return session


def ask(
    session: requests.Session,
    url: str,
    *,
    timeout: float,
    method: str = "GET",
    headers: t.Mapping[str, str] | None = None,
    json: object = None,
    follow_redirects: bool = False,
) -> Answer:
    """Send one request; *timeout* in seconds bounds connecting, each wait for bytes, and the body. Raises RequestFailedError."""
    started = time.monotonic()
    try:
        with session.request(method, url, headers=dict(headers or {}), json=json, timeout=timeout, allow_redirects=follow_redirects, stream=True) as response:
            body = _read(response, started + timeout)
            return Answer(status=response.status_code, headers=response.headers, body=body, seconds=time.monotonic() - started)
    except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        raise RequestFailedError(_reason(error, timeout)) from None


def _read(response: requests.Response, deadline: float) -> bytes:
    body = bytearray()
    while True:
        chunk = response.raw.read1(65536, decode_content=True)
        if not chunk:
            return bytes(body)
        body += chunk
        if len(body) > BODY_LIMIT:
            raise ValueError(f"the answer is larger than {BODY_LIMIT // 1024**2} MiB")
        if time.monotonic() > deadline:
            raise requests.exceptions.ReadTimeout


def _causes(error: BaseException) -> t.Iterator[BaseException]:
    seen: list[object] = [error]
    while seen:
        one = seen.pop(0)
        if isinstance(one, BaseException):
            yield one
            seen += [one.__cause__, one.__context__ if one.__cause__ is None else None, getattr(one, "reason", None), *one.args]


def _reason(error: BaseException, timeout: float) -> str:
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"the server's certificate is not accepted: {cause.verify_message}"
        if isinstance(cause, socket.gaierror):
            return "the host name does not resolve"
    if any(isinstance(cause, (TimeoutError, requests.exceptions.Timeout)) or "timed out" in str(cause) for cause in causes):
        return f"no answer within {timeout:g} s"
    return _other_reason(error, causes)


def _other_reason(error: BaseException, causes: t.Sequence[BaseException]) -> str:
    for cause in causes:
        if isinstance(cause, ssl.SSLError):
            return f"TLS failed: {(cause.reason or 'no common protocol').replace('_', ' ').lower()}"
        if isinstance(cause, OSError) and isinstance(cause.errno, int):
            return "connection refused" if cause.errno == errno.ECONNREFUSED else os.strerror(cause.errno).lower()
    if isinstance(error, requests.exceptions.TooManyRedirects):
        return "too many redirects"
    if isinstance(error, (requests.exceptions.ConnectionError, urllib3.exceptions.ProtocolError)):
        return "the connection broke before the answer was whole"
    plain = type(error).__name__ == ValueError.__name__
    return str(error) if plain else f"the request failed ({type(error).__name__})"


__all__ = ("MAX_PARALLEL", "Answer", "RequestFailedError", "ask", "open_session", "redact_url", "require_requests", "url_problem", "url_secrets")
