"""Drives the loop from a coroutine.

Coroutines are awaited; plain functions go to a worker thread, so that the event
loop goes on.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final

from flightlog.runtime.asks import (
    LONGEST_SLEEP_S,
    Ask,
    Asked,
    Loop,
    R,
    Request,
    Wait,
    attempt_in_worker,
)
from flightlog.runtime.cancel import CancelToken, RunCancelledError
from flightlog.runtime.tools import is_async
from flightlog.runtime.workers import Workers
from flightlog.trace.clock import SystemClock
from flightlog.trace.run_writer import RunWriter

CANCEL_GRACE_S: Final = 1.0


class AsyncDriver:
    """Performs the requests of one run.

    Args:
        stopwatch: measures latencies in real time.
        cancel: cancels the run from outside.
        writer: of the run; waits for the disk in a worker thread, not in the event loop.
    """

    def __init__(
        self, stopwatch: SystemClock, cancel: CancelToken | None = None, *, writer: RunWriter
    ) -> None:
        self._stopwatch = stopwatch
        self._cancel = cancel
        self._writer = writer
        self._cancelled: asyncio.Future[None] | None = None
        self._workers: Workers[Asked] = Workers()

    async def drive(self, loop: Loop[R]) -> R:
        """Runs a loop to its end; what interrupts it is thrown into it first."""
        forget = self._listen()
        try:
            result = await self._driven(loop)
        except GeneratorExit:  # the event loop goes away, and nothing can be awaited
            self._writer.sync(is_last=True)
            raise
        except BaseException:
            await self._sync_last()
            raise
        else:
            await self._sync_last()
            return result
        finally:
            forget()
            self._workers.close()

    async def _driven(self, loop: Loop[R]) -> R:
        try:
            request = next(loop)
            while True:
                try:
                    # What is to be durable is so before anything else happens.
                    if self._writer.is_sync_due:
                        await self._in_worker(Ask(self._writer.sync))
                    reply = await self._perform(request)
                except BaseException as error:  # the loop records it and raises it again
                    request = loop.throw(error)
                else:
                    request = loop.send(reply)
        except StopIteration as end:
            result: R = end.value
            return result

    async def _sync_last(self) -> None:
        """Has the end of the run made durable, also when this is cancelled meanwhile."""
        if not self._writer.is_sync_due:
            self._writer.sync(is_last=True)
            return
        last = {
            asyncio.ensure_future(self._in_worker(Ask(partial(self._writer.sync, is_last=True))))
        }
        is_cancelled = False
        while True:
            try:
                await asyncio.wait(last)
            except asyncio.CancelledError:
                is_cancelled = True
            else:
                break
        if is_cancelled:
            raise asyncio.CancelledError

    def _listen(self) -> Callable[[], None]:
        """Has a cancellation from any thread wake the event loop."""
        if self._cancel is None:
            return lambda: None
        loop = asyncio.get_running_loop()
        self._cancelled = cancelled = loop.create_future()

        def set_once() -> None:
            if not cancelled.done():
                cancelled.set_result(None)

        def wake() -> None:
            with suppress(RuntimeError):  # the event loop is gone, and with it the run
                loop.call_soon_threadsafe(set_once)

        return self._cancel.subscribe(wake)

    def _look(self) -> None:
        if self._cancel is not None and self._cancel.is_cancelled:
            raise RunCancelledError

    async def _perform(self, request: Request) -> Asked | None:
        self._look()
        if isinstance(request, Wait):
            await self._wait(request)
            return None
        if isinstance(request, Ask):
            return await self._one(request)

        async def one(place: int, ask: Ask) -> None:
            request.on_done(place, await self._one(ask))

        tasks = [asyncio.create_task(one(*pair)) for pair in enumerate(request.asks)]
        try:
            await asyncio.gather(*tasks)
        except BaseException:  # no call of a step outlives the step
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=CANCEL_GRACE_S)
            raise
        return None

    async def _wait(self, request: Wait) -> None:
        until_ms = self._stopwatch.monotonic_ms() + request.seconds * 1000
        while (left_ms := until_ms - self._stopwatch.monotonic_ms()) > 0 and not request.is_over():
            slept = asyncio.sleep(min(left_ms / 1000, LONGEST_SLEEP_S))
            await self._until(asyncio.ensure_future(slept), None)

    async def _one(self, ask: Ask) -> Asked:
        if ask.cut_ms is not None and ask.cut_ms <= 0:
            return Asked(is_cut=True)
        task = asyncio.ensure_future(self._work(ask))
        await self._until(task, None if ask.cut_ms is None else ask.cut_ms / 1000)
        if not task.done():
            task.cancel()
            return Asked(latency_ms=ask.cut_ms or 0.0, is_cut=True)
        if task.cancelled():
            return Asked(error=asyncio.CancelledError("the call cancelled itself"))
        return task.result().settled()

    async def _until(self, task: asyncio.Future[Any], timeout_s: float | None) -> None:
        """Waits for a task, its time or a cancellation, which takes the task with it."""
        waited: set[asyncio.Future[Any]] = {task}
        if self._cancelled is not None:
            waited.add(self._cancelled)
        try:
            await asyncio.wait(waited, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            await _ended(task)
            raise
        if not task.done() and self._cancelled is not None and self._cancelled.done():
            await _ended(task)
            raise RunCancelledError

    async def _work(self, ask: Ask) -> Asked:
        if not is_async(ask.fn):
            asked = await self._in_worker(ask)
            if not inspect.isawaitable(asked.value):
                return asked
            return await self._awaited(asked.value)
        try:
            awaitable = ask.call()
        except Exception as error:  # arguments that do not fit the coroutine function
            return Asked(error=error)
        return await self._awaited(awaitable)

    async def _awaited(self, awaitable: Any) -> Asked:
        started = self._stopwatch.monotonic_ms()
        try:
            value = await awaitable
        except Exception as error:  # models and tools are foreign code
            return Asked(error=error, latency_ms=self._stopwatch.monotonic_ms() - started)
        return Asked(value, latency_ms=self._stopwatch.monotonic_ms() - started)

    async def _in_worker(self, ask: Ask) -> Asked:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Asked] = loop.create_future()

        def settle(asked: Asked) -> None:
            if not future.done():  # else it was cut or cancelled: too late an answer
                future.set_result(asked)

        def deliver(asked: Asked) -> None:
            with suppress(RuntimeError):  # the event loop is gone, and with it who asked
                loop.call_soon_threadsafe(settle, asked)

        self._workers.submit(lambda: attempt_in_worker(ask, self._stopwatch), deliver)
        return await future


async def _ended(task: asyncio.Future[Any]) -> None:
    """Cancels a task and sees it end, so that none outlives its run; unless it will not."""
    task.cancel()
    await asyncio.wait({task}, timeout=CANCEL_GRACE_S)
