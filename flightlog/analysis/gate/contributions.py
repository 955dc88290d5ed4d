"""Which tasks moved a metric."""

from __future__ import annotations

import numpy as np

from flightlog.analysis.gate.metrics import Kind, select_metrics
from flightlog.analysis.gate.verdict import TASK_LIMIT, MetricVerdict, TaskChange
from flightlog.analysis.stats.measures import known_values
from flightlog.analysis.stats.quantile import p95
from flightlog.analysis.stats.sample import Bools, Floats, Ints, Sample


def task_changes(
    sample: Sample, metric: MetricVerdict, tasks: tuple[tuple[str, str], ...]
) -> tuple[TaskChange, ...]:
    """The tasks that moved a metric most for the worse, largest share first.

    A task's share is its movement over the sum of all movements for the
    worse. For rates and ratios the movement is the difference of the task's
    means, for a latency the difference of slow calls per run, slow being
    above the baseline's p95.

    Args:
        sample: the compared runs.
        metric: its verdict.
        tasks: suite and task id by task number.

    Returns:
        At most `TASK_LIMIT` tasks, none that did not move for the worse.
    """
    base, cand, moved = _movement(sample, metric)
    total = float(np.where(moved > 0, moved, 0.0).sum())
    share = moved / total if total > 0 else np.zeros(len(tasks))
    order = np.lexsort((np.arange(len(tasks)), -share))[:TASK_LIMIT]
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
        if share[i] > 0
    )


def _movement(sample: Sample, metric: MetricVerdict) -> tuple[Floats, Floats, Floats]:
    """Value of each task on both sides, and its movement for the worse; 0 where unknown."""
    arms = sample.is_candidate
    if metric.kind is Kind.QUANTILE:
        return _latency_movement(sample)
    [described] = select_metrics([metric.name])
    values = known_values(described, sample)
    if metric.name == "stop_reason" and sample.stop is not None:
        values = values + (sample.stop > 0)
    known: Bools = ~np.isnan(values)
    base = sample.task_means(np.where(known, values, 0.0), known & ~arms)
    cand = sample.task_means(np.where(known, values, 0.0), known & arms)
    moved = np.nan_to_num(cand - base)
    return base, cand, moved if metric.higher_is_worse else -moved


def _latency_movement(sample: Sample) -> tuple[Floats, Floats, Floats]:
    is_candidate = sample.is_candidate[sample.call_run]
    slow = sample.call_latency_ms > p95(sample.call_latency_ms[~is_candidate])
    task = sample.task[sample.call_run]
    per_run = []
    quantiles = []
    for rows, trials in (
        (~is_candidate, sample.baseline_trials),
        (is_candidate, sample.candidate_trials),
    ):
        per_run.append(np.bincount(task[rows & slow], minlength=sample.task_count) / trials)
        quantiles.append(_p95_by_task(sample.call_latency_ms[rows], task[rows], sample.task_count))
    return quantiles[0], quantiles[1], per_run[1] - per_run[0]


def _p95_by_task(latencies: Floats, task: Ints, task_count: int) -> Floats:
    order = np.argsort(task, kind="stable")
    ends = np.cumsum(np.bincount(task, minlength=task_count))
    return np.array([p95(part) for part in np.split(latencies[order], ends[:-1])])
