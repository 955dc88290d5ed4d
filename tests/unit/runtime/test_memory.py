"""Many runs in one process: nothing of a run that is over stays behind.

Objects are counted with the collector of cycles switched off, so that what only
a collection would free counts as left behind.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import threading
import tracemalloc
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flightlog.control.breaker_policy import BreakerPolicy
from flightlog.control.window_budget import WindowBudget
from flightlog.recorder.recorder import Recorder
from flightlog.runtime.agent import Agent
from flightlog.runtime.budget import Budget
from flightlog.runtime.cancel import CancelToken
from flightlog.runtime.credentials import Credentials
from flightlog.runtime.loop import RunContext, RunResult, run, run_async
from flightlog.runtime.model import ModelRequest, ModelResponse
from flightlog.runtime.policy import Policy, approve_all
from flightlog.runtime.retry import RetryPolicy
from flightlog.runtime.task import Task
from flightlog.runtime.tools import Tool
from flightlog.testing import ScriptedModel, asking, saying
from flightlog.trace.sink import NullSink, Sink
from flightlog.trace.vocab import Effect, StopReason

RUNS = 8
MANY = 300
FLAT_BYTES = 200
"""Per run. A run that is kept takes thousands; CPython's own free lists take tens."""

RETRY = RetryPolicy(max_attempts=2, initial_s=0.0, max_s=0.0)
Case = dict[str, Any]


def works(order_id: str) -> dict[str, str]:
    return {"id": order_id}


async def works_async(order_id: str) -> dict[str, str]:
    return works(order_id)


def fails(order_id: str) -> str:
    raise ConnectionError(order_id)


async def fails_async(order_id: str) -> str:
    raise ConnectionError(order_id)


def blocks(order_id: str) -> str:
    _released.wait()
    return order_id


async def blocks_async(order_id: str) -> str:
    await asyncio.Event().wait()
    return order_id


def breaks(request: ModelRequest) -> ModelResponse:
    raise ConnectionError("no answer")


_released = threading.Event()
SCRIPT = (asking(("order", {"order_id": "A-1"})), saying("done"))
SYNC: dict[str, Case] = {
    "a call that worked": {"fn": works},
    "a call in place": {"fn": works, "budget": Budget(max_seconds=None)},
    "a call that failed": {"fn": fails},
    "a call in place that failed": {"fn": fails, "budget": Budget(max_seconds=None)},
    "a call that was tried again": {"fn": fails, "retries": {"*": RETRY}},
    "a call that was cut": {"fn": blocks, "timeout_s": 0.001},
    "a write": {"fn": works, "effect": Effect.WRITE, "approver": approve_all},
    "a write that nobody approved": {"fn": works, "effect": Effect.WRITE},
    "a call that was refused": {"fn": works, "budget": Budget(max_tool_calls=0)},
    "a model that failed": {"fn": works, "answers": breaks, "model_retry": RETRY},
    "breakers and windows": {
        "fn": fails,
        "breakers": {"*": BreakerPolicy()},
        "tenant_budgets": {"*": WindowBudget(window_s=3600, max_tool_calls=10**6)},
    },
    "credentials": {
        "fn": works,
        "credentials": ("key",),
        "held": Credentials({"*": {"order": {"key": "a value that nobody sees"}}}),
    },
}
ASYNC: dict[str, Case] = SYNC | {
    "an async call that worked": {"fn": works_async},
    "an async call that failed": {"fn": fails_async},
    "an async call that was cut": {"fn": blocks_async, "timeout_s": 0.001},
}


def agent_of(
    fn: Callable[..., Any] = works,
    *,
    answers: Any = SCRIPT,
    held: Credentials | None = None,
    **fields: Any,
) -> Agent:
    """An agent with one tool; each field goes to the tool where it has one, else to its policy."""
    of_tool = {name: fields.pop(name) for name in _OF_TOOL if name in fields}
    one = Tool("order", fn, **{"effect": Effect.READ, **of_tool})
    policy = Policy(("order",), **fields)
    return Agent("agent", ScriptedModel("m", answers), [one], policy=policy, credentials=held)


_OF_TOOL = ("effect", "timeout_s", "credentials")


@pytest.fixture(autouse=True)
def released() -> Iterator[None]:
    """Has the calls that were cut end at last."""
    _released.clear()
    yield
    _released.set()
    join_workers()


@pytest.fixture
def without_collector() -> Iterator[None]:
    gc.collect()
    gc.freeze()  # what earlier tests have imported is not looked at again
    gc.disable()
    yield
    gc.enable()
    gc.collect()


def join_workers() -> None:
    """Waits for the threads of runs that are over."""
    for thread in threading.enumerate():
        if thread.name == "flightlog-call":
            thread.join(30)
            assert not thread.is_alive()


def alive() -> Counter[str]:
    """How many objects of each class of this package are alive."""
    classes = (type(one) for one in gc.get_objects())
    # Of some classes of other packages, `__module__` is no text.
    ours = (one for one in classes if str(one.__module__).startswith("flightlog."))
    return Counter(one.__qualname__ for one in ours)


def left_by(play: Callable[[], object]) -> Counter[str]:
    """What several runs leave behind that one run did not; each begins and ends alike."""
    play()
    _released.set()
    join_workers()
    before = alive()
    for _ in range(RUNS):
        _released.clear()
        play()
        _released.set()
        join_workers()
    return alive() - before


@pytest.mark.usefixtures("without_collector")
@pytest.mark.parametrize("case", SYNC)
def test_a_run_leaves_no_object_behind(case: str) -> None:
    assert not left_by(lambda: run(agent_of(**SYNC[case]), Task("t", "go")))


@pytest.mark.usefixtures("without_collector")
@pytest.mark.parametrize("case", ASYNC)
def test_an_async_run_leaves_no_object_behind(case: str) -> None:
    def play() -> RunResult:
        return asyncio.run(run_async(agent_of(**ASYNC[case]), Task("t", "go")))

    assert not left_by(play)


@pytest.mark.usefixtures("without_collector")
def test_a_token_keeps_none_of_the_runs_that_it_was_given_to() -> None:
    token = CancelToken()
    assert not left_by(lambda: run(agent_of(), Task("t", "go"), cancel=token))


@pytest.mark.usefixtures("without_collector")
def test_a_cancelled_run_leaves_no_object_behind() -> None:
    def play() -> None:
        token = CancelToken()

        def stop(order_id: str) -> str:
            token.cancel("enough")
            return order_id

        result = run(agent_of(stop), Task("t", "go"), cancel=token)
        assert result.stop_reason is StopReason.CANCELLED

    assert not left_by(play)


@pytest.mark.usefixtures("without_collector")
def test_a_recorder_keeps_none_of_the_runs_that_it_recorded(tmp_path: Path) -> None:
    with Recorder(tmp_path / "store", seal_on_close=False) as recorder:
        policies = SYNC["breakers and windows"]
        assert not left_by(lambda: run(agent_of(**policies), Task("t", "go"), sink=recorder))


class Answering:
    """A model that keeps nothing of what it was asked."""

    name = "m"

    def complete(self, request: ModelRequest) -> ModelResponse:
        return SCRIPT[request.step - 1]


class AnsweringAsync:
    name = "m"

    async def complete(self, request: ModelRequest) -> ModelResponse:
        return SCRIPT[request.step - 1]


def grown_by(play: Callable[[], object]) -> float:
    """Bytes per run that many runs add to what a few runs had taken."""
    tracemalloc.start()
    try:
        for _ in range(100):
            play()
        join_workers()
        gc.collect()
        gc.freeze()
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(MANY):
            play()
        join_workers()
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return (after - before) / MANY


def test_memory_is_flat_over_many_runs_of_one_agent() -> None:
    agent = Agent("agent", Answering(), [Tool("order", works, effect=Effect.READ)])
    assert grown_by(lambda: run(agent, Task("t", "go"))) < FLAT_BYTES


def test_memory_is_flat_over_many_recorded_runs_of_many_tenants(tmp_path: Path) -> None:
    """The same tenants come again; of each one the store keeps a window."""
    policy = Policy(
        ("order",),
        breakers={"*": BreakerPolicy()},
        tenant_budgets={"*": WindowBudget(window_s=3600, max_tool_calls=10**6)},
    )
    tools = [Tool("order", works, effect=Effect.READ)]
    agent = Agent("agent", Answering(), tools, policy=policy)
    numbers = iter(range(10**6))

    with Recorder(tmp_path / "store", seal_on_close=False) as recorder:

        def play() -> None:
            context = RunContext(tenant=f"tenant-{next(numbers) % 10}")
            assert not run(agent, Task("t", "go"), sink=recorder, context=context).partial

        assert grown_by(play) < FLAT_BYTES


def test_runs_leave_neither_threads_nor_file_descriptors(tmp_path: Path) -> None:
    policy = Policy(("order",), breakers={"*": BreakerPolicy()})

    def held() -> tuple[int, int]:
        join_workers()
        return threading.active_count(), len(list(Path("/dev/fd").iterdir()))

    with Recorder(tmp_path / "store", seal_on_close=False) as recorder:
        tools = [Tool("order", works, effect=Effect.READ)]
        agent = Agent("agent", Answering(), tools, policy=policy)
        sinks: tuple[Sink, ...] = (recorder, NullSink())
        for sink in sinks:  # the store's state is opened once
            run(agent, Task("t", "go"), sink=sink)
        before = held()
        for _ in range(20):
            for sink in sinks:
                run(agent, Task("t", "go"), sink=sink)
                asyncio.run(run_async(agent, Task("t", "go"), sink=sink))
        assert held() == before


@pytest.mark.usefixtures("without_collector")
def test_an_event_loop_is_not_kept_after_its_runs() -> None:
    tools = [Tool("order", works_async, effect=Effect.READ)]
    agent = Agent("agent", AnsweringAsync(), tools)
    loops: list[weakref.ref[asyncio.AbstractEventLoop]] = []

    async def many() -> None:
        loops.append(weakref.ref(asyncio.get_running_loop()))
        await asyncio.gather(*[run_async(agent, Task("t", "go")) for _ in range(10)])

    for _ in range(3):
        asyncio.run(many())
    gc.collect()
    assert [loop() for loop in loops] == [None, None, None]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
