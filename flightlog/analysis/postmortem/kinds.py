"""What a postmortem can find: kinds of findings, from when on they count, what explains what."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Kind(StrEnum):
    """What was different from the rest."""

    TOOL_FAILING = "tool_failing"
    TOOL_INVALID = "tool_invalid"
    TOOL_SLOW = "tool_slow"
    MODEL_FAILING = "model_failing"
    MODEL_SLOW = "model_slow"
    MODEL_CHANGED = "model_changed"
    CACHE_LOST = "cache_lost"
    PROMPT_START = "prompt_start"
    SURGE = "surge"
    RUNAWAY = "runaway"
    LOOPS = "loops"
    CALLS = "calls"
    DUPLICATE_WRITES = "duplicate_writes"
    REFUSED = "refused"
    OUTPUT = "output"
    RETRIES = "retries"
    PROMPT_GROWTH = "prompt_growth"
    TRUNCATED = "truncated"
    POLICY_LOST = "policy_lost"
    STOPS = "stops"
    USER_RETRIES = "user_retries"
    DURATION = "duration"
    COST = "cost"
    FAILURES = "failures"
    IN_DOUBT = "in_doubt"
    WRITE_WITHOUT_POLICY = "write_without_policy"


@dataclass(frozen=True, slots=True)
class Threshold:
    """How large a change has to be to be told.

    Attributes:
        least: of the difference: in points for a share, as a factor for a level.
        factor: how many times the rest a share has to be.
    """

    least: float
    factor: float = 1.0


STRENGTH: Final = 16.0
"""Log likelihood ratio from which a change counts. By chance one interval passes it with
probability e^-16; some 400 intervals that differ are looked at for each of 150 signals."""

SHARES: Final = {
    Kind.TOOL_FAILING: Threshold(0.08, 2),
    Kind.TOOL_INVALID: Threshold(0.05, 2),
    Kind.MODEL_FAILING: Threshold(0.05, 2),
    Kind.RETRIES: Threshold(0.1, 1.5),
    Kind.LOOPS: Threshold(0.05, 2),
    Kind.DUPLICATE_WRITES: Threshold(0.03, 2),
    Kind.IN_DOUBT: Threshold(0.03, 2),
    Kind.TRUNCATED: Threshold(0.03, 2),
    Kind.POLICY_LOST: Threshold(0.03, 2),
    Kind.USER_RETRIES: Threshold(0.05, 2),
    Kind.FAILURES: Threshold(0.1, 1.5),
    Kind.STOPS: Threshold(0.05, 2),
    Kind.REFUSED: Threshold(0.05, 2),
    Kind.MODEL_CHANGED: Threshold(0.3, 1.5),
}
LEVELS: Final = {
    Kind.TOOL_SLOW: Threshold(1.5),
    Kind.MODEL_SLOW: Threshold(1.4),
    Kind.CALLS: Threshold(1.25),
    Kind.COST: Threshold(1.25),
    Kind.PROMPT_GROWTH: Threshold(1.4),
    Kind.PROMPT_START: Threshold(1.3),
    Kind.OUTPUT: Threshold(1.4),
    Kind.DURATION: Threshold(1.4),
}
CACHE_POINTS: Final = 0.15
"""Fall of the share of prompt tokens that came from the cache."""
SURGE_FACTOR: Final = 3.0
SURGE_RUNS: Final = 60
SURGE_SHARE: Final = 0.02
SURGE_POINTS: Final = 0.15
"""A surge is so many times the usual, so many runs more, that much of all runs, and so much
more of the runs of its time: what a batch adds to the traffic is none."""

_OF_TOOLS = (Kind.TOOL_FAILING, Kind.TOOL_INVALID, Kind.TOOL_SLOW)
_OF_MODELS = (Kind.MODEL_FAILING, Kind.MODEL_SLOW, Kind.MODEL_CHANGED)
_OF_PROMPTS = (Kind.PROMPT_GROWTH, Kind.PROMPT_START, Kind.TRUNCATED, Kind.POLICY_LOST)
_OF_AGENTS = (Kind.RUNAWAY, Kind.LOOPS, Kind.CALLS, Kind.REFUSED, Kind.DUPLICATE_WRITES)
_SOURCES = (*_OF_TOOLS, *_OF_MODELS, *_OF_PROMPTS, *_OF_AGENTS, Kind.CACHE_LOST, Kind.OUTPUT)

EXPLAINED_BY: Final[dict[Kind, tuple[Kind, ...]]] = {
    Kind.RETRIES: (Kind.TOOL_FAILING, Kind.TOOL_INVALID, Kind.MODEL_FAILING, Kind.RUNAWAY),
    Kind.IN_DOUBT: (Kind.TOOL_FAILING, Kind.TOOL_SLOW),
    Kind.WRITE_WITHOUT_POLICY: (Kind.POLICY_LOST,),
    Kind.LOOPS: (Kind.TOOL_FAILING, Kind.TOOL_INVALID, Kind.POLICY_LOST),
    Kind.RUNAWAY: (Kind.TOOL_FAILING, Kind.TOOL_INVALID, Kind.POLICY_LOST),
    Kind.CALLS: (
        Kind.TOOL_FAILING, Kind.TOOL_INVALID, Kind.LOOPS, Kind.MODEL_CHANGED, Kind.REFUSED,
    ),
    Kind.PROMPT_GROWTH: (
        Kind.TOOL_FAILING, Kind.TOOL_INVALID, Kind.LOOPS, Kind.RUNAWAY, Kind.MODEL_CHANGED,
    ),
    Kind.PROMPT_START: (Kind.MODEL_CHANGED,),
    Kind.OUTPUT: (Kind.MODEL_CHANGED,),
    Kind.CACHE_LOST: (Kind.MODEL_CHANGED, Kind.PROMPT_START, Kind.PROMPT_GROWTH),
    Kind.TRUNCATED: (
        Kind.PROMPT_GROWTH, Kind.PROMPT_START, Kind.LOOPS, Kind.CALLS, Kind.RUNAWAY,
    ),
    Kind.POLICY_LOST: (
        Kind.TRUNCATED, Kind.PROMPT_GROWTH, Kind.PROMPT_START, Kind.LOOPS, Kind.CALLS,
        Kind.RUNAWAY,
    ),
    Kind.REFUSED: (
        Kind.POLICY_LOST, Kind.TRUNCATED, Kind.PROMPT_GROWTH, Kind.RUNAWAY, Kind.LOOPS,
        Kind.TOOL_FAILING, Kind.TOOL_INVALID, Kind.MODEL_CHANGED,
    ),
    Kind.DUPLICATE_WRITES: (
        Kind.TOOL_FAILING, Kind.TOOL_SLOW, Kind.POLICY_LOST, Kind.LOOPS, Kind.MODEL_CHANGED,
    ),
    Kind.MODEL_SLOW: (Kind.OUTPUT, Kind.PROMPT_GROWTH, Kind.PROMPT_START, Kind.SURGE),
    Kind.TOOL_SLOW: (Kind.SURGE, Kind.RUNAWAY),
    Kind.TOOL_FAILING: (Kind.SURGE, Kind.RUNAWAY),
    Kind.MODEL_FAILING: (Kind.SURGE, Kind.RUNAWAY),
    Kind.STOPS: _SOURCES,
    Kind.USER_RETRIES: (*_SOURCES, Kind.STOPS, Kind.FAILURES),
    Kind.SURGE: (Kind.USER_RETRIES, Kind.STOPS, Kind.SURGE, Kind.TOOL_FAILING,
                 Kind.TOOL_INVALID, Kind.MODEL_FAILING),
    Kind.DURATION: (*_SOURCES, Kind.RETRIES, Kind.STOPS),
    Kind.COST: (*_SOURCES, Kind.RETRIES, Kind.STOPS),
    Kind.FAILURES: (*_SOURCES, Kind.STOPS, Kind.RETRIES),
}  # fmt: skip
"""Kind -> kinds that can be its cause, where they concern the same and do not begin later."""

NEEDS_EARLIER: Final = frozenset(
    {Kind.TOOL_SLOW, Kind.TOOL_FAILING, Kind.MODEL_FAILING, Kind.MODEL_SLOW}
)
"""Kinds that are causes themselves, unless the load came clearly before them."""

NEAREST_FIRST: Final = frozenset({Kind.TRUNCATED, Kind.POLICY_LOST, Kind.REFUSED})
"""Kinds whose causes are listed from the nearest link of the chain on."""

LOAD_KINDS: Final = frozenset({Kind.RUNAWAY, Kind.SURGE, Kind.LOOPS, Kind.CALLS, Kind.RETRIES})
"""Kinds that say that more calls were made than usual."""

ONLY_AS_CAUSE: Final = frozenset({Kind.MODEL_CHANGED})
"""Told only where it explains something: a release that changes nothing is no incident."""
