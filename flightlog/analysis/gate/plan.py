"""What a suite can detect and prove, from the spread of its own baseline runs.

The error of a change falls as 1 / trials: tasks are fixed, so only the spread of the runs
within each task counts. The same formula says how many trials an open verdict needs
(`flightlog.analysis.stats.trials`). It is of a normal test on the mean; the gate takes the
largest of four scores and mostly finds more.

Source: power of a one-sided z-test; Miller 2024, Adding Error Bars to Evals, section 5.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

import numpy as np

from flightlog.analysis.db import Traces
from flightlog.analysis.gate.metrics import Kind, Metric
from flightlog.analysis.gate.pairing import one_side
from flightlog.analysis.gate.selection import Side
from flightlog.analysis.gate.table import custom_of
from flightlog.analysis.stats.bounds import FEWEST_MIXED_TASKS
from flightlog.analysis.stats.decide import Settings
from flightlog.analysis.stats.measures.base import known_values
from flightlog.analysis.stats.quantile import p95
from flightlog.analysis.stats.sample import Bools, Floats, Sample
from flightlog.errors import NothingToCompareError, UsageError

DEFAULT_TRIALS: Final = (1, 2, 3, 5, 8, 12, 20)
MOST_TRIALS: Final = 1_000
POWER: Final = 0.80
DRAWS: Final = 400
LEAST_RUNS: Final = 2
HALF: Final = 0.5
_NORMAL: Final = NormalDist()


@dataclass(frozen=True, slots=True)
class Reach:
    """What one metric allows at a number of trials.

    Attributes:
        trials: per task and side.
        detectable: change for the worse that a check finds in 80 % of cases; a share, or a
            difference of shares; infinite where none is.
        ok_chance: chance that OK is shown when nothing changed.
    """

    trials: int
    detectable: float
    ok_chance: float


@dataclass(frozen=True, slots=True)
class MetricPlan:
    """What one metric allows.

    Attributes:
        metric: the metric.
        error: standard error of a change at one trial per task and side; a logarithm for
            ratios.
        reach: one for each number of trials.
        wanted: smallest number of trials that finds the wanted effect; None where none was
            asked for, or no number up to 1,000 does.
    """

    metric: Metric
    error: float
    reach: tuple[Reach, ...]
    wanted: int | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What a suite can detect and prove.

    Attributes:
        side: the runs that it was made from.
        runs: how many these are.
        tasks: of how many tasks.
        trials: numbers of trials that are looked at.
        usd: cost of a check of both sides at these; None where the cost is unknown.
        all_ok: chance that all gated metrics are shown to be OK when nothing changed, at these.
        metrics: the gated metrics with a known spread.
        unknown: names of the gated metrics without one, each with why.
        effects: wanted effect by metric.
    """

    side: str
    runs: int
    tasks: int
    trials: tuple[int, ...]
    usd: tuple[float | None, ...]
    all_ok: tuple[float, ...]
    metrics: tuple[MetricPlan, ...]
    unknown: tuple[tuple[str, str], ...]
    effects: Mapping[str, float]


def plan(
    traces: Traces,
    side: Side,
    metrics: Sequence[Metric],
    *,
    trials: Iterable[int] = DEFAULT_TRIALS,
    effects: Mapping[str, float] | None = None,
    settings: Settings | None = None,
) -> Plan:
    """What checks of this side's suite could find, at several numbers of trials.

    Args:
        traces: open stores.
        side: baseline runs, 2 or more of most tasks.
        metrics: the gated metrics.
        trials: per task and side.
        effects: metric -> change for the worse that is to be found, as a share.
        settings: error rate, and what OK needs; None are the defaults.

    Raises:
        NothingToCompareError: most tasks have fewer than 2 runs.
        UsageError: numbers of trials, or effects, that mean nothing.
    """
    settings = settings or Settings()
    numbers = tuple(sorted(set(trials)))
    if not numbers or numbers[0] < 1 or numbers[-1] > MOST_TRIALS:
        raise UsageError(
            f"trials {', '.join(map(str, numbers)) or 'none'}", hint=f"From 1 to {MOST_TRIALS}."
        )
    wanted = dict(effects or {})
    names = [metric.name for metric in metrics]
    for name, effect in wanted.items():
        if name not in names or not 0 < effect < math.inf:
            raise UsageError(
                f"effect {effect:g} of {name!r}",
                hint=f"A gated metric and a share above 0: {', '.join(names)}.",
            )
    sample = one_side(traces, side, custom=custom_of(metrics))
    counts = np.bincount(sample.task, minlength=sample.task_count)
    if np.mean(counts >= LEAST_RUNS) < HALF:
        raise NothingToCompareError(
            f"most of the {sample.task_count} tasks of {side.text} have a single run",
            hint="A spread needs 2 or more runs per task: replay or record more trials.",
        )
    z_gate = _NORMAL.inv_cdf(1 - settings.alpha / len(metrics))
    found, unknown = [], []
    for metric in metrics:
        error = _error(metric, sample)
        if error is None:
            unknown.append((metric.name, "not recorded, or in too few runs"))
            continue
        reach = tuple(_reach(metric, error, k, z_gate, sample, settings) for k in numbers)
        settled = None
        if metric.name in wanted:
            effect = _on_scale(metric, wanted[metric.name])
            settled = _fewest(metric, error, effect, z_gate)
        found.append(MetricPlan(metric, error, reach, settled))
    cost = sample.values["cost_usd"]
    known = cost[cost > 0]
    per_trial = float(known.mean()) if known.size > cost.size / 2 else None
    return Plan(
        side=side.text,
        runs=int(sample.task.size),
        tasks=sample.task_count,
        trials=numbers,
        usd=tuple(
            None if per_trial is None else 2 * sample.task_count * k * per_trial for k in numbers
        ),
        all_ok=tuple(
            math.prod(one.reach[place].ok_chance for one in found) for place in range(len(numbers))
        ),
        metrics=tuple(found),
        unknown=tuple(unknown),
        effects=wanted,
    )


def detection(metric: Metric, error: float, trials: int, effect: float, z_gate: float) -> float:
    """Chance that a change for the worse is a DRIFT: significant, and beyond the tolerance.

    Args:
        metric: its tolerance counts.
        error: standard error at one trial per task and side.
        trials: per task and side.
        effect: the change, a logarithm for ratios.
        z_gate: quantile of the error rate, as corrected for the number of metrics.
    """
    at = error / math.sqrt(trials)
    limit = _on_scale(metric, metric.tolerance)
    if at == 0:
        return float(effect > limit)
    return _NORMAL.cdf((effect - max(z_gate * at, limit)) / at)


def _reach(
    metric: Metric, error: float, trials: int, z_gate: float, sample: Sample, settings: Settings
) -> Reach:
    at, limit = error / math.sqrt(trials), _on_scale(metric, metric.tolerance)
    smallest = max(z_gate * at, limit) + _NORMAL.inv_cdf(POWER) * at
    enough = sample.task_count >= settings.min_tasks
    enough = enough and sample.task_count * trials >= settings.min_runs
    margin = _NORMAL.inv_cdf(1 - settings.alpha) * at
    if metric.kind is Kind.POINTS and _mixed_tasks(metric, sample) < FEWEST_MIXED_TASKS:
        # Where hardly anything went wrong, the number of runs alone bounds what may.
        margin = max(margin, 1 - settings.alpha ** (1 / (sample.task_count * trials)))
    chance = 0.0
    if enough:
        chance = float(margin < limit) if at == 0 else _NORMAL.cdf((limit - margin) / at)
    return Reach(trials, _off_scale(metric, smallest), chance)


def _mixed_tasks(metric: Metric, sample: Sample) -> int:
    """Tasks that have bad runs and good ones."""
    values = known_values(metric, sample)
    known = ~np.isnan(values)
    mean, _ = _within(values, known, sample)
    return int(((mean > 0) & (mean < 1)).sum())


def _fewest(metric: Metric, error: float, effect: float, z_gate: float) -> int | None:
    """Fewest trials that find an effect in 80 % of cases; None where none up to 1,000 do."""
    for trials in range(1, MOST_TRIALS + 1):
        if detection(metric, error, trials, effect, z_gate) >= POWER:
            return trials
    return None


def _on_scale(metric: Metric, change: float) -> float:
    """A change for the worse as the test sees it."""
    if metric.kind.is_share:
        return change
    if metric.higher_is_worse:
        return math.log1p(change)
    return -math.log1p(-change) if change < 1 else math.inf


def _off_scale(metric: Metric, change: float) -> float:
    if metric.kind.is_share:
        return change
    return math.expm1(change) if metric.higher_is_worse else -math.expm1(-change)


def _error(metric: Metric, sample: Sample) -> float | None:
    """Standard error of a change at one trial per task and side; None where it is unknown."""
    if metric.kind is Kind.QUANTILE:
        return _quantile_error(metric, sample)
    if metric.kind is Kind.MIX:
        counts = sample.counts.get(metric.name)
        return None if counts is None or not counts.names else _mix_error(counts.table, sample)
    if metric.name not in sample.values:
        return None
    values = known_values(metric, sample)
    known = ~np.isnan(values)
    if known.mean() <= HALF:
        return None
    mean, variance = _within(values, known, sample)
    if metric.kind is Kind.POINTS:
        return math.sqrt(2 * float(variance.sum())) / len(mean)
    total = float(mean.sum())
    return math.sqrt(2 * float(variance.sum())) / total if total > 0 else 0.0


def _within(values: Floats, known: Bools, sample: Sample) -> tuple[Floats, Floats]:
    """Mean and variance of a run of each task; a task with one run has the mean spread."""
    task = sample.task[known]
    n = np.bincount(task, minlength=sample.task_count)
    there = n > 0
    total = np.bincount(task, values[known], minlength=sample.task_count)
    mean = np.zeros(sample.task_count)
    np.divide(total, n, out=mean, where=there)
    squares = np.bincount(task, (values[known] - mean[task]) ** 2, minlength=sample.task_count)
    many = n >= LEAST_RUNS
    variance = np.zeros(sample.task_count)
    np.divide(squares, n - 1, out=variance, where=many)
    variance[there & ~many] = variance[many].mean() if many.any() else 0.0
    return mean[there], variance[there]


def _quantile_error(metric: Metric, sample: Sample) -> float | None:
    """From random halves of each task's runs."""
    series = sample.series.get(metric.name)
    if series is None or not series.value.size:
        return None
    found = []
    for half, _ in _halves(sample):
        inside = half[series.run]
        if inside.any() and not inside.all():
            low, high = p95(series.value[inside]), p95(series.value[~inside])
            if low > 0 and high > 0:
                found.append(math.log(high / low))
    return _per_trial(found, sample)


def _mix_error(table: Floats, sample: Sample) -> float | None:
    """Of the share that moves most, from random halves of each task's runs."""
    known = ~np.isnan(table.sum(axis=1))
    found = []
    for half, weight in _halves(sample):
        shares = []
        for rows in (half & known, ~half & known):
            means = (table[rows] * weight[rows, None]).sum(axis=0)
            shares.append(means / means.sum() if means.sum() > 0 else means)
        found.append(float(np.abs(shares[0] - shares[1]).max()))
    return _per_trial(found, sample, is_folded=True)


def _per_trial(found: Sequence[float], sample: Sample, *, is_folded: bool = False) -> float | None:
    """Error of two sides of one trial each, from the differences of halves."""
    if not found:
        return None
    values = np.array(found)
    # A largest difference is above 0 by itself: its 95 % point stands for 1.645 errors.
    spread = float(np.quantile(values, 0.95)) / 1.645 if is_folded else float(values.std())
    trials = np.bincount(sample.task, minlength=sample.task_count)
    many = trials[trials >= LEAST_RUNS]
    halves = many // 2
    scale = float(np.mean(1 / halves + 1 / (many - halves)))
    return spread * math.sqrt(2 / scale)


def _halves(sample: Sample) -> Iterable[tuple[Bools, Floats]]:
    """Random halves of the runs of each task with two or more, and each run's weight in its half;
    the other tasks take no part."""
    rng = np.random.Generator(np.random.PCG64(sample.task.size))
    counts = np.bincount(sample.task, minlength=sample.task_count)
    takes_part = counts[sample.task] >= LEAST_RUNS
    half_size = counts // 2
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    for _ in range(DRAWS):
        order = np.lexsort((rng.random(sample.task.size), sample.task))
        place = np.empty(sample.task.size, np.int64)
        place[order] = np.arange(sample.task.size) - starts[sample.task[order]]
        half: Bools = place < half_size[sample.task]
        size = np.where(half, half_size[sample.task], (counts - half_size)[sample.task])
        weight = np.where(takes_part, 1 / np.maximum(size, 1), 0.0)
        yield half, weight
