"""Comparisons that are too small, too odd or hostile: each has a verdict or an error that says
what to do."""

from __future__ import annotations

import math

import numpy as np
import pytest

from flightlog.analysis.gate.drift import compare
from flightlog.analysis.gate.verdict import Decision
from flightlog.analysis.reports.render import FORMS, render
from flightlog.errors import NothingToCompareError, UnknownNameError


def by_name(verdict):
    return {m.name: m for m in verdict.metrics}


def test_fewer_than_6_tasks_are_never_ok_and_say_how_many_are_needed(traces_of, pairs_of_runs):
    verdict = compare(traces_of(pairs_of_runs(5, 8)))
    assert verdict.decision is Decision.INCONCLUSIVE
    calls = by_name(verdict)["tool_calls_per_run"]
    assert calls.reason == "5 tasks are fewer than the 6 that OK needs"
    assert calls.advice == "needs at least 6 tasks"


def test_fewer_than_6_tasks_can_still_drift(traces_of, pairs_of_runs):
    verdict = compare(traces_of(pairs_of_runs(5, 3, calls=12)))
    assert by_name(verdict)["tool_calls_per_run"].decision is Decision.DRIFT


def test_too_few_runs_for_any_test_say_how_many_are_needed(traces_of, pairs_of_runs):
    verdict = compare(traces_of(pairs_of_runs(3, 1, calls=40)))
    calls = by_name(verdict)["tool_calls_per_run"]
    assert (calls.decision, calls.reason) == (
        Decision.INCONCLUSIVE, "too few runs for any test",
    )  # fmt: skip
    assert calls.advice == "needs at least 2 trials per task on both sides for any test"


def test_one_trial_of_many_tasks_is_a_comparison(traces_of, pairs_of_runs):
    verdict = compare(traces_of(pairs_of_runs(40, 1, calls=6)))
    assert by_name(verdict)["tool_calls_per_run"].decision is Decision.DRIFT
    assert by_name(compare(traces_of(pairs_of_runs(40, 1))))["tool_calls_per_run"].decision is (
        Decision.OK
    )


def test_values_that_are_all_equal_are_ok_with_bounds_of_no_width(traces_of, pairs_of_runs):
    found = by_name(compare(traces_of(pairs_of_runs(30, 2))))
    for name in ("tool_calls_per_run", "cost_usd", "latency_p95"):
        assert (found[name].decision, found[name].lower, found[name].upper) == (
            Decision.OK, pytest.approx(1.0), pytest.approx(1.0),
        )  # fmt: skip


def test_a_side_without_runs_exits_2_and_says_what_there_is(traces_of, pairs_of_runs):
    only = [run for run in pairs_of_runs(6, 1) if run["variant"] == "baseline"]
    with pytest.raises(UnknownNameError, match=r"nearest: baseline|known: baseline"):
        compare(traces_of(only))
    other = [{**run, "suite": run["variant"]} for run in pairs_of_runs(6, 1)]
    with pytest.raises(NothingToCompareError, match="no task has finished runs on both sides"):
        compare(traces_of(other))


@pytest.mark.parametrize("cost", [math.nan, -1.0, math.inf])
def test_a_cost_that_cannot_be_is_unknown_and_not_a_saving(traces_of, pairs_of_runs, cost):
    verdict = compare(traces_of(pairs_of_runs(30, 2, cost_usd=cost)))
    found = by_name(verdict)["cost_usd"]
    assert found.decision is Decision.UNAVAILABLE
    assert found.reason == "unknown or 0 in 100% of the runs of the candidate"
    assert "prices:" in found.advice
    assert verdict.decision is Decision.INCONCLUSIVE


def test_a_task_with_10_000_trials_counts_as_one_task(traces_of, pairs_of_runs):
    runs = pairs_of_runs(30, 2)
    first = [run for run in runs if run["task_id"] == "task-00"]
    many = [
        {**first[n % len(first)], "run_id": f"many-{n}", "calls": 5, "latency_ms": [100.0]}
        for n in range(10_000)
    ]
    verdict = compare(traces_of([*runs, *many]))
    assert (verdict.task_count, verdict.baseline_runs) == (30, 5_060)
    calls = by_name(verdict)["tool_calls_per_run"]
    assert calls.decision is Decision.OK
    assert calls.change == pytest.approx(1.0, abs=0.01)


def test_one_task_100_times_heavier_does_not_alarm_when_nothing_changed(traces_of, pairs_of_runs):
    alarms = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        runs = []
        for run in pairs_of_runs(12, 2):
            heavy = 100 if run["task_id"] == "task-00" else 1
            calls = int(rng.poisson(6) * heavy) if heavy == 1 else int(rng.normal(600, 150))
            runs.append({**run, "calls": max(1, calls), "cost_usd": 0.01 * heavy})
        verdict = compare(traces_of(runs), metrics=["tool_calls_per_run"], shuffles=999)
        alarms += verdict.decision is Decision.DRIFT
    # 5 % and two standard errors of a share over 40.
    assert alarms / 40 <= 0.05 + 2 * 0.0345


def test_one_run_100_times_heavier_is_a_listed_spike_and_not_a_drift(traces_of, pairs_of_runs):
    runs = pairs_of_runs(30, 2)
    runs[1]["calls"] = 400
    verdict = compare(traces_of(runs), metrics=["tool_calls_per_run"])
    assert verdict.decision is not Decision.DRIFT
    assert [spike.tool_calls for spike in verdict.spikes] == [400]


def test_names_with_escapes_and_markdown_reach_no_report_as_such(traces_of, pairs_of_runs, hostile):
    runs = [{**run, "task_id": hostile + run["task_id"]} for run in pairs_of_runs(12, 2, calls=9)]
    verdict = compare(traces_of(runs))
    for form in FORMS:
        text = render(verdict, form)
        assert "\x1b" not in text
        assert "\u202e" not in text
    for form in ("md", "html"):
        assert "<script>" not in render(verdict, form)


def test_tools_with_hostile_names_are_explained_without_harm(traces_of, pairs_of_runs, hostile):
    runs = pairs_of_runs(12, 2, calls=9)
    traces = traces_of([{**run, "tool_name": hostile} for run in runs])
    verdict = compare(traces)
    assert verdict.explanations
    assert "\x1b" not in render(verdict, "text")
