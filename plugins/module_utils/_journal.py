# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal of a run: append-only JSON lines on the primary; everything else is read from it. PRIVATE to the collection.

Kinds of record: opened, intent, result, acknowledged (one host's part in a phase of several), verdict (on such a phase),
request, decision, outcome.
"""

from __future__ import annotations

import dataclasses
import json
import typing as t
from pathlib import Path

from ._clock import Now, from_text, to_text, utc_now
from ._files import append_line, read_json_lines, writing

Record = dict[str, t.Any]

PHASES = (
    "open",
    "preflight",
    "stage",
    "backup",
    "rehearse",
    "maintenance_enter",
    "migrate",
    "protect",
    "validate",
    "switch",
    "protect_finish",
    "smoke",
    "maintenance_leave",
    "watch",
    "contract",
    "rollback",
    "close",
)
"""The phases in the order in which a run goes through them."""

ALWAYS = frozenset({"rollback", "close"})
"""Phases that a failed run enters too."""

SETTLED = frozenset({"deployed", "nothing_to_do", "failed_nothing_changed", "rolled_back"})
"""Outcomes after which nothing is left over; the others leave the world to the next run, as a run that died does."""

OUTCOMES = ("deployed", "nothing_to_do", "failed_nothing_changed", "rolled_back", "rollback_incomplete", "needs_human")


@dataclasses.dataclass(frozen=True)
class RunState:
    """What the records of a run say.

    *phases* has the last status of each phase that was entered: started, ok, failed or skipped; *problem* and
    *remedy* are those of the first failure; *requests* what handlers asked for.
    """

    run_id: str = ""
    opened: Record = dataclasses.field(default_factory=dict)
    phases: dict[str, str] = dataclasses.field(default_factory=dict)
    evidence: dict[str, dict[str, t.Any]] = dataclasses.field(default_factory=dict)
    failed_phase: str = ""
    problem: str = ""
    remedy: dict[str, str] = dataclasses.field(default_factory=dict)
    requests: tuple[Record, ...] = ()
    decision: Record = dataclasses.field(default_factory=dict)
    outcome: str = ""

    @property
    def sound(self) -> bool:
        """Whether the run may go on to the next phase."""
        return not self.failed_phase and not any(request.get("what") == "roll back" for request in self.requests)


def journal_file(state_dir: Path, run_id: str) -> Path:
    """Where the journal of a run is."""
    return state_dir / "runs" / f"{run_id}.jsonl"


def read_run(state_dir: Path, run_id: str) -> list[Record]:
    """The records of a run; [] where there is none."""
    return read_json_lines(journal_file(state_dir, run_id))


def run_ids(state_dir: Path) -> list[str]:
    """All runs that have a journal, oldest first (a run id starts with its time)."""
    return sorted(path.stem for path in (state_dir / "runs").glob("*.jsonl"))


def state_of(records: t.Iterable[Record]) -> RunState:
    """Fold the records of one run into its state."""
    state = RunState()
    for record in records:
        state = _FOLD.get(record.get("kind", ""), _ignore)(state, record)
    return state


def _ignore(state: RunState, _record: Record) -> RunState:
    return state


def _opened(state: RunState, record: Record) -> RunState:
    return dataclasses.replace(state, run_id=record.get("run_id", ""), opened=record)


def _intent(state: RunState, record: Record) -> RunState:
    return dataclasses.replace(state, phases={**state.phases, record["phase"]: "started"})


def _result(state: RunState, record: Record) -> RunState:
    phase, status = record["phase"], record["status"]
    state = dataclasses.replace(
        state,
        phases={**state.phases, phase: status},
        evidence={**state.evidence, phase: {**state.evidence.get(phase, {}), **record.get("evidence", {})}},
    )
    if status not in ("failed", "unreachable") or state.failed_phase:
        return state
    return dataclasses.replace(state, failed_phase=phase, problem=record.get("problem", ""), remedy=record.get("remedy", {}))


def _acknowledged(state: RunState, record: Record) -> RunState:
    """One host's failure closes the gate before the verdict does; its success alone opens nothing."""
    return _result(state, record) if record["status"] == "failed" else state


def _request(state: RunState, record: Record) -> RunState:
    return dataclasses.replace(state, requests=(*state.requests, record))


def _decision(state: RunState, record: Record) -> RunState:
    return dataclasses.replace(state, decision=record)


def _outcome(state: RunState, record: Record) -> RunState:
    return dataclasses.replace(state, outcome=record["outcome"])


_FOLD: dict[str, t.Callable[[RunState, Record], RunState]] = {
    "opened": _opened,
    "intent": _intent,
    "result": _result,
    "acknowledged": _acknowledged,
    "verdict": _result,
    "request": _request,
    "decision": _decision,
    "outcome": _outcome,
}


def unfinished(state_dir: Path, *, before: str) -> list[RunState]:
    """States of the runs that ended without an outcome, or with one that settles nothing, since the last settled one, newest first."""
    found: list[RunState] = []
    for run_id in reversed([one for one in run_ids(state_dir) if one < before]):
        state = state_of(read_run(state_dir, run_id))
        if state.outcome in SETTLED:
            break
        found.append(state)
    return found


def reached(states: t.Iterable[RunState]) -> list[str]:
    """The phases that any of the runs entered, in their order."""
    entered = {phase for state in states for phase in state.phases}
    return [phase for phase in PHASES if phase in entered]


def second_backup(states: t.Iterable[RunState]) -> dict[str, t.Any]:
    """The newest backup that was taken behind a closed door, from states newest first; {} where there is none.

    {manifest, name, run_id, since: {proxy host: when its door was shut}, left: whether a run has begun to open it since}.
    """
    left = False
    for state in states:
        left = left or "maintenance_leave" in state.phases
        evidence = state.evidence.get("maintenance_enter", {})
        if evidence.get("second_backup"):
            return {**evidence["second_backup"], "run_id": state.run_id, "since": evidence.get("since", {}), "left": left}
    return {}


def _said(host: str, record: Record) -> str:
    """A host's own words, with its name before them once."""
    return f"{host}: {record.get('problem', 'failed').removeprefix(f'{host}: ')}"


def verdict(records: t.Sequence[Record], phase: str, hosts: t.Sequence[str]) -> Record:
    """The verdict on a phase of several hosts: ok only if every one of *hosts* reported ok (rule 2).

    The hosts' evidence is merged. A host that never reported was not reached, or its batch never began since another had failed.
    """
    start = max((index for index, record in enumerate(records) if record.get("kind") == "intent" and record.get("phase") == phase), default=0)
    results: dict[str, Record] = {}
    evidence: dict[str, t.Any] = {"hosts": list(hosts)}
    for record in records[start:]:
        if record.get("kind") == "acknowledged" and record.get("phase") == phase:
            # A host may report several parts; a failure stays one.
            evidence = _merge(evidence, record.get("evidence", {}))
            if results.get(record["host"], {}).get("status") != "failed":
                results[record["host"]] = record
    bad = [host for host in hosts if results.get(host, {}).get("status") not in ("ok", "skipped")]
    if bad:
        said = [host for host in bad if host in results]
        problem = "; ".join([_said(host, results[host]) for host in said] or [f"{host} did not answer" for host in bad])
        remedy = results[said[0]].get("remedy", {}) if said else {}
        return {"kind": "verdict", "phase": phase, "status": "failed", "problem": problem, "remedy": remedy, "evidence": evidence}
    skipped = bool(results) and all(record["status"] == "skipped" for record in results.values())
    return {"kind": "verdict", "phase": phase, "status": "skipped" if skipped else "ok", "evidence": evidence}


def _merge(one: dict[str, t.Any], other: dict[str, t.Any]) -> dict[str, t.Any]:
    """Evidence of two hosts as one: counts add up, lists join, there is nothing to do where all hosts say so."""
    merged = dict(one)
    for key, value in other.items():
        known = merged.get(key)
        if key in ("checks", "findings_count") and isinstance(known, int) and isinstance(value, int):
            merged[key] = known + value
        elif key in ("nothing_to_do", "restorable"):
            merged[key] = bool(value) and known is not False
        elif isinstance(known, dict) and isinstance(value, dict):
            merged[key] = {**known, **value}
        elif isinstance(known, list) and isinstance(value, list):
            merged[key] = known + [item for item in value if item not in known]
        else:
            merged[key] = value
    return merged


def seconds_since_intent(records: t.Sequence[Record], phase: str, now: Now = utc_now) -> float:
    """How long ago the phase was entered; 0 where it was not."""
    for record in reversed(records):
        if record.get("kind") == "intent" and record.get("phase") == phase:
            return round((now() - from_text(record["time"])).total_seconds(), 3)
    return 0.0


def append(state_dir: Path, run_id: str, record: Record, *, now: Now = utc_now) -> Record:
    """Write one record (its time is added) and return it. Raises LastroError on a full or read-only disk."""
    stamped = {"time": to_text(now()), **record}
    path = journal_file(state_dir, run_id)
    with writing(path):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        append_line(path, json.dumps(stamped, sort_keys=True, ensure_ascii=False))
    return stamped


__all__ = (
    "ALWAYS",
    "OUTCOMES",
    "PHASES",
    "SETTLED",
    "Record",
    "RunState",
    "append",
    "journal_file",
    "reached",
    "read_run",
    "run_ids",
    "second_backup",
    "seconds_since_intent",
    "state_of",
    "unfinished",
    "verdict",
)
