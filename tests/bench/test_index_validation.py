# SPDX-License-Identifier: GPL-3.0-or-later
"""index_validation beside a script that checks index by index, as checklists have it, on the same database in the same run."""

from __future__ import annotations

import collections.abc
import contextlib
import functools
import time
import typing as t
from urllib.parse import urlsplit

import psycopg2
import pytest
import sqlalchemy
from demo.postgres import Postgres

from tests.integration import index_scale

DELAYS = {"same machine": 0.0, "1 ms away": 0.001}
ROUNDS = 3
"""Everything is measured so many times in turn, so that other work on the machine meets all alike; the best time of each counts."""
CHECKED = 500
"""So many indexes (all of a tenth of the tables) are checked one by one in each round, whose time for all of them is so many times as long."""
TWENTY = 20.0
"""How many times faster the module must be than the script that a team has, where such a script is started: on a person's machine."""


@pytest.fixture(scope="module")
def url() -> collections.abc.Iterator[str]:
    """Five thousand indexes over a thousand tables."""
    with Postgres.temporary(fsync="off") as running:
        index_scale.make(running.url())
        yield running.url()


def by_catalog(url: str, contract: list[dict[str, t.Any]]) -> int:
    """The script at its best: one connection; for each index whether it is there, its columns, and one EXPLAIN. How many are right."""
    right = 0
    with contextlib.closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute("SET enable_seqscan = off")
        for one in contract:
            cursor.execute("SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename = %s AND indexname = %s", (one["table"], one["name"]))
            found = cursor.fetchone()
            cursor.execute(
                "SELECT pg_get_indexdef(i.indexrelid, k, true) FROM pg_index i, generate_series(1, i.indnkeyatts) k WHERE i.indexrelid = %s::regclass",
                (one["name"],),
            )
            columns = [row[0] for row in cursor.fetchall()]
            condition = f"{columns[0]} IS NOT NULL" + (f" AND {one['where']}" if "where" in one else "")
            cursor.execute(f"EXPLAIN SELECT 1 FROM {one['table']} WHERE {condition}")
            plan = "\n".join(row[0] for row in cursor.fetchall())
            right += bool(found) and columns == [column.split()[0] for column in one["columns"]] and "Index" in plan
    return right


def by_inspector(url: str, contract: list[dict[str, t.Any]], *, anew: bool = True) -> int:
    """The script as it is written with the application's own library: for each index the table's indexes from SQLAlchemy's inspector.

    Where the inspector is not made *anew* for each index, it remembers a table's indexes: five of them here.
    """
    right = 0
    engine = sqlalchemy.create_engine(url.replace("postgresql://", "postgresql+psycopg2://"))
    with engine.connect() as connection:
        inspector = sqlalchemy.inspect(connection)
        for one in contract:
            inspector = sqlalchemy.inspect(connection) if anew else inspector
            indexes = {index["name"]: index for index in inspector.get_indexes(one["table"])}
            connection.execute(sqlalchemy.text(f"EXPLAIN SELECT 1 FROM {one['table']} WHERE {one['columns'][0].split()[0]} IS NOT NULL")).all()
            right += one["name"] in indexes
    engine.dispose()
    return right


SCRIPTS: dict[str, collections.abc.Callable[[str, list[dict[str, t.Any]]], int]] = {
    "three queries for each index": by_catalog,
    "SQLAlchemy inspector for each index": by_inspector,
    "SQLAlchemy inspector for each table": functools.partial(by_inspector, anew=False),
}


def seconds(script: collections.abc.Callable[[str, list[dict[str, t.Any]]], int], url: str, contract: list[dict[str, t.Any]]) -> float:
    """How long *script* takes, that finds all of them right."""
    began = time.monotonic()
    assert script(url, contract) == len(contract)
    return time.monotonic() - began


@pytest.mark.parametrize("place", DELAYS)
def test_beside_index_by_index(url: str, place: str) -> None:
    contract = index_scale.contract()
    total, parts = len(contract), urlsplit(url)
    counter = index_scale.Counter(str(parts.hostname), int(parts.port or 5432), DELAYS[place])
    through = url.replace(f":{parts.port}/", f":{counter.port}/")
    ours: list[index_scale.Measured] = []
    taken: dict[str, list[float]] = {name: [] for name in SCRIPTS}
    try:
        for number in range(ROUNDS):
            ours.append(index_scale.run(through, indexes=contract))
            assert ours[-1].answer["valid"] == total
            few = contract[number * CHECKED : (number + 1) * CHECKED]
            for name, script in SCRIPTS.items():
                taken[name].append(seconds(script, through, few) * total / len(few))
    finally:
        counter.close()
    best = min(one.seconds for one in ours)
    print(f"\n{total} indexes, the server on the {place}" if place == "same machine" else f"\n{total} indexes, the server {place}")
    print(f"{'index_validation':<44} {best:>7.2f} s   1.0   ({ours[0].megabytes:.0f} MB, {min(one.processor for one in ours):.2f} s of the processor)")
    for name, times in taken.items():
        print(f"{name:<44} {min(times):>7.1f} s {min(times) / best:>5.1f}")
    assert best < min(map(min, taken.values()))
    if DELAYS[place]:
        assert min(taken["SQLAlchemy inspector for each index"]) >= TWENTY * best
