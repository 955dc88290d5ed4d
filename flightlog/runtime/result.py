"""What a run belongs to, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from flightlog.errors import AgentError
from flightlog.runtime.budget import Budget, Used
from flightlog.trace.run_writer import RunWriter
from flightlog.trace.vocab import Origin, RunStatus, StopReason, stop_text

_TEXTS: Final = (
    "run_id",
    "variant",
    "session_id",
    "conversation_id",
    "tenant",
    "golden",
    "parent_run_id",
)


@dataclass(frozen=True)
class RunContext:
    """Where a run belongs; every field is a column of `run_started`.

    Attributes:
        run_id: None makes a UUIDv7.
        labels: free key-value pairs; written as text.

    Raises:
        AgentError: a value of the wrong type, which no column could hold.
    """

    run_id: str | None = None
    variant: str | None = None
    trial: int | None = None
    session_id: str | None = None
    conversation_id: str | None = None
    tenant: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    origin: Origin = Origin.LIVE
    golden: str | None = None
    parent_run_id: str | None = None

    def __post_init__(self) -> None:
        for name in _TEXTS:
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                raise AgentError(f"{name}={value!r} of a run is not text")
        if self.trial is not None and type(self.trial) is not int:
            raise AgentError(f"trial={self.trial!r} of a run is not a whole number")


@dataclass(frozen=True)
class RunResult:
    """How one run ended.

    Attributes:
        answer: last text of the agent; None where it gave none.
        stop_tool: tool that the stop reason is about.
        stop_detail: the stop in one sentence, with its numbers; None for ok.
        usage: what was spent of `budget`.
        writer: writes more about the run, such as `writer.evaluation(...)`.
    """

    run_id: str
    status: RunStatus
    answer: str | None
    stop_reason: StopReason
    stop_tool: str | None
    stop_detail: str | None
    usage: Used
    budget: Budget
    writer: RunWriter

    @property
    def stop(self) -> str:
        """Stop reason and tool as one word, such as `replay_miss:get_order`."""
        return stop_text(self.stop_reason, self.stop_tool)
