# SPDX-License-Identifier: GPL-3.0-or-later
"""A disk that is full, and one that fills up during the dump, met by community.postgresql's postgresql_db and by pg_dump; docs/comparison.md has the result."""

from __future__ import annotations

import collections.abc
import json
import subprocess
import time
import typing as t
from pathlib import Path

import pytest
from demo.postgres import Postgres
from pyrage import x25519

from tests.bench.conftest import Theirs, login
from tests.integration.backup_world import Backups, disk, fill
from tests.integration.module_process import until
from tests.integration.sql import execute

FORMATS = ("sql", "sql.gz", "sql.bz2", "sql.xz", "pgc", "tar", "dir")
WRITTEN = 1 << 20
LIMIT = 300
Started = subprocess.Popen[str] | subprocess.Popen[bytes]
Answer = dict[str, t.Any]


@pytest.fixture(scope="module")
def server() -> collections.abc.Iterator[Postgres]:
    """A database whose dump fits into a pipe, and one whose dump does not."""
    with Postgres.temporary(fsync="off") as running:
        execute(running.url(), "CREATE DATABASE small", "CREATE DATABASE large")
        execute(running.url("small"), "CREATE TABLE bookings AS SELECT i AS id FROM generate_series(1, 100) i")
        fill(running.url("large"), 12)
        yield running


@pytest.fixture
def backups(server: Postgres, tmp_path: Path) -> collections.abc.Iterator[Backups]:
    """An empty directory on a small disk."""
    with disk(tmp_path / "disk"):
        made = Backups(server.url("small"), tmp_path / "disk" / "backups", x25519.Identity.generate())
        made.dest.mkdir()
        yield made


def lies_there(dest: Path) -> int:
    """Bytes in the directory, whatever their names."""
    return sum(path.stat().st_size for path in dest.rglob("*") if path.is_file())


def settled(dest: Path) -> dict[str, int]:
    """Final names and their bytes, when nothing grows any more: a compressor may outlive the module."""
    sizes = [-1]

    def same() -> bool:
        sizes.append(lies_there(dest))
        time.sleep(0.2)
        return lies_there(dest) == sizes[-1]

    until(same, LIMIT)
    return {path.name: lies_there(path) if path.is_dir() else path.stat().st_size for path in dest.iterdir() if not path.name.startswith(".")}


def met(process: Started, backups: Backups, *, fills_up: bool) -> tuple[Answer, dict[str, int]]:
    """What the module answers, and what lies under final names afterwards."""
    while fills_up and process.poll() is None and lies_there(backups.dest) < WRITTEN:
        time.sleep(0.001)
    if fills_up:
        backups.take_the_room()
    answer = json.loads(process.communicate(timeout=LIMIT)[0])
    return answer, settled(backups.dest)


def said(answer: Answer) -> str:
    """In the words of Ansible."""
    return "failed" if answer.get("failed") else "changed" if answer.get("changed") else "ok"


@pytest.mark.parametrize("database", ["small", "large"])
def test_a_full_disk(theirs: Theirs, server: Postgres, backups: Backups, database: str) -> None:
    fills_up = database == "large"
    lines = {}
    for suffix in FORMATS:
        if not fills_up:
            backups.take_the_room()
        target = {"name": database, "state": "dump", "target": str(backups.dest / f"b.{suffix}")}
        with theirs.started("postgresql_db", {**login(server.url()), **target}) as process:
            lines[f"postgresql_db .{suffix}"] = met(process, backups, fills_up=fills_up)
        backups.filler.unlink()
        subprocess.run(["find", str(backups.dest), "-mindepth", "1", "-delete"], check=True)
    if not fills_up:
        backups.take_the_room()
    with backups.dump("b", database_url=server.url(database)) as ours:
        lines["pg_dump"] = met(ours, backups, fills_up=fills_up)
    print(f"\n{'the disk fills up' if fills_up else 'the disk is full'}, {database} database")
    for name, (answer, left) in lines.items():
        print(f"{name:24} {said(answer):8} {left or 'nothing'}  {str(answer.get('msg', ''))[:100]!r}")
    answer, left = lines["pg_dump"]
    assert (said(answer), left) == ("failed", {})
    assert "disk is" in answer["msg"]
