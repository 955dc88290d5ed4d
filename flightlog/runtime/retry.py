"""Retries: how often a failed call is tried again, and how long to wait before."""

from __future__ import annotations

import math
from dataclasses import dataclass

from flightlog.errors import ConfigError


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential backoff with jitter.

    Attributes:
        max_attempts: tries in all; 1 never tries again.
        initial_s: wait before the second try, seconds.
        max_s: longest wait, seconds.
        multiplier: growth of the wait from one try to the next.
        jitter: share of the wait that is random, 0 to 1; 1 draws it from 0 to the whole.
    """

    max_attempts: int = 3
    initial_s: float = 0.5
    max_s: float = 30.0
    multiplier: float = 2.0
    jitter: float = 0.5

    def __post_init__(self) -> None:
        checks = {
            "max_attempts": type(self.max_attempts) is int and self.max_attempts >= 1,
            "initial_s": 0 <= self.initial_s < math.inf,
            "max_s": 0 <= self.max_s < math.inf,
            "multiplier": 1 <= self.multiplier < math.inf,
            "jitter": 0 <= self.jitter <= 1,
        }
        for name, is_good in checks.items():
            if not is_good:
                raise ConfigError(
                    f"retry {name}={getattr(self, name)!r} is out of range",
                    hint="max_attempts is a whole number from 1, seconds are from 0, "
                    "multiplier from 1, jitter from 0 to 1.",
                )
