# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bookings: one for a slot, also when twenty ask at once."""

import datetime

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.exc import IntegrityError

from .database import sql_state
from .models import Booking

FOREIGN_KEY_VIOLATION = "23503"
UNIQUE_VIOLATION = "23505"
MOST_OF_A_DAY = 200


class UnknownUserError(Exception):
    """Nobody has this id."""


def book(sessions: orm.sessionmaker[orm.Session], user_id: int, slot: str) -> int | None:
    """The id of the new booking; None where the slot is taken. Raises UnknownUserError."""
    try:
        with sessions.begin() as session:
            booking = Booking(user_id=user_id, slot=slot)
            session.add(booking)
            session.flush()
            return booking.id
    except IntegrityError as error:
        if sql_state(error) == UNIQUE_VIOLATION:
            return None
        if sql_state(error) == FOREIGN_KEY_VIOLATION:
            raise UnknownUserError from error
        raise


def of_day(sessions: orm.sessionmaker[orm.Session], day: datetime.date) -> list[dict[str, object]]:
    """The first bookings of *day* (a date), by slot: list of {slot, user_id}."""
    following = day + datetime.timedelta(days=1)
    query = (
        sa.select(Booking.slot, Booking.user_id)
        .where(Booking.slot >= day.isoformat(), Booking.slot < following.isoformat())
        .order_by(Booking.slot)
        .limit(MOST_OF_A_DAY)
    )
    with sessions() as session:
        return [{"slot": slot, "user_id": user_id} for slot, user_id in session.execute(query)]
