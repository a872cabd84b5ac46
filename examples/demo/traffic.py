# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Constant requests to calendar-api while it is deployed: what its users would have seen.

An open model: requests start at their times, however long the earlier ones take. Half of the clients keep their
connections open, half open one for each request. Nothing is tried twice, so each loss is seen.

    python -m demo.traffic --url http://127.0.0.1:8080 --rate 100 --output traffic.jsonl --stop-file stop

Each request becomes a line of JSON in the output (see ``Record``). SIGTERM, SIGINT, the stop file or ``--seconds`` ends
it: requests in flight are waited for, then OUTPUT.summary.json is written and printed (see ``summarise``).
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import collections.abc
import contextlib
import dataclasses
import ipaddress
import json
import os
import random
import resource
import secrets
import signal
import ssl
import sys
import time
import typing as t
import weakref
from pathlib import Path
from urllib.parse import urlsplit

MOST_HEADER_BYTES = 64 * 1024
MIX = {"schedule": 4, "health": 2, "token-check": 2, "bookings": 2}
DAY = "2030-01-01"
"""The day on which all bookings of this client lie."""


@dataclasses.dataclass(frozen=True)
class Record:
    """One request. *start* is Unix time in seconds, *ms* the milliseconds from then to the last byte (or to the failure).

    *client* is ``keep-alive`` or ``new``. *status* is 0 and *error* a class (connect, timeout, closed, protocol, overload)
    where no whole answer came. *slot* is the one that a booking asked for.
    """

    start: float
    kind: str
    client: str
    status: int
    release: str
    error: str
    ms: float
    slot: str = ""

    @property
    def failed(self) -> bool:
        """No whole answer, or one of 500 and above."""
        return bool(self.error) or self.status >= 500


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to send where. *rate* in requests a second; *timeout* and *seconds* (the longest run) in seconds.

    With *tls* it is HTTPS, and *name* (default: *host*) is whom the certificate must be for and the request's Host.
    """

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    name: str = ""
    rate: float = 100.0
    seconds: float = 900.0
    timeout: float = 10.0
    users: int = 50_000
    seed: int = 0
    mix: t.Mapping[str, int] = dataclasses.field(default_factory=lambda: dict(MIX))
    most_in_flight: int = 1000


class RequestError(Exception):
    """Why no whole answer came, as one of the error classes of ``Record``."""


@dataclasses.dataclass(frozen=True)
class Answer:
    """The parts of an answer that are looked at, and whether its connection may be used again."""

    status: int
    release: str
    reusable: bool


@dataclasses.dataclass(eq=False)
class Connection:
    """One connection to the service."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @classmethod
    async def open(cls, settings: Settings) -> Connection:
        """Raises RequestError."""
        secured: dict[str, t.Any] = {"ssl": settings.tls, "server_hostname": settings.name or settings.host} if settings.tls else {}
        try:
            return cls(*await asyncio.open_connection(settings.host, settings.port, limit=MOST_HEADER_BYTES, **secured))
        except OSError as error:
            raise RequestError("connect") from error

    async def ask(self, request: bytes) -> Answer:
        """Send *request* and read the whole answer. Raises RequestError."""
        try:
            self.writer.write(request)
            await self.writer.drain()
            return await self._answer()
        except (asyncio.IncompleteReadError, OSError) as error:
            raise RequestError("closed") from error
        except (asyncio.LimitOverrunError, ValueError, IndexError) as error:
            raise RequestError("protocol") from error

    async def _answer(self) -> Answer:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        version, status = head[0].split(" ")[:2]
        headers = {name.strip().lower(): value.strip() for name, _colon, value in (line.partition(":") for line in head[1:] if line)}
        keeps = version == "HTTP/1.1" and headers.get("connection", "").lower() != "close"
        if headers.get("transfer-encoding", "").lower() == "chunked":
            await self._chunks()
        elif "content-length" in headers:
            await self.reader.readexactly(int(headers["content-length"]))
        elif int(status) not in (204, 304):
            keeps = False
            await self.reader.read()
        return Answer(status=int(status), release=headers.get("x-release", ""), reusable=keeps)

    async def _chunks(self) -> None:
        while size := int((await self.reader.readuntil(b"\r\n")).split(b";")[0], 16):
            await self.reader.readexactly(size + 2)
        while await self.reader.readuntil(b"\r\n") != b"\r\n":
            pass

    def close(self) -> None:
        """Close without waiting for the other side."""
        self.writer.close()

    def drop(self) -> None:
        """Close at once, whatever the other side does."""
        self.writer.transport.abort()


class Client:
    """Sends the mix of requests and hands a Record of each to *keep*."""

    def __init__(self, settings: Settings, keep: t.Callable[[Record], None]) -> None:
        self._settings = settings
        self._keep = keep
        self._random = random.Random(settings.seed)
        # First in, first out: each kept connection is used every few seconds, so that none grows too old.
        self._idle: collections.deque[Connection] = collections.deque()
        self._made: weakref.WeakSet[Connection] = weakref.WeakSet()
        self._tasks: set[asyncio.Task[None]] = set()
        self._prefix = secrets.token_hex(4)

    async def run(self, stop: t.Callable[[], bool]) -> None:
        """Send requests until *stop* says so or the longest run is over, then wait for those in flight."""
        begin = time.monotonic()
        try:
            for number in range(int(self._settings.seconds * self._settings.rate)):
                while (wait := begin + number / self._settings.rate - time.monotonic()) > 0:
                    await asyncio.sleep(min(wait, 0.1))
                    if stop():
                        return
                if stop():
                    return
                self._start(number)
        finally:
            await asyncio.gather(*self._tasks)
            # Also those that wait for a farewell of a host that is gone.
            for connection in self._made:
                connection.drop()
            await asyncio.sleep(0)

    def _start(self, number: int) -> None:
        kind = self._random.choices(list(self._settings.mix), weights=list(self._settings.mix.values()))[0]
        client = "keep-alive" if self._random.random() < 0.5 else "new"
        task = asyncio.create_task(self._one(kind, client, number))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _one(self, kind: str, client: str, number: int) -> None:
        start, clock = time.time(), time.monotonic()
        slot = f"{DAY}T{self._prefix}-{number:07d}" if kind == "bookings" else ""
        status, release, error = 0, "", ""
        try:
            if len(self._tasks) > self._settings.most_in_flight:
                raise RequestError("overload")
            async with asyncio.timeout(self._settings.timeout):
                answer = await self._exchange(self._request(kind, slot, keeps=client == "keep-alive"), keeps=client == "keep-alive")
            status, release = answer.status, answer.release
        except TimeoutError:
            error = "timeout"
        except RequestError as failure:
            error = str(failure)
        milliseconds = round((time.monotonic() - clock) * 1000, 1)
        self._keep(Record(start=round(start, 4), kind=kind, client=client, status=status, release=release, error=error, ms=milliseconds, slot=slot))

    def _request(self, kind: str, slot: str, *, keeps: bool) -> bytes:
        user = self._random.randint(1, self._settings.users)
        method, path, body = {
            "schedule": ("GET", f"/api/schedule?day={DAY}", b""),
            "health": ("GET", "/health", b""),
            "token-check": ("GET", f"/api/users/{user}/token-check", b""),
            "bookings": ("POST", "/api/bookings", json.dumps({"user_id": user, "slot": slot}).encode()),
        }[kind]
        lines = [
            f"{method} {path} HTTP/1.1",
            f"Host: {self._settings.name or self._settings.host}:{self._settings.port}",
            "User-Agent: lastro-demo",
            "Accept: */*",
        ]
        lines += [f"Connection: {'keep-alive' if keeps else 'close'}"]
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"] if body else []
        return "\r\n".join([*lines, "", ""]).encode() + body

    async def _exchange(self, request: bytes, *, keeps: bool) -> Answer:
        connection = self._idle.popleft() if keeps and self._idle else await Connection.open(self._settings)
        self._made.add(connection)
        reusable = False
        try:
            answer = await connection.ask(request)
            reusable = keeps and answer.reusable
        finally:
            if reusable:
                self._idle.append(connection)
            else:
                connection.close()
        return answer


def read_records(path: Path) -> list[Record]:
    """The records of an output file; a line torn by the end of the process is left out."""
    records = []
    for line in path.read_text(encoding="utf-8").splitlines():
        with contextlib.suppress(ValueError):
            records.append(Record(**json.loads(line)))
    return records


def summarise(records: t.Iterable[Record], *, since: float = 0.0, until: float = float("inf")) -> dict[str, t.Any]:
    """Figures of the requests that started in [since, until), Unix time in seconds.

    Keys: requests, failed, by_status, by_release, by_client, by_error, failed_by_status, failed_by_release, first_failure
    (a record or None), p50_ms, p95_ms, p99_ms (of whole answers; None without one), posted (slots that got 201).
    """
    chosen = [record for record in records if since <= record.start < until]
    failures = sorted((record for record in chosen if record.failed), key=lambda record: record.start)
    answered = sorted(record.ms for record in chosen if not record.error)

    def count(values: t.Iterable[object]) -> dict[str, int]:
        return {str(key): number for key, number in sorted(collections.Counter(values).items(), key=lambda item: str(item[0]))}

    return {
        "requests": len(chosen),
        "failed": len(failures),
        "by_status": count(record.status for record in chosen),
        "by_release": count(record.release for record in chosen),
        "by_client": count(record.client for record in chosen),
        "by_error": count(record.error for record in chosen if record.error),
        "failed_by_status": count(record.status for record in failures),
        "failed_by_release": count(record.release for record in failures),
        "first_failure": dataclasses.asdict(failures[0]) if failures else None,
        **{f"p{percent}_ms": percentile(answered, percent) for percent in (50, 95, 99)},
        "posted": [record.slot for record in chosen if record.slot and record.status == 201],
    }


def percentile(ordered: t.Sequence[float], percent: int) -> float | None:
    """The smallest of the *ordered* values that at least *percent* of them do not exceed."""
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)] if ordered else None


def parse_arguments(arguments: t.Sequence[str] | None) -> argparse.Namespace:
    """The command line; exits with 2 for an address that is not this machine's own."""
    parser = argparse.ArgumentParser(prog="python -m demo.traffic", description="Constant requests to calendar-api on this machine.")
    parser.add_argument("--url", required=True, help="http://127.0.0.1:PORT")
    parser.add_argument("--output", required=True, type=Path, help="file for a line of JSON a request; its summary lies beside it")
    parser.add_argument("--stop-file", type=Path, help="end when this file exists")
    parser.add_argument("--rate", type=float, default=100.0, help="requests a second (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=900.0, help="the longest run (default %(default)s)")
    parser.add_argument("--timeout", type=float, default=10.0, help="seconds until a request has failed (default %(default)s)")
    parser.add_argument("--users", type=int, default=50_000, help="users 1 to N exist (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="for the order of requests (default %(default)s)")
    parser.add_argument("--mix", type=_mix, default=MIX, help="weights, as in schedule=4,health=2,token-check=2,bookings=2")
    found = parser.parse_args(arguments)
    if not 0 < found.rate <= 2000:
        parser.error("--rate must be above 0 and at most 2000")
    try:
        found.host, found.port = local_address(found.url)
    except ValueError as error:
        parser.error(str(error))
    return found


def local_address(url: str) -> tuple[str, int]:
    """Host and port of *url*. Raises ValueError unless it is plain HTTP to 127.0.0.0/8."""
    parts = urlsplit(url)
    host = "127.0.0.1" if parts.hostname == "localhost" else parts.hostname or ""
    if parts.scheme != "http" or ipaddress.ip_address(host) not in ipaddress.ip_network("127.0.0.0/8"):
        raise ValueError("--url must be http:// to an address of 127.0.0.0/8: this client loads nobody else's machine")
    return host, parts.port or 80


def _mix(text: str) -> dict[str, int]:
    mix = {name: int(weight) for name, _equals, weight in (part.partition("=") for part in text.split(","))}
    if not set(mix) <= set(MIX) or min(mix.values()) < 0 or not any(mix.values()):
        raise ValueError
    return mix


async def _serve(found: argparse.Namespace, keep: t.Callable[[Record], None]) -> None:
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    settings = Settings(
        host=found.host, port=found.port, rate=found.rate, seconds=found.seconds, timeout=found.timeout, users=found.users, seed=found.seed, mix=found.mix
    )
    stop_file: Path | None = found.stop_file
    await Client(settings, keep).run(lambda: ended.is_set() or (stop_file is not None and stop_file.exists()))


def main(arguments: t.Sequence[str] | None = None) -> int:
    """Run the client; 0 also where requests failed: that is a figure, for others to judge."""
    found = parse_arguments(arguments)
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    records: list[Record] = []
    with found.output.open("w", encoding="utf-8", buffering=1) as output:

        def keep(record: Record) -> None:
            records.append(record)
            output.write(json.dumps(dataclasses.asdict(record)) + "\n")

        asyncio.run(_serve(found, keep))
    text = json.dumps(summarise(records), indent=1)
    part = found.output.with_name(f"{found.output.name}.summary.part")
    part.write_text(text + "\n", encoding="utf-8")
    os.replace(part, found.output.with_name(f"{found.output.name}.summary.json"))
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())

__all__ = ("Client", "Record", "Settings", "local_address", "main", "percentile", "read_records", "summarise")
