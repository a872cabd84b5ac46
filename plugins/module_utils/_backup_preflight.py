# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything that a backup would fail at or that makes it worth less, found before it begins.

PRIVATE to the collection: may change at any time.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import os
import typing as t
from pathlib import Path

from . import _backup_directory, _backup_globals, _backup_manifest, _backup_snapshot, _scratch_cluster
from ._backup_directory import Forecast
from ._backup_manifest import Manifest
from ._backup_programs import Client, directories, find_client, major, version_of
from ._pg_dump_options import Options
from ._postgres import ConnectionSettings

if t.TYPE_CHECKING:
    from psycopg2.extensions import connection as PostgresConnection

CLUSTER_OF_DATABASE = 1.3
"""Bytes of a throw-away cluster for each byte of the database: its indexes are built anew and sort on the disk."""
CLUSTER_LEAST = 256 << 20
# reset_val is what the role or the database has; connect() has switched the timeouts off in this session.
_TIMEOUTS = """
SELECT name, reset_val || coalesce(unit, '') FROM pg_catalog.pg_settings
 WHERE name IN ('statement_timeout', 'lock_timeout', 'transaction_timeout', 'idle_in_transaction_session_timeout') AND reset_val <> '0' ORDER BY 1
"""
_EXTENSIONS = """
SELECT e.extname::text, e.extversion, a.name IS NOT NULL
  FROM pg_catalog.pg_extension e LEFT JOIN pg_catalog.pg_available_extensions a ON a.name = e.extname ORDER BY 1
"""
_OTHER_DUMPS = """
SELECT pid, coalesce(usename::text, ''), coalesce(backend_start::timestamptz(0)::text, 'an unknown time') FROM pg_catalog.pg_stat_activity
 WHERE datname = pg_catalog.current_database() AND application_name = 'pg_dump' ORDER BY 1
"""


@dataclasses.dataclass(frozen=True)
class Ready:
    """What the checks found: the client, room on the disk, the earlier good backups (newest first), and what is worth a warning.

    *timeouts* of the role, which do not hold for the backup, and *extensions* are by name.
    """

    client: Client
    server_version: str
    database_size: int
    forecast: Forecast
    history: tuple[Manifest, ...]
    timeouts: t.Mapping[str, str]
    extensions: t.Mapping[str, str]
    warnings: tuple[str, ...]

    def as_result(self) -> dict[str, t.Any]:
        """What the module returns of them."""
        return {
            "forecast": self.forecast._asdict(),
            "client_version": self.client.version,
            "server_version": self.server_version,
            "timeouts": dict(self.timeouts),
            "extensions": dict(self.extensions),
        }


def check(connection: PostgresConnection, settings: ConnectionSettings, options: Options) -> Ready:
    """Look at server, programs and disks. Leaves the lock of backups and migrations held by *connection*. Raises LastroError."""
    version = _backup_snapshot.server_version(connection)
    client = find_client(version, options.bin_dir)
    if options.globals != "none":
        _backup_globals.check(connection, client, options.globals)
    history = tuple(_backup_manifest.good_ones(options.dest, settings.database))
    size = _backup_snapshot.database_size(connection)
    room = _room(options, history, size)
    if options.verify == "restore":
        _scratch_cluster.programs(options.bin_dir, max(major(version), client.major))
        _backup_directory.check_room(options.rehearsal_cluster, _cluster_room(options, size, room), option="rehearsal_cluster")
    _backup_snapshot.take_lock(connection)
    timeouts, extensions, dumps = (_rows(connection, query) for query in (_TIMEOUTS, _EXTENSIONS, _OTHER_DUMPS))
    installed = installed_servers(options.bin_dir, major(version)) if is_here(settings) else []
    return Ready(
        client=client,
        server_version=version,
        database_size=size,
        forecast=room,
        history=history,
        timeouts=dict(timeouts),
        extensions={name: number for name, number, _available in extensions},
        warnings=(*upgraded(version, installed), *_slower(dumps), *_broken(extensions)),
    )


def _rows(connection: PostgresConnection, query: str) -> list[tuple[t.Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(query)
        return cursor.fetchall()


def _slower(dumps: t.Iterable[tuple[t.Any, ...]]) -> list[str]:
    return [f"Another pg_dump reads this database: process {pid} of {user}, since {since}. Both take longer." for pid, user, since in dumps]


def _broken(extensions: t.Iterable[tuple[t.Any, ...]]) -> list[str]:
    return [
        f"The server has no files of the extension {name} {number} any more: what it gave fails, and the backup restores only where they are."
        for name, number, available in extensions
        if not available
    ]


def _room(options: Options, history: t.Sequence[Manifest], size: int) -> Forecast:
    same = same_chain(history, options)
    room = _backup_directory.forecast(options.dest, last_size=same[0].dump_size if same else None, database_size=size)
    _backup_directory.check_room(options.dest, room)
    return room


def _cluster_room(options: Options, size: int, dump: Forecast) -> Forecast:
    """What the throw-away cluster needs, and the dump too where both are on one disk."""
    places = [_backup_directory.existing_parent(path) for path in (options.rehearsal_cluster, options.dest)]
    shared = places[0].stat().st_dev == places[1].stat().st_dev
    disk = os.statvfs(places[0])
    return Forecast(needed=CLUSTER_LEAST + int(size * CLUSTER_OF_DATABASE) + (dump.needed if shared else 0), free=disk.f_bavail * disk.f_frsize)


def same_chain(history: t.Sequence[Manifest], options: Options) -> list[Manifest]:
    """The backups of *history* whose sizes can be compared with that of the new one."""
    return [one for one in history if (one.compression, one.encryption) == (options.compression, options.encryption)]


def is_here(settings: ConnectionSettings) -> bool:
    """Whether the server can only be on this host."""
    host = settings.parameters.get("hostaddr", "") or settings.host
    if not host or host.startswith("/") or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def installed_servers(bin_dir: str | None, wanted: int) -> list[str]:
    """Versions of the servers of major *wanted* that are installed on this host."""
    programs: list[Path] = [directory / "postgres" for directory in directories(bin_dir)]
    versions = [version_of(program) for program in programs if os.access(program, os.X_OK)]
    return sorted({one for one in versions if major(one) == wanted})


def upgraded(running: str, installed: t.Sequence[str]) -> list[str]:
    """A warning where the server that runs is none of those that are installed: its package was upgraded under it."""
    if not installed or running in installed:
        return []
    return [
        f"The server runs {running}, but installed on this host is {', '.join(installed)}: it was upgraded and not restarted. "
        "Extensions and new sessions may fail until it is restarted."
    ]


__all__ = ("Ready", "check", "installed_servers", "is_here", "same_chain", "upgraded")
