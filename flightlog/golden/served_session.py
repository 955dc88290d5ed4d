"""A session whose calls a golden task answers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flightlog.golden.entries import GoldenEntry, chosen, load_suite
from flightlog.recorder.recorder import Recorder
from flightlog.replay.approving import RecordedApprover
from flightlog.replay.misses import MissPolicies, MissPolicy
from flightlog.replay.serve import StateAwareExecutor
from flightlog.runtime.agent import Agent
from flightlog.runtime.budget import Budget
from flightlog.runtime.model import ForeignModel
from flightlog.runtime.policy import Policy
from flightlog.runtime.result import RunContext
from flightlog.runtime.session import Session
from flightlog.runtime.setting_up import Around
from flightlog.trace.clock import SystemClock, VirtualClock
from flightlog.trace.vocab import Effect, Origin


def golden_session(
    goldens: Path,
    name: str,
    recorder: Recorder,
    *,
    agent: str,
    columns: Mapping[str, Any],
    on_miss: str,
) -> tuple[GoldenEntry, StateAwareExecutor, Session]:
    """A session over one golden task of a folder.

    Raises:
        GoldenError: the folder or the task cannot be read.
        UnknownNameError: there is no such task.
    """
    [entry] = chosen(load_suite(goldens, redactor=recorder.redactor), [name])
    executor = StateAwareExecutor(
        entry.cassette,
        golden=entry.name,
        misses=MissPolicies({}, dict.fromkeys(list(Effect), MissPolicy(on_miss))),
    )
    policy = Policy(
        allow=tuple(tool.name for tool in entry.tools),
        budget=Budget(max_steps=None, max_seconds=None, max_tool_calls=None),
        approver=RecordedApprover(entry.cassette),
    )
    session = Session(
        Agent(agent, ForeignModel(), entry.tools, policy=policy),
        entry.task,
        Around(
            sink=recorder,
            clock=VirtualClock(SystemClock().wall_us()),
            executor=executor,
            context=RunContext(origin=Origin.REPLAY, golden=entry.name, **columns),
        ),
    )
    return entry, executor, session
