# SPDX-License-Identifier: GPL-3.0-or-later
"""Indexes in the middle of something: being built, left over, broken off by a crash; repaired; seen from a standby; and the reports on all of them."""

from __future__ import annotations

import collections.abc
import contextlib
import shutil
import subprocess
import threading
import time
import typing as t
from pathlib import Path
from urllib.parse import urlsplit

import psycopg2
import psycopg2.errors
import pytest
from ansible_collections.lastro.deploy.plugins.modules import index_validation
from demo.postgres import free_port
from demo.process import wait_until

from .postgres_servers import DistributionPostgres

Call = collections.abc.Callable[..., dict[str, t.Any]]
IX = {"name": "ix", "table": "t", "columns": ["a"]}
T = "CREATE TABLE t (id bigint PRIMARY KEY, a int, b text); INSERT INTO t SELECT g, g, g::text FROM generate_series(1, 5000) g;"


@pytest.fixture(scope="module")
def fifteen() -> collections.abc.Iterator[DistributionPostgres]:
    """A server of PostgreSQL 15 of this file's own, with pg_stat_statements, that may be killed."""
    settings = {"shared_preload_libraries": "pg_stat_statements", "wal_level": "replica", "max_wal_senders": "5", "hot_standby": "on"}
    with DistributionPostgres.temporary(**settings) as server:
        yield server


@pytest.fixture
def url(fifteen: DistributionPostgres, request: pytest.FixtureRequest) -> collections.abc.Iterator[str]:
    """A fresh database on it."""
    name = f"test_{abs(hash(request.node.nodeid)):x}"
    with session(fifteen.url()) as admin:
        run(admin, f"CREATE DATABASE {name}")
    yield fifteen.url(name)
    with session(fifteen.url()) as admin:
        run(admin, f"DROP DATABASE {name} WITH (FORCE)")


@contextlib.contextmanager
def session(url: str, *, autocommit: bool = True) -> collections.abc.Iterator[psycopg2.extensions.connection]:
    connection = psycopg2.connect(url)
    connection.autocommit = autocommit
    try:
        yield connection
    finally:
        connection.close()


def run(connection: psycopg2.extensions.connection, statement: str) -> list[tuple[t.Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall() if cursor.description else []


@contextlib.contextmanager
def stuck(url: str, statement: str, phase: str, *, lock: str) -> collections.abc.Iterator[psycopg2.extensions.connection]:
    """*statement* running in a session of its own, held in *phase* by a transaction that ran *lock*; that transaction is what is yielded."""
    with session(url, autocommit=False) as holder, session(url) as watcher:
        run(holder, lock)

        def work() -> None:
            with contextlib.suppress(psycopg2.Error), session(url) as worker:
                run(worker, statement)

        thread = threading.Thread(target=work)
        thread.start()
        try:
            wait_until(
                lambda: run(watcher, f"SELECT 1 FROM pg_stat_progress_create_index WHERE phase = '{phase}'") != [], seconds=120, what=f"{statement}: {phase}"
            )
            yield holder
        finally:
            with contextlib.suppress(psycopg2.Error):
                holder.rollback()
            thread.join(120)
            assert not thread.is_alive()


def end_builds(url: str) -> None:
    """As when the server ends a backend: what it was building stays as it is."""
    with session(url) as admin:
        run(admin, "SELECT pg_terminate_backend(pid) FROM pg_stat_progress_create_index")
        wait_until(lambda: run(admin, "SELECT 1 FROM pg_stat_progress_create_index") == [], seconds=120, what="the build ends")


WRITER = "UPDATE t SET b = b WHERE id = 1"
READER = "SELECT count(*) FROM t"
CIC = "CREATE INDEX CONCURRENTLY ix ON t (a)"
REINDEX = "REINDEX INDEX CONCURRENTLY ix"


def kinds(answer: dict[str, t.Any]) -> list[tuple[str, str, str]]:
    return sorted((finding["about"], finding["kind"], finding["index"]) for finding in answer["findings"])


def test_a_build_that_is_under_way(url: str, call_module: Call) -> None:
    with session(url) as admin:
        run(admin, T)
        run(admin, "DROP ROLE IF EXISTS stranger; CREATE ROLE stranger LOGIN PASSWORD 'stranger-pw'; GRANT SELECT ON t TO stranger")
    port, database = urlsplit(url).port, urlsplit(url).path.lstrip("/")
    strangers = f"postgresql://stranger:stranger-pw@127.0.0.1:{port}/{database}"
    with stuck(url, CIC, "waiting for writers before build", lock=WRITER):
        # A role that may not look into other sessions is told the same.
        for one in (url, strangers):
            answer = call_module(index_validation, database_url=one, indexes=[IX], fail_on=["contract", "invalid"], repair="reindex_concurrently")
            assert kinds(answer) == [("contract", "building", "ix"), ("invalid", "building", "ix")]
            assert answer["repairs"] == []
        assert "waiting for writers" in answer["findings"][0]["difference"] or one == strangers
    answer = call_module(index_validation, database_url=url, indexes=[IX], report=["invalid"])
    assert (answer["valid"], answer["findings"], answer["reports"]["invalid"]["found"]) == (1, [], [])
    with session(url) as admin:
        run(admin, "DROP OWNED BY stranger; DROP ROLE stranger")


def test_a_build_that_was_broken_off_is_told_and_repaired(url: str, call_module: Call, tmp_path: Path) -> None:
    with session(url) as admin:
        run(admin, T)
    with stuck(url, CIC, "waiting for writers before build", lock=WRITER):
        end_builds(url)
    wanted = {"database_url": url, "indexes": [IX], "fail_on": ["contract", "invalid"]}
    answer = call_module(index_validation, **wanted)
    assert kinds(answer) == [("contract", "not_ready", "ix"), ("invalid", "not_ready", "ix")]
    looked = call_module(index_validation, **wanted, repair="reindex_concurrently", check=True)
    assert looked["repairs"] == [{"index": "ix", "statement": "REINDEX INDEX CONCURRENTLY public.ix", "problem": ""}]
    assert kinds(call_module(index_validation, **wanted)) == kinds(answer), "a check repaired something"
    progress = tmp_path / "progress.json"
    repaired = call_module(index_validation, **wanted, repair="reindex_concurrently", progress_file=str(progress))
    assert (repaired["changed"], repaired["valid"], repaired["findings"]) == (True, 1, [])
    again = call_module(index_validation, **wanted, repair="reindex_concurrently")
    assert (again["changed"], again["repairs"]) == (False, [])


@pytest.mark.parametrize(
    ("phase", "lock", "left"),
    [("waiting for writers before build", WRITER, "ix_ccnew"), ("waiting for readers before marking dead", READER, "ix_ccold")],
)
def test_what_a_reindex_leaves(url: str, call_module: Call, phase: str, lock: str, left: str) -> None:
    with session(url) as admin:
        run(admin, T + "CREATE INDEX ix ON t (a)")
    with stuck(url, REINDEX, phase, lock=lock):
        under_way = call_module(index_validation, database_url=url, indexes=[IX], report=["invalid"])
        assert under_way["valid"] == 1
        # The copy is no leftover yet.
        assert {bool(row["building"]) for row in under_way["reports"]["invalid"]["found"]} == {True}
        end_builds(url)
    with session(url) as admin:
        assert run(admin, f"SELECT indisvalid FROM pg_index WHERE indexrelid = '{left}'::regclass") == [(False,)]
    answer = call_module(index_validation, database_url=url, indexes=[IX], fail_on=["contract", "invalid"])
    assert kinds(answer) == [("invalid", "leftover", left)]
    (finding,) = answer["findings"]
    assert finding["difference"] == "left over by a REINDEX CONCURRENTLY of ix that was broken off"
    assert (answer["valid"], finding["remedy"]) == (1, f"DROP INDEX CONCURRENTLY public.{left};")
    repaired = call_module(index_validation, database_url=url, indexes=[IX], fail_on=["contract", "invalid"], repair="reindex_concurrently")
    assert (repaired["changed"], repaired["findings"]) == (True, [])
    with session(url) as admin:
        assert run(admin, "SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = 't'::regclass ORDER BY 1") == [("ix",), ("t_pkey",)]


def test_a_server_that_died_in_between(fifteen: DistributionPostgres, url: str, call_module: Call) -> None:
    with session(url) as admin:
        run(admin, T)
    with stuck(url, CIC, "waiting for writers before build", lock=WRITER):
        fifteen.kill()
    fifteen.start()
    answer = call_module(index_validation, database_url=url, indexes=[IX], fail_on=["contract", "invalid"])
    assert kinds(answer) == [("contract", "not_ready", "ix"), ("invalid", "not_ready", "ix")]
    repaired = call_module(index_validation, database_url=url, indexes=[IX], repair="reindex_concurrently")
    assert (repaired["changed"], repaired["valid"]) == (True, 1)


def test_a_repair_that_cannot_succeed_is_bounded_and_says_why(url: str, call_module: Call) -> None:
    with session(url) as admin:
        run(admin, T + "INSERT INTO t VALUES (6001, 1, 'x'), (6002, 1, 'x')")
        with pytest.raises(psycopg2.errors.UniqueViolation):
            run(admin, "CREATE UNIQUE INDEX CONCURRENTLY ix ON t (a)")
    wanted = {"database_url": url, "indexes": [{**IX, "unique": True}], "repair": "reindex_concurrently"}
    answer = call_module(index_validation, **wanted)
    assert (answer["changed"], answer["valid"]) == (False, 0)
    assert "could not create unique index" in answer["repairs"][0]["problem"]
    with session(url) as admin:
        run(admin, "DELETE FROM t WHERE id > 6000")
    with session(url, autocommit=False) as holder:
        run(holder, WRITER)
        began = time.monotonic()
        answer = call_module(index_validation, **wanted, repair_timeout="700ms")
        assert time.monotonic() - began < 20
    assert answer["repairs"][-1]["problem"] == "canceling statement due to statement timeout"
    # What both attempts left goes with the one that works.
    answer = call_module(index_validation, **wanted, report=["invalid"])
    assert (answer["changed"], answer["valid"], answer["reports"]["invalid"]["found"]) == (True, 1, [])
    assert [one["statement"].split()[0] for one in answer["repairs"]] == ["DROP"] * (len(answer["repairs"]) - 1) + ["REINDEX"]


REPORTED = """
CREATE TABLE parent (id bigint PRIMARY KEY);
CREATE TABLE child (id bigint PRIMARY KEY, parent_id bigint REFERENCES parent, other_id bigint, note text, kind int);
ALTER TABLE child ADD CONSTRAINT child_other FOREIGN KEY (other_id) REFERENCES parent;
CREATE INDEX child_other_ix ON child (other_id);
CREATE INDEX child_twin ON child (other_id);
CREATE INDEX child_note ON child (note);
CREATE INDEX child_note_kind ON child (note, kind);
CREATE UNIQUE INDEX child_unique ON child (note, id);
CREATE INDEX child_never ON child (kind);
INSERT INTO parent SELECT g FROM generate_series(1, 2000) g;
INSERT INTO child SELECT g, g % 2000 + 1, g % 2000 + 1, repeat('x', 40) || g, g FROM generate_series(1, 20000) g;
DELETE FROM child WHERE id % 10 <> 0;
"""


def test_reports(url: str, call_module: Call) -> None:
    with session(url) as admin:
        run(admin, REPORTED)
        run(admin, "VACUUM ANALYZE child")
    limits = {"unused_days": 0, "bloat_min_bytes": 100000, "bloat_percent": 50}
    every = ["invalid", "duplicates", "unused", "missing_fk", "bloat", "slow"]
    answer = call_module(index_validation, database_url=url, report=every, thresholds=limits)
    assert "failed" not in answer and answer["findings"] == []
    reports = answer["reports"]
    twins = [(row["index"], row["covered_by"], row["kind"]) for row in reports["duplicates"]["found"]]
    assert sorted(twins) == [("child_note", "child_note_kind", "prefix"), ("child_twin", "child_other_ix", "duplicate")]
    assert [(row["table"], row["columns"], row["refers_to"]) for row in reports["missing_fk"]["found"]] == [("child", ["parent_id"], "parent")]
    assert "child_never" in [row["index"] for row in reports["unused"]["found"]]
    assert "child_unique" not in [row["index"] for row in reports["unused"]["found"]]
    assert (reports["unused"]["servers"], reports["unused"]["decided"]) == (1, True)
    assert reports["bloat"]["how"] == "estimate" and "estimated from statistics" in reports["bloat"]["note"]["en"]
    estimated = {row["index"]: row["percent"] for row in reports["bloat"]["found"]}
    assert "child_note" in estimated
    assert "pg_stat_statements" in reports["slow"]["note"]["en"] and reports["slow"]["found"] == []
    with session(url) as admin:
        run(admin, "CREATE SCHEMA extensions; CREATE EXTENSION pgstattuple SCHEMA extensions; CREATE EXTENSION pg_stat_statements SCHEMA extensions")
        for _time in range(3):
            run(admin, "SELECT count(*), pg_sleep(0.02) FROM child WHERE parent_id = 7")
    answer = call_module(index_validation, database_url=url, report=every, thresholds={**limits, "slow_mean_ms": 15}, fail_on=["bloat", "slow", "missing_fk"])
    assert answer["failed"] is True
    measured = {row["index"]: row["percent"] for row in answer["reports"]["bloat"]["found"]}
    assert answer["reports"]["bloat"]["how"] == "pgstattuple"
    assert abs(measured["child_note"] - float(estimated["child_note"])) < 15
    (slow,) = [row for row in answer["reports"]["slow"]["found"] if "pg_sleep" in row["query"]]
    assert (slow["calls"], slow["reads_whole"]) == (3, ["public.child"])
    about = {finding["about"] for finding in answer["findings"]}
    assert about == {"bloat", "slow", "missing_fk"}
    (key,) = [finding for finding in answer["findings"] if finding["about"] == "missing_fk"]
    assert key["remedy"] == "CREATE INDEX CONCURRENTLY ON public.child USING btree (parent_id);"
    # What stood before is told, and fails nothing; what is new fails.
    again = call_module(
        index_validation,
        database_url=url,
        thresholds=limits,
        fail_on=["bloat", "missing_fk"],
        before=[one for one in answer["findings"] if one["about"] == "bloat"],
    )
    assert [(one["about"], one["new"]) for one in again["findings"]] == [("missing_fk", True), *[("bloat", False)] * len(measured)]
    assert "bloat" not in again["msg"]
    old = call_module(index_validation, database_url=url, thresholds=limits, fail_on=["bloat", "missing_fk"], before=answer["findings"])
    assert "failed" not in old and len(old["findings"]) == 1 + len(measured)


def test_young_statistics_call_no_index_unused(url: str, call_module: Call) -> None:
    with session(url) as admin:
        run(admin, REPORTED)
    report = call_module(index_validation, database_url=url, fail_on=["unused"])
    assert (report["findings"], report["reports"]["unused"]["decided"]) == ([], False)
    assert "too young" in report["reports"]["unused"]["note"]["en"]


@pytest.fixture
def standby(fifteen: DistributionPostgres) -> collections.abc.Iterator[int]:
    """The port of a standby of the server."""
    copy = DistributionPostgres(fifteen.base.parent / "standby", free_port(), fifteen.password)
    copy.base.mkdir(mode=0o755)
    copy.data.mkdir(mode=0o700)
    shutil.chown(copy.data, "nobody")
    environment = {"PGPASSWORD": fifteen.password, "PATH": "/usr/bin:/bin"}
    command = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", str(copy.installation / "bin" / "pg_basebackup")]
    command += ["--host=127.0.0.1", f"--port={fifteen.port}", "--username=postgres", f"--pgdata={copy.data}", "--write-recovery-conf", "--checkpoint=fast"]
    subprocess.run(command, env=environment, cwd=copy.base, check=True, capture_output=True)
    (copy.data / "server.log").unlink(missing_ok=True)
    copy.start()
    try:
        yield copy.port
    finally:
        copy.stop("immediate")
        shutil.rmtree(copy.base)


def test_a_standby(url: str, standby: int, call_module: Call) -> None:
    there = url.replace(f":{urlsplit(url).port}/", f":{standby}/")
    with session(url) as admin:
        run(admin, REPORTED)
        run(admin, "CREATE INDEX child_lower ON child (lower(note)) WHERE kind > 3 AND note <> ''; ANALYZE child")
        (lsn,) = run(admin, "SELECT pg_current_wal_lsn()")[0]
    with session(there) as copy:
        wait_until(lambda: run(copy, f"SELECT pg_last_wal_replay_lsn() >= '{lsn}'") == [(True,)], seconds=120, what="the standby has caught up")
        for _time in range(3):
            run(copy, "SET enable_seqscan = off; SELECT count(*) FROM child WHERE kind = 5")
    lower = {"table": "child", "name": "child_lower", "columns": ["LOWER(note)"], "where": "note<>'' AND kind>3"}
    answer = call_module(index_validation, database_url=there, indexes=[lower, {"table": "child", "columns": ["lower(kind)"]}])
    assert answer["compared_as_text"] == "the server is a standby"
    assert (answer["valid"], answer["used"]) == (1, 1)
    assert answer["findings"][0]["difference"] == "missing (compared as text: the server is a standby)"
    # The primary alone would call it unused; the standby reads it.
    limits = {"unused_days": 0}
    alone = call_module(index_validation, database_url=url, fail_on=["unused"], thresholds=limits)
    assert "child_never" in {finding["index"] for finding in alone["findings"]}

    def seen() -> set[str]:
        both = call_module(index_validation, database_url=url, fail_on=["unused"], thresholds=limits, standbys=[f"127.0.0.1:{standby}"])
        assert both["reports"]["unused"]["servers"] == 2
        return {finding["index"] for finding in both["findings"]}

    wait_until(lambda: "child_never" not in seen(), seconds=120, what="the standby's counter is there")
    assert "child_note" in seen()
    away = call_module(index_validation, database_url=url, fail_on=["unused"], thresholds=limits, standbys=["127.0.0.1:1"])
    assert (away["findings"], away["reports"]["unused"]["unreachable"]) == ([], ["127.0.0.1:1"])
