# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Time as text, the same everywhere. PRIVATE to the collection."""

from __future__ import annotations

import datetime
import typing as t

Now = t.Callable[[], datetime.datetime]


def utc_now() -> datetime.datetime:
    """The current time with its zone."""
    return datetime.datetime.now(tz=datetime.UTC)


def to_text(moment: datetime.datetime) -> str:
    """ISO 8601 in UTC with microseconds, for example 2026-11-21T22:10:04.000000Z."""
    return moment.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def from_text(text: str) -> datetime.datetime:
    """The inverse of ``to_text``. Raises ValueError."""
    return datetime.datetime.fromisoformat(text)


__all__ = ("Now", "from_text", "to_text", "utc_now")
