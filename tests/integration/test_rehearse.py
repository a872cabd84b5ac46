# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Deploys that rehearse their migrations: what the copy shows is said and counts, and no copy stays."""

from __future__ import annotations

import collections.abc
import re
import tempfile
import typing as t
from pathlib import Path

import pytest
from demo import story
from demo.postgres import Postgres
from demo.process import wait_until
from demo.world import World

from . import off_site
from .off_site import ACCESS_KEY, BUCKET, S3, SECRET_KEY
from .world_support import (
    ArgumentWatch,
    Command,
    Live,
    answer,
    deploy,
    files_below,
    has_entered,
    journal,
    kill,
    outcome,
    revision,
    start_deploy,
    variables_file,
)


@pytest.fixture
def world(live: Live) -> World:
    """r1 serves."""
    live.snapshot.restore()
    return live.world


@pytest.fixture
def store(tmp_path: Path) -> collections.abc.Iterator[S3]:
    """An S3 server."""
    with off_site.rclone_s3(tmp_path / "store") as one:
        yield one


def rehearsing(world: World, store: S3 | None = None, **place: str) -> list[str]:
    """Arguments of a deploy that makes its copy in this place, with the programs of the demo's own server: every account may run them.

    Its backup is copied into *store*.
    """
    programs = Postgres(Path(world.state["postgres_base"]) / "postgres", 0, "").installation / "bin"
    backup: dict[str, t.Any] = {"dest": str(world.home / "backups"), "recipients": [world.state["backup_recipient"]], "bin_dir": str(programs)}
    if store:
        backup["upload"] = store.upload()
    if "rehearsal_cluster" in place:
        backup["verify"] = "restore"
    migrations = {"config": "alembic.ini", "revision": "heads", "when": "auto", **place}
    return ["-e", variables_file(world, {"deploy_migrations": migrations, "deploy_backup": backup})]


def evidence(world: World, phase: str) -> dict[str, t.Any]:
    [found] = [record["evidence"] for record in journal(world) if record["kind"] == "result" and record["phase"] == phase]
    return dict(found)


def test_a_killed_run_leaves_no_copy_and_the_next_one_rehearses_uploads_and_deploys(world: World, store: S3) -> None:
    directory = Path(tempfile.mkdtemp(prefix="lastro-test-"))
    directory.chmod(0o755)
    arguments = rehearsing(world, store, rehearsal_cluster=str(directory))
    process = start_deploy(world, "r2", *arguments)
    wait_until(lambda: has_entered(world, "rehearse", 1) or process.poll() is not None, seconds=600, what="the run has begun to rehearse")
    kill(process)
    # As a rehearsal that died together with its host.
    left = directory / "lastro-rehearsal-0123456789ab"
    (left / "data").mkdir(parents=True)
    before = revision(world)
    with ArgumentWatch() as watch:
        command = deploy(world, "r2", "-vvv", *arguments, LASTRO_WATCH="3s")
    assert (command.code, outcome(world)) == (0, "deployed"), command.output[-20_000:]
    assert re.search(r"✔ rehearse +\d+ revisions?, .* s, no long lock, reversible", command.output)
    assert str(left) in evidence(world, "open")["copies"]
    seen = evidence(world, "rehearse")
    assert seen["rows"] is True
    assert seen["applied"] == seen["reverted"][::-1] != []
    assert (seen["not_reverted"], seen["irreversible"]) == ([], [])
    # The copy by which the backup was proved is the one that the revisions ran on: this run has made no other.
    proved = evidence(world, "backup")
    assert ("restore" in proved["verified"], Path(proved["kept_copy"]).parent) == (True, directory)
    assert {found for line in watch.seen for found in re.findall(rf"{directory}/lastro-rehearsal-\w+", line)} == {proved["kept_copy"]}
    assert list(directory.iterdir()) == []
    directory.rmdir()
    assert revision(world) != before
    assert answer(world)[1].partition("-")[0] == "r2"
    assert_copied(world, store, proved)
    assert_hides_credentials(world, command, watch)


def assert_copied(world: World, store: S3, proved: dict[str, t.Any]) -> None:
    """The store has what the run's backup is, byte for byte, and journal and report name it."""
    backup = Path(proved["path"])
    manifest = backup.with_name(f"{story.journals(world)[-1].stem}.manifest.json")
    for file in (backup, manifest):
        assert store.content(file.name) == file.read_bytes()
    assert (proved["uploaded"]["to"], proved["uploaded"]["sent"]) == (f"offsite:{BUCKET}/app/{backup.name}", [backup.name, manifest.name])
    assert proved["uploaded"]["to"] in Path(story.newest_report(world)).read_text(encoding="utf-8")


def assert_hides_credentials(world: World, command: Command, watch: ArgumentWatch) -> None:
    """Neither of the store's credentials is in what -vvv printed, in `ps`, or in a file of the run."""
    kept = files_below(*(world.home / name for name in ("state", "backups", "supervisor", "caddy", "calendar-api/env")))
    assert {"journal", "report"} <= {"journal" if path.suffix == ".jsonl" else "report" if path.suffix == ".html" else "" for path in kept}
    places = {"output": command.output, "ps": "\n".join(watch.seen)} | {str(path): path.read_bytes().decode("utf-8", "replace") for path in kept}
    assert [place for place, text in places.items() if SECRET_KEY in text or ACCESS_KEY in text] == []


def test_a_server_that_cannot_take_the_copy_stops_the_run_before_anything_changed(world: World) -> None:
    before = revision(world)
    command = deploy(world, "r2", *rehearsing(world, rehearsal_url=world.database_url))
    assert (command.code != 0, outcome(world)) == (True, "failed_nothing_changed"), command.output
    assert "CREATEDB" in command.output
    assert revision(world) == before
    assert answer(world)[1].partition("-")[0] == "r1"
