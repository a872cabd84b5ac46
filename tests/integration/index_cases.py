# SPDX-License-Identifier: GPL-3.0-or-later
"""Each kind of difference between a contract and a database, and its right twin; what a database has, what is asked for, and the verdict."""

from __future__ import annotations

import dataclasses
import typing as t

import psycopg2

TABLE = """
CREATE TABLE {t} (id bigint NOT NULL, status varchar(20), needs_review boolean, at timestamptz, freq text, owner bigint NOT NULL, payload jsonb,
                  email varchar(200), "Odd Name" int, "order" int, span int4range, day date)
"""
PARTITIONED = """
CREATE TABLE {t} (day date NOT NULL, kind text) PARTITION BY RANGE (day);
CREATE TABLE {t}_1 PARTITION OF {t} FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE {t}_2 PARTITION OF {t} FOR VALUES FROM ('2026-02-01') TO ('2026-03-01')
"""


@dataclasses.dataclass(frozen=True)
class Case:
    """*made* is run in a table of the case's own, C({t}); its index is C({t}_i). *kind* is that of the finding, empty where the entry is fulfilled."""

    made: str
    entry: dict[str, t.Any]
    kind: str = ""
    says: str = ""
    since: int = 12
    table: str = TABLE
    named: bool = True
    broken: bool = False
    """Whether the last statement of *made* fails, and leaves what a broken build leaves."""

    def asked(self, number: int) -> dict[str, t.Any]:
        """The entry as the module takes it."""
        table = f"case_{number}"
        return {"table": table, **({"name": f"{table}_i"} if self.named else {}), **self.entry}

    def make(self, connection: psycopg2.extensions.connection, number: int) -> None:
        """Bring the database to where it is compared."""
        *statements, last = [part.strip() for part in f"{self.table};{self.made}".format(t=f"case_{number}").split(";")]
        with connection.cursor() as cursor:
            for statement in filter(None, statements):
                cursor.execute(statement)
            try:
                cursor.execute(last or "SELECT 1")
            except psycopg2.errors.UniqueViolation:
                assert self.broken
            else:
                assert not self.broken


def pair(made: str, right: dict[str, t.Any], wrong: dict[str, t.Any], says: str, *, kind: str = "different", since: int = 12) -> list[Case]:
    """An index with the entry that it fulfils and one that it does not."""
    return [Case(made, right, since=since), Case(made, wrong, kind, says, since=since)]


def cols(*columns: str | dict[str, str], **more: object) -> dict[str, t.Any]:
    """An entry."""
    return {"columns": list(columns), **more}


I = "CREATE INDEX {t}_i ON {t} "  # noqa: E741
U = "CREATE UNIQUE INDEX {t}_i ON {t} "
DUPLICATE = "INSERT INTO {t} (id, owner) VALUES (1, 1), (1, 2);"
BROKEN = DUPLICATE + "CREATE UNIQUE INDEX CONCURRENTLY {t}_i ON {t} (id)"

CASES: list[Case] = [
    *pair(I + "(status, needs_review)", cols("status", "needs_review"), cols("needs_review", "status"), "columns: expected (needs_review, status)"),
    *pair(I + "(status)", cols("status"), cols("status", "freq"), "columns: expected (status, freq), found (status)"),
    *pair(I + "(status, freq)", cols("status", match="prefix"), cols("freq", match="prefix"), "columns: expected (freq)"),
    *pair(I + "(status, freq)", cols("STATUS", "Freq ASC"), cols("status"), "columns: expected (status), found (status, freq)"),
    *pair(I + "(at DESC)", cols("at desc"), cols("at"), "column at: expected at, found at DESC"),
    *pair(I + "(at DESC)", cols("at DESC NULLS FIRST"), cols("at DESC NULLS LAST"), "column at: expected at DESC NULLS LAST, found at DESC"),
    *pair(I + "(at NULLS FIRST)", cols("at nulls first"), cols("at NULLS LAST"), "column at: expected at, found at NULLS FIRST"),
    *pair(I + "(at)", cols({"column": "at", "direction": "asc"}), cols({"column": "at", "direction": "desc"}), "column at: expected at DESC, found at"),
    *pair(I + "(at DESC NULLS LAST)", cols({"column": "at", "direction": "desc", "nulls": "last"}), cols({"column": "at", "nulls": "last"}), "column at"),
    *pair(U + "(email)", cols("email", unique=True), cols("email"), "unique: expected no, found yes"),
    *pair(I + "(email)", cols("email"), cols("email", unique=True), "unique: expected yes, found no"),
    *pair(U + "(email)", cols("email", match="prefix"), cols("freq", match="prefix"), "columns"),
    *pair(I + "(email) INCLUDE (status, freq)", cols("email", include=["status", "freq"]), cols("email"), "columns: expected (email), found (email) INCLUDE"),
    *pair(I + "(email) INCLUDE (status)", cols("email", include=["status"]), cols("email", "status"), "columns: expected (email, status)"),
    *pair(I + "(email) INCLUDE (freq, status)", cols("email", match="prefix"), cols("email", include=["status", "freq"]), "columns"),
    *pair(I + "(email) WHERE needs_review", cols("email", where="needs_review"), cols("email"), "predicate: expected none, found needs_review"),
    *pair(I + "(email)", cols("email"), cols("email", where="needs_review"), "predicate: expected needs_review, found none"),
    *pair(I + "(email) WHERE status = 'open'", cols("email", where="(status)='open'"), cols("email", where="status = 'Open'"), "predicate"),
    *pair(
        I + "(email) WHERE status = 'x' AND needs_review AND owner > 3",
        cols("email", where="owner > 3 AND (needs_review) AND status = 'x'"),
        cols("email", where="needs_review AND status = 'x'"),
        "predicate",
    ),
    *pair(I + "(email) WHERE status IN ('a', 'b')", cols("email", where="status IN ('a','b')"), cols("email", where="status IN ('b','c')"), "predicate"),
    *pair(I + "(email) WHERE owner > 1 OR needs_review", cols("email", where="owner>1 or needs_review"), cols("email", where="owner>1"), "predicate"),
    *pair(I + "(email) WHERE email IS NOT NULL", cols("email", where="email is not null"), cols("email", where="email IS NULL"), "predicate"),
    Case(I + "(email)", cols("email", match="prefix", where="needs_review")),
    *pair(I + "(lower(email))", cols("LOWER( email )"), cols("upper(email)"), "columns: expected (upper((email)::text))"),
    *pair(I + "(lower(email))", cols({"expression": "lower(email)"}), cols("email"), "columns: expected (email)"),
    *pair(I + "((status || freq), owner)", cols("(status||freq)", "owner"), cols("(freq||status)", "owner"), "columns"),
    *pair(I + "((payload->>'a'))", cols("(payload ->> 'a')"), cols("(payload ->> 'b')"), "columns"),
    *pair(I + "(email varchar_pattern_ops)", cols("email varchar_pattern_ops"), cols("email"), "column email: expected email, found email varchar_pattern_ops"),
    *pair(I + "(freq text_pattern_ops)", cols({"column": "freq", "opclass": "text_pattern_ops"}), cols("freq text_ops"), "column freq"),
    *pair(I + "(freq)", cols("freq text_ops"), cols("freq text_pattern_ops"), "column freq: expected freq text_pattern_ops, found freq"),
    *pair(I + '(email COLLATE "C")', cols('email COLLATE "C"'), cols("email"), 'column email: expected email, found email COLLATE "C"'),
    *pair(I + '(email COLLATE "C")', cols({"column": "email", "collation": "C"}), cols('email COLLATE "POSIX"'), "column email"),
    *pair(I + "USING hash (email)", cols("email", method="hash"), cols("email"), "method: expected btree, found hash"),
    *pair(I + "USING gin (payload)", cols("payload", method="gin"), cols("payload jsonb_path_ops", method="gin"), "column payload"),
    *pair(I + "USING gin (payload jsonb_path_ops)", cols("payload jsonb_path_ops", method="gin"), cols("payload", method="gin"), "column payload"),
    *pair(I + "USING gist (span)", cols("span", method="gist"), cols("span", method="spgist"), "method: expected spgist, found gist"),
    *pair(I + "USING brin (at)", cols("at", method="brin"), cols("at"), "method: expected btree, found brin"),
    *pair(I + "USING gin (to_tsvector('simple', freq))", cols("to_tsvector('simple', freq)", method="gin"), cols("freq", method="btree"), "method"),
    *pair(
        I + "USING gist (to_tsvector('simple', freq) tsvector_ops (siglen = 64))",
        cols("to_tsvector('simple', freq) tsvector_ops (siglen=64)", method="gist"),
        cols("to_tsvector('simple', freq)", method="gist"),
        "column to_tsvector",
        since=13,
    ),
    *pair(I + '("Odd Name", "order")', cols('"Odd Name"', '"order"'), cols('"order"', '"Odd Name"'), "columns"),
    *pair(I + '("order")', cols({"column": "order"}), cols({"column": "Odd Name"}), "columns"),
    *pair(
        U + "(email) NULLS NOT DISTINCT",
        cols("email", unique=True, nulls_not_distinct=True),
        cols("email", unique=True),
        "nulls not distinct: expected no, found yes",
        since=15,
    ),
    *pair(U + "(email)", cols("email", unique=True), cols("email", unique=True, nulls_not_distinct=True), "nulls not distinct: expected yes", since=15),
    # constraints
    *pair("ALTER TABLE {t} ADD CONSTRAINT {t}_i UNIQUE (email)", cols("email", unique=True), cols("freq", unique=True), "columns", kind="different_constraint"),
    *pair(
        "ALTER TABLE {t} ADD CONSTRAINT {t}_i UNIQUE (email)",
        cols("email", unique=True, constraint="unique"),
        cols("email", unique=True, constraint="none"),
        "constraint: expected none, found unique",
        kind="constraint",
    ),
    *pair(
        U + "(email)",
        cols("email", unique=True, constraint="none"),
        cols("email", unique=True, constraint="unique"),
        "constraint: expected unique, found none",
        kind="constraint",
    ),
    *pair(
        "ALTER TABLE {t} ADD CONSTRAINT {t}_i PRIMARY KEY (id)",
        cols("id", unique=True, constraint="primary_key"),
        cols("id", unique=True, constraint="unique"),
        "constraint: expected unique, found primary_key",
        kind="constraint",
    ),
    *pair(
        "ALTER TABLE {t} ADD CONSTRAINT {t}_i EXCLUDE USING gist (span WITH &&)",
        cols("span", method="gist", constraint="exclusion"),
        cols("span", method="gist", constraint="none"),
        "constraint: expected none, found exclusion",
        kind="constraint",
    ),
    # names
    Case("", cols("email"), "missing", "missing"),
    Case("CREATE INDEX {t}_other ON {t} (email)", cols("email"), "other_name", "missing, but {t}_other has the same definition"),
    Case("CREATE INDEX {t}_other ON {t} (lower(email))", cols("LOWER(email)"), "other_name", "missing, but {t}_other has the same definition"),
    Case("CREATE INDEX {t}_other ON {t} (email)", cols("email"), named=False),
    Case("CREATE INDEX {t}_other ON {t} (email)", cols("freq"), "missing", "missing", named=False),
    Case("CREATE TABLE {t}_b (email text);CREATE INDEX {t}_i ON {t}_b (email)", cols("email"), "name_taken", "missing; an index of this name belongs to"),
    Case("CREATE INDEX {t}_other ON {t} (email DESC)", cols("email"), "missing", "missing"),
    # validity
    Case(BROKEN, cols("id", unique=True), "not_ready", "it is invalid and not ready", broken=True),
    Case(BROKEN, cols("id", unique=True), "not_ready", "it is invalid and not ready", broken=True, named=False),
    Case(BROKEN.replace("_i ON", "_other ON"), cols("id", unique=True), "missing", "missing", broken=True),
    Case(I + "(email);UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{t}_i'::regclass", cols("email"), "invalid", "it is invalid: building"),
    Case(
        I + "(email);UPDATE pg_index SET indisvalid = false, indisready = false, indislive = false WHERE indexrelid = '{t}_i'::regclass",
        cols("email"),
        "not_live",
        "it is being dropped",
    ),
    # partitions
    Case("CREATE INDEX {t}_i ON {t} (kind)", cols("kind"), table=PARTITIONED),
    Case("CREATE INDEX {t}_i ON {t} (kind)", cols("day"), "different", "columns", table=PARTITIONED),
    Case("CREATE INDEX {t}_i ON ONLY {t} (kind)", cols("kind"), "half_attached", "2 of its table's partitions", table=PARTITIONED),
    Case(
        "CREATE INDEX {t}_i ON ONLY {t} (kind);CREATE INDEX {t}_1i ON {t}_1 (kind);ALTER INDEX {t}_i ATTACH PARTITION {t}_1i",
        cols("kind"),
        "half_attached",
        "1 of its table's partitions have no valid index of it: public.{t}_2",
        table=PARTITIONED,
    ),
    Case(
        "CREATE INDEX {t}_i ON ONLY {t} (kind);CREATE INDEX {t}_1i ON {t}_1 (kind);ALTER INDEX {t}_i ATTACH PARTITION {t}_1i;"
        "CREATE INDEX {t}_2i ON {t}_2 (kind);ALTER INDEX {t}_i ATTACH PARTITION {t}_2i",
        cols("kind"),
        table=PARTITIONED,
    ),
    # entries that cannot be asked for
    Case("", cols("nocol"), "cannot_exist", 'it cannot exist: column "nocol" does not exist'),
    Case("", cols("email +"), "cannot_exist", "it cannot exist: syntax error"),
    Case("", cols("email", method="nomethod"), "cannot_exist", 'it cannot exist: access method "nomethod" does not exist'),
    Case("", cols("payload", method="hash", unique=True), "cannot_exist", "it cannot exist: access method"),
    Case("", cols("email", where="now() > at"), "cannot_exist", "it cannot exist: functions in index predicate"),
    Case("", cols("email", table="no_such_table"), "no_table", "the table public.no_such_table does not exist"),
    Case("", cols("email", schema="no_such_schema"), "no_schema", "the schema no_such_schema does not exist"),
    Case("", cols("email); DROP TABLE intervention_plans; SELECT (1"), "bad_entry", "its columns or predicate are more than one statement"),
]

__all__ = ("CASES", "Case", "cols")
