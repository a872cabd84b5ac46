# SPDX-License-Identifier: GPL-3.0-or-later
"""token_encryption beside one UPDATE of constants and beside the script that updates row by row, as ratios within one run; and its memory."""

from __future__ import annotations

import collections.abc
import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psycopg2
import pytest
from ansible_collections.lastro.deploy.plugins.module_utils._postgres import parse_url
from ansible_collections.lastro.deploy.plugins.module_utils._progress import silent
from ansible_collections.lastro.deploy.plugins.module_utils._token_encryption import converge, look
from ansible_collections.lastro.deploy.plugins.module_utils._token_options import Question
from demo.postgres import Postgres
from pyrage import x25519

from tests.integration.token_table import KEY, options, sealed, text_of

ROOT = Path(__file__).resolve().parents[2]
ROWS = int(os.environ.get("LASTRO_BENCH_ROWS", "500000"))
MANY_ROWS = 10 * ROWS
ROUNDS = 3
RECIPIENT = str(x25519.Identity.generate().to_public())


@pytest.fixture(scope="module")
def server() -> collections.abc.Iterator[Postgres]:
    with Postgres.temporary(shared_buffers="512MB", max_wal_size="4GB", autovacuum="off") as running:
        yield running


def sql(server: Postgres, *statements: str) -> None:
    with contextlib.closing(psycopg2.connect(server.url())) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)


def fresh(server: Postgres, rows: int) -> None:
    """A table with a key and an index, tokens of 192 characters, and no dirty page."""
    sql(
        server,
        "DROP TABLE IF EXISTS credentials",
        "CREATE TABLE credentials (id serial PRIMARY KEY, token text, token_encrypted bytea, token_nonce bytea, owner int)",
        "INSERT INTO credentials (token, owner) SELECT (SELECT string_agg(md5(n::text || g::text), '') FROM generate_series(1, 6) g), n"
        f" FROM generate_series(1, {rows}) n",
        "CREATE INDEX ON credentials (owner)",
        "VACUUM ANALYZE credentials",
        "CHECKPOINT",
    )


def one_statement(server: Postgres) -> float:
    """Rows per second of the least that can be done: constants into both columns, in one statement."""
    fresh(server, ROWS)
    started = time.perf_counter()
    sql(server, f"UPDATE credentials SET token_encrypted = '\\x{'ab' * 208}', token_nonce = '\\x{'ab' * 12}'")
    return ROWS / (time.perf_counter() - started)


def encrypted(server: Postgres, directory: Path, workers: int) -> float:
    fresh(server, ROWS)
    undo = {"path": str(directory / f"undo-{time.monotonic_ns()}"), "recipients": [RECIPIENT]}
    return float(converge(parse_url(server.url()), options(workers=workers, backup=undo), progress=silent)["rows_per_second"])


def verified(server: Postgres) -> float:
    question = Question(names=options().names, keys=(KEY,), verify="all", application_name="bench")
    answer = look(parse_url(server.url()), question, progress=silent)
    assert answer["verified"] == ROWS
    return float(answer["rows_per_second"])


def row_by_row(server: Postgres, rows: int = 2000) -> float:
    """The script that is written first: a statement and a commit for each row, each commit as long as on a disk of 1 ms."""
    fresh(server, rows)
    with contextlib.closing(psycopg2.connect(server.url())) as connection, connection.cursor() as cursor:
        cursor.execute("SET commit_delay = 1000; SET commit_siblings = 0; SELECT id, token FROM credentials")
        found = cursor.fetchall()
        started = time.perf_counter()
        for key, token in found:
            cursor.execute("UPDATE credentials SET token_encrypted = %s, token_nonce = %s WHERE id = %s", (*sealed(token), key))
            connection.commit()
        return rows / (time.perf_counter() - started)


def best(figures: list[float]) -> float:
    return max(figures)


def test_ratios(server: Postgres, tmp_path: Path) -> None:
    figures: dict[str, list[float]] = {"one statement": [], "one worker": [], "two workers": [], "verify": [], "row by row": []}
    for _round in range(ROUNDS):
        figures["one statement"].append(one_statement(server))
        figures["one worker"].append(encrypted(server, tmp_path, 1))
        figures["verify"].append(verified(server))
        figures["two workers"].append(encrypted(server, tmp_path, 2))
        figures["row by row"].append(row_by_row(server))
    limit = best(figures["one statement"])
    print(f"\n{ROWS} rows, best of {ROUNDS} rounds, load average {os.getloadavg()[0]:.1f}; one statement: {limit:,.0f} rows/s")
    for name, seen in figures.items():
        print(f"{name}: {best(seen):,.0f} rows/s, ratio {best(seen) / limit:.3f} ({', '.join(f'{one:,.0f}' for one in seen)})")
    assert best(figures["one worker"]) / limit >= 0.20
    assert best(figures["two workers"]) / limit >= 0.35
    assert best(figures["one worker"]) >= 10 * best(figures["row by row"])
    assert best(figures["verify"]) / limit >= 2.0


_CHILD = """
import json, resource, sys
from ansible.module_utils.testing import patch_module_args
from ansible_collections.lastro.deploy.plugins.modules import token_encryption
try:
    with patch_module_args(json.load(sys.stdin)):
        token_encryption.main()
finally:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
"""


def test_memory_is_constant(server: Postgres, tmp_path: Path) -> None:
    fresh(server, MANY_ROWS)
    undo = {"path": str(tmp_path / "undo"), "recipients": [RECIPIENT]}
    given = {"database_url": server.url(), "table": "credentials", "encryption_keys": [text_of(KEY)], "backup": undo, "workers": 2}
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "collections")}
    done = subprocess.run([sys.executable, "-c", _CHILD], input=json.dumps(given), env=environment, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["verified"] == MANY_ROWS
    megabytes = int(done.stderr.split()[-1]) / 1024
    print(f"\n{MANY_ROWS} rows: {megabytes:.0f} MiB")
    assert megabytes <= 150
