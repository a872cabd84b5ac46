# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A dump restored into a throw-away cluster and compared with its manifest: the proof that it can be restored.

PRIVATE to the collection: may change at any time.
"""

from __future__ import annotations

import contextlib
import dataclasses
import typing as t
from pathlib import Path

from . import _backup_snapshot, _backup_swap, _scratch_cluster
from ._backup_manifest import DatabaseLocale, TableState
from ._backup_programs import Client, Program, major, running
from ._errors import LastroError, Text
from ._postgres import ConnectionSettings, connect, libpq_environment, parse_url
from ._progress import Progress

with contextlib.suppress(ImportError):  # _postgres.require_psycopg2 says so where a connection is asked for
    import psycopg2

if t.TYPE_CHECKING:
    from psycopg2.extensions import connection as PostgresConnection

APPLICATION = "lastro.deploy pg_dump verify"
DATABASE = "lastro_rehearsal_backup"
PLAIN = DatabaseLocale("UTF8", "C", "C", "c", "")
_ROLES = "SELECT rolname, rolsuper FROM pg_catalog.pg_roles WHERE rolname !~ '^pg_' AND rolname <> %s ORDER BY 1"
_LACKING = "SELECT name FROM unnest(%s::text[]) name WHERE name NOT IN (SELECT name FROM pg_catalog.pg_available_extensions) ORDER BY 1"


@dataclasses.dataclass(frozen=True)
class Source:
    """What a copy needs to know of the database before the dump: its *roles* with whether each is a superuser, *extensions*, *locale*."""

    server_version: str
    locale: DatabaseLocale
    roles: tuple[tuple[str, bool], ...]
    extensions: tuple[str, ...]

    @classmethod
    def of(cls, connection: PostgresConnection, extensions: t.Iterable[str]) -> Source:
        """Of the database with *extensions* that *connection* is to."""
        with connection.cursor() as cursor:
            cursor.execute(_ROLES, (_scratch_cluster.ROLE,))
            roles = tuple((str(name), bool(superuser)) for name, superuser in cursor.fetchall())
        return cls(_backup_snapshot.server_version(connection), _backup_snapshot.database_locale(connection), roles, tuple(extensions))


@dataclasses.dataclass(frozen=True)
class Copy:
    """An empty database in a running cluster of our own, and the programs that fill it."""

    cluster: _scratch_cluster.Cluster
    settings: ConnectionSettings
    client: Client

    @contextlib.contextmanager
    def restoring(self, *options: str) -> t.Iterator[Program]:
        """pg_restore, with more *options*, that fills the database from its input, the clear stream of a dump."""
        command = [
            self.client.program("pg_restore"),
            "--exit-on-error",
            "--no-password",
            "--no-tablespaces",
            "--no-subscriptions",
            f"--dbname={DATABASE}",
            *options,
        ]
        with libpq_environment(self.settings, application_name=APPLICATION) as environment, running("pg_restore", command, environment, reads=True) as child:
            yield child

    def compare(self, tables: t.Mapping[str, TableState], progress: Progress) -> None:
        """Raises LastroError that names the tables which are not as the snapshot of the dump had them."""
        with (
            _backup_snapshot.sql_errors(self.settings),
            connect(self.settings, application_name=APPLICATION, autocommit=True, **_backup_snapshot.SESSION) as session,
        ):
            different = _backup_snapshot.differences(session, tables, progress=progress)
        if different:
            named = ", ".join(f"{one.table} ({one.reason}: {one.expected_rows} dumped, {one.found_rows} restored)" for one in different[:20])
            raise LastroError(
                f"The backup was restored into a throw-away cluster and is not what was dumped; it was not kept. Tables: {named}.",
                remedy=Text(
                    en="Run again; if it stays, look at the tables that are named (their triggers, their constraints) and at this host's memory and disk.",
                    pt_BR="Execute de novo; se persistir, examine as tabelas indicadas (gatilhos, restrições) e a memória e o disco deste host.",
                ),
                different=[dataclasses.asdict(one) for one in different],
            )

    def keep(self) -> Path:
        """Leave the filled database for ``_scratch_cluster.reopened``; the directory to give it."""
        return self.cluster.keep(DATABASE)


@contextlib.contextmanager
def empty(directory: Path, source: Source, client: Client, *, bin_dir: str | None) -> t.Iterator[Copy]:
    """A cluster below *directory* with the roles of *source* and an empty database; gone at the end unless kept. Raises LastroError.

    The roles cannot log in. Owners, grants and policies of the dump refer to them.
    """
    at_least = max(major(source.server_version), client.major)
    with _scratch_cluster.throw_away(directory, bin_dir=bin_dir, at_least=at_least) as cluster:
        settings = parse_url(cluster.url)
        with _backup_snapshot.sql_errors(settings), connect(settings, application_name=APPLICATION, autocommit=True) as connection:
            _check_extensions(connection, source)
            for name, superuser in source.roles:
                _backup_swap.execute(connection, f"CREATE ROLE {_backup_snapshot.quote_identifier(name)}{' SUPERUSER' if superuser else ''}")
            _create(connection, source.locale)
        yield Copy(cluster, settings.with_database(DATABASE), client)


def _create(connection: PostgresConnection, locale: DatabaseLocale) -> None:
    """With the order of the source's texts where this host knows it: the comparison does not depend on it."""
    try:
        _backup_swap.create(connection, DATABASE, owner=None, locale=locale, sha256="")
    except psycopg2.Error:
        _backup_swap.create(connection, DATABASE, owner=None, locale=dataclasses.replace(PLAIN, encoding=locale.encoding), sha256="")


def _check_extensions(connection: PostgresConnection, source: Source) -> None:
    with connection.cursor() as cursor:
        cursor.execute(_LACKING, (list(source.extensions),))
        lacking = [str(name) for (name,) in cursor.fetchall()]
    if lacking:
        raise LastroError(
            f"rehearsal_cluster: the server's programs on this host have no extension {', '.join(lacking)}, which the database uses: no copy can be restored.",
            remedy=Text(
                en="Install the packages of these extensions on this host, or take verify: decode.",
                pt_BR="Instale os pacotes dessas extensões neste host, ou use verify: decode.",
            ),
            extensions=lacking,
        )


__all__ = ("DATABASE", "Copy", "Source", "empty")
