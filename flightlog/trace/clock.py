"""Time as an argument: the real clock, and a virtual one that only moves when told."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Protocol, runtime_checkable

VIRTUAL_EPOCH_US = 1_735_689_600_000_000
"""Where virtual time starts unless told otherwise: 2025-01-01T00:00:00Z."""


@runtime_checkable
class Clock(Protocol):
    """A wall clock for display and a monotonic clock for measuring."""

    def wall_us(self) -> int:
        """Microseconds since the Unix epoch, UTC. May jump."""
        ...

    def monotonic_ms(self) -> float:
        """Milliseconds on a clock that never goes back; only differences mean anything."""
        ...

    def advance_ms(self, milliseconds: float) -> None:
        """Tells the clock that a call took this long; the real clock knows by itself."""
        ...

    def sleep(self, seconds: float) -> None:
        """Waits, or pretends to."""
        ...

    async def sleep_async(self, seconds: float) -> None:
        """Waits without blocking the event loop, or pretends to."""
        ...

    @property
    def is_virtual(self) -> bool:
        """True when time passes only by `advance_ms` and `sleep`."""
        ...


class SystemClock:
    """The machine's clocks."""

    is_virtual = False

    def wall_us(self) -> int:
        return time.time_ns() // 1000

    def monotonic_ms(self) -> float:
        return time.perf_counter_ns() / 1e6

    def advance_ms(self, milliseconds: float) -> None:
        return None

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    async def sleep_async(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class VirtualClock:
    """A clock that moves only by `advance_ms` and `sleep`; nothing waits.

    Args:
        start_us: wall time at the start, microseconds since the Unix epoch, UTC.
    """

    is_virtual = True

    def __init__(self, start_us: int = VIRTUAL_EPOCH_US) -> None:
        self._start_us = start_us
        self._elapsed_ms = 0.0
        self._lock = threading.Lock()

    def wall_us(self) -> int:
        return self._start_us + round(self._elapsed_ms * 1000)

    def monotonic_ms(self) -> float:
        return self._elapsed_ms

    def advance_ms(self, milliseconds: float) -> None:
        with self._lock:
            self._elapsed_ms += max(0.0, milliseconds)

    def sleep(self, seconds: float) -> None:
        self.advance_ms(seconds * 1000)

    async def sleep_async(self, seconds: float) -> None:
        self.advance_ms(seconds * 1000)
