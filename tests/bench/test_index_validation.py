# SPDX-License-Identifier: GPL-3.0-or-later
"""index_validation beside a script that checks index by index, as checklists have it, on the same database in the same run."""

from __future__ import annotations

import collections.abc
import contextlib
import shutil
import tempfile
import time
import typing as t
from pathlib import Path
from urllib.parse import urlsplit

import psycopg2
import pytest
import sqlalchemy
from demo.postgres import Postgres

from tests.integration import index_scale

DELAYS = {"same machine": 0.0, "1 ms away": 0.001}
INSPECTED = 250
"""So many indexes are checked through SQLAlchemy, whose time for all of them is this many times as long as the rest of the test."""


@pytest.fixture(scope="module")
def url() -> collections.abc.Iterator[str]:
    """Five thousand indexes over a thousand tables."""
    base = Path(tempfile.mkdtemp(prefix="lastro-bench-"))
    base.chmod(0o755)
    running = Postgres.create(base / "postgres", fsync="off")
    try:
        index_scale.make(running.url())
        yield running.url()
    finally:
        running.stop("immediate")
        shutil.rmtree(base)


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


def by_inspector(url: str, contract: list[dict[str, t.Any]]) -> int:
    """The script as it is written with the application's own library: for each index the table's indexes from SQLAlchemy's inspector."""
    right = 0
    engine = sqlalchemy.create_engine(url.replace("postgresql://", "postgresql+psycopg2://"))
    with engine.connect() as connection:
        for one in contract:
            indexes = {index["name"]: index for index in sqlalchemy.inspect(connection).get_indexes(one["table"])}
            connection.execute(sqlalchemy.text(f"EXPLAIN SELECT 1 FROM {one['table']} WHERE {one['columns'][0].split()[0]} IS NOT NULL")).all()
            right += one["name"] in indexes
    engine.dispose()
    return right


def seconds(call: collections.abc.Callable[[], object], expected: object) -> float:
    began = time.monotonic()
    assert call() == expected
    return time.monotonic() - began


@pytest.mark.parametrize("place", DELAYS)
def test_beside_index_by_index(url: str, place: str) -> None:
    contract = index_scale.contract()
    total, parts = len(contract), urlsplit(url)
    counter = index_scale.Counter(str(parts.hostname), int(parts.port or 5432), DELAYS[place])
    through = url.replace(f":{parts.port}/", f":{counter.port}/")
    try:
        ours = index_scale.run(through, indexes=contract)
        assert ours.answer["valid"] == total
        catalog = seconds(lambda: by_catalog(through, contract), total)
        few = contract[:: total // INSPECTED]
        inspector = seconds(lambda: by_inspector(through, few), len(few)) * total / len(few)
    finally:
        counter.close()
    print(f"\n{total} indexes, the server on the {place}" if place == "same machine" else f"\n{total} indexes, the server {place}")
    print(f"{'index_validation':<44} {ours.seconds:>7.1f} s   1.0   ({ours.megabytes:.0f} MB)")
    print(f"{'three queries for each index':<44} {catalog:>7.1f} s {catalog / ours.seconds:>5.1f}")
    print(f"{'SQLAlchemy inspector for each, from ' + str(len(few)):<44} {inspector:>7.1f} s {inspector / ours.seconds:>5.1f}")
    assert ours.seconds < catalog
