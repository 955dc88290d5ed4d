"""Drives the loop from a plain function.

A call runs in place, or in a worker thread where it has a cut or runs beside
others: only so can a call that blocks be left behind.
"""

from __future__ import annotations

import inspect
from dataclasses import replace
from queue import Empty, SimpleQueue
from typing import Final

from flightlog.errors import AgentError
from flightlog.runtime.asks import (
    LONGEST_SLEEP_S,
    Ask,
    AskAll,
    Asked,
    Loop,
    R,
    Request,
    Wait,
    attempt_in_worker,
)
from flightlog.runtime.cancel import CancelToken, RunCancelledError
from flightlog.runtime.workers import Workers
from flightlog.trace.clock import SystemClock

_NEVER: Final = float("inf")
_CANCELLED: Final = -1


class SyncDriver:
    """Performs the requests of one run.

    Args:
        stopwatch: measures latencies and cuts in real time.
        cancel: cancels the run from outside.
    """

    def __init__(self, stopwatch: SystemClock, cancel: CancelToken | None = None) -> None:
        self._stopwatch = stopwatch
        self._cancel = cancel
        self._workers: Workers[Asked] = Workers()

    def drive(self, loop: Loop[R]) -> R:
        """Runs a loop to its end; what interrupts it is thrown into it first."""
        try:
            request = next(loop)
            while True:
                try:
                    reply = self._perform(request)
                except BaseException as error:  # the loop records it and raises it again
                    request = loop.throw(error)
                else:
                    request = loop.send(reply)
        except StopIteration as end:
            result: R = end.value
            return result
        finally:
            self._workers.close()

    def _perform(self, request: Request) -> Asked | None:
        self._look()
        if isinstance(request, Wait):
            self._wait(request)
            return None
        if isinstance(request, AskAll):
            self._all(request)
            return None
        answers: list[Asked] = []
        self._all(AskAll((request,), lambda _, asked: answers.append(asked)))
        return answers[0]

    def _look(self) -> None:
        if self._cancel is not None and self._cancel.is_cancelled:
            raise RunCancelledError

    def _wait(self, request: Wait) -> None:
        until_ms = self._stopwatch.monotonic_ms() + request.seconds * 1000
        while (left_s := self._wait_s(until_ms)) > 0 and not request.is_over():
            if self._cancel is None:
                self._stopwatch.sleep(left_s)
            else:
                self._cancel.wait(left_s)
                self._look()

    def _all(self, request: AskAll) -> None:
        asks = request.asks
        if len(asks) == 1 and asks[0].cut_ms is None and self._cancel is None:
            request.on_done(0, self._here(asks[0]))
            return
        done: SimpleQueue[tuple[int, Asked]] = SimpleQueue()
        if self._cancel is None:
            self._collect(request, done)
            return
        forget = self._cancel.subscribe(lambda: done.put((_CANCELLED, Asked())))
        try:
            self._collect(request, done)
        finally:
            forget()

    def _collect(self, request: AskAll, done: SimpleQueue[tuple[int, Asked]]) -> None:
        asks = request.asks
        cut_at = {place: self._start(place, ask, done) for place, ask in enumerate(asks)}
        while cut_at:
            try:
                place, asked = done.get(timeout=self._wait_s(min(cut_at.values())))
            except Empty:
                now = self._stopwatch.monotonic_ms()
                for place in [place for place, at in cut_at.items() if at <= now]:
                    del cut_at[place]
                    request.on_done(place, Asked(latency_ms=asks[place].cut_ms or 0, is_cut=True))
                continue
            if place == _CANCELLED:
                raise RunCancelledError
            if cut_at.pop(place, None) is not None:  # else it was cut: too late an answer
                request.on_done(place, _without_awaitable(asked.settled(), asks[place]))

    def _here(self, ask: Ask) -> Asked:
        started = self._stopwatch.monotonic_ms()
        try:
            value = ask.call()
        except Exception as error:  # models and tools are foreign code
            return Asked(error=error, latency_ms=self._stopwatch.monotonic_ms() - started)
        asked = Asked(value, latency_ms=self._stopwatch.monotonic_ms() - started)
        return _without_awaitable(asked, ask)

    def _start(self, place: int, ask: Ask, done: SimpleQueue[tuple[int, Asked]]) -> float:
        """Starts one call in a worker; returns when it is cut, on the stopwatch."""
        started = self._stopwatch.monotonic_ms()
        if ask.cut_ms is not None and ask.cut_ms <= 0:
            return started
        self._workers.submit(
            lambda: attempt_in_worker(ask, self._stopwatch),
            lambda asked: done.put((place, asked)),
        )
        return _NEVER if ask.cut_ms is None else started + ask.cut_ms

    def _wait_s(self, until_ms: float) -> float:
        left_s = max(0.0, until_ms - self._stopwatch.monotonic_ms()) / 1000
        return min(left_s, LONGEST_SLEEP_S)


def _without_awaitable(asked: Asked, ask: Ask) -> Asked:
    if not inspect.isawaitable(asked.value):
        return asked
    if inspect.iscoroutine(asked.value):
        asked.value.close()
    error = AgentError(
        f"{getattr(ask.fn, '__qualname__', ask.fn)} gave an awaitable to a run that is not async",
        hint="Use: await flightlog.run_async(...)",
    )
    return replace(asked, value=None, error=error)
