"""Finds the candidate: `module:function` to the function that makes an agent."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from flightlog.errors import AgentError, nearest
from flightlog.replay.cassette import Recording
from flightlog.runtime.agent import Agent
from flightlog.runtime.task import Task
from flightlog.runtime.tools import Tool


@dataclass(frozen=True)
class Trial:
    """One repeat of a golden task, for which a factory makes an agent.

    Attributes:
        task: what the agent is run on.
        number: from 0.
        variant: name of the side that is replayed.
        tools: declared tools without functions; a factory adds the functions of pure ones.
        recordings: the accepted recordings, oldest first.
        model: name of the model that was asked for; None leaves it to the factory.
    """

    task: Task
    number: int
    variant: str
    tools: tuple[Tool, ...] = ()
    recordings: tuple[Recording, ...] = ()
    model: str | None = None


Factory: TypeAlias = Callable[[Trial], Agent]


def load_factory(text: str) -> Any:
    """The function that `module:function` names; the current directory is importable.

    Raises:
        AgentError: not of that form, no such module or function, or not callable.
    """
    module_name, colon, name = text.partition(":")
    if not (module_name and colon and name):
        raise AgentError(
            f"{text!r} does not name an agent factory",
            hint="Write module:function, such as my_agent:make_agent.",
        )
    module = _module(module_name, text)
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            public = [other for other in vars(module) if not other.startswith("_")]
            near = nearest(part, public)
            raise AgentError(
                f"module {module_name!r} has no {name!r}",
                where=text,
                hint=f"nearest: {', '.join(near)}" if near else "",
            )
        found = getattr(found, part)
    if not callable(found):
        raise AgentError(
            f"{name!r} is not a function but of type {type(found).__name__}",
            where=text,
            hint="Name a function that is called with one Trial and returns an Agent.",
        )
    return found


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


def _module(name: str, text: str) -> Any:
    here = str(Path.cwd())
    if here not in sys.path:
        # It stays: what the module imports later, inside its functions, is found too.
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or name
        if name == missing or name.startswith(f"{missing}."):
            raise AgentError(
                f"no module named {missing!r}",
                where=text,
                hint=f"It is looked for in {here} and in the installed packages.",
            ) from error
        raise AgentError(
            f"module {name!r} cannot be imported: it needs {missing!r}, which is not installed",
            where=text,
        ) from error
    except Exception as error:
        raise AgentError(
            f"module {name!r} cannot be imported: {type(error).__name__}: {error}", where=text
        ) from error
