"""The ledger of one run: what is spent is reserved before it is used."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from flightlog.runtime.budget import Budget, ScopedUse, ToolBudget, Used
from flightlog.runtime.model import Usage
from flightlog.trace.clock import Clock
from flightlog.trace.vocab import StopReason

_NOTHING: Final = Decimal(0)


@dataclass(frozen=True, slots=True)
class Shortage:
    """Why a budget does not allow a call.

    Attributes:
        text: which budget, and what used it up, in one sentence.
        is_of_tool: the tool's own budget; the run can go on without the tool.
    """

    reason: StopReason
    text: str
    is_of_tool: bool = False


@dataclass(frozen=True, slots=True)
class Bound:
    """The most that one model call can cost; None where nobody knows."""

    usd: float | None = None
    tokens: int | None = None


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
        self._usd = _NOTHING
        self._tokens = 0
        self._bound_usd = _NOTHING
        self._bound_tokens = 0
        self._usd_unknown_since: int | None = None
        self._tokens_unknown_since: int | None = None
        self._failures: Counter[str] = Counter()
        self._calls_of: Counter[str] = Counter()
        self._ms_of: defaultdict[str, float] = defaultdict(float)
        self._usd_of: defaultdict[str, Decimal] = defaultdict(Decimal)

    def begin_step(self) -> StopReason | None:
        """Starts a step, or says which budget does not allow one."""
        with self._lock:
            reason = self._step_refusal()
            if reason is None:
                self.step += 1
            return reason

    def next_step_refusal(self) -> StopReason | None:
        """Which budget does not allow a further step; begins none."""
        with self._lock:
            return self._step_refusal()

    def _step_refusal(self) -> StopReason | None:
        limit = self.budget.max_steps
        if limit is not None and self.step >= limit:
            return StopReason.MAX_STEPS
        return self._used_up()

    def reserve_tool_call(
        self, tool: str = "", cost_usd: float | None = None, own: ToolBudget | None = None
    ) -> Shortage | None:
        """Reserves one attempt and its declared cost, or says which budget forbids it.

        What is reserved is spent, also when the attempt fails or is refused
        later. A tool whose own budget is used up still spends the run's attempt.
        """
        cost = _exact(cost_usd)
        with self._lock:
            reason = self._refusal_of(cost)
            if reason is None:
                self._tool_calls += 1
                own_text = self._shortage_of(tool, own, cost) if own else None
                if own_text is None:
                    self._calls_of[tool] += 1
                    self._usd += cost
                    self._usd_of[tool] += cost
                    return None
        if reason is None:
            assert own_text is not None
            return Shortage(*own_text, is_of_tool=True)
        return Shortage(reason, self.explain(reason))

    def _refusal_of(self, cost: Decimal) -> StopReason | None:
        if reason := self._used_up():
            return reason
        limit, max_usd = self.budget.max_tool_calls, self.budget.max_usd
        if limit is not None and self._tool_calls >= limit:
            return StopReason.MAX_TOOL_CALLS
        if max_usd is not None and self._usd + self._bound_usd + cost > _exact(max_usd):
            return StopReason.MAX_USD
        return None

    def _shortage_of(
        self, tool: str, own: ToolBudget, cost: Decimal
    ) -> tuple[StopReason, str] | None:
        calls, seconds, usd = self._calls_of[tool], self._ms_of[tool] / 1000, self._usd_of[tool]
        where = f"of tool {tool!r} used up at step {self.step}"
        if own.max_calls is not None and calls >= own.max_calls:
            text = f"budget max_calls={own.max_calls} {where} ({calls} attempts)"
            return StopReason.MAX_TOOL_CALLS, text
        if own.max_seconds is not None and seconds >= own.max_seconds:
            text = f"budget max_seconds={own.max_seconds} {where} ({seconds:.3f} s)"
            return StopReason.MAX_SECONDS, text
        if own.max_usd is not None and usd + cost > _exact(own.max_usd):
            return StopReason.MAX_USD, f"budget max_usd={own.max_usd} {where} ({usd} USD)"
        return None

    def refund_cost(self, tool: str, cost_usd: float | None) -> None:
        """Gives back the declared cost of a reserved call that was refused; not the attempt."""
        with self._lock:
            self._usd -= _exact(cost_usd)
            self._usd_of[tool] -= _exact(cost_usd)

    def reserve_model_call(self, bound: Bound) -> StopReason | None:
        """Reserves the most that a model call can cost, or says which budget forbids it.

        Where the bound is known nothing overshoots: the call is only made if its
        worst case fits.
        """
        usd, tokens = _exact(bound.usd), bound.tokens or 0
        with self._lock:
            if reason := self._used_up():
                return reason
            max_usd, max_tokens = self.budget.max_usd, self.budget.max_tokens
            if max_usd is not None and self._usd + usd > _exact(max_usd):
                return StopReason.MAX_USD
            if max_tokens is not None and self._tokens + tokens > max_tokens:
                return StopReason.MAX_TOKENS
            self._bound_usd, self._bound_tokens = usd, tokens
            return None

    def release_model_call(self) -> None:
        """Gives back what a model call reserved that was not answered."""
        with self._lock:
            self._bound_usd, self._bound_tokens = _NOTHING, 0

    def spend_model_call(self, usage: Usage, cost_usd: float | None) -> None:
        """Books an answered model call; an unknown number makes its total unknown."""
        with self._lock:
            self._bound_usd, self._bound_tokens = _NOTHING, 0
            if cost_usd is None:
                self._usd_unknown_since = self._usd_unknown_since or self.step
            else:
                self._usd += _exact(cost_usd)
            if usage.tokens is None:
                self._tokens_unknown_since = self._tokens_unknown_since or self.step
            else:
                self._tokens += usage.tokens

    def book_time(self, tool: str, latency_ms: float | None) -> None:
        """Books how long an attempt of a tool took."""
        with self._lock:
            self._ms_of[tool] += latency_ms or 0.0

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

    def remaining_ms_of(self, tool: str, own: ToolBudget | None) -> float | None:
        """Milliseconds that a tool has left of its own budget, at least 0; None without one."""
        if own is None or own.max_seconds is None:
            return None
        with self._lock:
            return max(0.0, round(own.max_seconds * 1000 - self._ms_of[tool], 9))

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

    def use_of_tool(self, tool: str, own: ToolBudget) -> list[ScopedUse]:
        """What a tool used of its own budget."""
        with self._lock:
            spent: tuple[tuple[str, str, float | None, float], ...] = (
                ("max_tool_calls", "attempts", own.max_calls, self._calls_of[tool]),
                ("max_seconds", "s", own.max_seconds, round(self._ms_of[tool] / 1000, 6)),
                ("max_usd", "USD", own.max_usd, float(self._usd_of[tool])),
            )
        scope = f"tool:{tool}"
        return [
            ScopedUse(scope, name, unit, allowed, used)
            for name, unit, allowed, used in spent
            if allowed is not None
        ]

    def tools_used(self) -> list[str]:
        """The tools that spent an attempt, in their order."""
        with self._lock:
            return list(self._calls_of)

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

    def explain_bound(self, reason: StopReason, bound: Bound) -> str:
        """The sentence for a model call whose worst case does not fit."""
        with self._lock:
            is_used_up = self._used_up() is reason
        if is_used_up:
            return self.explain(reason)
        used = self.used()
        of_usd = reason is StopReason.MAX_USD
        spent = f"{used.usd} USD" if of_usd else f"{used.tokens} tokens"
        more = f"{bound.usd} USD" if of_usd else f"{bound.tokens} tokens"
        limit = self.budget.limits()[reason.value]
        return (
            f"budget {reason.value}={limit} does not allow the model call of step {used.steps}: "
            f"{spent} spent, and it may take {more}."
        )

    def _attempts_text(self, attempts: int) -> str:
        worst = self._failures.most_common(1)
        failed = f", {worst[0][1]} of them failed on {worst[0][0]!r}" if worst else ""
        return f"{attempts} attempts{failed}"

    def _used_up(self) -> StopReason | None:
        budget = self.budget
        if self.deadline():
            return StopReason.MAX_SECONDS
        if budget.max_usd is not None and (
            self._usd_unknown_since or self._usd >= _exact(budget.max_usd)
        ):
            return StopReason.MAX_USD
        if budget.max_tokens is not None and (
            self._tokens_unknown_since or self._tokens >= budget.max_tokens
        ):
            return StopReason.MAX_TOKENS
        return None


def _exact(usd: float | None) -> Decimal:
    return Decimal(repr(usd)) if usd else _NOTHING
