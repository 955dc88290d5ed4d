"""What the bounded runtime costs per tool call, against calling the function directly.

    python benchmarks/runtime_overhead.py [--calls 2000]

Each figure is the best of five runs, in microseconds per tool call; the step's
scripted model call is part of it where a step holds one call.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Callable

from flightlog.runtime.agent import Agent
from flightlog.runtime.budget import Budget
from flightlog.runtime.loop import run, run_async
from flightlog.runtime.model import ModelResponse
from flightlog.runtime.policy import Policy, approve_all
from flightlog.runtime.task import Task
from flightlog.runtime.tools import Tool, tool
from flightlog.testing import ScriptedModel, asking
from flightlog.trace.vocab import Effect

ARGUMENTS = {"order_id": "A-17", "limit": 5}
TASK = Task("bench", "go")
ROUNDS = 5


def get_order(order_id: str, limit: int = 10) -> dict[str, object]:
    return {"id": order_id, "items": list(range(limit))}


async def get_order_async(order_id: str, limit: int = 10) -> dict[str, object]:
    return get_order(order_id, limit)


def direct(calls: int) -> None:
    """What a loop without a runtime does: parse, call, serialise."""
    text = json.dumps(ARGUMENTS)
    for _ in range(calls):
        json.dumps(get_order(**json.loads(text)))


def agent(calls: int, per_step: int, one: Tool, max_seconds: float | None) -> Agent:
    steps = calls // per_step
    script = [asking(*[(one.name, ARGUMENTS)] * per_step)] * steps
    budget = Budget(max_steps=None, max_seconds=max_seconds, max_tool_calls=None)
    policy = Policy((one.name,), budget, approver=approve_all)
    return Agent("bench", ScriptedModel("m", [*script, ModelResponse("x")]), [one], policy=policy)


def best_us(measured: Callable[[], object], calls: int) -> float:
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        measured()
        times.append(time.perf_counter() - started)
    return min(times) / calls * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=2000)
    calls = parser.parse_args().calls
    read = tool(effect=Effect.READ)(get_order)
    write = tool(effect=Effect.WRITE)(get_order)
    fetch = tool(effect=Effect.READ, name="get_order")(get_order_async)
    # Prompts grow with the steps, as for any agent; short runs keep that out of the figure.
    size, runs = 20, calls // 20

    def many(one: Tool, per_step: int, max_seconds: float | None) -> None:
        for _ in range(runs):
            run(agent(size, per_step, one, max_seconds), TASK)

    def many_async(one: Tool, per_step: int) -> None:
        async def all_runs() -> None:
            for _ in range(runs):
                await run_async(agent(size, per_step, one, 90), TASK)

        asyncio.run(all_runs())

    figures = {
        "direct call": lambda: direct(calls),
        "run(), one read per step, no deadline": lambda: many(read, 1, None),
        "run(), one read per step": lambda: many(read, 1, 90),
        "run(), one write per step": lambda: many(write, 1, 90),
        "run(), 10 parallel reads per step": lambda: many(read, 10, 90),
        "run_async(), one async read per step": lambda: many_async(fetch, 1),
        "run_async(), one sync read per step": lambda: many_async(read, 1),
    }
    for name, measured in figures.items():
        print(f"{best_us(measured, calls):8.1f} us  {name}")


if __name__ == "__main__":
    main()
