"""The table of metrics that the gate compares: what each is, its unit, and how far it may move."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from flightlog.errors import UnknownNameError, UsageError


class Kind(StrEnum):
    """What a change of a metric is measured in."""

    RATIO = "ratio"
    QUANTILE = "quantile"
    POINTS = "points"
    MIX = "mix"

    @property
    def is_share(self) -> bool:
        """True where a change is a difference of shares, and not a ratio."""
        return self in (Kind.POINTS, Kind.MIX)


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric of the gate.

    Attributes:
        name: as in `monitoring.track`, reports and JSON.
        column: column of the view `runs`, or of the view that holds its many values per run;
            empty for a metric of your own.
        unit: unit of its values.
        kind: ratio of means, ratio of 95th percentiles, difference of shares, or change of a mix.
        tolerance: largest change for the worse that is still OK; a share for
            ratios and quantiles, percentage points / 100 for shares and mixes.
        description: what it measures, one sentence.
        higher_is_worse: False where less is worse, as with success.
        gates: False when it is advisory and never fails a check.
        gates_confounded: False when it becomes advisory as soon as the two
            sides share no session (it then follows the day as much as the agent).
        log_offset: added before a logarithm: 1 for counts; None for half the
            smallest positive value.
        zero_is_unknown: True when a zero means that the source did not record it.
        sql: expression of a metric of your own; None for those of the table.
        view: view that the expression is over.
        origin: where a metric of your own is defined.
    """

    name: str
    column: str
    unit: str
    kind: Kind
    tolerance: float
    description: str
    higher_is_worse: bool = True
    gates: bool = True
    gates_confounded: bool = True
    log_offset: float | None = None
    zero_is_unknown: bool = False
    sql: str | None = None
    view: str = "runs"
    origin: str = ""


METRICS: Final = (
    Metric(
        name="success",
        column="success",
        unit="share of runs",
        kind=Kind.POINTS,
        tolerance=0.05,
        description="Share of runs whose last evaluation named success passed.",
        higher_is_worse=False,
    ),
    Metric(
        name="tool_calls_per_run",
        column="tool_calls",
        unit="calls",
        kind=Kind.RATIO,
        tolerance=0.10,
        description="Tool calls that the agent asked for, failed and refused ones too.",
        log_offset=1.0,
    ),
    Metric(
        name="tool_mix",
        column="tool_name",
        unit="share of tool calls",
        kind=Kind.MIX,
        tolerance=0.10,
        description="Which tools are called: share of all tool calls, of the tool that moved most.",
    ),
    Metric(
        name="tool_failures",
        column="tool_failures",
        unit="share of tool calls",
        kind=Kind.POINTS,
        tolerance=0.05,
        description="Share of a run's tool calls that ran and failed, timed out or gave invalid "
        "output.",
        gates_confounded=False,
    ),
    Metric(
        name="tokens_per_request",
        column="tokens_per_request",
        unit="tokens",
        kind=Kind.RATIO,
        tolerance=0.15,
        description="Input and output tokens per model call of a run.",
        gates=False,
        gates_confounded=False,
        zero_is_unknown=True,
    ),
    Metric(
        name="cost_usd",
        column="cost_usd",
        unit="USD",
        kind=Kind.RATIO,
        tolerance=0.20,
        description="Cost of a run.",
        gates_confounded=False,
        zero_is_unknown=True,
    ),
    Metric(
        name="usd_per_mtok",
        column="cost_usd",
        unit="USD",
        kind=Kind.RATIO,
        tolerance=0.05,
        description="Price: cost of a run per million tokens, whatever their number.",
        gates=False,
        zero_is_unknown=True,
    ),
    Metric(
        name="latency_p95",
        column="latency_ms",
        unit="ms",
        kind=Kind.QUANTILE,
        tolerance=0.25,
        description="95th percentile of the latency of the agent's model calls.",
        gates_confounded=False,
    ),
    Metric(
        name="tool_latency_p95",
        column="latency_ms",
        unit="ms",
        kind=Kind.QUANTILE,
        tolerance=0.25,
        description="95th percentile of the latency of the agent's tool calls.",
        gates=False,
        gates_confounded=False,
    ),
    Metric(
        name="run_latency_p95",
        column="duration_ms",
        unit="ms",
        kind=Kind.QUANTILE,
        tolerance=0.25,
        description="95th percentile of the time that a run takes.",
        gates=False,
        gates_confounded=False,
    ),
    Metric(
        name="steps",
        column="steps",
        unit="steps",
        kind=Kind.RATIO,
        tolerance=0.10,
        description="Steps of a run.",
        gates=False,
        log_offset=1.0,
    ),
    Metric(
        name="retries",
        column="retries",
        unit="share of calls",
        kind=Kind.POINTS,
        tolerance=0.05,
        description="Share of a run's model and tool calls that were a second or later attempt.",
        gates=False,
        gates_confounded=False,
    ),
    Metric(
        name="stop_reason",
        column="stop_reason",
        unit="share of runs",
        kind=Kind.POINTS,
        tolerance=0.05,
        description="Share of runs that ended for another reason than ok.",
    ),
    Metric(
        name="stop_mix",
        column="stop_reason",
        unit="share of runs",
        kind=Kind.MIX,
        tolerance=0.10,
        description="For which reasons runs end: share of the runs, of the reason that moved most.",
        gates=False,
    ),
)
METRIC_NAMES: Final = tuple(metric.name for metric in METRICS)
ALWAYS_GATED: Final = "success"
"""Gates beside the metrics that a user chose, so that no check passes a candidate that
stopped succeeding."""


def select_metrics(
    names: Iterable[str] | None,
    *,
    gated: Iterable[str] | None = None,
    table: Sequence[Metric] = METRICS,
) -> tuple[Metric, ...]:
    """The metrics of these names, in the order of the table; all of them for None.

    Args:
        names: what to compare.
        table: every metric that there is.
        gated: the metrics of these names gate, the others are advisory. None
            leaves it to the table.

    Raises:
        UnknownNameError: a name that is no metric, with the nearest ones.
        UsageError: no name at all; a gate over nothing would always pass.
    """
    known = [metric.name for metric in table]
    wanted = set(known) if names is None else _known(names, known)
    found = tuple(metric for metric in table if metric.name in wanted)
    if gated is None:
        return found
    gates = _known(gated, known)
    return tuple(replace(metric, gates=metric.name in gates) for metric in found)


def resolved(metrics: Iterable[str | Metric] | None) -> tuple[Metric, ...]:
    """Metrics by themselves or by name, in the order of the table, those of your own last.

    Raises:
        UnknownNameError: a name that is no metric of the table.
        UsageError: none at all.
    """
    if metrics is None:
        return METRICS
    asked = tuple(metrics)
    given = {one.name: one for one in asked if isinstance(one, Metric)}
    names = [one if isinstance(one, str) else one.name for one in asked]
    table = {metric.name: metric for metric in METRICS} | given
    return select_metrics(names, table=tuple(table.values()))


def _known(names: Iterable[str], known: Sequence[str]) -> set[str]:
    wanted = set(names)
    for name in sorted(wanted - set(known)):
        raise UnknownNameError.of("metric", name, known)
    if not wanted:
        raise UsageError("no metric to compare", hint=f"known: {', '.join(known)}")
    return wanted
