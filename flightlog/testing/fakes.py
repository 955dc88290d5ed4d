"""Public fakes for tests of agents: scripted models and users, fake tools, a clock, a run."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from flightlog.runtime.agent import Agent
from flightlog.runtime.budget import Budget
from flightlog.runtime.loop import RunContext, RunResult, run
from flightlog.runtime.model import ModelResponse, ScriptedModel, ScriptedUser, Usage
from flightlog.runtime.policy import Policy, approve_all
from flightlog.runtime.prices import Price, PriceTable
from flightlog.runtime.task import Task
from flightlog.runtime.tools import Tool
from flightlog.trace.clock import VirtualClock
from flightlog.trace.messages import ToolRequest
from flightlog.trace.sink import MemorySink, Sink
from flightlog.trace.vocab import Effect

__all__ = [
    "FakeClock",
    "FakeTool",
    "MemorySink",
    "ScriptedModel",
    "ScriptedUser",
    "asking",
    "make_run",
    "saying",
]

FakeCall = tuple[str, Mapping[str, Any], Any]


class FakeClock(VirtualClock):
    """A clock that moves only when a test moves it."""


class FakeTool(Tool):
    """A tool that answers from a list and keeps the arguments that it got.

    Args:
        name: as `Tool.name`.
        answers: results in order, the last one for ever; an exception is
            raised instead. One string is one result. Or a function of the arguments.
        clock: is moved by `latency_ms` at each call.
        latency_ms: virtual duration of a call.
        declared: more fields of `Tool`.
    """

    calls: list[dict[str, Any]]

    def __init__(
        self,
        name: str,
        answers: Sequence[Any] | Callable[..., Any] = ("ok",),
        *,
        effect: Effect = Effect.READ,
        clock: VirtualClock | None = None,
        latency_ms: float = 0.0,
        **declared: Any,
    ) -> None:
        if isinstance(answers, str):
            answers = (answers,)
        calls: list[dict[str, Any]] = []
        lock = threading.Lock()

        def answer(**arguments: Any) -> Any:
            with lock:
                calls.append(arguments)
                place = len(calls) - 1
            if clock is not None:
                clock.advance_ms(latency_ms)
            if callable(answers):
                return answers(**arguments)
            result = answers[min(place, len(answers) - 1)]
            if isinstance(result, Exception):
                raise result
            return result

        super().__init__(name=name, fn=answer, effect=effect, **declared)
        object.__setattr__(self, "calls", calls)


def asking(*calls: tuple[str, Mapping[str, Any] | str], **fields: Any) -> ModelResponse:
    """A model response that asks for tool calls.

    Args:
        calls: name and arguments of each; text is passed on as it is.
        fields: more fields of `ModelResponse`.
    """
    requests = tuple(
        ToolRequest(f"call_{place}", name, args if isinstance(args, str) else json.dumps(args))
        for place, (name, args) in enumerate(calls)
    )
    return ModelResponse(tool_requests=requests, **fields)


def saying(text: str, **fields: Any) -> ModelResponse:
    """A model response that answers in words; `fields` are more fields of `ModelResponse`."""
    return ModelResponse(text, **fields)


def make_run(
    sink: Sink,
    *,
    task: Task | None = None,
    calls: Sequence[FakeCall] = (("search", {"query": "refund"}, "found"),),
    answer: str = "done",
    passed: bool | None = True,
    model: str = "scripted",
    context: RunContext | None = None,
) -> RunResult:
    """Writes one small, complete and priced run, the same each time but for its run id.

    Each call is a step of its own on a virtual clock: the model takes 100 ms and
    100 + 10 tokens, the tool 50 ms.

    Args:
        sink: where the events go.
        task: None is a task named `task`.
        calls: name, arguments and result of each tool call; an exception fails the call.
        answer: final answer.
        passed: the judgement `success`; None writes none.
        model: name of the model.
        context: what the run belongs to.
    """
    clock = FakeClock()
    names = list(dict.fromkeys(name for name, _, _ in calls))
    results = {name: [result for called, _, result in calls if called == name] for name in names}
    tools = [FakeTool(name, results[name], clock=clock, latency_ms=50.0) for name in names]
    told: dict[str, Any] = {"usage": Usage(100, 10), "latency_ms": 100.0}
    script = [asking((name, arguments), **told) for name, arguments, _ in calls]
    agent = Agent(
        "agent",
        ScriptedModel(model, [*script, ModelResponse(answer, **told)]),
        tools,
        system="You are a test.",
        policy=Policy(tuple(names), Budget(max_tool_calls=None), approver=approve_all),
        prices=PriceTable({model: Price(1.0, 10.0, price_id="test")}),
    )
    task = task or Task("task", "Do the task.")
    result = run(agent, task, sink=sink, clock=clock, context=context)
    if passed is not None:
        result.writer.evaluation(name="success", passed=passed)
    return result
