"""Who answers the runs that begin inside a replay: an agent as a tool, whatever its thread.

A tool may run an agent of its own. In a replay that run's tools are answered too, and never
called: in the context of the replay (its workers and tasks inherit it) by its own executor; in
a thread that was started beside all contexts by the one replay that is under way, and where
there are several nobody can tell whose call it is, so the run is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Lock
from typing import Final

from flightlog.errors import AgentError
from flightlog.runtime.calls import ToolExecutor

_ANSWERING: Final[ContextVar[ToolExecutor | None]] = ContextVar("flightlog_replay", default=None)
_under_way: list[ToolExecutor] = []
_lock = Lock()


@contextmanager
def answering(executor: ToolExecutor | None) -> Iterator[None]:
    """While it is open, runs that begin inside are answered by the executor of a replay."""
    if not getattr(executor, "is_replay", False) or executor is None:
        yield
        return
    token = _ANSWERING.set(executor)
    with _lock:
        _under_way.append(executor)
    try:
        yield
    finally:
        with _lock:
            _under_way.remove(executor)
        _ANSWERING.reset(token)


def inherited() -> ToolExecutor | None:
    """The executor of the replay that a new run is part of; None outside of replays.

    Raises:
        AgentError: several replays are under way and it cannot be known which one it is.
    """
    mine = _ANSWERING.get()
    if mine is not None:
        return mine
    with _lock:
        others = {id(executor): executor for executor in _under_way}
    if len(others) > 1:
        raise AgentError(
            f"a run began beside {len(others)} replays, in a thread that belongs to none of them",
            hint="Replay one trial at a time (concurrency 1), or start the thread with "
            "contextvars.copy_context().run.",
        )
    return next(iter(others.values()), None)
