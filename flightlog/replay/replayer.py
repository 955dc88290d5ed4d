"""One candidate run against a cassette, on a virtual clock."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypedDict

from flightlog.control.control import Control
from flightlog.replay.approving import without_people
from flightlog.replay.cassette import Recording
from flightlog.replay.divergence import Divergence, first_divergence
from flightlog.replay.guard import Endpoint, endpoints_of, no_network, programs_of
from flightlog.replay.serve import StateAwareExecutor
from flightlog.runtime.agent import Agent
from flightlog.runtime.cancel import CancelToken
from flightlog.runtime.loop import RunContext, RunResult, run, run_async
from flightlog.runtime.task import Task
from flightlog.runtime.tools import is_async
from flightlog.trace.clock import Clock, VirtualClock
from flightlog.trace.events import Event, ToolCall
from flightlog.trace.messages import Message
from flightlog.trace.sink import Sink

if TYPE_CHECKING:
    from flightlog.redact.redactor import Redactor


@dataclass(frozen=True, slots=True)
class Replayed:
    """What came of one replay.

    Attributes:
        result: how the run ended.
        run: its events and messages, as they went to the sink.
        executor: what was served, and how.
        divergence: where it left its nearest recording; None when it did not.
        refused: what was tried beside the recordings and refused by the guard of the network,
            such as `connect api.example:443`.
    """

    result: RunResult
    run: Recording
    executor: StateAwareExecutor
    divergence: Divergence | None
    refused: tuple[str, ...] = ()

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        """Its tool calls, as recorded."""
        return self.run.tool_calls


class _Remembering:
    """A sink that passes everything on and remembers it."""

    def __init__(self, sink: Sink, redactor: Redactor | None) -> None:
        self.redactor = redactor
        self.events: list[Event] = []
        self.messages: dict[str, Message] = {}
        self._sink = sink

    def emit(
        self, event: Event, *, messages: Sequence[Message] = (), durable: bool = False
    ) -> bool:
        self.events.append(event)
        self.messages.update({one.digest: one for one in messages})
        return self._sink.emit(event, messages=messages, durable=durable)


@dataclass(frozen=True, slots=True)
class Around:
    """What a replay may reach, and who may end it.

    Attributes:
        endpoints: hosts that may be reached besides those of the models.
        cancel: ends the run from outside.
        control: kill switch, breakers and windows; None takes fresh ones, since what
            production shares has no say in a replay.
    """

    endpoints: Sequence[Endpoint] = ()
    cancel: CancelToken | None = None
    control: Control | None = None


_ALONE: Final = Around()


def replay(
    agent: Agent,
    task: Task,
    executor: StateAwareExecutor,
    *,
    sink: Sink,
    context: RunContext,
    clock: Clock | None = None,
    around: Around = _ALONE,
) -> Replayed:
    """Runs an agent whose tools answer from recordings; nothing runs live, nothing waits.

    The network is shut meanwhile, in the whole process, but for the endpoints that the
    models of the agent and of its user name in an attribute `endpoints`, and those given.

    Args:
        agent: the candidate; an async one runs in an event loop of its own.
        task: the golden task.
        executor: a fresh one; it keeps the state of this run.
        sink: where the events go.
        context: variant, trial and session of the run.
        clock: None is a virtual clock, moved by recorded durations.
        around: what may be reached, and who may end it.
    """
    agent = without_people(agent, executor.cassette)
    made = _Remembering(sink, executor.cassette.rules.redactor)
    allowed = (*around.endpoints, *endpoints_of(agent.model), *endpoints_of(agent.user))
    how: _How = {
        "sink": made,
        "clock": clock or VirtualClock(),
        "executor": executor,
        "context": context,
        "control": around.control or Control.in_process(),
        "cancel": around.cancel,
    }
    programs = (*programs_of(agent.model), *programs_of(agent.user))
    with no_network(allowed, programs) as guard:
        result = _run(agent, task, how)
    candidate = Recording(tuple(made.events), made.messages)
    divergence = first_divergence(executor.cassette, candidate)
    return Replayed(result, candidate, executor, divergence, tuple(guard.refused))


class _How(TypedDict):
    sink: Sink
    clock: Clock
    executor: StateAwareExecutor
    context: RunContext
    control: Control
    cancel: CancelToken | None


def _run(agent: Agent, task: Task, how: _How) -> RunResult:
    asked = (agent.model.complete, agent.loop, agent.user and agent.user.reply)
    if any(fn and is_async(fn) for fn in asked):
        # A thread of its own, since the caller (a notebook) may be inside an event loop.
        with ThreadPoolExecutor(max_workers=1) as pool:
            return pool.submit(lambda: asyncio.run(run_async(agent, task, **how))).result()
    return run(agent, task, **how)
