# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules over rendered SQL: each with what it catches and with its safe twin."""

from __future__ import annotations

import pytest
from ansible_collections.lastro.deploy.plugins.module_utils import _alembic_hazards as hazards
from ansible_collections.lastro.deploy.plugins.module_utils import _alembic_rules as rules
from ansible_collections.lastro.deploy.plugins.module_utils._alembic_sql import plain, statements
from ansible_collections.lastro.deploy.plugins.module_utils._alembic_watch import without_literals


def found(sql: str) -> list[str]:
    return [finding.rule for finding in rules.Reader("alembic_version").read("r", sql)]


UNSAFE = [
    ("DROP TABLE users", ["drop-object"]),
    ("DROP TABLE IF EXISTS app.users CASCADE", ["drop-object"]),
    ("DROP VIEW v", ["drop-object"]),
    ("DROP MATERIALIZED VIEW v", ["drop-object"]),
    ("ALTER TABLE users DROP COLUMN token", ["drop-column"]),
    ("ALTER TABLE users ADD COLUMN a INT, DROP b", ["drop-column"]),
    ("ALTER TABLE users RENAME TO people", ["rename"]),
    ("ALTER TABLE users RENAME COLUMN a TO b", ["rename"]),
    ("ALTER VIEW v RENAME TO w", ["rename"]),
    ("ALTER TABLE users ALTER COLUMN a TYPE BIGINT", ["change-type", "change-type-rewrite"]),
    ("ALTER TABLE users ALTER a SET DATA TYPE BIGINT USING a::bigint", ["change-type", "change-type-rewrite"]),
    ("ALTER TABLE users ALTER COLUMN a SET NOT NULL", ["set-not-null", "set-not-null-scan"]),
    ("ALTER TABLE users ALTER COLUMN a DROP DEFAULT", ["drop-default"]),
    ("ALTER TABLE users ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY", ["add-column-rewrite"]),
    ("ALTER TABLE users ADD COLUMN a INTEGER NOT NULL", ["add-required-column"]),
    ("ALTER TABLE users ADD COLUMN a UUID DEFAULT gen_random_uuid() NOT NULL", ["add-column-rewrite"]),
    ("ALTER TABLE users ADD COLUMN a BIGSERIAL NOT NULL", ["add-column-rewrite"]),
    ("ALTER TABLE users ADD COLUMN a INT GENERATED ALWAYS AS (b + 1) STORED", ["add-column-rewrite"]),
    ("ALTER TABLE users ADD a TEXT UNIQUE", ["add-column-constraint"]),
    ("CREATE INDEX i ON users (email)", ["index-not-concurrent"]),
    ("CREATE UNIQUE INDEX IF NOT EXISTS i ON ONLY users USING btree (email)", ["index-not-concurrent"]),
    ("DROP INDEX i", ["drop-index-not-concurrent"]),
    ("ALTER TABLE users ADD CONSTRAINT u UNIQUE (email)", ["unique-constraint"]),
    ("ALTER TABLE users ADD PRIMARY KEY (id)", ["unique-constraint"]),
    ("ALTER TABLE users ADD CONSTRAINT f FOREIGN KEY(a) REFERENCES b (id)", ["constraint-not-valid"]),
    ("ALTER TABLE users ADD CONSTRAINT c CHECK (a > 0)", ["constraint-not-valid"]),
    ("ALTER TABLE users ADD CONSTRAINT e EXCLUDE USING gist (a WITH &&)", ["exclusion-constraint"]),
    ("ALTER TABLE users SET UNLOGGED", ["blocking-command"]),
    ("LOCK TABLE users", ["blocking-command"]),
    ("REFRESH MATERIALIZED VIEW v", ["blocking-command"]),
    ("VACUUM (FULL) users", ["blocking-command"]),
    ("TRUNCATE users", ["truncate"]),
    ("DO $body$ BEGIN EXECUTE 'DROP TABLE users; --'; END $body$", ["opaque-block"]),
    ("/* why */ -- really; yes\nDROP\n  TABLE users", ["drop-object"]),
]
SAFE = [
    "CREATE TABLE t (id INT PRIMARY KEY, a TEXT NOT NULL CHECK (a <> ''))",
    "CREATE TABLE t (id INT); CREATE INDEX i ON t (id); ALTER TABLE t ADD CONSTRAINT u UNIQUE (id); DROP TABLE t",
    "CREATE INDEX CONCURRENTLY i ON users (email)",
    "CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS i ON users (email)",
    "DROP INDEX CONCURRENTLY i",
    "REINDEX INDEX CONCURRENTLY i",
    "REFRESH MATERIALIZED VIEW CONCURRENTLY v",
    "ALTER TABLE users ADD CONSTRAINT u UNIQUE USING INDEX i",
    "ALTER TABLE users ADD CONSTRAINT p PRIMARY KEY USING INDEX i",
    "ALTER TABLE users ADD CONSTRAINT f FOREIGN KEY(a) REFERENCES b (id) NOT VALID",
    "ALTER TABLE users ADD CONSTRAINT c CHECK (a > 0) NOT VALID",
    "ALTER TABLE users VALIDATE CONSTRAINT c",
    "ALTER TABLE users ADD COLUMN a TEXT, ADD COLUMN b NUMERIC(10, 2)",
    "ALTER TABLE users ADD COLUMN a BOOLEAN DEFAULT false NOT NULL",
    "ALTER TABLE users ADD COLUMN a TIMESTAMP DEFAULT now() NOT NULL",
    "ALTER TABLE users ALTER COLUMN a DROP NOT NULL",
    "ALTER TABLE users ALTER COLUMN a SET DEFAULT 1",
    "ALTER TABLE users DROP CONSTRAINT c",
    "ALTER TABLE users RENAME CONSTRAINT c TO d",
    "UPDATE users SET note = 'DROP TABLE users; ALTER TABLE x' WHERE id < 1000",
    "INSERT INTO notes VALUES (E'it\\'s; DROP TABLE users', '$$', \"a;b\")",
    "COMMENT ON TABLE users IS $$x; TRUNCATE users$$",
]


@pytest.mark.parametrize(("sql", "expected"), UNSAFE)
def test_hazards_are_found(sql: str, expected: list[str]) -> None:
    assert found(f"BEGIN;\n\n{sql};\n\nUPDATE alembic_version SET version_num='r' WHERE alembic_version.version_num = 'q';\n\nCOMMIT;") == expected


@pytest.mark.parametrize("sql", SAFE)
def test_safe_ways_are_not(sql: str) -> None:
    assert found(sql) == []


def test_every_rule_has_words() -> None:
    assert {name for _sql, names in UNSAFE for name in names} <= set(hazards.RULES)
    for rule in hazards.RULES.values():
        assert rule.why.endswith(".")
        assert rule.safe_way.endswith(".")


def test_a_finding_says_where() -> None:
    [finding] = rules.Reader("alembic_version").read("a1", 'ALTER TABLE "App"."Users"   DROP COLUMN\n token')
    assert finding.as_result() == {
        "revision": "a1",
        "rule": "drop-column",
        "kind": "contract",
        "severity": "contract",
        "table": "App.Users",
        "statement": 'ALTER TABLE "App"."Users" DROP COLUMN token',
        "why": finding.why,
        "safe_way": finding.safe_way,
        "engine": "lastro",
        "allowed": False,
    }
    [long] = rules.Reader("alembic_version").read("a1", "DROP TABLE " + ", ".join(f"table_{n}" for n in range(100)))
    assert (len(long.statement), long.statement[-1]) == (300, "…")


def test_losses_of_a_downgrade() -> None:
    sql = (
        "DROP TABLE a, app.b; ALTER TABLE users DROP COLUMN IF EXISTS c, DROP CONSTRAINT k, DROP d; DELETE FROM users; DROP INDEX i;"
        "DELETE FROM alembic_version WHERE version_num = 'r'; UPDATE x SET y = 1"
    )
    assert [(loss.what, loss.table, loss.column) for loss in rules.losses("r", sql)] == [
        ("table a", "a", ""),
        ("table app.b", "app.b", ""),
        ("column users.c", "users", "c"),
        ("column users.d", "users", "d"),
        ("DELETE FROM users", "", ""),
    ]
    assert rules.renames("SELECT 1; ALTER TABLE a RENAME TO b")
    assert not rules.renames("UPDATE a SET b = 'ALTER TABLE a RENAME'")


def test_what_no_downgrade_fills_again() -> None:
    chain = [
        ("a", "CREATE TABLE new (id INT); ALTER TABLE users ADD COLUMN b INT; DELETE FROM users WHERE id = 1; DROP INDEX i"),
        ("b", "BEGIN; ALTER TABLE users DROP c, DROP CONSTRAINT k; DROP TABLE old; UPDATE alembic_version SET version_num = 'b'; COMMIT"),
        ("c", "ALTER TABLE new DROP COLUMN id; DROP TABLE new"),
    ]
    assert [(loss.revision, loss.what, loss.table) for loss in rules.lost_for_good(chain)] == [("b", "column users.c", "users"), ("b", "table old", "old")]
    assert [loss.table for loss in rules.lost_for_good(chain[2:])] == ["new", "new"], "it was there before"


def test_statements_and_names() -> None:
    assert [one.text for one in statements("SELECT 1; ; -- x\nSELECT ';'; /* ; */")] == ["SELECT 1", "SELECT ';'"]
    assert plain('PUBLIC . "My ""T"""') == 'public.My "T"'
    assert without_literals("SELECT * FROM t WHERE a = 'x' AND b = 12; COMMIT") == "SELECT * FROM T WHERE A = ? AND B = ?; COMMIT"
