"""Gates that one might write instead, on the same samples as ours.

Each compares tool calls, cost, success, bad stops and the p95 of latency, and alarms when a change
for the worse is beyond the same tolerance and significant at alpha over the number of metrics
(Bonferroni). The naive one alarms when any mean moved by more than 10 %.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from scipy import stats

from flightlog.analysis.stats.quantile import p95
from flightlog.analysis.stats.sample import Sample

ALPHA = 0.05
DRAWS = 400
TOLERANCES = {"tool_calls_per_run": 0.10, "cost_usd": 0.20, "latency_p95": 0.25}
POINTS = 0.05


def measured(sample: Sample) -> Iterator[tuple[str, np.ndarray, float, bool]]:
    """Metrics as one value per run, more being worse: name, values, tolerance, is a share."""
    for name in ("tool_calls_per_run", "cost_usd"):
        yield name, sample.values[name], TOLERANCES[name], False
    yield "success", 1 - sample.values["success"], POINTS, True
    yield "stop_reason", sample.values["stop_reason"], POINTS, True
    series = sample.series["latency_p95"]
    ends = np.cumsum(np.bincount(series.run, minlength=sample.task.size))[:-1]
    order = np.argsort(series.run, kind="stable")
    per_run = np.array([p95(part) for part in np.split(series.value[order], ends)])
    yield "latency_p95", per_run, TOLERANCES["latency_p95"], False


def naive(sample: Sample) -> bool:
    """Any mean moved by more than 10 % for the worse."""
    arm = sample.is_candidate
    series = sample.series["latency_p95"]
    slow = arm[series.run]
    rises = [p95(series.value[slow]) / p95(series.value[~slow])]
    for name in ("tool_calls_per_run", "cost_usd"):
        values = sample.values[name]
        rises.append(values[arm].mean() / values[~arm].mean())
    passed = sample.values["success"]
    rises.append(passed[~arm].mean() / max(passed[arm].mean(), 1e-9))
    return max(rises) > 1.1


def _alarm(sample: Sample, p_value: Callable[[Sample, np.ndarray], float]) -> bool:
    metrics = list(measured(sample))
    for _, values, tolerance, is_share in metrics:
        base, cand = _task_means(sample, values)
        moved = cand.mean() - base.mean()
        beyond = moved > tolerance if is_share else cand.sum() > (1 + tolerance) * base.sum()
        if beyond and p_value(sample, values) <= ALPHA / len(metrics):
            return True
    return False


def _task_means(sample: Sample, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    arm = sample.is_candidate
    return sample.task_means(values, ~arm), sample.task_means(values, arm)


def welch(sample: Sample) -> bool:
    """Welch's t on all runs, tasks ignored."""

    def p(sample: Sample, values: np.ndarray) -> float:
        arm = sample.is_candidate
        test = stats.ttest_ind(values[arm], values[~arm], equal_var=False, alternative="greater")
        return float(np.nan_to_num(test.pvalue, nan=1.0))

    return _alarm(sample, p)


def paired_t(sample: Sample) -> bool:
    """Paired t on task means."""

    def p(sample: Sample, values: np.ndarray) -> float:
        base, cand = _task_means(sample, values)
        test = stats.ttest_rel(cand, base, alternative="greater")
        return float(np.nan_to_num(test.pvalue, nan=1.0))

    return _alarm(sample, p)


def wilcoxon(sample: Sample) -> bool:
    """Wilcoxon's signed rank on task means."""

    def p(sample: Sample, values: np.ndarray) -> float:
        base, cand = _task_means(sample, values)
        if not (cand - base).any():
            return 1.0
        test = stats.wilcoxon(cand - base, alternative="greater", zero_method="zsplit")
        return float(test.pvalue)

    return _alarm(sample, p)


def bootstrap(sample: Sample) -> bool:
    """Two levels: tasks are drawn, then runs within each; the share of means that did not rise."""
    rng = np.random.default_rng(sample.seed)
    n = sample.task_count

    def p(sample: Sample, values: np.ndarray) -> float:
        shape = (n, 2, values.size // (2 * n))
        order = np.lexsort((sample.is_candidate, sample.task))
        runs = values[order].reshape(shape)
        tasks = rng.integers(0, n, (DRAWS, n))
        trials = rng.integers(0, shape[2], (DRAWS, n, 2, shape[2]))
        drawn = np.take_along_axis(runs[tasks], trials, axis=3).mean(axis=3).sum(axis=1)
        return float(np.mean(drawn[:, 1] <= drawn[:, 0]))

    return _alarm(sample, p)


RIVALS = {
    "naive 10 %": naive,
    "Welch t": welch,
    "paired t": paired_t,
    "Wilcoxon": wilcoxon,
    "bootstrap": bootstrap,
}
