"""What a run belongs to, and what came of it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from flightlog.errors import AgentError
from flightlog.runtime.budget import Budget, Used
from flightlog.runtime.sentences import sentence_of
from flightlog.trace.canonical import clean_text
from flightlog.trace.run_writer import RunWriter
from flightlog.trace.vocab import Origin, RunStatus, StopReason, stop_text

_TEXTS: Final = (
    "run_id",
    "variant",
    "session_id",
    "conversation_id",
    "tenant",
    "data_subject",
    "golden",
    "parent_run_id",
)


@dataclass(frozen=True)
class RunContext:
    """Where a run belongs; every field is a column of `run_started`.

    Attributes:
        run_id: None makes a UUIDv7.
        data_subject: the person whose data the run holds; `flightlog erase --subject` finds it.
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
    data_subject: str | None = None

    def __post_init__(self) -> None:
        for name in _TEXTS:
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                raise AgentError(f"{name}={value!r} of a run is not text")
        if self.trial is not None and type(self.trial) is not int:
            raise AgentError(f"trial={self.trial!r} of a run is not a whole number")


@dataclass(frozen=True, slots=True)
class BudgetUse:
    """One budget of a run.

    Attributes:
        allowed: the limit; None where there is none.
        used: what the run spent; None where it is unknown.
    """

    allowed: float | int | None
    used: float | int | None


@dataclass(frozen=True)
class RunResult:
    """How one run ended.

    Attributes:
        answer: last text of the agent; None where it gave none.
        stop_tool: tool that the stop reason is about.
        stop_detail: the stop in one sentence, with its numbers, for who runs the agent;
            None for ok.
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

    @property
    def partial(self) -> bool:
        """True when the run ended before its end: `answer` is what the agent had said so far."""
        return self.stop_reason is not StopReason.OK

    @property
    def budgets(self) -> dict[str, BudgetUse]:
        """What was allowed and what was spent, by the name of the budget in the settings."""
        spent = self.usage.spent()
        return {
            name: BudgetUse(limit, spent[f"used_{name.removeprefix('max_')}"])
            for name, limit in self.budget.limits().items()
        }

    @property
    def message(self) -> str:
        """Why the run ended, in one sentence for the people who use the agent."""
        detail = self.stop_detail or ""
        return sentence_of(
            self.stop_reason,
            budget=self.budget,
            usage=self.usage,
            tool=self.stop_tool,
            has_answer=bool(self.answer),
            is_of_tenant=_TENANT_STOP.match(detail) is not None,
        )

    def as_dict(self) -> dict[str, Any]:
        """The result as plain values, as `RESULT_SCHEMA` describes them."""
        return {
            "format": RESULT_FORMAT,
            "run_id": clean_text(self.run_id),
            "status": self.status.value,
            "stop_reason": self.stop_reason.value,
            "stop_tool": _clean(self.stop_tool),
            "stop_detail": _clean(self.stop_detail),
            "message": self.message,
            "answer": _clean(self.answer),
            "partial": self.partial,
            "budgets": {
                name: {"allowed": _finite(use.allowed), "used": _finite(use.used)}
                for name, use in self.budgets.items()
            },
        }

    def to_json(self) -> str:
        """The result as JSON, for a web page: may stand in a `script` element as it is."""
        text = json.dumps(self.as_dict(), ensure_ascii=False, allow_nan=False)
        return text.translate(_FOR_A_PAGE)


def _clean(text: str | None) -> str | None:
    return None if text is None else clean_text(text)


def _finite(number: float | None) -> float | int | None:
    """The number; None for an infinite limit, which is none."""
    return number if number is None or math.isfinite(number) else None


_TENANT_STOP: Final = re.compile(r"budget max_\w+=\S+ of tenant ")
_FOR_A_PAGE: Final = {ord(sign): f"\\u{ord(sign):04x}" for sign in "<>&\u2028\u2029"}
RESULT_FORMAT: Final = 1
"""Raised when a key of the JSON form goes or changes its meaning."""

_TEXT: Final = {"type": "string"}
_MAYBE_TEXT: Final = {"type": ["string", "null"]}
_AMOUNT: Final = {"type": ["number", "null"], "minimum": 0}


def _object(description: str, properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "description": description,
        "type": "object",
        "properties": properties,
        "required": list(properties),
    }


RESULT_SCHEMA: Final[Mapping[str, Any]] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "Result of a run",
    **_object(
        "What `RunResult.to_json()` gives. Later versions may add keys under the same format.",
        {
            "format": {"const": RESULT_FORMAT, "description": "Version of this form."},
            "run_id": {**_TEXT, "description": "Id of the run in its store."},
            "status": {"enum": [status.value for status in RunStatus]},
            "stop_reason": {"enum": [reason.value for reason in StopReason]},
            "stop_tool": {**_MAYBE_TEXT, "description": "Tool that the stop is about."},
            "stop_detail": {
                **_MAYBE_TEXT,
                "description": "The stop with its numbers, for who runs the agent; may hold "
                "errors of tools. Null for ok.",
            },
            "message": {**_TEXT, "description": "Why the run ended, for who uses the agent."},
            "answer": {
                **_MAYBE_TEXT,
                "description": "Last text of the agent; null where it gave none.",
            },
            "partial": {
                "type": "boolean",
                "description": "True when the run was stopped before its end.",
            },
            "budgets": _object(
                "Null as `allowed` is no limit, as `used` unknown.",
                {
                    name: _object(unit, {"allowed": _AMOUNT, "used": _AMOUNT})
                    for name, unit in {
                        "max_steps": "Turns of the loop.",
                        "max_seconds": "Seconds.",
                        "max_tool_calls": "Attempts of tool calls, failed ones too.",
                        "max_usd": "US dollars.",
                        "max_tokens": "Tokens, input and output together.",
                    }.items()
                },
            ),
        },
    ),
}
