"""Metrics of your own: SQL expressions over the views."""

from __future__ import annotations

import numpy as np
import pytest

from flightlog.analysis.gate.drift import compare
from flightlog.analysis.gate.table import gated_of, metric_table
from flightlog.analysis.gate.verdict import Decision
from flightlog.config import load_config
from flightlog.errors import ConfigError, UnknownNameError, UsageError


def on(traces, text, name="mine"):
    table = metric_table(defined={name: text})
    [found] = compare(traces, metrics=[m for m in table if m.name == name]).metrics
    return found


def test_an_expression_over_the_calls_of_a_run_is_compared_like_a_built_in_metric(
    traces_of, pairs_of_runs
):
    traces = traces_of(pairs_of_runs(12, 2, calls=6))
    found = on(traces, "count(*) FILTER (WHERE tool_name = 'search') FROM tool_calls")
    assert found.decision is Decision.DRIFT
    assert (found.baseline, found.candidate, found.change) == (4.0, 6.0, 1.5)


def test_a_column_of_runs_needs_no_aggregate(traces_of, pairs_of_runs):
    found = on(traces_of(pairs_of_runs(12, 2, calls=6)), "tool_calls * 2")
    assert (found.baseline, found.candidate) == (8.0, 12.0)


def test_a_run_without_rows_counts_0_and_has_no_average(traces_of, pairs_of_runs):
    traces = traces_of(pairs_of_runs(12, 2, calls=0))
    assert on(traces, "count(*) FROM tool_calls").candidate == 0.0
    unknown = on(traces, "avg(step) FROM tool_calls")
    assert unknown.decision is Decision.UNAVAILABLE


@pytest.mark.parametrize(
    ("text", "problem", "hint"),
    [
        ("count(*", "is no SQL", "Write one expression"),
        ("count(*) FRM tool_calls", "is no SQL", "Write one expression"),
        ("1; DROP TABLE runs", "is 2 statements", "Write one expression"),
        ("1, 2", "is 2 expressions", "Write one expression"),
        ("1 FROM runs WHERE true", "is a whole query", "Write one expression"),
        ("nonsense FROM tool_calls", "unknown column 'nonsense'", ""),
        ("tool_name FROM tool_calls", "fails", "aggregate them"),
        ("count(*)", "fails", "write the column alone"),
        ("(SELECT count(*) FROM read_csv('/etc/passwd'))", "out of reach", "tables: runs"),
        ("agent", "fails", ""),
        ("-1.5 - tool_calls", "gives -5.5", "greatest(0"),
    ],
)
def test_an_expression_that_is_none_says_what_to_write(
    traces_of, pairs_of_runs, text, problem, hint
):
    runs = pairs_of_runs(6, 1, agent="anna")
    with pytest.raises(ConfigError) as caught:
        on(traces_of([{"agent": "bob", **run} for run in runs]), text)
    assert problem in caught.value.what
    assert hint in caught.value.hint
    assert "mine" in caught.value.what


def test_a_comment_at_the_end_of_an_expression_hides_nothing(traces_of, pairs_of_runs):
    assert on(traces_of(pairs_of_runs(6, 1)), "tool_calls -- all of them").baseline == 4.0


@pytest.mark.parametrize(
    ("name", "text", "error"),
    [
        ("Search-es", "1", UsageError),
        ("cost_usd", "1", UsageError),
        ("mine", "1 FROM elsewhere", UnknownNameError),
    ],
)
def test_a_definition_has_a_free_name_and_a_known_view(name, text, error):
    with pytest.raises(error):
        metric_table(defined={name: text})


@pytest.mark.parametrize("tolerance", [0, -0.1, 1000, np.nan])
def test_a_tolerance_is_a_share(tolerance):
    with pytest.raises(UsageError, match="A share above 0"):
        metric_table(tolerances={"cost_usd": tolerance})


def test_a_tolerance_of_no_metric_names_the_nearest():
    with pytest.raises(UnknownNameError, match="nearest: cost_usd"):
        metric_table(tolerances={"cost_us": 0.1})


FILE = """\
monitoring:
  track: [tool_calls_per_run, passes]
  metrics:
    tool_calls_per_run: {tolerance: 0.5}
    cost_usd: {gate: true}
    passes: {sql: "success::INT", kind: points, worse: lower, tolerance: 0.2}
    slow:
      sql: CASE WHEN actor = 'agent' THEN latency_ms END  # nulls do not count
      from: model_calls
      kind: p95
      unit: ms
"""


def table_of(tmp_path, text=FILE):
    path = tmp_path / "flightlog.yaml"
    path.write_text(text)
    config = load_config(path)
    return metric_table(config), gated_of(config)


def test_settings_change_tolerances_and_add_metrics(tmp_path, traces_of, pairs_of_runs):
    table, gated = table_of(tmp_path)
    assert gated == {"tool_calls_per_run", "passes", "cost_usd"}
    runs = pairs_of_runs(12, 2, calls=5, passed=False, latency_ms=[100.0, 900.0])
    verdict = compare(traces_of(runs), metrics=table, gated=gated)
    found = {m.name: m for m in verdict.metrics}
    assert found["tool_calls_per_run"].tolerance == 0.5
    assert found["tool_calls_per_run"].decision is Decision.OK
    assert (found["passes"].change, found["passes"].decision) == (-1.0, Decision.DRIFT)
    assert (found["slow"].candidate, found["slow"].is_gated) == (900.0, False)
    assert "success" in verdict.chosen_gates


def test_less_is_worse_where_a_metric_says_so(tmp_path, traces_of, pairs_of_runs):
    text = "monitoring: {metrics: {calls: {sql: tool_calls, worse: lower, tolerance: 0.1}}}\n"
    table, _ = table_of(tmp_path, text)
    [mine] = [m for m in table if m.name == "calls"]
    [fell] = compare(traces_of(pairs_of_runs(12, 2, calls=3)), metrics=[mine]).metrics
    assert (fell.decision, fell.strength) == (Decision.DRIFT, "confirmed")
    assert (fell.change, fell.lower, fell.upper) == pytest.approx((0.75, 0.75, 0.75))
    assert fell.reason == "fell 25.0 %"
    [rose] = compare(traces_of(pairs_of_runs(12, 2, calls=6)), metrics=[mine]).metrics
    assert rose.decision is Decision.IMPROVED
    [zero] = compare(traces_of(pairs_of_runs(12, 2, calls=0)), metrics=[mine]).metrics
    assert zero.reason == "fell to 0"


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("metrics:\n    cost_usd: {sql: '1'}\n", 3, "sql of a metric that is built in"),
        ("metrics:\n    mine: {tolerance: 0.1}\n", 3, "sql is missing"),
        ("metrics:\n    Mine: {sql: '1'}\n", 3, "no name of a metric"),
        ("metrics:\n    m: {sql: '1', from: nowhere}\n", 3, "'nowhere' is unknown"),
        ("metrics:\n    m: {sql: '1', kind: points, tolerance: 1}\n", 3, "lets everything pass"),
        ("metrics:\n    m: {sql: '1', tolerance: 0}\n", 3, "not above 0"),
        ("track: [searches]\n", 2, "'searches' is unknown"),
    ],
)
def test_settings_of_metrics_that_mean_nothing_name_their_line(tmp_path, text, line, message):
    with pytest.raises(ConfigError, match=message) as caught:
        table_of(tmp_path, f"monitoring:\n  {text}")
    assert caught.value.where.endswith(f":{line}")
