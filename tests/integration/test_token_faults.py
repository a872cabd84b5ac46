# SPDX-License-Identifier: GPL-3.0-or-later
"""token_encryption under kill -9, a server that goes away and a full disk; that no clear token shows anywhere; and the naive script beside it."""

from __future__ import annotations

import collections.abc
import contextlib
import json
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from ansible_collections.lastro.deploy.plugins.module_utils._errors import LastroError
from ansible_collections.lastro.deploy.plugins.module_utils._postgres import parse_url
from ansible_collections.lastro.deploy.plugins.module_utils._progress import silent
from ansible_collections.lastro.deploy.plugins.module_utils._token_encryption import converge
from demo.postgres import Postgres
from pyrage import x25519

from .leaks import leaked
from .token_table import KEY, Credentials, ModuleRun, application, fast_enough, options, say, sealed, text_of

ROOT = Path(__file__).parents[2]
IDENTITY = x25519.Identity.generate()
Rounds = collections.abc.Callable[[int, int], int]


@pytest.fixture
def undo(tmp_path: Path) -> dict[str, Any]:
    return {"path": str(tmp_path / "undo.jsonl"), "recipients": [str(IDENTITY.to_public())]}


def restored(credentials: Credentials, run: ModuleRun, undo: dict[str, Any], expected: list[tuple[int, str | None]]) -> None:
    """The undo file alone gives back every token."""
    run(state="cleared", guard_trigger=False)
    assert credentials.sql("SELECT count(token) FROM credentials") == [(0,)]
    back = run(state="decrypted", encryption_keys=None, backup={"path": undo["path"], "identity": str(IDENTITY)})
    assert back["decrypted"] == len(expected)
    assert [row[:2] for row in credentials.rows()] == expected


def start(directory: Path, database: str, undo: dict[str, Any], **more: object) -> subprocess.Popen[str]:
    """The module as a process."""
    path = directory / "arguments.json"
    given = {"database_url": database, "table": "credentials", "encryption_keys": [text_of(KEY)], "backup": undo, "batch_size": 100, **more}
    path.write_text(json.dumps({"ANSIBLE_MODULE_ARGS": given}))
    command = [sys.executable, "-m", "ansible_collections.lastro.deploy.plugins.modules.token_encryption", str(path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "collections")}
    return subprocess.Popen(command, env=environment, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_kills_at_random_moments_lose_nothing(credentials: Credentials, run: ModuleRun, undo: dict[str, Any], seeded: random.Random, rounds: Rounds) -> None:
    credentials.create(20000)
    expected = [row[:2] for row in credentials.rows()]
    connected = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'lastro.deploy tokens' AND datname = current_database()"
    for _round in range(rounds(4, 50)):
        process = start(Path(str(undo["path"])).parent, credentials.url, undo, workers=seeded.choice([1, 2]), pause=0.002)
        until = time.monotonic() + 60
        # With little left to do it may be done before it was seen.
        while credentials.sql(connected) == [(0,)] and process.poll() is None:
            assert time.monotonic() < until
        # A random moment is what is tried here.
        time.sleep(seeded.uniform(0, 0.4))
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGKILL)
        output = process.communicate()[0]
        assert process.returncode in (0, -signal.SIGKILL), output
        if process.returncode == 0:
            credentials.sql("UPDATE credentials SET token_encrypted = NULL, token_nonce = NULL WHERE id % 2 = 0")
    final = run(backup=undo)
    assert (final["verified"], final["clear_left"], final["encrypted"] + final["already"]) == (20000, 0, 20000)
    assert credentials.stale() == []
    restored(credentials, run, undo, expected)


def test_a_server_that_restarts_ends_the_run_and_the_next_finishes(tmp_path: Path, capsys: pytest.CaptureFixture[str], undo: dict[str, Any]) -> None:
    with Postgres.temporary() as server:
        credentials = Credentials(server.url())
        credentials.create(5000)
        expected = [row[:2] for row in credentials.rows()]
        batches: list[float] = []

        def restart(seconds: float) -> None:
            batches.append(seconds)
            if len(batches) == 10:
                server.kill()
                server.start()

        given: dict[str, Any] = {"backup": undo, "batch_size": 100}
        with pytest.raises(LastroError, match="The connection to PostgreSQL ended during the work"):
            converge(parse_url(credentials.url), options(**given, pause=0.001), progress=silent, sleep=restart)
        credentials.connection = credentials.connect()
        (done,) = credentials.sql("SELECT count(token_encrypted) FROM credentials")[0]
        assert 0 < done < 5000
        again = ModuleRun(credentials.url, capsys)
        assert again(**given)["encrypted"] == 5000 - done
        assert credentials.stale() == []
        restored(credentials, again, undo, expected)
        credentials.connection.close()


@contextlib.contextmanager
def full_disk(path: Path) -> collections.abc.Iterator[None]:
    """A disk of 256 KiB at *path* where root may mount one, else as small a limit on the size of files."""
    path.mkdir()
    mounted = os.geteuid() == 0 and subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(path)], check=False).returncode == 0
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    if not mounted:
        resource.setrlimit(resource.RLIMIT_FSIZE, (256 * 1024, limit[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        if mounted:
            subprocess.run(["umount", str(path)], check=True)


def test_a_full_disk_under_the_undo_file_stops_before_a_row_lacks_its_entry(
    credentials: Credentials, run: ModuleRun, undo: dict[str, Any], tmp_path: Path
) -> None:
    credentials.create(5000)
    expected = [row[:2] for row in credentials.rows()]
    small = tmp_path / "small"
    with full_disk(small):
        with pytest.raises(LastroError, match=r"The disk is full: the undo file .* could not be written") as caught:
            converge(parse_url(credentials.url), options(backup={**undo, "path": str(small / "undo.jsonl")}, batch_size=100), progress=silent)
        Path(str(undo["path"])).write_bytes((small / "undo.jsonl").read_bytes())
    assert caught.value.remedy.en.startswith("Free space there")
    (done,) = credentials.sql("SELECT count(token_encrypted) FROM credentials")[0]
    assert 0 < done < 5000
    # With room again the same file goes on.
    assert run(backup=undo)["encrypted"] == 5000 - done
    assert credentials.stale() == []
    restored(credentials, run, undo, expected)


def naive(credentials: Credentials) -> None:
    """What is written again and again in its place: read all, encrypt, update by id."""
    with contextlib.closing(psycopg2.connect(credentials.url)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT id, token FROM credentials")
        for number, (key, token) in enumerate(cursor.fetchall()):
            cursor.execute("UPDATE credentials SET token_encrypted = %s, token_nonce = %s WHERE id = %s", (*sealed(token), key))
            if number % 100 == 99:
                connection.commit()
        connection.commit()


def test_the_naive_script_beside_it_loses_tokens(credentials: Credentials, seeded: random.Random, rounds: Rounds) -> None:
    credentials.create(5000)
    for _round in range(rounds(1, 10)):
        credentials.sql("UPDATE credentials SET token_encrypted = NULL, token_nonce = NULL")
        with application(credentials, both=True, seed=seeded.randrange(2**32)) as written, written.measured():
            naive(credentials)
        fast_enough(written, "naive script")
        stale, _lost = credentials.lost(written)
        say(f"naive script: {len(stale)} of {len(written.last)} rows open to an older token")
        credentials.sql("UPDATE credentials SET token_encrypted = NULL, token_nonce = NULL")
        with application(credentials, both=True, seed=seeded.randrange(2**32)) as written:
            converge(parse_url(credentials.url), options(), progress=silent)
        assert (len(stale) > 0, credentials.lost(written), credentials.stale()) == (True, ([], []), [])


LINGER = """
CREATE FUNCTION linger() RETURNS trigger LANGUAGE plpgsql AS $$ DECLARE before bigint := (SELECT last_value FROM public.looks); BEGIN
  WHILE (SELECT last_value FROM public.looks) < before + 2 AND pg_catalog.clock_timestamp() < pg_catalog.statement_timestamp() + interval '2 min' LOOP
    PERFORM pg_catalog.pg_sleep(0.01);
  END LOOP;
  RETURN NULL;
END $$"""


@contextlib.contextmanager
def watched(credentials: Credentials) -> collections.abc.Iterator[list[str]]:
    """Statements of other sessions, and command lines and environments of all processes, as often as can be."""
    seen: set[str] = set()
    found: list[str] = []
    stop = threading.Event()

    def look() -> None:
        connection = credentials.connect()
        with connection.cursor() as cursor:
            while not stop.is_set():
                cursor.execute("SELECT nextval('looks')")
                cursor.execute("SELECT query FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
                seen.update(row[0] or "" for row in cursor.fetchall())
                for process in Path("/proc").glob("[0-9]*"):
                    for name in ("cmdline", "environ"):
                        with contextlib.suppress(OSError):
                            seen.add((process / name).read_bytes().decode(errors="replace"))
        connection.close()

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield found
    finally:
        stop.set()
        thread.join()
        found.extend(seen)


def test_no_clear_token_shows_anywhere(credentials: Credentials, postgres: Postgres, tmp_path: Path, undo: dict[str, Any]) -> None:
    credentials.create(1000)
    tokens = [str(token) for _key, token, *_unused in credentials.rows()]
    # Each UPDATE lasts until somebody who looks again and again has seen it: until a look that began after it is over. A sequence shows in any snapshot.
    credentials.sql("CREATE SEQUENCE looks")
    credentials.sql(LINGER)
    credentials.sql("CREATE TRIGGER linger BEFORE UPDATE ON credentials EXECUTE FUNCTION linger()")
    name = credentials.url.rpartition("/")[2]
    for setting in ("log_min_duration_statement = 0", "log_statement = 'all'"):
        credentials.sql(f'ALTER DATABASE "{name}" SET {setting}')
    base = {"database_url": credentials.url, "table": "credentials", "encryption_keys": [text_of(KEY)]}
    states: list[dict[str, Any]] = [
        {"state": "encrypted", "backup": undo},
        {"state": "rotated"},
        {"state": "cleared", "backup": undo},
        {"state": "decrypted", "backup": {"path": undo["path"], "identity": str(IDENTITY)}, "encryption_keys": None},
        {"state": "decrypted"},
    ]
    tasks = [{"lastro.deploy.token_encryption": {key: value for key, value in {**base, **more}.items() if value is not None}} for more in states]
    (tmp_path / "play.yml").write_text(json.dumps([{"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": tasks}]))
    begin = postgres.log.stat().st_size
    environment = {
        **os.environ,
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"),
        "ANSIBLE_STDOUT_CALLBACK": "default",
        "ANSIBLE_LOG_PATH": str(tmp_path / "ansible.log"),
        "ANSIBLE_KEEP_REMOTE_FILES": "1",
        "ANSIBLE_REMOTE_TEMP": str(tmp_path / "remote"),
        "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
    }
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "localhost,", "--diff", "-vvv", "play.yml"]
    with watched(credentials) as seen:
        finished = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stdout[-3000:]
    assert credentials.sql("SELECT count(token) FROM credentials") == [(1000,)]
    with postgres.log.open("rb") as stream:
        stream.seek(begin)
        log = stream.read().decode(errors="replace")
    assert "COPY pg_temp.lastro_tokens FROM STDIN" in log
    assert any("UPDATE" in one for one in seen)
    written = "".join(path.read_text(errors="replace") for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".db")
    for where in (log, "".join(seen), finished.stdout + finished.stderr, written):
        assert leaked(tokens, where) == []
    assert leaked([text_of(KEY), str(IDENTITY)], finished.stdout + finished.stderr) == []
