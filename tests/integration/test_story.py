# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The story of the demo, end to end on real servers: r1, r2 under traffic, r3 that goes back, then what an operator does next.

The tests stand in the order of the story and share its world. Its PostgreSQL is one that pgBackRest backs up, when r2 lands and when r5 has no way back.
"""

from __future__ import annotations

import base64
import collections.abc
import dataclasses
import html
import json
import re
import secrets
import tempfile
import time
import typing as t
from datetime import timedelta
from pathlib import Path

import pytest
from calendar_api import seed
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from demo import story as demo_story
from demo import traffic
from demo.postgres import Postgres
from demo.world import USERS, World

from . import pgbackrest_stanza, sql
from .key_table import SALT, TABLE, hashed
from .leaks import leaked
from .pgbackrest_stanza import PASSWORD, Cluster
from .world_support import ArgumentWatch, Command, answer, deploy, files_below, journal, outcome, play, revision, rows, variables_file

EVIDENCE_KEY = secrets.token_urlsafe(32)


@dataclasses.dataclass(frozen=True)
class Story:
    """What happened: each deploy's output, when it ran, every request, and every command line that `ps` would have shown."""

    world: World
    cluster: Cluster
    commands: dict[str, Command]
    windows: dict[str, tuple[float, float]]
    records: list[traffic.Record]
    arguments: set[str]
    outcomes: dict[str, str]
    api_keys: dict[str, str]


@pytest.fixture(scope="module")
def told() -> collections.abc.Iterator[Story]:
    """r1 goes live; then, under constant requests, r2 (with -vvv) and r3."""
    world = World(Path(tempfile.mkdtemp(prefix="lastro-story-")) / "demo")
    clusters: list[Cluster] = []

    def make_postgres(base: Path) -> Postgres:
        clusters.append(pgbackrest_stanza.create(base.parent))
        return clusters[0].server

    try:
        world.create(make_postgres)
        yield _tell(world, clusters[0])
    finally:
        for cluster in clusters:
            cluster.server.stop("immediate")
        world.remove()
        world.home.parent.rmdir()


def _tell(world: World, cluster: Cluster) -> Story:
    commands: dict[str, Command] = {}
    windows: dict[str, tuple[float, float]] = {}
    outcomes: dict[str, str] = {}
    requests: demo_story.Traffic | None = None
    file = world.home / "auditor.key"
    api_keys = {"r1": secrets.token_urlsafe(32)}
    with ArgumentWatch() as watch:
        for release, arguments in (("r1", []), ("r2", ["-vvv"]), ("r3", [])):
            if release == "r2":
                requests = demo_story.Traffic(world)
                insert = "INSERT INTO api_keys (name, generation, key_hash, salt_id, created_at) VALUES ('auditor', 1, %s, '1', now()) RETURNING 1"
                rows(world, f"{TABLE}; {insert}", hashed(api_keys["r1"]))
            began = time.time()
            commands[release] = deploy(world, release, *arguments, *_variables(world, cluster, release, file))
            windows[release] = (began, time.time())
            outcomes[release] = outcome(world)
            if release != "r1":
                api_keys[release] = file.read_text(encoding="utf-8")
        assert requests is not None
        records = requests.stop()
    return Story(world, cluster, commands, windows, records, watch.seen, outcomes, api_keys)


def _variables(world: World, cluster: Cluster, release: str, file: Path) -> list[str]:
    """r2 is backed up by pgBackRest and writes down what it has proved; r2 and r3 rotate an API key."""
    if release == "r1":
        return []
    key = {"name": "auditor", "salt": SALT, "rotate": "deploy", "generation": int(release[1:]), "grace": "1h", "sink": {"file": str(file)}}
    evidence = {"key": EVIDENCE_KEY, "dir": str(world.home / "evidence")}
    proved = {"deploy_evidence": evidence, "deploy_backup": cluster.profile} if release == "r2" else {}
    return ["-e", variables_file(world, {"deploy_api_keys": [key], **proved})]


def test_outcomes_and_exit_codes(told: Story) -> None:
    assert told.outcomes == {"r1": "deployed", "r2": "deployed", "r3": "rolled_back"}, told.commands["r3"].output
    assert [told.commands[release].code == 0 for release in ("r1", "r2", "r3")] == [True, True, False]


def test_the_lines_of_a_run(told: Story) -> None:
    lines = told.commands["r3"].output.splitlines()
    assert re.match(r"calendar-api · demo · r3 \([0-9a-f]{7}\) +run \d{8}T\d{6}-[0-9a-f]{4}", lines[0])
    phases = [line.split()[1] for line in lines if re.match(r" [✔–✖↩] ", line)]
    assert phases[:6] == ["open", "preflight", "stage", "backup", "maintenance_enter", "migrate"]
    assert phases[-1] == "rollback"
    assert any(line.startswith("✖ outcome: rolled_back · r2 serves · report: ") for line in lines)
    assert "TASK [" not in told.commands["r3"].output


def test_no_request_fails_while_r2_lands(told: Story) -> None:
    since, until = told.windows["r2"]
    figures = traffic.summarise(told.records, since=since, until=until)
    assert figures["requests"] > 500
    assert figures["failed"] == 0, {name: figures[name] for name in ("by_error", "failed_by_status", "first_failure")}
    assert set(figures["by_client"]) == {"keep-alive", "new"}
    assert {release.split("-")[0] for release in figures["by_release"]} == {"r1", "r2"}


def test_only_r3s_own_errors_reach_clients(told: Story) -> None:
    since, until = told.windows["r3"]
    failed = [record for record in told.records if since <= record.start <= until and record.failed]
    assert failed
    assert {(record.status, record.release.split("-")[0], record.kind) for record in failed} == {(500, "r3", "schedule")}


def test_r2_answers_afterwards(told: Story) -> None:
    status, release, _body = answer(told.world)
    assert (status, release.split("-")[0]) == (200, "r2")
    assert answer(told.world, "/api/schedule?day=2026-01-01")[0] == 200


def test_nothing_is_lost(told: Story) -> None:
    booked = {row[0] for row in rows(told.world, "SELECT slot FROM bookings")}
    written = {record.slot for record in told.records if record.kind == "bookings" and record.status == 201}
    assert written
    assert written <= booked
    cipher = AESGCM(base64.urlsafe_b64decode(told.world.state["token_encryption_key"]))
    originals = seed.tokens(users=USERS)
    found = rows(told.world, "SELECT user_id, token, token_encrypted, token_nonce FROM credentials")
    readable = {user: cipher.decrypt(bytes(nonce), bytes(ciphertext), None).decode() for user, _clear, ciphertext, nonce in found}
    renewed = readable.pop(1)
    assert renewed == {user: clear for user, clear, _ciphertext, _nonce in found}[1]
    del originals[1]
    assert readable == originals
    assert len(readable) == USERS - 1


def test_r2_can_be_gone_back_from_to_a_moment_of_the_cluster(told: Story) -> None:
    """Journal, report and PostgreSQL's own log name it."""
    proved = backup_of(told.world, 1)
    assert told.cluster.labels() == [proved["label"]]
    assert (proved["backup_type"], proved["verified"]) == ("full", ["read"])
    created = f'restore point "{proved["restore_point"]}" created at {proved["snapshot_lsn"]}'
    assert created in told.cluster.server.log.read_text(encoding="utf-8")
    report = (told.world.home / "state" / "reports" / f"{demo_story.journals(told.world)[1].stem}.html").read_text(encoding="utf-8")
    missing = [name for name in ("label", "snapshot_lsn", "restore_point", "restore_command") if html.escape(proved[name]) not in report]
    assert missing == []
    assert re.search(rf"✔ backup +.* {proved['label']}", told.commands["r2"].output)


def backup_of(world: World, index: int) -> dict[str, t.Any]:
    """What phase backup of a run has proved."""
    return next(record["evidence"] for record in journal(world, index) if record["kind"] == "result" and record["phase"] == "backup")


def test_each_deploy_rotates_the_api_key_once_and_a_rollback_keeps_both(told: Story) -> None:
    found = rows(told.world, "SELECT generation, key_hash, revoke_after - now() FROM api_keys WHERE name = 'auditor' AND revoked_at IS NULL ORDER BY 1")
    assert [(generation, bytes(key_hash)) for generation, key_hash, _left in found] == [(number, hashed(told.api_keys[f"r{number}"])) for number in (1, 2, 3)]
    # What came before ends an hour after it was replaced, also where the release that replaced it went back; the newest has no end.
    assert [left is None or timedelta(0) < left < timedelta(hours=1) for _generation, _key_hash, left in found] == [True] * 3
    assert [left is None for _generation, _key_hash, left in found] == [False, False, True]


def test_no_secret_anywhere(told: Story) -> None:
    state = told.world.state
    names = ("database_password", "token_encryption_key", "secret_key", "google_client_secret", "backup_identity")
    hidden = [EVIDENCE_KEY, PASSWORD, SALT, *told.api_keys.values(), *(state[name] for name in names)]
    tokens = list(seed.tokens(users=USERS).values())[:1000] + [row[0] for row in rows(told.world, "SELECT token FROM credentials WHERE user_id = 1")]
    places = {"output": "\n".join(command.output for command in told.commands.values()), "ps": "\n".join(told.arguments)}
    # The environment files hold the application's secrets by design, 0600; the server's own data is the database.
    for path in files_below(
        told.world.home / "state", told.world.home / "backups", told.world.home / "evidence", told.world.home / "supervisor", told.world.home / "caddy"
    ):
        places[str(path)] = path.read_bytes().decode("utf-8", "replace")
    for path in files_below(told.world.home / "calendar-api"):
        if path.suffix == ".env":
            assert path.stat().st_mode & 0o777 == 0o600, path
        elif "site-packages" not in path.parts:
            places[str(path)] = path.read_bytes().decode("utf-8", "replace")
    assert len(told.commands["r2"].output) > 100_000
    assert len(told.arguments) > 100
    assert {place: found for place, text in places.items() if (found := leaked(hidden + tokens, text))} == {}


def test_the_same_release_again_changes_nothing(told: Story) -> None:
    """As production, which wants proved what the demo's run of r2 has shown."""
    evidence = {"key": EVIDENCE_KEY, "dir": str(told.world.home / "evidence"), "from": "demo"}
    wanted = variables_file(told.world, {"deploy_environment": "prod", "deploy_evidence": evidence})
    again = deploy(told.world, "r2", "-e", wanted, ANSIBLE_STDOUT_CALLBACK="default")
    assert again.code == 0, again.output
    assert outcome(told.world) == "nothing_to_do"
    recap = dict(re.findall(r"^(demo|localhost) +: .*?(changed=\d+)", again.output, re.MULTILINE))
    assert recap == {"demo": "changed=0", "localhost": "changed=0"}


def test_check_mode_shows_the_plan_and_changes_nothing(told: Story) -> None:
    world = told.world
    before = _fingerprint(world)
    # Of its own: other tests may check another world at the same time.
    temporary = world.home / "temporary"
    temporary.mkdir()
    checked = deploy(world, "r4", "--check", "--diff", *_r4(), TMPDIR=str(temporary))
    assert checked.code == 0, checked.output
    assert "DROP COLUMN token" in checked.output
    assert "0005" in checked.output
    assert _fingerprint(world) == before
    assert list(temporary.iterdir()) == []


def test_rollback_brings_r1_back_on_the_newer_schema(told: Story) -> None:
    world = told.world
    requests = demo_story.Traffic(world)
    back = play(world, "playbooks/rollback.yml")
    records = requests.stop()
    assert back.code == 0, back.output
    assert outcome(world) == "rolled_back"
    assert answer(world)[1].split("-")[0] == "r1"
    assert revision(world) == ["0004"]
    assert traffic.summarise(records)["failed"] == 0
    originals = seed.tokens(users=USERS)
    clear = dict(rows(world, "SELECT user_id, token FROM credentials"))
    assert {user: token for user, token in clear.items() if user != 1} == {user: token for user, token in originals.items() if user != 1}
    for user in (1, 2, USERS):
        status, release, body = answer(world, f"/api/users/{user}/token-check")
        assert (status, release.split("-")[0], json.loads(body)["readable"]) == (200, "r1", True)
    decision = next(record for record in journal(world) if record["kind"] == "decision")
    assert decision["scope"] == "code"


def test_what_r1_writes_meanwhile_is_not_stale_after_r2_returns(told: Story) -> None:
    world = told.world
    assert answer(world, "/api/users/7/renew", method="POST")[0] == 200
    renewed = rows(world, "SELECT token, token_encrypted FROM credentials WHERE user_id = 7")[0]
    assert renewed[1] is None, "the guard trigger keeps no ciphertext of an older token"
    forth = deploy(world, "r2")
    assert forth.code == 0, forth.output
    assert demo_story.token_figures(world) == {"total": USERS, "encrypted": USERS, "verified": USERS, "clear_left": 0}
    assert answer(world, "/api/users/7/token-check")[0] == 200


def test_portuguese(told: Story) -> None:
    spoken = deploy(told.world, "r2", LASTRO_LANGUAGE="pt_BR")
    assert spoken.code == 0, spoken.output
    assert "abertura" in spoken.output
    report = Path(demo_story.newest_report(told.world)).read_text(encoding="utf-8")
    assert '<html lang="pt-BR"' in report


def test_a_release_without_a_way_back_names_the_command_that_brings_the_cluster_back(told: Story) -> None:
    """r5 drops the names of all users, and fails. A person runs what the report says, beside the live cluster."""
    world, cluster = told.world, told.cluster
    everything = "SELECT to_jsonb(one)::text FROM {} one ORDER BY id"
    before = {table: rows(world, everything.format(table)) for table in ("users", "credentials")}
    failing = {
        "deploy_tokens": [],
        "deploy_migrations": {"config": "alembic.ini", "revision": "heads", "when": "before_switch"},
        "deploy_smoke": [{"name": "a page that there is not", "path": "/none"}],
        "deploy_backup": cluster.profile,
    }
    command = deploy(world, "r5", "-e", variables_file(world, failing))
    assert (command.code != 0, outcome(world)) == (True, "needs_human"), command.output
    decision = next(record for record in journal(world) if record["kind"] == "decision")
    assert decision["facts"]["migration"] == "irreversible"
    restore = decision["next"]["en"].partition("into an empty directory: ")[2].partition(". Start a server")[0]
    # The backup behind the closed door, which comes after that of phase backup.
    assert f"--set={cluster.labels()[-1]} " in restore and cluster.labels()[-2] == backup_of(world, -1)["label"]
    assert restore in " ".join(command.output.split())
    assert html.escape(restore) in Path(demo_story.newest_report(world)).read_text(encoding="utf-8")
    assert revision(world) == ["0006"]
    with pgbackrest_stanza.restored(cluster, restore, cluster.base / "restored") as url:
        calendar = f"{url.rpartition('/')[0]}/calendar"
        assert {table: sql.rows(calendar, everything.format(table)) for table in before} == before
        assert sql.rows(calendar, "SELECT version_num FROM alembic_version") == [("0004",)]


def _r4() -> list[str]:
    return ["-e", json.dumps({"deploy_tokens": []})]


def _fingerprint(world: World) -> dict[str, object]:
    """What a check must leave alone: rows, revision, files of the state, releases, backups and flags."""
    files = files_below(world.home / "state", world.home / "backups", Path(world.state["supervisor"]["config_dir"]), Path(world.state["caddy"]["config_dir"]))
    return {
        "files": {str(path): path.read_bytes() for path in files},
        "releases": sorted(path.name for path in (world.home / "calendar-api" / "releases").iterdir()),
        "environments": sorted(path.name for path in (world.home / "calendar-api" / "env").iterdir()),
        "revision": revision(world),
        "tokens": rows(world, "SELECT count(*), count(token), count(token_encrypted), max(id) FROM credentials"),
        "columns": rows(world, "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1, 2"),
        "release": answer(world)[1],
    }
