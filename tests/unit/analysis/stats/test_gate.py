"""The gate as a whole: the degenerate cases, validity, and what leaves a metric out."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest

from flightlog.analysis.gate.metrics import METRICS, select_metrics
from flightlog.analysis.gate.verdict import Decision, Strength
from flightlog.analysis.stats.decide import Settings
from flightlog.analysis.stats.gate import judge
from flightlog.analysis.stats.sample import Column, Series
from flightlog.analysis.stats.scores import midranks, ratio_scores

CALLS = "tool_calls_per_run"


def by_name(judgement):
    return {m.name: m for m in judgement.metrics}


# What must come out when little or nothing varies.


def test_all_equal_is_ok_with_bounds_at_one(sample_of):
    found = by_name(judge(sample_of([[7, 7]] * 30, [[7, 7]] * 30), METRICS, Settings()))
    known = {name for name, m in found.items() if m.decision is not Decision.UNAVAILABLE}
    assert {found[name].decision for name in known} == {Decision.OK}
    assert known >= {"success", CALLS, "cost_usd", "latency_p95", "stop_reason", "stop_mix"}
    for name in (CALLS, "tokens_per_request", "cost_usd", "latency_p95"):
        assert (found[name].lower, found[name].upper) == pytest.approx((1.0, 1.0))


def test_all_equal_with_eight_runs_is_inconclusive_for_want_of_runs(sample_of, judged):
    found = judged(sample_of([[7]] * 8, [[7]] * 8))
    assert found.decision is Decision.INCONCLUSIVE
    assert "8 candidate runs are fewer than the 20" in found.reason
    assert "at least 3 trials" in found.advice


def test_one_call_more_in_every_task_is_a_confirmed_drift(sample_of, judged):
    found = judged(sample_of([[7, 7]] * 30, [[8, 8]] * 30))
    assert (found.decision, found.strength) == (Decision.DRIFT, Strength.CONFIRMED)
    assert (found.lower, found.change, found.upper) == pytest.approx([8 / 7] * 3)


def test_one_call_more_in_a_single_run_is_ok(sample_of, judged):
    assert judged(sample_of([[7, 7]] * 30, [[8, 7]] + [[7, 7]] * 29)).decision is Decision.OK


def test_a_rise_from_zero_is_a_drift_without_a_ratio(sample_of, judged):
    found = judged(sample_of([[0, 0]] * 30, [[1, 1]] * 30))
    assert found.decision is Decision.DRIFT
    assert found.change == math.inf
    assert found.reason == "rose from 0"


@pytest.mark.parametrize(("tasks", "smallest"), [(3, 0.125), (4, 0.0625)])
def test_too_few_pairs_for_any_test_are_inconclusive(sample_of, tasks, smallest):
    sample = sample_of([[5]] * tasks, [[15]] * tasks)
    judgement = judge(sample, select_metrics([CALLS]), Settings())
    [found] = judgement.metrics
    assert judgement.method.min_p == smallest
    assert found.decision is Decision.INCONCLUSIVE
    assert found.advice == "needs at least 2 trials per task on both sides for any test"


@pytest.mark.parametrize(("tasks", "trials"), [(5, 1), (3, 3), (1, 5)])
def test_a_threefold_rise_is_a_drift_as_soon_as_it_can_be(sample_of, judged, tasks, trials):
    found = judged(sample_of([[5] * trials] * tasks, [[15] * trials] * tasks))
    assert found.decision is Decision.DRIFT


def test_one_huge_run_is_inconclusive_and_listed(sample_of):
    sample = sample_of([[7, 8]] * 30, [[700, 8]] + [[7, 8]] * 29)
    judgement = judge(sample, select_metrics([CALLS]), Settings())
    assert judgement.metrics[0].decision is Decision.INCONCLUSIVE
    assert sample.values[CALLS][judgement.storms.rows].tolist() == [700.0]


def test_one_huge_task_is_inconclusive_and_listed(sample_of):
    sample = sample_of([[7, 8]] * 30, [[700, 700]] + [[7, 8]] * 29)
    judgement = judge(sample, select_metrics([CALLS]), Settings())
    assert judgement.metrics[0].decision is Decision.INCONCLUSIVE
    assert len(judgement.storms.rows) == 2


def test_six_tasks_that_now_fail_are_a_drift_of_success(sample_of, judged):
    passes = np.ones(120)
    passes[:24].reshape(6, 4)[:, 2:] = 0
    sample = sample_of([[7, 7]] * 30, [[7, 7]] * 30, values={"success": passes})
    found = judged(sample, "success")
    assert found.decision is Decision.DRIFT
    assert (found.baseline, found.candidate, found.change) == pytest.approx((1.0, 0.8, -0.2))
    assert found.lower <= found.change <= found.upper


def test_three_storms_are_a_drift_and_two_are_not_ok(sample_of, judged):
    def stormy(spikes):
        candidate = [[80, 7]] * spikes + [[7, 7]] * (50 - spikes)
        return judged(sample_of([[7, 7]] * 50, candidate))

    assert stormy(3).decision is Decision.DRIFT
    assert stormy(3).reason.startswith("storm: 3 candidate runs")
    assert stormy(2).decision is Decision.INCONCLUSIVE


def test_fewer_calls_are_an_improvement(sample_of, judged):
    found = judged(sample_of([[8, 8]] * 30, [[5, 5]] * 30))
    assert found.decision is Decision.IMPROVED
    assert found.reason == "fell 37.5 %"


# Validity.


def test_p_of_paired_runs_equals_the_enumeration_of_all_sign_flips(sample_of):
    rng = np.random.default_rng(4)
    base, cand = np.exp(rng.normal(2, 0.5, (2, 9))), None
    base, cand = base[0], base[0] * np.exp(rng.normal(0.25, 0.4, 9))
    sample = sample_of([[b] for b in base], [[c] for c in cand])
    column = Column.of(sample, sample.values[CALLS])
    aligned = ratio_scores(sample, column.pooled, column.in_use, 1.0)[:, 2].reshape(9, 2)
    difference = aligned[:, 1] - aligned[:, 0]
    flips = [
        sum(s * d for s, d in zip(signs, difference, strict=True))
        for signs in itertools.product((1, -1), repeat=9)
    ]
    exact = np.mean(np.array(flips) >= difference.sum() - 1e-9)
    logs = np.log(np.column_stack([base, cand]) + 1)
    ranks = midranks(np.round(logs - logs.mean(axis=1, keepdims=True), 9).ravel())
    assert aligned.ravel() == pytest.approx(ranks)
    assert exact == pytest.approx(p_of_one_score(sample, aligned.ravel()))


def p_of_one_score(sample, score):
    from flightlog.analysis.stats.family import tail_shares
    from flightlog.analysis.stats.labellings import Labellings
    from flightlog.analysis.stats.scores import largest

    labellings = Labellings(sample.task, sample.is_candidate, shuffles=4_999, seed=0)
    assert labellings.is_exact
    weighted = (score * sample.swing)[labellings.order]
    sums = np.concatenate([labels @ weighted for _, labels in labellings.blocks()])
    return tail_shares(largest(sums[:, None], tail=1)[:, None])[0, 0]


def test_unchanged_suites_seldom_drift(suite_of):
    settings = Settings(shuffles=499)
    alarms = [
        any(
            m.is_gated and m.decision is Decision.DRIFT for m in judge(s, METRICS, settings).metrics
        )
        for s in (suite_of(seed, 30, 2) for seed in range(60))
    ]
    assert sum(alarms) <= 9  # 5 % of 60 is 3; above 9 by chance once in 1,000


@pytest.mark.parametrize(
    ("effect", "metric"),
    [({"calls": 1.4}, CALLS), ({"cost": 1.8}, "cost_usd"), ({"latency": 2.0}, "latency_p95")],
)
def test_large_changes_are_found(suite_of, effect, metric):
    settings = Settings(shuffles=499)
    found = [
        by_name(judge(suite_of(seed, 40, 3, **effect), METRICS, settings))[metric].decision
        for seed in range(12)
    ]
    assert found.count(Decision.DRIFT) >= 11


def test_bounds_of_a_ratio_cover_the_truth(sample_of, judged):
    rng = np.random.default_rng(8)
    above, below = [], []
    for _ in range(300):
        level = np.exp(rng.normal(2, 0.6, (20, 1)))
        values = level * np.exp(rng.normal(0, 0.4, (20, 4)))
        sample = sample_of(values[:, :2].tolist(), (1.3 * values[:, 2:]).tolist())
        found = judged(sample, shuffles=199)
        above.append(found.lower <= 1.3)
        below.append(found.upper >= 1.3)
    assert 0.91 <= np.mean(above) <= 0.985
    assert 0.91 <= np.mean(below) <= 0.985


@pytest.mark.parametrize("factor", [1.0, 1.5])
def test_bounds_of_latency_cover_the_truth_in_small_suites(suite_of, judged, factor):
    covered = []
    for seed in range(200):
        found = judged(suite_of(seed, 20, 2, latency=factor), "latency_p95", shuffles=999)
        covered.append((found.lower <= factor, found.upper >= factor))
    # Two standard errors of a share of 0.95 over 200 suites are 0.031.
    assert np.mean(covered, axis=0).min() >= 0.95 - 0.031


def timed(sample, latency_ms):
    series = Series(sample.series["latency_p95"].run, latency_ms)
    return dataclasses.replace(sample, series={"latency_p95": series})


def test_bounds_of_latency_use_every_labelling_of_a_small_suite(sample_of, judged):
    sample = sample_of([[1] * 4] * 2, [[1] * 4] * 2)
    spread = np.exp(np.random.default_rng(1).normal(0, 0.5, 8))
    slow_last = np.concatenate([100 + np.arange(8) / 100, 1000 * spread])
    swapped = np.concatenate([1000 * spread, 100 + np.arange(8) / 100])
    last = judged(timed(sample, slow_last), "latency_p95")
    first = judged(timed(sample, swapped), "latency_p95")
    assert (last.lower, last.upper) == pytest.approx((first.lower, first.upper))


def test_the_same_data_give_the_same_verdicts(suite_of):
    first, again = (judge(suite_of(3, 25, 2), METRICS, Settings()) for _ in range(2))
    assert first.metrics == again.metrics
    assert first.method == again.method


def test_the_unit_of_a_metric_does_not_matter(suite_of, judged):
    sample = suite_of(3, 25, 2, cost=1.3)
    cents = dataclasses.replace(
        sample, values={**sample.values, "cost_usd": sample.values["cost_usd"] * 100}
    )
    one, other = judged(sample, "cost_usd"), judged(cents, "cost_usd")
    assert one.p_worse == other.p_worse
    assert (one.change, one.lower, one.upper) == pytest.approx(
        (other.change, other.lower, other.upper)
    )


# What a metric needs, and what makes it advisory.


def without(sample, name, rows, value=np.nan):
    values = sample.values[name].copy()
    values[rows] = value
    return dataclasses.replace(sample, values={**sample.values, name: values})


@pytest.mark.parametrize("value", [np.nan, 0.0])
def test_a_cost_unknown_or_zero_in_half_an_arm_is_unavailable(suite_of, judged, value):
    sample = suite_of(1, 30, 2)
    rows = np.flatnonzero(sample.is_candidate)[::2]
    found = judged(without(sample, "cost_usd", rows, value), "cost_usd")
    assert found.decision is Decision.UNAVAILABLE
    assert found.reason == "unknown or 0 in 50% of the runs of the candidate"


def test_zero_calls_are_zero_calls(sample_of, judged):
    assert judged(sample_of([[0, 0]] * 30, [[0, 0]] * 30)).decision is Decision.OK


def test_a_metric_unknown_everywhere_is_unavailable(suite_of, judged):
    sample = suite_of(1, 30, 2)
    everyone = np.arange(sample.task.size)
    assert judged(without(sample, "success", everyone), "success").decision is Decision.UNAVAILABLE
    silent = without(sample, "stop_reason", everyone)
    assert judged(silent, "stop_reason").decision is Decision.UNAVAILABLE


def test_calls_without_latency_make_latency_unavailable(suite_of):
    sample = suite_of(1, 30, 2)
    [latency] = select_metrics(["latency_p95"])
    known = sample.series["latency_p95"]
    candidates = known.run[sample.is_candidate[known.run]]
    half = Series(known.run, known.value, unknown_run=candidates)
    untimed = dataclasses.replace(sample, series={"latency_p95": half})
    [found] = judge(untimed, [latency], Settings()).metrics
    assert found.decision is Decision.UNAVAILABLE
    assert found.reason == "not timed in 50% of the runs of the candidate"
    none = dataclasses.replace(sample, series={})
    assert judge(none, [latency], Settings()).metrics[0].decision is Decision.UNAVAILABLE


def test_a_few_unknown_values_cost_power_only(suite_of, judged):
    sample = suite_of(1, 40, 3, cost=2.0)
    found = judged(without(sample, "cost_usd", np.arange(0, 60, 7)), "cost_usd")
    assert found.decision is Decision.DRIFT
    assert found.baseline_runs + found.candidate_runs == sample.task.size - 9


def test_a_cost_of_zero_in_some_runs_is_no_improvement(sample_of, judged):
    sample = sample_of([[4] * 5] * 30, [[4] * 5] * 30)
    is_zero = np.tile([0] * 5 + [1, 1, 0, 0, 0], 30) == 1
    cost = np.where(is_zero, 0.0, sample.values["cost_usd"])
    zeros = dataclasses.replace(sample, values={**sample.values, "cost_usd": cost})
    found = judged(zeros, "cost_usd")
    assert found.decision is Decision.OK
    assert found.change == pytest.approx(1.0)
    assert found.candidate_runs == 90


def test_bounds_cover_the_truth_when_many_values_are_unknown(suite_of, judged):
    covered = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        sample = suite_of(seed, 20, 3)
        cost = np.exp(rng.normal(0, 0.5, sample.task.size))
        cost[sample.is_candidate & (rng.random(cost.size) < 0.4)] = np.nan
        if np.isnan(cost[sample.is_candidate]).mean() >= 0.5:
            continue
        holed = dataclasses.replace(sample, values={**sample.values, "cost_usd": cost})
        found = judged(holed, "cost_usd", shuffles=999)
        covered.append((found.lower <= 1, found.upper >= 1))
    # Two standard errors of a share of 0.95 over 200 suites are 0.031.
    assert np.mean(covered, axis=0).min() >= 0.95 - 0.031


def test_more_trials_than_there_are_is_the_least_that_is_advised(sample_of, judged):
    found = judged(sample_of([[4]] * 50, [[4]] * 50), "success")
    assert found.decision is Decision.INCONCLUSIVE
    assert found.advice == (
        "about 2 trials per task on both sides would settle it, or 2 of the candidate alone"
    )


def test_latency_and_cost_are_advisory_without_a_shared_session(suite_of):
    apart = dataclasses.replace(suite_of(1, 30, 2, cost=3.0, latency=3.0), session=None)
    judgement = judge(apart, METRICS, Settings())
    gated = {m.name for m in judgement.metrics if m.is_gated}
    assert gated == {"success", CALLS, "stop_reason", "tool_mix"}
    assert judgement.sessions.is_confounded
    found = by_name(judgement)
    assert found["cost_usd"].decision is Decision.DRIFT
    assert found["latency_p95"].decision is Decision.DRIFT


def test_a_baseline_of_three_sessions_lets_cost_gate_past_their_spread(sample_of):
    def compared(factors, rise):
        base = [[f * (t + 5) for f in factors] for t in range(30)]
        cand = [[rise * (t + 5)] for t in range(30)]
        values = np.concatenate([[*b, *c] for b, c in zip(base, cand, strict=True)])
        sample = sample_of(
            base, cand, values={"cost_usd": values}, session=np.tile([0, 1, 2, 9], 30)
        )
        return by_name(judge(sample, METRICS, Settings()))["cost_usd"]

    steady, jumpy = compared([0.98, 1.0, 1.02], 1.5), compared([0.7, 1.0, 1.4], 1.5)
    assert steady.is_gated
    assert steady.decision is Decision.DRIFT
    assert jumpy.decision is Decision.INCONCLUSIVE
    assert "sessions of the stored baseline" in jumpy.reason


def test_a_rise_outside_the_shared_sessions_is_not_ok(sample_of, judged):
    sample = sample_of(
        [[4, 4, 4]] * 30, [[12, 12, 4]] * 30, session=np.tile([1, 1, 0, 2, 2, 0], 30)
    )
    found = judged(sample)
    assert found.change == pytest.approx(7 / 3)
    assert found.decision is Decision.INCONCLUSIVE
    assert "outside its own bounds" in found.reason


@pytest.mark.parametrize(
    ("shared_tasks", "reason"), [(5, "5 tasks are fewer"), (8, "16 candidate runs are fewer")]
)
def test_only_runs_that_can_swap_arms_count_towards_ok(sample_of, judged, shared_tasks, reason):
    apart = [[1, 1, 2, 2]] * (30 - shared_tasks)
    session = np.concatenate([[0, 0, 0, 0]] * shared_tasks + apart)
    found = judged(sample_of([[4, 4]] * 30, [[4, 4]] * 30, session=session))
    assert found.decision is Decision.INCONCLUSIVE
    assert reason in found.reason


def test_what_follows_from_a_gated_metric_is_advisory():
    assert [m.name for m in METRICS if not m.gates] == [
        "tokens_per_request", "usd_per_mtok", "tool_latency_p95", "run_latency_p95", "steps",
        "retries", "stop_mix",
    ]  # fmt: skip
