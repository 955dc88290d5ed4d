"""Numbers and verdicts in words, the same in every report."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from flightlog.analysis.gate.verdict import Decision, MetricVerdict, Verdict

if TYPE_CHECKING:
    from flightlog.analysis.gate.reliability import Interval
    from flightlog.analysis.stats.cost_parts import CostPart

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
        return usd_text(value)
    if metric.unit in ("ms", "tokens"):
        number = f"{value:,.0f}" if value >= 10 else f"{value:.3g}"
        return f"{number} ms" if metric.unit == "ms" else number
    return f"{value:,.2f}" if value >= 0.1 or value == 0 else f"{value:.3g}"


def shown_metrics(verdict: Verdict) -> list[MetricVerdict]:
    """The metrics of a table: gated ones first; what is neither recorded nor needed left out."""
    rows = [
        m
        for m in verdict.metrics
        if m.decision is not Decision.UNAVAILABLE or m.is_gated or m.name in verdict.must_be_known
    ]
    return sorted(rows, key=lambda metric: not metric.is_gated)


def explained(verdict: Verdict, metric: str) -> list[str]:
    """What explains the drift of a metric, as sentences."""
    return [one.text for one in verdict.explanations if one.metric == metric]


def parts_text(verdict: Verdict) -> str:
    """What the change of cost is made of, in one line; empty where it is not known."""
    names = {
        "model_calls": "model calls",
        "tokens_per_call": "tokens per call",
        "usd_per_mtok": "USD per token",
    }
    parts = [
        f"{names[part.name]} {_signed((part.change - 1) * 100)} %{_range_text(part)}"
        for part in verdict.cost_parts
    ]
    return f"cost = {' x '.join(parts)}" if parts else ""


def _range_text(part: CostPart) -> str:
    if part.lower is None or part.upper is None:
        return ""
    if math.isinf(part.upper):
        return f" (from {_signed((part.lower - 1) * 100)})"
    return f" ({_signed((part.lower - 1) * 100)}..{_signed((part.upper - 1) * 100)})"


def share_range(found: Interval) -> str:
    """`71.0 % (64.2..77.1)`."""
    low, high = found.lower * 100, found.upper * 100
    return f"{found.estimate * 100:.1f} % ({low:.1f}..{high:.1f})"


def usd_range(found: Interval | None) -> str:
    """`$0.0123 ($0.0110..$0.0137)`; `unknown` for None."""
    if found is None:
        return UNKNOWN
    ends = "no limit" if math.isinf(found.upper) else usd_text(found.upper)
    return f"{usd_text(found.estimate)} ({usd_text(found.lower)}..{ends})"


def reliability_rows(verdict: Verdict) -> list[tuple[str, str, str]]:
    """pass^k and pass@k for the first and the last k, and cost per success: name, both sides."""
    if len(verdict.reliability) != 2:
        return []
    base, cand = verdict.reliability
    rows = []
    trials = min(len(base.pass_rates), len(cand.pass_rates))
    for k in sorted({1, trials}) if trials else []:
        before, after = base.pass_rates[k - 1], cand.pass_rates[k - 1]
        rows.append((f"pass^{k}", share_range(before.all_pass), share_range(after.all_pass)))
    if trials > 1:
        before, after = base.pass_rates[trials - 1], cand.pass_rates[trials - 1]
        rows.append((f"pass@{trials}", share_range(before.any_pass), share_range(after.any_pass)))
    costs = base.cost_per_success_usd, cand.cost_per_success_usd
    if any(costs):
        rows.append(("cost per success", usd_range(costs[0]), usd_range(costs[1])))
    return rows


def usd_text(usd: float) -> str:
    """`$0.0123`, `$1,300.00`."""
    return f"${usd:.3g}" if 0 < usd < 1 else f"${usd:,.2f}"


def p_text(p: float | None) -> str:
    """`p = 0.012`, `p < 0.001`, or `p unknown`."""
    if p is None:
        return f"p {UNKNOWN}"
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def sequential_text(verdict: Verdict) -> str:
    """Where a gate of several rounds stands, and what it saved; empty for a check."""
    told = verdict.sequential
    if told is None:
        return ""
    done = told.planned_trials - told.saved_trials
    text = (
        f"{'spending cap reached' if told.is_capped else 'stopped'} in round {told.round} of "
        f"{len(told.rounds)}, after {told.trials} of {told.rounds[-1]} trials per task and side: "
        f"{done:,} of {told.planned_trials:,} replays"
    )
    if told.saved_trials:
        share = 100 * told.saved_trials / told.planned_trials
        usd = "" if not told.saved_usd else f", about {usd_text(told.saved_usd)}"
        text += f", {told.saved_trials:,} saved ({share:.0f} %{usd})"
    return f"{text}; session {told.session_id}"


def method_text(verdict: Verdict) -> str:
    """How the numbers were made, so that they can be made again."""
    method, told = verdict.method, verdict.sequential
    rate = f"alpha {method.alpha:g}"
    if told is not None:
        rate = f"alpha {told.alpha:g} over {counted(len(told.rounds), 'round')}, here {rate}"
    count = f"{method.labellings:,}"
    if method.is_normal:
        kind = f"{count} draws of the normal limit of the"
    else:
        kind = f"all {count}" if method.is_exact else f"{count} random"
    return (
        f"{kind} labellings within {method.strata}, min-P over the gated metrics, "
        f"{rate}, one-sided bounds at {100 * (1 - method.alpha):g} %, seed {method.seed}"
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
