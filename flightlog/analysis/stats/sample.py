"""The runs of one comparison as arrays, and what a task makes of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]
Bools: TypeAlias = npt.NDArray[np.bool_]

UNKNOWN = -1
STOP_OK = 0


@dataclass(frozen=True, eq=False)
class Series:
    """Many values per run, such as the latencies of its model calls.

    Attributes:
        run: row of the sample that each value belongs to.
        value: the values, none unknown, in the unit of the metric.
        unknown_run: row of each value that is unknown.
    """

    run: Ints
    value: Floats
    unknown_run: Ints = field(default_factory=lambda: np.empty(0, np.int64))

    def unknown_share(self, rows: Bools) -> float:
        """Share of the values of these runs that are unknown; 0 where there are none."""
        unknown = int(rows[self.unknown_run].sum())
        total = unknown + int(rows[self.run].sum())
        return unknown / total if total else 0.0


@dataclass(frozen=True, eq=False)
class Counts:
    """How often each run did each of several things, such as call a tool.

    Attributes:
        names: the things.
        table: runs x things, at least 0; NaN throughout for a run that says nothing.
    """

    names: tuple[str, ...]
    table: Floats


@dataclass(frozen=True, eq=False)
class Sample:
    """One row per compared run; every task has runs in both arms.

    Attributes:
        task: task of each run, 0 to number of tasks - 1, none left out.
        is_candidate: arm of each run.
        values: metric name -> value of each run; NaN is unknown.
        session: session of each run, UNKNOWN where not recorded; None when
            no run has one.
        stop: position of each run's stop reason in `stop_reasons`, UNKNOWN
            where the source does not say.
        stop_reasons: names of the stop reasons; position STOP_OK is `ok`.
        series: metric name -> many values per run, for quantiles.
        counts: metric name -> counts per run, for mixes.
        seed: of the shuffles.
    """

    task: Ints
    is_candidate: Bools
    values: Mapping[str, Floats]
    session: Ints | None = None
    stop: Ints | None = None
    stop_reasons: tuple[str, ...] = ("ok",)
    series: Mapping[str, Series] = field(default_factory=dict)
    counts: Mapping[str, Counts] = field(default_factory=dict)
    seed: int = 0

    @cached_property
    def task_count(self) -> int:
        """Number of tasks."""
        return int(self.task.max()) + 1 if self.task.size else 0

    @cached_property
    def baseline_trials(self) -> Floats:
        """Baseline runs per task."""
        return np.bincount(self.task[~self.is_candidate], minlength=self.task_count).astype(float)

    @cached_property
    def candidate_trials(self) -> Floats:
        """Candidate runs per task."""
        return np.bincount(self.task[self.is_candidate], minlength=self.task_count).astype(float)

    @cached_property
    def swing(self) -> Floats:
        """By how much a run moves its task's difference when it changes arm: 1/k_c + 1/k_b."""
        return (1 / self.candidate_trials + 1 / self.baseline_trials)[self.task]

    def part(self, rows: Bools) -> Sample:
        """The sample of some of the runs, without series and counts; their tasks numbered anew."""
        return Sample(
            task=np.unique(self.task[rows], return_inverse=True)[1].astype(np.int64),
            is_candidate=self.is_candidate[rows],
            values={name: values[rows] for name, values in self.values.items()},
            session=None if self.session is None else self.session[rows],
            stop=None if self.stop is None else self.stop[rows],
            stop_reasons=self.stop_reasons,
            seed=self.seed,
        )

    def task_means(self, values: Floats, rows: Bools) -> Floats:
        """Mean of `values` over `rows`, per task; NaN for a task without such a row."""
        total = np.bincount(self.task[rows], values[rows], minlength=self.task_count)
        count = np.bincount(self.task[rows], minlength=self.task_count)
        means = np.full(self.task_count, np.nan)
        np.divide(total, count, out=means, where=count > 0)
        return means


@dataclass(frozen=True, eq=False)
class Column:
    """One metric's values, with what is unknown filled in so that it cannot sway a test.

    A run without a value gets its task's mean over both arms in `pooled`
    (a function of the task alone, so relabelling stays valid and such a run
    only costs power), and its own arm's mean in `by_arm` (for bounds, which
    are then taken from the known runs alone: filled values spread too little). A task
    without any value in one of the arms is out of use: all its runs count as 0.

    Attributes:
        pooled: value of each run for the tests.
        by_arm: value of each run for the bounds.
        baseline_means: mean of known values, per task in use.
        candidate_means: the same of the candidate.
        in_use: tasks with a known value in both arms.
        known: runs with a known value in a task in use.
    """

    pooled: Floats
    by_arm: Floats
    baseline_means: Floats
    candidate_means: Floats
    in_use: Bools
    known: Bools

    @classmethod
    def of(cls, sample: Sample, raw: Floats) -> Column:
        """The column of one metric's raw values, NaN being unknown."""
        known = ~np.isnan(raw)
        values = np.where(known, raw, 0.0)
        arms = sample.is_candidate
        base = sample.task_means(values, known & ~arms)
        cand = sample.task_means(values, known & arms)
        both = sample.task_means(values, known)
        in_use = ~np.isnan(base) & ~np.isnan(cand)
        used_row = in_use[sample.task]
        own = np.where(arms, cand[sample.task], base[sample.task])
        return cls(
            pooled=np.where(used_row, np.where(known, values, both[sample.task]), 0.0),
            by_arm=np.where(used_row, np.where(known, values, own), 0.0),
            baseline_means=base[in_use],
            candidate_means=cand[in_use],
            in_use=in_use,
            known=known & used_row,
        )
