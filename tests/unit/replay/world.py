"""A small world whose truth is known, recordings of it, and executors over them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from flightlog.replay.cassette import Cassette, Recording
from flightlog.replay.matching import Rules
from flightlog.replay.serve import StateAwareExecutor
from flightlog.runtime.calls import PendingCall, Served
from flightlog.runtime.tools import Tool
from flightlog.trace.canonical import canonical_args, canonical_json
from flightlog.trace.messages import ToolRequest
from flightlog.trace.run_writer import RunWriter
from flightlog.trace.sink import MemorySink
from flightlog.trace.vocab import Effect, Outcome

Call = tuple[str, dict[str, Any]]

TOOLS = (
    Tool("get", effect=Effect.READ, scopes=("item:{key}",)),
    Tool("put", effect=Effect.WRITE, scopes=("item:{key}",)),
    Tool("slow_put", effect=Effect.WRITE, scopes=("item:{key}",)),
    Tool("rename", effect=Effect.WRITE, scopes=("item:{key}", "item:{new}")),
    Tool("list_items", effect=Effect.READ, scopes=("item:*",)),
    Tool("clear", effect=Effect.WRITE, scopes=("item:*",)),
    Tool("create", effect=Effect.WRITE, scopes=("item:{result.id}", "ids")),
    Tool("push", effect=Effect.WRITE, scopes=("queue",)),
    Tool("pop", effect=Effect.READ, scopes=("queue",), is_consuming=True),
    Tool("queue_size", effect=Effect.READ, scopes=("queue",)),
    Tool("audit", effect=Effect.READ),
    Tool("add", effect=Effect.PURE),
    Tool("get_many", effect=Effect.READ, scopes=("item:{keys}",)),
)
"""`shake` is left out on purpose: nobody declared it."""


@dataclass
class World:
    """Items, a queue and a counter; `slow_put` times out and may land all the same."""

    lands: bool = True
    items: dict[str, Any] = field(default_factory=lambda: {"a": 1, "b": 2})
    queue: list[Any] = field(default_factory=lambda: [10, 20, 30])
    made: int = 0

    def call(self, name: str, args: dict[str, Any]) -> Served:
        """What the world really answers."""
        try:
            value = getattr(self, f"_{name}")(**args)
        except KeyError as error:
            return Served(Outcome.FAILED, error=f"no item {error}")
        except TimeoutError:
            return Served(Outcome.TIMED_OUT, error="timed out")
        return Served(Outcome.OK, result=canonical_json(value))

    def _get(self, key: str) -> Any:
        return self.items[key]

    def _get_many(self, keys: list[str]) -> Any:
        return [self.items.get(key) for key in keys]

    def _put(self, key: str, value: Any) -> Any:
        before = self.items.get(key)
        self.items[key] = value
        return before

    def _slow_put(self, key: str, value: Any) -> Any:
        if self.lands:
            self.items[key] = value
        raise TimeoutError

    def _rename(self, key: str, new: str) -> Any:
        if new in self.items:
            raise KeyError(new)
        self.items[new] = self.items.pop(key)
        return "renamed"

    def _list_items(self) -> Any:
        return [[key, value] for key, value in self.items.items()]

    def _clear(self) -> Any:
        count = len(self.items)
        self.items.clear()
        return count

    def _create(self, value: Any) -> Any:
        self.made += 1
        self.items[f"n{self.made}"] = value
        return {"id": f"n{self.made}"}

    def _push(self, value: Any) -> Any:
        self.queue.append(value)
        return len(self.queue)

    def _pop(self) -> Any:
        return self.queue.pop(0) if self.queue else None

    def _queue_size(self) -> Any:
        return len(self.queue)

    def _audit(self) -> Any:
        return [sorted(self.items.items()), self.queue, self.made]

    def _add(self, one: int, other: int) -> Any:
        return one + other

    def _shake(self) -> Any:
        self.items = {key: [value] for key, value in self.items.items()}
        self.queue.reverse()
        return self._audit()


def record(
    calls: Sequence[Call], *, world: World | None = None, run_id: str = "rec", **fields: Any
) -> Recording:
    """A run that makes these calls, one per step, on a world of its own."""
    world = world or World()
    sink = MemorySink()
    writer = RunWriter(sink, run_id)
    writer.started(task_id="t")
    for step, (name, args) in enumerate(calls, 1):
        served = world.call(name, args)
        write_call(writer, name, args, served, step=step, **fields)
    writer.stopped(stop_reason="ok")
    return Recording(tuple(sink.events), sink.messages)


def write_call(
    writer: RunWriter, name: str, args: dict[str, Any], served: Served, **fields: Any
) -> None:
    """One recorded tool call."""
    canonical = canonical_args(args)
    writer.tool_call(
        tool_name=name,
        args=canonical.text,
        args_digest=canonical.digest,
        outcome=served.outcome,
        result=served.result,
        error=served.error,
        error_type=served.error_type,
        latency_ms=served.latency_ms,
        **{"call_ix": 0, **fields},
    )


def executor_over(*recordings: Recording, tools: Sequence[Tool] = TOOLS) -> StateAwareExecutor:
    """A fresh executor over recordings."""
    return StateAwareExecutor(Cassette(recordings, Rules(tools)), golden="g", accept_hint="Pin it.")


def pending(name: str, args: Any, *, step: int = 1, tools: Sequence[Tool] = TOOLS) -> PendingCall:
    """A call of the candidate that passed the gateway."""
    text = args if isinstance(args, str) else json.dumps(args)
    tool = next((tool for tool in tools if tool.name == name), None)
    return PendingCall.of(ToolRequest(f"id-{step}", name, text), tool, step=step, call_ix=0)


def walk(executor: StateAwareExecutor, calls: Sequence[Call], *, world: World) -> tuple[int, int]:
    """Makes the calls until the first miss and compares each answer with the truth.

    Returns:
        Calls served, and how many of them the world would have answered otherwise.
    """
    served = wrong = 0
    for step, (name, args) in enumerate(calls, 1):
        answer = executor.resolve(pending(name, args, step=step))
        if answer.outcome is Outcome.REPLAY_MISS:
            break
        truth = world.call(name, args)
        served += 1
        wrong += (answer.outcome, answer.result, answer.error) != (
            truth.outcome,
            truth.result,
            truth.error,
        )
    return served, wrong
