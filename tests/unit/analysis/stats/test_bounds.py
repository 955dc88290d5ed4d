from __future__ import annotations

import math

import numpy as np
import pytest

from flightlog.analysis.stats.bounds import (
    order_bounds,
    points_crossings,
    ratio_crossings,
    widened_upper,
    wilson_upper,
)
from flightlog.analysis.stats.sample import Column


def test_bounds_are_order_statistics_of_the_crossings():
    crossings = np.arange(1.0, 100.0)
    assert order_bounds(crossings, 0.05) == (5.0, 95.0)


def test_fewer_than_twenty_labellings_give_no_bound_at_five_percent():
    assert order_bounds(np.arange(18.0), 0.05) is None
    assert order_bounds(np.arange(19.0), 0.05) == (0.0, 18.0)


def test_nothing_moved_means_no_change_and_from_zero_is_infinite():
    ratio = ratio_crossings(np.array([0.0, 2.0, 3.0]), np.array([0.0, 0.0, 2.0]))
    assert ratio.tolist() == [1.0, math.inf, 1.5]
    points = points_crossings(np.array([0.0, 0.1]), np.array([0.0, 0.5]))
    assert points.tolist() == [0.0, 0.2]


def test_wilson_bound_of_a_known_case():
    # 3 of 20 at one-sided 95 %: centre 0.1917, half-width 0.1301 (by hand, z = 1.6449).
    assert wilson_upper(3, 20, 0.05) == pytest.approx(0.3218, abs=5e-4)


def points_column(sample, bad):
    return Column.of(sample, np.array(bad, float))


def test_without_mixed_tasks_the_bound_is_the_rule_of_three(sample_of):
    sample = sample_of([[1, 1]] * 10, [[1, 1]] * 10)
    column = points_column(sample, [0] * 40)
    assert widened_upper(sample, column, 0.0, 0.05) == pytest.approx(1 - 0.05 ** (1 / 20))


def test_one_bad_run_in_a_mixed_task_widens_the_bound_more(sample_of):
    sample = sample_of([[1, 1]] * 10, [[1, 1]] * 10)
    column = points_column(sample, [0, 0, 0, 1] + [0] * 36)
    assert widened_upper(sample, column, 0.0, 0.05) == pytest.approx(wilson_upper(1, 20, 0.05))


def test_tasks_that_fail_on_both_sides_do_not_widen_the_bound(sample_of):
    sample = sample_of([[1, 1]] * 10, [[1, 1]] * 10)
    column = points_column(sample, [1] * 20 + [0] * 20)
    assert widened_upper(sample, column, 0.0, 0.05) == pytest.approx(1 - 0.05 ** (1 / 20))


def test_five_mixed_tasks_leave_the_bound_as_it_is(sample_of):
    sample = sample_of([[1, 1]] * 10, [[1, 1]] * 10)
    column = points_column(sample, [0, 1, 0, 1] * 5 + [0] * 20)
    assert widened_upper(sample, column, 0.01, 0.05) == 0.01
