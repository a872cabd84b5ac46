# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Users with clear-text tokens, as r1 left them: random to a reader, the same again for a test that knows the seed.

``python -m calendar_api.seed --users 2000`` fills the database of DATABASE_URL, unless it has users.
"""

from __future__ import annotations

import argparse
import collections.abc
import contextlib
import datetime
import hashlib
import io
import os

import psycopg2
import psycopg2.errors
import psycopg2.extensions

from .provider import issue

DEFAULT_SEED = 20261121
FIRST_DAY = datetime.date(2026, 1, 1)
EXPIRES_AT = "2027-01-01 00:00:00+00"
SLOTS_OF_A_DAY = 48


def token(seed: int, user_id: int) -> str:
    """The token that user *user_id* has after ``seed`` with this *seed*."""
    return issue(hashlib.sha256(f"calendar-api:{seed}:{user_id}".encode()).digest())


def tokens(seed: int = DEFAULT_SEED, users: int = 50_000) -> dict[int, str]:
    """Each user's original token by user id, 1 to *users*."""
    return {user_id: token(seed, user_id) for user_id in range(1, users + 1)}


def seed(database_url: str, users: int = 50_000, *, bookings: int = 1_000, seed: int = DEFAULT_SEED) -> None:
    """Fill the empty tables of r1: *users* with a credential each, and *bookings* of half hours from 2026-01-01 on.

    *database_url* is a libpq URL. The rows come by COPY in one transaction, then ANALYZE. Raises psycopg2.Error;
    a table that holds users already is a unique violation, and nothing changes.
    """
    connection = psycopg2.connect(database_url)
    try:
        with connection, connection.cursor() as cursor:
            _copy(cursor, "users", "id, email, name", ((number, f"user{number}@example.org", f"User {number}") for number in range(1, users + 1)))
            rows = ((user_id, text, EXPIRES_AT) for user_id, text in tokens(seed, users).items())
            with _unchecked(cursor, "credentials", "fk_credentials_user_id"):
                _copy(cursor, "credentials", "user_id, token, expires_at", rows)
            _copy(cursor, "bookings", "user_id, slot", ((number % users + 1, _slot(number)) for number in range(bookings if users else 0)))
            cursor.execute("SELECT setval(pg_get_serial_sequence('users', 'id'), greatest(%s, 1), %s)", (users, users > 0))
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE users, credentials, bookings")
    finally:
        connection.close()


def _slot(number: int) -> str:
    day, half_hour = divmod(number, SLOTS_OF_A_DAY)
    return f"{FIRST_DAY + datetime.timedelta(days=day)}T{half_hour // 2:02d}:{half_hour % 2 * 30:02d}"


@contextlib.contextmanager
def _unchecked(cursor: psycopg2.extensions.cursor, table: str, foreign_key: str) -> collections.abc.Iterator[None]:
    """Let the rows come first and check all of them at once: a third of the time. It ends with the same transaction."""
    cursor.execute("SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = %s::regclass AND conname = %s", (table, foreign_key))
    definition = (cursor.fetchone() or ("",))[0]
    cursor.execute(f"ALTER TABLE {table} DROP CONSTRAINT {foreign_key}")
    yield
    cursor.execute(f"ALTER TABLE {table} ADD CONSTRAINT {foreign_key} {definition}")


def _copy(cursor: psycopg2.extensions.cursor, table: str, columns: str, rows: collections.abc.Iterable[tuple[object, ...]]) -> None:
    # No value holds a tab, a line end or a backslash.
    text = "".join("\t".join(map(str, row)) + "\n" for row in rows)
    cursor.copy_expert(f"COPY {table} ({columns}) FROM STDIN", io.StringIO(text))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Fill the empty tables of r1 in the database of DATABASE_URL.")
    parser.add_argument("--users", type=int, default=50_000, help="how many (default %(default)s)")
    with contextlib.suppress(psycopg2.errors.UniqueViolation):  # it has its users already
        seed(os.environ["DATABASE_URL"], parser.parse_args().users)

__all__ = ("DEFAULT_SEED", "seed", "token", "tokens")
