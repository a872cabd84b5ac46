# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an index contract asks for: expected indexes and queries, as the user wrote them. PRIVATE to the collection."""

from __future__ import annotations

import dataclasses
import functools
import re
import typing as t

from ._errors import Text

CONSTRAINTS = ("any", "none", "primary_key", "unique", "exclusion")
MATCHES = ("exact", "prefix")
VERDICTS = ("usable", "chosen", "chosen_generic")
COLUMN_KEYS = ("column", "expression", "collation", "opclass", "direction", "nulls")
BAD_COLUMN = Text(
    en="one of its columns is neither a text nor {column or expression, collation, opclass, direction, nulls}",
    pt_BR="uma de suas colunas não é nem um texto nem {column ou expression, collation, opclass, direction, nulls}",
)

_PLAIN = re.compile(r"[a-z_][a-z0-9_$]*\Z")
# Words that PostgreSQL takes for its grammar's wherever a column's name may stand (its appendix C, "reserved").
# fmt: off
_RESERVED = frozenset((
    "all", "analyse", "analyze", "and", "any", "array", "as", "asc", "asymmetric", "authorization", "between", "binary", "both", "case", "cast", "check",
    "collate", "collation", "column", "concurrently", "constraint", "create", "cross", "current_catalog", "current_date", "current_role",
    "current_schema", "current_time", "current_timestamp", "current_user", "default", "deferrable", "desc", "distinct", "do", "else", "end", "except",
    "false", "fetch", "for", "foreign", "freeze", "from", "full", "grant", "group", "having", "ilike", "in", "initially", "inner", "intersect", "into",
    "is", "isnull", "join", "lateral", "leading", "left", "like", "limit", "localtime", "localtimestamp", "natural", "not", "notnull", "null", "offset",
    "on", "only", "or", "order", "outer", "overlaps", "placing", "primary", "references", "returning", "right", "select", "session_user", "similar",
    "some", "symmetric", "table", "tablesample", "then", "to", "trailing", "true", "union", "unique", "user", "using", "variadic", "verbose", "when",
    "where", "window", "with",
))
# fmt: on
_NAME = r'(?P<{0}>[A-Za-z_][\w$]*|"(?:[^"]|"")+")'
_COLUMN = re.compile(
    rf"\s*{_NAME.format('name')}(?:\s+COLLATE\s+{_NAME.format('collation')})?(?:\s+(?!(?:ASC|DESC|NULLS|COLLATE)\b){_NAME.format('opclass')})?"
    r"(?:\s+(?P<direction>ASC|DESC))?(?:\s+NULLS\s+(?P<nulls>FIRST|LAST))?\s*\Z",
    re.IGNORECASE,
)


@dataclasses.dataclass(frozen=True)
class Column:
    """One column of an index as the catalog tells it; *name* is an expression's text where it is none. Names are quoted where needed."""

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
class Expected:
    """One entry of the contract. *columns* are SQL, as CREATE INDEX takes them; *problem* says why the entry cannot be asked for."""

    schema: str
    table: str
    columns: tuple[str, ...]
    name: str = ""
    unique: bool = False
    nulls_not_distinct: bool = False
    include: tuple[str, ...] = ()
    where: str = ""
    method: str = "btree"
    constraint: str = "any"
    match: str = "exact"
    problem: Text | None = None

    @property
    def label(self) -> str:
        """What messages call it."""
        return self.name or f"{self.table}({', '.join(self.columns)})"

    @functools.cached_property
    def relation(self) -> str:
        """The table, quoted where needed."""
        return f"{quoted(self.schema)}.{quoted(self.table)}"

    @property
    def tail(self) -> str:
        """The text after USING."""
        include = f" INCLUDE ({', '.join(map(quoted, self.include))})" if self.include else ""
        distinct = " NULLS NOT DISTINCT" if self.nulls_not_distinct else ""
        return f"{quoted(self.method)} ({', '.join(self.columns)}){include}{distinct}" + (f" WHERE ({self.where})" if self.where else "")

    def create(self, name: str = "", relation: str = "", *, concurrently: bool = True) -> str:
        """The SQL that makes it (without blocking writers) under *name* on *relation*, its own table where that is empty."""
        words = ["CREATE", "UNIQUE" if self.unique else "", "INDEX", "CONCURRENTLY" if concurrently else "", quoted(name) if name else ""]
        return f"{' '.join(filter(None, words))} ON {relation or self.relation} USING {self.tail}"


@dataclasses.dataclass(frozen=True)
class Query:
    """A query of the contract and what is asked of its plan: an index by name, or any index of a table."""

    sql: str
    index: str = ""
    table: str = ""
    verdict: str = "usable"
    parameters: tuple[t.Any, ...] = ()
    max_rows_scanned: int | None = None
    no_seq_scan_on: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """What messages call it."""
        return self.index or self.table

    @property
    def statement(self) -> str:
        """The query without the semicolon at its end."""
        return self.sql.strip().rstrip(";").strip()

    @property
    def parameter_count(self) -> int:
        """How many parameters ($1, $2, ...) it takes."""
        return parameter_count(self.sql)


def index_options() -> dict[str, t.Any]:
    """The options of one entry of C(indexes)."""
    return {
        "name": {"type": "str"},
        "schema": {"type": "str", "default": "public"},
        "table": {"type": "str", "required": True},
        "columns": {"type": "list", "elements": "raw", "required": True},
        "unique": {"type": "bool", "default": False},
        "nulls_not_distinct": {"type": "bool", "default": False},
        "include": {"type": "list", "elements": "str", "default": []},
        "where": {"type": "str"},
        "method": {"type": "str", "default": "btree"},
        "constraint": {"type": "str", "default": "any", "choices": list(CONSTRAINTS)},
        "match": {"type": "str", "default": "exact", "choices": list(MATCHES)},
    }


def query_options() -> dict[str, t.Any]:
    """The options of one entry of C(queries)."""
    return {
        "sql": {"type": "str", "required": True},
        "index": {"type": "str"},
        "table": {"type": "str"},
        "parameters": {"type": "list", "elements": "raw", "default": []},
        "verdict": {"type": "str", "default": "usable", "choices": list(VERDICTS)},
        "max_rows_scanned": {"type": "int"},
        "must_not": {"type": "dict", "default": {}, "options": {"seq_scan_on": {"type": "list", "elements": "str", "default": []}}},
    }


def expected_from(entry: t.Mapping[str, t.Any]) -> Expected:
    """An entry as the module got it. What is wrong with it is in *problem*; nothing is raised, so that the others are still validated."""
    columns = tuple(map(column_sql, entry["columns"]))
    where = (entry.get("where") or "").strip()
    fields = {name: entry[name] for name in ("schema", "table", "unique", "nulls_not_distinct", "method", "constraint", "match")}
    return Expected(
        columns=tuple(column or "?" for column in columns),
        name=entry.get("name") or "",
        include=tuple(entry["include"]),
        where=where,
        problem=_problem(entry, columns, where),
        **fields,
    )


def _problem(entry: t.Mapping[str, t.Any], columns: t.Sequence[str | None], where: str) -> Text | None:
    if not columns or "" in columns:
        return Text("its columns are empty", "suas colunas estão vazias")
    if None in columns:
        return BAD_COLUMN
    if entry["nulls_not_distinct"] and not entry["unique"]:
        return Text("nulls_not_distinct is for unique indexes alone", "nulls_not_distinct é só para índices únicos")
    if not all(is_one_statement(text) for text in (*columns, where) if text):
        return Text("its columns or predicate are more than one statement", "suas colunas ou seu predicado são mais de um comando")
    return None


def query_from(entry: t.Mapping[str, t.Any]) -> Query:
    """A query as the module got it."""
    return Query(
        sql=entry["sql"],
        index=entry.get("index") or "",
        table=entry.get("table") or "",
        verdict=entry["verdict"],
        parameters=tuple(entry["parameters"]),
        max_rows_scanned=entry.get("max_rows_scanned"),
        no_seq_scan_on=tuple(entry["must_not"].get("seq_scan_on") or ()),
    )


def column_sql(column: object) -> str | None:
    """A column of the contract as CREATE INDEX takes it; None for one of another form."""
    if isinstance(column, str):
        return column.strip()
    if not isinstance(column, t.Mapping) or not set(column) <= set(COLUMN_KEYS) or ("column" in column) == ("expression" in column):
        return None
    words = {name: str(value).strip() for name, value in column.items()}
    direction, nulls = words.get("direction", "").upper(), words.get("nulls", "").upper()
    if direction not in ("", "ASC", "DESC") or nulls not in ("", "FIRST", "LAST"):
        return None
    parts = [quoted(words["column"]) if "column" in words else f"({words['expression']})"]
    parts += [f"COLLATE {quoted(words['collation'])}"] if "collation" in words else []
    parts += [words[name] for name in ("opclass",) if name in words]
    return " ".join([*parts, *filter(None, [direction if direction != "ASC" else "", f"NULLS {nulls}" if nulls else ""])])


def parsed_column(text: str) -> Column | None:
    """What a column's text means where it is a name with the usual words behind it; None says nothing (an expression, perhaps)."""
    match = _COLUMN.match(text)
    if not match:
        return None
    name, collation, opclass = (_folded(match[part] or "") for part in ("name", "collation", "opclass"))
    descending = (match["direction"] or "").upper() == "DESC"
    nulls_first = match["nulls"].upper() == "FIRST" if match["nulls"] else descending
    return Column(name, descending=descending, nulls_first=nulls_first, opclass=opclass, collation=collation)


def _folded(name: str) -> str:
    """A name as PostgreSQL would quote it: in lower case unless it was quoted. Nothing stays nothing."""
    if not name:
        return ""
    return quoted(name[1:-1].replace('""', '"')) if name.startswith('"') else quoted(name.lower())


def quoted(name: str) -> str:
    """An identifier for SQL, with quotes where it needs them."""
    return name if _PLAIN.match(name) and name not in _RESERVED else '"' + name.replace('"', '""') + '"'


def is_one_statement(sql: str) -> bool:
    """Whether *sql* surely is no more than one statement. A semicolon beside what hides quotes (comments, escapes, $) counts as two."""
    text = sql.strip().rstrip(";")
    if ";" not in text:
        return True
    if any(mark in text for mark in ("\\", "$", "--", "/*")):
        return False
    return ";" not in re.sub(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"", "", text)


def parameter_count(sql: str) -> int:
    """The highest $n outside of literals; 0 where there is none."""
    return max((int(number) for number in re.findall(r"\$(\d+)", re.sub(r"'(?:[^']|'')*'", "", sql))), default=0)


__all__ = (
    "COLUMN_KEYS",
    "CONSTRAINTS",
    "MATCHES",
    "VERDICTS",
    "Column",
    "Expected",
    "Query",
    "column_sql",
    "expected_from",
    "index_options",
    "is_one_statement",
    "parameter_count",
    "parsed_column",
    "query_from",
    "query_options",
    "quoted",
)
