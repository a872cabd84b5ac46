# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import collections.abc
import dataclasses
import http.server
import json
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.lastro.deploy.plugins.module_utils import _http
from ansible_collections.lastro.deploy.plugins.modules import http_check
from demo.postgres import free_port


@dataclasses.dataclass
class Seen:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class App(http.server.ThreadingHTTPServer):
    """An application that remembers what it was asked; ``fail_from`` makes /flaky answer 500 from that request on."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.seen: list[Seen] = []
        self.fail_from = 0
        self.fail_until = 0
        self.lock = threading.Lock()
        self.busy = 0
        self.most_busy = 0
        self.barrier = threading.Barrier(2)
        self.over = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def count(self, path: str) -> int:
        return sum(1 for one in self.seen if one.path == path)


class Handler(http.server.BaseHTTPRequestHandler):
    server: App
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass

    def _answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with self.server.lock:
            self.server.seen.append(Seen(self.command, self.path, dict(self.headers), body))
        getattr(self, "path_" + self.path.partition("?")[0].strip("/"), self.path_missing)()

    do_POST = do_HEAD = do_PUT = do_GET

    def path_missing(self) -> None:
        self._answer(404, b'{"error": "not here"}')

    def path_health(self) -> None:
        self._answer(200, b'{"release": "r2"}', **{"X-Release": "r2", "Set-Cookie": "sid=1"})

    def path_flaky(self) -> None:
        number = self.server.count("/flaky")
        self._answer(500 if self.server.fail_from <= number < self.server.fail_until else 200, b"{}")

    def path_moved(self) -> None:
        self._answer(302, b"", Location="/health")

    def path_text(self) -> None:
        self._answer(200, b"<html>hello</html>", **{"Content-Type": "text/html"})

    def path_pair(self) -> None:
        self.server.barrier.wait(60)
        self._answer(200, b"{}")

    def path_silent(self) -> None:
        self.server.over.wait(10)
        self.close_connection = True

    def path_dripping(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        while not self.server.over.wait(0.05):
            try:
                self.wfile.write(b" ")
            except OSError:
                return

    def path_torn(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(b"{")
        self.close_connection = True

    def path_endless(self) -> None:
        self._answer(200, b"x" * 3_000_000)


@pytest.fixture
def app() -> collections.abc.Iterator[App]:
    server = App()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.over.set()
        server.shutdown()
        server.server_close()
        thread.join()


def call(capsys: pytest.CaptureFixture[str], base_url: str, *checks: dict[str, Any], **options: object) -> dict[str, Any]:
    with patch_module_args({"base_url": base_url, "checks": list(checks), "delay": 0, **options}), pytest.raises(SystemExit):
        http_check.main()
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answer


def test_right_answers_pass(app: App, capsys: pytest.CaptureFixture[str]) -> None:
    answer = call(
        capsys,
        app.url + "/",
        {"path": "/health", "expect": {"status": 200, "json": "release == '{release}'", "header": {"X-Release": "{release}"}, "max_seconds": 5}},
        {"path": "/nothing?{release}", "name": "gone", "method": "POST", "body": {"a": [1]}, "headers": {"X-One": 1}, "expect": {"status": [404, 410]}},
        {"path": "/health", "method": "HEAD"},
        release="r2",
        headers={"X-All": "yes"},
    )
    assert "failed" not in answer
    assert (answer["passed"], answer["total"], answer["changed"], answer["findings"]) == (3, 3, False, [])
    assert [one["name"] for one in answer["checks"]] == ["GET /health", "gone", "HEAD /health"]
    assert answer["checks"][1]["status"] == 404
    assert answer["checks"][1]["url"] == app.url + "/nothing"
    assert all(one["ok"] and one["tries"] == 1 and one["sent"] for one in answer["checks"])
    post = app.seen[1]
    assert (post.method, post.path, json.loads(post.body)) == ("POST", "/nothing?r2", {"a": [1]})
    assert post.headers["X-One"] == "1"
    assert all(one.headers["X-All"] == "yes" and "Cookie" not in one.headers for one in app.seen)


def test_each_failing_check_has_its_line(app: App, capsys: pytest.CaptureFixture[str]) -> None:
    app.fail_until = 1000
    answer = call(
        capsys, app.url, {"path": "/flaky"}, {"path": "/health"}, {"path": "/text", "expect": {"json": "a"}}, {"path": "/moved", "expect": {"status": 200}}
    )
    assert answer["failed"] is True
    assert answer["problem"].splitlines() == [
        "GET /flaky: 500, expected 200 (3 of 3 tries)",
        "GET /text: 200, but its body is not JSON (text/html, 18 bytes) (3 of 3 tries)",
        "GET /moved: 302, expected 200 (3 of 3 tries)",
    ]
    assert (answer["passed"], answer["total"]) == (1, 4)
    assert [finding["check"] for finding in answer["findings"]] == ["GET /flaky", "GET /text", "GET /moved"]
    assert answer["remedy"]["pt_BR"].startswith("Veja o log")
    assert app.count("/flaky") == 3
    assert "hello" not in answer["msg"]


def test_redirects_are_followed_on_request(app: App, capsys: pytest.CaptureFixture[str]) -> None:
    answer = call(capsys, app.url, {"path": "/moved", "expect": {"json": "release == 'r2'"}}, follow_redirects=True)
    assert answer["passed"] == 1


def test_a_later_try_may_pass(app: App, capsys: pytest.CaptureFixture[str]) -> None:
    app.fail_until = 3
    answer = call(capsys, app.url, {"path": "/flaky"})
    assert answer["checks"][0]["tries"] == 3
    assert answer["passed"] == 1


def test_many_requests_find_a_fault_that_comes_late(app: App, capsys: pytest.CaptureFixture[str]) -> None:
    app.fail_from, app.fail_until = 30, 1000
    answer = call(capsys, app.url, {"path": "/flaky", "requests": 40}, tries=1, report_only=True)
    assert answer["findings"][0]["problem"] == "500, expected 200 (request 30 of 40) (1 of 1 try)"
    assert "failed" not in answer
    assert answer["passed"] == 0
    app.seen.clear()
    app.fail_until = 0
    assert call(capsys, app.url, {"path": "/flaky", "requests": 41, "parallel": 20})["passed"] == 1
    assert app.count("/flaky") == 41


def test_parallel_requests_are_at_once(app: App, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(capsys, app.url, {"path": "/pair", "requests": 2, "parallel": 2})["passed"] == 1


def test_no_answer_is_said(app: App, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_http, "BODY_LIMIT", 2 * 1024**2)
    late = call(capsys, app.url, {"path": "/silent"}, {"path": "/dripping"}, timeout=0.3, tries=1, report_only=True)
    assert [one["problem"] for one in late["checks"]] == ["no answer within 0.3 s (1 of 1 try)"] * 2
    broken = call(capsys, app.url, {"path": "/torn"}, {"path": "/endless"}, timeout=20, tries=1, report_only=True)
    assert [one["problem"] for one in broken["checks"]] == [
        "the connection broke before the answer was whole (1 of 1 try)",
        "the answer is larger than 2 MiB (1 of 1 try)",
    ]
    assert [one["status"] for one in (*late["checks"], *broken["checks"])] == [None] * 4
    refused = call(capsys, f"http://user:hunter2@127.0.0.1:{free_port()}", {"path": "/health"}, tries=2)
    assert refused["problem"].strip() == "GET /health: connection refused (2 of 2 tries)"
    assert "hunter2" not in json.dumps(refused)
    unknown = call(capsys, "http://no-such-host.invalid", {"path": "/health"}, tries=1)
    assert "the host name does not resolve" in unknown["msg"]


def test_wait_polls_until_the_application_is_up(capsys: pytest.CaptureFixture[str]) -> None:
    port = free_port()
    servers: list[App] = []
    asked = threading.Event()

    def start_late() -> None:
        with socket.create_server(("127.0.0.1", port)) as listener:
            listener.settimeout(10)
            listener.accept()[0].close()  # the first question, thrown away: the application is not there yet
        server = App(port)
        servers.append(server)
        asked.set()
        server.serve_forever(0.01)

    thread = threading.Thread(target=start_late, daemon=True)
    thread.start()
    answer = call(capsys, f"http://127.0.0.1:{port}", {"path": "/health", "expect": {"json": "release == 'r2'"}}, wait=20)
    asked.wait(10)
    servers[0].shutdown()
    servers[0].server_close()
    thread.join()
    assert answer["passed"] == 1
    assert answer["checks"][0]["tries"] >= 2
    assert answer["seconds"] < 20


def test_wait_ends(app: App, capsys: pytest.CaptureFixture[str]) -> None:
    app.fail_until = 1000
    started = time.monotonic()
    answer = call(capsys, app.url, {"path": "/silent"}, {"path": "/flaky"}, {"path": "/health"}, wait=2)
    assert time.monotonic() - started < 15
    first, second = answer["problem"].strip().splitlines()
    assert first.startswith("GET /silent: no answer within ")
    assert second.startswith("GET /flaky: 500, expected 200 (")
    assert " in " in second
    assert answer["passed"] == 1


def test_secret_headers_come_from_files_and_show_nowhere(app: App, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "authorization"
    path.write_text("Bearer hunter-five\n", encoding="utf-8")
    path.chmod(0o600)
    answer = call(capsys, app.url, {"path": "/nothing"}, header_files={"Authorization": str(path)})
    assert app.seen[0].headers["Authorization"] == "Bearer hunter-five"
    assert answer["failed"] is True
    assert "hunter-five" not in json.dumps(answer)


def test_check_mode_sends_only_what_reads(app: App, capsys: pytest.CaptureFixture[str]) -> None:
    answer = call(capsys, app.url, {"path": "/health"}, {"path": "/health", "method": "POST"}, _ansible_check_mode=True)
    assert [one.method for one in app.seen] == ["GET"]
    assert [one["sent"] for one in answer["checks"]] == [True, False]
    assert answer["passed"] == 2


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ({"path": "/health", "expect": {"json": "a ==="}}, "GET /health: the JMESPath expression 'a ===' does not parse"),
        ({"path": "/health", "name": "up", "expect": {"json": "a == '{release}'"}}, "up: it names {release}, but the option release is empty"),
        ({"path": "health"}, "GET health: path must start with /"),
        ({"path": "/health", "requests": 0}, "GET /health: requests must be 1 to 100000, parallel 1 to 64"),
        ({"path": "/health", "parallel": 65}, "GET /health: requests must be 1 to 100000, parallel 1 to 64"),
        ({"path": "/health", "expect": {"max_seconds": -1}}, "GET /health: max_seconds must not be below 0"),
    ],
)
def test_bad_input_is_named_before_any_request(app: App, capsys: pytest.CaptureFixture[str], entry: dict[str, Any], problem: str) -> None:
    answer = call(capsys, app.url, {"path": "/health"}, entry, {"path": "also-bad"})
    assert answer["failed"] is True
    lines = answer["problem"].splitlines()
    assert lines[0].startswith(problem)
    assert lines[1] == "GET also-bad: path must start with /"
    assert app.seen == []


@pytest.mark.parametrize(
    ("base_url", "options", "problem"),
    [
        ("ftp://h", {}, "base_url starts with ftp, expected http or https."),
        ("http://", {}, "base_url has no host."),
        ("http://h:x", {}, "base_url is no URL: its address or port cannot be read."),
        ("http://h", {"release": "r'2"}, "release has characters that a release id cannot have."),
        ("http://h", {"checks": []}, "checks is empty."),
        ("http://h", {"tries": 0}, "timeout and tries must be above 0, delay and wait not below."),
        ("http://h", {"wait": -1}, "timeout and tries must be above 0, delay and wait not below."),
    ],
)
def test_bad_options(capsys: pytest.CaptureFixture[str], base_url: str, options: dict[str, Any], problem: str) -> None:
    assert call(capsys, base_url, {"path": "/"}, **options)["problem"] == problem
