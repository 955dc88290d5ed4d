"""When a circuit breaker opens, and what an open one means for a run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from flightlog.errors import ConfigError


class Fallback(StrEnum):
    """How a run goes on while a tool's breaker is open."""

    WITHOUT_TOOL = "without_tool"
    READ_ONLY = "read_only"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """The circuit breaker of one tool.

    Attributes:
        failure_rate: opens when at least this share of the calls in the window
            failed or timed out, 0 to 1.
        min_calls: calls in the window before a rate means anything.
        window_s: seconds that a call counts for.
        open_s: seconds until an open breaker lets probes through (half-open).
        half_open_calls: probes at a time over all processes; this many successes close it.
        fallback: how a run goes on while it is open.
    """

    failure_rate: float = 0.5
    min_calls: int = 5
    window_s: float = 60.0
    open_s: float = 30.0
    half_open_calls: int = 1
    fallback: Fallback = Fallback.WITHOUT_TOOL

    def __post_init__(self) -> None:
        object.__setattr__(self, "fallback", Fallback(self.fallback))
        checks = {
            "failure_rate": 0 < self.failure_rate <= 1,
            "min_calls": type(self.min_calls) is int and self.min_calls >= 1,
            "window_s": 0 < self.window_s < math.inf,
            "open_s": 0 < self.open_s < math.inf,
            "half_open_calls": type(self.half_open_calls) is int and self.half_open_calls >= 1,
        }
        for name, is_good in checks.items():
            if not is_good:
                raise ConfigError(
                    f"breaker {name}={getattr(self, name)!r} is out of range",
                    hint="failure_rate is above 0 and at most 1; counts are whole numbers from 1; "
                    "seconds are above 0.",
                )
