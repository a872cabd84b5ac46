# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The look at a running migration from a second session: who blocks it, what it left, and its end. PRIVATE to the collection."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import time
import typing as t

from . import _postgres
from ._alembic_errors import session_failed, unfit
from ._alembic_rules import Loss
from ._alembic_sql import statements

try:
    import psycopg2
    from psycopg2 import sql
except ImportError:
    pass  # _postgres.connect says so

if t.TYPE_CHECKING:
    from psycopg2.extensions import connection as PostgresConnection

    from ._alembic_child import Message

_WHO = """
SELECT a.pid, coalesce(nullif(a.application_name, ''), a.backend_type, ''), coalesce(a.usename::text, ''), coalesce(a.state, ''),
       coalesce(extract(epoch FROM clock_timestamp() - a.xact_start), 0)::float, coalesce(a.query, '')
FROM pg_stat_activity a WHERE a.pid = ANY({pids})
"""
# pg_blocking_pids() holds the lock manager's own locks for a moment, so it is asked only while the session waits.
_BLOCKING = _WHO.format(
    pids="CASE WHEN EXISTS (SELECT FROM pg_stat_activity WHERE pid = %(pid)s AND wait_event_type = 'Lock') THEN pg_blocking_pids(%(pid)s) ELSE '{}' END"
)
_HOLDING = _WHO.format(
    pids="""ARRAY(
  SELECT l.pid FROM pg_locks l WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND l.classid = ((hashtext('alembic')::bigint + 4294967296) %% 4294967296)::oid
  AND l.objid = ((hashtext(%(table)s)::bigint + 4294967296) %% 4294967296)::oid)"""
)
_OLD = _WHO.format(
    pids="""ARRAY(
  SELECT o.pid FROM pg_stat_activity o WHERE o.datname = current_database() AND o.backend_type = 'client backend' AND o.pid <> pg_backend_pid()
  AND o.xact_start < clock_timestamp() - make_interval(secs => %(age)s))"""
)
_WIDTH = """
SELECT a.atttypmod - 4 FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE a.attname = 'version_num' AND n.nspname = %(schema)s AND c.relname = %(name)s AND a.atttypid = 'varchar'::regtype
"""
_INVALID = """
SELECT n.nspname || '.' || c.relname, i.indrelid::regclass::text
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE NOT i.indisvalid AND c.relkind = 'i' AND n.nspname <> 'information_schema' AND NOT starts_with(n.nspname::text, 'pg_')
AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index p WHERE p.index_relid = i.indexrelid)
ORDER BY 1
"""
GONE_SECONDS = 5.0
PROBES = 4
"""How often a client of a pooler is asked which process serves it: one that takes turns shows another by then."""
_LEFTOVER = re.compile(r"_cc(?:new|old)\d*\Z")
NEW_WIDTH = 32
"""Alembic makes the version table with VARCHAR(32)."""
APPLICATION_NAME = "lastro.deploy alembic watch"


@dataclasses.dataclass(frozen=True)
class Blocker:
    """A session that the migration waited for. *transaction_age* in seconds; *query* without its literals."""

    pid: int
    application: str
    user: str
    state: str
    transaction_age: float
    query: str

    def __str__(self) -> str:
        return f"pid {self.pid} ({self.application or 'no name'}, user {self.user or '-'}, {self.state or '-'} for {self.transaction_age:.0f} s)"


def without_literals(query: str) -> str:
    """A query in one line without the values in it."""
    shown = []
    for statement in statements(query):
        words = ["?" if word == "''" or word[:1].isdigit() else word for word in statement.pattern_text.split()]
        shown.append(" ".join(words))
    return "; ".join(shown)[:300]


def _blocker(row: tuple[t.Any, ...]) -> Blocker:
    """A row of C(_WHO)."""
    pid, application, user, state, age, query = row
    return Blocker(pid, application, user, state, round(age, 1), without_literals(query))


def _quoted(name: str) -> str:
    """C(schema.name) of a catalog as an identifier in SQL; a percent sign is doubled for the driver."""
    schema, _dot, bare = name.partition(".")
    return ".".join('"' + part.replace('"', '""').replace("%", "%%") + '"' for part in (schema, bare))


@contextlib.contextmanager
def session_of_our_own(settings: _postgres.ConnectionSettings, *, application_name: str, autocommit: bool, **session: str) -> t.Iterator[PostgresConnection]:
    """As C(_postgres.connect). Raises LastroError for a pooler in transaction mode, and for what PostgreSQL refuses in the session later.

    The pooler is seen before anything is set: it would stay set for whoever comes next.
    """
    with _postgres.untouched(settings, application_name=application_name) as connection:
        # A pooler gives its clients another key for cancelling than the server's process has.
        if _processes(connection, 1) != {connection.info.backend_pid}:
            refuse_shared(connection, settings)
        _postgres.give(connection, autocommit=autocommit, **session)
        try:
            yield connection
        except psycopg2.Error as error:
            raise session_failed(str(settings), _postgres.redact(str(error).strip().partition("\n")[0], settings)) from error


def refuse_shared(connection: PostgresConnection, settings: _postgres.ConnectionSettings) -> None:
    """Raises LastroError where the pooler in between gives one server process to several clients, or several to one."""
    mine = _processes(connection, PROBES)
    with _postgres.untouched(settings, application_name=APPLICATION_NAME) as other:
        theirs = _processes(other, PROBES)
    mine |= _processes(connection, PROBES)
    if len(mine) > 1 or mine & theirs:
        raise unfit("pooler", str(settings))


def _processes(connection: PostgresConnection, times: int) -> set[int]:
    found: set[int] = set()
    with connection.cursor() as cursor:
        for _each in range(times):
            cursor.execute("SELECT pg_backend_pid()")
            found.update(int(pid) for (pid,) in cursor.fetchall())
    return found


def refuse_unfit(connection: PostgresConnection, settings: _postgres.ConnectionSettings) -> None:
    """Raises LastroError where no migration can work: a standby, a database that is read-only."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_is_in_recovery(), current_setting('transaction_read_only')")
        ((standby, read_only),) = cursor.fetchall()
    if standby:
        raise unfit("standby", str(settings))
    if read_only == "on":
        raise unfit("read_only", str(settings))


class Watch:
    """A second session beside the migration. A lost connection ends the watching, never the migration."""

    def __init__(self, connection: PostgresConnection) -> None:
        self._connection = connection
        self._session: tuple[int, str] | None = None
        self._waiting_for = ""
        self._found: dict[int, Blocker] = {}

    @property
    def blockers(self) -> list[dict[str, t.Any]]:
        """Who was in the way, the longest transaction first."""
        return [dataclasses.asdict(one) for one in self.found()]

    def found(self) -> list[Blocker]:
        """The blockers seen so far, the longest transaction first."""
        return sorted(self._found.values(), key=lambda one: -one.transaction_age)

    def hear(self, message: Message) -> None:
        """Learn from the shim's events which session to look at."""
        if message["event"] == "session":
            self._session = (int(message["pid"]), str(message["backend_start"]))
        elif message["event"] == "waiting":
            self._waiting_for = str(message["version_table"])
        elif message["event"] == "locked":
            self._waiting_for = ""

    def tick(self) -> None:
        """Look who blocks the migration now."""
        if self._session is None:
            return
        query = _HOLDING if self._waiting_for else _BLOCKING
        self._found.update({row[0]: _blocker(row) for row in self._rows(query, pid=self._session[0], table=self._waiting_for)})

    def look_for_old(self, age: float) -> list[Blocker]:
        """Sessions of this database whose transaction is older than *age* seconds; they count as blockers from now on."""
        found = [_blocker(row) for row in self._rows(_OLD, age=age)]
        self._found.update({one.pid: one for one in found})
        return found

    def version_width(self, relation: t.Sequence[str]) -> int | None:
        """How many characters a revision's identifier may have in the version table; None for any number."""
        found = self._rows(_WIDTH, schema=relation[0], name=relation[-1]) if len(relation) > 1 else [(NEW_WIDTH,)]
        return int(found[0][0]) if found and found[0][0] > 0 else None

    def reindex(self, lock_timeout: str, *, seconds: float) -> list[str]:
        """Build every invalid index again, concurrently; leftovers of an interrupted REINDEX are dropped. Those that became valid or went."""
        self._rows(
            "SELECT set_config('lock_timeout', %(lock)s, false), set_config('statement_timeout', %(all)s, false)", lock=lock_timeout, all=f"{seconds:.0f}s"
        )
        before = [one["index"] for one in self.invalid_indexes()]
        for name in before:
            leftover = _LEFTOVER.search(name)
            self._rows(f"{'DROP INDEX CONCURRENTLY' if leftover else 'REINDEX INDEX CONCURRENTLY'} {_quoted(name)}")
        after = {one["index"] for one in self.invalid_indexes()}
        return [name for name in before if name not in after]

    def end_session(self) -> None:
        """End the migration's own session, if it is still that one, and wait until it is gone: nothing of it happens later."""
        if self._session is None:
            return
        named = {"pid": self._session[0], "begun": self._session[1]}
        still = "FROM pg_stat_activity WHERE pid = %(pid)s AND extract(epoch FROM backend_start)::text = %(begun)s"
        self._rows(f"SELECT pg_terminate_backend(pid) {still}", **named)
        until = time.monotonic() + GONE_SECONDS
        while self._rows(f"SELECT 1 {still}", **named) and time.monotonic() < until:
            time.sleep(0.02)

    def invalid_indexes(self) -> list[dict[str, str]]:
        """Indexes that no query can use, and that nobody is building now."""
        return [{"index": index, "table": table} for index, table in self._rows(_INVALID)]

    def heads(self, relation: t.Sequence[str]) -> list[str] | None:
        """The revisions recorded in the version table (schema, name); None where the server does not answer."""
        try:
            with self._connection.cursor() as cursor:
                cursor.execute(sql.SQL("SELECT version_num FROM {}").format(sql.Identifier(*relation)))
                return sorted(str(row[0]) for row in cursor.fetchall())
        except psycopg2.errors.UndefinedTable:
            return []
        except psycopg2.Error:
            return None

    def holds_rows(self, loss: Loss) -> bool | None:
        """Whether what would be dropped holds rows (a column: values); None where the object is not there now."""
        if not loss.table:
            return True
        name = sql.Identifier(*loss.table.split("."))
        values = sql.SQL(" WHERE {} IS NOT NULL").format(sql.Identifier(loss.column)) if loss.column else sql.SQL("")
        try:
            with self._connection.cursor() as cursor:
                cursor.execute(sql.SQL("SELECT EXISTS (SELECT 1 FROM {}{})").format(name, values))
                row = cursor.fetchone()
                return bool(row and row[0])
        except (psycopg2.errors.UndefinedTable, psycopg2.errors.UndefinedColumn):
            return None
        except psycopg2.Error:
            return True  # a lock or a timeout: what cannot be told counts as rows

    def _rows(self, query: str, **values: t.Any) -> list[tuple[t.Any, ...]]:  # noqa: ANN401
        try:
            with self._connection.cursor() as cursor:
                cursor.execute(query, values)
                return cursor.fetchall() if cursor.description else []
        except psycopg2.Error:
            return []


__all__ = ("APPLICATION_NAME", "Blocker", "Watch", "refuse_unfit", "session_of_our_own", "without_literals")
