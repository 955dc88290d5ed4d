"""What a change of cost is made of: model calls x tokens per call x price.

A total cannot see a price that rose by 10 % while the tasks' own spread is
several times that. Within a run cost follows tokens and tokens follow calls,
so each quotient is far less noisy than the total: it is the covariate
adjustment of a ratio estimator.

Source: Cochran 1977, Sampling Techniques, ch. 6 (ratio estimators); Deng et
al. 2013, CUPED.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flightlog.analysis.stats.bounds import order_bounds
from flightlog.analysis.stats.sample import Column, Floats, Sample

PARTS = ("model_calls", "tokens_per_call", "usd_per_mtok")
_TOTALS = ("model_calls", "tokens", "cost_usd")


@dataclass(frozen=True, slots=True)
class CostPart:
    """One factor of the change of cost.

    Attributes:
        name: one of `PARTS`.
        baseline: mean calls of a run; tokens of all calls over calls; USD per million tokens.
        candidate: the same of the candidate.
        change: candidate / baseline; the changes of all parts multiply to that of the cost.
        lower: one-sided lower bound of `change` at 1 - alpha; None when there is none.
        upper: one-sided upper bound of `change` at 1 - alpha; None when there is none.
    """

    name: str
    baseline: float
    candidate: float
    change: float
    lower: float | None
    upper: float | None


class CostParts:
    """The parts of a change of cost, over the runs whose calls, tokens and cost are all known.

    Bounds invert the permutation test of each quotient, the estimated changes of the others
    taken out of the candidate's runs.
    """

    def __init__(self, sample: Sample) -> None:
        self._sample = sample
        raw = np.column_stack([sample.values.get(name, _nothing(sample)) for name in _TOTALS])
        raw = np.where((raw > 0).all(axis=1, keepdims=True), raw, np.nan)
        columns = [Column.of(sample, total) for total in raw.T]
        self.is_known = bool(columns[0].in_use.any())
        self._tasks = int(columns[0].in_use.sum())
        by_arm = np.column_stack([column.by_arm for column in columns])
        arm, task = sample.is_candidate, sample.task
        self._baseline = (by_arm / sample.baseline_trials[task][:, None])[~arm].sum(axis=0)
        self._candidate = (by_arm / sample.candidate_trials[task][:, None])[arm].sum(axis=0)
        factor = self._candidate / self._baseline if self.is_known else np.ones(len(_TOTALS))
        equal = by_arm / np.where(arm[:, None], factor, 1.0)
        parted = [np.where(side[:, None], equal, 0.0) for side in (arm, ~arm)]
        self._as_candidate = np.column_stack(parted) / sample.candidate_trials[task][:, None]
        self._as_baseline = np.column_stack(parted) / sample.baseline_trials[task][:, None]

    def columns(self) -> Floats:
        """Weighted totals with the changes taken out, runs x columns."""
        if not self.is_known:
            return np.empty((self._sample.task.size, 0))
        columns: Floats = np.column_stack([self._as_candidate, self._as_baseline])
        return columns

    def parts(self, sums: Floats, alpha: float) -> tuple[CostPart, ...]:
        """The parts, from the sums of `columns` over each labelling's candidate runs."""
        if not self.is_known:
            return ()
        split = 2 * len(_TOTALS)
        candidate, baseline = sums[:, :split], self._as_baseline.sum(axis=0) - sums[:, split:]
        before, after = _quotients(self._baseline), _quotients(self._candidate)
        scale = (1 / self._tasks, 1.0, 1e6)
        found = []
        for place, name in enumerate(PARTS):
            change = float(after[place] / before[place])
            bounds = order_bounds(_crossings(candidate, baseline, place), alpha)
            found.append(
                CostPart(
                    name=name,
                    baseline=float(before[place]) * scale[place],
                    candidate=float(after[place]) * scale[place],
                    change=change,
                    lower=None if bounds is None else change * bounds[0],
                    upper=None if bounds is None else change * bounds[1],
                )
            )
        return tuple(found)


def _crossings(candidate: Floats, baseline: Floats, place: int) -> Floats:
    """Factor of one total at which each relabelling overtakes the observed labelling.

    With u the inverse of the factor, the quotient of the observed labelling falls as u, and
    that of a relabelling as (x u + y) / (x' u + y'), where x are the candidate's runs and y the
    baseline's: a quadratic in u with one positive root.
    """
    x, y = candidate[1:, place], candidate[1:, place + len(_TOTALS)]
    x_out, y_out = baseline[1:, place], baseline[1:, place + len(_TOTALS)]
    below, below_out = _denominators(candidate, place), _denominators(baseline, place)
    observed = candidate[0, place] / below[0] / (baseline[0, place + len(_TOTALS)] / below_out[0])
    square = observed * below[1:] * x_out
    linear = observed * below[1:] * y_out - below_out[1:] * x
    constant = below_out[1:] * y
    root = np.sqrt(linear**2 + 4 * square * constant)
    # The form of the root that loses no digits for either sign of `linear`.
    divisor = np.where(linear > 0, linear + root, 2 * square)
    u = np.ones(len(x))
    np.divide(np.where(linear > 0, 2 * constant, root - linear), divisor, out=u, where=divisor > 0)
    factors = np.full(len(x), np.inf)
    np.divide(1.0, u, out=factors, where=u > 0)
    return np.where((square <= 0) & (constant <= 0), 1.0, factors)


def _denominators(sums: Floats, place: int) -> Floats:
    """What the total is divided by: the one before it; the first by nothing."""
    if place == 0:
        return np.ones(len(sums))
    whole: Floats = sums[:, place - 1] + sums[:, place - 1 + len(_TOTALS)]
    return np.maximum(whole, 1e-300)


def _nothing(sample: Sample) -> Floats:
    return np.full(sample.task.size, np.nan)


def _quotients(totals: Floats) -> tuple[float, float, float]:
    """Calls, tokens per call, USD per token, from sums of calls, tokens and USD."""
    calls, tokens, usd = totals.tolist()
    return calls, tokens / calls, usd / tokens
