"""Search for the piece of time in which something was different from the rest.

A scan statistic: of all intervals of pieces of time, the one whose likelihood ratio against
"no different from the rest" is the largest. Source: Kulldorff, A spatial scan statistic,
Communications in Statistics 26 (1997), in one dimension (time).

Real traffic is no sequence of independent draws: levels follow the hour, failures come
together. So each ratio is divided by how much more the pieces vary around the two means than
draws would (by the median absolute deviation, which a few odd pieces do not move), as
quasi-likelihood does. Source: McCullagh and Nelder, Generalized Linear Models, 2nd ed. 1989,
chapter 9.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from flightlog.analysis.stats.sample import Floats

_MAD_TO_SD: Final = 1.4826
_FEWEST_PER_PIECE: Final = 3


@dataclass(frozen=True, slots=True)
class Change:
    """An interval of pieces of time that is different from the rest.

    Attributes:
        first: its first piece.
        end: the piece after its last.
        pieces: how many there are in all.
        inside: mean in it.
        outside: mean in the rest.
        n_inside: units in it.
        n_outside: units in the rest.
        strength: log likelihood ratio against no difference, over the dispersion.
    """

    first: int
    end: int
    pieces: int
    inside: float
    outside: float
    n_inside: float
    n_outside: float
    strength: float


def scan_share(
    hits: Floats, units: Floats, *, direction: int = 1, fewest: int = 5
) -> Change | None:
    """The interval in which the share of hits among units is most above the rest.

    Args:
        hits: of each piece of time, shape (pieces,).
        units: of each piece of time, shape (pieces,), each at least its hits.
        direction: 1 for a higher share, -1 for a lower one.
        fewest: units on either side, and of the hits that make the difference.
    """
    if direction < 0:
        hits = units - hits
    all_hits, all_units = hits.sum(), units.sum()
    if not 0 < all_hits < all_units:
        return None
    firsts, ends = _intervals(len(units))
    inside_hits, inside = _within(hits, firsts, ends), _within(units, firsts, ends)
    outside_hits, outside = all_hits - inside_hits, all_units - inside
    with np.errstate(divide="ignore", invalid="ignore"):
        share_in, share_out = inside_hits / inside, outside_hits / outside
        ratio = (
            _log_likelihood(inside_hits, inside)
            + _log_likelihood(outside_hits, outside)
            - _log_likelihood(all_hits, all_units)
        )
    is_possible = (
        (inside >= fewest) & (outside >= fewest) & (inside_hits >= fewest)
        & (share_in > share_out)
    )  # fmt: skip
    ratio = np.where(is_possible, ratio, 0.0)
    best = int(ratio.argmax())
    if not is_possible[best]:
        return None
    low, high = share_out[best], share_in[best]
    fitted = np.full(len(units), low)
    fitted[firsts[best] : ends[best]] = high
    if direction < 0:
        low, high = 1 - low, 1 - high
    return Change(
        int(firsts[best]),
        int(ends[best]),
        len(units),
        float(high),
        float(low),
        float(inside[best]),
        float(outside[best]),
        float(ratio[best]) / _dispersion_of_shares(hits, units, fitted),
    )


def scan_level(
    sums: Floats, squares: Floats, units: Floats, *, direction: int = 1, fewest: int = 8
) -> Change | None:
    """The interval in which the mean of a value is most above the rest.

    Args:
        sums: of the values of each piece, shape (pieces,).
        squares: sums of the squared values, shape (pieces,).
        units: how many values each piece has, shape (pieces,).
        direction: 1 for higher values, -1 for lower ones.
        fewest: values on either side.
    """
    sums = sums * direction
    n, total = units.sum(), sums.sum()
    if n < 2 * fewest:
        return None
    spread = float(squares.sum() - total * total / n)
    if spread <= 0:
        return None
    firsts, ends = _intervals(len(units))
    inside, inside_sum = _within(units, firsts, ends), _within(sums, firsts, ends)
    outside, outside_sum = n - inside, total - inside_sum
    with np.errstate(divide="ignore", invalid="ignore"):
        mean_in, mean_out = inside_sum / inside, outside_sum / outside
        between = inside * outside / n * (mean_in - mean_out) ** 2
    is_possible = (inside >= fewest) & (outside >= fewest) & (mean_in > mean_out)
    between = np.where(is_possible, between, 0.0)
    best = int(between.argmax())
    if not is_possible[best]:
        return None
    # With unknown variance: n/2 log(total spread / spread within).
    within = max(spread - float(between[best]), 1e-12 * spread)
    strength = 0.5 * float(n) * float(np.log(spread / within))
    fitted = np.full(len(units), mean_out[best])
    fitted[firsts[best] : ends[best]] = mean_in[best]
    return Change(
        int(firsts[best]),
        int(ends[best]),
        len(units),
        direction * float(mean_in[best]),
        direction * float(mean_out[best]),
        float(inside[best]),
        float(outside[best]),
        strength / _dispersion_of_levels(sums, units, fitted, within / max(float(n) - 2, 1)),
    )


def _intervals(pieces: int) -> tuple[np.ndarray, np.ndarray]:
    """First piece and end of every interval but the whole."""
    firsts, ends = np.triu_indices(pieces + 1, k=1)
    is_part = ends - firsts < pieces
    return firsts[is_part], ends[is_part]


def _within(values: Floats, firsts: np.ndarray, ends: np.ndarray) -> Floats:
    summed = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    found: Floats = summed[ends] - summed[firsts]
    return found


def _log_likelihood(hits: Floats, units: Floats) -> Floats:
    """Of a binomial at its own share; 0 log 0 is 0."""
    hits, units = np.asarray(hits, dtype=np.float64), np.asarray(units, dtype=np.float64)
    share = np.divide(hits, units, out=np.zeros_like(hits), where=units > 0)
    share = np.clip(share, 0.0, 1.0)
    yes = np.where(share > 0, hits * np.log(np.where(share > 0, share, 1.0)), 0.0)
    misses = units - hits
    no = np.where(share < 1, misses * np.log(np.where(share < 1, 1 - share, 1.0)), 0.0)
    found: Floats = yes + no
    return found


def _dispersion_of_shares(hits: Floats, units: Floats, shares: Floats) -> float:
    """Around the share that each piece should have."""
    known = (units >= _FEWEST_PER_PIECE) & (shares > 0) & (shares < 1)
    hits, units, shares = hits[known], units[known], shares[known]
    return _at_least_one((hits - units * shares) / np.sqrt(units * shares * (1 - shares)))


def _dispersion_of_levels(sums: Floats, units: Floats, means: Floats, variance: float) -> float:
    """Around the mean that each piece should have."""
    known = units >= _FEWEST_PER_PIECE
    if variance <= 0:
        return 1.0
    return _at_least_one(
        (sums[known] / units[known] - means[known]) / np.sqrt(variance / units[known])
    )


def _at_least_one(residuals: Floats) -> float:
    if len(residuals) < _FEWEST_PER_PIECE:
        return 1.0
    deviation = _MAD_TO_SD * float(np.median(np.abs(residuals)))
    return max(1.0, deviation * deviation)
