# SPDX-License-Identifier: GPL-3.0-or-later
"""A database of a thousand tables with five indexes each, its contract, and the module in a process of its own, measured."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
import typing as t

import psycopg2
from demo.world import ROOT

TABLES = 1000
MADE = """
DO $$ BEGIN
  FOR n IN {first} .. {last} LOOP
    EXECUTE format('CREATE TABLE t_%s (id bigint, status text, review boolean, at timestamptz, owner bigint, email text)', n);
    EXECUTE format('CREATE UNIQUE INDEX t_%s_id ON t_%s (id)', n, n);
    EXECUTE format('CREATE INDEX t_%s_status ON t_%s (status, review)', n, n);
    EXECUTE format('CREATE INDEX t_%s_at ON t_%s (at DESC NULLS LAST) INCLUDE (owner)', n, n);
    EXECUTE format('CREATE INDEX t_%s_owner ON t_%s (owner) WHERE review', n, n);
    EXECUTE format('CREATE INDEX t_%s_email ON t_%s (lower(email))', n, n);
  END LOOP;
END $$
"""
STEP = 100
"""Tables made in one transaction: each index holds a lock until its end."""

_CHILD = """
import json, pathlib, sys, time
from ansible.module_utils.testing import patch_module_args
from ansible_collections.lastro.deploy.plugins.modules import index_validation
began = time.monotonic()
with patch_module_args(json.load(sys.stdin)):
    try:
        index_validation.main()
    except SystemExit:
        pass
seconds = time.monotonic() - began
processor = time.process_time()
# getrusage would count what the process was before exec, too.
peak = next(line for line in pathlib.Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(json.dumps({"seconds": seconds, "processor": processor, "megabytes": int(peak.split()[1]) / 1024}), file=sys.stderr)
"""


def make(url: str) -> None:
    """The tables, empty as they are after a first migration."""
    with contextlib.closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            for first in range(0, TABLES, STEP):
                cursor.execute(MADE.format(first=first, last=first + STEP - 1))


def contract() -> list[dict[str, t.Any]]:
    """All five thousand, as a person writes them."""
    kinds: list[dict[str, t.Any]] = [
        {"name": "id", "columns": ["id"], "unique": True},
        {"name": "status", "columns": ["status", "review"]},
        {"name": "at", "columns": ["at DESC NULLS LAST"], "include": ["owner"]},
        {"name": "owner", "columns": ["owner"], "where": "review"},
        {"name": "email", "columns": ["lower(email)"]},
    ]
    return [{**kind, "name": f"t_{number}_{kind['name']}", "table": f"t_{number}"} for number in range(TABLES) for kind in kinds]


@dataclasses.dataclass(frozen=True)
class Measured:
    """The module's answer, the seconds that its main() took, its process's own processor time and the most memory that it had."""

    answer: dict[str, t.Any]
    seconds: float
    processor: float
    megabytes: float


def run(url: str, **options: object) -> Measured:
    """The module in a process of its own."""
    asked, environment = json.dumps({"database_url": url, **options}), {**os.environ, "PYTHONPATH": str(ROOT / "collections")}
    child = subprocess.run([sys.executable, "-c", _CHILD], input=asked, env=environment, capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stderr
    return Measured(json.loads(child.stdout), **json.loads(child.stderr.splitlines()[-1]))


class Counter:
    """Stands between a client and the server, counts the client's queries, and holds each back for *delay* seconds, as a network does."""

    def __init__(self, host: str, port: int, delay: float = 0.0) -> None:
        self.server, self.delay, self.queries = (host, port), delay, 0
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no more clients."""
        self.listening.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _address = self.listening.accept()
                server = socket.create_connection(self.server)
                for one in (client, server):
                    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._forward, args=(client, server), daemon=True).start()
                threading.Thread(target=self._back, args=(server, client), daemon=True).start()

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError, EOFError), client, server:
            # Without a type, per protocol 3.0: SSLRequest (80877103), GSSENCRequest (80877104), then the start-up itself.
            while True:
                head = _exactly(client, 8)
                size, code = struct.unpack("!II", head)
                server.sendall(head + _exactly(client, size - 8))
                if code not in (80877103, 80877104):
                    break
            while True:
                head = _exactly(client, 5)
                (size,) = struct.unpack("!I", head[1:])
                body = _exactly(client, size - 4)
                if head[:1] == b"Q":
                    self.queries += 1
                    time.sleep(self.delay)
                server.sendall(head + body)

    @staticmethod
    def _back(server: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                client.sendall(data)


def _exactly(stream: socket.socket, size: int) -> bytes:
    found = bytearray()
    while len(found) < size:
        part = stream.recv(min(65536, size - len(found)))
        if not part:
            raise EOFError
        found += part
    return bytes(found)


__all__ = ("TABLES", "Counter", "Measured", "contract", "make", "run")
