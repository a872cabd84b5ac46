# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each statement of a migration takes, locks and rewrites, asked of its own session; for a rehearsal on a copy.

Runs under the application's interpreter, as C(_alembic_shim) does. PRIVATE to the collection: may change at any time.
"""

from __future__ import annotations

import time
import typing as t

if t.TYPE_CHECKING:
    Ask = t.Callable[[str], list[tuple[t.Any, ...]]]

SHOWN = 300
_TABLES = """SELECT c.oid::bigint, c.oid::regclass::text, pg_relation_filenode(c.oid)::bigint FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'm', 'p') AND n.nspname <> 'information_schema' AND NOT starts_with(n.nspname::text, 'pg_')"""
# Modes that somebody's SELECT, or INSERT, UPDATE and DELETE, wait for.
_LOCKS = """SELECT relation::bigint, mode FROM pg_locks WHERE pid = pg_backend_pid() AND granted AND locktype = 'relation'
AND mode IN ('AccessExclusiveLock', 'ExclusiveLock', 'ShareRowExclusiveLock', 'ShareLock')"""


class Trace:
    """Statements with their seconds, locks with how long they were held, and rewritten tables, since C(take) was called last.

    Tables that the transaction itself has made are left out: nobody can wait for them.
    """

    def __init__(self, clock: t.Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.begun = 0.0
        self.tables: dict[int, tuple[str, int | None]] = {}
        self.since: dict[tuple[str, str], float] = {}
        self.found: dict[str, list[dict[str, t.Any]]] = {"statements": [], "locks": [], "rewrites": []}
        self.committed = True

    def before(self, ask: Ask) -> None:
        """A statement is about to run."""
        if self.committed:
            self.tables = {oid: (name, file) for oid, name, file in ask(_TABLES)}
            self.committed = False
        self.begun = self.clock()

    def after(self, ask: Ask, statement: str) -> None:
        """It has run."""
        shown = " ".join(statement.split())[:SHOWN]
        self.found["statements"].append({"statement": shown, "seconds": round(self.clock() - self.begun, 3)})
        for oid, mode in ask(_LOCKS):
            if oid in self.tables:
                self.since.setdefault((self.tables[oid][0], mode), self.begun)
        for oid, _name, file in ask(_TABLES):
            name, previous = self.tables.get(oid, ("", file))
            if file != previous:
                self.found["rewrites"].append({"table": name, "statement": shown})
                self.tables[oid] = (name, file)

    def commit(self) -> None:
        """The transaction ends, and with it its locks."""
        now = self.clock()
        self.found["locks"] += [{"table": table, "mode": mode, "seconds": round(now - begun, 3)} for (table, mode), begun in self.since.items()]
        self.since, self.committed = {}, True

    def take(self) -> dict[str, list[dict[str, t.Any]]]:
        """What was found so far; the next revision begins with nothing."""
        found, self.found = self.found, {name: [] for name in self.found}
        return found
