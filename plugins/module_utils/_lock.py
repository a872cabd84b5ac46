# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lease lock of an app: one holder, an end that the holder keeps pushing, and a takeover that needs no force.

Every operation reads and writes the holder's file under an flock, so two takers never both win. PRIVATE to the collection.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import fcntl
import json
import os
import typing as t
from pathlib import Path

from ._clock import Now, from_text, to_text, utc_now
from ._errors import LastroError, Text
from ._files import fsync_directory, write_atomic, writing

Holder = dict[str, t.Any]
"""{run_id, actor, reason, controller: {machine, pid, started}, since, expires_at}; {} where nobody holds the lock."""


@dataclasses.dataclass(frozen=True)
class Request:
    """Who wants the lock, for how long, and whose lock may be taken although its lease still runs.

    *dead_run_id* is a holder that the caller's controller knows to have died, *force_run_id* one that a human gave up.
    """

    run_id: str
    lease_seconds: int
    actor: str = ""
    reason: str = ""
    controller: t.Mapping[str, t.Any] = dataclasses.field(default_factory=dict)
    dead_run_id: str = ""
    force_run_id: str = ""


def may_take(holder: Holder, request: Request, now: datetime.datetime) -> bool:
    """Whether *request* gets the lock that *holder* has: it is free, its own, expired, or given up."""
    if not holder or holder["run_id"] == request.run_id:
        return True
    if from_text(holder["expires_at"]) <= now:
        return True
    return holder["run_id"] in (request.dead_run_id, request.force_run_id)


def take(state_dir: Path, request: Request, *, now: Now = utc_now, write: bool = True) -> tuple[Holder, Holder]:
    """Take the lock or renew one's own; (new holder, the other run that it was taken from or {}).

    Raises LastroError with the fact ``holder`` where somebody else has it, and where the disk is full.
    """
    with _guard(state_dir, write=write):
        current = holder_of(state_dir)
        moment = now()
        if not may_take(current, request, moment):
            raise held(current)
        own = bool(current) and current["run_id"] == request.run_id
        taken = {
            "run_id": request.run_id,
            "actor": request.actor,
            "reason": request.reason,
            "controller": dict(request.controller),
            "since": to_text(moment),
            **(current if own else {}),
            "expires_at": to_text(moment + datetime.timedelta(seconds=request.lease_seconds)),
        }
        if write:
            write_atomic(_file(state_dir), json.dumps(taken).encode())
        return taken, ({} if own else current)


def renew(state_dir: Path, run_id: str, lease_seconds: int, *, now: Now = utc_now) -> Holder:
    """Push the end of one's own lease. Raises LastroError where the lock is not one's own any more, or the disk is full."""
    with _guard(state_dir):
        current = holder_of(state_dir)
        if not current or current["run_id"] != run_id:
            raise LastroError(
                f"Run {run_id} has lost the lock to {current.get('run_id', 'nobody')}.",
                remedy=Text(
                    en="This run stops here and changes nothing more. Look at the newer run with status.yml before you start another.",
                    pt_BR="Esta execução para aqui e não muda mais nada. Veja a execução mais nova com status.yml antes de iniciar outra.",
                ),
                holder=current,
            )
        renewed = {**current, "expires_at": to_text(now() + datetime.timedelta(seconds=lease_seconds))}
        write_atomic(_file(state_dir), json.dumps(renewed).encode())
        return renewed


def release(state_dir: Path, run_id: str, *, write: bool = True) -> bool:
    """Give one's own lock back; False where it is not (or no longer) one's own, which is left alone."""
    with _guard(state_dir, write=write):
        current = holder_of(state_dir)
        if not current or current["run_id"] != run_id:
            return False
        if write:
            _file(state_dir).unlink()
            fsync_directory(state_dir)
        return True


def holder_of(state_dir: Path) -> Holder:
    """Who holds the lock now (its lease may have run out), or {}."""
    try:
        holder = json.loads(_file(state_dir).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return holder if isinstance(holder, dict) and {"run_id", "expires_at"} <= set(holder) else {}


def held(holder: Holder) -> LastroError:
    """The error that names the holder, since when and until when."""
    who, run_id = holder.get("actor") or "somebody", holder["run_id"]
    since, until = holder["since"][:19] + "Z", holder["expires_at"][:19] + "Z"
    return LastroError(
        f"The lock is held by {who} (run {run_id}) since {since}; the lease runs until {until}.",
        remedy=Text(
            en=f"Wait for that run to end. If you know that it is dead: -e deploy_force_unlock={holder['run_id']}",
            pt_BR=f"Espere essa execução terminar. Se você sabe que ela morreu: -e deploy_force_unlock={holder['run_id']}",
        ),
        holder=holder,
    )


def _file(state_dir: Path) -> Path:
    return state_dir / "lock.json"


@contextlib.contextmanager
def _guard(state_dir: Path, *, write: bool = True) -> t.Iterator[None]:
    """One process at a time inside; with write=False nobody is kept out, since nothing is changed."""
    if not write:
        yield
        return
    with writing(_file(state_dir)):
        state_dir.mkdir(mode=0o711, parents=True, exist_ok=True)
        descriptor = os.open(state_dir / "lock.guard", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def answer(options: t.Mapping[str, t.Any], *, write: bool) -> dict[str, t.Any]:
    """The result of the module C(lock). Raises LastroError."""
    state_dir, taken_over = Path(options["state_dir"]), Holder()
    before = holder_of(state_dir)
    if options["state"] == "absent":
        changed = release(state_dir, options["run_id"], write=write)
        after = {} if changed else before
    else:
        request = Request(**{name: value for name, value in options.items() if name not in ("state_dir", "state")})
        after, taken_over = take(state_dir, request, write=write)
        changed = before.get("run_id") != after["run_id"]
    return {"changed": changed, "holder": after, "taken_over": taken_over, "diff": {"before": before, "after": after}}


__all__ = ("Holder", "Request", "answer", "held", "holder_of", "may_take", "release", "renew", "take")
