"""SIGTERM ends a run in order: recorded as cancelled, then the process leaves."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

TERMINATED = 128 + signal.SIGTERM


def _leave(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(TERMINATED)


@contextmanager
def terminated_in_order() -> Iterator[None]:
    """Turns SIGTERM into a SystemExit of code 143 while the body runs.

    Only in the main thread, and only where nobody else handles the signal: a
    server that has a handler of its own keeps it, and cancels runs by a
    `CancelToken`.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _leave)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGTERM) is _leave:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
