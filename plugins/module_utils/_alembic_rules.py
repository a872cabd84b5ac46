# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a revision's SQL does to code that runs beside it: rules over the rendered statements.

They stand in for squawk where it is not at hand, and see what it does not: DO blocks, writes without WHERE, work under a lock, and what the database's
own catalog shows to be harmless. Tables that the revision itself creates are exempt. What cannot be read counts as breaking.
PRIVATE to the collection: may change at any time.
"""

from __future__ import annotations

import dataclasses
import re
import typing as t

from ._alembic_catalog import Catalog, no_rewrite, same_to_code
from ._alembic_hazards import Finding, finding
from ._alembic_sql import NAME, Statement, plain, statements

_VOLATILE = re.compile(r"\b(?:GEN_RANDOM_UUID|UUID_GENERATE_V\d\w*|UUIDV\d|RANDOM|CLOCK_TIMESTAMP|TIMEOFDAY|NEXTVAL|SETVAL)\s?\(")
_REWRITES = re.compile(r"\b(?:SMALL|BIG)?SERIAL\d?\b|\bAS IDENTITY\b|\bSTORED\b")
_ALTER_COLUMN = re.compile(rf"ALTER (?:COLUMN )?{NAME} (?P<what>.*)")
_ADD_COLUMN = re.compile(rf"ADD (?:COLUMN )?(?:IF NOT EXISTS )?(?!(?:CONSTRAINT|UNIQUE|PRIMARY|CHECK|FOREIGN|EXCLUDE|NOT)\b){NAME} (?P<what>.*)")
_ALTER_COLUMN_RULES = (
    (re.compile(r"(?:SET DATA )?TYPE\b"), ("change-type", "change-type-rewrite")),
    (re.compile(r"SET NOT NULL\b"), ("set-not-null", "set-not-null-scan")),
    (re.compile(r"DROP DEFAULT\b"), ("drop-default",)),
    (re.compile(r"ADD GENERATED\b"), ("add-column-rewrite",)),
)
_ACTION_RULES = (
    (re.compile(r"DROP (?!CONSTRAINT\b)"), ("drop-column",)),
    (re.compile(r"RENAME (?!CONSTRAINT\b)|SET SCHEMA\b"), ("rename",)),
    (re.compile(r"ADD .*\b(?:FOREIGN KEY|CHECK)\b(?!.*\bNOT VALID\b)"), ("constraint-not-valid",)),
    (re.compile(r"(?:NO )?INHERIT\b"), ("change-behaviour",)),
    (re.compile(r"ADD .*\b(?:UNIQUE|PRIMARY KEY)\b(?!.*\bUSING INDEX\b)"), ("unique-constraint",)),
    (re.compile(r"ADD .*\bEXCLUDE\b"), ("exclusion-constraint",)),
    (re.compile(r"SET (?:UN)?LOGGED\b|SET TABLESPACE\b|ATTACH PARTITION\b|DETACH PARTITION (?!.*CONCURRENTLY)"), ("blocking-command",)),
)
_OBJECTS = "VIEW|MATERIALIZED VIEW|TYPE|DOMAIN|FUNCTION|PROCEDURE|SCHEMA|SEQUENCE|EXTENSION|FOREIGN TABLE"
_ON_TABLE = re.compile(rf"\b(?:ON(?! (?:INSERT|UPDATE|DELETE|SELECT)\b)|TO) (?:ONLY )?(?P<table>{NAME})")
_STATEMENT_RULES = (
    (re.compile(rf"DROP TABLE (?:IF EXISTS )?(?P<table>{NAME})"), ("drop-object",)),
    (re.compile(rf"DROP (?:{_OBJECTS})\b"), ("drop-object",)),
    (re.compile(rf"ALTER (?:{_OBJECTS}) .*\b(?:RENAME|DROP ATTRIBUTE|SET SCHEMA)\b"), ("rename",)),
    (re.compile(rf"TRUNCATE (?:TABLE )?(?:ONLY )?(?P<table>{NAME})"), ("truncate",)),
    (re.compile(r"CREATE (?:UNIQUE )?INDEX (?!CONCURRENTLY\b)"), ("index-not-concurrent",)),
    (re.compile(rf"DROP INDEX (?!CONCURRENTLY\b)(?:IF EXISTS )?(?P<table>{NAME})"), ("drop-index-not-concurrent",)),
    (re.compile(rf"REINDEX (?!.*\bCONCURRENTLY\b)(?:\(.*?\) ?)?(?:INDEX|TABLE) (?P<table>{NAME})"), ("blocking-command",)),
    (re.compile(rf"(?:CLUSTER|LOCK)(?: TABLE)?(?: VERBOSE)? (?:ONLY )?(?P<table>{NAME})"), ("blocking-command",)),
    (re.compile(rf"VACUUM (?:.*\bFULL\b)[^(]*?\)? ?(?:VERBOSE |ANALYZE |FREEZE )*(?P<table>{NAME})"), ("blocking-command",)),
    (re.compile(rf"REFRESH MATERIALIZED VIEW (?!CONCURRENTLY\b)(?P<table>{NAME})"), ("blocking-command",)),
    (re.compile(r"REINDEX (?!.*\bCONCURRENTLY\b)|CLUSTER\b|VACUUM .*\bFULL\b"), ("blocking-command",)),
    (re.compile(r"CREATE (?:OR REPLACE )?(?:CONSTRAINT )?(?:TRIGGER|RULE)\b"), ("change-behaviour",)),
    (re.compile(r"CREATE DOMAIN .*\bCHECK\b|ALTER DOMAIN .*\bADD\b"), ("domain-constraint",)),
    (re.compile(rf"UPDATE (?:ONLY )?(?P<table>{NAME}) (?!.*\bWHERE\b)"), ("unbounded-write",)),
    (re.compile(rf"DELETE FROM (?:ONLY )?(?P<table>{NAME})(?: |$)(?!.*\bWHERE\b)"), ("unbounded-write",)),  # noqa: S608 - a pattern
    (re.compile(r"DO\b"), ("opaque-block",)),
)
_ALTER_TABLE = re.compile(rf"ALTER TABLE (?:IF EXISTS )?(?:ONLY )?(?P<table>{NAME})(?: ?\*)? ")
_CREATE_TABLE = re.compile(rf"CREATE (?:UNLOGGED |(?:GLOBAL |LOCAL )?TEMP(?:ORARY)? )?TABLE (?:IF NOT EXISTS )?(?P<table>{NAME})")
_BOOKKEEPING = re.compile(rf"(?:BEGIN|COMMIT|END)$|(?:INSERT INTO|UPDATE|DELETE FROM|CREATE TABLE) (?P<table>{NAME})")


def own(found: t.Iterable[Statement], version_table: str) -> list[Statement]:
    """The statements that the revision wrote: without those of Alembic around them."""
    left = []
    for statement in found:
        match = _BOOKKEEPING.match(statement.pattern_text)
        if not (match and (match["table"] is None or plain(match["table"]).rpartition(".")[2] == version_table)):
            left.append(statement)
    return left


def own_statements(sql: str, version_table: str) -> list[Statement]:
    """The statements that the revision wrote: without those of Alembic around them."""
    return own(statements(sql), version_table)


def _column_rules(definition: str) -> list[str]:
    """Rules that a new column's type and constraints meet."""
    filled = re.search(r"\bDEFAULT\b|\bGENERATED\b|\b(?:SMALL|BIG)?SERIAL\d?\b", definition)
    rules = ["add-required-column"] if re.search(r"\bNOT NULL\b", definition) and not filled else []
    if _REWRITES.search(definition) or _VOLATILE.search(definition):
        rules.append("add-column-rewrite")
    if re.search(r"\b(?:UNIQUE|PRIMARY KEY|CHECK|REFERENCES)\b", definition):
        rules.append("add-column-constraint")
    if re.match(r"JSON\b", definition):
        rules.append("json-column")
    return rules


def _action_rules(action: str) -> t.Iterable[str]:
    """Rules that one action of an ALTER TABLE meets."""
    column = _ALTER_COLUMN.match(action)
    if column:
        return [name for pattern, names in _ALTER_COLUMN_RULES if pattern.match(column["what"]) for name in names]
    new = _ADD_COLUMN.match(action)
    if new:
        return _column_rules(new["what"])
    return [name for pattern, names in _ACTION_RULES if pattern.match(action) for name in names]


def _statement_rules(statement: Statement) -> tuple[str, list[str]]:
    """The table that a statement is about (or an empty text), and the rules that it meets."""
    text = statement.pattern_text
    alter = _ALTER_TABLE.match(text)
    if alter:
        names = [name for action in statement.actions(alter.end()) for name in _action_rules(action)]
        return plain(alter["table"]), list(dict.fromkeys(names))
    for pattern, rules in _STATEMENT_RULES:
        match = pattern.match(text)
        if match:
            place = _ON_TABLE.search(text) if text.startswith("CREATE") else match
            table = place.groupdict().get("table") if place else None
            return plain(table) if table else "", list(rules)
    return "", []


_COLUMN_CHANGE = re.compile(
    rf"ALTER (?:COLUMN )?(?P<column>{NAME}) (?:(?:SET DATA )?TYPE (?P<type>.+?)(?P<using> USING .*| COLLATE .*)?|(?P<required>SET NOT NULL))\Z"
)
_CHECK_NOT_NULL = re.compile(rf"ADD CONSTRAINT (?P<name>{NAME}) CHECK ?\( ?\(? ?(?P<column>{NAME}) IS NOT NULL ?\)? ?\)(?P<later> NOT VALID)?")
_NOT_VALID = re.compile(rf"ADD CONSTRAINT (?P<name>{NAME}) .*\bNOT VALID\b")
_VALIDATE = re.compile(rf"VALIDATE CONSTRAINT (?P<name>{NAME})")
_LIGHT = re.compile(r"VALIDATE\b|SET STATISTICS|ALTER (?:COLUMN )?\S+ SET (?:STATISTICS|STORAGE)|SET \(|RESET \(|CLUSTER ON|ADD .*\bFOREIGN KEY\b.*\bNOT VALID")
_WORK = re.compile(
    rf"(?:UPDATE (?:ONLY )?|DELETE FROM (?:ONLY )?|CREATE (?:UNIQUE )?INDEX .*? ON (?:ONLY )?"  # noqa: S608 - a pattern
    rf"|(?:INSERT INTO .*?|WITH .*?)?\bSELECT\b.*? FROM )(?P<table>{NAME})"
)
_CONCURRENTLY = re.compile(r"(?:CREATE (?:UNIQUE )?INDEX|DROP INDEX|REINDEX .*?) CONCURRENTLY\b")
_BEGIN, _END = re.compile(r"BEGIN$|START TRANSACTION"), re.compile(r"(?:COMMIT|END|ROLLBACK)$")


@dataclasses.dataclass(frozen=True)
class Cleared:
    """What a linter would say of a statement, and why the database's own catalog (or an earlier revision) shows that it is not so."""

    revision: str
    rules: tuple[str, ...]
    statement: str
    why: str

    def as_result(self) -> dict[str, t.Any]:
        """As a return value."""
        return {**dataclasses.asdict(self), "rules": list(self.rules)}


class Reader:
    """Reads the revisions of a chain in their order, since one may prepare what the next one does."""

    def __init__(self, version_table: str, catalog: Catalog | None = None) -> None:
        self.version_table = version_table
        self.catalog = catalog
        self.cleared: list[Cleared] = []
        self._checks: dict[tuple[str, str], str] = {}
        self._proven: set[tuple[str, str]] = set()

    def read(self, revision: str, sql: str) -> list[Finding]:
        """What the SQL of one *revision* does to running code, in its order."""
        found: list[Finding] = []
        created: set[str] = set()
        self._open, self._locked, self._unvalidated = False, "", set[tuple[str, str]]()
        for statement in statements(sql):
            if self._transaction(statement.pattern_text) or not own([statement], self.version_table):
                continue
            new = _CREATE_TABLE.match(statement.pattern_text)
            if new:
                created.add(plain(new["table"]))
                continue
            table, rules = _statement_rules(statement)
            if table in created:
                self.cleared.append(Cleared(revision, tuple(rules), statement.shown, "The revision itself creates the table."))
                continue
            rules = self._without_cleared(revision, statement, table, rules) + self._in_context(statement, table, created)
            found.extend(finding(revision, name, statement.shown, table) for name in dict.fromkeys(rules))
        return found

    def _transaction(self, text: str) -> bool:
        """Whether the statement begins or ends a transaction; what it held is over then."""
        begins, ends = _BEGIN.match(text), _END.match(text)
        if begins or ends:
            self._open, self._locked = bool(begins), ""
            self._unvalidated.clear()
        return bool(begins or ends)

    def _without_cleared(self, revision: str, statement: Statement, table: str, rules: list[str]) -> list[str]:
        """*rules* without those that the catalog or an earlier statement shows to be harmless here."""
        alter = _ALTER_TABLE.match(statement.pattern_text)
        left = list(rules)
        for change in [match for match in map(_COLUMN_CHANGE.match, statement.actions(alter.end()) if alter else []) if match]:
            harmless, why = self._harmless(table, plain(change["column"]), change)
            dropped = tuple(name for name in harmless if name in left)
            if dropped:
                left = [name for name in left if name not in dropped]
                self.cleared.append(Cleared(revision, dropped, statement.shown, why))
        return left

    def _harmless(self, table: str, column: str, change: re.Match[str]) -> tuple[tuple[str, ...], str]:
        now = self.catalog.column(table, column) if self.catalog else None
        if change["required"]:
            if now and now.not_null:
                return ("set-not-null", "set-not-null-scan"), "The column is NOT NULL already."
            if (now and now.proven) or (table, column) in self._proven:
                return ("set-not-null-scan",), "A validated CHECK proves that there is no NULL: the table is not read."
        elif now and self.catalog and not change["using"] and no_rewrite(now.type, change["type"], utc=self.catalog.utc):
            harmless = ("change-type-rewrite", "change-type") if same_to_code(now.type, change["type"]) else ("change-type-rewrite",)
            return harmless, f"From {now.type} the table is neither read nor rewritten."
        return (), ""

    def _in_context(self, statement: Statement, table: str, created: set[str]) -> list[str]:
        """Rules about what stands around a statement, and what it leaves for those after it."""
        text, rules = statement.pattern_text, []
        if self._open and _CONCURRENTLY.match(text):
            rules.append("concurrently-in-transaction")
        work = _WORK.match(text)
        if work and self._locked and plain(work["table"]) not in created:
            rules.append("work-under-lock")
        alter = _ALTER_TABLE.match(text)
        for action in statement.actions(alter.end()) if alter else []:
            rules += self._constraint(table, action)
            if self._open and not _LIGHT.match(action):
                self._locked = table
        return rules

    def _constraint(self, table: str, action: str) -> list[str]:
        check, later, validate = _CHECK_NOT_NULL.match(action), _NOT_VALID.match(action), _VALIDATE.match(action)
        if check:
            self._checks[(table, plain(check["name"]))] = plain(check["column"])
            if not check["later"]:
                self._proven.add((table, plain(check["column"])))
        if later:
            self._unvalidated.add((table, plain(later["name"])))
        if validate:
            key = (table, plain(validate["name"]))
            if key in self._checks:
                self._proven.add((table, self._checks[key]))
            return ["validate-same-transaction"] if key in self._unvalidated else []
        return []


@dataclasses.dataclass(frozen=True)
class Loss:
    """Data that a downgrade's statement removes: a whole table, a column, or C(what) alone where neither can be told."""

    revision: str
    what: str
    table: str = ""
    column: str = ""


_DROP_TABLES = re.compile(rf"DROP TABLE (?:IF EXISTS )?(?P<tables>{NAME}(?: ?, ?{NAME})*)")
_DROP_COLUMN = re.compile(rf"DROP (?:COLUMN )?(?:IF EXISTS )?(?!CONSTRAINT\b)(?P<column>{NAME})")
_OTHER_LOSS = re.compile(r"DELETE FROM|TRUNCATE|DROP (?:SCHEMA|MATERIALIZED VIEW|EXTENSION|TYPE)|DO\b|ALTER TABLE .*\bTYPE\b")


def losses(revision: str, sql: str, *, version_table: str = "alembic_version") -> list[Loss]:
    """What the SQL of one *revision*'s downgrade removes."""
    found: list[Loss] = []
    for statement in own_statements(sql, version_table):
        text = statement.pattern_text
        tables = _DROP_TABLES.match(text)
        alter = _ALTER_TABLE.match(text)
        if tables:
            found.extend(Loss(revision, f"table {plain(name)}", table=plain(name)) for name in re.findall(NAME, tables["tables"]))
        elif alter:
            columns = [match for match in map(_DROP_COLUMN.match, statement.actions(alter.end())) if match]
            table = plain(alter["table"])
            found.extend(Loss(revision, f"column {table}.{plain(match['column'])}", table=table, column=plain(match["column"])) for match in columns)
        if _OTHER_LOSS.match(text):
            found.append(Loss(revision, statement.shown))
    return found


def lost_for_good(chain: t.Iterable[tuple[str, str]], *, version_table: str = "alembic_version") -> list[Loss]:
    """The tables and columns that upgrades remove and no downgrade fills again. *chain*: each revision with its SQL, in their order.

    A table that the chain itself has made holds nothing that was there before it.
    """
    found: list[Loss] = []
    created: set[str] = set()
    for revision, sql in chain:
        made = (_CREATE_TABLE.match(statement.pattern_text) for statement in statements(sql))
        created |= {plain(match["table"]) for match in made if match}
        found += [one for one in losses(revision, sql, version_table=version_table) if one.table and one.table not in created]
    return found


def renames(sql: str) -> bool:
    """Whether a statement renames something: names of other statements may then be those of other times."""
    return any(re.match(r"ALTER .*\bRENAME\b", statement.pattern_text) for statement in statements(sql))


__all__ = ("Cleared", "Loss", "Reader", "losses", "lost_for_good", "own_statements", "renames")
