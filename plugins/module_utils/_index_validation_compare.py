# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Expected and actual indexes compared, from facts alone: no database here. PRIVATE to the collection."""

from __future__ import annotations

import dataclasses
import re
import typing as t

_PLAIN = re.compile(r"[a-z_][a-z0-9_$]*\Z")


@dataclasses.dataclass(frozen=True)
class Column:
    """One column of an index as the catalog tells it; *name* is an expression's text where it is none."""

    name: str
    included: bool = False
    descending: bool = False
    nulls_first: bool = False
    opclass: str = ""
    opclass_options: str = ""
    collation: str = ""

    def words(self) -> str:
        """The column as it would be written in CREATE INDEX."""
        order = (" DESC" if self.descending else "") + ("" if self.nulls_first == self.descending else f" NULLS {'FIRST' if self.nulls_first else 'LAST'}")
        collation = f" COLLATE {self.collation}" if self.collation else ""
        options = f" ({self.opclass_options})" if self.opclass_options else ""
        return self.name + collation + (f" {self.opclass}" if self.opclass else "") + options + order


@dataclasses.dataclass(frozen=True)
class Definition:
    """What makes two indexes the same: method, uniqueness, columns and predicate (a set of terms joined by AND)."""

    method: str
    unique: bool
    columns: tuple[Column, ...]
    terms: frozenset[str] = frozenset()
    predicate: str = dataclasses.field(default="", compare=False)
    nulls_not_distinct: bool = False

    @property
    def keys(self) -> tuple[Column, ...]:
        """The columns that the index is ordered by, without the included ones."""
        return tuple(column for column in self.columns if not column.included)


@dataclasses.dataclass(frozen=True)
class Index:
    """An index that the catalog has. *leaves* are the names of its partitions' indexes, *bad_leaves* how many are invalid or missing."""

    name: str
    definition: Definition
    text: str
    valid: bool = True
    building: bool = False
    constraint: str = ""
    leaves: tuple[str, ...] = ()
    bad_leaves: int = 0


@dataclasses.dataclass(frozen=True)
class Expected:
    """One entry of the contract, as the user wrote it."""

    schema: str
    table: str
    columns: tuple[str, ...]
    name: str = ""
    unique: bool = False
    where: str = ""
    method: str = "btree"
    match: str = "exact"

    @property
    def label(self) -> str:
        """What messages call it."""
        return self.name or f"{self.table}({', '.join(self.columns)})"

    @property
    def relation(self) -> str:
        """The table, quoted where needed."""
        return f"{quoted(self.schema)}.{quoted(self.table)}"

    @property
    def tail(self) -> str:
        """The text after USING."""
        return f"{self.method} ({', '.join(self.columns)})" + (f" WHERE ({self.where})" if self.where else "")

    def create(self, name: str = "") -> str:
        """The SQL that makes it without blocking writers, under *name*."""
        title = f" {quoted(name)}" if name else ""
        return f"CREATE {'UNIQUE ' if self.unique else ''}INDEX CONCURRENTLY{title} ON {self.relation} USING {self.tail};"


@dataclasses.dataclass(frozen=True)
class IndexFinding:
    """What is wrong with one entry; *remedy* is SQL (or an SQL comment where no statement helps)."""

    index: str
    expected: str
    actual: str
    difference: str
    remedy: str

    def as_result(self) -> dict[str, str]:
        """The finding as a return value."""
        return dataclasses.asdict(self)


def quoted(name: str) -> str:
    """An identifier for SQL, with quotes where it needs them."""
    return name if _PLAIN.match(name) else '"' + name.replace('"', '""') + '"'


def and_terms(predicate: str) -> frozenset[str]:
    """The terms of a predicate as pg_get_expr prints it, split at its top-level ANDs; their order means nothing."""
    text = predicate.strip()
    while text.startswith("(") and _closing(text) == len(text) - 1:
        text = text[1:-1].strip()
    terms: list[str] = []
    depth, quote, start = 0, "", 0
    for position, character in enumerate(text):
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        else:
            depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(character, 0)
            if depth == 0 and text.startswith(" AND ", position):
                terms.append(text[start:position].strip())
                start = position + 5
    terms.append(text[start:].strip())
    return frozenset(_unwrapped(term) for term in terms if term)


def _unwrapped(term: str) -> str:
    while term.startswith("(") and _closing(term) == len(term) - 1:
        term = term[1:-1].strip()
    return term


def _closing(text: str) -> int:
    """Where the parenthesis that *text* starts with is closed."""
    depth, quote = 0, ""
    for position, character in enumerate(text):
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        else:
            depth += {"(": 1, ")": -1}.get(character, 0)
            if depth == 0:
                return position
    return -1


def normalised(text: str) -> str:
    """SQL text without what PostgreSQL adds to it: casts, spaces, parentheses, case. For comparing where nothing better is possible."""
    parts = re.split(r"('(?:[^']|'')*')", text)
    plain = [
        part if number % 2 else re.sub(r'::(?:character varying|[a-z_]+)(?:\(\d+\))?(?:\[\])?|[\s()"]+', "", part.lower()) for number, part in enumerate(parts)
    ]
    return "".join(plain)


def differences(expected: Definition, actual: Definition, match: str) -> list[str]:
    """How *actual* differs from *expected*, in words; empty where it fits. With *match* prefix its first key columns must fit."""
    found: list[str] = []
    if expected.method != actual.method:
        found.append(f"method: expected {expected.method}, found {actual.method}")
    if match == "exact" and expected.unique != actual.unique:
        found.append(f"unique: expected {_yes(expected.unique)}, found {_yes(actual.unique)}")
    if match == "exact" and expected.nulls_not_distinct != actual.nulls_not_distinct:
        found.append(f"nulls not distinct: expected {_yes(expected.nulls_not_distinct)}, found {_yes(actual.nulls_not_distinct)}")
    found += _column_differences(expected, actual, match)
    fitting = expected.terms == actual.terms or (match == "prefix" and not actual.terms)
    if not fitting:
        found.append(f"predicate: expected {_terms(expected.terms)}, found {_terms(actual.terms)}")
    return found


def plainly_fits(expected: Expected, index: Index) -> bool:
    """Whether *index* fits without a doubt: plain columns, no predicate, nothing special. False says nothing."""
    actual = index.definition
    if expected.where or actual.terms or expected.method != actual.method or not all(map(_PLAIN.match, expected.columns)):
        return False
    keys = tuple(column.words() for column in actual.keys)
    if expected.match == "prefix":
        return keys[: len(expected.columns)] == expected.columns
    return keys == expected.columns and len(actual.columns) == len(keys) and expected.unique == actual.unique and not actual.nulls_not_distinct


def text_differences(expected: Expected, index: Index) -> list[str]:
    """As ``differences``, but comparing the texts, for where PostgreSQL cannot be asked what the entry means."""
    actual = index.definition
    mine = [normalised(re.sub(r"\s+asc\s*\Z", "", column, flags=re.IGNORECASE)) for column in expected.columns]
    theirs = [normalised(column.words()) for column in actual.keys]
    prefix = expected.match == "prefix"
    found: list[str] = []
    if expected.method != actual.method:
        found.append(f"method: expected {expected.method}, found {actual.method}")
    if not prefix and expected.unique != actual.unique:
        found.append(f"unique: expected {_yes(expected.unique)}, found {_yes(actual.unique)}")
    if mine != (theirs[: len(mine)] if prefix else theirs) or (not prefix and len(actual.columns) > len(actual.keys)):
        found.append(f"columns: expected ({', '.join(expected.columns)}), found {_columns(actual.columns)}")
    wanted = {normalised(term) for term in and_terms(expected.where)}
    if wanted != {normalised(term) for term in actual.terms} and not (prefix and not actual.terms):
        found.append(f"predicate: expected {expected.where or 'none'}, found {_terms(actual.terms)}")
    return found


def _column_differences(expected: Definition, actual: Definition, match: str) -> list[str]:
    theirs = actual.keys[: len(expected.keys)] if match == "prefix" else actual.columns
    mine = expected.keys if match == "prefix" else expected.columns
    if mine == theirs:
        return []
    if len(mine) == len(theirs) and all(one.name == other.name and one.included == other.included for one, other in zip(mine, theirs)):  # noqa: B905
        pairs = [(one, other) for one, other in zip(mine, theirs) if one != other]  # noqa: B905
        return [f"column {one.name}: expected {one.words()}, found {other.words()}" for one, other in pairs]
    return [f"columns: expected {_columns(mine)}, found {_columns(actual.columns)}"]


def _columns(columns: t.Sequence[Column]) -> str:
    keys = ", ".join(column.words() for column in columns if not column.included)
    included = ", ".join(column.name for column in columns if column.included)
    return f"({keys})" + (f" INCLUDE ({included})" if included else "")


def _terms(terms: t.AbstractSet[str]) -> str:
    return " AND ".join(sorted(terms)) if terms else "none"


def _yes(value: bool) -> str:
    return "yes" if value else "no"


Differs = t.Callable[[Index], "list[str]"]
"""How an index differs from what is expected; empty where it fits."""


def decide(expected: Expected, indexes: t.Sequence[Index], differs: Differs) -> tuple[Index | None, IndexFinding | None]:
    """The index that fulfils *expected*, or the finding why none does."""
    named = next((index for index in indexes if index.name == expected.name), None) if expected.name else None
    if named:
        problems = differs(named)
        finding = _wrong(expected, named, problems) if problems else _unusable(expected, named)
        return (None, finding) if finding else (named, None)
    fitting = [index for index in indexes if not differs(index)]
    usable = next((index for index in fitting if not _unusable(expected, index)), None)
    if usable and not expected.name:
        return usable, None
    if usable:
        return None, _other_name(expected, usable)
    broken = next((_unusable(expected, index) for index in fitting), None) if not expected.name else None
    return None, broken or missing(expected, _nearest(indexes, differs))


def _nearest(indexes: t.Sequence[Index], differs: Differs) -> str:
    found = [index for index in indexes if index.definition.keys]
    return "" if not found else f"the table has {', '.join(sorted(index.name for index in found))}"


def missing(expected: Expected, actual: str = "", difference: str = "missing", remedy: str = "") -> IndexFinding:
    """The finding for an index that is not there."""
    return IndexFinding(expected.label, described(expected), actual, difference, remedy or expected.create(expected.name))


def described(expected: Expected) -> str:
    """The entry as the statement that would make it."""
    return expected.create(expected.name).replace(" CONCURRENTLY", "").rstrip(";")


def _other_name(expected: Expected, index: Index) -> IndexFinding:
    remedy = f"ALTER INDEX {quoted(expected.schema)}.{quoted(index.name)} RENAME TO {quoted(expected.name)};"
    return IndexFinding(expected.label, described(expected), index.text, f"missing, but {index.name} has the same definition", remedy)


def _wrong(expected: Expected, index: Index, problems: t.Sequence[str]) -> IndexFinding:
    old, fresh = f"{quoted(expected.schema)}.{quoted(index.name)}", f"{index.name[:50]}_lastro_new"
    if index.constraint:
        remedy = f"-- {index.name} belongs to the constraint {index.constraint} of {expected.relation}: change that in a migration"
    else:
        rename = f"ALTER INDEX {quoted(expected.schema)}.{quoted(fresh)} RENAME TO {quoted(index.name)};"
        remedy = f"{expected.create(fresh)} DROP INDEX CONCURRENTLY {old}; {rename}"
    return IndexFinding(expected.label, described(expected), index.text, "; ".join(problems), remedy)


def _unusable(expected: Expected, index: Index) -> IndexFinding | None:
    name = f"{quoted(expected.schema)}.{quoted(index.name)}"
    if index.bad_leaves:
        difference = f"{index.bad_leaves} of its table's partitions have no valid index of it"
        remedy = f"-- make the index on each partition, then: ALTER INDEX {name} ATTACH PARTITION <index of the partition>;"
    elif index.building:
        difference, remedy = "it is still being built", "SELECT phase, blocks_done, blocks_total FROM pg_stat_progress_create_index;"
    elif not index.valid:
        difference, remedy = "it is invalid: building it was broken off, queries do not use it", f"REINDEX INDEX CONCURRENTLY {name};"
    else:
        return None
    return IndexFinding(expected.label, described(expected), index.text, difference, remedy)


__all__ = (
    "Column",
    "Definition",
    "Differs",
    "Expected",
    "Index",
    "IndexFinding",
    "and_terms",
    "decide",
    "described",
    "differences",
    "missing",
    "plainly_fits",
    "quoted",
    "text_differences",
)
