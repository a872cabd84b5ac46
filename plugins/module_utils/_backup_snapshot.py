# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a database holds in one snapshot: rows and hashes of every table, its size and locale, and the lock of backups.

PRIVATE to the collection: may change at any time.
"""

from __future__ import annotations

import contextlib
import re
import typing as t

from ._backup_manifest import DatabaseLocale, Difference, TableState, compare
from ._errors import LastroError, Text
from ._postgres import ConnectionSettings, redact, require_psycopg2
from ._progress import Progress, silent

try:
    import psycopg2
    import psycopg2.errors
    import psycopg2.extensions
except ImportError:
    pass  # _postgres.require_psycopg2 says so where a connection is asked for

if t.TYPE_CHECKING:
    from psycopg2.extensions import connection as PostgresConnection
    from psycopg2.extensions import cursor as PostgresCursor

# Everything that changes how a value is written as text, fixed, so that two databases compare.
SESSION: t.Mapping[str, str] = {
    "search_path": "",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "extra_float_digits": "3",
    "bytea_output": "hex",
    "lc_monetary": "C",
    "xmlbinary": "base64",
    "quote_all_identifiers": "off",
    "row_security": "off",
    "client_encoding": "UTF8",
}
LARGE_OBJECTS = "large objects"
COUNTED = "bytes counted"
"""What ``measure`` tells of its progress: bytes as the catalog estimates them, of tables that are done."""

# Ordinary tables with rows of their own (partitions, not their parents), except those that an extension makes; their bytes as the catalog estimates
# them, since to measure them would wait for whoever has locked a table.
_TABLES = """
SELECT n.nspname, c.relname,
       coalesce((SELECT array_agg(a.attname::text) FROM pg_catalog.pg_attribute a
                  WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped), '{}'::text[]),
       pg_catalog.pg_get_userbyid(c.relowner),
       (greatest(c.relpages, 1) + coalesce((SELECT d.relpages FROM pg_catalog.pg_class d WHERE d.oid = c.reltoastrelid), 0))
         * pg_catalog.current_setting('block_size')::bigint,
       c.oid
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind = 'r' AND c.relpersistence <> 't'
   AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%'
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                    WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid AND d.deptype = 'e')
"""
_LOCALE = """
SELECT pg_catalog.pg_encoding_to_char(encoding), datcollate, datctype,
       coalesce(pg_catalog.to_jsonb(d) ->> 'datlocprovider', 'c'),
       coalesce(pg_catalog.to_jsonb(d) ->> 'datlocale', pg_catalog.to_jsonb(d) ->> 'daticulocale', '')
  FROM pg_catalog.pg_database d WHERE datname = pg_catalog.current_database()
"""
_LSN = "SELECT CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn() ELSE pg_catalog.pg_current_wal_lsn() END::text"
# The same pair is what migrations take, so a dump and a migration never overlap.
_LOCK_PAIR = "hashtext('lastro.deploy'), hashtext('backup')"
_TRY_LOCK = f"SELECT pg_catalog.pg_try_advisory_lock({_LOCK_PAIR})"
_HOLDER = """
SELECT l.pid, coalesce(a.application_name, ''), coalesce(a.backend_start::timestamptz(0)::text, '')
  FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_stat_activity a USING (pid)
 WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2
   AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
   AND l.classid = (pg_catalog.hashtext('lastro.deploy')::bigint & 4294967295)::oid
   AND l.objid = (pg_catalog.hashtext('backup')::bigint & 4294967295)::oid
"""
_PLAIN_NAME = re.compile(r"[a-z_][a-z0-9_]*\Z")


def quote_identifier(name: str) -> str:
    """*name* as SQL wants it, always quoted."""
    return '"' + name.replace('"', '""') + '"'


def display_name(schema: str, table: str) -> str:
    """The table's name in manifests and messages: quoted only where it must be, whatever the server's keywords are."""
    return ".".join(part if _PLAIN_NAME.match(part) else quote_identifier(part) for part in (schema, table))


def fetch_one(cursor: PostgresCursor, query: str, parameters: t.Sequence[object] = ()) -> tuple[t.Any, ...]:
    """The one row of *query*. Raises LastroError where there is none."""
    cursor.execute(query, tuple(parameters) or None)
    row = cursor.fetchone()
    if row is None:
        raise LastroError("PostgreSQL gave no answer to a query that always has one.", remedy=Text(en="Run again.", pt_BR="Execute de novo."))
    return row


@contextlib.contextmanager
def sql_errors(*settings: ConnectionSettings) -> t.Iterator[None]:
    """What the server refuses inside becomes a LastroError with the server's first line alone (details may repeat values)."""
    require_psycopg2()
    try:
        yield
    except psycopg2.Error as error:
        refused = error.diag.message_primary
        reason = redact(refused or " ".join(str(error).split()) or type(error).__name__, *settings).rstrip(".")
        raise LastroError(
            f"PostgreSQL refused: {reason}." if refused else f"The connection to PostgreSQL broke: {reason}.",
            remedy=Text(
                en="Remove the cause that the server names and run again; the server's log has the details.",
                pt_BR="Elimine a causa indicada pelo servidor e execute de novo; o log do servidor tem os detalhes.",
            ),
        ) from None


def server_version(connection: PostgresConnection) -> str:
    """18.6, or 9.6.24 before 10."""
    number = connection.server_version
    if number >= 100_000:
        return f"{number // 10_000}.{number % 10_000}"
    return f"{number // 10_000}.{number // 100 % 100}.{number % 100}"


def take_lock(connection: PostgresConnection) -> None:
    """Hold the lock of backups and migrations until the session ends. Raises LastroError that says who holds it."""
    with connection.cursor() as cursor:
        if fetch_one(cursor, _TRY_LOCK)[0]:
            return
        cursor.execute(_HOLDER)
        holder = cursor.fetchone()
    who = (
        f"process {holder[0]} ({holder[1] or 'no application name'}), connected since {holder[2] or 'an unknown time'}"
        if holder
        else "a session that just ended"
    )
    raise LastroError(
        f"Another dump or a migration of ours runs in this database: {who}.",
        remedy=Text(
            en="Wait until it is done, or end that server process if nobody needs it any more.",
            pt_BR="Espere que termine, ou encerre esse processo do servidor se ninguém mais precisa dele.",
        ),
    )


def open_snapshot(connection: PostgresConnection, *, lock_timeout: str) -> tuple[str, str]:
    """Begin a read-only snapshot on *connection* (autocommit) and return its exported name and its WAL position."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_catalog.set_config('lock_timeout', %s, false)", (lock_timeout,))
        if connection.server_version >= 170_000:
            cursor.execute("SET transaction_timeout = 0")
        if connection.server_version >= 140_000:
            # A long count or hash of a run that was killed would keep the lock of backups until its end.
            cursor.execute("SET client_connection_check_interval = '1s'")
        cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        snapshot = str(fetch_one(cursor, "SELECT pg_catalog.pg_export_snapshot()")[0])
        return snapshot, str(fetch_one(cursor, _LSN)[0])


def decoded(text: bytes, encoding: str) -> str:
    """*text* that a client program wrote in the *encoding* of a database, for example LATIN1."""
    return text.decode(psycopg2.extensions.encodings.get(encoding.replace("SQL_ASCII", "UTF8"), "utf-8"), errors="replace")


def close_snapshot(connection: PostgresConnection) -> None:
    """End the snapshot and give back its locks on tables; the lock of backups stays."""
    with connection.cursor() as cursor:
        cursor.execute("COMMIT")


def database_size(connection: PostgresConnection) -> int:
    """Bytes of the database on the server's disk."""
    with connection.cursor() as cursor:
        return int(fetch_one(cursor, "SELECT pg_catalog.pg_database_size(pg_catalog.current_database())")[0])


def database_locale(connection: PostgresConnection) -> DatabaseLocale:
    """Encoding and collation of the database."""
    with connection.cursor() as cursor:
        encoding, collate, ctype, provider, locale = fetch_one(cursor, _LOCALE)
    return DatabaseLocale(encoding=encoding, collate=collate, ctype=ctype, provider=provider, locale=locale)


def measure(
    connection: PostgresConnection,
    *,
    hashes: bool,
    columns: t.Mapping[str, tuple[str, ...]] | None = None,
    progress: Progress = silent,
) -> dict[str, TableState]:
    """Rows, and with *hashes* the content, of every table as *connection* (opened with ``SESSION``) sees it now.

    A hash does not depend on the order of rows or columns. It covers the table's columns, or those of *columns*
    (by table) where the table still has them all. Raises LastroError that names the table.
    """
    with connection.cursor() as cursor:
        cursor.execute(_TABLES)
        tables = sorted((display_name(schema, table), schema, table, tuple(sorted(own)), size) for schema, table, own, _owner, size, _oid in cursor.fetchall())
        states = {}
        done, total = 0, sum(size for *_table, size in tables)
        for name, schema, table, own, size in tables:
            progress(done, total, COUNTED)
            wanted = (columns or {}).get(name, own)
            covered = wanted if set(wanted) <= set(own) else own
            states[name] = _measure_table(cursor, name, f"{quote_identifier(schema)}.{quote_identifier(table)}", covered if hashes else None)
            done += size
        progress(done, total, COUNTED)
        large = int(fetch_one(cursor, "SELECT count(*) FROM pg_catalog.pg_largeobject_metadata")[0])
        if large:
            states[LARGE_OBJECTS] = TableState(rows=large)
    return states


class Table(t.NamedTuple):
    """A table with rows of its own: its *owner*, and its bytes on the server's disk, without indexes."""

    schema: str
    name: str
    owner: str
    size: int

    @property
    def entry(self) -> str:
        """What ``pg_restore --list`` says of its rows."""
        return f"{self.schema} {self.name} {self.owner}"

    @property
    def pattern(self) -> str:
        """As pg_dump takes it: quoted, so that nothing in it is a wildcard."""
        return f"{quote_identifier(self.schema)}.{quote_identifier(self.name)}"


def tables(connection: PostgresConnection) -> list[Table]:
    """The tables of ``measure``, after it: to look at their sizes takes the locks that it holds."""
    with connection.cursor() as cursor:
        cursor.execute(_TABLES)
        found = cursor.fetchall()
        cursor.execute("SELECT oid, coalesce(pg_catalog.pg_table_size(oid), 0) FROM unnest(%s::oid[]) oid", ([row[-1] for row in found],))
        sizes = dict(cursor.fetchall())
    return [Table(schema, name, owner, int(sizes[oid])) for schema, name, _columns, owner, _estimate, oid in found]


def _row_hash(columns: tuple[str, ...]) -> str:
    """The hash of a row *r*: each column's text is hashed with the hash of those before it, and whether it is null, as seed.

    The text of the whole row (``ROW(...)::text``) says the same, but quoting it takes half as long again.
    """
    digest = "0"
    for column in columns:
        value = f"r.{quote_identifier(column)}"
        digest = f"pg_catalog.hashtextextended(coalesce({value}::text, '') COLLATE \"C\", {digest} # ({value} IS NULL)::int)"
    return digest


def _measure_table(cursor: PostgresCursor, name: str, table: str, columns: tuple[str, ...] | None) -> TableState:
    if columns is None:
        query = f"SELECT count(*), NULL FROM ONLY {table}"  # noqa: S608 - quoted above
    else:
        query = f"SELECT count(*), coalesce(sum({_row_hash(columns)}), 0)::text FROM ONLY {table} AS r"  # noqa: S608 - as above
    try:
        rows, digest = fetch_one(cursor, query)
    except psycopg2.errors.LockNotAvailable:
        raise LastroError(
            f"The table {name} is locked by another session for longer than lock_wait_timeout.",
            remedy=Text(
                en="Wait until the migration or maintenance command that holds the lock is done, or allow a longer lock_wait_timeout.",
                pt_BR="Espere terminar a migração ou o comando de manutenção que segura o lock, ou permita um lock_wait_timeout maior.",
            ),
        ) from None
    except psycopg2.errors.InsufficientPrivilege as error:
        raise LastroError(
            f"The table {name} cannot be read by this role: {str(error).splitlines()[0]}.",
            remedy=Text(
                en="Connect as the owner of the tables, or grant the role pg_read_all_data (and BYPASSRLS where rows are protected).",
                pt_BR="Conecte como dono das tabelas, ou conceda ao usuário pg_read_all_data (e BYPASSRLS onde há proteção por linha).",
            ),
        ) from None
    return TableState(rows=int(rows), hash=digest, columns=columns or ())


def differences(connection: PostgresConnection, expected: t.Mapping[str, TableState], *, progress: Progress = silent) -> list[Difference]:
    """How the database differs now from the *expected* state of a manifest."""
    hashes = any(state.hash is not None for state in expected.values())
    found = measure(connection, hashes=hashes, columns={name: state.columns for name, state in expected.items() if state.columns}, progress=progress)
    return compare(expected, found)


__all__ = (
    "COUNTED",
    "LARGE_OBJECTS",
    "SESSION",
    "Table",
    "close_snapshot",
    "database_locale",
    "database_size",
    "decoded",
    "differences",
    "display_name",
    "fetch_one",
    "measure",
    "open_snapshot",
    "quote_identifier",
    "server_version",
    "sql_errors",
    "tables",
    "take_lock",
)
