"""Whether the tries of a recorded call are served one by one or as one final outcome."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from flightlog.trace.events import ToolCall


class Attempts(StrEnum):
    """How the tries of one recorded call are served."""

    COLLAPSED = "collapsed"
    FAITHFUL = "faithful"


def last_attempts(calls: Iterable[ToolCall]) -> list[ToolCall]:
    """The last try of each call, at the place of its first; calls without a place stand alone."""
    found: dict[tuple[object, ...], ToolCall] = {}
    for call in calls:
        has_place = call.step is not None and call.call_ix is not None
        place = (call.actor, call.step, call.call_ix, None if has_place else call.seq)
        earlier = found.get(place)
        if earlier is None or call.attempt > earlier.attempt:
            found[place] = call
    return list(found.values())
