# SPDX-License-Identifier: GPL-3.0-or-later
"""The module pgbackrest with Debian's pgBackRest and PostgreSQL 15: what is in the repository afterwards, and what comes back from it."""

from __future__ import annotations

import collections.abc
import contextlib
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import typing as t
from pathlib import Path
from urllib.parse import quote, urlsplit

import psycopg2
import pytest
from ansible_collections.lastro.deploy.plugins.modules import host_probe, pgbackrest

from . import pgbackrest_stanza
from .module_process import until
from .pgbackrest_stanza import ACCOUNT, PASSWORD, STANZA, Cluster, restored

ROOT = Path(__file__).parents[2]
CallModule = collections.abc.Callable[..., dict[str, t.Any]]


@pytest.fixture(scope="module")
def cluster(base: Path) -> collections.abc.Iterator[Cluster]:
    one = pgbackrest_stanza.create(base)
    try:
        (base / "tablespace").mkdir(mode=0o700)
        if ACCOUNT:
            shutil.chown(base / "tablespace", ACCOUNT, "nogroup")
        one.execute(f"CREATE TABLESPACE apart LOCATION '{base}/tablespace'", "CREATE TABLE elsewhere TABLESPACE apart AS SELECT 7 AS id")
        one.execute("CREATE TABLE bookings (id int PRIMARY KEY, note text)", "INSERT INTO bookings SELECT n, md5(n::text) FROM generate_series(1, 20000) n")
        yield one
    finally:
        one.server.stop("immediate")


@pytest.fixture
def back_up(cluster: Cluster, call_module: CallModule) -> CallModule:
    """Run the module; its result, whether it failed or not."""

    def call(run_id: str, *, check: bool = False, **options: object) -> dict[str, t.Any]:
        arguments = {"database_url": cluster.url, "stanza": STANZA, "config": str(cluster.config), "user": ACCOUNT, "run_id": run_id, **options}
        result = call_module(pgbackrest, check=check, **{name: value for name, value in arguments.items() if value is not None})
        assert PASSWORD not in json.dumps(result)
        return result

    return call


@pytest.fixture
def full(back_up: CallModule) -> dict[str, t.Any]:
    """The first run's backup; made by the first test that asks for it."""
    return back_up("r1")


def test_full_then_incremental_each_once(cluster: Cluster, back_up: CallModule, tmp_path: Path) -> None:
    seen = back_up("r1", check=True)
    assert (seen["changed"], seen["path"], cluster.labels()) == (True, f"{STANZA}/", []), seen
    first = back_up("r1", progress_file=str(tmp_path / "progress.json"))
    assert first.get("label", "").endswith("F"), first
    assert (first["changed"], first["backup_type"], first["verified"], first["pruned"]) == (True, "full", ["read"], [])
    assert first["raw_size"] > first["size"] > 1_000_000
    progress = json.loads((tmp_path / "progress.json").read_text(encoding="utf-8"))
    assert progress["done"] > 1_000_000 and progress["unit"] == "bytes"
    again = back_up("r1")
    assert again["changed"] is False
    kept = ("label", "path", "restore_point", "snapshot_lsn", "restore_command", "size", "raw_size", "verified", "created")
    assert [again[name] for name in kept] == [first[name] for name in kept]
    second = back_up("r2")
    assert (second["changed"], second["backup_type"], second["label"].partition("_")[0]) == (True, "incr", first["label"]), second
    assert cluster.labels() == [first["label"], second["label"]]
    points = [first["restore_point"], second["restore_point"]]
    assert all(point.startswith(f"lastro-r{number}-") for number, point in enumerate(points, start=1))
    # What PostgreSQL's own log says of them.
    log = cluster.server.log.read_text(encoding="utf-8")
    assert all(f'restore point "{one["restore_point"]}" created at {one["snapshot_lsn"]}' in log for one in (first, second))


def test_the_rows_of_the_restore_point_come_back_although_writes_went_on(cluster: Cluster, back_up: CallModule, full: dict[str, t.Any], base: Path) -> None:
    """Each writer's id is committed before the next one; what the backup's moment had is a prefix, and the restored cluster has exactly that."""
    cluster.execute("CREATE TABLE written (id bigserial PRIMARY KEY, at pg_lsn NOT NULL)")
    stop = threading.Event()

    def write() -> None:
        connection = psycopg2.connect(cluster.url)
        connection.autocommit = True
        with contextlib.closing(connection), connection.cursor() as cursor:
            while not stop.is_set():
                # The row's own commit comes after this position, before the next row's.
                cursor.execute("INSERT INTO written (at) VALUES (pg_current_wal_insert_lsn())")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        made = back_up("while-writing")
        seen = int(cluster.execute("SELECT count(*) FROM written")[0][0])
    finally:
        stop.set()
        writer.join()
    assert made["changed"], made
    cluster.execute("DROP TABLE bookings")
    with restored(cluster, made["restore_command"], base / "restored") as url:
        rows = cluster.execute("SELECT id, at FROM written ORDER BY id", url=url)
        assert cluster.execute("SELECT id FROM elsewhere", url=url) == [(7,)]
        assert cluster.execute("SHOW archive_mode", url=url) == [("off",)]
        assert cluster.execute("SELECT count(*), min(id), max(id) FROM bookings", url=url) == [(20000, 1, 20000)]
    cluster.execute("CREATE TABLE bookings AS SELECT n AS id, md5(n::text) AS note FROM generate_series(1, 20000) n")
    point = made["snapshot_lsn"]
    before = cluster.execute(f"SELECT id, at FROM written WHERE at < '{point}' ORDER BY id")
    # One row may have taken its position before the point and been committed after it.
    assert rows in (before, before[:-1])
    assert 0 < len(rows) < seen, (len(rows), seen)


@pytest.mark.parametrize("victim", ["pgbackrest", "module"])
def test_killed_in_the_middle_the_next_call_succeeds(cluster: Cluster, back_up: CallModule, full: dict[str, t.Any], victim: str) -> None:
    for attempt in range(9):  # a backup may be over before it was seen
        run_id, before = f"killed-{victim}-{attempt}", cluster.labels()
        with in_a_process(cluster, run_id) as process:
            child = until(functools.partial(stopped, cluster, process))
            if child < 0:
                assert process.communicate()[0] and process.returncode == 0
                continue
            busy = back_up("another", lock_timeout=0)
            os.kill(child, signal.SIGCONT)
            os.kill(child if victim == "pgbackrest" else process.pid, signal.SIGKILL)
            output, _errors = process.communicate()
            until(functools.partial(ended, child))
            break
    else:
        raise AssertionError("each backup was over before it was seen")
    assert busy["failed"] and busy["code"] == "busy", busy
    if victim == "pgbackrest":
        result = json.loads(output)
        assert result["failed"] and "signal 9" in result["problem"], result
    assert cluster.labels() == before
    made = back_up(run_id)
    assert (made["changed"], made["verified"]) == (True, ["read"]), made
    assert cluster.labels()[-1] == made["label"]


@contextlib.contextmanager
def in_a_process(cluster: Cluster, run_id: str) -> collections.abc.Iterator[subprocess.Popen[str]]:
    """The module, making a full backup in a process of its own."""
    options = {"database_url": cluster.url, "stanza": STANZA, "config": str(cluster.config), "run_id": run_id, "type": "full"}
    program = (
        "import json, sys; from ansible.module_utils.testing import patch_module_args\n"
        f"from ansible_collections.lastro.deploy.plugins.modules import {pgbackrest.__name__.rpartition('.')[2]} as module\n"
        "with patch_module_args(json.loads(sys.stdin.readline())): module.main()"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "collections")}
    pipes: dict[str, t.Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", program], env=environment, **pipes) as process:
        assert process.stdin is not None
        process.stdin.write(json.dumps({**options, **({"user": ACCOUNT} if ACCOUNT else {})}) + "\n")
        process.stdin.flush()
        yield process


def ended(process: int) -> bool:
    """Whether it has ended, be it that its adoptive parent has not noticed yet."""
    try:
        return Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def copying(cluster: Cluster) -> int:
    """The main process of a backup that has begun to copy and is not done; 0 where there is none."""
    if all((one / "backup.manifest").exists() for one in cluster.repository.glob("*F")):
        return 0
    for directory in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (directory / "cmdline").read_bytes().decode().split("\0")
            if f"--config={cluster.config}" in words and "backup" in words and Path(words[0]).name == "pgbackrest":
                return int(directory.name)
    return 0


def stopped(cluster: Cluster, process: subprocess.Popen[str]) -> int:
    """The same, stopped, so that it is still at it when another call comes; -1 where the *process* that makes it has ended."""
    if child := copying(cluster):
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGSTOP)
            if copying(cluster) == child:
                return child
            os.kill(child, signal.SIGCONT)
    return 0 if process.poll() is None else -1


def test_killed_before_its_proof_a_call_makes_no_second_backup(cluster: Cluster, back_up: CallModule, full: dict[str, t.Any]) -> None:
    """The backup of this run is there, but neither restore point nor proof: what a kill after the backup leaves."""
    cluster.pgbackrest("--type=incr", "--start-fast", "--annotation=run_id=half", "backup")
    label = cluster.labels()[-1]
    made = back_up("half")
    assert (made["changed"], made["label"], made["verified"], cluster.labels()[-1]) == (True, label, ["read"], label), made
    assert f'restore point "{made["restore_point"]}"' in cluster.server.log.read_text(encoding="utf-8")
    assert back_up("half")["changed"] is False


def test_a_broken_archive_is_found_before_anything_is_done(cluster: Cluster, back_up: CallModule, full: dict[str, t.Any]) -> None:
    before = cluster.labels()
    cluster.execute("ALTER SYSTEM SET archive_command = 'false'", "SELECT pg_reload_conf()")
    wrong = back_up("broken")
    assert wrong["failed"] and "no backup was begun: ERROR: [068]: archive_command 'false' must contain pgbackrest" in wrong["problem"], wrong
    # A program that looks right and does nothing: the segment does not come.
    cluster.execute("ALTER SYSTEM SET archive_command = 'false pgbackrest'", "SELECT pg_reload_conf()")
    late = back_up("broken", archive_timeout=2)
    assert late["failed"] and "[082]: WAL segment" in late["problem"] and "archive_command" in late["msg"], late
    until(lambda: cluster.execute("SELECT last_failed_time > last_archived_time FROM pg_stat_archiver")[0][0])
    checked = back_up("broken", check=True)
    assert checked["failed"] and "last attempt to archive WAL failed" in checked["problem"], checked
    assert cluster.labels() == before
    cluster.execute("ALTER SYSTEM RESET archive_command", "SELECT pg_reload_conf()")
    cluster.pgbackrest("check")
    assert back_up("broken", check=True)["changed"]


def test_what_cannot_be_is_refused(cluster: Cluster, back_up: CallModule, full: dict[str, t.Any], database: str) -> None:
    """Each with one message, before anything is written."""
    before = cluster.labels()
    cluster.execute(f"CREATE ROLE app LOGIN PASSWORD '{PASSWORD}'")
    host = urlsplit(cluster.url)
    as_app = f"postgresql://app:{quote(PASSWORD)}@127.0.0.1:{host.port}/postgres"
    cases: list[tuple[dict[str, t.Any], str]] = [
        ({"stanza": "nowhere"}, "The stanza nowhere is not usable in repository 1: missing stanza path"),
        ({"database_url": database}, "system identifier"),
        ({"database_url": as_app}, "The role app may not call pg_create_restore_point"),
        ({"run_id": "with space"}, "run_id is 'with space'"),
        ({"process_max": 0}, "process_max is 0"),
        ({"archive_timeout": 0}, "archive_timeout is 0"),
        ({"repo": 0}, "repo is 0"),
        ({"repo": 7}, "repo"),
        ({"stanza": "--help"}, "stanza is '--help'"),
        ({"user": "nobody-of-this-name"}, "no such account"),
    ]
    for options, problem in cases:
        found = back_up(**{"run_id": "refused", **options})
        assert found["failed"] and problem in found["problem"] and found["remedy"]["pt_BR"], (options, found)
    cluster.pgbackrest("stop")
    stopped = back_up("refused", archive_timeout=2)
    cluster.pgbackrest("start")
    cluster.pgbackrest("check")
    assert stopped["failed"] and "run the 'start' command" in stopped["problem"], stopped
    assert cluster.labels() == before
    granted = "GRANT EXECUTE ON FUNCTION pg_catalog.pg_create_restore_point(text) TO app"
    assert granted in back_up("refused", database_url=as_app)["msg"]
    cluster.execute(granted)
    assert back_up("granted", database_url=as_app, check=True)["changed"]


def test_a_damaged_file_in_the_repository_is_an_error(cluster: Cluster, back_up: CallModule, full: dict[str, t.Any]) -> None:
    """One bit of a bundle that this backup has from the full one it builds on: pgBackRest 2.45 itself ends with 0."""
    label = back_up("good", type="full")["label"]
    largest = max((cluster.repository / label / "bundle").iterdir(), key=lambda path: path.stat().st_size)
    whole = largest.read_bytes()
    damaged = bytearray(whole)
    damaged[len(damaged) // 2] ^= 1
    largest.write_bytes(damaged)
    assert cluster.pgbackrest("verify").returncode == 0
    found = back_up("built-on-it", type="incr")
    assert found["failed"] and f"backup {label} is invalid" in found["problem"] and found["label"].startswith(f"{label}_"), found
    again = back_up("built-on-it", type="incr")
    assert again["failed"] and again["label"] == found["label"]
    # repo1-retention-full=2
    before = cluster.labels()
    other = back_up("elsewhere", type="full")
    assert other["pruned"] and set(before) - set(cluster.labels()) == set(other["pruned"])
    assert (other["changed"], other["verified"]) == (True, ["read"]), other
    assert label in str(other["warnings"]), other
    largest.write_bytes(whole)
    mended = back_up("built-on-it", type="incr")
    assert (mended["changed"], mended["label"], mended["verified"]) == (True, found["label"], ["read"]), mended


def test_a_damaged_page_of_the_live_database_is_an_error(cluster: Cluster, back_up: CallModule, full: dict[str, t.Any]) -> None:
    """pgBackRest itself ends with 0 and a warning; a second call says the same."""
    cluster.execute("CREATE TABLE pages AS SELECT n, repeat('x', 500) AS filler FROM generate_series(1, 1000) n", "CHECKPOINT")
    path = cluster.server.data / str(cluster.execute("SELECT pg_relation_filepath('pages')")[0][0])
    with path.open("r+b") as stream:
        stream.seek(8192 + 4000)
        stream.write(b"damage")
    for _attempt in range(2):
        found = back_up("damaged")
        assert found["failed"] and "pages with wrong checksums" in found["problem"] and found["label"] == cluster.labels()[-1], found
    cluster.execute("DROP TABLE pages")


def test_the_role_backs_up_with_what_the_profile_chooses(
    cluster: Cluster,
    full: dict[str, t.Any],
    player: collections.abc.Callable[..., t.Any],
    include_role: collections.abc.Callable[..., t.Any],
    call_module: CallModule,
) -> None:
    """What backup.yml plays, and what preflight finds before it."""
    run = {"run_id": "20261126T080000-7c1f", "actor": "ana", "reason": "", "controller": {"host": "c", "pid": 1, "started": 1.0}}
    backup = {**cluster.profile, "type": "diff"}
    variables = {
        "deploy_state_dir": str(cluster.base / "state"),
        "deploy_root": str(cluster.base / "app"),
        "deploy_database": {"url": "postgresql://app@127.0.0.1:1/none", "admin_url": cluster.url},
        "deploy_backup": backup,
    }
    play = player(variables)
    extra = ["-e", json.dumps({"deploy_run": run, "deploy_lease": {}})]
    (cluster.base / "r1.env").write_text(f'DATABASE_URL="{cluster.url}"\n', encoding="utf-8")
    (cluster.base / "r1.env").chmod(0o600)
    phase = include_role("backup", "main", deploy_database={}, backup_environment=str(cluster.base / "r1.env"))
    played = play(
        include_role("backup", "alone"),
        {"ansible.builtin.set_fact": {"alone": "{{ backup_result }}"}},
        phase,
        facts=["alone", "backup_evidence"],
        options=extra,
    )
    made, evidence = played.facts["alone"], played.facts["backup_evidence"]
    assert cluster.labels()[-2:] == [made["label"], evidence["label"]]
    assert (made["backup_type"], evidence["backup_type"]) == ("diff", "diff")
    assert made["restore_point"].startswith(f"lastro-manual-{run['run_id']}-")
    assert f"{made['path']}: {made['size']} bytes, restore point {made['restore_point']}, verified (read)" in played.output
    assert not (cluster.base / "state" / "lock.json").exists()
    assert evidence["restore_point"].startswith(f"lastro-{run['run_id']}-") and evidence["restore_command"].endswith(" restore")
    refused = play(include_role("backup", "restore"), options=extra, fails=True)
    assert "restores the whole cluster" in refused.output and "docs/operations.md" in refused.output
    options = {name: value for name, value in backup.items() if name != "provider"} | {"database_url": cluster.url, "run_id": run["run_id"]}
    found = call_module(host_probe, environment_file=str(cluster.base / "r1.env"), backup_provider="pgbackrest", backup=options)
    assert found.get("findings") == [], found
    (finding,) = call_module(host_probe, backup_provider="pgbackrest", backup={**options, "stanza": "nowhere"})["findings"]
    assert finding["target"] == "backup" and "stanza nowhere is not usable" in finding["problem"]
