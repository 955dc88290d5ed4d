"""Finds the candidate: `module:function` to the function that makes an agent."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from flightlog.errors import AgentError, nearest


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
