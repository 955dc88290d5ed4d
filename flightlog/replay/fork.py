"""A recorded run that goes on otherwise from one of its steps."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass, replace
from typing import Any

from flightlog.errors import AgentError
from flightlog.replay.cassette import Recording
from flightlog.replay.overlay import COUNTERFACTUAL, OverlayExecutor
from flightlog.replay.replayer import Replayed, replay
from flightlog.replay.scripted import scripted_model
from flightlog.runtime.agent import Agent
from flightlog.runtime.model import Model, ModelRequest, ModelResponse
from flightlog.runtime.result import RunContext
from flightlog.runtime.task import Task
from flightlog.runtime.tools import is_async
from flightlog.trace.events import ModelCall
from flightlog.trace.sink import Sink
from flightlog.trace.vocab import Actor


@dataclass(frozen=True, slots=True)
class Forked:
    """What came of one fork.

    Attributes:
        replayed: the run.
        changed_prompts: steps before the fork whose prompt is not the recorded one.
        is_counterfactual: it was given what no recording holds: overlays, or such a prompt.
    """

    replayed: Replayed
    changed_prompts: tuple[int, ...]
    is_counterfactual: bool


class ForkedModel:
    """Answers as recorded before a step, and as the candidate from there on.

    Args:
        recording: with the bodies of its answers.
        step: first step of the candidate, from 1; 0 is 1. A step is a whole batch of calls, so
            a fork inside a parallel batch is one at its start.
        candidate: who answers from there on.

    Attributes:
        changed_prompts: steps before the fork whose prompt is not the recorded one.

    Raises:
        AgentError: the recording has fewer steps before it, or lacks an answer.
    """

    def __init__(self, recording: Recording, step: int, candidate: Model) -> None:
        self._prompts = _prompts_of(recording)
        if not 0 <= step <= len(self._prompts) + 1:
            raise AgentError(
                f"a fork at step {step} of a run of {len(self._prompts)} model calls",
                where=f"run {recording.run_id}",
                hint=f"Give a step from 0 to {len(self._prompts) + 1}.",
            )
        self.name = candidate.name
        self.changed_prompts: list[int] = []
        self._candidate = candidate
        self._recorded = scripted_model(recording)
        self._until = max(step, 1) - 1
        self._asked = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_candidate"], name)

    def complete(self, request: ModelRequest) -> ModelResponse | Awaitable[ModelResponse]:
        """The recorded answer before the fork, else the candidate's."""
        recorded = self._before(request)
        return self._candidate.complete(request) if recorded is None else recorded

    def _before(self, request: ModelRequest) -> ModelResponse | None:
        if self._asked >= self._until:
            return None
        prompt = tuple(message.digest for message in request.messages)
        if prompt != self._prompts[self._asked]:
            self.changed_prompts.append(self._asked + 1)
        self._asked += 1
        return self._recorded.complete(request)


class _AsyncForkedModel(ForkedModel):
    async def complete(self, request: ModelRequest) -> ModelResponse:
        recorded = self._before(request)
        if recorded is not None:
            return recorded
        answer = self._candidate.complete(request)
        return await answer if isinstance(answer, Awaitable) else answer


def fork(
    recording: Recording,
    step: int,
    agent: Agent,
    task: Task,
    executor: OverlayExecutor,
    *,
    sink: Sink,
    context: RunContext,
) -> Forked:
    """Runs an agent that does as recorded before a step; no tool runs live.

    Args:
        recording: the run that is forked.
        step: first step of the agent's own model, as for `ForkedModel`.
        agent: the candidate.
        executor: a fresh one over the recording.
        context: of the run; a counterfactual one gets a label, or, where only its prompt
            turned out to be another, an evaluation of that name.
    """
    kind = _AsyncForkedModel if is_async(agent.model.complete) else ForkedModel
    model = kind(recording, step, agent.model)
    if executor.overlays:
        context = replace(context, labels={**context.labels, COUNTERFACTUAL: "overlay"})
    replayed = replay(replace(agent, model=model), task, executor, sink=sink, context=context)
    changed = tuple(model.changed_prompts)
    if changed:
        steps = ", ".join(map(str, changed))
        replayed.result.writer.evaluation(
            name=COUNTERFACTUAL, detail=f"the prompt differs from the recorded one at step {steps}"
        )
    return Forked(replayed, changed, bool(changed or executor.overlays))


def _prompts_of(recording: Recording) -> list[tuple[str, ...]]:
    """Digests of the messages of each prompt of the agent's model."""
    by_seq: dict[int | None, tuple[str, ...]] = {}
    found: list[tuple[str, ...]] = []
    for event in recording.events:
        if isinstance(event, ModelCall):
            kept = by_seq.get(event.prompt_base_seq, ())[: event.prompt_kept]
            by_seq[event.seq] = (*kept, *event.prompt_added)
            if event.actor is Actor.AGENT:
                found.append(by_seq[event.seq])
    return found
