# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Thresholds over samples: pass, fail or inconclusive. Pure; knows no clock and no network. PRIVATE to the collection."""

from __future__ import annotations

import dataclasses
import datetime
import operator
import re
import typing as t

from ._clock import to_text
from ._errors import LastroError, Text

Verdict = t.Literal["pass", "fail", "inconclusive"]
Action = t.Literal["none", "warn", "consider", "rollback"]
Unit = t.Literal["ratio", "ms", "count"]
Cause = t.Literal["held", "breach", "pending", "no_data"]

VERDICTS: tuple[Verdict, ...] = ("pass", "inconclusive", "fail")
"""From the best to the worst."""
ACTIONS: tuple[Action, ...] = ("none", "warn", "consider", "rollback")
ON_BREACH = ("rollback", "consider", "warn")
ON_NO_DATA = ("inconclusive", "fail", "pass")
OPERATORS: dict[str, t.Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
MISSING_LIMIT = 3
"""So many evaluations in a row may be without a value; one more and the gate has no data."""


@dataclasses.dataclass(frozen=True)
class Metric:
    """What a gate may speak of: its unit, and the sources of which at least one must be there."""

    unit: Unit
    sources: tuple[str, ...]


METRICS: dict[str, Metric] = {
    "error_rate": Metric("ratio", ("probes", "metrics_urls")),
    "success_rate": Metric("ratio", ("probes", "metrics_urls")),
    "requests": Metric("count", ("probes", "metrics_urls")),
    "latency_p95": Metric("ms", ("probes",)),
    "latency_p99": Metric("ms", ("probes",)),
    "probe_failures": Metric("count", ("probes",)),
    "db_connection_use": Metric("ratio", ("database",)),
    "db_deadlocks_delta": Metric("count", ("database",)),
    "log_errors": Metric("count", ("logs",)),
}


@dataclasses.dataclass(frozen=True)
class Sample:
    """One evaluation: seconds since the epoch, each metric's value (None: not known), and what a source could not tell."""

    time: float
    metrics: t.Mapping[str, float | None]
    errors: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Gate:
    """A promise about a metric. *limit* is in the metric's unit (ratio 0 to 1, milliseconds, count), *hold* in seconds."""

    name: str
    metric: str
    op: str
    limit: float
    limit_text: str
    hold: float | None = None
    min_samples: int = 1
    on_breach: str = "rollback"
    on_no_data: str = "inconclusive"

    def kept_by(self, value: float) -> bool:
        """Whether *value* keeps the promise."""
        return OPERATORS[self.op](value, self.limit)

    def worse(self, one: float, other: float) -> float:
        """The one of two values that is nearer to a breach, or further beyond it."""
        if self.op in (">", ">="):
            return min(one, other)
        if self.op in ("<", "<="):
            return max(one, other)
        distance = -1 if self.op == "!=" else 1
        return max(one, other, key=lambda value: distance * abs(value - self.limit))


@dataclasses.dataclass(frozen=True)
class GateResult:
    """The verdict on one gate. *samples* counts evaluations with a value; *breached_from* is ISO 8601 or None."""

    gate: Gate
    verdict: Verdict
    cause: Cause
    worst: float | None
    samples: int
    breached_from: str | None

    def as_dict(self) -> dict[str, t.Any]:
        """The form that modules return and journals keep."""
        return {
            "name": self.gate.name,
            "metric": self.gate.metric,
            "verdict": self.verdict,
            "cause": self.cause,
            "limit": self.gate.limit_text,
            "worst": self.worst,
            "samples": self.samples,
            "breached_from": self.breached_from,
            "on_breach": self.gate.on_breach,
        }

    @property
    def action(self) -> Action:
        """What this verdict asks for; a gate that could not be judged asks a human, unless it only warns."""
        if self.verdict == "pass":
            return "none"
        if self.verdict == "fail":
            return t.cast("Action", self.gate.on_breach)
        return "warn" if self.gate.on_breach == "warn" else "consider"


@dataclasses.dataclass(frozen=True)
class Judgement:
    """The verdict on a run: the worst one of its gates, and the strongest action that they ask for."""

    verdict: Verdict
    action: Action
    gates: tuple[GateResult, ...]


_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+)ms)?\Z")
_DURATION_REMEDY = Text(en="Write it as 5m, 2m30s, 90s or 500ms.", pt_BR="Escreva como 5m, 2m30s, 90s ou 500ms.")


def parse_duration(value: object, option: str) -> float:
    """Seconds of "5m", "2m30s", "90s", "500ms" or a plain number of seconds. Raises LastroError naming *option*."""
    text = str(value).strip()
    match = _DURATION.match(text)
    if isinstance(value, bool) or not text:
        match = None
    elif re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    if not match:
        raise LastroError(f"{option} is {text!r}, which is no duration.", remedy=_DURATION_REMEDY)
    days, hours, minutes, seconds, milliseconds = (float(part or 0) for part in match.groups())
    return days * 86400 + hours * 3600 + minutes * 60 + seconds + milliseconds / 1000


def parse_times(duration: object, interval: object, *, duration_option: str = "duration") -> tuple[float, float]:
    """(length of a watch, time between two samples) in seconds. Raises LastroError naming the option that is wrong."""
    length, between = parse_positive(duration, duration_option), parse_positive(interval, "interval")
    if between > length:
        raise _bad(
            f"interval is longer than {duration_option}.",
            f"Make the interval shorter or {duration_option} longer.",
            f"Reduza interval ou aumente {duration_option}.",
        )
    return length, between


def parse_positive(value: object, option: str) -> float:
    """A duration of more than zero seconds. Raises LastroError naming *option*."""
    seconds = parse_duration(value, option)
    if seconds <= 0:
        raise _bad(f"{option} is zero.", "Write it as 5m, 90s or 500ms.", "Escreva como 5m, 90s ou 500ms.")
    return seconds


def parse_gates(raw: t.Sequence[t.Mapping[str, t.Any]], *, sources: t.Collection[str], duration: float) -> tuple[Gate, ...]:
    """The gates of the option C(gates). Raises LastroError for anything that could never be judged.

    *sources* are those that the watch has (probes, metrics_urls, database), *duration* is its length in seconds.
    """
    gates = tuple(_parse_gate(one, f"gates[{index}]", sources, duration) for index, one in enumerate(raw))
    if not gates:
        raise _bad("gates is empty: nothing would be judged.", "Name at least one gate.", "Informe pelo menos um limite em gates.")
    names = [gate.name for gate in gates]
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise _bad(f"gates has several named {doubled[0]!r}.", "Give each gate a name of its own.", "Dê a cada limite um nome próprio.")
    return gates


def _parse_gate(raw: t.Mapping[str, t.Any], where: str, sources: t.Collection[str], duration: float) -> Gate:
    metric, op = raw["metric"], raw["op"]
    if metric not in METRICS:
        known = ", ".join(METRICS)
        raise _bad(f"{where}.metric is {metric!r}, which is no metric.", f"The metrics are {known}.", f"As métricas são {known}.")
    needed = METRICS[metric].sources
    if not set(needed) & set(sources):
        either = " or ".join(needed)
        raise _bad(
            f"{where}.metric is {metric}, but the watch has no {either} to take it from.",
            f"Give {either} (database: environment_file or database_url), or leave the gate out.",
            f"Informe {' ou '.join(needed)} (database: environment_file ou database_url), ou retire o limite.",
        )
    if op not in OPERATORS:
        raise _bad(f"{where}.op is {op!r}.", f"Use one of {' '.join(OPERATORS)}.", f"Use um de {' '.join(OPERATORS)}.")
    hold = parse_duration(raw["for"], f"{where}.for") if raw.get("for") is not None else None
    if hold is not None and hold > duration:
        raise _bad(
            f"{where}.for is longer than the watch: the gate could never be breached.",
            "Make the watch longer or the span of the gate shorter.",
            "Aumente a duração da observação ou reduza o intervalo do limite.",
        )
    min_samples = raw.get("min_samples") or 1
    if min_samples < 1:
        raise _bad(f"{where}.min_samples is {min_samples}.", "Use 1 or more.", "Use 1 ou mais.")
    return Gate(
        name=raw.get("name") or f"{metric} {op} {raw['value']}",
        metric=metric,
        op=op,
        limit=_parse_limit(raw["value"], METRICS[metric].unit, f"{where}.value"),
        limit_text=f"{op} {raw['value']}",
        hold=hold or None,
        min_samples=min_samples,
        on_breach=raw.get("on_breach") or "rollback",
        on_no_data=raw.get("on_no_data") or "inconclusive",
    )


def _parse_limit(value: object, unit: Unit, where: str) -> float:
    text = str(value).strip()
    number = re.fullmatch(r"(\d+(?:\.\d+)?)(%|ms|s)?", text)
    suffix = number[2] or "" if number else ""
    allowed = {"ratio": ("", "%"), "ms": ("", "ms", "s"), "count": ("",)}[unit]
    if number and not isinstance(value, bool) and suffix in allowed:
        amount = float(number[1]) * {"": 1.0, "%": 0.01, "ms": 1.0, "s": 1000.0}[suffix]
        if unit != "ratio" or amount <= 1:
            return amount
    wanted = {"ratio": "a share such as 10% or 0.1", "ms": "a time such as 2000ms or 2s", "count": "a number such as 0"}[unit]
    wanted_pt = {"ratio": "uma fração como 10% ou 0.1", "ms": "um tempo como 2000ms ou 2s", "count": "um número como 0"}[unit]
    raise _bad(f"{where} is {text!r}.", f"This metric needs {wanted}.", f"Esta métrica precisa de {wanted_pt}.")


def _bad(message: str, en: str, pt_br: str) -> LastroError:
    return LastroError(message, remedy=Text(en=en, pt_BR=pt_br))


class _Tracker:
    """What one gate has seen so far."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.known = 0
        self.missing = 0
        self.starved = False
        self.worst: float | None = None
        self.streak_from: float | None = None
        self.breached_from: float | None = None

    def observe(self, sample: Sample) -> None:
        value = sample.metrics.get(self.gate.metric)
        if value is None:
            self._miss()
            return
        self.known += 1
        self.missing = 0
        self.worst = value if self.worst is None else self.gate.worse(self.worst, value)
        if self.gate.kept_by(value):
            self.streak_from = None
            return
        if self.streak_from is None:
            self.streak_from = sample.time
        # Times are sums of floats: a millisecond is far below any interval.
        long_enough = sample.time - self.streak_from >= (self.gate.hold or 0) - 0.001
        if self.breached_from is None and long_enough and self.known >= self.gate.min_samples:
            self.breached_from = self.streak_from

    def _miss(self) -> None:
        self.missing += 1
        if self.missing > MISSING_LIMIT:
            self.starved = True
            self.streak_from = None

    @property
    def pending(self) -> bool:
        """Whether a breach is running that may yet last long enough."""
        return self.breached_from is None and self.streak_from is not None and self.gate.hold is not None

    @property
    def lost(self) -> bool:
        """Whether the gate has failed whatever comes."""
        return self.breached_from is not None or (self.starved and self.gate.on_no_data == "fail")

    def result(self) -> GateResult:
        verdict: Verdict
        cause: Cause
        if self.breached_from is not None:
            verdict, cause = "fail", "breach"
        elif self.known < self.gate.min_samples or self.starved:
            verdict, cause = t.cast("Verdict", self.gate.on_no_data), "no_data"
        elif self.pending:
            verdict, cause = "inconclusive", "pending"
        else:
            verdict, cause = "pass", "held"
        since = None if self.breached_from is None else iso_time(self.breached_from)
        worst = None if self.worst is None else round(self.worst, 6)
        return GateResult(self.gate, verdict, cause, worst, self.known, since)


class Judge:
    """Takes samples one by one and can say at any time how it stands. There is at least one gate."""

    def __init__(self, gates: t.Sequence[Gate]) -> None:
        self._trackers = [_Tracker(gate) for gate in gates]

    def observe(self, sample: Sample) -> None:
        """Take one sample; samples come in the order of their times."""
        for tracker in self._trackers:
            tracker.observe(sample)

    @property
    def pending(self) -> bool:
        """Whether a breach is running whose C(for) has not passed yet."""
        return any(tracker.pending for tracker in self._trackers)

    @property
    def must_roll_back(self) -> bool:
        """Whether a gate that asks for a rollback has failed."""
        return any(tracker.lost and tracker.gate.on_breach == "rollback" for tracker in self._trackers)

    def judgement(self) -> Judgement:
        """The verdict on the samples so far."""
        results = tuple(tracker.result() for tracker in self._trackers)
        verdict: Verdict = max([result.verdict for result in results], key=VERDICTS.index)
        action: Action = max([result.action for result in results], key=ACTIONS.index)
        return Judgement(verdict, action, results)


def evaluate(gates: t.Sequence[Gate], samples: t.Iterable[Sample]) -> Judgement:
    """The verdict on a list of samples, ordered by time."""
    judge = Judge(gates)
    for sample in samples:
        judge.observe(sample)
    return judge.judgement()


def iso_time(seconds: float) -> str:
    """Seconds since the epoch as the journal writes times."""
    return to_text(datetime.datetime.fromtimestamp(seconds, tz=datetime.UTC))


__all__ = (
    "ACTIONS",
    "METRICS",
    "MISSING_LIMIT",
    "ON_BREACH",
    "ON_NO_DATA",
    "OPERATORS",
    "VERDICTS",
    "Action",
    "Gate",
    "GateResult",
    "Judge",
    "Judgement",
    "Metric",
    "Sample",
    "Verdict",
    "evaluate",
    "iso_time",
    "parse_duration",
    "parse_gates",
)
