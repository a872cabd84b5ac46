# SPDX-License-Identifier: GPL-3.0-or-later
"""The cases of index_cases.py asked of community.postgresql's postgresql_idx in check mode, and of index_validation; docs/comparison.md has the result."""

from __future__ import annotations

import collections
import collections.abc
import contextlib
import typing as t
from urllib.parse import urlsplit

import psycopg2
import pytest
from ansible_collections.lastro.deploy.plugins.modules import index_validation
from demo.postgres import Postgres

from tests.bench.conftest import Theirs, login
from tests.integration.index_cases import CASES, Case

Call = collections.abc.Callable[..., dict[str, t.Any]]


@pytest.fixture(scope="module")
def url() -> collections.abc.Iterator[str]:
    """A database with all cases in it."""
    with Postgres.temporary(fsync="off") as running:
        with contextlib.closing(psycopg2.connect(running.url())) as connection:
            connection.autocommit = True
            for number, case in enumerate(CASES):
                case.make(connection, number)
        yield running.url()


def in_their_words(case: Case, number: int, url: str) -> dict[str, t.Any]:
    """The entry as far as the options of postgresql_idx can say it."""
    asked = case.asked(number)
    columns = [column if isinstance(column, str) else column.get("column", column.get("expression", "")) for column in asked["columns"]]
    names = {"unique": "unique", "where": "cond", "method": "idxtype", "schema": "schema"}
    return {
        **login(url),
        "login_db": urlsplit(url).path.lstrip("/"),
        "idxname": asked.get("name") or f"case_{number}_i",
        "table": asked["table"],
        "columns": columns,
        **{theirs: asked[ours] for ours, theirs in names.items() if ours in asked},
        "_ansible_check_mode": True,
    }


def what(case: Case) -> str:
    """The kind of case: that of the finding, or that the entry is fulfilled."""
    return case.kind or "fulfilled"


def test_the_same_cases(theirs: Theirs, url: str, call_module: Call) -> None:
    answer = call_module(index_validation, database_url=url, indexes=[case.asked(number) for number, case in enumerate(CASES)])
    wrong = {finding["table"] for finding in answer["findings"]}
    found: dict[str, list[tuple[bool, bool]]] = collections.defaultdict(list)
    for number, case in enumerate(CASES):
        asked = case.asked(number)
        ours = bool(case.kind) == (f"{asked.get('schema', 'public')}.{asked['table']}" in wrong)
        said = theirs.ask("postgresql_idx", in_their_words(case, number, url))
        # What it would change, or refuses, it has found not to be as asked for.
        found[what(case)].append((ours, bool(case.kind) == bool(said.get("changed") or said.get("failed"))))
    print(f"\n{'cases':<22} number  index_validation  postgresql_idx")
    together = [pair for pairs in found.values() for pair in pairs]
    for kind, pairs in [*sorted(found.items()), ("all", together)]:
        print(f"{kind:<22} {len(pairs):>6} {sum(ours for ours, _theirs in pairs):>17} {sum(theirs for _ours, theirs in pairs):>15}")
    assert all(ours for ours, _theirs in together)
