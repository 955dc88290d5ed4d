"""Samples built from trials x tasks, and a seeded generator of suites.

Fixtures:
    sample_of: function(baseline, candidate, **fields) -> Sample; both sides are lists of
        tasks, each a list of its runs' tool calls; all runs succeed, end ok and share a session.
    suite_of: function(seed, tasks, trials, **effects) -> Sample with heavy-tailed values.
    judged: function(sample, name, **settings) -> verdict on one metric alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from flightlog.analysis.gate.facts import bad_stops, one_hot
from flightlog.analysis.gate.metrics import select_metrics
from flightlog.analysis.gate.verdict import MetricVerdict
from flightlog.analysis.stats.decide import Settings
from flightlog.analysis.stats.gate import judge
from flightlog.analysis.stats.sample import Counts, Floats, Ints, Sample, Series

Tasks = Sequence[Sequence[float]]


def stops_of(stop: Ints, names: tuple[str, ...]) -> tuple[Floats, dict[str, Counts]]:
    """Stop reasons by number in `names`, `ok` first, as a sample holds them."""
    stops = one_hot(stop, names)
    is_bad, reasons = bad_stops(stops)
    return is_bad, {"stop_reason": reasons, "stop_mix": stops}


def build_sample(baseline: Tasks, candidate: Tasks, **fields: Any) -> Sample:
    """One row per run, task by task, baseline before candidate."""
    task, arm, calls = [], [], []
    for number, (base, cand) in enumerate(zip(baseline, candidate, strict=True)):
        task += [number] * (len(base) + len(cand))
        arm += [False] * len(base) + [True] * len(cand)
        calls += [*base, *cand]
    runs = len(task)
    ones = np.ones(runs)
    values = {
        "tool_calls_per_run": np.array(calls, float),
        "tokens_per_request": 100 * ones,
        "cost_usd": 0.01 * ones,
        "success": ones,
    }
    values.update(fields.pop("values", {}))
    defaults: dict[str, Any] = {
        "session": np.zeros(runs, np.int64),
        "series": {"latency_p95": Series(np.arange(runs), 100 * ones)},
        "seed": 7,
    }
    stop = fields.pop("stop", np.zeros(runs, np.int64))
    names = fields.pop("stop_reasons", ("ok",))
    is_bad, defaults["counts"] = stops_of(stop, names)
    defaults["counts"] |= fields.pop("counts", {})
    values.setdefault("stop_reason", is_bad)
    is_candidate = np.array(arm)
    return Sample(np.array(task), is_candidate, values, **{**defaults, **fields})


def build_suite(
    seed: int, tasks: int, trials: int, *, calls: float = 1, cost: float = 1, latency: float = 1
) -> Sample:
    """A suite of unequal tasks with heavy-tailed cost and latency; factors act on the candidate."""
    rng = np.random.default_rng(seed)
    shape = (tasks, 2 * trials)
    arm = np.zeros(shape, bool)
    arm[:, trials:] = True
    mean = np.exp(rng.normal(np.log(6), 0.6, (tasks, 1)))
    tool_calls = 1 + rng.negative_binomial(8, 8 / (8 + mean), shape).astype(float)
    tool_calls += np.where(arm, rng.binomial(tool_calls.astype(int), calls - 1), 0)
    spend = tool_calls * np.exp(rng.normal(0, 0.4, shape)) * np.where(arm, cost, 1)
    spend *= np.where(rng.random(shape) < 0.03, 1 + rng.pareto(2, shape), 1)
    passes = rng.random(shape) < rng.beta(1.5, 0.8, (tasks, 1))
    stops = rng.random(shape) < rng.beta(0.3, 6, (tasks, 1))
    call_run = np.repeat(np.arange(2 * tasks * trials), 5)
    pace = np.exp(rng.normal(0, 0.4, (tasks, 1)) + rng.normal(0, 0.3, shape)).ravel()
    times = pace[call_run] * np.exp(rng.normal(0, 0.5, call_run.size)) * 1000
    times *= np.where(arm.ravel()[call_run], latency, 1)
    is_bad, counts = stops_of(stops.ravel().astype(np.int64), ("ok", "max_steps"))
    return Sample(
        task=np.repeat(np.arange(tasks), 2 * trials),
        is_candidate=arm.ravel(),
        values={
            "tool_calls_per_run": tool_calls.ravel(),
            "tokens_per_request": 1000 * np.exp(rng.normal(0, 0.3, shape)).ravel(),
            "cost_usd": 0.01 * spend.ravel(),
            "success": passes.ravel().astype(float),
            "stop_reason": is_bad,
        },
        session=np.zeros(arm.size, np.int64),
        series={"latency_p95": Series(call_run, times)},
        counts=counts,
        seed=seed,
    )


@pytest.fixture(scope="session")
def sample_of() -> Callable[..., Sample]:
    return build_sample


@pytest.fixture(scope="session")
def suite_of() -> Callable[..., Sample]:
    return build_suite


@pytest.fixture(scope="session")
def judged() -> Callable[..., MetricVerdict]:
    def one(sample: Sample, name: str = "tool_calls_per_run", **settings: Any) -> MetricVerdict:
        [verdict] = judge(sample, select_metrics([name]), Settings(**settings)).metrics
        return verdict

    return one
