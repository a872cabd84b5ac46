# SPDX-License-Identifier: GPL-3.0-or-later
"""A verified backup beside the same dump by hand: more than 2 GB, in turn in one run, each file on the disk at the end. Ratios of the best; sizes beside."""

from __future__ import annotations

import collections.abc
import contextlib
import os
import shutil
import subprocess
import tempfile
import threading
import time
import typing as t
from pathlib import Path
from urllib.parse import urlsplit

import psycopg2
import pytest
from demo.postgres import Postgres, bin_directory
from pyrage import x25519

from tests.integration.module_process import finished, started

MOST = {"counts": 1.6, "rows": 2.3}
MOST_OF_CUSTOM = 0.5
LIMIT = 900
# A service's usual tables: events with JSON, tokens that nothing compresses, many small rows.
TABLES = (
    "CREATE TABLE events (id bigint, at timestamptz, user_id int, kind text, payload jsonb)",
    "CREATE TABLE credentials (id bigint, user_id int, token text, refreshed timestamptz)",
    "CREATE TABLE bookings (id bigint, user_id int, starts timestamptz, ends timestamptz, state text, price numeric)",
)
ROWS = (
    (
        5_200_000,
        """INSERT INTO events SELECT i, timestamptz '2026-11-01' - i * interval '1 second', i % 50021, (ARRAY['created', 'updated', 'moved'])[1 + i % 3],
             jsonb_build_object('ip', '10.' || i % 251 || '.' || i % 241 || '.' || i % 239, 'agent', md5((i % 997)::text), 'session', md5(i::text),
                                'note', repeat('abc ', (i % 23)::int))
             FROM generate_series({first}, {last}) i""",
    ),
    (
        1_200_000,
        """INSERT INTO credentials SELECT i, i % 50021, encode(sha512(('a' || i)::bytea) || sha512(('b' || i)::bytea), 'base64'), timestamptz '2026-11-01'
             FROM generate_series({first}, {last}) i""",
    ),
    (
        3_400_000,
        """INSERT INTO bookings SELECT i, i % 50021, timestamptz '2026-11-01' + i * interval '1 minute', timestamptz '2026-11-01' + i * interval '61 minutes',
             (ARRAY['open', 'done'])[1 + i % 2], (i % 9973) / 100.0 FROM generate_series({first}, {last}) i""",
    ),
)
INDEXES = (
    "ALTER TABLE events ADD PRIMARY KEY (id)",
    "CREATE INDEX ON events (user_id, at)",
    "ALTER TABLE credentials ADD PRIMARY KEY (id)",
    "ALTER TABLE bookings ADD PRIMARY KEY (id)",
)


def execute(url: str, statements: collections.abc.Iterable[str]) -> None:
    with contextlib.closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)


def side_by_side(url: str, *lanes: collections.abc.Iterable[str]) -> None:
    threads = [threading.Thread(target=execute, args=(url, lane)) for lane in lanes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.fixture(scope="module")
def url() -> collections.abc.Iterator[str]:
    """The database: more than 2 GB."""
    with Postgres.temporary(fsync="off", autovacuum="off", max_wal_size="'4GB'", shared_buffers="'512MB'") as server:
        halves = [
            [statement.format(first=first, last=last) for first, last, statement in half]
            for half in zip(*([(1, number // 2, statement), (number // 2 + 1, number, statement)] for number, statement in ROWS), strict=True)
        ]
        execute(server.url(), TABLES)
        side_by_side(server.url(), *halves)
        side_by_side(server.url(), INDEXES[::2], INDEXES[1::2])
        execute(server.url(), ["VACUUM ANALYZE", "CHECKPOINT"])
        yield server.url()


@pytest.fixture
def directory() -> collections.abc.Iterator[Path]:
    """A directory on the disk where servers are, too."""
    made = Path(tempfile.mkdtemp(prefix="lastro-bench-"))
    yield made
    shutil.rmtree(made)


class ByHand:
    """pg_dump as a person calls it; each answers the bytes of its file."""

    def __init__(self, url: str, directory: Path) -> None:
        parts = urlsplit(url)
        where = {"PGHOST": parts.hostname, "PGPORT": str(parts.port), "PGUSER": parts.username, "PGDATABASE": parts.path[1:]}
        self._environment = {**os.environ, **t.cast("dict[str, str]", where), "PGPASSWORD": str(parts.password)}
        self._directory = directory

    def _kept(self, path: Path) -> int:
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
        size = path.stat().st_size
        path.unlink()
        return size

    def custom(self) -> int:
        """``pg_dump -Fc``: gzip, in pg_dump itself."""
        path = self._directory / "custom.dump"
        subprocess.run([bin_directory() / "pg_dump", "-Fc", "-f", path], env=self._environment, check=True)
        return self._kept(path)

    def zstd(self) -> int:
        """``pg_dump -Fc -Z0 | zstd -3 -T0``."""
        path = self._directory / "piped.dump.zst"
        with subprocess.Popen([bin_directory() / "pg_dump", "-Fc", "-Z0"], env=self._environment, stdout=subprocess.PIPE) as dump:
            subprocess.run(["zstd", "-q", "-3", "-T0", "-o", path], stdin=dump.stdout, check=True)
        assert dump.returncode == 0
        return self._kept(path)


def ours(url: str, directory: Path, hashes: str) -> int:
    """The module, encrypted and decode-verified; bytes of its file."""
    recipients = [str(x25519.Identity.generate().to_public())]
    options = {"database_url": url, "dest": str(directory / hashes), "name": "b", "recipients": recipients, "hashes": hashes, "bin_dir": str(bin_directory())}
    with started("pg_dump", options) as process:
        result = finished(process, LIMIT)
    assert result.get("changed"), result
    assert result["verified"] == ["read", "decode"]
    shutil.rmtree(directory / hashes)
    return int(result["size"])


def test_backup(url: str, directory: Path, rounds: collections.abc.Callable[[int, int], int]) -> None:
    assert shutil.which("zstd"), "install the distribution's zstd: it is what the module is measured against"
    by_hand = ByHand(url, directory)
    works: dict[str, collections.abc.Callable[[], int]] = {
        "pg_dump -Fc -Z0 | zstd -3 -T0": by_hand.zstd,
        "counts": lambda: ours(url, directory, "counts"),
        "rows": lambda: ours(url, directory, "rows"),
        "pg_dump -Fc": by_hand.custom,
    }
    seconds: dict[str, list[float]] = {name: [] for name in works}
    sizes = {}
    for _round in range(rounds(1, 2)):
        for name, work in works.items():
            begun = time.monotonic()
            sizes[name] = work()
            seconds[name].append(time.monotonic() - begun)
            print(f"\n{name}: {seconds[name][-1]:.1f} s, {sizes[name] / 1e6:.1f} MB", end="", flush=True)
    best = {name: min(taken) for name, taken in seconds.items()}
    bare, custom = best["pg_dump -Fc -Z0 | zstd -3 -T0"], best["pg_dump -Fc"]
    for name in works:
        print(f"\n{name:30} {best[name]:6.1f} s {sizes[name] / 1e6:8.1f} MB  {best[name] / bare:.2f} of the pipe, {best[name] / custom:.2f} of -Fc", end="")
    print()
    for name, most in MOST.items():
        assert best[name] <= most * bare
        assert best[name] < MOST_OF_CUSTOM * custom
