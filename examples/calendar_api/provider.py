# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A local OAuth provider for calendar-api: no account anywhere, no network beyond this machine.

``/authorize`` sends the browser back with a code at once, as the user whom ``login_hint`` names; ``/token`` takes a code
or renews a token; ``/userinfo`` says whose a token is. It takes every token that has the form of its own, checksum
included, so 50,000 seeded users need no list here, and a token that was decrypted wrongly is refused.

``python provider.py --port 0 --ready-file FILE`` (standard library alone) writes its address into FILE when it answers.
The client that it accepts stands in GOOGLE_CLIENT_ID and GOOGLE_CLIENT_SECRET; without them it accepts any.
"""

from __future__ import annotations

import argparse
import base64
import collections
import contextlib
import dataclasses
import hmac
import http.server
import json
import os
import secrets
import signal
import sys
import threading
import types
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit

PREFIX = "calendar"
LIFETIME = 3600
MOST_REMEMBERED = 10_000
DEFAULT_EMAIL = "ana@example.org"
LONGEST_FORM = 64 * 1024


def issue(material: bytes | None = None) -> str:
    """A token of this provider's form from 32 bytes of *material*; random ones without it."""
    body = base64.urlsafe_b64encode(material if material is not None else secrets.token_bytes(32)).rstrip(b"=").decode()
    return f"{PREFIX}.{body}.{zlib.crc32(body.encode()):08x}"


def well_formed(token: str) -> bool:
    """Whether *token* has the form and the checksum of a token that ``issue`` makes."""
    prefix, _unused, rest = token.partition(".")
    body, _unused, checksum = rest.partition(".")
    return prefix == PREFIX and len(body) == 43 and checksum == f"{zlib.crc32(body.encode()):08x}"


class RefusedError(Exception):
    """OAuth's error code, and the HTTP status that goes with it."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status = status
        self.code = code


@dataclasses.dataclass(frozen=True)
class Code:
    """What a code was given for."""

    email: str
    client_id: str
    redirect_uri: str


class Remembered(collections.OrderedDict[str, object]):
    """The last entries; the oldest go, so that days of renewals need no more memory than the first minutes."""

    def __setitem__(self, key: str, value: object) -> None:
        super().__setitem__(key, value)
        if len(self) > MOST_REMEMBERED:
            self.popitem(last=False)


class Provider:
    """What the provider knows and decides; no HTTP in it. Safe to call from many threads.

    *gate*, where given, holds every answer of ``/token`` until it is set: a test's way to a request that takes long.
    """

    def __init__(self, *, client_id: str = "", client_secret: str = "", gate: threading.Event | None = None) -> None:
        self._client = (client_id, client_secret)
        self._gate = gate
        self._lock = threading.Lock()
        self._codes = Remembered()
        self._emails = Remembered()
        self.waiting = threading.Event()

    def authorize(self, query: Mapping[str, str]) -> str:
        """Where the browser goes next. Raises RefusedError."""
        redirect_uri = query.get("redirect_uri", "")
        if query.get("response_type") != "code" or urlsplit(redirect_uri).scheme not in ("http", "https"):
            raise RefusedError(400, "invalid_request")
        if self._client[0] and query.get("client_id") != self._client[0]:
            raise RefusedError(401, "unauthorized_client")
        code = secrets.token_urlsafe(24)
        with self._lock:
            self._codes[code] = Code(email=query.get("login_hint") or DEFAULT_EMAIL, client_id=query.get("client_id", ""), redirect_uri=redirect_uri)
        answer = urlencode({"code": code, **({"state": query["state"]} if "state" in query else {})})
        return f"{redirect_uri}{'&' if urlsplit(redirect_uri).query else '?'}{answer}"

    def token(self, form: Mapping[str, str]) -> dict[str, object]:
        """A fresh token for a code, once, or for a token of ours. Raises RefusedError."""
        if self._gate is not None:
            self.waiting.set()
            self._gate.wait()
        given = (form.get("client_id", ""), form.get("client_secret", ""))
        if self._client[0] and not all(hmac.compare_digest(ours.encode(), theirs.encode()) for ours, theirs in zip(self._client, given, strict=True)):
            raise RefusedError(401, "invalid_client")
        token = issue()
        with self._lock:
            email = self._grant(form)
            if email is not None:
                self._emails[token] = email
        return {"access_token": token, "refresh_token": token, "token_type": "Bearer", "expires_in": LIFETIME}

    def userinfo(self, authorization: str) -> dict[str, object]:
        """Whose the token is. Raises RefusedError."""
        with self._lock:
            email = self._emails.get(authorization.removeprefix("Bearer "))
        if email is None:
            raise RefusedError(401, "invalid_token")
        return {"email": email, "name": str(email).partition("@")[0].capitalize()}

    def _grant(self, form: Mapping[str, str]) -> object:
        kind = form.get("grant_type")
        if kind == "authorization_code":
            code = self._codes.pop(form.get("code", ""), None)
            if not isinstance(code, Code) or (code.client_id, code.redirect_uri) != (form.get("client_id", ""), form.get("redirect_uri", "")):
                raise RefusedError(400, "invalid_grant")
            return code.email
        if kind == "refresh_token":
            token = form.get("refresh_token", "")
            if not well_formed(token):
                raise RefusedError(400, "invalid_grant")
            return self._emails.pop(token, None)
        raise RefusedError(400, "unsupported_grant_type")


class _Handler(http.server.BaseHTTPRequestHandler):
    """HTTP around a Provider. It logs nothing: tokens pass through here."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    provider: Provider

    def do_GET(self) -> None:
        """/authorize, /userinfo, and /health for whoever waits for the start."""
        address = urlsplit(self.path)
        if address.path == "/authorize":
            self._answer(lambda: self._redirect(self.provider.authorize(dict(parse_qsl(address.query)))))
        elif address.path == "/userinfo":
            self._answer(lambda: self._send(200, self.provider.userinfo(self.headers.get("Authorization", ""))))
        elif address.path == "/health":
            self._send(200, {"status": "ok"})
        else:
            self._send(404, {"error": "not_found"})

    def do_POST(self) -> None:
        """/token."""
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > LONGEST_FORM:
            self.close_connection = True
            self._send(400, {"error": "invalid_request"})
            return
        form = dict(parse_qsl(self.rfile.read(int(length)).decode("utf-8", "replace")))
        if urlsplit(self.path).path == "/token":
            self._answer(lambda: self._send(200, self.provider.token(form)))
        else:
            self._send(404, {"error": "not_found"})

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name that the base class gives it
        """Nothing."""

    def _answer(self, act: collections.abc.Callable[[], None]) -> None:
        try:
            act()
        except RefusedError as refused:
            self._send(refused.status, {"error": refused.code})

    def _redirect(self, address: str) -> None:
        self.send_response(302)
        self.send_header("Location", address)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send(self, status: int, body: dict[str, object]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


class _Server(http.server.ThreadingHTTPServer):
    """Many connections at a time, and none holds up the end."""

    daemon_threads = True
    request_queue_size = 128


def server(provider: Provider, port: int = 0, host: str = "127.0.0.1") -> http.server.ThreadingHTTPServer:
    """A server of *provider* that listens on *host*:*port* (0: a free one) and is not serving yet."""
    return _Server((host, port), type("Handler", (_Handler,), {"provider": provider}))


@contextlib.contextmanager
def serving(provider: Provider) -> Iterator[str]:
    """The address of *provider*, served by a thread until the end of the block."""
    with server(provider) as listening:
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield address_of(listening)
        finally:
            listening.shutdown()
            thread.join()


def address_of(listening: http.server.ThreadingHTTPServer) -> str:
    """The base address for OAUTH_BASE_URL."""
    return f"http://127.0.0.1:{listening.server_port}"


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(description="Local OAuth provider of the calendar-api example.")
    parser.add_argument("--port", type=int, default=0, help="port to listen on; 0 takes a free one")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default %(default)s: this machine alone)")
    parser.add_argument("--ready-file", type=Path, help="file that gets the address when the provider answers; without it, standard output gets it")
    options = parser.parse_args(arguments)

    def end(number: int, frame: types.FrameType | None) -> None:
        raise SystemExit(0)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    provider = Provider(client_id=os.environ.get("GOOGLE_CLIENT_ID", ""), client_secret=os.environ.get("GOOGLE_CLIENT_SECRET", ""))
    with server(provider, options.port, options.host) as listening:
        if options.ready_file is None:
            print(address_of(listening), flush=True)
        else:
            part = options.ready_file.with_name(options.ready_file.name + ".part")
            part.write_text(address_of(listening) + "\n", encoding="utf-8")
            part.replace(options.ready_file)
        listening.serve_forever(poll_interval=0.1)
    return 0


if __name__ == "__main__":
    sys.exit(main())

__all__ = ("Provider", "RefusedError", "address_of", "issue", "main", "server", "serving", "well_formed")
