"""What the attributes of one span say, whichever dialect its emitter speaks."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

from flightlog.integrations.messages import parsed
from flightlog.integrations.otlp.spans import Span
from flightlog.trace.canonical import clean_text
from flightlog.trace.otel import NAMES_OF

_LARGEST: Final = 2**63 - 1
_MODEL_OPERATIONS: Final = frozenset({"chat", "text_completion", "generate_content", "completion"})
_RUN_OPERATIONS: Final = frozenset({"invoke_agent", "invoke_workflow"})
_VERCEL_RUN: Final = re.compile(r"ai\.(generate|stream)(Text|Object)")
_VERCEL_MODEL: Final = re.compile(r"ai\.(generate|stream)(Text|Object)\.do(Generate|Stream)")
_OF_OPENINFERENCE: Final = {"AGENT": "run", "LLM": "model", "TOOL": "tool"}
_OF_TRACELOOP: Final = {"workflow": "run", "agent": "run", "tool": "tool"}
_OF_LANGFUSE: Final = {"agent": "run", "generation": "model", "tool": "tool"}
_OF_MLFLOW: Final = {"AGENT": "run", "LLM": "model", "CHAT_MODEL": "model", "TOOL": "tool"}
_OUTPUTS: Final = ("gen_ai.output.messages", "gen_ai.completion", "output.value")
_PAUSE_NAMES: Final = {
    "gen_ai.response.time_to_first_chunk": 1_000.0,  # seconds
    "gen_ai.server.time_to_first_token": 1_000.0,
    "ai.response.msToFirstChunk": 1.0,
    "llm.time_to_first_token_ms": 1.0,
}


class SpanKind(StrEnum):
    """What a span is to us."""

    RUN = "run"
    MODEL = "model"
    TOOL = "tool"
    OTHER = "other"


def kind_of(span: Span) -> SpanKind:
    """What a span is: by the operation that it names, else by what only such a span carries."""
    has = span.attributes
    operation = has.get("gen_ai.operation.name")
    if isinstance(operation, str):
        if operation in _RUN_OPERATIONS:
            return SpanKind.RUN
        if operation in _MODEL_OPERATIONS:
            return SpanKind.MODEL
        return SpanKind.TOOL if operation == "execute_tool" else SpanKind.OTHER
    for name, kinds in (
        ("openinference.span.kind", _OF_OPENINFERENCE),
        ("traceloop.span.kind", _OF_TRACELOOP),
        ("langfuse.observation.type", _OF_LANGFUSE),
        ("mlflow.spanType", _OF_MLFLOW),
    ):
        said = has.get(name)
        if isinstance(said, str):
            said = said.strip('"')
            return SpanKind(kinds.get(said, kinds.get(said.upper(), "other")))
    vercel = has.get("ai.operationId")
    if isinstance(vercel, str):
        if _VERCEL_MODEL.fullmatch(vercel):
            return SpanKind.MODEL
        if _VERCEL_RUN.fullmatch(vercel):
            return SpanKind.RUN
        return SpanKind.TOOL if vercel == "ai.toolCall" else SpanKind.OTHER
    return _unnamed_kind(has)


def _unnamed_kind(has: Mapping[str, Any]) -> SpanKind:
    if has.get("mcp.method.name") == "tools/call" or "gen_ai.tool.name" in has:
        return SpanKind.TOOL
    if "agent_name" in has or "all_messages_events" in has or "pydantic_ai.all_messages" in has:
        return SpanKind.RUN
    if "gen_ai.request.model" in has or "llm.model_name" in has or "llm.request.type" in has:
        return SpanKind.MODEL
    return SpanKind.OTHER


def is_workflow(span: Span) -> bool:
    """True for what is a run only where nothing nearer is: the top of a chain or a graph."""
    return span.attributes.get("openinference.span.kind") in ("CHAIN", "UNKNOWN")


class Reading:
    """The columns of one span.

    Args:
        span: to be read.
    """

    __slots__ = ("has", "span")

    def __init__(self, span: Span) -> None:
        self.span = span
        self.has = span.attributes

    def value(self, column: str) -> Any:
        """The first attribute that feeds a column; None where none is there."""
        has = self.has
        for name in NAMES_OF[column]:
            value = has.get(name)
            if value is not None and value != "":
                return value
        return None

    def text(self, column: str) -> str | None:
        """The same as a text."""
        value = self.value(column)
        if isinstance(value, list):
            value = value[0] if value else None
        return None if value is None else clean_text(str(value))

    def count(self, column: str) -> int | None:
        """The same as a count; None where it is none."""
        return count_of(self.value(column))

    def number(self, column: str) -> float | None:
        """The same as a number that is finite and not negative."""
        return number_of(self.value(column))

    @property
    def time_to_first_token_ms(self) -> float | None:
        """How long the first part of the answer took."""
        for name, factor in _PAUSE_NAMES.items():
            found = number_of(self.has.get(name))
            if found is not None:
                return found * factor
        return None

    @property
    def attempt(self) -> int:
        """Which try of the call this is, from 1."""
        resent = self.has.get("http.request.resend_count", self.has.get("retry_count"))
        return 1 + min(count_of(resent) or 0, 1_000_000)

    @property
    def finish_reason(self) -> str | None:
        """Why the answer ended, in the source's words."""
        value = parsed(self.value("finish_reason"))
        if value is None:
            value = next(
                (found for name in _OUTPUTS if (found := _reason_in(self.has.get(name)))), None
            )
        if isinstance(value, list):
            value = value[0] if value else None
        return None if value is None else clean_text(str(value))

    @property
    def error(self) -> tuple[str, str | None] | None:
        """What went wrong and the class of it; None for a span that went well."""
        said = self.text("error_type")
        raised = next((one for one in self.span.events if one.name == "exception"), None)
        if not (self.span.is_error or said or raised):
            return None
        message = self.span.status
        if raised is not None:
            kind = raised.attributes.get("exception.type")
            said = said or (str(kind) if kind else None)
            message = message or str(raised.attributes.get("exception.message") or "")
        said = None if said is None else said.rsplit(".", 1)[-1]
        return clean_text(message or said or "the span's status is an error"), said


def _reason_in(output: Any) -> Any:
    """The finish reason that an answer itself tells."""
    value = parsed(output)
    while isinstance(value, list) and value:
        value = value[-1]
    if not isinstance(value, Mapping):
        return None
    if value.get("finish_reason"):
        return value["finish_reason"]
    choices = value.get("choices")
    return _reason_in(choices[:1]) if isinstance(choices, list) else None


def count_of(value: Any) -> int | None:
    """A count that a column can hold, also from text; None for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str) and len(value) <= 20:
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, float):
        value = int(value) if math.isfinite(value) and value == int(value) else None
    return value if isinstance(value, int) and 0 <= value <= _LARGEST else None


def number_of(value: Any) -> float | None:
    """A number that is finite and not negative, also from text; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and number >= 0 else None
