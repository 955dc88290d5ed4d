"""Daemon threads that run calls which may never return.

The standard pool joins its threads at exit, so that one blocked tool would keep
a process alive for ever. These threads are simply left behind.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import Context, copy_context
from queue import SimpleQueue
from typing import Generic, TypeAlias, TypeVar

T = TypeVar("T")

_Job: TypeAlias = tuple[Context, Callable[[], T], Callable[[T], None]]


class Workers(Generic[T]):
    """Threads of one run; started when needed, used again when idle.

    One call after the other so meets the same thread, which keeps what is bound
    to a thread (a database connection) usable.
    """

    def __init__(self) -> None:
        self._idle: list[SimpleQueue[_Job[T] | None]] = []
        self._lock = threading.Lock()
        self._is_closed = False

    def submit(self, work: Callable[[], T], deliver: Callable[[T], None]) -> None:
        """Runs `work` in the context of the caller and hands its result to `deliver`.

        Neither may raise; both run in the worker thread.
        """
        with self._lock:
            inbox = self._idle.pop() if self._idle else None
        is_new = inbox is None
        inbox = inbox or SimpleQueue()
        inbox.put((copy_context(), work, deliver))
        if is_new:  # only now, so that it finds the job while `start` still waits for it
            threading.Thread(
                target=self._serve, args=(inbox,), name="flightlog-call", daemon=True
            ).start()

    def close(self) -> None:
        """Ends the idle threads; busy ones end with their job."""
        with self._lock:
            self._is_closed = True
            idle, self._idle = self._idle, []
        for inbox in idle:
            inbox.put(None)

    def _serve(self, inbox: SimpleQueue[_Job[T] | None]) -> None:
        while job := inbox.get():
            context, work, deliver = job
            result = context.run(work)
            with self._lock:
                if self._is_closed:
                    inbox.put(None)
                else:
                    self._idle.append(inbox)
            deliver(result)  # after the thread is idle again, so that the next call meets it
            # The traceback of an error in the result holds this frame: a cycle of the whole run.
            del job, context, work, deliver, result
