"""A postmortem as one static HTML file."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from flightlog.analysis.postmortem.found import Postmortem, Timeline
from flightlog.analysis.reports.page import render_page
from flightlog.analysis.reports.postmortem import words

WIDTH: Final = 720.0
HEIGHT: Final = 150.0
_LEFT: Final = 8.0
_TOP: Final = 14.0
_BOTTOM: Final = 22.0


@dataclass(frozen=True, slots=True)
class Bar:
    """One piece of the window, in pixels.

    Attributes:
        left: where it begins.
        width: how wide it is.
        calls: top of its bar of tool calls.
        failures: top of its bar of failures.
        title: the figures.
    """

    left: float
    width: float
    calls: float
    failures: float
    title: str


@dataclass(frozen=True, slots=True)
class Span:
    """Where a finding lies on the time axis, in pixels."""

    left: float
    width: float
    number: int


@dataclass(frozen=True, slots=True)
class Picture:
    """The window as bars, with the time of each cause above them."""

    bars: tuple[Bar, ...]
    spans: tuple[Span, ...]
    ticks: tuple[tuple[float, str], ...]
    most: int


def to_html(found: Postmortem) -> str:
    """The postmortem as an HTML page."""
    return render_page(
        "postmortem",
        found=found,
        words=words,
        picture=None if found.timeline is None else picture_of(found, found.timeline),
        size=(WIDTH, HEIGHT, HEIGHT - _BOTTOM),
    )


def picture_of(found: Postmortem, line: Timeline) -> Picture:
    """The bars of the timeline."""
    pieces, floor = len(line.runs), HEIGHT - _BOTTOM
    step = (WIDTH - 2 * _LEFT) / pieces
    most = max(1, *line.tool_calls)
    scale = (floor - _TOP) / most
    begin = line.begin.timestamp()

    def place(seconds: float) -> float:
        return _LEFT + min(max((seconds - begin) / line.width_s, 0), pieces) * step

    bars = tuple(
        Bar(
            round(_LEFT + at * step, 2),
            round(max(step - 1, 0.6), 2),
            round(floor - calls * scale, 2),
            round(floor - failures * scale, 2),
            f"{calls:,} tool calls, {failures:,} failed, {runs:,} runs, ${usd:,.2f}",
        )
        for at, (calls, failures, runs, usd) in enumerate(
            zip(line.tool_calls, line.failures, line.runs, line.usd, strict=True)
        )
    )
    spans = []
    for finding in found.findings:
        if finding.caused_by is None:
            left = place(finding.begins.timestamp())
            right = WIDTH - _LEFT if finding.ends is None else place(finding.ends.timestamp())
            spans.append(Span(round(left, 2), round(max(right - left, 2), 2), finding.number))
    length = timedelta(seconds=pieces * line.width_s)
    ticks = tuple(
        (round(_LEFT + share * pieces * step, 2), f"{line.begin + share * length:%Y-%m-%d %H:%M}")
        for share in (0.0, 0.5, 1.0)
    )
    return Picture(bars, tuple(spans), ticks, most)
