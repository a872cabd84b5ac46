# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A release of calendar-api as a process, and its migrations as another: what the tests of the application stand on."""

from __future__ import annotations

import base64
import collections.abc
import contextlib
import dataclasses
import os
import re
import subprocess
import time
import typing as t
from pathlib import Path

import psycopg2
import requests
from demo.postgres import free_port

KEY = bytes(range(32))
CLIENT = {"GOOGLE_CLIENT_ID": "calendar", "GOOGLE_CLIENT_SECRET": "an-example-secret"}
DEADLINE = 30.0


def rows(database: str, query: str, *values: object) -> list[tuple[t.Any, ...]]:
    connection = psycopg2.connect(database)
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            cursor.execute(query, values)
            return cursor.fetchall() if cursor.description else []
    finally:
        connection.close()


@dataclasses.dataclass(frozen=True)
class Application:
    """The releases and what they need, around one database."""

    python: Path
    releases: Path
    database: str
    redis_url: str
    oauth: str

    def environment(self, release: str, **changes: str) -> dict[str, str]:
        return {
            "PATH": os.defpath,
            "PYTHONDONTWRITEBYTECODE": "1",
            "DATABASE_URL": self.database,
            "REDIS_URL": self.redis_url,
            "SECRET_KEY": "a-secret-of-the-tests-and-of-nothing-else",
            "OAUTH_BASE_URL": self.oauth,
            "TOKEN_ENCRYPTION_KEY": base64.urlsafe_b64encode(KEY).decode(),
            "DEPLOY_RELEASE": release,
            **CLIENT,
            **changes,
        }

    def alembic(self, release: str, *arguments: str, check: bool = True, **environment: str) -> str:
        """Standard output and error of run_alembic.py, from a directory that is not the project's."""
        command = [str(self.python), str(self.releases / release / "migrations" / "run_alembic.py"), *arguments]
        variables = {"PATH": os.defpath, "PYTHONDONTWRITEBYTECODE": "1", "DATABASE_URL": self.database, **environment}
        finished = subprocess.run(command, cwd="/", env=variables, capture_output=True, text=True, check=False)
        output = finished.stdout + finished.stderr
        assert (finished.returncode == 0) == check, output
        return output

    def revision(self) -> str:
        return str(rows(self.database, "SELECT version_num FROM alembic_version")[0][0])

    @contextlib.contextmanager
    def serve(self, release: str, **changes: str) -> collections.abc.Iterator[Service]:
        """A release that answers /health, ended by SIGTERM at the end; its log must hold no token."""
        port = free_port()
        command = [str(self.python), "-m", "gunicorn", "calendar_api:app"]
        log = self.releases / f"{release}-{port}.log"
        with (
            log.open("w", encoding="utf-8") as output,
            subprocess.Popen(
                command, cwd=self.releases / release, env=self.environment(release, PORT=str(port), **changes), stdout=output, stderr=output
            ) as process,
        ):
            service = Service(release, f"http://127.0.0.1:{port}", process, log)
            try:
                service.wait()
                yield service
            finally:
                process.terminate()
                assert process.wait(DEADLINE) == 0, log.read_text(encoding="utf-8")
        assert not re.search(r"calendar\.[\w-]{43}\.", log.read_text(encoding="utf-8"))


@dataclasses.dataclass(frozen=True)
class Service:
    """A running release."""

    release: str
    base: str
    process: subprocess.Popen[bytes]
    log: Path

    def wait(self) -> None:
        def answers() -> bool:
            assert self.process.poll() is None, self.log.read_text(encoding="utf-8")
            with contextlib.suppress(requests.ConnectionError):
                return requests.get(self.base + "/health", timeout=5).status_code == 200
            return False

        eventually(answers)

    def ask(self, path: str, status: int = 200, *, method: str = "GET", **keywords: t.Any) -> t.Any:  # noqa: ANN401 - whatever requests takes and JSON is
        """The JSON of an answer, which must have *status* and this release's header."""
        answer = requests.request(method, self.base + path, timeout=DEADLINE, **keywords)
        assert (answer.status_code, answer.headers["X-Release"]) == (status, self.release), answer.text
        return answer.json()

    def book(self, slot: str, user_id: object = 1) -> int:
        return requests.post(self.base + "/api/bookings", json={"user_id": user_id, "slot": slot}, timeout=DEADLINE).status_code


def eventually(condition: collections.abc.Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


__all__ = ("CLIENT", "DEADLINE", "KEY", "Application", "Service", "eventually", "rows")
