"""The curve of a limit: money saved against successes lost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from flightlog.analysis.plots.canvas import (
    COLOURS,
    GRID,
    HIT,
    SOFT,
    drawing,
    require_writable,
    save,
    title_text,
)
from flightlog.analysis.whatif.curve import Point
from flightlog.errors import UsageError

_UNITS = {
    "max_steps": "steps of a run",
    "max_tool_calls": "tool call attempts of a run",
    "max_usd": "USD of a run",
    "max_tokens": "tokens of a run",
    "max_seconds": "seconds of a run",
    "stalled_steps": "steps in a row that tell nothing new",
}


def plot_curve(points: Sequence[Point], name: str | None, out: str | Path) -> Path:
    """Plots what each value of a limit saves and loses, with 95 % intervals.

    Args:
        points: of one limit, ascending.
        name: of the limit.
        out: file to write, `.png` or `.svg`.

    Raises:
        UsageError: no limit varies, or `out` has another ending or no folder.
    """
    out = Path(out)
    require_writable(out)
    if name is None or len(points) < 2:
        raise UsageError("one value is no curve", hint="Give a range, such as 8..40.")
    with drawing():
        save(_figure(points, name), out)
    return out


def _figure(points: Sequence[Point], name: str) -> Figure:
    figure = Figure(figsize=(8.4, 4.6), facecolor="white")
    axes = figure.add_axes((0.085, 0.12, 0.885, 0.68))
    x = np.array([point.value for point in points], dtype=np.float64)
    saved = [point.saved for point in points]
    total = saved[0].usd_total
    by_money = total > 0
    share = np.array(
        [one.usd_share for one in saved]
        if by_money
        else [one.runs_cut / max(one.runs, 1) for one in saved]
    )
    error = np.array([one.usd_error / total if by_money else 0.0 for one in saved])
    lost = np.array([one.lost_share for one in saved])
    low = np.array([one.lost_interval[0] for one in saved])
    high = np.array([one.lost_interval[1] for one in saved])
    what = "money saved" if by_money else "runs cut"
    for values, bottom, top, colour, label in (
        (share, np.maximum(share - error, 0), np.minimum(share + error, 1), COLOURS[0], what),
        (lost, low, high, HIT, "successes lost"),
    ):
        axes.fill_between(x, bottom, top, color=colour, alpha=0.15, linewidth=0)
        axes.plot(x, values, color=colour, linewidth=2, marker="o", markersize=4, label=label)
    if x[0] > 0 and x[-1] / x[0] >= 8:
        axes.set_xscale("log")
        axes.set_xticks(x, [f"{value:.3g}" for value in x])
        axes.minorticks_off()
    axes.set_ylim(0, max(0.05, float(np.max([share + error, high])) * 1.08))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))
    axes.grid(axis="y", color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    axes.set_xlabel(f"{name}: {_UNITS[name]}")
    figure.text(0.02, 0.965, title_text(f"What if {name} were lower"), va="top", fontsize=14,
                fontweight="bold")  # fmt: skip
    runs, successes = saved[0].runs, saved[0].successes
    of = f"of ${total:,.2f} and" if by_money else "of"
    kind = "exact" if saved[0].is_exact else "a bound"
    figure.text(
        0.02, 0.9, f"{runs:,} recorded runs rerun; shares {of} {successes:,} successes; {kind}",
        va="top", color=SOFT,
    )  # fmt: skip
    axes.legend(frameon=False, loc="upper right", ncols=2, bbox_to_anchor=(1.0, 1.1))
    return figure
