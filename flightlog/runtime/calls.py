"""One tool call on its way through the gateway, and what can come of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from flightlog.runtime.retry import asked_wait_s, is_worth_retrying
from flightlog.runtime.tools import Tool
from flightlog.trace.canonical import CanonicalArgs, canonical_args, canonical_json, clean_text
from flightlog.trace.messages import ToolRequest
from flightlog.trace.vocab import Effect, Outcome, ServedHow, StopReason

MAX_ERROR_CHARS: Final = 10_000
"""Longest text of an exception that is kept and shown to a model."""


def _nothing(call: PendingCall, fn: Callable[..., Any]) -> Mapping[str, Any]:
    """A call that no gateway made adds nothing to its arguments."""
    return {}


@dataclass(frozen=True, slots=True)
class PendingCall:
    """One tool call that a model asked for.

    Attributes:
        call_ix: position within the step, from 0.
        request: the model's own words.
        tool: None when the agent has no tool of that name.
        args: canonical arguments, which identify the call.
        attempt: which try this is, from 1.
        key: idempotency key of a write; None for pure tools and reads.
        inject: what the gateway adds to the arguments of a function that answers the call.
    """

    step: int
    call_ix: int
    request: ToolRequest
    tool: Tool | None
    args: CanonicalArgs
    attempt: int = 1
    key: str | None = None
    inject: Callable[[PendingCall, Callable[..., Any]], Mapping[str, Any]] = field(
        default=_nothing, repr=False, compare=False
    )

    @classmethod
    def of(
        cls,
        request: ToolRequest,
        tool: Tool | None,
        *,
        step: int,
        call_ix: int,
        inject: Callable[[PendingCall, Callable[..., Any]], Mapping[str, Any]] = _nothing,
    ) -> PendingCall:
        """The call with its arguments in canonical form."""
        args = canonical_args(
            request.arguments,
            schema=tool.input_schema if tool else None,
            volatile=tool.volatile if tool else (),
        )
        return cls(step, call_ix, request, tool, args, inject=inject)

    @property
    def effect(self) -> Effect:
        """The tool's effect; unknown without a tool."""
        return self.tool.effect if self.tool else Effect.UNKNOWN

    @property
    def name(self) -> str:
        """The tool, as the model named it."""
        return self.request.name

    def values(self) -> dict[str, Any]:
        """What the function gets: the canonical arguments, volatile ones included, as a copy."""
        args = self.args
        if self.tool and self.tool.volatile:
            args = canonical_args(self.request.arguments, schema=self.tool.input_schema)
        value: dict[str, Any] = json.loads(args.text) if args.flag is None else {}
        return value

    def values_for(self, fn: Callable[..., Any]) -> dict[str, Any]:
        """As `values`, with the context and the idempotency key that `fn` asks for."""
        return {**self.values(), **self.inject(self, fn)}


@dataclass(frozen=True, slots=True)
class Served:
    """What came of an admitted call: from the tool itself, or from a recording.

    Attributes:
        outcome: how the call ended.
        result: observation as text; None shows the model a typed error.
        error: what went wrong.
        error_type: class of the error.
        latency_ms: duration; advances a virtual clock.
        served_how: where the observation came from.
        served_from: recorded run that it came from.
        state_key: replay key.
        is_final: the tool said that another try cannot help.
        retry_after_s: seconds that the tool asks to wait before another try.
        result_flag: what a recording says of the text that it keeps.
    """

    outcome: Outcome
    result: str | None = None
    error: str | None = None
    error_type: str | None = None
    latency_ms: float | None = None
    served_how: ServedHow | None = None
    served_from: str | None = None
    state_key: str | None = None
    is_final: bool = False
    retry_after_s: float | None = None
    result_flag: str | None = None

    @classmethod
    def of_value(cls, value: Any, *, how: ServedHow, latency_ms: float | None) -> Served:
        """What a function returned, as text: strings as they are, all else as canonical JSON."""
        try:
            text = clean_text(value if isinstance(value, str) else canonical_json(value))
        except Exception as error:  # the value is foreign: other threads may be changing it
            reason = error_text(error)
            return cls(
                Outcome.INVALID_OUTPUT,
                error=f"the result has no JSON form: {reason}; return a string, or plain JSON "
                "values",
                error_type="invalid_output",
                latency_ms=latency_ms,
                served_how=how,
            )
        return cls(Outcome.OK, result=text, latency_ms=latency_ms, served_how=how)

    @classmethod
    def of_error(cls, error: BaseException, *, how: ServedHow, latency_ms: float | None) -> Served:
        """What a function raised."""
        return cls(
            Outcome.FAILED,
            error=error_text(error),
            error_type=type(error).__name__,
            latency_ms=latency_ms,
            served_how=how,
            is_final=not is_worth_retrying(error),
            retry_after_s=asked_wait_s(error),
        )


@dataclass(frozen=True, slots=True)
class Settled:
    """What came of a call after the cut and the checks of its observation.

    Attributes:
        hit_deadline: the run's own deadline cut it, which ends the run.
    """

    served: Served
    hit_deadline: bool = False

    @property
    def observation(self) -> str:
        """What the model sees: the result, or a typed error."""
        served = self.served
        if served.result is not None and served.outcome is not Outcome.INVALID_OUTPUT:
            return served.result
        kind = served.error_type or served.outcome.value
        return error_observation(kind, served.error or f"the call ended as {served.outcome.value}")


@dataclass(slots=True)
class EarlierCall:
    """A call of this run that a later one may repeat.

    Attributes:
        args_digest: of the arguments that it was made with.
        settled: what it came to; None while it is under way.
        before: the write of unknown outcome that this one makes again.
        is_stale: a write ended while this read was under way.
    """

    step: int
    call_ix: int
    args_digest: str
    settled: Settled | None = None
    before: EarlierCall | None = None
    is_stale: bool = False


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the gateway does not let a call through.

    Attributes:
        outcome: what the call's row says.
        error_type: one word for the model, such as `unknown_tool`.
        error: the reason, in one sentence.
        stop_reason: ends the run with this reason where the outcome alone does not name it.
        stops: True ends the run and False never does, whatever the policy's `stop_on`
            says; None follows it.
        repeat_of: the earlier call whose observation this one gets.
    """

    outcome: Outcome
    error_type: str
    error: str
    stop_reason: StopReason | None = None
    stops: bool | None = None
    repeat_of: EarlierCall | None = None


@dataclass(frozen=True, slots=True)
class Admission:
    """The gateway's answer to one call: refused, served, or (neither) to be executed."""

    call: PendingCall
    refusal: Refusal | None = None
    served: Served | None = None

    @property
    def is_live(self) -> bool:
        """True when the tool's function is to be called."""
        return self.refusal is None and self.served is None


class ToolExecutor(Protocol):
    """Answers calls in the place of the tools' functions."""

    def resolve(self, call: PendingCall) -> Served | None:
        """The answer to a call that passed the gateway; None has the function called.

        Called for the calls of a step in their order, one at a time, before any
        tool of the step runs.
        """
        ...


def error_text(error: BaseException) -> str:
    """What an exception says, cut to `MAX_ERROR_CHARS`; its class where it says nothing."""
    try:
        text = str(error)
    except Exception:  # its `__str__` is foreign code too
        text = ""
    if len(text) > MAX_ERROR_CHARS:
        text = f"{text[:MAX_ERROR_CHARS]}... ({len(text)} characters)"
    return clean_text(text) or type(error).__name__


def named_error(error: BaseException) -> str:
    """Class of an exception and what it says."""
    name, text = type(error).__name__, error_text(error)
    return name if text == name else f"{name}: {text}"


def sentence(text: str) -> str:
    """The text in one line that ends once; what others say ends in any way, or not at all."""
    line = clause(text)
    return line if line.endswith(("!", "?")) else f"{line}."


def clause(text: str) -> str:
    """The text in one line without its end, so that more can follow."""
    return " ".join(text.split()).rstrip(" .:;,")


def error_observation(error_type: str, message: str, **more: Any) -> str:
    """A typed error, as the model sees it."""
    fields: Mapping[str, Any] = {"type": error_type, "message": message, **more}
    return canonical_json({"error": fields})
