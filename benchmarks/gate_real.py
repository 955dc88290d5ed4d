"""The gate on real agent runs that others recorded: false alarms on halves of unchanged runs, and
verdicts on pairs of models beside the published difference.

    python benchmarks/gate_real.py                 400 splits
    python benchmarks/gate_real.py --splits 50 --markdown

It needs the shared data, and is left out without it.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from pathlib import Path

from _real import DATA, PAIRS, Pair, halves, import_real, split, with_more_calls
from _timing import table

from flightlog.analysis.db import Traces
from flightlog.analysis.gate.drift import compare
from flightlog.analysis.gate.metrics import METRICS
from flightlog.analysis.gate.verdict import Decision, Verdict
from flightlog.analysis.stats.decide import Settings
from flightlog.analysis.stats.gate import judge
from flightlog.analysis.wording import change_text

SHOWN = ("success", "tool_calls_per_run", "tool_mix", "cost_usd")


def drift_share(traces: Traces, splits: int, *, more_calls: float = 0.0) -> float:
    """Share of random halves that the whole gate calls DRIFT."""
    whole = halves(traces)
    alarms = 0
    for seed in range(splits):
        sample = split(whole, seed)
        if more_calls:
            sample = with_more_calls(sample, more_calls, seed)
        metrics = judge(sample, METRICS, Settings(shuffles=999)).metrics
        alarms += any(m.is_gated and m.decision is Decision.DRIFT for m in metrics)
    return alarms / splits


def verdict_of(traces: Traces, pair: Pair) -> Verdict:
    return compare(traces, pair.baseline, pair.candidate, shuffles=1_999)


def row(verdict: Verdict, stated: dict[str, object]) -> tuple[str, ...]:
    """One comparison: what was published, and what the gate says."""
    a, b = stated["A"], stated["B"]
    assert isinstance(a, dict)
    assert isinstance(b, dict)
    published = f"{a['success']} -> {b['success']}, p = {stated['mcnemar_exact_p']:.2g}"
    found = {m.name: m for m in verdict.metrics}
    cells = []
    for name in SHOWN:
        metric = found[name]
        moved = metric.decision in (Decision.DRIFT, Decision.IMPROVED)
        text = f" {change_text(metric, metric.change)}" if moved else ""
        cells.append(f"{metric.decision}{text}")
    return (str(stated["name"]), str(stated["tasks_paired"]), published, *cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--splits", type=int, default=400)
    parser.add_argument("--markdown", action="store_true", help="the tables of the docs")
    chosen = parser.parse_args()
    if not (DATA / "truth.json").exists():
        sys.exit(f"left out: the shared data is absent ({DATA})")
    truth = json.loads((DATA / "truth.json").read_text(encoding="utf-8"))
    stated = {entry["name"]: entry for entry in truth["paired_drift"]}
    with tempfile.TemporaryDirectory() as folder, Traces(import_real(Path(folder))) as traces:
        unchanged = drift_share(traces, chosen.splits)
        changed = drift_share(traces, chosen.splits, more_calls=0.2)
        rows = [row(verdict_of(traces, pair), stated[pair.name]) for pair in PAIRS]
    error = math.sqrt(0.05 * 0.95 / chosen.splits)
    print(
        f"tau-bench airline, gpt-4o, 50 tasks, halves of 4 trials, {chosen.splits} random splits: "
        f"DRIFT in {100 * unchanged:.1f} % of unchanged ones (goal at most "
        f"{100 * (0.05 + 2 * error):.1f} %), in {100 * changed:.1f} % with 20 % more tool calls\n"
    )
    header = ("pair", "tasks", "published success", *SHOWN)
    if chosen.markdown:
        lines = [header, ("---", "--:", *["---"] * (len(header) - 2)), *rows]
        print("\n".join(f"| {' | '.join(line)} |" for line in lines))
    else:
        print(table(rows, header=header))


if __name__ == "__main__":
    main()
