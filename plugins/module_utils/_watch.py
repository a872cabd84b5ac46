# Copyright: (c) 2026, lastro.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Watching a release: samples at a fixed interval, judged by gates. PRIVATE to the collection."""

from __future__ import annotations

import collections
import dataclasses
import json
import math
import time
import typing as t
from pathlib import Path
from urllib.parse import urlsplit

from ._errors import LastroError, Text
from ._files import append_line
from ._gates import METRICS, Gate, Judge, Judgement, Sample, iso_time, parse_gates, parse_positive, parse_times
from ._http import redact_url, url_problem
from ._postgres import ConnectionSettings, settings_from_params
from ._progress import Clock, Progress, silent
from ._prometheus_text import Counters
from ._texts import watch_reason
from ._watch_sources import Answer, Ask, Fetch, Request, database_ask, fetch_all, http_fetch

PROGRESS_SECONDS = 2.0
"""How often the progress file is renewed between two samples."""


@dataclasses.dataclass(frozen=True)
class Options:
    """What to watch, for how long, and what is promised. Times in seconds."""

    duration: float
    interval: float
    window: float
    timeout: float
    gates: tuple[Gate, ...]
    probes: tuple[Request, ...] = ()
    scrapes: tuple[Request, ...] = ()
    request_counter: str = "http_requests_total"
    status_label: str = "status"
    http_ca_cert: str | None = None
    database: ConnectionSettings | None = None
    samples_file: Path | None = None


@dataclasses.dataclass(frozen=True)
class World:
    """What a watch touches: a steady clock, the time of day (seconds since the epoch), sleep, HTTP, the database."""

    clock: Clock
    wall: Clock
    sleep: t.Callable[[float], None]
    fetch: Fetch
    ask: Ask | None = None


def options_from_params(params: t.Mapping[str, t.Any]) -> Options:
    """Options from the module's. Raises LastroError for whatever could not be watched or judged."""
    duration, interval = parse_times(params["duration"], params["interval"])
    window, timeout = (parse_positive(params[name], name) for name in ("window", "timeout"))
    probes = tuple(_probe(raw, f"probes[{index}]") for index, raw in enumerate(params.get("probes") or ()))
    scrapes = tuple(Request(_url(url, f"metrics_urls[{index}]")) for index, url in enumerate(params.get("metrics_urls") or ()))
    connected = any(params.get(name) for name in ("database_url", "environment_file", "login_db"))
    present = [name for name, there in (("probes", probes), ("metrics_urls", scrapes), ("database", connected)) if there]
    gates = parse_gates(params["gates"], sources=present, duration=duration)
    asked = any("database" in METRICS[gate.metric].sources for gate in gates)
    return Options(
        duration=duration,
        interval=interval,
        window=window,
        timeout=timeout,
        gates=gates,
        probes=probes,
        scrapes=scrapes,
        request_counter=params["request_counter"],
        status_label=params["status_label"],
        http_ca_cert=params.get("http_ca_cert"),
        database=settings_from_params(params) if asked else None,
        samples_file=_samples_file(params.get("samples_file")),
    )


def real_world(options: Options) -> World:
    """The clocks, the network and the database of this host. Raises LastroError where a library is missing."""
    return World(
        clock=time.monotonic,
        wall=time.time,
        sleep=time.sleep,
        fetch=http_fetch(timeout=options.timeout, ca_cert=options.http_ca_cert),
        ask=database_ask(options.database) if options.database else None,
    )


def _url(url: str, option: str) -> str:
    problem = url_problem(url)
    if problem:
        raise LastroError(f"{option} {problem}.", remedy=Text(en="Write it as https://host/path.", pt_BR="Escreva como https://host/caminho."))
    if "@" in urlsplit(url).netloc:
        raise LastroError(
            f"{option} has credentials in its URL, where they would be shown.",
            remedy=Text(en="Put them into a file that header_files names.", pt_BR="Coloque-as em um arquivo indicado em header_files."),
        )
    return url


def _probe(raw: t.Mapping[str, t.Any], option: str) -> Request:
    headers = {name: _header(path, name, option) for name, path in (raw.get("header_files") or {}).items()}
    return Request(_url(raw["url"], f"{option}.url"), raw.get("method") or "GET", raw.get("expect_status") or 200, headers)


def _header(path: str, name: str, option: str) -> str:
    remedy = Text(
        en=f"Write the value of the header {name}, one line, into the file on the host.",
        pt_BR=f"Escreva o valor do cabeçalho {name}, em uma linha, no arquivo do host.",
    )
    try:
        value = Path(path).read_text(encoding="latin-1").strip()
    except OSError as error:
        raise LastroError(f"{option}.header_files: {path} cannot be read: {error.strerror}.", remedy=remedy) from error
    if not value or not value.isprintable():
        raise LastroError(f"{option}.header_files: {path} does not hold one line of text.", remedy=remedy)
    return value


def _samples_file(path: str | None) -> Path | None:
    if not path:
        return None
    if not Path(path).parent.is_dir():
        raise LastroError(
            f"samples_file: the directory {Path(path).parent} does not exist.",
            remedy=Text(en="Create it on the host, mode 0700.", pt_BR="Crie-o no host, com modo 0700."),
        )
    return Path(path)


@dataclasses.dataclass(frozen=True)
class _Event:
    """Requests that ended at a time: from a probe (with its latency, if it was answered or timed out) or a counter's increase."""

    time: float
    good: float
    bad: float
    failed_probes: int = 0
    latency: float | None = None


class Sampler:
    """Turns answers into metrics over a sliding window. *start* of the deadlock count is the first sample."""

    def __init__(self, options: Options, world: World) -> None:
        self._options = options
        self._world = world
        self._events: collections.deque[_Event] = collections.deque()
        self._counters = [Counters(options.request_counter, options.status_label) for _url in options.scrapes]
        self._last_deadlocks: int | None = None
        self._deadlocks = 0

    def take(self, now: float) -> Sample:
        """One sample for the time *now* (seconds since the epoch)."""
        errors: list[str] = []
        answers = fetch_all([*self._options.probes, *self._options.scrapes], self._world.fetch)
        for probe, answer in zip(self._options.probes, answers, strict=False):
            self._take_probe(now, probe, answer, errors)
        for index, answer in enumerate(answers[len(self._options.probes) :]):
            self._take_scrape(now, index, answer, errors)
        while self._events and self._events[0].time <= now - self._options.window:
            self._events.popleft()
        return Sample(now, {**self._traffic(), **self._database(errors)}, tuple(errors))

    def _take_probe(self, now: float, probe: Request, answer: Answer, errors: list[str]) -> None:
        good = answer.status == probe.expect_status
        if not good:
            errors.append(f"{probe.method} {redact_url(probe.url)}: {answer.problem or f'{answer.status}, expected {probe.expect_status}'}")
        measured = answer.status is not None or answer.seconds >= self._options.timeout
        self._events.append(_Event(now, float(good), float(not good), int(not good), answer.seconds if measured else None))

    def _take_scrape(self, now: float, index: int, answer: Answer, errors: list[str]) -> None:
        problem = answer.problem or (f"answered {answer.status}" if answer.status != 200 else "")
        if not problem:
            try:
                increase = self._counters[index].update(answer.body)
            except ValueError as error:
                problem = str(error)
            else:
                if increase is not None:
                    self._events.append(_Event(now, increase.good, increase.bad))
                if not self._counters[index].present:
                    problem = f"no series {self._options.request_counter}"
        if problem:
            errors.append(f"{redact_url(self._options.scrapes[index].url)}: {problem}")

    def _traffic(self) -> dict[str, float | None]:
        bad = sum(event.bad for event in self._events)
        total = bad + sum(event.good for event in self._events)
        latencies = sorted(event.latency for event in self._events if event.latency is not None)
        return {
            "error_rate": bad / total if total else None,
            "success_rate": 1 - bad / total if total else None,
            "requests": total if self._events else None,
            "latency_p95": _percentile(latencies, 0.95),
            "latency_p99": _percentile(latencies, 0.99),
            "probe_failures": sum(event.failed_probes for event in self._events) if self._options.probes else None,
        }

    def _database(self, errors: list[str]) -> dict[str, float | None]:
        if self._world.ask is None:
            return {}
        try:
            figures = self._world.ask()
        except LastroError as error:
            errors.append(error.message)
            return {"db_connection_use": None, "db_deadlocks_delta": None}
        last = figures.deadlocks if self._last_deadlocks is None else self._last_deadlocks
        # Statistics that were reset begin at zero again.
        self._deadlocks += figures.deadlocks - last if figures.deadlocks >= last else figures.deadlocks
        self._last_deadlocks = figures.deadlocks
        return {"db_connection_use": figures.connections / figures.max_connections, "db_deadlocks_delta": self._deadlocks}


def _percentile(ordered: t.Sequence[float], share: float) -> float | None:
    """The nearest-rank percentile in milliseconds."""
    return ordered[math.ceil(share * len(ordered)) - 1] * 1000 if ordered else None


def watch(options: Options, world: World, *, progress: Progress = silent, once: bool = False) -> dict[str, t.Any]:
    """Sample until the time is over or a gate that asks for a rollback has failed; the module's return values.

    A breach that is running at the end, but not yet for as long as its gate's C(for), is watched on until it ends or
    has lasted so long; C(for) is the most that this adds. *once* takes one sample and writes none (check mode).
    Raises LastroError where a sample cannot be written.
    """
    sampler, judge = Sampler(options, world), Judge(options.gates)
    started, wall = world.clock(), world.wall()
    longest = options.duration + max(gate.hold or 0 for gate in options.gates)
    count, tick = 0, 0
    while True:
        elapsed = world.clock() - started
        sample = sampler.take(wall + elapsed)
        judge.observe(sample)
        count += 1
        if not once and options.samples_file:
            _keep(options.samples_file, sample, elapsed)
        progress(int(elapsed), int(options.duration), "s")
        over = elapsed >= (longest if judge.pending else options.duration) - 0.001
        if once or over or judge.must_roll_back:
            break
        tick = max(tick + 1, math.ceil((world.clock() - started) / options.interval))
        due = tick * options.interval
        _sleep_until(started + (min(due, options.duration) if elapsed < options.duration - 0.001 else due), world, started, options, progress)
    seconds = world.clock() - started
    return _result(judge.judgement(), count, seconds, None if once else options.samples_file)


def _sleep_until(due: float, world: World, started: float, options: Options, progress: Progress) -> None:
    while (left := due - world.clock()) > 0:
        world.sleep(min(left, PROGRESS_SECONDS))
        progress(int(world.clock() - started), int(options.duration), "s")


def _keep(path: Path, sample: Sample, elapsed: float) -> None:
    metrics = {name: None if value is None else round(value, 6) for name, value in sample.metrics.items()}
    record = {"time": iso_time(sample.time), "elapsed": round(elapsed, 3), "metrics": metrics, "errors": list(sample.errors)}
    try:
        append_line(path, json.dumps(record, sort_keys=True))
    except OSError as error:
        raise LastroError(
            f"samples_file {path} cannot be written: {error.strerror}.",
            remedy=Text(en="Free some space there, or correct its owner.", pt_BR="Libere espaço ali, ou corrija o dono do arquivo."),
        ) from error


def _result(judgement: Judgement, count: int, seconds: float, samples_file: Path | None) -> dict[str, t.Any]:
    gates = [gate.as_dict() for gate in judgement.gates]
    return {
        "verdict": judgement.verdict,
        "action": judgement.action,
        "reason": watch_reason(gates, count)._asdict(),
        "gates": gates,
        "samples": count,
        "seconds": round(seconds, 3),
        "samples_file": str(samples_file) if samples_file else "",
    }


__all__ = ("Options", "Sampler", "World", "options_from_params", "real_world", "watch")
