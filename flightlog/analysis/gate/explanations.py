"""Why a metric drifted: the tools, the tasks and the first steps that explain it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import pyarrow as pa

from flightlog.analysis.gate.facts import Chosen, bools, coded, floats
from flightlog.analysis.gate.verdict import Decision, MetricVerdict
from flightlog.analysis.sql_files import sql_text
from flightlog.analysis.stats.quantile import p95
from flightlog.analysis.stats.sample import UNKNOWN, Floats, Sample
from flightlog.analysis.wording import counted

MOST_TASKS: Final = 20
MOST_RUNS: Final = 2_000
NAMED: Final = 3
LEAST_SHARE: Final = 0.2
MOST_KINDS: Final = 2
_MEASURED: Final = {
    "cost_usd": ("cost_usd", "added cost comes"),
    "tool_calls_per_run": ("calls", "added tool calls come"),
    "tool_failures": ("failed", "added failures come"),
}
"""Metric -> column of gate/spent.sql, and what its rise is called."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """What explains the drift of one metric.

    Attributes:
        metric: the metric.
        text: one plain sentence.
        share: part of the movement that it explains, 0 to 1; None where it is no part.
        tool_name: tool that it is about; None where it is about no tool.
        step: median step at which the runs first differ from the baseline's; None where unknown.
        tasks: suite and id of the tasks that it is about, what moved most first; at most 20.
    """

    metric: str
    text: str
    share: float | None
    tool_name: str | None
    step: int | None
    tasks: tuple[tuple[str, str], ...]


def explanations_of(
    chosen: Chosen,
    sample: Sample,
    metrics: Sequence[MetricVerdict],
    tasks: Sequence[tuple[str, str]],
) -> tuple[Explanation, ...]:
    """One explanation for each metric that drifted, where the data show one.

    Args:
        chosen: the compared runs.
        sample: the same as arrays.
        metrics: the verdicts.
        tasks: suite and id of each task of the sample.
    """
    drifted = [m for m in metrics if m.decision is Decision.DRIFT]
    found: list[Explanation] = []
    spent = _Spent(chosen, sample) if any(m.name in _MEASURED for m in drifted) else None
    for metric in drifted:
        if metric.name in _MEASURED and spent is not None:
            found += spent.explain(metric.name, tasks)
        elif metric.name == "success":
            found += _failing(chosen, sample, tasks)
        elif metric.moved:
            found.append(Explanation(metric.name, metric.moved, None, None, None, ()))
        elif metric.name == "stop_reason":
            found += _stops(sample)
        elif metric.name in sample.series:
            found += _large(sample, metric.name, tasks)
    return tuple(found)


class _Spent:
    """What the runs did with each tool, per task and side."""

    def __init__(self, chosen: Chosen, sample: Sample) -> None:
        self._chosen, self._sample = chosen, sample
        table = chosen.traces.table(sql_text("gate", "spent.sql"))
        run = chosen.place_of(table)
        codes, self._tools = coded(table, "tool_name")
        ours = run != UNKNOWN
        self._table = table
        self._run, self._ours = run[ours], ours
        # Number of the tool, twice: first calls, then repeated ones; 0 is no tool.
        self._kind = ((codes + 1) * 2 + bools(table, "is_again"))[ours]

    def explain(self, metric: str, tasks: Sequence[tuple[str, str]]) -> Iterator[Explanation]:
        """The one or two kinds of call that a fifth of a rise or more comes from."""
        column, what = _MEASURED[metric]
        moved = self._moved(column)
        net = np.maximum(moved.mean(axis=0), 0.0)
        if net.sum() <= 0:
            return
        shares = net / net.sum()
        for kind in np.argsort(-shares, kind="stable")[:MOST_KINDS].tolist():
            if shares[kind] < LEAST_SHARE:
                return
            order = _risen(moved[:, kind])
            step = first_divergence(self._chosen, self._sample, order[:MOST_TASKS])
            after = f" after step {step}" if step else ""
            text = (
                f"{shares[kind] * 100:.0f} % of the {what} from {self._who(kind, metric)}{after} "
                f"in {counted(len(order), 'task')}"
            )
            about = tuple(tasks[t] for t in order[:MOST_TASKS])
            yield Explanation(metric, text, float(shares[kind]), self._tool(kind), step, about)

    def _tool(self, kind: int) -> str | None:
        return self._tools[kind // 2 - 1] if kind > 1 else None

    def _who(self, kind: int, metric: str) -> str:
        name = self._tool(kind)
        if name is None:
            return "steps without a tool call"
        again = " called again with the same arguments" if kind % 2 else ""
        return f"{name!r}{again}{' failing' if metric == 'tool_failures' else ''}"

    def _moved(self, column: str) -> Floats:
        """Candidate's mean minus the baseline's, tasks x kinds of call."""
        sample, kinds = self._sample, 2 * (len(self._tools) + 1)
        amounts = floats(self._table, column)[self._ours]
        moved = np.zeros((sample.task_count, kinds))
        arm, task = sample.is_candidate[self._run], sample.task[self._run]
        weight = np.where(arm, 1 / sample.candidate_trials[task], -1 / sample.baseline_trials[task])
        np.add.at(moved, (task, self._kind), amounts * weight)
        return moved


def first_divergence(chosen: Chosen, sample: Sample, tasks: Sequence[int]) -> int | None:
    """Median step after which candidate runs of these tasks call otherwise than any baseline run.

    The step before the first one whose calls no baseline run of the task made after the same
    steps; None where no step is recorded or nothing diverges.
    """
    rows = np.flatnonzero(np.isin(sample.task, tasks))[:MOST_RUNS]
    steps = _steps_of(chosen, rows.tolist())
    known: defaultdict[int, set[tuple[object, ...]]] = defaultdict(set)
    for row in rows.tolist():
        if not sample.is_candidate[row]:
            calls = _calls(steps.get(row, ()))
            known[int(sample.task[row])].update(calls[:n] for n in range(1, len(calls) + 1))
    found = []
    for row in rows.tolist():
        if sample.is_candidate[row]:
            path, before = steps.get(row, ()), known[int(sample.task[row])]
            calls = _calls(path)
            first = next((n for n in range(len(path)) if calls[: n + 1] not in before), None)
            if first is not None:
                found.append(path[first - 1][0] if first else 0)
    return int(np.median(found)) if found else None


_Path: TypeAlias = tuple[tuple[int, tuple[tuple[str, str], ...]], ...]
"""Steps of a run with their tool calls, in no order within a step."""


def _calls(path: _Path) -> tuple[object, ...]:
    return tuple(calls for _, calls in path)


def _steps_of(chosen: Chosen, rows: Sequence[int]) -> dict[int, _Path]:
    """The tool calls of each run, one entry per step."""
    table = chosen.table.take(pa.array(chosen.rows[list(rows)]))
    keys = [
        {"store": store, "run_id": run_id}
        for store, run_id in zip(
            table.column("store").to_pylist(), table.column("run_id").to_pylist(), strict=True
        )
    ]
    called = chosen.traces.table(sql_text("gate", "called.sql"), {"keys": keys})
    place = chosen.place_of(called).tolist()
    by_run: dict[int, dict[int, list[tuple[str, str]]]] = defaultdict(lambda: defaultdict(list))
    for row, call in zip(place, called.to_pylist(), strict=True):
        by_run[row][call["step"] or 0].append((call["tool_name"] or "", call["args"] or ""))
    return {
        row: tuple((step, tuple(sorted(calls))) for step, calls in sorted(steps.items()))
        for row, steps in by_run.items()
    }


def _failing(
    chosen: Chosen, sample: Sample, tasks: Sequence[tuple[str, str]]
) -> Iterator[Explanation]:
    """The tasks that succeed less often, those that always did first."""
    passed = sample.values["success"]
    known = ~np.isnan(passed)
    sides = [
        np.nan_to_num(sample.task_means(np.where(known, passed, 0.0), known & rows))
        for rows in (~sample.is_candidate, sample.is_candidate)
    ]
    order = _risen(sides[0] - sides[1])
    if not order:
        return
    step = first_divergence(chosen, sample, order[:MOST_TASKS])
    named = ", ".join("/".join(filter(None, tasks[t])) for t in order[:NAMED])
    more = f" and {len(order) - NAMED} more" if len(order) > NAMED else ""
    after = "" if step is None else f"; runs of these first differ after step {step}"
    text = f"{counted(len(order), 'task')} succeed less often: {named}{more}{after}"
    about = tuple(tasks[t] for t in order[:MOST_TASKS])
    yield Explanation("success", text, None, None, step, about)


def _risen(moved: Floats) -> list[int]:
    """The tasks with a movement above 0, the largest first."""
    order: list[int] = np.argsort(-moved, kind="stable").tolist()
    return [task for task in order if moved[task] > 0]


def _stops(sample: Sample) -> Iterator[Explanation]:
    """Which bad reasons became more frequent."""
    reasons = sample.counts["stop_reason"]
    sign = np.where(sample.is_candidate, 1.0, -1.0)
    added = np.nansum(reasons.table * sign[:, None], axis=0)
    changes = Counter(dict(zip(reasons.names, added.tolist(), strict=True)))
    more = [(name, count) for name, count in changes.most_common(NAMED) if count > 0]
    if more:
        text = ", ".join(f"{name} in {count:.0f} more runs" for name, count in more)
        yield Explanation("stop_reason", text, None, None, None, ())


def _large(sample: Sample, metric: str, tasks: Sequence[tuple[str, str]]) -> Iterator[Explanation]:
    """In how few tasks half of the values above the baseline's p95 are."""
    series = sample.series[metric]
    arm = sample.is_candidate[series.run]
    if not arm.any() or arm.all():
        return
    large = arm & (series.value > p95(series.value[~arm]))
    by_task = np.bincount(sample.task[series.run[large]], minlength=sample.task_count)
    total = int(by_task.sum())
    if not total:
        return
    order = np.argsort(-by_task, kind="stable")
    few = int(np.searchsorted(np.cumsum(by_task[order]), total / 2)) + 1
    share = float(by_task[order[:few]].sum()) / total
    text = (
        f"{share * 100:.0f} % of the candidate's {counted(total, 'value')} above the baseline's "
        f"p95 are in {few} of {counted(sample.task_count, 'task')}"
    )
    yield Explanation(metric, text, share, None, None, tuple(tasks[t] for t in order[:MOST_TASKS]))
