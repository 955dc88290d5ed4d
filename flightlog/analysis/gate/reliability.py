"""How reliable a side is: pass^k, pass@k and the cost of a success, with confidence intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

import numpy as np

from flightlog.analysis.stats.sample import Bools, Floats, Sample

MOST_TRIALS: Final = 10
CONFIDENCE: Final = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its confidence interval at 95 %.

    Attributes:
        estimate: a share, or USD.
        lower: lower end.
        upper: upper end.
    """

    estimate: float
    lower: float
    upper: float


@dataclass(frozen=True, slots=True)
class PassRate:
    """How often k trials of a task succeed.

    Attributes:
        k: trials.
        all_pass: pass^k, the chance that all k succeed.
        any_pass: pass@k, the chance that one of k succeeds.
        tasks: tasks with at least k judged trials; the estimates are over these.
    """

    k: int
    all_pass: Interval
    any_pass: Interval
    tasks: int


@dataclass(frozen=True, slots=True)
class Reliability:
    """One side.

    Attributes:
        side: `baseline` or `candidate`.
        pass_rates: for k from 1 up to the trials that every task has, at most 10; empty where
            success is not recorded.
        cost_per_success_usd: cost of all runs over successes, tasks counting alike; None where
            cost or success is unknown, or nothing succeeded.
    """

    side: str
    pass_rates: tuple[PassRate, ...]
    cost_per_success_usd: Interval | None


def reliability_of(sample: Sample) -> tuple[Reliability, ...]:
    """Both sides of a sample; empty where no run says whether it succeeded."""
    if np.isnan(sample.values["success"]).all():
        return ()
    return tuple(
        Reliability(side, _pass_rates(sample, rows), _cost_per_success(sample, rows))
        for side, rows in (("baseline", ~sample.is_candidate), ("candidate", sample.is_candidate))
    )


def _pass_rates(sample: Sample, rows: Bools) -> tuple[PassRate, ...]:
    passed = sample.values["success"]
    known = rows & ~np.isnan(passed)
    trials = np.bincount(sample.task[known], minlength=sample.task_count)
    successes = np.bincount(sample.task[known], passed[known], minlength=sample.task_count)
    judged = trials > 0
    if not judged.any():
        return ()
    n, c = trials[judged], np.round(successes[judged]).astype(np.int64)
    found = []
    for k in range(1, min(int(n.min()), MOST_TRIALS) + 1):
        all_pass = _drawn(n, c, k)
        any_pass = 1 - _drawn(n, n - c, k)
        found.append(PassRate(k, share_interval(all_pass), share_interval(any_pass), len(n)))
    return tuple(found)


def _drawn(n: np.ndarray, c: np.ndarray, k: int) -> Floats:
    """C(c, k) / C(n, k) per task: the chance that k trials drawn of n are all among c.

    Source: Yao et al. 2024, tau-bench (pass^k); Chen et al. 2021, Codex (pass@k).
    """
    return np.array(
        [
            math.comb(some, k) / math.comb(whole, k)
            for whole, some in zip(n.tolist(), c.tolist(), strict=True)
        ]
    )


def share_interval(by_task: Floats) -> Interval:
    """Mean over tasks of a share, with an interval for such tasks in general.

    Wilson's interval at the effective number of observations, that with which a binomial
    share would have the standard error that the tasks show; where the tasks show none, their
    number.

    Source: Wilson 1927; effective sample size of Korn and Graubard 1998; tasks as clusters,
    Miller 2024.
    """
    tasks, mean = len(by_task), float(by_task.mean())
    variance = float(by_task.var(ddof=1)) / tasks if tasks > 1 else 0.0
    spread = mean * (1 - mean)
    n = spread / variance if variance > 0 and spread > 0 else float(tasks)
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    middle = (mean + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(spread / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return Interval(mean, max(0.0, min(mean, middle - half)), min(1.0, max(mean, middle + half)))


def _cost_per_success(sample: Sample, rows: Bools) -> Interval | None:
    """Ratio of task means, with a log-normal interval by linearisation over tasks.

    Source: Cochran 1977, ch. 6, variance of a ratio estimator.
    """
    cost, passed = sample.values["cost_usd"], sample.values["success"]
    known = rows & (cost > 0) & ~np.isnan(passed)
    if not known.any() or known.sum() * 2 <= rows.sum():
        return None
    usd = sample.task_means(np.where(known, cost, 0.0), known)
    share = sample.task_means(np.where(known, passed, 0.0), known)
    usd, share = usd[~np.isnan(usd)], share[~np.isnan(share)]
    if share.sum() <= 0:
        return None
    ratio = float(usd.sum() / share.sum())
    tasks = len(usd)
    if tasks < 2:
        return Interval(ratio, 0.0, math.inf)
    parts = usd / usd.mean() - share / share.mean()
    error = float(parts.std(ddof=1)) / math.sqrt(tasks)
    reach = math.exp(NormalDist().inv_cdf((1 + CONFIDENCE) / 2) * error)
    return Interval(ratio, ratio / reach, ratio * reach)
