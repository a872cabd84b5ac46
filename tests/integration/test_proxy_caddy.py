# SPDX-License-Identifier: GPL-3.0-or-later
"""The proxy role's kind caddy with a real Caddy, real requests and no mercy: no request may get lost.

``LASTRO_CADDY`` names another Caddy than the wheel's, for example Debian's 2.6.2.
"""

from __future__ import annotations

import collections
import collections.abc
import contextlib
import dataclasses
import http.client
import http.server
import json
import os
import secrets
import socket
import stat
import subprocess
import threading
import time
import typing as t
from pathlib import Path

import pytest
from ansible_collections.lastro.deploy.plugins.modules import caddy as caddy_module
from ansible_collections.lastro.deploy.plugins.modules import caddy_info
from demo.caddy import Caddy
from demo.postgres import free_port
from demo.process import Daemon, wait_until

CallModule = collections.abc.Callable[..., dict[str, t.Any]]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Upstream

    def log_message(self, *_unused: object) -> None:
        pass

    def do_GET(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        received = self.rfile.read(length)
        if self.path == "/slow":
            self.server.entered.set()
            self.server.release.wait(120)
        body = json.dumps({"slot": self.server.name, "received": len(received), "headers": dict(self.headers.items())}).encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\nX-Release: {self.server.name}\r\n\r\n"
        self.wfile.write(head.encode() + body)

    do_POST = do_GET


class Upstream(http.server.ThreadingHTTPServer):
    """One slot of one host; it can be closed as a dead host would be, connections and all."""

    request_queue_size = 256
    daemon_threads = True
    block_on_close = False

    def __init__(self, name: str, port: int) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.name = name
        self.entered = threading.Event()
        self.release = threading.Event()
        self.connections: set[socket.socket] = set()
        self.thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def process_request(self, request: socket.socket, client_address: object) -> None:  # type: ignore[override]
        self.connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: socket.socket) -> None:  # type: ignore[override]
        self.connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, *_unused: object) -> None:
        pass

    def close(self) -> None:
        self.release.set()
        self.shutdown()
        self.server_close()
        self.thread.join()
        for connection in list(self.connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


@dataclasses.dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, t.Any]:
        return t.cast(dict[str, t.Any], json.loads(self.body))


def ask(port: int, path: str = "/", *, method: str = "GET", headers: t.Sequence[tuple[str, str]] = (), body: bytes | None = None) -> Answer:
    """One request on a connection of its own; a header may stand more than once."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=120)) as connection:
        connection.putrequest(method, path, skip_host=any(name == "Host" for name, _unused in headers))
        for name, value in headers:
            connection.putheader(name, value)
        if body is not None:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        answer = connection.getresponse()
        return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())


def version(caddy: Caddy) -> bytes:
    return b"v" + subprocess.run([caddy.program, "version"], capture_output=True, check=True).stdout.removeprefix(b"v")


class Traffic:
    """Requests without a pause: two clients that keep their connection, two that do not, about 50 a second each."""

    def __init__(self, port: int, body: bytes | None = None) -> None:
        self.port = port
        self.body = body
        self.counts: collections.Counter[str] = collections.Counter()
        self.lock = threading.Lock()
        self.over = threading.Event()
        self.threads = [threading.Thread(target=self.client, args=(kept,)) for kept in (True, True, False, False)]

    def __enter__(self) -> Traffic:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_unused: object) -> None:
        self.over.set()
        for thread in self.threads:
            thread.join()

    def client(self, kept: bool) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        due = time.monotonic()
        while not self.over.is_set():
            if not kept:
                connection.close()
            self.note(self.one(connection))
            due = max(due + 0.02, time.monotonic() - 0.1)
            self.over.wait(max(0.0, due - time.monotonic()))
        connection.close()

    def one(self, connection: http.client.HTTPConnection) -> str:
        try:
            connection.request("POST" if self.body else "GET", "/work", body=self.body)
            answer = connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            return repr(error)
        if answer.status == 200 and json.loads(content)["received"] == len(self.body or b""):
            return answer.headers["X-Release"]
        return str(answer.status)

    def note(self, result: str) -> None:
        with self.lock:
            self.counts[result] += 1

    def wait_for(self, count: int) -> None:
        """Until so many requests more have been answered."""
        enough = self.counts.total() + count
        wait_until(lambda: self.counts.total() >= enough, seconds=60, what="more requests")

    def seen(self, *results: str) -> bool:
        with self.lock:
            return all(self.counts[result] for result in results)


@dataclasses.dataclass
class Lab:
    """A proxy before two hosts with two slots each, and the variables of its roles."""

    app: str
    caddy: Caddy
    state: Path
    port: int
    token: str
    upstreams: list[dict[str, t.Any]]
    play: t.Callable[..., t.Any]
    role: t.Callable[..., dict[str, t.Any]]

    @property
    def flags(self) -> Path:
        return self.state / "proxy"

    @property
    def site(self) -> Path:
        return self.caddy.sites / f"{self.app}.caddy"

    @property
    def flag(self) -> Path:
        return self.flags / "maintenance.flag"

    def proxy(self, tasks: str, **variables: object) -> dict[str, t.Any]:
        return self.role("proxy", f"caddy/{tasks}.yml", **variables)

    def options(self, state: str, **more: object) -> dict[str, t.Any]:
        """Options of the module that the roles call, for what needs no playbook; the site is the one that stands there."""
        values: dict[str, t.Any] = {"state": state, "state_dir": str(self.state), "caddy": self.caddy.variables(), "upstreams": self.upstreams}
        if state == "configured":
            pages = {kind: (self.flags / "pages" / f"default.{kind}").read_text(encoding="utf-8") for kind in ("html", "json")}
            values |= {"app": self.app, "site": self.site.read_text(encoding="utf-8"), "pages": pages, "tester_token_file": str(self.state / "tester")}
        if state == "maintenance_on":
            values |= {"by": "ci", "pages": {"html": "not shown", "json": "{}"}}
        return {**values, **more}

    def loads(self) -> int:
        """How often Caddy was told to load a configuration."""
        return sum(1 for line in self.caddy.log.read_text(encoding="utf-8").splitlines() if json.loads(line).get("uri") == "/load")

    def in_flight(self, port: int) -> int:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.caddy.admin_port)) as connection:
            connection.request("GET", "/reverse_proxy/upstreams")
            upstreams = json.loads(connection.getresponse().read())
        return sum(int(one["num_requests"]) for one in upstreams if one["address"] == f"127.0.0.1:{port}")


@pytest.fixture(scope="module")
def caddy(base: Path) -> collections.abc.Iterator[Caddy]:
    other = os.environ.get("LASTRO_CADDY")
    server = Caddy.create(base / "caddy", program=Path(other) if other else None)
    yield server
    server.stop()
    assert server.daemon.pids() == []


SLOTS = ("app1-blue", "app1-green", "app2-blue", "app2-green")


@pytest.fixture(scope="module")
def upstreams() -> collections.abc.Iterator[dict[str, Upstream]]:
    """Every slot of both hosts; a test that closes one opens it again on its port."""
    servers = {name: Upstream(name, free_port()) for name in SLOTS}
    yield servers
    for server in servers.values():
        server.close()


@pytest.fixture(scope="module")
def labs(
    caddy: Caddy, upstreams: dict[str, Upstream], player: collections.abc.Callable[..., t.Any], include_role: collections.abc.Callable[..., t.Any]
) -> dict[str, Lab]:
    """Two sites of one Caddy, configured by one play: before one host and before two."""
    variables = {
        "calendar-api": prepare("calendar-api", caddy, describe(upstreams, "app1")),
        "fleet": prepare("fleet", caddy, describe(upstreams, "app1", "app2")),
    }
    made = {app: make_lab(caddy, player(values), include_role, values) for app, values in variables.items()}
    made["fleet"].play(*(made[app].proxy("configure", **values) for app, values in variables.items()))
    return made


def describe(upstreams: dict[str, Upstream], *hosts: str) -> list[dict[str, t.Any]]:
    ports = {name: server.server_address[1] for name, server in upstreams.items()}
    return [
        {"host": host, "address": "127.0.0.1", "ports": {"blue": ports[f"{host}-blue"], "green": ports[f"{host}-green"]}, "loopback_port": free_port()}
        for host in hosts
    ]


def prepare(app: str, caddy: Caddy, upstreams: list[dict[str, t.Any]]) -> dict[str, t.Any]:
    """A state directory with a tester's token, and what the role reads."""
    state = caddy.base.parent / app
    state.mkdir(mode=0o711)
    (state / "tester").touch(mode=0o600)
    (state / "tester").write_text(secrets.token_hex(32) + "\n", encoding="utf-8")
    return {
        "deploy_app": app,
        "deploy_state_dir": str(state),
        "deploy_caddy": caddy.variables(),
        "proxy_upstreams": upstreams,
        "proxy_site": {"address": f":{free_port()}", "health_path": "/health"},
        "proxy_tester_token_file": str(state / "tester"),
    }


def make_lab(caddy: Caddy, play: t.Callable[..., t.Any], include_role: collections.abc.Callable[..., t.Any], variables: dict[str, t.Any]) -> Lab:
    state = Path(variables["deploy_state_dir"])
    token = (state / "tester").read_text(encoding="utf-8").strip()
    port = int(variables["proxy_site"]["address"].removeprefix(":"))
    return Lab(variables["deploy_app"], caddy, state, port, token, variables["proxy_upstreams"], play, include_role)


@pytest.fixture
def lab(labs: dict[str, Lab]) -> collections.abc.Iterator[Lab]:
    """The site before one host, open and blue."""
    yield labs["calendar-api"]
    for path in (labs["calendar-api"].flag, labs["calendar-api"].flags / "app1.green"):
        path.unlink(missing_ok=True)


def test_configured_twice_nothing_is_reloaded_and_the_token_stands_in_no_file(lab: Lab) -> None:
    before = lab.loads()
    again = lab.play(lab.proxy("configure"), options=["-vvv", "--diff"])
    assert again.changed == 0
    assert lab.token not in again.output
    assert lab.loads() == before
    assert lab.token not in "".join(path.read_text(encoding="utf-8") for path in lab.caddy.sites.iterdir())
    assert [path.name for path in (lab.flags / "testers").iterdir()] == [lab.token]
    assert stat.S_IMODE((lab.flags / "testers").stat().st_mode) == 0o711


def test_a_site_that_caddy_refuses_leaves_the_one_before_it(lab: Lab, call_module: CallModule) -> None:
    site = lab.site
    before = site.read_text(encoding="utf-8")
    bad = lab.proxy("configure", proxy_site={"address": ":0", "tls": "/no/such/cert /no/such/key"})
    refused = lab.play(bad, fails=True)
    assert "Caddy does not take the site" in refused.output
    assert site.read_text(encoding="utf-8") == before
    # Valid alone, but in conflict with another site: only the reload tells.
    (lab.caddy.sites / "other.caddy").write_text(":1 {\n}\nbroken {\n\tno_such_directive\n}\n", encoding="utf-8")
    reload_refused = call_module(caddy_module, **lab.options("configured", site=before.replace("Retry-After 30", "Retry-After 7")))
    assert "no_such_directive" in reload_refused["problem"]
    assert site.read_text(encoding="utf-8") == before
    assert "no_such_directive" in call_module(caddy_module, **lab.options("reloaded"))["problem"]
    assert ask(lab.port).status == 200
    (lab.caddy.sites / "other.caddy").unlink()
    # A site that was written while nobody told Caddy is told by the next run.
    (lab.flags / "configured").unlink()
    loads = lab.loads()
    # The second one is what a hook may ask for.
    assert lab.play(lab.proxy("configure"), lab.proxy("reload")).changed == 2
    assert lab.loads() == loads + 2
    assert ask(lab.port).status == 200
    assert not call_module(caddy_module, **lab.options("configured"))["changed"]
    assert lab.loads() == loads + 2


def test_a_main_file_without_the_import_is_named(lab: Lab, tmp_path: Path, call_module: CallModule) -> None:
    elsewhere = {**lab.caddy.variables(), "config_dir": str(tmp_path / "sites")}
    moved = [{**lab.upstreams[0], "loopback_port": free_port()}]
    site = lab.site.read_text(encoding="utf-8").replace(str(lab.upstreams[0]["loopback_port"]), str(moved[0]["loopback_port"]))
    refused = call_module(caddy_module, **lab.options("configured", caddy=elsewhere, upstreams=moved, site=site))
    assert refused["problem"].endswith(f"does not serve {tmp_path}/sites/calendar-api.caddy.")
    for language, words in (("en", "Have this line"), ("pt_BR", "Inclua esta linha")):
        assert words in refused["remedy"][language]
        assert f"import {tmp_path}/sites/*.caddy" in refused["remedy"][language]
    assert list((tmp_path / "sites").iterdir()) == []


def test_check_mode_says_and_changes_nothing(lab: Lab) -> None:
    before = {path: path.read_bytes() for path in lab.flags.rglob("*") if path.is_file()}
    checked = lab.play(
        lab.proxy("configure", proxy_site={"address": f":{lab.port}", "retry_after": 9}),
        lab.proxy("switch", proxy_host_name="app1", proxy_slot="green"),
        lab.proxy("maintenance_on", proxy_maintenance={"run_id": "r", "by": "ana"}),
        lab.proxy("maintenance_off", proxy_maintenance_run_id="r"),
        options=["--check", "--diff"],
    )
    assert checked.changed >= 3
    assert "Retry-After 9" in checked.output
    assert {path: path.read_bytes() for path in lab.flags.rglob("*") if path.is_file()} == before
    assert ask(lab.port).headers["x-release"] == "app1-blue"


def test_twenty_switches_lose_no_request(lab: Lab, call_module: CallModule) -> None:
    slots = ["green", "blue"] * 10
    changed = 0
    with Traffic(lab.port) as traffic:
        wait_until(lambda: traffic.seen("app1-blue"), seconds=60, what="requests")
        for slot in slots:
            changed += call_module(caddy_module, **lab.options("switched", host="app1", slot=slot))["changed"]
            traffic.wait_for(12)
    assert changed == 20
    assert set(traffic.counts) == {"app1-blue", "app1-green"}, traffic.counts
    assert traffic.counts.total() > 200
    green = lab.proxy("switch", proxy_host_name="app1", proxy_slot="green")
    switched = lab.play(green, green, lab.proxy("status"), facts=["proxy_status"])
    assert (switched.changed, switched.facts["proxy_status"]) == (1, {"maintenance": {}, "slots": {"app1": "green"}})
    assert ask(lab.port).headers["x-release"] == "app1-green"


@pytest.mark.parametrize("body", [None, b"x" * 20000])
def test_a_dead_host_is_skipped_and_comes_back(labs: dict[str, Lab], upstreams: dict[str, Upstream], body: bytes | None) -> None:
    port = upstreams["app1-blue"].server_address[1]
    upstreams["app1-blue"].close()
    with Traffic(labs["fleet"].port, body) as traffic:
        wait_until(lambda: traffic.counts["app2-blue"] > 200, seconds=60, what="the other host")
        # Caddy 2.6 closes the body of a request whose connection fails: it can lose three of these before it leaves the host out.
        lost = traffic.counts.total() - traffic.counts["app2-blue"]
        assert lost <= (3 if body and b"v2.6" in version(labs["fleet"].caddy) else 0), traffic.counts
        upstreams["app1-blue"] = Upstream("app1-blue", port)
        wait_until(lambda: traffic.seen("app1-blue"), seconds=60, what="the host that came back")
    assert traffic.counts.total() - traffic.counts["app2-blue"] - traffic.counts["app1-blue"] == lost, traffic.counts


def test_no_host_at_all_is_said_at_once(labs: dict[str, Lab], upstreams: dict[str, Upstream]) -> None:
    ports = {name: upstreams[name].server_address[1] for name in ("app1-blue", "app2-blue")}
    for name in ports:
        upstreams[name].close()
    started = time.monotonic()
    assert ask(labs["fleet"].port).status in {502, 503}
    assert time.monotonic() - started < 5
    for name, port in ports.items():
        upstreams[name] = Upstream(name, port)


def test_a_broken_get_is_not_repeated(lab: Lab, upstreams: dict[str, Upstream]) -> None:
    hits: list[str] = []

    class Breaking(Handler):
        def do_GET(self) -> None:
            hits.append(self.path)
            self.close_connection = True

    port = upstreams["app1-blue"].server_address[1]
    upstreams["app1-blue"].close()
    upstreams["app1-blue"] = Upstream("app1-blue", port)
    upstreams["app1-blue"].RequestHandlerClass = Breaking
    assert ask(lab.port).status == 502
    assert hits == ["/"]
    upstreams["app1-blue"].RequestHandlerClass = Handler


def test_what_the_application_learns_of_its_client(lab: Lab) -> None:
    answer = ask(lab.port, headers=[("Host", "app.example.com"), ("X-Forwarded-For", "8.8.8.8"), ("X-Lastro-Tester", lab.token), ("X-Lastro-Fallback", "x")])
    headers = {name.lower(): value for name, value in answer.json["headers"].items()}
    assert headers["host"] == "app.example.com"
    assert headers["x-forwarded-host"] == "app.example.com"
    assert headers["x-forwarded-proto"] == "http"
    # The client's own address, not what it says of itself.
    assert headers["x-forwarded-for"].split(", ")[0] == "127.0.0.1"
    assert "8.8.8.8" not in headers["x-forwarded-for"]
    assert "x-lastro-tester" not in headers
    assert "x-lastro-fallback" not in headers


MESSAGE = 'Voltamos <b>logo</b> & "bem" {http.error} ${x}'


def test_maintenance_for_users_health_and_testers(lab: Lab, call_module: CallModule) -> None:
    played = lab.play(
        lab.proxy("maintenance_on", proxy_maintenance={"run_id": "run-1", "by": "ana", "message": MESSAGE, "until": "22:30", "language": "pt_BR"}),
        lab.proxy("status"),
        facts=["proxy_in_flight", "proxy_status"],
    )
    assert played.facts["proxy_in_flight"] == 0
    maintenance = played.facts["proxy_status"]["maintenance"]
    assert {**maintenance, "since": ""} == {"on": True, "run_id": "run-1", "by": "ana", "message": MESSAGE, "until": "22:30", "since": ""}
    for method, headers in (("GET", []), ("POST", []), ("GET", [("If-Modified-Since", "Fri, 01 Jan 2100 00:00:00 GMT"), ("Range", "bytes=0-3")])):
        page = ask(lab.port, "/any/../path?x=1", method=method, headers=headers, body=b"y" * 5000 if method == "POST" else None)
        assert page.status == 503
        assert page.headers["retry-after"] == "30"
        assert page.headers["cache-control"] == "no-store"
        assert page.headers["content-type"].startswith("text/html")
        text = page.body.decode()
        assert '<html lang="pt-BR">' in text
        assert "Voltamos &lt;b&gt;logo&lt;/b&gt; &amp; &#34;bem&#34; {http.error} ${x}" in text
        assert "22:30" in text
    head = ask(lab.port, method="HEAD")
    assert (head.status, head.body) == (503, b"")
    document = ask(lab.port, "/api", headers=[("Accept", "text/plain, application/json")])
    assert document.status == 503
    assert document.headers["content-type"].startswith("application/json")
    assert document.json == {"error": "maintenance", "title": "Voltamos já", "message": MESSAGE, "until": "22:30", "language": "pt-BR"}
    health = ask(lab.port, "/health")
    assert (health.status, health.body) == (200, b"ok")
    assert "retry-after" not in health.headers
    assert "x-release" not in health.headers
    tester = ask(lab.port, "/health", headers=[("X-Lastro-Tester", lab.token)])
    assert tester.headers["x-release"] == "app1-blue"
    assert not call_module(caddy_module, **lab.options("maintenance_on", run_id="run-1", reason="other words"))["changed"]
    off = lab.play(lab.proxy("maintenance_off", proxy_maintenance_run_id="run-1"), lab.proxy("status"), facts=["proxy_status", "proxy_maintenance_left"])
    assert off.facts == {"proxy_status": {"maintenance": {}, "slots": {"app1": "blue"}}, "proxy_maintenance_left": {}}
    assert ask(lab.port).status == 200
    lab.flag.touch()
    assert call_module(caddy_module, **lab.options("maintenance_off", run_id="run-2", force=True))["changed"]
    assert ask(lab.port).status == 200


def test_only_the_token_itself_opens(lab: Lab, call_module: CallModule) -> None:
    lab.flag.touch()
    assert ask(lab.port, headers=[("X-Lastro-Tester", lab.token)]).status == 200
    forged: list[list[str]] = [
        ["*"],
        ["?" * 64],
        [lab.token[:-1] + "*"],
        [lab.token[:-1] + "?"],
        [f"[{lab.token[0]}]{lab.token[1:]}"],
        ["../testers/" + lab.token],
        ["../configured"],
        [".." + "/." * 40],
        ["../pages/default.html"],
        [lab.token + "/"],
        [lab.token + "."],
        [lab.token.upper() if lab.token.upper() != lab.token else "A" * 64],
        [secrets.token_hex(32)],
        [""],
        # Joined with a comma these would be a pattern that fits every token.
        ["*[", "a" * 64, "]*"],
        ["*", secrets.token_hex(32)],
    ]
    for values in forged:
        answer = ask(lab.port, headers=[("X-Lastro-Tester", value) for value in values])
        assert answer.status == 503, values
    # A new token, no reload: the old one is worth nothing.
    new = secrets.token_urlsafe(32)
    (lab.state / "tester").write_text(new, encoding="utf-8")
    reloads = lab.loads()
    assert new not in json.dumps(call_module(caddy_module, **lab.options("configured")))
    assert lab.loads() == reloads
    assert ask(lab.port, headers=[("X-Lastro-Tester", lab.token)]).status == 503
    assert ask(lab.port, headers=[("X-Lastro-Tester", new)]).status == 200
    (lab.state / "tester").write_text("../../../etc/passwd-and-something-that-is-long-enough", encoding="utf-8")
    assert "must hold 32 to 128" in call_module(caddy_module, **lab.options("configured"))["problem"]
    (lab.state / "tester").write_text(new, encoding="utf-8")
    assert call_module(caddy_module, **lab.options("configured"))["changed"]
    assert ask(lab.port, headers=[("X-Lastro-Tester", new)]).status == 200
    lab.token = new


HUMANS = {"": None, "{broken": None, '{"by": "Ana \\u00e1 \\"x\\"", "run_id": 7}': 'Ana á "x"'}


@pytest.mark.parametrize("content", HUMANS)
def test_a_humans_maintenance_stays(lab: Lab, content: str, call_module: CallModule) -> None:
    lab.flag.write_text(content, encoding="utf-8")
    on = call_module(caddy_module, **lab.options("maintenance_on", run_id="run-1"))
    off = call_module(caddy_module, **lab.options("maintenance_off", run_id="run-1"))
    status = call_module(caddy_info, state_dir=str(lab.state), hosts=["app1"])
    assert not (on["changed"] or off["changed"])
    assert lab.flag.read_text(encoding="utf-8") == content
    assert off["maintenance"]["on"] is True
    assert status["maintenance"] == off["maintenance"]
    assert off["maintenance"].get("by") == HUMANS[content]
    assert "We will be right back" in ask(lab.port).body.decode()


def test_the_role_tells_that_a_humans_maintenance_stays(lab: Lab) -> None:
    lab.flag.write_text('{"by": "ana"}', encoding="utf-8")
    played = lab.play(
        lab.proxy("maintenance_on", proxy_maintenance={"run_id": "run-1", "by": "ci"}),
        lab.proxy("maintenance_off", proxy_maintenance_run_id="run-1"),
        lab.proxy("status"),
        facts=["proxy_maintenance_left", "proxy_status"],
    )
    assert played.changed == 0
    assert lab.flag.read_text(encoding="utf-8") == '{"by": "ana"}'
    assert played.facts["proxy_maintenance_left"] == {"on": True, "by": "ana"}
    assert played.facts["proxy_status"]["maintenance"] == played.facts["proxy_maintenance_left"]


def test_drain_waits_for_the_slow_request(lab: Lab, upstreams: dict[str, Upstream], call_module: CallModule) -> None:
    blue = upstreams["app1-blue"]
    port = blue.server_address[1]
    answers: list[Answer] = []
    slow = threading.Thread(target=lambda: answers.append(ask(lab.port, "/slow")))
    slow.start()
    assert blue.entered.wait(60)
    assert lab.in_flight(port) == 1
    drain = lab.proxy("drain", proxy_drain_address=f"127.0.0.1:{port}", proxy_drain_seconds=1)
    played = lab.play(lab.proxy("switch", proxy_host_name="app1", proxy_slot="green"), drain, facts=["proxy_in_flight"])
    assert played.facts["proxy_in_flight"] == 1
    timer = threading.Timer(1, blue.release.set)
    timer.start()
    drained = call_module(caddy_module, **lab.options("drained", address=f"127.0.0.1:{port}", seconds=30))
    assert blue.release.is_set()
    assert drained["in_flight"] == 0
    slow.join()
    assert (answers[0].status, answers[0].headers["x-release"]) == (200, "app1-blue")


def test_an_admin_api_that_is_dead_is_named_and_the_site_comes_back(lab: Lab, call_module: CallModule) -> None:
    before = lab.site.read_text(encoding="utf-8")
    dead = {**lab.caddy.variables(), "admin": f"http://127.0.0.1:{free_port()}"}
    refused = call_module(caddy_module, **lab.options("configured", caddy=dead, site=before.replace("Retry-After 30", "Retry-After 7")))
    assert refused["problem"].endswith(f"admin API at {dead['admin']} does not answer: Connection refused.")
    assert "deploy_caddy.admin" in refused["remedy"]["pt_BR"]
    assert lab.site.read_text(encoding="utf-8") == before
    drained = lab.play(lab.proxy("drain", deploy_caddy=dead, proxy_drain_address="127.0.0.1:1"), fails=True)
    assert "does not answer: Connection refused" in drained.output
    # The door is shut before anybody is asked.
    assert call_module(caddy_module, **lab.options("maintenance_on", caddy=dead))["failed"]
    assert ask(lab.port).status == 503


def test_an_admin_api_on_a_unix_socket(lab: Lab, base: Path, call_module: CallModule) -> None:
    """Another Caddy, which serves the same site at another port."""
    home = base / "unix"
    (home / "sites").mkdir(parents=True)
    admin = f"unix/{home}/admin.sock"
    (home / "Caddyfile").write_text(f"{{\n\tadmin {admin}\n\tstorage file_system {home}/storage\n}}\nimport sites/*.caddy\n", encoding="utf-8")
    program = str(lab.caddy.program)
    config = ("--config", str(home / "Caddyfile"), "--adapter", "caddyfile")
    ports = {lab.port: free_port(), lab.upstreams[0]["loopback_port"]: free_port()}
    site = lab.site.read_text(encoding="utf-8")
    for old, new in ports.items():
        site = site.replace(f":{old}", f":{new}")
    options = {
        "caddy": {**lab.caddy.variables(), "config_dir": str(home / "sites"), "reload": [program, "reload", *config, "--address", admin], "admin": admin},
        "upstreams": [{**lab.upstreams[0], "loopback_port": ports[lab.upstreams[0]["loopback_port"]]}],
        "state_dir": str(home / "state"),
    }
    daemon = Daemon((program, "run", *config), home / "log", {**lab.caddy.daemon.environment, "XDG_CONFIG_HOME": str(home)})
    daemon.start((home / "admin.sock").exists)
    try:
        configured = call_module(caddy_module, **lab.options("configured", **options, site=site))
        assert configured.get("reloaded"), configured
        assert ask(ports[lab.port]).status == 200
        closed = call_module(caddy_module, **lab.options("maintenance_on", **options))
        assert (closed["changed"], closed["in_flight"]) == (True, 0)
    finally:
        daemon.stop()
