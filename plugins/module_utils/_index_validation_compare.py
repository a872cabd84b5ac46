# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Expected and actual indexes compared, from facts alone: no database here. PRIVATE to the collection."""

from __future__ import annotations

import dataclasses
import functools
import re
import typing as t

from ._errors import Text
from ._index_validation_contract import Column, Expected, parsed_column

SHAPES = 4096
"""So many different texts are kept read: large schemas repeat a few shapes of indexes on each table."""

Differences = list[Text]
Differs = t.Callable[["Index"], Differences]
"""How an index differs from what is expected, in words; empty where it fits."""


@dataclasses.dataclass(frozen=True)
class Definition:
    """What makes two indexes the same: method, uniqueness, columns and predicate (a set of terms joined by AND)."""

    method: str
    unique: bool
    columns: tuple[Column, ...]
    terms: frozenset[str] = frozenset()
    predicate: str = dataclasses.field(default="", compare=False)
    nulls_not_distinct: bool = False

    @functools.cached_property
    def keys(self) -> tuple[Column, ...]:
        """The columns that the index is ordered by, without the included ones."""
        return tuple(column for column in self.columns if not column.included)


@dataclasses.dataclass(frozen=True)
class Leaf:
    """The index of one partition that belongs to a partitioned index."""

    index: str
    schema: str
    table: str


@dataclasses.dataclass(frozen=True)
class Index:
    """An index that the catalog has.

    *building* is the phase of a build that runs, *leaves* are the indexes of a partitioned one's partitions, *uncovered* the partitions
    (schema.table) that have no valid index of it, *constraint* and *constraint_kind* (one of CONSTRAINTS) what it backs.
    """

    name: str
    definition: Definition
    text: str
    valid: bool = True
    ready: bool = True
    live: bool = True
    building: str = ""
    constraint: str = ""
    constraint_kind: str = "none"
    partitioned: bool = False
    leaves: tuple[Leaf, ...] = ()
    uncovered: tuple[str, ...] = ()


@functools.lru_cache(maxsize=SHAPES)
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


def differences(expected: Definition, actual: Definition, match: str) -> Differences:
    """How *actual* differs from *expected*, in words; empty where it fits. With *match* prefix its first key columns must fit."""
    prefix = match == "prefix"
    found = _plain_differences(expected.method, None if prefix else expected.unique, None if prefix else expected.nulls_not_distinct, actual)
    found += _column_differences(expected, actual, match)
    if not (expected.terms == actual.terms or (prefix and not actual.terms)):
        found.append(_differs("predicate", "predicado", _terms(expected.terms), _terms(actual.terms)))
    return found


def plainly_fits(expected: Expected, index: Index) -> bool:
    """Whether *index* fits as a catalog row, without PostgreSQL's help: the same names, words and texts. False says nothing."""
    actual = index.definition
    prefix = expected.match == "prefix"
    terms = and_terms(expected.where)
    if expected.method != actual.method or not (terms == actual.terms or (prefix and not actual.terms)):
        return False
    keys = actual.keys[: len(expected.columns)] if prefix else actual.keys
    if len(keys) != len(expected.columns) or not all(_same_column(text, key) for text, key in zip(expected.columns, keys)):  # noqa: B905
        return False
    if prefix:
        return True
    included = tuple(_bare(column.name) for column in actual.columns if column.included)
    return (included, actual.unique, actual.nulls_not_distinct) == (expected.include, expected.unique, expected.nulls_not_distinct)


@functools.lru_cache(maxsize=SHAPES)
def _same_column(text: str, actual: Column) -> bool:
    wanted = parsed_column(text)
    if wanted and dataclasses.replace(wanted, name=_bare(wanted.name)) == dataclasses.replace(actual, name=_bare(actual.name)):
        return True
    return _unwrapped(text) == _unwrapped(actual.words()) and bool(text)


def _bare(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name


def text_differences(expected: Expected, index: Index) -> Differences:
    """As ``differences``, but comparing the texts, for where PostgreSQL cannot be asked what the entry means."""
    if plainly_fits(expected, index):
        return []
    actual = index.definition
    mine = [normalised(parsed.words() if (parsed := parsed_column(column)) else column) for column in expected.columns]
    theirs = [normalised(column.words()) for column in actual.keys]
    prefix = expected.match == "prefix"
    found = _plain_differences(expected.method, None if prefix else expected.unique, None if prefix else expected.nulls_not_distinct, actual)
    included = tuple(_bare(column.name) for column in actual.columns if column.included)
    if mine != (theirs[: len(mine)] if prefix else theirs) or not (prefix or included == expected.include):
        wanted = f"({', '.join(expected.columns)})" + (f" INCLUDE ({', '.join(expected.include)})" if expected.include else "")
        found.append(_differs("columns", "colunas", wanted, columns_text(actual.columns)))
    if {normalised(term) for term in and_terms(expected.where)} != {normalised(term) for term in actual.terms} and not (prefix and not actual.terms):
        found.append(_differs("predicate", "predicado", expected.where or NONE, _terms(actual.terms)))
    return found


NONE = Text("none", "nenhum")


def _differs(en: str, pt_br: str, expected: str | Text, found: str | Text) -> Text:
    mine, theirs = (side if isinstance(side, Text) else Text(side, side) for side in (expected, found))
    return Text(f"{en}: expected {mine.en}, found {theirs.en}", f"{pt_br}: esperado {mine.pt_BR}, encontrado {theirs.pt_BR}")


def _plain_differences(method: str, unique: bool | None, nulls_not_distinct: bool | None, actual: Definition) -> Differences:
    """Those of method, uniqueness and NULLs; None is not compared."""
    found: Differences = []
    if method != actual.method:
        found.append(_differs("method", "método", method, actual.method))
    if unique is not None and unique != actual.unique:
        found.append(_differs("unique", "único", _yes(unique), _yes(actual.unique)))
    if nulls_not_distinct is not None and nulls_not_distinct != actual.nulls_not_distinct:
        found.append(_differs("nulls not distinct", "nulls not distinct", _yes(nulls_not_distinct), _yes(actual.nulls_not_distinct)))
    return found


def _column_differences(expected: Definition, actual: Definition, match: str) -> Differences:
    theirs = actual.keys[: len(expected.keys)] if match == "prefix" else actual.columns
    mine = expected.keys if match == "prefix" else expected.columns
    if mine == theirs:
        return []
    if len(mine) == len(theirs) and all(one.name == other.name and one.included == other.included for one, other in zip(mine, theirs)):  # noqa: B905
        pairs = [(one, other) for one, other in zip(mine, theirs) if one != other]  # noqa: B905
        return [_differs(f"column {one.name}", f"coluna {one.name}", one.words(), other.words()) for one, other in pairs]
    return [_differs("columns", "colunas", columns_text(mine), columns_text(actual.columns))]


def columns_text(columns: t.Sequence[Column]) -> str:
    """Columns as CREATE INDEX has them, in parentheses."""
    keys = ", ".join(column.words() for column in columns if not column.included)
    included = ", ".join(column.name for column in columns if column.included)
    return f"({keys})" + (f" INCLUDE ({included})" if included else "")


def _terms(terms: t.AbstractSet[str]) -> str | Text:
    return " AND ".join(sorted(terms)) if terms else NONE


def _yes(value: bool) -> Text:
    return Text("yes", "sim") if value else Text("no", "não")


__all__ = (
    "Definition",
    "Differences",
    "Differs",
    "Index",
    "Leaf",
    "and_terms",
    "columns_text",
    "differences",
    "normalised",
    "plainly_fits",
    "text_differences",
)
