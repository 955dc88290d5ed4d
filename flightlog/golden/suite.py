"""Replays a folder of golden tasks on a candidate and judges every run."""

from __future__ import annotations

import inspect
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from flightlog.analysis.wording import counted
from flightlog.errors import (
    AgentError,
    GoldenError,
    StaleGoldenError,
    UnknownNameError,
    nearest,
    nearest_text,
)
from flightlog.golden.factory import load_factory
from flightlog.golden.files import load_recording, load_tools, recording_files
from flightlog.golden.judge import judge
from flightlog.golden.replay_report import ReplayReport, TrialReport
from flightlog.golden.task import TOOLS_FILE, GoldenTask, load_task, task_files
from flightlog.recorder.recorder import Recorder
from flightlog.replay.cassette import Cassette, Recording, writes_of
from flightlog.replay.matching import Rules
from flightlog.replay.replayer import Replayed, replay
from flightlog.replay.serve import StateAwareExecutor
from flightlog.runtime.agent import Agent
from flightlog.runtime.result import RunContext
from flightlog.runtime.task import Task
from flightlog.runtime.tools import Tool
from flightlog.trace.clock import SystemClock, VirtualClock
from flightlog.trace.vocab import Origin, stop_text

if TYPE_CHECKING:
    from flightlog.redact.redactor import Redactor

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

_MISSPELT: Final = 0.85
"""Similarity from which an undeclared name is taken for a misspelt declared one."""

ACCEPT_HINT: Final = (
    "To accept it, record a live run that makes this call and pin it: "
    "flightlog golden pin RUN --store STORE --goldens {goldens}"
)


@dataclass(frozen=True)
class GoldenEntry:
    """One golden task of a suite with all that a replay needs of it.

    Attributes:
        golden: the contract.
        folder: where it stands.
        tools: its tools as declared, without functions.
        cassette: its recordings, indexed.
    """

    golden: GoldenTask
    folder: Path
    tools: tuple[Tool, ...]
    cassette: Cassette

    @property
    def name(self) -> str:
        """Name of its folder, unique in the suite."""
        return self.folder.name

    @property
    def task(self) -> Task:
        """What the agent is run on."""
        return self.golden.task

    @property
    def recordings(self) -> tuple[Recording, ...]:
        """The accepted recordings, oldest first."""
        return self.cassette.recordings

    def summary(self) -> str:
        """One line: task, recordings, writes, tools."""
        writes = {
            tuple(sorted((call.tool_name, call.args.digest) for call in writes_of(calls)))
            for calls in self.cassette.calls
        }
        sizes = sorted({len(accepted) for accepted in writes})
        counts = " or ".join([*map(str, sizes[:-1]), counted(sizes[-1], "write")])
        return (
            f"{self.task.task_id}: {counted(len(self.recordings), 'recording')}, "
            f"{counted(len(self.cassette), 'call')}, "
            f"{counted(len(writes), 'accepted set')} of writes ({counts}), "
            f"tools: {', '.join(tool.name for tool in self.tools) or 'none'}"
        )


@dataclass(frozen=True)
class Trial:
    """One repeat of a golden task, for which a factory makes an agent.

    Attributes:
        task: what the agent is run on.
        number: from 0.
        variant: name of the side that is replayed.
        tools: declared tools without functions; a factory adds the functions of pure ones.
        recordings: the accepted recordings, oldest first.
    """

    task: Task
    number: int
    variant: str
    tools: tuple[Tool, ...] = ()
    recordings: tuple[Recording, ...] = ()


Factory: TypeAlias = Callable[[Trial], Agent]


def load_suite(goldens: Path, *, redactor: Redactor | None = None) -> list[GoldenEntry]:
    """All golden tasks of a folder.

    Args:
        goldens: the folder.
        redactor: of the recorder that candidates are recorded with.

    Raises:
        GoldenError: the folder is missing or empty, or a file in it is malformed.
        StaleGoldenError: a task without recordings, with a tool that is not declared, or
            whose content is no longer what was recorded.
    """
    files = task_files(goldens)
    tools_path = goldens / TOOLS_FILE
    tools = load_tools(tools_path) if tools_path.exists() else {}
    rules = Rules(tools.values(), redactor=redactor)
    entries = [_entry(path, tools, rules) for path in files]
    _check_distinct(entries)
    return entries


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
    entries = _chosen(load_suite(Path(goldens), redactor=recorder.redactor), tasks)
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


def make_agent(factory: Factory, trial: Trial) -> Agent:
    """The candidate's agent for one trial.

    Raises:
        AgentError: the factory raises, or gives no agent.
    """
    where = f"task {trial.task.task_id!r}, trial {trial.number}"
    try:
        agent: Any = factory(trial)
    except AgentError:
        raise
    except Exception as error:
        raise AgentError(
            f"the agent factory failed: {type(error).__name__}: {error}",
            where=where,
            hint="It is called with one Trial and returns an Agent.",
        ) from error
    if inspect.iscoroutine(agent):
        agent.close()
        raise AgentError(
            "the agent factory is an async function",
            where=where,
            hint="Make it a plain def that returns flightlog.Agent(...).",
        )
    if not isinstance(agent, Agent):
        raise AgentError(
            f"the agent factory gave a {type(agent).__name__}, not an Agent",
            where=where,
            hint="Return flightlog.Agent(...) from it.",
        )
    return agent


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


def _entry(path: Path, tools: Mapping[str, Tool], rules: Rules) -> GoldenEntry:
    golden = load_task(path)
    for name in golden.tools:
        if name not in tools:
            declared_in = path.parent.parent / TOOLS_FILE
            raise StaleGoldenError(
                f"tool {name!r} of the golden task is not declared",
                where=str(path),
                hint=f"Declare it in {declared_in}; {nearest_text(name, tools)}.",
            )
    _check_forbidden(golden.judge.forbidden_tools, tools, where=str(path))
    recordings = [load_recording(file) for file in recording_files(path.parent)]
    if not recordings:
        raise StaleGoldenError(
            "the golden task has no recording",
            where=str(path.parent),
            hint="Pin a run of it: flightlog golden pin RUN --store STORE --goldens GOLDENS",
        )
    _check_content(golden, recordings, where=str(path))
    declared = tuple(tools[name] for name in golden.tools)
    return GoldenEntry(golden, path.parent, declared, Cassette(recordings, rules))


def _check_distinct(entries: Sequence[GoldenEntry]) -> None:
    """Refuses a copied folder: its runs would count as more trials of the same task."""
    first: dict[tuple[str | None, str], GoldenEntry] = {}
    for entry in entries:
        other = first.setdefault(entry.golden.key, entry)
        if other is not entry:
            raise GoldenError(
                f"task {entry.task.task_id!r} has two golden tasks: {other.name} and {entry.name}",
                where=str(entry.folder),
                hint="Remove one, or give one another task_id.",
            )


def _check_content(golden: GoldenTask, recordings: Sequence[Recording], *, where: str) -> None:
    """Refuses an edited task under its old digest, by which its runs would still be paired."""
    digest = golden.task.content_digest or ""
    messages = (recording.messages.get(digest) for recording in recordings)
    is_ours = any(message is not None and message.role == "task" for message in messages)
    if is_ours and replace(golden.task, content_digest=None).digest != digest:
        raise StaleGoldenError(
            "task_id, suite, prompt or inputs differ from what was recorded under this digest",
            where=where,
            hint="Restore it, or remove the digest: the task then counts as a new one.",
        )


def _check_forbidden(names: Sequence[str], tools: Mapping[str, Tool], *, where: str) -> None:
    """Refuses a misspelt name, which would forbid nothing; a tool that nobody has is fine."""
    for name in names:
        near = [] if name in tools else nearest(name, tools, cutoff=_MISSPELT)
        if near:
            raise GoldenError(
                f"judge.forbidden_tools names {name!r}, which is not declared",
                where=where,
                hint=f"nearest: {', '.join(near)}. If it is another tool, declare it in "
                f"{TOOLS_FILE}.",
            )


def _chosen(entries: list[GoldenEntry], tasks: Sequence[str] | None) -> list[GoldenEntry]:
    if tasks is None:
        return entries
    chosen: dict[str, GoldenEntry] = {}
    for name in tasks:
        found = [e for e in entries if name in (e.task.task_id, e.name)]
        if not found:
            known = [entry.task.task_id for entry in entries]
            raise UnknownNameError.of("golden task", name, known)
        chosen.update((entry.name, entry) for entry in found)
    return list(chosen.values())
