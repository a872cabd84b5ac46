# SPDX-License-Identifier: GPL-3.0-or-later
"""Five thousand expected indexes over a thousand tables: few round trips, little memory, every fault found; tests/bench measures the time."""

from __future__ import annotations

import collections.abc
import contextlib
import typing as t
from urllib.parse import urlsplit

import psycopg2
import pytest
from demo.postgres import Postgres

from . import index_scale

MEGABYTES = 85.0
ROUND_TRIPS = 5
FAULTS = {
    7: ("DROP INDEX t_7_status", "t_7_status", "missing"),
    70: ("ALTER INDEX t_70_at RENAME TO other", "t_70_at", "other_name"),
    400: ("DROP INDEX t_400_owner; CREATE INDEX t_400_owner ON t_400 (owner)", "t_400_owner", "different"),
    700: ("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 't_700_email'::regclass", "t_700_email", "invalid"),
    999: ("ALTER TABLE t_999 RENAME TO gone", "t_999_id", "no_table"),
}


@pytest.fixture(scope="module")
def url() -> collections.abc.Iterator[str]:
    """A database with all of them."""
    with Postgres.temporary(fsync="off") as running:
        index_scale.make(running.url())
        yield running.url()


def measured(url: str, **options: object) -> tuple[index_scale.Measured, int]:
    """What the module did, and in how many round trips."""
    parts = urlsplit(url)
    counter = index_scale.Counter(str(parts.hostname), int(parts.port or 5432))
    try:
        done = index_scale.run(url.replace(f":{parts.port}/", f":{counter.port}/"), **options)
    finally:
        counter.close()
    print(f"\n{done.seconds:.2f} s, {done.processor:.2f} s of the processor, {done.megabytes:.0f} MB, {counter.queries} round trips")
    return done, counter.queries


def test_five_thousand_at_once(url: str) -> None:
    queries: list[dict[str, t.Any]] = [
        {"sql": f"SELECT * FROM t_{number} WHERE status = $1 AND review", "parameters": ["open"], "index": f"t_{number}_status"} for number in range(3)
    ]
    done, round_trips = measured(url, indexes=index_scale.contract(), queries=queries)
    assert (done.answer.get("msg"), done.answer["valid"], done.answer["findings"]) == (None, 5 * index_scale.TABLES, [])
    assert done.answer["used"] == len(done.answer["plans"]) == 5 * index_scale.TABLES
    assert round_trips <= ROUND_TRIPS + len(queries)
    assert done.megabytes <= MEGABYTES


def test_faults_among_them(url: str) -> None:
    with contextlib.closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            for statement, _index, _kind in FAULTS.values():
                cursor.execute(statement)
    done, round_trips = measured(url, indexes=index_scale.contract())
    found = {(finding["index"], finding["kind"]) for finding in done.answer["findings"]}
    gone = {(f"t_999_{name}", "no_table") for name in ("id", "status", "at", "owner", "email")}
    assert found == {(index, kind) for _statement, index, kind in FAULTS.values()} | gone
    assert round_trips <= ROUND_TRIPS
    assert done.megabytes <= MEGABYTES
