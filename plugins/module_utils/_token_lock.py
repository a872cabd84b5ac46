# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The advisory lock of a table's tokens: one run at a time. PRIVATE to the collection."""

from __future__ import annotations

import hashlib
import typing as t

from ._progress import Clock
from ._token_columns import Names
from ._token_errors import other_run
from ._token_guard import Sleep

if t.TYPE_CHECKING:
    from psycopg2.extensions import connection as PostgresConnection

LOCK_SECONDS = 5.0


def take_lock(connection: PostgresConnection, names: Names, clock: Clock, sleep: Sleep) -> None:
    """Take the table's advisory lock, for the session. A run that was killed a moment ago may still hold it: wait that long for it."""
    table = f"{names.schema}.{names.table}"
    number = int.from_bytes(hashlib.sha256(f"lastro.deploy tokens {table}".encode()).digest()[:8], "big", signed=True)
    until = clock() + LOCK_SECONDS
    while True:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_lock(%s)", (number,))
            taken = cursor.fetchall() == [(True,)]
        connection.commit()
        if taken:
            return
        if clock() >= until:
            raise other_run(table, _holder(connection, number))
        sleep(0.1)


def _holder(connection: PostgresConnection, number: int) -> str:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT a.pid, a.application_name, a.backend_start::timestamp(0)::text"
            "  FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid"
            " WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1"
            "   AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())"
            "   AND (l.classid::bigint << 32 | l.objid::bigint) = %s",
            (number,),
        )
        row = cursor.fetchone()
    connection.rollback()
    return f" by process {row[0]} ({row[1]}), connected since {row[2]}" if row else ""


__all__ = ("LOCK_SECONDS", "take_lock")
