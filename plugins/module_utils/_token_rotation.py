# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rotation of the key: in place for an application with a key ring, by shadow columns for one that knows a single key. PRIVATE to the collection."""

from __future__ import annotations

import dataclasses
import typing as t

from . import _token_shadow
from ._token_codec import Codec
from ._token_columns import Table, read_table
from ._token_errors import depended_on, not_swapped, still_needed, stuck
from ._token_guard import Sleep, guard_of_shadow, put_in, read_guard
from ._token_jobs import rotating, shadowing
from ._token_options import Options
from ._token_sql import Statements
from ._token_walk import Pages
from ._token_writers import Outcome, Writers

if t.TYPE_CHECKING:
    from psycopg2.extensions import connection as PostgresConnection

SWAPS = 3


class Rotated(t.NamedTuple):
    """What was done: rows written, and whether columns were added, swapped or dropped."""

    outcome: Outcome = Outcome()
    swapped: bool = False
    altered: bool = False


class Rotation:
    """Moves the ciphertexts of one table to the first key of the ring."""

    def __init__(self, connection: PostgresConnection, table: Table, codec: Codec, options: Options, *, sleep: Sleep) -> None:
        self._connection = connection
        self._table = table
        self.codec = codec
        self._options = options
        self._sleep = sleep

    def due(self) -> int:
        """Rows whose ciphertext another key than the first one made; all rows are read."""
        return sum(batch.count for batch in rotating(*self._tools(self._table), self.codec).batches())

    def predict(self) -> Rotated:
        """What ``act`` would do; nothing is written."""
        due, shadow = self.due(), self._options.shadow
        self._check(due)
        if shadow == "dropped":
            return Rotated(altered=self._table.shadow is not None)
        return Rotated(Outcome(written=due), swapped=shadow == "swapped" and due > 0, altered=shadow != "none" and due > 0)

    def act(self, writers: Writers) -> Rotated:
        """Rotate as the option C(shadow) says. Raises LastroError; what was written by then stays and is not written again."""
        due = self.due()
        self._check(due)
        if self._options.shadow == "dropped":
            if self._table.shadow:
                _token_shadow.drop(self._connection, self._table, sleep=self._sleep)
            return Rotated(altered=self._table.shadow is not None)
        if not due:
            return Rotated()
        if self._options.shadow == "none":
            return Rotated(self._checked(writers.repeat(rotating(*self._tools(self._table), self.codec), due)))
        return self._by_shadow(writers, due)

    def _by_shadow(self, writers: Writers, due: int) -> Rotated:
        table, altered = self._with_shadow()
        pages, _statements = self._tools(table)
        job = shadowing(pages, Statements(_as_shadow(table)), self.codec.of(table))
        outcome = self._checked(writers.repeat(job, due))
        if self._options.shadow == "filled":
            return Rotated(outcome, altered=altered)
        for _attempt in range(SWAPS):
            if _token_shadow.swap(self._connection, table, sleep=self._sleep):
                return Rotated(outcome, swapped=True, altered=True)
            outcome = outcome.and_then(self._checked(writers.repeat(job, due)))
        raise not_swapped(table)

    def _with_shadow(self) -> tuple[Table, bool]:
        """The table with its shadow columns and their trigger, and whether either had to be made."""
        table, altered = self._table, False
        if table.shadow is None:
            _token_shadow.add(self._connection, table, sleep=self._sleep)
            with self._connection.cursor() as cursor:
                table, altered = read_table(cursor, self._options.names), True
        with self._connection.cursor() as cursor:
            guard = read_guard(cursor, guard_of_shadow(table))
        self._connection.commit()
        if guard != "in":
            put_in(self._connection, guard_of_shadow(table), sleep=self._sleep)
        return table, altered or guard != "in"

    def _check(self, due: int) -> None:
        if self._options.shadow == "dropped" and self._table.shadow and due:
            raise still_needed(self._table, due)
        if self._options.shadow in ("filled", "swapped") and due:
            with self._connection.cursor() as cursor:
                found = _token_shadow.dependents(cursor, self._table)
            self._connection.commit()
            if found:
                raise depended_on(self._table, f"{self._table.ciphertext.name} and {self._table.nonce.name}", found)

    def _checked(self, outcome: Outcome) -> Outcome:
        if outcome.stuck:
            raise stuck(self._table, outcome.left, self._options.lock_timeout)
        return outcome

    def _tools(self, table: Table) -> tuple[Pages, Statements]:
        statements = Statements(table)
        return Pages(self._connection, statements, self._options.batch_size), statements


def _as_shadow(table: Table) -> Table:
    """The table whose ciphertext is the shadow."""
    shadow = guard_of_shadow(table)
    return dataclasses.replace(table, ciphertext=shadow.ciphertext, nonce=shadow.nonce)


__all__ = ("Rotated", "Rotation")
