# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds the contract's invalid indexes anew, concurrently and within a limit. PRIVATE to the collection."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import typing as t

from ._index_validation_contract import Expected, quoted
from ._index_validation_findings import leftover_of
from ._index_validation_server import reason
from ._postgres import ConnectionSettings, connect
from ._progress import Progress

with contextlib.suppress(ImportError):  # _postgres.connect says so
    import psycopg2
    import psycopg2.extensions

if t.TYPE_CHECKING:
    from psycopg2.extensions import connection as PostgresConnection

    from ._index_validation_sql import Facts

APPLICATION_NAME = "lastro index_validation repair"
LOOK_SECONDS = 1.0
_PROGRESS = "SELECT COALESCE(blocks_done, 0), COALESCE(blocks_total, 0) FROM pg_stat_progress_create_index WHERE pid = %s"


@dataclasses.dataclass(frozen=True)
class Options:
    """Whether and how long. *timeout* is PostgreSQL's statement_timeout for each index."""

    enabled: bool = False
    timeout: str = "1h"
    check_mode: bool = False


NONE = Options()


@dataclasses.dataclass(frozen=True)
class Repair:
    """One statement, and PostgreSQL's *problem* with it; *changes* where it was run, or would be in check mode."""

    index: str
    statement: str
    changes: bool = False
    problem: str = ""

    def as_result(self) -> dict[str, t.Any]:
        """The repair as a return value."""
        return {"index": self.index, "statement": self.statement, "problem": self.problem}


def plan(expected: t.Sequence[Expected], facts: Facts) -> list[Repair]:
    """What mends the contract's tables: copies that a REINDEX left are dropped, invalid indexes of the contract built anew.

    Indexes that are being built, partitioned ones and those that are no part of the contract stay as they are.
    """
    drops: dict[str, Repair] = {}
    builds: dict[str, Repair] = {}
    for one in expected:
        for index in facts.tables[one.schema, one.table].indexes:
            name = f"{quoted(one.schema)}.{quoted(index.name)}"
            if index.building or index.partitioned or (index.valid and index.ready and index.live):
                continue
            of = leftover_of(index.name)
            if one.name and of == one.name:
                drops[name] = Repair(index.name, f"DROP INDEX CONCURRENTLY {name}")
            elif one.name == index.name and index.live:
                builds[name] = Repair(index.name, f"REINDEX INDEX CONCURRENTLY {name}")
    return [*drops.values(), *builds.values()]


def repair(settings: ConnectionSettings, planned: t.Sequence[Repair], options: Options, progress: Progress) -> list[Repair]:
    """Run what is planned, one after the other; in check mode say it. An error of PostgreSQL is in its repair, the others are still run.

    A build waits for older transactions by nature: lock_timeout would break it off and leave another invalid index, so *timeout* is the only limit.
    """
    if options.check_mode or not planned:
        return [dataclasses.replace(one, changes=True) for one in planned]
    done = []
    session = {"statement_timeout": options.timeout, "lock_timeout": "0"}
    with contextlib.ExitStack() as stack:
        worker = stack.enter_context(connect(settings, application_name=APPLICATION_NAME, autocommit=True, **session))
        watcher = stack.enter_context(connect(settings, application_name=APPLICATION_NAME, autocommit=True, statement_timeout="5s"))
        if worker.server_version >= 140000:
            with worker.cursor() as cursor:
                # A build that nobody waits for any more ends.
                cursor.execute("SET client_connection_check_interval = '5s'")
        for one in planned:
            problem = _run(worker, watcher, one.statement, progress)
            done.append(dataclasses.replace(one, changes=not problem, problem=problem))
    return done


def _run(worker: PostgresConnection, watcher: PostgresConnection, statement: str, progress: Progress) -> str:
    """PostgreSQL's error, or an empty text. The blocks done are told meanwhile."""
    problems: list[str] = []

    def work() -> None:
        try:
            with worker.cursor() as cursor:
                cursor.execute(statement)
        except psycopg2.Error as error:
            problems.append(reason(error))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(LOOK_SECONDS)
        with contextlib.suppress(psycopg2.Error), watcher.cursor() as cursor:
            cursor.execute(_PROGRESS, (worker.info.backend_pid,))
            for done, total in cursor.fetchall():
                progress(done, total, "blocks")
    return "".join(problems)


__all__ = ("NONE", "Options", "Repair", "plan", "repair")
