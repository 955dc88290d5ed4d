"""A recorded run that goes on otherwise from one of its steps."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from flightlog.control.control import Control
from flightlog.control.kill_rule import KillMode
from flightlog.errors import AgentError
from flightlog.replay.cassette import Recording
from flightlog.replay.overlaid import OverlayExecutor
from flightlog.replay.overlay import BYTES_PER_TOKEN, COUNTERFACTUAL, Action
from flightlog.replay.replayer import Around, Replayed, replay
from flightlog.replay.scripted import scripted_model, scripted_user
from flightlog.runtime.agent import Agent
from flightlog.runtime.model import Model, ModelRequest, ModelResponse, User, UserTurn
from flightlog.runtime.prompt_fit import Fit, keep_policy_and_last
from flightlog.runtime.result import RunContext
from flightlog.runtime.task import Task
from flightlog.runtime.tools import is_async
from flightlog.trace.events import ModelCall
from flightlog.trace.messages import Message
from flightlog.trace.sink import Sink
from flightlog.trace.vocab import Actor, Origin

_ALONE: Final = Around()
_WHO: Final = "flightlog fork"


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
        on_step: told of each step before it is answered.

    Attributes:
        changed_prompts: steps before the fork whose prompt is not the recorded one.

    Raises:
        AgentError: the recording has fewer steps before it, or lacks an answer.
    """

    def __init__(
        self,
        recording: Recording,
        step: int,
        candidate: Model,
        on_step: Callable[[int], None] = lambda step: None,
    ) -> None:
        steps = recorded_steps(recording)
        if not 0 <= step <= steps + 1:
            raise AgentError(
                f"a fork at step {step} of a run of {steps} steps",
                where=f"run {recording.run_id}",
                hint=f"Give a step from 0 to {steps + 1}.",
            )
        self.name = candidate.name
        self.changed_prompts: list[int] = []
        self._candidate = candidate
        self._recorded = scripted_model(recording)
        self._prompts = _prompts_of(recording)
        self._first = max(step, 1)
        self._asked = 0
        self._on_step = on_step

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_candidate"], name)

    def complete(self, request: ModelRequest) -> ModelResponse | Awaitable[ModelResponse]:
        """The recorded answer before the fork, else the candidate's."""
        recorded = self._before(request)
        return self._candidate.complete(request) if recorded is None else recorded

    def _before(self, request: ModelRequest) -> ModelResponse | None:
        self._on_step(request.step)
        if request.step >= self._first:
            return None
        prompt = tuple(message.digest for message in request.messages)
        is_known = self._asked < len(self._prompts) and prompt == self._prompts[self._asked]
        if not is_known and request.step not in self.changed_prompts:
            self.changed_prompts.append(request.step)
        self._asked += 1
        return self._recorded.complete(request)


class _AsyncForkedModel(ForkedModel):
    async def complete(self, request: ModelRequest) -> ModelResponse:
        recorded = self._before(request)
        if recorded is not None:
            return recorded
        answer = self._candidate.complete(request)
        return await answer if isinstance(answer, Awaitable) else answer


class ForkedUser:
    """Says what the simulated user said before a step; then the candidate's user speaks.

    Args:
        recording: the run that is forked.
        step: first step of the candidate.
        candidate: who speaks from there on; None goes on with what was recorded.
    """

    def __init__(self, recording: Recording, step: int, candidate: User | None) -> None:
        self._recorded = scripted_user(recording)
        self._left = _turns_before(recording, max(step, 1))
        self._candidate = candidate
        self.name = candidate.name if candidate else getattr(self._recorded, "name", "user")

    def reply(self, messages: Sequence[Message]) -> UserTurn | Awaitable[UserTurn | None] | None:
        """The next turn; None ends the run."""
        if self._recorded is not None and (self._left > 0 or self._candidate is None):
            self._left -= 1
            return self._recorded.reply(messages)
        return self._candidate.reply(messages) if self._candidate else None


class _AsyncForkedUser(ForkedUser):
    async def reply(self, messages: Sequence[Message]) -> UserTurn | None:
        turn = super().reply(messages)
        return await turn if isinstance(turn, Awaitable) else turn


def fork(
    recording: Recording,
    step: int,
    agent: Agent,
    task: Task,
    executor: OverlayExecutor,
    *,
    sink: Sink,
    context: RunContext,
    around: Around = _ALONE,
) -> Forked:
    """Runs an agent that does as recorded before a step; no tool runs live.

    The run has the origin `fork`, which no comparison counts: a part of it is not the
    candidate's.

    Args:
        recording: the run that is forked.
        step: first step of the agent's own model, as for `ForkedModel`.
        agent: the candidate.
        executor: a fresh one over the recording.
        context: of the run; a counterfactual one gets a label, or, where only its prompt
            turned out to be another, an evaluation of that name.
        around: what may be reached, and who may end it.

    Raises:
        AgentError: as `ForkedModel`.
    """
    control = around.control or Control.in_process()
    model_type = _AsyncForkedModel if is_async(agent.model.complete) else ForkedModel
    model = model_type(recording, step, agent.model, _disabling(executor, control))
    user, fit = _user(agent, recording, step), _fit_of(executor, agent.fit)
    labels = {**context.labels, "forked_from": recording.run_id, "fork_step": str(step)}
    if executor.overlays:
        labels[COUNTERFACTUAL] = "overlay"
    replayed = replay(
        replace(agent, model=model, user=user, fit=fit),
        task,
        executor,
        sink=sink,
        context=replace(context, origin=Origin.FORK, labels=labels),
        around=replace(around, control=control),
    )
    changed = tuple(model.changed_prompts)
    if changed:
        steps = ", ".join(map(str, changed))
        replayed.result.writer.evaluation(
            name=COUNTERFACTUAL, detail=f"the prompt differs from the recorded one at step {steps}"
        )
    return Forked(replayed, changed, bool(changed or executor.overlays))


def recorded_steps(recording: Recording) -> int:
    """Steps of a run: answers that its agent's model gave, tries of one step counted once."""
    calls = [e for e in recording.events if isinstance(e, ModelCall) and e.actor is Actor.AGENT]
    return max((call.step or 0 for call in calls), default=0) or len(calls)


def _user(agent: Agent, recording: Recording, step: int) -> User | None:
    if agent.user is not None and is_async(agent.user.reply):
        return _AsyncForkedUser(recording, step, agent.user)
    if agent.user is None and scripted_user(recording) is None:
        return None
    return ForkedUser(recording, step, agent.user)


def _turns_before(recording: Recording, step: int) -> int:
    """Turns of the simulated user that were said before a step of the agent."""
    turns = 0
    for event in recording.events:
        if not isinstance(event, ModelCall):
            continue
        if event.actor is Actor.AGENT and (event.step or 0) >= step:
            break
        turns += event.actor is Actor.USER
    return turns


def _disabling(executor: OverlayExecutor, control: Control) -> Callable[[int], None]:
    """Switches writes off once the run comes to the step that an overlay names."""
    places = [n for n, o in enumerate(executor.overlays) if o.action is Action.DISABLE_WRITES]

    def on_step(step: int) -> None:
        for place in places:
            overlay = executor.overlays[place]
            if overlay.step is not None and step >= overlay.step and not executor.applied[place]:
                executor.applied[place] += 1
                control.kill_switch.turn_on(
                    KillMode.DISABLE_WRITES, who=_WHO, why=str(overlay), at_us=0
                )

    return on_step


def _fit_of(executor: OverlayExecutor, fit: Fit | None) -> Fit | None:
    """The agent's own fitting, and after it that of the overlays whose step has come."""
    cuts = [
        (place, overlay, keep_policy_and_last(max_bytes=overlay.value * BYTES_PER_TOKEN))
        for place, overlay in enumerate(executor.overlays)
        if overlay.action is Action.TRUNCATE_CONTEXT
    ]
    if not cuts:
        return fit

    def fitted(conversation: tuple[Message, ...]) -> Sequence[Message]:
        step = 1 + sum(message.role == "assistant" for message in conversation)
        sent = tuple(fit(conversation)) if fit else conversation
        for place, overlay, cut in cuts:
            if overlay.step is not None and step >= overlay.step:
                executor.applied[place] += 1
                sent = tuple(cut(sent))
        return sent

    return fitted


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
