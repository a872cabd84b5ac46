# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A release whose revision cannot be taken back fails after it has run: the restore that follows by itself, or by a person, or after kill -9.

r5 lands on r1 without the encryption in between, so that its revisions drop 50,000 tokens and names, and its own smoke test finds no token readable.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
import typing as t
from pathlib import Path

import pytest
from ansible_collections.lastro.deploy.plugins.module_utils import _backup_manifest
from demo import story, traffic
from demo.process import processes, wait_until
from demo.world import MARK, ROLE, World

from . import sql
from .world_support import PLAYBOOK, ROOT, Live, answer, deploy, journal, outcome, play, restored_databases, revision, rows, server_url, variables_file

TABLES = ("users", "credentials")
SCHEDULE = "/api/schedule?day=2030-01-01"


@pytest.fixture
def world(live: Live) -> World:
    """r1 serves, and no other test's restore is left."""
    live.snapshot.restore()
    return live.world


def r5(world: World, *, identity: bool = True) -> str:
    """Variables of a deploy that drops the clear tokens although nothing has encrypted them, and the names for good."""
    backup = {"dest": str(world.home / "backups"), "recipients": [world.state["backup_recipient"]], "bin_dir": world.state["postgres_bin"]}
    if identity:
        backup["identity"] = world.state["backup_identity"]
    migrations = {"config": "alembic.ini", "revision": "heads", "when": "before_switch"}
    return variables_file(world, {"deploy_tokens": [], "deploy_migrations": migrations, "deploy_backup": backup})


def content(world: World) -> dict[str, list[tuple[t.Any, ...]]]:
    """Every row of the tables that the application's users do not change here."""
    return {table: rows(world, f"SELECT to_jsonb(one)::text FROM {table} one ORDER BY id") for table in TABLES}


def booked(world: World) -> set[str]:
    return {slot for (slot,) in rows(world, "SELECT slot FROM bookings")}


def evidence(world: World, phase: str, index: int = -1) -> dict[str, t.Any]:
    return next(record["evidence"] for record in journal(world, index) if record["kind"] in ("result", "verdict") and record.get("phase") == phase)


def flag(world: World) -> Path:
    return world.home / "state" / "proxy" / "maintenance.flag"


def test_the_restore_brings_every_row_back_and_loses_nothing(world: World) -> None:
    before = content(world)
    slots = booked(world)
    requests = story.Traffic(world)
    wait_until(lambda: booked(world) > slots, seconds=60, what="a booking before the deploy")
    began = time.time()
    command = deploy(world, "r5", "-e", r5(world))
    ended = time.time()
    serves = answer(world, SCHEDULE)
    enough = len(booked(world)) + 10
    wait_until(lambda: len(booked(world)) >= enough, seconds=60, what="bookings after the deploy")
    records = requests.stop()
    assert (command.code != 0, outcome(world)) == (True, "rolled_back"), command.output
    run_id = story.journals(world)[-1].stem
    decision = next(record for record in journal(world) if record["kind"] == "decision")
    assert (decision["scope"], decision["facts"]["writes_possible"], decision["facts"]["restorable"]) == ("restore", False, True)
    assert "smoke" in [record.get("phase") for record in journal(world) if record["kind"] == "result" and record["status"] == "failed"]

    assert revision(world) == ["0001"]
    assert content(world) == before
    assert (serves[0], serves[1].split("-")[0]) == (200, "r1")
    # What clients were told is booked is booked, before the door was shut and after it opened; nobody was let in between.
    accepted = {record.slot for record in records if record.kind == "bookings" and record.status == 201}
    asked = {record.slot for record in records if record.kind == "bookings"}
    assert accepted <= booked(world) - slots <= asked
    assert slots <= booked(world)
    told = [record for record in records if record.status == 201]
    assert told[0].start < began + 10 and told[-1].start > ended - 1
    failed = [record for record in records if record.failed]
    assert {(record.status, record.error) for record in failed} == {(503, "")}, traffic.summarise(records)
    assert not flag(world).exists()

    [kept] = restored_databases(world)
    assert kept == f"{ROLE}_failed_{run_id}"
    failed_state = server_url(world, kept)
    assert sql.rows(failed_state, "SELECT version_num FROM alembic_version") == [("0006",)]
    assert sql.rows(failed_state, "SELECT count(*) FROM information_schema.columns WHERE table_name = 'credentials' AND column_name = 'token'") == [(0,)]
    dumped = _backup_manifest.read(world.home / "backups" / "failed" / f"{run_id}.manifest.json")
    _backup_manifest.check_file(world.home / "backups" / "failed", dumped)
    assert dumped.tables["public.users"].rows == len(before["users"])
    assert (dumped.encryption, "token" in dumped.tables["public.credentials"].columns) == ("age", False)
    assert evidence(world, "rollback")["kept_as"] == kept
    assert kept in command.output


def test_without_its_key_a_person_gives_it_and_a_killed_restore_is_finished_by_the_next_command(world: World) -> None:
    before = content(world)
    command = deploy(world, "r5", "-e", r5(world, identity=False))
    assert (command.code != 0, outcome(world)) == (True, "needs_human"), command.output
    assert "no identity: a restore would need a person" in command.output
    run_id = story.journals(world)[-1].stem
    assert f"Give deploy_backup.identity, the key that opens the backup {run_id}-drained, and run rollback.yml" in " ".join(command.output.split())
    # Nobody is let in to a database that would be put back: no timer opens the door either.
    assert answer(world, SCHEDULE)[0] == 503
    assert not list((world.home / "state" / "timers").glob("maintenance*"))
    assert (revision(world), restored_databases(world)) == (["0006"], [])

    arguments = r5(world)
    with (world.home / "rollback.log").open("ab") as log:
        killed = subprocess.Popen(
            [PLAYBOOK, "playbooks/rollback.yml", "-i", "inventories/demo", "-e", arguments],
            cwd=ROOT,
            env=world.environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    wait_until(lambda: f"{ROLE}_restored_{run_id}" in restored_databases(world) or killed.poll() is not None, seconds=600, what="the copy is being made")
    kill_all_of(killed, world)
    assert f"{ROLE}_restored_{run_id}" in restored_databases(world)
    # As if it had been killed in its short step: the door of the database is closed.
    sha256 = _backup_manifest.read(world.home / "backups" / f"{run_id}-drained.manifest.json").sha256
    sql.execute(
        server_url(world),
        f"COMMENT ON DATABASE \"{ROLE}_restored_{run_id}\" IS 'lastro.deploy restore: swapping {sha256}'",
        f"ALTER DATABASE {ROLE} ALLOW_CONNECTIONS false",
    )
    assert answer(world, SCHEDULE)[0] == 503

    healed = play(world, "playbooks/rollback.yml", "-e", arguments)
    assert (healed.code, outcome(world)) == (0, "rolled_back"), healed.output
    assert revision(world) == ["0001"]
    assert content(world) == before
    status, release, _body = answer(world, SCHEDULE)
    assert (status, release.split("-")[0]) == (200, "r1")
    assert restored_databases(world) == [f"{ROLE}_failed_{run_id}"]
    assert not flag(world).exists()
    ledger = json.loads((world.home / "state" / "ledger.json").read_text(encoding="utf-8"))
    assert ledger["live"].split("-")[0] == "r1"


def kill_all_of(command: subprocess.Popen[bytes], world: World) -> None:
    """kill -9 of the command and of the restore that it has started on the host."""
    command.send_signal(signal.SIGKILL)
    command.wait(timeout=30)
    for pid in processes():
        with contextlib.suppress(OSError):
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes()
            ours = f"{MARK}={world.home}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            if ours and b"pg_restore" in arguments:
                os.kill(pid, signal.SIGKILL)
