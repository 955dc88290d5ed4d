"""Made-up spans, as an exporter sends them in JSON."""

from __future__ import annotations

import json
from typing import Any

START_NS = 1_780_000_000_000_000_000
MS = 1_000_000


def span(
    trace_id: str,
    span_id: int,
    name: str,
    *,
    parent: int | None = None,
    start_ms: float = 0.0,
    ms: float = 10.0,
    error: str | None = None,
    events: list[dict[str, Any]] | None = None,
    **attributes: Any,
) -> dict[str, Any]:
    """One span; dots in names of attributes are written as two underscores."""
    begin = START_NS + int(start_ms * MS)
    made: dict[str, Any] = {
        "traceId": trace_id,
        "spanId": f"{span_id:016x}",
        "name": name,
        "kind": 1,
        "startTimeUnixNano": str(begin),
        "endTimeUnixNano": str(begin + int(ms * MS)),
        "attributes": pairs({key.replace("__", "."): one for key, one in attributes.items()}),
        "status": {} if error is None else {"code": 2, "message": error},
    }
    if parent is not None:
        made["parentSpanId"] = f"{parent:016x}"
    if events:
        made["events"] = [
            {
                "name": one["name"],
                "timeUnixNano": str(begin),
                "attributes": pairs(one.get("attributes", {})),
            }
            for one in events
        ]
    return made


def pairs(values: dict[str, Any]) -> list[dict[str, Any]]:
    """Attributes as key and value."""
    return [{"key": key, "value": any_value(value)} for key, value in values.items()]


def any_value(value: Any) -> dict[str, Any]:
    """One value, as OTLP writes it in JSON."""
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, list):
        return {"arrayValue": {"values": [any_value(one) for one in value]}}
    if isinstance(value, dict):
        return {"kvlistValue": {"values": pairs(value)}}
    return {"stringValue": value}


def export_request(
    spans: list[dict[str, Any]], *, scope: str = "made", **resource: Any
) -> dict[str, Any]:
    """An export request."""
    named = {"service.name": "shop", **{k.replace("__", "."): v for k, v in resource.items()}}
    scoped = {"scope": {"name": scope, "version": "1"}, "spans": spans}
    return {"resourceSpans": [{"resource": {"attributes": pairs(named)}, "scopeSpans": [scoped]}]}


def text_message(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "parts": [{"type": "text", "content": text}]}


def agent_spans(trace_id: str, order: str, *, fails: bool = False) -> list[dict[str, Any]]:
    """A run as the current convention tells it: two model calls, and a tool call between."""
    ask = {"type": "tool_call", "id": "c1", "name": "get_order", "arguments": {"id": order}}
    prompt = [text_message("user", f"Where is {order}?")]
    asked = {"role": "assistant", "parts": [ask], "finish_reason": "tool_call"}
    told = "the index is down" if fails else "shipped"
    answer = {
        "role": "tool",
        "parts": [{"type": "tool_call_response", "id": "c1", "response": told}],
    }
    model = {
        "gen_ai__operation__name": "chat",
        "gen_ai__provider__name": "openai",
        "gen_ai__request__model": "model-a",
        "gen_ai__response__model": "model-a-2026",
    }
    first = span(
        trace_id, 2, "chat model-a", parent=1, start_ms=1, ms=500, **model,
        gen_ai__response__id="r1", gen_ai__usage__input_tokens=120, gen_ai__usage__output_tokens=9,
        gen_ai__usage__cache_read__input_tokens=100,
        gen_ai__response__finish_reasons=["tool_calls"],
        gen_ai__response__time_to_first_chunk=0.2,
        gen_ai__system_instructions=json.dumps([{"type": "text", "content": "Be brief."}]),
        gen_ai__input__messages=json.dumps(prompt), gen_ai__output__messages=json.dumps([asked]),
    )  # fmt: skip
    tool = span(
        trace_id, 3, "execute_tool get_order", parent=1, start_ms=502, ms=40,
        error=told if fails else None, gen_ai__operation__name="execute_tool",
        gen_ai__tool__name="get_order", gen_ai__tool__call__id="c1",
        gen_ai__tool__call__arguments=json.dumps({"id": order}),
        **({"error__type": "IndexError"} if fails else {"gen_ai__tool__call__result": told}),
    )  # fmt: skip
    said = "I cannot tell." if fails else "It is on its way."
    second = span(
        trace_id, 4, "chat model-a", parent=1, start_ms=543, ms=300, **model,
        gen_ai__usage__input_tokens=150, gen_ai__usage__output_tokens=7,
        gen_ai__response__finish_reasons=["stop"],
        gen_ai__system_instructions=json.dumps([{"type": "text", "content": "Be brief."}]),
        gen_ai__input__messages=json.dumps([*prompt, asked, answer]),
        gen_ai__output__messages=json.dumps([text_message("assistant", said)]),
    )  # fmt: skip
    run = span(
        trace_id, 1, "invoke_agent desk", ms=850, gen_ai__operation__name="invoke_agent",
        gen_ai__agent__name="desk", gen_ai__conversation__id="conv-1",
    )  # fmt: skip
    return [first, tool, second, run]
