"""Many short runs in one process: runs per second, and memory that stays flat.

    python benchmarks/many_runs.py                     5,000 runs of each way
    python benchmarks/many_runs.py --runs 100000       the full size
    python benchmarks/many_runs.py --sink recorded     only what is recorded

A run has two steps and one tool call under the default budget, and its prompt,
arguments and answer differ from those of every other run. Each way has a process of
its own. Memory is what the kernel says that the process holds; it grows by as much per
run as its highest point in the second half is above that in the first half, by when
pools and caches are warm.

It is not flat above `LIMIT_BYTES`: the result of one run alone takes five
times that. A recorder remembers the digests of the messages that it has stored, up to
a fixed number, and then begins anew; until that many were seen in the first half,
`DIGEST_BYTES` for each new message are added to the limit. The exit code is 1 where a
way is not flat, or left threads or file descriptors behind.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

from benchmarks._timing import table
from flightlog.recorder.recorder import SEEN_MESSAGES, Recorder
from flightlog.runtime.agent import Agent
from flightlog.runtime.loop import run, run_async
from flightlog.runtime.model import ModelRequest, ModelResponse
from flightlog.runtime.task import Task
from flightlog.runtime.tools import tool
from flightlog.testing import asking
from flightlog.trace.sink import NullSink, Sink

LIMIT_BYTES = 250
DIGEST_BYTES = 250
MESSAGES_PER_RUN = 4
SAMPLES = 50
CONCURRENT = 100
SETTLING_S = 5.0


@tool(effect="read")
def get_order(order_id: str) -> dict[str, object]:
    return {"id": order_id, "items": list(range(10))}


@tool(effect="read", name="get_order")
async def get_order_async(order_id: str) -> dict[str, object]:
    return {"id": order_id, "items": list(range(10))}


def answer(request: ModelRequest) -> ModelResponse:
    """One tool call, then an answer, both about the order that the prompt names."""
    order = request.messages[0].text or ""
    if request.step > 1:
        return ModelResponse(f"Order {order} has ten items.", latency_ms=0.0)
    return asking(("get_order", {"order_id": order}), latency_ms=0.0)


class Model:
    """Answers from memory."""

    name = "bench"
    never_blocks = True

    def complete(self, request: ModelRequest) -> ModelResponse:
        return answer(request)


class AsyncModel:
    """The same as a coroutine."""

    name = "bench"
    never_blocks = True

    async def complete(self, request: ModelRequest) -> ModelResponse:
        return answer(request)


@dataclass
class Measured:
    """What one way did: seconds that it took, and bytes of memory after so many runs."""

    seconds: float = 0.0
    runs: list[int] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)
    left_behind: dict[str, int] = field(default_factory=dict)

    def sample(self, runs: int) -> None:
        self.runs.append(runs)
        self.memory.append(resident_bytes())

    @property
    def growth(self) -> float:
        """Bytes per run by which the second half's highest point is above the first half's."""
        half = len(self.runs) // 2
        risen = max(self.memory[half:]) - max(self.memory[:half])
        return risen / (self.runs[-1] - self.runs[half - 1])


def resident_bytes() -> int:
    """Memory of this process; where the kernel does not tell, the most that it ever had."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * resource.getpagesize()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def held() -> dict[str, int]:
    """Threads and file descriptors of this process."""
    descriptors = Path("/dev/fd")
    return {
        "threads": threading.active_count(),
        "descriptors": len(list(descriptors.iterdir())) if descriptors.exists() else 0,
    }


def reused(runs: int, sink: Sink, measured: Measured) -> None:
    agent = Agent("bench", Model(), [get_order])
    for number in range(1, runs + 1):
        play(agent, number, sink)
        after(number, runs, measured)


def anew(runs: int, sink: Sink, measured: Measured) -> None:
    for number in range(1, runs + 1):
        play(Agent("bench", Model(), [get_order]), number, sink)
        after(number, runs, measured)


def concurrent(runs: int, sink: Sink, measured: Measured) -> None:
    agent = Agent("bench", AsyncModel(), [get_order_async])
    numbers = iter(range(1, runs + 1))

    async def some() -> None:
        for number in numbers:
            result = await run_async(agent, task_of(number), sink=sink)
            assert not result.partial, result.stop_detail
            after(number, runs, measured)

    async def all_runs() -> None:
        await asyncio.gather(*[some() for _ in range(CONCURRENT)])

    asyncio.run(all_runs())


def play(agent: Agent, number: int, sink: Sink) -> None:
    result = run(agent, task_of(number), sink=sink)
    assert not result.partial, result.stop_detail


def task_of(number: int) -> Task:
    return Task(f"order-{number}", f"A-{number}")


def after(number: int, runs: int, measured: Measured) -> None:
    if number % max(1, runs // SAMPLES) == 0:
        measured.sample(number)


@contextmanager
def sink_of(is_recorded: bool) -> Iterator[Sink]:
    if not is_recorded:
        yield NullSink()
        return
    with tempfile.TemporaryDirectory() as folder:
        recorder = Recorder(Path(folder) / "store", seal_on_close=False)
        yield recorder
        assert not recorder.dropped_events, recorder.last_error
        recorder.close()


WAYS: dict[str, tuple[Callable[[int, Sink, Measured], None], bool]] = {
    "plain, one agent": (reused, False),
    "plain, an agent for each run": (anew, False),
    f"plain, {CONCURRENT} at a time": (concurrent, False),
    "recorded, one agent": (reused, True),
    f"recorded, {CONCURRENT} at a time": (concurrent, True),
}


def measure(name: str, runs: int) -> Measured:
    way, is_recorded = WAYS[name]
    measured = Measured()
    way(CONCURRENT, NullSink(), Measured())  # what is loaded and made once
    before = held()
    with sink_of(is_recorded) as sink:
        started = time.perf_counter()
        way(runs, sink, measured)
        measured.seconds = time.perf_counter() - started
    deadline = time.monotonic() + SETTLING_S
    while held() != before and time.monotonic() < deadline:  # a thread leaves in its own time
        time.sleep(0.01)
    measured.left_behind = {kind: count - before[kind] for kind, count in held().items()}
    return measured


def limit_of(name: str, runs: int) -> int:
    """Bytes per run that are flat."""
    is_recorded = WAYS[name][1]
    is_filling = is_recorded and MESSAGES_PER_RUN * runs // 2 < SEEN_MESSAGES
    return LIMIT_BYTES + (MESSAGES_PER_RUN * DIGEST_BYTES if is_filling else 0)


def measured_alone(name: str, runs: int) -> Measured:
    """Measures in a fresh process: what another way freed would hide what this one keeps."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(measure, name, runs).result()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5_000, help="of each way, at least 1000")
    parser.add_argument("--sink", choices=("plain", "recorded", "both"), default="both")
    options = parser.parse_args()
    runs = max(1_000, options.runs)
    names = [
        name
        for name, (_, is_recorded) in WAYS.items()
        if options.sink in ("both", "recorded" if is_recorded else "plain")
    ]
    figures: list[tuple[str, ...]] = []
    memory: list[tuple[str, ...]] = []
    problems: list[str] = []
    for name in names:
        one = measured_alone(name, runs)
        limit = limit_of(name, runs)
        each = f"{one.seconds / runs * 1e6:.0f}", f"{one.growth:.0f}", f"{limit}"
        figures.append((name, f"{runs / one.seconds:.0f}", *each))
        tenths = [one.memory[len(one.memory) * tenth // 10 - 1] for tenth in range(1, 11)]
        memory.append((name, *(f"{used / 2**20:.1f}" for used in tenths)))
        if one.growth > limit:
            problems.append(f"{name}: memory grows by {one.growth:.0f} bytes per run")
        problems += [f"{name}: {n} {kind} left" for kind, n in one.left_behind.items() if n > 0]
    print(f"{runs} runs each, two steps and one tool call per run\n")
    print(table(figures, header=("way", "runs/s", "us/run", "bytes/run", "limit")))
    print("\nMiB after 10 %, 20 %, ... of the runs\n")
    print(table(memory, header=("way", *(f"{tenth}0 %" for tenth in range(1, 11)))))
    print("\n" + ("; ".join(problems) or "flat; no thread and no file descriptor is left"))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
