# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a long step tells how far it is: a small file that the action plugin C(step) reads. PRIVATE to the collection."""

from __future__ import annotations

import contextlib
import json
import time
import typing as t
from pathlib import Path

from ._argspec import ArgumentSpec
from ._files import write_atomic

Clock = t.Callable[[], float]
Progress = t.Callable[[int, int, str], None]
"""Called with (done, total, unit), for example (12000, 50000, "rows"); total 0 where it is not known.

Work that has no figures at all is named: (0, 0, "building indexes").
"""

INTERVAL = 1.0
BUILDING_INDEXES = "building indexes"


def silent(done: int, total: int, unit: str) -> None:
    """A progress sink for callers that show none."""


def progress_argument_spec() -> ArgumentSpec:
    """The option that goes with the doc fragment C(progress)."""
    return ArgumentSpec({"progress_file": {"type": "path"}})


def file_progress(path: str | None, *, clock: Clock = time.monotonic) -> Progress:
    """A sink that keeps the newest figures in *path*, at most once a second and always at the end.

    Figures of another unit, or smaller ones, begin a new stretch of the work, with seconds of its own: so a rate is that of what runs now.
    It never raises: figures that cannot be written are no reason to stop the work.
    """
    if not path:
        return silent
    target = Path(path)
    started = clock()
    last = started - INTERVAL
    reached = (0, "")

    def report(done: int, total: int, unit: str) -> None:
        nonlocal last, started, reached
        now = clock()
        another = reached[1] not in {"", unit}
        if another or done < reached[0]:
            started = now
        reached = (done, unit)
        if not another and now - last < INTERVAL and (done < total or not total):
            return
        last = now
        record = {"done": done, "total": total, "unit": unit, "seconds": round(now - started, 3)}
        with contextlib.suppress(OSError):
            write_atomic(target, json.dumps(record).encode())

    return report


__all__ = ("BUILDING_INDEXES", "Clock", "Progress", "file_progress", "progress_argument_spec", "silent")
