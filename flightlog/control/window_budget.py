"""What a tenant may spend over a sliding window."""

from __future__ import annotations

import math
from dataclasses import dataclass

from flightlog.errors import ConfigError


@dataclass(frozen=True, slots=True)
class WindowBudget:
    """The limits of one tenant over a sliding window; None is no limit.

    Attributes:
        window_s: length of the window, seconds.
        max_tool_calls: attempts, failed and refused ones included.
        max_usd: US dollars for model calls and for tools with a declared cost.
        max_tokens: input and output tokens of all model calls together.
    """

    window_s: float
    max_tool_calls: int | None = None
    max_usd: float | None = None
    max_tokens: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.window_s < math.inf:
            raise ConfigError(
                f"window_s={self.window_s!r} is no window", hint="Give seconds above 0."
            )
        for name in ("max_tool_calls", "max_usd", "max_tokens"):
            limit = getattr(self, name)
            is_whole = name == "max_usd" or type(limit) is int
            if limit is not None and not (is_whole and 0 <= limit < math.inf):
                raise ConfigError(
                    f"tenant budget {name}={limit!r} is not a limit",
                    hint="Give a number from 0 up (whole for counts), or None for no limit.",
                )
