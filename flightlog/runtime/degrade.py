"""Degrade mode: how a run goes on with less, instead of stopping."""

from __future__ import annotations

from collections.abc import Sequence

from flightlog.runtime.tools import Tool
from flightlog.trace.run_writer import RunWriter

NORMAL = "normal"
READ_ONLY = "read_only"
WITHOUT_TOOL = "without_tool"


class RunMode:
    """What a run may no longer do; every change is an event.

    Attributes:
        read_only_because: why writes are refused; None while they are not.
    """

    def __init__(self, writer: RunWriter) -> None:
        self.read_only_because: str | None = None
        self._writer = writer
        self._reasons: dict[str, str] = {}
        self._lasting_reason: str | None = None
        self._without: set[str] = set()

    @property
    def without(self) -> frozenset[str]:
        """Tools that are not offered while their breaker is open."""
        return frozenset(self._without)

    def offered(self, tools: Sequence[Tool]) -> tuple[Tool, ...]:
        """The tools that the model is told of."""
        if not self._without and self.read_only_because is None:
            return tuple(tools)
        is_read_only = self.read_only_because is not None
        return tuple(
            tool
            for tool in tools
            if tool.name not in self._without and not (is_read_only and tool.effect.is_write)
        )

    def drop_tool(self, tool: str, *, step: int, why: str) -> None:
        """Goes on without a tool until `restore`."""
        if tool not in self._without:
            self._without.add(tool)
            self._record(step, tool, NORMAL, WITHOUT_TOOL, why)

    def go_read_only(self, tool: str, *, step: int, why: str) -> None:
        """Refuses writes until `restore` of the tool whose breaker asks for it."""
        self._reasons.setdefault(tool, why)
        self._refuse_writes(step, why)

    def stay_read_only(self, *, step: int, why: str) -> None:
        """Refuses writes to the end of the run, as a guard asks for."""
        self._lasting_reason = self._lasting_reason or why
        self._refuse_writes(step, why)

    def restore(self, tool: str, *, step: int, why: str) -> None:
        """Takes back what the open breaker of a tool had led to."""
        if tool in self._without:
            self._without.discard(tool)
            self._record(step, tool, WITHOUT_TOOL, NORMAL, why)
        if self._reasons.pop(tool, None) is not None:
            self.read_only_because = next(iter(self._reasons.values()), self._lasting_reason)
            if self.read_only_because is None:
                self._record(step, None, READ_ONLY, NORMAL, why)

    def _refuse_writes(self, step: int, why: str) -> None:
        if self.read_only_because is None:
            self.read_only_because = why
            self._record(step, None, NORMAL, READ_ONLY, why)

    def _record(self, step: int, tool: str | None, before: str, after: str, why: str) -> None:
        self._writer.state_changed(
            step=step,
            subject="degrade",
            tool_name=tool,
            state_from=before,
            state_to=after,
            detail=why,
            durable=False,
        )
