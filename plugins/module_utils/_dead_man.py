# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The dead-man timer: it puts our own change back on a host when nobody confirms or renews in time.

A strategy copies this file to hosts and runs it there, so it uses the standard library alone:

- ``arm DIRECTORY NAME SECONDS`` reads the specification on standard input and sets the deadline by the host's clock;
- ``run DIRECTORY NAME`` waits for the deadline and reverts; the process manager keeps this one running;
- ``renew DIRECTORY RUN_ID SECONDS`` moves the deadline of each timer of a run;
- ``disarm DIRECTORY NAME RUN_ID`` takes a timer back, or tells what it did.

The specification: ``{"name", "run_id", "revert": [...]}``, each item one of
``{"kind": "remove_flag", "path", "run_id"}`` (a flag of that run alone, never one that a human set) and
``{"kind": "slot", "directory", "host", "slot", "probe_url"}`` (only if the old slot still answers 200).

In the directory lie ``NAME.json`` (the specification), ``NAME.deadline`` (epoch seconds; read again at each poll, gone means
disarmed), ``NAME.firing`` (the deadline file, renamed by the one who reverts) and ``NAME.fired`` (what was done).
PRIVATE to the collection: may change at any time.
"""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import json
import os
import sys
import time
import typing as t
from pathlib import Path
from urllib.parse import urlsplit

POLL_SECONDS = 0.5
PROBE_TRIES = 3
PROBE_TIMEOUT = 5.0
FIRED_SECONDS = 30.0
"""How long ``disarm`` waits for a timer that fires at this very moment: each revert ends well within it."""

Decision = t.Literal["wait", "fire", "disarmed", "fired"]
Record = dict[str, t.Any]


@dataclasses.dataclass(frozen=True)
class World:
    """What a timer asks of the outside."""

    clock: t.Callable[[], float]
    sleep: t.Callable[[float], None]
    answers: t.Callable[[str], bool]


@dataclasses.dataclass(frozen=True)
class Timer:
    """The files of one timer."""

    directory: Path
    name: str

    @property
    def spec(self) -> Path:
        """The specification."""
        return self.directory / f"{self.name}.json"

    @property
    def deadline(self) -> Path:
        """When it fires; its presence means armed."""
        return self.directory / f"{self.name}.deadline"

    @property
    def firing(self) -> Path:
        """The deadline, claimed by the one who reverts."""
        return self.directory / f"{self.name}.firing"

    @property
    def fired(self) -> Path:
        """What was put back, and when."""
        return self.directory / f"{self.name}.fired"


def decide(deadline: float | None, *, claimed: bool, fired: bool, now: float) -> Decision:
    """What a timer does next. *deadline* is None where the file is gone; *claimed*: a revert began and did not end."""
    if fired:
        return "fired"
    if claimed:
        return "fire"
    if deadline is None:
        return "disarmed"
    return "fire" if now >= deadline else "wait"


def put(path: Path, text: str) -> None:
    """Put *text* in place by rename, 0600."""
    part = path.with_name(f".{path.name}.part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(part, path)


def read_record(path: Path) -> Record | None:
    """The JSON object in *path*; None where there is no such file or it holds something else."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def read_deadline(path: Path, last: float | None) -> float | None:
    """Seconds since the epoch; None where the file is gone. A half-written file counts as its last known value, or as passed."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except OSError:
        return last
    try:
        return float(text)
    except ValueError:
        return 0.0 if last is None else last


def answers(url: str) -> bool:
    """Whether *url* answers 200."""
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        connection = kind(parts.hostname or "", parts.port, timeout=PROBE_TIMEOUT)
        with contextlib.closing(connection):
            connection.request("GET", target)
            return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException, ValueError):
        return False


def remove_flag(item: Record) -> str:
    """Remove a flag file that holds our run id. Returns what was done; raises OSError."""
    path = Path(str(item["path"]))
    if not path.exists():
        return "absent"
    record = read_record(path)
    if record is None or record.get("run_id") != item["run_id"]:
        return "kept: not ours"
    path.unlink(missing_ok=True)
    return "removed"


def return_slot(item: Record, world: World) -> str:
    """Point the proxy at the old slot again, if that one answers. Returns what was done; raises OSError."""
    for attempt in range(PROBE_TRIES):
        if world.answers(str(item["probe_url"])):
            break
        if attempt == PROBE_TRIES - 1:
            return "kept: the old slot does not answer"
        world.sleep(1.0)
    flag = Path(str(item["directory"])) / f"{item['host']}.green"
    if item["slot"] == "green":
        with flag.open("a"):
            flag.chmod(0o644)
    else:
        flag.unlink(missing_ok=True)
    return f"returned to {item['slot']}"


def revert(spec: Record, world: World) -> list[Record]:
    """Do every item of the specification; one that cannot be done does not stop the others."""
    done = []
    for item in spec.get("revert", []):
        try:
            result = remove_flag(item) if item["kind"] == "remove_flag" else return_slot(item, world)
        except (OSError, LookupError, TypeError) as error:
            result = f"failed: {error!r}"
        done.append({"item": item, "result": result})
    return done


def fire(timer: Timer, world: World) -> bool:
    """Claim the deadline, revert, record. Returns False where someone disarmed the timer first."""
    try:
        os.replace(timer.deadline, timer.firing)
    except FileNotFoundError:
        if not timer.firing.exists():
            return False
    spec = read_record(timer.spec) or {}
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(world.clock()))
    put(timer.fired, json.dumps({"name": timer.name, "run_id": spec.get("run_id", ""), "when": when, "what": revert(spec, world)}))
    timer.firing.unlink(missing_ok=True)
    return True


def run(timer: Timer, world: World) -> Decision:
    """Wait until the timer is disarmed, or until its time has passed and everything is put back. Returns how it ended."""
    last: float | None = None
    while True:
        last = read_deadline(timer.deadline, last)
        decision = decide(last, claimed=timer.firing.exists(), fired=timer.fired.exists(), now=world.clock())
        if decision == "fire":
            return "fired" if fire(timer, world) else "disarmed"
        if decision != "wait":
            return decision
        world.sleep(POLL_SECONDS)


def arm(timer: Timer, spec: Record, seconds: float, world: World, *, write: bool = True) -> Record:
    """Set the timer, or move it. Another run's timer that has not run out is left alone: ``armed`` is false.

    A timer of one of ``spec["dead_runs"]`` is taken over: whoever holds the lock knows that they have died.
    Without *write* nothing changes, and the answer is the same.
    """
    now = world.clock()
    before = read_record(timer.spec) or {}
    pending = read_deadline(timer.deadline, None)
    own = (spec["run_id"], *spec.get("dead_runs", ()))
    if pending is not None and before.get("run_id") not in own and now < pending:
        return {"armed": False, "run_id": before.get("run_id", ""), "seconds_left": round(pending - now, 1)}
    if write:
        timer.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        timer.fired.unlink(missing_ok=True)
        timer.firing.unlink(missing_ok=True)
        put(timer.spec, json.dumps({**spec, "name": timer.name, "deadline_file": str(timer.deadline)}, sort_keys=True))
        put(timer.deadline, f"{now + seconds:.3f}\n")
    return {"armed": True, "run_id": spec["run_id"], "seconds_left": seconds}


def renew(directory: Path, run_id: str, seconds: float, world: World) -> list[str]:
    """Move the deadline of each armed timer of *run_id* to *seconds* from now. Returns their names."""
    renewed = []
    for path in sorted(directory.glob("*.deadline")):
        timer = Timer(directory, path.stem)
        if (read_record(timer.spec) or {}).get("run_id") != run_id:
            continue
        # Written in place: where the timer has been claimed meanwhile, this goes into the claimed file and brings nothing back.
        with contextlib.suppress(FileNotFoundError):
            descriptor = os.open(path, os.O_WRONLY)
            try:
                os.ftruncate(descriptor, os.pwrite(descriptor, f"{world.clock() + seconds:.3f}\n".encode(), 0))
            finally:
                os.close(descriptor)
            renewed.append(timer.name)
    return renewed


def disarm(timer: Timer, run_id: str, world: World, *dead_runs: str, write: bool = True) -> Record:
    """Take the timer of *run_id* (or of one of *dead_runs*) back and remove its files. ``fired`` says what it did, where it came first; None otherwise.

    A timer of another run is left alone: ``disarmed`` is false and ``run_id`` says whose it is.
    Without *write* nothing changes, and the answer is what can be known now.
    """
    owner = (read_record(timer.spec) or {}).get("run_id", run_id)
    if owner not in (run_id, *dead_runs):
        return {"disarmed": False, "run_id": owner, "fired": None, "changed": False}
    changed = timer.spec.exists()
    if not write:
        return {"disarmed": True, "run_id": run_id, "fired": read_record(timer.fired), "changed": changed}
    timer.deadline.unlink(missing_ok=True)
    limit = world.clock() + FIRED_SECONDS
    while timer.firing.exists() and world.clock() < limit:
        world.sleep(POLL_SECONDS)
    fired = read_record(timer.fired)
    for path in (timer.firing, timer.fired, timer.spec):
        path.unlink(missing_ok=True)
    return {"disarmed": True, "run_id": run_id, "fired": fired, "changed": changed}


def main(arguments: t.Sequence[str], world: World, stdin: t.TextIO) -> Record:
    """Do what the command line asks. Raises ValueError for one that this file does not know."""
    command, directory, subject, *rest = arguments
    timer = Timer(Path(directory), subject)
    if command == "run":
        return {"ended": run(timer, world)}
    if command == "arm":
        return arm(timer, json.load(stdin), float(rest[0]), world)
    if command == "renew":
        return {"renewed": renew(Path(directory), subject, float(rest[0]), world)}
    if command == "disarm":
        return disarm(timer, rest[0], world, *rest[1:])
    raise ValueError(f"unknown command {command}")


if __name__ == "__main__":  # pragma: no cover
    sys.stdout.write(json.dumps(main(sys.argv[1:], World(time.time, time.sleep, answers), sys.stdin)) + "\n")

__all__ = ("Decision", "Timer", "World", "answers", "arm", "decide", "disarm", "main", "read_deadline", "renew", "revert", "run")
