# SPDX-License-Identifier: GPL-3.0-or-later
"""pg_dump when the disk fills up, a process of the chain is killed or the server goes away: what lies in the directory afterwards, and after the next run.

zstd and age are libraries in the module's own process; the processes of the chain are the module, pg_dump and the pg_restore that reads along.
"""

from __future__ import annotations

import collections.abc
import contextlib
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from demo.postgres import Postgres
from pyrage import x25519

from .backup_world import Backups, disk, fill
from .module_process import children, finished, is_running, until

MEGABYTES = 12
FEW, FULL = 2, 20
Rounds = collections.abc.Callable[[int, int], int]


@pytest.fixture(scope="module")
def own_server() -> collections.abc.Iterator[Postgres]:
    """A server that may be stopped."""
    with Postgres.temporary(fsync="off") as server:
        fill(server.url(), MEGABYTES)
        yield server


@pytest.fixture(scope="module")
def backups(own_server: Postgres) -> collections.abc.Iterator[Backups]:
    """A directory on a small disk with one good backup in it."""
    directory = Path(tempfile.mkdtemp(prefix="lastro-test-"))
    with disk(directory / "disk"):
        made = Backups(own_server.url(), directory / "disk" / "backups", x25519.Identity.generate())
        with made.dump("first") as process:
            assert finished(process)["changed"] is True
        yield made
    shutil.rmtree(directory)


def size(backups: Backups) -> int:
    return (backups.dest / "first.dump.zst.age").stat().st_size


def wait_for_size(backups: Backups, offset: int, process_ended: collections.abc.Callable[[], object]) -> None:
    """Return when *offset* bytes are in the part file, or when the process has ended."""
    while backups.part_size() < offset and process_ended() is None:
        time.sleep(0.0005)


def moved(pid: int) -> int:
    """Bytes that the process has read and written."""
    if not is_running(pid):
        return 1 << 62
    try:
        fields = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text(encoding="ascii").splitlines())
    except OSError:
        return 1 << 62  # it has ended
    return int(fields["rchar"]) + int(fields["wchar"])


def wait_for_bytes(pid: int, offset: int) -> None:
    while moved(pid) < offset:
        time.sleep(0.0002)


def started_program(process: subprocess.Popen[bytes], command: str) -> int:
    """Its process id, as soon as it runs; 0 where the *process* ended before the program was seen."""

    def look() -> int:
        ended = process.poll() is not None
        return next((pid for pid, line in children(process).items() if command in line), -1 if ended else 0)

    pid: int = until(look)
    return max(pid, 0)


def until_gone(programs: collections.abc.Iterable[int]) -> None:
    until(lambda: not any(is_running(pid) for pid in programs))


def assert_next_run_is_whole(backups: Backups, name: str, good: set[str]) -> None:
    """A killed session may still hold the lock of backups for a moment."""

    def again() -> bool:
        with backups.dump(name) as process:
            result = finished(process)
        assert result.get("changed") or "Another dump or a migration of ours runs" in result["msg"], result
        return bool(result.get("changed"))

    assert until(again)
    assert backups.parts() == []
    assert backups.good() == good | {name}
    backups.forget(name, *good - {"first"})


def test_a_disk_that_fills_up_at_any_offset(backups: Backups, rounds: Rounds, seeded: random.Random) -> None:
    count, full = rounds(FEW, FULL), 0
    for number in range(count):
        offset = seeded.randrange(1, size(backups))
        with backups.dump(f"full{number}") as process:
            wait_for_size(backups, offset, process.poll)
            backups.take_the_room()
            result = finished(process)
        print(f"offset {offset}: {result.get('msg', 'done')}")
        assert backups.parts() == []
        if result.get("failed"):
            full += 1
            assert "The disk is full" in result["msg"]
            assert set(result["remedy"]) == {"en", "pt_BR"}
            assert backups.good() == {"first"}
        else:
            assert result["changed"] is True
            assert backups.good() == {"first", f"full{number}"}
        backups.filler.unlink()
        assert_next_run_is_whole(backups, "after", backups.good())
    assert full >= count - 2


def test_a_disk_that_has_room_for_all_but_the_manifest(backups: Backups) -> None:
    empty = backups.take_the_names(left=1)
    with backups.dump("full") as process:
        result = finished(process)
    assert "The disk is full" in result["msg"]
    assert backups.parts() == []
    assert backups.good() == {"first"}
    for path in empty:
        path.unlink()
    assert_next_run_is_whole(backups, "full", {"first"})


@pytest.mark.parametrize(("victim", "command"), [("pg_dump", "--snapshot="), ("pg_restore", "--file=/dev/null")])
def test_a_program_of_the_chain_killed_at_any_moment(backups: Backups, rounds: Rounds, seeded: random.Random, victim: str, command: str) -> None:
    killed = 0
    while killed < rounds(FEW, FULL):
        with backups.dump("killed") as process:
            pid = started_program(process, command)
            # Some megabytes are on their way in pipes: a program that has handed them all over has ended.
            wait_for_bytes(pid, seeded.randrange((MEGABYTES - 4) << 20))
            if pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            result = finished(process)
        if result.get("changed"):  # it had done its work before we looked
            assert backups.good() == {"first", "killed"}
            backups.forget("killed")
            continue
        killed += 1
        assert victim in result["msg"]
        assert "ended by signal 9 (SIGKILL)" in result["msg"]
        assert backups.parts() == []
        assert backups.good() == {"first"}
        assert_next_run_is_whole(backups, "after", {"first"})


def test_the_module_killed_at_any_moment(backups: Backups, rounds: Rounds, seeded: random.Random) -> None:
    begun = time.monotonic()
    with backups.dump("timed") as process:
        finished(process)
    whole = time.monotonic() - begun
    backups.forget("timed")
    for number in range(rounds(FEW, FULL)):
        name, programs = f"killed{number}", dict[int, str]()
        with backups.dump(name) as process:
            if number % 2:  # in the stream; the others at any moment, before and after it as well
                wait_for_bytes(started_program(process, "--snapshot="), seeded.randrange((MEGABYTES - 4) << 20))
            else:
                end = time.monotonic() + seeded.uniform(0, whole)
                while time.monotonic() < end:
                    programs.update(children(process))
                    time.sleep(0.002)
            programs.update(children(process))
            process.kill()
            process.communicate()
        until_gone(programs)
        print(f"killed with {len(programs)} programs seen, left: {sorted(path.name for path in backups.parts())}")
        done = f"{name}.manifest.json" in backups.names()  # it had just finished its work
        assert_next_run_is_whole(backups, "after", {"first", name} if done else {"first"})


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_the_server_restarted_at_any_moment(backups: Backups, own_server: Postgres, rounds: Rounds, seeded: random.Random, mode: str) -> None:
    for number in range(rounds(FEW, FULL) // 2):
        with backups.dump(f"restarted{number}") as process:
            wait_for_bytes(started_program(process, "--snapshot="), seeded.randrange((MEGABYTES - 4) << 20))
            own_server.stop(mode)
            own_server.start()
            result = finished(process)
        if result.get("failed"):
            assert "PostgreSQL" in result["msg"] or "pg_dump said" in result["msg"], result
            assert backups.parts() == []
            assert backups.good() == {"first"}
        else:
            assert backups.good() == {"first", f"restarted{number}"}
        assert_next_run_is_whole(backups, "after", backups.good())


@pytest.mark.parametrize("renamed", [1, 2])
def test_a_run_killed_between_its_renames(backups: Backups, renamed: int) -> None:
    with backups.dump("half", format="directory") as process:
        result = finished(process)
    assert result["changed"] is True, result
    files = sorted(path for path in backups.dest.iterdir() if path.name.startswith("half.") and ".dump" in path.name)
    assert len(files) == 2
    # The process is gone by now, as is one that was killed.
    for path in (*files[renamed:], backups.dest / "half.manifest.json"):
        path.rename(backups.dest / f".{path.name}.{process.pid}.part")
    assert_next_run_is_whole(backups, "after", {"first"})
