"""What the bounded runtime costs per tool call, against calling the function directly.

    python benchmarks/runtime_overhead.py [--calls 400] [--repeat 15]

Median microseconds per tool call over interleaved rounds. A run has twenty steps of
one tool call each, so that the step's scripted model call, what the guards look at
and a twentieth of making the run are part of the figure. Guardrails come one by one
on top of the bare runtime: no budget but steps, no schema, no deadline, no sink.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks._timing import rounds, table
from flightlog.control.breaker_policy import BreakerPolicy
from flightlog.control.control import Control
from flightlog.control.window_budget import WindowBudget
from flightlog.recorder.recorder import Recorder
from flightlog.runtime.agent import Agent
from flightlog.runtime.budget import Budget, ToolBudget
from flightlog.runtime.credentials import Credentials
from flightlog.runtime.loop import RunContext, run, run_async
from flightlog.runtime.model import ModelResponse
from flightlog.runtime.policy import Policy, approve_all
from flightlog.runtime.retry import RetryPolicy
from flightlog.runtime.task import Task
from flightlog.runtime.tool_context import ToolContext
from flightlog.runtime.tools import Tool
from flightlog.testing import ScriptedModel, asking
from flightlog.trace.sink import Sink
from flightlog.trace.vocab import Effect

ARGUMENTS = {"order_id": "A-17", "limit": 5}
TASK = Task("bench", "go")
STEPS = 20
INPUT = {
    "type": "object",
    "properties": {"order_id": {"type": "string"}, "limit": {"type": "integer", "default": 10}},
    "required": ["order_id"],
    "additionalProperties": False,
}
OUTPUT = {
    "type": "object",
    "properties": {"id": {"type": "string"}, "items": {"type": "array"}},
    "required": ["id", "items"],
}
HELD = Credentials({"*": {"get_order": {"api_key": "a value that nobody sees"}}})
NO_LIMIT = Budget(max_steps=None, max_seconds=None, max_tool_calls=None)
DEADLINE = Budget(max_steps=None, max_seconds=90, max_tool_calls=None)
ALL_LIMITS = Budget(max_steps=100, max_seconds=90, max_tool_calls=100)
WINDOW = WindowBudget(window_s=60, max_tool_calls=10**9)


def get_order(order_id: str, limit: int = 10) -> dict[str, object]:
    return {"id": order_id, "items": list(range(limit))}


def with_key(order_id: str, limit: int = 10, *, idempotency_key: str) -> dict[str, object]:
    return get_order(order_id, limit)


def with_credentials(context: ToolContext, order_id: str, limit: int = 10) -> dict[str, object]:
    assert context.credentials["api_key"]
    return get_order(order_id, limit)


async def get_order_async(order_id: str, limit: int = 10) -> dict[str, object]:
    return get_order(order_id, limit)


def direct(calls: int) -> None:
    """What a loop without a runtime does: parse, call, serialise."""
    text = json.dumps(ARGUMENTS)
    for _ in range(calls):
        json.dumps(get_order(**json.loads(text)))


@dataclass(frozen=True)
class Case:
    """One way to run the tool.

    Attributes:
        tool: fields of the tool.
        policy: fields of the policy.
        held: credentials of the agent.
        per_step: tool calls of one step.
    """

    fn: Callable[..., Any] = get_order
    tool: dict[str, Any] = field(default_factory=dict)
    policy: dict[str, Any] = field(default_factory=dict)
    held: Credentials | None = None
    sink: Sink | None = None
    control: Control | None = None
    per_step: int = 1
    is_async: bool = False

    def agent(self) -> Agent:
        one = Tool("get_order", self.fn, **{"effect": Effect.READ, **self.tool})
        fields = {"budget": NO_LIMIT, "approver": approve_all, **self.policy}
        steps = STEPS // self.per_step
        script = [asking(*[(one.name, ARGUMENTS)] * self.per_step)] * steps
        model = ScriptedModel("m", [*script, ModelResponse("x")])
        policy = Policy((one.name,), **fields)
        return Agent("bench", model, [one], policy=policy, credentials=self.held)

    def play(self, calls: int) -> None:
        context = RunContext(tenant="acme")
        more: dict[str, Any] = {"sink": self.sink, "control": self.control, "context": context}

        async def all_async() -> None:
            for _ in range(calls // STEPS):
                result = await run_async(self.agent(), TASK, **more)
                assert not result.partial, result.stop_detail

        if self.is_async:
            asyncio.run(all_async())
            return
        for _ in range(calls // STEPS):
            result = run(self.agent(), TASK, **more)
            assert not result.partial, result.stop_detail


def cases_of(folder: Path) -> dict[str, Case]:
    control = Control.at(folder / "shared")
    recorder = Recorder(folder / "store", seal_on_close=False)
    key: dict[str, Any] = {"effect": Effect.WRITE}
    retries = {"get_*": RetryPolicy()}
    breakers = {"get_*": BreakerPolicy()}
    windows = {"*": WINDOW}
    limits = {"get_*": ToolBudget(max_calls=10**6)}
    everything: dict[str, Any] = {
        "policy": {
            "budget": ALL_LIMITS,
            "retries": retries,
            "breakers": breakers,
            "tenant_budgets": windows,
            "tool_budgets": limits,
        },
        "sink": recorder,
        "held": HELD,
    }
    schemas = {"input_schema": INPUT, "output_schema": OUTPUT}
    credentials = {"credentials": ("api_key",)}
    return {
        "bare": Case(),
        "+ input schema": Case(tool={"input_schema": INPUT}),
        "+ output schema": Case(tool={"output_schema": OUTPUT}),
        "+ limit of the tool": Case(policy={"tool_budgets": limits}),
        "+ retries, none needed": Case(policy={"retries": retries}),
        "+ credentials": Case(with_credentials, credentials, held=HELD),
        "+ kill switch of a store": Case(control=control),
        "+ deadline": Case(policy={"budget": DEADLINE}),
        "+ breaker of a store": Case(policy={"breakers": breakers}, control=control),
        "+ tenant's window of a store": Case(policy={"tenant_budgets": windows}, control=control),
        "+ recorded": Case(sink=recorder),
        "a write with its key": Case(with_key, key),
        "a write with its key, recorded": Case(with_key, key, sink=recorder),
        "everything, a read": Case(with_credentials, schemas | credentials, **everything),
        "deadline, 10 reads per step": Case(policy={"budget": DEADLINE}, per_step=10),
        "run_async(), async tool": Case(get_order_async, is_async=True),
        "run_async(), deadline, async tool": Case(
            get_order_async, policy={"budget": DEADLINE}, is_async=True
        ),
        "run_async(), sync tool": Case(is_async=True),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=400, help="per round")
    parser.add_argument("--repeat", type=int, default=15, help="rounds")
    options = parser.parse_args()
    calls = max(1, options.calls // STEPS) * STEPS
    with tempfile.TemporaryDirectory() as name:
        played: dict[str, Callable[[], None]] = {"direct call": lambda: direct(calls)}
        for label, case in cases_of(Path(name)).items():
            played[label] = lambda case=case: case.play(calls)  # type: ignore[misc]
        seconds = rounds(played, repeat=options.repeat)
    each = {label: taken / calls * 1e6 for label, taken in seconds.items()}
    lines: list[tuple[str, ...]] = [
        (
            label,
            f"{us:.1f}",
            f"{us - each['bare']:+.1f}" if label not in ("direct call", "bare") else "",
            f"{us / each['direct call']:.0f}",
        )
        for label, us in each.items()
    ]
    print(f"median of {options.repeat} rounds of {calls} tool calls\n")
    print(table(lines, header=("case", "us", "to bare", "ratio")))


if __name__ == "__main__":
    main()
