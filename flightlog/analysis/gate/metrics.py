"""The table of metrics that the gate compares: what each is, its unit, and how far it may move."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from flightlog.errors import UnknownNameError, UsageError


class Kind(StrEnum):
    """What a change of a metric is measured in."""

    RATIO = "ratio"
    QUANTILE = "quantile"
    POINTS = "points"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric of the gate.

    Attributes:
        name: as in `monitoring.track`, reports and JSON.
        column: column of the view `runs`, or of `model_calls` for a quantile of calls.
        unit: unit of its values.
        kind: ratio of means, ratio of quantiles, or difference of rates.
        higher_is_worse: False only for success.
        tolerance: largest change for the worse that is still OK; a share for
            ratios and quantiles, percentage points / 100 for rates.
        gates: False when it is advisory and never fails a check.
        gates_confounded: False when it becomes advisory as soon as the two
            sides share no session (it then follows the day as much as the agent).
        log_offset: added before a logarithm: 1 for counts; None for half the
            smallest positive value.
        zero_is_unknown: True when a zero means that the source did not record it.
        description: what it measures, one sentence.
    """

    name: str
    column: str
    unit: str
    kind: Kind
    higher_is_worse: bool
    tolerance: float
    gates: bool
    gates_confounded: bool
    log_offset: float | None
    zero_is_unknown: bool
    description: str


METRICS: Final = (
    Metric(
        name="success",
        column="success",
        unit="share of runs",
        kind=Kind.POINTS,
        higher_is_worse=False,
        tolerance=0.05,
        gates=True,
        gates_confounded=True,
        log_offset=None,
        zero_is_unknown=False,
        description="Share of runs whose last evaluation named success passed.",
    ),
    Metric(
        name="tool_calls_per_run",
        column="tool_calls",
        unit="calls",
        kind=Kind.RATIO,
        higher_is_worse=True,
        tolerance=0.10,
        gates=True,
        gates_confounded=True,
        log_offset=1.0,
        zero_is_unknown=False,
        description="Tool calls that the agent asked for, failed and refused ones too.",
    ),
    Metric(
        name="tokens_per_request",
        column="tokens_per_request",
        unit="tokens",
        kind=Kind.RATIO,
        higher_is_worse=True,
        tolerance=0.15,
        gates=False,
        gates_confounded=False,
        log_offset=None,
        zero_is_unknown=True,
        description="Input and output tokens per model call of a run.",
    ),
    Metric(
        name="cost_usd",
        column="cost_usd",
        unit="USD",
        kind=Kind.RATIO,
        higher_is_worse=True,
        tolerance=0.20,
        gates=True,
        gates_confounded=False,
        log_offset=None,
        zero_is_unknown=True,
        description="Cost of a run.",
    ),
    Metric(
        name="latency_p95",
        column="latency_ms",
        unit="ms",
        kind=Kind.QUANTILE,
        higher_is_worse=True,
        tolerance=0.25,
        gates=True,
        gates_confounded=False,
        log_offset=None,
        zero_is_unknown=False,
        description="95th percentile of the latency of the agent's model calls.",
    ),
    Metric(
        name="stop_reason",
        column="stop_reason",
        unit="share of runs",
        kind=Kind.POINTS,
        higher_is_worse=True,
        tolerance=0.05,
        gates=True,
        gates_confounded=True,
        log_offset=None,
        zero_is_unknown=False,
        description="Share of runs that ended for another reason than ok.",
    ),
)
METRIC_NAMES: Final = tuple(metric.name for metric in METRICS)
ALWAYS_GATED: Final = "success"
"""Gates beside the metrics that a user chose, so that no check passes a candidate that
stopped succeeding."""


def select_metrics(
    names: Iterable[str] | None, *, gated: Iterable[str] | None = None
) -> tuple[Metric, ...]:
    """The metrics of these names, in the order of the table; all of them for None.

    Args:
        names: what to compare.
        gated: the metrics of these names gate, the others are advisory. None
            leaves it to the table.

    Raises:
        UnknownNameError: a name that is no metric, with the nearest ones.
        UsageError: no name at all; a gate over nothing would always pass.
    """
    wanted = set(METRIC_NAMES) if names is None else _known(names)
    found = tuple(metric for metric in METRICS if metric.name in wanted)
    if gated is None:
        return found
    gates = _known(gated)
    return tuple(replace(metric, gates=metric.name in gates) for metric in found)


def _known(names: Iterable[str]) -> set[str]:
    wanted = set(names)
    for name in sorted(wanted - set(METRIC_NAMES)):
        raise UnknownNameError.of("metric", name, METRIC_NAMES)
    if not wanted:
        raise UsageError("no metric to compare", hint=f"known: {', '.join(METRIC_NAMES)}")
    return wanted
