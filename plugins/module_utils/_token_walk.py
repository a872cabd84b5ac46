# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Walks over a table in the order of its key, and what a verifying one saw. PRIVATE to the collection."""

from __future__ import annotations

import dataclasses
import typing as t

from ._copy_rows import RawRow
from ._progress import Progress
from ._token_cipher import Kind
from ._token_codec import Codec
from ._token_sql import PAGE_BYTES, Counts, Row, Statements, Which

if t.TYPE_CHECKING:
    from psycopg2.extensions import connection as PostgresConnection

FAULTS: tuple[Kind, ...] = ("wrong_key", "corrupt", "mismatch")
NAMED_KEYS = 10
SAMPLE_ROWS = 100
READ_PAGE = 500
"""Rows of a stream that are looked at together: few enough to stay in the processor's cache."""


@dataclasses.dataclass
class Failures:
    """Rows whose ciphertext is not right: how many of each kind, and the keys of the first ten."""

    counts: dict[Kind, int] = dataclasses.field(default_factory=lambda: dict.fromkeys(FAULTS, 0))
    keys: dict[Kind, list[str]] = dataclasses.field(default_factory=lambda: {kind: [] for kind in FAULTS})

    def add(self, kind: Kind, row: Row) -> None:
        """Note a row."""
        self.counts[kind] += 1
        if len(self.keys[kind]) < NAMED_KEYS:
            self.keys[kind].append(shown_key(row.key))

    @property
    def total(self) -> int:
        """Rows of all kinds."""
        return sum(self.counts.values())

    def as_result(self) -> dict[str, t.Any]:
        """The return value C(failures)."""
        return {**{str(kind): count for kind, count in self.counts.items()}, "first_keys": dict(self.keys)}


@dataclasses.dataclass
class Tally:
    """What a verifying walk saw, in rows."""

    total: int = 0
    null_rows: int = 0
    pending: int = 0
    verified: int = 0
    clear_values: int = 0
    failures: Failures = dataclasses.field(default_factory=Failures)


def shown_key(key: tuple[str, ...]) -> str:
    """A row's key for people."""
    return ", ".join(key)


class Pages:
    """Reads the rows of one table over one connection (READ COMMITTED, not in autocommit), a transaction for each page."""

    def __init__(self, connection: PostgresConnection, statements: Statements, size: int) -> None:
        self._connection = connection
        self._statements = statements
        self._size = size
        self.row = statements.row
        self.sized = True

    def expect(self, largest: int) -> None:
        """Rows of at most so many bytes: where a page of them is small anyway, the server need not add up their sizes."""
        self.sized = largest * max(self._size, READ_PAGE) > PAGE_BYTES

    def stream(self, take: t.Callable[[list[RawRow]], None]) -> None:
        """Every row to *take*, as it is at one moment; ``row`` makes a Row of one."""
        with self._connection.cursor() as cursor:
            self._statements.stream(cursor, READ_PAGE, take)
        self._connection.commit()

    def walk(self, which: Which) -> t.Iterator[list[Row]]:
        """Every row of a kind, in the order of the key."""
        after: tuple[str, ...] | None = None
        while True:
            with self._connection.cursor() as cursor:
                rows = self._statements.page(cursor, which, self._size, after=after, sized=self.sized)
            self._connection.commit()
            if not rows:
                return
            yield rows
            after = rows[-1].key

    def at(self, keys: t.Sequence[tuple[str, ...]]) -> list[Row]:
        """The rows that have these keys."""
        with self._connection.cursor() as cursor:
            rows = self._statements.rows_at(cursor, keys)
        self._connection.commit()
        return rows

    def sample(self, total: int) -> list[Row]:
        """Some rows that have a ciphertext: the first, the last, and some at random."""
        with self._connection.cursor() as cursor:
            rows = {row.key: row for row in self._statements.random_rows(cursor, total, SAMPLE_ROWS)}
            for backwards in (False, True):
                rows.update((row.key, row) for row in self._statements.page(cursor, "sealed", SAMPLE_ROWS, backwards=backwards))
        self._connection.commit()
        return list(rows.values())


def verify(pages: Pages, codec: Codec, total: int, progress: Progress) -> Tally:
    """Decrypt and compare every row; *total* is what progress is measured against."""
    tally = Tally()

    def judge(rows: t.Iterable[Row]) -> None:
        for row in rows:
            add(tally, codec, row)
        progress(tally.total, max(total, tally.total + 1), "rows verified")

    def take(rows: list[RawRow]) -> None:
        others = codec.unopened(rows, pages.row)
        opened = len(rows) - len(others)
        tally.total += opened
        tally.verified += opened
        tally.clear_values += len(rows) - [row[0] for row in rows].count(None) - sum(row.source is not None for row in others)
        judge(others)

    if pages.sized:
        for rows in pages.walk("all"):
            judge(rows)
    else:
        pages.stream(take)
    progress(tally.total, tally.total, "rows verified")
    return tally


def sample(rows: t.Iterable[Row], codec: Codec) -> Tally:
    """The same for the rows of a sample."""
    tally = Tally()
    for row in rows:
        add(tally, codec, row)
    return tally


def add(tally: Tally, codec: Codec, row: Row) -> None:
    """Judge a row and count it."""
    kind = codec.judge(row).kind
    tally.total += 1
    tally.clear_values += row.source is not None
    if kind == "none":
        tally.null_rows += 1
    elif kind == "pending":
        tally.pending += 1
    elif kind == "verified":
        tally.verified += 1
    else:
        tally.failures.add(kind, row)


def tally_of(counts: Counts) -> Tally:
    """The tally of a look that decrypts nothing."""
    return Tally(total=counts.total, null_rows=counts.null_rows, pending=counts.pending, clear_values=counts.clear_values)


__all__ = ("NAMED_KEYS", "Failures", "Pages", "Tally", "sample", "shown_key", "tally_of", "verify")
