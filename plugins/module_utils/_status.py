# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the state directory of an app tells of now and of the last runs; reads, never writes. PRIVATE to the collection."""

from __future__ import annotations

import datetime
import json
import typing as t
from pathlib import Path

from . import _journal, _ledger, _lock
from ._clock import Now, from_text, utc_now
from ._errors import LastroError, Text
from ._texts import format_duration, format_time, outcome_title, phase_title, release_text
from ._texts_format import LANGUAGES, say

Facts = dict[str, t.Any]

AFTER_ALL = "~"
"""Sorts behind every run id."""
NAME_WIDTH = 14


def read(state_dir: Path, *, limit: int, now: Now = utc_now) -> Facts:
    """{holder, ledger, runs, left_over, timers, text}; *limit* is how many of the last runs. Raises LastroError."""
    moment = now()
    try:
        holder = holder_facts(_lock.holder_of(state_dir), moment)
        ledger = ledger_facts(_ledger.load(state_dir / "ledger.json"))
        newest = list(reversed(_journal.run_ids(state_dir)))[: max(limit, 0)]
        runs = [run_facts(run_id, _journal.read_run(state_dir, run_id), holder) for run_id in newest]
        unfinished = [state.run_id for state in _journal.unfinished(state_dir, before=AFTER_ALL)]
        timers = [found for spec in sorted((state_dir / "timers").glob("*.json")) if (found := timer_facts(spec, moment))]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _unreadable(state_dir, error) from error
    left_over = [run_id for run_id in unfinished if not _running(run_id, holder)]
    facts: Facts = {"holder": holder, "ledger": ledger, "runs": runs, "left_over": left_over, "timers": timers}
    return {**facts, "text": {language: as_text(facts, language) for language in LANGUAGES}}


def holder_facts(holder: _lock.Holder, now: datetime.datetime) -> Facts:
    """{run_id, actor, reason, since, expires_at, expired} of the lock's holder; {} where nobody has it."""
    if not holder:
        return {}
    told = {name: holder.get(name, "") for name in ("run_id", "actor", "reason", "since", "expires_at")}
    return {**told, "expired": from_text(holder["expires_at"]) <= now}


def ledger_facts(ledger: _ledger.Ledger) -> Facts:
    """{live, releases: [{id, version, state, run_id, revisions, verified}]}, oldest first."""
    names = ("id", "version", "state", "run_id", "revisions", "verified")
    plain = _ledger.as_dict(ledger)
    return {"live": plain["live"], "releases": [{name: release[name] for name in names} for release in plain["releases"]]}


def run_facts(run_id: str, records: t.Sequence[_journal.Record], holder: Facts) -> Facts:
    """What a journal says of its run. *outcome* is "unfinished" where it has none; *running*: it holds the lock now."""
    state = _journal.state_of(records)
    return {
        "run_id": run_id,
        "app": state.opened.get("app", ""),
        "release": state.opened.get("release") or {},
        "actor": state.opened.get("actor", ""),
        "started": state.opened.get("time", ""),
        "outcome": state.outcome or "unfinished",
        "running": _running(run_id, holder),
        "reached": _journal.reached([state]),
        "failed_phase": state.failed_phase,
    }


def timer_facts(spec: Path, now: datetime.datetime) -> Facts:
    """{name, run_id, state, seconds_left} of a dead-man timer that is armed, fires just now (firing) or has fired; {} of another."""
    state = next((state for suffix, state in _TIMER_STATES.items() if spec.with_suffix(suffix).exists()), "")
    if not state:
        return {}
    try:
        content = json.loads(spec.read_text(encoding="utf-8"))
        left = float(spec.with_suffix(".deadline").read_text(encoding="utf-8")) - now.timestamp() if state == "armed" else 0.0
    except FileNotFoundError:  # taken back this very moment
        return {}
    return {"name": spec.stem, "run_id": content.get("run_id", ""), "state": state, "seconds_left": round(max(left, 0.0), 1)}


_TIMER_STATES = {".fired": "fired", ".firing": "firing", ".deadline": "armed"}


def _running(run_id: str, holder: Facts) -> bool:
    return bool(holder) and holder["run_id"] == run_id and not holder["expired"]


def _unreadable(state_dir: Path, error: Exception) -> LastroError:
    reason = error.strerror if isinstance(error, OSError) else "a file in it is damaged"
    return LastroError(
        f"The state in {state_dir} cannot be read: {reason}.",
        remedy=Text(
            en="Run it as the user that deploys (become), and look at lock.json, ledger.json, runs and timers there.",
            pt_BR="Execute como o usuário que faz os deploys (become) e veja lock.json, ledger.json, runs e timers nesse diretório.",
        ),
    )


def as_text(facts: Facts, language: str) -> str:
    """The facts as a short table."""
    ledger = facts["ledger"]
    releases = {release["id"]: release for release in ledger["releases"]}
    none = say(language, "none", "nenhum")
    rows = [
        (say(language, "lock", "trava"), [_holder_text(facts["holder"], language)]),
        (say(language, "live", "no ar"), [release_text(releases.get(ledger["live"], ledger["live"]))]),
        (say(language, "releases", "versões"), [_releases_text(ledger["releases"], language)]),
        (say(language, "left over", "interrompidas"), [", ".join(facts["left_over"]) or say(language, "none", "nenhuma")]),
        (say(language, "timers", "timers"), [_timer_text(timer, language) for timer in facts["timers"]] or [none]),
        (say(language, "last runs", "execuções"), _columns([_run_cells(run, language) for run in facts["runs"]]) or [say(language, "none", "nenhuma")]),
    ]
    return "\n".join(f"{name if first else '':<{NAME_WIDTH}}{line}".rstrip() for name, lines in rows for first, line in _firsts(lines))


def _firsts(lines: t.Sequence[str]) -> t.Iterator[tuple[bool, str]]:
    return ((index == 0, line) for index, line in enumerate(lines))


def _holder_text(holder: Facts, language: str) -> str:
    if not holder:
        return say(language, "free", "livre")
    who, run_id, since = holder["actor"] or "?", holder["run_id"], format_time(holder["since"], language)
    text = say(language, f"held by {who} (run {run_id}) since {since}", f"com {who} (execução {run_id}) desde {since}")
    if holder["expired"]:
        return text + say(language, "; the lease has run out, the next run takes over", "; o prazo acabou, a próxima execução assume")
    until = format_time(holder["expires_at"], language)
    return text + say(language, f"; the lease runs until {until}", f"; o prazo vai até {until}")


_STATES = {"good": Text("good", "boa"), "bad": Text("bad", "ruim"), "unfinished": Text("unfinished", "inacabada")}


def _releases_text(releases: t.Sequence[Facts], language: str) -> str:
    return ", ".join(f"{release_text(one)} {say(language, *_STATES[one['state']])}" for one in releases) or say(language, "none", "nenhuma")


def _timer_text(timer: Facts, language: str) -> str:
    left = format_duration(timer["seconds_left"], language)
    state = {
        "armed": say(language, f"armed, {left} left", f"armado, faltam {left}"),
        "firing": say(language, "fires now", "disparando agora"),
        "fired": say(language, "has put its change back", "já desfez sua mudança"),
    }[timer["state"]]
    return f"{timer['name']} ({say(language, 'run', 'execução')} {timer['run_id']}): {state}"


def _run_cells(run: Facts, language: str) -> tuple[str, ...]:
    return (run["run_id"], release_text(run["release"]), run["actor"], _outcome_text(run, language), format_time(run["started"], language))


def _outcome_text(run: Facts, language: str) -> str:
    if run["outcome"] != "unfinished":
        return outcome_title(run["outcome"], language)
    word = say(language, "running", "em andamento") if run["running"] else outcome_title("", language)
    return f"{word} ({phase_title(run['reached'][-1], language)})" if run["reached"] else word


def _columns(rows: t.Sequence[t.Sequence[str]]) -> list[str]:
    """*rows* as lines whose columns stand below each other."""
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))] if rows else []
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


__all__ = ("as_text", "holder_facts", "ledger_facts", "read", "run_facts", "timer_facts")
