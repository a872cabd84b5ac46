# SPDX-License-Identifier: GPL-3.0-or-later
"""The watch on a clock of its own: no second passes, no socket opens."""

from __future__ import annotations

import dataclasses
import json
import stat
import typing as t
from pathlib import Path

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.lastro.deploy.plugins.module_utils import _http, _postgres
from ansible_collections.lastro.deploy.plugins.module_utils._errors import LastroError, Text
from ansible_collections.lastro.deploy.plugins.module_utils._watch import Options, World, options_from_params, watch
from ansible_collections.lastro.deploy.plugins.module_utils._watch_sources import Answer, DatabaseFigures, Request, database_ask, fetch_all, http_fetch
from ansible_collections.lastro.deploy.plugins.modules import watch as module

START = 1_795_000_000.0
PROBE = {"url": "http://app/health"}
ERRORS = {"metric": "error_rate", "op": "<=", "value": "10%"}


@dataclasses.dataclass
class Stage:
    """A world in which *answer* says what each request gets at a time, and sleeping moves the time."""

    answer: t.Callable[[float, Request], Answer]
    figures: t.Callable[[float], DatabaseFigures] | None = None
    busy: float = 0.0
    now: float = 0.0
    asked: list[float] = dataclasses.field(default_factory=list)
    steps: list[tuple[int, int, str]] = dataclasses.field(default_factory=list)

    def fetch(self, request: Request) -> Answer:
        self.asked.append(self.now)
        return self.answer(self.now, request)

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds

    def clock(self) -> float:
        self.now += self.busy
        return self.now

    def run(self, options: Options, once: bool = False) -> dict[str, t.Any]:
        figures = self.figures
        ask = (lambda: figures(self.now)) if figures else None
        world = World(self.clock, lambda: START, self.sleep, self.fetch, ask)
        return watch(options, world, progress=lambda *step: self.steps.append(step), once=once)


def params(**changes: object) -> dict[str, t.Any]:
    base = {"duration": "60s", "interval": "5s", "window": "60s", "timeout": "5s", "gates": [ERRORS], "request_counter": "http_requests_total"}
    return {**base, "status_label": "status", "probes": [], "metrics_urls": [], **changes}


def options(**changes: object) -> Options:
    return options_from_params(params(**{"probes": [PROBE], **changes}))


def status(code: int, seconds: float = 0.01) -> Answer:
    return Answer(seconds, code)


def test_a_release_that_keeps_its_promise(tmp_path: Path) -> None:
    file = tmp_path / "samples"
    stage = Stage(lambda _now, _request: status(200))
    result = stage.run(options(samples_file=str(file)))
    assert result["verdict"] == "pass"
    assert result["action"] == "none"
    assert result["reason"] == {"en": "the gate held in 13 samples", "pt_BR": "o limite foi mantido em 13 amostras"}
    assert (result["samples"], result["seconds"], result["samples_file"]) == (13, 60.0, str(file))
    assert stage.asked == [float(second) for second in range(0, 61, 5)]
    assert stage.steps[-1] == (60, 60, "s")
    assert max(after[0] - before[0] for before, after in zip(stage.steps, stage.steps[1:], strict=False)) <= 5
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line["elapsed"] for line in lines] == stage.asked
    assert lines[3]["time"] == "2026-11-18T11:06:55.000000Z"
    assert lines[3]["metrics"] == {
        "error_rate": 0.0,
        "success_rate": 1.0,
        "requests": 4.0,
        "latency_p95": 10.0,
        "latency_p99": 10.0,
        "probe_failures": 0,
    }
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_release_that_fails_is_told_at_once() -> None:
    stage = Stage(lambda now, _request: status(200 if now < 20 else 500))
    result = stage.run(options(gates=[{**ERRORS, "for": "10s", "name": "errors"}], window="10s"))
    # At 20 s one of the two requests of the window has failed; ten seconds later the breach has held.
    assert (result["verdict"], result["action"], result["seconds"], result["samples"]) == ("fail", "rollback", 30.0, 7)
    assert result["gates"][0]["worst"] == 1.0
    assert result["gates"][0]["breached_from"] == "2026-11-18T11:07:00.000000Z"
    assert result["reason"]["en"] == "errors (error_rate <= 10%): at worst 100.0%, since 2026-11-18 11:07:00 UTC"
    assert result["reason"]["pt_BR"] == "errors (error_rate <= 10%): no pior caso 100,0%, desde 18/11/2026 11:07:00 UTC"


def test_a_gate_that_only_warns_does_not_end_the_watch() -> None:
    result = Stage(lambda _now, _request: status(500)).run(options(gates=[{**ERRORS, "on_breach": "warn"}]))
    assert (result["verdict"], result["action"], result["seconds"]) == ("fail", "warn", 60.0)


@pytest.mark.parametrize(("back_at", "verdict", "seconds"), [(75, "pass", 80.0), (999, "fail", 85.0)])
def test_a_breach_at_the_end_is_watched_on(back_at: float, verdict: str, seconds: float) -> None:
    stage = Stage(lambda now, _request: status(500 if 55 <= now < back_at else 200))
    result = stage.run(options(gates=[{**ERRORS, "for": "30s"}], window="5s"))
    assert (result["verdict"], result["seconds"]) == (verdict, seconds if verdict == "fail" else 75.0)


def test_one_breach_after_another_is_watched_on_only_so_long() -> None:
    gates = [{**ERRORS, "for": "30s"}, {"metric": "latency_p95", "op": "<", "value": "1s", "for": "30s"}]
    stage = Stage(lambda now, _request: status(500 if 55 <= now < 65 else 200, 2.0 if now >= 65 else 0.1))
    result = stage.run(options(gates=gates, window="5s"))
    assert result["seconds"] == 90.0
    assert (result["verdict"], result["action"]) == ("inconclusive", "consider")
    assert [gate["cause"] for gate in result["gates"]] == ["held", "pending"]
    assert result["reason"]["en"] == "latency_p95 < 1s: still beyond the limit at the end, at worst 2,000 ms"


def test_a_slow_sample_skips_evaluations_and_never_bunches_them() -> None:
    stage = Stage(lambda _now, _request: status(200), busy=2.0)
    stage.run(options(interval="5s", duration="32s"))
    assert all(after - before >= 5 for before, after in zip(stage.asked[:-1], stage.asked[1:-1], strict=False))
    assert stage.asked[-1] >= 32


def test_the_last_sample_is_at_the_end() -> None:
    stage = Stage(lambda _now, _request: status(200))
    assert stage.run(options(duration="12s"))["seconds"] == 12.0
    assert stage.asked == [0, 5, 10, 12]


def test_latencies_over_the_window() -> None:
    answers = {0: status(200, 0.1), 5: status(200, 0.2), 10: Answer(5.0, problem="no answer within 5 s"), 15: Answer(0.0, problem="connection refused")}
    stage = Stage(lambda now, _request: answers.get(int(now), status(200, 0.3)))
    gates = [{"metric": "latency_p95", "op": "<", "value": "2s", "on_breach": "consider"}, {"metric": "probe_failures", "op": "<=", "value": 5}]
    result = stage.run(options(gates=gates, duration="15s"))
    # The one that ran into the timeout counts with its five seconds, the refused one took no time to be measured.
    assert [gate["worst"] for gate in result["gates"]] == [5000.0, 2.0]
    assert result["action"] == "consider"


def scrape(good: int, bad: int) -> Answer:
    return Answer(0.01, 200, f'http_requests_total{{status="200"}} {good}\nhttp_requests_total{{status="500"}} {bad}\n')


def test_counters_of_several_processes_are_added_up() -> None:
    def answer(now: float, request: Request) -> Answer:
        return scrape(int(now) * 10, int(now)) if "one" in request.url else scrape(int(now) * 10, 0)

    result = Stage(answer).run(options_from_params(params(metrics_urls=["http://one/metrics", "http://two/metrics"])))
    rate = result["gates"][0]
    assert rate["worst"] == pytest.approx(1 / 21, abs=1e-6)
    assert rate["samples"] == 12  # the first scrape gives no increase
    assert result["verdict"] == "pass"


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (Answer(0.1, problem="connection refused"), "http://one/metrics: connection refused"),
        (Answer(0.1, 404, "nothing"), "http://one/metrics: answered 404"),
        (Answer(0.1, 200, "<html>"), "http://one/metrics: line 1 is not in the Prometheus text format"),
        (Answer(0.1, 200, "up 1"), "http://one/metrics: no series http_requests_total"),
    ],
)
def test_a_scrape_that_tells_nothing_is_no_data(tmp_path: Path, broken: Answer, words: str) -> None:
    file = tmp_path / "samples"
    stage = Stage(lambda _now, _request: broken)
    result = stage.run(options_from_params(params(metrics_urls=["http://one/metrics?token=abc"], samples_file=str(file))))
    assert (result["verdict"], result["action"], result["gates"][0]["cause"]) == ("inconclusive", "consider", "no_data")
    assert result["reason"]["en"] == "error_rate <= 10%: not enough data (0 samples with a value)"
    assert json.loads(file.read_text().splitlines()[-1])["errors"] == [words]


def test_what_a_probe_found_is_kept_with_the_sample(tmp_path: Path) -> None:
    file = tmp_path / "samples"
    stage = Stage(lambda now, _request: status(302) if now else Answer(0.0, problem="connection refused"))
    probe = {"url": "http://app/x?secret=1", "method": "HEAD", "expect_status": 204}
    stage.run(options(probes=[probe], samples_file=str(file), duration="5s", gates=[{**ERRORS, "on_breach": "warn"}]))
    errors = [json.loads(line)["errors"] for line in file.read_text().splitlines()]
    assert errors == [["HEAD http://app/x: connection refused"], ["HEAD http://app/x: 302, expected 204"]]


def database_options(**changes: object) -> Options:
    gates = [{"metric": "db_connection_use", "op": "<", "value": "80%"}, {"metric": "db_deadlocks_delta", "op": "==", "value": 2, "on_breach": "consider"}]
    return options_from_params(params(gates=gates, database_url="postgresql://a:b@db/app", duration="10s", **changes))


def test_database_figures_and_a_reset_of_the_statistics() -> None:
    deadlocks = {0: 7, 5: 8, 10: 1}
    result = Stage(lambda _now, _request: status(200), lambda now: DatabaseFigures(10 + int(now), 100, deadlocks[int(now)])).run(database_options())
    assert [gate["worst"] for gate in result["gates"]] == [0.2, 0]
    stage = Stage(lambda _now, _request: status(200), lambda now: DatabaseFigures(10, 100, deadlocks[int(now)]))
    last = stage.run(dataclasses.replace(database_options(), gates=(dataclasses.replace(database_options().gates[1], op="<", limit=2.0),)))
    assert last["gates"][0]["worst"] == 2  # 7 to 8, then from zero to 1


def test_a_database_that_gives_no_figures_is_no_data(tmp_path: Path) -> None:
    def broken(_now: float) -> DatabaseFigures:
        raise LastroError("PostgreSQL cannot be reached.", remedy=Text("", ""))

    file = tmp_path / "samples"
    result = Stage(lambda _now, _request: status(200), broken).run(database_options(samples_file=str(file)))
    assert (result["verdict"], result["gates"][0]["cause"]) == ("inconclusive", "no_data")
    assert json.loads(file.read_text().splitlines()[0])["errors"] == ["PostgreSQL cannot be reached."]


def test_samples_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "samples").mkdir()
    with pytest.raises(LastroError, match="samples_file"):
        Stage(lambda _now, _request: status(200)).run(options(samples_file=str(tmp_path / "samples")))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"duration": "0s"}, "duration is zero"),
        ({"interval": "often"}, "interval is 'often'"),
        ({"interval": "2m"}, "interval is longer than duration"),
        ({"probes": [{"url": "ftp://x"}]}, "probes[0].url starts with ftp"),
        ({"probes": [{"url": "http://"}]}, "probes[0].url has no host"),
        ({"metrics_urls": ["http://h:port/"]}, "metrics_urls[0] is no URL"),
        ({"probes": [{"url": "http://me:hunter2@x/"}]}, "probes[0].url has credentials"),
        ({"probes": [{"url": "http://x", "header_files": {"A": "/no/such/file"}}]}, "/no/such/file cannot be read"),
        ({"samples_file": "/no/such/directory/x"}, "/no/such/directory does not exist"),
        ({"probes": []}, "has no probes or metrics_urls"),
        ({"environment_file": "/no/such/env", "url_variable": "U", "gates": [{"metric": "db_deadlocks_delta", "op": "==", "value": 0}]}, "/no/such/env"),
    ],
)
def test_options_that_cannot_be_used(changes: dict[str, t.Any], words: str) -> None:
    with pytest.raises(LastroError) as caught:
        options(**changes)
    assert words in caught.value.message
    assert "hunter2" not in str(caught.value)
    assert caught.value.remedy.pt_BR


def test_headers_from_files(tmp_path: Path) -> None:
    file = tmp_path / "header"
    file.write_text("Bearer abc\n")
    probe = options(probes=[{"url": "http://x", "header_files": {"Authorization": str(file)}}]).probes[0]
    assert probe.headers == {"Authorization": "Bearer abc"}
    assert "abc" not in repr(probe)
    file.write_text("Bearer abc\nX: y\n")
    with pytest.raises(LastroError, match="does not hold one line") as caught:
        options(probes=[{"url": "http://x", "header_files": {"Authorization": str(file)}}])
    assert "abc" not in str(caught.value)


def test_missing_libraries_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_http, "HAS_REQUESTS", False)
    monkeypatch.setattr(_postgres, "HAS_PSYCOPG2", False)
    with pytest.raises(LastroError, match="requests"):
        http_fetch(timeout=1)
    with pytest.raises(LastroError, match="psycopg2"):
        database_ask(_postgres.ConnectionSettings())


def test_requests_are_answered_in_their_order() -> None:
    wanted = [Request(f"http://x/{index}") for index in range(30)]
    assert [answer.body for answer in fetch_all(wanted, lambda request: Answer(0, 200, request.url))] == [one.url for one in wanted]
    assert fetch_all([], lambda _request: status(200)) == []


def call(capsys: pytest.CaptureFixture[str], arguments: dict[str, t.Any]) -> dict[str, t.Any]:
    with patch_module_args(arguments), pytest.raises(SystemExit):
        module.main()
    result: dict[str, t.Any] = json.loads(capsys.readouterr().out)
    return result


def test_the_module_refuses_bad_input_before_it_starts(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    progress = tmp_path / "progress"
    result = call(capsys, {"gates": [{"metric": "errors", "op": "<", "value": "1%"}], "probes": [PROBE], "progress_file": str(progress)})
    assert result["failed"]
    assert result["problem"] == "gates[0].metric is 'errors', which is no metric."
    assert "error_rate" in result["remedy"]["pt_BR"]
    assert not progress.exists()
