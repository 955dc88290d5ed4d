"""Metrics that a user chose to gate, and success beside them."""

from __future__ import annotations

import pytest

from flightlog.analysis.gate.drift import compare
from flightlog.analysis.gate.metrics import METRICS, select_metrics
from flightlog.analysis.gate.verdict import Decision
from flightlog.analysis.reports.render import render
from flightlog.errors import UnknownNameError, UsageError


def gated(verdict):
    return [m.name for m in verdict.metrics if m.is_gated]


def by_name(verdict):
    return {m.name: m for m in verdict.metrics}


def test_exactly_the_chosen_metrics_gate_and_the_others_are_advisory(traces_of, pairs_of_runs):
    traces = traces_of(pairs_of_runs(10, 2, calls=5))
    verdict = compare(traces, gated=["stop_reason"])
    assert gated(verdict) == ["success", "stop_reason"]
    assert [m.name for m in verdict.metrics] == [m.name for m in METRICS]
    assert by_name(verdict)["tool_calls_per_run"].decision is Decision.DRIFT
    assert verdict.decision is not Decision.DRIFT
    assert verdict.exit_code() == 0
    assert verdict.chosen_gates == ("success", "stop_reason")
    assert compare(traces).exit_code() == 1


def test_tokens_gate_where_they_are_chosen(traces_of, pairs_of_runs):
    traces = traces_of(pairs_of_runs(10, 2, tokens=150))
    assert compare(traces).decision is not Decision.DRIFT
    verdict = compare(traces, gated=["tokens_per_request"])
    assert verdict.decision is Decision.DRIFT
    assert verdict.headline.startswith("DRIFT: tokens_per_request rose 50.0 %")


def test_a_candidate_that_stopped_succeeding_fails_whatever_was_chosen(traces_of, pairs_of_runs):
    verdict = compare(traces_of(pairs_of_runs(10, 2, passed=False)), gated=["latency_p95"])
    assert verdict.decision is Decision.DRIFT
    assert verdict.headline.startswith("DRIFT: success")


def test_success_that_nobody_recorded_neither_gates_nor_forbids_ok(traces_of, pairs_of_runs):
    runs = [{**run, "passed": None} for run in pairs_of_runs(30, 2)]
    verdict = compare(traces_of(runs), gated=["tool_calls_per_run"])
    assert gated(verdict) == ["tool_calls_per_run"]
    assert by_name(verdict)["success"].decision is Decision.UNAVAILABLE
    assert verdict.decision is Decision.OK
    assert compare(traces_of(runs), gated=["success"]).decision is Decision.INCONCLUSIVE


def test_success_that_only_the_baseline_recorded_forbids_ok(traces_of, pairs_of_runs):
    verdict = compare(traces_of(pairs_of_runs(30, 2, passed=None)), gated=["tool_calls_per_run"])
    assert verdict.decision is Decision.INCONCLUSIVE
    assert "success not recorded" in verdict.headline


def test_an_advisory_metric_without_values_forbids_nothing(traces_of, pairs_of_runs):
    runs = [{**run, "cost_usd": None} for run in pairs_of_runs(30, 2)]
    verdict = compare(traces_of(runs), gated=["tool_calls_per_run", "stop_reason"])
    assert verdict.decision is Decision.OK
    undecided = compare(traces_of(runs), gated=["cost_usd"])
    assert undecided.decision is Decision.INCONCLUSIVE
    assert "cost_usd not recorded" in undecided.headline


def test_the_error_rate_is_shared_by_the_gated_metrics_only(traces_of, pairs_of_runs):
    runs = pairs_of_runs(6, 2)
    for number, run in enumerate(run for run in runs if run["variant"] == "candidate"):
        run["calls"] = 6 if number % 2 else 4
    alone = by_name(compare(traces_of(runs), metrics=["tool_calls_per_run"]))
    of_two = by_name(compare(traces_of(runs), gated=["tool_calls_per_run", "success"]))
    of_all = by_name(compare(traces_of(runs), gated=[metric.name for metric in METRICS]))
    calls = [found["tool_calls_per_run"].p_worse for found in (alone, of_two, of_all)]
    assert calls[0] <= calls[1] <= calls[2]
    plain = by_name(compare(traces_of(runs), gated=["latency_p95"]))["tool_calls_per_run"]
    assert plain.p_worse == calls[0]


def test_latency_stays_advisory_without_a_shared_session(traces_of, pairs_of_runs):
    runs = pairs_of_runs(30, 2, session_id="another", latency_ms=[900.0], tokens=900)
    verdict = compare(traces_of(runs), gated=["latency_p95", "tokens_per_request", "stop_reason"])
    assert gated(verdict) == ["success", "stop_reason"]
    assert verdict.is_confounded
    together = compare(traces_of(runs), gated=["latency_p95"], interleaved=True)
    assert gated(together) == ["success", "latency_p95"]


def test_reports_tell_the_chosen_gates_from_the_others(traces_of, pairs_of_runs):
    verdict = compare(traces_of(pairs_of_runs(10, 2, calls=5)), gated=["stop_reason"])
    assert '"chosen_gates": [\n    "success",\n    "stop_reason"\n  ]' in render(verdict, "json")


def test_an_unknown_or_empty_choice_is_an_error(traces_of, pairs_of_runs):
    traces = traces_of(pairs_of_runs(2, 1))
    with pytest.raises(UnknownNameError, match="nearest: latency_p95"):
        compare(traces, gated=["latency_p59"])
    with pytest.raises(UsageError, match="no metric"):
        compare(traces, gated=[])


def test_the_table_of_metrics_itself_is_not_changed():
    chosen = select_metrics(None, gated=["tokens_per_request"])
    assert [metric.name for metric in chosen if metric.gates] == ["tokens_per_request"]
    assert select_metrics(None) == METRICS
