# SPDX-License-Identifier: GPL-3.0-or-later
"""Stores to upload to: rclone's S3 server, moto's, and a way to either that damages bytes or is cut."""

from __future__ import annotations

import collections.abc
import contextlib
import dataclasses
import secrets
import socket
import subprocess
import sys
import threading
import time
import typing as t
import urllib.error
import urllib.request
from pathlib import Path

from demo.postgres import free_port

# Of this process alone: another lane's server, which may show its own in `ps`, is not taken for a leak.
ACCESS_KEY = f"AK{secrets.token_hex(8)}"
SECRET_KEY = secrets.token_hex(16)
BUCKET = "backups"
PROGRAMS = Path(sys.executable).parent


@dataclasses.dataclass(frozen=True)
class S3:
    """A store that speaks S3 at *port* of this machine."""

    port: int

    def config(self, **changed: str) -> dict[str, str]:
        """Settings for rclone."""
        settings = {"type": "s3", "provider": "Other", "region": "us-east-1", "endpoint": f"http://127.0.0.1:{self.port}", "force_path_style": "true"}
        return {**settings, "access_key_id": ACCESS_KEY, "secret_access_key": SECRET_KEY, **changed}

    def upload(self, **changed: t.Any) -> dict[str, t.Any]:  # noqa: ANN401 - any option of upload
        """The option ``upload`` of the module."""
        return {"remote": "offsite", "path": f"{BUCKET}/app", "config": self.config(), "timeout": 20, **changed}

    def rclone(self, *arguments: str) -> bytes:
        """What rclone, which knows nothing of ours, says of this store."""
        settings = {f"RCLONE_CONFIG_SEEN_{name.upper()}": value for name, value in self.config().items()}
        command = [str(PROGRAMS / "rclone"), *arguments, "--retries", "1"]
        return subprocess.run(command, env={"RCLONE_CONFIG": "/dev/null", **settings}, capture_output=True, check=True, timeout=120).stdout

    def names(self, directory: str = f"{BUCKET}/app") -> list[str]:
        """What is there."""
        return sorted(self.rclone("lsf", f"seen:{directory}").decode().split())

    def content(self, name: str, directory: str = f"{BUCKET}/app") -> bytes:
        """What the store gives for a file."""
        return self.rclone("cat", f"seen:{directory}/{name}")

    def put(self, name: str, content: bytes, source: Path, directory: str = f"{BUCKET}/app") -> None:
        """Put a file there behind our back."""
        source.write_bytes(content)
        self.rclone("copyto", "--ignore-times", "--s3-no-check-bucket", str(source), f"seen:{directory}/{name}")


def await_answer(port: int, process: subprocess.Popen[bytes], seconds: float = 60) -> None:
    """Wait until *process* takes connections at *port*."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        assert process.poll() is None, f"{process.args!r} ended"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise AssertionError(f"nothing answers at port {port}")


@contextlib.contextmanager
def running(command: list[str], port: int) -> collections.abc.Iterator[subprocess.Popen[bytes]]:
    """A server until the end of the block."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        await_answer(port, process)
        yield process
    finally:
        process.kill()
        process.wait()


def s3_command(directory: Path, port: int) -> list[str]:
    """rclone's S3 server over *directory*, which refuses other credentials than ours, and does not show them as it runs."""
    (directory / BUCKET).mkdir(parents=True, exist_ok=True)
    keys = f'RCLONE_AUTH_KEY="{ACCESS_KEY},{SECRET_KEY}"'
    return ["env", keys, str(PROGRAMS / "rclone"), "serve", "s3", "--config", "/dev/null", "--addr", f"127.0.0.1:{port}", str(directory)]


@contextlib.contextmanager
def rclone_s3(directory: Path) -> collections.abc.Iterator[S3]:
    """rclone's S3 server with an empty bucket."""
    port = free_port()
    with running(s3_command(directory, port), port):
        yield S3(port)


@dataclasses.dataclass(frozen=True)
class Sftp(S3):
    """A store that speaks SFTP, and so can give a file another name."""

    def config(self, **changed: str) -> dict[str, str]:
        """Settings for rclone."""
        hidden = subprocess.run([str(PROGRAMS / "rclone"), "obscure", SECRET_KEY], capture_output=True, text=True, check=True).stdout.strip()
        return {"type": "sftp", "host": "127.0.0.1", "port": str(self.port), "user": "lastro", "pass": hidden, "shell_type": "none", **changed}


def sftp_command(directory: Path, port: int) -> list[str]:
    """rclone's SFTP server over *directory*."""
    (directory / BUCKET).mkdir(parents=True, exist_ok=True)
    login = ["--user", "lastro", "--pass", SECRET_KEY]
    return [str(PROGRAMS / "rclone"), "serve", "sftp", "--config", "/dev/null", *login, "--addr", f"127.0.0.1:{port}", str(directory)]


@contextlib.contextmanager
def moto_s3() -> collections.abc.Iterator[S3]:
    """moto's S3 server with an empty bucket. It takes any credentials."""
    port = free_port()
    with running([str(PROGRAMS / "moto_server"), "-H", "127.0.0.1", "-p", str(port)], port):
        request = urllib.request.Request(f"http://127.0.0.1:{port}/{BUCKET}", method="PUT")
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert answer.status == 200
        yield S3(port)


class Way:
    """A TCP proxy before a store: it may flip a bit of what passes, stall, or be cut after so many bytes."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._open: list[socket.socket] = []
        self._lock = threading.Lock()
        self.reset()
        threading.Thread(target=self._accept, daemon=True).start()

    def reset(self) -> None:
        """Pass everything as it is."""
        self.flip_down: tuple[bytes, ...] = ()
        self.flip_up: tuple[bytes, ...] = ()
        self.at_cut: collections.abc.Callable[[], object] = self.cut_now
        self.cut_after = 0
        self.silent_after = 0
        self.passed = 0
        self.flipped = 0
        self.cut = False

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near = self._listener.accept()[0]
                if self.cut:
                    near.close()
                    continue
                try:
                    far = socket.create_connection(("127.0.0.1", self._target), 5)
                except OSError:
                    near.close()
                    continue
                with self._lock:
                    self._open += [near, far]
                for source, sink, up in ((near, far, True), (far, near, False)):
                    threading.Thread(target=self._pass, args=(source, sink, up), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, up: bool) -> None:
        with contextlib.suppress(OSError), source:
            while data := source.recv(16384):
                self.passed += len(data)
                if self.cut_after and self.passed > self.cut_after:
                    self.cut_after = 0
                    self.at_cut()
                while self.silent_after and self.passed > self.silent_after:
                    time.sleep(0.05)  # a network that swallows everything: there is nothing to wait for but the test's end
                sink.sendall(self._changed(data, self.flip_up if up else self.flip_down))
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)  # the other direction ends too, and closes it

    def _changed(self, data: bytes, marks: tuple[bytes, ...]) -> bytes:
        """*data* with one bit flipped in each of the *marks* that it holds."""
        for mark in marks:
            where = data.find(mark)
            if where >= 0:
                self.flipped += 1
                data = data[:where] + bytes([data[where] ^ 1]) + data[where + 1 :]
        return data

    def cut_now(self) -> None:
        """Drop every connection, and take no other one."""
        self.cut = True
        with self._lock:
            for one in self._open:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
            self._open.clear()

    def close(self) -> None:
        """Stop."""
        self.reset()
        self.cut_now()
        self._listener.close()


@contextlib.contextmanager
def way_to(store: S3) -> collections.abc.Iterator[tuple[Way, S3]]:
    """A way to *store*, and the store as it is seen over that way."""
    way = Way(store.port)
    try:
        yield way, dataclasses.replace(store, port=way.port)
    finally:
        way.close()
