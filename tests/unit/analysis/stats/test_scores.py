from __future__ import annotations

import numpy as np

from flightlog.analysis.stats.sample import Column
from flightlog.analysis.stats.scores import (
    half_smallest,
    largest,
    midranks,
    midranks_within,
    ratio_scores,
    standardised,
)


def test_equal_values_share_their_rank():
    assert midranks(np.array([5.0, 1.0, 5.0, 9.0])).tolist() == [2.5, 1.0, 2.5, 4.0]


def test_ranks_within_a_task_start_anew_in_each_task():
    values = np.array([3.0, 1.0, 3.0, 7.0, 7.0])
    task = np.array([0, 0, 0, 1, 1])
    assert midranks_within(values, task).tolist() == [2.5, 1.0, 2.5, 1.5, 1.5]


def test_scores_do_not_depend_on_the_arms(sample_of):
    one = sample_of([[1, 2], [3, 4]], [[5, 6], [7, 8]])
    two = sample_of([[1], [3, 4, 7]], [[2, 5, 6], [8]])
    for sample in (one, two):
        assert set(np.bincount(sample.task).tolist()) == {4}
    values = {
        s: dict(zip(s.values["tool_calls_per_run"], scored(s).tolist(), strict=True))
        for s in (one, two)
    }
    assert values[one] == values[two]


def scored(sample):
    column = Column.of(sample, sample.values["tool_calls_per_run"])
    return ratio_scores(sample, column.pooled, column.in_use, 1.0)


def test_a_task_of_zeros_has_finite_scores(sample_of):
    assert np.isfinite(scored(sample_of([[0, 0], [1, 2]], [[0, 0], [3, 4]]))).all()


def test_scores_without_spread_become_zero_and_never_win():
    scores = standardised(np.column_stack([np.full(4, 3.0), np.arange(4.0)]))
    assert scores[:, 0].tolist() == [0, 0, 0, 0]
    constant = np.full((10, 2), 0.1 + 0.2)
    assert largest(constant, tail=1).tolist() == [0.0] * 10


def test_the_largest_score_of_each_labelling_counts():
    differences = np.array([[3.0, 0.0], [-3.0, 1.0], [0.0, -1.0]])
    sd = differences.std(axis=0)
    up = np.round((differences / sd).max(axis=1), 4)
    down = np.round((-differences / sd).max(axis=1), 4)
    assert largest(differences, tail=1).tolist() == up.tolist()
    assert largest(differences, tail=-1).tolist() == down.tolist()


def test_offset_is_half_the_smallest_positive_value():
    assert half_smallest(np.array([0.0, 0.4, 2.0])) == 0.2
    assert half_smallest(np.zeros(3)) == 1.0


def test_unknown_values_are_filled_so_that_they_cannot_sway_a_test(sample_of):
    sample = sample_of([[1, 3], [5], [2]], [[9, 5], [7], [2]])
    raw = np.array([1.0, np.nan, 9.0, 5.0, np.nan, 7.0, 2.0, 2.0])
    column = Column.of(sample, raw)
    assert column.in_use.tolist() == [True, False, True]
    assert column.pooled.tolist() == [1.0, 5.0, 9.0, 5.0, 0.0, 0.0, 2.0, 2.0]
    assert column.by_arm.tolist() == [1.0, 1.0, 9.0, 5.0, 0.0, 0.0, 2.0, 2.0]
    assert column.known.tolist() == [True, False, True, True, False, False, True, True]
