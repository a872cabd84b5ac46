# SPDX-License-Identifier: GPL-3.0-or-later
"""Statements of migrations, each unsafe one with a safe twin: (the rule of ours that must speak, unsafe, safe)."""

from __future__ import annotations

import typing as t

BUILD = "CREATE TABLE fresh (id BIGINT PRIMARY KEY, a TEXT, b TEXT);\n\n"


class Pair(t.NamedTuple):
    """*rule* is what our own rules say of *unsafe*; of *safe* nobody says anything."""

    rule: str
    unsafe: str
    safe: str


def fresh(statement: str) -> str:
    """The same on a table that the revision itself creates."""
    return BUILD + statement


_LATER = "ALTER TABLE users ADD COLUMN later TEXT"
PAIRS = [
    Pair("drop-object", "DROP TABLE users", fresh("DROP TABLE fresh")),
    Pair("drop-object", "DROP TABLE IF EXISTS app.users CASCADE", "COMMENT ON TABLE app.users IS 'to be dropped'"),
    Pair("drop-object", "DROP VIEW v", "CREATE VIEW w AS SELECT 1"),
    Pair("drop-object", "DROP MATERIALIZED VIEW v", "CREATE MATERIALIZED VIEW w AS SELECT 1"),
    Pair("drop-object", "DROP TYPE mood", "CREATE TYPE mood2 AS ENUM ('a')"),
    Pair("drop-object", "DROP FUNCTION f(int)", "CREATE FUNCTION g(int) RETURNS int LANGUAGE sql AS 'SELECT $1'"),
    Pair("drop-object", "DROP SCHEMA s", "CREATE SCHEMA s2"),
    Pair("drop-object", "DROP SEQUENCE s", "CREATE SEQUENCE s2"),
    Pair("drop-object", "DROP EXTENSION pg_trgm", "CREATE EXTENSION IF NOT EXISTS pg_trgm"),
    Pair("drop-column", "ALTER TABLE users DROP COLUMN token", fresh("ALTER TABLE fresh DROP COLUMN b")),
    Pair("drop-column", "ALTER TABLE users ADD COLUMN a TEXT, DROP b", "ALTER TABLE users ADD COLUMN a TEXT, ADD COLUMN b TEXT"),
    Pair("drop-column", 'ALTER TABLE IF EXISTS ONLY "Users" DROP COLUMN IF EXISTS "Token" CASCADE', 'ALTER TABLE "Users" ADD COLUMN IF NOT EXISTS "T" TEXT'),
    Pair("rename", "ALTER TABLE users RENAME TO people", fresh("ALTER TABLE fresh RENAME COLUMN a TO c")),
    Pair("rename", "ALTER TABLE users RENAME COLUMN a TO b", "ALTER TABLE users RENAME CONSTRAINT c TO d"),
    Pair("rename", "ALTER TABLE users RENAME a TO b", "ALTER INDEX i RENAME TO j"),
    Pair("rename", "ALTER VIEW v RENAME TO w", "CREATE OR REPLACE VIEW w AS SELECT 1"),
    Pair("rename", "ALTER TABLE users SET SCHEMA other", "ALTER TABLE users SET (fillfactor = 90)"),
    Pair("change-type", "ALTER TABLE users ALTER COLUMN a TYPE BIGINT", "ALTER TABLE users ADD COLUMN a_new BIGINT"),
    Pair(
        "change-type-rewrite", "ALTER TABLE users ALTER a SET DATA TYPE BIGINT USING a::bigint", fresh("ALTER TABLE fresh ALTER a TYPE BIGINT USING a::bigint")
    ),
    Pair("change-type-rewrite", "ALTER TABLE users ALTER COLUMN short TYPE VARCHAR(10)", "ALTER TABLE users ALTER COLUMN short TYPE VARCHAR(100)"),
    Pair("change-type-rewrite", "ALTER TABLE users ALTER COLUMN price TYPE NUMERIC(6, 2)", "ALTER TABLE users ALTER COLUMN price TYPE NUMERIC(12, 2)"),
    Pair("change-type-rewrite", "ALTER TABLE users ALTER COLUMN price TYPE NUMERIC(10, 4)", "ALTER TABLE users ALTER COLUMN price TYPE NUMERIC"),
    Pair("change-type-rewrite", "ALTER TABLE users ALTER COLUMN short TYPE CHAR(50)", "ALTER TABLE users ALTER COLUMN short TYPE TEXT"),
    Pair("change-type-rewrite", "ALTER TABLE users ALTER COLUMN seen TYPE DATE", "ALTER TABLE users ALTER COLUMN seen TYPE TIMESTAMP(6)"),
    Pair("set-not-null", "ALTER TABLE users ALTER COLUMN a SET NOT NULL", "ALTER TABLE users ALTER COLUMN required SET NOT NULL"),
    Pair("set-not-null-scan", "ALTER TABLE users ALTER COLUMN short SET NOT NULL", fresh("ALTER TABLE fresh ALTER COLUMN a SET NOT NULL")),
    Pair("drop-default", "ALTER TABLE users ALTER COLUMN a DROP DEFAULT", "ALTER TABLE users ALTER COLUMN a SET DEFAULT 1"),
    Pair("add-required-column", "ALTER TABLE users ADD COLUMN a INTEGER NOT NULL", "ALTER TABLE users ADD COLUMN a INTEGER"),
    Pair("add-required-column", "ALTER TABLE users ADD a TEXT NOT NULL", "ALTER TABLE users ADD a TEXT DEFAULT '' NOT NULL"),
    Pair("add-column-rewrite", "ALTER TABLE users ADD COLUMN a UUID DEFAULT gen_random_uuid() NOT NULL", "ALTER TABLE users ADD COLUMN a UUID"),
    Pair("add-column-rewrite", "ALTER TABLE users ADD COLUMN a BIGSERIAL NOT NULL", "ALTER TABLE users ADD COLUMN a BIGINT DEFAULT 0 NOT NULL"),
    Pair("add-column-rewrite", "ALTER TABLE users ADD COLUMN a INT GENERATED ALWAYS AS (b + 1) STORED", "ALTER TABLE users ALTER COLUMN a SET STATISTICS 500"),
    Pair(
        "add-column-rewrite", "ALTER TABLE users ADD COLUMN a TIMESTAMPTZ DEFAULT clock_timestamp()", "ALTER TABLE users ADD COLUMN a TIMESTAMPTZ DEFAULT now()"
    ),
    Pair("add-column-rewrite", "ALTER TABLE users ADD COLUMN a FLOAT DEFAULT random()", "ALTER TABLE users ADD COLUMN a FLOAT DEFAULT 0.5"),
    Pair(
        "add-column-rewrite",
        "ALTER TABLE users ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY",
        fresh("ALTER TABLE fresh ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY"),
    ),
    Pair("add-column-constraint", "ALTER TABLE users ADD a TEXT UNIQUE", "ALTER TABLE users ADD a TEXT"),
    Pair(
        "add-column-constraint",
        "ALTER TABLE users ADD COLUMN a INT REFERENCES other (id)",
        "ALTER TABLE users ADD CONSTRAINT f FOREIGN KEY (a) REFERENCES other (id) NOT VALID",
    ),
    Pair("add-column-constraint", "ALTER TABLE users ADD COLUMN a INT CHECK (a > 0)", "ALTER TABLE users ADD COLUMN a INT DEFAULT 1"),
    Pair("index-not-concurrent", "CREATE INDEX i ON users (email)", "COMMIT;\n\nCREATE INDEX CONCURRENTLY i ON users (email);\n\nBEGIN"),
    Pair("index-not-concurrent", "CREATE UNIQUE INDEX IF NOT EXISTS i ON ONLY users USING btree (email)", fresh("CREATE UNIQUE INDEX i ON fresh (a)")),
    Pair("drop-index-not-concurrent", "DROP INDEX i", "COMMIT;\n\nDROP INDEX CONCURRENTLY i;\n\nBEGIN"),
    Pair("drop-index-not-concurrent", "DROP INDEX IF EXISTS app.i", "COMMIT;\n\nDROP INDEX CONCURRENTLY IF EXISTS app.i;\n\nBEGIN"),
    Pair("unique-constraint", "ALTER TABLE users ADD CONSTRAINT u UNIQUE (email)", "ALTER TABLE users ADD CONSTRAINT u UNIQUE USING INDEX i"),
    Pair("unique-constraint", "ALTER TABLE users ADD PRIMARY KEY (id)", "ALTER TABLE users ADD CONSTRAINT p PRIMARY KEY USING INDEX i"),
    Pair("constraint-not-valid", "ALTER TABLE users ADD CONSTRAINT f FOREIGN KEY(a) REFERENCES b (id)", "ALTER TABLE users VALIDATE CONSTRAINT f"),
    Pair("constraint-not-valid", "ALTER TABLE users ADD CONSTRAINT c CHECK (a > 0)", "ALTER TABLE users ADD CONSTRAINT c CHECK (a > 0) NOT VALID"),
    Pair(
        "exclusion-constraint",
        "ALTER TABLE users ADD CONSTRAINT e EXCLUDE USING gist (a WITH &&)",
        fresh("ALTER TABLE fresh ADD CONSTRAINT e EXCLUDE USING btree (a WITH =)"),
    ),
    Pair("blocking-command", "ALTER TABLE users SET UNLOGGED", "ALTER TABLE users RESET (fillfactor)"),
    Pair("blocking-command", "ALTER TABLE users SET TABLESPACE fast", "ALTER TABLE users SET WITHOUT CLUSTER"),
    Pair("blocking-command", "ALTER TABLE parts ATTACH PARTITION part FOR VALUES IN (1)", "CREATE TABLE part2 PARTITION OF parts FOR VALUES IN (2)"),
    Pair("blocking-command", "ALTER TABLE parts DETACH PARTITION part", "COMMIT;\n\nALTER TABLE parts DETACH PARTITION part CONCURRENTLY;\n\nBEGIN"),
    Pair("blocking-command", "LOCK TABLE users", "ANALYZE users"),
    Pair("blocking-command", "REFRESH MATERIALIZED VIEW v", "REFRESH MATERIALIZED VIEW CONCURRENTLY v"),
    Pair("blocking-command", "VACUUM (FULL) users", "COMMIT;\n\nVACUUM users;\n\nBEGIN"),
    Pair("blocking-command", "VACUUM FULL users", "COMMIT;\n\nVACUUM (ANALYZE) users;\n\nBEGIN"),
    Pair("blocking-command", "CLUSTER users USING i", "ALTER TABLE users CLUSTER ON i"),
    Pair("blocking-command", "REINDEX INDEX i", "COMMIT;\n\nREINDEX INDEX CONCURRENTLY i;\n\nBEGIN"),
    Pair("blocking-command", "REINDEX TABLE users", "COMMIT;\n\nREINDEX TABLE CONCURRENTLY users;\n\nBEGIN"),
    Pair("truncate", "TRUNCATE users", "DELETE FROM users WHERE id < 1000"),
    Pair("truncate", "TRUNCATE TABLE users CASCADE", fresh("TRUNCATE fresh")),
    Pair("opaque-block", "DO $body$ BEGIN EXECUTE 'DROP TABLE users; --'; END $body$", "COMMENT ON TABLE users IS $$DO it; TRUNCATE users$$"),
    Pair("unbounded-write", "UPDATE users SET a = 1", "UPDATE users SET a = 1 WHERE id BETWEEN 1 AND 1000"),
    Pair("unbounded-write", "DELETE FROM users", "DELETE FROM users WHERE id = 4"),
    Pair(
        "work-under-lock",
        f"{_LATER};\n\nUPDATE users SET later = a WHERE id < 1000",
        f"{_LATER};\n\nCOMMIT;\n\nBEGIN;\n\nUPDATE users SET later = a WHERE id < 1000",
    ),
    Pair("work-under-lock", f"{_LATER};\n\nINSERT INTO log SELECT id FROM users", "INSERT INTO log SELECT id FROM users"),
    Pair(
        "validate-same-transaction",
        "ALTER TABLE users ADD CONSTRAINT c CHECK (a > 0) NOT VALID;\n\nALTER TABLE users VALIDATE CONSTRAINT c",
        "ALTER TABLE users VALIDATE CONSTRAINT c",
    ),
    Pair(
        "concurrently-in-transaction",
        "CREATE INDEX CONCURRENTLY i ON users (a)",
        "COMMIT;\n\nCREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS i ON users (a);\n\nBEGIN",
    ),
    Pair("concurrently-in-transaction", "DROP INDEX CONCURRENTLY i", "COMMIT;\n\nDROP INDEX CONCURRENTLY j;\n\nBEGIN"),
    Pair(
        "change-behaviour",
        "CREATE TRIGGER t BEFORE INSERT ON users FOR EACH ROW EXECUTE FUNCTION f()",
        fresh("CREATE TRIGGER t BEFORE INSERT ON fresh FOR EACH ROW EXECUTE FUNCTION f()"),
    ),
    Pair("change-behaviour", "CREATE RULE r AS ON INSERT TO users DO INSTEAD NOTHING", fresh("CREATE RULE r AS ON INSERT TO fresh DO INSTEAD NOTHING")),
    Pair("change-behaviour", "ALTER TABLE users INHERIT parent", fresh("ALTER TABLE fresh INHERIT parent")),
    Pair("json-column", "ALTER TABLE users ADD COLUMN a JSON", "ALTER TABLE users ADD COLUMN a JSONB"),
    Pair("domain-constraint", "CREATE DOMAIN d AS int CHECK (VALUE > 0)", "CREATE DOMAIN d AS int"),
    Pair("domain-constraint", "ALTER DOMAIN d ADD CONSTRAINT c CHECK (VALUE > 0)", "ALTER DOMAIN d SET DEFAULT 1"),
]
