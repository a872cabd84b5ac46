# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Deploys that rehearse their migrations: what the copy shows is said and counts, and no copy stays."""

from __future__ import annotations

import re
import tempfile
import typing as t
from pathlib import Path

import psycopg2
import pytest
from demo.postgres import Postgres
from demo.process import wait_until
from demo.world import World

from .world_support import Live, answer, deploy, has_entered, journal, kill, outcome, revision, rows, start_deploy, variables_file

LEFT = "lastro_rehearsal_0123456789ab"


@pytest.fixture
def world(live: Live) -> World:
    """r1 serves."""
    live.snapshot.restore()
    return live.world


def rehearsing(world: World, url: str) -> list[str]:
    """Arguments of a deploy that makes its copy on the server at *url*."""
    return ["-e", variables_file(world, {"deploy_migrations": {"config": "alembic.ini", "revision": "heads", "when": "auto", "rehearsal_url": url}})]


def copies(world: World) -> list[str]:
    return [name for (name,) in rows(world, "SELECT datname FROM pg_database WHERE datname LIKE 'lastro_rehearsal_%%'", superuser=True)]


def evidence(world: World, phase: str) -> dict[str, t.Any]:
    [found] = [record["evidence"] for record in journal(world) if record["kind"] == "result" and record["phase"] == phase]
    return dict(found)


def leave_a_copy(world: World) -> None:
    """As a rehearsal that died together with its host."""
    connection = psycopg2.connect(world.state["admin_url"])
    connection.autocommit = True
    try:
        connection.cursor().execute(f"CREATE DATABASE {LEFT}")
    finally:
        connection.close()


def test_a_killed_run_leaves_no_copy_and_the_next_one_rehearses_and_deploys(world: World) -> None:
    arguments = rehearsing(world, world.state["admin_url"])
    process = start_deploy(world, "r2", *arguments)
    wait_until(lambda: has_entered(world, "rehearse", 1), seconds=90, what="the run has begun to rehearse")
    kill(process)
    leave_a_copy(world)
    before = revision(world)
    command = deploy(world, "r2", *arguments, LASTRO_WATCH="3s")
    assert (command.code, outcome(world)) == (0, "deployed"), command.output
    assert re.search(r"✔ rehearse +\d+ revisions?, .* s, no long lock, reversible", command.output), command.output
    assert evidence(world, "open")["copies"] == [LEFT]
    seen = evidence(world, "rehearse")
    assert seen["rows"] is True
    assert seen["applied"] == seen["reverted"][::-1] != []
    assert (seen["not_reverted"], seen["irreversible"]) == ([], [])
    assert copies(world) == []
    assert revision(world) != before
    assert answer(world)[1].partition("-")[0] == "r2"


def test_a_cluster_of_its_own(world: World) -> None:
    # The cluster's account must be able to enter the directory and to run the programs: those of the demo's own server.
    directory = Path(tempfile.mkdtemp(prefix="lastro-test-"))
    directory.chmod(0o755)
    programs = Postgres(Path(world.state["postgres_base"]) / "postgres", 0, "").installation / "bin"
    migrations = {"config": "alembic.ini", "revision": "heads", "when": "auto", "rehearsal_cluster": str(directory)}
    backup = {"dest": str(world.home / "backups"), "recipients": [world.state["backup_recipient"]], "bin_dir": str(programs)}
    command = deploy(world, "r2", "-e", variables_file(world, {"deploy_migrations": migrations, "deploy_backup": backup}), LASTRO_WATCH="3s")
    assert (command.code, outcome(world)) == (0, "deployed"), command.output
    assert evidence(world, "rehearse")["applied"] == evidence(world, "rehearse")["reverted"][::-1] != []
    assert list(directory.iterdir()) == []
    directory.rmdir()


def test_a_server_that_cannot_take_the_copy_stops_the_run_before_anything_changed(world: World) -> None:
    before = revision(world)
    command = deploy(world, "r2", *rehearsing(world, world.database_url))
    assert (command.code != 0, outcome(world)) == (True, "failed_nothing_changed"), command.output
    assert "CREATEDB" in command.output
    assert revision(world) == before
    assert answer(world)[1].partition("-")[0] == "r1"
    assert copies(world) == []
