"""Cancelling a run from outside: another thread, a button, a shutdown."""

from __future__ import annotations

import threading
from collections.abc import Callable


class RunCancelledError(BaseException):
    """Thrown into the loop when its token is cancelled; never reaches the caller of `run`."""


class CancelToken:
    """Cancels the runs that it was given to. Safe to use from any thread.

    A cancelled run ends with `cancelled`: a running call is no longer waited
    for, and no further one is made.
    """

    def __init__(self) -> None:
        self.why = ""
        self._event = threading.Event()
        self._lock = threading.RLock()
        self._listeners: list[Callable[[], None]] = []

    @property
    def is_cancelled(self) -> bool:
        """True once `cancel` was called."""
        return self._event.is_set()

    def cancel(self, why: str = "") -> None:
        """Cancels; calling it again changes nothing."""
        with self._lock:
            if self._event.is_set():
                return
            self.why = why
            self._event.set()
            listeners, self._listeners = self._listeners, []
        for listener in listeners:
            listener()

    def wait(self, seconds: float) -> bool:
        """Waits this long at most; True when it was cancelled."""
        return self._event.wait(seconds)

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Calls `listener` once on cancellation, at once where that was before.

        Returns:
            A function that ends the subscription.
        """
        with self._lock:
            if not self._event.is_set():
                self._listeners.append(listener)
                return lambda: self._forget(listener)
        listener()
        return lambda: None

    def _forget(self, listener: Callable[[], None]) -> None:
        with self._lock:
            if listener in self._listeners:
                self._listeners.remove(listener)
