# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sessions that write batches side by side, in passes that repeat until nothing is left.

Nothing but the rows themselves says how far the work is, so a run that was killed is taken up by the next one.
PRIVATE to the collection.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import threading
import typing as t
from concurrent import futures

from ._progress import Clock, Progress
from ._token_guard import Sleep
from ._token_jobs import Batch, Job
from ._token_undo import UndoWriter

with contextlib.suppress(ImportError):
    from psycopg2 import errors

if t.TYPE_CHECKING:
    from psycopg2.extensions import connection as PostgresConnection

MAX_STALLED = 8
"""So many passes that find no fewer rows than one before them end the repetition: a writer makes new ones all the time."""

Session = t.Callable[[], t.ContextManager["PostgresConnection"]]


class Outcome(t.NamedTuple):
    """What repeated passes did, in rows; *left* is what the last pass found, *stuck* says that it could write none of it."""

    written: int = 0
    conflicts: int = 0
    passes: int = 0
    left: int = 0
    stuck: bool = False
    seconds: float = 0.0

    def and_then(self, other: Outcome) -> Outcome:
        """Both, one after the other."""
        return other._replace(
            written=self.written + other.written,
            conflicts=self.conflicts + other.conflicts,
            passes=self.passes + other.passes,
            seconds=self.seconds + other.seconds,
        )


@dataclasses.dataclass(frozen=True)
class Pace:
    """How fast: *workers* sessions, *pause* seconds after each batch; ``throttle`` returns when the replicas are near enough."""

    workers: int
    pause: float
    throttle: t.Callable[[], None]


class Writers:
    """The writing sessions of one run. Use it as a context: its end closes them."""

    def __init__(self, session: Session, undo: UndoWriter | None, pace: Pace, *, progress: Progress, clock: Clock, sleep: Sleep) -> None:
        self._session = session
        self._undo = undo
        self._pace = pace
        self._progress = progress
        self._clock = clock
        self._sleep = sleep
        self._shown = 0
        self._mine = threading.local()
        self._stack = contextlib.ExitStack()
        self._pool = futures.ThreadPoolExecutor(pace.workers)

    def __enter__(self) -> Writers:
        return self

    def __exit__(self, *_error: object) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._stack.close()

    def repeat(self, job: Job, total: int) -> Outcome:
        """Pass over the table until a pass finds nothing to write, or until passes no longer find less; *total* is for progress."""
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
        running: collections.deque[tuple[int, futures.Future[int]]] = collections.deque()
        for batch in job.batches():
            found += batch.count
            if batch.entries and self._undo:
                self._undo.append(batch.entries)
            running.append((batch.read, self._pool.submit(self._write, batch)))
            # Few batches wait, so that memory is constant; with a pause none does.
            while len(running) > (0 if self._pace.pause else self._pace.workers):
                read, future = running.popleft()
                written += future.result()
                seen += read
                self._show(seen, total, job.unit)
            if self._pace.pause:
                self._sleep(self._pace.pause)
            self._pace.throttle()
        for read, future in running:
            written += future.result()
            seen += read
        self._show(seen, total, job.unit)
        return found, written

    def _write(self, batch: Batch) -> int:
        if not batch.count:
            return 0
        connection = self._connection()
        try:
            with connection.cursor() as cursor:
                written = batch.write(cursor)
        except (errors.LockNotAvailable, errors.DeadlockDetected):
            # Another session holds some of these rows: the batch counts as conflicts, and the next pass finds it again.
            connection.rollback()
            return 0
        if batch.entries and self._undo:
            self._undo.sync()
        connection.commit()
        return written

    def _connection(self) -> PostgresConnection:
        if not hasattr(self._mine, "connection"):
            self._mine.connection = self._stack.enter_context(self._session())
        connection: PostgresConnection = self._mine.connection
        return connection

    def _show(self, seen: int, total: int, unit: str) -> None:
        if self._shown < seen <= total:
            self._shown = seen
            self._progress(seen, total, unit)


__all__ = ("MAX_STALLED", "Outcome", "Pace", "Session", "Writers")
