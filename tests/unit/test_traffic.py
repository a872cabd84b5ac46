# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo's traffic client against a small server that answers well, badly, or not at all."""

from __future__ import annotations

import asyncio
import collections.abc
import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import types
import typing as t
from pathlib import Path

import pytest
from demo import traffic

ROOT = Path(__file__).resolve().parents[2]
OK = b"HTTP/1.1 200 OK\r\nX-Release: r1\r\nContent-Length: 2\r\n\r\nok"


@dataclasses.dataclass
class Server:
    """A server that gives *answer* to every request; it counts connections and keeps what it was asked."""

    port: int
    connections: int = 0
    asked: list[bytes] = dataclasses.field(default_factory=list)
    answer: bytes | None = OK
    """None: never answers."""
    closes: bool = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next((int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")), 0)
                self.asked.append(head + await reader.readexactly(length))
                if self.answer is None:
                    await reader.read()
                    return
                writer.write(self.answer)
                await writer.drain()
                if self.closes or b"Connection: close" in head:
                    return
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()


@pytest.fixture
def server() -> collections.abc.Iterator[Server]:
    """Runs in a loop and thread of its own."""
    loop = asyncio.new_event_loop()
    listener = socket.create_server(("127.0.0.1", 0))
    made = Server(port=listener.getsockname()[1])
    ready = threading.Event()

    async def run(stop: asyncio.Event) -> None:
        service = await asyncio.start_server(made.serve, sock=listener)
        ready.set()
        await stop.wait()
        service.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    stop = asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(run(stop),))
    thread.start()
    assert ready.wait(60)
    yield made
    loop.call_soon_threadsafe(stop.set)
    thread.join()
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


def run_client(server: Server, requests: int = 20, **settings: object) -> list[traffic.Record]:
    """The records of *requests* requests, sent quickly."""
    kept: list[traffic.Record] = []
    values: dict[str, t.Any] = {"host": "127.0.0.1", "port": server.port, "rate": 400.0, "seconds": requests / 400, "timeout": 5.0, **settings}
    chosen = traffic.Settings(**values)
    asyncio.run(traffic.Client(chosen, kept.append).run(lambda: False))
    return kept


@pytest.fixture
def steady(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where this machine stands still, time does too: the requests that were due meanwhile are not sent all at once, each on a connection of its own."""
    real = shown = time.monotonic()

    def monotonic() -> float:
        nonlocal real, shown
        before, real = real, time.monotonic()
        shown += min(real - before, 0.005)
        return shown

    monkeypatch.setattr(traffic, "time", types.SimpleNamespace(time=time.time, monotonic=monotonic))


@pytest.mark.usefixtures("steady")
def test_every_request_is_sent_and_kept(server: Server) -> None:
    records = run_client(server, 200)
    assert len(records) == len(server.asked) == 200
    assert {record.kind for record in records} == set(traffic.MIX)
    assert all((record.status, record.release, record.error, record.failed) == (200, "r1", "", False) for record in records)
    by_client = traffic.summarise(records)["by_client"]
    assert min(by_client.values()) > 60
    # The ones without a kept connection opened one each; the others shared a few.
    assert by_client["new"] < server.connections < by_client["new"] + by_client["keep-alive"] / 2


def test_bookings_ask_for_slots_of_their_own(server: Server) -> None:
    server.answer = b"HTTP/1.1 201 Created\r\nX-Release: r2\r\nContent-Length: 0\r\n\r\n"
    records = run_client(server, 30, mix={"bookings": 1}, users=7)
    bodies = [json.loads(asked.partition(b"\r\n\r\n")[2]) for asked in server.asked]
    assert all(asked.startswith(b"POST /api/bookings HTTP/1.1\r\n") for asked in server.asked)
    assert {body["slot"] for body in bodies} == {record.slot for record in records} == set(traffic.summarise(records)["posted"])
    assert len({body["slot"] for body in bodies}) == 30
    assert {body["user_id"] for body in bodies} <= set(range(1, 8))


@pytest.mark.usefixtures("steady")
def test_chunked_answers_keep_the_connection(server: Server) -> None:
    server.answer = b"HTTP/1.1 200 OK\r\nX-Release: r1\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nTrailer: 1\r\n\r\n"
    records = run_client(server, 40)
    assert not any(record.failed for record in records)
    assert server.connections < 40


def test_an_answer_that_ends_with_its_connection_is_whole(server: Server) -> None:
    server.answer, server.closes = b"HTTP/1.1 404 Not Found\r\nX-Release: r1\r\n\r\nnothing here", True
    records = run_client(server)
    assert {(record.status, record.error, record.failed) for record in records} == {(404, "", False)}


@pytest.mark.parametrize(
    ("answer", "status", "error"),
    [
        (b"HTTP/1.1 500 Internal Server Error\r\nX-Release: r3\r\nContent-Length: 0\r\n\r\n", 500, ""),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\ntorn", 0, "closed"),
        (b"", 0, "closed"),
        (b"hello\r\n\r\n", 0, "protocol"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 0, "protocol"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 2 * traffic.MOST_HEADER_BYTES, 0, "protocol"),
    ],
)
def test_bad_answers_are_failures(server: Server, answer: bytes, status: int, error: str) -> None:
    server.answer, server.closes = answer, status == 0
    records = run_client(server)
    assert len(records) == 20
    assert {(record.status, record.error, record.failed) for record in records} == {(status, error, True)}


def test_no_answer_is_a_timeout(server: Server) -> None:
    server.answer = None
    records = run_client(server, 5, timeout=0.2)
    assert {record.error for record in records} == {"timeout"}
    assert all(record.ms >= 190 for record in records)


def test_a_service_that_stands_still_does_not_collect_requests_without_end(server: Server) -> None:
    server.answer = None
    records = run_client(server, 40, timeout=3.0, most_in_flight=10)
    assert [record.error for record in records].count("overload") == 30
    assert len(server.asked) == 10


def test_nobody_listening_is_a_connect_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        closed = probe.getsockname()[1]
    records = run_client(Server(port=closed), 5)
    assert {(record.error, record.status) for record in records} == {("connect", 0)}


def test_a_connection_closed_while_idle_is_a_loss_that_is_seen(server: Server) -> None:
    """Nothing is tried again in silence: the demo's claim is about exactly these."""
    server.closes = True
    records = run_client(server, 100)
    # The server never says that it closes, and may do so before or after the client takes the connection again.
    assert {record.error for record in records if record.client == "new"} == {""}
    assert {record.error for record in records} == {"", "closed"}


def record(start: float, **fields: object) -> traffic.Record:
    values = {"kind": "health", "client": "new", "status": 200, "release": "r1", "error": "", "ms": 1.0, **fields}
    return traffic.Record(start=start, **values)  # type: ignore[arg-type]


def test_summary() -> None:
    records = [record(float(number), ms=float(number)) for number in range(1, 101)]
    records += [record(200, status=500, release="r3"), record(150, status=0, release="", error="timeout", ms=9999), record(300, status=201, slot="s1")]
    summary = traffic.summarise(records, since=1, until=300)
    assert (summary["requests"], summary["failed"]) == (102, 2)
    assert summary["by_status"] == {"0": 1, "200": 100, "500": 1}
    assert summary["by_release"] == {"": 1, "r1": 100, "r3": 1}
    assert summary["failed_by_release"] == {"": 1, "r3": 1}
    assert summary["failed_by_status"] == {"0": 1, "500": 1}
    assert summary["by_error"] == {"timeout": 1}
    assert summary["first_failure"]["start"] == 150
    assert (summary["p50_ms"], summary["p95_ms"], summary["p99_ms"]) == (50, 95, 99)
    assert summary["posted"] == []
    assert traffic.summarise(records)["posted"] == ["s1"]


def test_summary_of_nothing() -> None:
    summary = traffic.summarise([])
    assert (summary["requests"], summary["first_failure"], summary["p99_ms"], summary["posted"]) == (0, None, None, [])


def test_a_torn_line_is_left_out(tmp_path: Path) -> None:
    output = tmp_path / "traffic.jsonl"
    line = json.dumps(dataclasses.asdict(record(1.0)))
    output.write_text(f"{line}\n{line[:20]}", encoding="utf-8")
    assert traffic.read_records(output) == [record(1.0)]


@pytest.mark.parametrize(
    "url", ["http://192.0.2.1:80", "http://example.org", "https://127.0.0.1", "http://[::1]:80", "ftp://127.0.0.1", "http://128.0.0.1", "127.0.0.1:80"]
)
def test_only_this_machine_is_loaded(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        traffic.main(["--url", url, "--output", str(tmp_path / "x")])
    assert exit_info.value.code == 2
    assert not list(tmp_path.iterdir())
    assert "usage" in capsys.readouterr().err


@pytest.mark.parametrize("option", [["--rate", "0"], ["--rate", "1e9"], ["--mix", "other=1"], ["--mix", "health=0"], ["--mix", "health=-1"]])
def test_bad_options(option: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        traffic.main(["--url", "http://localhost:1", "--output", str(tmp_path / "x"), *option])
    assert "error" in capsys.readouterr().err


def test_ends_by_itself(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "traffic.jsonl"
    assert traffic.main(["--url", server.url, "--output", str(output), "--rate", "100", "--seconds", "0.3", "--mix", "health=1"]) == 0
    summary = json.loads((tmp_path / "traffic.jsonl.summary.json").read_text(encoding="utf-8"))
    assert json.loads(capsys.readouterr().out) == summary == json.loads(json.dumps(traffic.summarise(traffic.read_records(output))))
    assert summary["requests"] == 30


@pytest.mark.parametrize("way", ["stop file", "SIGTERM", "SIGINT"])
def test_ends_when_told(way: str, server: Server, tmp_path: Path) -> None:
    output, stop_file = tmp_path / "traffic.jsonl", tmp_path / "stop"
    command = [sys.executable, "-m", "demo.traffic", "--url", server.url, "--output", str(output), "--stop-file", str(stop_file), "--seconds", "60"]
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT / "examples")}, stdout=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while not server.asked:
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.01)
        if way == "stop file":
            stop_file.touch()
        else:
            process.send_signal(signal.Signals[way])
        out, _err = process.communicate(timeout=60)
    assert process.returncode == 0
    summary = json.loads(out)
    assert summary["requests"] == len(server.asked) > 0
    assert summary["failed"] == 0
