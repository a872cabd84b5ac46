# SPDX-License-Identifier: GPL-3.0-or-later
"""The module pg_dump with format: directory: several streams of one snapshot, and what comes back from them."""

from __future__ import annotations

import contextlib
import json
import signal
import threading
import typing as t
from pathlib import Path

import psycopg2
import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.lastro.deploy.plugins.module_utils import _backup_programs, _pg_dump_stream, _secret_pipe
from ansible_collections.lastro.deploy.plugins.module_utils._backup_snapshot import COUNTED
from ansible_collections.lastro.deploy.plugins.modules import pg_dump, pg_restore
from demo.postgres import Postgres, bin_directory
from pyrage import x25519

from .dump_support import SECRET, Dump, names
from .sql import execute, rows

IDENTITY = x25519.Identity.generate()
FILES = ["b1.data1.dump.zst.age", "b1.data2.dump.zst.age", "b1.dump.zst.age", "b1.manifest.json"]


@pytest.fixture
def dest(tmp_path: Path) -> Path:
    return tmp_path / "backups"


@pytest.fixture
def dump(capsys: pytest.CaptureFixture[str], database: str, dest: Path) -> Dump:
    return Dump(capsys, database, dest, str(IDENTITY.to_public()))


@pytest.fixture
def tables(database: str) -> str:
    """Tables of which two are large, with a foreign key between them, an index, a sequence, a name full of wildcards and a large object."""
    execute(
        database,
        "CREATE TABLE owners (id serial PRIMARY KEY, name text UNIQUE)",
        f"INSERT INTO owners (name) SELECT '{SECRET}' || n FROM generate_series(1, 20000) n",
        'CREATE TABLE "od""d*.?_%s" (id int REFERENCES owners, note text)',
        'INSERT INTO "od""d*.?_%s" SELECT n, repeat(md5(n::text), 5) FROM generate_series(1, 20000) n',
        'CREATE INDEX by_note ON "od""d*.?_%s" (note)',
        "CREATE TABLE small (id int)",
        "INSERT INTO small VALUES (1)",
        "SELECT lo_from_bytea(0, 'large')",
    )
    return database


def restore(capsys: pytest.CaptureFixture[str], url: str, **options: object) -> dict[str, t.Any]:
    arguments = {"database_url": url, "identity": str(IDENTITY), "bin_dir": str(bin_directory()), **options}
    with patch_module_args(arguments), pytest.raises(SystemExit):
        pg_restore.main()
    result: dict[str, t.Any] = json.loads(capsys.readouterr().out)
    return result


@pytest.mark.parametrize("jobs", [1, 2])
def test_what_was_dumped_in_parts_comes_back_equal(dump: Dump, tables: str, dest: Path, capsys: pytest.CaptureFixture[str], jobs: int) -> None:
    stop, written = threading.Event(), threading.Event()

    def write() -> None:
        with contextlib.closing(psycopg2.connect(tables)) as connection, connection.cursor() as cursor:
            connection.autocommit = True
            while not stop.is_set():
                cursor.execute('WITH one AS (INSERT INTO owners (name) VALUES (gen_random_uuid()) RETURNING id) INSERT INTO "od""d*.?_%s" SELECT id FROM one')
                written.set()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert written.wait(120)
        result = dump(format="directory", jobs=3)
    finally:
        stop.set()
        writer.join()
    assert result["verified"] == ["read", "decode"], result
    assert names(dest) == FILES
    assert [Path(one["path"]).name for one in result["parts"]] == FILES[:2]
    assert [one["size"] for one in (*result["parts"], result)] == [(dest / name).stat().st_size for name in FILES[:3]]
    assert min(one["size"] for one in result["parts"]) > result["size"]  # the rows of the large tables are in the parts
    for name in FILES[:3]:
        assert SECRET.encode() not in (dest / name).read_bytes()
    into = f"parts_{jobs}"
    restored = restore(capsys, tables, manifest=result["manifest"], into=into, jobs=jobs)
    assert restored["compared"] == {"tables": 4, "equal": 4, "different": []}, restored
    url = tables.rpartition("/")[0] + "/" + into
    try:
        assert rows(url, "SELECT count(*) FROM pg_constraint WHERE contype = 'f'") == [(1,)]
        assert rows(url, "SELECT indexname FROM pg_indexes WHERE indexname = 'by_note'") == [("by_note",)]
        assert rows(url, "SELECT lo_get(oid) FROM pg_largeobject_metadata")[0][0].tobytes() == b"large"
        assert rows(url, "SELECT nextval('owners_id_seq') > 20000") == [(True,)]
    finally:
        execute(tables, f"DROP DATABASE {into} WITH (FORCE)")


def test_parts_are_restored_to_prove_them(dump: Dump, tables: str, dest: Path, postgres: Postgres, clusters: Path) -> None:
    where: dict[str, t.Any] = {
        "verify": "restore",
        "rehearsal_cluster": str(clusters),
        "bin_dir": str(postgres.installation / "bin"),
        "format": "directory",
        "jobs": 3,
    }
    assert "needs identity" in dump(**where)["msg"]
    pipe = clusters / "identity.pipe"
    _secret_pipe.make(pipe)
    writer = threading.Thread(target=_secret_pipe.give, args=(pipe, str(IDENTITY)), kwargs={"timeout": 120.0})
    writer.start()
    result = dump(**where, identity_pipe=str(pipe))
    writer.join()
    assert result["verified"] == ["read", "decode", "decrypt", "restore"], result
    assert names(clusters) == []


def test_a_missing_or_damaged_part_is_found(dump: Dump, tables: str, dest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = dump(format="directory", jobs=3)["manifest"]
    part = dest / FILES[0]
    content = part.read_bytes()
    for damaged in (content[:-1], content[:100] + bytes([content[100] ^ 1]) + content[101:]):
        part.write_bytes(damaged)
        assert FILES[0] in restore(capsys, tables, manifest=manifest, into="never")["msg"]
    part.unlink()
    assert FILES[0] in restore(capsys, tables, manifest=manifest, into="never")["msg"]
    assert FILES[0] in dump(format="directory", jobs=3)["msg"]


@pytest.mark.parametrize("victim", [0, 1, 2])
def test_one_killed_stream_ends_all_and_leaves_nothing(dump: Dump, tables: str, dest: Path, monkeypatch: pytest.MonkeyPatch, victim: int) -> None:
    running = _pg_dump_stream.running
    started: list[_backup_programs.Program] = []

    @contextlib.contextmanager
    def killed(name: str, *arguments: t.Any, **options: t.Any) -> t.Iterator[_backup_programs.Program]:  # noqa: ANN401 - handed on
        with running(name, *arguments, **options) as program:
            if name == "pg_dump":
                started.append(program)
                if len(started) == victim + 1:
                    program.process.send_signal(signal.SIGKILL)
            yield program

    monkeypatch.setattr(_pg_dump_stream, "running", killed)
    result = dump(format="directory", jobs=3)
    assert "ended by signal 9 (SIGKILL)" in result["msg"]
    assert names(dest) == []
    assert [program.process.returncode is not None for program in started] == [True] * len(started)


@pytest.mark.parametrize("options", [{}, {"format": "directory", "jobs": 3}])
def test_progress_goes_from_nothing_to_all_of_the_dump(dump: Dump, tables: str, monkeypatch: pytest.MonkeyPatch, options: dict[str, object]) -> None:
    figures: list[tuple[int, int, str]] = []
    monkeypatch.setattr(pg_dump, "file_progress", lambda path: lambda *one: figures.append(one))
    result = dump(**t.cast("dict[str, t.Any]", options))
    counted = [(done, total) for done, total, unit in figures if unit == COUNTED]
    # Before each of the three tables, and after the last.
    assert len(counted) == 4 and counted == sorted(counted)
    assert (counted[0][0], counted[-1][0]) == (0, counted[0][1]) and counted[0][1] > 0
    dumped = [done for done, _total, unit in figures if unit == "bytes"]
    assert max(dumped) == result["raw_size"]
    assert all(done <= total for done, total, unit in figures if unit == "bytes")
    assert len(dumped) > 5
