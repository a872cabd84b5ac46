# SPDX-License-Identifier: GPL-3.0-or-later
"""The cases of index_cases.py on each major of PostgreSQL, in one call of the module."""

from __future__ import annotations

import collections.abc
import contextlib
import shutil
import tempfile
import typing as t
from pathlib import Path

import psycopg2
import pytest
from ansible_collections.lastro.deploy.plugins.modules import index_contract_info, index_validation

from . import postgres_servers
from .index_cases import CASES

Call = collections.abc.Callable[..., dict[str, t.Any]]


@pytest.fixture(scope="module", params=[pytest.param(major, id=f"postgresql-{major}") for major in postgres_servers.MAJORS])
def server(request: pytest.FixtureRequest) -> collections.abc.Iterator[tuple[int, str]]:
    """Major and URL of a database with all cases in it."""
    major: int = request.param
    if major in postgres_servers.PINS and not postgres_servers.npm_is_here():
        pytest.skip("not available: there is no npm, or no x86-64")
    base = Path(tempfile.mkdtemp(prefix="lastro-test-"))
    base.chmod(0o755)
    # What changes in the catalog shall be the module's doing: the server itself writes statistics there when it likes.
    running = postgres_servers.create(major, base / "postgres", fsync="off", autovacuum="off")
    try:
        with contextlib.closing(psycopg2.connect(running.url())) as connection:
            connection.autocommit = True
            for number, case in enumerate(CASES):
                if case.since <= major:
                    case.make(connection, number)
        yield major, running.url()
    finally:
        running.stop("immediate")
        shutil.rmtree(base)


def snapshot(url: str) -> list[tuple[t.Any, ...]]:
    """Everything that has a row in pg_class."""
    with contextlib.closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT oid, relname, relfilenode, reltuples FROM pg_class ORDER BY oid")
        return cursor.fetchall()


def test_each_case_has_its_verdict(server: tuple[int, str], call_module: Call) -> None:
    major, url = server
    asked = {number: case for number, case in enumerate(CASES) if case.since <= major}
    assert len(CASES) >= 60 and len(asked) >= 60
    before = snapshot(url)
    answer = call_module(index_validation, database_url=url, indexes=[case.asked(number) for number, case in asked.items()])
    assert snapshot(url) == before
    findings = [finding for finding in answer["findings"] if finding["about"] == "contract"]
    wrong = {number: case for number, case in asked.items() if case.kind}
    for (number, case), finding in zip(wrong.items(), findings, strict=True):
        assert (number, finding["kind"]) == (number, case.kind), finding
        assert finding["difference"].startswith(case.says.format(t=f"case_{number}")), finding
        assert finding["remedy"] and finding["words"]["pt_BR"] and finding["expected"]
    assert answer["valid"] == len(asked) - len(wrong)
    assert answer["compared_as_text"] == ""
    # What is there as described is used, or says itself why that cannot be told.
    assert {plan["verdict"] for plan in answer["plans"]} <= {"usable", "other_index", "not_probed"}


def test_a_captured_contract_is_fulfilled_as_it_stands(server: tuple[int, str], call_module: Call) -> None:
    _major, url = server
    captured = call_module(index_contract_info, database_url=url)
    assert len(captured["indexes"]) >= 60
    # What is unfinished on purpose is told, not asked for.
    assert all("not valid" in one for one in captured["left_out"]) and captured["left_out"]
    answer = call_module(index_validation, database_url=url, indexes=captured["indexes"], statement_timeout="60s")
    assert (answer["findings"], answer["valid"]) == ([], len(captured["indexes"]))
