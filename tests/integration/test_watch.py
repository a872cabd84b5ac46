# SPDX-License-Identifier: GPL-3.0-or-later
"""The watch against real servers: HTTP answers, Prometheus counters, a deadlock in PostgreSQL."""

from __future__ import annotations

import collections
import collections.abc
import http.server
import json
import secrets
import stat
import threading
import typing as t
from pathlib import Path
from urllib.parse import urlsplit

import psycopg2
import psycopg2.errors
import psycopg2.sql
import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.lastro.deploy.plugins.modules import watch
from demo.postgres import free_port
from psycopg2.extensions import connection as connection_type
from psycopg2.extensions import cursor as cursor_type


class Application(http.server.ThreadingHTTPServer):
    """Answers 200 until it has answered *good* times, then 500; counts itself as applications do."""

    daemon_threads = True

    def __init__(self, good: int) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.good = good
        self.counts: collections.Counter[int] = collections.Counter()
        self.counted = threading.Condition()
        self.scrapes = 0
        self.headers: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def count(self) -> int:
        with self.counted:
            code = 200 if sum(self.counts.values()) < self.good else 500
            self.counts[code] += 1
            self.counted.notify_all()
            return code

    def metrics(self) -> str:
        """The counters, once the probe that was sent at the same moment as this scrape is in them."""
        with self.counted:
            self.scrapes += 1
            assert self.counted.wait_for(lambda: sum(self.counts.values()) >= self.scrapes, timeout=60)
            return "".join(f'http_requests_total{{status="{code}"}} {count}\n' for code, count in sorted(self.counts.items()))


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Application

    def do_GET(self) -> None:
        if self.path == "/metrics":
            self.answer(200, self.server.metrics())
            return
        self.server.headers.append(f"{self.headers['Connection']} {self.headers.get('X-Watch')}")
        self.answer(self.server.count(), "{}")

    def answer(self, code: int, body: str) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_arguments: object) -> None:
        """Keep quiet."""


@pytest.fixture
def application() -> collections.abc.Iterator[collections.abc.Callable[[int], Application]]:
    started: list[Application] = []

    def start(good: int) -> Application:
        server = Application(good)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        started.append(server)
        return server

    yield start
    for server in started:
        server.shutdown()
        server.server_close()


def call(capsys: pytest.CaptureFixture[str], arguments: dict[str, t.Any]) -> dict[str, t.Any]:
    with patch_module_args(arguments), pytest.raises(SystemExit):
        watch.main()
    result: dict[str, t.Any] = json.loads(capsys.readouterr().out)
    return result


Start = collections.abc.Callable[[int], Application]


def test_a_healthy_application_passes(application: Start, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    app = application(10**6)
    header, samples, progress = tmp_path / "header", tmp_path / "samples", tmp_path / "progress"
    header.write_text("sesame\n")
    arguments = {
        "duration": "1s",
        "interval": "100ms",
        "probes": [{"url": f"{app.url}/health", "header_files": {"X-Watch": str(header)}}],
        "metrics_urls": [f"{app.url}/metrics"],
        "samples_file": str(samples),
        "progress_file": str(progress),
        "gates": [
            {"metric": "error_rate", "op": "<=", "value": "10%"},
            {"metric": "latency_p99", "op": "<", "value": "5s"},
            {"metric": "requests", "op": ">", "value": 0},
        ],
    }
    result = call(capsys, arguments)
    assert (result["verdict"], result["action"], result["changed"]) == ("pass", "none", False)
    lines = [json.loads(line) for line in samples.read_text().splitlines()]
    assert len(lines) == result["samples"] == app.counts[200] == len(app.headers)
    assert set(app.headers) == {"close sesame"}
    # Every probe counts twice, as a probe and in the application's own counter, except the first in the latter.
    assert lines[-1]["metrics"]["requests"] == 2 * result["samples"] - 1
    assert stat.S_IMODE(samples.stat().st_mode) == 0o600
    assert json.loads(progress.read_text())["done"] == 1
    assert "sesame" not in samples.read_text() + json.dumps(result)


def test_a_failing_application_ends_the_watch(application: Start, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    app, samples = application(5), tmp_path / "samples"
    gate = {"metric": "error_rate", "op": "<=", "value": "10%", "for": "300ms"}
    arguments = {"duration": "60s", "interval": "50ms", "window": "300ms", "metrics_urls": [f"{app.url}/metrics"]}
    result = call(capsys, {**arguments, "probes": [{"url": app.url}], "gates": [gate], "samples_file": str(samples)})
    assert (result["verdict"], result["action"]) == ("fail", "rollback")
    assert result["seconds"] < 30
    assert result["gates"][0]["worst"] > 0.1
    assert app.counts[200] == 5
    # It failed for 300 ms before it was told, however many samples this machine took meanwhile.
    failing = [sample["elapsed"] for line in samples.read_text().splitlines() if ((sample := json.loads(line))["metrics"]["error_rate"] or 0) > 0.1]
    assert 0.29 <= failing[-1] - failing[0] < 30
    assert app.counts[500] >= 2


def test_nothing_listens(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    samples = tmp_path / "samples"
    probes = [{"url": f"http://127.0.0.1:{free_port()}/health"}]
    gate = {"metric": "success_rate", "op": ">=", "value": "90%"}
    result = call(capsys, {"duration": "10s", "interval": "1s", "probes": probes, "samples_file": str(samples), "gates": [gate]})
    assert (result["verdict"], result["samples"]) == ("fail", 1)
    assert "connection refused" in samples.read_text()


def test_check_mode_takes_one_sample_and_writes_nothing(application: Start, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    app = application(10)
    samples = tmp_path / "samples"
    gate = {"metric": "probe_failures", "op": "==", "value": 0}
    arguments = {"duration": "5m", "probes": [{"url": app.url}], "samples_file": str(samples), "gates": [gate], "_ansible_check_mode": True}
    result = call(capsys, arguments)
    assert (result["verdict"], result["samples"], result["samples_file"], result["changed"]) == ("pass", 1, "", False)
    assert sum(app.counts.values()) == 1
    assert not samples.exists()


def test_deadlocks_and_connections(database: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    environment = tmp_path / "env"
    environment.write_text(f'DATABASE_URL="{database}"\n')
    gates = [{"metric": "db_connection_use", "op": "<", "value": "100%"}, {"metric": "db_deadlocks_delta", "op": "==", "value": 0}]
    samples = tmp_path / "samples"
    arguments = {"duration": "60s", "interval": "100ms", "environment_file": str(environment), "gates": gates, "samples_file": str(samples)}

    def first_sample_then_deadlock() -> None:
        while not samples.exists():
            threading.Event().wait(0.01)
        make_deadlock(database)

    thread = threading.Thread(target=first_sample_then_deadlock, daemon=True)
    thread.start()
    result = call(capsys, arguments)
    thread.join()
    assert (result["verdict"], result["action"]) == ("fail", "rollback")
    use, deadlocks = result["gates"]
    assert deadlocks["worst"] == 1
    assert use["verdict"] == "pass"
    assert 1 / 100 <= use["worst"] < 0.5  # of max_connections = 100
    password = urlsplit(database).password or "?"
    assert password not in json.dumps(result) + samples.read_text()


def make_deadlock(database: str) -> None:
    """Two transactions that wait for each other; the server ends one of them."""
    one, two = psycopg2.connect(database), psycopg2.connect(database)
    with one.cursor() as first, two.cursor() as second:
        for cursor in (first, second):
            cursor.execute("SET deadlock_timeout = '10ms'")
        first.execute("SELECT pg_advisory_xact_lock(1)")
        second.execute("SELECT pg_advisory_xact_lock(2)")
        outcomes: list[str] = []

        def cross(cursor: cursor_type, key: int, connection: connection_type) -> None:
            try:
                cursor.execute("SELECT pg_advisory_xact_lock(%s)", (key,))
                outcomes.append("locked")
            except psycopg2.errors.DeadlockDetected:
                outcomes.append("deadlock")
            connection.rollback()

        threads = [threading.Thread(target=cross, args=arguments) for arguments in ((first, 2, one), (second, 1, two))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(outcomes) == ["deadlock", "locked"]
    one.close()
    two.close()


def test_an_unreachable_database_is_no_data_and_its_password_stays_secret(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    samples = tmp_path / "samples"
    arguments = {
        "duration": "400ms",
        "interval": "100ms",
        "database_url": f"postgresql://app:hunter2-long-secret@127.0.0.1:{free_port()}/app",
        "gates": [{"metric": "db_connection_use", "op": "<", "value": "80%"}],
        "samples_file": str(samples),
    }
    result = call(capsys, arguments)
    assert (result["verdict"], result["action"], result["gates"][0]["cause"]) == ("inconclusive", "consider", "no_data")
    assert "cannot be reached" in samples.read_text()
    assert "hunter2" not in samples.read_text()


def test_figures_that_the_server_refuses(database: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    samples, role = tmp_path / "samples", f"blind_{secrets.token_hex(4)}"
    password = secrets.token_hex(16)
    gate = {"metric": "db_connection_use", "op": "<", "value": "80%", "on_no_data": "fail", "min_samples": 2}
    arguments = {"duration": "10s", "interval": "50ms", "gates": [gate], "samples_file": str(samples)}
    owner = psycopg2.connect(database)
    owner.autocommit = True
    with owner.cursor() as cursor:
        cursor.execute("REVOKE SELECT ON pg_catalog.pg_stat_database FROM PUBLIC")
        cursor.execute(psycopg2.sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(psycopg2.sql.Identifier(role), psycopg2.sql.Literal(password)))
        result = call(capsys, {**arguments, "database_url": f"postgresql://{role}:{password}@{database.split('@')[1]}"})
        cursor.execute(psycopg2.sql.SQL("DROP ROLE {}").format(psycopg2.sql.Identifier(role)))
    owner.close()
    # Three samples without a value are borne, the fourth is one too many.
    assert (result["verdict"], result["action"], result["samples"]) == ("fail", "rollback", 4)
    assert "gives no statistics: permission denied" in samples.read_text()
    assert password not in samples.read_text()
