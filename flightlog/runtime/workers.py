"""Daemon threads that run calls which may never return.

The standard pool joins its threads at exit, so that one blocked tool would keep
a process alive for ever. These threads are simply left behind.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import copy_context
from queue import SimpleQueue
from typing import Generic, TypeVar

T = TypeVar("T")


class Workers(Generic[T]):
    """Threads of one run; started when needed, used again when idle.

    One call after the other so meets the same thread, which keeps what is bound
    to a thread (a database connection) usable.
    """

    def __init__(self) -> None:
        self._idle: list[SimpleQueue[Callable[[], None] | None]] = []
        self._lock = threading.Lock()
        self._is_closed = False

    def submit(self, work: Callable[[], T], deliver: Callable[[T], None]) -> None:
        """Runs `work` in the context of the caller and hands its result to `deliver`.

        Neither may raise; both run in the worker thread.
        """
        context = copy_context()
        with self._lock:
            inbox = self._idle.pop() if self._idle else None
        if inbox is None:
            inbox = SimpleQueue()
            threading.Thread(
                target=self._serve, args=(inbox,), name="flightlog-call", daemon=True
            ).start()
        own = inbox

        def job() -> None:
            result = context.run(work)
            with self._lock:
                if not self._is_closed:
                    self._idle.append(own)
                else:
                    own.put(None)
            deliver(result)  # after the thread is idle again, so that the next call meets it

        inbox.put(job)

    def close(self) -> None:
        """Ends the idle threads; busy ones end with their job."""
        with self._lock:
            self._is_closed = True
            idle, self._idle = self._idle, []
        for inbox in idle:
            inbox.put(None)

    @staticmethod
    def _serve(inbox: SimpleQueue[Callable[[], None] | None]) -> None:
        while job := inbox.get():
            job()
