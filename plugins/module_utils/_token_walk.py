# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Walks over a table in the order of its key: verifying ones, and writing ones that repeat until nothing is left.

Nothing but the rows themselves says how far the work is, so a run that was killed is taken up by the next one.
PRIVATE to the collection.
"""

from __future__ import annotations

import contextlib
import dataclasses
import typing as t

from ._progress import Clock, Progress
from ._token_cipher import ColumnType, KeyRing, Kind
from ._token_guard import Sleep
from ._token_sql import Counts, Row, Statements, judge

with contextlib.suppress(ImportError):
    from psycopg2 import errors

if t.TYPE_CHECKING:
    from psycopg2.extensions import connection as PostgresConnection
    from psycopg2.extensions import cursor as Cursor

FAULTS: tuple[Kind, ...] = ("wrong_key", "corrupt", "mismatch")
NAMED_KEYS = 10
SAMPLE_ROWS = 100
MAX_STALLED = 8
"""So many passes that find no fewer rows than one before them end the repetition: a writer makes new ones all the time."""


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


class Outcome(t.NamedTuple):
    """What repeated passes did, in rows; *left* is what the last pass found, *stuck* says that it could write none of it."""

    written: int = 0
    conflicts: int = 0
    passes: int = 0
    left: int = 0
    stuck: bool = False
    seconds: float = 0.0


Write = t.Callable[["Cursor"], int]
"""Writes what a plan holds and returns how many rows were still as they had been read."""


@dataclasses.dataclass(frozen=True)
class Job:
    """A kind of writing walk: which rows it reads and what it plans for a page of them (how many rows, and their write)."""

    which: t.Literal["pending", "clear", "sealed"]
    unit: str
    plan: t.Callable[[list[Row]], tuple[int, Write]]


def shown_key(key: tuple[str, ...]) -> str:
    """A row's key for people."""
    return ", ".join(key)


def encrypting(statements: Statements, ring: KeyRing) -> Job:
    """The job that encrypts what waits for it."""

    def plan(rows: list[Row]) -> tuple[int, Write]:
        sealed = ring.encrypt([row.source or "" for row in rows])
        return len(rows), lambda cursor: statements.write_sealed(cursor, rows, sealed)

    return Job("pending", "rows encrypted", plan)


def clearing(statements: Statements, ring: KeyRing, column_type: ColumnType) -> Job:
    """The job that sets clear text NULL where the ciphertext beside it has just been decrypted to the same text."""

    def plan(rows: list[Row]) -> tuple[int, Write]:
        verified = [row for row in rows if judge(ring, column_type, row).kind == "verified"]
        return len(verified), lambda cursor: statements.clear_source(cursor, verified)

    return Job("clear", "rows cleared", plan)


def undoing(statements: Statements, ring: KeyRing, column_type: ColumnType) -> Job:
    """The job that writes decrypted text back where the clear text is NULL or another one."""

    def plan(rows: list[Row]) -> tuple[int, Write]:
        verdicts = [judge(ring, column_type, row) for row in rows]
        wanted = [(row, verdict.text) for row, verdict in zip(rows, verdicts, strict=True) if verdict.text is not None and verdict.text != row.source]
        return len(wanted), lambda cursor: statements.write_source(cursor, [row for row, _text in wanted], [text for _row, text in wanted])

    return Job("sealed", "rows decrypted", plan)


class Walker:
    """Walks one table over one connection (READ COMMITTED, not in autocommit), a transaction for each page."""

    def __init__(
        self,
        connection: PostgresConnection,
        statements: Statements,
        *,
        batch_size: int,
        progress: Progress,
        clock: Clock,
        sleep: Sleep,
        pause: float = 0.0,
    ) -> None:
        self._connection = connection
        self._statements = statements
        self._batch_size = batch_size
        self._progress = progress
        self._clock = clock
        self._sleep = sleep
        self._pause = pause
        self._shown = 0

    def verify(self, ring: KeyRing, column_type: ColumnType, total: int) -> Tally:
        """Read, decrypt and compare every row; *total* is what progress is measured against."""
        tally = Tally()
        after: tuple[str, ...] | None = None
        while True:
            with self._connection.cursor() as cursor:
                rows = self._statements.page(cursor, "all", self._batch_size, after=after)
            self._connection.commit()
            if not rows:
                self._progress(tally.total, tally.total, "rows verified")
                return tally
            for row in rows:
                add(tally, ring, column_type, row)
            after = rows[-1].key
            self._progress(tally.total, max(total, tally.total + 1), "rows verified")

    def sample(self, ring: KeyRing, column_type: ColumnType, total: int) -> Tally:
        """Decrypt and compare some rows that have a ciphertext: the first, the last, and some at random."""
        tally = Tally()
        with self._connection.cursor() as cursor:
            rows = {row.key: row for row in self._statements.random_rows(cursor, total, SAMPLE_ROWS)}
            for backwards in (False, True):
                rows.update((row.key, row) for row in self._statements.page(cursor, "sealed", SAMPLE_ROWS, backwards=backwards))
        self._connection.commit()
        for row in rows.values():
            add(tally, ring, column_type, row)
        return tally

    def repeat(self, job: Job, total: int) -> Outcome:
        """Walk until a pass finds nothing to write, or until passes no longer find less; *total* is for progress."""
        started = self._clock()
        done, best, stalled = Outcome(), total + 1, 0
        self._shown = 0
        while True:
            found, written = self._pass(job, total)
            done = done._replace(written=done.written + written, conflicts=done.conflicts + found - written, left=found, stuck=found > 0 and written == 0)
            if found == 0:
                break
            done = done._replace(passes=done.passes + 1)
            stalled += found >= best
            best = min(best, found)
            if stalled == MAX_STALLED:
                break
            if written == 0:
                self._sleep(min(0.025 * 2**stalled, 1.0))
        return done._replace(seconds=self._clock() - started)

    def _pass(self, job: Job, total: int) -> tuple[int, int]:
        found = written = seen = 0
        after: tuple[str, ...] | None = None
        while True:
            with self._connection.cursor() as cursor:
                rows = self._statements.page(cursor, job.which, self._batch_size, after=after)
                count, write = job.plan(rows)
                found += count
                written += self._write(cursor, write) if count else 0
            self._connection.commit()
            if not rows:
                return found, written
            after = rows[-1].key
            seen += len(rows)
            self._show(seen, total, job.unit)
            if self._pause:
                self._sleep(self._pause)

    def _write(self, cursor: Cursor, write: Write) -> int:
        try:
            return write(cursor)
        except (errors.LockNotAvailable, errors.DeadlockDetected):
            # Another session holds some of these rows: the batch counts as conflicts, and the next pass finds it again.
            self._connection.rollback()
            return 0

    def _show(self, seen: int, total: int, unit: str) -> None:
        if self._shown < seen <= total:
            self._shown = seen
            self._progress(seen, total, unit)


def add(tally: Tally, ring: KeyRing, column_type: ColumnType, row: Row) -> None:
    """Judge a row and count it."""
    kind = judge(ring, column_type, row).kind
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


__all__ = ("NAMED_KEYS", "Failures", "Job", "Outcome", "Tally", "Walker", "clearing", "encrypting", "shown_key", "tally_of", "undoing")
