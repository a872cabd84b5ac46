# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a revision's SQL does to code that runs beside it: a short list of rules over the rendered statements.

Tables that the revision itself creates are exempt. What cannot be read (a DO block, a revision that cannot be rendered)
counts as breaking. PRIVATE to the collection: may change at any time.
"""

from __future__ import annotations

import dataclasses
import re
import typing as t

from ._alembic_sql import NAME, Statement, plain, statements

Kind = t.Literal["contract", "wait", "irreversible"]
SEVERITY: dict[str, str] = {"contract": "contract", "wait": "block", "irreversible": "note"}


@dataclasses.dataclass(frozen=True)
class Rule:
    """A hazard: C(contract) breaks running code, C(wait) makes it wait, C(irreversible) cannot be taken back."""

    name: str
    kind: Kind
    why: str
    safe_way: str


@dataclasses.dataclass(frozen=True)
class Finding:
    """A rule that a statement of a revision met."""

    revision: str
    rule: Rule
    table: str
    statement: str

    def as_result(self) -> dict[str, str]:
        """The finding as a return value."""
        return {
            "revision": self.revision,
            "rule": self.rule.name,
            "kind": self.rule.kind,
            "severity": SEVERITY[self.rule.kind],
            "table": self.table,
            "statement": self.statement,
            "why": self.rule.why,
            "safe_way": self.rule.safe_way,
        }


_USE_INDEX = "Build a unique index concurrently in autocommit_block(), then ADD CONSTRAINT ... USING INDEX."
_NOT_VALID = "Add it NOT VALID, and VALIDATE CONSTRAINT in a later revision."
_LATER = "Deploy code that no longer uses it, then drop it in a contracting revision."
RULES = {
    rule.name: rule
    for rule in (
        Rule("drop-object", "contract", "Running code that still uses it fails.", _LATER),
        Rule("drop-column", "contract", "Running code that still reads or writes the column fails.", _LATER),
        Rule("rename", "contract", "Running code knows the old name.", "Add the new one, write both, move the data, then drop the old one."),
        Rule(
            "change-type",
            "contract",
            "Running code may send or expect the old type.",
            "Add a column of the new type, write both, move the data, then drop the old one.",
        ),
        Rule(
            "change-type-rewrite",
            "wait",
            "The table is rewritten under ACCESS EXCLUSIVE: readers and writers wait.",
            "Add a column of the new type and fill it in batches.",
        ),
        Rule("set-not-null", "contract", "Running code that leaves the column out fails.", "Deploy code that always fills it first."),
        Rule(
            "set-not-null-scan",
            "wait",
            "The table is read whole under ACCESS EXCLUSIVE.",
            "Add CHECK (column IS NOT NULL) NOT VALID, validate it, then SET NOT NULL.",
        ),
        Rule("drop-default", "contract", "Running code that relies on the default fails or writes NULL.", "Deploy code that always gives the value first."),
        Rule(
            "add-required-column",
            "contract",
            "INSERTs of running code fail, and the statement itself fails on a table with rows.",
            "Add it nullable or with a constant default.",
        ),
        Rule(
            "add-column-rewrite",
            "wait",
            "The value is computed for each row: the table is rewritten under ACCESS EXCLUSIVE.",
            "Add it nullable, set the default, fill it in batches.",
        ),
        Rule(
            "add-column-constraint",
            "wait",
            "The column's own constraint builds an index or reads the table under ACCESS EXCLUSIVE.",
            "Add the column alone, then its constraint in the safe way.",
        ),
        Rule("index-not-concurrent", "wait", "Writers wait until the index is built.", "CREATE INDEX CONCURRENTLY in autocommit_block()."),
        Rule("drop-index-not-concurrent", "wait", "DROP INDEX takes ACCESS EXCLUSIVE on the table.", "DROP INDEX CONCURRENTLY in autocommit_block()."),
        Rule("unique-constraint", "wait", "The index is built under ACCESS EXCLUSIVE: readers and writers wait.", _USE_INDEX),
        Rule("constraint-not-valid", "wait", "The table is read whole while writers wait.", _NOT_VALID),
        Rule("exclusion-constraint", "wait", "The index is built under ACCESS EXCLUSIVE, and there is no concurrent way.", "Run it in a maintenance."),
        Rule(
            "blocking-command",
            "wait",
            "The command locks the table against readers or writers for as long as it takes.",
            "Run it in a maintenance, or use its concurrent form.",
        ),
        Rule("truncate", "contract", "Rows that running code expects are gone.", "Delete in batches what nobody needs."),
        Rule(
            "opaque-block",
            "contract",
            "What a DO block runs cannot be read from here; unknown counts as breaking.",
            "Write the statements out, each in an op.execute().",
        ),
        Rule(
            "unrenderable",
            "contract",
            "The revision cannot be rendered as SQL without a database; unknown counts as breaking.",
            "Split data work from schema work.",
        ),
        Rule("empty-downgrade", "irreversible", "downgrade() is empty or raises: the schema cannot be taken back.", "Write the downgrade."),
    )
}

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
    (re.compile(r"ADD .*\b(?:UNIQUE|PRIMARY KEY)\b(?!.*\bUSING INDEX\b)"), ("unique-constraint",)),
    (re.compile(r"ADD .*\bEXCLUDE\b"), ("exclusion-constraint",)),
    (re.compile(r"SET (?:UN)?LOGGED\b|SET TABLESPACE\b|ATTACH PARTITION\b|DETACH PARTITION (?!.*CONCURRENTLY)"), ("blocking-command",)),
)
_OBJECTS = "VIEW|MATERIALIZED VIEW|TYPE|DOMAIN|FUNCTION|PROCEDURE|SCHEMA|SEQUENCE|EXTENSION|FOREIGN TABLE"
_INDEX_TABLE = re.compile(rf"\bON (?:ONLY )?(?P<table>{NAME})")
_STATEMENT_RULES = (
    (re.compile(rf"DROP TABLE (?:IF EXISTS )?(?P<table>{NAME})"), ("drop-object",)),
    (re.compile(rf"DROP (?:{_OBJECTS})\b"), ("drop-object",)),
    (re.compile(rf"ALTER (?:{_OBJECTS}) .*\b(?:RENAME|DROP ATTRIBUTE|SET SCHEMA)\b"), ("rename",)),
    (re.compile(rf"TRUNCATE (?:TABLE )?(?:ONLY )?(?P<table>{NAME})"), ("truncate",)),
    (re.compile(r"CREATE (?:UNIQUE )?INDEX (?!CONCURRENTLY\b)"), ("index-not-concurrent",)),
    (re.compile(r"DROP INDEX (?!CONCURRENTLY\b)"), ("drop-index-not-concurrent",)),
    (re.compile(r"REINDEX (?!.*\bCONCURRENTLY\b)|CLUSTER\b|VACUUM .*\bFULL\b|LOCK\b|REFRESH MATERIALIZED VIEW (?!CONCURRENTLY\b)"), ("blocking-command",)),
    (re.compile(r"DO\b"), ("opaque-block",)),
)
_ALTER_TABLE = re.compile(rf"ALTER TABLE (?:IF EXISTS )?(?:ONLY )?(?P<table>{NAME})(?: ?\*)? ")
_CREATE_TABLE = re.compile(rf"CREATE (?:UNLOGGED |(?:GLOBAL |LOCAL )?TEMP(?:ORARY)? )?TABLE (?:IF NOT EXISTS )?(?P<table>{NAME})")
_BOOKKEEPING = re.compile(rf"(?:BEGIN|COMMIT|END)$|(?:INSERT INTO|UPDATE|DELETE FROM|CREATE TABLE) (?P<table>{NAME})")


def own_statements(sql: str, version_table: str) -> list[Statement]:
    """The statements that the revision wrote: without those of Alembic around them."""
    found = []
    for statement in statements(sql):
        match = _BOOKKEEPING.match(statement.pattern_text)
        if not (match and (match["table"] is None or plain(match["table"]).rpartition(".")[2] == version_table)):
            found.append(statement)
    return found


def _column_rules(definition: str) -> list[str]:
    """Rules that a new column's type and constraints meet."""
    filled = re.search(r"\bDEFAULT\b|\bGENERATED\b|\b(?:SMALL|BIG)?SERIAL\d?\b", definition)
    rules = ["add-required-column"] if re.search(r"\bNOT NULL\b", definition) and not filled else []
    if _REWRITES.search(definition) or _VOLATILE.search(definition):
        rules.append("add-column-rewrite")
    if re.search(r"\b(?:UNIQUE|PRIMARY KEY|CHECK)\b", definition):
        rules.append("add-column-constraint")
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
            place = _INDEX_TABLE.search(text) if text.startswith("CREATE") else match
            table = place.groupdict().get("table") if place else None
            return plain(table) if table else "", list(rules)
    return "", []


def findings(revision: str, sql: str, *, version_table: str = "alembic_version") -> list[Finding]:
    """What the SQL of one *revision* does to running code, in its order."""
    found: list[Finding] = []
    created: set[str] = set()
    for statement in own_statements(sql, version_table):
        new = _CREATE_TABLE.match(statement.pattern_text)
        if new:
            created.add(plain(new["table"]))
            continue
        table, rules = _statement_rules(statement)
        if table not in created:
            found.extend(Finding(revision, RULES[name], table, statement.shown) for name in rules)
    return found


def special(revision: str, name: str, detail: str) -> Finding:
    """A finding that no statement shows: C(unrenderable) or C(empty-downgrade)."""
    return Finding(revision, RULES[name], "", detail)


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


def renames(sql: str) -> bool:
    """Whether a statement renames something: names of other statements may then be those of other times."""
    return any(re.match(r"ALTER .*\bRENAME\b", statement.pattern_text) for statement in statements(sql))


__all__ = ("RULES", "Finding", "Loss", "Rule", "findings", "losses", "own_statements", "renames", "special")
