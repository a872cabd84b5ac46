# SPDX-License-Identifier: GPL-3.0-or-later
"""The states of token_encryption, and what stops it before it writes."""

from __future__ import annotations

import base64
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from ansible_collections.lastro.deploy.plugins.module_utils import _token_lock
from ansible_collections.lastro.deploy.plugins.module_utils._postgres import parse_url
from ansible_collections.lastro.deploy.plugins.module_utils._progress import silent
from ansible_collections.lastro.deploy.plugins.module_utils._token_encryption import converge
from demo.postgres import Postgres
from hypothesis import strategies as st

from .token_table import KEY, OTHER_KEY, Credentials, ModuleRun, opened, options, sealed, text_of

ROOT = Path(__file__).parents[2]
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


def test_every_token_is_encrypted_once_and_reads_as_the_application_reads_it(credentials: Credentials, run: ModuleRun) -> None:
    credentials.create(5000)
    credentials.sql("UPDATE credentials SET token = '' WHERE id = 7")
    credentials.sql("UPDATE credentials SET token = NULL WHERE id IN (8, 5000)")
    expected = [row[:2] for row in credentials.rows()]

    predicted = run(check=True)
    assert (predicted["changed"], predicted["encrypted"], predicted["guard_trigger"]) == (True, 4998, True)
    assert predicted["diff"]["after"] == {"rows_to_encrypt": 0, "clear_values": 4998, "guard_trigger": True}
    assert credentials.sql("SELECT count(token_encrypted) FROM credentials") == [(0,)]
    assert credentials.triggers() == []

    first = run()
    assert first["changed"] is True
    figures = ("total", "null_rows", "encrypted", "already", "conflicts", "verified", "clear_left", "clear_values", "passes", "guard_trigger")
    assert [first[name] for name in figures] == [5000, 2, 4998, 0, 0, 4998, 0, 4998, 1, True]
    assert first["rows_per_second"] > 0
    assert first["residual_risk"] == []
    rows = credentials.rows()
    assert [(key, opened(ciphertext, nonce)) for key, _token, ciphertext, nonce in rows] == expected
    assert [row[:2] for row in rows] == expected
    assert len({bytes(nonce) for *_unused, nonce in rows if nonce is not None}) == 4998

    second = run()
    assert (second["changed"], second["encrypted"], second["already"], second["verified"], second["passes"]) == (False, 0, 4998, 4998, 0)
    assert credentials.rows() == rows
    assert run(check=True)["changed"] is False


def test_prepared_puts_the_trigger_in_or_takes_it_out_and_writes_no_row(credentials: Credentials, run: ModuleRun) -> None:
    credentials.create(10)
    assert run(state="prepared", check=True)["changed"] is True
    assert credentials.triggers() == []
    credentials.sql("UPDATE credentials SET token = 'v1:looks encrypted' WHERE id = 1")
    result = run(state="prepared", encryption_keys=["no key at all, and nobody asks"])
    assert (result["changed"], result["guard_trigger"], result["clear_left"], result["verified"]) == (True, True, 10, 0)
    (trigger,) = credentials.triggers()
    assert trigger.startswith("lastro_guard_credentials_")
    assert run(state="prepared")["changed"] is False
    assert run.info()["guard_trigger"] is True
    out = run(state="prepared", guard_trigger=False, check=True)
    assert (out["changed"], out["guard_trigger"], credentials.triggers()) == (True, False, [trigger])
    out = run(state="prepared", guard_trigger=False)
    assert (out["changed"], out["guard_trigger"], credentials.triggers()) == (True, False, [])
    assert credentials.sql("SELECT 1 FROM pg_proc WHERE proname = %s", trigger) == []
    assert run(state="prepared", guard_trigger=False)["changed"] is False
    assert credentials.sql("SELECT count(token_encrypted) FROM credentials") == [(0,)]


def test_a_disabled_trigger_is_put_in_anew(credentials: Credentials, run: ModuleRun) -> None:
    credentials.create(1)
    run(state="prepared")
    credentials.sql("ALTER TABLE credentials DISABLE TRIGGER USER")
    assert run.info()["guard_trigger"] is False
    assert run(state="prepared")["changed"] is True
    assert run.info()["guard_trigger"] is True


def test_the_trigger_goes_once_everything_is_verified(credentials: Credentials, run: ModuleRun) -> None:
    credentials.create(20)
    run()
    credentials.sql("UPDATE credentials SET token = 'written by the old release' WHERE id = 3")
    assert credentials.sql("SELECT token_encrypted, token_nonce FROM credentials WHERE id = 3") == [(None, None)]
    result = run(guard_trigger=False)
    assert (result["changed"], result["encrypted"], result["verified"], result["guard_trigger"]) == (True, 1, 20, False)
    assert credentials.triggers() == []
    assert credentials.stale() == []
    assert run(guard_trigger=False)["changed"] is False


def test_the_trigger_knows_who_writes_what(credentials: Credentials, run: ModuleRun) -> None:
    credentials.create(5)
    run()
    before = credentials.rows()
    ciphertext, nonce = sealed("both")
    credentials.sql("UPDATE credentials SET token = 'both', token_encrypted = %s, token_nonce = %s WHERE id = 1", ciphertext, nonce)
    credentials.sql("UPDATE credentials SET token = token WHERE id = 2")
    credentials.sql("UPDATE credentials SET token = NULL WHERE id = 3")
    rows = credentials.rows()
    assert opened(rows[0][2], rows[0][3]) == "both"
    assert rows[1] == before[1]
    assert rows[2] == (3, None, None, None)
    # A downgrade that drops the columns leaves the old release able to write.
    credentials.sql("ALTER TABLE credentials DROP COLUMN token_encrypted, DROP COLUMN token_nonce")
    credentials.sql("UPDATE credentials SET token = 'after the downgrade' WHERE id = 4")
    assert credentials.sql("SELECT token FROM credentials WHERE id = 4") == [("after the downgrade",)]


def test_cleared_and_back(credentials: Credentials, run: ModuleRun) -> None:
    credentials.create(2500)
    credentials.sql("UPDATE credentials SET token = E'tab\\tline\\nreturn\\rback\\\\slash \\\\N ✓' WHERE id = 1")
    credentials.sql("UPDATE credentials SET token = '' WHERE id = 2")
    expected = [row[:2] for row in credentials.rows()]
    run()
    predicted = run(state="cleared", check=True)
    assert (predicted["changed"], predicted["cleared"], predicted["diff"]["after"]["clear_values"]) == (True, 2500, 0)
    result = run(state="cleared")
    assert (result["changed"], result["cleared"], result["clear_values"], result["clear_left"], result["verified"]) == (True, 2500, 0, 0, 2500)
    assert any("VACUUM FULL" in risk["en"] for risk in result["residual_risk"])
    assert {frozenset(risk) for risk in result["residual_risk"]} == {frozenset({"en", "pt_BR"})}
    # The trigger was in: it let the module's own write pass.
    assert result["guard_trigger"] is True
    rows = credentials.rows()
    assert [(key, opened(ciphertext, nonce)) for key, _token, ciphertext, nonce in rows] == expected
    assert {token for _key, token, *_unused in rows} == {None}
    assert run(state="cleared")["changed"] is False

    assert run(state="decrypted", check=True)["decrypted"] == 2500
    undone = run(state="decrypted", batch_size=700)
    assert (undone["changed"], undone["decrypted"], undone["verified"], undone["clear_values"]) == (True, 2500, 2500, 2500)
    assert [row[:2] for row in credentials.rows()] == expected
    assert credentials.stale() == []
    assert run(state="decrypted")["changed"] is False


def test_decrypted_overwrites_what_differs_and_leaves_the_trigger_as_asked(credentials: Credentials, run: ModuleRun) -> None:
    credentials.create(3)
    run(guard_trigger=False)
    credentials.sql("UPDATE credentials SET token = 'older' WHERE id = 2")
    result = run(state="decrypted", guard_trigger=False)
    assert (result["decrypted"], result["guard_trigger"]) == (1, False)
    assert credentials.stale() == []
    assert run(state="decrypted")["guard_trigger"] is True
    assert run(state="decrypted", guard_trigger=False)["changed"] is False
    assert len(credentials.triggers()) == 1


def test_clearing_keeps_what_was_not_verified(credentials: Credentials, run: ModuleRun) -> None:
    credentials.create(30)
    run(guard_trigger=False)
    credentials.sql("UPDATE credentials SET token_encrypted = set_byte(token_encrypted, 0, 255 - get_byte(token_encrypted, 0)) WHERE id = 4")
    credentials.sql("UPDATE credentials SET token = 'newer' WHERE id = 5")
    result = run(state="cleared")
    assert result["failed"] is True
    assert (result["failures"]["corrupt"], result["failures"]["mismatch"], result["cleared"], result["changed"]) == (1, 1, 28, True)
    assert [(key, token is None) for key, token, *_unused in credentials.rows() if key in (3, 4, 5)] == [(3, True), (4, False), (5, False)]
    credentials.sql("INSERT INTO credentials (token) VALUES ('not encrypted')")
    refused = run(state="cleared")
    assert "1 rows of public.credentials have clear text and no ciphertext. Nothing was cleared." in refused["msg"]
    credentials.sql("DELETE FROM credentials WHERE token IS NOT NULL")
    credentials.sql("UPDATE credentials SET token = ''")
    credentials.sql("ALTER TABLE credentials ALTER token SET NOT NULL")
    assert "is NOT NULL" in run(state="cleared")["msg"]


def test_a_wrong_key_stops_before_the_first_write(credentials: Credentials, run: ModuleRun) -> None:
    credentials.create(300)
    run()
    credentials.sql("UPDATE credentials SET token = 'new', token_encrypted = NULL, token_nonce = NULL WHERE id > 200")
    before = credentials.rows()
    for state in ("encrypted", "cleared", "decrypted"):
        result = run(encryption_keys=[text_of(OTHER_KEY)], state=state)
        assert "Wrong key: 200 of 200 ciphertexts" in result["msg"]
        assert result["failures"]["first_keys"]["wrong_key"][:1] != []
        assert result["remedy"]["pt_BR"].startswith("Informe também a chave")
    assert credentials.rows() == before
    # With the old key behind it the new one encrypts, and all open.
    result = run(encryption_keys=[text_of(OTHER_KEY), text_of(KEY)])
    assert (result["encrypted"], result["verified"]) == (100, 300)
    (_key, _token, ciphertext, nonce) = credentials.rows()[250]
    assert opened(ciphertext, nonce, OTHER_KEY) == "new"


def test_damage_is_named_by_row_and_fails_loudly(credentials: Credentials, run: ModuleRun) -> None:
    credentials.create(500)
    run(guard_trigger=False)
    credentials.sql("UPDATE credentials SET token_encrypted = set_byte(token_encrypted, 3, 255 - get_byte(token_encrypted, 3)) WHERE id = 250")
    credentials.sql("UPDATE credentials SET token = NULL, token_nonce = NULL WHERE id = 251")
    credentials.sql("UPDATE credentials SET token = 'changed alone' WHERE id BETWEEN 300 AND 311")
    result = run()
    assert result["failed"] is True
    assert result["failures"]["corrupt"] == 2
    assert result["failures"]["mismatch"] == 12
    assert result["failures"]["first_keys"] == {"wrong_key": [], "corrupt": ["250", "251"], "mismatch": [str(key) for key in range(300, 310)]}
    assert (result["clear_left"], result["verified"]) == (14, 486)
    assert "2 damaged (rows 250; 251)" in result["msg"]
    assert "changed alone" not in json.dumps(result)
    looked = run.info(verify="all")
    assert (looked["failures"], looked["clear_left"], looked["changed"]) == (result["failures"], 14, False)


def test_values_that_look_encrypted_are_refused_unless_accepted(credentials: Credentials, run: ModuleRun) -> None:
    credentials.create(20)
    credentials.sql("UPDATE credentials SET token = 'v1:' || id WHERE id > 5")
    result = run()
    assert "15 values in public.credentials.token look encrypted already, in rows 6; 7; 8; 9; 10; 11; 12; 13; 14; 15." in result["msg"]
    assert credentials.triggers() == []
    assert "look encrypted" in run(check=True)["msg"]
    assert run(accept_encrypted_looking=True)["encrypted"] == 20
    assert credentials.stale() == []


@pytest.mark.parametrize(
    ("ddl", "options", "problem"),
    [
        ("", {"table": "nothing"}, "public.nothing does not exist"),
        ("CREATE VIEW v AS SELECT * FROM credentials", {"table": "v"}, "public.v is not a table"),
        ("", {"source": "tokken"}, "has no column tokken (option source)"),
        ("", {"key_columns": ["uid"]}, "has no column uid (option key_columns)"),
        ("", {"nonce": "token"}, "name the same column twice"),
        ("ALTER TABLE credentials DROP COLUMN token_nonce", {}, "has no column token_nonce: the migration that adds them must run first"),
        ("ALTER TABLE credentials DROP COLUMN token_nonce, DROP COLUMN token_encrypted", {}, "no column token_encrypted and no column token_nonce"),
        ("ALTER TABLE credentials DROP CONSTRAINT credentials_pkey", {}, "has no primary key"),
        ("", {"key_columns": ["token_other"]}, "(token_other) does not identify its rows"),
        ("ALTER TABLE credentials ALTER token TYPE bytea USING token::bytea", {}, "is of type bytea; text or varchar is needed"),
        ("ALTER TABLE credentials ALTER token_encrypted TYPE text", {}, "column_type is not given, but"),
        ("", {"column_type": "hex"}, "column_type is hex, but in public.credentials token_encrypted is bytea"),
        ("", {"encryption_keys": None}, "No key is given"),
        ("", {"encryption_keys": [base64.b64encode(b"k" * 31).decode()]}, "decodes to 31 bytes, 32 are needed"),
        ("", {"batch_size": 0}, "batch_size is 0; it must be at least 1"),
        ("", {"pause": -1}, "pause is -1.0; it must be at least 0"),
    ],
)
def test_bad_input_is_named_and_nothing_is_written(credentials: Credentials, run: ModuleRun, ddl: str, options: dict[str, Any], problem: str) -> None:
    credentials.create(3)
    credentials.sql("ALTER TABLE credentials ADD token_other text NOT NULL DEFAULT ''")
    if ddl:
        credentials.sql(ddl)
    result = run(**options)
    assert result["failed"] is True
    assert problem in result["msg"]
    assert set(result["remedy"]) == {"en", "pt_BR"}
    assert credentials.triggers() == []


def test_a_role_without_the_right_is_told_so(credentials: Credentials, run: ModuleRun, database: str, postgres: Postgres) -> None:
    credentials.create(3)
    name = f"reader_{os.getpid()}"
    credentials.sql(f"CREATE ROLE {name} LOGIN PASSWORD 'reads only'; GRANT SELECT ON credentials TO {name}")
    try:
        url = postgres.url(database.rpartition("/")[2], user=name, password="reads only")
        result = run(database_url=url)
        assert "PostgreSQL refused the work on public.credentials: permission denied for schema public (SQLSTATE 42501)." in result["msg"]
    finally:
        credentials.sql(f"DROP OWNED BY {name}; DROP ROLE {name}")


@pytest.mark.parametrize(
    "case",
    [
        ("ALTER TABLE credentials ADD CONSTRAINT short CHECK (octet_length(token_encrypted) < 20)", None, "constraint short (3 rows)"),
        ("ALTER TABLE credentials ADD CONSTRAINT odd CHECK (id <> 2 OR token_nonce IS NULL) NOT VALID", None, "constraint odd (1 rows)"),
        (
            "ALTER TABLE credentials ALTER token_encrypted TYPE varchar(90), ALTER token_nonce TYPE varchar(23)",
            "hex",
            "length of column token_encrypted (3 rows); length of column token_nonce (3 rows)",
        ),
        ("ALTER TABLE credentials ALTER token_encrypted TYPE text, ALTER token_nonce TYPE varchar(15)", "base64", "length of column token_nonce (3 rows)"),
    ],
)
def test_a_constraint_that_would_fail_stops_before_the_server_logs_a_row(
    credentials: Credentials, run: ModuleRun, postgres: Postgres, case: tuple[str, str | None, str]
) -> None:
    ddl, column_type, named = case
    credentials.create(3)
    credentials.sql(ddl)
    start = postgres.log.stat().st_size
    result = run(column_type=column_type)
    assert f"would break a constraint: {named}" in result["msg"]
    with postgres.log.open("rb") as stream:
        stream.seek(start)
        assert b"token-1-" not in stream.read()
    assert (credentials.triggers(), credentials.sql("SELECT count(token_encrypted) FROM credentials")) == ([], [(0,)])


def test_constraints_that_hold_are_in_nobodys_way(credentials: Credentials, run: ModuleRun) -> None:
    credentials.create(3)
    credentials.sql("ALTER TABLE credentials ADD CHECK (octet_length(token_nonce) = 12), ADD CHECK (octet_length(token_encrypted) = octet_length(token) + 16)")
    credentials.sql("ALTER TABLE credentials ADD CONSTRAINT held CHECK (token ~ '^token-[0-9%{}]+' OR token_encrypted IS NOT NULL)")
    assert run()["encrypted"] == 3
    credentials.sql("ALTER TABLE credentials ADD CONSTRAINT kept CHECK (token IS NOT NULL OR id > 1)")
    assert "would break a constraint: constraint kept (1 rows)" in run(state="cleared")["msg"]
    assert credentials.stale() == []
    credentials.sql("ALTER TABLE credentials DROP CONSTRAINT kept")
    assert run(state="cleared")["cleared"] == 3
    credentials.sql("ALTER TABLE credentials ADD CONSTRAINT gone CHECK (token IS NULL)")
    assert "would break a constraint: constraint gone (3 rows)" in run(state="decrypted")["msg"]


@pytest.mark.parametrize(
    ("ddl", "name", "named"),
    [
        ("CREATE VIEW seen AS SELECT id, token FROM credentials", "seen", "view seen"),
        ("CREATE MATERIALIZED VIEW kept AS SELECT token FROM credentials", "kept", "materialized view kept"),
        ("ALTER TABLE credentials ADD CONSTRAINT one UNIQUE (token)", "one", "unique index one"),
        ("CREATE UNIQUE INDEX lowered ON credentials (lower(token))", "lowered", "unique index lowered"),
        ("ALTER TABLE credentials ADD short text GENERATED ALWAYS AS (substr(token, 1, 3)) STORED", "short", "generated column short"),
    ],
)
def test_what_depends_on_the_clear_column_is_named_before_the_first_write(credentials: Credentials, run: ModuleRun, ddl: str, name: str, named: str) -> None:
    credentials.create(3)
    credentials.sql("CREATE INDEX harmless ON credentials (token); CREATE VIEW other AS SELECT id FROM credentials")
    credentials.sql(ddl)
    result = run()
    assert f"What hangs on token of public.credentials would break: {named}. Nothing was written." in result["msg"]
    assert (result["dependents"], credentials.triggers()) == ([named], [])
    assert "hash_column" in result["msg"]
    credentials.sql("ALTER TABLE credentials ADD lookup bytea")
    # The HMAC takes the place of a unique index.
    assert ("hash_column" in run(hash_column="lookup").get("msg", "")) == ("unique" not in named)
    assert run(accept_dependents=[name])["clear_left"] == 0
    assert named in run(state="cleared")["msg"]


def test_scrub_removes_the_clear_text_from_the_tables_files(credentials: Credentials, run: ModuleRun, postgres: Postgres) -> None:
    credentials.create(500)
    (path,) = credentials.sql("SELECT current_setting('data_directory') || '/' || pg_relation_filepath('credentials')")[0]
    run()
    plain = run(state="cleared")
    credentials.sql("CHECKPOINT")
    assert b"token-77-" in Path(path).read_bytes()
    assert (plain["scrubbed"], "VACUUM FULL" in plain["residual_risk"][0]["en"]) == (False, True)
    assert run(state="cleared", scrub="vacuum_full", check=True)["scrubbed"] is True
    scrubbed = run(state="cleared", scrub="vacuum_full")
    credentials.sql("CHECKPOINT")
    (path,) = credentials.sql("SELECT current_setting('data_directory') || '/' || pg_relation_filepath('credentials')")[0]
    assert b"token-77-" not in Path(path).read_bytes()
    assert (scrubbed["changed"], scrubbed["scrubbed"]) == (True, True)
    texts = " ".join(risk["en"] for risk in scrubbed["residual_risk"])
    assert "VACUUM FULL" not in texts
    for word in ("Write-ahead log (archive_mode off, 0 replicas", "Backups", "server's log", "provider"):
        assert word in texts
    assert credentials.sql("SELECT count(*) FROM credentials WHERE token_encrypted IS NOT NULL") == [(500,)]


def test_the_proposed_revision_drops_the_column_where_alembic_runs_it(credentials: Credentials, run: ModuleRun, tmp_path: Path) -> None:
    credentials.create(5)
    credentials.sql("CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY); INSERT INTO alembic_version VALUES ('abc123')")
    run()
    text = run(state="cleared")["proposal"]
    assert "down_revision = 'abc123'" in text
    versions = tmp_path / "versions"
    versions.mkdir()
    (versions / "abc123_before.py").write_text("revision = 'abc123'\ndown_revision = None\n\n\ndef upgrade():\n    pass\n\n\ndef downgrade():\n    pass\n")
    (versions / "drop.py").write_text(text)
    (tmp_path / "env.py").write_text(
        "import sqlalchemy as sa\nfrom alembic import context\n"
        f"with sa.create_engine({credentials.url!r}, poolclass=sa.pool.NullPool).connect() as connection:\n"
        "    context.configure(connection=connection)\n    with context.begin_transaction():\n        context.run_migrations()\n    connection.commit()\n"
    )
    config = Config()
    config.set_main_option("script_location", str(tmp_path))
    credentials.sql("UPDATE credentials SET token = 'again', token_encrypted = token_encrypted || '' WHERE id = 2")
    with pytest.raises(RuntimeError, match="1 rows still have a clear token"):
        command.upgrade(config, "heads")
    credentials.sql("SET lastro_deploy.token_guard = off; UPDATE credentials SET token = NULL")
    command.upgrade(config, "heads")
    columns = "SELECT column_name::text FROM information_schema.columns WHERE table_name = 'credentials' ORDER BY 1"
    assert credentials.sql(columns) == [("id",), ("token_encrypted",), ("token_nonce",)]
    assert credentials.triggers() == []
    command.downgrade(config, "abc123")
    assert ("token",) in credentials.sql(columns)


def test_two_runs_for_one_table_exclude_each_other(credentials: Credentials, run: ModuleRun, monkeypatch: pytest.MonkeyPatch) -> None:
    credentials.create(3)
    monkeypatch.setattr(_token_lock, "LOCK_SECONDS", 0.2)
    inside, leave = threading.Event(), threading.Event()

    def hold(_seconds: float) -> None:
        inside.set()
        assert leave.wait(30)

    thread = threading.Thread(target=lambda: converge(parse_url(credentials.url), options(pause=1.0), progress=silent, sleep=hold))
    thread.start()
    try:
        assert inside.wait(30)
        result = run()
        assert "Another run works on the tokens of public.credentials: the lock is held by process" in result["msg"]
        assert "(lastro.deploy tokens)" in result["msg"]
    finally:
        leave.set()
        thread.join()
    assert run()["failures"]["corrupt"] == 0
