# SPDX-License-Identifier: GPL-3.0-or-later
"""The module pg_dump with verify: restore: what a throw-away cluster held, what it proves, and that it goes."""

from __future__ import annotations

import collections.abc
import contextlib
import json
import os
import signal
import subprocess
import tempfile
import threading
import typing as t
from pathlib import Path

import psycopg2
import pytest
from ansible_collections.lastro.deploy.plugins.module_utils import _backup_copy, _backup_programs, _scratch_cluster
from ansible_collections.lastro.deploy.plugins.module_utils._backup_manifest import DatabaseLocale
from ansible_collections.lastro.deploy.plugins.module_utils._errors import LastroError
from ansible_collections.lastro.deploy.plugins.module_utils._postgres import parse_url
from demo.postgres import Postgres, bin_directory
from pyrage import x25519

from .dump_support import Dump, names
from .sql import execute, rows

ADVISORY_LOCKS = "SELECT count(*) FROM pg_locks JOIN pg_database d ON d.oid = database WHERE locktype = 'advisory' AND granted AND datname = current_database()"
IDENTITY = x25519.Identity.generate()


@pytest.fixture
def dest(tmp_path: Path) -> Path:
    return tmp_path / "backups"


@pytest.fixture
def dump(capsys: pytest.CaptureFixture[str], database: str, dest: Path, clusters: Path, postgres: Postgres) -> collections.abc.Callable[..., dict[str, t.Any]]:
    """The module with verify: restore."""
    call = Dump(capsys, database, dest, str(IDENTITY.to_public()))
    where = {"verify": "restore", "rehearsal_cluster": str(clusters), "bin_dir": str(postgres.installation / "bin")}
    return lambda **options: call(**{**where, **options})


Call = collections.abc.Callable[..., dict[str, t.Any]]


@pytest.fixture
def accounts(database: str) -> str:
    """A database with what refers to roles: an owner, a grant, a policy; and an extension, a sequence, a partition."""
    execute(
        database,
        'DROP ROLE IF EXISTS "An owner"',
        'CREATE ROLE "An owner"',
        "CREATE TABLE accounts (id serial PRIMARY KEY, email text UNIQUE, balance numeric DEFAULT 0)",
        'ALTER TABLE accounts OWNER TO "An owner"',
        'GRANT SELECT ON accounts TO "An owner" WITH GRANT OPTION',
        "ALTER TABLE accounts ENABLE ROW LEVEL SECURITY",
        'CREATE POLICY own ON accounts FOR SELECT TO "An owner" USING (id > 0)',
        "CREATE TABLE parted (id int) PARTITION BY RANGE (id)",
        "CREATE TABLE parted_one PARTITION OF parted FOR VALUES FROM (0) TO (10)",
        "INSERT INTO parted VALUES (1), (2)",
        "INSERT INTO accounts (email) SELECT n || '@example.org' FROM generate_series(1, 500) n",
    )
    return database


def servers_of(directory: Path) -> list[Path]:
    """The processes that run on a cluster below *directory*."""
    found = []
    for process in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if process.name.isdigit() and f"{directory}/".encode() in (process / "cmdline").read_bytes():
                found.append(process)
    return found


def during_the_copy(monkeypatch: pytest.MonkeyPatch, act: collections.abc.Callable[[_backup_copy.Copy], None]) -> None:
    """Call *act* when pg_restore has filled the copy and nothing was compared."""
    compare = _backup_copy.Copy.compare

    def acting(self: _backup_copy.Copy, *arguments: t.Any) -> None:  # noqa: ANN401 - handed on
        act(self)
        compare(self, *arguments)

    monkeypatch.setattr(_backup_copy.Copy, "compare", acting)


@pytest.mark.parametrize(
    ("options", "levels"),
    [
        ({}, ["read", "decode", "restore"]),
        ({"identity": str(IDENTITY)}, ["read", "decode", "decrypt", "restore"]),
        ({"encryption": "none", "recipients": [], "compression": "none"}, ["read", "decode", "decrypt", "restore"]),
    ],
)
def test_a_restored_copy_is_compared_and_gone(
    *, dump: Call, accounts: str, dest: Path, clusters: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, t.Any], levels: list[str]
) -> None:
    seen: dict[str, list[tuple[t.Any, ...]]] = {}

    def look(copy: _backup_copy.Copy) -> None:
        url = copy.settings.url()
        execute(accounts, "SET lock_timeout = '2s'", "ALTER TABLE accounts SET (fillfactor = 90)")  # nothing is locked any more
        seen["backup"] = rows(accounts, ADVISORY_LOCKS)
        seen["rows"] = rows(url, "SELECT count(*), sum(id) FROM accounts")
        seen["owner"] = rows(url, "SELECT tableowner FROM pg_tables WHERE tablename = 'accounts'")
        seen["policy"] = rows(url, "SELECT roles::text FROM pg_policies")
        seen["sequence"] = rows(url, "SELECT last_value FROM accounts_id_seq")

    during_the_copy(monkeypatch, look)
    result = dump(**options)
    assert result.get("failed") is None, result
    assert result["verified"] == levels
    assert json.loads(Path(result["manifest"]).read_text(encoding="utf-8"))["verified"] == levels
    assert seen.pop("backup") == [(1,)]
    assert seen == {"rows": [(500, 125250)], "owner": [("An owner",)], "policy": [('{"An owner"}',)], "sequence": [(500,)]}
    assert (names(clusters), servers_of(clusters), result["kept_copy"]) == ([], [], "")


def test_a_copy_compares_equal_although_the_application_keeps_writing(dump: Call, accounts: str) -> None:
    stop, written = threading.Event(), threading.Event()
    count = 0

    def write() -> None:
        nonlocal count
        with contextlib.closing(psycopg2.connect(accounts)) as connection, connection.cursor() as cursor:
            connection.autocommit = True
            while not stop.is_set():
                cursor.execute("INSERT INTO accounts (email) VALUES (gen_random_uuid()::text)")
                cursor.execute("UPDATE accounts SET balance = balance + 1 WHERE id = %s", (count % 500 + 1,))
                count += 1
                written.set()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert written.wait(120)
        result = dump()
    finally:
        stop.set()
        writer.join()
    assert result["verified"] == ["read", "decode", "restore"], result
    assert 500 < result["rows"] < 502 + count


def test_a_copy_that_differs_is_named_and_nothing_is_kept(dump: Call, accounts: str, dest: Path, clusters: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    during_the_copy(monkeypatch, lambda copy: execute(copy.settings.url(), "UPDATE accounts SET balance = 7 WHERE id = 3", "DELETE FROM parted"))
    result = dump()
    assert "public.accounts (content: 500 dumped, 500 restored), public.parted_one (rows: 2 dumped, 0 restored)" in result["msg"]
    assert [one["table"] for one in result["different"]] == ["public.accounts", "public.parted_one"]
    assert (names(dest), names(clusters), servers_of(clusters)) == ([], [], [])


def test_what_cannot_be_restored_is_found(dump: Call, accounts: str, dest: Path, clusters: Path) -> None:
    # Such a constraint passes where it was declared and fails where the other table is filled later.
    execute(
        accounts,
        "CREATE FUNCTION known(int) RETURNS bool LANGUAGE sql AS 'SELECT EXISTS (SELECT FROM public.parted WHERE id = $1)'",
        "CREATE TABLE aside (id int CHECK (known(id)))",
        "INSERT INTO aside VALUES (1)",
    )
    for options in ({}, {"identity": str(IDENTITY)}):
        result = dump(**options)
        assert "violates check constraint" in result["msg"], result
        assert (names(dest), names(clusters), servers_of(clusters)) == ([], [], [])
    assert dump(verify="decode")["changed"] is True


@pytest.mark.parametrize("identity", [None, str(IDENTITY)])
def test_a_killed_pg_restore_or_server_leaves_nothing(
    *, dump: Call, accounts: str, dest: Path, clusters: Path, monkeypatch: pytest.MonkeyPatch, identity: str | None
) -> None:
    restoring = _backup_copy.Copy.restoring
    victims: list[str] = []

    @contextlib.contextmanager
    def killed(self: _backup_copy.Copy, *options: str) -> collections.abc.Iterator[_backup_programs.Program]:
        with restoring(self, *options) as child:
            process = child.process.pid if victims == ["pg_restore"] else int((self.cluster.base / "data" / "postmaster.pid").read_text().split()[0])
            os.kill(process, signal.SIGKILL)
            yield child

    monkeypatch.setattr(_backup_copy.Copy, "restoring", killed)
    for victim in ("pg_restore", "server"):
        victims[:] = [victim]
        result = dump(identity=identity)
        assert result["failed"] is True
        assert ("SIGKILL" if victim == "pg_restore" else "pg_restore") in result["msg"]
        assert (names(dest), names(clusters), servers_of(clusters)) == ([], [], [])


def test_a_kept_copy_is_opened_once_by_another_process(dump: Call, accounts: str, clusters: Path, postgres: Postgres) -> None:
    result = dump(keep_copy=True)
    base = Path(result["kept_copy"])
    assert (base.parent, servers_of(clusters)) == (clusters, [])
    assert dump(keep_copy=True)["kept_copy"] == str(base)
    with _scratch_cluster.throw_away(clusters, bin_dir=str(postgres.installation / "bin"), at_least=18):
        assert base.exists()
    assert _scratch_cluster.left_over(clusters, drop=False) == [str(base)]
    with _scratch_cluster.reopened(base) as (cluster, database):
        url = parse_url(cluster.url).with_database(database).url()
        assert rows(url, "SELECT count(*) FROM accounts") == [(500,)]
        assert _scratch_cluster.left_over(clusters, drop=True) == []
    assert (names(clusters), servers_of(clusters)) == ([], [])
    assert dump(keep_copy=True)["kept_copy"] == ""
    with pytest.raises(LastroError, match="is no cluster that was kept"), _scratch_cluster.reopened(base):
        pass


@pytest.fixture
def extension(accounts: str, postgres: Postgres) -> collections.abc.Iterator[Path]:
    """The control file of an extension that the database has."""
    control = postgres.installation / "share" / "extension" / "lastro_probe.control"
    script = control.with_name("lastro_probe--1.0.sql")
    control.write_text("default_version = '1.0'\nrelocatable = true\n", encoding="utf-8")
    script.write_text("CREATE FUNCTION probe() RETURNS int LANGUAGE sql AS 'SELECT 1';\n", encoding="utf-8")
    for path in (control, script):
        path.chmod(0o644)
    try:
        execute(accounts, "CREATE EXTENSION lastro_probe")
        yield control
    finally:
        control.unlink(missing_ok=True)
        script.unlink()


def test_an_extension_that_is_not_on_this_host_is_named_before_the_dump(dump: Call, extension: Path, dest: Path, clusters: Path) -> None:
    first = dump()
    assert (first["changed"], first["extensions"]["lastro_probe"]) == (True, "1.0")
    assert json.loads(Path(first["manifest"]).read_text(encoding="utf-8"))["extensions"]["lastro_probe"] == "1.0"
    extension.unlink()
    result = dump(name="b2")
    assert "no extension lastro_probe, which the database uses" in result["msg"]
    assert result["extensions"] == ["lastro_probe"]
    assert "the extension lastro_probe 1.0 any more" in str(dump(name="b3", verify="decode")["warnings"])
    assert [name for name in names(dest) if name.startswith("b2")] == []
    assert names(clusters) == []


def test_a_locale_that_this_host_does_not_know_is_no_obstacle(clusters: Path, postgres: Postgres) -> None:
    client = _backup_programs.find_client("18", str(postgres.installation / "bin"))
    for provider, locale in (("c", ""), ("b", "C.UTF-8")):
        strange = DatabaseLocale("UTF8", "xx_YY.UTF-8", "xx_YY.UTF-8", provider, locale)
        source = _backup_copy.Source("18.0", strange, (("one", False), ("two", True)), ())
        with _backup_copy.empty(clusters, source, client, bin_dir=str(client.directory)) as copy:
            url = copy.settings.url()
            assert rows(url, "SELECT datcollate, pg_encoding_to_char(encoding) FROM pg_database WHERE datname = current_database()") == [("C", "UTF8")]
            assert rows(url, "SELECT rolname, rolsuper, rolcanlogin FROM pg_roles WHERE rolname IN ('one', 'two') ORDER BY 1") == [
                ("one", False, False),
                ("two", True, False),
            ]


def test_what_a_copy_needs_is_found_before_anything_is_written(dump: Call, accounts: str, dest: Path, clusters: Path, tmp_path: Path) -> None:
    for name in ("pg_dump", "pg_restore"):
        (tmp_path / name).symlink_to(bin_directory() / name)
    assert "no programs of a PostgreSQL server of 18 or newer are on this host" in dump(bin_dir=str(tmp_path))["msg"]
    disk = Path(tempfile.mkdtemp(prefix="lastro-test-"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)], check=True)
    try:
        result = dump(rehearsal_cluster=str(disk))
    finally:
        subprocess.run(["umount", str(disk)], check=True)
        disk.rmdir()
    assert f"The disk is too full for a restored copy in {disk}" in result["msg"]
    assert result["forecast"]["needed"] > 256 << 20
    assert (dest.exists(), names(clusters)) == (False, [])
