"""One limit over a range of values: what each would have saved, and what it would have cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from flightlog.analysis.whatif.history import History
from flightlog.analysis.whatif.limits import Limits, Saved, rerun

VARIABLE: Final = (
    "max_steps",
    "max_tool_calls",
    "max_usd",
    "max_tokens",
    "max_seconds",
    "stalled_steps",
)
"""Limits that can take a range of values."""


@dataclass(frozen=True, slots=True)
class Point:
    """One value of the limit, and what history is under it.

    Attributes:
        value: of the limit that varies; None where none does.
        saved: what it saves and costs.
    """

    value: float | None
    saved: Saved


def curve_of(
    history: History, name: str | None, values: Sequence[float], limits: Limits
) -> list[Point]:
    """Reruns a history under each value of one limit, with the others as they are.

    Args:
        history: the calls.
        name: one of VARIABLE; None for the limits alone, in one point.
        values: of that limit, in the order of the points.
        limits: the others.
    """
    if name is None:
        return [Point(None, rerun(history, limits))]
    is_whole = name not in ("max_usd", "max_seconds")
    found = []
    for value in values:
        changed: dict[str, Any] = {name: int(value) if is_whole else value}
        found.append(Point(value, rerun(history, replace(limits, **changed))))
    return found
