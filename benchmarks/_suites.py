"""Suites with a known effect, for measuring gates.

A negative binomial number of calls on log-normal task means; tokens that grow with calls to the
power 1.3, with log-normal noise and a Pareto tail in 3 % of the runs; success and bad stops by
task (beta); latencies with task, run and call effects and a Pareto tail; four tools in a mix of
each task's own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flightlog.analysis.stats.sample import Counts, Sample, Series

MEAN_SUCCESS = 1.5 / 2.3
TOOLS = ("search", "read", "write", "browse")


@dataclass(frozen=True)
class Effect:
    """What is done to the candidate's runs; nothing by default."""

    calls: float = 0.0
    cost: float = 0.0
    success: float = 0.0
    p95: float = 1.0
    storm: float = 0.0
    swap: float = 0.0
    fails: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Effect:
        if text == "none":
            return cls()
        if text == "storm":
            return cls(storm=0.05)
        for name, sign in (
            ("calls", "+"), ("cost", "+"), ("success", "-"), ("swap", "+"), ("fails", "+"),
        ):  # fmt: skip
            if text.startswith(name + sign):
                return cls(**{name: float(text[len(name) + 1 :]) / 100})
        return cls(p95=float(text.removeprefix("p95x")))


def make_sample(
    rng: np.random.Generator, tasks: int, trials: int, effect: Effect, candidate: int | None = None
) -> Sample:
    """One suite: `tasks` x `trials` runs per arm, all in one session.

    Args:
        rng: of all draws.
        tasks: number of tasks.
        trials: runs of each task on the baseline.
        effect: what is done to the candidate's runs.
        candidate: runs of each task on the candidate; None is as on the baseline.
    """
    each = trials + (trials if candidate is None else candidate)
    shape = (tasks, each)
    arm = np.zeros(shape, bool)
    arm[:, trials:] = True
    calls = _calls(rng, shape, arm, effect)
    tokens = _tokens(rng, calls) * np.where(arm, 1 + effect.cost, 1.0)
    cost = tokens * 3e-6 * np.exp(rng.normal(0, 0.1, shape))
    rate = rng.beta(1.5, 0.8, (tasks, 1)) * np.where(arm, 1 - effect.success / MEAN_SUCCESS, 1)
    passed = rng.random(shape) < rate
    is_bad = rng.random(shape) < rng.beta(0.3, 6, (tasks, 1))
    call_run = np.repeat(np.arange(arm.size), np.minimum(calls, 60).astype(int).ravel())
    apart = np.random.default_rng(int(calls.sum()))  # so that other draws stay as they are
    tools = _tools(apart, calls, arm, effect.swap)
    failed = apart.binomial(calls.astype(int), 0.03 + np.where(arm, effect.fails, 0.0)) / calls
    bad = is_bad.ravel().astype(float)
    return Sample(
        task=np.repeat(np.arange(tasks), each),
        is_candidate=arm.ravel(),
        values={
            "tool_calls_per_run": calls.ravel(),
            "tokens_per_request": (tokens / calls).ravel(),
            "cost_usd": cost.ravel(),
            "success": passed.ravel().astype(float),
            "stop_reason": bad,
            "tool_failures": failed.ravel(),
        },
        session=np.zeros(arm.size, np.int64),
        series={
            "latency_p95": Series(
                call_run, 1000 * _latencies(rng, call_run, shape, arm.ravel(), effect.p95)
            )
        },
        counts={
            "tool_mix": Counts(TOOLS, tools),
            "stop_reason": Counts(("max_steps",), bad[:, None]),
        },
        seed=int(rng.integers(2**48)),
    )


def _calls(
    rng: np.random.Generator, shape: tuple[int, int], arm: np.ndarray, effect: Effect
) -> np.ndarray:
    mean = np.exp(rng.normal(np.log(6), 0.6, (shape[0], 1)))
    calls = 1.0 + rng.negative_binomial(8, 8 / (8 + np.broadcast_to(mean, shape)))
    calls += np.where(arm, rng.binomial(calls.astype(int), effect.calls), 0)
    return np.where(arm & (rng.random(shape) < effect.storm), 10 * calls, calls)


def _tools(rng: np.random.Generator, calls: np.ndarray, arm: np.ndarray, swap: float) -> np.ndarray:
    """Calls of each tool, in the mix of the task; a swap moves calls from one to another."""
    mixes = rng.dirichlet((4, 3, 2, 1), len(calls))
    table = np.empty((calls.size, len(TOOLS)))
    rows = zip(calls.ravel().astype(int), np.repeat(mixes, calls.shape[1], 0), strict=True)
    for place, (count, mix) in enumerate(rows):
        table[place] = rng.multinomial(count, mix)
    moved = np.where(arm.ravel(), rng.binomial(table[:, 0].astype(int), swap), 0)
    table[:, 0] -= moved
    table[:, 3] += moved
    return table


def _tokens(rng: np.random.Generator, calls: np.ndarray) -> np.ndarray:
    noise = rng.normal(0, 0.5, (len(calls), 1)) + rng.normal(0, 0.35, calls.shape)
    tail = rng.random(calls.shape) < 0.03
    return calls**1.3 * 1200 * np.exp(noise) * np.where(tail, 1 + rng.pareto(2, calls.shape), 1)


def _latencies(
    rng: np.random.Generator,
    call_run: np.ndarray,
    shape: tuple[int, int],
    arm: np.ndarray,
    factor: float,
) -> np.ndarray:
    """Seconds per call; the factor stretches the slowest fifth of the candidate's calls."""
    pace = rng.normal(0, 0.4, (shape[0], 1)) + rng.normal(0, 0.3, shape)
    times = np.exp(pace.ravel()[call_run] + rng.normal(0, 0.5, call_run.size))
    tail = rng.random(times.size) < 0.03
    times *= np.where(tail, 1 + rng.pareto(2, times.size), 1)
    mine = np.flatnonzero(arm[call_run])
    rank = times[mine].argsort().argsort() / max(1, mine.size - 1)
    times[mine] *= factor ** np.clip((rank - 0.8) / 0.15, 0, 1)
    return times


def first_trials(sample: Sample, trials: int) -> Sample:
    """The first so many runs of each task on each side."""
    order = np.lexsort((sample.is_candidate, sample.task))
    group = sample.task[order] * 2 + sample.is_candidate[order]
    starts = np.concatenate([[True], group[1:] != group[:-1]])
    place = np.arange(len(group))
    place -= np.maximum.accumulate(np.where(starts, place, 0))
    kept = np.zeros(len(group), bool)
    kept[order] = place < trials
    number = np.cumsum(kept) - 1
    series = {}
    for name, one in sample.series.items():
        inside = kept[one.run]
        series[name] = Series(number[one.run[inside]], one.value[inside])
    return Sample(
        task=sample.task[kept],
        is_candidate=sample.is_candidate[kept],
        values={name: values[kept] for name, values in sample.values.items()},
        session=None if sample.session is None else sample.session[kept],
        series=series,
        counts={name: Counts(c.names, c.table[kept]) for name, c in sample.counts.items()},
        seed=sample.seed,
    )
