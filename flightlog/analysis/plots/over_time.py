"""Figures over time: cost, latency, stop reasons, tools, drift, and all of them on one sheet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from flightlog.analysis.plots.canvas import (
    COLOURS,
    FAINT,
    GRID,
    HIT,
    SOFT,
    drawing,
    label_text,
    require_writable,
    save,
    time_axis,
    title_text,
)
from flightlog.analysis.sql_files import sql_text
from flightlog.analysis.stats.sample import Floats
from flightlog.analysis.terminal import number_text
from flightlog.analysis.window import EVERYTHING, Scope
from flightlog.analysis.wording import counted
from flightlog.errors import UnknownNameError, UsageError

if TYPE_CHECKING:
    from flightlog.analysis.db import Traces

GROUPS: Final = ("agent", "model", "tenant", "variant")
_FOLDER: Final = "plots"
_MOST_PIECES: Final = 60
_WIDTHS: Final = (
    1, 5, 15, 30, 60, 300, 900, 1_800, 3_600, 3 * 3_600, 6 * 3_600, 12 * 3_600, 86_400,
    7 * 86_400, 28 * 86_400,
)  # fmt: skip
_MOST_NAMES: Final = 5
_REST: Final = "others"
_REST_COLOUR: Final = "#C4C4C4"
_OK_COLOUR: Final = "#BFD8CB"
_MARKED_UP_TO: Final = 40
_FEWEST_SHOWN: Final = 10
_WIDE: Final = 9.6


@dataclass(frozen=True, eq=False)
class Times:
    """The pieces of time of a figure, and the runs that it is about.

    Attributes:
        traces: the stores.
        scope: which runs.
        width: length of a piece in seconds.
        begins: of the pieces, seconds since the epoch, shape (pieces,).
        runs: how many runs there are.
        by: agent, model, tenant or variant.
    """

    traces: Traces
    scope: Scope
    width: float
    begins: Floats
    runs: int
    by: str

    @property
    def x(self) -> Floats:
        """Middles of the pieces as matplotlib's days."""
        # Matplotlib counts days since 1970, as seconds since the epoch do.
        return (self.begins + self.width / 2) / 86_400

    def ask(self, name: str, **values: object) -> list[dict[str, Any]]:
        """The rows of one SQL file, with the scope and the width of the pieces."""
        params = {**self.scope.narrowing(), "width": self.width, **values}
        return self.traces.rows(sql_text(_FOLDER, f"{name}.sql"), params)

    def along(self, rows: Sequence[dict[str, Any]], value: str, *, empty: float) -> Floats:
        """A value of rows over all pieces; `empty` where there is no row, NaN where it is null."""
        found = np.full(len(self.begins), empty)
        place = {float(begin): at for at, begin in enumerate(self.begins)}
        for row in rows:
            if row["begin"] in place:
                known = row[value]
                found[place[row["begin"]]] = np.nan if known is None else float(known)
        return found


def times_of(traces: Traces, scope: Scope, by: str) -> Times:
    """The pieces of time from the first run to the last.

    Raises:
        UnknownNameError: another group.
        UsageError: no run says when it began.
    """
    if by not in GROUPS:
        raise UnknownNameError.of("group", by, GROUPS)
    [span] = traces.rows(sql_text(_FOLDER, "span.sql"), scope.narrowing())
    if not span["runs"]:
        raise UsageError(
            "no run to plot: none is chosen, or none says when it began",
            hint="flightlog runs lists what is there.",
        )
    length = span["last"] - span["first"]
    width = next((one for one in _WIDTHS if length / one <= _MOST_PIECES), _WIDTHS[-1])
    first = span["first"] // width
    pieces = int(span["last"] // width - first) + 1
    begins = (first + np.arange(pieces)) * float(width)
    return Times(traces, scope, float(width), begins, span["runs"], by)


def cost_panel(axes: Axes, times: Times) -> None:
    """USD per piece of time, stacked by group."""
    rows = times.ask("runs", by=times.by)
    _stacked(axes, times, rows, "usd")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"${value:,.4g}"))
    unknown = sum(row["usd"] is None for row in rows)
    note = "; runs without a price are left out" if unknown else ""
    _title(axes, "Cost", f"USD per {_length(times.width)} by {times.by}{note}")


def load_panel(axes: Axes, times: Times) -> None:
    """Runs per piece of time, stacked by group."""
    _stacked(axes, times, times.ask("runs", by=times.by), "runs")
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    _title(axes, "Runs", f"started per {_length(times.width)} by {times.by}")


def model_latency_panel(axes: Axes, times: Times) -> None:
    """Latency of model calls: median and 95th percentile."""
    _latencies(axes, times, "model")
    _title(axes, "Latency of models", "median, and 95th percentile dashed")


def tool_latency_panel(axes: Axes, times: Times) -> None:
    """Latency of tool calls: median and 95th percentile."""
    _latencies(axes, times, "tool")
    _title(axes, "Latency of tools", "median, and 95th percentile dashed")


def stops_panel(axes: Axes, times: Times) -> None:
    """Shares of the stop reasons."""
    rows = times.ask("ends")
    names = _largest(rows, "runs")
    total = times.along(_summed(rows, "runs"), "runs", empty=0.0)
    bottom = np.zeros(len(total))
    reasons = [name for name in names if name not in ("ok", _REST)]
    colours = dict(zip(reasons, COLOURS[1:], strict=False))
    colours |= {"ok": _OK_COLOUR, _REST: _REST_COLOUR}
    for name in ["ok", *reasons, *([_REST] if _REST in names else [])]:
        if name not in names:
            continue
        runs = times.along(_named(rows, name, names, "runs"), "runs", empty=0.0)
        share = np.divide(runs, total, out=np.zeros_like(runs), where=total > 0)
        axes.bar(times.x, share, _bar(times), bottom=bottom, color=colours.get(name, FAINT),
                 label=label_text(name), linewidth=0)  # fmt: skip
        bottom += share
    axes.set_ylim(0, 1)
    _percent(axes)
    _title(axes, "Stop reasons", f"share of the runs that began in each {_length(times.width)}")


def tool_calls_panel(axes: Axes, times: Times) -> None:
    """Tool calls per piece of time, stacked by tool."""
    rows = [row for row in times.ask("calls") if row["kind"] == "tool"]
    _stacked(axes, times, rows, "calls")
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    _title(axes, "Tool calls", f"attempts per {_length(times.width)} by tool")


def tool_failures_panel(axes: Axes, times: Times) -> None:
    """Share of the calls of each tool that failed."""
    rows = [row for row in times.ask("calls") if row["kind"] == "tool"]
    names = [name for name in _largest(rows, "calls") if name != _REST]
    colours = _colours(names)
    for name in (one for one in names if any(row["failed"] for row in rows if row["name"] == one)):
        colour = colours[name]
        its = [row for row in rows if row["name"] == name]
        calls = times.along(its, "calls", empty=np.nan)
        failed = times.along(its, "failed", empty=np.nan)
        _line(axes, times, failed / calls, colour, label_text(name))
    axes.set_ylim(0, max(0.05, axes.get_ylim()[1]))
    _percent(axes)
    _title(axes, "Failing tools", f"share of the attempts per {_length(times.width)} that failed")


def budgets_panel(axes: Axes, times: Times) -> None:
    """95th percentile of the use of each budget as a share of its limit."""
    rows = times.ask("budgets")
    for name, colour in zip(_largest(rows, "runs"), COLOURS, strict=False):
        its = [row for row in rows if row["name"] == name]
        if its:
            _line(axes, times, times.along(its, "p95", empty=np.nan), colour, label_text(name))
    axes.axhline(1.0, color=HIT, linewidth=1)
    axes.set_ylim(0, max(1.1, min(axes.get_ylim()[1], 1.6)))
    _percent(axes)
    _title(axes, "Budgets", "95th percentile of the use; the red line is the limit")


_DRIFTS: Final[tuple[tuple[str, str, str], ...]] = (
    ("tool_calls", "Tool calls per run", "mean"),
    ("tokens_per_request", "Tokens per request", "mean"),
    ("p50_usd", "Cost per run", "median, USD"),
    ("p95_ms", "Duration of runs", "95th percentile"),
    ("success", "Success", "share of the judged runs"),
    ("retried", "Retries", "share of the runs with one"),
)


def drift_panel(value: str, title: str, what: str) -> Callable[[Axes, Times], None]:
    """A panel of one measure over time by group; dotted: its median over the whole window."""

    def draw(axes: Axes, times: Times) -> None:
        rows = times.ask("runs", by=times.by)
        names = [name for name in _largest(rows, "runs") if name != _REST]
        for name, colour in _colours(names).items():
            its = [row for row in rows if row["name"] == name]
            if not its:
                continue
            along = times.along(its, value, empty=np.nan)
            _line(axes, times, along, colour, label_text(name or f"(no {times.by})"))
            if not np.isnan(along).all():
                axes.axhline(float(np.nanmedian(along)), color=colour, linewidth=0.8, linestyle=":")
        if value in ("success", "retried"):
            axes.set_ylim(0, 1.02 if value == "success" else max(0.1, axes.get_ylim()[1]))
            _percent(axes)
        else:
            axes.set_ylim(bottom=0)
            text = _milliseconds if value == "p95_ms" else _number
            axes.yaxis.set_major_formatter(FuncFormatter(text))
        _title(axes, title, what)

    return draw


Panel = Callable[[Axes, Times], None]
_DRIFT_PANELS: Final = tuple(drift_panel(*one) for one in _DRIFTS)
FIGURES: Final[dict[str, tuple[str, tuple[Panel, ...], int]]] = {
    "cost": ("What runs cost", (cost_panel, load_panel), 1),
    "latency": ("Latency", (model_latency_panel, tool_latency_panel), 1),
    "stop-reasons": ("How runs end", (stops_panel,), 1),
    "tools": ("Tools", (tool_calls_panel, tool_failures_panel), 1),
    "drift": ("Drift", _DRIFT_PANELS, 2),
    "overview": (
        "Overview",
        (cost_panel, load_panel, stops_panel, budgets_panel, tool_calls_panel,
         tool_failures_panel, model_latency_panel, tool_latency_panel),
        2,
    ),
}  # fmt: skip
"""Name of a figure -> its title, panels, and how many stand side by side."""


def plot_over_time(
    traces: Traces, name: str, out: str | Path, *, by: str = "agent", scope: Scope = EVERYTHING
) -> Path:
    """Draws one of FIGURES.

    Args:
        traces: the stores.
        name: cost, latency, stop-reasons, tools, drift or overview.
        out: file to write, `.png` or `.svg`; an existing one is replaced.
        by: what tells series apart where the figure is of runs: agent, model, tenant, variant.
        scope: which runs.

    Raises:
        UnknownNameError: another figure or group.
        UsageError: no run to plot, or `out` has another ending or no folder.
    """
    out = Path(out)
    require_writable(out)
    if name not in FIGURES:
        raise UnknownNameError.of("figure", name, tuple(FIGURES))
    times = times_of(traces, scope, by)
    with drawing():
        save(_figure(times, *FIGURES[name]), out)
    return out


def _figure(times: Times, title: str, panels: Sequence[Panel], columns: int) -> Figure:
    rows = -(-len(panels) // columns)
    height = 0.75 + 2.45 * rows
    wide = _WIDE if columns == 1 else 13.2
    figure = Figure(figsize=(wide, height), facecolor="white")
    grid = figure.add_gridspec(
        rows, columns, hspace=0.62, wspace=0.16,
        left=0.075 if columns == 1 else 0.055, right=0.97,
        top=1 - 1.12 / height, bottom=0.42 / height,
    )  # fmt: skip
    for number, panel in enumerate(panels):
        axes = figure.add_subplot(grid[number // columns, number % columns])
        axes.grid(axis="y", color=GRID, linewidth=0.7)
        axes.set_axisbelow(True)
        axes.tick_params(length=0, pad=5)
        panel(axes, times)
        _finish(axes, times)
    figure.text(
        0.016, 1 - 0.12 / height, title_text(title), va="top", fontsize=15, fontweight="bold"
    )
    first, last = _plain(times.begins[0]), _plain(times.begins[-1] + times.width)
    about = f"{counted(times.runs, 'run')}, {_span(first, last)} UTC"
    figure.text(0.016, 1 - 0.44 / height, about, va="top", color=SOFT)
    return figure


def _finish(axes: Axes, times: Times) -> None:
    time_axis(axes, has_date=True)
    # A few pieces are not drawn as wide as the figure.
    missing = max(_FEWEST_SHOWN - len(times.begins), 0) / 2
    margin = (0.56 + missing) * times.width / 86_400
    axes.set_xlim(times.x[0] - margin, times.x[-1] + margin)
    handles, labels = axes.get_legend_handles_labels()
    if not handles:
        axes.text(0.5, 0.5, "nothing recorded", transform=axes.transAxes, ha="center", color=FAINT)
        axes.set_yticks([])
        return
    axes.legend(
        handles, labels, frameon=False, fontsize=8, ncols=min(len(labels), 6), loc="lower right",
        bbox_to_anchor=(1.005, 1.125), handlelength=0.9, handletextpad=0.4, columnspacing=1.0,
        borderaxespad=0.1,
    )  # fmt: skip


def _title(axes: Axes, title: str, what: str) -> None:
    axes.set_title("")
    axes.text(0, 1.19, title, transform=axes.transAxes, fontsize=10.5, fontweight="bold")
    axes.text(0, 1.07, what, transform=axes.transAxes, color=SOFT, fontsize=8.5)


def _stacked(axes: Axes, times: Times, rows: Sequence[dict[str, Any]], value: str) -> None:
    names = _largest(rows, value)
    bottom = np.zeros(len(times.begins))
    colours = _colours(names)
    for name in names:
        shade = colours[name]
        its = _named(rows, name, names, value)
        height = np.nan_to_num(times.along(its, value, empty=0.0))
        text = label_text(name) if name else f"(no {times.by})"
        axes.bar(times.x, height, _bar(times), bottom=bottom, color=shade, label=text, linewidth=0)
        bottom += height
    axes.set_ylim(0, max(float(bottom.max()) * 1.06, 1e-9) if len(bottom) else 1)


def _latencies(axes: Axes, times: Times, kind: str) -> None:
    rows = [row for row in times.ask("calls") if row["kind"] == kind and row["p50_ms"] is not None]
    names = [name for name in _largest(rows, "calls") if name != _REST]
    for name, colour in _colours(names).items():
        its = [row for row in rows if row["name"] == name]
        if not its:
            continue
        _line(axes, times, times.along(its, "p50_ms", empty=np.nan), colour, label_text(name))
        p95 = times.along(its, "p95_ms", empty=np.nan)
        axes.plot(times.x, p95, color=colour, linewidth=1, linestyle=(0, (4, 2)))
    if rows and min(row["p50_ms"] for row in rows) > 0:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=8))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_major_formatter(FuncFormatter(_milliseconds))


def _line(axes: Axes, times: Times, values: Floats, colour: str, label: str) -> None:
    known = int((~np.isnan(values)).sum())
    marker = "o" if known <= _MARKED_UP_TO else None
    axes.plot(
        times.x, values, color=colour, linewidth=1.7, marker=marker, markersize=3, label=label
    )


def _colours(names: Sequence[str]) -> dict[str, str]:
    """A colour for each name, the same in every panel that shows the same names."""
    known = sorted(name for name in names if name != _REST)
    return {**dict(zip(known, COLOURS, strict=False)), _REST: _REST_COLOUR}


def _largest(rows: Sequence[dict[str, Any]], value: str) -> list[str]:
    """Names with the most of a value, the largest first; the others as one where there are more."""
    totals: dict[str, float] = {}
    for row in rows:
        totals[row["name"]] = totals.get(row["name"], 0.0) + float(row[value] or 0)
    order = sorted((name for name in totals if totals[name] > 0), key=lambda n: (-totals[n], n))
    if len(order) <= _MOST_NAMES + 1:
        return order
    return [*order[:_MOST_NAMES], _REST]


def _named(
    rows: Sequence[dict[str, Any]], name: str, names: Sequence[str], value: str
) -> list[dict[str, Any]]:
    """The rows of a name; of the others all that are not named."""
    if name != _REST:
        return [row for row in rows if row["name"] == name]
    return _summed([row for row in rows if row["name"] not in names], value)


def _summed(rows: Sequence[dict[str, Any]], value: str) -> list[dict[str, Any]]:
    """One row per piece with the sum of a value."""
    totals: dict[float, float] = {}
    for row in rows:
        totals[row["begin"]] = totals.get(row["begin"], 0.0) + float(row[value] or 0)
    return [{"begin": begin, value: total} for begin, total in totals.items()]


def _bar(times: Times) -> float:
    return 0.86 * times.width / 86_400


def _percent(axes: Axes) -> None:
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))


def _number(value: float, _position: object) -> str:
    return number_text(value)


def _milliseconds(value: float, _position: object) -> str:
    return f"{value / 1000:g} s" if value >= 1000 else f"{value:g} ms"


def _plain(seconds: float) -> datetime:
    return datetime.fromtimestamp(float(seconds), UTC).replace(tzinfo=None)


def _span(first: datetime, last: datetime) -> str:
    if first.date() == last.date():
        return f"{first:%Y-%m-%d %H:%M:%S} to {last:%H:%M:%S}"
    return f"{first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M}"


def _length(seconds: float) -> str:
    for size, unit in ((86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second")):
        if seconds >= size:
            many = round(seconds / size)
            return unit if many == 1 else f"{many} {unit}s"
    return f"{seconds:g} s"
