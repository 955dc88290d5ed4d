"""Replays a folder of golden tasks on a candidate and judges every run."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from flightlog.errors import GoldenError
from flightlog.golden.entries import GoldenEntry, chosen, load_suite
from flightlog.golden.factory import Factory, Trial, load_factory, make_agent
from flightlog.golden.judge import judge
from flightlog.golden.replay_report import ReplayReport, TrialReport
from flightlog.recorder.recorder import Recorder
from flightlog.replay.replayer import Replayed, replay
from flightlog.replay.serve import StateAwareExecutor
from flightlog.runtime.result import RunContext
from flightlog.trace.clock import SystemClock, VirtualClock
from flightlog.trace.vocab import Origin, stop_text

__all__ = [
    "GoldenEntry",
    "ReplayReport",
    "Trial",
    "TrialReport",
    "load_factory",
    "load_suite",
    "make_agent",
    "replay_suite",
]

ACCEPT_HINT: Final = (
    "To accept it, record a live run that makes this call and pin it: "
    "flightlog golden pin RUN --store STORE --goldens {goldens}"
)


def replay_suite(
    goldens: Path | str,
    factory: Factory,
    *,
    recorder: Recorder,
    variant: str = "candidate",
    trials: int = 1,
    tasks: Sequence[str] | None = None,
    session_id: str | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> ReplayReport:
    """Replays golden tasks on a candidate; tools answer from the recordings, nothing runs live.

    Args:
        goldens: folder of golden tasks.
        factory: makes a fresh agent for each trial.
        recorder: where the candidate's runs are recorded.
        variant: name of the side.
        trials: repeats of each task.
        tasks: task ids or folder names; None replays all.
        session_id: shared by all runs; None makes one.
        on_progress: called with trials done and trials in all.

    Raises:
        GoldenError: the folder is missing, empty or malformed; no variant, or no trial.
        UnknownNameError: a task that the folder does not hold.
        AgentError: the factory fails or gives no agent.
    """
    if not variant:
        raise GoldenError("the variant is empty", hint="Name this side, such as candidate.")
    if trials < 1:
        raise GoldenError(f"{trials} trials of each task", hint="Give 1 or more.")
    entries = chosen(load_suite(Path(goldens), redactor=recorder.redactor), tasks)
    session_id = session_id or str(uuid.uuid4())
    todo = [(entry, number) for number in range(trials) for entry in entries]
    done: list[TrialReport] = []
    hint = ACCEPT_HINT.format(goldens=goldens)
    for entry, number in todo:
        trial = Trial(entry.task, number, variant, entry.tools, entry.recordings)
        context = RunContext(
            variant=variant,
            trial=number,
            session_id=session_id,
            origin=Origin.REPLAY,
            golden=entry.name,
        )
        executor = StateAwareExecutor(entry.cassette, golden=entry.name, accept_hint=hint)
        replayed = replay(
            make_agent(factory, trial),
            entry.task,
            executor,
            sink=recorder,
            context=context,
            clock=VirtualClock(SystemClock().wall_us()),
        )
        done.append(_judged(entry, number, replayed))
        if on_progress:
            on_progress(len(done), len(todo))
    return ReplayReport(variant, session_id, tuple(done))


def _judged(entry: GoldenEntry, number: int, replayed: Replayed) -> TrialReport:
    judgement = judge(entry.golden, entry.cassette, replayed.result, replayed.calls)
    replayed.result.writer.evaluation(
        name="success",
        passed=judgement.passed,
        detail=f"{judgement.level.value}: {judgement.detail}",
    )
    return TrialReport(
        task_id=entry.task.task_id,
        number=number,
        run_id=replayed.result.run_id,
        judgement=judgement,
        stop=stop_text(replayed.result.stop_reason, replayed.result.stop_tool),
        served=dict(replayed.executor.served),
        misses=tuple(replayed.executor.misses),
        divergence=replayed.divergence,
        live_tool_calls=replayed.executor.live_tool_calls,
    )
