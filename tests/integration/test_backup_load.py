# SPDX-License-Identifier: GPL-3.0-or-later
"""A backup and its restore while the application writes, and how much memory they and a rehearsal take for a database that is larger than that."""

from __future__ import annotations

import collections.abc
import contextlib
import subprocess
import threading
import time
from pathlib import Path

import psycopg2
import pytest
from demo.postgres import Postgres, bin_directory
from pyrage import x25519

from .alembic_project import App, running
from .backup_world import Backups
from .module_process import children, finished, started
from .sql import execute, rows

WRITES_PER_SECOND = 1500
MEGABYTES = 300
Rounds = collections.abc.Callable[[int, int], int]

# Inserts, updates and deletes, each its own transaction; the sequence counts them, also those that no snapshot sees.
WRITER = """
DO $$ BEGIN LOOP
  FOR i IN 1..40 LOOP
    CASE i % 4
      WHEN 0 THEN DELETE FROM events WHERE id = (SELECT min(id) FROM events);
      WHEN 1 THEN UPDATE events SET note = 'changed ' || i WHERE id = (SELECT max(id) FROM events);
      ELSE INSERT INTO events (note) VALUES ('new ' || i);
    END CASE;
    PERFORM nextval('writes');
    COMMIT;
  END LOOP;
  PERFORM pg_sleep(0.005);
END LOOP; END $$
"""


@pytest.fixture(scope="module")
def server() -> collections.abc.Iterator[Postgres]:
    with Postgres.temporary(fsync="off", synchronous_commit="off", max_wal_size="'4GB'") as one:
        yield one


@pytest.fixture(scope="module")
def large(server: Postgres, tmp_path_factory: pytest.TempPathFactory, rounds: Rounds) -> Backups:
    """A database whose dump is larger than the memory that we may take."""
    megabytes = rounds(330, 2200)
    execute(
        server.url(),
        "CREATE TABLE ballast (id int, note text STORAGE PLAIN)",
        f"INSERT INTO ballast SELECT i, repeat(md5(i::text), 31) FROM generate_series(1, {megabytes} * 1000) i",
        "CREATE TABLE events (id bigserial PRIMARY KEY, note text)",
        "INSERT INTO events (note) SELECT 'before ' || i FROM generate_series(1, 20000) i",
        "CREATE SEQUENCE writes",
    )
    return Backups(server.url(), tmp_path_factory.mktemp("large") / "backups", x25519.Identity.generate())


@contextlib.contextmanager
def writing(url: str) -> collections.abc.Iterator[None]:
    """Two sessions that write until the end."""

    def write() -> None:
        with contextlib.suppress(psycopg2.OperationalError):  # ended below
            execute(f"{url}?application_name=writer", WRITER)

    writers = [threading.Thread(target=write) for _number in range(2)]
    for writer in writers:
        writer.start()
    try:
        yield
        assert all(writer.is_alive() for writer in writers)
    finally:
        execute(url, "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'writer'")
        for writer in writers:
            writer.join()


class Memory:
    """The most that a process and the programs it started had in memory, each at its own worst moment, in megabytes."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._most: dict[str, int] = {}
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def _look(self) -> None:
        while self._process.poll() is None:
            for pid, command in {**children(self._process), self._process.pid: "module"}.items():
                name = Path(command.partition(" ")[0]).name
                with contextlib.suppress(OSError):
                    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
                        if line.startswith("VmHWM:"):
                            self._most[name] = max(self._most.get(name, 0), int(line.split()[1]))
            time.sleep(0.02)

    def megabytes(self) -> dict[str, int]:
        """By program; ``module`` is Python."""
        self._thread.join()
        return {name: kilobytes >> 10 for name, kilobytes in self._most.items()}


def test_a_busy_database_comes_back_equal_within_the_memory(large: Backups, server: Postgres) -> None:
    with writing(large.url):
        first, begun = rows(large.url, "SELECT last_value FROM writes")[0][0], time.monotonic()
        with large.dump("busy", identity=str(large.identity)) as process:
            memory = Memory(process)
            made = finished(process, 600)
            dumping = memory.megabytes()
        rate = (rows(large.url, "SELECT last_value FROM writes")[0][0] - first) / (time.monotonic() - begun)
    assert made.get("changed"), made
    options = {"database_url": large.url, "dest": str(large.dest), "name": "busy", "into": "copy", "identity": str(large.identity)}
    with started("pg_restore", {**options, "admin_url": server.url("template1"), "bin_dir": str(bin_directory())}) as process:
        memory = Memory(process)
        restored = finished(process, 600)
        restoring = memory.megabytes()
    print(f"{made['raw_size'] >> 20} MiB of dump, {rate:.0f} writes/s, dumping {dumping}, restoring {restoring} MiB")
    assert restored.get("compared") == {"tables": 2, "equal": 2, "different": []}, restored
    assert rate >= WRITES_PER_SECOND
    # What is written meanwhile is not in it: the two are not equal by standing still.
    assert rows(server.url("copy"), "SELECT max(id) FROM events") < rows(large.url, "SELECT max(id) FROM events")
    assert made["raw_size"] >> 20 > MEGABYTES
    assert {"module", "pg_dump", "pg_restore"} <= {*dumping}
    for memory_of in (dumping, restoring):
        assert sum(memory_of.values()) <= MEGABYTES


def test_a_rehearsal_on_a_copy_of_all_rows_within_the_memory(large: Backups, server: Postgres, tmp_path: Path) -> None:
    revision = ("op.add_column('events', sa.Column('more', sa.Text))", "op.drop_column('events', 'more')")
    app = App.create(tmp_path / "release", large.url, {"r1": revision})
    with running(app, "alembic_info", rehearsal_url=server.url("template1"), bin_dir=str(bin_directory()), lint={"profile": "off"}) as process:
        memory = Memory(process)
        answer = finished(process, 600)
        rehearsing = memory.megabytes()
    print(f"rehearsing {rehearsing} MiB")
    assert (answer["rehearsal"]["rows"], answer["rehearsal"]["problem"]) == (True, ""), answer
    assert {"module", "pg_dump", "pg_restore"} <= {*rehearsing}
    assert sum(rehearsing.values()) <= MEGABYTES
