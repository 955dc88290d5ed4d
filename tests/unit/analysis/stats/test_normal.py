"""The normal limit of the labellings, against the labellings themselves."""

from __future__ import annotations

import numpy as np
import pytest

from flightlog.analysis.gate.metrics import METRICS, select_metrics
from flightlog.analysis.gate.verdict import Decision
from flightlog.analysis.stats.decide import Settings
from flightlog.analysis.stats.gate import judge
from flightlog.analysis.stats.labellings import MOST_LABELS, Labellings
from flightlog.analysis.stats.normal import NormalLabellings, labellings_of

NORMAL = Settings(most_labels=0)


def strata_of(tasks, trials):
    arms = np.tile(np.repeat([False, True], trials), tasks)
    return np.repeat(np.arange(tasks), 2 * trials), arms


def test_mean_and_covariance_are_those_of_all_labellings():
    strata, arms = strata_of(2, 2)
    columns = np.random.default_rng(1).normal(size=(8, 3))
    every = Labellings(strata, arms, shuffles=999, seed=1)
    assert every.is_exact
    exact = every.sums(columns, [])
    limit = NormalLabellings(strata, arms, shuffles=200_000, seed=1)
    drawn = limit.sums(columns, [])
    assert drawn[0] == pytest.approx(exact[0])
    assert drawn[1:].mean(axis=0) == pytest.approx(exact.mean(axis=0), abs=0.02)
    assert np.cov(drawn[1:].T) == pytest.approx(np.cov(exact.T, bias=True), abs=0.05)


def test_strata_of_one_arm_move_nothing():
    strata, arms = np.array([0, 0, 1, 1]), np.array([True, True, False, False])
    sums = NormalLabellings(strata, arms, shuffles=99, seed=1).sums(np.eye(4), [])
    assert sums == pytest.approx(np.tile([1.0, 1.0, 0.0, 0.0], (100, 1)))


@pytest.mark.parametrize("effect", [{}, {"calls": 1.06}, {"cost": 1.1}, {"latency": 1.15}])
def test_on_2_000_runs_both_agree_within_monte_carlo_error(suite_of, effect):
    for seed in range(3):
        sample = suite_of(seed, 100, 10, **effect)
        drawn, limit = (judge(sample, METRICS, how).metrics for how in (Settings(), NORMAL))
        for one, other in zip(drawn, limit, strict=True):
            if one.decision is Decision.UNAVAILABLE:
                continue
            # Both are draws, the latency's of 300. Ties count in full where labels are drawn: a
            # difference of rates has few values, and so the larger p-value of the two.
            few = one.name == "latency_p95"
            allowed = 0.02 + (0.5 if few else 0.25) * one.p_worse
            assert other.p_worse == pytest.approx(one.p_worse, abs=allowed), one.name
            if one.lower is not None and other.lower is not None:
                width = max(one.upper - one.lower, 1e-3)
                share = 0.5 if few else 0.15
                assert other.lower == pytest.approx(one.lower, abs=share * width), one.name
                assert other.upper == pytest.approx(one.upper, abs=share * width), one.name


def test_unchanged_suites_alarm_within_alpha(suite_of):
    alarms = sum(
        any(
            m.is_gated and m.decision is Decision.DRIFT
            for m in judge(suite_of(seed, 40, 5), METRICS, NORMAL).metrics
        )
        for seed in range(100)
    )
    # 5 % and two standard errors over 100 suites.
    assert alarms <= 5 + 4


def test_it_stands_in_only_where_the_labellings_would_be_too_many():
    strata, arms = strata_of(100, 2)
    few = labellings_of(strata, arms, shuffles=4_999, seed=1, most_labels=MOST_LABELS)
    assert isinstance(few, Labellings)
    many = labellings_of(strata, arms, shuffles=4_999, seed=1, most_labels=1_000_000)
    assert isinstance(many, NormalLabellings)
    strata, arms = strata_of(3, 2)
    exact = labellings_of(strata, arms, shuffles=4_999, seed=1, most_labels=0)
    assert exact.is_exact


def test_the_report_says_which_one_was_used(suite_of):
    sample = suite_of(1, 40, 2)
    assert judge(sample, select_metrics(["success"]), NORMAL).method.is_normal
    assert not judge(sample, select_metrics(["success"]), Settings()).method.is_normal


def test_the_same_data_give_the_same_draws(suite_of):
    first, again = (judge(suite_of(1, 40, 3), METRICS, NORMAL) for _ in range(2))
    assert first.metrics == again.metrics
