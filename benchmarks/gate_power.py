"""How often the gate alarms on unchanged suites, and how often it finds a change.

Each cell makes suites of tasks x trials with one known effect, runs the gate on each, and
counts: DRIFT over all gated metrics, OK over all gated metrics, `confirmed` on tool calls.
Beside it stands a naive gate that alarms when the mean of any gated metric moved by more
than 10 % for the worse.

    python benchmarks/gate_power.py                    50 tasks, 2 and 5 trials, 600 / 200 suites
    python benchmarks/gate_power.py --suites 50 20     fewer: 50 unchanged, 20 per effect

Suites: a negative binomial number of calls on log-normal task means; tokens that grow with
calls to the power 1.3, with log-normal noise and a Pareto tail in 3 % of the runs; success
and bad stops by task (beta); latencies with task, run and call effects and a Pareto tail.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass

import numpy as np
from _timing import table

from flightlog.analysis.gate.metrics import METRICS, Kind
from flightlog.analysis.gate.verdict import Decision, Strength
from flightlog.analysis.stats.decide import Settings
from flightlog.analysis.stats.gate import judge
from flightlog.analysis.stats.quantile import p95
from flightlog.analysis.stats.sample import Sample

MEAN_SUCCESS = 1.5 / 2.3
EFFECTS = (
    "none", "calls+5", "calls+10", "calls+20", "calls+30", "cost+10", "cost+25",
    "success-5", "success-10", "p95x1.25", "p95x1.5", "storm",
)  # fmt: skip
# Per cell: most DRIFT in % when nothing changed; least in % under an effect.
GOALS = {
    (2, "none"): "<= 6.8", (5, "none"): "<= 6.8",
    (2, "calls+20"): ">= 57", (2, "calls+30"): ">= 90", (2, "p95x1.5"): ">= 76",
    (2, "cost+25"): ">= 36", (5, "calls+20"): ">= 93", (5, "cost+25"): ">= 75",
    (5, "success-10"): ">= 52",
}  # fmt: skip


@dataclass(frozen=True)
class Effect:
    """What is done to the candidate's runs; nothing by default."""

    calls: float = 0.0
    cost: float = 0.0
    success: float = 0.0
    p95: float = 1.0
    storm: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Effect:
        if text == "none":
            return cls()
        if text == "storm":
            return cls(storm=0.05)
        for name, sign in (("calls", "+"), ("cost", "+"), ("success", "-")):
            if text.startswith(name + sign):
                return cls(**{name: float(text[len(name) + 1 :]) / 100})
        return cls(p95=float(text.removeprefix("p95x")))


def make_sample(rng: np.random.Generator, tasks: int, trials: int, effect: Effect) -> Sample:
    """One suite: `tasks` x `trials` runs per arm, all in one session."""
    shape = (tasks, 2 * trials)
    arm = np.zeros(shape, bool)
    arm[:, trials:] = True
    calls = _calls(rng, shape, arm, effect)
    tokens = _tokens(rng, calls) * np.where(arm, 1 + effect.cost, 1.0)
    cost = tokens * 3e-6 * np.exp(rng.normal(0, 0.1, shape))
    rate = rng.beta(1.5, 0.8, (tasks, 1)) * np.where(arm, 1 - effect.success / MEAN_SUCCESS, 1)
    passed = rng.random(shape) < rate
    is_bad = rng.random(shape) < rng.beta(0.3, 6, (tasks, 1))
    call_run = np.repeat(np.arange(arm.size), np.minimum(calls, 60).astype(int).ravel())
    return Sample(
        task=np.repeat(np.arange(tasks), 2 * trials),
        is_candidate=arm.ravel(),
        values={
            "tool_calls_per_run": calls.ravel(),
            "tokens_per_request": (tokens / calls).ravel(),
            "cost_usd": cost.ravel(),
            "success": passed.ravel().astype(float),
        },
        session=np.zeros(arm.size, np.int64),
        stop=is_bad.ravel().astype(np.int64),
        stop_reasons=("ok", "max_steps"),
        call_run=call_run,
        call_latency_ms=1000 * _latencies(rng, call_run, shape, arm.ravel(), effect.p95),
        seed=int(rng.integers(2**48)),
    )


def _calls(
    rng: np.random.Generator, shape: tuple[int, int], arm: np.ndarray, effect: Effect
) -> np.ndarray:
    mean = np.exp(rng.normal(np.log(6), 0.6, (shape[0], 1)))
    calls = 1.0 + rng.negative_binomial(8, 8 / (8 + np.broadcast_to(mean, shape)))
    calls += np.where(arm, rng.binomial(calls.astype(int), effect.calls), 0)
    return np.where(arm & (rng.random(shape) < effect.storm), 10 * calls, calls)


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


def naive_alarm(sample: Sample) -> bool:
    """What a gate says that alarms when a mean moved by more than 10 %."""
    arm = sample.is_candidate
    slow = sample.call_latency_ms
    in_candidate = arm[sample.call_run]
    rises = [p95(slow[in_candidate]) / p95(slow[~in_candidate])]
    for metric in METRICS:
        if metric.gates and metric.kind is Kind.RATIO:
            values = sample.values[metric.name]
            rises.append(values[arm].mean() / values[~arm].mean())
    passed = sample.values["success"]
    rises.append(passed[~arm].mean() / max(passed[arm].mean(), 1e-9))
    return max(rises) > 1.1


def cell(tasks: int, trials: int, effect: str, suites: int) -> tuple[str, ...]:
    """One row of the table: shares in % over `suites` suites."""
    drift = fine = confirmed = naive = 0
    start = time.perf_counter()
    for number in range(suites):
        rng = np.random.default_rng([number, tasks, trials, EFFECTS.index(effect)])
        sample = make_sample(rng, tasks, trials, Effect.parse(effect))
        metrics = judge(sample, METRICS, Settings(shuffles=499)).metrics
        gated = [m for m in metrics if m.is_gated]
        drift += any(m.decision is Decision.DRIFT for m in gated)
        fine += all(m.decision in (Decision.OK, Decision.IMPROVED) for m in gated)
        confirmed += any(
            m.name == "tool_calls_per_run" and m.strength is Strength.CONFIRMED for m in gated
        )
        naive += naive_alarm(sample)
    seconds = (time.perf_counter() - start) / suites
    goal = GOALS.get((trials, effect), "") if tasks == 50 else ""
    shares = (f"{100 * count / suites:.1f}" for count in (drift, confirmed, fine, naive))
    return (f"{tasks} x {trials}v{trials} {effect}", *shares, goal, f"{seconds * 1000:.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--suites", type=int, nargs=2, default=(600, 200), metavar=("AA", "B"))
    parser.add_argument("--tasks", type=int, default=50)
    parser.add_argument("--trials", type=int, nargs="+", default=(2, 5))
    chosen = parser.parse_args()
    rows = [
        cell(chosen.tasks, trials, effect, chosen.suites[effect != "none"])
        for trials in chosen.trials
        for effect in EFFECTS
    ]
    header = ("cell", "DRIFT %", "confirmed calls %", "OK %", "naive 10 % gate %", "goal", "ms")
    print(f"{chosen.suites[0]} unchanged suites, {chosen.suites[1]} per effect, 499 shuffles\n")
    print(table(rows, header=header))


if __name__ == "__main__":
    main()
