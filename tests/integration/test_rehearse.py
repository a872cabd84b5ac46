# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Deploys that rehearse their migrations: what the copy shows is said and counts, and no copy stays."""

from __future__ import annotations

import re
import tempfile
import typing as t
from pathlib import Path

import pytest
from demo.postgres import Postgres
from demo.process import wait_until
from demo.world import World

from .world_support import Live, answer, deploy, has_entered, journal, kill, outcome, revision, start_deploy, variables_file


@pytest.fixture
def world(live: Live) -> World:
    """r1 serves."""
    live.snapshot.restore()
    return live.world


def rehearsing(world: World, **place: str) -> list[str]:
    """Arguments of a deploy that makes its copy in this place, with the programs of the demo's own server: every account may run them."""
    programs = Postgres(Path(world.state["postgres_base"]) / "postgres", 0, "").installation / "bin"
    backup = {"dest": str(world.home / "backups"), "recipients": [world.state["backup_recipient"]], "bin_dir": str(programs)}
    if "rehearsal_cluster" in place:
        backup["verify"] = "restore"
    migrations = {"config": "alembic.ini", "revision": "heads", "when": "auto", **place}
    return ["-e", variables_file(world, {"deploy_migrations": migrations, "deploy_backup": backup})]


def evidence(world: World, phase: str) -> dict[str, t.Any]:
    [found] = [record["evidence"] for record in journal(world) if record["kind"] == "result" and record["phase"] == phase]
    return dict(found)


def test_a_killed_run_leaves_no_copy_and_the_next_one_rehearses_and_deploys(world: World) -> None:
    directory = Path(tempfile.mkdtemp(prefix="lastro-test-"))
    directory.chmod(0o755)
    arguments = rehearsing(world, rehearsal_cluster=str(directory))
    process = start_deploy(world, "r2", *arguments)
    wait_until(lambda: has_entered(world, "rehearse", 1), seconds=90, what="the run has begun to rehearse")
    kill(process)
    # As a rehearsal that died together with its host.
    left = directory / "lastro-rehearsal-0123456789ab"
    (left / "data").mkdir(parents=True)
    before = revision(world)
    command = deploy(world, "r2", *arguments, LASTRO_WATCH="3s")
    assert (command.code, outcome(world)) == (0, "deployed"), command.output
    assert re.search(r"✔ rehearse +\d+ revisions?, .* s, no long lock, reversible", command.output), command.output
    assert str(left) in evidence(world, "open")["copies"]
    seen = evidence(world, "rehearse")
    assert seen["rows"] is True
    assert seen["applied"] == seen["reverted"][::-1] != []
    assert (seen["not_reverted"], seen["irreversible"]) == ([], [])
    # The copy by which the backup was proved is the one that the revisions ran on: nobody else removes it so soon.
    proved = evidence(world, "backup")
    assert ("restore" in proved["verified"], Path(proved["kept_copy"]).parent) == (True, directory)
    assert list(directory.iterdir()) == []
    directory.rmdir()
    assert revision(world) != before
    assert answer(world)[1].partition("-")[0] == "r2"


def test_a_server_that_cannot_take_the_copy_stops_the_run_before_anything_changed(world: World) -> None:
    before = revision(world)
    command = deploy(world, "r2", *rehearsing(world, rehearsal_url=world.database_url))
    assert (command.code != 0, outcome(world)) == (True, "failed_nothing_changed"), command.output
    assert "CREATEDB" in command.output
    assert revision(world) == before
    assert answer(world)[1].partition("-")[0] == "r1"
