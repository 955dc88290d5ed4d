"""Mixes: which tools are called, for which reasons runs stop; total counts can hide both."""

from __future__ import annotations

import math

import numpy as np

from flightlog.analysis.gate.metrics import Metric
from flightlog.analysis.stats.measures.base import Evidence
from flightlog.analysis.stats.sample import Column, Counts, Floats, Sample
from flightlog.analysis.stats.scores import NO_SPREAD, T_DECIMALS, standardised

MOST_NAMES = 40
OTHERS = "others"
NAMED = 4
LEAST_NAMED = 0.005


class MixMeasure:
    """How much of all that was counted went from one thing to another.

    Statistic: sum over things of D^2 / var(D), D being the difference of the
    mean counts and var its variance over the labellings. Estimate: the share
    of all counts that a thing has, candidate minus baseline, of the thing that
    moved most. Its upper bound adds the 1 - alpha quantile that relabelling
    alone gives to the largest difference: |d| <= |d + e| + |e| for any noise e,
    so it errs on the wide side. The 40 most frequent things count one by one,
    the rest together.

    Source: chi-squared-like omnibus statistic under permutation within strata
    (Pesarin and Salmaso 2010, ch. 3).
    """

    def __init__(self, metric: Metric, sample: Sample) -> None:
        self.metric = metric
        self._sample = sample
        counts = _most_frequent(sample.counts[metric.name])
        self._names = counts.names
        parts = [Column.of(sample, column) for column in counts.table.T]
        says = Column.of(sample, counts.table.sum(axis=1))
        self._in_use, self._known = says.in_use, says.known
        runs = sample.task.size
        self._pooled = np.column_stack([np.empty((runs, 0)), *(part.pooled for part in parts)])
        self._by_arm = np.column_stack([np.empty((runs, 0)), *(part.by_arm for part in parts)])

    def columns(self) -> Floats:
        sample = self._sample
        candidate = self._by_arm / sample.candidate_trials[sample.task][:, None]
        baseline = self._by_arm / sample.baseline_trials[sample.task][:, None]
        scores = standardised(self._pooled) * sample.swing[:, None]
        columns: Floats = np.column_stack([scores, candidate, baseline])
        return columns

    def evidence(self, sums: Floats, alpha: float) -> Evidence:
        sample, arm = self._sample, self._sample.is_candidate
        scores, candidate, in_candidate = np.split(sums, 3, axis=1)
        whole = (self._by_arm / sample.baseline_trials[sample.task][:, None]).sum(axis=0)
        base, cand = _shares(whole - in_candidate), _shares(candidate)
        moved = np.abs(cand - base).max(axis=1, initial=0.0)
        most = int(np.argmax(np.abs(cand[0] - base[0]))) if self._names else None
        return Evidence(
            metric=self.metric,
            worse=_omnibus(scores),
            better=np.zeros(len(sums)),
            baseline=0.0 if most is None else float(base[0, most]),
            candidate=0.0 if most is None else float(cand[0, most]),
            change=float(moved[0]),
            typical=None,
            bounds=_bounds(moved, alpha),
            task_count=int(self._in_use.sum()),
            baseline_runs=int((self._known & ~arm).sum()),
            candidate_runs=int((self._known & arm).sum()),
            moved=_in_words(self._names, base[0], cand[0]),
        )


def _most_frequent(counts: Counts) -> Counts:
    """The counts with the rarest things put together."""
    if len(counts.names) <= MOST_NAMES:
        return counts
    order = np.argsort(-np.nansum(counts.table, axis=0), kind="stable")
    kept, rest = np.sort(order[: MOST_NAMES - 1]), order[MOST_NAMES - 1 :]
    table = np.column_stack([counts.table[:, kept], counts.table[:, rest].sum(axis=1)])
    return Counts((*(counts.names[i] for i in kept), OTHERS), table)


def _shares(means: Floats) -> Floats:
    """Share of each thing, per labelling; 0 where nothing was counted."""
    means = np.maximum(means, 0.0)  # rounding may leave a little below 0
    total = means.sum(axis=1, keepdims=True)
    shares: Floats = np.zeros(means.shape)
    np.divide(means, total, out=shares, where=total > 0)
    return shares


def _omnibus(differences: Floats) -> Floats:
    """Sum over things of D^2 / var, per labelling; rounded, so that ties are ties."""
    centred = differences - differences.mean(axis=0)
    variance = centred.var(axis=0)
    varies = variance > (NO_SPREAD * np.abs(differences).max(axis=0, initial=0.0)) ** 2
    statistic: Floats = (centred[:, varies] ** 2 / variance[varies]).sum(axis=1)
    return np.round(statistic, T_DECIMALS)


def _bounds(moved: Floats, alpha: float) -> tuple[float, float] | None:
    place = math.floor(alpha * len(moved) + 1e-9) - 1
    if place < 0:
        return None
    by_chance = float(np.sort(moved[1:])[len(moved) - 2 - place])
    return max(0.0, float(moved[0]) - by_chance), min(1.0, float(moved[0]) + by_chance)


def _in_words(names: tuple[str, ...], base: Floats, cand: Floats) -> str:
    """`search 20.0 % -> 44.0 %, browse 80.0 % -> 56.0 %`, what moved most first."""
    order = np.argsort(-np.abs(cand - base), kind="stable")[:NAMED]
    return ", ".join(
        f"{names[i]} {base[i] * 100:.1f} % -> {cand[i] * 100:.1f} %"
        for i in order.tolist()
        if abs(cand[i] - base[i]) >= LEAST_NAMED
    )
