"""What a postmortem says of its window besides the findings."""

from __future__ import annotations

import numpy as np

from flightlog.analysis.postmortem.found import Timeline
from flightlog.analysis.stats.sample import Floats
from flightlog.analysis.window import Scope, Window

PER_RUN = (
    "per run: failing tools, calls far above the usual, repeats, retries, growth and"
    " truncation of the prompt, loss of the policy, refusals, writes in doubt and made"
    " twice, the end, the cost"
)


def about(scope: Scope) -> str:
    """The scope in words."""
    parts = []
    if scope.run_ids:
        parts.append(f"run {', '.join(scope.run_ids)}")
    if scope.agent:
        parts.append(f"agent {scope.agent}")
    if scope.tenant:
        parts.append(f"tenant {scope.tenant}")
    if scope.since:
        parts.append(f"since {scope.since:%Y-%m-%d %H:%M}")
    if scope.until:
        parts.append(f"until {scope.until:%Y-%m-%d %H:%M}")
    return ", ".join(parts) or "all runs"


def timeline_of(window: Window) -> Timeline:
    """The window in pieces."""

    def summed(values: Floats) -> list[float]:
        totals = np.bincount(window.piece, weights=np.nan_to_num(values), minlength=window.pieces)
        return [float(one) for one in totals]

    return Timeline(
        begin=window.at(window.begin),
        width_s=window.width,
        runs=tuple(int(one) for one in summed(np.ones(window.runs))),
        tool_calls=tuple(int(one) for one in summed(window.floats("tool_calls"))),
        failures=tuple(int(one) for one in summed(window.floats("failures"))),
        usd=tuple(summed(window.floats("usd"))),
    )


def checked_of(window: Window) -> tuple[str, ...]:
    """What was looked for, and in how many."""
    tools = window.ask("postmortem", "subjects").to_pylist()[0]
    agents, tenants = len(window.texts("agent")[0]), len(window.texts("tenant")[0])
    of_tools = "for failures, forbidden answers and latency"
    of_agents = (
        "for retries, loops, calls, prompts, lost policy, refusals, writes twice and in doubt,"
        " ends, judgements, cost and time"
    )
    pieces = f"{window.pieces} pieces of {_length(window.width)}"
    return (
        f"{_count(tools['tools'], 'tool')} and {_count(tools['models'], 'model')} {of_tools}",
        f"{_count(agents, 'agent')} {of_agents}",
        f"{_count(tenants, 'tenant')} and {_count(agents, 'agent')} for the load that they make",
        f"each over {pieces}, and single runs with far more calls than the others",
    )


def unseen_of(window: Window) -> tuple[str, ...]:
    """What the events do not say."""
    found = []
    if window.runs and np.isnan(window.floats("usd")).all():
        found.append("no run has a price: money is not known")
    if window.runs and np.isnan(window.floats("success")).all():
        found.append("no run was judged: a success is a run that ended with ok")
    undated = window.ask("postmortem", "undated").to_pylist()[0]["runs"]
    if undated:
        found.append(f"{undated:,} runs do not say when they began, and were left out")
    return tuple(found)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _length(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"
