# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One snapshot dumped by several pg_dump at once, the largest tables each into a stream of its own.

pg_dump's own directory format would put clear text on the disk; these streams are coded like any other. The first has everything but the rows of the
tables that the others have.

PRIVATE to the collection: may change at any time.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import threading
import typing as t

from ._backup_directory import Part
from ._backup_programs import Client
from ._backup_snapshot import Table
from ._pg_dump_stream import Chain, Snapshot, Streamed, decoding, dump
from ._postgres import ConnectionSettings
from ._progress import Progress

MOST_TABLES = 200
"""So many tables at most are taken out of the first stream: each is named on a command line."""


def divide(tables: t.Iterable[Table], jobs: int) -> tuple[tuple[Table, ...], ...]:
    """Tables for each stream but the first, which keeps the rest: the largest first, each to the stream with the least so far."""
    loads = [0] * jobs
    streams: list[list[Table]] = [[] for _each in range(jobs)]
    for table in sorted(tables, key=lambda one: (-one.size, one.pattern))[:MOST_TABLES]:
        # Of equals the last: the first stream has small tables and the schema as well.
        least = min(range(jobs), key=lambda number: (loads[number], -number))
        loads[least] += table.size
        streams[least].append(table)
    return tuple(tuple(stream) for stream in streams[1:] if stream)


@dataclasses.dataclass(frozen=True)
class Work:
    """What all streams of one backup share."""

    settings: ConnectionSettings
    client: Client
    chain: Chain
    snapshot: Snapshot
    decoded: bool


class _Total:
    """Adds up what the streams report, and stops them all once one has failed."""

    def __init__(self, expected: int, progress: Progress) -> None:
        self._expected = expected
        self._progress = progress
        self._done: dict[int, int] = {}
        self._lock = threading.Lock()
        self.error: BaseException | None = None

    def fail(self, error: BaseException) -> None:
        """Stop the other streams; the first error is the one that counts."""
        with self._lock:
            self.error = self.error or error

    def of(self, number: int) -> Progress:
        """The sink of one stream."""

        def report(done: int, _total: int, unit: str) -> None:
            if self.error:
                raise _StoppedError
            if unit != "bytes":
                return
            with self._lock:
                self._done[number] = max(done, self._done.get(number, 0))
                total = sum(self._done.values())
                self._progress(total, max(self._expected, total + 1), "bytes")

        return report


class _StoppedError(Exception):
    """Another stream has failed."""


def dump_all(work: Work, parts: t.Sequence[Part], streams: t.Sequence[t.Sequence[Table]], *, expected_size: int, progress: Progress) -> list[Streamed]:
    """Dump into *parts*, the first for everything but the rows of *streams*, which the others get; what each has. Raises LastroError."""
    rest = [f"--exclude-table-data={table.pattern}" for stream in streams for table in stream]
    options = [rest, *(["--data-only", *(f"--table={table.pattern}" for table in stream)] for stream in streams)]
    total = _Total(expected_size, progress)

    def one(number: int) -> Streamed:
        sink = total.of(number)
        try:
            along = decoding(work.client) if work.decoded else None
            return dump(work.settings, work.client, parts[number], work.chain, work.snapshot, options=options[number], along=along, progress=sink)
        except BaseException as error:
            total.fail(error)
            raise

    with concurrent.futures.ThreadPoolExecutor(len(parts)) as threads:
        futures = [threads.submit(one, number) for number in range(len(parts))]
        concurrent.futures.wait(futures)
    if total.error:
        raise total.error
    return [future.result() for future in futures]


__all__ = ("Work", "divide", "dump_all")
