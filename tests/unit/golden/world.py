"""A small shop whose agent is recorded, pinned and replayed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flightlog.golden.suite import Trial
from flightlog.recorder.recorder import Recorder
from flightlog.runtime.agent import Agent
from flightlog.runtime.budget import Budget
from flightlog.runtime.loop import RunContext, run
from flightlog.runtime.model import ModelResponse, ScriptedModel
from flightlog.runtime.policy import Policy, approve_all
from flightlog.runtime.task import Task
from flightlog.runtime.tools import Tool
from flightlog.trace.clock import VirtualClock
from flightlog.trace.messages import ToolRequest
from flightlog.trace.vocab import Effect

Call = tuple[str, dict[str, Any]]
GET: Call = ("get_order", {"order_id": "A1"})
REFUND: Call = ("refund", {"order_id": "A1", "amount": 5})
TASK = Task("refund-17", "Refund order A1.", suite="shop", inputs={"order_id": "A1"})


def shop_tools(*, is_declared: bool = True) -> tuple[Tool, ...]:
    """`get_order` and `refund` on a fresh world."""
    refunds: dict[str, float] = {}

    def get_order(order_id: str) -> dict[str, Any]:
        return {"order_id": order_id, "refunded": refunds.get(order_id, 0)}

    def refund(order_id: str, amount: float) -> dict[str, Any]:
        refunds[order_id] = refunds.get(order_id, 0) + amount
        return {"refunded": refunds[order_id]}

    if not is_declared:
        return (Tool("get_order", fn=get_order), Tool("refund", fn=refund))
    scopes = ("order:{order_id}",)
    return (
        Tool("get_order", fn=get_order, effect=Effect.READ, scopes=scopes),
        Tool("refund", fn=refund, effect=Effect.WRITE, scopes=scopes),
    )


def shop_agent(
    steps: Sequence[Sequence[Call]],
    *,
    tools: Sequence[Tool] | None = None,
    answer: str = "Done: 5 USD are on their way.",
    budget: Budget = Budget(),  # noqa: B008  (frozen)
) -> Agent:
    """An agent that asks for these calls, step by step, and then answers."""
    answers = [
        ModelResponse(
            tool_requests=tuple(
                ToolRequest(f"c{step}-{ix}", name, json.dumps(args))
                for ix, (name, args) in enumerate(calls)
            )
        )
        for step, calls in enumerate(steps)
    ]
    tools = shop_tools() if tools is None else tools
    return Agent(
        "shop",
        ScriptedModel("m", [*answers, ModelResponse(text=answer)]),
        tools=tools,
        system="Be kind.",
        policy=Policy(
            allow=tuple(tool.name for tool in tools), approver=approve_all, budget=budget
        ),
    )


def record_run(
    store: Path,
    *steps: Sequence[Call],
    task: Task = TASK,
    run_id: str = "run-1",
    passed: bool | None = True,
    **agent: Any,
) -> str:
    """Records one live run of the shop's agent; gives its id."""
    with Recorder(store) as recorder:
        done = run(
            shop_agent(steps, **agent),
            task,
            sink=recorder,
            clock=VirtualClock(),
            context=RunContext(run_id=run_id),
        )
        done.writer.evaluation(passed=passed)
    return run_id


def candidate(*steps: Sequence[Call], **agent: Any) -> Any:
    """A factory whose agent asks for these calls; its tools have no functions."""

    def make(trial: Trial) -> Agent:
        return shop_agent(steps, tools=trial.tools, **agent)

    return make
