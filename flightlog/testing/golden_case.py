"""What the `golden` fixture gives: one trial of one golden task, to be replayed by the test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from flightlog.errors import AgentError
from flightlog.golden.suite import Replaying, load_factory, replay_entries
from flightlog.trace.terminal_text import escape_terminal

if TYPE_CHECKING:
    from flightlog.golden.entries import GoldenEntry
    from flightlog.golden.factory import Factory
    from flightlog.golden.replay_report import TrialReport
    from flightlog.recorder.recorder import Recorder
    from flightlog.replay.cassette import Recording
    from flightlog.runtime.task import Task
    from flightlog.runtime.tools import Tool


@dataclass
class GoldenCase:
    """One trial of a golden task.

    Attributes:
        entry: the golden task with its recordings.
        number: trial, from 0.
        agent: `module:function` that makes the agent where `replay` is given none.
        recorder: where replays are recorded.
        variant: name of the side.
        session_id: shared by all replays of this pytest.
        played: what was replayed, for the summary of pytest.
    """

    entry: GoldenEntry
    number: int
    agent: str
    recorder: Recorder
    variant: str
    session_id: str
    played: list[dict[str, Any]] = field(default_factory=list)

    @property
    def task(self) -> Task:
        """What the agent is run on."""
        return self.entry.task

    @property
    def folder(self) -> Path:
        """Of the golden task."""
        return self.entry.folder

    @property
    def tools(self) -> tuple[Tool, ...]:
        """Its tools as declared, without functions."""
        return self.entry.tools

    @property
    def recordings(self) -> tuple[Recording, ...]:
        """The accepted recordings, oldest first."""
        return self.entry.recordings

    def replay(
        self,
        agent: Factory | str | None = None,
        *,
        how: Replaying | None = None,
        must_pass: bool = True,
    ) -> TrialReport:
        """Replays the task; a replay that fails or that nobody can judge fails the test.

        Args:
            agent: makes the agent of a trial, or names what does; None takes `--flightlog-agent`.
            how: how it is served.
            must_pass: False leaves the verdict to the test.

        Raises:
            AgentError: nobody says which agent, or none is made.
            GoldenError: the golden task cannot be replayed.
        """
        if agent is None and not self.agent:
            raise AgentError(
                "no agent", hint="Give one to replay(), or --flightlog-agent module:function."
            )
        chosen = self.agent if agent is None else agent
        factory = load_factory(chosen) if isinstance(chosen, str) else chosen
        report = replay_entries(
            [self.entry],
            factory,
            recorder=self.recorder,
            variant=self.variant,
            session_id=self.session_id,
            how=replace(how or Replaying(), only_trial=self.number),
        )
        trial = report.trials[0]
        self.played.append(
            {
                "verdict": verdict_of(trial),
                "served": {str(name): count for name, count in trial.served.items()},
                "misses": len(trial.misses),
                "live": trial.live_tool_calls,
            }
        )
        if must_pass and trial.passed is not True:
            pytest.fail(why_of(trial), pytrace=False)
        return trial


def verdict_of(trial: TrialReport) -> str:
    """passed, failed or inconclusive."""
    return {True: "passed", False: "failed", None: "inconclusive"}[trial.passed]


def why_of(trial: TrialReport) -> str:
    """What the judge says, the first divergence, the misses and the run; safe to print."""
    lines = [f"{verdict_of(trial)}: {trial.judgement.detail}"]
    if trial.divergence is not None:
        lines.append(f"first divergence: {trial.divergence}")
    lines += [f"miss at step {one.step}: {one.tool_name}: {one.why}" for one in trial.misses]
    lines.append(f"run {trial.run_id}")
    return "\n".join(map(escape_terminal, lines))


def shown_name(parts: Sequence[object]) -> str:
    """Part of the id of a test: safe to print, and without what pytest gives a meaning."""
    text = escape_terminal("-".join(map(str, parts)))
    return text.replace("::", ":_").replace("[", "(").replace("]", ")")
