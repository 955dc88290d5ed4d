"""Numbers and verdicts in words, the same in every report."""

from __future__ import annotations

import math

from flightlog.analysis.gate.verdict import Decision, MetricVerdict, Verdict

UNKNOWN = "unknown"
_NAMED = 3


def headline(verdict: Verdict) -> str:
    """The decision and why, in one plain sentence."""
    over = f"over {counted(verdict.task_count, 'task')}"
    gated = [m for m in verdict.metrics if m.is_gated]
    if verdict.decision is Decision.DRIFT:
        drifted = [m for m in gated if m.decision is Decision.DRIFT]
        parts = [f"{m.name} {m.reason}{_beyond(m)}" for m in drifted]
        return f"DRIFT: {joined(parts)}, {over}."
    if verdict.decision is Decision.OK:
        names = [m.name for m in verdict.metrics if m.is_gated]
        what = names[0] if len(names) == 1 else f"all {len(names)} gated metrics"
        lies = "lies" if len(names) == 1 else "lie"
        return f"OK: {what} {lies} within tolerance {over}."
    why = []
    unsettled = [m.name for m in gated if m.decision is Decision.INCONCLUSIVE]
    if not gated:
        why.append("no metric asked for can fail a check here")
    if unsettled:
        why.append(f"{joined(unsettled)} not settled")
    unavailable = [
        m.name
        for m in verdict.metrics
        if m.decision is Decision.UNAVAILABLE and m.name in verdict.must_be_known
    ]
    if unavailable:
        why.append(f"{joined(unavailable)} not recorded")
    if verdict.lost_tasks:
        why.append(f"{counted(len(verdict.lost_tasks), 'task')} without runs on both sides")
    if verdict.skipped_runs:
        why.append(f"{counted(len(verdict.skipped_runs), 'run')} void or unfinished")
    return f"INCONCLUSIVE: no drift found {over}, but {joined(why)}."


def _beyond(metric: MetricVerdict) -> str:
    if metric.reason.startswith("storm"):
        return ""
    worst = metric.lower if metric.higher_is_worse else metric.upper
    bound = ""
    if metric.strength == "confirmed" and worst is not None:
        bound = f"at least {change_text(metric, worst)}, "
    return f" ({bound}tolerance {tolerance_text(metric)})"


def change_text(metric: MetricVerdict, change: float | None) -> str:
    """A change as `+31.0 %`, `-4.0 pts` or `from 0`; `unknown` for None."""
    if change is None or math.isnan(change):
        return UNKNOWN
    if metric.kind.is_share:
        return f"{_signed(change * 100)} pts"
    return "from 0" if math.isinf(change) else f"{_signed((change - 1) * 100)} %"


def bounds_text(metric: MetricVerdict) -> str:
    """Both one-sided bounds, as `+1.2 .. +14.0 %`; `unknown` when there are none."""
    low, high = metric.lower, metric.upper
    if low is None or high is None:
        return UNKNOWN
    if metric.kind.is_share:
        return f"{_signed(low * 100)} .. {_signed(high * 100)} pts"
    if math.isinf(low):
        return "from 0"
    top = "no limit" if math.isinf(high) else f"{_signed((high - 1) * 100)} %"
    return f"{_signed((low - 1) * 100)} .. {top}"


def tolerance_text(metric: MetricVerdict) -> str:
    """The tolerance as `10 %` or `5 pts`."""
    unit = "pts" if metric.kind.is_share else "%"
    return f"{metric.tolerance * 100:g} {unit}"


def value_text(metric: MetricVerdict, value: float | None) -> str:
    """A value with its unit: `71.0 %`, `$0.0123`, `1,240 ms`, `6.25`."""
    if value is None or math.isnan(value):
        return UNKNOWN
    if metric.kind.is_share:
        return f"{value * 100 + 0.0:.1f} %"
    if metric.unit == "USD":
        return f"${value:.3g}" if 0 < value < 1 else f"${value:,.2f}"
    if metric.unit in ("ms", "tokens"):
        number = f"{value:,.0f}" if value >= 10 else f"{value:.3g}"
        return f"{number} ms" if metric.unit == "ms" else number
    return f"{value:,.2f}"


def p_text(p: float | None) -> str:
    """`p = 0.012`, `p < 0.001`, or `p unknown`."""
    if p is None:
        return f"p {UNKNOWN}"
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def method_text(verdict: Verdict) -> str:
    """How the numbers were made, so that they can be made again."""
    method = verdict.method
    kind = f"all {method.labellings:,}" if method.is_exact else f"{method.labellings:,} random"
    return (
        f"{kind} labellings within {method.strata}, min-P over the gated metrics, "
        f"alpha {method.alpha:g}, one-sided bounds at {1 - method.alpha:.0%}, seed {method.seed}"
    )


def verified_text(verdict: Verdict) -> str:
    """What was verified, and what is missing: the second line of every report."""
    found = verdict.verified
    if found is None:
        return "not verified: the traces came from memory"
    parts = [f"sha256 of {counted(found.segments, 'segment')} ok"]
    parts.append(f"{counted(found.chains, 'chain')} ok")
    if found.without_chain:
        parts.append(f"{counted(found.without_chain, 'segment')} of format 1 without a chain")
    unsealed = f" ({found.unsealed_events:,} not sealed yet)" if found.unsealed_events else ""
    parts.append(f"{counted(found.events, 'event')}{unsealed}")
    lost = f" ({counted(found.dropped_events, 'event')} dropped)" if found.gaps else ""
    parts.append(f"{counted(found.gaps, 'gap') if found.gaps else 'no gaps'}{lost}")
    if found.problems:
        parts.append(f"{counted(found.problems, 'problem')}: flightlog verify")
    return f"verified: {', '.join(parts)}"


def counted(number: int, noun: str) -> str:
    """`1 task`, `1,250 tasks`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def joined(parts: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`; from the fourth on they are counted."""
    if len(parts) > _NAMED:
        return f"{', '.join(parts[:_NAMED])} and {len(parts) - _NAMED} more"
    return " and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]])) if parts else ""


def _signed(number: float) -> str:
    text = f"{number:+,.0f}" if abs(number) >= 100 else f"{number:+.1f}"
    return "+0.0" if text == "-0.0" else text
