# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole databases of a server: created for a restore, marked with how far they are, exchanged in one short step.

PRIVATE to the collection: may change at any time.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import time
import typing as t

from ._backup_manifest import DatabaseLocale, Difference, Manifest
from ._backup_snapshot import SESSION, differences, fetch_one, quote_identifier, take_lock
from ._errors import LastroError, Text
from ._postgres import ConnectionSettings, connect
from ._progress import Progress

with contextlib.suppress(ImportError):  # _postgres.require_psycopg2 says so where a connection is asked for
    import psycopg2

if t.TYPE_CHECKING:
    from psycopg2.extensions import connection as PostgresConnection

APPLICATION = "lastro.deploy pg_restore"
LOADING, READY, SWAPPING = "loading", "ready", "swapping"
EMPTYING_SECONDS = 15.0
_POLL = 0.05
_NAME_BYTES = 63
_MARK = re.compile(r"lastro\.deploy restore: (loading|ready|swapping) ([0-9a-f]{64})\Z")

_FACTS = """
SELECT datname, pg_catalog.pg_get_userbyid(datdba), datallowconn, datconnlimit, coalesce(pg_catalog.shobj_description(oid, 'pg_database'), '')
  FROM pg_catalog.pg_database WHERE datname = ANY(%s)
"""
_PRIVILEGES = """
SELECT acl.privilege_type, acl.is_grantable, CASE WHEN acl.grantee = 0 THEN NULL ELSE pg_catalog.pg_get_userbyid(acl.grantee) END
  FROM pg_catalog.pg_database d, pg_catalog.aclexplode(d.datacl) acl WHERE d.datname = %s
"""
_SETTINGS = """
SELECT CASE WHEN s.setrole = 0 THEN NULL ELSE pg_catalog.pg_get_userbyid(s.setrole) END, pg_catalog.unnest(s.setconfig)
  FROM pg_catalog.pg_db_role_setting s JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase WHERE d.datname = %s
"""
_TERMINATE = """
SELECT pid, coalesce(application_name, ''), pg_catalog.pg_terminate_backend(pid)
  FROM pg_catalog.pg_stat_activity
 WHERE datname = %s AND pid <> %s AND coalesce(backend_type, 'client backend') = 'client backend'
"""


@dataclasses.dataclass(frozen=True)
class Database:
    """What the server says of one database."""

    name: str
    owner: str
    allows_connections: bool
    connection_limit: int
    comment: str

    @property
    def mark(self) -> tuple[str, str]:
        """How far a restore of ours is here and the SHA-256 of its backup; two empty strings where it is none of ours."""
        match = _MARK.match(self.comment)
        return (match.group(1), match.group(2)) if match else ("", "")


@dataclasses.dataclass(frozen=True)
class Names:
    """The live database, the restored one, and what the live one is called after the exchange."""

    live: str
    into: str
    kept: str

    @classmethod
    def of(cls, live: str, *, into: str | None, run_id: str, backup: str) -> Names:
        """Names from the options, each within what the server allows."""
        return cls(live=live, into=into or _fitted(live, f"_restored_{run_id or backup}"), kept=_fitted(live, f"_failed_{run_id}"))


def _fitted(name: str, suffix: str) -> str:
    """*name* and *suffix* in 63 bytes; the suffix, which tells runs apart, stays whole where it can."""
    tail = suffix.encode()[: _NAME_BYTES - 8]
    return (name.encode()[: _NAME_BYTES - len(tail)] + tail).decode(errors="ignore")


def look(connection: PostgresConnection, names: t.Sequence[str]) -> dict[str, Database]:
    """Those of the databases *names* that exist."""
    with connection.cursor() as cursor:
        cursor.execute(_FACTS, (list(names),))
        return {row[0]: Database(*row) for row in cursor.fetchall()}


def check_may_create(connection: PostgresConnection) -> None:
    """Raises LastroError where the role could not create or rename a database."""
    with connection.cursor() as cursor:
        role, allowed = fetch_one(cursor, "SELECT rolname, rolcreatedb OR rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user")
    if not allowed:
        raise LastroError(
            f"The role {role} may not create or rename databases.",
            remedy=Text(
                en=f"Give admin_url a role that may, or run ALTER ROLE {role} CREATEDB.",
                pt_BR=f"Use em admin_url um usuário que possa, ou execute ALTER ROLE {role} CREATEDB.",
            ),
        )


def create(connection: PostgresConnection, name: str, *, owner: str | None, locale: DatabaseLocale, sha256: str) -> None:
    """Create the database from template0 with *locale*, marked as being loaded."""
    clauses = ["TEMPLATE template0", f"ENCODING {_literal(locale.encoding)}", f"LC_COLLATE {_literal(locale.collate)}", f"LC_CTYPE {_literal(locale.ctype)}"]
    if locale.provider == "i":
        clauses += ["LOCALE_PROVIDER icu", f"ICU_LOCALE {_literal(locale.locale)}"]
    elif locale.provider == "b":
        clauses += ["LOCALE_PROVIDER builtin", f"BUILTIN_LOCALE {_literal(locale.locale)}"]
    if owner:
        clauses.append(f"OWNER {quote_identifier(owner)}")
    execute(connection, f"CREATE DATABASE {quote_identifier(name)} {' '.join(clauses)}")
    mark(connection, name, LOADING, sha256)


def drop(connection: PostgresConnection, name: str) -> None:
    """Drop a database that we created, with whoever is connected to it."""
    execute(connection, f"DROP DATABASE IF EXISTS {quote_identifier(name)} WITH (FORCE)")


def mark(connection: PostgresConnection, name: str, state: str, sha256: str) -> None:
    """Note on the database how far its restore is."""
    _comment(connection, name, f"lastro.deploy restore: {state} {sha256}")


def allow_connections(connection: PostgresConnection, name: str, allowed: bool) -> None:
    """Open or close the door of a database."""
    execute(connection, f"ALTER DATABASE {quote_identifier(name)} ALLOW_CONNECTIONS {'true' if allowed else 'false'}")


def execute(connection: PostgresConnection, statement: str) -> None:
    """Run one statement without an answer."""
    with connection.cursor() as cursor:
        cursor.execute(statement)


def _comment(connection: PostgresConnection, name: str, comment: str) -> None:
    execute(connection, f"COMMENT ON DATABASE {quote_identifier(name)} IS {_literal(comment) if comment else 'NULL'}")


def _literal(value: str) -> str:
    """*value* as an SQL string, whatever standard_conforming_strings says."""
    quoted = value.replace("'", "''")
    return " E'" + quoted.replace("\\", "\\\\") + "'" if "\\" in value else f"'{quoted}'"


def copy_properties(connection: PostgresConnection, live: Database, into: str) -> None:
    """Give *into* what no dump of a single database carries: owner, grants, connection limit and settings of *live*."""
    target = quote_identifier(into)
    execute(connection, f"ALTER DATABASE {target} OWNER TO {quote_identifier(live.owner)}")
    execute(connection, f"ALTER DATABASE {target} CONNECTION LIMIT {live.connection_limit}")
    with connection.cursor() as cursor:
        cursor.execute(_PRIVILEGES, (live.name,))
        privileges = cursor.fetchall()
        cursor.execute(_SETTINGS, (live.name,))
        settings = cursor.fetchall()
    if privileges:
        execute(connection, f"REVOKE ALL ON DATABASE {target} FROM PUBLIC")
    for privilege, grantable, grantee in privileges:
        option = " WITH GRANT OPTION" if grantable else ""
        execute(connection, f"GRANT {privilege} ON DATABASE {target} TO {quote_identifier(grantee) if grantee else 'PUBLIC'}{option}")
    for role, setting in settings:
        _copy_setting(connection, target, role, *setting.split("=", 1))


def _copy_setting(connection: PostgresConnection, target: str, role: str | None, name: str, value: str) -> None:
    """Set it here first and copy it from there: so lists keep their form, which a quoted value would lose."""
    subject = f"ALTER ROLE {quote_identifier(role)} IN DATABASE {target}" if role else f"ALTER DATABASE {target}"
    with connection.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("SELECT pg_catalog.set_config(%s, %s, true)", (name, value))
        cursor.execute(f"{subject} SET {'.'.join(quote_identifier(part) for part in name.split('.'))} FROM CURRENT")
        cursor.execute("COMMIT")


def loss_error(names: Names, backup: Manifest, lost: t.Sequence[Difference]) -> LastroError:
    """The refusal to exchange a database that changed since the backup."""
    tables = ", ".join(f"{one.table} ({one.reason}: {one.expected_rows} in the backup, {one.found_rows} now)" for one in lost[:20])
    return LastroError(
        f"{names.live} was written to since the backup {backup.name} of {backup.created}; the exchange would lose that. Tables that differ: {tables}.",
        remedy=Text(
            en="Restore without swap and bring the newer rows over by hand, or say accept_loss: true if they may go.",
            pt_BR="Restaure sem swap e traga as linhas novas à mão, ou informe accept_loss: true se elas podem ser perdidas.",
        ),
        lost=[dataclasses.asdict(one) for one in lost],
    )


def find_lost(settings: ConnectionSettings, backup: Manifest, progress: Progress) -> list[Difference]:
    """Tables of the live database that are not as in the backup. Raises LastroError where a dump or migration of ours runs in it."""
    with connect(settings, application_name=APPLICATION, autocommit=True, **SESSION) as session:
        take_lock(session)
        return differences(session, backup.tables, progress=progress)


def exchange(
    connection: PostgresConnection,
    settings: ConnectionSettings,
    names: Names,
    backup: Manifest,
    *,
    run_id: str,
    accept_loss: bool,
    progress: Progress,
) -> list[Difference]:
    """Put the restored database in the live one's place: closed to others, compared once more, renamed in one transaction.

    *connection* (autocommit) is to another database of the server. Returns what was lost.
    On any failure the live database is open again under its name. Raises LastroError.
    """
    live = look(connection, [names.live]).get(names.live)
    if live is None:
        _rename(connection, names, None, f"lastro.deploy: restored from {backup.name}")
        return []
    copy_properties(connection, live, names.into)
    with connect(settings, application_name=APPLICATION, autocommit=True, **SESSION) as session:
        take_lock(session)
        mark(connection, names.into, SWAPPING, backup.sha256)
        try:
            allow_connections(connection, names.live, False)
            progress(0, 0, "ending sessions")
            _empty(connection, names.live, session.info.backend_pid)
            lost = differences(session, backup.tables, progress=progress)
            if lost and not accept_loss:
                raise loss_error(names, backup, lost)
            session.close()
            _rename(connection, names, f"lastro.deploy: replaced by backup {backup.name} in run {run_id}", live.comment)
        except BaseException:
            _put_back(connection, names, backup)
            raise
    return lost


def left_over(connection: PostgresConnection, live: str, run_ids: t.Sequence[str], *, write: bool) -> tuple[list[str], bool]:
    """What killed restores of these runs left: the copies, dropped, and whether *live* was closed by one of them, opened again."""
    names = [Names.of(live, into=None, run_id=run_id, backup="").into for run_id in run_ids]
    there = look(connection, [live, *names])
    states = {name: there[name].mark[0] for name in names if name in there and there[name].mark[0]}
    closed = SWAPPING in states.values() and live in there and not there[live].allows_connections
    if write:
        for name in states:
            # Its sessions end with it, so that a restore which only lost its controller exchanges nothing any more.
            drop(connection, name)
        if closed and not look(connection, [live])[live].allows_connections:
            allow_connections(connection, live, True)
    return list(states), closed


def _put_back(connection: PostgresConnection, names: Names, backup: Manifest) -> None:
    with contextlib.suppress(psycopg2.Error):  # where the server itself went away the mark SWAPPING tells the next run to do it
        allow_connections(connection, names.live, True)
        mark(connection, names.into, READY, backup.sha256)


def _empty(connection: PostgresConnection, name: str, ours: int) -> None:
    """End the sessions of others in a closed database. Raises LastroError that names those that stay."""
    deadline = time.monotonic() + EMPTYING_SECONDS
    while True:
        with connection.cursor() as cursor:
            cursor.execute(_TERMINATE, (name, ours))
            others = cursor.fetchall()
        if not others:
            return
        if time.monotonic() > deadline:
            raise LastroError(
                f"Sessions in {name} did not end: " + ", ".join(f"{pid} ({application or 'no name'})" for pid, application, _ended in others) + ".",
                remedy=Text(en="Stop the programs that hold them and run again.", pt_BR="Pare os programas que as mantêm e execute de novo."),
            )
        time.sleep(_POLL)


def _rename(connection: PostgresConnection, names: Names, kept_comment: str | None, live_comment: str) -> None:
    """Both renames in one transaction; *kept_comment* is None where there is no live database."""
    live, into, kept = (quote_identifier(name) for name in (names.live, names.into, names.kept))
    execute(connection, "BEGIN")
    try:
        if kept_comment is not None:
            execute(connection, f"ALTER DATABASE {live} RENAME TO {kept}")
            allow_connections(connection, names.kept, True)
            _comment(connection, names.kept, kept_comment)
        execute(connection, f"ALTER DATABASE {into} RENAME TO {live}")
        _comment(connection, names.live, live_comment)
        execute(connection, "COMMIT")
    except psycopg2.Error:
        with contextlib.suppress(psycopg2.Error):
            execute(connection, "ROLLBACK")
        raise


__all__ = (
    "APPLICATION",
    "LOADING",
    "READY",
    "SWAPPING",
    "Database",
    "Names",
    "allow_connections",
    "check_may_create",
    "copy_properties",
    "create",
    "drop",
    "exchange",
    "execute",
    "find_lost",
    "left_over",
    "look",
    "loss_error",
    "mark",
)
