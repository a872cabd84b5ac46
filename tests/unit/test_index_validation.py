# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import typing as t

import pytest
from ansible_collections.lastro.deploy.plugins.module_utils import _index_validation as validation
from ansible_collections.lastro.deploy.plugins.module_utils import _index_validation_compare as compare
from ansible_collections.lastro.deploy.plugins.module_utils import _index_validation_contract as contract
from ansible_collections.lastro.deploy.plugins.module_utils import _index_validation_findings as findings
from ansible_collections.lastro.deploy.plugins.module_utils import _index_validation_scans as scans
from ansible_collections.lastro.deploy.plugins.module_utils._errors import LastroError
from ansible_collections.lastro.deploy.plugins.module_utils._index_validation_compare import Definition, Index
from ansible_collections.lastro.deploy.plugins.module_utils._index_validation_contract import Column, Expected
from ansible_collections.lastro.deploy.plugins.module_utils._postgres import ConnectionSettings


def definition(*names: str, method: str = "btree", unique: bool = False, predicate: str = "", included: tuple[str, ...] = ()) -> Definition:
    columns = (*(Column(name) for name in names), *(Column(name, included=True) for name in included))
    return Definition(method, unique, columns, compare.and_terms(predicate), predicate)


def index(name: str, one: Definition, **facts: t.Any) -> Index:  # noqa: ANN401
    return Index(name, one, text=f"CREATE INDEX {name}", **facts)


@pytest.mark.parametrize(
    ("predicate", "terms"),
    [
        ("", set()),
        ("(a = 1)", {"a = 1"}),
        ("((a = 1) AND (b = 2))", {"a = 1", "b = 2"}),
        ("((b = 2) AND ((a = 1) AND (c = 3)))", {"b = 2", "(a = 1) AND (c = 3)"}),
        ("((a = ' AND )'::text) AND (\"x AND y\" IS NULL))", {"a = ' AND )'::text", '"x AND y" IS NULL'}),
        ("((a = 1) OR ((b = 2) AND (c = 3)))", {"(a = 1) OR ((b = 2) AND (c = 3))"}),
        ("(a = ANY (ARRAY[1, 2])) AND (b)", {"a = ANY (ARRAY[1, 2])", "b"}),
        ("(a", {"(a"}),
    ],
)
def test_and_terms(predicate: str, terms: set[str]) -> None:
    assert compare.and_terms(predicate) == terms


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("lower((email)::text)", "LOWER( email )"),
        ("(status)::character varying(20) = 'Open'::character varying", "status = 'Open'"),
        ("a = ANY (ARRAY['X'::text])", "a = any(array['X'])"),
    ],
)
def test_normalised_forgets_what_postgresql_adds(one: str, other: str) -> None:
    assert compare.normalised(one) == compare.normalised(other)


def test_normalised_keeps_the_case_of_literals() -> None:
    assert compare.normalised("a = 'X'") != compare.normalised("a = 'x'")


@pytest.mark.parametrize(
    ("expected", "actual", "match", "words"),
    [
        (definition("a"), definition("a"), "exact", []),
        (definition("a"), definition("a", method="hash"), "exact", ["method: expected btree, found hash"]),
        (definition("a"), definition("a", unique=True), "exact", ["unique: expected no, found yes"]),
        (definition("a"), definition("a", unique=True), "prefix", []),
        (definition("a", "b"), definition("b", "a"), "exact", ["columns: expected (a, b), found (b, a)"]),
        (definition("a"), definition("a", "b"), "prefix", []),
        (definition("b"), definition("a", "b"), "prefix", ["columns: expected (b), found (a, b)"]),
        (definition("a"), definition("a", included=("b",)), "exact", ["columns: expected (a), found (a) INCLUDE (b)"]),
        (definition("a"), definition("a", included=("b",)), "prefix", []),
        (definition("a", predicate="(b) AND (c)"), definition("a", predicate="(c) AND (b)"), "exact", []),
        (definition("a", predicate="b"), definition("a"), "exact", ["predicate: expected b, found none"]),
        (definition("a", predicate="b"), definition("a"), "prefix", []),
        (definition("a"), definition("a", predicate="b"), "prefix", ["predicate: expected none, found b"]),
        (
            Definition("btree", False, (Column("a", descending=True, nulls_first=True),)),
            Definition("btree", False, (Column("a", descending=True),), nulls_not_distinct=True),
            "exact",
            ["nulls not distinct: expected no, found yes", "column a: expected a DESC, found a DESC NULLS LAST"],
        ),
        (
            Definition("btree", False, (Column("a"),)),
            Definition("btree", False, (Column("a", nulls_first=True, opclass="text_pattern_ops", collation='"C"', opclass_options="x=1"),)),
            "exact",
            ['column a: expected a, found a COLLATE "C" text_pattern_ops (x=1) NULLS FIRST'],
        ),
    ],
)
def test_differences(expected: Definition, actual: Definition, match: str, words: list[str]) -> None:
    assert [one.en for one in compare.differences(expected, actual, match)] == words


AB = Expected("public", "t", ("a", "b"), name="ix")


def decide(expected: Expected, *indexes: Index) -> tuple[str, str, str]:
    wanted = definition(*expected.columns)
    found, finding = findings.decide(expected, indexes, lambda one: compare.differences(wanted, one.definition, expected.match))
    return (found.name if found else "", finding.difference.en if finding else "", finding.remedy if finding else "")


def test_decide_by_name() -> None:
    good = definition("a", "b")
    assert decide(AB, index("ix", good)) == ("ix", "", "")
    assert decide(AB) == ("", "missing", "CREATE INDEX CONCURRENTLY ix ON public.t USING btree (a, b);")
    assert decide(AB, index("other", good)) == ("", "missing, but other has the same definition", "ALTER INDEX public.other RENAME TO ix;")
    assert decide(AB, index("other", good, valid=False))[1] == "missing"
    assert decide(AB, index("ix", good, valid=False))[1:] == (
        "it is invalid: building it was broken off, queries do not use it",
        "REINDEX INDEX CONCURRENTLY public.ix;",
    )
    assert decide(AB, index("ix", good, valid=False, building="building index, 20 %"))[1] == "it is still being built: building index, 20 %"
    half = decide(AB, index("ix", good, valid=False, partitioned=True, uncovered=("public.t_1", "s.t_2")))
    assert half[1] == "2 of its table's partitions have no valid index of it: public.t_1, s.t_2"
    assert half[2].startswith("CREATE INDEX CONCURRENTLY t_1_ix ON public.t_1 USING btree (a, b); ALTER INDEX public.ix ATTACH PARTITION public.t_1_ix; CREATE")
    assert decide(AB, index("ix", good, valid=False, partitioned=True))[1] == "it is invalid, though each partition has its index"
    assert decide(AB, index("ix", good, valid=False, ready=False))[1].startswith("it is invalid and not ready")
    assert decide(AB, index("ix", good, valid=False, ready=False, live=False))[1].startswith("it is being dropped")
    _unused, difference, remedy = decide(AB, index("ix", definition("b", "a")))
    assert difference == "columns: expected (a, b), found (b, a)"
    assert remedy == (
        "CREATE INDEX CONCURRENTLY ix_lastro_new ON public.t USING btree (a, b); DROP INDEX CONCURRENTLY public.ix; "
        "ALTER INDEX public.ix_lastro_new RENAME TO ix;"
    )
    assert decide(AB, index("ix", definition("b"), constraint="uq"))[2] == "-- ix belongs to the constraint uq of public.t: change that in a migration"


def test_decide_without_a_name() -> None:
    nameless = Expected("public", "t", ("a",), match="prefix")
    broken = index("one", definition("a"), valid=False)
    assert decide(nameless, broken, index("two", definition("a", "b"))) == ("two", "", "")
    assert decide(nameless, broken)[1].startswith("it is invalid")
    assert decide(nameless, index("two", definition("b")))[1:] == ("missing", "CREATE INDEX CONCURRENTLY ON public.t USING btree (a);")
    assert nameless.label == "t(a)"


def test_names_are_quoted_where_needed() -> None:
    odd = Expected("My Schema", 'a"b', ('"Id"',), name="Ix", unique=True, where="x > 0")
    assert odd.create("Ix") == 'CREATE UNIQUE INDEX CONCURRENTLY "Ix" ON "My Schema"."a""b" USING btree ("Id") WHERE (x > 0)'
    assert findings.described(odd) == 'CREATE UNIQUE INDEX "Ix" ON "My Schema"."a""b" USING btree ("Id") WHERE (x > 0)'


@pytest.mark.parametrize(
    ("expected", "actual", "fits", "words"),
    [
        (Expected("s", "t", ("a",)), definition("a"), True, []),
        (Expected("s", "t", ("a ASC",)), definition("a"), True, []),
        (Expected("s", "t", ("A desc nulls last",)), Definition("btree", False, (Column("a", descending=True),)), True, []),
        (Expected("s", "t", ('"a"',), include=("b",)), definition("a", included=("b",)), True, []),
        (Expected("s", "t", ("lower((a)::text)",)), definition("lower((a)::text)"), True, []),
        (Expected("s", "t", ("LOWER(a)",)), definition("lower((a)::text)"), False, []),
        (Expected("s", "t", ("a",), match="prefix"), definition("a", "b"), True, []),
        (Expected("s", "t", ("a",), method="hash"), definition("a"), False, ["method: expected hash, found btree"]),
        (Expected("s", "t", ("a",), unique=True), definition("a"), False, ["unique: expected yes, found no"]),
        (Expected("s", "t", ("a",)), definition("a", included=("b",)), False, ["columns: expected (a), found (a) INCLUDE (b)"]),
        (Expected("s", "t", ("a",), where="b = 1 AND c"), definition("a", predicate="((c) AND (b = 1))"), True, []),
        (Expected("s", "t", ("a",), where="b = 'x'"), definition("a", predicate="((b)::text = 'x'::text)"), False, []),
        (Expected("s", "t", ("a",), where="b"), definition("a"), False, ["predicate: expected b, found none"]),
    ],
)
def test_texts_are_compared_where_postgresql_cannot_be_asked(expected: Expected, actual: Definition, fits: bool, words: list[str]) -> None:
    assert compare.plainly_fits(expected, index("i", actual)) is fits
    assert [one.en for one in compare.text_differences(expected, index("i", actual))] == words


def test_without_psycopg2_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ansible_collections.lastro.deploy.plugins.module_utils._postgres.HAS_PSYCOPG2", False)
    with pytest.raises(LastroError, match="no psycopg2"):
        validation.validate(ConnectionSettings(database="x"), validation.Contract())


UNIQUE = definition("a", unique=True)


@pytest.mark.parametrize(
    ("constraint", "there", "remedy"),
    [
        ("any", {"constraint": "uq", "constraint_kind": "unique"}, ""),
        ("unique", {"constraint": "uq", "constraint_kind": "unique"}, ""),
        ("none", {}, ""),
        ("unique", {}, "ALTER TABLE public.t ADD CONSTRAINT uq UNIQUE USING INDEX uq;"),
        ("primary_key", {}, "ALTER TABLE public.t ADD CONSTRAINT uq PRIMARY KEY USING INDEX uq;"),
        ("exclusion", {}, "-- make the exclusion constraint of public.t in a migration"),
        (
            "none",
            {"constraint": "uq", "constraint_kind": "unique"},
            "CREATE UNIQUE INDEX CONCURRENTLY uq_lastro_new ON public.t USING btree (a); ALTER TABLE public.t DROP CONSTRAINT uq;",
        ),
        ("primary_key", {"constraint": "uq", "constraint_kind": "unique"}, "-- uq belongs to the constraint uq of public.t: change that in a migration"),
    ],
)
@pytest.mark.parametrize("name", ["uq", ""])
def test_what_an_index_backs(constraint: str, there: dict[str, t.Any], remedy: str, name: str) -> None:
    expected = Expected("public", "t", ("a",), name=name, unique=True, constraint=constraint)
    found, finding = findings.decide(expected, [index("uq", UNIQUE, **there)], lambda one: compare.differences(UNIQUE, one.definition, "exact"))
    assert (finding.remedy if finding else "", bool(found)) == (remedy, not remedy)


def test_a_missing_constraint_is_made_with_its_index() -> None:
    expected = Expected("public", "t", ("a",), name="uq", unique=True, constraint="unique")
    made = "CREATE UNIQUE INDEX CONCURRENTLY uq ON public.t USING btree (a); ALTER TABLE public.t ADD CONSTRAINT uq UNIQUE USING INDEX uq;"
    assert findings.missing(expected).remedy == made
    assert findings.missing(expected, elsewhere="public.u").difference == (
        "missing; an index of this name belongs to public.u",
        "falta; um índice com esse nome pertence a public.u",
    )


@pytest.mark.parametrize(
    ("column", "text"),
    [
        (" status DESC ", "status DESC"),
        ({"column": "Odd Name", "direction": "desc", "nulls": "last"}, '"Odd Name" DESC NULLS LAST'),
        ({"column": "order", "collation": "C", "opclass": "text_pattern_ops", "direction": "asc"}, '"order" COLLATE "C" text_pattern_ops'),
        ({"expression": "lower(email)"}, "(lower(email))"),
        ({"column": "a", "expression": "b"}, None),
        ({"direction": "desc"}, None),
        ({"column": "a", "direction": "down"}, None),
        ({"column": "a", "nulls": "never"}, None),
        ({"column": "a", "size": 3}, None),
        (7, None),
    ],
)
def test_columns_of_the_contract(column: object, text: str | None) -> None:
    assert contract.column_sql(column) == text


ENTRY: dict[str, t.Any] = {
    "schema": "public",
    "table": "t",
    "columns": ["a"],
    "unique": False,
    "nulls_not_distinct": False,
    "include": [],
    "method": "btree",
    "constraint": "any",
    "match": "exact",
}


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ({}, ""),
        ({"columns": []}, "its columns are empty"),
        ({"columns": [" "]}, "its columns are empty"),
        ({"columns": [{"size": 3}]}, "one of its columns is neither a text nor"),
        ({"nulls_not_distinct": True}, "nulls_not_distinct is for unique indexes alone"),
        ({"where": "a; DROP TABLE t"}, "more than one statement"),
    ],
)
def test_bad_entries_say_what_is_wrong(entry: dict[str, t.Any], problem: str) -> None:
    found = contract.expected_from({**ENTRY, **entry}).problem
    assert problem in found.en if problem and found else found is None
    assert not found or found.pt_BR != found.en


@pytest.mark.parametrize(
    ("sql", "one"),
    [
        ("SELECT 1", True),
        ("SELECT 1 ; ", True),
        ("SELECT ';', \";\"", True),
        ("SELECT 'it''s; fine'", True),
        ("SELECT 1; SELECT 2", False),
        ("SELECT E'\\'' ; DROP TABLE t --'", False),
        ("SELECT $$'$$ ; DROP TABLE t --'", False),
        ("SELECT 1 /* ' */ ; DROP TABLE t /* ' */", False),
        ("SELECT 1 -- '\n; DROP TABLE t -- '", False),
    ],
)
def test_what_is_surely_one_statement(sql: str, one: bool) -> None:
    assert contract.is_one_statement(sql) is one


def test_parameters_are_counted_outside_of_literals() -> None:
    assert contract.parameter_count("SELECT $1, '$9', $3") == 3
    assert contract.parameter_count("SELECT 1") == 0


def test_leftovers_are_known_by_their_names() -> None:
    assert [findings.leftover_of(name) for name in ("ix_ccnew", "ix_ccold2", "ix", "_ccnew")] == ["ix", "ix", "", ""]


def test_rows_of_a_plan() -> None:
    plan = """[{"Plan": {"Node Type": "Nested Loop", "Plan Rows": 20, "Plans": [
      {"Node Type": "Seq Scan", "Schema": "public", "Relation Name": "small", "Plan Rows": 4},
      {"Node Type": "Index Scan", "Schema": "public", "Relation Name": "large", "Index Name": "ix", "Plan Rows": 5}]}}]"""
    found = scans.plan_scans(plan, {"public.small": scans.TableSize(10, 8192)})
    assert [(scan.words(), scan.rows, scan.sequential) for scan in found] == [("Seq Scan on small", 10, True), ("Index Scan using ix", 20, False)]
