"""A tenant's budget over a sliding window, as one run sees it."""

from __future__ import annotations

from decimal import Decimal

from flightlog.control.window_budget import WindowBudget
from flightlog.control.windows import Exhausted, Reservation, Windows
from flightlog.errors import StoreError
from flightlog.runtime.budget import ScopedUse
from flightlog.runtime.ledger import Bound, Shortage
from flightlog.runtime.model import Usage
from flightlog.trace.clock import Clock
from flightlog.trace.vocab import StopReason


class TenantBudget:
    """Reserves for one run out of what its tenant may spend; shared over the store.

    Args:
        windows: keeps what all runs of the tenant spent.
        tenant: empty for runs without one.
        budget: the limits.
        clock: its wall time dates the spending.
    """

    def __init__(self, windows: Windows, tenant: str, budget: WindowBudget, clock: Clock) -> None:
        self._windows = windows
        self._tenant = tenant
        self._budget = budget
        self._clock = clock
        self._model: Reservation | None = None
        self._unknown: str | None = None

    def reserve_tool_call(self, cost_usd: float | None) -> Reservation | Shortage:
        """Reserves one attempt and its declared cost, or says what forbids it."""
        cost = Decimal(repr(cost_usd or 0))
        got = self._windows.reserve(
            self._tenant, self._budget, self._now_s(), tool_calls=1, usd=cost
        )
        return self._shortage(got) if isinstance(got, Exhausted) else got

    def refund_cost(self, reservation: Reservation) -> None:
        """Gives back the cost of an attempt that was refused later; not the attempt."""
        self._windows.settle(reservation, usd=Decimal(0), tokens=0)

    def reserve_model_call(self, bound: Bound) -> Shortage | None:
        """Reserves the most that a model call can take, or says what forbids it."""
        if self._unknown is not None:
            what = "cost" if self._unknown == "max_usd" else "token usage"
            text = (
                f"budget {self._unknown} of tenant {self._tenant!r} cannot be kept: the {what} "
                "of this run's last model call is unknown"
            )
            return Shortage(StopReason(self._unknown), text)
        got = self._windows.reserve(
            self._tenant,
            self._budget,
            self._now_s(),
            usd=Decimal(repr(bound.usd or 0)),
            tokens=bound.tokens or 0,
        )
        if isinstance(got, Exhausted):
            return self._shortage(got)
        self._model = got
        return None

    def spend_model_call(self, usage: Usage, cost_usd: float | None) -> None:
        """Books what an answered model call took; what is unknown stays as reserved."""
        if cost_usd is None and self._budget.max_usd is not None:
            self._unknown = "max_usd"
        elif usage.tokens is None and self._budget.max_tokens is not None:
            self._unknown = "max_tokens"
        reservation, self._model = self._model, None
        if reservation is not None:
            self._windows.settle(
                reservation,
                usd=None if cost_usd is None else Decimal(repr(cost_usd)),
                tokens=usage.tokens,
            )

    def release_model_call(self) -> None:
        """Gives back what a model call reserved that was not answered."""
        self.spend_model_call(Usage(0, 0), 0.0)

    def use(self) -> list[ScopedUse]:
        """What all runs of the tenant used of its budget in the window that ends now."""
        budget = self._budget
        try:
            used = self._windows.used(self._tenant, budget.window_s, self._now_s())
        except StoreError:
            used = None
        calls = used.tool_calls if used else None
        limits: tuple[tuple[str, str, float | None, float | None], ...] = (
            ("max_tool_calls", "attempts", budget.max_tool_calls, calls),
            ("max_usd", "USD", budget.max_usd, float(used.usd) if used else None),
            ("max_tokens", "tokens", budget.max_tokens, used.tokens if used else None),
        )
        scope = f"tenant:{self._tenant}"
        return [
            ScopedUse(scope, name, unit, allowed, spent)
            for name, unit, allowed, spent in limits
            if allowed is not None
        ]

    def _now_s(self) -> float:
        return self._clock.wall_us() / 1e6

    def _shortage(self, spent: Exhausted) -> Shortage:
        limit, window = getattr(self._budget, spent.limit), self._budget.window_s
        text = f"budget {spent.limit}={limit} of tenant {self._tenant!r} per {window:g} s "
        if spent.reason:
            text += f"cannot be kept: {spent.reason}"
        else:
            text += f"used up ({spent.used} spent by all its runs)"
        return Shortage(StopReason(spent.limit), text)
