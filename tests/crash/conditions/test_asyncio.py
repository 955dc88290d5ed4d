"""Event loops beside a slow disk: what has to be durable is awaited, and all others go on.

The disk's syncs wait until the loop has gone round often enough: a loop that waited for
them would never end.
"""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import pytest

from flightlog.recorder.disk import Disk
from flightlog.recorder.record_async import AsyncRun, record_async
from flightlog.runtime.agent import Agent
from flightlog.runtime.loop import run_async
from flightlog.runtime.model import ScriptedModel
from flightlog.runtime.policy import Policy, approve_all
from flightlog.runtime.task import Task
from flightlog.runtime.tools import Tool
from flightlog.testing import asking, saying
from flightlog.trace.vocab import Effect
from tests.crash.conditions.counting import CountingRecorder, Record, call, found_in

pytestmark = pytest.mark.crash
ROUNDS = 300
FOREVER_S = 10.0


class SlowDisk(Disk):
    """A disk whose syncs last until the event loop has gone round ROUNDS times."""

    def __init__(self) -> None:
        self.is_slow = threading.Event()
        self.has_gone_round = threading.Event()
        self.slow_syncs = 0
        self.stalled = 0

    def fdatasync(self, descriptor: int) -> None:  # type: ignore[override]
        if self.is_slow.is_set():
            self.slow_syncs += 1
            self.stalled += not self.has_gone_round.wait(FOREVER_S)
        os.fdatasync(descriptor)


async def beside(disk: SlowDisk, recorder: CountingRecorder, run: AsyncRun | None) -> int:
    """Goes round and records while a sync waits for that; how often it did."""
    while not disk.slow_syncs:
        await asyncio.sleep(0)
    for number in range(ROUNDS):
        await asyncio.sleep(0)
        if run is not None:
            assert run.tool_call(tool_name="look", args={"number": number})
        assert recorder.emit(call("beside", number))
    disk.has_gone_round.set()
    return ROUNDS


@pytest.mark.parametrize("what", ["tool_intent", "state_changed", "stopped"])
def test_a_durable_event_of_a_run_stalls_neither_the_loop_nor_the_run(
    tmp_path: Path, record_property: Record, what: str
) -> None:
    path, disk = tmp_path / "store", SlowDisk()
    recorder = CountingRecorder(path, disk=disk, sync_interval_s=3_600)

    async def work() -> int:
        async with record_async(recorder, agent="a") as run:
            disk.is_slow.set()
            durable = {
                "tool_intent": lambda: run.tool_intent(tool_name="pay", args={}),
                "state_changed": lambda: run.state_changed(subject="breaker", state_to="open"),
                "stopped": lambda: run.stopped(status="completed", stop_reason="ok"),
            }[what]
            going_round = asyncio.create_task(beside(disk, recorder, run))
            assert await durable()
            return await going_round

    rounds = asyncio.run(work())
    recorder.close()
    assert (rounds, disk.stalled) == (ROUNDS, 0)
    assert len(found_in(path).calls) == 2 * ROUNDS
    figures = {"rounds of the loop during a slow sync": rounds, "syncs": disk.slow_syncs}
    record_property("figures", (f"conditions: asyncio, {what}", figures))


def test_a_bounded_agent_in_a_loop_stalls_nobody_with_its_writes(
    tmp_path: Path, record_property: Record
) -> None:
    path, disk = tmp_path / "store", SlowDisk()
    recorder = CountingRecorder(path, disk=disk, sync_interval_s=3_600)
    paid: list[str] = []

    def pay(to: str) -> str:
        paid.append(to)
        return "paid"

    async def work() -> int:
        agent = Agent(
            "a",
            ScriptedModel("m", [asking(("pay", {"to": "x"})), saying("done")]),
            [Tool("pay", pay, effect=Effect.WRITE)],
            policy=Policy(("pay",), approver=approve_all),
        )
        disk.is_slow.set()
        going_round = asyncio.create_task(beside(disk, recorder, None))
        result = await run_async(agent, Task("t", "Pay."), sink=recorder)
        assert result.stop_reason.value == "ok"
        return await going_round

    rounds = asyncio.run(work())
    recorder.close()
    assert (rounds, disk.stalled, paid) == (ROUNDS, 0, ["x"])
    figures = {"rounds of the loop during a slow sync": rounds, "syncs": disk.slow_syncs}
    record_property("figures", ("conditions: asyncio, bounded agent", figures))
