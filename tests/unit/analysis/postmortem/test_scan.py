"""The scan finds the interval that differs most, and says how sure that is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from flightlog.analysis.postmortem.scan import scan_level, scan_share


def log_likelihood(hits: float, units: float) -> float:
    return float(stats.binom.logpmf(hits, units, hits / units)) if units else 0.0


def test_the_interval_with_the_largest_likelihood_ratio_is_found() -> None:
    rng = np.random.default_rng(5)
    units = rng.integers(5, 20, 24).astype(float)
    share = np.where((np.arange(24) >= 9) & (np.arange(24) < 14), 0.5, 0.05)
    hits = np.round(units * share)
    found = scan_share(hits, units)
    assert found is not None
    best = 0.0
    for first in range(24):
        for end in range(first + 1, 25):
            inside = slice(first, end)
            k, n = hits[inside].sum(), units[inside].sum()
            if end - first == 24 or n < 5 or units.sum() - n < 5 or k < 5:
                continue
            if k / n <= (hits.sum() - k) / (units.sum() - n):
                continue
            # The binomial coefficients of the pieces cancel out, those of the sums do not.
            ratio = sum(
                x * np.log(x / m) + (m - x) * np.log1p(-x / m) if 0 < x < m else 0.0
                for x, m in ((k, n), (hits.sum() - k, units.sum() - n))
            ) - (
                hits.sum() * np.log(hits.sum() / units.sum())
                + (units.sum() - hits.sum()) * np.log1p(-hits.sum() / units.sum())
            )
            best = max(best, ratio)
    assert (found.first, found.end) == (9, 14)
    assert found.strength == pytest.approx(best)
    assert found.inside == hits[9:14].sum() / units[9:14].sum()


def test_a_level_is_told_by_the_likelihood_ratio_of_two_means() -> None:
    rng = np.random.default_rng(6)
    values = [rng.normal(1.0 if 4 <= piece < 8 else 0.0, 0.4, 30) for piece in range(16)]
    sums = np.array([one.sum() for one in values])
    squares = np.array([(one * one).sum() for one in values])
    units = np.full(16, 30.0)
    found = scan_level(sums, squares, units)
    assert found is not None
    assert (found.first, found.end) == (4, 8)
    inside = np.concatenate(values[4:8])
    outside = np.concatenate([*values[:4], *values[8:]])
    both = np.concatenate([inside, outside])
    within = ((inside - inside.mean()) ** 2).sum() + ((outside - outside.mean()) ** 2).sum()
    ratio = both.size / 2 * np.log(((both - both.mean()) ** 2).sum() / within)
    assert found.strength == pytest.approx(ratio, rel=0.2)
    assert found.inside == pytest.approx(inside.mean())


def test_a_fall_is_found_where_less_is_worse() -> None:
    units = np.full(12, 40.0)
    level = np.where(np.arange(12) >= 8, 0.2, 0.6)
    found = scan_level(level * units, (level**2 + 0.01) * units, units, direction=-1)
    assert found is not None
    assert (found.first, found.end) == (8, 12)
    assert (found.inside, found.outside) == (pytest.approx(0.2), pytest.approx(0.6))
    assert scan_share(units - 30 * (np.arange(12) >= 8), units, direction=-1) is not None


@pytest.mark.parametrize("hits", [np.zeros(10), np.full(10, 7.0)])
def test_nothing_differs_where_nothing_or_everything_is_hit(hits: np.ndarray) -> None:
    assert scan_share(hits, np.full(10, 7.0)) is None


def test_equal_values_are_no_change() -> None:
    units = np.full(10, 9.0)
    assert scan_level(2 * units, 4 * units, units) is None


def test_a_few_hits_are_no_change() -> None:
    hits, units = np.zeros(20), np.full(20, 50.0)
    hits[4:8] = 1
    assert scan_share(hits, units) is None


def test_pieces_that_differ_among_themselves_weaken_a_change() -> None:
    """Twenty pieces of which each is all or nothing know less than their units."""
    smooth = np.where(np.arange(20) >= 15, 12.0, 4.0)
    rough = np.where(np.arange(20) % 2 == 0, smooth + 4, np.maximum(smooth - 4, 0))
    units = np.full(20, 20.0)
    sure, unsure = scan_share(smooth, units), scan_share(rough, units)
    assert sure is not None
    assert unsure is not None
    assert unsure.strength < sure.strength / 2


def test_chance_alone_hardly_ever_passes_the_threshold() -> None:
    from flightlog.analysis.postmortem.kinds import STRENGTH

    rng = np.random.default_rng(7)
    units = np.full(96, 12.0)
    passed = 0
    for _ in range(400):
        found = scan_share(rng.binomial(12, 0.1, 96).astype(float), units)
        passed += found is not None and found.strength >= STRENGTH
    assert passed == 0


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=2, max_size=20))
def test_any_counts_give_a_change_within_bounds_or_none(pairs: list[tuple[int, int]]) -> None:
    units = np.array([max(pair) for pair in pairs], dtype=float)
    hits = np.array([min(pair) for pair in pairs], dtype=float)
    found = scan_share(hits, units)
    if found is not None:
        assert 0 <= found.first < found.end <= len(pairs)
        assert 0 <= found.outside < found.inside <= 1
        assert found.n_inside + found.n_outside == units.sum()
        assert found.strength >= 0
