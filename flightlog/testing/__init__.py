"""Helps with tests of agents: public fakes, and a pytest plugin for golden tasks.

The public names load lazily, since pytest imports this package in every project of an
environment in which flightlog is installed.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from flightlog.testing.fakes import FakeClock as FakeClock
    from flightlog.testing.fakes import FakeTool as FakeTool
    from flightlog.testing.fakes import MemorySink as MemorySink
    from flightlog.testing.fakes import ScriptedModel as ScriptedModel
    from flightlog.testing.fakes import ScriptedUser as ScriptedUser
    from flightlog.testing.fakes import asking as asking
    from flightlog.testing.fakes import make_run as make_run
    from flightlog.testing.fakes import saying as saying

__all__ = [
    "FakeClock",
    "FakeTool",
    "MemorySink",
    "ScriptedModel",
    "ScriptedUser",
    "asking",
    "make_run",
    "saying",
]

_FAKES: Final = "flightlog.testing.fakes"


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'flightlog.testing' has no attribute {name!r}")
    value = getattr(importlib.import_module(_FAKES), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
