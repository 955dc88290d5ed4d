"""Forks a recorded run: from a step on, with another model, prompt, result or budget."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from flightlog.errors import AgentError
from flightlog.golden.factory import Factory, Trial, make_agent
from flightlog.golden.fork_report import ForkReport, ForkTrial
from flightlog.golden.overrides import Overrides
from flightlog.golden.pin import declarations, task_of
from flightlog.golden.run_facts import facts_of
from flightlog.golden.yaml_files import dump_yaml
from flightlog.replay.cassette import Cassette, Recording
from flightlog.replay.fork import Forked, fork, recorded_steps
from flightlog.replay.matching import Rules
from flightlog.replay.misses import MissPolicies
from flightlog.replay.overlaid import OverlayExecutor
from flightlog.replay.overlay import Action, Overlay
from flightlog.replay.replayer import Around
from flightlog.runtime.agent import Agent
from flightlog.runtime.budget import Budget
from flightlog.runtime.result import RunContext
from flightlog.runtime.task import Task
from flightlog.runtime.tools import Tool
from flightlog.trace.sink import Sink
from flightlog.trace.vocab import Outcome

if TYPE_CHECKING:
    from flightlog.redact.redactor import Redactor

VARIANT: Final = "fork"
"""Default variant of forked runs."""


@dataclass(frozen=True)
class Forking:
    """How a run is forked.

    Attributes:
        step: first step of the candidate, from 1; 0 is 1.
        overlays: what goes wrong, and where.
        overrides: model, prompt and settings of the candidate.
        budgets: limits by name, such as `max_steps`, in the place of the candidate's own.
        variant: of the new runs.
        session_id: shared by them.
        misses: what happens to calls that no recording answers.
        around: hosts that may be reached, and who may end it.
    """

    step: int
    overlays: tuple[Overlay, ...] = ()
    overrides: Overrides = field(default_factory=Overrides)
    budgets: Mapping[str, float] = field(default_factory=dict)
    variant: str = VARIANT
    session_id: str | None = None
    misses: MissPolicies = field(default_factory=MissPolicies)
    around: Around = field(default_factory=Around)


@dataclass(frozen=True)
class ForkedRun:
    """A recorded run with all that its forks need.

    Attributes:
        recording: the run.
        task: what it was run on.
        tools: as declared, without functions.
        cassette: what answers: the run itself, and accepted recordings of its task.
    """

    recording: Recording
    task: Task
    tools: tuple[Tool, ...]
    cassette: Cassette

    @classmethod
    def of(
        cls,
        recording: Recording,
        *,
        others: Sequence[Recording] = (),
        given: Mapping[str, Tool] | None = None,
        redactor: Redactor | None = None,
    ) -> ForkedRun:
        """A run, and other recordings of its task.

        Args:
            recording: the run; what it holds wins over the others.
            others: accepted recordings, oldest first.
            given: declarations of tools; they count more than the recorded ones.
            redactor: of the recorder of the new runs.

        Raises:
            GoldenError: the run names no task.
        """
        task = task_of(recording)
        every = [*(one for one in others if one.run_id != recording.run_id), recording]
        tools, _ = declarations(every, given or {}, {})
        rules = Rules(tools.values(), redactor=redactor)
        return cls(recording, task, tuple(tools.values()), Cassette(every, rules))

    def without_failures(self) -> ForkedRun:
        """The same, with answers from calls alone that did not fail."""
        sound = [_sound(recording) for recording in self.cassette.recordings]
        return replace(self, cassette=Cassette(sound, self.cassette.rules))


def fork_run(
    run: ForkedRun, factory: Factory, trials: int, *, sink: Sink, how: Forking
) -> ForkReport:
    """Forks a run some times.

    Args:
        run: what is forked.
        factory: makes a fresh agent for each fork.
        trials: how many forks.
        sink: where the new runs are recorded.
        how: where and with what.

    Raises:
        AgentError: no trial, a step that the run does not have, or the factory fails.
    """
    if trials < 1:
        raise AgentError(f"{trials} forks", hint="Give 1 or more.")
    made = tuple(_one(run, factory, number, sink, how) for number in range(trials))
    return ForkReport(
        how.step,
        recorded_steps(run.recording),
        facts_of(run.recording, run.cassette.rules),
        made,
        tuple(map(str, how.overlays)),
    )


def end_with(
    run: ForkedRun, factory: Factory, *, sink: Sink, how: Forking
) -> Callable[[tuple[Overlay, ...]], str]:
    """A function that forks with some overlays and says how that ended."""

    def end(overlays: tuple[Overlay, ...]) -> str:
        return forked_once(
            run, factory, 0, sink, replace(how, overlays=overlays)
        ).replayed.result.stop

    return end


def forked_once(run: ForkedRun, factory: Factory, number: int, sink: Sink, how: Forking) -> Forked:
    """One fork.

    Raises:
        AgentError: as `fork_run`.
    """
    trial = Trial(run.task, number, how.variant, run.tools, (run.recording,), how.overrides.model)
    agent = how.overrides.applied(make_agent(factory, trial), trial)
    if agent.loop is not None:
        raise AgentError(
            "a fork begins with recorded answers of the model, and this agent has a loop of its "
            "own, which asks its model itself",
            where=f"agent {agent.name!r}",
            hint="Replay it from the start: flightlog replay --agent.",
        )
    context = RunContext(variant=how.variant, trial=number, session_id=how.session_id)
    executor = OverlayExecutor(
        run.cassette, how.overlays, golden=run.task.task_id, misses=how.misses
    )
    done = fork(
        run.recording,
        how.step,
        _limited(agent, how.budgets),
        run.task,
        executor,
        sink=sink,
        context=context,
        around=how.around,
    )
    if how.overrides.client is not None:
        getattr(agent.model, "close", lambda: None)()
    return done


def failures_of(run: ForkedRun) -> tuple[Overlay, ...]:
    """The failures of a recorded run as overlays: the nth call of a tool failed, or timed out."""
    seen: dict[str, int] = {}
    found: list[Overlay] = []
    own = run.cassette.calls[-1]
    for recorded in own:
        nth = seen[recorded.tool_name] = seen.get(recorded.tool_name, 0) + 1
        if recorded.outcome is Outcome.TIMED_OUT:
            found.append(Overlay(Action.TIMEOUT, tool=recorded.tool_name, nth=nth))
        elif recorded.outcome is Outcome.FAILED:
            value = {
                "type": recorded.call.error_type or "Error",
                "message": recorded.error or "failed",
            }
            found.append(Overlay(Action.FAIL, tool=recorded.tool_name, nth=nth, value=value))
    return tuple(found)


def overlays_text(overlays: Sequence[Overlay], *, where: str) -> str:
    """A file that `read_overlays` reads.

    Raises:
        GoldenError: a value that YAML cannot carry.
    """
    items = [
        {
            key: str(value) if key == "action" else value
            for key in ("action", "tool", "nth", "step", "value")
            if (value := getattr(one, key)) is not None
        }
        for one in overlays
    ]
    return dump_yaml({"overlays": items}, where=where)


def save_overlays(overlays: Sequence[Overlay], path: Path) -> None:
    """Writes a file that `read_overlays` reads.

    Raises:
        GoldenError: a value that YAML cannot carry.
    """
    path.write_text(overlays_text(overlays, where=str(path)), encoding="utf-8")


def _one(run: ForkedRun, factory: Factory, number: int, sink: Sink, how: Forking) -> ForkTrial:
    forked = forked_once(run, factory, number, sink, how)
    replayed = forked.replayed
    executor = replayed.executor
    applied = executor.applied if isinstance(executor, OverlayExecutor) else {}
    return ForkTrial(
        number=number,
        facts=facts_of(replayed.run, run.cassette.rules),
        divergence=None if replayed.divergence is None else str(replayed.divergence),
        served={how.value: count for how, count in executor.served.items()},
        misses=tuple(
            f"{miss.tool_name} at step {miss.step}: {miss.why}" for miss in executor.misses
        ),
        live_tool_calls=executor.live_tool_calls,
        changed_prompts=forked.changed_prompts,
        is_counterfactual=forked.is_counterfactual,
        overlaid=sum(applied.values()),
        unused_overlays=tuple(
            str(one) for place, one in enumerate(how.overlays) if not applied.get(place)
        ),
    )


def _limited(agent: Agent, budgets: Mapping[str, float]) -> Agent:
    if not budgets:
        return agent
    policy = agent.effective_policy
    budget: Budget = replace(policy.budget, **budgets)  # type: ignore[arg-type]
    return replace(agent, policy=replace(policy, budget=budget))


def _sound(recording: Recording) -> Recording:
    failed = (Outcome.FAILED, Outcome.TIMED_OUT)
    events = tuple(e for e in recording.events if getattr(e, "outcome", None) not in failed)
    return replace(recording, events=events)
