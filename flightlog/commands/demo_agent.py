"""The agent of the demo: a small support desk, scripted models, a world in memory.

Everything is deterministic: what a model says depends on the model, the task,
the trial and the step only. The tools are real functions on a small world, so
the baseline really runs; the candidates are replayed and run no tool at all.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from flightlog.runtime.agent import Agent
from flightlog.runtime.budget import Budget
from flightlog.runtime.model import ModelRequest, ModelResponse, Usage
from flightlog.runtime.policy import Policy, approve_all
from flightlog.runtime.prices import Price, PriceTable
from flightlog.runtime.task import Task
from flightlog.runtime.tools import Tool
from flightlog.trace.clock import Clock
from flightlog.trace.messages import ToolRequest
from flightlog.trace.vocab import Effect

if TYPE_CHECKING:
    from flightlog.golden.suite import Trial

SUITE: Final = "support-desk"
TASKS_PER_KIND: Final = 10
SYSTEM: Final = (
    "You are the support agent of a small shop. Look the order up before you act, follow the "
    "refund policy, and never promise what a tool has not confirmed."
)
BUDGET: Final = Budget(max_steps=12, max_seconds=60, max_tool_calls=14, max_usd=0.05)
PRICES: Final = PriceTable(
    {
        "desk-1": Price(0.40, 1.60, price_id="desk-2026"),
        "desk-1.1": Price(0.40, 1.60, price_id="desk-2026"),
        "desk-2": Price(0.55, 2.20, price_id="desk-2026"),
    },
    use_public=False,
)
KNOWLEDGE: Final = {
    "refund policy": "Refund in full within 30 days of delivery; half of it up to 60 days.",
    "shipping times": "Parcels take 2 to 5 working days; abroad up to 14.",
    "warranty": "Two years on electronics, one year on everything else.",
    "opening hours": "Monday to Friday, 9 to 17 h.",
}
QUESTIONS: Final = {
    "status": "Where is my order {order_id}?",
    "refund": "I want my money back for order {order_id}, it does not fit.",
    "damaged": "Order {order_id} arrived broken. What can you do?",
    "policy": "How long is the {topic}? I am thinking about ordering again.",
}


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How one scripted model behaves.

    Attributes:
        name: model name, with a price in PRICES.
        repeats: chance that it asks for the same read again.
        verifies: chance that it reads the order again after a refund.
        wordiness: output tokens compared to the baseline.
        slow_tail: chance that an answer takes four times as long.
    """

    name: str
    repeats: float
    verifies: float
    wordiness: float
    slow_tail: float


BASELINE: Final = Behaviour("desk-1", repeats=0.0, verifies=0.2, wordiness=1.0, slow_tail=0.01)
DRIFTED: Final = Behaviour("desk-2", repeats=0.6, verifies=1.0, wordiness=1.35, slow_tail=0.12)
STEADY: Final = Behaviour("desk-1.1", repeats=0.0, verifies=0.2, wordiness=1.0, slow_tail=0.01)


def tasks() -> tuple[Task, ...]:
    """The 40 tasks of the demo: 10 of each kind."""
    topics = sorted(KNOWLEDGE)
    made = []
    for number in range(TASKS_PER_KIND):
        for kind, question in QUESTIONS.items():
            order_id = f"A{1000 + number}"
            topic = topics[number % len(topics)]
            prompt = question.format(order_id=order_id, topic=topic)
            inputs = {"kind": kind, "order_id": order_id, "topic": topic}
            made.append(Task(f"{kind}-{number:02d}", prompt, suite=SUITE, inputs=inputs))
    return tuple(made)


def live_agent(task: Task, trial: int, clock: Clock) -> Agent:
    """The baseline agent on a fresh world; its tools take (virtual) time."""
    return _agent(BASELINE, task, trial, _World(clock).tools())


def baseline(trial: Trial) -> Agent:
    """The baseline as a replay candidate."""
    return _agent(BASELINE, trial.task, trial.number, _declared_tools())


def drifted(trial: Trial) -> Agent:
    """A candidate that calls more tools, costs more and has a slower tail."""
    return _agent(DRIFTED, trial.task, trial.number, _declared_tools())


def steady(trial: Trial) -> Agent:
    """A candidate that behaves as the baseline does."""
    return _agent(STEADY, trial.task, trial.number, _declared_tools())


def _agent(behaviour: Behaviour, task: Task, trial: int, tools: tuple[Tool, ...]) -> Agent:
    policy = Policy(
        allow=("orders.get", "kb.search", "refund.quote", "refund.issue"),
        budget=BUDGET,
        approver=approve_all,
    )
    return Agent(
        "support-desk",
        model=DemoModel(behaviour, task, trial),
        tools=tools,
        system=SYSTEM,
        policy=policy,
        prices=PRICES,
        version="1",
    )


class DemoModel:
    """A model that follows a script: which tools, how many words, how long."""

    provider = "demo"
    never_blocks = True

    def __init__(self, behaviour: Behaviour, task: Task, trial: int) -> None:
        self.name = behaviour.name
        self._behaviour = behaviour
        self._key = f"{behaviour.name}/{task.task_id}/{trial}"
        self._script = _script(behaviour, task, trial)

    def complete(self, request: ModelRequest) -> ModelResponse:
        """The next line of the script."""
        rng = random.Random(f"{self._key}/{request.step}")  # noqa: S311
        done = sum(1 for message in request.messages if message.role == "assistant")
        sent = sum(len(message.text or "") for message in request.messages)
        output = round((60 if done < len(self._script) else 140) * self._behaviour.wordiness)
        output = max(8, round(output * rng.uniform(0.9, 1.1)))
        latency = (180 + 6 * output) * rng.uniform(0.85, 1.15)
        if rng.random() < self._behaviour.slow_tail:
            latency *= 4
        requests: tuple[ToolRequest, ...] = ()
        text = None
        if done < len(self._script):
            requests = tuple(
                ToolRequest(f"call-{request.step}-{position}", name, json.dumps(args))
                for position, (name, args) in enumerate(self._script[done])
            )
        else:
            text = "Thank you for waiting. I have looked into it and everything is taken care of."
        return ModelResponse(
            text=text,
            tool_requests=requests,
            usage=Usage(input_tokens=420 + sent // 4, output_tokens=output),
            model=self.name,
            finish_reason="tool_calls" if requests else "stop",
            latency_ms=latency,
        )


_Call = tuple[str, dict[str, Any]]


def _script(behaviour: Behaviour, task: Task, trial: int) -> list[list[_Call]]:
    rng = random.Random(f"{behaviour.name}/{task.task_id}/{trial}")  # noqa: S311
    order = {"order_id": task.inputs["order_id"]}
    amount = _order(task.inputs["order_id"])["amount_usd"]
    get: _Call = ("orders.get", order)
    policy: _Call = ("kb.search", {"query": "refund policy"})
    quote: _Call = ("refund.quote", {"amount_usd": amount, "days_since_delivery": 12})
    issue: _Call = ("refund.issue", {**order, "amount_usd": amount})
    scripts: dict[str, list[list[_Call]]] = {
        "status": [[get], [("kb.search", {"query": "shipping times"})]],
        "refund": [[get, policy], [quote], [issue]],
        "damaged": [[get], [policy, ("kb.search", {"query": "warranty"})], [quote], [issue]],
        "policy": [[("kb.search", {"query": task.inputs["topic"]})]],
    }
    script: list[list[_Call]] = []
    for calls in scripts[task.inputs["kind"]]:
        script.append(calls)
        reads = [call for call in calls if call[0] in ("orders.get", "kb.search")]
        if reads and rng.random() < behaviour.repeats:
            script.append(reads)
        # Every first trial verifies, so that the recordings know the order after its refund.
        if issue in calls and (trial == 0 or rng.random() < behaviour.verifies):
            script.append([get])
    return script


def _order(order_id: str) -> dict[str, Any]:
    number = int(order_id[1:])
    return {
        "order_id": order_id,
        "amount_usd": 20 + (number * 37) % 180,
        "status": ("delivered", "shipped", "packed")[number % 3],
        "refunded_usd": 0,
    }


class _World:
    """The shop: orders that remember refunds. Tools take virtual time.

    They are async, so that calls at the same time take turns on one thread, alike in every run.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._orders: dict[str, dict[str, Any]] = {}

    def tools(self) -> tuple[Tool, ...]:
        functions: dict[str, Callable[..., Any]] = {
            "orders.get": self._get,
            "kb.search": self._search,
            "refund.quote": _quote,
            "refund.issue": self._issue,
        }
        return tuple(
            Tool.from_declaration(declaration, fn=functions[declaration["name"]])
            for declaration in _DECLARATIONS
        )

    async def _get(self, order_id: str) -> dict[str, Any]:
        self._clock.advance_ms(35)
        return self._orders.setdefault(order_id, _order(order_id))

    async def _search(self, query: str) -> str:
        self._clock.advance_ms(80)
        return KNOWLEDGE.get(query, "Nothing found.")

    async def _issue(self, order_id: str, amount_usd: float) -> dict[str, Any]:
        self._clock.advance_ms(140)
        order = self._orders.setdefault(order_id, _order(order_id))
        order["refunded_usd"] += amount_usd
        return {"order_id": order_id, "refunded_usd": order["refunded_usd"]}


def _quote(amount_usd: float, days_since_delivery: int) -> dict[str, Any]:
    share = 1.0 if days_since_delivery <= 30 else 0.5
    return {"refund_usd": round(amount_usd * share, 2)}


def _parameters(**types: str) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {name: {"type": kind} for name, kind in types.items()},
        "required": list(types),
        "additionalProperties": False,
    }


_DECLARATIONS: Final[tuple[dict[str, Any], ...]] = (
    {
        "name": "orders.get",
        "description": "Looks an order up.",
        "effect": Effect.READ,
        "scopes": ["order:{order_id}"],
        "input_schema": _parameters(order_id="string"),
    },
    {
        "name": "kb.search",
        "description": "Searches the help pages.",
        "effect": Effect.READ,
        "scopes": ["kb"],
        "input_schema": _parameters(query="string"),
    },
    {
        "name": "refund.quote",
        "description": "Computes what may be refunded.",
        "effect": Effect.PURE,
        "input_schema": _parameters(amount_usd="number", days_since_delivery="integer"),
    },
    {
        "name": "refund.issue",
        "description": "Pays a refund.",
        "effect": Effect.WRITE,
        "scopes": ["order:{order_id}"],
        "input_schema": _parameters(order_id="string", amount_usd="number"),
    },
)


def _declared_tools() -> tuple[Tool, ...]:
    functions: dict[str, Callable[..., Any]] = {"refund.quote": _quote}
    return tuple(
        Tool.from_declaration(declaration, fn=functions.get(declaration["name"]))
        for declaration in _DECLARATIONS
    )
