"""Small figures of a verdict as points on a canvas, for inline SVG: no text of a trace in them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from flightlog.analysis.gate.tails import Tail
from flightlog.analysis.gate.verdict import MetricVerdict, TaskChange

WIDTH: Final = 560.0
HEIGHT: Final = 240.0
LEFT: Final = 64.0
RIGHT: Final = 14.0
TOP: Final = 12.0
BOTTOM: Final = 34.0


@dataclass(frozen=True, slots=True)
class Mark:
    """A mark on an axis.

    Attributes:
        at: where on the axis, in pixels.
        value: what it stands for.
    """

    at: float
    value: float


@dataclass(frozen=True, slots=True)
class Slope:
    """One task from baseline to candidate.

    Attributes:
        before: height of its value on the baseline, in pixels from the top.
        after: the same on the candidate.
        is_worse: it moved for the worse.
        task: its name, for a tooltip.
    """

    before: float
    after: float
    is_worse: bool
    task: str


@dataclass(frozen=True, slots=True)
class Slopes:
    """All tasks, and the marks of the scale."""

    lines: tuple[Slope, ...]
    marks: tuple[Mark, ...]


@dataclass(frozen=True, slots=True)
class TailLines:
    """Both sides of a latency tail as polylines, with the marks of both scales.

    Attributes:
        baseline: `x,y` pairs, as SVG takes them.
        candidate: the same of the candidate.
        times: marks of the values, along x.
        shares: marks of the shares above, along y.
        p95: height of the share 5 %.
    """

    baseline: str
    candidate: str
    times: tuple[Mark, ...]
    shares: tuple[Mark, ...]
    p95: float


def slopes(tasks: tuple[TaskChange, ...], metric: MetricVerdict) -> Slopes | None:
    """The slope chart of the tasks of a verdict; None where there is nothing to draw."""
    known = [
        (task, task.baseline, task.candidate)
        for task in tasks
        if task.baseline is not None and task.candidate is not None
    ]
    values = [value for _, before, after in known for value in (before, after)]
    if len(known) < 2 or not all(map(math.isfinite, values)):
        return None
    low, high = min(values), max(values)
    # Costs and latencies of unlike tasks need the logarithm to be seen beside each other.
    is_log = not metric.kind.is_share and low > 0 and high / low > 20
    scale = _Scale(low, high, HEIGHT - BOTTOM, TOP, is_log=is_log)
    lines = tuple(
        Slope(
            scale.place(before),
            scale.place(after),
            task.share > 0,
            "/".join(filter(None, (task.suite, task.task_id))),
        )
        for task, before, after in known
    )
    return Slopes(lines, scale.marks())


def tail_lines(tail: Tail) -> TailLines | None:
    """The tail as lines; None where there is nothing to draw."""
    values = [*tail.baseline, *tail.candidate]
    if len(tail.shares_above) < 2 or min(values) <= 0:
        return None
    across = _Scale(min(values), max(values), LEFT, WIDTH - RIGHT, is_log=True)
    up = _Scale(tail.shares_above[-1], tail.shares_above[0], HEIGHT - BOTTOM, TOP, is_log=True)

    def line(side: tuple[float, ...]) -> str:
        points = zip(side, tail.shares_above, strict=True)
        return " ".join(f"{across.place(value)},{up.place(share)}" for value, share in points)

    shares = tuple(
        Mark(up.place(share), share)
        for share in (0.5, 0.25, 0.1, 0.05, 0.01)
        if share >= tail.shares_above[-1]
    )
    return TailLines(
        line(tail.baseline), line(tail.candidate), across.marks(), shares, up.place(0.05)
    )


class _Scale:
    """Values to pixels, linear or logarithmic."""

    def __init__(self, low: float, high: float, start: float, end: float, *, is_log: bool) -> None:
        self._is_log = is_log
        if high <= low:
            low, high = (low / 2 or -1.0, high * 2 or 1.0) if low >= 0 else (low - 1, high + 1)
        self._low, self._high = low, high
        self._start, self._end = start, end

    def place(self, value: float) -> float:
        low, high, at = self._low, self._high, value
        if self._is_log:
            low, high, at = math.log(low), math.log(high), math.log(value)
        return round(self._start + (at - low) / (high - low) * (self._end - self._start), 1)

    def marks(self) -> tuple[Mark, ...]:
        values = _decades(self._low, self._high) if self._is_log else []
        if len(values) < 2:
            values = _rounds(self._low, self._high)
        return tuple(Mark(self.place(value), value) for value in values)


def _decades(low: float, high: float) -> list[float]:
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    fine = last - first <= 3
    steps = (1, 2, 5) if fine else (1,)
    values = [step * 10.0**power for power in range(first, last + 1) for step in steps]
    return [value for value in values if low <= value <= high][:12]


def _rounds(low: float, high: float) -> list[float]:
    """About five round numbers from low to high."""
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    first = math.ceil(low / step)
    count = math.floor(high / step + 1e-9) - first + 1
    return [round((first + n) * step, 12) for n in range(max(0, count))]
