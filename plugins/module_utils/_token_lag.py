# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How far the replicas are behind, measured here: the server's own figure stands still where a replica does. PRIVATE to the collection."""

from __future__ import annotations

import collections
import typing as t

from ._progress import Clock
from ._token_guard import Sleep

if t.TYPE_CHECKING:
    from psycopg2.extensions import connection as PostgresConnection

INTERVAL = 0.5

_POSITIONS = """
SELECT pg_catalog.pg_current_wal_lsn() - '0/0', min(replay_lsn - '0/0') FROM pg_catalog.pg_stat_replication WHERE replay_lsn IS NOT NULL"""


class Replicas:
    """Waits while the slowest replica that replays is more than *limit* seconds behind; 0 never waits."""

    def __init__(self, connection: PostgresConnection, limit: float, *, clock: Clock, sleep: Sleep) -> None:
        self._connection = connection
        self._limit = limit
        self._clock = clock
        self._sleep = sleep
        self._seen: collections.deque[tuple[float, int]] = collections.deque()
        self._looked = float("-inf")

    def throttle(self) -> None:
        """Return at once, or when they are near enough again."""
        if not self._limit or self._clock() - self._looked < INTERVAL:
            return
        while self._behind() > self._limit:
            self._sleep(INTERVAL)

    def _behind(self) -> float:
        """Seconds since the server was where the slowest replica has not been yet."""
        with self._connection.cursor() as cursor:
            cursor.execute(_POSITIONS)
            written, replayed = cursor.fetchall()[0]
        self._connection.commit()
        self._looked = self._clock()
        self._seen.append((self._looked, written))
        while self._seen and (replayed is None or self._seen[0][1] <= replayed):
            self._seen.popleft()
        return self._looked - self._seen[0][0] if self._seen else 0.0


__all__ = ("Replicas",)
