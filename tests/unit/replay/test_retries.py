"""Tries and repeats in a replay: what was recorded under a policy replays under the same one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flightlog.errors import ToolError
from flightlog.replay.cassette import Cassette, Recording, writes_of
from flightlog.replay.matching import Rules
from flightlog.replay.replayer import replay
from flightlog.replay.serve import StateAwareExecutor
from flightlog.runtime.agent import Agent
from flightlog.runtime.budget import Budget
from flightlog.runtime.loop import run
from flightlog.runtime.model import ModelResponse, ScriptedModel
from flightlog.runtime.policy import Policy, approve_all
from flightlog.runtime.result import RunContext
from flightlog.runtime.retry import RetryPolicy
from flightlog.runtime.task import Task
from flightlog.runtime.tools import Tool
from flightlog.testing import FakeClock, FakeTool, asking
from flightlog.trace.events import ToolCall
from flightlog.trace.sink import MemorySink
from flightlog.trace.vocab import Effect, Outcome

READ, WRITE = Effect.READ, Effect.WRITE
TASK = Task("t", "go")
DOWN = ValueError("down")
GONE = ToolError("no such page", retryable=False)
BUSY = ToolError("busy", retry_after_s=3600)


class Pipeline:
    """A run on real functions, its recording, and replays of it."""

    def __init__(self, *tools, steps, **policy):
        given = {"retries": {"*": RetryPolicy(max_attempts=3, initial_s=1)}, **policy}
        self.policy = Policy(("*",), Budget(max_seconds=None), approver=approve_all, **given)
        self.script = [*(asking(*calls) for calls in steps), ModelResponse("end")]
        self.tools = tools
        self.result, self.rows = self._run(tools)

    def _run(self, tools):
        sink = MemorySink()
        agent = Agent("a", ScriptedModel("m", self.script), tools, policy=self.policy)
        result = run(agent, TASK, sink=sink, clock=FakeClock(), context=RunContext(run_id="rec"))
        self.recording = Recording(tuple(sink.events), sink.messages)
        self.cassette = Cassette([self.recording], Rules(tools))
        return result, table(self.recording.tool_calls)

    def replayed(self, **policy):
        """The same agent, its tools answered from the recording."""
        tools = [Tool(**{name: getattr(tool, name) for name in DECLARED}) for tool in self.tools]
        agent = Agent(
            "a",
            ScriptedModel("m", self.script),
            tools,
            policy=replace(self.policy, **policy),
        )
        executor = StateAwareExecutor(self.cassette, golden="g")
        return replay(agent, TASK, executor, sink=MemorySink(), context=RunContext())


DECLARED = (
    "name",
    "effect",
    "scopes",
    "is_idempotent",
    "reuse_result",
    "dedupe_writes",
    "timeout_s",
    "cost_usd",
)


def table(calls: tuple[ToolCall, ...]):
    return sorted((c.step, c.call_ix, c.attempt, c.outcome.value, c.result) for c in calls)


def tool(name, *answers, **more):
    return FakeTool(name, answers, scopes=(f"{name}s",), **more)


LOOK, PAY = ("look", {"n": 1}), ("pay", {"n": 1})

CASES = {
    "a read that failed and then worked": (lambda: [tool("look", DOWN, "page")], [[LOOK]]),
    "a read that failed to the last try": (lambda: [tool("look", DOWN)], [[LOOK]]),
    "a read that another try cannot help": (lambda: [tool("look", GONE)], [[LOOK]]),
    "a read whose wait is too long": (lambda: [tool("look", BUSY, "page")], [[LOOK]]),
    "a read that failed at one step and worked at the next": (
        lambda: [tool("look", GONE, "page")],
        [[LOOK], [("look", {"n": 2})]],
    ),
    "a read beside a write whose second try is the last": (
        lambda: [tool("look", "page"), tool("pay", DOWN, GONE, effect=WRITE, is_idempotent=True)],
        [[LOOK, PAY], [LOOK]],
    ),
    "a write that failed and then worked": (
        lambda: [tool("pay", DOWN, "paid", effect=WRITE, is_idempotent=True)],
        [[PAY]],
    ),
    "a write that another try cannot help": (
        lambda: [tool("pay", GONE, "paid", effect=WRITE, is_idempotent=True)],
        [[PAY]],
    ),
    "equal reads beside each other that failed and then worked": (
        lambda: [tool("look", DOWN, DOWN, "page")],
        [[LOOK, LOOK]],
    ),
    "a write tried again beside a read": (
        lambda: [
            tool("look", DOWN, "page"),
            tool("pay", DOWN, "paid", effect=WRITE, is_idempotent=True),
        ],
        [[LOOK, PAY]],
    ),
    "a write asked for twice": (lambda: [tool("pay", "paid", effect=WRITE)], [[PAY, PAY]]),
    "a failed write asked for twice": (lambda: [tool("pay", GONE, effect=WRITE)], [[PAY, PAY]]),
    "a write asked for twice that was tried again": (
        lambda: [tool("pay", DOWN, "paid", effect=WRITE, is_idempotent=True)],
        [[PAY, PAY]],
    ),
    "a write of the run asked for again": (
        lambda: [tool("pay", "paid", effect=WRITE, dedupe_writes="run")],
        [[PAY], [PAY]],
    ),
    "a read answered from the run": (
        lambda: [tool("look", "page", reuse_result=True)],
        [[LOOK], [LOOK]],
    ),
    "a read tried again and then answered from the run": (
        lambda: [tool("look", DOWN, "page", reuse_result=True)],
        [[LOOK], [LOOK]],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_was_recorded_replays_row_by_row(case):
    tools, steps = CASES[case]
    live = Pipeline(*tools(), steps=steps)
    done = live.replayed()
    assert table(done.calls) == live.rows
    assert (done.result.stop, done.divergence) == (live.result.stop, None)


def test_candidate_that_newly_tries_again_is_not_stopped_by_what_nobody_recorded():
    live = Pipeline(tool("pay", DOWN, effect=WRITE, is_idempotent=True), steps=[[PAY]], retries={})
    done = live.replayed(retries={"*": RetryPolicy(max_attempts=3, initial_s=1)})
    assert (table(done.calls), done.result.stop) == (live.rows, "ok")


def test_candidate_that_no_longer_tries_again_sees_the_first_failure():
    live = Pipeline(tool("look", DOWN, "page"), steps=[[LOOK]])
    done = live.replayed(retries={})
    assert [call.outcome.value for call in done.calls] == ["failed"]
    assert done.divergence is None


@pytest.mark.parametrize(
    ("tools", "effects"),
    [
        (lambda: [tool("pay", "paid", effect=WRITE)], 1),
        (lambda: [tool("pay", DOWN, "paid", effect=WRITE, is_idempotent=True)], 1),
        (lambda: [tool("pay", GONE, effect=WRITE)], 0),
    ],
)
def test_repeated_write_and_its_tries_are_one_effect_at_most(tools, effects):
    live = Pipeline(*tools(), steps=[[PAY, PAY]])
    assert [row[3] for row in live.rows].count("deduplicated") == 1
    assert len(writes_of(live.cassette.calls[0])) == effects


def test_repeat_is_no_effect_of_the_candidate_either():
    """The recording made one write; a candidate that asks for it twice makes one, too."""
    live = Pipeline(tool("pay", "paid", effect=WRITE), steps=[[PAY]])
    live.script = [asking(PAY, PAY), ModelResponse("end")]
    done = live.replayed()
    assert [call.outcome for call in done.calls] == [Outcome.OK, Outcome.DEDUPLICATED]
    assert done.divergence is None
