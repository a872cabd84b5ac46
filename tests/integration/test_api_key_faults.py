# SPDX-License-Identifier: GPL-3.0-or-later
"""Rotations that meet each other, die, or cannot deliver: one generation each time, and the file's key is one that the table knows."""

from __future__ import annotations

import collections.abc
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import psycopg2
import pytest
from ansible_collections.lastro.deploy.plugins.module_utils._errors import LastroError

from .key_table import MOMENTS, Keys, Kill, status_of

Rounds = collections.abc.Callable[[int, int], int]


def test_two_rotations_at_the_same_moment_make_one_generation(keys: Keys, rounds: Rounds) -> None:
    keys.converge()
    for number in range(2, rounds(5, 100) + 2):
        before = keys.file.read_text()
        # Half of the pairs name the generation, the others go by the age that both see at the start.
        keys.sql("UPDATE api_keys SET created_at = now() - interval '1 hour'")
        wish = {"generation": number} if number % 2 else {"rotate_if_older_than": "10m"}
        start = time.monotonic() + 0.05
        pair = [keys.child(start, state="rotated", **wish) for _each in range(2)]
        assert [status_of(pid) for pid in pair] == [0, 0]
        assert keys.generations() == list(range(1, number + 1))
        assert keys.delivered() == number
        assert keys.accepts(before) and keys.accepts(keys.file.read_text())
        assert keys.beside() == []


def test_two_first_keys_at_the_same_moment(keys: Keys, rounds: Rounds) -> None:
    for number in range(rounds(2, 20)):
        keys.sql("DELETE FROM api_keys")
        keys.file.unlink(missing_ok=True)
        start = time.monotonic() + 0.05
        assert [status_of(pid) for pid in [keys.child(start) for _each in range(2)]] == [0, 0], number
        assert (keys.generations(), keys.delivered(), keys.beside()) == ([1], 1, [])


def assert_nothing_or_pending(keys: Keys, old: str, number: int) -> None:
    """After a kill: the old key everywhere, or both in the table and the new one delivered or waiting beside the file."""
    assert keys.accepts(old)
    generations = keys.generations()
    assert generations in ([*range(1, number)], [*range(1, number + 1)])
    assert keys.delivered() in (number - 1, number)
    if generations[-1] == number and keys.delivered() == number - 1:
        assert keys.beside() == [f".{keys.file.name}.pending"]


def assert_completed(keys: Keys, old: str, number: int) -> None:
    """After the next run: one row a generation, the file holds the newest key, nothing is left over, and both keys are valid."""
    assert keys.generations() == list(range(1, number + 1))
    assert keys.delivered() == number
    assert keys.accepts(old) and keys.accepts(keys.file.read_text())
    assert keys.beside() == []


@pytest.mark.parametrize("moment", MOMENTS, ids=lambda moment: moment.replace(" ", "-"))
def test_killed_at_each_step(keys: Keys, moment: str) -> None:
    keys.converge()
    old = keys.file.read_text()
    assert status_of(keys.child(prepare=MOMENTS[moment], state="rotated", generation=2)) == -signal.SIGKILL
    assert_nothing_or_pending(keys, old, 2)
    keys.converge(state="rotated", generation=2)
    assert_completed(keys, old, 2)


@pytest.mark.parametrize("moment", MOMENTS, ids=lambda moment: moment.replace(" ", "-"))
def test_killed_at_each_step_and_then_only_looked_after(keys: Keys, moment: str) -> None:
    """The next run asks for no rotation: it delivers what was committed and removes what was not."""
    keys.converge()
    old = keys.file.read_text()
    status_of(keys.child(prepare=MOMENTS[moment], state="rotated", generation=2))
    generation = keys.generations()[-1]
    pending = keys.look(name="auditor", sink={"file": str(keys.file)})["sink"]["pending"]
    answer = keys.converge()
    assert answer["changed"] is pending
    assert (keys.generations()[-1], keys.delivered()) == (generation, generation)
    assert [name for name in keys.beside() if not name.endswith(".part")] == []
    assert keys.accepts(old)
    assert keys.converge()["changed"] is False


def test_killed_at_random_moments(keys: Keys, rounds: Rounds, seeded: random.Random) -> None:
    started = time.monotonic()
    keys.converge()
    whole = time.monotonic() - started
    for number in range(2, rounds(3, 20) + 2):
        old = keys.file.read_text()
        pid = keys.child(state="rotated", generation=number)
        time.sleep(seeded.uniform(0, whole * 1.2))  # the moment itself is what is drawn
        os.kill(pid, signal.SIGKILL)
        status_of(pid)
        assert_nothing_or_pending(keys, old, number)
        keys.converge(state="rotated", generation=number)
        assert_completed(keys, old, number)


def test_the_connection_breaks_before_the_commit(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    from ansible_collections.lastro.deploy.plugins.module_utils import _api_key

    keys.converge()
    old, before = keys.file.read_text(), keys.rows()
    write = _api_key._Run._write

    def cut(run: _api_key._Run, *arguments: object) -> None:
        write(run, *arguments)  # type: ignore[arg-type]  # whatever it is called with
        keys.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s", _api_key.APPLICATION_NAME)

    monkeypatch.setattr(_api_key._Run, "_write", cut)
    with pytest.raises(LastroError, match="The connection to PostgreSQL ended during the work"):
        keys.converge(state="rotated", generation=2)
    # Whether a commit that was not answered took place is not known, so its key is kept until the next run has looked.
    assert keys.beside() == [f".{keys.file.name}.pending"]
    assert (keys.rows(), keys.file.read_text()) == (before, old)
    monkeypatch.undo()
    keys.converge(state="rotated", generation=2)
    assert_completed(keys, old, 2)


class Disk:
    """A file system of 64 KiB at a directory; *fill* leaves no byte."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir()
        assert os.geteuid() == 0, "a small disk can only be mounted as root: run the tests as root, as CI does"
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(directory)], check=True)

    def fill(self) -> None:
        with pytest.raises(OSError, match="No space left"), (self.directory / "filler").open("wb", buffering=0) as stream:
            while True:
                stream.write(b"\0" * 4096)

    def free(self) -> None:
        (self.directory / "filler").unlink()

    def unmount(self) -> None:
        subprocess.run(["umount", str(self.directory)], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> collections.abc.Iterator[Disk]:
    found = Disk(tmp_path / "small")
    yield found
    found.unmount()


def test_a_full_disk_leaves_the_table_as_it_was(keys: Keys, disk: Disk) -> None:
    keys = Keys(keys.url, disk.directory / "auditor.key")
    keys.converge()
    old, before = keys.file.read_text(), keys.rows()
    disk.fill()
    with pytest.raises(LastroError, match="No space left on device"):
        keys.converge(state="rotated", generation=2)
    assert (keys.rows(), keys.file.read_text(), keys.beside()) == (before, old, ["filler"])
    disk.free()
    keys.converge(state="rotated", generation=2)
    assert_completed(keys, old, 2)


def test_a_directory_that_is_gone_leaves_the_table_as_it_was(keys: Keys) -> None:
    keys.converge()
    before = keys.rows()
    keys.file.parent.rename(keys.file.parent.with_name("elsewhere"))
    with pytest.raises(LastroError, match="which is no directory"):
        keys.converge(state="rotated", generation=2)
    assert keys.rows() == before


def test_a_read_only_server_leaves_the_file_as_it_was(keys: Keys) -> None:
    keys.converge()
    old, before = keys.file.read_text(), keys.rows()
    role = f"reader_{os.getpid()}"
    keys.sql(f"CREATE ROLE {role} LOGIN PASSWORD 'only-for-this-test'")
    try:
        keys.sql(f"GRANT SELECT ON api_keys TO {role}")
        reader = Keys(psycopg2.extensions.make_dsn(keys.url), keys.file)
        parts = psycopg2.extensions.parse_dsn(reader.url)
        limited = Keys(f"postgresql://{role}:only-for-this-test@{parts['host']}:{parts['port']}/{parts['dbname']}", keys.file)
        with pytest.raises(LastroError, match="permission denied for table api_keys"):
            limited.converge(state="rotated", generation=2)
        assert (keys.rows(), keys.file.read_text(), keys.beside()) == (before, old, [])
    finally:
        keys.sql(f"REVOKE ALL ON api_keys FROM {role}")
        keys.sql(f"DROP ROLE {role}")


def test_the_next_rotation_while_a_key_waits(keys: Keys) -> None:
    """A run died before its delivery, and the next rotation is refused by the server: the waiting key must not go with it."""
    keys.converge()
    moment: Kill = MOMENTS["before the rename"]
    status_of(keys.child(prepare=moment, state="rotated", generation=2, grace="0s"))
    assert (keys.delivered(), keys.accepts(keys.file.read_text())) == (1, False)
    keys.sql("ALTER TABLE api_keys ADD CONSTRAINT refused CHECK (generation < 3)")
    with pytest.raises(LastroError, match="violates check constraint"):
        keys.converge(state="rotated", generation=3)
    assert (keys.delivered(), keys.accepts(keys.file.read_text()), keys.beside()) == (2, True, [])
    keys.sql("ALTER TABLE api_keys DROP CONSTRAINT refused")
    status_of(keys.child(prepare=moment, state="rotated", generation=3))
    keys.converge(state="rotated", generation=4)
    assert (keys.generations(), keys.delivered(), keys.beside()) == ([1, 2, 3, 4], 4, [])
