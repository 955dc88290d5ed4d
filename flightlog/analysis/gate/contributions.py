"""Which tasks moved a metric."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from flightlog.analysis.gate.metrics import METRICS, Kind, Metric, select_metrics
from flightlog.analysis.gate.verdict import TASK_LIMIT, MetricVerdict, TaskChange
from flightlog.analysis.stats.measures.base import known_values
from flightlog.analysis.stats.quantile import p95
from flightlog.analysis.stats.sample import Bools, Floats, Ints, Sample


def task_changes(
    sample: Sample,
    metric: MetricVerdict,
    tasks: tuple[tuple[str, str], ...],
    *,
    table: Sequence[Metric] = METRICS,
) -> tuple[TaskChange, ...]:
    """The tasks that moved a metric most: those for the worse first, largest share first.

    A task's share is its movement over the sum of all movements for the
    worse. For shares and ratios the movement is the difference of the task's
    means, for a mix that of the share of what moved most, for a latency the
    difference of slow calls per run, slow being above the baseline's p95.

    Args:
        sample: the compared runs.
        metric: its verdict.
        tasks: suite and task id by task number.
        table: every metric that there is.

    Returns:
        At most `TASK_LIMIT` tasks, none that did not move.
    """
    base, cand, moved = _movement(sample, metric, table)
    total = float(np.where(moved > 0, moved, 0.0).sum())
    share = moved / (total or float(np.abs(moved).sum()) or 1.0)
    order = np.lexsort((np.arange(len(tasks)), -np.abs(share)))[:TASK_LIMIT]
    order = order[np.lexsort((order, -share[order]))]
    return tuple(
        TaskChange(
            suite=tasks[i][0],
            task_id=tasks[i][1],
            baseline_runs=int(sample.baseline_trials[i]),
            candidate_runs=int(sample.candidate_trials[i]),
            baseline=None if np.isnan(base[i]) else float(base[i]),
            candidate=None if np.isnan(cand[i]) else float(cand[i]),
            share=float(share[i]) + 0.0,
        )
        for i in order.tolist()
        if share[i] != 0
    )


def _movement(
    sample: Sample, metric: MetricVerdict, table: Sequence[Metric]
) -> tuple[Floats, Floats, Floats]:
    """Value of each task on both sides, and its movement for the worse; 0 where unknown."""
    arms = sample.is_candidate
    if metric.kind is Kind.QUANTILE:
        return _of_series(sample, metric)
    if metric.kind is Kind.MIX:
        values, sign = _of_mix(sample, metric)
    else:
        [described] = select_metrics([metric.name], table=table)
        values, sign = known_values(described, sample), 1 if metric.higher_is_worse else -1
    known: Bools = ~np.isnan(values)
    base = sample.task_means(np.where(known, values, 0.0), known & ~arms)
    cand = sample.task_means(np.where(known, values, 0.0), known & arms)
    return base, cand, sign * np.nan_to_num(cand - base)


def _of_mix(sample: Sample, metric: MetricVerdict) -> tuple[Floats, int]:
    """Share that the thing that moved most has in each run, and whether it rose (1) or fell."""
    counts = sample.counts[metric.name]
    total = counts.table.sum(axis=1)
    shares = np.zeros(counts.table.shape)
    np.divide(counts.table, total[:, None], out=shares, where=total[:, None] > 0)
    means = [
        [
            np.nan_to_num(sample.task_means(column, rows & ~np.isnan(total))).mean()
            for column in shares.T
        ]
        for rows in (~sample.is_candidate, sample.is_candidate)
    ]
    moved = np.subtract(means[1], means[0])
    most = int(np.argmax(np.abs(moved)))
    return np.where(np.isnan(total), np.nan, shares[:, most]), 1 if moved[most] > 0 else -1


def _of_series(sample: Sample, metric: MetricVerdict) -> tuple[Floats, Floats, Floats]:
    series = sample.series[metric.name]
    is_candidate = sample.is_candidate[series.run]
    large = series.value > p95(series.value[~is_candidate])
    task = sample.task[series.run]
    per_run = []
    quantiles = []
    for rows, trials in (
        (~is_candidate, sample.baseline_trials),
        (is_candidate, sample.candidate_trials),
    ):
        per_run.append(np.bincount(task[rows & large], minlength=sample.task_count) / trials)
        quantiles.append(_p95_by_task(series.value[rows], task[rows], sample.task_count))
    moved = per_run[1] - per_run[0]
    return quantiles[0], quantiles[1], moved if metric.higher_is_worse else -moved


def _p95_by_task(values: Floats, task: Ints, task_count: int) -> Floats:
    order = np.argsort(task, kind="stable")
    ends = np.cumsum(np.bincount(task, minlength=task_count))
    return np.array([p95(part) for part in np.split(values[order], ends[:-1])])
