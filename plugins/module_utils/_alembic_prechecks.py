# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the rows that are there let a pending revision succeed: asked of the database before anything changes. PRIVATE to the collection.

C(derive) reads the SQL and says what to count; C(run) counts, each in a read-only transaction with a timeout.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import time
import typing as t

from ._alembic_catalog import no_rewrite
from ._alembic_hazards import Finding, Severity
from ._alembic_sql import plain, statements

with contextlib.suppress(ImportError):  # _postgres.connect says so
    import psycopg2

if t.TYPE_CHECKING:
    from psycopg2.extensions import connection as PostgresConnection

    from ._alembic_catalog import Catalog
    from ._alembic_picture import Picture

KEYS = 10
SECONDS = 20.0
SHORTEST = 0.5
"""Seconds below which counting is not begun any more."""
Kind = t.Literal["nulls", "duplicates", "orphans", "violations", "casts"]
_WORDS: dict[Kind, tuple[str, str]] = {
    "nulls": ("{n} rows have NULL in {columns}: SET NOT NULL would fail.", "Fill them first; the keys of up to ten stand in prechecks."),
    "duplicates": ("{n} rows share their {columns} with another: the unique index would fail.", "Merge or delete them first; see prechecks for keys."),
    "orphans": ("{n} rows have a {columns} that the referenced table does not have: the foreign key would fail.", "Correct or delete them first."),
    "violations": ("{n} rows violate the CHECK: it would fail.", "Correct them first; the keys of up to ten stand in prechecks."),
    "casts": ("{n} values of {columns} cannot become the new type: the change would fail.", "Correct them first; see prechecks for keys."),
}
_N = r'(?:"(?:[^"]|"")+"|[\w$]+)(?:\s*\.\s*(?:"(?:[^"]|"")+"|[\w$]+))?'
_FLAGS = re.IGNORECASE | re.DOTALL
_ALTER = re.compile(rf"ALTER\s+TABLE\s+(?:IF\s+EXISTS\s+)?(?:ONLY\s+)?(?P<table>{_N})\s+(?P<rest>.*)", _FLAGS)
_INDEX = re.compile(
    rf"CREATE\s+UNIQUE\s+INDEX\s+(?:CONCURRENTLY\s+)?(?:IF\s+NOT\s+EXISTS\s+)?(?:{_N}\s+)?ON\s+(?:ONLY\s+)?(?P<table>{_N})\s*(?:USING\s+\w+\s*)?(?P<rest>\(.*)",
    _FLAGS,
)
_SET_NOT_NULL = re.compile(rf"ALTER\s+(?:COLUMN\s+)?(?P<column>{_N})\s+SET\s+NOT\s+NULL\Z", _FLAGS)
_TYPE = re.compile(rf"ALTER\s+(?:COLUMN\s+)?(?P<column>{_N})\s+(?:SET\s+DATA\s+)?TYPE\s+(?P<type>.+?)(?:\s+USING\s+(?P<using>.+))?\Z", _FLAGS)
_CONSTRAINT = re.compile(
    rf"ADD\s+(?:CONSTRAINT\s+(?P<name>{_N})\s+)?(?P<kind>UNIQUE(?:\s+NULLS\s+NOT\s+DISTINCT)?|PRIMARY\s+KEY|CHECK|FOREIGN\s+KEY)\s*(?P<rest>\(.*)", _FLAGS
)
_REFERENCES = re.compile(rf"\s*REFERENCES\s+(?P<table>{_N})\s*(?P<rest>.*)", _FLAGS)
_VALIDATE = re.compile(rf"VALIDATE\s+CONSTRAINT\s+(?P<name>{_N})", _FLAGS)
_ITEM = re.compile(rf"(?P<column>{_N})(?:\s+COLLATE\s+\S+)?(?:\s+\w+_ops)?(?:\s+(?:ASC|DESC))?(?:\s+NULLS\s+(?:FIRST|LAST))?\Z", _FLAGS)
_WRITES = re.compile(rf"(?:UPDATE\s+(?:ONLY\s+)?|INSERT\s+INTO\s+|DELETE\s+FROM\s+(?:ONLY\s+)?|TRUNCATE\s+(?:TABLE\s+)?|COPY\s+)(?P<table>{_N})", _FLAGS)


@dataclasses.dataclass(frozen=True)
class Check:
    """What to count before a statement: the rows of *table* for which C(where) holds. *certain*: no earlier statement may mend them."""

    revision: str
    kind: Kind
    table: str
    columns: tuple[str, ...]
    statement: str
    certain: bool
    where: str
    source: str
    """The SQL after FROM, as written in the revision."""
    using: str = ""
    """For casts: the expression that becomes the new value."""


@dataclasses.dataclass(frozen=True)
class Counted:
    """What was counted; *count* is None where the time was over."""

    check: Check
    count: int | None
    keys: tuple[str, ...] = ()

    def as_result(self) -> dict[str, t.Any]:
        """As a return value."""
        check = self.check
        return {
            "revision": check.revision,
            "check": check.kind,
            "table": check.table,
            "columns": list(check.columns),
            "count": -1 if self.count is None else self.count,
            "primary_keys": list(self.keys),
            "complete": self.count is not None,
            "certain": check.certain,
        }

    def as_finding(self) -> Finding | None:
        """The finding where rows are in the way, or where it could not be told."""
        if self.count == 0:
            return None
        check, (why, safe_way) = self.check, _WORDS[self.check.kind]
        severity: Severity = "block" if self.count and check.certain else "warn"
        text = (
            why.format(n=self.count, columns=", ".join(check.columns))
            if self.count
            else "Whether rows are in the way was not counted in the time that was left."
        )
        return Finding(check.revision, f"data-{check.kind}", "fails", severity, check.table, check.statement, text, safe_way, engine="data")


def _inside(text: str) -> tuple[str, str]:
    """What stands in the parentheses that *text* begins with, and what follows them. Literals and quoted names are passed over."""
    depth = 0
    for match in re.finditer(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|[()]", text):
        depth += {"(": 1, ")": -1}.get(match.group(), 0)
        if depth == 0:
            return text[1 : match.start()].strip(), text[match.end() :]
    return text[1:].strip(), ""


def parts(text: str) -> list[str]:
    """*text* cut at commas outside parentheses, literals and quoted names."""
    found, depth, begin = [], 0, 0
    for match in re.finditer(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|[(),]", text):
        depth += {"(": 1, ")": -1}.get(match.group(), 0)
        if match.group() == "," and depth == 0:
            found.append(text[begin : match.start()].strip())
            begin = match.end()
    return [*found, text[begin:].strip()]


def _expression(item: str) -> str:
    """An index's column as an expression: without collation, operator class and order."""
    match = _ITEM.match(item)
    if match:
        return match["column"]
    expression, rest = _inside(item[item.index("(") :]) if "(" in item else (item, "")
    return f"{item[: item.index('(')]}({expression})" if "(" in item else item if not rest else expression


class _Deriver:
    """Goes through the statements of a chain in their order."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self.checks: list[Check] = []
        self._written: set[str] = set()
        self._later: dict[tuple[str, str], Check] = {}
        self._unknown = False
        self._revision, self._statement, self._table = "", "", ""

    def revision(self, name: str, sql: str, *, unrenderable: bool) -> None:
        """Take in one revision."""
        self._revision, self._unknown = name, self._unknown or unrenderable
        for statement in statements(sql):
            self._statement = statement.shown
            alter, index, writes = _ALTER.match(statement.text), _INDEX.match(statement.text), _WRITES.match(statement.text)
            if writes:
                self._written.add(plain(writes["table"]))
            elif re.match(r"(?:DO|CALL|SELECT|WITH)\b", statement.pattern_text):
                self._unknown = True
            elif alter:
                self._table = alter["table"]
                for action in parts(alter["rest"]):
                    self._action(action)
            elif index:
                self._table = index["table"]
                items, rest = _inside(index["rest"])
                where = re.search(r"\bWHERE\b(?P<what>.*)", rest, _FLAGS)
                distinct = bool(re.search(r"NULLS\s+NOT\s+DISTINCT", rest, _FLAGS))
                self._duplicates(items, where["what"] if where else "", distinct=distinct)

    def _action(self, action: str) -> None:
        required, typed, constraint, validate = (pattern.match(action) for pattern in (_SET_NOT_NULL, _TYPE, _CONSTRAINT, _VALIDATE))
        if required:
            column = required["column"]
            self._add("nulls", [column], f"{column} IS NULL")
        elif typed and not self._grows(typed):
            self._cast(typed)
        elif validate and (plain(self._table), plain(validate["name"])) in self._later:
            check = self._later[(plain(self._table), plain(validate["name"]))]
            self.checks.append(dataclasses.replace(check, revision=self._revision, statement=self._statement, certain=check.certain and not self._unknown))
        elif constraint:
            self._constraint(constraint)

    def _constraint(self, match: re.Match[str]) -> None:
        inside, rest = _inside(match["rest"])
        kind = " ".join(match["kind"].upper().split())
        before = len(self.checks)
        if kind.startswith(("UNIQUE", "PRIMARY")):
            self._duplicates(inside, "", distinct="NOT DISTINCT" in kind)
            if kind == "PRIMARY KEY":
                for column in parts(inside):
                    self._add("nulls", [column], f"{column} IS NULL")
        elif kind == "CHECK":
            self._add("violations", [], f"NOT ({inside})")
        else:
            self._orphans(parts(inside), rest)
        if match["name"] and re.search(r"\bNOT\s+VALID\b", rest, _FLAGS):
            for check in self.checks[before:]:
                self._later[(plain(self._table), plain(match["name"]))] = check
            del self.checks[before:]

    def _orphans(self, columns: list[str], rest: str) -> None:
        match = _REFERENCES.match(rest)
        other = self.catalog.tables.get(plain(match["table"])) if match else None
        if match is None or other is None:
            return
        theirs = parts(_inside(match["rest"])[0]) if match["rest"].startswith("(") else [quote(one) for one in other.primary_key]
        if len(theirs) != len(columns):
            return
        same = " AND ".join(f"theirs.{a} = mine.{b}" for a, b in zip(theirs, columns, strict=True))
        there = " AND ".join(f"mine.{column} IS NOT NULL" for column in columns)
        where = f"{there} AND NOT EXISTS (SELECT FROM {match['table']} AS theirs WHERE {same})"
        self._add("orphans", columns, where)

    def _duplicates(self, items: str, only: str, *, distinct: bool) -> None:
        expressions = [_expression(item) for item in parts(items)]
        there = [] if distinct else [f"({one}) IS NOT NULL" for one in expressions]
        where = " AND ".join([*there, *([f"({only})"] if only.strip() else [])]) or "true"
        again = f"(SELECT mine.*, mine.ctid AS place, count(*) OVER (PARTITION BY {', '.join(expressions)}) AS again FROM {self._table} AS mine WHERE {where})"  # noqa: S608
        self._add("duplicates", expressions, "again > 1", source=again)

    def _cast(self, match: re.Match[str]) -> None:
        sized = re.match(r"(?:character\s+varying|varchar|character|char)\s*\(\s*(\d+)\s*\)\Z", match["type"], _FLAGS)
        value = match["using"] or match["column"]
        if sized and not match["using"]:
            self._add("casts", [match["column"]], f"length(rtrim({value}::text)) > {sized[1]}")
        else:
            self._add("casts", [match["column"]], "", using=f"CAST(({value}) AS {match['type']})")

    def _grows(self, match: re.Match[str]) -> bool:
        now = self.catalog.column(plain(self._table), plain(match["column"]))
        return bool(now and not match["using"] and no_rewrite(now.type, match["type"], utc=True))

    def _add(self, kind: Kind, columns: t.Sequence[str], where: str, *, source: str = "", using: str = "") -> None:
        table = plain(self._table)
        known = self.catalog.tables.get(table)
        named = [plain(one) for one in columns if _ITEM.match(one)]
        if known is None or any(one not in known.columns for one in named):
            return  # not there yet, so without rows
        if kind == "nulls" and (known.columns[named[0]].not_null or known.columns[named[0]].proven):
            return
        certain = not self._unknown and table not in self._written
        shown = tuple(named if len(named) == len(columns) else columns)
        self.checks.append(Check(self._revision, kind, table, shown, self._statement, certain, where, source or f"{self._table} AS mine", using))


def quote(name: str) -> str:
    """*name* as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def derive(picture: Picture, catalog: Catalog) -> list[Check]:
    """What to count for the pending revisions, in their order."""
    deriver = _Deriver(catalog)
    for one in picture.pending:
        deriver.revision(one.revision, one.sql, unrenderable=one.unrenderable)
    return deriver.checks


# The record has a name that no table of the query has: PL/pgSQL would take "mine.id" for a field of its own.
_EACH = """
DO $lastro$ DECLARE lastro_row record; n bigint := 0; found text[] := '{{}}'; BEGIN
  FOR lastro_row IN SELECT ctid AS place, {key} AS key FROM {table} AS mine LOOP
    BEGIN EXECUTE 'SELECT ' || {using} || ' FROM {literal} AS mine WHERE ctid = $1' USING lastro_row.place;
    EXCEPTION WHEN data_exception OR cannot_coerce THEN n := n + 1; IF n <= {keys} THEN found := found || lastro_row.key; END IF; END;
  END LOOP;
  PERFORM set_config('lastro.counted', json_build_array(n, found)::text, true);
END $lastro$
"""


def run(connection: PostgresConnection, checks: t.Iterable[Check], catalog: Catalog, *, until: float) -> list[Counted]:
    """Count for each check, as long as it is not *until* (of the monotonic clock).

    Writes nothing; waits for no lock longer than a moment. Raises psycopg2.Error for a lost connection.
    """
    found = []
    for check in checks:
        # A check has at most two statements that take long.
        seconds = min(SECONDS, (until - time.monotonic()) / 2)
        if seconds < SHORTEST:
            found.append(Counted(check, None))
            continue
        try:
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION READ ONLY")
                cursor.execute("SELECT set_config('statement_timeout', %s, true), set_config('lock_timeout', '2s', true)", (f"{int(seconds * 1000)}ms",))
                found.append(_counted(cursor, check, _key(check, catalog)))
        except (psycopg2.errors.QueryCanceled, psycopg2.errors.LockNotAvailable):
            found.append(Counted(check, None))
        except psycopg2.Error:
            if connection.closed:
                raise
            # What cannot be asked before (an object that an earlier revision makes) is not asked.
        finally:
            if not connection.closed:
                connection.rollback()
    return found


def _key(check: Check, catalog: Catalog) -> str:
    place = "place" if check.kind == "duplicates" else "ctid"
    key = catalog.tables[check.table].primary_key
    return "concat_ws(', ', " + ", ".join(f"mine.{quote(one)}" for one in key) + ")" if key else f"mine.{place}::text"


def _counted(cursor: t.Any, check: Check, key: str) -> Counted:  # noqa: ANN401 - psycopg2's cursor
    # Everything in these statements is the revision's own SQL or quoted by us; the transaction cannot write.
    if not check.using:
        source = f"{check.source} AS mine" if check.kind == "duplicates" else check.source
        cursor.execute(f"SELECT count(*) FROM {source} WHERE {check.where}")  # noqa: S608
        count = int(cursor.fetchone()[0])
        cursor.execute(f"SELECT {key} FROM {source} WHERE {check.where} LIMIT {KEYS}" if count else "SELECT '' WHERE false")  # noqa: S608
        return Counted(check, count, tuple(str(row[0]) for row in cursor.fetchall()))
    table = check.source.removesuffix(" AS mine")
    cursor.execute("SAVEPOINT whole")
    try:
        cursor.execute(f"SELECT count({check.using}) FROM {check.source}")  # noqa: S608
        return Counted(check, 0)
    except (psycopg2.errors.DataError, psycopg2.errors.CannotCoerce):
        cursor.execute("ROLLBACK TO SAVEPOINT whole")
    literal = "'" + check.using.replace("'", "''") + "'"
    cursor.execute(_EACH.format(key=key, table=table, using=literal, literal=table.replace("'", "''"), keys=KEYS))
    cursor.execute("SELECT current_setting('lastro.counted')::json->0, ARRAY(SELECT json_array_elements_text(current_setting('lastro.counted')::json->1))")
    count, keys = cursor.fetchone()
    return Counted(check, int(count), tuple(keys))


__all__ = ("Check", "Counted", "derive", "run")
