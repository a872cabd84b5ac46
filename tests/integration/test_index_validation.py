# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import contextlib
import json
from typing import Any
from urllib.parse import urlsplit

import psycopg2
import psycopg2.errors
import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.lastro.deploy.plugins.module_utils._index_validation_server import Item, Unit, ask
from ansible_collections.lastro.deploy.plugins.modules import index_validation
from demo.postgres import Postgres

from .sql import execute

SCHEMA = """
CREATE TABLE intervention_plans (id bigserial PRIMARY KEY, status varchar(20), needs_review boolean, last_reviewed_at timestamptz,
                                 review_frequency text, created_by_id bigint, payload jsonb, email varchar(200), "Odd Name" int);
CREATE INDEX ix_status_needs_review ON intervention_plans (status, needs_review);
CREATE INDEX ix_last_reviewed_at ON intervention_plans (last_reviewed_at DESC);
CREATE INDEX ix_review_frequency ON intervention_plans (review_frequency);
CREATE INDEX ix_created_by_id ON intervention_plans (created_by_id);
"""
TABLE = "intervention_plans"


def catalog(url: str) -> list[tuple[Any, ...]]:
    connection = psycopg2.connect(url)
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT oid, relname, relfilenode FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY oid")
            return cursor.fetchall()
    finally:
        connection.close()


@pytest.fixture
def plans(database: str) -> str:
    execute(database, SCHEMA)
    return database


def call(capsys: pytest.CaptureFixture[str], url: str, *indexes: dict[str, Any], **options: object) -> dict[str, Any]:
    with patch_module_args({"database_url": url, "indexes": [{"table": TABLE, **index} for index in indexes], **options}), pytest.raises(SystemExit):
        index_validation.main()
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answer


FOUR = (
    {"name": "ix_status_needs_review", "columns": ["status", "needs_review"]},
    {"name": "ix_last_reviewed_at", "columns": ["last_reviewed_at DESC"]},
    {"name": "ix_review_frequency", "columns": ["review_frequency"]},
    {"name": "ix_created_by_id", "columns": ["created_by_id"]},
)


@pytest.mark.parametrize("check_mode", [False, True])
def test_four_indexes_are_valid_and_used(plans: str, capsys: pytest.CaptureFixture[str], check_mode: bool) -> None:
    before = catalog(plans)
    answer = call(capsys, plans, *FOUR, _ansible_check_mode=check_mode)
    assert "failed" not in answer, answer
    assert (answer["valid"], answer["total"], answer["used"], answer["findings"], answer["changed"]) == (4, 4, 4, [], False)
    assert [plan["verdict"] for plan in answer["plans"]] == ["usable"] * 4
    assert answer["plans"][1]["query"] == "equality on last_reviewed_at DESC"
    assert catalog(plans) == before
    assert str(urlsplit(plans).password) not in json.dumps(answer)


def test_all_findings_at_once_and_their_sql_mends_them(plans: str, capsys: pytest.CaptureFixture[str]) -> None:
    execute(
        plans,
        "DROP INDEX ix_review_frequency",
        "DROP INDEX ix_status_needs_review",
        "CREATE INDEX ix_status_needs_review ON intervention_plans (needs_review, status)",
        "ALTER INDEX ix_created_by_id RENAME TO another_name",
    )
    wanted = (*FOUR[:1], {"name": "ix_last_reviewed_at", "columns": ["last_reviewed_at DESC NULLS LAST"]}, *FOUR[2:])
    answer = call(capsys, plans, *wanted)
    assert answer["failed"] is True
    assert (answer["valid"], answer["total"], answer["used"]) == (0, 4, 0)
    differences = {finding["index"]: finding["difference"] for finding in answer["findings"]}
    assert differences == {
        "ix_status_needs_review": "columns: expected (status, needs_review), found (needs_review, status)",
        "ix_last_reviewed_at": "column last_reviewed_at: expected last_reviewed_at DESC NULLS LAST, found last_reviewed_at DESC",
        "ix_review_frequency": "missing",
        "ix_created_by_id": "missing, but another_name has the same definition",
    }
    for index, difference in differences.items():
        assert f"\n- {index}: {difference}" in answer["msg"]
    assert answer["findings"][2]["expected"] == "CREATE INDEX ix_review_frequency ON public.intervention_plans USING btree (review_frequency)"
    assert answer["findings"][0]["actual"].endswith("USING btree (needs_review, status)")
    for finding in answer["findings"]:
        assert finding["remedy"] in answer["remedy"]["pt_BR"]
        execute(plans, *(statement for statement in finding["remedy"].split("; ") if statement))
    assert "failed" not in call(capsys, plans, *wanted)


@pytest.mark.parametrize(
    ("made", "expected", "difference"),
    [
        ("INDEX i ON {t} (lower(email))", {"columns": ["LOWER( email )"]}, ""),
        ("INDEX i ON {t} (lower(email))", {"columns": ["upper(email)"]}, "columns: expected (upper((email)::text)), found (lower((email)::text))"),
        ("UNIQUE INDEX i ON {t} (email)", {"columns": ["email"], "unique": True}, ""),
        ("UNIQUE INDEX i ON {t} (email)", {"columns": ["email"]}, "unique: expected no, found yes"),
        ("INDEX i ON {t} (email) WHERE status = 'x' AND needs_review", {"columns": ["email"], "where": "needs_review AND (status = 'x')"}, ""),
        ("INDEX i ON {t} (email) WHERE needs_review", {"columns": ["email"]}, "predicate: expected none, found needs_review"),
        ("INDEX i ON {t} (email)", {"columns": ["email"], "where": "needs_review"}, "predicate: expected needs_review, found none"),
        ("INDEX i ON {t} (email varchar_pattern_ops)", {"columns": ["email varchar_pattern_ops"]}, ""),
        ("INDEX i ON {t} (email varchar_pattern_ops)", {"columns": ["email"]}, "column email: expected email, found email varchar_pattern_ops"),
        ('INDEX i ON {t} (email COLLATE "C")', {"columns": ['email COLLATE "C"']}, ""),
        ('INDEX i ON {t} (email COLLATE "C")', {"columns": ["email"]}, 'column email: expected email, found email COLLATE "C"'),
        ("INDEX i ON {t} (email) INCLUDE (status)", {"columns": ["email"]}, "columns: expected (email), found (email) INCLUDE (status)"),
        ("INDEX i ON {t} (email) INCLUDE (status)", {"columns": ["email"], "match": "prefix"}, ""),
        ("INDEX i ON {t} (email, status DESC)", {"columns": ["email"], "match": "prefix"}, ""),
        ("INDEX i ON {t} (email, status DESC)", {"columns": ["status DESC"], "match": "prefix"}, "columns: expected (status DESC), found (email, status DESC)"),
        ("INDEX i ON {t} USING hash (email)", {"columns": ["email"], "method": "hash"}, ""),
        ("INDEX i ON {t} USING hash (email)", {"columns": ["email"]}, "method: expected btree, found hash"),
        ("INDEX i ON {t} USING gin (payload jsonb_path_ops)", {"columns": ["payload jsonb_path_ops"], "method": "gin"}, ""),
        (
            "INDEX i ON {t} USING gin (payload jsonb_path_ops)",
            {"columns": ["payload"], "method": "gin"},
            "column payload: expected payload, found payload jsonb_path_ops",
        ),
        ('INDEX i ON {t} ("Odd Name")', {"columns": ['"Odd Name"']}, ""),
        ("UNIQUE INDEX i ON {t} (email) NULLS NOT DISTINCT", {"columns": ["email"], "unique": True}, "nulls not distinct: expected no, found yes"),
        ("INDEX i ON {t} (created_by_id, (status || 'x'))", {"columns": ["created_by_id", "(status||'x')"]}, ""),
    ],
)
def test_definitions(plans: str, capsys: pytest.CaptureFixture[str], made: str, expected: dict[str, Any], difference: str) -> None:
    execute(plans, "CREATE " + made.format(t=TABLE))
    answer = call(capsys, plans, {"name": "i", **expected})
    assert [finding["difference"] for finding in answer["findings"]] == ([difference] if difference else [])
    assert answer["valid"] == (0 if difference else 1)
    if not difference:
        (plan,) = answer["plans"]
        assert plan["verdict"] == ("not_probed" if expected.get("method") == "gin" else "usable"), plan


def test_bad_items_are_named_and_the_others_still_validated(plans: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = catalog(plans)
    answer = call(
        capsys,
        plans,
        {"name": "a", "columns": ["nocol"]},
        {"name": "b", "table": "no_such_table", "columns": ["x"]},
        {"name": "c", "schema": "no_such_schema", "columns": ["x"]},
        {"name": "d", "columns": ["status", "needs_review +"]},
        {"name": "e", "columns": ["status"], "method": "nomethod"},
        {"name": "f", "columns": []},
        {"name": "g", "columns": ["status); DROP TABLE intervention_plans; COMMIT; SELECT (1"]},
        {"name": "h", "columns": ["status); CREATE INDEX second ON pg_temp.lastro_expected (email"]},
        FOUR[0],
        queries=[
            {"sql": "SELECT 1 FROM nowhere", "index": "x"},
            {"sql": "SELECT 1; COMMIT; DROP TABLE intervention_plans", "index": "y"},
            {"sql": "SELECT FROM WHERE", "table": "z"},
            {"sql": "SELECT 1 FROM intervention_plans WHERE created_by_id = 5", "index": "ix_created_by_id"},
        ],
    )
    found = {finding["index"]: finding["difference"] for finding in answer["findings"]}
    assert found == {
        "a": 'it cannot exist: column "nocol" does not exist',
        "b": "the table public.no_such_table does not exist",
        "c": "the schema no_such_schema does not exist",
        "d": 'it cannot exist: syntax error at or near "+"',
        "e": 'it cannot exist: access method "nomethod" does not exist',
        "f": "its columns are empty",
        "g": "its columns or predicate are more than one statement",
        "h": "its columns or predicate are more than one statement",
        "y": "PostgreSQL makes no plan for the query: it is more than one statement",
        "x": 'PostgreSQL makes no plan for the query: relation "nowhere" does not exist',
        "z": 'PostgreSQL makes no plan for the query: syntax error at or near "WHERE"',
    }
    assert (answer["valid"], answer["total"], answer["used"]) == (1, 9, 2)
    assert catalog(plans) == before


def test_an_invalid_index_is_told(plans: str, capsys: pytest.CaptureFixture[str]) -> None:
    execute(plans, "INSERT INTO intervention_plans (email) VALUES ('a'), ('a')")
    with pytest.raises(psycopg2.errors.UniqueViolation):
        execute(plans, "CREATE UNIQUE INDEX CONCURRENTLY i ON intervention_plans (email)")
    wanted = {"name": "i", "columns": ["email"], "unique": True}
    (finding,) = call(capsys, plans, wanted)["findings"]
    assert finding["difference"] == "it is invalid and not ready: building it was broken off, new rows are not in it"
    execute(plans, "DELETE FROM intervention_plans", finding["remedy"])
    assert call(capsys, plans, wanted)["valid"] == 1


def test_a_constraint_keeps_its_index(plans: str, capsys: pytest.CaptureFixture[str]) -> None:
    execute(plans, "ALTER TABLE intervention_plans ADD CONSTRAINT uq_email UNIQUE (email)")
    assert call(capsys, plans, {"name": "uq_email", "columns": ["email"], "unique": True})["valid"] == 1
    (finding,) = call(capsys, plans, {"name": "uq_email", "columns": ["status"], "unique": True})["findings"]
    assert finding["remedy"].startswith("-- uq_email belongs to the constraint uq_email")


def test_partitions(database: str, capsys: pytest.CaptureFixture[str]) -> None:
    execute(
        database,
        "CREATE TABLE events (day date, kind text) PARTITION BY RANGE (day)",
        "CREATE INDEX ix_kind ON events (kind)",
    )
    wanted = {"name": "ix_kind", "table": "events", "columns": ["kind"]}
    answer = call(capsys, database, wanted)
    assert (answer["valid"], answer["used"], answer["plans"][0]["verdict"]) == (1, 0, "too_small")
    execute(
        database,
        "CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM ('2026-01-01') TO ('2026-02-01')",
        "CREATE TABLE events_2 PARTITION OF events FOR VALUES FROM ('2026-02-01') TO ('2026-03-01')",
    )
    answer = call(capsys, database, wanted, queries=[{"sql": "SELECT 1 FROM events WHERE kind = 'x' AND day = '2026-01-02'", "index": "ix_kind"}])
    assert (answer["valid"], answer["used"], answer["plans"][0]["detail"].split(" using ")[1]) == (1, 1, "events_1_kind_idx")
    assert call(capsys, database, wanted)["plans"][0]["verdict"] == "usable"
    execute(database, "CREATE INDEX ix_half ON ONLY events (day)", "CREATE INDEX ix_half_1 ON events_1 (day)", "ALTER INDEX ix_half ATTACH PARTITION ix_half_1")
    (finding,) = call(capsys, database, {"name": "ix_half", "table": "events", "columns": ["day"]})["findings"]
    assert finding["difference"] == "1 of its table's partitions have no valid index of it: public.events_2"
    execute(database, "CREATE INDEX ix_half_2 ON events_2 (day)", "ALTER INDEX ix_half ATTACH PARTITION ix_half_2")
    assert call(capsys, database, {"name": "ix_half", "table": "events", "columns": ["day"]})["valid"] == 1


QUERY = "SELECT * FROM intervention_plans WHERE created_by_id = 77"


def test_chosen_needs_a_table_that_is_large_enough(plans: str, capsys: pytest.CaptureFixture[str]) -> None:
    execute(plans, "INSERT INTO intervention_plans (created_by_id) SELECT g FROM generate_series(1, 20) g", "ANALYZE intervention_plans")
    chosen = {"sql": QUERY, "index": "ix_created_by_id", "verdict": "chosen"}
    answer = call(capsys, plans, queries=[chosen, {**chosen, "verdict": "usable"}])
    assert [plan["verdict"] for plan in answer["plans"]] == ["too_small", "usable"]
    assert answer["plans"][0]["detail"] == "table too small to decide: Seq Scan on intervention_plans"
    assert (answer["used"], answer["findings"]) == (1, [])
    execute(
        plans, "INSERT INTO intervention_plans (created_by_id, email) SELECT g, repeat('x', 150) FROM generate_series(1, 20000) g", "ANALYZE intervention_plans"
    )
    answer = call(capsys, plans, queries=[chosen, {"sql": QUERY, "table": "public.intervention_plans", "verdict": "chosen"}])
    assert [plan["verdict"] for plan in answer["plans"]] == ["chosen", "chosen"]
    wide = {"sql": "SELECT * FROM intervention_plans WHERE created_by_id > 1", "index": "ix_created_by_id", "verdict": "chosen"}
    (finding,) = call(capsys, plans, queries=[wide])["findings"]
    assert finding["difference"] == "the planner could use it, but does not choose it: Seq Scan on intervention_plans"
    assert finding["remedy"] == f"EXPLAIN {wide['sql']};"


@pytest.mark.parametrize(
    ("query", "actual"),
    [
        ({"sql": "SELECT * FROM intervention_plans WHERE created_by_id = 5.0", "index": "ix_created_by_id"}, "Seq Scan on intervention_plans"),
        ({"sql": "SELECT * FROM intervention_plans WHERE payload IS NULL;", "table": TABLE}, "Seq Scan on intervention_plans"),
        ({"sql": QUERY, "table": "other.intervention_plans"}, "ix_created_by_id"),
        ({"sql": "SELECT 1", "index": "ix_created_by_id"}, "a plan that reads no table"),
        ({"sql": "SELECT 1", "table": TABLE, "verdict": "chosen"}, "a plan that reads no table"),
    ],
)
def test_queries_that_cannot_use_it(plans: str, capsys: pytest.CaptureFixture[str], query: dict[str, Any], actual: str) -> None:
    answer = call(capsys, plans, queries=[query])
    assert actual in answer["findings"][0]["difference"]
    assert answer["plans"][0]["verdict"] == "not_used"


def test_a_role_without_rights(postgres: Postgres, plans: str, capsys: pytest.CaptureFixture[str]) -> None:
    name = urlsplit(plans).path.lstrip("/")
    role = f"reader_{name}"
    execute(plans, f"CREATE ROLE {role} LOGIN PASSWORD 'hunter-fourteen'", f"REVOKE TEMPORARY ON DATABASE {name} FROM PUBLIC")
    url = postgres.url(name, user=role, password="hunter-fourteen")
    try:
        expression = {"name": "ix_last_reviewed_at", "columns": ["last_reviewed_at desc"]}
        answer = call(capsys, url, FOUR[0], expression, {"name": "absent", "columns": ["lower(email)"]})
        found = {finding["index"]: (finding["difference"], finding["remedy"]) for finding in answer["findings"]}
        assert found["absent"][0].startswith("missing (compared as text: permission denied")
        assert found["ix_status_needs_review"] == (
            "the planner cannot be asked: permission denied for table intervention_plans",
            f"GRANT SELECT ON public.intervention_plans TO {role};",
        )
        assert (answer["valid"], answer["used"]) == (2, 0)
        assert "hunter-fourteen" not in json.dumps(answer)
        execute(plans, found["ix_status_needs_review"][1])
        answer = call(capsys, url, FOUR[0], expression)
        assert (answer["valid"], answer["used"]) == (2, 2)
    finally:
        execute(plans, f"DROP OWNED BY {role}", f"DROP ROLE {role}")


def test_a_locked_table_is_waited_for_no_longer_than_asked(plans: str, capsys: pytest.CaptureFixture[str]) -> None:
    holder = psycopg2.connect(plans)
    try:
        with holder.cursor() as cursor:
            cursor.execute("LOCK TABLE intervention_plans IN ACCESS EXCLUSIVE MODE")
        answer = call(capsys, plans, {"name": "ix_last_reviewed_at", "columns": ["last_reviewed_at DESC"]}, lock_timeout="50ms")
    finally:
        holder.close()
    assert answer["problem"].endswith("refused the validation: canceling statement due to lock timeout.")
    assert "lock_timeout" in answer["remedy"]["pt_BR"]


def test_of_two_equal_indexes_the_planner_takes_one(plans: str, capsys: pytest.CaptureFixture[str]) -> None:
    execute(plans, "CREATE INDEX twin ON intervention_plans (created_by_id)")
    answer = call(capsys, plans, FOUR[3], {**FOUR[3], "name": "twin"})
    assert sorted(plan["verdict"] for plan in answer["plans"]) == ["other_index", "usable"]
    assert (answer["valid"], answer["used"], answer["findings"]) == (2, 1, [])


def test_a_longer_index_is_used_where_a_shorter_one_serves_its_first_column(plans: str, capsys: pytest.CaptureFixture[str]) -> None:
    execute(plans, "INSERT INTO intervention_plans (status, needs_review) SELECT n % 7, n % 2 = 0 FROM generate_series(1, 5000) n")
    execute(plans, "CREATE INDEX shorter ON intervention_plans (status)", "ANALYZE intervention_plans")
    answer = call(capsys, plans, FOUR[0], {"name": "shorter", "columns": ["status"]})
    assert [(plan["verdict"], plan["index"]) for plan in answer["plans"]] == [("usable", "ix_status_needs_review"), ("usable", "shorter")]


def test_nothing_more_is_asked_once_the_answer_is_there(database: str) -> None:
    queries = ("SELECT 'one'", "SELECT current_setting('lastro.said') || ' two'", "SELECT 1 / 0")
    with contextlib.closing(psycopg2.connect(database)) as connection:
        connection.autocommit = True
        answers = ask(connection, [Unit((Item(ask=queries, until="two"), Item(ask=queries[:2]), Item(ask=queries, until="three")))])
    assert [answer.said for answer in answers] == [("one", "one two"), ("one", "one two"), ()]
    assert [answer.message for answer in answers] == ["", "", "division by zero"]


def test_a_valid_index_that_the_planner_must_not_use_yet(plans: str, capsys: pytest.CaptureFixture[str]) -> None:
    older = psycopg2.connect(plans)
    try:
        with older.cursor() as cursor:
            cursor.execute("SELECT pg_current_xact_id()")
        execute(plans, "UPDATE pg_index SET indcheckxmin = true WHERE indexrelid = 'ix_created_by_id'::regclass")
        answer = call(capsys, plans, FOUR[3])
    finally:
        older.close()
    assert answer["findings"][0]["difference"] == "the planner cannot use it"
    assert (answer["valid"], answer["plans"][0]["verdict"]) == (1, "not_used")
    assert call(capsys, plans, FOUR[3])["used"] == 1


def test_a_server_that_cannot_be_asked(plans: str, capsys: pytest.CaptureFixture[str]) -> None:
    answer = call(capsys, plans, *FOUR, statement_timeout="soon")
    assert answer["failed"] is True
    assert 'refused the validation: invalid value for parameter "statement_timeout"' in answer["problem"]
    answer = call(capsys, plans + "_gone", *FOUR)
    assert "cannot be reached" in answer["problem"]
