"""A verdict in plain sentences: what was tested, on what, what came out, what would change it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

from flightlog.analysis.gate.metrics import METRICS, Kind
from flightlog.analysis.gate.verdict import Decision, MetricVerdict, Strength, Verdict
from flightlog.analysis.wording import (
    change_text,
    counted,
    explained,
    parts_text,
    sequential_text,
    tolerance_text,
    value_text,
)
from flightlog.errors import UnknownNameError

_DESCRIPTIONS: Final = {metric.name: metric.description for metric in METRICS}
_WHAT: Final = {
    Kind.RATIO: "the mean over tasks of each task's mean",
    Kind.QUANTILE: "the 95th percentile over all values",
    Kind.POINTS: "the mean over tasks of each task's share",
    Kind.MIX: "the share of all counts, of the one that moved most",
}


def explain(verdict: Verdict, metric: str | None = None) -> list[str]:
    """Paragraphs about a verdict, or about one metric of it.

    Raises:
        UnknownNameError: the verdict has no such metric.
    """
    if metric is None:
        return list(_whole(verdict))
    found = next((one for one in verdict.metrics if one.name == metric), None)
    if found is None:
        raise UnknownNameError.of("metric", metric, [one.name for one in verdict.metrics])
    return list(_metric(verdict, found))


def _whole(verdict: Verdict) -> Iterator[str]:
    yield verdict.headline
    yield (
        f"Compared: {verdict.candidate} ({counted(verdict.candidate_runs, 'run')}) against "
        f"{verdict.baseline} ({counted(verdict.baseline_runs, 'run')}), paired by "
        f"{counted(verdict.task_count, 'task')}."
    )
    gated = [one for one in verdict.metrics if one.is_gated]
    for decision, means in (
        (Decision.DRIFT, "got worse, and that is no accident"),
        (Decision.INCONCLUSIVE, "may have got worse or not: the runs do not show which"),
        (Decision.UNAVAILABLE, "is not recorded"),
        (Decision.OK, "is shown to lie within its tolerance"),
        (Decision.IMPROVED, "got better"),
    ):
        names = [one.name for one in gated if one.decision is decision]
        if names:
            yield f"{decision} ({means}): {', '.join(names)}."
    if verdict.is_confounded:
        yield (
            "No session holds runs of both sides, so what differs may be the day and not the "
            "agent. Run both sides together: flightlog gate."
        )
    if told := sequential_text(verdict):
        yield f"Rounds: {told}."
    if verdict.loosened:
        yield f"Loosened since the baseline: {'; '.join(verdict.loosened)}."
    yield "More about one of them: --metric NAME."


def _metric(verdict: Verdict, metric: MetricVerdict) -> Iterator[str]:
    yield _is_what(metric)
    if metric.decision is Decision.UNAVAILABLE:
        yield f"It was not compared: {metric.reason}."
        if metric.advice:
            yield f"To have it: {metric.advice}."
        return
    yield _tested(verdict, metric)
    yield _estimate(verdict, metric)
    yield _p_value(verdict, metric)
    yield f"Verdict: {_verdict(verdict, metric)}"
    if metric.moved:
        yield f"What moved: {metric.moved}."
    if metric.name == "cost_usd" and (parts := parts_text(verdict)):
        yield f"Made of: {parts}."
    for text in explained(verdict, metric.name):
        if text != metric.moved:
            yield f"Why: {text}."
    yield f"What would change it: {_otherwise(metric)}"


def _is_what(metric: MetricVerdict) -> str:
    description = _DESCRIPTIONS.get(metric.name, "A metric of your own.")
    harm = "More" if metric.higher_is_worse else "Less"
    if metric.kind is Kind.MIX:
        harm = "Any move"
    gate = "can fail the check" if metric.is_gated else "is advisory and cannot fail the check"
    return (
        f"{metric.name}: {description} {harm} is worse; {tolerance_text(metric)} are tolerated; "
        f"it {gate}."
    )


def _tested(verdict: Verdict, metric: MetricVerdict) -> str:
    method = verdict.method
    kind = "all" if method.is_exact else f"{method.labellings:,} random"
    labellings = f"{kind} {method.labellings:,}" if method.is_exact else kind
    return (
        f"Tested: whether the runs of the candidate differ from the baseline's on the same tasks: "
        f"{counted(verdict.task_count, 'task')}, {counted(metric.baseline_runs, 'baseline run')}, "
        f"{counted(metric.candidate_runs, 'candidate run')}. If nothing had changed, the runs of "
        f"a {method.strata} could swap sides; {labellings} such swaps were compared with what was "
        f"seen (seed {method.seed})."
    )


def _estimate(verdict: Verdict, metric: MetricVerdict) -> str:
    before, after = value_text(metric, metric.baseline), value_text(metric, metric.candidate)
    text = f"Estimate: {before} -> {after} ({_WHAT[metric.kind]}), {_change(metric)}"
    if metric.typical_change is not None:
        text += f", and {change_text(metric, metric.typical_change)} in the typical task"
    if metric.lower is None or metric.upper is None:
        return f"{text}. The runs give no bounds."
    level = f"{100 * (1 - verdict.method.alpha):g} %"
    return (
        f"{text}. The change is at least {change_text(metric, metric.lower)} and at most "
        f"{change_text(metric, metric.upper)}, each with {level} confidence."
    )


def _change(metric: MetricVerdict) -> str:
    return change_text(metric, metric.change)


def _p_value(verdict: Verdict, metric: MetricVerdict) -> str:
    if metric.p_worse is None:
        return "There is no p-value."
    gated = sum(one.is_gated and one.p_worse is not None for one in verdict.metrics)
    corrected = f", corrected for the {counted(gated, 'gated metric')}" if metric.is_gated else ""
    rate = "less than 0.1 %" if metric.p_worse < 0.001 else f"{100 * metric.p_worse:.1f} %"
    return (
        f"Had nothing changed, a change for the worse as large as this would come up in {rate} of "
        f"such comparisons{corrected}."
    )


def _verdict(verdict: Verdict, metric: MetricVerdict) -> str:
    alpha = f"{100 * verdict.method.alpha:g} %"
    if metric.decision is Decision.DRIFT:
        if metric.reason.startswith("storm"):
            return f"DRIFT: {metric.reason}."
        if metric.strength is Strength.CONFIRMED:
            return (
                f"DRIFT, confirmed: it is no accident (below {alpha}), and the change is beyond "
                "the tolerance even at its bound."
            )
        return (
            f"DRIFT, likely: it is no accident (below {alpha}) and the estimate is beyond the "
            "tolerance, but the bound is not."
        )
    if metric.decision is Decision.OK:
        return "OK: the worst that the runs allow lies within the tolerance."
    if metric.decision is Decision.IMPROVED:
        return f"IMPROVED: {metric.reason}, and that is no accident (below {alpha})."
    advice = f" {metric.advice[0].upper()}{metric.advice[1:]}." if metric.advice else ""
    return f"INCONCLUSIVE: {metric.reason}.{advice}"


def _otherwise(metric: MetricVerdict) -> str:
    """From which tolerance on the verdict would be another one, the runs being as they are."""
    worst = _worse(metric, metric.upper if metric.higher_is_worse else metric.lower)
    least = _worse(metric, metric.lower if metric.higher_is_worse else metric.upper)
    if worst is None or least is None:
        return "more runs; these give no bounds."
    above = (
        "no tolerance would make it OK"
        if math.isinf(worst)
        else (f"with a tolerance above {_tolerance(metric, worst)} it would be OK")
    )
    if metric.decision is Decision.DRIFT:
        if metric.strength is Strength.CONFIRMED:
            return f"{above}; above {_tolerance(metric, least)} it would no longer be confirmed."
        return f"{above}; so might more runs."
    if metric.decision is Decision.OK:
        return (
            f"with a tolerance below {_tolerance(metric, max(worst, 0.0))} these runs would not "
            "show it."
        )
    if metric.decision is Decision.IMPROVED:
        return "runs that do worse."
    return f"{above}; and more runs, as said above."


def _worse(metric: MetricVerdict, change: float | None) -> float | None:
    """A change as a tolerance would have to be to hold it; negative for the better."""
    if change is None or math.isnan(change):
        return None
    sign = 1 if metric.higher_is_worse else -1
    return sign * change if metric.kind.is_share else sign * (change - 1)


def _tolerance(metric: MetricVerdict, amount: float) -> str:
    return f"{amount * 100:.1f} {'pts' if metric.kind.is_share else '%'}"
