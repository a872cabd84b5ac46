# SPDX-License-Identifier: GPL-3.0-or-later
"""The module pg_restore against a real server: every row back, damage named, the exchange, and what happens when it fails."""

from __future__ import annotations

import collections.abc
import contextlib
import hashlib
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import typing as t
from pathlib import Path

import psycopg2
import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.lastro.deploy.plugins.module_utils import _backup_swap, _pg_restore, _secret_pipe
from ansible_collections.lastro.deploy.plugins.modules import pg_dump, pg_restore, restore_copy
from demo.postgres import Postgres, bin_directory
from pyrage import x25519

from .sql import execute, rows

Call = collections.abc.Callable[..., dict[str, t.Any]]
SECRET = "a-clear-token-that-must-not-be-seen"


@pytest.fixture(scope="module")
def identity() -> x25519.Identity:
    return x25519.Identity.generate()


@pytest.fixture
def dest(tmp_path: Path) -> Path:
    return tmp_path / "backups"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], database: str, identity: x25519.Identity) -> Call:
    """Run a module's ``main``; its result, whether it failed or not."""

    def call(main: collections.abc.Callable[[], None], *, check: bool = False, **options: object) -> dict[str, t.Any]:
        arguments: dict[str, object] = {
            "database_url": database,
            "bin_dir": str(bin_directory()),
            "_ansible_check_mode": check,
            "_ansible_diff": True,
            **options,
        }
        with patch_module_args({name: value for name, value in arguments.items() if value is not None}), pytest.raises(SystemExit):
            main()
        result: dict[str, t.Any] = json.loads(capsys.readouterr().out)
        assert str(identity) not in json.dumps(result)
        return result

    return call


@pytest.fixture
def backup(run: Call, dest: Path, identity: x25519.Identity) -> Call:
    """Make a backup named *name*."""

    def call(name: str = "b1", **options: object) -> dict[str, t.Any]:
        result = run(pg_dump.main, dest=str(dest), name=name, **{"recipients": [str(identity.to_public())], **options})
        assert result.get("failed") is None, result
        return result

    return call


@pytest.fixture
def restore(run: Call, dest: Path, identity: x25519.Identity, postgres: Postgres, database: str) -> collections.abc.Iterator[Call]:
    """Restore from *dest*; every database that came into being is dropped afterwards."""
    before = databases(postgres)

    def call(**options: object) -> dict[str, t.Any]:
        given = {"dest": None if "manifest" in options else str(dest), "identity": str(identity), **options}
        return run(pg_restore.main, **t.cast("dict[str, t.Any]", given))

    yield call
    for name in databases(postgres) - before:
        execute(postgres.url(), "DROP DATABASE " + '"' + name.replace('"', '""') + '" WITH (FORCE)')


def databases(postgres: Postgres) -> set[str]:
    return {name for (name,) in rows(postgres.url(), "SELECT datname FROM pg_database")}


def name_of(url: str) -> str:
    return url.rpartition("/")[2]


AWKWARD = (
    "CREATE TYPE mood AS ENUM ('sad', 'it''s \"fine\"')",
    "CREATE DOMAIN positive AS int CHECK (VALUE > 0)",
    "CREATE TYPE pair AS (a int, b text)",
    'CREATE SCHEMA "odd ""schema"',
    """CREATE TABLE "odd ""schema"."t'able %s" (
        "r" int PRIMARY KEY, "co""l" text, by bytea, js jsonb, j json, arr int[], texts text[][], f float8, f4 float4, n numeric, d date, ts timestamptz,
        i interval, u uuid, ip inet, m mood, p positive, c pair, rng int4range, tsv tsvector, bits bit varying, mon money, x xid8, cls regclass,
        pt point, dbl double precision GENERATED ALWAYS AS (f * 2) STORED)""",
    """INSERT INTO "odd ""schema"."t'able %s" VALUES
        (1, E'line\\nbreak\\ttab \\\\ "quote" ''single'' ☃', '\\x00ff0a5c', '{"a": [1, null, "ü"]}', '{"b" :  1}', '{1,NULL,3}', '{{a,"b,c"},{"\\"",NULL}}',
         0.1 + 0.2, 'NaN', 'Infinity', '4713-01-01 BC', '2026-11-21 22:10:04.123456-03', '1 year -3 days 04:05:06.7', '00000000-0000-0000-0000-000000000001',
         '::1/64', 'it''s "fine"', 7, ROW(1, 'x,y'), '[1,5)', 'fat:1 cat:2', B'101', 12.34, '42', 'pg_class', '(1,2)')""",
    """INSERT INTO "odd ""schema"."t'able %s" (r) VALUES (2)""",
    "CREATE TABLE parts (id int, v text) PARTITION BY RANGE (id)",
    "CREATE TABLE parts_1 (v text, id int)",
    "ALTER TABLE parts ATTACH PARTITION parts_1 FOR VALUES FROM (0) TO (10)",
    "INSERT INTO parts VALUES (1, 'one')",
    "CREATE TABLE parent (a int, b int)",
    "CREATE TABLE child (b int, c int, a int)",
    "ALTER TABLE child INHERIT parent",
    "INSERT INTO child VALUES (2, 3, 1)",
    "CREATE TABLE altered (gone int, kept text)",
    "INSERT INTO altered VALUES (1, 'k')",
    "ALTER TABLE altered DROP COLUMN gone",
    "CREATE TABLE nothing ()",
    "INSERT INTO nothing DEFAULT VALUES",
    "CREATE UNLOGGED TABLE unlogged AS SELECT 1 AS one",
    "CREATE MATERIALIZED VIEW stale AS SELECT count(*) FROM altered",
    "CREATE TABLE users (id bigserial PRIMARY KEY, email text UNIQUE, token text, born timestamptz DEFAULT now())",
    f"INSERT INTO users (email, token) SELECT 'user' || i || '@example.org', '{SECRET}' || i FROM generate_series(1, 20000) i",
    "SELECT lo_from_bytea(0, 'a large object')",
)


@pytest.fixture
def small(database: str) -> str:
    execute(database, "CREATE TABLE bookings (id int PRIMARY KEY, who text)", f"INSERT INTO bookings SELECT i, '{SECRET}' FROM generate_series(1, 500) i")
    return database


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compression": "none"},
        {"encryption": "none", "recipients": [], "compression_level": 1},
        {"encryption": "none", "recipients": [], "compression": "none", "hashes": "counts"},
        {"jobs": 3},
    ],
)
def test_every_awkward_type_comes_back_equal(
    backup: Call, restore: Call, database: str, postgres: Postgres, *, options: dict[str, t.Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The table of contents, and the beginning of the rows.
    monkeypatch.setattr(_pg_restore, "HEAD", 200_000)
    execute(database, *AWKWARD)
    jobs = options.get("jobs")
    made = backup(**{name: value for name, value in options.items() if name != "jobs"})
    assert (made["tables"], made["rows"], made["raw_size"] > _pg_restore.HEAD) == (9, 20008, True)
    # The role's own habits must not show in the hashes of the copy.
    execute(postgres.url(), f"ALTER DATABASE {name_of(database)} SET DateStyle = 'German'")
    into = f'copy "{secrets.token_hex(4)}" o\'clock'
    result = restore(into=into, jobs=jobs)
    assert result.get("failed") is None, result
    structure = """SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
        UNION ALL SELECT '', '', indexdef FROM pg_indexes ORDER BY 1, 2, 3"""
    assert rows(postgres.url(into), structure) == rows(database, structure)
    assert (result["changed"], result["database"], result["swapped"], result["kept_as"], result["lost"]) == (True, into, False, "", [])
    assert result["compared"] == {"tables": 9, "equal": 9, "different": []}
    assert result["steps"] == ["load", "compare"]
    copy = postgres.url(into)
    odd = """SELECT to_jsonb(a) FROM "odd ""schema"."t'able %s" a ORDER BY a.r"""
    assert rows(copy, odd) == rows(database, odd)
    assert rows(copy, "SELECT count(*), max(id), min(token) FROM users") == [(20000, 20000, f"{SECRET}1")]
    assert rows(copy, "SELECT nextval('users_id_seq'), reltuples::int FROM pg_class WHERE relname = 'users'") == [(20001, 20000)]
    assert rows(copy, "SELECT lo_get(oid) FROM pg_largeobject_metadata")[0][0].tobytes() == b"a large object"
    again = restore(into=into)  # the sequence moved meanwhile, the rows did not
    assert (again["changed"], again["steps"], again["compared"]["equal"]) == (False, ["compare"], 9)


def test_check_mode_says_what_would_be_done(backup: Call, restore: Call, small: str, postgres: Postgres) -> None:
    backup()
    before = databases(postgres)
    result = restore(check=True, run_id="r1", swap=True)
    assert result["changed"] is True
    assert result["steps"] == ["load", "compare", "swap"]
    assert (result["database"], result["swapped"], result["kept_as"]) == (name_of(small), True, f"{name_of(small)}_failed_r1")
    assert databases(postgres) == before
    copy = restore(check=True)
    assert (copy["database"], copy["steps"]) == (f"{name_of(small)}_restored_b1", ["load", "compare"])


def test_the_newest_good_backup_is_taken(backup: Call, restore: Call, small: str, dest: Path) -> None:
    for name in ("b1", "b2", "b3"):
        backup(name)
    path = dest / "b2.manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), "created": "2999-01-01T00:00:00+00:00"}), encoding="utf-8")
    assert restore(check=True)["backup"] == "b2"
    (dest / "b2.dump.zst.age").unlink()
    assert restore(check=True)["backup"] in {"b1", "b3"}
    assert restore(check=True, name="b1")["backup"] == "b1"
    assert restore(check=True, manifest=str(dest / "b3.manifest.json"))["backup"] == "b3"


def cut(content: bytes) -> bytes:
    return content[: len(content) * 6 // 10]


def flip(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize(
    ("damage", "options", "message"),
    [
        (cut, {}, "it was cut or overwritten"),
        (flip, {}, "another SHA-256"),
        (flip, {"encryption": "none", "recipients": [], "compression": "none"}, "another SHA-256"),
    ],
)
@pytest.mark.usefixtures("small")
def test_a_damaged_file_is_named_and_nothing_is_made_of_it(
    backup: Call, restore: Call, postgres: Postgres, *, damage: collections.abc.Callable[[bytes], bytes], options: dict[str, t.Any], message: str
) -> None:
    path = Path(backup(**options)["path"])
    path.write_bytes(damage(path.read_bytes()))
    before = databases(postgres)
    result = restore(name="b1")
    assert result["failed"] is True
    assert str(path) in result["msg"]
    assert message in result["msg"]
    assert databases(postgres) == before


def conceal(path: Path, content: bytes) -> None:
    """Write *content* as the backup, and a manifest that agrees with it."""
    path.write_bytes(content)
    manifest = path.parent / "b1.manifest.json"
    fields = json.loads(manifest.read_text(encoding="utf-8"))
    manifest.write_text(json.dumps({**fields, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}), encoding="utf-8")


@pytest.mark.parametrize("damage", [cut, flip])
@pytest.mark.parametrize("options", [{}, {"compression": "none"}, {"encryption": "none", "recipients": []}])
@pytest.mark.usefixtures("small")
def test_damage_that_the_manifest_does_not_show_is_found_by_the_chain(
    backup: Call, restore: Call, postgres: Postgres, *, damage: collections.abc.Callable[[bytes], bytes], options: dict[str, t.Any]
) -> None:
    path = Path(backup(**options)["path"])
    conceal(path, damage(path.read_bytes()))
    before = databases(postgres)
    result = restore()
    assert result["failed"] is True
    assert "decode" in result["msg"]
    assert databases(postgres) == before


def test_a_changed_digit_in_a_bare_dump_is_found_by_the_comparison(backup: Call, restore: Call, small: str) -> None:
    path = Path(backup(encryption="none", recipients=[], compression="none")["path"])
    conceal(path, path.read_bytes().replace(b"250\t", b"950\t"))
    result = restore(into=f"{name_of(small)}_digit")
    assert result["failed"] is True
    assert "the restored copy is not what was dumped" in result["msg"]
    assert result["compared"]["different"] == [{"table": "public.bookings", "reason": "content", "expected_rows": 500, "found_rows": 500}]
    again = restore(check=True, into=f"{name_of(small)}_digit")
    assert again["steps"] == ["drop", "load", "compare"]  # a copy that failed is never taken for a good one


def test_the_identity_must_fit(backup: Call, restore: Call, small: str, postgres: Postgres, dest: Path) -> None:
    backup()
    before = databases(postgres)
    assert "the identity does not belong to any recipient of this backup" in restore(identity=str(x25519.Identity.generate()))["msg"]
    assert "is encrypted and no identity is given" in restore(identity=None)["msg"]
    assert "not an age secret key" in restore(identity="AGE-SECRET-KEY-1XYZ")["msg"]
    assert databases(postgres) == before


def test_the_identity_comes_through_a_pipe(backup: Call, restore: Call, small: str, identity: x25519.Identity, tmp_path: Path) -> None:
    backup()
    pipe = tmp_path / "identity.pipe"
    _secret_pipe.make(pipe)
    giver = threading.Thread(target=_secret_pipe.give, args=(pipe, str(identity)), kwargs={"timeout": 120})
    giver.start()
    result = restore(identity=None, identity_pipe=str(pipe))
    giver.join()
    assert (result.get("failed"), result.get("steps"), pipe.exists()) == (None, ["load", "compare"], False), result
    assert "mutually exclusive" in restore(identity_pipe=str(pipe))["msg"]


def test_bad_inputs_are_named(backup: Call, restore: Call, small: str, dest: Path, tmp_path: Path) -> None:
    assert "There is no good backup of" in restore(dest=str(tmp_path))["msg"]
    assert "There is no manifest" in restore(name="b9")["msg"]
    backup()
    assert "with compare: false" in restore(swap=True, run_id="r", compare=False)["msg"]
    assert "without a run_id" in restore(swap=True, run_id="")["msg"]
    assert "more than 63 bytes" in restore(into="x" * 64)["msg"]
    assert "is itself to be restored" in restore(admin_url=small)["msg"]
    assert "cannot be reached" in restore(admin_url="postgresql://x:wrong-password@127.0.0.1:1/postgres")["msg"]
    assert "exists and is not this restore's" in restore(into="template1")["msg"]
    (dest / "b1.manifest.json").write_text("[]", encoding="utf-8")
    assert "not a readable manifest" in restore(name="b1")["msg"]


def test_a_role_that_may_not_create_databases_is_told_so(backup: Call, restore: Call, small: str, postgres: Postgres) -> None:
    backup()
    execute(small, "DROP ROLE IF EXISTS plain", "CREATE ROLE plain LOGIN PASSWORD 'plain-password'")
    result = restore(admin_url=postgres.url(user="plain", password="plain-password"))
    assert "The role plain may not create or rename databases" in result["msg"]
    assert "plain-password" not in json.dumps(result)


def test_a_copy_that_was_used_is_not_passed_off_as_the_backup(backup: Call, restore: Call, small: str, postgres: Postgres) -> None:
    backup()
    copy = restore()["database"]
    execute(postgres.url(copy), "DELETE FROM bookings WHERE id = 1")
    result = restore()
    assert result["failed"] is True
    assert "it was changed after it was restored" in result["msg"]
    assert restore(compare=False)["changed"] is False


def test_what_pg_restore_refuses_is_said_without_values(backup: Call, restore: Call, small: str, postgres: Postgres) -> None:
    execute(
        small,
        "CREATE FUNCTION fits(text) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$ SELECT true $$",
        "ALTER TABLE bookings ADD CHECK (public.fits(who))",
        f"CREATE OR REPLACE FUNCTION fits(text) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$ SELECT $1 <> '{SECRET}' $$",
    )
    backup()
    before = databases(postgres)
    result = restore()
    assert result["failed"] is True
    assert "pg_restore failed: pg_restore: error:" in result["msg"]
    assert "violates check constraint" in result["msg"]
    assert SECRET not in json.dumps(result)
    assert databases(postgres) == before


def test_a_writer_during_the_dump_does_not_spoil_the_comparison(backup: Call, restore: Call, small: str) -> None:
    stop, written = threading.Event(), threading.Event()

    def write() -> None:
        connection = psycopg2.connect(small)
        connection.autocommit = True
        number = 1000
        with connection.cursor() as cursor:
            while not stop.is_set():
                number += 1
                cursor.execute("INSERT INTO bookings VALUES (%s, 'during')", (number,))
                cursor.execute("UPDATE bookings SET who = 'changed' WHERE id = %s", (number % 500,))
                cursor.execute("DELETE FROM bookings WHERE id = %s", (number - 300,))
                written.set()
        connection.close()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert written.wait(120)
        backup()
    finally:
        stop.set()
        writer.join()
    result = restore()
    assert result["compared"] == {"tables": 1, "equal": 1, "different": []}


def test_the_exchange_keeps_the_failed_database_and_carries_its_properties(backup: Call, restore: Call, small: str, postgres: Postgres, dest: Path) -> None:
    live = name_of(small)
    owner = f"owner_{secrets.token_hex(4)}"
    execute(postgres.url(), f"CREATE ROLE {owner}")
    try:
        execute(
            postgres.url(),
            f"ALTER DATABASE {live} OWNER TO {owner}",
            f"ALTER DATABASE {live} CONNECTION LIMIT 40",
            f"ALTER DATABASE {live} SET search_path = app, public",
            f"ALTER DATABASE {live} SET work_mem = '7MB'",
            f"ALTER ROLE {owner} IN DATABASE {live} SET custom.flag = 'a, b'",
            f"REVOKE CONNECT ON DATABASE {live} FROM PUBLIC",
            f"GRANT CREATE ON DATABASE {live} TO {owner} WITH GRANT OPTION",
            f"COMMENT ON DATABASE {live} IS 'it''s \\the\\ live one'",
        )
        backup()
        grants = "(SELECT array_agg(a::text ORDER BY a::text) FROM unnest(datacl) a)"
        properties = (
            f"SELECT pg_get_userbyid(datdba), datallowconn, datconnlimit, {grants}, shobj_description(oid, 'pg_database'),"
            " (SELECT array_agg(setconfig::text ORDER BY setrole) FROM pg_db_role_setting WHERE setdatabase = d.oid)"
            f" FROM pg_database d WHERE datname = '{live}'"
        )
        before = rows(postgres.url(), properties)
        application = psycopg2.connect(small)
        execute(small, "ALTER TABLE bookings ADD COLUMN broken int", "CREATE TABLE new (id int)")
        result = restore(swap=True, run_id="20261121T221004-7c1f", accept_loss=True)
        assert result.get("failed") is None, result
        kept = f"{live}_failed_20261121T221004-7c1f"
        assert (result["database"], result["swapped"], result["kept_as"], result["changed"]) == (live, True, kept, True)
        assert result["compared"]["equal"] == 1
        assert [(one["table"], one["reason"]) for one in result["lost"]] == [("public.new", "unexpected")]
        with pytest.raises(psycopg2.OperationalError), application.cursor() as cursor:
            cursor.execute("SELECT 1")
        application.close()
        assert rows(postgres.url(), properties) == before
        assert rows(small, "SELECT count(*) FROM public.bookings") == [(500,)]
        assert rows(small, "SELECT count(*) FROM information_schema.columns WHERE column_name = 'broken'") == [(0,)]
        assert rows(postgres.url(kept), "SELECT count(broken) FROM public.bookings") == [(0,)]
        comment = rows(postgres.url(), f"SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = '{kept}'")
        assert comment == [("lastro.deploy: replaced by backup b1 in run 20261121T221004-7c1f",)]
        for check in (True, False):
            again = restore(swap=True, run_id="20261121T221004-7c1f", check=check)
            assert (again["changed"], again["swapped"], again["kept_as"], again["steps"]) == (False, True, kept, [])
    finally:
        execute(small, f"REASSIGN OWNED BY {owner} TO postgres", f"DROP OWNED BY {owner}")
        execute(postgres.url(), f"REASSIGN OWNED BY {owner} TO postgres", f"DROP OWNED BY {owner}", f"DROP ROLE {owner}")


def test_writes_since_the_backup_refuse_the_exchange(backup: Call, restore: Call, small: str, postgres: Postgres) -> None:
    execute(small, "CREATE TABLE quiet AS SELECT 1 AS one")
    backup()
    execute(small, "UPDATE bookings SET who = 'changed in place' WHERE id = 7")
    before = databases(postgres)
    for check in (True, False):
        result = restore(swap=True, run_id="r1", check=check)
        assert result["failed"] is True
        assert result["lost"] == [{"table": "public.bookings", "reason": "content", "expected_rows": 500, "found_rows": 500}]
        assert "accept_loss" in result["msg"]
        assert databases(postgres) == before
    execute(small, "INSERT INTO bookings VALUES (1000, 'new')")
    accepted = restore(swap=True, run_id="r1", accept_loss=True)
    assert [(one["table"], one["expected_rows"], one["found_rows"]) for one in accepted["lost"]] == [("public.bookings", 500, 501)]
    assert rows(small, "SELECT count(*) FROM bookings WHERE who = 'changed in place'") == [(0,)]
    assert rows(postgres.url(accepted["kept_as"]), "SELECT count(*) FROM bookings") == [(501,)]


def test_a_write_between_the_first_look_and_the_closed_door_puts_everything_back(
    backup: Call, restore: Call, small: str, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup()
    load = _pg_restore._stream

    def then_a_write(*arguments: t.Any, **options: t.Any) -> None:  # noqa: ANN401 - handed on as they are
        load(*arguments, **options)
        execute(small, "DELETE FROM bookings WHERE id = 3")

    monkeypatch.setattr(_pg_restore, "_stream", then_a_write)
    result = restore(swap=True, run_id="r1")
    assert result["failed"] is True
    assert result["lost"] == [{"table": "public.bookings", "reason": "rows", "expected_rows": 500, "found_rows": 499}]
    assert rows(small, "SELECT count(*) FROM bookings") == [(499,)]  # open, and as it was
    assert f"{name_of(small)}_failed_r1" not in databases(postgres)
    monkeypatch.undo()
    again = restore(swap=True, run_id="r1", accept_loss=True)
    assert again["steps"] == ["compare", "swap"]  # the copy was ready and is used
    assert rows(small, "SELECT count(*) FROM bookings") == [(500,)]


def test_sessions_that_do_not_end_leave_the_live_database_open(backup: Call, restore: Call, small: str, monkeypatch: pytest.MonkeyPatch) -> None:
    backup()
    monkeypatch.setattr(_backup_swap, "EMPTYING_SECONDS", 0.0)
    stays = _backup_swap._TERMINATE.replace("pg_catalog.pg_terminate_backend(pid)", "false")
    monkeypatch.setattr(_backup_swap, "_TERMINATE", stays)
    session = psycopg2.connect(small, application_name="stubborn")
    try:
        result = restore(swap=True, run_id="r1")
    finally:
        session.close()
    assert result["failed"] is True
    assert "(stubborn)" in result["msg"]
    assert rows(small, "SELECT count(*) FROM bookings") == [(500,)]


def test_a_name_that_is_taken_refuses_the_exchange(backup: Call, restore: Call, small: str, postgres: Postgres) -> None:
    backup()
    execute(postgres.url(), f'CREATE DATABASE "{name_of(small)}_failed_r1" TEMPLATE template0')
    assert f"A database {name_of(small)}_failed_r1 exists" in restore(swap=True, run_id="r1")["msg"]


def test_a_database_that_someone_else_closed_is_left_alone(backup: Call, restore: Call, small: str, postgres: Postgres) -> None:
    backup()
    execute(postgres.url(), f"ALTER DATABASE {name_of(small)} ALLOW_CONNECTIONS false")
    assert "it was not this module that closed it" in restore(swap=True, run_id="r1")["msg"]
    execute(postgres.url(), f"ALTER DATABASE {name_of(small)} ALLOW_CONNECTIONS true")


def test_a_live_database_that_is_gone_gets_its_name_back(backup: Call, restore: Call, small: str, postgres: Postgres) -> None:
    backup()
    execute(postgres.url(), f"DROP DATABASE {name_of(small)} WITH (FORCE)")
    result = restore(swap=True, run_id="r1")
    assert (result["swapped"], result["kept_as"], result["lost"]) == (True, "", [])
    assert rows(small, "SELECT count(*) FROM bookings") == [(500,)]


KILLED = """
import os, signal, sys
from ansible_collections.lastro.deploy.plugins.module_utils import _backup_swap, _pg_restore
from ansible_collections.lastro.deploy.plugins.module_utils._postgres import parse_url

def die(*arguments, **options):
    os.kill(os.getpid(), signal.SIGKILL)

url, dest, bin_dir, where = sys.argv[1:]
if where == "loading":
    _pg_restore._backup_stream.decode = die
else:
    _backup_swap._rename = die
options = _pg_restore.Options(
    manifest=None, dest=dest, name=None, into=None, swap=True, run_id="r1", compare=True, identity=None, accept_loss=False, bin_dir=bin_dir
)
settings = parse_url(url)
_pg_restore.run(settings, _pg_restore.admin_settings(settings, None), options, check_mode=False)
"""


def killed_restore(small: str, dest: Path, where: str, postgres: Postgres) -> None:
    """A restore of run r1 that is killed where it loads, or between the closed door and the renames."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "TMPDIR": str(dest.parent)}
    killed = subprocess.run([sys.executable, "-c", KILLED, small, str(dest), str(bin_directory()), where], env=environment, check=False, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    if where == "swapping":
        with pytest.raises(psycopg2.OperationalError, match="not currently accepting connections"):
            psycopg2.connect(small)
        wait_until_only_idle(postgres, name_of(small))


@pytest.mark.parametrize(("where", "steps"), [("loading", ["drop", "load", "compare", "swap"]), ("swapping", ["reopen", "compare", "swap"])])
def test_a_restore_that_was_killed_is_taken_up(
    backup: Call, restore: Call, small: str, dest: Path, *, where: str, steps: list[str], postgres: Postgres
) -> None:
    backup(encryption="none", recipients=[])
    killed_restore(small, dest, where, postgres)
    assert restore(check=True, swap=True, run_id="r1")["steps"] == steps
    result = restore(swap=True, run_id="r1")
    assert (result.get("failed"), result.get("steps")) == (None, steps), result
    assert rows(small, "SELECT count(*) FROM bookings") == [(500,)]
    assert f"{name_of(small)}_failed_r1" in databases(postgres)


@pytest.mark.parametrize("where", ["loading", "swapping"])
def test_what_a_killed_restore_left_is_put_right_without_restoring(
    backup: Call, restore: Call, run: Call, small: str, dest: Path, *, where: str, postgres: Postgres
) -> None:
    backup(encryption="none", recipients=[])
    assert run(restore_copy.main, bin_dir=None, run_ids=["r1"])["changed"] is False
    killed_restore(small, dest, where, postgres)
    copy = f"{name_of(small)}_restored_r1"
    assert run(restore_copy.main, bin_dir=None, run_ids=["another"])["removed"] == []
    for check in (True, False):
        result = run(restore_copy.main, check=check, bin_dir=None, run_ids=["another", "r1"])
        assert (result["changed"], result["removed"], result["opened"]) == (True, [copy], where == "swapping")
        assert (copy in databases(postgres)) is check
    assert rows(small, "SELECT count(*) FROM bookings") == [(500,)]
    assert run(restore_copy.main, bin_dir=None, run_ids=["r1"])["changed"] is False
    # One that a human closed is theirs.
    execute(postgres.url(), f"ALTER DATABASE {name_of(small)} ALLOW_CONNECTIONS false")
    assert run(restore_copy.main, bin_dir=None, run_ids=["r1"])["opened"] is False


def wait_until_only_idle(postgres: Postgres, name: str) -> None:
    """The server notices the end of a killed client when it next reads from it."""
    with contextlib.closing(psycopg2.connect(postgres.url())) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        while True:
            cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND state IS NOT NULL", (name,))
            if cursor.fetchall() == [(0,)]:
                return


def test_a_dump_of_ours_that_runs_refuses_the_exchange(backup: Call, restore: Call, small: str) -> None:
    backup()
    session = psycopg2.connect(small)
    try:
        with session.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(hashtext('lastro.deploy'), hashtext('backup'))")
        assert "Another dump or a migration of ours runs" in restore(swap=True, run_id="r1")["msg"]
    finally:
        session.close()


def test_a_rename_that_the_server_refuses_leaves_the_live_database_open(
    backup: Call, restore: Call, small: str, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup()
    assert restore(run_id="r1")["steps"] == ["load", "compare"]
    live, copy = name_of(small), f"{name_of(small)}_restored_r1"
    owner = f"owner_{secrets.token_hex(4)}"
    execute(postgres.url(), f"CREATE ROLE {owner} LOGIN PASSWORD 'owner-password' IN ROLE pg_read_all_data")
    try:
        execute(postgres.url(), f"ALTER DATABASE {live} OWNER TO {owner}", f"ALTER DATABASE {copy} OWNER TO {owner}")
        monkeypatch.setattr(_backup_swap, "check_may_create", lambda connection: None)
        result = restore(swap=True, run_id="r1", admin_url=postgres.url(user=owner, password="owner-password"))
        assert "PostgreSQL refused: permission denied to rename database" in result["msg"]
        assert {live, copy} <= databases(postgres)
        assert f"{live}_failed_r1" not in databases(postgres)
        assert rows(small, "SELECT count(*) FROM bookings") == [(500,)]
    finally:
        for name in (live, copy):
            execute(postgres.url(), f"ALTER DATABASE {name} OWNER TO postgres")
        execute(postgres.url(), f"DROP ROLE {owner}")


@pytest.mark.parametrize("clauses", ["ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'", "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8'"])
def test_encoding_and_locale_are_those_of_the_backup(backup: Call, restore: Call, postgres: Postgres, clauses: str) -> None:
    name = f"other_{secrets.token_hex(4)}"
    execute(postgres.url(), f"CREATE DATABASE {name} TEMPLATE template0 {clauses}")
    execute(postgres.url(name), "CREATE TABLE words AS SELECT 'é, ü'::text AS word")
    backup(database_url=postgres.url(name))
    copy = restore(database_url=postgres.url(name), into=f"{name}_copy")["database"]
    locale = "SELECT encoding, datcollate, datctype, datlocprovider, datlocale FROM pg_database WHERE datname = current_database()"
    assert rows(postgres.url(copy), locale) == rows(postgres.url(name), locale)
    assert rows(postgres.url(copy), "SELECT word FROM words") == [("é, ü",)]


def test_a_dump_of_another_length_is_named(backup: Call, restore: Call, small: str, dest: Path, postgres: Postgres) -> None:
    backup()
    path = dest / "b1.manifest.json"
    fields = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**fields, "raw_size": fields["raw_size"] + 1}), encoding="utf-8")
    before = databases(postgres)
    assert f"decodes to {fields['raw_size']} bytes, its manifest says {fields['raw_size'] + 1}" in restore()["msg"]
    assert databases(postgres) == before
