"""flightlog: flight recorder and regression gate for tool-calling AI agents.

The public names load lazily: importing the package loads nothing heavy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from flightlog._version import __version__

if TYPE_CHECKING:
    from flightlog.analysis.db import Traces as Traces
    from flightlog.analysis.db import open_traces as open  # noqa: A004
    from flightlog.analysis.gate.drift import compare as compare
    from flightlog.config import load_config as load_config
    from flightlog.errors import FlightlogError as FlightlogError
    from flightlog.golden.suite import replay_suite as replay_suite
    from flightlog.recorder.record import record as record
    from flightlog.recorder.recorder import Recorder as Recorder
    from flightlog.runtime.agent import Agent as Agent
    from flightlog.runtime.budget import Budget as Budget
    from flightlog.runtime.loop import RunContext as RunContext
    from flightlog.runtime.loop import RunResult as RunResult
    from flightlog.runtime.loop import run as run
    from flightlog.runtime.loop import run_async as run_async
    from flightlog.runtime.policy import Policy as Policy
    from flightlog.runtime.task import Task as Task
    from flightlog.runtime.tools import Tool as Tool
    from flightlog.runtime.tools import tool as tool
    from flightlog.trace.vocab import StopReason as StopReason

_PUBLIC = {
    "Agent": "flightlog.runtime.agent:Agent",
    "Budget": "flightlog.runtime.budget:Budget",
    "FlightlogError": "flightlog.errors:FlightlogError",
    "Policy": "flightlog.runtime.policy:Policy",
    "Recorder": "flightlog.recorder.recorder:Recorder",
    "RunContext": "flightlog.runtime.loop:RunContext",
    "RunResult": "flightlog.runtime.loop:RunResult",
    "StopReason": "flightlog.trace.vocab:StopReason",
    "Task": "flightlog.runtime.task:Task",
    "Tool": "flightlog.runtime.tools:Tool",
    "Traces": "flightlog.analysis.db:Traces",
    "compare": "flightlog.analysis.gate.drift:compare",
    "load_config": "flightlog.config:load_config",
    "open": "flightlog.analysis.db:open_traces",
    "record": "flightlog.recorder.record:record",
    "replay_suite": "flightlog.golden.suite:replay_suite",
    "run": "flightlog.runtime.loop:run",
    "run_async": "flightlog.runtime.loop:run_async",
    "tool": "flightlog.runtime.tools:tool",
}

__all__ = [
    "Agent",
    "Budget",
    "FlightlogError",
    "Policy",
    "Recorder",
    "RunContext",
    "RunResult",
    "StopReason",
    "Task",
    "Tool",
    "Traces",
    "__version__",
    "compare",
    "load_config",
    "open",
    "record",
    "replay_suite",
    "run",
    "run_async",
    "tool",
]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'flightlog' has no attribute {name!r}")
    module, attribute = _PUBLIC[name].split(":")
    value = getattr(importlib.import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
