"""`record_async`: as `record`, for agents in an event loop, which never waits for a disk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from flightlog.recorder.record import record
from flightlog.recorder.recorder import Recorder
from flightlog.trace.messages import Message
from flightlog.trace.run_writer import RunWriter

T = TypeVar("T")


class AsyncRun:
    """Writes the events of one run from coroutines.

    What has to be durable is awaited, in a worker thread. The rest is with the kernel
    after some microseconds, and its methods are plain functions.

    Attributes:
        run_id: id of the run.
        writer: the writer behind it; its own durable methods block.
    """

    def __init__(self, writer: RunWriter) -> None:
        self.run_id = writer.run_id
        self.writer = writer

    def model_call(
        self, *, prompt: Sequence[Message] = (), output: Message | None = None, **fields: Any
    ) -> bool:
        """As `RunWriter.model_call`."""
        return self.writer.model_call(prompt=prompt, output=output, **fields)

    def tool_call(self, *, result: Any = None, **fields: Any) -> bool:
        """As `RunWriter.tool_call`."""
        return self.writer.tool_call(result=result, **fields)

    def evaluation(self, **fields: Any) -> bool:
        """As `RunWriter.evaluation`."""
        return self.writer.evaluation(**fields)

    async def tool_intent(self, **fields: Any) -> bool:
        """Writes the intent of a write, durably; False means: do not call the tool."""
        return await asyncio.to_thread(self.writer.tool_intent, **fields)

    async def state_changed(self, **fields: Any) -> bool:
        """Writes a change of a guardrail's state, durably."""
        return await asyncio.to_thread(self.writer.state_changed, **fields)

    async def stopped(self, **fields: Any) -> bool:
        """Writes the end of the run, durably."""
        return await asyncio.to_thread(self.writer.stopped, **fields)


@asynccontextmanager
async def record_async(store: str | Path | Recorder, **arguments: Any) -> AsyncIterator[AsyncRun]:
    """Records the body as one run, as `record` does, and gives what writes its events.

    The store is opened, and the run's end made durable and sealed, in a worker thread;
    also when the task is cancelled meanwhile.

    Args:
        store: folder of the store, or a recorder to share between runs.
        arguments: all others of `record`.

    Raises:
        UnknownNameError: a field that `run_started` does not have.
        StoreError: the store cannot be written to.
    """
    manager: AbstractContextManager[RunWriter] = record(store, **arguments)
    try:
        writer = await _finished(manager.__enter__)
    except asyncio.CancelledError as error:
        if isinstance(error, _CancelledAfterwards):
            await _finished(manager.__exit__, type(error), error, error.__traceback__)
        raise
    try:
        yield AsyncRun(writer)
    except GeneratorExit as error:  # the event loop goes away, and nothing can be awaited
        manager.__exit__(type(error), error, error.__traceback__)
        raise
    except BaseException as error:
        await _finished(manager.__exit__, type(error), error, error.__traceback__)
        raise
    await _finished(manager.__exit__, None, None, None)


class _CancelledAfterwards(asyncio.CancelledError):
    """The task was cancelled while something ran that was finished first."""


async def _finished(fn: Callable[..., T], *args: Any) -> T:
    """Calls a function in a thread and sees it end, also when the task is cancelled."""
    call = asyncio.ensure_future(asyncio.to_thread(fn, *args))
    is_cancelled = False
    while not call.done():
        try:
            await asyncio.wait({call})
        except asyncio.CancelledError:
            is_cancelled = True
    result = call.result()
    if is_cancelled:
        raise _CancelledAfterwards
    return result
