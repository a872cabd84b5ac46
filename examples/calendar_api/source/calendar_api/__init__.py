# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""calendar-api: bookings, and the calendar credentials of its users. gunicorn serves ``calendar_api:app``."""


def __getattr__(name: str) -> object:
    """``app``, made when it is asked for: the migrations import this package without the service's settings."""
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .application import create_app  # noqa: PLC0415 - not before it is asked for

    globals()["app"] = create_app()
    return globals()["app"]
