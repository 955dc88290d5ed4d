"""The sequential gate on suites with a known effect: how often it ends in DRIFT and in OK.

Beside it the trials that it took, the fixed plan of 8, and looks that each take the whole error
rate.

    python benchmarks/gate_rounds.py                 300 suites per cell
    python benchmarks/gate_rounds.py --suites 40 --markdown
"""

from __future__ import annotations

import argparse

import numpy as np
from _suites import Effect, first_trials, make_sample
from _timing import table

from flightlog.analysis.gate.metrics import Metric, select_metrics
from flightlog.analysis.gate.verdict import Decision
from flightlog.analysis.stats.decide import Settings
from flightlog.analysis.stats.gate import judge
from flightlog.analysis.stats.sample import Sample
from flightlog.golden.rounds import DEFAULT_ROUNDS, Demands

TASKS = 50
CELLS = (
    ("tool_calls_per_run", ("none", "calls+10", "calls+20", "calls+30")),
    ("cost_usd", ("none", "cost+20", "cost+40")),
)
"""Metric, and effects on it: nothing, one at its tolerance, and larger ones."""
HEADER = (
    "metric, effect", "DRIFT", "OK", "mean trials", "fixed 8: DRIFT", "OK",
    "naive looks: DRIFT", "OK",
)  # fmt: skip


def decided(sample: Sample, metric: Metric, alpha: float) -> Decision:
    """What the gate says of one metric."""
    [found] = judge(sample, [metric], Settings(alpha=alpha)).metrics
    return found.decision


def sequential(sample: Sample, metric: Metric, alphas: list[float]) -> tuple[Decision, int]:
    """What rounds end in, and the trials that they took."""
    decision = Decision.INCONCLUSIVE
    for trials, alpha in zip(DEFAULT_ROUNDS, alphas, strict=True):
        decision = decided(first_trials(sample, trials), metric, alpha)
        if decision in (Decision.DRIFT, Decision.OK, Decision.IMPROVED):
            return decision, trials
    return decision, DEFAULT_ROUNDS[-1]


def cell(name: str, effect: str, suites: int) -> tuple[str, ...]:
    [metric] = select_metrics([name])
    plan = Demands([metric])
    parts = [plan.alpha_of(number) for number in range(len(DEFAULT_ROUNDS))]
    whole = [plan.alpha] * len(DEFAULT_ROUNDS)
    counts = np.zeros(6)
    trials = 0
    for number in range(suites):
        rng = np.random.default_rng([number, len(effect), 7])
        sample = make_sample(rng, TASKS, DEFAULT_ROUNDS[-1], Effect.parse(effect))
        ours, used = sequential(sample, metric, parts)
        trials += used
        fixed = decided(sample, metric, plan.alpha)
        naive, _ = sequential(sample, metric, whole)
        for place, decision in enumerate((ours, fixed, naive)):
            counts[2 * place] += decision is Decision.DRIFT
            counts[2 * place + 1] += decision in (Decision.OK, Decision.IMPROVED)
    shares = [f"{100 * count / suites:.1f}" for count in counts]
    return (f"{name}, {effect}", *shares[:2], f"{trials / suites:.1f}", *shares[2:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--suites", type=int, default=300)
    parser.add_argument("--markdown", action="store_true", help="the table of the docs")
    chosen = parser.parse_args()
    rows = [cell(name, effect, chosen.suites) for name, effects in CELLS for effect in effects]
    if chosen.markdown:
        lines = [HEADER, ("---", *["--:"] * (len(HEADER) - 1)), *rows]
        print("\n".join(f"| {' | '.join(line)} |" for line in lines))
        return
    print(f"% of {chosen.suites} suites of {TASKS} tasks, rounds {DEFAULT_ROUNDS}\n")
    print(table(rows, header=HEADER))


if __name__ == "__main__":
    main()
