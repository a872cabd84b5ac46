# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbooks that an operator runs between deploys, on one world in which r1 was deployed once. What counts is what the world says afterwards."""

from __future__ import annotations

import collections.abc
import contextlib
import dataclasses
import json
import re
import subprocess
import sys
import typing as t
import urllib.error
import urllib.request
from pathlib import Path

import psycopg2
import pytest
from ansible_collections.lastro.deploy.plugins.module_utils import _lock
from demo.world import ROLE, ROOT, USERS, World
from pyrage import x25519

from .backup_world import dumped_rows
from .key_table import SALT, TABLE, hashed
from .world_support import Live

OTHER_RUN = "20261121T221004-7c1f"
REVISION = """
revision = "9001"
down_revision = "0001"
branch_labels = None
depends_on = None

from alembic import op


def upgrade() -> None:
    op.execute("ALTER TABLE users ADD COLUMN nickname text")


def downgrade() -> None:
    op.execute("ALTER TABLE users DROP COLUMN nickname")
"""
END_OF_A_RUN = """
- hosts: localhost
  connection: local
  gather_facts: false
  tasks:
    - lastro.deploy.plan: {artifact: false}
      register: deploy_plan
- hosts: proxy
  gather_facts: false
  tasks:
    - lastro.deploy.slot: {state_dir: "{{ deploy_state_dir }}", processes: "{{ deploy_processes }}"}
      register: stage_slots
    - ansible.builtin.include_role: {name: lastro.deploy.maintenance_leave}
"""


@dataclasses.dataclass(frozen=True)
class Operator:
    """Somebody who types commands in a clone."""

    world: World

    def __call__(self, playbook: str, *options: str, fails: bool = False, language: str = "en", **variables: object) -> str:
        command = [str(Path(sys.executable).with_name("ansible-playbook")), playbook, "-i", "inventories/demo", *options]
        settings = {**self.world.environment, "LASTRO_LANGUAGE": language, "LASTRO_WATCH": "3s", "ANSIBLE_NOCOLOR": "1"}
        finished = subprocess.run([*command, "-e", json.dumps(variables)], cwd=ROOT, env=settings, capture_output=True, text=True, check=False)
        output = finished.stdout + finished.stderr
        assert (finished.returncode != 0) is fails, output
        return output

    def get(self, path: str, **headers: str) -> tuple[int, str]:
        """Status and body of a user's request through the proxy."""
        request = urllib.request.Request(f"{self.world.state['url']}{path}", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def rows(self, statement: str, database: str = "calendar") -> list[tuple[t.Any, ...]]:
        """What a statement returns in a database of the server; [] for one that returns nothing."""
        with (
            contextlib.closing(psycopg2.connect(self.world.state["admin_url"], dbname=database)) as opened,
            opened as connection,
            connection.cursor() as cursor,
        ):
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []

    @property
    def state(self) -> Path:
        return self.world.home / "state"

    @property
    def flag(self) -> Path:
        return self.state / "proxy" / "maintenance.flag"

    @property
    def ledger(self) -> dict[str, t.Any]:
        return t.cast(dict[str, t.Any], json.loads((self.state / "ledger.json").read_text(encoding="utf-8")))

    def backups(self) -> dict[str, dict[str, t.Any]]:
        """The manifests on the disk by name."""
        return {path.name.split(".")[0]: json.loads(path.read_text(encoding="utf-8")) for path in (self.world.home / "backups").glob("*.manifest.json")}

    def databases(self) -> set[str]:
        return {str(row[0]) for row in self.rows("SELECT datname FROM pg_database")}

    def everything(self) -> dict[str, tuple[int, int]]:
        """Size and time of each file that a playbook could change, the servers' own ones left out."""
        places = [self.state, self.world.home / "backups", self.world.home / "calendar-api", self.world.home / "supervisor" / "conf.d"]
        found = [path for place in places for path in place.rglob("*") if path.is_file() and path.suffix not in (".log", ".pyc")]
        return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in found}

    def lock_is_free(self) -> bool:
        return _lock.holder_of(self.state) == {}


@pytest.fixture(scope="module")
def operator(servers: World) -> Operator:
    """The servers; nothing was deployed yet."""
    return Operator(servers)


@pytest.fixture(scope="module")
def deployed(live: Live) -> Operator:
    """The same with r1 live."""
    return Operator(live.world)


@pytest.fixture
def other_run(deployed: Operator) -> collections.abc.Iterator[_lock.Holder]:
    """Somebody else's run, which holds the lock."""
    holder, _unused = _lock.take(deployed.state, _lock.Request(OTHER_RUN, 3600, actor="ana"))
    yield holder
    _lock.release(deployed.state, OTHER_RUN)


@pytest.fixture
def open_door(deployed: Operator) -> collections.abc.Iterator[None]:
    """No maintenance before and after a test."""
    assert not deployed.flag.exists()
    yield
    deployed.flag.unlink(missing_ok=True)


def test_before_the_first_deploy(operator: Operator) -> None:
    told = operator("playbooks/status.yml")
    assert re.search(r"^live +–$", told, re.MULTILINE)
    assert "does not know calendar-api yet" in told
    assert not operator.state.exists(), "status writes nothing"

    assert "ainda não conhece calendar-api" in operator("playbooks/maintenance.yml", fails=True, language="pt_BR", maintenance_state="enter")
    assert not operator.flag.exists()

    assert "No release serves" in operator("playbooks/migrate.yml", fails=True)
    assert operator.lock_is_free()

    operator("playbooks/backup.yml")
    (name,) = operator.backups()
    assert name.startswith("manual-2")
    assert operator.lock_is_free()


def test_status(deployed: Operator) -> None:
    before = deployed.everything()
    told = deployed("playbooks/status.yml")
    live = deployed.ledger["live"]
    assert "lock          free" in told
    assert f"r1 ({live.removeprefix('r1-')})" in told
    assert re.search(r"last runs +\S+ +r1 .* deployed ", told)
    assert re.search(rf"demo: web {live} \((blue|green), port \d+\)", told)
    assert "demo: maintenance is off" in told
    assert len(told.splitlines()) < 12, told
    assert deployed.everything() == before


def test_a_held_lock_stops_with_the_name_of_its_holder(deployed: Operator, other_run: _lock.Holder) -> None:
    before = deployed.everything()
    assert f"trava         com ana (execução {OTHER_RUN})" in deployed("playbooks/status.yml", language="pt_BR")
    for playbook in ("restore", "migrate"):
        told = deployed(f"playbooks/{playbook}.yml", fails=True, language="pt_BR")
        assert f"The lock is held by ana (run {OTHER_RUN})" in told
        assert f"Espere essa execução terminar. Se você sabe que ela morreu: -e deploy_force_unlock={OTHER_RUN}" in told
    assert _lock.holder_of(deployed.state) == other_run
    assert deployed.everything() == before
    deployed("playbooks/backup.yml", deploy_force_unlock=OTHER_RUN)
    assert deployed.lock_is_free()


@pytest.mark.usefixtures("open_door")
def test_maintenance_by_hand(deployed: Operator) -> None:
    deployed("playbooks/maintenance.yml", "--check", maintenance_state="enter")
    assert deployed.get("/api/schedule?day=2026-01-01")[0] == 200

    told = deployed("playbooks/maintenance.yml", maintenance_state="enter", maintenance_message="Volta às 22h", maintenance_by="ana", language="pt_BR")
    assert "demo: manutenção ligada, requisições em andamento: 0" in told
    code, page = deployed.get("/api/schedule?day=2026-01-01")
    assert code == 503
    assert "Volta às 22h" in page and 'lang="pt-BR"' in page
    assert deployed.get("/health")[0] == 200
    token = (deployed.state / "tester_token").read_text(encoding="utf-8").strip()
    assert deployed.get("/api/schedule?day=2026-01-01", **{"X-Lastro-Tester": token})[0] == 200
    words = json.loads(deployed.flag.read_text(encoding="utf-8"))
    assert (words["run_id"], words["by"], words["message"]) == ("", "ana", "Volta às 22h")

    # Again changes nothing, not even the time; the end of a run does not end it.
    assert "was on already, by ana since" in deployed(
        "playbooks/maintenance.yml", maintenance_state="enter", maintenance_message="Volta às 22h", maintenance_by="bia"
    )
    end_of_a_run = deployed.world.home / "end.yml"
    end_of_a_run.write_text(END_OF_A_RUN, encoding="utf-8")
    deployed(str(end_of_a_run))
    assert json.loads(deployed.flag.read_text(encoding="utf-8")) == words

    told = deployed("playbooks/maintenance.yml", maintenance_state="enter", maintenance_message="Back at 23:00", maintenance_until="23:00")
    assert "demo: maintenance is on" in told
    code, page = deployed.get("/")
    assert code == 503 and "Back at 23:00" in page and "Volta" not in page
    assert "demo: maintenance is on by" in deployed("playbooks/maintenance.yml")

    assert "demo: maintenance is off" in deployed("playbooks/maintenance.yml", maintenance_state="leave")
    assert deployed.get("/api/schedule?day=2026-01-01")[0] == 200


@pytest.mark.usefixtures("open_door")
def test_maintenance_of_a_run(deployed: Operator) -> None:
    def shut() -> None:
        deployed.flag.write_text(json.dumps({"run_id": OTHER_RUN, "by": "ana", "message": "r2", "until": "", "since": "2026-11-21T22:10:04Z"}))

    shut()
    told = deployed("playbooks/maintenance.yml", fails=True, maintenance_state="leave")
    assert f"Maintenance is on by ana (run {OTHER_RUN}) since 2026-11-21T22:10:04Z: r2." in told
    assert "maintenance_force=true" in told
    assert deployed.get("/")[0] == 503

    # The human's wish is stronger than the run's: its end does not end it any more.
    deployed("playbooks/maintenance.yml", maintenance_state="enter", maintenance_by="bia")
    words = json.loads(deployed.flag.read_text(encoding="utf-8"))
    assert (words["run_id"], words["by"]) == ("", "bia")

    shut()
    deployed("playbooks/maintenance.yml", maintenance_state="leave", maintenance_force=True)
    assert not deployed.flag.exists()
    assert deployed.get("/health")[1] != "ok", "the application answers again, not the proxy"


def test_a_wrong_wish_is_one_clear_error(deployed: Operator) -> None:
    told = deployed("playbooks/maintenance.yml", fails=True, language="pt_BR", maintenance_state="off")
    assert [line for line in told.splitlines() if line] == ["✖ demo: maintenance_state é off; escolha enter, leave ou status."]


def test_backup_and_restore_beside_and_in_place(deployed: Operator) -> None:
    before, files = deployed.backups(), deployed.everything()
    assert "would be written" in deployed("playbooks/backup.yml", "--check")
    assert deployed.everything() == files

    deployed.rows("INSERT INTO bookings (user_id, slot) VALUES (1, 'before the backup')")
    told = deployed("playbooks/backup.yml", language="pt_BR")
    (name,) = set(deployed.backups()) - set(before)
    manifest = deployed.backups()[name]
    assert re.fullmatch(r"manual-\d{8}T\d{6}-\w+", name)
    assert manifest["tables"]["public.users"]["rows"] == USERS
    assert (deployed.world.home / "backups" / manifest["file"]).stat().st_size == manifest["size"]
    assert manifest["encryption"] == "age"
    assert f"{manifest['file']}: {manifest['size']} bytes, " in told and "verificado (read, decode)" in told
    assert deployed.lock_is_free()
    restore_beside_and_in_place(deployed, name)


def restore_beside_and_in_place(deployed: Operator, name: str) -> None:
    names, files = deployed.databases(), deployed.everything()
    assert f"{name} would be restored into copy" in deployed("playbooks/restore.yml", "--check", restore_into="copy")
    assert (deployed.databases(), deployed.everything()) == (names, files)

    told = deployed("playbooks/restore.yml", restore_name=name, restore_into="copy")
    assert f"{name} is restored into copy: 4 of 4 tables equal" in told
    assert deployed.rows("SELECT count(*) FROM users", "copy") == [(USERS,)]
    assert deployed.rows("SELECT count(*) FROM bookings WHERE slot = 'before the backup'", "copy") == [(1,)]
    assert deployed.lock_is_free()

    deployed.rows("INSERT INTO bookings (user_id, slot) VALUES (2, 'after the backup')")
    told = deployed("playbooks/restore.yml", fails=True, restore_swap=True, restore_name=name, language="pt_BR")
    assert "public.bookings" in told and "accept_loss" in told
    assert deployed.rows("SELECT count(*) FROM bookings WHERE slot = 'after the backup'") == [(1,)]
    assert deployed.lock_is_free()
    failed = deployed.world.home / "backups" / "failed"
    assert not failed.exists(), "refused before anything is dumped"

    # A file stands where the dump goes: what cannot be dumped is not replaced.
    failed.touch()
    told = deployed("playbooks/restore.yml", fails=True, restore_swap=True, restore_name=name, deploy_accept_loss=True)
    assert str(failed) in told and "-e restore_dump_first=false" in told
    failed.unlink()
    assert deployed.databases() == names | {"copy"}
    assert deployed.lock_is_free()

    told = deployed("playbooks/restore.yml", restore_swap=True, restore_name=name, deploy_accept_loss=True)
    (kept,) = {database for database in deployed.databases() if database.startswith("calendar_failed_restore-")}
    run_id = kept.removeprefix("calendar_failed_")
    dump = failed / f"{run_id}.dump.zst.age"
    assert f"the database before is kept as {kept}; its dump is {dump}; lost since the backup: public.bookings" in told
    identity = deployed.world.state["backup_identity"]
    dumped = {row[2] for row in dumped_rows(dump.read_bytes(), x25519.Identity.from_str(identity), "bookings")}
    assert dumped == {slot for (slot,) in deployed.rows("SELECT slot FROM bookings", kept)} >= {"after the backup"}
    assert deployed.rows("SELECT count(*) FROM bookings WHERE slot = 'after the backup'") == [(0,)]
    assert deployed.rows("SELECT count(*) FROM bookings WHERE slot = 'after the backup'", kept) == [(1,)]
    assert deployed.get("/ready")[0] == 200
    assert identity not in told and identity not in "".join(path.read_text() for path in deployed.state.rglob("*.json*"))


def test_migrate(deployed: Operator) -> None:
    backups = set(deployed.backups())
    live = deployed.ledger["live"]
    revision = deployed.world.home / "calendar-api" / "releases" / live / "migrations" / "versions" / "9001_nickname.py"
    revision.write_text(REVISION, encoding="utf-8")
    files = deployed.everything()
    has_column = "SELECT count(*) FROM information_schema.columns WHERE table_name = 'users' AND column_name = 'nickname'"

    told = deployed("playbooks/migrate.yml", "--check", "--diff", language="pt_BR")
    assert "+ALTER TABLE users ADD COLUMN nickname text" in told
    assert "rodaria: 9001" in told
    assert deployed.rows(has_column) == [(0,)]
    assert deployed.everything() == files

    told = deployed("playbooks/migrate.yml")
    assert re.search(r"0001 -> 9001; the backup before: \S+/migrate-\S+\.age", told)
    assert deployed.rows(has_column) == [(1,)]
    (name,) = set(deployed.backups()) - backups
    assert name.startswith("migrate-")
    (entry,) = deployed.ledger["releases"]
    assert (deployed.ledger["live"], entry["state"], entry["revisions"]) == (live, "good", ["9001"])
    assert deployed.lock_is_free()

    assert "nothing pending: 9001" in deployed("playbooks/migrate.yml")
    assert set(deployed.backups()) == backups | {name}


def test_rotate_api_keys(deployed: Operator, tmp_path: Path) -> None:
    files = {name: tmp_path / f"{name}.key" for name in ("auditor", "client")}
    profile = [{"name": name, "salt": SALT, "rotate_if_older_than": "90d", "sink": {"file": str(file)}} for name, file in files.items()]
    stored = "SELECT encode(key_hash, 'hex') FROM api_keys WHERE revoked_at IS NULL AND (revoke_after IS NULL OR now() < revoke_after) ORDER BY name"
    playbook, secrets = "playbooks/rotate_api_keys.yml", {SALT}
    deployed.rows(f"{TABLE}; ALTER TABLE api_keys OWNER TO {ROLE}")
    try:
        before = deployed.everything()
        told = deployed(playbook, "--check", "--diff", deploy_api_keys=profile)
        assert "auditor: generation 1" in told
        assert (deployed.rows("SELECT count(*) FROM api_keys"), deployed.everything(), list(tmp_path.iterdir())) == ([(0,)], before, [])
        told += deployed(playbook, deploy_api_keys=profile)
        assert "auditor: generation 1, new\nclient: generation 1, new" in told
        secrets |= {file.read_text() for file in files.values()}
        told += deployed(playbook, language="pt_BR", deploy_api_keys=profile, rotate_now="auditor", rotate_grace="0s")
        assert "auditor: geração 2, nova; revogadas: 1" in told
        assert "client: geração" not in told
        secrets |= {file.read_text() for file in files.values()}
        assert deployed.rows(stored) == [(hashed(file.read_text()).hex(),) for file in files.values()]
        assert "has no such key. nobody" in deployed(playbook, "--check", fails=True, deploy_api_keys=profile, rotate_now=["nobody"])
        assert len(secrets) == 4
        assert [secret for secret in secrets if secret in told] == []
        assert deployed.lock_is_free()
    finally:
        deployed.rows("DROP TABLE api_keys")


def test_validate_indexes(deployed: Operator) -> None:
    name, playbook = "users_by_test", "playbooks/validate_indexes.yml"
    asked: dict[str, t.Any] = {"deploy_indexes": [{"name": name, "table": "users", "columns": ["email", "id"]}], "deploy_index_validation": {"limit": 60}}
    valid = f"SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('{name}')"
    assert "não tem contrato de índices" in deployed(playbook, fails=True, language="pt_BR", deploy_indexes=[])

    told = deployed(playbook, fails=True, **asked)
    assert f"Validating: {name}\n  ✗ Missing" in told
    assert f"CREATE INDEX CONCURRENTLY {name} ON public.users USING btree (email, id);" in told

    deployed.rows(f"CREATE INDEX {name} ON users (email, id)")
    try:
        files = deployed.everything()
        assert "✓ SUCESSO: todos os 1 índices" in deployed(playbook, language="pt_BR", **asked)

        deployed.rows(f"UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{name}'::regclass")
        assert f"REINDEX INDEX CONCURRENTLY public.{name};" in deployed(playbook, fails=True, **asked)
        told = deployed(playbook, "--check", fails=True, validate_repair="reindex_concurrently", **asked)
        assert f"Repair: REINDEX INDEX CONCURRENTLY public.{name}" in told
        assert deployed.rows(valid) == [(False,)]
        assert deployed.everything() == files

        assert "✓ SUCCESS: all 1 indexes" in deployed(playbook, validate_repair="reindex_concurrently", **asked)
        assert deployed.rows(valid) == [(True,)]
        assert deployed.lock_is_free()
    finally:
        deployed.rows(f"DROP INDEX {name}")


def test_approve(deployed: Operator) -> None:
    wanted: dict[str, t.Any] = {"deploy_version": "r2", "deploy_signoffs": ["tech_lead", "devops"]}
    file = deployed.state / "signoffs.jsonl"
    assert "Qual aprovação é?" in deployed("playbooks/approve.yml", fails=True, language="pt_BR")
    assert "would sign r2-" in deployed("playbooks/approve.yml", "--check", approve_name="tech_lead", **wanted)
    assert not file.exists()

    told = deployed("playbooks/approve.yml", approve_name="tech_lead", approve_by="ana", approve_comment="seen in staging", **wanted)
    (signoff,) = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert (signoff["name"], signoff["by"], signoff["comment"]) == ("tech_lead", "ana", "seen in staging")
    assert signoff["release"].startswith("r2-")
    assert f"ana has signed {signoff['release']} off as tech_lead; missing: devops" in told

    before = file.read_bytes()
    told = deployed("playbooks/approve.yml", approve_name="tech_lead", approve_by="ana", language="pt_BR", **wanted)
    assert f"ana já tinha aprovado {signoff['release']} como tech_lead; faltam: devops" in told
    assert file.read_bytes() == before
