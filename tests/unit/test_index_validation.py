# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.lastro.deploy.plugins.module_utils import _index_validation as validation
from ansible_collections.lastro.deploy.plugins.module_utils import _index_validation_compare as compare
from ansible_collections.lastro.deploy.plugins.module_utils._errors import LastroError
from ansible_collections.lastro.deploy.plugins.module_utils._index_validation_compare import Column, Definition, Expected, Index
from ansible_collections.lastro.deploy.plugins.module_utils._postgres import ConnectionSettings


def definition(*names: str, method: str = "btree", unique: bool = False, predicate: str = "", included: tuple[str, ...] = ()) -> Definition:
    columns = (*(Column(name) for name in names), *(Column(name, included=True) for name in included))
    return Definition(method, unique, columns, compare.and_terms(predicate), predicate)


def index(name: str, one: Definition, *, valid: bool = True, building: bool = False, constraint: str = "", bad_leaves: int = 0) -> Index:
    return Index(name, one, text=f"CREATE INDEX {name}", valid=valid, building=building, constraint=constraint, bad_leaves=bad_leaves)


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
    assert compare.differences(expected, actual, match) == words


AB = Expected("public", "t", ("a", "b"), name="ix")


def decide(expected: Expected, *indexes: Index) -> tuple[str, str, str]:
    wanted = definition(*expected.columns)
    found, finding = compare.decide(expected, indexes, lambda one: compare.differences(wanted, one.definition, expected.match))
    return (found.name if found else "", finding.difference if finding else "", finding.remedy if finding else "")


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
    assert decide(AB, index("ix", good, valid=False, building=True))[1] == "it is still being built"
    assert decide(AB, index("ix", good, valid=False, bad_leaves=2))[1] == "2 of its table's partitions have no valid index of it"
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
    assert odd.create("Ix") == 'CREATE UNIQUE INDEX CONCURRENTLY "Ix" ON "My Schema"."a""b" USING btree ("Id") WHERE (x > 0);'
    assert compare.described(odd) == 'CREATE UNIQUE INDEX "Ix" ON "My Schema"."a""b" USING btree ("Id") WHERE (x > 0)'


@pytest.mark.parametrize(
    ("expected", "actual", "fits", "words"),
    [
        (Expected("s", "t", ("a",)), definition("a"), True, []),
        (Expected("s", "t", ("a ASC",)), definition("a"), False, []),
        (Expected("s", "t", ("a",), match="prefix"), definition("a", "b"), True, []),
        (Expected("s", "t", ("a",), method="hash"), definition("a"), False, ["method: expected hash, found btree"]),
        (Expected("s", "t", ("a",), unique=True), definition("a"), False, ["unique: expected yes, found no"]),
        (Expected("s", "t", ("a",)), definition("a", included=("b",)), False, ["columns: expected (a), found (a) INCLUDE (b)"]),
        (Expected("s", "t", ("a",), where="b = 1 AND c"), definition("a", predicate="((c) AND (b = 1))"), False, []),
        (Expected("s", "t", ("a",), where="b"), definition("a"), False, ["predicate: expected b, found none"]),
    ],
)
def test_texts_are_compared_where_postgresql_cannot_be_asked(expected: Expected, actual: Definition, fits: bool, words: list[str]) -> None:
    assert compare.plainly_fits(expected, index("i", actual)) is fits
    assert compare.text_differences(expected, index("i", actual)) == words


def test_without_psycopg2_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ansible_collections.lastro.deploy.plugins.module_utils._postgres.HAS_PSYCOPG2", False)
    with pytest.raises(LastroError, match="no psycopg2"):
        validation.validate(ConnectionSettings(database="x"), [], [])
