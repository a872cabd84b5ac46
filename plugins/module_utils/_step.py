# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the watcher of an asynchronous module asks its host at each poll. PRIVATE to the collection."""

from __future__ import annotations

import json
import time
import typing as t
from pathlib import Path

from . import _dead_man, _lock

LOOK_SECONDS = 0.05


def status(
    options: t.Mapping[str, t.Any], *, write: bool = True, clock: t.Callable[[], float] = time.time, sleep: t.Callable[[float], None] = time.sleep
) -> dict[str, t.Any]:
    """{finished, outcome, progress} of the job, at its end or after C(wait) seconds, whichever comes first; *progress* has its age in seconds.

    Before that, renews lease and timers where a state directory is given. Raises LastroError.
    """
    if options["state_dir"] and write:
        state_dir = Path(options["state_dir"])
        _lock.renew(state_dir, options["run_id"], options["lease_seconds"])
        renew_timers(state_dir, options["run_id"], options["lease_seconds"], clock)
    outcome = _finished(Path(options["results_file"]))
    looks = int(options["wait"] / LOOK_SECONDS) if write else 0
    while not outcome and looks > 0:
        sleep(LOOK_SECONDS)
        looks -= 1
        outcome = _finished(Path(options["results_file"]))
    progress = _progress(Path(options["progress_file"]), clock) if options["progress_file"] else {}
    if outcome and write:
        Path(options["results_file"]).unlink(missing_ok=True)
        if options["progress_file"]:
            Path(options["progress_file"]).unlink(missing_ok=True)
    return {"finished": bool(outcome), "outcome": outcome, "progress": progress}


def renew_timers(state_dir: Path, run_id: str, seconds: float, clock: t.Callable[[], float]) -> list[str]:
    """Push the deadline of each armed timer of this run to *seconds* from now; their names."""
    return _dead_man.renew(state_dir / "timers", run_id, seconds, _dead_man.World(clock, time.sleep, _dead_man.answers))


def _progress(path: Path, clock: t.Callable[[], float]) -> dict[str, t.Any]:
    """The newest figures, and for how long they have stood."""
    found = _json(path)
    try:
        return {**found, "age": max(clock() - path.stat().st_mtime, 0.0)} if found else {}
    except OSError:
        return {}  # the job has ended meanwhile


def _finished(results_file: Path) -> str:
    """The job's result as text; "" while it runs (async_wrapper says so by its job id and the keys started and finished)."""
    content = _json(results_file)
    running = not content or ("ansible_job_id" in content and content.get("started") and not content.get("finished"))
    return "" if running else json.dumps(content)


def _json(path: Path) -> dict[str, t.Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def answer(options: t.Mapping[str, t.Any], *, write: bool) -> dict[str, t.Any]:
    """The result of the module C(step_status). Raises LastroError."""
    return {"changed": False, **status(options, write=write)}


def answer_timers(options: t.Mapping[str, t.Any], *, write: bool) -> dict[str, t.Any]:
    """The result of the module C(timers)."""
    renewed = renew_timers(Path(options["state_dir"]), options["run_id"], options["seconds"], time.time) if write else []
    return {"changed": False, "renewed": renewed}


__all__ = ("answer", "answer_timers", "renew_timers", "status")
