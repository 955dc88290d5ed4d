"""Median times of several cases, measured in interleaved rounds on one machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable


def rounds(cases: dict[str, Callable[[], None]], *, repeat: int) -> dict[str, float]:
    """Median seconds of each case over `repeat` rounds, after one round to warm up.

    Every round runs every case once, in an order that turns by one each
    round, so that a slow moment of the machine falls on all cases alike.
    """
    names = list(cases)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for name in names:
        cases[name]()
    for turn in range(repeat):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            start = time.perf_counter()
            cases[name]()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def table(rows: list[tuple[str, ...]], *, header: tuple[str, ...]) -> str:
    """Rows as aligned text: the first column to the left, the others to the right."""
    lines = [header, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]

    def text(line: tuple[str, ...]) -> str:
        cells = [cell.rjust(width) for cell, width in zip(line, widths, strict=True)]
        return "  ".join([line[0].ljust(widths[0]), *cells[1:]])

    return "\n".join(text(line) for line in lines)
