from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from flightlog.analysis.gate.metrics import METRICS, select_metrics
from flightlog.analysis.gate.verdict import Decision
from flightlog.analysis.stats.decide import Settings
from flightlog.analysis.stats.gate import judge
from flightlog.analysis.stats.measures.mix import MOST_NAMES
from flightlog.analysis.stats.sample import Counts, Sample

TOOLS = ("browse", "fetch", "search")


def sample_of_mix(seed, tasks, trials, baseline, candidate, calls=6):
    """Every run makes `calls` calls; each side shares them out among the tools in its own way."""
    rng = np.random.default_rng(seed)
    arm = np.tile(np.repeat([False, True], trials), tasks)
    shares = np.where(arm[:, None], candidate, baseline)
    table = np.array([rng.multinomial(calls, share) for share in shares], float)
    return Sample(
        task=np.repeat(np.arange(tasks), 2 * trials),
        is_candidate=arm,
        values={"tool_calls_per_run": np.full(arm.size, float(calls))},
        session=np.zeros(arm.size, np.int64),
        counts={"tool_mix": Counts(TOOLS, table)},
        seed=seed,
    )


def verdict_on(sample, **settings):
    [found] = judge(sample, select_metrics(["tool_mix"]), Settings(**settings)).metrics
    return found


SAME = [0.3, 0.2, 0.5]
REPLACED = [0.3, 0.5, 0.2]


def test_a_tool_replaced_by_another_is_found_at_one_trial_where_totals_see_nothing():
    hits = totals = 0
    for seed in range(40):
        sample = sample_of_mix(seed, 20, 1, SAME, REPLACED)
        metrics = select_metrics(["tool_mix", "tool_calls_per_run"])
        calls, mix = judge(sample, metrics, Settings(shuffles=999)).metrics
        hits += mix.decision is Decision.DRIFT
        totals += calls.decision is Decision.DRIFT
    assert (hits >= 38, totals) == (True, 0)


def test_an_unchanged_mix_alarms_within_alpha():
    found = [verdict_on(sample_of_mix(s, 20, 2, SAME, SAME), shuffles=499) for s in range(200)]
    # 5 % and two standard errors over 200 suites.
    assert np.mean([v.p_worse <= 0.05 for v in found]) <= 0.081
    assert np.mean([v.decision is Decision.DRIFT for v in found]) <= 0.081


def test_the_tools_that_moved_are_named_with_their_shares():
    found = verdict_on(sample_of_mix(1, 30, 3, SAME, REPLACED))
    assert found.decision is Decision.DRIFT
    assert found.moved.startswith(("fetch ", "search "))
    assert found.change == pytest.approx(abs(found.candidate - found.baseline))
    assert "points" in found.reason


def test_bounds_of_a_mix_hold_the_true_change():
    inside = []
    for seed in range(100):
        found = verdict_on(sample_of_mix(seed, 30, 2, SAME, REPLACED), shuffles=499)
        inside.append((found.lower <= 0.3, found.upper >= 0.3))
    # They err on the wide side.
    assert np.mean(inside, axis=0).min() >= 0.95


def test_the_statistic_is_that_of_a_chi_squared_test_of_the_pooled_counts():
    # One task: relabelling within it is the permutation form of the contingency table's test.
    sample = sample_of_mix(3, 1, 40, SAME, [0.3, 0.3, 0.4], calls=1)
    table = [
        sample.counts["tool_mix"].table[sample.is_candidate == arm].sum(axis=0) for arm in (0, 1)
    ]
    exact = stats.chi2_contingency(table, correction=False).pvalue
    assert verdict_on(sample).p_worse == pytest.approx(exact, abs=0.05)


def test_a_run_without_tool_calls_moves_no_share():
    sample = sample_of_mix(1, 10, 2, SAME, SAME)
    sample.counts["tool_mix"].table[:] = 0
    found = verdict_on(sample)
    assert (found.decision, found.change, found.upper) == (Decision.OK, 0.0, 0.0)


def test_hundreds_of_tools_are_counted_with_the_rarest_together():
    sample = sample_of_mix(1, 12, 2, SAME, SAME)
    names = tuple(f"tool{n}" for n in range(300))
    table = np.random.default_rng(1).poisson(0.1, (48, 300)).astype(float)
    table[:, 7] = np.where(sample.is_candidate, 30, 1)
    many = Sample(sample.task, sample.is_candidate, {}, counts={"tool_mix": Counts(names, table)})
    found = verdict_on(many, shuffles=999)
    assert found.moved.startswith("tool7 ")
    assert MOST_NAMES < 300


def test_a_mix_never_improves():
    assert all(
        verdict_on(sample_of_mix(seed, 10, 2, SAME, REPLACED)).decision is not Decision.IMPROVED
        for seed in range(5)
    )


def test_every_kind_of_metric_is_in_the_table():
    assert {str(metric.kind) for metric in METRICS} == {"ratio", "points", "quantile", "mix"}
