# SPDX-License-Identifier: GPL-3.0-or-later
"""What we do with Caddy: which commands run when, what is put back, and what an admin API may answer. The real one is in tests/integration."""

from __future__ import annotations

import collections.abc
import dataclasses
import datetime
import http.client
import json
import shutil
import socketserver
import stat
import threading
import typing as t
from pathlib import Path

import pytest
from ansible_collections.lastro.deploy.plugins.module_utils import _caddy
from ansible_collections.lastro.deploy.plugins.module_utils._caddy import Finished
from ansible_collections.lastro.deploy.plugins.module_utils._errors import LastroError
from ansible_collections.lastro.deploy.plugins.modules import caddy as caddy_module

CallModule = collections.abc.Callable[..., dict[str, t.Any]]
TOKEN = "t0ken-" * 10
NOW = datetime.datetime(2026, 11, 21, 22, 10, 4, tzinfo=datetime.UTC)


@dataclasses.dataclass
class Host:
    """A host with a Caddy that does what a test says, a clock that moves by sleeping, and the options of the module."""

    base: Path
    ran: list[str] = dataclasses.field(default_factory=list)
    fails: dict[str, Finished] = dataclasses.field(default_factory=dict)
    counts: list[dict[str, int]] = dataclasses.field(default_factory=lambda: [{"127.0.0.1:9101": 0}])
    admin_is_dead: bool = False
    time: float = 0.0

    @property
    def site(self) -> Path:
        return self.base / "etc" / "sites" / "app.caddy"

    @property
    def flags(self) -> Path:
        return self.base / "state" / "proxy"

    def program(self, command: t.Sequence[str]) -> Finished:
        self.ran.append(command[0])
        if command[0] == "validate":
            assert Path(command[-1]).read_text(encoding="utf-8").startswith("site")
        return self.fails.get(command[0], Finished(0, ""))

    def ask(self, _admin: str, path: str) -> tuple[int, bytes]:
        assert path == "/reverse_proxy/upstreams"
        if self.admin_is_dead:
            raise ConnectionRefusedError(111, "Connection refused")
        counts = self.counts.pop(0) if len(self.counts) > 1 else self.counts[0]
        return 200, json.dumps([{"address": address, "num_requests": number, "fails": 0} for address, number in counts.items()]).encode()

    def sleep(self, seconds: float) -> None:
        self.time += seconds

    def world(self) -> _caddy.World:
        return _caddy.World(self.program, self.ask, lambda: self.time, self.sleep, lambda: NOW)

    def options(self, state: str, **more: object) -> dict[str, t.Any]:
        defaults: dict[str, t.Any] = {
            "state": state,
            "state_dir": str(self.base / "state"),
            "app": "app",
            "caddy": {"config_dir": str(self.base / "etc" / "sites"), "validate": ["validate"], "reload": ["reload"], "admin": "http://127.0.0.1:2019"},
            "site": "site 1\n",
            "pages": {"html": "<p>\n", "json": "{}\n"},
            "tester_token_file": "",
            "upstreams": [{"host": "app1", "address": "10.0.0.1", "ports": {"blue": 8001, "green": 8002}, "loopback_port": 9101}],
            "host": "app1",
            "slot": "green",
            "address": "10.0.0.1:8001",
            "seconds": 30.0,
            "run_id": "run-1",
            "by": "ci",
            "reason": "",
            "until": "",
            "force": False,
        }
        return {**defaults, **more}

    def run(self, state: str, *, write: bool = True, **more: object) -> dict[str, t.Any]:
        self.ran.clear()
        return _caddy.run(self.options(state, **more), self.world(), write=write)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def files(base: Path) -> dict[str, tuple[int, bytes]]:
    return {str(path.relative_to(base)): (stat.S_IMODE(path.stat().st_mode), path.read_bytes() if path.is_file() else b"") for path in sorted(base.rglob("*"))}


def test_configured_once_and_told_once(host: Host) -> None:
    checked = host.run("configured", write=False)
    assert (checked["changed"], checked["reloaded"], host.ran) == (True, True, [])
    assert list(host.base.iterdir()) == []
    assert "site 1" in json.dumps(checked["diff"])
    assert host.run("configured") == checked
    assert host.ran == ["validate", "reload"]
    made = files(host.base)
    assert {name: mode for name, (mode, _content) in made.items()} == {
        "etc": 0o755,
        "etc/sites": 0o755,
        "etc/sites/app.caddy": 0o644,
        "state": 0o755,
        "state/proxy": 0o755,
        "state/proxy/configured": 0o644,
        "state/proxy/pages": 0o755,
        "state/proxy/pages/default.html": 0o644,
        "state/proxy/pages/default.json": 0o644,
        "state/proxy/testers": 0o711,
    }
    assert host.run("configured") == {"changed": False, "diff": [], "reloaded": False}
    assert (host.ran, files(host.base)) == ([], made)


def test_what_makes_caddy_reload(host: Host) -> None:
    host.run("configured")
    # A run that ended between the file and the reload: there is nothing to check, and Caddy is told.
    (host.flags / "configured").write_text("of an older site\n", encoding="utf-8")
    again = host.run("configured")
    assert (again, host.ran) == ({"changed": True, "diff": [], "reloaded": True}, ["reload"])
    # A file that Caddy could not read.
    host.site.chmod(0o600)
    assert host.run("configured")["changed"]
    assert (host.ran, stat.S_IMODE(host.site.stat().st_mode)) == (["reload"], 0o644)
    # Somebody's hand.
    host.site.write_text("site by hand\n", encoding="utf-8")
    assert host.run("configured")["reloaded"]
    assert host.ran == ["validate", "reload"]
    # Pages and testers are read at each request.
    other = host.run("configured", pages={"html": "<h1>\n", "json": "{}\n"})
    assert (other["changed"], other["reloaded"], host.ran) == (True, False, [])


@pytest.mark.parametrize("existing", ["site 0\n", "", None])
@pytest.mark.parametrize(
    ("what", "problem", "remedy"),
    [
        ("validate", "no such directive", "Read what Caddy says"),
        ("reload", "no such directive", "Read what Caddy says"),
        ("import", "Caddy was reloaded and does not serve {site}.", "import {directory}/*.caddy"),
        ("admin", "Caddy's admin API at http://127.0.0.1:2019 does not answer: Connection refused.", "deploy_caddy.admin"),
    ],
)
def test_a_site_that_caddy_does_not_take_is_replaced_by_the_one_before_it(host: Host, what: str, problem: str, remedy: str, existing: str | None) -> None:
    if existing is not None:
        host.site.parent.mkdir(parents=True)
        host.site.write_text(existing, encoding="utf-8")
        host.site.chmod(0o644)
    host.fails = {what: Finished(1, "no such directive")}
    host.counts = [{}] if what == "import" else host.counts
    host.admin_is_dead = what == "admin"
    with pytest.raises(LastroError) as raised:
        host.run("configured")
    assert host.ran == (["validate"] if what == "validate" else ["validate", "reload"])
    assert (host.site.read_text(encoding="utf-8") if host.site.exists() else None) == existing
    assert list(host.site.parent.iterdir()) == ([] if existing is None else [host.site])
    assert not (host.flags / "configured").exists()
    assert raised.value.message == f"Caddy does not take the site of app: {problem.format(site=host.site)}"
    assert raised.value.remedy.en.startswith("The site before it is in place again. ")
    assert raised.value.remedy.pt_BR.startswith("O site anterior está no lugar de novo. ")
    assert remedy.format(directory=host.site.parent) in raised.value.remedy.en
    # It is not forgotten that Caddy has not been told.
    host.fails, host.counts, host.admin_is_dead = {}, [{"127.0.0.1:9101": 0}], False
    assert host.run("configured")["reloaded"]


def test_only_a_good_token_passes(host: Host) -> None:
    tester = host.base / "tester"
    tester.write_text(TOKEN + "\n", encoding="utf-8")
    told = host.run("configured", tester_token_file=str(tester))
    assert TOKEN not in json.dumps(told)
    assert [path.name for path in (host.flags / "testers").iterdir()] == [TOKEN]
    assert host.run("configured", tester_token_file=str(tester))["changed"] is False
    assert host.run("configured", tester_token_file="")["changed"] is False
    assert [path.name for path in (host.flags / "testers").iterdir()] == [TOKEN]
    # One that is no good lets nobody pass, changes no site and is not told.
    tester.write_text("../secret", encoding="utf-8")
    for write in (False, True):
        with pytest.raises(LastroError, match="must hold 32 to 128 letters") as raised:
            host.run("configured", tester_token_file=str(tester), site="site 2\n", write=write)
        assert "secret" not in json.dumps(raised.value.as_result())
        assert bool(list((host.flags / "testers").iterdir())) is not write
    assert host.site.read_text(encoding="utf-8") == "site 1\n"
    assert host.ran == []


def test_maintenance_shuts_the_door_and_then_waits(host: Host) -> None:
    host.run("configured")
    host.counts = [{"10.0.0.1:8001": 2, "10.0.0.1:8002": 1, "10.0.0.9:8001": 5}, {"10.0.0.1:8001": 1}, {"10.0.0.1:8001": 0, "10.0.0.9:8001": 5}]
    on = host.run("maintenance_on", reason="moving", until="22:30")
    assert (on["changed"], on["in_flight"]) == (True, 0)
    assert host.time == pytest.approx(2 * _caddy.POLL_SECONDS)
    flag = host.flags / "maintenance.flag"
    assert json.loads(flag.read_bytes()) == {"run_id": "run-1", "by": "ci", "message": "moving", "until": "22:30", "since": "2026-11-21T22:10:04Z"}
    assert host.run("maintenance_on", reason="other") == {"changed": False, "diff": [], "in_flight": 0}
    stays = host.run("maintenance_off", run_id="run-2")
    assert (stays["changed"], stays["maintenance"]["run_id"]) == (False, "run-1")
    for write in (False, True):
        off = host.run("maintenance_off", write=write)
        assert (off["changed"], off["maintenance"]) == (True, {})
        assert flag.exists() is not write
    # The door is shut whether or not the admin API answers; that it does not is told.
    host.admin_is_dead = True
    with pytest.raises(LastroError, match="does not answer"):
        host.run("maintenance_on")
    assert flag.exists()


def test_waiting_ends(host: Host) -> None:
    host.counts = [{"10.0.0.1:8001": 3, "10.0.0.1:8002": 1}]
    assert host.run("drained", seconds=2.0) == {"changed": False, "in_flight": 3}
    assert 2.0 <= host.time < 2.0 + 2 * _caddy.POLL_SECONDS
    before = host.time
    assert host.run("drained", seconds=0.0)["in_flight"] == 3
    # In check mode nobody waits.
    assert host.run("drained", write=False)["in_flight"] == 3
    assert host.run("maintenance_on", write=False)["in_flight"] == 4
    assert host.time == before
    # Both slots at one address are one upstream.
    same = [{"host": "app1", "address": "10.0.0.1", "ports": {"blue": 8001, "green": 8001}, "loopback_port": 9101}]
    assert host.run("maintenance_on", write=False, upstreams=same)["in_flight"] == 3
    # What Caddy does not have is idle.
    assert host.run("drained", address="10.0.0.1:1")["in_flight"] == 0


def test_reloaded(host: Host) -> None:
    assert host.run("reloaded", write=False) == host.run("reloaded") == {"changed": True, "reloaded": True}
    assert host.ran == ["reload"]
    host.fails = {"reload": Finished(1, "broken")}
    with pytest.raises(LastroError, match="Caddy does not reload: broken Read what Caddy says"):
        host.run("reloaded")


@pytest.mark.parametrize(
    ("status", "body", "counts"),
    [
        (200, b"null", {}),
        (200, b"[]", {}),
        (200, b'[{"address": "a:1", "num_requests": 2}, {"address": "b:1", "num_requests": 1}, {"address": "a:1", "num_requests": 1}]', {"a:1": 3, "b:1": 1}),
        (200, b'{"error": "x"}', None),
        (200, b"[{}]", None),
        (200, b'[{"address": "a:1", "num_requests": null}]', None),
        (200, b"<html>", None),
        (200, b"\xff", None),
        (200, b"", None),
        (403, b"[]", None),
    ],
)
def test_no_answer_is_no_zero(status: int, body: bytes, counts: dict[str, int] | None) -> None:
    if counts is not None:
        assert _caddy.upstreams("http://127.0.0.1:2019", lambda _admin, _path: (status, body)) == counts
        return
    with pytest.raises(LastroError, match=f"answers {status} and no list of upstreams"):
        _caddy.upstreams("http://127.0.0.1:2019", lambda _admin, _path: (status, body))


@pytest.mark.parametrize(
    ("admin", "reason"),
    [
        ("http://user:secret@127.0.0.1:1", "Connection refused"),
        ("http://127.0.0.1:1/prefix/", "Connection refused"),
        ("unix//no/such.sock", "No such file or directory"),
        ("unix//no/such.sock|0220", "No such file or directory"),
        ("localhost:2019", "no address of an admin API"),
        ("http://", "no address of an admin API"),
        ("http://127.0.0.1:x", "x"),
        ("", "no address of an admin API"),
    ],
)
def test_an_admin_api_that_is_not_there(admin: str, reason: str) -> None:
    with pytest.raises(LastroError, match="does not answer: ") as raised:
        _caddy.upstreams(admin, _caddy.ask_admin)
    assert reason in raised.value.message
    assert "secret" not in raised.value.message


class Garbage(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        self.request.recv(65536)
        well_formed = str(self.server.server_address).endswith("good")
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnull" if well_formed else b"what?\r\n")


@pytest.mark.parametrize("kind", ["good", "bad"])
def test_an_admin_api_on_a_socket(tmp_path: Path, kind: str) -> None:
    with socketserver.UnixStreamServer(str(tmp_path / kind), Garbage) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        if kind == "good":
            assert _caddy.ask_admin(f"unix/{tmp_path / kind}|0220", "/x") == (200, b"null")
        else:
            with pytest.raises(http.client.HTTPException):
                _caddy.ask_admin(f"unix/{tmp_path / kind}", "/x")


def test_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LASTRO_X", "it says")
    assert _caddy.run_program(["sh", "-c", "echo $LASTRO_X >&2; echo more; exit 3"]) == Finished(3, "it says")
    assert _caddy.run_program(["echo", "$LASTRO_X"]) == Finished(0, "it says")
    assert _caddy.run_program(["false"]) == Finished(1, "exit status 1")
    assert _caddy.run_program(["/no/such/caddy"]) == Finished(127, "/no/such/caddy does not start: No such file or directory")
    assert _caddy.run_program([]).status == 127
    assert len(_caddy.run_program(["sh", "-c", "seq 100000 >&2; exit 1"]).said) == _caddy.SAID_LIMIT
    monkeypatch.setattr(_caddy, "PROGRAM_SECONDS", 0.1)
    assert _caddy.run_program(["sleep", "60"]) == Finished(124, "sleep has not ended within 0.1 s")


def test_the_module_itself(host: Host, call_module: CallModule) -> None:
    host.flags.mkdir(parents=True)
    common = {"state_dir": str(host.base / "state"), "host": "app1"}
    assert call_module(caddy_module, state="switched", slot="green", check=True, **common)["changed"]
    assert list(host.flags.iterdir()) == []
    assert [call_module(caddy_module, state="switched", slot="green", **common)["changed"] for _round in range(2)] == [True, False]
    assert [path.name for path in host.flags.iterdir()] == ["app1.green"]
    shutil.rmtree(host.flags)
    failed = call_module(caddy_module, state="switched", slot="green", **common)
    assert (failed["failed"], set(failed["remedy"])) == (True, {"en", "pt_BR"})
    assert call_module(caddy_module, state="reloaded", caddy={"reload": ["true"]}) | {"invocation": 0} == {"changed": True, "reloaded": True, "invocation": 0}
    assert call_module(caddy_module, state="drained", address="a:1", caddy={"admin": "unix//no/such"})["problem"].startswith(
        "Caddy's admin API at unix//no/such"
    )
    for state in ("configured", "switched", "maintenance_on", "maintenance_off"):
        assert "state_dir" in call_module(caddy_module, state=state)["msg"]
