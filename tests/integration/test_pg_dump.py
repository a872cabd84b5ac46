# SPDX-License-Identifier: GPL-3.0-or-later
"""The module pg_dump against a real server: what is on the disk afterwards, and what is not."""

from __future__ import annotations

import collections.abc
import contextlib
import gzip
import io
import json
import os
import resource
import signal
import stat
import subprocess
import threading
import typing as t
from pathlib import Path

import psycopg2
import pyrage
import pytest
import zstandard
from ansible_collections.lastro.deploy.plugins.module_utils import _backup_manifest, _backup_programs, _backup_snapshot, _pg_dump, _pg_dump_stream
from demo.postgres import Postgres, bin_directory
from pyrage import x25519

from .dump_support import SECRET, Dump, names
from .sql import execute

Call = collections.abc.Callable[..., dict[str, t.Any]]


@pytest.fixture
def dest(tmp_path: Path) -> Path:
    return tmp_path / "backups"


@pytest.fixture(scope="module")
def identity() -> x25519.Identity:
    return x25519.Identity.generate()


@pytest.fixture
def dump(capsys: pytest.CaptureFixture[str], database: str, dest: Path, identity: x25519.Identity) -> Call:
    """Run the module; its result, whether it failed or not."""

    return Dump(capsys, database, dest, str(identity.to_public()))


def random_bytes_table(url: str, megabytes: int) -> None:
    """A table that no compression makes smaller."""
    connection = psycopg2.connect(url)
    with connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE ballast (id int, content bytea)")
        for number in range(megabytes):
            cursor.execute("INSERT INTO ballast VALUES (%s, %s)", (number, psycopg2.Binary(os.urandom(1 << 20))))
    connection.close()


@pytest.fixture
def tokens(database: str) -> str:
    execute(database, "CREATE TABLE tokens (id int PRIMARY KEY, token text)", f"INSERT INTO tokens SELECT i, '{SECRET}' || i FROM generate_series(1, 1000) i")
    return database


def test_a_backup_is_encrypted_proved_and_described(dump: Call, tokens: str, dest: Path, identity: x25519.Identity, tmp_path: Path) -> None:
    progress = tmp_path / "progress"
    result = dump(identity=str(identity), run_id="run-1", progress_file=str(progress))
    assert result["changed"] is True
    assert result["verified"] == ["read", "decode", "decrypt"]
    assert (result["tables"], result["rows"], result["encrypted"], result["pruned"]) == (1, 1000, True, [])
    assert names(dest) == ["b1.dump.zst.age", "b1.manifest.json"]
    assert stat.S_IMODE(dest.stat().st_mode) == 0o700
    assert {stat.S_IMODE((dest / name).stat().st_mode) for name in names(dest)} == {0o600}
    stored = Path(result["path"]).read_bytes()
    assert len(stored) == result["size"]
    manifest = json.loads(Path(result["manifest"]).read_text(encoding="utf-8"))
    assert manifest["sha256"] == result["sha256"]
    assert manifest["run_id"] == "run-1"
    assert manifest["tables"]["public.tokens"]["rows"] == 1000
    assert SECRET not in json.dumps(manifest)
    assert str(identity) not in json.dumps(manifest)
    clear = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(pyrage.decrypt(stored, [identity]))).read()
    assert len(clear) == result["raw_size"]
    assert clear.startswith(b"PGDMP")
    assert SECRET.encode() in clear
    assert SECRET.encode() not in stored
    assert json.loads(progress.read_text(encoding="utf-8"))["unit"] == "bytes"
    assert result["diff"] == {"before": "", "after": "b1\n"}


def test_a_second_call_reads_the_file_again_and_changes_nothing(dump: Call, tokens: str, dest: Path) -> None:
    first = dump()
    before = {name: (dest / name).stat() for name in names(dest)}
    for check in (False, True):
        second = dump(check=check)
        assert second["changed"] is False
        assert {key: second[key] for key in ("path", "sha256", "rows", "verified", "seconds")} == {
            key: first[key] for key in ("path", "sha256", "rows", "verified", "seconds")
        }
    assert {name: (dest / name).stat().st_mtime_ns for name in names(dest)} == {name: one.st_mtime_ns for name, one in before.items()}


def test_a_name_of_another_run_or_a_damaged_file_is_an_error(dump: Call, tokens: str, dest: Path) -> None:
    dump(run_id="one")
    taken = dump(run_id="two")
    assert taken["failed"] is True
    assert "The name b1 is taken" in taken["msg"]
    path = dest / "b1.dump.zst.age"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    assert "another SHA-256" in dump(run_id="one")["msg"]


def test_check_mode_checks_for_real_and_writes_nothing(dump: Call, tokens: str, dest: Path) -> None:
    result = dump(check=True)
    assert result["changed"] is True
    assert result["forecast"]["needed"] >= 16 * 1024 * 1024
    assert result["forecast"]["free"] > result["forecast"]["needed"]
    assert result["path"] == str(dest / "b1.dump.zst.age")
    assert "sha256" not in result
    assert not dest.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "../b1"}, "name is '../b1'"),
        ({"lock_wait_timeout": "ten"}, "lock_wait_timeout is 'ten'"),
        ({"compression_level": 20}, "compression_level is 20"),
        ({"compression": "gzip", "compression_level": 10}, "1 to 9 are allowed with gzip"),
        ({"keep_copy": True}, "only verify: restore makes a copy"),
        ({"retention": {"keep_at_least": 0}}, "keep_at_least of 1 or more"),
        ({"max_size_ratio": 0.5}, "max_size_ratio is 0.5"),
        ({"recipients": []}, "must be asked for with encryption: none"),
        ({"encryption": "none"}, "but encryption is none"),
        ({"recipients": ["age1nonsense"]}, "'age1nonsense' is not an age public key"),
        ({"identity": "AGE-SECRET-KEY-1NONSENSE"}, "not an age secret key: it has 24 characters and starts with"),
        ({"identity": "nonsense-nonsense"}, "does not start with"),
        ({"identity": str(x25519.Identity.generate())}, "belongs to none of the recipients"),
        ({"dest": "backups"}, "Give dest an absolute path"),
        ({"dest": "/proc/self/cmdline/backups"}, "is not a directory"),
        ({"database_url": "postgresql://nobody:wrong-password@127.0.0.1:1/x"}, "cannot be reached"),
        ({"bin_dir": "/nonexistent"}, "No pg_dump with its pg_restore was found in /nonexistent"),
    ],
)
def test_a_bad_input_is_named_before_anything_is_written(dump: Call, dest: Path, options: dict[str, t.Any], message: str) -> None:
    result = dump(check=True, **options)
    assert result["failed"] is True
    assert message in result["msg"]
    assert set(result["remedy"]) == {"en", "pt_BR"}
    assert "wrong-password" not in json.dumps(result)
    assert not dest.exists()


def test_a_directory_that_cannot_be_written_is_named(dump: Call, dest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: access(path, mode) and not mode & os.W_OK)  # as where root finds the disk read-only
    assert "cannot be written by this user or is mounted read-only" in dump(check=True)["msg"]
    assert not dest.exists()


def test_an_older_pg_dump_is_refused_before_it_runs(dump: Call, tokens: str, dest: Path) -> None:
    older = [client for client in _backup_programs.installed_clients(None) if client.major < 18]
    assert older, "install Debian's postgresql-client-15: this test needs a real older pg_dump"
    result = dump(check=True, bin_dir=str(older[0].directory))
    assert result["failed"] is True
    assert result["client_version"] == older[0].version
    assert result["server_version"].startswith("18.")
    assert "is older than the server" in result["msg"]
    assert "Install postgresql-client-18" in result["msg"]
    assert not dest.exists()


@contextlib.contextmanager
def small_disk(path: Path, megabytes: int) -> collections.abc.Iterator[None]:
    """A disk of its own at *path* where root may mount one, else a limit on the size of files."""
    path.mkdir()
    if os.geteuid() == 0 and subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(path)], check=False).returncode == 0:
        try:
            yield
        finally:
            subprocess.run(["umount", str(path)], check=True)
    else:
        with file_limit(megabytes):
            yield


@contextlib.contextmanager
def file_limit(megabytes: int) -> collections.abc.Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (megabytes << 20, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


Programs = dict[str, _backup_programs.Program]


def amid_the_stream(monkeypatch: pytest.MonkeyPatch, act: collections.abc.Callable[[Programs], None]) -> Programs:
    """Call *act* once with the running children, in the middle of the dump's stream; the children that ran, by name."""
    programs: Programs = {}
    acted: list[bool] = []
    running, read = _pg_dump_stream.running, _pg_dump_stream.Tee.read

    @contextlib.contextmanager
    def noted(name: str, *arguments: t.Any, **options: t.Any) -> collections.abc.Iterator[_backup_programs.Program]:  # noqa: ANN401 - handed on
        with running(name, *arguments, **options) as program:
            programs[name] = program
            yield program

    def watched(self: _pg_dump_stream.Tee, size: int = -1, /) -> bytes:
        data = read(self, size)
        if not acted and self.size > 1 << 20:
            acted.append(True)
            act(programs)
        return data

    monkeypatch.setattr(_pg_dump_stream, "running", noted)
    monkeypatch.setattr(_pg_dump_stream.Tee, "read", watched)
    return programs


def test_a_disk_without_room_is_found_before_the_dump(dump: Call, tokens: str, dest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() == 0:
        with small_disk(dest, 2):
            result = dump(check=True)
            assert names(dest) == []
    else:
        disk = os.statvfs("/")
        monkeypatch.setattr(os, "statvfs", lambda path: os.statvfs_result((*disk[:4], 1, *disk[5:])))
        result = dump(check=True)
    assert result["failed"] is True
    assert "The disk is too full for a backup" in result["msg"]
    assert result["forecast"]["free"] < result["forecast"]["needed"]


def test_a_disk_that_fills_up_during_the_dump_leaves_nothing(dump: Call, database: str, dest: Path) -> None:
    random_bytes_table(database, 20)  # the forecast is 0.6 of the database: about 17 MB, the dump has 20
    with small_disk(dest, 18):
        result = dump(name="full")
        assert names(dest) == []
    assert result["failed"] is True
    assert "The disk is full" in result["msg"]


def test_a_limit_on_the_size_of_files_leaves_nothing(dump: Call, database: str, dest: Path) -> None:
    random_bytes_table(database, 3)
    with file_limit(2):
        result = dump(encryption="none", recipients=[], compression="none", verify="read")
    assert "The disk is full" in result["msg"]
    assert names(dest) == []


@pytest.mark.parametrize("victim", ["pg_dump", "pg_restore"])
def test_a_killed_child_leaves_nothing_under_a_final_name(dump: Call, database: str, dest: Path, victim: str, monkeypatch: pytest.MonkeyPatch) -> None:
    random_bytes_table(database, 4)
    killed: list[int] = []

    def kill(programs: Programs) -> None:
        killed.append(programs[victim].process.pid)
        os.kill(programs[victim].process.pid, signal.SIGKILL)

    children = amid_the_stream(monkeypatch, kill)
    result = dump()
    assert killed
    assert result["failed"] is True
    assert f"{victim}" in result["msg"]
    assert "ended by signal 9 (SIGKILL)" in result["msg"]
    assert names(dest) == []
    assert not any(Path(f"/proc/{pid}").exists() for pid in [one.process.pid for one in children.values()])


def test_part_files_of_dead_runs_go_and_those_of_live_ones_stay(dump: Call, tokens: str, dest: Path) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    dest.mkdir(mode=0o700)
    (dest / f".old.dump.zst.age.{gone.pid}.part").write_bytes(b"left over")
    (dest / f".old.manifest.json.{gone.pid}.part").write_bytes(b"left over")
    alive = dest / f".other.dump.zst.age.{os.getppid()}.part"
    alive.write_bytes(b"being written")
    foreign = dest / ".something.else.part"
    foreign.write_bytes(b"not ours")
    dump()
    assert names(dest) == sorted([foreign.name, alive.name, "b1.dump.zst.age", "b1.manifest.json"])


def test_a_running_dump_or_migration_of_ours_is_named(dump: Call, tokens: str, dest: Path) -> None:
    connection = psycopg2.connect(tokens, application_name="the other one")
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(hashtext('lastro.deploy'), hashtext('backup'))")
        for check in (True, False):
            result = dump(check=check)
            assert result["failed"] is True
            assert f"process {connection.info.backend_pid} (the other one)" in result["msg"]
    finally:
        connection.close()
    assert not dest.exists()


def test_a_locked_table_is_waited_for_and_then_named(dump: Call, tokens: str, dest: Path) -> None:
    connection = psycopg2.connect(tokens)
    try:
        with connection.cursor() as cursor:
            cursor.execute("LOCK TABLE tokens IN ACCESS EXCLUSIVE MODE")
        result = dump(lock_wait_timeout="100ms")
    finally:
        connection.close()
    assert "The table public.tokens is locked by another session" in result["msg"]
    assert names(dest) == []


def test_a_role_that_may_not_read_a_table_is_told_which(dump: Call, tokens: str, postgres: Postgres, dest: Path) -> None:
    execute(tokens, "DROP ROLE IF EXISTS reader", "CREATE ROLE reader LOGIN PASSWORD 'reader-password'")
    url = postgres.url(tokens.rpartition("/")[2], user="reader", password="reader-password")
    result = dump(database_url=url)
    assert "The table public.tokens cannot be read by this role" in result["msg"]
    assert "reader-password" not in json.dumps(result)


def test_what_pg_dump_refuses_is_its_own_words(dump: Call, tokens: str, postgres: Postgres, dest: Path) -> None:
    execute(
        tokens,
        "DROP ROLE IF EXISTS half_reader",
        "CREATE ROLE half_reader LOGIN PASSWORD 'reader-password'",
        "GRANT SELECT ON tokens TO half_reader",
        "CREATE SEQUENCE hidden",
    )
    url = postgres.url(tokens.rpartition("/")[2], user="half_reader", password="reader-password")
    result = dump(database_url=url)
    assert "pg_dump said: pg_dump: error:" in result["msg"]
    assert 'sequence "hidden"' in result["msg"]
    assert names(dest) == []


def test_a_session_that_the_server_ends_is_an_error(dump: Call, tokens: str, dest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measure = _pg_dump._backup_snapshot.measure

    def ended(connection: psycopg2.extensions.connection, *, hashes: bool, progress: _pg_dump.Progress) -> object:
        execute(tokens, f"SELECT pg_terminate_backend({connection.info.backend_pid}, 5000)")
        return measure(connection, hashes=hashes, progress=progress)

    monkeypatch.setattr(_pg_dump._backup_snapshot, "measure", ended)
    result = dump()
    assert "The connection to PostgreSQL broke" in result["msg"]
    assert names(dest) == []


def test_other_chains_and_awkward_names(dump: Call, database: str, dest: Path) -> None:
    execute(
        database,
        'CREATE SCHEMA "odd ""schema"',
        'CREATE TABLE "odd ""schema"."sélect %s" (r int, "r.*" text)',
        """INSERT INTO "odd ""schema"."sélect %s" VALUES (1, 'x')""",
        "CREATE TABLE nothing ()",
        "INSERT INTO nothing DEFAULT VALUES",
        "SELECT lo_from_bytea(0, 'large'), set_config('x.y', 'z', false)",
    )
    plain = dump(name="plain", encryption="none", recipients=[], compression="none")
    assert plain["verified"] == ["read", "decode", "decrypt"]
    assert plain["encrypted"] is False
    assert Path(plain["path"]).read_bytes().startswith(b"PGDMP")
    assert plain["raw_size"] == plain["size"]
    counted = dump(name="counted", hashes="counts", verify="read", compression="none")
    assert counted["verified"] == ["read"]
    assert counted["path"].endswith("counted.dump.age")
    tables = json.loads(Path(counted["manifest"]).read_text(encoding="utf-8"))["tables"]
    assert {name: (state["rows"], state["hash"]) for name, state in tables.items()} == {
        '"odd ""schema"."sélect %s"': (1, None),
        "public.nothing": (1, None),
        "large objects": (1, None),
    }


def test_retention_removes_only_old_good_ones(dump: Call, tokens: str, dest: Path) -> None:
    for number in range(4):
        dump(name=f"b{number}", verify="read")
    for number in range(4):
        path = dest / f"b{number}.manifest.json"
        content = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps({**content, "created": f"2020-01-0{number + 1}T00:00:00+00:00"}), encoding="utf-8")
    (dest / "foreign.dump").write_bytes(b"not ours")
    (dest / "broken.manifest.json").write_text("{}", encoding="utf-8")
    retention = {"days": 30, "keep_at_least": 2, "keep": ["b1"]}
    planned = dump(check=True, name="new", retention=retention)
    assert planned["pruned"] == ["b2", "b0"]
    assert len(names(dest)) == 10
    result = dump(name="new", retention=retention)
    assert result["pruned"] == ["b2", "b0"]
    assert names(dest) == sorted(
        ["foreign.dump", "broken.manifest.json", *(f"{name}{end}" for name in ("b1", "b3", "new") for end in (".dump.zst.age", ".manifest.json"))]
    )
    assert result["diff"] == {"before": "b0\nb1\nb2\nb3\n", "after": "b1\nb3\nnew\n"}


def test_a_backup_that_shrank_or_grew_is_noticed(dump: Call, database: str, dest: Path) -> None:
    random_bytes_table(database, 1)
    dump(name="normal")
    random_rows = "UPDATE ballast SET content = content || content || content"
    execute(database, random_rows, "CREATE TABLE more AS SELECT * FROM ballast")
    grown = dump(name="grown", compression="none", encryption="none", recipients=[])
    assert "warnings" not in grown  # another chain is not compared
    grown = dump(name="grown2", max_size_ratio=1.5, hashes="counts")
    assert "more than 1.5 times the median" in str(grown["warnings"])
    execute(database, "TRUNCATE ballast", "DROP TABLE more")
    shrunk = dump(name="shrunk")
    assert shrunk["failed"] is True
    assert shrunk["shrunk"] == ["public.ballast (1 -> 0)", "public.more (1 -> gone)"]
    assert "shrunk.dump.zst.age" not in names(dest)
    assert dump(name="shrunk", max_size_ratio=0)["changed"] is True


def test_a_file_that_comes_back_otherwise_is_not_kept(dump: Call, tokens: str, dest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def torn(path: Path, *, progress: _pg_dump.Progress) -> tuple[str, int]:
        os.truncate(path, path.stat().st_size - 1)
        return _backup_manifest.sha256_of(path, progress=progress)

    monkeypatch.setattr(_pg_dump_stream, "sha256_of", torn)
    assert "could not be verified and was not kept" in dump()["msg"]
    assert names(dest) == []


def test_nothing_secret_is_in_arguments_or_environment(
    dump: Call, database: str, identity: x25519.Identity, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    random_bytes_table(database, 2)
    seen: list[str] = []

    def look(programs: Programs) -> None:
        for program in (programs["pg_dump"], programs["pg_restore"]):
            directory = Path(f"/proc/{program.process.pid}")
            seen.extend((directory / entry).read_bytes().decode(errors="replace") for entry in ("cmdline", "environ"))

    amid_the_stream(monkeypatch, look)
    assert dump(identity=str(identity))["changed"] is True
    assert len(seen) == 4
    assert not [text for text in seen if postgres.password in text or str(identity) in text]
    assert "--snapshot=" in "".join(seen)


def test_a_final_name_that_cannot_be_given_leaves_nothing(dump: Call, tokens: str, dest: Path) -> None:
    (dest / "b1.dump.zst.age").mkdir(parents=True)
    assert "could not be written: Is a directory" in dump()["msg"]
    assert names(dest) == ["b1.dump.zst.age"]


def test_a_writer_during_the_dump_is_not_in_it(dump: Call, database: str, dest: Path) -> None:
    execute(database, "CREATE TABLE events (id serial PRIMARY KEY, note text)", "INSERT INTO events (note) SELECT 'before' FROM generate_series(1, 500)")
    random_bytes_table(database, 2)
    stop = threading.Event()
    written = threading.Event()
    count = 0

    def write() -> None:
        nonlocal count
        connection = psycopg2.connect(database)
        connection.autocommit = True
        with connection.cursor() as cursor:
            while not stop.is_set():
                cursor.execute("INSERT INTO events (note) VALUES ('during')")
                count += 1
                written.set()
        connection.close()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert written.wait(120)
        result = dump(encryption="none", recipients=[])
        assert result.get("failed") is None, result
    finally:
        stop.set()
        writer.join()
    tables = json.loads(Path(result["manifest"]).read_text(encoding="utf-8"))["tables"]
    with Path(result["path"]).open("rb") as stored:
        archive = zstandard.ZstdDecompressor().stream_reader(stored).read()
    command = [str(bin_directory() / "pg_restore"), "-f", "-", "-a", "-t", "events"]
    listed = subprocess.run(command, input=archive, capture_output=True, check=True).stdout.decode()
    rows = [line for line in listed.splitlines() if line.endswith(("\tbefore", "\tduring"))]
    assert len(rows) == tables["public.events"]["rows"]
    assert 500 <= len(rows) < 500 + count


@pytest.mark.parametrize(("compression", "suffix"), [("gzip", ".gz"), ("none", "")])
def test_other_compressions(*, dump: Call, tokens: str, dest: Path, identity: x25519.Identity, compression: str, suffix: str) -> None:
    result = dump(compression=compression, identity=str(identity), verify="decode")
    assert result["verified"] == ["read", "decode", "decrypt"]
    assert names(dest) == [f"b1.dump{suffix}.age", "b1.manifest.json"]
    clear = pyrage.decrypt((dest / f"b1.dump{suffix}.age").read_bytes(), [identity])
    archive = gzip.decompress(clear) if suffix else clear
    assert SECRET.encode() in archive
    assert len(archive) == result["raw_size"]


@pytest.mark.parametrize("which", ["without_passwords", "with_passwords"])
def test_roles_are_kept_beside_the_dump(dump: Call, tokens: str, dest: Path, identity: x25519.Identity, which: str) -> None:
    execute(tokens, "DROP ROLE IF EXISTS keeper", "CREATE ROLE keeper LOGIN PASSWORD 'keeper-password'")
    result = dump(globals=which)
    assert result["globals"] == str(dest / "b1.globals.sql.zst.age")
    assert names(dest) == ["b1.dump.zst.age", "b1.globals.sql.zst.age", "b1.manifest.json"]
    assert {stat.S_IMODE((dest / name).stat().st_mode) for name in names(dest)} == {0o600}
    stored = pyrage.decrypt((dest / "b1.globals.sql.zst.age").read_bytes(), [identity])
    script = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(stored)).read().decode()
    assert "CREATE ROLE keeper" in script
    assert "cluster dump complete" in script
    assert ("SCRAM-SHA-256" in script) is (which == "with_passwords")
    assert dump(globals=which)["changed"] is False
    (dest / "b1.globals.sql.zst.age").write_bytes(stored)
    assert "b1.globals.sql.zst.age has" in dump(globals=which)["msg"]


def test_what_the_globals_need_is_found_before_anything_is_written(dump: Call, tokens: str, postgres: Postgres, dest: Path) -> None:
    execute(tokens, "DROP ROLE IF EXISTS reader", "CREATE ROLE reader LOGIN PASSWORD 'reader-password'")
    url = postgres.url(tokens.rpartition("/")[2], user="reader", password="reader-password")
    assert "only a superuser may read" in dump(check=True, database_url=url, globals="with_passwords")["msg"]
    assert "password hashes are not stored in clear" in dump(check=True, encryption="none", recipients=[], globals="with_passwords")["msg"]
    assert not dest.exists()


def test_retention_takes_every_file_of_a_backup(dump: Call, tokens: str, dest: Path) -> None:
    dump(name="old", globals="without_passwords", verify="read")
    path = dest / "old.manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), "created": "2020-01-01T00:00:00+00:00"}), encoding="utf-8")
    assert dump(name="new", retention={"days": 1, "keep_at_least": 1})["pruned"] == ["old"]
    assert names(dest) == ["new.dump.zst.age", "new.manifest.json"]


def test_a_dump_without_a_table_is_refused(dump: Call, tokens: str, dest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    execute(tokens, 'CREATE TABLE "a table of  two" (id int)')
    tables = _backup_snapshot.tables
    lost = _backup_snapshot.Table("public", "lost", "postgres", 0)
    monkeypatch.setattr(_backup_snapshot, "tables", lambda connection: [*tables(connection), lost])
    result = dump()
    assert "lacks the rows of 1 tables that the database has: public.lost" in result["msg"]
    assert result["missing"] == ["public.lost"]
    assert names(dest) == []


@pytest.mark.parametrize(("encoding", "name"), [("LATIN1", "sélect"), ("SQL_ASCII", "sélect"), ("EUC_JP", "予約")])
def test_a_name_in_another_encoding_is_found_in_the_dump(dump: Call, database: str, postgres: Postgres, encoding: str, name: str) -> None:
    execute(database, f"CREATE DATABASE other TEMPLATE template0 ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C'")
    url = postgres.url("other")
    try:
        execute(f"{url}?client_encoding=UTF8", f'CREATE TABLE "{name}" AS SELECT 1 AS id')
        result = dump(database_url=url)
        assert (result.get("failed"), result["rows"]) == (None, 1), result
    finally:
        execute(database, "DROP DATABASE other WITH (FORCE)")
