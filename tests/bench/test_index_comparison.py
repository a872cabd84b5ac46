# SPDX-License-Identifier: GPL-3.0-or-later
"""The cases of index_cases.py asked of community.postgresql's postgresql_idx in check mode, and of index_validation; docs/comparison.md has the result."""

from __future__ import annotations

import collections
import collections.abc
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import typing as t
import zipfile
from pathlib import Path
from urllib.parse import urlsplit

import psycopg2
import pytest
from ansible_collections.lastro.deploy.plugins.modules import index_validation
from demo.postgres import Postgres

from tests.integration.index_cases import CASES, Case

ROOT = Path(__file__).resolve().parents[2]
# The newest for Python 3.11; it carries community.postgresql 4.2.0, whose module needs no other part of it.
PACKAGE = "ansible==12.3.0"
THEIRS = "ansible_collections/community/postgresql/"
_CHILD = """
import importlib, json, sys
from ansible.module_utils.testing import patch_module_args
module = importlib.import_module("ansible_collections.community.postgresql.plugins.modules.postgresql_idx")
with patch_module_args(json.load(sys.stdin)):
    module.main()
"""
Call = collections.abc.Callable[..., dict[str, t.Any]]


@pytest.fixture(scope="module")
def theirs() -> collections.abc.Iterator[Path]:
    """A directory with their collection."""
    cache = Path(subprocess.run([ROOT / "tests" / "bin" / "cache-directory"], capture_output=True, text=True, check=True).stdout.strip())
    version = PACKAGE.partition("==")[2]
    wheel = cache / f"ansible-{version}-py3-none-any.whl"
    if not wheel.exists():
        subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "-d", cache, PACKAGE], check=True)
    directory = Path(tempfile.mkdtemp(prefix="lastro-bench-"))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(directory, [name for name in archive.namelist() if name.startswith(THEIRS)])
    yield directory
    shutil.rmtree(directory)


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
    parts, asked = urlsplit(url), case.asked(number)
    columns = [column if isinstance(column, str) else column.get("column", column.get("expression", "")) for column in asked["columns"]]
    names = {"unique": "unique", "where": "cond", "method": "idxtype", "schema": "schema"}
    return {
        "login_host": parts.hostname,
        "login_port": parts.port,
        "login_user": parts.username,
        "login_password": parts.password,
        "login_db": parts.path.lstrip("/"),
        "idxname": asked.get("name") or f"case_{number}_i",
        "table": asked["table"],
        "columns": columns,
        **{theirs: asked[ours] for ours, theirs in names.items() if ours in asked},
        "_ansible_check_mode": True,
    }


def ask_theirs(directory: Path, options: dict[str, t.Any]) -> dict[str, t.Any]:
    """The answer of postgresql_idx."""
    environment = {**os.environ, "PYTHONPATH": str(directory)}
    child = subprocess.run([sys.executable, "-c", _CHILD], input=json.dumps(options), env=environment, capture_output=True, text=True, check=False)
    answer: dict[str, t.Any] = json.loads(child.stdout)
    return answer


def what(case: Case) -> str:
    """The kind of case: that of the finding, or that the entry is fulfilled."""
    return case.kind or "fulfilled"


def test_the_same_cases(theirs: Path, url: str, call_module: Call) -> None:
    answer = call_module(index_validation, database_url=url, indexes=[case.asked(number) for number, case in enumerate(CASES)])
    wrong = {finding["table"] for finding in answer["findings"]}
    found: dict[str, list[tuple[bool, bool]]] = collections.defaultdict(list)
    for number, case in enumerate(CASES):
        asked = case.asked(number)
        ours = bool(case.kind) == (f"{asked.get('schema', 'public')}.{asked['table']}" in wrong)
        said = ask_theirs(theirs, in_their_words(case, number, url))
        # What it would change, or refuses, it has found not to be as asked for.
        found[what(case)].append((ours, bool(case.kind) == bool(said.get("changed") or said.get("failed"))))
    print(f"\n{'cases':<22} number  index_validation  postgresql_idx")
    together = [pair for pairs in found.values() for pair in pairs]
    for kind, pairs in [*sorted(found.items()), ("all", together)]:
        print(f"{kind:<22} {len(pairs):>6} {sum(ours for ours, _theirs in pairs):>17} {sum(theirs for _ours, theirs in pairs):>15}")
    assert all(ours for ours, _theirs in together)
