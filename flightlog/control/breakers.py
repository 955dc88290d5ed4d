"""Circuit breakers of tools, shared by the processes on a store.

    closed --(failure share in the window)--> open --(open_s over)--> half_open
    half_open --(as many successes as half_open_calls)--> closed
    half_open --(one failure)--> open

What is shared, and how soon: every report and every transition is a committed
transaction, which the next `admit` of any process sees. To be admitted by a
closed breaker costs one read and no write; reading does not wait for writers.

A breaker must not take an agent down: where the state cannot be used, it counts
as closed, and `errors` says how often that was so. After a failed write nothing is
written for five seconds, and after a failed read nothing is read either, so that not
every call waits for a file that is locked.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from flightlog.control.breaker_policy import BreakerPolicy
from flightlog.control.shared_state import Row, SharedState, decoded, encoded
from flightlog.control.sliding import SlidingSums, microseconds
from flightlog.errors import DamagedError, StoreError

_TABLES = (
    """CREATE TABLE IF NOT EXISTS breakers (
        tool BLOB PRIMARY KEY, state TEXT NOT NULL, since_us INTEGER NOT NULL,
        successes INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS breaker_probes (
        id INTEGER PRIMARY KEY, tool BLOB NOT NULL, at_us INTEGER NOT NULL
    ) STRICT""",
)
_ROW = "SELECT state, since_us, successes FROM breakers WHERE tool = ?"
_NOT_CLOSED = "SELECT tool, state, since_us, successes FROM breakers WHERE state <> 'closed'"
_ENTER = "INSERT OR REPLACE INTO breakers VALUES (?, ?, ?, 0)"
_WAITING_PROBES = "SELECT at_us FROM breaker_probes WHERE tool = ? AND at_us > ? ORDER BY at_us"
_OLDEST_PROBE = "SELECT id FROM breaker_probes WHERE tool = ? ORDER BY at_us LIMIT 1"

_PAUSE_S = 5.0


class BreakerState(StrEnum):
    """Where a breaker is."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class Transition:
    """A change of a breaker, given to exactly one caller, who records it."""

    tool: str
    state_from: BreakerState
    state_to: BreakerState
    detail: str


@dataclass(frozen=True, slots=True)
class Admittance:
    """Whether a call may be made.

    Attributes:
        is_open: it may not.
        retry_in_s: when to ask again, seconds; None for an admitted call.
        transition: what this call changed.
        is_probe: the call decides whether the breaker closes; hand this on to `report`.
        probe_id: which probe; handing it on too keeps late reports of an earlier
            half-open time apart from those of the present one.
    """

    is_open: bool
    retry_in_s: float | None = None
    transition: Transition | None = None
    is_probe: bool = False
    probe_id: int | None = None


@dataclass(frozen=True, slots=True)
class BreakerRow:
    """A breaker that was open once, for display.

    Attributes:
        since_s: when it came into the state, seconds since the Unix epoch.
    """

    tool: str
    state: BreakerState
    since_s: float


_CLOSED = Admittance(is_open=False)


class Breakers:
    """The breakers of a store. Safe in threads, in processes and over fork.

    Attributes:
        errors: calls that were let through, and reports that were lost, because
            the state could not be used.
        last_error: the last such error as text.

    Args:
        state: the state of the store.
    """

    def __init__(self, state: SharedState) -> None:
        self.errors = 0
        self.last_error = ""
        self._state = state
        self._calls = SlidingSums(state, "breaker")
        self._failed_at_s: float | None = None
        self._unread_at_s: float | None = None
        state.declare(*_TABLES)

    def admit(self, tool: str, policy: BreakerPolicy, now_s: float) -> Admittance:
        """Whether a call of the tool may be made now; every admitted call is reported or released.

        Args:
            now_s: wall time, seconds since the Unix epoch.
        """
        now_us, open_us = round(now_s * 1e6), microseconds(policy.open_s)
        try:
            rows = self._read_rows(_ROW, (encoded(tool),), now_s)
            state, since_us, _ = _parsed(rows[0] if rows else None)
            if state is BreakerState.CLOSED:
                return _CLOSED
            if state is BreakerState.OPEN and since_us <= now_us < since_us + open_us:
                return _refused(since_us + open_us - now_us)
            if self._is_paused(now_s):
                self.errors += 1
                return _CLOSED
            with self._state.transaction() as db:
                return _admitted(db, tool, policy, now_us)
        except StoreError as error:
            self._failed(error, now_s)
            return _CLOSED

    def report(
        self,
        tool: str,
        policy: BreakerPolicy,
        now_s: float,
        *,
        failed: bool,
        is_probe: bool,
        probe_id: int | None = None,
    ) -> Transition | None:
        """Counts the end of an admitted call; the transition if this call caused one.

        Args:
            failed: it failed or timed out.
            is_probe: as in its `Admittance`.
            probe_id: as in its `Admittance`; None takes the oldest probe.
        """
        if self._is_paused(now_s):
            self.errors += 1
            return None
        now_us = round(now_s * 1e6)
        try:
            with self._state.transaction() as db:
                state, _, _ = _read(db, tool)
                if state is BreakerState.CLOSED:
                    return self._counted(db, tool, policy, now_us, failed=failed)
                if not is_probe or not _take_probe(db, tool, probe_id):
                    return None  # admitted before it opened, or by another half-open time
                if state is BreakerState.HALF_OPEN:
                    return _judged(db, tool, policy, now_us, failed=failed)
        except StoreError as error:
            self._failed(error, now_s)
        return None

    def release(self, tool: str, *, is_probe: bool, probe_id: int | None = None) -> None:
        """Takes back an admitted call that was not made after all."""
        if not is_probe:
            return
        try:
            with self._state.transaction() as db:
                _take_probe(db, tool, probe_id)
        except StoreError as error:  # the probe expires by itself
            self._failed(error, None)

    def state_of(self, tool: str, policy: BreakerPolicy, now_s: float) -> BreakerState:
        """Where the breaker is; half-open as soon as `open_s` is over. Closed if unreadable."""
        return self.states_of({tool: policy}, now_s)[tool]

    def states_of(
        self, policies: Mapping[str, BreakerPolicy], now_s: float
    ) -> dict[str, BreakerState]:
        """The same for several tools, in one look."""
        states = dict.fromkeys(policies, BreakerState.CLOSED)
        try:
            for name, *row in self._read_rows(_NOT_CLOSED, (), now_s):
                tool = decoded(name)
                policy = policies.get(tool)
                if policy is not None:
                    state, since_us, _ = _parsed(row)
                    is_over = round(now_s * 1e6) >= since_us + microseconds(policy.open_s)
                    is_half_open = state is BreakerState.OPEN and is_over
                    states[tool] = BreakerState.HALF_OPEN if is_half_open else state
        except StoreError as error:
            self._failed(error, None)
            return dict.fromkeys(policies, BreakerState.CLOSED)
        return states

    def states(self) -> list[BreakerRow]:
        """The breakers that were open once, in order of their tools.

        Raises:
            StoreError: when the state cannot be read.
        """
        rows = self._state.read("SELECT tool, state, since_us FROM breakers ORDER BY tool")
        return [
            BreakerRow(decoded(tool), BreakerState(state), since / 1e6)
            for tool, state, since in rows
        ]

    def _counted(
        self, db: sqlite3.Connection, tool: str, policy: BreakerPolicy, now_us: int, *, failed: bool
    ) -> Transition | None:
        """Adds a call to the window of a closed breaker, and opens it if that is too much."""
        account = self._calls.account(db, tool, microseconds(policy.window_s), now_us)
        calls, failures = account.total[0] + 1, account.total[1] + failed
        if calls < policy.min_calls or failures / calls < policy.failure_rate:
            self._calls.save(db, account, (1, int(failed), 0))
            return None
        # What came before says nothing about the tool once it is closed again.
        self._calls.retire(db, tool)
        detail = f"{failures} of {calls} calls failed in {policy.window_s:g} s"
        return _entered(db, tool, (BreakerState.CLOSED, BreakerState.OPEN), now_us, detail)

    def _read_rows(self, query: str, values: Sequence[bytes], now_s: float) -> list[Row]:
        """The rows of a query; none for some seconds after the file could not be read."""
        if _is_soon_after(self._unread_at_s, now_s):
            self.errors += 1
            return []
        try:
            return self._state.read(query, values)
        except StoreError:
            self._unread_at_s = self._failed_at_s = now_s
            raise

    def _is_paused(self, now_s: float) -> bool:
        """After a failed write none is tried for some seconds: each could wait for the timeout."""
        return _is_soon_after(self._failed_at_s, now_s)

    def _failed(self, error: StoreError, now_s: float | None) -> None:
        self.errors += 1
        self.last_error = str(error)
        if now_s is not None:
            self._failed_at_s = now_s


def _is_soon_after(failed_at_s: float | None, now_s: float) -> bool:
    return failed_at_s is not None and 0 <= now_s - failed_at_s < _PAUSE_S


def _read(db: sqlite3.Connection, tool: str) -> tuple[BreakerState, int, int]:
    return _parsed(db.execute(_ROW, (encoded(tool),)).fetchone())


def _parsed(row: Sequence[Any] | None) -> tuple[BreakerState, int, int]:
    """State, since when, and successes of probes; a breaker without a row is closed."""
    if row is None:
        return BreakerState.CLOSED, 0, 0
    try:
        return BreakerState(row[0]), int(row[1]), int(row[2])
    except (TypeError, ValueError) as error:
        raise DamagedError(
            f"a breaker's row {row!r} means nothing",
            hint="The shared state of the store is damaged; move it away.",
        ) from error


def _entered(
    db: sqlite3.Connection,
    tool: str,
    states: tuple[BreakerState, BreakerState],
    now_us: int,
    detail: str,
) -> Transition:
    """Writes a change of state; all probes of the state before are void."""
    db.execute(_ENTER, (encoded(tool), states[1], now_us))
    db.execute("DELETE FROM breaker_probes WHERE tool = ?", (encoded(tool),))
    return Transition(tool, *states, detail)


def _admitted(db: sqlite3.Connection, tool: str, policy: BreakerPolicy, now_us: int) -> Admittance:
    """The answer of a breaker that is not plainly closed or open, decided alone."""
    state, since_us, _ = _read(db, tool)
    if state is BreakerState.CLOSED:
        return _CLOSED
    open_us, transition = microseconds(policy.open_s), None
    if state is BreakerState.OPEN:
        if since_us > now_us:  # the clock went back
            since_us = now_us
            db.execute("UPDATE breakers SET since_us = ? WHERE tool = ?", (since_us, encoded(tool)))
        if now_us < since_us + open_us:
            return _refused(since_us + open_us - now_us)
        states = (BreakerState.OPEN, BreakerState.HALF_OPEN)
        transition = _entered(db, tool, states, now_us, f"open for {policy.open_s:g} s")
    db.execute(
        "UPDATE breaker_probes SET at_us = ? WHERE tool = ? AND at_us > ?",
        (now_us, encoded(tool), now_us),
    )
    waiting = db.execute(_WAITING_PROBES, (encoded(tool), now_us - open_us)).fetchall()
    if len(waiting) >= policy.half_open_calls:
        return _refused(waiting[0][0] + open_us - now_us)
    probe_id = int.from_bytes(os.urandom(8), "big", signed=True)
    db.execute("INSERT INTO breaker_probes VALUES (?, ?, ?)", (probe_id, encoded(tool), now_us))
    return Admittance(is_open=False, transition=transition, is_probe=True, probe_id=probe_id)


def _take_probe(db: sqlite3.Connection, tool: str, probe_id: int | None) -> bool:
    """Removes a probe, the oldest unless told; False when it is not there any more."""
    if probe_id is None:
        oldest = db.execute(_OLDEST_PROBE, (encoded(tool),)).fetchone()
        if oldest is None:
            return False
        probe_id = oldest[0]
    found = db.execute(
        "DELETE FROM breaker_probes WHERE id = ? AND tool = ?", (probe_id, encoded(tool))
    )
    return found.rowcount == 1


def _judged(
    db: sqlite3.Connection, tool: str, policy: BreakerPolicy, now_us: int, *, failed: bool
) -> Transition | None:
    """What a probe's end does to a half-open breaker."""
    if failed:
        states = (BreakerState.HALF_OPEN, BreakerState.OPEN)
        return _entered(db, tool, states, now_us, "a probe failed")
    db.execute("UPDATE breakers SET successes = successes + 1 WHERE tool = ?", (encoded(tool),))
    _, _, successes = _read(db, tool)
    if successes < policy.half_open_calls:
        return None
    states = (BreakerState.HALF_OPEN, BreakerState.CLOSED)
    return _entered(
        db, tool, states, now_us, f"{successes} of {policy.half_open_calls} probes succeeded"
    )


def _refused(wait_us: int) -> Admittance:
    return Admittance(is_open=True, retry_in_s=max(0, wait_us) / 1e6)
