# SPDX-License-Identifier: GPL-3.0-or-later
"""The pieces of backups that need no server: manifests, retention, client choice, the chain, part files, plans."""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import io
import itertools
import json
import os
import time
import typing as t
from pathlib import Path

import pytest
from ansible_collections.lastro.deploy.plugins.module_utils import (
    _backup_directory,
    _backup_manifest,
    _backup_programs,
    _backup_retention,
    _backup_sanity,
    _backup_stream,
    _backup_swap,
    _pg_dump_parts,
    _pg_dump_stream,
    _pg_restore,
)
from ansible_collections.lastro.deploy.plugins.module_utils._backup_manifest import DatabaseLocale, Difference, Manifest, TableState
from ansible_collections.lastro.deploy.plugins.module_utils._backup_programs import Client
from ansible_collections.lastro.deploy.plugins.module_utils._backup_snapshot import Table, display_name, quote_identifier
from ansible_collections.lastro.deploy.plugins.module_utils._backup_swap import Database, Names
from ansible_collections.lastro.deploy.plugins.module_utils._errors import LastroError
from ansible_collections.lastro.deploy.plugins.module_utils._postgres import ConnectionSettings
from hypothesis import given
from hypothesis import strategies as st
from pyrage import x25519

DAY = 86_400
NOW = 1_800_000_000.0
SHA = "a" * 64
KEY = x25519.Identity.generate()


def manifest(name: str = "b1", *, age_days: float = 0, **fields: t.Any) -> Manifest:  # noqa: ANN401 - any field of the manifest
    made = Manifest(
        name=name,
        run_id="",
        created=_backup_manifest.utc(NOW - age_days * DAY),
        database="app",
        server_version="18.6",
        client_version="18.6",
        snapshot_lsn="0/1",
        database_size=1000,
        locale=DatabaseLocale("UTF8", "C", "C", "c", ""),
        tables={"public.t": TableState(3, "7", ("a",))},
        hashes="rows",
        file=f"{name}.dump.zst.age",
        size=4,
        sha256=SHA,
        raw_size=9,
        compression="zstd",
        encryption="age",
        recipients=("age1x",),
        verified=("read",),
        seconds={"total": 1.0},
    )
    return dataclasses.replace(made, **fields)


# --- manifests


def test_a_manifest_reads_back_as_it_was_written(tmp_path: Path) -> None:
    path = _backup_manifest.write(tmp_path, manifest())
    assert path.stat().st_mode & 0o777 == 0o600
    assert _backup_manifest.read(path) == manifest()


@pytest.mark.parametrize(
    "fields",
    [
        {"format": "other/1"},
        {"file": "../../etc/passwd"},
        {"name": "b2"},
        {"size": "4"},
        {"created": "2026-11-21T10:00:00"},
        {"tables": []},
        {"surplus": 1},
        {"size": -1},
    ],
)
def test_a_manifest_that_is_not_ours_is_refused(tmp_path: Path, fields: dict[str, object]) -> None:
    path = _backup_manifest.write(tmp_path, manifest())
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **fields}), encoding="utf-8")
    with pytest.raises(LastroError) as caught:
        _backup_manifest.read(path)
    assert str(path) in caught.value.message
    assert _backup_manifest.good_ones(tmp_path, "app") == []


def test_a_missing_file_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(LastroError, match="cannot be read"):
        _backup_manifest.check_file(tmp_path, manifest())
    with pytest.raises(LastroError, match="no manifest"):
        _backup_manifest.read(tmp_path / "b1.manifest.json")


def test_good_ones_are_whole_verified_and_of_this_database(tmp_path: Path) -> None:
    for one in (manifest("old", age_days=2), manifest("new"), manifest("other", database="else"), manifest("unproved", verified=()), manifest("cut", size=5)):
        (tmp_path / one.file).write_bytes(b"1234")
        _backup_manifest.write(tmp_path, one)
    _backup_manifest.write(tmp_path, manifest("alone"))
    assert [one.name for one in _backup_manifest.good_ones(tmp_path, "app")] == ["new", "old"]


@given(st.lists(st.integers(0, 60), max_size=12), st.integers(0, 40), st.integers(1, 6))
def test_retention_never_takes_a_young_a_pinned_or_one_of_the_newest(ages: list[int], days: int, least: int) -> None:
    backups = [manifest(f"b{number}", age_days=age) for number, age in enumerate(sorted(ages))]
    gone = _backup_retention.prunable(backups, now=NOW, days=days, keep_at_least=least, keep={"b0", "b3"})
    assert not {one.name for one in gone} & {"b0", "b3"}
    assert not [one for one in gone if one in backups[:least] or NOW - one.timestamp <= days * DAY]
    assert {one.name for one in backups[least:] if NOW - one.timestamp > days * DAY} - {"b0", "b3"} == {one.name for one in gone}


@pytest.mark.parametrize(
    ("expected", "found", "reason"),
    [
        (TableState(1), TableState(1), None),
        (TableState(1, "5", ("a",)), TableState(1, "5", ("a",)), None),
        (TableState(1, "5", ("a",)), TableState(1), None),
        (TableState(1), TableState(2), "rows"),
        (TableState(1, "5", ("a",)), TableState(1, "6", ("a",)), "content"),
        (TableState(1, "5", ("a",)), TableState(1, "5", ("b",)), "columns"),
        (TableState(1), None, "missing"),
        (None, TableState(1), "unexpected"),
    ],
)
def test_tables_are_compared(expected: TableState | None, found: TableState | None, reason: str | None) -> None:
    one = {"t": expected} if expected else {}
    other = {"t": found} if found else {}
    differences = _backup_manifest.compare(one, other)
    assert [one.reason for one in differences] == ([reason] if reason else [])


@pytest.mark.parametrize(("schema", "table", "shown"), [("public", "t", "public.t"), ("public", "T", 'public."T"'), ('a"b', "order", '"a""b".order')])
def test_names_of_tables(schema: str, table: str, shown: str) -> None:
    assert display_name(schema, table) == shown


# --- client programs


def test_the_client_nearest_above_the_server_is_chosen() -> None:
    clients = [Client(Path(f"/{version}"), version) for version in ("18.1", "15.9", "16.2", "16.4", "19beta1")]
    chosen = {wanted: _backup_programs.choose(clients, wanted) for wanted in (14, 16, 17, 19, 20)}
    assert {wanted: client.version if client else None for wanted, client in chosen.items()} == {14: "15.9", 16: "16.2", 17: "18.1", 19: "19beta1", 20: None}
    assert _backup_programs.major("nonsense") == 0


def program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)


def test_only_real_pairs_of_programs_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = 'echo "pg_dump (PostgreSQL) 17.3 (Debian 17.3-1)"'
    for name in ("good", "alone", "mute", "broken"):
        program(tmp_path / name / "pg_dump", {"mute": "echo", "broken": f"{answer}; exit 1"}.get(name, answer))
    for name in ("good", "mute", "broken"):
        program(tmp_path / name / "pg_restore", answer)
    program(tmp_path / "share" / "pg_wrapper", answer)
    (tmp_path / "wrapped").mkdir()
    for name in _backup_programs.PROGRAMS:
        (tmp_path / "wrapped" / name).symlink_to(tmp_path / "share" / "pg_wrapper")
    monkeypatch.setattr(_backup_programs, "PACKAGED", ())
    monkeypatch.setenv("PATH", os.pathsep.join(str(tmp_path / name) for name in ("good", "alone", "mute", "broken", "wrapped", "good")) + ":/bin:/usr/bin")
    found = [client for client in _backup_programs.installed_clients(None) if client.directory.is_relative_to(tmp_path)]
    assert found == [Client(tmp_path / "good", "17.3")]
    assert _backup_programs.find_client("17.9", str(tmp_path / "good")).program("pg_dump") == str(tmp_path / "good" / "pg_dump")
    with pytest.raises(LastroError, match=r"older than the server 18\.6: it would refuse"):
        _backup_programs.find_client("18.6", str(tmp_path / "good"))
    with pytest.raises(LastroError, match="or than the pg_dump 18 that made the backup"):
        _backup_programs.find_client("16.6", str(tmp_path / "good"), at_least=18)


def test_a_program_that_cannot_start_has_no_version(tmp_path: Path) -> None:
    for name in _backup_programs.PROGRAMS:
        (tmp_path / name).write_bytes(b"\x7fELF")
        (tmp_path / name).chmod(0o755)
    assert _backup_programs.installed_clients(str(tmp_path)) == []


def test_error_output_loses_values_of_rows() -> None:
    text = (
        "pg_restore: while PROCESSING TOC:\npg_restore: from TOC entry 1\n"
        'pg_restore: error: COPY failed for table "t": ERROR:  invalid input syntax for type integer: "s3cret"\n'
        'CONTEXT:  COPY t, line 1, column a: "s3cret"\nDETAIL:  Key (a)=(s3cret) already exists.\nCommand was: INSERT s3cret\n'
    )
    cleaned = _backup_programs.without_values(text)
    assert "s3cret" not in cleaned
    assert cleaned == 'pg_restore: error: COPY failed for table "t": ERROR:  invalid input syntax for type integer: "..."'
    assert _backup_programs.without_values("just words\n") == "just words"


def test_a_child_is_reaped_and_its_end_is_told() -> None:
    environment = {"PATH": os.environ["PATH"]}
    with _backup_programs.running("sh", ["sh", "-c", "cat > /dev/null; exit 3"], environment, reads=True) as child:
        child.sink.write(b"x")
        assert (child.wait(), child.complaint()) == (3, "exit status 3")
        with pytest.raises(ValueError, match="output pipe"):
            _unused = child.source
    with _backup_programs.running("sleep", ["sleep", "60"], environment, writes=True) as child:
        with pytest.raises(ValueError, match="input pipe"):
            _unused = child.sink
        pid = child.process.pid
    assert child.process.returncode == -9
    assert not Path(f"/proc/{pid}").exists()


# --- the chain


def chain_of(compression: str, encrypted: bool) -> dict[str, t.Any]:
    return {"compression": compression, "level": 3, "recipients": [KEY.to_public()] if encrypted else []}


CHAINS = list(itertools.product(("zstd", "gzip", "none"), (True, False)))


@pytest.mark.parametrize(("compression", "encrypted"), CHAINS)
@given(st.binary(max_size=3000), st.integers(1, 300))
def test_what_is_encoded_decodes_to_the_same(compression: str, encrypted: bool, data: bytes, repeat: int) -> None:
    stored = io.BytesIO()
    target = _backup_stream.Measured(stored)
    tee = _backup_stream.Tee(io.BytesIO(data * repeat), [], lambda done: None)
    _backup_stream.encode(tee, target, **chain_of(compression, encrypted))
    assert (tee.size, target.size) == (len(data) * repeat, len(stored.getvalue()))
    clear = io.BytesIO()
    size = _backup_stream.decode(io.BytesIO(stored.getvalue()), clear.write, compression=compression, identities=[KEY] if encrypted else [])
    assert (size, clear.getvalue()) == (len(data) * repeat, data * repeat)


def encoded(compression: str, encrypted: bool, data: bytes) -> bytes:
    stored = io.BytesIO()
    _backup_stream.encode(io.BytesIO(data), _backup_stream.Measured(stored), **chain_of(compression, encrypted))
    return stored.getvalue()


@pytest.mark.parametrize("where", [0.05, 0.5, 0.95])
@pytest.mark.parametrize(("compression", "encrypted"), [one for one in CHAINS if one != ("none", False)])
def test_one_flipped_bit_does_not_decode(compression: str, encrypted: bool, where: float) -> None:
    content = bytearray(encoded(compression, encrypted, os.urandom(400_000)))
    content[int(len(content) * where)] ^= 4
    with pytest.raises(_backup_stream.ChainError, match="damaged"):
        _backup_stream.decode(io.BytesIO(bytes(content)), len, compression=compression, identities=[KEY] if encrypted else [])


def test_a_truncated_age_file_does_not_decode_wherever_it_is_cut() -> None:
    content = encoded("none", True, b"x" * 200_000)
    header = len(content) - 200_000 - 4 * 16  # four chunks, each with its tag
    for length in (10, header, header + 64 * 1024 + 16, len(content) - 1):
        with pytest.raises(_backup_stream.ChainError):
            _backup_stream.decode(io.BytesIO(content[:length]), len, compression="none", identities=[KEY])


def test_an_identity_is_tried_on_the_beginning_alone() -> None:
    class Counted(io.BytesIO):
        asked = 0

        def read(self, size: int | None = -1, /) -> bytes:
            data = super().read(size)
            self.asked += len(data)
            return data

    content = encoded("none", True, b"x" * 1_000_000)
    counted = Counted(content)
    assert _backup_stream.opening_problem(counted, [KEY]) == ""
    assert counted.asked < 200_000
    assert "does not belong to any recipient" in _backup_stream.opening_problem(io.BytesIO(content), [x25519.Identity.generate()])
    assert "damaged" in _backup_stream.opening_problem(io.BytesIO(b"no age file"), [KEY])
    assert _backup_stream.opening_problem(io.BytesIO(encoded("none", True, b"")), [KEY]) == ""


def test_the_error_of_a_reader_or_of_the_disk_is_not_lost() -> None:
    def broken(data: bytes) -> None:
        raise BrokenPipeError(errno.EPIPE, "gone")

    for compression, encrypted in CHAINS:
        with pytest.raises(BrokenPipeError):
            _backup_stream.decode(io.BytesIO(encoded(compression, encrypted, b"abc")), broken, compression=compression, identities=[KEY] if encrypted else [])

    class Full(io.BytesIO):
        def write(self, data: object, /) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        def flush(self) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    for encrypted in (True, False):
        target = _backup_stream.Measured(Full())
        with pytest.raises((OSError, _backup_stream.ChainError)):
            _backup_stream.encode(io.BytesIO(b"abc"), target, **chain_of("zstd", encrypted))
        assert target.error is not None
    target = _backup_stream.Measured(Full())
    with pytest.raises(OSError, match="No space"):
        target.flush()
    assert "The disk is full" in str(_backup_stream.disk_error("/x", t.cast("OSError", target.error)))
    assert "/x could not be written" in str(_backup_stream.disk_error("/x", OSError(errno.EROFS, "Read-only file system")))


def test_a_source_that_cannot_be_read_is_named() -> None:
    class Unreadable(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(_backup_stream.ChainError, match="cannot be read \\(Input/output error\\)"):
        _backup_stream.decode(Unreadable(), len, compression="none", identities=[])


def test_a_reader_along_that_goes_away_does_not_stop_the_stream() -> None:
    class Gone(io.BytesIO):
        def write(self, data: object, /) -> int:
            raise BrokenPipeError

    tee = _backup_stream.Tee(io.BytesIO(b"abcdef"), [Gone()], lambda done: None)
    assert (tee.read(3), tee.read(3), tee.read(3)) == (b"abc", b"def", b"")


def test_a_key_file_of_age_keygen_is_an_identity() -> None:
    text = f"# created: 2026-11-21\n# public key: {KEY.to_public()}\n\n{KEY}\n"
    assert [str(one) for one in _backup_stream.parse_identity(text)] == [str(KEY)]
    assert _backup_stream.parse_identity(None) == []


def test_missing_libraries_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_backup_stream, "HAS_ZSTANDARD", False)
    monkeypatch.setattr(_backup_stream, "HAS_PYRAGE", False)
    _backup_stream.require(compression="none", encryption="none")
    with pytest.raises(LastroError, match="no zstandard and pyrage"):
        _backup_stream.require(compression="zstd", encryption="age")


# --- the directory


def test_a_part_file_is_ours_alone_and_goes_unless_committed(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="interrupted"), _backup_directory.part_file(tmp_path / "b.dump") as part:
        part.stream.write(b"half")
        assert part.path.stat().st_mode & 0o777 == 0o600
        with part.path.open("rb") as other, pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _backup_directory.prepare(tmp_path)  # another run that starts meanwhile leaves it alone
        assert part.path.exists()
        raise RuntimeError("interrupted")
    assert list(tmp_path.iterdir()) == []
    with _backup_directory.part_file(tmp_path / "b.dump") as part:
        part.stream.write(b"whole")
        part.sync()
        part.commit()
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("b.dump", b"whole")]


def test_a_part_file_whose_process_id_was_given_away_goes_after_a_while(tmp_path: Path) -> None:
    path = tmp_path / ".b.dump.zst.1.part"  # process 1 always runs
    path.write_bytes(b"")
    _backup_directory.prepare(tmp_path)
    assert path.exists()
    os.utime(path, (time.time() - 100, time.time() - 100))
    _backup_directory.prepare(tmp_path)
    assert not path.exists()


def test_processes_of_others_are_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(process: int, number: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", refused)
    assert _backup_directory._alive(1) is True


def test_a_directory_that_cannot_be_made_or_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(LastroError, match="could not be written"):
        _backup_directory.prepare(tmp_path / "file" / "below")
    with pytest.raises(LastroError, match="could not be written"), _backup_directory.part_file(tmp_path / "none" / "b.dump"):
        pass


def test_the_forecast_follows_the_last_backup(tmp_path: Path) -> None:
    mebibyte = 1 << 20
    assert _backup_directory.forecast(tmp_path / "a" / "b", last_size=None, database_size=100 * mebibyte).needed == 60 * mebibyte
    assert _backup_directory.forecast(tmp_path, last_size=100 * mebibyte, database_size=1).needed == 120 * mebibyte
    assert _backup_directory.forecast(tmp_path, last_size=1, database_size=1).needed == 16 * mebibyte


def test_what_cannot_be_removed_is_told(tmp_path: Path) -> None:
    (tmp_path / "b2.dump.zst.age").mkdir()
    for one in (manifest("b1"), manifest("b2")):
        _backup_manifest.write(tmp_path, one)
    removed, troubles = _backup_directory.remove(tmp_path, [manifest("b1"), manifest("b2")])
    assert removed == ["b1"]
    assert "The backup b2 is past its retention, but could not be removed" in troubles[0]


# --- pg_dump


def test_size_is_compared_with_the_median() -> None:
    history = [manifest(f"b{number}", size=size) for number, size in enumerate((100, 90, 110, 5000, 100, 1))]
    assert _backup_sanity.check_size(manifest(size=399), history, 4.0) == []
    assert "more than 4.0 times" in _backup_sanity.check_size(manifest(size=401), history, 4.0)[0]
    assert _backup_sanity.check_size(manifest(size=25), history, 4.0) == []
    assert _backup_sanity.check_size(manifest(size=1), [], 4.0) == []
    with pytest.raises(LastroError, match="Tables with fewer rows than in b0: none") as caught:
        _backup_sanity.check_size(manifest(size=24), history, 4.0)
    assert caught.value.facts == {"shrunk": []}


def test_a_stored_file_that_does_not_decode_is_not_kept(tmp_path: Path) -> None:
    chain = _pg_dump_stream.Chain("zstd", 3, ())
    for content, said in ((encoded("zstd", False, b"x" * 1000)[:-4], "1000 bytes came out of it, 1001 went in"), (b"not zstd at all", "damaged")):
        with _backup_directory.part_file(tmp_path / "final") as part:
            part.stream.write(content)
            part.sync()
            digest, size = _backup_manifest.sha256_of(part.path)
            stored = [(part, _pg_dump_stream.Streamed(1001, size, digest))]
            with pytest.raises(LastroError, match=said):
                _pg_dump_stream.verify(stored, chain, level="decode", copy=None, progress=lambda *figures: None)


class _NoDump:
    """A directory of programs that end as told."""

    def __init__(self, directory: Path, *, dump: str, restore: str) -> None:
        program(directory / "pg_dump", dump)
        program(directory / "pg_restore", restore)
        self.client = Client(directory, "18.6")

    def run(self, final: Path) -> str:
        with pytest.raises(LastroError) as caught, _backup_directory.part_file(final) as part:
            _pg_dump_stream.dump(
                ConnectionSettings(host="x", database="x", password="pässword"),
                self.client,
                part,
                _pg_dump_stream.Chain("zstd", 3, (KEY.to_public(),)),
                _pg_dump_stream.Snapshot("s", "1s"),
                along=_pg_dump_stream.decoding(self.client),
                expected_size=1,
                progress=lambda *figures: None,
            )
        assert [path.name for path in final.parent.iterdir() if path.is_file()] == []
        return str(caught.value)


@pytest.mark.parametrize(
    ("dump", "restore", "message"),
    [
        ("echo data; echo 'pg_dump: error: no pässword' >&2; exit 1", "cat > /dev/null; exit 1", "pg_dump said: pg_dump: error: no ********"),
        ("echo data", "cat > /dev/null; echo 'pg_restore: error: no archive' >&2; exit 1", "to prove it, said: pg_restore: error: no archive"),
        ("head -c 1000000 /dev/zero", "exit 1", "to prove it, said: exit status 1"),
        ("exit 0", "cat > /dev/null", "pg_dump said: it wrote nothing"),
    ],
)
def test_the_first_cause_of_a_failed_chain_is_told(tmp_path: Path, dump: str, restore: str, message: str) -> None:
    assert message in _NoDump(tmp_path / "bin", dump=dump, restore=restore).run(tmp_path / "b.dump")


def test_a_broken_link_of_the_chain_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object, **options: object) -> None:
        raise _backup_stream.ChainError("age: out of luck")

    monkeypatch.setattr(_pg_dump_stream, "encode", broken)
    assert "the stream said: age: out of luck" in _NoDump(tmp_path / "bin", dump="echo data", restore="cat").run(tmp_path / "b.dump")


# --- pg_restore


def test_names_fit_what_the_server_allows() -> None:
    names = Names.of("é" * 40, into=None, run_id="20261121T221004-7c1f", backup="b1")
    assert all(len(name.encode()) <= 63 for name in (names.into, names.kept))
    assert names.kept.endswith("_failed_20261121T221004-7c1f")
    assert names.into.endswith("_restored_20261121T221004-7c1f")
    assert Names.of("app", into="mine", run_id="r", backup="b1") == Names("app", "mine", "app_failed_r")
    assert Names.of("app", into=None, run_id="", backup="b1").into == "app_restored_b1"


def there(**databases: tuple[bool, str]) -> dict[str, Database]:
    return {name: Database(name, "owner", allows, -1, comment) for name, (allows, comment) in databases.items()}


NAMES = Names("live", "copy", "kept")


@pytest.mark.parametrize(
    ("databases", "swap", "steps"),
    [
        ({"live": (True, "")}, False, ("load", "compare")),
        ({"live": (True, "")}, True, ("load", "compare", "swap")),
        ({}, True, ("load", "compare", "swap")),
        ({"live": (True, ""), "copy": (True, f"lastro.deploy restore: ready {SHA}")}, False, ("compare",)),
        ({"live": (True, ""), "copy": (True, f"lastro.deploy restore: ready {SHA}")}, True, ("compare", "swap")),
        ({"live": (True, ""), "copy": (True, f"lastro.deploy restore: loading {SHA}")}, True, ("drop", "load", "compare", "swap")),
        ({"live": (False, ""), "copy": (True, f"lastro.deploy restore: swapping {SHA}")}, True, ("reopen", "compare", "swap")),
        ({"live": (True, ""), "kept": (True, "lastro.deploy: replaced by backup b1 in run r")}, True, ()),
        ({"live": (False, "")}, False, ("load", "compare")),
    ],
)
def test_the_plan_follows_from_what_is_there(databases: dict[str, tuple[bool, str]], swap: bool, steps: tuple[str, ...]) -> None:
    plan = _pg_restore.decide(there(**databases), NAMES, manifest(), swap=swap)
    assert plan.steps == steps
    assert plan.changes is bool({*steps} - {"compare"})
    assert "compare" not in _pg_restore.decide(there(**databases), NAMES, manifest(), swap=swap, compare=False).steps


@pytest.mark.parametrize(
    ("databases", "message"),
    [
        ({"live": (True, ""), "copy": (True, "")}, "A database copy exists"),
        ({"live": (True, ""), "copy": (True, f"lastro.deploy restore: ready {'b' * 64}")}, "A database copy exists"),
        ({"live": (True, ""), "kept": (True, "")}, "A database kept exists"),
        ({"kept": (True, "lastro.deploy: replaced by backup b1 in run r")}, "A database kept exists"),
        ({"live": (False, "")}, "live takes no connections"),
    ],
)
def test_what_is_not_ours_stops_the_plan(databases: dict[str, tuple[bool, str]], message: str) -> None:
    with pytest.raises(LastroError, match=message):
        _pg_restore.decide(there(**databases), NAMES, manifest(), swap=True)


def test_the_refusal_names_the_tables() -> None:
    error = _backup_swap.loss_error(NAMES, manifest(), [Difference("public.t", "rows", 3, 4)])
    assert "public.t (rows: 3 in the backup, 4 now)" in error.message
    assert error.facts == {"lost": [{"table": "public.t", "reason": "rows", "expected_rows": 3, "found_rows": 4}]}


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20))
def test_quoting_leaves_no_way_out(text: str) -> None:
    inner = quote_identifier(text)[1:-1]
    assert inner.replace('""', "").count('"') == 0
    literal = _backup_swap._literal(text)
    assert literal.strip().removeprefix("E")[1:-1].replace("''", "").count("'") == 0
    assert "\\" not in literal.replace("\\\\", "") or literal.startswith(" E'")


@pytest.mark.parametrize("cut", [1, 4, 8, 100])
def test_a_truncated_gzip_stream_does_not_decode(cut: int) -> None:
    content = encoded("gzip", False, os.urandom(300_000))
    with pytest.raises(_backup_stream.ChainError, match="cut off"):
        _backup_stream.decode(io.BytesIO(content[:-cut]), len, compression="gzip", identities=[])
    with pytest.raises(_backup_stream.ChainError, match="more after the end"):
        _backup_stream.decode(io.BytesIO(content + b"x" * cut), len, compression="gzip", identities=[])


@pytest.mark.parametrize(
    "more",
    [
        [{"name": "../b1.globals.sql.zst.age", "size": 1, "sha256": SHA}],
        [{"name": "b2.globals.sql.zst.age", "size": 1, "sha256": SHA}],
        [{"name": "b1.globals.sql.zst.age", "size": "1", "sha256": SHA}],
        [{"name": "b1.globals.sql.zst.age", "size": 1}],
    ],
)
def test_a_manifest_with_files_of_another_is_refused(tmp_path: Path, more: list[dict[str, object]]) -> None:
    path = _backup_manifest.write(tmp_path, manifest())
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), "more": more}), encoding="utf-8")
    with pytest.raises(LastroError):
        _backup_manifest.read(path)


def test_a_manifest_names_all_its_files(tmp_path: Path) -> None:
    one = _backup_manifest.StoredFile("b1.globals.sql.zst.age", 4, SHA)
    made = manifest(more=(one,), extensions={"hstore": "1.8"}, copy="/var/tmp/lastro-rehearsal-1")
    assert _backup_manifest.read(_backup_manifest.write(tmp_path, made)) == made
    (tmp_path / made.file).write_bytes(b"1234")
    assert _backup_manifest.good_ones(tmp_path, "app") == []
    (tmp_path / one.name).write_bytes(b"1234")
    assert _backup_manifest.good_ones(tmp_path, "app") == [made]


@given(st.lists(st.integers(0, 1000), max_size=30), st.integers(1, 6))
def test_tables_are_divided_evenly_and_each_goes_into_one_stream(sizes: list[int], jobs: int) -> None:
    tables = [Table("public", f"t{number}", "o", size) for number, size in enumerate(sizes)]
    streams = _pg_dump_parts.divide(tables, jobs)
    taken = [table for stream in streams for table in stream]
    assert len(taken) == len({*taken}) <= len(tables)
    assert len(streams) < jobs or jobs == 1
    assert all(streams)
    loads = [sum(table.size for table in stream) for stream in streams]
    rest = sum(sizes) - sum(loads)
    assert max([rest, *loads]) <= sum(sizes) / jobs + max([0, *sizes])


def test_names_of_tables_are_no_wildcards_for_pg_dump() -> None:
    assert Table("a.b", 'c"d*', "o", 1).pattern == '"a.b"."c""d*"'
