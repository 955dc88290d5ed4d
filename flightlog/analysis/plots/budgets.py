"""The use of budgets as shares of their limits, run by run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from flightlog.analysis.plots.budget_use import BudgetPanel, BudgetUse, Series, budget_use
from flightlog.analysis.plots.canvas import (
    COLOURS,
    FAINT,
    HALO,
    HIT,
    drawing,
    label_text,
    require_writable,
    save,
    time_axis,
    title_text,
)
from flightlog.analysis.terminal import number_text
from flightlog.analysis.window import EVERYTHING, Scope

if TYPE_CHECKING:
    from flightlog.analysis.db import Traces

_MAX_DOTS = 1500
_MAX_LARGE_MARKS = 40
_MAX_BANDS = 3
_RUNS_PER_BIN = 12
_MAX_BINS = 36
_CEILING = 1.6
_WIDTH = 10.5
_LEGEND_ROW = 0.22
_LEGEND_MARK = 0.45


def plot_budgets(
    traces: Traces,
    out: str | Path,
    *,
    variants: Sequence[str] = (),
    by: str = "variant",
    scope: Scope = EVERYTHING,
    title: str = "Budget use per run",
) -> Path:
    """Plots the use of each budget as a share of its limit, over time and per variant.

    One row per budget. Left: every run, with the median and the 95th percentile over
    runs in order. Right: median, 95th percentile and largest share per variant. Runs
    that a limit stopped are marked.

    Args:
        traces: the stores.
        out: file to write, `.png` or `.svg`; an existing one is replaced.
        variants: only these, in this order; empty for all.
        by: what tells series apart: variant, agent, model or tenant.
        scope: which runs.
        title: headline of the figure.

    Returns:
        The path of the file.

    Raises:
        UnknownNameError: a variant that no run with a limit has.
        UsageError: no run has a limit, or `out` has another ending or no folder.
    """
    out = Path(out)
    require_writable(out)
    use = budget_use(traces, variants=variants, by=by, scope=scope)
    with drawing():
        save(_figure(use, title), out)
    return out


def _figure(use: BudgetUse, title: str) -> Figure:
    rows = len(use.panels)
    figure = Figure(figsize=(_WIDTH, 1), facecolor="white")
    columns = _legend_columns(FigureCanvasAgg(figure), use, title)
    legend_height = _LEGEND_ROW * math.ceil(len(use.variants) / columns) if columns else 0.0
    height = 1.25 + legend_height + 1.75 * rows
    figure.set_size_inches(_WIDTH, height)
    grid = figure.add_gridspec(
        rows, 2,
        width_ratios=[4.2, 1.3], wspace=0.05, hspace=0.46,
        left=0.062, right=0.985, top=1 - (0.98 + legend_height) / height, bottom=0.52 / height,
    )  # fmt: skip
    colours = dict(zip(use.variants, COLOURS, strict=False))
    for row, panel in enumerate(use.panels):
        over_runs = figure.add_subplot(grid[row, 0])
        summary = figure.add_subplot(grid[row, 1], sharey=over_runs)
        _draw_limit(over_runs, summary, panel)
        for series in panel.series:
            has_band = len(panel.series) <= _MAX_BANDS
            _draw_runs(over_runs, series, colours[series.variant], has_band=has_band)
        _draw_summary(summary, panel, use.variants, colours)
        _label_panel(over_runs, summary, panel)
        _set_x_axis(over_runs, use, is_last=row == rows - 1)
    _draw_head(figure, use, colours, title, columns)
    return figure


def _draw_limit(over_runs: Axes, summary: Axes, panel: BudgetPanel) -> None:
    largest = max(float(series.share.max()) for series in panel.series)
    top = max(1.18, min(largest, _CEILING) + 0.1)
    for axes in (over_runs, summary):
        axes.axhspan(1.0, top, color=HIT, alpha=0.05, linewidth=0)
        axes.axhline(1.0, color=HIT, linewidth=1.0)
        axes.set_ylim(0, top)
        axes.set_yticks([0, 0.25, 0.5, 0.75, 1.0])
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))
        axes.grid(axis="y", color="#EDEDED", linewidth=0.7)
        axes.set_axisbelow(True)
        axes.tick_params(length=0)


def _draw_runs(axes: Axes, series: Series, colour: str, *, has_band: bool) -> None:
    x = series.x
    share = np.minimum(series.share, _CEILING)
    if len(share) <= _MAX_DOTS:
        alpha = float(np.clip(12 / np.sqrt(len(share)) / 10, 0.22, 0.9))
        normal = ~series.is_hit
        axes.scatter(
            x[normal], share[normal], s=11, color=colour, alpha=alpha, linewidths=0, zorder=2
        )
    if len(share) >= 2 * _RUNS_PER_BIN:
        middle, median, p95 = _binned(x, share)
        if has_band:
            axes.fill_between(middle, median, p95, color=colour, alpha=0.16, linewidth=0, zorder=3)
        axes.plot(middle, p95, color=colour, linewidth=0.9, linestyle=(0, (4, 2)), zorder=4)
        axes.plot(middle, median, color="white", linewidth=3.6, zorder=4)
        axes.plot(middle, median, color=colour, linewidth=2.0, zorder=5)
    hit = series.is_hit
    axes.scatter(
        x[hit], share[hit], s=30 if hit.sum() <= _MAX_LARGE_MARKS else 14, marker="X",
        color=colour, edgecolors="white", linewidths=0.4, zorder=6, clip_on=False,
    )  # fmt: skip
    above = series.share > _CEILING
    axes.scatter(x[above], share[above] + 0.05, s=16, marker="^", color=colour, zorder=6)


def _draw_summary(
    axes: Axes, panel: BudgetPanel, variants: Sequence[str], colours: dict[str, str]
) -> None:
    for series in panel.series:
        spread, at, colour = series.spread, variants.index(series.variant), colours[series.variant]
        median, p95, largest = (
            min(value, _CEILING) for value in (spread.median, spread.p95, spread.largest)
        )
        axes.plot([at, at], [0, largest], color=colour, linewidth=1.0, alpha=0.55, zorder=3)
        axes.plot([at - 0.09, at + 0.09], [largest] * 2, color=colour, linewidth=1.4, zorder=4)
        axes.plot(
            [at, at], [median, p95], color=colour, linewidth=7, alpha=0.35,
            solid_capstyle="butt", zorder=4,
        )  # fmt: skip
        axes.scatter([at], [median], s=34, color=colour, edgecolors="white", zorder=5)
        if len(variants) <= _MAX_BANDS:
            axes.text(
                at + 0.16, median, f"{spread.median:.0%}",
                va="center", fontsize=8, fontweight="bold", color=colour, path_effects=HALO,
            )  # fmt: skip
            if p95 - median > 0.12:
                axes.text(
                    at + 0.16, p95, f"{spread.p95:.0%}",
                    va="center", fontsize=7.5, path_effects=HALO,
                )  # fmt: skip
    axes.set_xlim(-0.6, len(variants) - 0.2)
    axes.set_xticks([])
    axes.tick_params(labelleft=False)
    axes.spines["bottom"].set_visible(False)
    axes.spines["left"].set_visible(False)


def _label_panel(over_runs: Axes, summary: Axes, panel: BudgetPanel) -> None:
    low, high = (number_text(limit) for limit in panel.limits)
    limit = low if low == high else f"{low} to {high}"
    name = over_runs.text(
        0, 1.045, panel.budget, transform=over_runs.transAxes, fontsize=10.5, fontweight="bold"
    )
    over_runs.annotate(
        f"limit {limit} {panel.unit}", (1, 1.045), (9, 0),
        xycoords=(name, "axes fraction"), textcoords="offset points", color="#5A5A5A",
    )  # fmt: skip
    runs = sum(series.spread.runs for series in panel.series)
    hits = sum(series.spread.hits for series in panel.series)
    note = f"{hits:,} of {_runs(runs)} hit it" if hits else f"none of {_runs(runs)} hit it"
    if panel.unknown:
        note += f"; use unknown in {panel.unknown:,}"
    summary.text(
        1, 1.045, note, transform=summary.transAxes, ha="right",
        color=HIT if hits else "#5A5A5A",
    )  # fmt: skip


def _set_x_axis(axes: Axes, use: BudgetUse, *, is_last: bool) -> None:
    every = [series.x for panel in use.panels for series in panel.series]
    low = min(float(x.min()) for x in every)
    high = max(float(x.max()) for x in every)
    if use.is_timed:
        time_axis(axes)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    margin = (high - low) * 0.015 or 0.5
    axes.set_xlim(low - margin, high + margin)
    axes.tick_params(labelbottom=is_last)
    if is_last:
        axes.set_xlabel("start of the run (UTC)" if use.is_timed else "runs, oldest first")


def _legend_columns(canvas: FigureCanvasAgg, use: BudgetUse, title: str) -> int:
    """Columns of a legend below the head; 0 when all variants fit beside the title."""
    renderer = canvas.get_renderer()  # type: ignore[no-untyped-call]

    def inches(text: str, size: int) -> float:
        font = FontProperties(family="DejaVu Sans", weight="bold", size=size)
        width, _, _ = renderer.get_text_width_height_descent(text, font, ismath=False)
        return float(width) / canvas.figure.dpi

    widths = [inches(label_text(name), 10) + _LEGEND_MARK for name in use.variants]
    room = _WIDTH - 2 * _LEGEND_MARK
    if inches(title_text(title), 15) + sum(widths) <= room:
        return 0
    return max(1, int(room // max(widths)))


def _subtitle(use: BudgetUse) -> str:
    """What is drawn, in at most two parts: more would run into the legend."""
    parts = []
    if use.variants_left_out:
        parts.append(f"{len(use.variants_left_out)} more variants are not shown")
    if use.tenant_stops:
        parts.append(f"limits of tenants stopped {use.tenant_stops:,}")
    what = "" if len(parts) > 1 else ", each as a share of its own limit"
    return "; ".join([_runs(use.runs) + what, *parts])


def _draw_head(
    figure: Figure, use: BudgetUse, colours: dict[str, str], title: str, columns: int
) -> None:
    height = figure.get_figheight()
    figure.text(
        0.016, 1 - 0.13 / height, title_text(title),
        va="top", fontsize=15, fontweight="bold",
    )  # fmt: skip
    figure.text(0.016, 1 - 0.46 / height, _subtitle(use), va="top", color="#5A5A5A")
    handles = [
        Line2D([], [], marker="o", linestyle="", color=colours[name], markersize=7)
        for name in use.variants
    ]
    labels = [label_text(name) for name in use.variants]
    keys = [
        (Line2D([], [], color=FAINT, linewidth=2), "median"),
        (Line2D([], [], color=FAINT, linewidth=0.9, linestyle=(0, (4, 2))), "95th percentile"),
        (Line2D([], [], marker="_", linestyle="", color=FAINT, markersize=9), "largest"),
        (Line2D([], [], color=HIT, linewidth=1), "limit"),
        (Line2D([], [], marker="X", linestyle="", color=FAINT, markersize=6), "stopped the run"),
    ]
    common = {"frameon": False, "handletextpad": 0.5, "columnspacing": 1.4, "borderaxespad": 0}
    place = (0.016, 1 - 0.72 / height) if columns else (0.985, 1 - 0.12 / height)
    figure.legend(
        handles, labels, loc="upper left" if columns else "upper right", bbox_to_anchor=place,
        ncols=columns or len(labels), prop={"weight": "bold", "size": 10}, handlelength=0.8,
        **common,
    )  # fmt: skip
    figure.legend(
        [handle for handle, _ in keys], [label for _, label in keys], loc="upper right",
        bbox_to_anchor=(0.985, 1 - 0.42 / height), ncols=len(keys), fontsize=8.5, handlelength=1.8,
        **common,
    )  # fmt: skip


def _binned(
    x: npt.NDArray[np.float64], share: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Middle, median and 95th percentile of runs in order, in bins of equal count."""
    bins = int(np.clip(len(x) // _RUNS_PER_BIN, 2, _MAX_BINS))
    groups = np.array_split(np.arange(len(x)), bins)
    middle = np.array([np.median(x[group]) for group in groups])
    median = np.array([np.quantile(share[group], 0.5) for group in groups])
    p95 = np.array([np.quantile(share[group], 0.95) for group in groups])
    return middle, median, p95


def _runs(number: int) -> str:
    return "1 run" if number == 1 else f"{number:,} runs"
