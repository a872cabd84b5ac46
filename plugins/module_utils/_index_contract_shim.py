# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs under the application's interpreter: the indexes that its SQLAlchemy models declare, as entries of an index contract. PRIVATE to the collection.

It knows nothing of this collection; only its text is sent there. SQLAlchemy 1.4 and newer.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import typing as t


def main(where: str, descriptor: int) -> None:
    """Write what *where* (package.module:object) declares, or why it cannot be read, as JSON to a file *descriptor*."""
    sys.path.insert(0, os.getcwd())  # noqa: PTH109
    answer: dict[str, t.Any]
    try:
        answer = declared(metadata_of(where))
    except Exception as error:  # noqa: BLE001 - an application's code may raise anything, and that is the answer
        answer = {"problem": f"{type(error).__name__}: {error}"}
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        json.dump(answer, stream)


def metadata_of(where: str) -> t.Any:  # noqa: ANN401 - SQLAlchemy is not here
    """The MetaData that *where* names, itself or as a declarative base."""
    module, _colon, path = where.partition(":")
    found = importlib.import_module(module)
    for name in filter(None, path.split(".")):
        found = getattr(found, name)
    return getattr(found, "metadata", found)


def declared(metadata: t.Any) -> dict[str, t.Any]:  # noqa: ANN401
    """Entries for the indexes, unique constraints and primary keys of all tables, and what no entry can say."""
    from sqlalchemy import PrimaryKeyConstraint, UniqueConstraint  # noqa: PLC0415
    from sqlalchemy.dialects import postgresql  # noqa: PLC0415

    make: t.Any = postgresql.dialect
    dialect = make()
    compiler = dialect.ddl_compiler(dialect, None).sql_compiler
    entries, left_out = [], []
    for table in sorted(metadata.tables.values(), key=lambda one: str(one.fullname)):
        head = {"table": str(table.name), **({"schema": str(table.schema)} if table.schema else {})}
        entries += [{**head, **_index(index, compiler, dialect)} for index in sorted(table.indexes, key=lambda one: str(one.name))]
        for constraint in sorted(table.constraints, key=lambda one: str(one.name)):
            if isinstance(constraint, (PrimaryKeyConstraint, UniqueConstraint)) and len(constraint.columns):
                kind = "primary_key" if isinstance(constraint, PrimaryKeyConstraint) else "unique"
                entries.append({**head, **_constraint(constraint, kind, dialect)})
            elif "exclude" in type(constraint).__name__.lower():
                left_out.append(f"{table.fullname}: exclusion constraint {constraint.name or ''}".strip())
    return {"indexes": entries, "left_out": left_out}


def _index(index: t.Any, compiler: t.Any, dialect: t.Any) -> dict[str, t.Any]:  # noqa: ANN401
    options, operators = index.kwargs, dict(index.kwargs.get("postgresql_ops") or {})
    columns = []
    for expression in index.expressions:
        grouped = expression if type(expression).__name__ in ("Column", "ColumnClause") else expression.self_group()
        text = compiler.process(grouped, include_table=False, literal_binds=True)
        key = getattr(expression, "key", None)
        columns.append(f"{text} {operators[key]}" if key in operators else text)
    entry: dict[str, t.Any] = {"name": _name(index.name, dialect), "columns": columns, "unique": bool(index.unique)}
    where = options.get("postgresql_where")
    if where is not None:
        entry["where"] = where if isinstance(where, str) else compiler.process(where, include_table=False, literal_binds=True)
    if options.get("postgresql_using"):
        entry["method"] = str(options["postgresql_using"]).lower()
    return _without_defaults({**entry, **_shared(options)})


def _constraint(constraint: t.Any, kind: str, dialect: t.Any) -> dict[str, t.Any]:  # noqa: ANN401
    columns = [dialect.identifier_preparer.quote(column.name) for column in constraint.columns]
    entry = {"name": _name(constraint.name, dialect), "columns": columns, "unique": True, "constraint": kind}
    return _without_defaults({**entry, **_shared(constraint.kwargs)})


def _shared(options: t.Any) -> dict[str, t.Any]:  # noqa: ANN401
    include = [getattr(one, "name", one) for one in options.get("postgresql_include") or ()]
    return {"include": list(map(str, include)), "nulls_not_distinct": bool(options.get("postgresql_nulls_not_distinct"))}


def _name(name: object, dialect: t.Any) -> str:  # noqa: ANN401
    """A name as the migration would have given it; empty where PostgreSQL chooses."""
    if not isinstance(name, str):
        return ""
    return name if len(name) <= dialect.max_identifier_length else dialect.identifier_preparer.truncate_and_render_index_name(name).strip('"')


def _without_defaults(entry: dict[str, t.Any]) -> dict[str, t.Any]:
    return {name: value for name, value in entry.items() if value not in ("", False, [], "btree")}


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
