# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hazards that a revision's SQL can hold: why each is one, and how to do it without. PRIVATE to the collection: may change at any time.

Sources: lock levels of the PostgreSQL manual (Explicit Locking, ALTER TABLE), seen in pg_locks on 15 and 18; the rules of squawk, strong_migrations and eugene.
"""

from __future__ import annotations

import dataclasses
import typing as t

Kind = t.Literal["contract", "wait", "fails", "notice", "irreversible"]
Severity = t.Literal["block", "contract", "warn", "note"]
SEVERITY: dict[Kind, Severity] = {"contract": "contract", "wait": "block", "fails": "block", "notice": "warn", "irreversible": "note"}
"""What a kind is worth where nothing is known of the table's size."""


@dataclasses.dataclass(frozen=True)
class Rule:
    """A hazard: C(contract) breaks running code, C(wait) makes it wait, C(fails) ends the upgrade, C(irreversible) has no way back, C(notice) is the rest."""

    name: str
    kind: Kind
    why: str
    safe_way: str


@dataclasses.dataclass(frozen=True)
class Finding:
    """A rule that a statement of a revision met. *statement* in one line; *engine*: lastro, squawk, data (a precheck) or rehearsal."""

    revision: str
    rule: str
    kind: Kind
    severity: Severity
    table: str
    statement: str
    why: str
    safe_way: str
    engine: str = "lastro"
    allowed: bool = False

    def as_result(self) -> dict[str, t.Any]:
        """The finding as a return value."""
        return dataclasses.asdict(self)


def finding(revision: str, name: str, statement: str, table: str = "") -> Finding:
    """What rule *name* says of a statement, with the severity of its kind."""
    rule = RULES[name]
    return Finding(revision, name, rule.kind, SEVERITY[rule.kind], table, statement, rule.why, rule.safe_way)


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
        Rule(
            "values-lost",
            "irreversible",
            "The downgrade makes it anew and empty: what stood in it comes back by a restore alone.",
            "Drop what nobody wants back; where its values stand elsewhere too, allow REVISION:values-lost.",
        ),
        Rule("empty-downgrade", "irreversible", "downgrade() is empty or raises: the schema cannot be taken back.", "Write the downgrade."),
        Rule(
            "unbounded-write",
            "wait",
            "Every row stays locked until the revision commits: writers of any of them wait.",
            "Write in batches with a WHERE, each in a transaction of its own, outside of the migration.",
        ),
        Rule(
            "work-under-lock",
            "wait",
            "An earlier statement of this transaction holds ACCESS EXCLUSIVE; readers and writers wait until this one, which reads or writes rows, is done.",
            "Put what changes the schema and what works on rows into revisions of their own.",
        ),
        Rule(
            "validate-same-transaction",
            "wait",
            "The lock of ADD ... NOT VALID is still held while the table is read, so NOT VALID has won nothing.",
            "VALIDATE CONSTRAINT in a later revision.",
        ),
        Rule(
            "concurrently-in-transaction",
            "fails",
            "PostgreSQL refuses CONCURRENTLY inside a transaction block: the upgrade would fail here.",
            "Put it into `with op.get_context().autocommit_block():`.",
        ),
        Rule(
            "version-table-too-narrow",
            "fails",
            "The revision's identifier is longer than the column version_num of the version table: the upgrade would fail here.",
            "Use shorter identifiers (alembic revision --rev-id), or widen the column first.",
        ),
        Rule(
            "change-behaviour",
            "notice",
            "A trigger, rule or inheritance changes what statements of running code do, and takes a lock that stops writers for a moment.",
            "See that running code works with it before it is in force.",
        ),
        Rule(
            "rehearsal-rewrite",
            "wait",
            "On the copy the table was rewritten under ACCESS EXCLUSIVE: readers and writers wait.",
            "See the statement: add a column of the new kind and fill it in batches.",
        ),
        Rule(
            "rehearsal-lock",
            "wait",
            "On the copy the lock was held for longer than a second: readers or writers wait as long.",
            "Put what takes long into a revision of its own, or do it concurrently.",
        ),
        Rule("rehearsal-removal", "contract", "It was there before the revision and not after it: running code that still uses it fails.", _LATER),
        Rule("rehearsal-not-reverted", "irreversible", "After downgrade() the schema is not what it was before.", "Correct the downgrade."),
        Rule(
            "rehearsal-failed", "fails", "On the copy the revision failed, going up or going back.", "Correct the revision; nothing was changed but the copy."
        ),
        Rule("named-contracting", "contract", "It was named as contracting.", "It waits for the contract phase."),
        Rule("json-column", "notice", "json has no equality: SELECT DISTINCT over the table and GROUP BY fail.", "Use jsonb."),
        Rule(
            "domain-constraint",
            "wait",
            "Every table that uses the domain is read while writers wait.",
            "Use a CHECK on the table, NOT VALID, validated later.",
        ),
    )
}

__all__ = ("RULES", "SEVERITY", "Finding", "Kind", "Rule", "Severity", "finding")
