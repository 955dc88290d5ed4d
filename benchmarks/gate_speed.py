"""How long the statistics of a check take: six metrics, and all that there are.

python benchmarks/gate_speed.py          50 x 5 and 200 x 10, 5 rounds
"""

from __future__ import annotations

import argparse
import resource
from dataclasses import replace

import numpy as np
from _suites import Effect, make_sample
from _timing import rounds, table

from flightlog.analysis.gate.metrics import METRICS, select_metrics
from flightlog.analysis.stats.decide import Settings
from flightlog.analysis.stats.gate import judge
from flightlog.analysis.stats.sample import Sample, Series

SIX = (
    "success", "tool_calls_per_run", "tokens_per_request", "cost_usd", "latency_p95", "stop_reason",
)  # fmt: skip
SIZES = ((50, 5, 4_000, "< 2"), (200, 10, 73_000, "< 7"))
"""Tasks, trials, model calls, most seconds for the six metrics."""


def with_calls(sample: Sample, calls: int) -> Sample:
    """The sample with so many model calls, in random runs."""
    rng = np.random.default_rng(calls)
    run = np.sort(rng.integers(0, sample.task.size, calls))
    latency = Series(run, 1000 * np.exp(rng.normal(0, 0.6, calls)))
    return replace(sample, series={"latency_p95": latency})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeat", type=int, default=5)
    chosen = parser.parse_args()
    rows = []
    for tasks, trials, calls, goal in SIZES:
        sample = make_sample(np.random.default_rng(tasks), tasks, trials, Effect())
        sample = with_calls(sample, calls)
        seconds = rounds(
            {
                "six": lambda sample=sample: judge(sample, select_metrics(SIX), Settings()),
                "all": lambda sample=sample: judge(sample, METRICS, Settings()),
            },
            repeat=chosen.repeat,
        )
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        rows.append(
            (
                f"{tasks} tasks x {trials} trials", f"{sample.task.size:,}", f"{calls:,}",
                f"{seconds['six']:.2f}", goal, f"{seconds['all']:.2f}", f"{peak:,.0f}",
            )
        )  # fmt: skip
    print(f"median of {chosen.repeat} rounds, 5,000 labellings\n")
    header = ("suite", "runs", "model calls", "six metrics s", "goal", "all s", "peak MB")
    print(table(rows, header=header))


if __name__ == "__main__":
    main()
