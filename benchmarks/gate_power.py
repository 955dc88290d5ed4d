"""How often the gate alarms on unchanged suites and finds a change, and how often others do.

Each cell makes suites of tasks x trials with one known effect, runs the gate on each, and
counts: DRIFT, OK, and `confirmed` on tool calls, over five metrics; and DRIFT over the seven that
gate by default. Beside it stand gates that one might write instead, on the same five metrics: a
mean that moved by more than 10 %, Welch's t, paired t and Wilcoxon on task means, a two-level
bootstrap, all but the first with the same tolerances and Bonferroni over the metrics. These stand
only where both sides have the same number of trials.

    python benchmarks/gate_power.py                    50 tasks, 2 and 5 trials, 600 / 200 suites
    python benchmarks/gate_power.py --suites 50 20     fewer: 50 unchanged, 20 per effect
    python benchmarks/gate_power.py --tasks 100 --trials 2 5v2 --effects none calls+20 --markdown
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from _rivals import RIVALS
from _suites import Effect, make_sample
from _timing import table

from flightlog.analysis.gate.metrics import METRICS, select_metrics
from flightlog.analysis.gate.verdict import Decision, Strength
from flightlog.analysis.stats.decide import Settings
from flightlog.analysis.stats.gate import judge

EFFECTS = (
    "none", "calls+5", "calls+10", "calls+20", "calls+30", "cost+10", "cost+25",
    "success-5", "success-10", "p95x1.25", "p95x1.5", "storm", "swap+50", "fails+10",
)  # fmt: skip
# Per cell: most DRIFT in % when nothing changed; least in % under an effect.
GOALS = {
    (2, "none"): "<= 6.8", (5, "none"): "<= 6.8",
    (2, "calls+20"): ">= 57", (2, "calls+30"): ">= 90", (2, "p95x1.5"): ">= 76",
    (2, "cost+25"): ">= 36", (5, "calls+20"): ">= 93", (5, "cost+25"): ">= 75",
    (5, "success-10"): ">= 52",
}  # fmt: skip
HEADER = ("cell", "DRIFT", "goal", *RIVALS, "DRIFT of 7", "confirmed", "OK", "ms")
SAME = ("success", "tool_calls_per_run", "cost_usd", "latency_p95", "stop_reason")
"""What the other gates compare, too; tool_mix and tool_failures gate besides."""


def cell(tasks: int, trials: int, effect: str, suites: int, candidate: int) -> tuple[str, ...]:
    """One row of the table: shares in % over `suites` suites."""
    drift = of_all = fine = confirmed = 0
    others = dict.fromkeys(RIVALS, 0)
    seconds = 0.0
    for number in range(suites):
        rng = np.random.default_rng([number, tasks, trials, EFFECTS.index(effect)])
        sample = make_sample(rng, tasks, trials, Effect.parse(effect), candidate)
        start = time.perf_counter()
        metrics = judge(sample, METRICS, Settings(shuffles=499)).metrics
        seconds += time.perf_counter() - start
        of_all += any(m.is_gated and m.decision is Decision.DRIFT for m in metrics)
        gated = judge(sample, select_metrics(SAME), Settings(shuffles=499)).metrics
        drift += any(m.decision is Decision.DRIFT for m in gated)
        fine += all(m.decision in (Decision.OK, Decision.IMPROVED) for m in gated)
        confirmed += any(
            m.name == "tool_calls_per_run" and m.strength is Strength.CONFIRMED for m in gated
        )
        if candidate == trials:
            for name, alarms in RIVALS.items():
                others[name] += alarms(sample)
    goal = GOALS.get((trials, effect), "") if (tasks, candidate) == (50, trials) else ""
    goal = goal or ("<= 6.8" if effect == "none" else "")
    ours = [f"{100 * count / suites:.1f}" for count in (drift, of_all, confirmed, fine)]
    theirs = [f"{100 * n / suites:.1f}" if candidate == trials else "-" for n in others.values()]
    row = (f"{tasks} x {trials}v{candidate} {effect}", ours[0], goal, *theirs, *ours[1:])
    return (*row, f"{seconds / suites * 1000:.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--suites", type=int, nargs=2, default=(600, 200), metavar=("AA", "B"))
    parser.add_argument("--tasks", type=int, default=50)
    parser.add_argument("--trials", nargs="+", default=("2", "5"), help="such as 2, or 5v2")
    parser.add_argument("--effects", nargs="+", choices=EFFECTS, default=EFFECTS)
    parser.add_argument("--markdown", action="store_true", help="the table of the docs")
    chosen = parser.parse_args()
    rows = []
    for text in chosen.trials:
        base, _, cand = text.partition("v")
        for effect in chosen.effects:
            suites = chosen.suites[effect != "none"]
            rows.append(cell(chosen.tasks, int(base), effect, suites, int(cand or base)))
    if chosen.markdown:
        lines = [HEADER[:-1], ("---", *["--:"] * (len(HEADER) - 2)), *(row[:-1] for row in rows)]
        print("\n".join(f"| {' | '.join(line)} |" for line in lines))
        return
    print(f"% of {chosen.suites[0]} unchanged suites, of {chosen.suites[1]} per effect\n")
    print(table(rows, header=HEADER))


if __name__ == "__main__":
    main()
