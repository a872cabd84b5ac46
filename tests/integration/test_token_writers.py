# SPDX-License-Identifier: GPL-3.0-or-later
"""token_encryption beside applications that write, sessions that hold locks, and kills."""

from __future__ import annotations

import collections.abc
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psycopg2
import pytest
from ansible_collections.lastro.deploy.plugins.module_utils import _token_guard, _token_walk, _token_writers
from ansible_collections.lastro.deploy.plugins.module_utils._errors import LastroError
from ansible_collections.lastro.deploy.plugins.module_utils._postgres import parse_url
from ansible_collections.lastro.deploy.plugins.module_utils._progress import silent
from ansible_collections.lastro.deploy.plugins.module_utils._token_encryption import converge
from hypothesis import strategies as st

from .token_table import KEY, OTHER_KEY, Credentials, ModuleRun, application, fast_enough, opened, options, text_of

ROOT = Path(__file__).parents[2]
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
Rounds = collections.abc.Callable[[int, int], int]


def test_a_table_that_others_hold_is_named_after_some_tries(credentials: Credentials, run: ModuleRun, monkeypatch: pytest.MonkeyPatch) -> None:
    credentials.create(3)
    monkeypatch.setattr(_token_guard, "ATTEMPTS", 2)
    other = psycopg2.connect(credentials.url, application_name="the other one")
    try:
        with other.cursor() as cursor:
            cursor.execute("UPDATE credentials SET token = token WHERE id = 1")
        result = run(lock_timeout=0.05)
        assert "the lock on the table did not come within lock_timeout. It is held by:" in result["msg"]
        assert "(the other one)" in result["msg"]
    finally:
        other.close()
    assert run()["changed"] is True


def test_rows_that_others_hold_are_waited_for_and_then_named(credentials: Credentials) -> None:
    credentials.create(3)
    other = psycopg2.connect(credentials.url)
    slept: list[float] = []
    try:
        converge(parse_url(credentials.url), options(state="prepared"), progress=silent)
        with other.cursor() as cursor:
            cursor.execute("SELECT 1 FROM credentials WHERE id = 2 FOR UPDATE")
        with pytest.raises(LastroError, match=r"3 rows of public.credentials could not be written: other sessions hold them"):
            converge(parse_url(credentials.url), options(lock_timeout=0.02), progress=silent, sleep=slept.append)
        assert len(slept) == _token_writers.MAX_STALLED
        # Released while the run waits: it goes on by itself.
        result = converge(parse_url(credentials.url), options(lock_timeout=0.02), progress=silent, sleep=lambda _seconds: other.rollback())
        assert (result["encrypted"], result["verified"]) == (3, 3)
        assert result["conflicts"] >= 3
    finally:
        other.close()


def test_a_connection_that_ends_is_told(credentials: Credentials) -> None:
    credentials.create(20)

    def cut(_seconds: float) -> None:
        credentials.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'lastro.deploy tokens'")

    with pytest.raises(LastroError, match="The connection to PostgreSQL ended during the work"):
        converge(parse_url(credentials.url), options(batch_size=5, pause=0.1), progress=silent, sleep=cut)
    (done,) = credentials.sql("SELECT count(token_encrypted) FROM credentials")[0]
    assert done == 5
    assert converge(parse_url(credentials.url), options(), progress=silent)["encrypted"] == 15
    assert credentials.stale() == []


def killed_run(credentials: Credentials, directory: Path, environment_file: Path) -> int:
    """Start the module as a process, kill it once it says that rows are done; how many rows it left encrypted."""
    progress = directory / "progress"
    progress.unlink(missing_ok=True)
    arguments = {"environment_file": str(environment_file), "table": "credentials", "batch_size": 100, "pause": 2, "progress_file": str(progress)}
    path = directory / "arguments.json"
    path.write_text(json.dumps({"ANSIBLE_MODULE_ARGS": arguments}))
    command = [sys.executable, "-m", "ansible_collections.lastro.deploy.plugins.modules.token_encryption", str(path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "collections")}
    process = subprocess.Popen(command, env=environment, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        until = time.monotonic() + 60
        while not (progress.exists() and json.loads(progress.read_text())["done"] > 0):
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < until
            time.sleep(0.005)
        assert json.loads(progress.read_text())["unit"] == "rows encrypted"
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGKILL)
        process.communicate()
    assert process.returncode == -signal.SIGKILL
    return int(credentials.sql("SELECT count(token_encrypted) FROM credentials")[0][0])


def test_a_killed_run_is_finished_by_the_next(credentials: Credentials, run: ModuleRun, tmp_path: Path, database: str) -> None:
    credentials.create(5000)
    environment_file = tmp_path / "env"
    environment_file.write_text(f'DATABASE_URL="{database}"\nTOKEN_ENCRYPTION_KEY="{text_of(KEY)}"\n')
    done = 0
    for _unused in range(2):
        before, done = done, killed_run(credentials, tmp_path, environment_file)
        assert before < done < 5000
    kept = {key: ciphertext for key, _token, ciphertext, _nonce in credentials.rows() if ciphertext is not None}
    progress = tmp_path / "after"
    result = run(database_url=None, encryption_keys=None, environment_file=str(environment_file), progress_file=str(progress))
    assert result["already"] >= done
    assert (result["encrypted"] + result["already"], result["verified"], result["clear_left"]) == (5000, 5000, 0)
    assert credentials.stale() == []
    assert all(ciphertext == kept.get(key, ciphertext) for key, _token, ciphertext, _nonce in credentials.rows())
    record = json.loads(progress.read_text())
    assert (record["done"], record["total"], record["unit"]) == (5000, 5000, "rows verified")


def test_with_a_writer_of_both_columns_no_row_is_stale(credentials: Credentials, run: ModuleRun, seeded: random.Random, rounds: Rounds) -> None:
    credentials.create(5000)
    for _round in range(rounds(1, 10)):
        credentials.sql("UPDATE credentials SET token_encrypted = NULL, token_nonce = NULL")
        with application(credentials, both=True, seed=seeded.randrange(2**32)) as written, written.measured():
            result = run(batch_size=200, pause=0.01)
        fast_enough(written, "encryption, both columns")
        assert (result["failures"]["mismatch"], result["clear_left"]) == (0, 0)
        assert (credentials.lost(written), credentials.stale()) == (([], []), [])


def test_with_a_writer_of_the_clear_column_no_row_is_stale(credentials: Credentials, run: ModuleRun, seeded: random.Random, rounds: Rounds) -> None:
    credentials.create(5000)
    for _round in range(rounds(1, 10)):
        with application(credentials, both=False, seed=seeded.randrange(2**32)) as written:
            with written.measured():
                result = run(batch_size=200, pause=0.01)
            assert result["failures"]["mismatch"] == 0
            still = run(batch_size=200, guard_trigger=False, pause=0.01)
            # While it writes, the trigger must not go.
            if still.get("failed"):
                assert "so the guard trigger stays in" in still["msg"]
                assert len(credentials.triggers()) == 1
            else:
                run(state="prepared")
        fast_enough(written, "encryption, clear column")
        assert credentials.lost(written) == ([], [])
        final = run(guard_trigger=False)
        assert (final["verified"], final["clear_left"], final["guard_trigger"]) == (5000, 0, False)
        assert (credentials.lost(written), credentials.stale()) == (([], []), [])
        credentials.sql("UPDATE credentials SET token_encrypted = NULL, token_nonce = NULL")


def test_rotation_with_a_writer_of_both_columns(credentials: Credentials, run: ModuleRun, seeded: random.Random, rounds: Rounds) -> None:
    credentials.create(5000)
    run(guard_trigger=False)
    new, old = OTHER_KEY, KEY
    for _round in range(rounds(1, 10)):
        ring = [text_of(new), text_of(old)]
        with application(credentials, both=True, seed=seeded.randrange(2**32), key=new) as written, written.measured():
            result = run(state="rotated", encryption_keys=ring, batch_size=200, pause=0.01)
        fast_enough(written, "rotation, key ring")
        assert result["rotated"] > 0
        assert credentials.lost(written, new) == ([], [])
        assert [number for number, token, ciphertext, nonce in credentials.rows() if opened(ciphertext, nonce, new) != token] == []
        new, old = old, new


def test_clear_and_undo_with_a_writer_of_both_columns(credentials: Credentials, run: ModuleRun, seeded: random.Random, rounds: Rounds) -> None:
    credentials.create(5000)
    run(guard_trigger=False)
    for _round in range(rounds(1, 10)):
        with application(credentials, both=True, seed=seeded.randrange(2**32)) as written:
            with written.measured():
                cleared = run(state="cleared", batch_size=200, pause=0.01)
            with written.measured():
                undone = run(state="decrypted", batch_size=200, pause=0.01)
        fast_enough(written, "clear, undo")
        assert cleared["cleared"] > 0
        assert undone["decrypted"] > 0
        assert credentials.lost(written) == ([], [])
        run(state="decrypted")
        assert (credentials.lost(written), credentials.stale()) == (([], []), [])
        assert credentials.sql("SELECT count(token) FROM credentials") == [(5000,)]


def test_a_writer_that_is_always_ahead_ends_the_run_and_keeps_the_trigger(credentials: Credentials, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_token_walk, "READ_PAGE", 5)
    credentials.create(10)

    def overtake(done: int, _total: int, unit: str) -> None:
        if unit == "rows verified" and done == 5:
            credentials.sql("UPDATE credentials SET token = token || '.' WHERE id = 10")

    result = converge(parse_url(credentials.url), options(batch_size=5), progress=overtake)
    assert (result["clear_left"], result["verified"], result["guard_trigger"]) == (1, 9, True)
    assert credentials.stale() == []
    with pytest.raises(LastroError, match=r"1 rows of public\.credentials were written in clear text during the run") as caught:
        converge(parse_url(credentials.url), options(batch_size=5, guard_trigger=False), progress=overtake)
    assert caught.value.facts["guard_trigger"] is True
    assert len(credentials.triggers()) == 1


def test_passes_end_where_each_finds_as_many_as_the_one_before(credentials: Credentials) -> None:
    credentials.create(10)

    def write(_seconds: float) -> None:
        credentials.sql("UPDATE credentials SET token = token || '.' WHERE id <= 2")

    result = converge(parse_url(credentials.url), options(pause=0.001), progress=silent, sleep=write)
    assert result["passes"] >= _token_writers.MAX_STALLED
    assert result["clear_left"] == 2
    assert converge(parse_url(credentials.url), options(), progress=silent)["encrypted"] == 2
    assert credentials.stale() == []
