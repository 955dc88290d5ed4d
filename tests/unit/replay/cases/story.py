"""One recorded story and its replays, through the whole path: recorder, store, pin, suite."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flightlog.golden.entries import load_suite
from flightlog.golden.pin import pin_runs
from flightlog.golden.pin_report import PinReport
from flightlog.golden.suite import Replaying, Trial, TrialReport, replay_suite
from flightlog.recorder.recorder import Recorder
from flightlog.recorder.store import Store
from flightlog.replay.recordings import read_recordings
from flightlog.runtime.agent import Agent
from flightlog.runtime.loop import RunContext, run
from flightlog.runtime.model import ModelResponse, ScriptedModel
from flightlog.runtime.policy import Policy, approve_all
from flightlog.runtime.task import Task
from flightlog.runtime.tools import Tool
from flightlog.trace.clock import Clock, VirtualClock
from flightlog.trace.events import ToolCall
from flightlog.trace.messages import ToolRequest
from flightlog.trace.vocab import Effect, Outcome

Call = tuple[str, "dict[str, Any] | str"]
Step = Call | Sequence[Call]
TASK = Task("story", "Do it.", suite="cases")
DONE = "Done."


@dataclass(frozen=True)
class Told:
    """What one replay came to.

    Attributes:
        trial: as the suite reports it.
        calls: as they stand in the candidate's store.
    """

    trial: TrialReport
    calls: tuple[ToolCall, ...]

    @property
    def seen(self) -> list[Any]:
        """What the candidate saw of each call: the value, or the name of how it ended."""
        return [
            json.loads(call.result or "null") if call.outcome is Outcome.OK else str(call.outcome)
            for call in self.calls
        ]

    @property
    def why(self) -> str:
        """Why its one miss was one."""
        [miss] = self.trial.misses
        return miss.why


class Story:
    """A world of functions that count, recorded live, then asked again without being called.

    Args:
        folder: where stores and goldens are made.
        make_tools: the tools over a fresh world; the functions of reads and writes must not
            be called by a replay, which is looked at after each.
        policy: more fields of `Policy`.
    """

    def __init__(
        self, folder: Path, make_tools: Callable[[], Sequence[Tool]], **policy: Any
    ) -> None:
        self.folder = folder
        self.make_tools = make_tools
        self.policy = {"allow": ("*",), "approver": approve_all, **policy}
        self.clock: Callable[[], Clock] = VirtualClock
        self._runs: list[str] = []
        self._candidates = 0

    def agent(self, steps: Sequence[Step], tools: Sequence[Tool], **policy: Any) -> Agent:
        """An agent that asks for these calls, step by step, and then says that it is done."""
        answers = [_asking(step) for step in steps]
        model = ScriptedModel("m", [*answers, ModelResponse(DONE)])
        return Agent("story", model, tools, policy=Policy(**{**self.policy, **policy}))

    def record(self, *steps: Step, **policy: Any) -> tuple[ToolCall, ...]:
        """Records one live run; gives its calls."""
        run_id = f"run-{len(self._runs) + 1}"
        self._runs.append(run_id)
        agent = self.agent(steps, self.make_tools(), **policy)
        with Recorder(self.store) as sink:
            context = RunContext(run_id=run_id)
            run(agent, TASK, sink=sink, clock=self.clock(), context=context)
        [recording] = read_recordings(Store.open(self.store), [run_id])
        return recording.tool_calls

    def pin(self) -> PinReport:
        """Pins all that was recorded."""
        return pin_runs(Store.open(self.store), self._runs, self.goldens)

    @property
    def store(self) -> Path:
        """Of the live runs."""
        return self.folder / "store"

    @property
    def goldens(self) -> Path:
        """The pinned folder."""
        return self.folder / "goldens"

    def replay(
        self,
        *steps: Step,
        tools: Sequence[Tool] | None = None,
        how: Replaying = Replaying(),  # noqa: B008  (frozen)
        **policy: Any,
    ) -> Told:
        """Replays a candidate that makes these calls; what was not pinned yet is pinned."""
        if not self.goldens.exists():
            self.pin()
        self._candidates += 1
        store = self.folder / f"candidate-{self._candidates}"
        called: list[str] = []
        watched = [_watched(tool, called) for tool in tools or self.make_tools()]

        def make(trial: Trial) -> Agent:
            return self.agent(steps, watched, **policy)

        with Recorder(store) as sink:
            report = replay_suite(self.goldens, make, recorder=sink, how=how)
        assert called == []
        assert report.live_tool_calls == 0
        [trial] = report.trials
        [recording] = read_recordings(Store.open(store))
        return Told(trial, recording.tool_calls)

    def conflicts(self) -> list[str]:
        """The contradictions of the pinned golden."""
        [entry] = load_suite(self.goldens)
        return [str(one) for one in entry.cassette.conflicts()]


def _watched(tool: Tool, called: list[str]) -> Tool:
    """The same tool; a function that a replay must not call says so."""
    if tool.effect is Effect.PURE or tool.fn is None:
        return tool

    def fn(**_: Any) -> Any:
        called.append(tool.name)
        raise AssertionError(f"a replay called {tool.name}")

    return Tool.from_declaration(tool.declaration(), fn)


def _asking(step: Step) -> ModelResponse:
    calls: Sequence[Call] = [step] if isinstance(step[0], str) else step  # type: ignore[list-item, assignment]
    requests = tuple(
        ToolRequest("call_0", name, args if isinstance(args, str) else json.dumps(args))
        for name, args in calls
    )
    return ModelResponse(tool_requests=requests)


def shelf(**start: Any) -> Callable[[], tuple[Tool, ...]]:
    """Tools over items by key: `get`, `put`, `remove` (fails on what is not there), `find`."""

    def make() -> tuple[Tool, ...]:
        items: dict[str, Any] = dict(start or {"a": 1, "b": 2})

        def get(key: str) -> Any:
            return items.get(key)

        def put(key: str, value: Any) -> Mapping[str, Any]:
            items[key] = value
            return {"put": value}

        def remove(key: str) -> Any:
            if key not in items:
                raise LookupError(f"no item {key}")
            return items.pop(key)

        def find(least: int) -> list[str]:
            return sorted(key for key, value in items.items() if value >= least)

        one, every = ("item:{key}",), ("item:*",)
        return (
            Tool("get", fn=get, effect=Effect.READ, scopes=one),
            Tool("put", fn=put, effect=Effect.WRITE, scopes=one),
            Tool("remove", fn=remove, effect=Effect.WRITE, scopes=one),
            Tool("find", fn=find, effect=Effect.READ, scopes=every),
        )

    return make
