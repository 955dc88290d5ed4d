"""CPU per replayed step: 10 tool calls and an answer, served from a recording.

    python benchmarks/replay_step.py [--runs 200] [--repeat 9]

One run is 11 steps, as in the peer benchmarks of replay. Beside it stand a bare loop
that calls ten functions and keeps the messages (what any replay costs at least), the same
replay recorded into a store, and with 100,000 recorded calls to find the answers among.
Medians over interleaved blocks of runs; CPU of the whole process, so worker threads and the
recorder's are counted.

The same run can be replayed through other libraries beside it, each by its own mock
model: `--peers FOLDER --peer-python PYTHON` runs the folder's `b_*.py` with that
interpreter; each prints one JSON line with `name` and `cpu_us_per_step`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from _timing import table

from flightlog.recorder.recorder import Recorder
from flightlog.replay.cassette import Cassette, Recording
from flightlog.replay.matching import Rules
from flightlog.replay.replayer import replay
from flightlog.replay.serve import StateAwareExecutor
from flightlog.runtime.agent import Agent
from flightlog.runtime.budget import Budget
from flightlog.runtime.loop import RunContext, run
from flightlog.runtime.model import ModelResponse, ScriptedModel
from flightlog.runtime.policy import Policy
from flightlog.runtime.task import Task
from flightlog.runtime.tools import Tool
from flightlog.trace.clock import VirtualClock
from flightlog.trace.messages import ToolRequest
from flightlog.trace.run_writer import RunWriter
from flightlog.trace.sink import MemorySink, NullSink, Sink
from flightlog.trace.vocab import Effect, Outcome, StopReason

TOOL_CALLS = 10
STEPS = TOOL_CALLS + 1
GOAL_US = 150
MANY = 100_000
ARGS = [
    {"order_id": f"O-{i:04d}", "fields": ["status", "total", "items"], "limit": 5 + i}
    for i in range(TOOL_CALLS)
]
RESULTS = {
    args["order_id"]: {
        "order_id": args["order_id"],
        "status": "shipped",
        "items": [
            {"sku": f"SKU-{i}-{j}", "qty": j + 1, "title": "a product title of some length"}
            for j in range(5)
        ],
    }
    for i, args in enumerate(ARGS)
}
TASK = Task("ten-orders", "Check the ten orders and report how many are shipped.")
ANSWERS = [
    *(
        ModelResponse(
            tool_requests=(ToolRequest(f"call_{i:08x}", "get_order", json.dumps(args)),),
            latency_ms=1.0,
        )
        for i, args in enumerate(ARGS)
    ),
    ModelResponse(text="All ten orders are shipped.", latency_ms=1.0),
]


def get_order(order_id: str, fields: list[str], limit: int) -> dict[str, Any]:
    """The live tool, for the recording and for the bare loop."""
    return RESULTS[order_id]


TOOL = Tool("get_order", fn=get_order, effect=Effect.READ, scopes=("order:{order_id}",))


def agent(budget: Budget) -> Agent:
    """The candidate: a script, as in the peers' benchmarks."""
    return Agent(
        "bench",
        ScriptedModel("m", ANSWERS),
        tools=(TOOL,),
        policy=Policy(allow=("get_order",), budget=budget),
    )


def recording() -> Recording:
    """The run, made live once."""
    sink = MemorySink()
    run(agent(Budget()), TASK, sink=sink, clock=VirtualClock())
    return Recording(tuple(sink.events), sink.messages)


def others(calls: int) -> list[Recording]:
    """Recordings of other runs of the task, with so many other calls together."""
    found = []
    for number in range(calls // 1_000):
        sink = MemorySink()
        writer = RunWriter(sink, f"other-{number}")
        writer.started(task_id=TASK.task_id)
        for place in range(1_000):
            args = json.dumps({"order_id": f"P-{number}-{place}", "fields": [], "limit": place})
            writer.tool_call(
                step=place,
                call_ix=0,
                tool_name="get_order",
                args=args,
                outcome=Outcome.OK,
                result="{}",
            )
        writer.stopped(stop_reason=StopReason.OK)
        found.append(Recording(tuple(sink.events), sink.messages))
    return found


def bare_loop() -> int:
    """Parses the arguments, calls the function, keeps the messages; no bounds, no trace."""
    messages: list[dict[str, Any]] = [{"role": "user", "content": TASK.prompt}]
    calls = step = 0
    while True:
        step += 1
        answer = ANSWERS[step - 1]
        messages.append({"role": "assistant", "content": answer.text})
        for request in answer.tool_requests:
            result = json.dumps(get_order(**json.loads(request.arguments)))
            messages.append({"role": "tool", "content": result})
            calls += 1
        if not answer.tool_requests:
            return calls


def replayed(cassette: Cassette, sink: Sink, budget: Budget) -> Callable[[], int]:
    """One replay of the run, checked to be served whole."""

    def once() -> int:
        executor = StateAwareExecutor(cassette, golden="bench")
        done = replay(agent(budget), TASK, executor, sink=sink, context=RunContext())
        if done.result.stop_reason is not StopReason.OK or executor.misses:
            raise SystemExit(f"not served: {done.result.stop} {done.result.stop_detail}")
        return len(done.calls)

    return once


def served_only(cassette: Cassette) -> Callable[[], int]:
    """The ten look-ups alone: canonical form, key, index, state."""
    from flightlog.runtime.calls import PendingCall

    requests = [answer.tool_requests[0] for answer in ANSWERS[:-1]]

    def once() -> int:
        executor = StateAwareExecutor(cassette, golden="bench")
        for step, request in enumerate(requests, 1):
            executor.resolve(PendingCall.of(request, TOOL, step=step, call_ix=0))
        return executor.calls

    return once


def cpu_us_per_step(
    cases: dict[str, Callable[[], int]], *, runs: int, repeat: int
) -> dict[str, float]:
    """Median CPU microseconds per step of each case, over interleaved blocks."""
    found: dict[str, list[float]] = {name: [] for name in cases}
    for turn in range(repeat + 1):
        for name, case in cases.items():
            start = time.process_time()
            calls = sum(case() for _ in range(runs))
            seconds = time.process_time() - start
            if calls != runs * TOOL_CALLS:
                raise SystemExit(f"{name}: {calls} tool calls instead of {runs * TOOL_CALLS}")
            if turn:  # the first block warms up
                found[name].append(seconds / runs / STEPS * 1e6)
    return {name: statistics.median(values) for name, values in found.items()}


def peers(folder: Path, python: str) -> dict[str, float]:
    """CPU microseconds per step of the peers whose library that interpreter has."""
    figures = {}
    for script in sorted(folder.glob("b_*.py")):
        done = subprocess.run(
            [python, script.name], cwd=folder, capture_output=True, text=True, check=False
        )
        lines = [line for line in done.stdout.splitlines() if line.startswith('{"name"')]
        if not lines:
            print(f"left out: {script.name} (its library is not installed)")
        for line in lines:
            row = json.loads(line)
            figures[row["name"]] = float(row["cpu_us_per_step"])
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--repeat", type=int, default=9)
    parser.add_argument("--peers", type=Path, help="folder of peer benchmarks")
    parser.add_argument("--peer-python", default=sys.executable)
    options = parser.parse_args()
    cassette = Cassette([recording()], Rules([TOOL]))
    large = Cassette([*others(MANY), recording()], Rules([TOOL]))
    no_deadline, default = Budget(max_seconds=None), Budget()
    with tempfile.TemporaryDirectory() as folder, Recorder(Path(folder) / "store") as recorder:
        figures = cpu_us_per_step(
            {
                "bare loop of function calls": bare_loop,
                "look-up alone": served_only(cassette),
                "replay, no deadline": replayed(cassette, NullSink(), no_deadline),
                "replay, default budget": replayed(cassette, NullSink(), default),
                "replay, default budget, recorded": replayed(cassette, recorder, default),
                f"look-up alone, {MANY:,} recorded calls": served_only(large),
                f"replay, {MANY:,} recorded calls": replayed(large, NullSink(), default),
            },
            runs=options.runs,
            repeat=options.repeat,
        )
    if options.peers:
        figures |= peers(options.peers, options.peer_python)
    base = figures["bare loop of function calls"]
    rows = [(name, f"{us:.1f}", f"{us / base:.1f} x") for name, us in figures.items()]
    print(table(rows, header=("case", "CPU us per step", "to the bare loop")))
    for name in ("replay, default budget", f"replay, {MANY:,} recorded calls"):
        word = "met" if figures[name] < GOAL_US else "NOT MET"
        print(f"goal: below {GOAL_US} us per replayed step: {word} ({name})")


if __name__ == "__main__":
    main()
