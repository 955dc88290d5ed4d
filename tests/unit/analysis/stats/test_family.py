from __future__ import annotations

import numpy as np
import pytest

from flightlog.analysis.stats.family import adjusted, tail_shares


def test_a_p_value_is_the_share_of_labellings_at_least_as_extreme():
    statistics = np.array([[2.0], [1.0], [2.0], [3.0]])
    assert tail_shares(statistics)[:, 0].tolist() == [0.75, 1.0, 0.75, 0.25]


def test_one_metric_needs_no_adjustment():
    statistics = np.random.default_rng(0).normal(size=(500, 1))
    assert adjusted(statistics).tolist() == tail_shares(statistics)[0].tolist()


def test_a_copy_of_a_metric_costs_nothing():
    one = np.random.default_rng(0).normal(size=(500, 1))
    one[0] = 2.0
    both = np.hstack([one, one])
    assert adjusted(both).tolist() == [tail_shares(one)[0, 0]] * 2


def test_adjusted_p_lies_between_plain_and_bonferroni_and_keeps_the_order():
    rng = np.random.default_rng(3)
    statistics = rng.normal(size=(4_000, 5))
    statistics[0] = [3.0, 2.5, 2.0, 1.0, 0.0]
    plain, corrected = tail_shares(statistics)[0], adjusted(statistics)
    assert (corrected >= plain).all()
    assert (corrected <= np.minimum(1, 5 * plain) + 0.02).all()
    assert (np.diff(corrected[np.argsort(plain)]) >= 0).all()


def test_step_down_by_hand():
    statistics = np.array([[9.0, 5.0], [1.0, 6.0], [2.0, 1.0], [3.0, 2.0]])
    # Plain: 1/4 and 2/4. Smallest p per row: 1/4, 1/4, 3/4, 2/4; then the second metric alone.
    assert adjusted(statistics).tolist() == [0.5, 0.5]


def test_p_is_never_zero():
    statistics = np.zeros((100, 3))
    statistics[0] = 10.0
    assert adjusted(statistics) == pytest.approx([0.01] * 3)
