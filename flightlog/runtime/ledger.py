"""The ledger of one run: what is spent is reserved before it is used."""

from __future__ import annotations

import threading
from collections import Counter
from decimal import Decimal

from flightlog.runtime.budget import Budget, Used
from flightlog.runtime.model import Usage
from flightlog.trace.clock import Clock
from flightlog.trace.vocab import StopReason


class Ledger:
    """What one run has spent of its budget. Safe to use from several threads.

    Args:
        budget: the limits.
        clock: measures `max_seconds` from now on.
    """

    def __init__(self, budget: Budget, clock: Clock) -> None:
        self.budget = budget
        self.step = 0
        self._clock = clock
        self._started_ms = clock.monotonic_ms()
        self._lock = threading.Lock()
        self._tool_calls = 0
        self._usd = Decimal(0)
        self._tokens = 0
        self._usd_unknown_since: int | None = None
        self._tokens_unknown_since: int | None = None
        self._failures: Counter[str] = Counter()

    def begin_step(self) -> StopReason | None:
        """Starts a step, or says which budget does not allow one."""
        with self._lock:
            limit = self.budget.max_steps
            if limit is not None and self.step >= limit:
                return StopReason.MAX_STEPS
            if reason := self._used_up():
                return reason
            self.step += 1
            return None

    def reserve_tool_call(self, cost_usd: float | None = None) -> StopReason | None:
        """Reserves one attempt and its declared cost, or says which budget forbids it.

        What is reserved is spent, also when the attempt fails or is refused later.
        """
        cost = Decimal(repr(cost_usd or 0))
        with self._lock:
            if reason := self._used_up():
                return reason
            limit, max_usd = self.budget.max_tool_calls, self.budget.max_usd
            if limit is not None and self._tool_calls >= limit:
                return StopReason.MAX_TOOL_CALLS
            if max_usd is not None and self._usd + cost > Decimal(repr(max_usd)):
                return StopReason.MAX_USD
            self._tool_calls += 1
            self._usd += cost
            return None

    def refund_cost(self, cost_usd: float | None) -> None:
        """Gives back the declared cost of a reserved call that was refused; not the attempt."""
        with self._lock:
            self._usd -= Decimal(repr(cost_usd or 0))

    def spend_model_call(self, usage: Usage, cost_usd: float | None) -> None:
        """Books an answered model call; an unknown number makes its total unknown."""
        with self._lock:
            if cost_usd is None:
                self._usd_unknown_since = self._usd_unknown_since or self.step
            else:
                self._usd += Decimal(repr(cost_usd))
            if usage.tokens is None:
                self._tokens_unknown_since = self._tokens_unknown_since or self.step
            else:
                self._tokens += usage.tokens

    def book_failure(self, tool: str) -> None:
        """Remembers a failed attempt, for the sentence that explains a stop."""
        with self._lock:
            self._failures[tool] += 1

    def elapsed_ms(self) -> float:
        """Milliseconds since the run started."""
        return self._clock.monotonic_ms() - self._started_ms

    def remaining_ms(self) -> float | None:
        """Milliseconds until the deadline, at least 0; None without one."""
        if self.budget.max_seconds is None:
            return None
        # Rounded to picoseconds: a virtual clock that was moved to the deadline is at it.
        return max(0.0, round(self.budget.max_seconds * 1000 - self.elapsed_ms(), 9))

    def deadline(self) -> StopReason | None:
        """`max_seconds` once the deadline has passed."""
        return StopReason.MAX_SECONDS if self.remaining_ms() == 0 else None

    def used(self) -> Used:
        """What is spent so far."""
        with self._lock:
            return Used(
                steps=self.step,
                seconds=round(self.elapsed_ms() / 1000, 6),
                tool_calls=self._tool_calls,
                usd=None if self._usd_unknown_since else float(self._usd),
                tokens=None if self._tokens_unknown_since else self._tokens,
            )

    def explain(self, reason: StopReason) -> str:
        """The sentence that says which budget is used up, and by what."""
        name, limit = reason.value, self.budget.limits()[reason.value]
        used = self.used()
        unknown = {
            StopReason.MAX_USD: ("cost", self._usd_unknown_since),
            StopReason.MAX_TOKENS: ("token usage", self._tokens_unknown_since),
        }.get(reason)
        if unknown and unknown[1]:
            return (
                f"budget {name}={limit} cannot be kept: the {unknown[0]} of the model call at "
                f"step {unknown[1]} is unknown."
            )
        spent = {
            StopReason.MAX_STEPS: f"{used.tool_calls} tool calls",
            StopReason.MAX_SECONDS: f"{used.seconds:.3f} s",
            StopReason.MAX_TOOL_CALLS: self._attempts_text(used.tool_calls),
            StopReason.MAX_USD: f"{used.usd} USD",
            StopReason.MAX_TOKENS: f"{used.tokens} tokens",
        }[reason]
        return f"budget {name}={limit} used up at step {used.steps} ({spent})."

    def _attempts_text(self, attempts: int) -> str:
        worst = self._failures.most_common(1)
        failed = f", {worst[0][1]} of them failed on {worst[0][0]!r}" if worst else ""
        return f"{attempts} attempts{failed}"

    def _used_up(self) -> StopReason | None:
        budget = self.budget
        if self.deadline():
            return StopReason.MAX_SECONDS
        if budget.max_usd is not None and (
            self._usd_unknown_since or self._usd >= Decimal(repr(budget.max_usd))
        ):
            return StopReason.MAX_USD
        if budget.max_tokens is not None and (
            self._tokens_unknown_since or self._tokens >= budget.max_tokens
        ):
            return StopReason.MAX_TOKENS
        return None
