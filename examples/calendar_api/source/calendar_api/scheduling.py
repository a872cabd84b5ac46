# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The schedule of a day, and booking a slot of it."""

import datetime

from flask import Blueprint, abort, request
from flask.typing import ResponseReturnValue

from . import bookings
from .services import services

LONGEST_SLOT = 200

blueprint = Blueprint("scheduling", __name__)


@blueprint.get("/api/schedule")
def schedule() -> ResponseReturnValue:
    """The bookings of ?day=YYYY-MM-DD; of today without it."""
    day = _day(request.args.get("day"))
    return {"day": day.isoformat(), "bookings": bookings.of_day(services().sessions, day)}


@blueprint.post("/api/bookings")
def book() -> ResponseReturnValue:
    """Book {user_id, slot}: 201, or 409 where the slot is taken."""
    asked = request.get_json()
    user_id, slot = (asked.get("user_id"), asked.get("slot")) if isinstance(asked, dict) else (None, None)
    if not isinstance(user_id, int) or isinstance(user_id, bool) or not 0 < user_id < 2**63:
        abort(400, "user_id must be the number of a user")
    if not isinstance(slot, str) or not 0 < len(slot) <= LONGEST_SLOT or not slot.isprintable():
        abort(400, f"slot must be a text of 1 to {LONGEST_SLOT} printable characters")
    try:
        booking_id = bookings.book(services().sessions, user_id, slot)
    except bookings.UnknownUserError:
        abort(404, "there is no such user")
    if booking_id is None:
        return {"error": "the slot is taken", "slot": slot}, 409
    return {"id": booking_id, "user_id": user_id, "slot": slot}, 201


def _day(text: str | None) -> datetime.date:
    if text is None:
        return datetime.datetime.now(datetime.UTC).date()
    try:
        # The last day that a date can be has no day after it.
        day = datetime.datetime.strptime(text, "%Y-%m-%d").date()
        return min(day, datetime.date.max - datetime.timedelta(days=1))
    except ValueError:
        abort(400, "day must have the form YYYY-MM-DD")
