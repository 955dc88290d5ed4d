"""An agent whose writes are counted outside: run in children that are killed.

Every effect of a tool is one line in a file that the tool itself appends to, so that it is
known whatever the recorder knows. Two tools write: `pay` is called once whatever happens,
`charge` takes the idempotency key and is tried again.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from flightlog.errors import ToolError
from flightlog.recorder.recorder import Recorder
from flightlog.runtime.agent import Agent
from flightlog.runtime.budget import Budget
from flightlog.runtime.loop import RunContext, run, run_async
from flightlog.runtime.model import ModelRequest, ModelResponse, ScriptedModel
from flightlog.runtime.policy import Policy, approve_all
from flightlog.runtime.retry import RetryPolicy
from flightlog.runtime.task import Task
from flightlog.runtime.tool_context import ToolContext
from flightlog.runtime.tools import Tool
from flightlog.testing import asking, saying
from flightlog.trace.vocab import Effect

STEPS: Final = 4
UNLIMITED: Final = Budget(max_steps=None, max_seconds=None, max_tool_calls=None)


@dataclass(frozen=True)
class Done:
    """One effect, as its tool wrote it down."""

    run_id: str
    tool: str
    number: int
    attempt: int
    key: str


def effects(path: Path) -> list[Done]:
    """All effects so far; every line is whole, since each was one small write."""
    lines = path.read_text(encoding="ascii").splitlines() if path.exists() else []
    return [Done(**json.loads(line)) for line in lines]


class World:
    """What the tools act on, and where a child is killed.

    Args:
        effects: the file of the effects.
        pipe: gets a byte whenever the child is somewhere.
        seed: of everything that is random.
        dies_at: the n-th place at which the child kills itself; None leaves that to others.
    """

    def __init__(self, effects: Path, pipe: int, seed: int, dies_at: int | None) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        self._effects = os.open(effects, flags, 0o600)
        self._pipe = pipe
        self._dies_at = dies_at
        self._places = 0
        self.random = random.Random(seed)

    def at_a_place(self) -> None:
        """The child has come this far, and perhaps comes no further."""
        self._places += 1
        if self._places == self._dies_at:
            os.kill(os.getpid(), signal.SIGKILL)
        os.write(self._pipe, b".")

    def write(self, context: ToolContext, number: int, key: str) -> str:
        """The write itself, which now and then fails: before it took effect, or after."""
        how = self.random.random()
        self.at_a_place()
        if how < 0.1:
            raise ToolError("not now")
        effect = Done(context.run_id, context.tool, number, context.attempt, key)
        os.write(self._effects, json.dumps(effect.__dict__).encode("ascii") + b"\n")
        self.at_a_place()
        if how < 0.2:
            raise ToolError("the answer was lost")
        return f"done {number}"


def agent(world: World, *, is_async: bool) -> Agent:
    """Two or three writes in each of its steps, at the same time."""

    def pay(number: int, context: ToolContext) -> str:
        return world.write(context, number, context.idempotency_key or "")

    def charge(number: int, context: ToolContext, idempotency_key: str) -> str:
        return world.write(context, number, idempotency_key)

    async def pay_async(number: int, context: ToolContext) -> str:
        await asyncio.sleep(0)
        return pay(number, context)

    def answer(request: ModelRequest) -> ModelResponse:
        world.at_a_place()
        if request.step > STEPS:
            return saying("done")
        calls = [("pay", 1), ("charge", 2), ("pay", 3)][: world.random.choice([2, 3])]
        return asking(*((name, {"number": 10 * request.step + one}) for name, one in calls))

    tools = [
        Tool("pay", pay_async if is_async else pay, effect=Effect.WRITE),
        Tool("charge", charge, effect=Effect.WRITE),
    ]
    policy = Policy(
        ("pay", "charge"),
        UNLIMITED,
        approver=approve_all,
        stop_on=(),
        retries={"charge": RetryPolicy(max_attempts=3, initial_s=0.001, max_s=0.002)},
    )
    return Agent("writer", ScriptedModel("m", answer), tools, policy=policy)


def write_until_killed(store: Path, world: World, seed: int) -> None:
    """Runs of four steps, one after the other, for ever."""
    recorder = Recorder(store, sync_interval_s=0.01)
    is_async = seed % 2 == 1
    one = agent(world, is_async=is_async)
    number = 0
    while True:
        number += 1
        world.at_a_place()
        told: dict[str, Any] = {
            "sink": recorder,
            "context": RunContext(run_id=f"run-{seed}-{number}", tenant=f"t{seed % 3}"),
        }
        if is_async:
            asyncio.run(run_async(one, Task("t", "Pay."), **told))
        else:
            run(one, Task("t", "Pay."), **told)
