# SPDX-License-Identifier: GPL-3.0-or-later
"""Any key, any column type, any text; token_encryption_info; and that no log shows a token."""

from __future__ import annotations

import base64
import hmac
import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lastro.deploy.plugins.module_utils import _token_sql
from ansible_collections.lastro.deploy.plugins.module_utils._postgres import parse_url
from ansible_collections.lastro.deploy.plugins.module_utils._progress import silent
from ansible_collections.lastro.deploy.plugins.module_utils._token_cipher import KeyRing, binding
from ansible_collections.lastro.deploy.plugins.module_utils._token_encryption import converge
from ansible_collections.lastro.deploy.plugins.module_utils._token_sql import Row, Statements
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from demo.postgres import Postgres
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ..conftest import FULL
from .token_table import KEY, OTHER_KEY, Credentials, ModuleRun, opened, options, table_of, text_of

ROOT = Path(__file__).parents[2]
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


@pytest.mark.parametrize(
    ("columns", "values", "given"),
    [
        ("id uuid PRIMARY KEY", "md5(n::text)::uuid", None),
        ("id text PRIMARY KEY", "E'q\"uo\\\\te'', {' || n || '}'", None),
        ('"Id, 1" varchar(40) COLLATE "C" PRIMARY KEY', "md5(n::text)", None),
        ("version text, k0 int, PRIMARY KEY (version, k0)", "'t' || n % 3, n", None),
        ("a int, b uuid, source text, PRIMARY KEY (a, b, source)", "n % 7, md5(n::text)::uuid, 's' || n", None),
        ("id serial PRIMARY KEY, mail text NOT NULL UNIQUE", "n, 'm' || n", ["mail"]),
        ("at timestamptz NOT NULL, UNIQUE (at)", "timestamptz '2026-01-01' + n * interval '1.5 s'", ["at"]),
    ],
)
def test_any_key_works(credentials: Credentials, run: ModuleRun, columns: str, values: str, given: list[str] | None) -> None:
    credentials.sql(f"CREATE TABLE credentials ({columns}, token text, token_encrypted bytea, token_nonce bytea)")
    credentials.sql(f"INSERT INTO credentials SELECT {values}, 'token-' || n FROM generate_series(1, 100) n")
    for state, figure in (("encrypted", "encrypted"), ("cleared", "cleared"), ("decrypted", "decrypted")):
        result = run(state=state, key_columns=given, batch_size=7)
        assert (result[figure], result["total"], result["verified"]) == (100, 100, 100)
    rows = credentials.sql("SELECT token, token_encrypted, token_nonce FROM credentials")
    assert sorted(token for token, *_unused in rows) == sorted(f"token-{n}" for n in range(1, 101))
    assert all(opened(ciphertext, nonce) == token for token, ciphertext, nonce in rows)


def test_composite_keys_are_shown_with_all_their_parts(credentials: Credentials, run: ModuleRun) -> None:
    credentials.sql("CREATE TABLE credentials (a int, b text, token text, token_encrypted bytea, token_nonce bytea, PRIMARY KEY (a, b))")
    credentials.sql("INSERT INTO credentials VALUES (1, 'x', 't', '\\x00', '\\x00')")
    assert run()["failures"]["first_keys"]["corrupt"] == ["1, x"]


@pytest.mark.parametrize("column_type", ["base64", "base64url", "hex"])
def test_text_columns_hold_the_encoding_that_is_asked_for(credentials: Credentials, run: ModuleRun, column_type: str) -> None:
    credentials.sql('CREATE SCHEMA app CREATE TABLE "Grants" (id int PRIMARY KEY, secret varchar(80), ct text, nn varchar(40))')
    credentials.sql("INSERT INTO app.\"Grants\" SELECT n, 'token-' || n FROM generate_series(1, 50) n")
    names: dict[str, Any] = {"schema": "app", "table": "Grants", "source": "secret", "ciphertext": "ct", "nonce": "nn", "column_type": column_type}
    assert run(**names)["encrypted"] == 50
    read = {"base64": base64.standard_b64decode, "base64url": base64.urlsafe_b64decode, "hex": bytes.fromhex}[column_type]
    rows = credentials.sql('SELECT secret, ct, nn FROM app."Grants"')
    assert all(opened(read(ct), read(nn)) == secret for secret, ct, nn in rows)
    assert run(**names)["changed"] is False
    assert run(**names, state="cleared")["cleared"] == 50
    assert run(**names, state="decrypted")["decrypted"] == 50
    assert sorted(credentials.sql('SELECT secret, ct, nn FROM app."Grants"')) == sorted(rows)


def test_a_partitioned_table_and_a_domain_work(credentials: Credentials, run: ModuleRun) -> None:
    credentials.sql("CREATE DOMAIN secret AS text")
    credentials.sql("CREATE TABLE credentials (id int PRIMARY KEY, token secret, token_encrypted bytea, token_nonce bytea) PARTITION BY RANGE (id)")
    credentials.sql("CREATE TABLE c1 PARTITION OF credentials FOR VALUES FROM (0) TO (50)")
    credentials.sql("CREATE TABLE c2 PARTITION OF credentials FOR VALUES FROM (50) TO (500)")
    credentials.sql("INSERT INTO credentials SELECT n, 'token-' || n FROM generate_series(1, 100) n")
    assert run(batch_size=30)["verified"] == 100
    credentials.sql("UPDATE credentials SET token = 'changed' WHERE id = 60")
    assert run()["encrypted"] == 1
    assert run(state="cleared")["cleared"] == 100
    assert run(state="decrypted")["decrypted"] == 100
    assert credentials.stale() == []


KEYS: dict[str, tuple[str, st.SearchStrategy[tuple[Any, ...]]]] = {
    "id bigint": ("id", st.tuples(st.integers(-(2**63), 2**63 - 1))),
    "id uuid": ("id", st.tuples(st.uuids().map(str))),
    "id text": ("id", st.tuples(TEXTS)),
    "a integer, b text": ("a, b", st.tuples(st.integers(-(2**31), 2**31 - 1), TEXTS)),
}
TABLES = st.sampled_from(sorted(KEYS)).flatmap(
    lambda columns: st.tuples(st.just(columns), st.dictionaries(KEYS[columns][1], TEXTS | st.just("") | st.none(), max_size=12))
)
LARGE = st.none() | st.characters(exclude_characters="\0", exclude_categories=["Cs"]).map(lambda one: one * (2**20 // len(one.encode())))


@settings(max_examples=25 if not FULL else 250, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(table=TABLES, large=LARGE, batch_size=st.integers(1, 15))
def test_any_text_under_any_key_comes_back(
    credentials: Credentials, table: tuple[str, dict[tuple[Any, ...], str | None]], large: str | None, batch_size: int
) -> None:
    columns, data = table[0], dict(table[1])
    if large is not None and data:
        data[min(data)] = large
    key = KEYS[columns][0]
    credentials.sql("DROP TABLE IF EXISTS credentials")
    credentials.sql(f"CREATE TABLE credentials ({columns}, token text, token_encrypted bytea, token_nonce bytea, PRIMARY KEY ({key}))")
    for parts, token in data.items():
        credentials.sql(f"INSERT INTO credentials ({key}, token) VALUES ({', '.join(['%s'] * len(parts))}, %s)", *parts, token)
    for state in ("encrypted", "cleared", "decrypted"):
        result = converge(parse_url(credentials.url), options(state=state, batch_size=batch_size, accept_encrypted_looking=True), progress=silent)
        assert (result["total"], result["verified"], result["clear_left"]) == (len(data), sum(token is not None for token in data.values()), 0)
    rows = credentials.sql(f"SELECT token_encrypted, token_nonce, token, {key} FROM credentials")
    assert {tuple(parts): token for _ciphertext, _nonce, token, *parts in rows} == data
    assert {tuple(parts): opened(ciphertext, nonce) for ciphertext, nonce, _token, *parts in rows} == data


def test_a_bound_token_opens_in_its_own_row_alone(credentials: Credentials, run: ModuleRun) -> None:
    credentials.sql("CREATE TABLE credentials (a int, id uuid DEFAULT gen_random_uuid(), token text, token_encrypted bytea, token_nonce bytea)")
    credentials.sql("ALTER TABLE credentials ADD PRIMARY KEY (id, a); INSERT INTO credentials (a, token) SELECT n, 'token-' || n FROM generate_series(1, 60) n")
    run()
    assert run.info(verify="all", format="bound")["failures"]["corrupt"] == 60
    moved = run(state="rotated", format="bound")
    assert (moved["rotated"], moved["verified"]) == (60, 60)
    assert run(state="rotated", format="bound")["changed"] is False
    assert run.info(verify="all", format="bound")["verified"] == 60
    for key, *_unused in credentials.rows()[:5]:
        ((a, token, ciphertext, nonce),) = credentials.sql("SELECT a, token, token_encrypted, token_nonce FROM credentials WHERE id = %s", key)
        bound = binding("public.credentials", "token_encrypted", (str(key), str(a)))
        assert AESGCM(KEY).decrypt(bytes(nonce), bytes(ciphertext), bound).decode() == token
    run(state="cleared", format="bound")
    swap = "UPDATE credentials t SET token_encrypted = o.token_encrypted, token_nonce = o.token_nonce FROM credentials o WHERE t.a <= 2 AND o.a = 3 - t.a"
    credentials.sql(swap)
    seen = run.info(verify="all", format="bound")
    assert (seen["verified"], sum(seen["failures"][kind] for kind in ("wrong_key", "corrupt"))) == (58, 2)
    credentials.sql(swap)
    assert run(state="decrypted", format="bound")["decrypted"] == 60
    # A reader that knows compat alone opens none of them.
    assert "60 damaged" in run()["msg"]


@pytest.mark.parametrize("kind", ["bytea", "text"])
def test_the_hash_column_finds_a_row_without_its_clear_text(credentials: Credentials, run: ModuleRun, kind: str) -> None:
    credentials.create(40)
    run()
    credentials.sql(f"ALTER TABLE credentials ADD lookup {kind}")
    before = credentials.rows()
    result = run(hash_column="lookup")
    # What was encrypted keeps its ciphertext.
    assert (result["encrypted"], result["verified"], credentials.rows()) == (40, 40, before)
    assert run(hash_column="lookup")["changed"] is False
    run(state="cleared", hash_column="lookup")

    def found(key: bytes, token: str) -> list[tuple[Any, ...]]:
        digest = hmac.digest(hmac.digest(key, b"lastro.deploy lookup", "sha256"), token.encode(), "sha256")
        return credentials.sql("SELECT id FROM credentials WHERE lookup = %s", digest if kind == "bytea" else digest.hex())

    token = str(before[16][1])
    assert found(KEY, token) == [(17,)]
    assert run(state="rotated", hash_column="lookup", encryption_keys=[text_of(OTHER_KEY), text_of(KEY)])["rotated"] == 40
    assert (found(KEY, token), found(OTHER_KEY, token)) == ([], [(17,)])
    # A writer of the clear column alone leaves no stale HMAC behind.
    credentials.sql("UPDATE credentials SET token = 'newer' WHERE id = 17")
    assert found(OTHER_KEY, token) == []
    assert run(hash_column="lookup", encryption_keys=[text_of(OTHER_KEY)])["encrypted"] == 1
    assert found(OTHER_KEY, "newer") == [(17,)]
    credentials.sql("UPDATE credentials SET lookup = (SELECT lookup FROM credentials WHERE id = 17) WHERE id = 18")
    assert run(hash_column="lookup", encryption_keys=[text_of(OTHER_KEY)])["failures"]["mismatch"] == 1


def test_a_page_of_large_values_is_short(credentials: Credentials, monkeypatch: pytest.MonkeyPatch) -> None:
    credentials.create(0)
    credentials.sql("INSERT INTO credentials (token) SELECT repeat('x', 100000) FROM generate_series(1, 10)")
    monkeypatch.setattr(_token_sql, "PAGE_BYTES", 250_000)
    with credentials.connection.cursor() as cursor:
        statements = Statements(table_of(cursor))
        first = statements.page(cursor, "pending", 1000)
        assert [row.key for row in first] == [("1",), ("2",), ("3",)]
        monkeypatch.setattr(_token_sql, "PAGE_BYTES", 1)
        assert [row.key for row in statements.page(cursor, "pending", 1000, after=("3",))] == [("4",)]
    assert converge(parse_url(credentials.url), options(), progress=silent)["verified"] == 10
    assert credentials.stale() == []


def test_a_row_that_changed_after_it_was_read_is_not_written(credentials: Credentials) -> None:
    credentials.create(3)
    with credentials.connection.cursor() as cursor:
        statements = Statements(table_of(cursor))
        rows: list[Row] = statements.page(cursor, "pending", 10)
        credentials.sql("UPDATE credentials SET token = 'newer' WHERE id = 2")
        credentials.sql("DELETE FROM credentials WHERE id = 3")
        assert statements.write_sealed(cursor, rows, KeyRing([KEY]).encrypt([row.source or "" for row in rows])) == 1
        assert statements.clear_source(cursor, rows) == 0
    assert credentials.sql("SELECT id, token, token_encrypted IS NULL FROM credentials WHERE id = 2") == [(2, "newer", True)]


def test_info_counts_and_verifies_without_changing_anything(credentials: Credentials, run: ModuleRun) -> None:
    credentials.create(400)
    fresh = run.info(encryption_keys=None)
    assert [fresh[name] for name in ("changed", "total", "already", "clear_left", "verified", "guard_trigger")] == [False, 400, 0, 400, 0, False]
    assert run.info(verify="sample")["verified"] == 0
    run()
    credentials.sql("UPDATE credentials SET token = NULL, token_encrypted = NULL, token_nonce = NULL WHERE id = 9")
    before = credentials.rows()
    sample = run.info(verify="sample")
    assert 200 <= sample["verified"] <= 399
    everything = run.info(verify="all")
    assert [everything[name] for name in ("total", "null_rows", "verified", "already", "clear_left", "clear_values")] == [400, 1, 399, 399, 0, 399]
    assert everything["rows_per_second"] > 0
    wrong = run.info(verify="all", encryption_keys=[text_of(OTHER_KEY)])
    assert (wrong["failures"]["wrong_key"], wrong["clear_left"]) == (399, 399)
    assert len(wrong["failures"]["first_keys"]["wrong_key"]) == 10
    assert "No key is given" in run.info(verify="all", encryption_keys=None)["msg"]
    assert credentials.rows() == before


def test_no_clear_token_reaches_the_servers_log(credentials: Credentials, run: ModuleRun, postgres: Postgres, database: str) -> None:
    credentials.create(1000)
    tokens = [str(token) for _key, token, *_unused in credentials.rows()]
    name = database.rpartition("/")[2]
    for setting in ("log_min_duration_statement = 0", "log_statement = 'all'", "log_lock_waits = on"):
        credentials.sql(f'ALTER DATABASE "{name}" SET {setting}')
    start = postgres.log.stat().st_size
    results = [run(state="prepared"), run(), run(state="cleared"), run(state="decrypted"), run.info(verify="all"), run(guard_trigger=False)]
    with postgres.log.open("rb") as stream:
        stream.seek(start)
        log = stream.read().decode(errors="replace")
    # The log does show the work.
    for statement in ("CREATE TRIGGER", 'SET "token_encrypted" = decode(v."w0"', 'SET "token" = NULL', "COPY pg_temp.lastro_tokens FROM STDIN", "DROP TRIGGER"):
        assert statement in log
    assert [token for token in tokens if token in log] == []
    assert [token for token in tokens if token in json.dumps(results)] == []
    assert credentials.stale() == []
