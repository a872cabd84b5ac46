# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the program in C(_alembic_shim) does on the connections that env.py opens: settings, limits, counts.

Runs under the application's interpreter, as C(_alembic_shim) does. PRIVATE to the collection: may change at any time.
"""

from __future__ import annotations

import re
import typing as t

from ._alembic_shim_trace import Trace

try:
    from sqlalchemy import event
    from sqlalchemy.engine import Engine
    from sqlalchemy.pool import Pool
except ImportError:
    pass  # C(_alembic_shim) says so

if t.TYPE_CHECKING:
    Foreign = t.Any
    """An object of SQLAlchemy, Alembic or a driver: their types differ between the versions that are supported."""

READ_BACK = ("lock_timeout", "statement_timeout", "client_connection_check_interval")
_NAME = r'((?:"(?:[^"]|"")+"|[\w$]+)(?:\.(?:"(?:[^"]|"")+"|[\w$]+))?)'
CONCURRENTLY = re.compile(r"\s*(?:CREATE\s+(?:UNIQUE\s+)?INDEX|DROP\s+INDEX|REINDEX\b[^;]*?)\s+CONCURRENTLY\b", re.IGNORECASE)
CONCURRENT_BUILD = re.compile(
    r"\s*CREATE\s+(?:UNIQUE\s+)?INDEX\s+CONCURRENTLY\s+(?:IF\s+NOT\s+EXISTS\s+)?" + _NAME + r"\s+ON\s+(?:ONLY\s+)?" + _NAME,
    re.IGNORECASE,
)
COMMIT = re.compile(r"\s*(?:COMMIT|END)\b", re.IGNORECASE)
WRITES_VERSION = re.compile(r"\s*(?:INSERT|UPDATE|DELETE|CREATE)\b", re.IGNORECASE)


class ShimError(Exception):
    """A reason to stop that has a name: *code* chooses the remedy in the module."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def literal(text: str) -> str:
    """*text* as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def rows(connection: Foreign, sql: str, *, commit: bool = True) -> list[Foreign]:
    """What *sql* answers on the driver's own connection, past SQLAlchemy's events and transaction."""
    raw = connection.connection
    cursor = raw.cursor()
    try:
        cursor.execute(sql)
        found = list(cursor.fetchall())
    finally:
        cursor.close()
    if commit:
        raw.commit()
    return found


def chain(error: BaseException) -> list[BaseException]:
    """*error* and what led to it, the newest first."""
    found: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in found:
        found.append(current)
        current = current.__cause__ or current.__context__
    return found


def sqlstate(error: BaseException) -> str:
    """The SQLSTATE behind an error of any driver, or an empty text."""
    for each in chain(error):
        for one in (each, getattr(each, "orig", None)):
            state = getattr(one, "sqlstate", None) or getattr(one, "pgcode", None)
            if state:
                return str(state)
    return ""


def sentence(error: BaseException) -> str:
    """First line of an error, without the statement and parameters that SQLAlchemy adds."""
    source = getattr(error, "orig", None) or error
    lines = str(source).strip().splitlines()
    return lines[0][:400] if lines else type(source).__name__


class Session:
    """What is set in, and counted on, the connections that env.py opens."""

    def __init__(self) -> None:
        self.settings: dict[str, str] = {}
        self.applied: dict[str, str] = {}
        self.concurrent: dict[str, str] = {}
        self.repair = False
        self.repaired: list[str] = []
        self.commits = 0
        self.statements = 0
        self.version_table = "alembic_version"
        self.trace: Trace | None = None

    def listen(self) -> None:
        """Hear every engine and pool of this process, also those made before."""
        event.listen(Pool, "checkout", self.on_checkout)
        event.listen(Engine, "commit", self.on_commit)
        event.listen(Engine, "before_cursor_execute", self.before_statement)
        event.listen(Engine, "after_cursor_execute", self.after_statement)

    def on_checkout(self, dbapi_connection: Foreign, record: Foreign, _proxy: Foreign) -> None:
        """Put the settings into the session. What failed here (another kind of database) shows when they are read back."""
        self.applied = {}
        cursor = dbapi_connection.cursor()
        try:
            for name in record.info.get("lastro", ()):
                if name not in self.settings:
                    cursor.execute(f"RESET {name}")
            cursor.execute(self._set(self.settings))
            self.applied = {str(name): str(value) for name, value in cursor.fetchall()}
            dbapi_connection.commit()
            record.info["lastro"] = tuple(self.settings)
        except Exception:  # noqa: BLE001 - any driver's error
            dbapi_connection.rollback()
        finally:
            cursor.close()

    @staticmethod
    def _set(settings: t.Mapping[str, str]) -> str:
        values = ", ".join(f"({literal(name)}, {literal(value)})" for name, value in settings.items())
        return f"SELECT v.name, set_config(v.name, v.value, false) FROM (VALUES {values}) AS v(name, value) JOIN pg_settings USING (name)"  # noqa: S608

    def on_commit(self, _conn: Foreign) -> None:
        """Count what cannot be taken back."""
        self.commits += 1
        if self.trace:
            self.trace.commit()

    def before_statement(self, conn: Foreign, _cursor: Foreign, statement: str, *_rest: Foreign) -> None:
        """Give a concurrent index build its own limits, and its place if an interrupted one left an invalid index there."""
        if self.trace:
            self.trace.before(lambda query: rows(conn, query, commit=False))
        if not self.concurrent or not CONCURRENTLY.match(statement):
            return
        self.commits += 1
        rows(conn, self._set(self.concurrent), commit=False)
        build = CONCURRENT_BUILD.match(statement)
        if build and self.repair:
            self._drop_leftover(conn, build.group(1), build.group(2))

    def _drop_leftover(self, conn: Foreign, index: str, table: str) -> None:
        bare = index.rpartition(".")[2] if not index.endswith('"') else index
        name = bare[1:-1].replace('""', '"') if bare.startswith('"') else bare.lower()
        found = rows(
            conn,
            "SELECT c.oid::regclass::text FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"  # noqa: S608 - quoted by literal()
            f" WHERE c.relname = {literal(name)} AND i.indrelid = to_regclass({literal(table)}) AND NOT i.indisvalid"
            " AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index p WHERE p.index_relid = i.indexrelid)",
            commit=False,
        )
        for (leftover,) in found:
            raw = conn.connection.cursor()
            raw.execute(f"DROP INDEX CONCURRENTLY {leftover}")
            raw.close()
            self.repaired.append(str(leftover))

    def after_statement(self, conn: Foreign, _cursor: Foreign, statement: str, *_rest: Foreign) -> None:
        """Count the statement, and take the limits of a concurrent build out again."""
        if self.concurrent and CONCURRENTLY.match(statement):
            rows(conn, self._set({name: self.settings[name] for name in self.concurrent}), commit=False)
        if COMMIT.match(statement):
            self.commits += 1
        if not (WRITES_VERSION.match(statement) and self.version_table in statement):
            self.statements += 1
            if self.trace:
                self.trace.after(lambda query: rows(conn, query, commit=False), statement)

    def read_back(self, connection: Foreign, *, commit: bool) -> dict[str, str]:
        """The settings as the migration's own session has them. Raises ShimError where they are not those that were set."""
        names = ", ".join(literal(name) for name in READ_BACK)
        found = dict(rows(connection, f"SELECT name, current_setting(name) FROM pg_settings WHERE name IN ({names})", commit=commit))  # noqa: S608
        wrong = [name for name in READ_BACK if name in self.settings and found.get(name) and found[name] != self.applied.get(name)]
        if wrong:
            raise ShimError("settings", f"{wrong[0]} is {found[wrong[0]]} in the migration's session, not {self.settings[wrong[0]]}.")
        return {name: found.get(name, "") for name in READ_BACK}
