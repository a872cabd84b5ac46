# SPDX-License-Identifier: GPL-3.0-or-later
"""The example application, each release of it, as gunicorn serves it: on PostgreSQL, Valkey and the local provider."""

from __future__ import annotations

import base64
import collections
import collections.abc
import concurrent.futures
import hashlib
import io
import subprocess
import tarfile
import threading
import typing as t
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psycopg2
import psycopg2.errors
import pytest
import requests
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.lastro.deploy.plugins.module_utils import _http_check
from calendar_api import repository, seed
from calendar_api.provider import Provider, serving, well_formed
from calendar_api.running import CLIENT, DEADLINE, KEY, Application, Service, eventually, rows
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from demo.application_venv import application_venv
from demo.postgres import Postgres, free_port
from demo.valkey import Valkey

USERS = 100
SEED = 7
HEADS = {"r1": "0001", "r2": "0004", "r3": "0004", "r4": "0005", "r5": "0006"}
# Everything that a migration can change here, as rows that compare.
SCHEMA = """
    SELECT 'column', attrelid::regclass::text, attname::text, format_type(atttypid, atttypmod) || attnotnull::text || coalesce(collname, '')
      FROM pg_attribute JOIN pg_class ON attrelid = pg_class.oid LEFT JOIN pg_collation ON attcollation = pg_collation.oid
     WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND attnum > 0 AND NOT attisdropped
    UNION ALL SELECT 'index', indrelid::regclass::text, indexrelid::regclass::text, pg_get_indexdef(indexrelid) || indisvalid::text
      FROM pg_index JOIN pg_class ON indrelid = pg_class.oid WHERE relnamespace = 'public'::regnamespace
    UNION ALL SELECT 'constraint', conrelid::regclass::text, conname::text, pg_get_constraintdef(oid) FROM pg_constraint
     WHERE connamespace = 'public'::regnamespace
    ORDER BY 1, 2, 3, 4
"""


@pytest.fixture(scope="session")
def python() -> Path:
    """The interpreter of the application's own environment."""
    return application_venv(repository.HERE / "source" / "requirements.txt")


@pytest.fixture(scope="session")
def releases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with each release's files, as its tag in the repository has them."""
    base = tmp_path_factory.mktemp("calendar-api")
    repository.build_repository(base / "repository")
    for release in repository.RELEASES:
        command = ["git", "-c", "safe.directory=*", "archive", release]
        archive = subprocess.run(command, cwd=base / "repository", check=True, capture_output=True).stdout
        with tarfile.open(fileobj=io.BytesIO(archive)) as members:
            members.extractall(base / release, filter="data")
    return base


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> collections.abc.Iterator[Valkey]:
    server = Valkey.create(tmp_path_factory.mktemp("valkey") / "server")
    yield server
    server.stop()


@pytest.fixture
def application(python: Path, releases: Path, valkey: Valkey, database: str) -> collections.abc.Iterator[Application]:
    """An empty database."""
    with serving(Provider(client_id=CLIENT["GOOGLE_CLIENT_ID"], client_secret=CLIENT["GOOGLE_CLIENT_SECRET"])) as oauth:
        yield Application(python, releases, database, valkey.url, oauth)


@pytest.fixture
def seeded_r1(application: Application) -> Application:
    """r1's database with users."""
    application.alembic("r1", "upgrade", "head")
    seed.seed(application.database, USERS, bookings=10, seed=SEED)
    return application


@pytest.fixture
def seeded_r2(seeded_r1: Application) -> Application:
    """r1's data on r2's schema."""
    seeded_r1.alembic("r2", "upgrade", "head")
    return seeded_r1


def digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()[:12]


def stored(database: str, user_id: int, columns: str = "token, token_encrypted, token_nonce") -> tuple[t.Any, ...]:
    return tuple(
        bytes(value) if isinstance(value, memoryview) else value
        for value in rows(database, f"SELECT {columns} FROM credentials WHERE user_id = %s", user_id)[0]
    )


def decrypted(database: str, user_id: int) -> str:
    ciphertext, nonce = stored(database, user_id, "token_encrypted, token_nonce")
    return AESGCM(KEY).decrypt(nonce, ciphertext, None).decode()


# Migrations


def test_up_through_every_release(application: Application) -> None:
    for release in repository.RELEASES:
        application.alembic(release, "upgrade", "head")
        assert application.revision() == HEADS[release]
        # The models are what the database is.
        assert "No new upgrade operations" in application.alembic(release, "check")


def test_every_revision_goes_down_to_the_schema_that_it_came_from(application: Application) -> None:
    schemas = []
    for revision in ("0001", "0002", "0003", "0004", "0005"):
        application.alembic("r4", "upgrade", revision)
        schemas.append(rows(application.database, SCHEMA))
    for index, revision in reversed(list(enumerate(("0001", "0002", "0003", "0004")))):
        output = application.alembic("r4", "downgrade", revision)
        assert ("without its values" in output) == (revision == "0004")
        assert sorted(rows(application.database, SCHEMA)) == sorted(schemas[index])
    application.alembic("r4", "upgrade", "head")
    assert rows(application.database, SCHEMA) == schemas[-1]
    application.alembic("r4", "downgrade", "base")
    assert rows(application.database, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [(1,)]


def test_what_an_index_build_that_was_cut_off_left_is_no_obstacle(seeded_r1: Application) -> None:
    database = seeded_r1.database
    rows(database, "INSERT INTO bookings (user_id, slot) VALUES (1, 'twice'), (2, 'twice')")
    with pytest.raises(psycopg2.errors.UniqueViolation):
        rows(database, "CREATE UNIQUE INDEX CONCURRENTLY uq_bookings_slot ON bookings (slot)")
    assert rows(database, "SELECT indisvalid FROM pg_index WHERE indexrelid = 'uq_bookings_slot'::regclass") == [(False,)]
    rows(database, "DELETE FROM bookings WHERE slot = 'twice' AND user_id = 2")
    seeded_r1.alembic("r2", "upgrade", "0002")
    assert rows(database, "SELECT indisvalid FROM pg_index WHERE indexrelid = 'uq_bookings_slot'::regclass") == [(True,)]
    # Killed between the index and the note that it is there.
    rows(database, "UPDATE alembic_version SET version_num = '0001'")
    seeded_r1.alembic("r2", "upgrade", "head")
    assert seeded_r1.revision() == "0004"


def test_the_sql_of_r2_expands_only(application: Application) -> None:
    sql = application.alembic("r2", "upgrade", "0001:head", "--sql")
    assert "CREATE UNIQUE INDEX CONCURRENTLY uq_bookings_slot ON bookings (slot)" in sql
    assert "ADD CONSTRAINT uq_bookings_slot UNIQUE USING INDEX uq_bookings_slot" in sql
    assert "DROP" not in sql
    assert rows(application.database, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [(0,)]


def test_the_database_url_may_hold_percent_signs(application: Application, postgres: Postgres) -> None:
    name = urlsplit(application.database).path.lstrip("/")
    rows(application.database, "CREATE ROLE percent LOGIN SUPERUSER PASSWORD 'a%%b@c/d%%20'")
    try:
        url = postgres.url(name, user="percent", password="a%b@c/d%20")
        application.alembic("r1", "upgrade", "head", DATABASE_URL=url.replace("postgresql://", "postgres://"))
        application.alembic("r1", "downgrade", "base", DATABASE_URL=url.replace("postgresql://", "postgresql+psycopg2://"))
        ini = (application.releases / "r1" / "alembic.ini").read_text(encoding="utf-8").replace("%(here)s", str(application.releases / "r1"))
        own = application.releases / "own.ini"
        own.write_text(f"{ini}sqlalchemy.url = {url.replace('%', '%%')}\n", encoding="utf-8")
        application.alembic("r1", "--config", str(own), "upgrade", "head", DATABASE_URL="")
        assert application.revision() == "0001"
    finally:
        rows(application.database, "DROP OWNED BY percent; DROP ROLE percent")


def test_migrations_without_a_database(application: Application) -> None:
    assert "DATABASE_URL is not set" in application.alembic("r1", "current", check=False, DATABASE_URL="")
    assert "does not start with postgresql://" in application.alembic("r1", "current", check=False, DATABASE_URL="mysql://h/d")


def test_the_seed_changes_no_schema(application: Application) -> None:
    application.alembic("r1", "upgrade", "head")
    schema = rows(application.database, SCHEMA)
    seed.seed(application.database, 10)
    assert rows(application.database, SCHEMA) == schema


def test_the_seed_is_what_its_tokens_say(seeded_r1: Application) -> None:
    assert dict(rows(seeded_r1.database, "SELECT user_id, token FROM credentials")) == seed.tokens(SEED, USERS)
    assert rows(seeded_r1.database, "SELECT count(DISTINCT email), count(*) FROM users") == [(USERS, USERS)]
    assert rows(seeded_r1.database, "SELECT count(DISTINCT slot), min(slot) FROM bookings") == [(10, "2026-01-01T00:00")]
    with pytest.raises(psycopg2.errors.UniqueViolation):
        seed.seed(seeded_r1.database, USERS, seed=SEED)
    assert rows(seeded_r1.database, "INSERT INTO users (email, name) VALUES ('new@example.org', 'New') RETURNING id") == [(USERS + 1,)]


# The service


def test_every_answer_carries_the_release(seeded_r1: Application) -> None:
    with seeded_r1.serve("r1") as r1:
        assert r1.ask("/health") == {"status": "ok", "release": "r1"}
        assert r1.ask("/ready") == {"status": "ok", "failed": [], "release": "r1"}
        assert [booking["slot"] for booking in r1.ask("/api/schedule?day=2026-01-01")["bookings"]] == [f"2026-01-01T0{n // 2}:{n % 2 * 3}0" for n in range(10)]
        assert r1.ask("/api/schedule?day=9999-12-31")["bookings"] == []
        for path, status in {"/nowhere": 404, "/api/me": 401, "/api/schedule?day=tomorrow": 400, "/oauth/callback?code=c&state=": 400}.items():
            assert "error" in r1.ask(path, status)
        r1.ask("/health", 405, method="POST")
        assert "error" in r1.ask("/api/bookings", 415, method="POST", data="text")
        bodies: tuple[object, ...] = (
            [],
            {},
            {"user_id": True, "slot": "s"},
            {"user_id": 1, "slot": ""},
            {"user_id": 1, "slot": "a\0b"},
            {"user_id": 2**63, "slot": "s"},
        )
        for body in bodies:
            r1.ask("/api/bookings", 400, method="POST", json=body)
        r1.ask("/api/bookings", 404, method="POST", json={"user_id": 10**9, "slot": "nobody's"})
        r1.ask(f"/api/users/{2**70}/token-check", 404)
        # A fault that nobody foresaw: 500, in JSON, with the header.
        rows(seeded_r1.database, "ALTER TABLE bookings RENAME TO elsewhere")
        assert "error" in r1.ask("/api/schedule", 500)
        metrics = requests.get(r1.base + "/metrics", timeout=DEADLINE)
        assert metrics.headers["X-Release"] == "r1"
        for line in (
            'http_requests_total{method="GET",path="/api/schedule",status="500"} 1.0',
            'http_requests_total{method="GET",path="unmatched",status="404"} 1.0',
            'http_requests_total{method="GET",path="/api/schedule",status="200"} 2.0',
        ):
            assert line in metrics.text.splitlines()


def test_ready_names_the_server_that_does_not_answer(application: Application) -> None:
    away = free_port()
    with application.serve("r1", REDIS_URL=f"redis://127.0.0.1:{away}/0", DATABASE_URL=f"postgresql://u:p@127.0.0.1:{away}/d") as r1:
        assert r1.ask("/ready", 503)["failed"] == ["database", "redis"]
        assert r1.ask("/health")["status"] == "ok"
        assert "error" in r1.ask("/api/schedule", 503)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"REDIS_URL": "", "SECRET_KEY": ""}, "environment variables are not set: REDIS_URL, SECRET_KEY"),
        ({"TOKEN_ENCRYPTION_KEY": base64.urlsafe_b64encode(KEY[:31]).decode()}, "TOKEN_ENCRYPTION_KEY must be the urlsafe base64 of 32 bytes"),
        ({"TOKEN_ENCRYPTION_KEY": "x"}, "TOKEN_ENCRYPTION_KEY must be the urlsafe base64 of 32 bytes"),
    ],
)
def test_a_wrong_environment_stops_the_start(application: Application, changes: dict[str, str], message: str) -> None:
    command = [str(application.python), "-c", "import calendar_api; calendar_api.app"]
    environment = application.environment("r2", **changes)
    finished = subprocess.run(command, cwd=application.releases / "r2", env=environment, capture_output=True, text=True, check=False)
    assert finished.returncode != 0
    assert message in finished.stderr
    assert environment["DATABASE_URL"] not in finished.stderr


def test_login_opens_a_session_that_the_next_release_knows(seeded_r2: Application) -> None:
    with requests.Session() as browser, seeded_r2.serve("r1") as r1, seeded_r2.serve("r2") as r2:
        answer = browser.get(r1.base + "/login?login_hint=bia@example.org", timeout=DEADLINE)
        me: dict[str, t.Any] = {"id": USERS + 1, "email": "bia@example.org", "name": "Bia"}
        assert (answer.url, answer.json()) == (r1.base + "/api/me", me)
        # r1 knows no ciphertext; r2 reads what r1 wrote, and the session too.
        clear, *encrypted = stored(seeded_r2.database, me["id"])
        assert well_formed(clear)
        assert encrypted == [None, None]
        assert browser.get(r2.base + "/api/me", timeout=DEADLINE).json() == me
        assert r2.ask(f"/api/users/{me['id']}/token-check") == {"readable": True, "sha256": digest(clear)}
        assert browser.get(r2.base + "/login?login_hint=bia@example.org", timeout=DEADLINE).json() == me
        again = stored(seeded_r2.database, me["id"], "token")[0]
        assert again != clear
        assert decrypted(seeded_r2.database, me["id"]) == again
        assert r1.ask(f"/api/users/{me['id']}/token-check")["sha256"] == digest(again)


def test_a_login_that_was_not_started_here_is_refused(seeded_r1: Application) -> None:
    with requests.Session() as browser, seeded_r1.serve("r1") as r1:
        away = browser.get(r1.base + "/login", allow_redirects=False, timeout=DEADLINE).headers["Location"]
        back = browser.get(away, allow_redirects=False, timeout=DEADLINE).headers["Location"]
        assert requests.get(back, timeout=DEADLINE).status_code == 400
        state = parse_qs(urlsplit(back).query)["state"][0]
        assert browser.get(back.replace(state, "other"), timeout=DEADLINE).status_code == 400
        assert rows(seeded_r1.database, "SELECT count(*) FROM users") == [(USERS,)]


def test_renewal(seeded_r1: Application) -> None:
    with seeded_r1.serve("r1") as r1:
        assert r1.ask("/api/users/1/token-check")["sha256"] == digest(seed.token(SEED, 1))
        answer = r1.ask("/api/users/1/renew", method="POST")
        token = stored(seeded_r1.database, 1, "token")[0]
        assert token != seed.token(SEED, 1)
        assert answer["sha256"] == r1.ask("/api/users/1/token-check")["sha256"] == digest(token)
        assert rows(seeded_r1.database, "SELECT expires_at > now() + interval '50 minutes' FROM credentials WHERE user_id = 1") == [(True,)]
        rows(seeded_r1.database, "UPDATE credentials SET token = 'damaged' WHERE user_id = 2")
        assert "refused" in r1.ask("/api/users/2/renew", 502, method="POST")["error"]
        assert stored(seeded_r1.database, 2, "token") == ("damaged",)
    with seeded_r1.serve("r1", GOOGLE_CLIENT_SECRET="wrong") as r1:
        assert "refused" in r1.ask("/api/users/3/renew", 502, method="POST")["error"]
    with seeded_r1.serve("r1", OAUTH_BASE_URL=f"http://127.0.0.1:{free_port()}") as r1:
        assert "does not answer" in r1.ask("/api/users/3/renew", 502, method="POST")["error"]


def twenty_at_once(services: list[Service], slot: str) -> collections.Counter[int]:
    start = threading.Barrier(20)

    def ask(number: int) -> int:
        start.wait()
        return services[number % len(services)].book(slot, number + 1)

    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        return collections.Counter(pool.map(ask, range(20)))


def test_one_of_twenty_gets_the_slot(seeded_r1: Application, rounds: collections.abc.Callable[[int, int], int]) -> None:
    slots: list[str] = []

    def try_all(*services: Service) -> None:
        for _unused in range(rounds(3, 50)):
            slots.append(f"2030-01-01T{len(slots)}")
            assert twenty_at_once(list(services), slots[-1]) == {201: 1, 409: 19}

    with seeded_r1.serve("r1") as r1:
        try_all(r1)
        # r1 keeps serving while the database becomes r2's.
        seeded_r1.alembic("r2", "upgrade", "head")
        try_all(r1)
        with seeded_r1.serve("r2") as r2:
            try_all(r2)
            try_all(r1, r2)
    counts = dict(rows(seeded_r1.database, "SELECT slot, count(*) FROM bookings WHERE slot LIKE '2030%%' GROUP BY slot"))
    assert counts == dict.fromkeys(slots, 1)


def test_tokens_of_both_releases_while_both_run(seeded_r2: Application) -> None:
    database = seeded_r2.database
    with seeded_r2.serve("r1") as r1, seeded_r2.serve("r2") as r2:
        # Clear ones from before.
        for user_id in (1, 2):
            assert r2.ask(f"/api/users/{user_id}/token-check")["sha256"] == digest(seed.token(SEED, user_id))
        r2.ask("/api/users/1/renew", method="POST")
        token, ciphertext, nonce = stored(database, 1)
        assert AESGCM(KEY).decrypt(nonce, ciphertext, None).decode() == token != seed.token(SEED, 1)
        assert r1.ask("/api/users/1/token-check") == r2.ask("/api/users/1/token-check") == {"readable": True, "sha256": digest(token)}
        r1.ask("/api/users/2/renew", method="POST")
        assert r2.ask("/api/users/2/token-check")["sha256"] == digest(stored(database, 2)[0])
        # The ciphertext counts where there is one: this is what a later release leaves behind.
        rows(database, "UPDATE credentials SET token = NULL WHERE user_id = 1")
        assert r2.ask("/api/users/1/token-check")["sha256"] == digest(token)
        r1.ask("/api/users/1/token-check", 409)
    with seeded_r2.serve("r2", TOKEN_ENCRYPTION_KEY=base64.urlsafe_b64encode(KEY[::-1]).decode()) as r2:
        assert r2.ask("/api/users/1/token-check", 409) == {"readable": False, "error": "the ciphertext does not fit the key"}
        assert r2.ask("/api/users/3/token-check")["readable"]


def test_r3_fails_from_its_thirtieth_schedule_on(seeded_r2: Application) -> None:
    with seeded_r2.serve("r3") as r3:
        for _unused in range(29):
            r3.ask("/api/schedule?day=2026-01-01")
        for _unused in range(3):
            r3.ask("/api/schedule?day=2026-01-01", 500)
        assert r3.ask("/health")["release"] == "r3"
        assert r3.ask("/api/users/1/token-check")["readable"]
        assert r3.book("2030-01-01T09:00") == 201
    with seeded_r2.serve("r3") as r3, concurrent.futures.ThreadPoolExecutor(8) as pool:
        statuses = pool.map(lambda _unused: requests.get(r3.base + "/api/schedule", timeout=DEADLINE).status_code, range(60))
        assert collections.Counter(statuses) == {200: 29, 500: 31}


def test_the_smoke_checks_of_the_profile_pass_and_pass_again(seeded_r2: Application) -> None:
    checks = yaml.safe_load((repository.HERE / "profile.yml").read_text(encoding="utf-8"))["deploy_smoke"]
    with seeded_r2.serve("r2") as r2:
        options = {"base_url": r2.base, "release": "r2", "checks": checks}
        for _unused in range(2):
            result = _http_check.run(ArgumentSpecValidator(_http_check.argument_spec().options).validate(options).validated_parameters)
            assert (result["passed"], result["findings"]) == (len(checks), [])
    assert rows(seeded_r2.database, "SELECT count(*) FROM bookings WHERE slot LIKE '1970%%'") == [(1,)]
    assert decrypted(seeded_r2.database, 1) == stored(seeded_r2.database, 1, "token")[0] != seed.token(SEED, 1)


def test_r4_needs_no_clear_text(seeded_r2: Application) -> None:
    database = seeded_r2.database
    with seeded_r2.serve("r2") as r2, seeded_r2.serve("r4") as r4, requests.Session() as browser:
        r2.ask("/api/users/1/renew", method="POST")
        first = stored(database, 1, "token")[0]
        assert r4.ask("/api/users/1/token-check")["sha256"] == digest(first)
        # The column is still there, and r2 can come back: the ciphertext is the truth for both.
        r4.ask("/api/users/1/renew", method="POST")
        assert stored(database, 1, "token") == (first,)
        assert r2.ask("/api/users/1/token-check")["sha256"] == digest(decrypted(database, 1)) != digest(first)
        assert r4.ask("/api/users/2/token-check", 409)["readable"] is False
        r2.process.terminate()
        r2.process.wait(DEADLINE)
        seeded_r2.alembic("r4", "upgrade", "head")
        assert r4.ask("/api/users/1/renew", method="POST")["sha256"] == digest(decrypted(database, 1))
        me = browser.get(r4.base + "/login?login_hint=caio@example.org", timeout=DEADLINE).json()
        assert well_formed(decrypted(database, me["id"]))


def test_sigterm_lets_a_request_finish(seeded_r1: Application) -> None:
    gate = threading.Event()
    slow = Provider(gate=gate)
    with serving(slow) as oauth, seeded_r1.serve("r1", OAUTH_BASE_URL=oauth) as r1, concurrent.futures.ThreadPoolExecutor(1) as pool:
        try:
            answer = pool.submit(r1.ask, "/api/users/1/renew", method="POST")
            assert slow.waiting.wait(DEADLINE)
            r1.process.terminate()
            eventually(lambda: "Handling signal: term" in r1.log.read_text(encoding="utf-8"))
            assert not answer.done()
        finally:
            gate.set()
        assert answer.result(DEADLINE)["sha256"] == digest(stored(seeded_r1.database, 1, "token")[0])
        assert r1.process.wait(DEADLINE) == 0


def test_a_connection_outlives_the_proxys_idle_time(releases: Path) -> None:
    settings: dict[str, t.Any] = {}
    exec(compile((releases / "r1" / "gunicorn.conf.py").read_bytes(), "gunicorn.conf.py", "exec"), settings)
    assert (settings["worker_class"], settings["workers"], settings["threads"], settings["graceful_timeout"]) == ("gthread", 1, 8, 30)
    # Caddy keeps an idle connection for two minutes.
    assert settings["keepalive"] > 120
    assert settings["accesslog"] is None
