# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong beforehand stops a deploy before anything was changed, with one message that names the remedy."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
import subprocess
import tempfile
import typing as t
from pathlib import Path

import pytest
from demo.postgres import free_port
from demo.world import World

from .world_support import Command, Live, answer, deploy, files_below, outcome, revision, rows, variables_file


@pytest.fixture(scope="module")
def world(live: Live) -> World:
    """r1 serves."""
    live.snapshot.restore()
    return live.world


def fingerprint(world: World) -> dict[str, object]:
    """What must not change: schema, rows, what serves, what is supervised, backups."""
    return {
        "revision": revision(world),
        "columns": rows(world, "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1, 2"),
        "tokens": rows(world, "SELECT md5(string_agg(token, '' ORDER BY id)) FROM credentials"),
        "release": answer(world)[1],
        "programs": {path.name: path.read_bytes() for path in files_below(Path(world.state["supervisor"]["config_dir"]))},
        "backups": sorted(path.name for path in (world.home / "backups").iterdir()),
        "flags": sorted(path.name for path in (world.home / "state" / "proxy").iterdir()),
    }


def environment(world: World, **changes: str | None) -> dict[str, t.Any]:
    """``deploy_env`` of the demo with changes; None leaves a variable out."""
    state = world.state
    variables: dict[str, str | None] = {
        "DATABASE_URL": state["database_url"],
        "REDIS_URL": state["redis_url"],
        "SECRET_KEY": state["secret_key"],
        "TOKEN_ENCRYPTION_KEY": state["token_encryption_key"],
        "GOOGLE_CLIENT_ID": state["google_client_id"],
        "GOOGLE_CLIENT_SECRET": state["google_client_secret"],
        "OAUTH_BASE_URL": state["oauth_base_url"],
        **changes,
    }
    return {"deploy_env": {name: value for name, value in variables.items() if value is not None}}


def refused(world: World, values: dict[str, t.Any], *, says: tuple[str, ...], remedy: str, release: str = "r2") -> Command:
    """Deploy with *values*, see it refused with these words, and nothing changed."""
    before = fingerprint(world)
    command = deploy(world, release, "-e", variables_file(world, values))
    text = " ".join(command.output.split())
    assert command.code != 0, command.output
    for words in (*says, remedy):
        assert words in text, command.output
    assert fingerprint(world) == before
    return command


def test_a_missing_variable(world: World) -> None:
    refused(world, environment(world, SECRET_KEY=None), says=("SECRET_KEY",), remedy="deploy_env")
    assert outcome(world) == "failed_nothing_changed"


def test_a_key_of_31_bytes(world: World) -> None:
    short = base64.urlsafe_b64encode(secrets.token_bytes(31)).decode()
    command = refused(world, environment(world, TOKEN_ENCRYPTION_KEY=short), says=("TOKEN_ENCRYPTION_KEY", "31 bytes"), remedy="32")
    assert short not in command.output


def test_an_unreachable_database(world: World) -> None:
    url = world.state["database_url"].replace(f":{world.state['postgres_port']}/", f":{free_port()}/")
    command = refused(world, environment(world, DATABASE_URL=url), says=("cannot be reached",), remedy="Check that the server runs")
    assert world.state["database_password"] not in command.output


def test_two_alembic_heads(world: World) -> None:
    repository = world.home / "repository"
    identity = {"GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@example.org", "GIT_COMMITTER_NAME": "t", "GIT_COMMITTER_EMAIL": "t@example.org"}
    with tempfile.TemporaryDirectory() as scratch:

        def git(*arguments: str) -> None:
            subprocess.run(["git", "-C", scratch, *arguments], check=True, capture_output=True, env={**os.environ, **identity})

        git("clone", "--quiet", str(repository), ".")
        git("checkout", "--quiet", "-b", "two-heads", "r2")
        versions = Path(scratch) / "migrations" / "versions"
        header = 'revision = "9999"\ndown_revision = "0003"\nbranch_labels = None\ndepends_on = None\n'
        second = header + "".join(f"\n\ndef {name}() -> None:\n    pass\n" for name in ("upgrade", "downgrade"))
        (versions / "9999_second_head.py").write_text(second, encoding="utf-8")
        git("add", ".")
        git("commit", "--quiet", "-m", "A second head")
        git("push", "--quiet", "origin", "two-heads")
    refused(world, {}, says=("2 Alembic heads", "0004", "9999"), remedy="alembic merge heads", release="two-heads")


def test_an_artifact_that_staging_has_not_proved(world: World) -> None:
    evidence = {"key": secrets.token_urlsafe(32), "dir": str(world.home / "evidence"), "from": "staging"}
    values = {"deploy_environment": "prod", "deploy_evidence": evidence}
    refused(world, values, says=("evidence: staging has not proved this artifact of r2",), remedy="ansible-playbook deploy.yml -i staging -e deploy_version=r2")


def test_a_held_lock(world: World) -> None:
    lock = world.home / "state" / "lock.json"
    holder = {
        "run_id": "20990101T000000-aaaa",
        "actor": "ana",
        "reason": "",
        "controller": {"machine": "another/boot", "pid": 1, "started": 1},
        "since": "2026-01-01T00:00:00.000000Z",
        "expires_at": "2099-01-01T00:00:00.000000Z",
    }
    lock.write_text(json.dumps(holder), encoding="utf-8")
    try:
        refused(world, {}, says=("held by ana", "2026-01-01T00:00:00Z", "20990101T000000-aaaa"), remedy="deploy_force_unlock=20990101T000000-aaaa")
        assert json.loads(lock.read_text(encoding="utf-8")) == holder
    finally:
        lock.unlink()


def test_a_full_disk(world: World) -> None:
    with full_disk(world.home / "small") as small:
        refused(world, {"deploy_backup": {**backup(world), "dest": str(small / "backups")}}, says=("free",), remedy="Free")


def test_pg_dump_older_than_the_server(world: World) -> None:
    older = sorted(path for path in Path("/usr/lib/postgresql").glob("*/bin") if (path / "pg_dump").exists() and int(path.parent.name) < 18)
    assert older, "an older pg_dump is needed: apt-get install postgresql-client"
    values = {"deploy_backup": {**backup(world), "bin_dir": str(older[0])}}
    refused(world, values, says=("pg_dump", older[0].parent.name, "18"), remedy="postgresql-client-18")


def test_an_artifact_with_a_wrong_checksum(world: World) -> None:
    archive = world.home / "release.tar.gz"
    subprocess.run(["git", "-C", str(world.home / "repository"), "archive", "--format=tar.gz", f"--output={archive}", "r2"], check=True)
    right = hashlib.sha256(archive.read_bytes()).hexdigest()
    wrong = ("0" if right[0] != "0" else "1") + right[1:]
    source = {"type": "archive", "url": str(archive), "sha256": wrong}
    refused(world, {"deploy_source": source}, says=(right[:12], wrong[:12]), remedy="deploy_source.sha256")


def backup(world: World) -> dict[str, t.Any]:
    """``deploy_backup`` of the demo."""
    return {"dest": str(world.home / "backups"), "recipients": [world.state["backup_recipient"]], "bin_dir": world.state["postgres_bin"]}


class full_disk:  # noqa: N801 - used as a function
    """A directory on a disk of 2 MB: a small tmpfs."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def __enter__(self) -> Path:
        assert os.geteuid() == 0, "a small disk can only be mounted as root: run the tests as root, as CI does"
        self.directory.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(self.directory)], check=True)
        return self.directory

    def __exit__(self, *_details: object) -> None:
        subprocess.run(["umount", str(self.directory)], check=True)
        self.directory.rmdir()
