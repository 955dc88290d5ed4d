from __future__ import annotations

import math

import numpy as np
import pytest

from flightlog.analysis.stats.quantile import QuantileTest, p95


@pytest.mark.parametrize(("n", "expected"), [(1, 1), (19, 19), (20, 19), (100, 95), (101, 96)])
def test_p95_leaves_five_percent_above_it(n, expected):
    assert p95(np.random.default_rng(n).permutation(np.arange(1.0, n + 1))) == expected


def test_p95_of_nothing_is_unknown():
    assert math.isnan(p95(np.empty(0)))


def test_differences_agree_with_p95_of_each_arm():
    rng = np.random.default_rng(1)
    call_run = np.repeat(np.arange(40), rng.integers(1, 30, 40))
    latencies = np.round(np.exp(rng.normal(5, 1, call_run.size)), 1)
    labels = rng.random((200, 40)) < 0.5
    found = QuantileTest(call_run, latencies, 40).differences(labels)
    for row, difference in zip(labels, found, strict=True):
        is_candidate = row[call_run]
        expected = math.log(p95(latencies[is_candidate]) / p95(latencies[~is_candidate]))
        assert difference == pytest.approx(expected, abs=1e-12)


def test_an_arm_faster_than_the_slowest_quarter_still_gives_a_difference():
    latencies = np.concatenate([np.full(90, 1_000.0), np.full(10, 1.0)])
    labels = np.array([np.arange(100) >= 90])
    [difference] = QuantileTest(np.arange(100), latencies, 100).differences(labels)
    assert math.isfinite(difference)
