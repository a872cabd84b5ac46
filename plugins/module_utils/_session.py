# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sessions of dead runs. PRIVATE to the collection."""

from __future__ import annotations

import time
import typing as t

from ._errors import LastroError, Text
from ._postgres import ConnectionSettings, connect

OWN = "lastro.deploy-session"
FIND = """
    SELECT pid FROM pg_stat_activity
    WHERE datname = %(database)s AND starts_with(application_name, %(name)s) AND application_name <> %(own)s AND pid <> pg_backend_pid()
"""


def end(settings: ConnectionSettings, name: str, *, timeout: float, write: bool = True, clock: t.Callable[[], float] = time.monotonic) -> int:
    """End the sessions whose application name starts with *name* and wait until they are gone; how many. Raises LastroError."""
    with connect(settings, application_name=OWN, autocommit=True) as connection, connection.cursor() as cursor:
        wanted = {"database": settings.database, "name": name, "own": OWN}
        cursor.execute(FIND, wanted)
        found = [row[0] for row in cursor.fetchall()]
        if not found or not write:
            return len(found)
        cursor.execute("SELECT pg_terminate_backend(pid) FROM unnest(%s) AS pid", (found,))
        until = clock() + timeout
        while clock() < until:
            cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE pid = ANY (%s)", (found,))
            row = cursor.fetchone()
            if row is not None and row[0] == 0:
                return len(found)
            time.sleep(0.1)
    raise LastroError(
        f"{len(found)} database sessions of a dead run do not end.",
        remedy=Text(en="Look at them in pg_stat_activity and end them by hand.", pt_BR="Veja-as em pg_stat_activity e encerre-as à mão."),
    )


__all__ = ("end",)
