"""Retries: how often a failed call is tried again, and how long to wait before."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Final

from flightlog.errors import ConfigError, FlightlogError


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


_LASTING_STATUS: Final = frozenset({400, 401, 402, 403, 404, 405, 410, 413, 422})
"""HTTP statuses that another try does not change."""


def is_worth_retrying(error: BaseException) -> bool:
    """False for an error that says, or whose HTTP status says, that another try cannot help."""
    if getattr(error, "retryable", True) is False or isinstance(error, FlightlogError):
        return False
    return getattr(error, "status_code", None) not in _LASTING_STATUS


def wait_s(policy: RetryPolicy, attempt: int, *, seed: str) -> float:
    """Seconds to wait after a failed attempt.

    Args:
        attempt: the one that failed, from 1.
        seed: decides the jitter; the same seed waits the same.

    Source: tenacity's `wait_exponential`; the jitter is drawn from the upper
    part of its wait, as in "Exponential Backoff And Jitter" (AWS, 2015).
    """
    from tenacity import RetryCallState, wait_exponential  # noqa: PLC0415  - only who retries pays

    schedule = wait_exponential(
        multiplier=policy.initial_s, max=policy.max_s, exp_base=policy.multiplier
    )
    state = RetryCallState(retry_object=None, fn=None, args=(), kwargs={})  # type: ignore[arg-type]
    state.attempt_number = attempt
    whole = schedule(state)
    drawn = random.Random(seed).random()  # noqa: S311  - spreads load, hides nothing
    return whole * (1 - policy.jitter * drawn)
