"""The verdict as one static HTML file: no scripts, nothing loaded, all content escaped."""

from __future__ import annotations

import base64
import math
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from flightlog.analysis import wording
from flightlog.analysis.gate.metrics import METRICS
from flightlog.analysis.gate.verdict import Decision, MetricVerdict, Verdict
from flightlog.analysis.reports import svg
from flightlog.analysis.reports.page import render_page
from flightlog.analysis.reports.svg import slopes, tail_lines
from flightlog.analysis.terminal import number_text
from flightlog.errors import UsageError

REACH = 3.0
MOST_FALL = 0.999
LIST_LIMIT = 100
TASKS_SHOWN = 30
_WIDTH, _EDGE = 200.0, 5.0
_PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True, slots=True)
class Interval:
    """One metric's bounds on a strip 200 wide, in tolerances: 0 in the middle, worse to the right.

    Attributes:
        left: start of the bar.
        width: length of the bar.
        dot: where the estimate is.
        limit: where the tolerance ends.
        zero: where no change is.
    """

    left: float
    width: float
    dot: float
    limit: float
    zero: float


def to_html(verdict: Verdict, *, plot: Path | None = None) -> str:
    """The verdict as an HTML page.

    Args:
        verdict: what to report.
        plot: a PNG file to embed, such as the plot of budgets.

    Raises:
        UsageError: `plot` is not a PNG file.
    """
    worst = next(m for m in verdict.metrics if m.name == verdict.worst_metric)
    return render_page(
        "check",
        verdict=verdict,
        metrics=wording.shown_metrics(verdict),
        slopes=slopes(verdict.tasks, worst),
        tails=[
            (tail.metric, lines)
            for tail in verdict.tails
            if _is_drawn(verdict, tail.metric) and (lines := tail_lines(tail))
        ],
        canvas=(svg.WIDTH, svg.HEIGHT, svg.LEFT, svg.RIGHT, svg.TOP, svg.BOTTOM),
        number=number_text,
        worst=worst,
        words=wording,
        interval=interval,
        descriptions=defaultdict(str, {one.name: one.description for one in METRICS}),
        plot=None if plot is None else _data_uri(plot),
        limit=LIST_LIMIT,
        task_limit=TASKS_SHOWN,
    )


def _is_drawn(verdict: Verdict, name: str) -> bool:
    """The tail of a metric that gates, or is not fine."""
    metric = next((one for one in verdict.metrics if one.name == name), None)
    if metric is None or metric.decision is Decision.UNAVAILABLE:
        return False
    return metric.is_gated or metric.decision is Decision.DRIFT


def interval(metric: MetricVerdict) -> Interval | None:
    """Where a metric's bounds lie; None when there is nothing to draw."""
    if metric.lower is None or metric.upper is None or metric.change is None:
        return None
    low, dot, high = (
        _in_tolerances(metric, v) for v in (metric.lower, metric.change, metric.upper)
    )
    low, high = min(low, high), max(low, high)
    left, right = _place(low), _place(high)
    return Interval(
        left=left,
        width=round(max(2.0, right - left), 1),
        dot=_place(dot),
        limit=_place(1.0),
        zero=_place(0.0),
    )


def _in_tolerances(metric: MetricVerdict, change: float) -> float:
    """A change for the worse, in multiples of the tolerance; on the log scale for ratios."""
    sign = 1 if metric.higher_is_worse else -1
    if metric.kind.is_share:
        return sign * change / metric.tolerance
    if change <= 0:
        return -sign * REACH
    if math.isinf(change):
        return sign * REACH
    if metric.higher_is_worse:
        return math.log(change) / math.log1p(metric.tolerance)
    return math.log(change) / math.log1p(-min(metric.tolerance, MOST_FALL))


def _place(tolerances: float) -> float:
    inside = min(REACH, max(-REACH, tolerances))
    return round(_EDGE + (inside + REACH) / (2 * REACH) * (_WIDTH - 2 * _EDGE), 1)


def _data_uri(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read the plot: {error.strerror}", where=str(path)) from error
    if not raw.startswith(_PNG):
        raise UsageError("the plot is not a PNG file", where=str(path))
    return f"data:image/png;base64,{base64.b64encode(raw).decode()}"
