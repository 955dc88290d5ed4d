"""Budgets: what a run, and one tool within it, may spend; and what it spent."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from flightlog.errors import ConfigError

_COUNTS: Final = frozenset({"max_steps", "max_tool_calls", "max_tokens"})


@dataclass(frozen=True, slots=True)
class Budget:
    """The limits of one run; None is no limit.

    A limit stops the next call: an answer or a result that is already paid for
    is kept, so USD and tokens can pass their limit by one model call.

    Attributes:
        max_steps: turns of the loop.
        max_seconds: seconds; also cuts a running model or tool call.
        max_tool_calls: attempts, failed and invalid ones included.
        max_usd: US dollars for model calls and for tools with a declared cost.
        max_tokens: input and output tokens of all model calls together.
    """

    max_steps: int | None = 30
    max_seconds: float | None = 90
    max_tool_calls: int | None = 15
    max_usd: float | None = None
    max_tokens: int | None = None

    def __post_init__(self) -> None:
        for name, limit in self.limits().items():
            if limit is not None and not limit >= 0:
                raise ConfigError(
                    f"budget {name}={limit} is not a limit",
                    hint="Give a number from 0 up, or None for no limit.",
                )
            if name in _COUNTS and limit is not None and not isinstance(limit, int):
                raise ConfigError(
                    f"budget {name}={limit} is not a whole number",
                    hint="Give a whole number from 0 up, or None for no limit.",
                )

    def limits(self) -> dict[str, float | int | None]:
        """The limits under their column names."""
        return {
            "max_steps": self.max_steps,
            "max_seconds": self.max_seconds,
            "max_tool_calls": self.max_tool_calls,
            "max_usd": self.max_usd,
            "max_tokens": self.max_tokens,
        }


@dataclass(frozen=True, slots=True)
class ToolBudget:
    """What one tool may be used within one run; None is no limit.

    A tool that has used it up is refused, and the run goes on without it.

    Attributes:
        max_calls: attempts, failed ones and ones refused later included.
        max_seconds: seconds of all its attempts together; also cuts a running one.
        max_usd: US dollars by the tool's declared cost.
    """

    max_calls: int | None = None
    max_seconds: float | None = None
    max_usd: float | None = None

    def __post_init__(self) -> None:
        for name in ("max_calls", "max_seconds", "max_usd"):
            limit = getattr(self, name)
            is_whole = name != "max_calls" or type(limit) is int
            if limit is not None and not (is_whole and 0 <= limit < math.inf):
                raise ConfigError(
                    f"tool budget {name}={limit!r} is not a limit",
                    hint="Give a number from 0 up (whole for max_calls), or None for no limit.",
                )


@dataclass(frozen=True, slots=True)
class Used:
    """What a run spent.

    Attributes:
        steps: turns taken.
        seconds: on the run's clock.
        tool_calls: attempts reserved, whatever became of them.
        usd: None when the cost of a model call is unknown.
        tokens: None when the tokens of a model call are unknown.
    """

    steps: int
    seconds: float
    tool_calls: int
    usd: float | None
    tokens: int | None

    def spent(self) -> dict[str, float | int | None]:
        """The spending under its column names."""
        return {
            "used_steps": self.steps,
            "used_seconds": self.seconds,
            "used_tool_calls": self.tool_calls,
            "used_usd": self.usd,
            "used_tokens": self.tokens,
        }


@dataclass(frozen=True, slots=True)
class ScopedUse:
    """What was allowed and used of one budget beside those of the run.

    Attributes:
        scope: `tool:NAME` or `tenant:NAME`.
        budget: name of the limit, such as `max_tool_calls`.
        unit: of both numbers.
        used: None when it cannot be read.
    """

    scope: str
    budget: str
    unit: str
    allowed: float
    used: float | None
