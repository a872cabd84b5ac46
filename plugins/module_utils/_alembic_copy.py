# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A throw-away copy of a database for a rehearsal, and a picture of its schema. PRIVATE to the collection: may change at any time."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import threading
import time
import typing as t
from pathlib import Path

from . import _postgres, _scratch_cluster
from ._backup_programs import Client, find_client, running
from ._errors import LastroError, Text

try:
    import psycopg2
    from psycopg2 import sql
except ImportError:
    pass  # _postgres.connect says so

if t.TYPE_CHECKING:
    from psycopg2.extensions import connection as PostgresConnection

    from ._postgres import ConnectionSettings

APPLICATION_NAME = "lastro.deploy rehearsal"
PREFIX = "lastro_rehearsal_"
WITH_ROWS = 5 << 30
"""Bytes up to which the copy has the rows as well."""
_LEFT_OVER = """
SELECT d.datname FROM pg_database d JOIN pg_roles r ON r.oid = d.datdba WHERE starts_with(d.datname::text, %s) AND r.rolname = current_user
AND NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.datid = d.oid)
"""
_OURS = "n.nspname <> 'information_schema' AND NOT starts_with(n.nspname::text, 'pg_')"
_SCHEMA = f"""
SELECT 'relation ' || c.oid::regclass::text || ' (' || c.relkind::text || ')' FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND {_OURS}
UNION ALL SELECT 'column ' || c.oid::regclass::text || '.' || quote_ident(a.attname) || ' ' || format_type(a.atttypid, a.atttypmod)
  || CASE WHEN a.attnotnull THEN ' NOT NULL' ELSE '' END || coalesce(' DEFAULT ' || pg_get_expr(d.adbin, d.adrelid), '')
  FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
  WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'f') AND {_OURS}
UNION ALL SELECT 'index ' || pg_get_indexdef(i.indexrelid) || CASE WHEN i.indisvalid THEN '' ELSE ' INVALID' END
  FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {_OURS}
UNION ALL SELECT 'constraint ' || k.conrelid::regclass::text || ' ' || quote_ident(k.conname) || ' ' || pg_get_constraintdef(k.oid)
  FROM pg_constraint k JOIN pg_namespace n ON n.oid = k.connamespace WHERE k.conrelid <> 0 AND k.contype <> 'n' AND {_OURS}
UNION ALL SELECT 'view ' || c.oid::regclass::text || ' ' || pg_get_viewdef(c.oid) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind IN ('v', 'm') AND {_OURS}
UNION ALL SELECT 'function ' || p.oid::regprocedure::text || ' ' || md5(pg_get_functiondef(p.oid)) FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
  WHERE p.prokind IN ('f', 'p') AND {_OURS}
UNION ALL SELECT 'trigger ' || pg_get_triggerdef(g.oid) FROM pg_trigger g JOIN pg_class c ON c.oid = g.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE NOT g.tgisinternal AND {_OURS}
UNION ALL SELECT 'label ' || e.enumtypid::regtype::text || ' ' || e.enumlabel FROM pg_enum e
"""  # noqa: S608 - constants


def _cannot(message: str) -> LastroError:
    return LastroError(
        f"The rehearsal has no copy to run on: {message}",
        remedy=Text(
            en="rehearsal_url needs a role with CREATEDB on a server with the same extensions; its database only has to exist.",
            pt_BR="rehearsal_url precisa de um papel com CREATEDB num servidor com as mesmas extensões; o banco da URL só precisa existir.",
        ),
        code="rehearsal",
    )


def left_over(server: ConnectionSettings, *, drop: bool) -> list[str]:
    """The copies that killed rehearsals of this role left on *server*, dropped where that is asked for. Raises LastroError."""
    with _postgres.connect(server, application_name=APPLICATION_NAME, autocommit=True) as admin:
        try:
            return _left_over(admin, drop=drop)
        except psycopg2.Error as error:
            raise _cannot(str(error).splitlines()[0]) from None


def _left_over(admin: PostgresConnection, *, drop: bool) -> list[str]:
    with admin.cursor() as cursor:
        cursor.execute(_LEFT_OVER, (PREFIX,))
        found = [str(name) for (name,) in cursor.fetchall()]
    for name in found if drop else ():
        _drop(admin, name)
    return found


@contextlib.contextmanager
def throw_away(
    source: PostgresConnection,
    source_settings: ConnectionSettings,
    server: ConnectionSettings,
    version: t.Sequence[str],
    *,
    until: float,
    bin_dir: str | None = None,
) -> t.Iterator[Copy]:
    """A copy of *source* on *server*, in a database of its own that is dropped at the end. What a killed rehearsal left there is dropped first.

    *bin_dir* is where pg_dump and pg_restore are, else they are looked for. Up to WITH_ROWS the copy has all rows, above only the schema and the version
    table *version* (schema, name). Raises LastroError, TimeoutError where it is not filled *until* then (of the monotonic clock).
    """
    with _postgres.connect(server, application_name=APPLICATION_NAME, autocommit=True) as admin:
        name = PREFIX + secrets.token_hex(6)
        try:
            _left_over(admin, drop=True)
            with admin.cursor() as cursor:
                cursor.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
        except psycopg2.Error as error:
            raise _cannot(str(error).splitlines()[0]) from None
        try:
            with source.cursor() as cursor:
                cursor.execute("SELECT pg_database_size(current_database())")
                rows = cursor.fetchall()[0][0] <= WITH_ROWS
            copy = Copy(server.with_database(name), rows=rows)
            version_of = max(source.server_version, admin.server_version) // 10000
            _fill(source_settings, copy, find_client(str(version_of), bin_dir), until=until)
            with _postgres.connect(copy.settings, application_name=APPLICATION_NAME, autocommit=True) as copy.connection:
                if not rows:
                    _copy_version(source, copy.connection, version)
                yield copy
        finally:
            _drop(admin, name)


@contextlib.contextmanager
def kept(base: Path) -> t.Iterator[Copy]:
    """The copy, with all rows, that the module pg_dump has proved a backup by and kept in *base*. Gone at the end. Raises LastroError."""
    with _scratch_cluster.reopened(base) as (cluster, database):
        copy = Copy(_postgres.parse_url(cluster.url).with_database(database), rows=True)
        with _postgres.connect(copy.settings, application_name=APPLICATION_NAME, autocommit=True) as copy.connection:
            yield copy


class Copy:
    """The copy: where it is, whether it has *rows*, and a session that looks at it."""

    connection: PostgresConnection

    def __init__(self, settings: ConnectionSettings, *, rows: bool) -> None:
        self.settings = settings
        self.rows = rows

    def schema(self, version_table: str) -> frozenset[str]:
        """The schema, a line for each object; without the version table, and without order, since a column that comes back comes last."""
        with self.connection.cursor() as cursor:
            cursor.execute(_SCHEMA)
            return frozenset(line for (line,) in cursor.fetchall() if version_table not in line)


def _drop(admin: PostgresConnection, name: str) -> None:
    force = " WITH (FORCE)" if admin.server_version >= 130000 else ""
    with admin.cursor() as cursor:
        cursor.execute(sql.SQL("DROP DATABASE IF EXISTS {}" + force).format(sql.Identifier(name)))


def _fill(source: ConnectionSettings, copy: Copy, client: Client, *, until: float) -> None:
    """pg_dump into pg_restore, without owners and grants: the other server need not have these roles."""
    dump = [client.program("pg_dump"), "--format=custom", "--no-owner", "--no-acl", "--no-password", *([] if copy.rows else ["--schema-only"])]
    restore = [client.program("pg_restore"), "--no-owner", "--no-acl", "--exit-on-error", "--no-password", f"--dbname={copy.settings.database}"]
    with contextlib.ExitStack() as stack:
        reading = stack.enter_context(_postgres.libpq_environment(source, application_name=APPLICATION_NAME))
        writing = stack.enter_context(_postgres.libpq_environment(copy.settings, application_name=APPLICATION_NAME))
        giver = stack.enter_context(running("pg_dump", dump, reading, writes=True))
        taker = stack.enter_context(running("pg_restore", restore, writing, reads=True))

        def end() -> None:
            for one in (giver, taker):
                one.process.kill()

        limit = threading.Timer(max(until - time.monotonic(), 0), end)
        limit.daemon = True
        limit.start()
        stack.callback(limit.cancel)
        with contextlib.suppress(BrokenPipeError):  # pg_restore went away: its exit status says why
            shutil.copyfileobj(giver.source, taker.sink, 1 << 20)
        statuses = (taker.wait(), giver.wait())
        if any(statuses) and time.monotonic() >= until:
            raise TimeoutError
        if statuses[0] != 0:
            raise _cannot(_postgres.redact(taker.complaint(), source, copy.settings))
        if statuses[1] != 0:
            raise _cannot(_postgres.redact(giver.complaint(), source, copy.settings))


def _copy_version(source: PostgresConnection, target: PostgresConnection, version: t.Sequence[str]) -> None:
    if len(version) < 2:  # neither schema nor table: it is not there yet
        return
    table = sql.Identifier(*version)
    with source.cursor() as cursor, target.cursor() as other:
        cursor.execute(sql.SQL("SELECT version_num FROM {}").format(table))
        for row in cursor.fetchall():
            other.execute(sql.SQL("INSERT INTO {} (version_num) VALUES (%s)").format(table), row)


__all__ = ("PREFIX", "Copy", "kept", "left_over", "throw_away")
