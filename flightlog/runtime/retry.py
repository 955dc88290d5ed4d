"""Retries: how often a failed call is tried again, and how long to wait before."""

from __future__ import annotations

import math
import random
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final

from flightlog.errors import ConfigError, FlightlogError


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential backoff with jitter.

    Attributes:
        max_attempts: tries in all; 1 never tries again.
        initial_s: wait before the second try, seconds.
        max_s: longest wait, seconds; who asks for a longer one is not tried again.
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


IS_TRIED_AGAIN: Final[ContextVar[bool]] = ContextVar("flightlog_is_tried_again", default=False)
"""True inside a tool that a gateway may call again: its own runs then do not try again too."""

_LASTING_STATUS: Final = frozenset({400, 401, 402, 403, 404, 405, 410, 413, 422})
"""HTTP statuses that another try does not change."""

_LASTING_CODES: Final = frozenset(
    {"context_length_exceeded", "insufficient_quota", "invalid_api_key", "model_not_found"}
)
"""Error codes of providers that another try does not change, whatever the status."""


def is_worth_retrying(error: BaseException) -> bool:
    """False for an error that says, or whose HTTP status says, that another try cannot help."""
    told = attribute_of(error, "retryable")
    if isinstance(told, bool):
        return told
    code = attribute_of(error, "code")
    if isinstance(error, FlightlogError) or (isinstance(code, str) and code in _LASTING_CODES):
        return False
    return status_of(error) not in _LASTING_STATUS


def status_of(error: BaseException) -> int | None:
    """The HTTP status that an exception carries; None without one.

    Looks where clients keep it: `status_code` (openai, anthropic), `code` (urllib,
    google.api_core), `status` (aiohttp), `response.status_code` (httpx, requests).
    """
    response = attribute_of(error, "response")
    held = [attribute_of(error, name) for name in ("status_code", "code", "status")]
    for status in (*held, attribute_of(response, "status_code")):
        if isinstance(status, int) and 100 <= status < 600:
            return int(status)
    return None


def asked_wait_s(error: BaseException) -> float | None:
    """Seconds that an exception asks to wait before another try; None where it does not.

    Its `retry_after_s`, else the header `retry-after` of its `response` or of itself,
    as far as that is a number of seconds.
    """
    seconds = seconds_of(attribute_of(error, "retry_after_s"))
    for holder in (attribute_of(error, "response"), error):
        if seconds is None:
            seconds = _header_s(attribute_of(holder, "headers"))
    return seconds


def _header_s(headers: Any) -> float | None:
    """The header `retry-after` in seconds; None for a date, for nothing, for foreign headers."""
    get = attribute_of(headers, "get")
    try:
        return seconds_of(float(get("retry-after"))) if callable(get) else None
    except Exception:
        return None


def seconds_of(value: Any) -> float | None:
    """A foreign value as seconds; None where it is no number from 0 up."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if is_number and 0 <= value < math.inf else None


def attribute_of(foreign: Any, name: str) -> Any:
    """An attribute of a foreign object; None where it has none, or where asking raises."""
    try:
        return getattr(foreign, name, None)
    except Exception:
        return None


def pause_s(policy: RetryPolicy, attempt: int, *, asked_s: float | None, seed: str) -> float | None:
    """Seconds to wait after a failed attempt; None where no further one is made.

    Who asks for a longer wait than `max_s` is not tried again: trying earlier would be
    in vain, and a server must not decide how long a run stands still.

    Args:
        attempt: the one that failed, from 1.
        asked_s: what the failed side asks for.
        seed: decides the jitter.
    """
    if attempt >= policy.max_attempts or (asked_s or 0.0) > policy.max_s:
        return None
    return max(asked_s or 0.0, wait_s(policy, attempt, seed=seed))


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
