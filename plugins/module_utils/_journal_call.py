# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One call of the module C(journal): renew the lease, write a record, say what the records mean. PRIVATE to the collection."""

from __future__ import annotations

import dataclasses
import typing as t
from pathlib import Path

from . import _journal, _lock, _step
from ._clock import Now, utc_now
from ._errors import LastroError, Text


@dataclasses.dataclass(frozen=True)
class Call:
    """The options of the module. *write* is false in check mode."""

    state_dir: Path
    run_id: str
    record: _journal.Record | None
    hosts: t.Sequence[str]
    lease_seconds: int
    enter: str = ""
    gate: str = ""
    write: bool = True


def run(call: Call, *, now: Now = utc_now) -> dict[str, t.Any]:
    """The module's result. Raises LastroError where the lease was lost, the disk is full, or a record names no run."""
    if (call.record or call.enter) and not call.run_id:
        raise LastroError(
            "A record belongs to a run, and run_id is empty.",
            remedy=Text(en="Name the run in run_id; the newest run can only be read.", pt_BR="Indique a execução em run_id; a mais nova só pode ser lida."),
        )
    run_id = call.run_id or next(reversed(_journal.run_ids(call.state_dir)), "")
    if call.lease_seconds and call.write:
        _lock.renew(call.state_dir, run_id, call.lease_seconds, now=now)
        _step.renew_timers(call.state_dir, run_id, call.lease_seconds, lambda: now().timestamp())
    records = _journal.read_run(call.state_dir, run_id) if run_id else []
    record = _complete(call, records, now)
    written = [record] if record else []
    wanted = _gate_is_open(call, records) if call.gate else _wanted(call.enter, _journal.state_of([*records, *written]))
    if wanted and call.enter:
        written.append({"kind": "intent", "phase": call.enter})
    if call.write:
        written = [_journal.append(call.state_dir, run_id, one, now=now) for one in written]
    state = _journal.state_of([*records, *written])
    before = _journal.unfinished(call.state_dir, before=run_id) if run_id else []
    return {
        "changed": False,
        "wanted": wanted,
        "record": written[0] if written else {},
        "seconds": record.get("seconds", 0.0) if record else 0.0,
        "run": {**dataclasses.asdict(state), "requests": list(state.requests), "sound": state.sound},
        "left_over": [one.run_id for one in before],
        "reached": _journal.reached([state, *before]),
        "earlier": [one.opened for one in before],
        "second_backup": _journal.second_backup([state, *before]),
    }


def answer(options: t.Mapping[str, t.Any], *, write: bool) -> dict[str, t.Any]:
    """The result of the module C(journal). Raises LastroError."""
    # Other hosts are the action plugin's business.
    own = {name: value for name, value in options.items() if name != "renew_on"}
    return run(Call(**{**own, "state_dir": Path(options["state_dir"])}, write=write))


def _complete(call: Call, records: list[_journal.Record], now: Now) -> _journal.Record | None:
    record = call.record
    if not record:
        return None
    if record.get("kind") == "verdict":
        record = {**_journal.verdict(records, record["phase"], call.hosts), **({"host": record["host"]} if "host" in record else {})}
    if record.get("kind") in ("result", "verdict"):
        record = {**record, "seconds": _journal.seconds_since_intent(records, record["phase"], now)}
    return record


def _gate_is_open(call: Call, records: list[_journal.Record]) -> bool:
    """Positive acknowledgement: the run is sound, and each of the hosts has said that its part of the phase is done (design rule 2)."""
    return _journal.state_of(records).sound and _journal.verdict(records, call.gate, call.hosts)["status"] != "failed"


def _wanted(phase: str, state: _journal.RunState) -> bool:
    if not phase or not state.sound:
        return phase in _journal.ALWAYS
    # What preflight found to be there already is only closed; there is nothing to do and nothing to take back.
    return not state.evidence.get("preflight", {}).get("nothing_to_do") or phase == "close"


__all__ = ("Call", "answer", "run")
