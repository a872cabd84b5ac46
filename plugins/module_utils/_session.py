# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sessions of dead runs. PRIVATE to the collection."""

from __future__ import annotations

import contextlib
import time
import typing as t

from ._errors import LastroError, Text
from ._postgres import ConnectionSettings, connect, redact

with contextlib.suppress(ImportError):  # connect() says so
    import psycopg2

OWN = "lastro.deploy-session"
FIND = """
    SELECT pid FROM pg_stat_activity
    WHERE datname = %(database)s AND starts_with(application_name, %(name)s) AND application_name <> %(own)s AND pid <> pg_backend_pid()
"""


def end(settings: ConnectionSettings, name: str, *, timeout: float, write: bool = True, clock: t.Callable[[], float] = time.monotonic) -> int:
    """End the sessions whose application name starts with *name* and wait until they are gone; how many. Raises LastroError."""
    with connect(settings, application_name=OWN, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute(FIND, {"database": settings.database, "name": name, "own": OWN})
        found = [row[0] for row in cursor.fetchall()]
        if not found or not write:
            return len(found)
        try:
            cursor.execute("SELECT pg_terminate_backend(pid) FROM unnest(%s) AS pid", (found,))
        except psycopg2.Error as error:
            raise _stay(len(found), redact(" ".join(str(error).split()), settings)) from None
        until = clock() + timeout
        while clock() < until:
            cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE pid = ANY (%s)", (found,))
            row = cursor.fetchone()
            if row is not None and row[0] == 0:
                return len(found)
            time.sleep(0.1)
    raise _stay(len(found), f"they are still there after {timeout:g} s")


def _stay(count: int, reason: str) -> LastroError:
    return LastroError(
        f"{count} database sessions of a dead run do not end: {reason}.",
        remedy=Text(en="Look at them in pg_stat_activity and end them by hand.", pt_BR="Veja-as em pg_stat_activity e encerre-as à mão."),
    )


__all__ = ("end",)
