"""What has to be durable is so before anything goes on, and no event loop waits for a disk.

The disk here lets no sync end before the event loop has turned some more: a sync in the
event loop's own thread would never end.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from flightlog.analysis.db import Traces
from flightlog.control.kill_switch import KillMode, KillRule
from flightlog.recorder.disk import Disk
from flightlog.recorder.record_async import record_async
from flightlog.recorder.recorder import Recorder
from flightlog.recorder.store import Store
from flightlog.runtime.agent import Agent
from flightlog.runtime.cancel import CancelToken
from flightlog.runtime.credentials import Credentials
from flightlog.runtime.loop import RunContext, run_async
from flightlog.runtime.model import ScriptedModel
from flightlog.runtime.policy import Policy, approve_all
from flightlog.runtime.task import Task
from flightlog.runtime.tools import Tool
from flightlog.testing import asking, saying
from flightlog.trace.run_writer import RunWriter
from flightlog.trace.vocab import Effect, StopReason

TURNS = 3
PATIENCE_S = 60.0


class SlowDisk(Disk):
    """While an event loop is watched, a sync ends only once that loop has turned again.

    Attributes:
        synced: syncs in other threads than the event loop's, while it turned.
        stalled: syncs that the event loop would have waited for.
    """

    def __init__(self) -> None:
        self.synced = 0
        self.stalled = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Watches the running event loop."""
        self._loop, self._thread = asyncio.get_running_loop(), threading.get_ident()
        try:
            yield
        finally:
            self._loop = None

    def fdatasync(self, descriptor: int) -> None:  # type: ignore[override]
        self._wait()
        os.fdatasync(descriptor)

    def fsync(self, descriptor: int) -> None:  # type: ignore[override]
        self._wait()
        os.fsync(descriptor)

    def _wait(self) -> None:
        loop = self._loop
        if loop is None:
            return
        if threading.get_ident() == self._thread:
            self.stalled += 1
            return
        has_turned = threading.Event()

        def turn(left: int) -> None:
            if left:
                loop.call_soon(turn, left - 1)
            else:
                has_turned.set()

        loop.call_soon_threadsafe(turn, TURNS)
        if has_turned.wait(PATIENCE_S):
            self.synced += 1
        else:
            self.stalled += 1


def events(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = Store.open(path).snapshot().unsealed_events.to_pylist()
    return found


def agent(fn: Callable[..., Any], **declared: Any) -> Agent:
    model = ScriptedModel("m", [asking(("pay", {"usd": 1})), saying("done")])
    tool = Tool("pay", fn, effect=Effect.WRITE)
    return Agent("a", model, [tool], policy=Policy(("pay",), approver=approve_all), **declared)


def recorder(path: Path, disk: SlowDisk) -> Recorder:
    # The journal's own thread stays out of it.
    return Recorder(path, disk=disk, sync_interval_s=3600.0, seal_on_close=False)


async def pay(usd: int) -> str:
    return f"paid {usd}"


async def never_pay(usd: int) -> str:
    raise AssertionError("was called")


def test_a_run_in_an_event_loop_syncs_its_intents_and_its_end_elsewhere(tmp_path: Path) -> None:
    disk = SlowDisk()
    sink = recorder(tmp_path / "store", disk)

    async def main() -> Any:
        with disk.watched():
            return await run_async(agent(pay), Task("t", "Go."), sink=sink)

    result = asyncio.run(main())
    assert result.stop_reason is StopReason.OK
    assert disk.stalled == 0
    assert disk.synced >= 2
    assert [row["kind"] for row in events(sink.store_path)].count("tool_intent") == 1
    sink.close()


def test_an_intent_is_durable_before_its_tool_is_called(tmp_path: Path) -> None:
    disk = SlowDisk()
    sink = recorder(tmp_path / "store", disk)
    synced_at_call = []

    async def look(usd: int) -> str:
        synced_at_call.append(disk.synced)
        assert events(sink.store_path)[-1]["kind"] == "tool_intent"
        return "paid"

    async def main() -> Any:
        with disk.watched():
            return await run_async(agent(look), Task("t", "Go."), sink=sink)

    assert asyncio.run(main()).answer == "done"
    assert synced_at_call[0] >= 1
    sink.close()


def test_what_the_kill_switch_does_is_durable_before_the_run_goes_on(tmp_path: Path) -> None:
    disk = SlowDisk()
    sink = recorder(tmp_path / "store", disk)
    sink.control.kill_switch.put(KillRule(KillMode.STOP_ALL, who="ana"))

    async def main() -> Any:
        with disk.watched():
            return await run_async(agent(never_pay), Task("t", "Go."), sink=sink)

    assert asyncio.run(main()).stop_reason is StopReason.KILL_SWITCH
    assert disk.stalled == 0
    assert disk.synced >= 1
    sink.close()


def test_a_cancelled_run_has_its_end_made_durable_elsewhere(tmp_path: Path) -> None:
    disk = SlowDisk()
    sink = recorder(tmp_path / "store", disk)

    async def main() -> None:
        called = asyncio.Event()

        async def hang(usd: int) -> str:
            called.set()
            await asyncio.Event().wait()
            return "never"

        with disk.watched():
            task = asyncio.create_task(run_async(agent(hang), Task("t", "Go."), sink=sink))
            await called.wait()
            before = disk.synced
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert disk.synced > before

    asyncio.run(main())
    assert disk.stalled == 0
    assert events(sink.store_path)[-1]["stop_reason"] == "cancelled"
    sink.close()


def test_a_run_cancelled_by_its_token_has_its_end_made_durable_elsewhere(tmp_path: Path) -> None:
    disk, token = SlowDisk(), CancelToken()
    sink = recorder(tmp_path / "store", disk)

    async def cancel(usd: int) -> str:
        token.cancel("enough")
        await asyncio.Event().wait()
        return "never"

    async def main() -> Any:
        with disk.watched():
            return await run_async(agent(cancel), Task("t", "Go."), sink=sink, cancel=token)

    assert asyncio.run(main()).stop_reason is StopReason.CANCELLED
    assert disk.stalled == 0
    sink.close()


def test_a_run_whose_coroutine_is_thrown_away_still_has_a_durable_end(tmp_path: Path) -> None:
    disk = SlowDisk()
    sink = recorder(tmp_path / "store", disk)

    async def main() -> None:
        running = run_async(agent(pay), Task("t", "Go."), sink=sink)
        running.send(None)  # it waits for its model now
        with disk.watched():
            running.close()
            assert disk.stalled >= 1  # nothing can be awaited any more

    asyncio.run(main())
    assert events(sink.store_path)[-1]["stop_reason"] == "cancelled"
    sink.close()


def test_credentials_stand_in_no_sync_s_way(tmp_path: Path) -> None:
    disk = SlowDisk()
    sink = recorder(tmp_path / "store", disk)
    held = agent(pay, credentials=Credentials({"*": {"pay": {"K": "v" * 9}}}))

    async def main() -> Any:
        with disk.watched():
            return await run_async(held, Task("t", "Go."), sink=sink, context=RunContext())

    assert asyncio.run(main()).answer == "done"
    assert disk.stalled == 0
    assert disk.synced >= 2
    sink.close()


def test_record_async_waits_for_no_disk_in_the_event_loop(tmp_path: Path) -> None:
    disk = SlowDisk()
    sink = recorder(tmp_path / "store", disk)

    async def main() -> None:
        with disk.watched():
            async with record_async(sink, agent="a") as run:
                assert await run.tool_intent(step=1, call_ix=0, tool_name="pay", effect="write")
                run.model_call(step=1)
                run.tool_call(step=1, call_ix=0, tool_name="pay", effect="write", result="paid")
                assert await run.state_changed(subject="guard", state_to="odd")
                assert run.evaluation(passed=True)

    asyncio.run(main())
    assert disk.stalled == 0
    assert disk.synced >= 3
    rows = events(sink.store_path)
    assert [row["seq"] for row in rows] == list(range(7))
    assert rows[-1]["stop_reason"] == "ok"
    sink.close()


def test_record_async_records_how_its_body_ended(tmp_path: Path) -> None:
    async def fail() -> None:
        async with record_async(tmp_path / "store", run_id="failed"):
            raise ValueError("no")

    async def be_cancelled() -> None:
        started = asyncio.Event()

        async def work() -> None:
            async with record_async(tmp_path / "store", run_id="cancelled"):
                started.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(work())
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def stop() -> None:
        async with record_async(tmp_path / "store", run_id="stopped") as run:
            assert await run.stopped(stop_reason="max_steps", status="stopped")

    with pytest.raises(ValueError, match="no"):
        asyncio.run(fail())
    asyncio.run(be_cancelled())
    asyncio.run(stop())
    with Traces(tmp_path / "store") as traces:
        ends = traces.rows("SELECT run_id, stop_reason FROM runs ORDER BY run_id")
    assert [tuple(row.values()) for row in ends] == [
        ("cancelled", "cancelled"),
        ("failed", "crashed"),
        ("stopped", "max_steps"),
    ]


def test_record_async_cancelled_while_it_opens_the_store_leaves_no_run_open(tmp_path: Path) -> None:
    path = tmp_path / "store"

    async def main() -> None:
        async def work() -> None:
            async with record_async(path, run_id="r1"):
                raise AssertionError("the body was entered")

        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    with Traces(path) as traces:
        assert traces.rows("SELECT status FROM runs WHERE status = 'running'") == []


def test_threads_go_on_writing_while_an_intent_waits_for_the_disk(tmp_path: Path) -> None:
    class HeldDisk(Disk):
        is_held = False
        reached, release = threading.Event(), threading.Event()

        def fdatasync(self, descriptor: int) -> None:  # type: ignore[override]
            if self.is_held:
                self.reached.set()
                assert self.release.wait(PATIENCE_S)
            os.fdatasync(descriptor)

    disk = HeldDisk()
    sink = Recorder(tmp_path / "store", disk=disk, sync_interval_s=3600.0, seal_on_close=False)
    writer = RunWriter(sink, "r1")
    writer.started()
    disk.is_held = True
    thread = threading.Thread(target=lambda: writer.tool_intent(tool_name="pay"))
    thread.start()
    assert disk.reached.wait(PATIENCE_S)
    assert writer.tool_call(tool_name="search")
    disk.release.set()
    thread.join()
    assert [row["seq"] for row in events(sink.store_path)] == [0, 1, 2]
    sink.close()


def test_a_writer_that_syncs_later_tells_when_the_disk_failed(tmp_path: Path) -> None:
    class FailingDisk(Disk):
        fails = False

        def fdatasync(self, descriptor: int) -> None:  # type: ignore[override]
            if self.fails:
                raise OSError(5, "Input/output error")
            os.fdatasync(descriptor)

    disk = FailingDisk()
    sink = Recorder(tmp_path / "store", disk=disk, sync_interval_s=3600.0, seal_on_close=False)
    writer = RunWriter(sink, "r1", syncs_later=True)
    assert writer.started()
    assert writer.state_changed(subject="guard")
    assert writer.is_sync_due
    disk.fails = True
    assert not writer.sync()
    assert "Input/output" in (sink.last_error or "")
    disk.fails = False
    assert writer.state_changed(subject="guard")
    assert not writer.sync()  # another journal took over, and what the first had is unsure
    assert writer.stopped()
    assert writer.sync()
    assert not writer.is_sync_due
    sink.close()


def test_a_sink_that_cannot_sync_later_is_asked_for_durable_events() -> None:
    class Asked:
        durable: list[bool]

        def emit(self, event: Any, *, messages: Any = (), durable: bool = False) -> bool:
            self.durable.append(durable)
            return True

    sink = Asked()
    sink.durable = []
    writer = RunWriter(sink, "r1", syncs_later=True)
    writer.started()
    writer.stopped()
    assert sink.durable == [False, True]
    assert not writer.is_sync_due
