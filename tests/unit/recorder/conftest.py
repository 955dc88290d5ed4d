"""Events and children for the tests of the recorder."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from flightlog.trace.events import RunStarted, RunStopped, ToolCall


@pytest.fixture
def store_path(tmp_path: Path) -> Path:
    """Where a test's store goes; nothing is there yet."""
    return tmp_path / "store"


@pytest.fixture
def call() -> Callable[..., ToolCall]:
    """Builds the n-th tool call of a run."""

    def build(seq: int, *, run_id: str = "run", **fields: object) -> ToolCall:
        defaults: dict[str, object] = {"at": 1_000_000 + seq, "tool_name": "search", "args": "{}"}
        return ToolCall(run_id=run_id, seq=seq, **(defaults | fields))  # type: ignore[arg-type]

    return build


@pytest.fixture
def started() -> Callable[..., RunStarted]:
    """Builds the start of a run."""

    def build(run_id: str = "run", **fields: object) -> RunStarted:
        return RunStarted(run_id=run_id, seq=0, at=1_000_000, **fields)  # type: ignore[arg-type]

    return build


@pytest.fixture
def stopped() -> Callable[..., RunStopped]:
    """Builds the end of a run."""

    def build(seq: int, run_id: str = "run", **fields: object) -> RunStopped:
        return RunStopped(run_id=run_id, seq=seq, at=1_000_000 + seq, **fields)  # type: ignore[arg-type]

    return build


@pytest.fixture
def in_child() -> Callable[[Callable[[], None]], int]:
    """Runs a function in a forked child; its exit code (0, 1 for an exception, -n for a signal)."""

    def run(body: Callable[[], None]) -> int:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                body()
                code = 0
            finally:
                os._exit(code)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    return run
