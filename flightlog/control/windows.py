"""What tenants spent over sliding windows, over all runs of all processes on a store.

A reservation is one transaction: it is booked and fits, or nothing is booked. It
counts from the moment when it was reserved. One whose process died stays as it was
reserved until it leaves the window.

Where the state cannot be read or written nothing is allowed: a call that cannot
be booked is not made.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from flightlog.control.shared_state import SharedState
from flightlog.control.sliding import Amounts, Entry, SlidingSums, microseconds
from flightlog.control.window_budget import WindowBudget
from flightlog.errors import StoreError

_NANO = 10**9
_LARGEST = 10**15
"""Of one amount: a million USD in nano-USD. The sum of thousands of these still fits SQLite."""

_LIMITS = ("max_tool_calls", "max_usd", "max_tokens")
_USD = 1


@dataclass(frozen=True, slots=True)
class Reservation:
    """What was reserved, to be settled by what was really spent."""

    entry: Entry


@dataclass(frozen=True, slots=True)
class Exhausted:
    """Why a tenant's budget does not allow a call.

    Attributes:
        limit: name of the field of `WindowBudget`.
        allowed: its value; None where there is no such limit (`reason` says why it is no).
        used: spent within the window, without what was asked for; None where unknown.
        frees_in_s: when enough will have left the window, at the earliest; None if never.
        reason: set where it is not the limit itself: the state cannot be used, or
            what was asked for is no amount.
    """

    limit: str
    allowed: int | Decimal | None
    used: int | Decimal | None
    frees_in_s: float | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class WindowUse:
    """What a tenant spent or reserved within a window."""

    tool_calls: int
    usd: Decimal
    tokens: int


class Windows:
    """Books what tenants spend. Safe in threads, in processes and over fork.

    USD are kept as whole nano-USD, rounded up, so that sums are exact.

    Attributes:
        errors: reservations and settlements that failed because of the state.
        last_error: the last such error as text.

    Args:
        state: the state of the store.
    """

    def __init__(self, state: SharedState) -> None:
        self.errors = 0
        self.last_error = ""
        self._state = state
        self._sums = SlidingSums(state, "tenant")

    def reserve(
        self,
        tenant: str,
        budget: WindowBudget,
        now_s: float,
        *,
        tool_calls: int = 0,
        usd: Decimal = Decimal(0),
        tokens: int = 0,
    ) -> Reservation | Exhausted:
        """Books amounts if the window has room for all of them; never raises for the state.

        Where USD or tokens are used up to the last, a call that asks for none is
        refused too: what it will really take is often known only later.

        Args:
            tenant: any text.
            budget: the limits.
            now_s: wall time, seconds since the Unix epoch.
            tool_calls: attempts.
            usd: the most that the call can cost.
            tokens: the most that the call can take.
        """
        limits = _limits(budget)
        asked = (_whole(tool_calls), _nano_usd(usd), _whole(tokens))
        for place, amount in enumerate(asked):
            if amount is None:
                given = (tool_calls, usd, tokens)[place]
                return _refused(limits, f"{given} is not an amount that can be booked", place)
        amounts: Amounts = (asked[0] or 0, asked[1] or 0, asked[2] or 0)
        window_us, now_us = microseconds(budget.window_s), round(now_s * 1e6)
        try:
            with self._state.transaction() as db:
                account = self._sums.account(db, tenant, window_us, now_us)
                spent = _exceeded(limits, account.total, amounts)
                entry = self._sums.save(db, account, amounts if spent is None else None)
                if spent is not None:
                    needed = account.total[spent] + max(1, amounts[spent]) - (limits[spent] or 0)
                    freed_us = self._sums.freed_at(db, account, spent, needed)
        except StoreError as error:
            self._failed(error)
            return _refused(limits, f"the tenant's window cannot be booked: {error.what}")
        if spent is None:
            assert entry is not None
            return Reservation(entry)
        return Exhausted(
            _LIMITS[spent],
            _shown(spent, limits[spent]),
            _shown(spent, account.total[spent]),
            None if freed_us is None else max(0.0, (freed_us - now_us) / 1e6),
        )

    def settle(self, reservation: Reservation, *, usd: Decimal | None, tokens: int | None) -> None:
        """Replaces reserved USD and tokens by the real ones; None leaves what was reserved.

        Nothing happens to a reservation that has left the window. Where the state
        cannot be written the reservation stays, and `errors` counts it.
        """
        # What is no amount stays as reserved too: that was the most the call could take.
        real = (None, None if usd is None else _nano_usd(usd), _whole(tokens))
        try:
            with self._state.transaction() as db:
                self._sums.replace(db, reservation.entry, real)
        except StoreError as error:
            self._failed(error)

    def used(self, tenant: str, window_s: float, now_s: float) -> WindowUse:
        """What a tenant spent or reserved in the window that ends now.

        Raises:
            StoreError: when the state cannot be read.
        """
        amounts = self._sums.read(tenant, microseconds(window_s), round(now_s * 1e6))
        return WindowUse(amounts[0], Decimal(amounts[1]) / _NANO, amounts[2])

    def tenants(self) -> list[str]:
        """The tenants that spent something of late, in order.

        Raises:
            StoreError: when the state cannot be read.
        """
        return self._sums.names()

    def _failed(self, error: StoreError) -> None:
        self.errors += 1
        self.last_error = str(error)


def _limits(budget: WindowBudget) -> tuple[int | None, int | None, int | None]:
    """The limits in whole units; part of a nano-USD is no room."""
    usd = budget.max_usd
    nano = None if usd is None else int(Decimal(repr(usd)) * _NANO)
    return budget.max_tool_calls, nano, budget.max_tokens


def _exceeded(limits: tuple[int | None, ...], total: Amounts, asked: Amounts) -> int | None:
    """The first limit without room for what is asked."""
    for place, limit in enumerate(limits):
        if limit is None:
            continue
        is_used_up = place > 0 and 0 < limit <= total[place]
        if is_used_up or (asked[place] > 0 and total[place] + asked[place] > limit):
            return place
    return None


def _whole(count: int | None) -> int | None:
    """A count that can be booked, else None."""
    return count if type(count) is int and 0 <= count <= _LARGEST else None


def _nano_usd(usd: Decimal) -> int | None:
    """USD as whole nano-USD, rounded up; None where it cannot be booked."""
    if not usd.is_finite() or not 0 <= usd <= _LARGEST // _NANO:
        return None
    dollars, parts = usd.as_integer_ratio()
    return -(-dollars * _NANO // parts)


def _refused(limits: tuple[int | None, ...], reason: str, place: int | None = None) -> Exhausted:
    """A no that no limit says, under the name of the first limit that there is."""
    if place is None:
        place = next((at for at, limit in enumerate(limits) if limit is not None), 0)
    return Exhausted(_LIMITS[place], _shown(place, limits[place]), None, None, reason)


def _shown(place: int, amount: int | None) -> int | Decimal | None:
    return Decimal(amount) / _NANO if place == _USD and amount is not None else amount
