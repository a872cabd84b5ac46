# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with an entry of an index contract, in both languages, and the SQL that mends it. Pure. PRIVATE to the collection."""

from __future__ import annotations

import dataclasses
import re
import typing as t

from ._errors import Text
from ._index_validation_compare import Differs, Index
from ._index_validation_contract import Expected, quoted

LEFTOVER = re.compile(r"(?P<of>.+)_cc(?:new|old)\d*\Z")
"""What REINDEX CONCURRENTLY calls the copy that it builds, and the one that it replaces."""


@dataclasses.dataclass(frozen=True)
class IndexFinding:
    """What is wrong with one entry. *remedy* is SQL, or an SQL comment where no statement helps; *about* is contract, queries or a report."""

    about: str
    kind: str
    index: str
    table: str
    expected: str
    actual: str
    difference: Text
    remedy: str
    new: bool = True

    @property
    def key(self) -> tuple[str, ...]:
        """What makes it the same finding in another run."""
        return (self.about, self.kind, self.table, self.index)

    def as_result(self) -> dict[str, t.Any]:
        """The finding as a return value."""
        return {**dataclasses.asdict(self), "difference": self.difference.en, "words": self.difference._asdict()}


def decide(expected: Expected, indexes: t.Sequence[Index], differs: Differs, elsewhere: str = "") -> tuple[Index | None, IndexFinding | None]:
    """The index that fulfils *expected*, or the finding why none does. *elsewhere*: the table that has an index of its name."""
    named = next((index for index in indexes if index.name == expected.name), None) if expected.name else None
    if named:
        problems = differs(named)
        finding = _wrong(expected, named, problems) if problems else unusable(expected, named) or _constraint(expected, named)
        return (None, finding) if finding else (named, None)
    fitting = [index for index in indexes if not differs(index)]
    usable = [index for index in fitting if not unusable(expected, index)]
    whole = next((index for index in usable if not _constraint(expected, index)), None)
    if whole and not expected.name:
        return whole, None
    if usable and expected.name:
        return None, _other_name(expected, whole or usable[0])
    if not expected.name:
        reasons = [unusable(expected, index) or _constraint(expected, index) for index in fitting]
        if reasons and reasons[0]:
            return None, reasons[0]
    return None, missing(expected, indexes, elsewhere)


def entry_finding(expected: Expected, kind: str, difference: Text, remedy: str, actual: str = "") -> IndexFinding:
    """A finding on an entry of the contract."""
    return IndexFinding("contract", kind, expected.label, f"{expected.schema}.{expected.table}", described(expected), actual, difference, remedy)


def described(expected: Expected) -> str:
    """The entry as the statement that would make it."""
    return expected.create(expected.name, concurrently=False)


def no_table(expected: Expected, *, schema_exists: bool) -> IndexFinding:
    """The finding for an entry whose table is not there."""
    remedy = f"-- apply the migration that creates {expected.relation}, or correct schema and table in the contract"
    if not schema_exists:
        name = expected.schema
        return entry_finding(expected, "no_schema", Text(f"the schema {name} does not exist", f"o esquema {name} não existe"), remedy)
    words = Text(f"the table {expected.relation} does not exist", f"a tabela {expected.relation} não existe")
    return entry_finding(expected, "no_table", words, remedy)


def bad_entry(expected: Expected, problem: Text) -> IndexFinding:
    """The finding for an entry that cannot be asked for."""
    return entry_finding(expected, "bad_entry", problem, "-- correct this entry of the contract")


def cannot_exist(expected: Expected, why: str) -> IndexFinding:
    """The finding for an entry that PostgreSQL cannot make; *why* is its own message."""
    remedy = "-- correct columns, method and where in the contract, or apply the migration that they need"
    return entry_finding(expected, "cannot_exist", Text(f"it cannot exist: {why}", f"não pode existir: {why}"), remedy)


def missing(expected: Expected, indexes: t.Sequence[Index] = (), elsewhere: str = "") -> IndexFinding:
    """The finding for an index that is not there."""
    names = ", ".join(sorted(index.name for index in indexes))
    actual = f"the table has {names}" if names else ""
    if elsewhere:
        words = Text(f"missing; an index of this name belongs to {elsewhere}", f"falta; um índice com esse nome pertence a {elsewhere}")
        return entry_finding(expected, "name_taken", words, f"-- give one of the two another name: {expected.create()};", actual)
    return entry_finding(expected, "missing", Text("missing", "falta"), f"{_create(expected)};", actual)


def _create(expected: Expected, name: str = "") -> str:
    """The statement that makes what the entry asks for, constraint included."""
    name = name or expected.name
    if expected.constraint in ("primary_key", "unique") and name:
        kind = "PRIMARY KEY" if expected.constraint == "primary_key" else "UNIQUE"
        return f"{expected.create(name)}; ALTER TABLE {expected.relation} ADD CONSTRAINT {quoted(name)} {kind} USING INDEX {quoted(name)}"
    return expected.create(name)


def _qualified(expected: Expected, name: str) -> str:
    return f"{quoted(expected.schema)}.{quoted(name)}"


def _other_name(expected: Expected, index: Index) -> IndexFinding:
    words = Text(f"missing, but {index.name} has the same definition", f"falta, mas {index.name} tem a mesma definição")
    remedy = f"ALTER INDEX {_qualified(expected, index.name)} RENAME TO {quoted(expected.name)};"
    return entry_finding(expected, "other_name", words, remedy, index.text)


def _wrong(expected: Expected, index: Index, problems: t.Sequence[Text]) -> IndexFinding:
    words = Text("; ".join(one.en for one in problems), "; ".join(one.pt_BR for one in problems))
    fresh = f"{index.name[:50]}_lastro_new"
    rename = f"ALTER INDEX {_qualified(expected, fresh)} RENAME TO {quoted(index.name)};"
    if index.constraint:
        remedy = f"-- {index.name} belongs to the constraint {index.constraint} of {expected.relation}: change that in a migration"
        return entry_finding(expected, "different_constraint", words, remedy, index.text)
    remedy = f"{expected.create(fresh)}; DROP INDEX CONCURRENTLY {_qualified(expected, index.name)}; {rename}"
    return entry_finding(expected, "different", words, remedy, index.text)


def _constraint(expected: Expected, index: Index) -> IndexFinding | None:
    """Whether the constraint that the index backs is another one than the contract says."""
    if expected.constraint in ("any", index.constraint_kind):
        return None
    wanted, there = expected.constraint, index.constraint_kind
    words = Text(f"constraint: expected {wanted}, found {there}", f"restrição: esperado {wanted}, encontrado {there}")
    name, table = quoted(index.name), expected.relation
    kind = {"primary_key": "PRIMARY KEY", "unique": "UNIQUE"}.get(wanted, "")
    add = f"ALTER TABLE {table} ADD CONSTRAINT {name} {kind} USING INDEX {name};"
    if there == "none":
        remedy = add if kind else f"-- make the exclusion constraint of {table} in a migration"
    elif wanted == "none":
        remedy = f"{expected.create(f'{index.name[:50]}_lastro_new')}; ALTER TABLE {table} DROP CONSTRAINT {quoted(index.constraint)};"
    else:
        remedy = f"-- {index.name} belongs to the constraint {index.constraint} of {table}: change that in a migration"
    return entry_finding(expected, "constraint", words, remedy, index.text)


def unusable(expected: Expected, index: Index) -> IndexFinding | None:
    """Why an index of the right definition does not serve queries, or None where it does."""
    name = _qualified(expected, index.name)
    if index.building:
        words = Text(f"it is still being built: {index.building}", f"ainda está sendo construído: {index.building}")
        return entry_finding(expected, "building", words, "SELECT phase, blocks_done, blocks_total FROM pg_stat_progress_create_index;", index.text)
    if index.partitioned and (index.uncovered or not index.valid):
        return _half_attached(expected, index)
    if not index.live:
        words = Text("it is being dropped: a DROP INDEX CONCURRENTLY was broken off", "está sendo removido: um DROP INDEX CONCURRENTLY foi interrompido")
        return entry_finding(expected, "not_live", words, f"DROP INDEX CONCURRENTLY {name}; {_create(expected, index.name)};", index.text)
    if not index.ready:
        words = Text(
            "it is invalid and not ready: building it was broken off, new rows are not in it",
            "está inválido e não pronto: sua construção foi interrompida, linhas novas não estão nele",
        )
        return entry_finding(expected, "not_ready", words, f"REINDEX INDEX CONCURRENTLY {name};", index.text)
    if not index.valid:
        words = Text(
            "it is invalid: building it was broken off, queries do not use it",
            "está inválido: sua construção foi interrompida, as consultas não o usam",
        )
        return entry_finding(expected, "invalid", words, f"REINDEX INDEX CONCURRENTLY {name};", index.text)
    return None


def _half_attached(expected: Expected, index: Index) -> IndexFinding:
    count, names = len(index.uncovered), ", ".join(index.uncovered[:5]) + (", ..." if len(index.uncovered) > 5 else "")
    parent = _qualified(expected, index.name)
    if not count:
        words = Text("it is invalid, though each partition has its index", "está inválido, embora cada partição tenha seu índice")
        remedy = f"-- make it anew: {_create(expected, f'{index.name[:50]}_lastro_new')};"
        return entry_finding(expected, "half_attached", words, remedy, index.text)
    words = Text(
        f"{count} of its table's partitions have no valid index of it: {names}",
        f"{count} das partições de sua tabela não têm um índice válido dele: {names}",
    )
    steps = []
    for partition in index.uncovered[:5]:
        schema, _dot, table = partition.rpartition(".")
        name = f"{table}_{index.name}"[:63]
        made = expected.create(name, f"{quoted(schema)}.{quoted(table)}")
        steps.append(f"{made}; ALTER INDEX {parent} ATTACH PARTITION {quoted(schema)}.{quoted(name)};")
    return entry_finding(expected, "half_attached", words, " ".join(steps), index.text)


def leftover_of(name: str) -> str:
    """The index that *name* is an unfinished copy of, by the names of REINDEX CONCURRENTLY; empty where it is none."""
    match = LEFTOVER.match(name)
    return match["of"] if match else ""


__all__ = (
    "IndexFinding",
    "bad_entry",
    "cannot_exist",
    "decide",
    "described",
    "entry_finding",
    "leftover_of",
    "missing",
    "no_table",
    "unusable",
)
