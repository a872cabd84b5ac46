# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guard trigger: a writer that changes the clear text alone makes the row count as not encrypted. PRIVATE to the collection."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import typing as t

from ._errors import LastroError, Text
from ._token_columns import Table, shadow_name

with contextlib.suppress(ImportError):
    from psycopg2 import errors, sql

if t.TYPE_CHECKING:
    from psycopg2.extensions import connection as PostgresConnection
    from psycopg2.extensions import cursor as Cursor

SESSION_SWITCH = "lastro_deploy.token_guard"
"""A session that sets this to C(off) passes the trigger: the module's own, when it clears or undoes."""

ATTEMPTS = 8

Sleep = t.Callable[[float], None]
Done = t.TypeVar("Done")
GuardState = t.Literal["absent", "outdated", "in"]

_BODY = """
-- lastro.deploy: whoever writes the clear text alone leaves a ciphertext behind that no longer fits; it goes, and the next run encrypts the row.
BEGIN
  IF pg_catalog.current_setting({switch}, true) IS DISTINCT FROM 'off'
     AND NEW.{source}::text COLLATE "C" IS DISTINCT FROM OLD.{source}::text COLLATE "C"
     AND NEW.{ciphertext} IS NOT DISTINCT FROM OLD.{ciphertext} THEN
    NEW.{ciphertext} := NULL;
    NEW.{nonce} := NULL;{lookup}
  END IF;
  RETURN NEW;
EXCEPTION WHEN undefined_column THEN
  RETURN NEW;  -- a downgrade dropped the columns: nothing is left to guard
END
"""

_FOUND = """
SELECT t.tgenabled IN ('O', 'A') AND p.prosrc = %s
  FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid
 WHERE t.tgrelid = %s AND t.tgname = %s AND NOT t.tgisinternal"""

_HOLDERS = """
SELECT DISTINCT a.pid, a.application_name
  FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
 WHERE l.relation = %s AND l.granted AND l.pid <> pg_backend_pid() ORDER BY a.pid LIMIT 5"""


def guard_of_shadow(table: Table) -> Table:
    """The same relation one step on: whoever writes the ciphertext alone empties its shadow. Raises ValueError without a shadow."""
    if table.shadow is None:
        raise ValueError
    return dataclasses.replace(table, source=table.ciphertext, ciphertext=table.shadow[0], nonce=table.shadow[1], lookup=None, shadow=None)


def guard_name(table: Table) -> str:
    """The name of the trigger and of its function: fixed by table and columns, at most 63 bytes."""
    identity = json.dumps([table.schema, table.name, table.source.name, table.ciphertext.name, table.nonce.name])
    digest = hashlib.sha256(identity.encode()).hexdigest()[:8]
    # Triggers run in the order of their names: that of a shadow sees what the other one has emptied.
    kind = "shadow" if _is_shadows(table) else "guard"
    return f"lastro_{kind}_{table.name.encode()[:40].decode(errors='ignore')}_{digest}"


def read_guard(cursor: Cursor, table: Table) -> GuardState:
    """Whether the trigger is there; C(outdated) where it is disabled or has another body than this release gives it."""
    cursor.execute(_FOUND, (_body(cursor, table), table.oid, guard_name(table)))
    row = cursor.fetchone()
    if row is None:
        return "absent"
    return "in" if row[0] else "outdated"


def put_in(connection: PostgresConnection, table: Table, *, sleep: Sleep) -> None:
    """Create the trigger and its function, or replace outdated ones, in one transaction. Raises LastroError."""
    with connection.cursor() as cursor:
        names = _names(table)
        body = sql.Literal(_body(cursor, table))
        statements = [
            sql.SQL("CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS {body}").format(**names, body=body),
            sql.SQL("DROP TRIGGER IF EXISTS {trigger} ON {table}").format(**names),
            sql.SQL("CREATE TRIGGER {trigger} BEFORE UPDATE{of} ON {table} FOR EACH ROW EXECUTE FUNCTION {function}()").format(**names),
        ]
    locked(connection, table, lambda cursor: execute_all(cursor, statements), sleep=sleep)


def take_out(connection: PostgresConnection, table: Table, *, sleep: Sleep) -> None:
    """Drop the trigger and its function in one transaction. Raises LastroError."""
    names = _names(table)
    statements = [
        sql.SQL("DROP TRIGGER IF EXISTS {trigger} ON {table}").format(**names),
        sql.SQL("DROP FUNCTION IF EXISTS {function}()").format(**names),
    ]
    locked(connection, table, lambda cursor: execute_all(cursor, statements), sleep=sleep)


def execute_all(cursor: Cursor, statements: t.Iterable[sql.Composable]) -> None:
    """One after the other."""
    for statement in statements:
        cursor.execute(statement)


def locked(connection: PostgresConnection, table: Table, act: t.Callable[[Cursor], Done], *, sleep: Sleep) -> Done:
    """Alter the table in one transaction, again where its lock does not come. Raises LastroError after eight times."""
    for attempt in range(ATTEMPTS):
        try:
            with connection.cursor() as cursor:
                done = act(cursor)
        except (errors.LockNotAvailable, errors.DeadlockDetected):
            connection.rollback()
            sleep(min(0.1 * 2**attempt, 2.0))
        else:
            connection.commit()
            return done
    raise cannot_lock(connection, table)


def cannot_lock(connection: PostgresConnection, table: Table) -> LastroError:
    """The error for a lock that did not come, with the sessions that hold it."""
    with connection.cursor() as cursor:
        cursor.execute(_HOLDERS, (table.oid,))
        holders = [f"{pid} ({name or 'unnamed'})" for pid, name in cursor.fetchall()]
    connection.rollback()
    held = f" It is held by: {', '.join(holders)}." if holders else ""
    return LastroError(
        f"{table} could not be altered: {ATTEMPTS} times the lock on the table did not come within lock_timeout.{held}",
        remedy=Text(
            en="End the long transactions on this table (pg_stat_activity shows them), or raise lock_timeout, and run again.",
            pt_BR="Encerre as transações longas nesta tabela (veja pg_stat_activity), ou aumente lock_timeout, e execute novamente.",
        ),
    )


def _names(table: Table) -> dict[str, sql.Composable]:
    name = guard_name(table)
    return {
        "table": table.identifier,
        "trigger": sql.Identifier(name),
        "function": sql.Identifier(table.schema, name),
        # A column that another trigger changes is in no UPDATE OF.
        "of": sql.SQL("") if _is_shadows(table) else sql.SQL(" OF {}").format(sql.Identifier(table.source.name)),
    }


def _is_shadows(table: Table) -> bool:
    return table.ciphertext.name == shadow_name(table.source.name)


def _body(cursor: Cursor, table: Table) -> str:
    body = sql.SQL(_BODY).format(
        switch=sql.Literal(SESSION_SWITCH),
        source=sql.Identifier(table.source.name),
        ciphertext=sql.Identifier(table.ciphertext.name),
        nonce=sql.Identifier(table.nonce.name),
        lookup=sql.SQL("\n    NEW.{} := NULL;").format(sql.Identifier(table.lookup.name)) if table.lookup else sql.SQL(""),
    )
    return body.as_string(cursor)


__all__ = (
    "ATTEMPTS",
    "SESSION_SWITCH",
    "GuardState",
    "Sleep",
    "cannot_lock",
    "execute_all",
    "guard_name",
    "guard_of_shadow",
    "locked",
    "put_in",
    "read_guard",
    "take_out",
)
