"""SIGTERM ends a run in order: recorded as cancelled, then the process leaves.

Only in the main thread, and only where nobody else handles the signal: a server
that has a handler of its own keeps it, and cancels runs by a `CancelToken`.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from weakref import WeakKeyDictionary

TERMINATED = 128 + signal.SIGTERM

_runs_of: WeakKeyDictionary[asyncio.AbstractEventLoop, int] = WeakKeyDictionary()


def _leave(_number: int = 0, _frame: FrameType | None = None) -> None:
    raise SystemExit(TERMINATED)


@contextmanager
def terminated_in_order() -> Iterator[None]:
    """Turns SIGTERM into a SystemExit of code 143 while the body runs."""
    if not _is_unhandled():
        yield
        return
    signal.signal(signal.SIGTERM, _leave)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGTERM) is _leave:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def terminated_in_order_async() -> Iterator[None]:
    """The same inside an event loop, for all runs that the loop has at a time.

    The loop's own handler also wakes it for a Ctrl-C that comes just before it
    falls asleep, which Python alone would only notice at the next event.
    """
    loop = asyncio.get_running_loop()
    if loop not in _runs_of:
        if not _is_unhandled():
            yield
            return
        try:
            loop.add_signal_handler(signal.SIGTERM, _leave)
        except (NotImplementedError, RuntimeError, ValueError):  # not every loop has signals
            yield
            return
    _runs_of[loop] = _runs_of.get(loop, 0) + 1
    try:
        yield
    finally:
        _runs_of[loop] -= 1
        if not _runs_of[loop]:
            del _runs_of[loop]
            loop.remove_signal_handler(signal.SIGTERM)


def _is_unhandled() -> bool:
    is_main = threading.current_thread() is threading.main_thread()
    return is_main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
