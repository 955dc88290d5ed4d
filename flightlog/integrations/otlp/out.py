"""Runs as spans, with the names of the current GenAI convention.

A run is a trace: its top span is the run, below it a span for each model call and each attempt
or refusal of a tool call; judgements are events `gen_ai.evaluation.result`. What the convention
has no name for is under `flightlog.`, the event itself as JSON too, so that what reads our
export again has the same events.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from flightlog._version import __version__
from flightlog.integrations.otlp.native import EVENT, MESSAGES, SCOPE
from flightlog.replay.cassette import Recording
from flightlog.trace.events import Evaluation, ModelCall, ToolCall, encode_event
from flightlog.trace.messages import Message
from flightlog.trace.otel import ATTRIBUTE_OF
from flightlog.trace.vocab import Outcome

_BUDGETS: Final = ("steps", "seconds", "tool_calls", "usd", "tokens")
_CLIENT, _INTERNAL = 3, 1
_ERROR: Final = 2
_OWN: Final = {
    "cost_usd": "flightlog.cost.usd",
    "price_id": "flightlog.cost.price_id",
    "attempt": "flightlog.attempt",
    "outcome": "flightlog.outcome",
    "effect": "flightlog.tool.effect",
    "idempotency_key": "flightlog.tool.idempotency_key",
    "served_how": "flightlog.tool.served_how",
}


def request_of(recording: Recording, *, service: str | None = None) -> dict[str, Any]:
    """An export request, in OTLP's JSON, with the trace of one run.

    Args:
        recording: the run, with its messages.
        service: `service.name`; the agent by default.
    """
    started = recording.started
    named = service or (started.agent if started else None) or "flightlog"
    scope = {"name": SCOPE, "version": __version__}
    return {
        "resourceSpans": [
            {
                "resource": {"attributes": _pairs({"service.name": named})},
                "scopeSpans": [{"scope": scope, "spans": list(spans_of(recording))}],
            }
        ]
    }


def spans_of(recording: Recording) -> Iterator[dict[str, Any]]:
    """The spans of one run, its own first."""
    trace_id = ids_of(recording.run_id)
    prompts: dict[int, tuple[str, ...]] = {}
    shown: set[str] = set()
    calls: list[dict[str, Any]] = []
    for event in recording.events:
        if isinstance(event, ModelCall):
            digests = _prompt(event, prompts)
            new = [d for d in (*event.prompt_added, event.output_digest) if d and d not in shown]
            shown.update(new)
            calls.append(_model_span(event, digests, new, recording, trace_id))
        elif isinstance(event, ToolCall):
            calls.append(_tool_span(event, recording, trace_id))
    yield _run_span(recording, trace_id, shown)
    yield from calls


def ids_of(run_id: str, seq: int | None = None) -> str:
    """The trace id of a run (32 hex digits), or the span id of one of its events (16)."""
    text = run_id if seq is None else f"{run_id}/{seq}"
    return hashlib.sha256(text.encode()).hexdigest()[: 32 if seq is None else 16]


def _run_span(recording: Recording, trace_id: str, shown: set[str]) -> dict[str, Any]:
    started, stopped = recording.started, recording.stopped
    others = [e for e in recording.events if not isinstance(e, (ModelCall, ToolCall))]
    attributes: dict[str, Any] = {"gen_ai.operation.name": "invoke_agent"}
    if started is not None:
        for column in ("agent", "agent_version", "conversation_id"):
            attributes[ATTRIBUTE_OF[column]] = getattr(started, column)
        for column in ("suite", "task_id", "variant", "trial", "tenant", "parent_run_id"):
            attributes[f"flightlog.run.{column}"] = getattr(started, column)
    attributes["flightlog.run.id"] = recording.run_id
    if stopped is not None:
        attributes["flightlog.run.status"] = str(stopped.status)
        attributes["flightlog.run.stop_reason"] = stopped.stop_reason and str(stopped.stop_reason)
        attributes["flightlog.run.stop_tool"] = stopped.stop_tool
        for budget in _BUDGETS:
            attributes[f"flightlog.budget.{budget}.limit"] = getattr(stopped, f"max_{budget}")
            attributes[f"flightlog.budget.{budget}.used"] = getattr(stopped, f"used_{budget}")
    attributes[EVENT] = [encode_event(event).decode() for event in others]
    named = (getattr(started, f"{name}_digest", None) for name in ("system", "task", "toolset"))
    digests = [digest for digest in named if digest and digest not in shown]
    attributes[MESSAGES] = _bodies(digests, recording)
    ends = [event.at for event in recording.events if event.at is not None]
    begin = started.at if started is not None and started.at is not None else min(ends, default=0)
    end = stopped.at if stopped is not None and stopped.at is not None else max(ends, default=begin)
    status: dict[str, Any] = {}
    if stopped is not None and stopped.status != "completed":
        status = {"code": _ERROR, "message": stopped.stop_detail or str(stopped.stop_reason or "")}
        attributes[ATTRIBUTE_OF["error_type"]] = str(stopped.stop_reason or "unknown")
    agent = started.agent if started is not None else None
    return {
        "traceId": trace_id,
        "spanId": ids_of(recording.run_id, -1),
        "name": f"invoke_agent {agent}" if agent else "invoke_agent",
        "kind": _INTERNAL,
        "startTimeUnixNano": str(begin * 1000),
        "endTimeUnixNano": str(max(begin, end) * 1000),
        "attributes": _pairs(attributes),
        "events": [_judged(e, end) for e in recording.events if isinstance(e, Evaluation)],
        "status": status,
    }


def _judged(event: Evaluation, end: int) -> dict[str, Any]:
    label = None if event.passed is None else "pass" if event.passed else "fail"
    return {
        "name": "gen_ai.evaluation.result",
        "timeUnixNano": str((event.at if event.at is not None else end) * 1000),
        "attributes": _pairs(
            {
                "gen_ai.evaluation.name": event.name,
                "gen_ai.evaluation.score.value": event.score,
                "gen_ai.evaluation.score.label": label,
                "gen_ai.evaluation.explanation": event.detail,
            }
        ),
    }


def _model_span(
    event: ModelCall,
    digests: Sequence[str],
    new: Sequence[str],
    recording: Recording,
    trace_id: str,
) -> dict[str, Any]:
    bodies = [recording.messages[one] for one in digests if one in recording.messages]
    attributes = _columns(event) | {"gen_ai.operation.name": "chat"}
    if event.finish_reason is not None:
        attributes[ATTRIBUTE_OF["finish_reason"]] = [str(event.finish_reason)]
    if event.time_to_first_token_ms is not None:
        seconds = event.time_to_first_token_ms / 1000
        attributes["gen_ai.response.time_to_first_chunk"] = seconds
    if event.attempt > 1:
        attributes["http.request.resend_count"] = event.attempt - 1
    if bodies:
        attributes["gen_ai.input.messages"] = json.dumps([_parts_of(one) for one in bodies])
    output = recording.messages.get(event.output_digest or "")
    if output is not None:
        attributes["gen_ai.output.messages"] = json.dumps([_parts_of(output)])
    attributes[MESSAGES] = _bodies(new, recording)
    name = f"chat {event.request_model}" if event.request_model else "chat"
    return _span(event, name, attributes, trace_id, kind=_CLIENT)


def _tool_span(event: ToolCall, recording: Recording, trace_id: str) -> dict[str, Any]:
    if event.result is None and event.result_blob and recording.blob is not None:
        text = recording.blob(event.result_blob)
        event = msgspec.structs.replace(event, result=text, result_blob=None)
    attributes = _columns(event) | {"gen_ai.operation.name": "execute_tool"}
    if event.outcome not in (Outcome.OK, Outcome.FAILED, Outcome.TIMED_OUT):
        attributes.setdefault(ATTRIBUTE_OF["error_type"], str(event.outcome))
    return _span(event, f"execute_tool {event.tool_name}", attributes, trace_id, kind=_INTERNAL)


def _span(
    event: ModelCall | ToolCall,
    name: str,
    attributes: dict[str, Any],
    trace_id: str,
    *,
    kind: int,
) -> dict[str, Any]:
    end_ns = (event.at or 0) * 1000
    begin_ns = max(0, end_ns - int((event.latency_ms or 0) * 1_000_000))
    is_error = event.outcome != Outcome.OK
    return {
        "traceId": trace_id,
        "spanId": ids_of(event.run_id, event.seq),
        "parentSpanId": ids_of(event.run_id, -1),
        "name": name,
        "kind": kind,
        "startTimeUnixNano": str(begin_ns),
        "endTimeUnixNano": str(end_ns),
        "attributes": _pairs(attributes | {EVENT: encode_event(event).decode()}),
        "status": {"code": _ERROR, "message": event.error or ""} if is_error else {},
    }


def _columns(event: ModelCall | ToolCall) -> dict[str, Any]:
    """The attributes of the convention, and our own, for the columns of a call."""
    found: dict[str, Any] = {}
    for column, attribute in {**ATTRIBUTE_OF, **_OWN}.items():
        value = getattr(event, column, None)
        if value is not None and column != "finish_reason":
            found[attribute] = value if isinstance(value, (int, float)) else str(value)
    return found


def _prompt(event: ModelCall, prompts: dict[int, tuple[str, ...]]) -> tuple[str, ...]:
    """The digests of all messages that a call sent; needs those of the calls before."""
    base = prompts.get(event.prompt_base_seq, ()) if event.prompt_base_seq is not None else ()
    prompts[event.seq] = (*base[: event.prompt_kept], *event.prompt_added)
    return prompts[event.seq]


def _bodies(digests: Iterable[str], recording: Recording) -> list[str]:
    found = (recording.messages.get(digest) for digest in digests)
    return [msgspec.json.encode(one.cleaned).decode() for one in found if one is not None]


def _parts_of(message: Message) -> dict[str, Any]:
    """A message as the convention writes it: role and parts."""
    if message.role == "tool":
        part = {
            "type": "tool_call_response",
            "id": message.tool_call_id,
            "response": message.text,
        }
        return {"role": "tool", "parts": [part]}
    parts: list[dict[str, Any]] = []
    if message.text is not None:
        parts.append({"type": "text", "content": message.text})
    parts += [
        {"type": "tool_call", "id": one.id, "name": one.name, "arguments": _value(one.arguments)}
        for one in message.tool_requests
    ]
    return {"role": message.role, "parts": parts}


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _pairs(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {"key": key, "value": _any_value(value)}
        for key, value in values.items()
        if value is not None and value != []
    ]


def _any_value(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, list):
        return {"arrayValue": {"values": [_any_value(one) for one in value]}}
    return {"stringValue": str(value)}
