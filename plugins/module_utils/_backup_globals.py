# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Roles and tablespaces of the server, which no dump of one database holds, as SQL beside the backup.

PRIVATE to the collection: may change at any time.
"""

from __future__ import annotations

import contextlib
import os
import typing as t

from ._backup_directory import Part
from ._backup_manifest import StoredFile
from ._backup_programs import Client, running
from ._backup_snapshot import fetch_one
from ._backup_stream import Tee
from ._errors import LastroError, Text
from ._pg_dump_stream import APPLICATION, Chain, carry, verify
from ._postgres import ConnectionSettings, libpq_environment
from ._progress import Progress

if t.TYPE_CHECKING:
    from psycopg2.extensions import connection as PostgresConnection

WITH_PASSWORDS = "with_passwords"
_MAY_READ_PASSWORDS = "SELECT pg_catalog.has_table_privilege('pg_catalog.pg_authid', 'SELECT')"


def check(connection: PostgresConnection, client: Client, which: str) -> None:
    """Raises LastroError where the globals could not be dumped as *which* says."""
    program = client.program("pg_dumpall")
    if not os.access(program, os.X_OK):
        raise LastroError(
            f"globals: there is no {program}.",
            remedy=Text(en="Install all client programs of PostgreSQL.", pt_BR="Instale todos os programas cliente do PostgreSQL."),
        )
    with connection.cursor() as cursor:
        if which == WITH_PASSWORDS and not fetch_one(cursor, _MAY_READ_PASSWORDS)[0]:
            raise LastroError(
                "globals: only a superuser may read the roles' password hashes.",
                remedy=Text(en="Take globals: without_passwords, or connect as one.", pt_BR="Use globals: without_passwords, ou conecte como superusuário."),
            )


def dump(settings: ConnectionSettings, client: Client, part: Part, chain: Chain, *, which: str, level: str, progress: Progress) -> StoredFile:
    """Stream the globals through *chain* into *part* and prove what was stored. Raises LastroError."""
    command = [client.program("pg_dumpall"), "--globals-only", "--no-password", f"--database={settings.database}"]
    command += [] if which == WITH_PASSWORDS else ["--no-role-passwords"]
    with contextlib.ExitStack() as stack:
        environment = stack.enter_context(libpq_environment(settings, application_name=APPLICATION))
        writer = stack.enter_context(running("pg_dumpall", command, environment, writes=True))
        tee = Tee(writer.source, (), lambda done: progress(done, 0, "bytes"))
        streamed = carry(tee, part, chain, writer=writer, settings=settings)
    verify([(part, streamed)], chain, level=level, copy=None, progress=progress)
    return StoredFile(part.final.name, streamed.size, streamed.sha256)


__all__ = ("check", "dump")
