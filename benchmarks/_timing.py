"""Median times of several cases, measured in interleaved rounds on one machine."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple


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


class Each(NamedTuple):
    """What one item of a case took, in microseconds.

    Attributes:
        p50, p99: of all items of all rounds, each timed alone.
        mean: of a round with its end, median over the rounds.
        best: the same, in the quickest round.
        cpu: of all threads of the process, median over the rounds.
    """

    p50: float
    p99: float
    mean: float
    best: float
    cpu: float


class Case(NamedTuple):
    """One thing to time.

    Attributes:
        one: does it to one item.
        items: of one round.
        finish: ends a round, such as by a flush.
    """

    one: Callable[[Any], object]
    items: Sequence[Any]
    finish: Callable[[], object] = lambda: None


def each_item(cases: dict[str, Case], *, repeat: int) -> dict[str, Each]:
    """Times every item of every case, in rounds as `rounds` does."""
    names = list(cases)
    times: dict[str, list[int]] = {name: [] for name in names}
    whole: dict[str, list[float]] = {name: [] for name in names}
    cpu: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(-1, repeat):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            case, clock, taken = cases[name], time.perf_counter_ns, []
            start, cpu_start = time.perf_counter(), time.process_time()
            for item in case.items:
                before = clock()
                case.one(item)
                taken.append(clock() - before)
            case.finish()
            if turn < 0:  # to warm up
                continue
            count = len(case.items) / 1e6
            whole[name].append((time.perf_counter() - start) / count)
            cpu[name].append((time.process_time() - cpu_start) / count)
            times[name] += taken
    found = {}
    for name in names:
        values = sorted(times[name])
        found[name] = Each(
            values[len(values) // 2] / 1000,
            values[len(values) * 99 // 100] / 1000,
            statistics.median(whole[name]),
            min(whole[name]),
            statistics.median(cpu[name]),
        )
    return found


def load() -> str:
    """How busy the machine is, for the last line of a report."""
    return f"load of the machine {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
