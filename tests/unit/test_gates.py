# SPDX-License-Identifier: GPL-3.0-or-later
"""Gates: every verdict, in the tester's own arithmetic."""

from __future__ import annotations

import typing as t

import hypothesis
import hypothesis.strategies as st
import pytest
from ansible_collections.lastro.deploy.plugins.module_utils._errors import LastroError
from ansible_collections.lastro.deploy.plugins.module_utils._gates import METRICS, Gate, Judge, Judgement, Sample, evaluate, parse_duration, parse_gates
from ansible_collections.lastro.deploy.plugins.module_utils._prometheus_text import Counters, Increase, parse

ALL = ("probes", "metrics_urls", "database")
START = 1_795_000_000.0


def gate(**raw: object) -> Gate:
    return parse_gates([{"metric": "error_rate", "op": "<=", "value": "10%", **raw}], sources=ALL, duration=3600)[0]


def judged(one: Gate, values: t.Iterable[float | None], *, interval: float = 30) -> Judgement:
    return evaluate([one], [Sample(START + index * interval, {one.metric: value}) for index, value in enumerate(values)])


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5m", 300),
        ("2m30s", 150),
        ("90s", 90),
        ("500ms", 0.5),
        ("1h", 3600),
        ("1d", 86400),
        ("1m500ms", 60.5),
        ("1.5s", 1.5),
        (7, 7),
        ("0.25", 0.25),
        (" 2s ", 2),
    ],
)
def test_durations(text: object, seconds: float) -> None:
    assert parse_duration(text, "for") == seconds


@pytest.mark.parametrize("text", ["", "5 m", "m", "5x", "-5s", "30s5m", "5m5m", True, None, "1,5s"])
def test_what_is_no_duration(text: object) -> None:
    with pytest.raises(LastroError) as caught:
        parse_duration(text, "deploy_watch.for")
    assert caught.value.message.startswith("deploy_watch.for is ")
    assert "2m30s" in caught.value.remedy.pt_BR


@pytest.mark.parametrize(
    ("metric", "value", "limit"),
    [
        ("error_rate", "10%", 0.1),
        ("error_rate", 0.1, 0.1),
        ("success_rate", "99.5%", 0.995),
        ("latency_p95", "2000ms", 2000),
        ("latency_p99", "2s", 2000),
        ("latency_p99", 1500, 1500),
        ("db_deadlocks_delta", 0, 0),
        ("db_connection_use", "80%", 0.8),
    ],
)
def test_limits(metric: str, value: object, limit: float) -> None:
    assert gate(metric=metric, value=value).limit == pytest.approx(limit)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"metric": "error_rat"}, "no metric"),
        ({"op": "=<"}, "gates[0].op"),
        ({"value": "ten"}, "gates[0].value"),
        ({"value": "10"}, "gates[0].value is '10'"),
        ({"value": "2000ms"}, "gates[0].value"),
        ({"value": True}, "gates[0].value"),
        ({"metric": "latency_p95", "value": "10%"}, "gates[0].value"),
        ({"metric": "probe_failures", "value": "2s"}, "gates[0].value"),
        ({"for": "soon"}, "gates[0].for"),
        ({"for": "2h"}, "never be breached"),
        ({"min_samples": -1}, "min_samples"),
    ],
)
def test_a_gate_that_could_not_be_judged_is_refused(changes: dict[str, t.Any], words: str) -> None:
    with pytest.raises(LastroError) as caught:
        gate(**changes)
    assert words in caught.value.message
    assert caught.value.remedy.en
    assert caught.value.remedy.pt_BR


def test_no_gates_and_doubled_names_are_refused() -> None:
    one = {"metric": "requests", "op": ">", "value": 0}
    with pytest.raises(LastroError, match="empty"):
        parse_gates([], sources=ALL, duration=60)
    with pytest.raises(LastroError, match="several"):
        parse_gates([one, one], sources=ALL, duration=60)


@pytest.mark.parametrize("metric", sorted(METRICS))
def test_a_metric_without_a_source_is_refused(metric: str) -> None:
    with pytest.raises(LastroError, match="has no"):
        parse_gates([{"metric": metric, "op": "<", "value": "0"}], sources=(), duration=60)


def test_ten_percent_for_two_minutes() -> None:
    one = gate(**{"for": "2m"})
    # Evaluations every 30 s: the fifth in a row is the first that is two minutes after the first.
    assert judged(one, [0, 0.2, 0.2, 0.2, 0.2, 0]).verdict == "pass"
    failed = judged(one, [0, 0.2, 0.2, 0.6, 0.2, 0.2, 0]).gates[0]
    assert (failed.verdict, failed.cause, failed.worst, failed.samples) == ("fail", "breach", 0.6, 7)
    assert failed.breached_from == "2026-11-18T11:07:10.000000Z"  # date -u -d @1795000030: the second evaluation
    assert judged(one, [0.2, 0.2, 0.2, 0.05, 0.2, 0.2, 0.2, 0]).verdict == "pass"
    assert judged(one, [0.07] * 20).verdict == "pass"


def test_without_a_span_one_evaluation_is_enough() -> None:
    assert judged(gate(), [0, 0, 0.11, 0]).action == "rollback"


def test_a_breach_at_the_end_is_pending() -> None:
    result = judged(gate(**{"for": "2m"}), [0, 0, 0.5]).gates[0]
    assert (result.verdict, result.cause, result.action) == ("inconclusive", "pending", "consider")


def test_an_unknown_value_neither_ends_nor_fills_a_breach() -> None:
    one = gate(**{"for": "2m"})
    assert judged(one, [0.2, None, None, None, 0.2]).verdict == "fail"
    assert judged(one, [0.2, None, None, None]).gates[0].cause == "pending"
    gap = judged(one, [0.2, None, None, None, None, 0.2]).gates[0]
    assert (gap.verdict, gap.cause) == ("inconclusive", "no_data")


@pytest.mark.parametrize(
    ("answer", "verdict", "action"), [("inconclusive", "inconclusive", "consider"), ("fail", "fail", "rollback"), ("pass", "pass", "none")]
)
@pytest.mark.parametrize("values", [[], [None], [0.0, None, None, None, None, 0.0], [None] * 9])
def test_no_data_is_never_a_pass_unless_said(values: list[float | None], answer: str, verdict: str, action: str) -> None:
    judgement = judged(gate(on_no_data=answer), values)
    assert (judgement.verdict, judgement.action) == (verdict, action)


def test_min_samples() -> None:
    one = gate(min_samples=3)
    assert judged(one, [0, 0]).gates[0].cause == "no_data"
    assert judged(one, [0.5, 0.5]).verdict == "inconclusive"
    assert judged(one, [0.5, 0.5, 0.5]).verdict == "fail"
    assert judged(one, [0.5, 0, 0]).verdict == "pass"


@pytest.mark.parametrize(
    ("op", "value", "values", "worst"),
    [("<", "3", [1, 2, 0], 2), ("<=", "3", [1, 2], 2), (">", "3", [9, 4, 7], 4), (">=", "3", [9, 4], 4), ("==", "3", [3, 1, 4], 1), ("!=", "3", [9, 4, 1], 4)],
)
def test_worst_is_the_value_nearest_to_or_furthest_beyond_the_limit(op: str, value: str, values: list[float], worst: float) -> None:
    assert judged(gate(metric="requests", op=op, value=value), values).gates[0].worst == worst


def test_the_run_is_as_bad_as_its_worst_gate_and_acts_on_the_strongest() -> None:
    raw: list[dict[str, object]] = [
        {"name": "a", "metric": "error_rate", "op": "<=", "value": "10%", "on_breach": "warn"},
        {"name": "b", "metric": "requests", "op": ">", "value": 5, "on_breach": "consider"},
        {"name": "c", "metric": "latency_p95", "op": "<", "value": "1s", "on_breach": "warn"},
    ]
    gates = parse_gates(raw, sources=ALL, duration=60)
    bad = {"error_rate": 0.5, "requests": 9.0}
    assert evaluate(gates, [Sample(START, bad)]).verdict == "fail"
    assert evaluate(gates, [Sample(START, bad)]).action == "warn"
    assert evaluate(gates, [Sample(START, {**bad, "requests": 1.0})]).action == "consider"
    assert evaluate(gates, [Sample(START, {"error_rate": 0.0, "requests": 9.0})]).action == "warn"  # c has no data


def test_a_rollback_is_certain_before_the_end_also_where_no_data_fails() -> None:
    judge = Judge([gate(on_no_data="fail")])
    for index in range(4):
        assert not judge.must_roll_back
        judge.observe(Sample(START + index, {}))
    assert judge.must_roll_back
    considering = Judge([gate(on_breach="consider")])
    considering.observe(Sample(START, {"error_rate": 1.0}))
    assert not considering.must_roll_back


@hypothesis.given(st.lists(st.one_of(st.none(), st.sampled_from([0.0, 0.05, 0.2, 1.0])), max_size=25), st.integers(1, 6), st.integers(1, 4))
def test_verdict_is_that_of_a_plain_reading_of_the_rule(values: list[float | None], hold: int, least: int) -> None:
    """The same rule once more, written as a search over all spans instead of a state machine."""
    verdict = judged(gate(**{"for": f"{hold}s", "min_samples": least}), values, interval=1).verdict
    gap = "".join("-" if value is None else "x" for value in values)

    def breached(first: int, last: int) -> bool:
        span = values[first : last + 1]
        known = [value for value in span if value is not None]
        ends = values[first] is not None and values[last] is not None
        counted = sum(value is not None for value in values[: last + 1]) >= least
        return ends and counted and last - first >= hold and min(known) > 0.1 and "----" not in gap[first : last + 1]

    if any(breached(first, last) for last in range(len(values)) for first in range(last + 1)):
        assert verdict == "fail"
    elif "----" in gap or gap.count("x") < least or next((value for value in reversed(values) if value is not None), 0) > 0.1:
        assert verdict == "inconclusive"
    else:
        assert verdict == "pass"


SCRAPE = """# HELP http_requests_total Requests.
# TYPE http_requests_total counter
http_requests_total{method="GET",status="200"} 100
http_requests_total{status="500",method="GET"} 2 1795000000000
http_requests_total{status="404",path="/a \\"b\\\\ \\n,}"} 1e1 # {trace_id="x"} 1
 up 1
odd{} NaN
# EOF
"""


def test_prometheus_text() -> None:
    series = parse(SCRAPE)
    assert [(one.name, one.value) for one in series[:4]] == [
        ("http_requests_total", 100),
        ("http_requests_total", 2),
        ("http_requests_total", 10),
        ("up", 1),
    ]
    assert series[1].label("status") == "500"
    assert series[2].label("path") == '/a "b\\ \n,}'
    assert series[3].label("status") == ""


@pytest.mark.parametrize("text", ["<html>", "a{b=c} 1", 'a{b="c" 1', "a", "a b", 'a{b="c"}'])
def test_what_is_no_prometheus_text(text: str) -> None:
    with pytest.raises(ValueError, match="line 2"):
        parse(f"up 1\n{text}\n")


def test_counters_over_scrapes() -> None:
    counters = Counters("n", "code")
    assert counters.update('n{code="200"} 100\nn{code="500"} 5\nother 9') is None
    assert counters.update('n{code="200"} 110\nn{code="500"} 6') == Increase(10, 1)
    assert counters.update('n{code="200"} 4\nn{code="500"} 6\nn{code="503"} 2') == Increase(4, 2)  # 200 started again, 503 is new
    assert counters.update('n{code="200"} NaN') == Increase(0, 0)
    assert not counters.present
    assert counters.update('n{code="5xx"} 3\nn{code="2xx"} 1') == Increase(1, 3)
    assert counters.present
