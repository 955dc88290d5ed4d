"""Adds up the figures of tests (property `figures`: a title and numbers by name) in one table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any


def figure_lines(reports: Iterable[Any]) -> Iterator[str]:
    """A line per title with the sums over all its tests; seconds give a rate."""
    sums: dict[str, dict[str, float]] = {}
    for report in reports:
        for name, value in getattr(report, "user_properties", ()):
            if name == "figures":
                title, figures = value
                total = sums.setdefault(title, {})
                for what, number in figures.items():
                    total[what] = total.get(what, 0) + number
    for title, total in sorted(sums.items()):
        seconds = total.pop("seconds", 0)
        texts = [f"{what} {number:,.0f}" for what, number in total.items()]
        if seconds:
            texts.append(f"{next(iter(total.values())) / seconds:,.1f}/s")
        yield f"{title}: {', '.join(texts)}"
