from __future__ import annotations

import math

import pytest

from flightlog.analysis.stats.trials import (
    standard_error,
    trials_for_any_test,
    trials_needed,
)


def needed(sample, **changes):
    known = {"estimate": 0.0, "tolerance": 0.1, "standard_error": 0.05, "alpha": 0.05}
    return trials_needed(sample, **{**known, **changes})


def test_trials_follow_the_sample_size_formula(sample_of):
    sample = sample_of([[1, 1]] * 10, [[1, 1]] * 10)
    target = (0.1 / (1.6449 + 0.8416)) ** 2
    assert needed(sample).both == math.ceil(2 * 0.05**2 / target)


def test_an_estimate_near_the_tolerance_is_shown_to_be_beyond_it(sample_of):
    sample = sample_of([[1, 1]] * 10, [[1, 1]] * 10)
    assert needed(sample, estimate=0.09).both == needed(sample).both
    assert needed(sample, estimate=0.2).both < needed(sample).both


def test_a_small_baseline_cannot_be_made_up_by_the_candidate(sample_of):
    small, large = sample_of([[1]] * 10, [[1]] * 10), sample_of([[1] * 50] * 10, [[1]] * 10)
    assert needed(small, standard_error=0.08).candidate_only is None
    assert needed(large, standard_error=0.08).candidate_only is not None


@pytest.mark.parametrize("error", [0.0, math.inf, math.nan])
def test_without_a_standard_error_there_is_no_advice(sample_of, error):
    assert needed(sample_of([[1]], [[1]]), standard_error=error) is None


def test_hopeless_numbers_of_trials_are_not_advised(sample_of):
    assert needed(sample_of([[1]] * 5, [[1]] * 5), standard_error=10.0).both is None


@pytest.mark.parametrize(("tasks", "trials"), [(1, 3), (2, 2), (3, 2), (4, 2), (5, 1), (50, 1)])
def test_fewest_trials_for_any_test(tasks, trials):
    assert trials_for_any_test(tasks, 0.05) == trials
    assert math.comb(2 * trials, trials) ** tasks >= 20


def test_standard_error_from_one_sided_bounds():
    assert standard_error(-1.6449, 1.6449, 0.05) == pytest.approx(1.0, abs=1e-4)
