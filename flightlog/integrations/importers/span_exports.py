"""Reads exports of tracing platforms: Langfuse, Phoenix (OpenInference), MLflow.

Each is a set of spans in the platform's own JSON. They are brought into the form of
OpenTelemetry's, whose reader knows what a span is, and so are the same calls and runs.

Source: Langfuse trace export and `GET /api/public/traces`; Arize Phoenix
`GET /v1/projects/*/spans` and its data frames as JSON; MLflow 3 `Trace.to_json`.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from flightlog.integrations.importers.documents import (
    DocumentFile,
    Item,
    count_at,
    items_at,
    not_of_format,
    number_at,
    text_at,
    time_at,
)
from flightlog.integrations.importers.foreign_run import ForeignRun, Judgement
from flightlog.integrations.messages import messages_of, parsed, text_of
from flightlog.integrations.otlp.runs import runs_of
from flightlog.integrations.otlp.spans import Span, SpanEvent
from flightlog.trace.canonical import clean_text

_HEX: Final = frozenset("0123456789abcdef")
_LANGFUSE_KINDS: Final = {"AGENT": "invoke_agent", "GENERATION": "chat", "TOOL": "execute_tool"}
_MLFLOW_KINDS: Final = {
    "AGENT": "invoke_agent",
    "LLM": "chat",
    "CHAT_MODEL": "chat",
    "TOOL": "execute_tool",
}
_PHOENIX_KIND: Final = "openinference.span.kind"
_MAX_FLAT: Final = 50_000


def read_langfuse(path: Path) -> DocumentFile:
    """The runs of a Langfuse export: a trace, a list of them, a page, or one a line."""
    like = "a Langfuse trace: an object with observations"
    return DocumentFile(path, _langfuse, looks_like=like)


def read_phoenix(path: Path) -> DocumentFile:
    """The runs of spans out of Phoenix: a page of them, or one a line."""
    like = "spans of Phoenix: objects with context and attributes"
    return _Together(path, _phoenix, looks_like=like)


def read_mlflow(path: Path) -> DocumentFile:
    """The runs of MLflow traces: one, a list of them, or one a line."""
    like = "an MLflow trace: an object with info and data"
    return DocumentFile(path, _mlflow, looks_like=like)


class _Together(DocumentFile):
    """A file whose objects are spans, of which many are one trace."""

    def __iter__(self) -> Iterator[ForeignRun]:
        found: list[Item] = []
        first = None
        for where, value in self._items():
            first = first or where
            if not isinstance(value, dict):
                raise not_of_format(f"a {type(value).__name__}", where, self._looks_like)
            is_page = "data" in value
            found += items_at(value, "data") if is_page else [value]
        yield from self._guarded({"data": found}, (first or "").partition(": item")[0])


def _runs(
    spans: Iterable[Span], where: str, format_name: str, *, judgements: tuple[Judgement, ...] = ()
) -> Iterator[ForeignRun]:
    """The runs of spans, each trace by itself, in the order in which they began."""
    traces: defaultdict[str, dict[str, Span]] = defaultdict(dict)
    for span in spans:
        traces[span.trace_id].setdefault(span.span_id, span)
    for found in traces.values():
        trace = runs_of(found.values(), is_strict=False)
        runs = sorted(trace.runs.items(), key=lambda one: (one[1].started_us or 0, one[0]))
        for place, (_, run) in enumerate(runs):
            yield replace(
                run,
                format=format_name,
                source=format_name,
                where=f"{where}: {run.where}",
                judgements=(*run.judgements, *(judgements if place == 0 else ())),
            )


# Langfuse


def _langfuse(document: Item, where: str) -> Iterator[ForeignRun]:
    if "data" in document and "observations" not in document:
        for ix, one in enumerate(items_at(document, "data")):
            yield from _langfuse(one, f"{where}: trace {ix}")
        return
    trace = document.get("trace")
    about: Item = trace if isinstance(trace, Mapping) else document
    observations = items_at(document, "observations") or items_at(about, "observations")
    if not observations:
        raise ValueError("a trace without its observations")
    tools = _asked_tools(observations)
    scores = items_at(about, "scores") or items_at(document, "scores")
    spans = [_observation(one, about, tools) for one in observations]
    yield from _runs(spans, where, "langfuse", judgements=tuple(_scores(scores)))


def _asked_tools(observations: Iterable[Item]) -> set[str]:
    """Names of tools that models asked for: older exports do not mark a tool's span as one."""
    outputs = (parsed(one.get("output")) for one in observations if _kind(one) == "GENERATION")
    messages = (message for output in outputs for message in messages_of(output, role="assistant"))
    return {request.name for message in messages for request in message.tool_requests}


def _kind(observation: Item) -> str:
    return (text_at(observation, "type") or "").upper()


def _observation(one: Item, about: Item, tools: set[str]) -> Span:
    kind, name = _kind(one), text_at(one, "name") or ""
    if kind == "SPAN" and name in tools:
        kind = "TOOL"
    metadata = parsed(one.get("metadata"))
    own = metadata.get("attributes") if isinstance(metadata, Mapping) else None
    operation = _LANGFUSE_KINDS.get(kind)
    attributes: dict[str, Any] = dict(own) if isinstance(own, Mapping) else {}
    if operation is not None:
        attributes["gen_ai.operation.name"] = operation
    usage, cost = parsed(one.get("usageDetails")), parsed(one.get("costDetails"))
    usage = usage if isinstance(usage, Mapping) else one.get("usage")
    told = {
        "gen_ai.request.model": text_at(one, "model"),
        "gen_ai.usage.input_tokens": _langfuse_input(usage),
        "gen_ai.usage.output_tokens": count_at(usage, "output"),
        "gen_ai.usage.cache_read.input_tokens": _first_count(usage, _CACHE_READ),
        "gen_ai.usage.cache_write.input_tokens": _first_count(usage, _CACHE_WRITE),
        "gen_ai.usage.reasoning.output_tokens": _first_count(usage, _REASONING),
        "gen_ai.response.time_to_first_chunk": number_at(one, "timeToFirstToken"),
        "gen_ai.conversation.id": text_at(about, "sessionId"),
        "llm.cost.total": number_at(cost, "total") or number_at(one, "totalCost") or None,
    }
    if kind == "GENERATION":
        told["gen_ai.input.messages"] = text_of(one.get("input"))
        told["gen_ai.output.messages"] = text_of(one.get("output"))
    elif kind == "TOOL":
        told["gen_ai.tool.name"] = attributes.get("gen_ai.tool.name") or name
        told["gen_ai.tool.call.arguments"] = text_of(one.get("input"))
        told["gen_ai.tool.call.result"] = text_of(one.get("output"))
    elif kind == "AGENT":
        told["gen_ai.agent.name"] = name
    is_error = text_at(one, "level") == "ERROR"
    return _span(
        one,
        {**attributes, **{key: value for key, value in told.items() if value is not None}},
        trace_id=text_at(one, "traceId") or text_at(about, "id") or "",
        times=("startTime", "endTime"),
        parent=text_at(one, "parentObservationId"),
        error=text_at(one, "statusMessage") or "error" if is_error else None,
    )


_CACHE_READ: Final = (
    "input_cache_read",
    "cache_read_input_tokens",
    "input_cached_tokens",
    "prompt_details.cache_read",
)
_CACHE_WRITE: Final = ("input_cache_creation", "cache_creation_input_tokens")
_REASONING: Final = (
    "output_reasoning", "output_reasoning_tokens", "completion_details.reasoning",
)  # fmt: skip


def _langfuse_input(usage: Any) -> int | None:
    """Langfuse counts each kind of input apart where the SDK told them; the total tells."""
    fresh, answered = count_at(usage, "input"), count_at(usage, "output") or 0
    total = count_at(usage, "total")
    cached = sum(_first_count(usage, names) or 0 for names in (_CACHE_READ, _CACHE_WRITE))
    if fresh is None or not cached or total is None:
        return fresh
    thought = _first_count(usage, _REASONING) or 0
    apart = total in (fresh + cached + answered, fresh + cached + answered + thought)
    return fresh + cached if apart else fresh


def _first_count(usage: Any, names: Iterable[str]) -> int | None:
    return next((found for name in names if (found := count_at(usage, name)) is not None), None)


def _scores(scores: Iterable[Item]) -> Iterator[Judgement]:
    for one in scores:
        value = one.get("value")
        is_boolean = text_at(one, "dataType") == "BOOLEAN"
        yield Judgement(
            name=clean_text(text_at(one, "name") or "score"),
            passed=bool(value) if is_boolean and isinstance(value, (int, float)) else None,
            score=number_at(one, "value"),
            detail=text_at(one, "comment") or text_at(one, "stringValue"),
        )


# Phoenix


def _phoenix(document: Item, where: str) -> Iterator[ForeignRun]:
    yield from _runs((_phoenix_span(one) for one in items_at(document, "data")), where, "phoenix")


def _phoenix_span(one: Item) -> Span:
    context = one.get("context")
    flat = {
        name.removeprefix("attributes."): value
        for name, value in one.items()
        if name.startswith("attributes.") and value is not None
    }
    attributes = {**_flat(one.get("attributes")), **_flat(flat)}
    kind = text_at(one, "span_kind") or attributes.get(_PHOENIX_KIND)
    if kind is not None:
        attributes[_PHOENIX_KIND] = str(kind).upper()
    trace_id = text_at(context, "trace_id") or text_at(one, "context.trace_id")
    if trace_id is None:
        raise ValueError("a span without the id of its trace")
    is_error = text_at(one, "status_code") == "ERROR"
    return _span(
        {
            **one,
            "id": text_at(context, "span_id") or text_at(one, "context.span_id") or one.get("id"),
        },
        attributes,
        trace_id=trace_id,
        times=("start_time", "end_time"),
        parent=text_at(one, "parent_id"),
        error=text_at(one, "status_message") or "error" if is_error else None,
    )


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested attributes under dotted names, as OpenInference spells them."""
    found: dict[str, Any] = {}
    waiting: list[tuple[str, Any]] = [(prefix, value)]
    while waiting and len(found) < _MAX_FLAT:
        name, one = waiting.pop()
        if isinstance(one, Mapping):
            waiting += [
                (f"{name}.{key}" if name else str(key), inner) for key, inner in one.items()
            ]
        elif isinstance(one, list) and any(isinstance(inner, Mapping) for inner in one):
            waiting += [(f"{name}.{ix}", inner) for ix, inner in enumerate(one)]
        elif name and one is not None:
            found[name] = one
    return found


# MLflow


def _mlflow(document: Item, where: str) -> Iterator[ForeignRun]:
    if "traces" in document and "data" not in document:
        for ix, one in enumerate(items_at(document, "traces")):
            yield from _mlflow(one, f"{where}: trace {ix}")
        return
    info = document.get("info")
    trace_id = text_at(info, "trace_id") or text_at(info, "request_id") or ""
    spans = items_at(document, "data", "spans")
    if not spans:
        raise ValueError("a trace without spans")
    judged = tuple(_assessments(items_at(info, "assessments")))
    found = (_mlflow_span(one, trace_id) for one in spans)
    yield from _runs(found, where, "mlflow", judgements=judged)


def _mlflow_span(one: Item, trace_id: str) -> Span:
    given = one.get("attributes")
    own = (
        {str(name): _decoded(value) for name, value in given.items()}
        if isinstance(given, Mapping)
        else {}
    )
    kind = str(own.get("mlflow.spanType") or "").upper()
    inputs, outputs = own.pop("mlflow.spanInputs", None), own.pop("mlflow.spanOutputs", None)
    usage = own.get("mlflow.chat.tokenUsage")
    told: dict[str, Any] = {
        "gen_ai.operation.name": _MLFLOW_KINDS.get(kind),
        "gen_ai.usage.input_tokens": count_at(usage, "input_tokens"),
        "gen_ai.usage.output_tokens": count_at(usage, "output_tokens"),
        "gen_ai.conversation.id": own.get("mlflow.trace.session"),
    }
    name = text_at(one, "name") or ""
    if _MLFLOW_KINDS.get(kind) == "chat":
        told["gen_ai.request.model"] = own.get("mlflow.llm.model") or _model_in(inputs, outputs)
        told["gen_ai.input.messages"] = text_of(inputs)
        told["gen_ai.output.messages"] = text_of(outputs)
    elif kind == "TOOL":
        told["gen_ai.tool.name"] = name
        told["gen_ai.tool.call.arguments"] = text_of(inputs)
        told["gen_ai.tool.call.result"] = text_of(outputs)
    elif kind == "AGENT":
        told["gen_ai.agent.name"] = name
    status = one.get("status")
    code = text_at(status, "code") or text_at(status, "status_code") or text_at(one, "status_code")
    why = text_at(status, "message") or text_at(one, "status_message") or "error"
    return _span(
        {**one, "id": text_at(one, "span_id")},
        {**own, **{key: value for key, value in told.items() if value is not None}},
        trace_id=trace_id,
        times=("start_time_unix_nano", "end_time_unix_nano"),
        parent=text_at(one, "parent_span_id") or text_at(one, "parent_id"),
        error=why if code is not None and code.upper().endswith("ERROR") else None,
    )


def _model_in(*values: Any) -> str | None:
    return next((found for one in values if (found := text_at(one, "model"))), None)


def _decoded(value: Any) -> Any:
    """MLflow keeps each attribute as JSON text."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _assessments(assessments: Iterable[Item]) -> Iterator[Judgement]:
    for one in assessments:
        value = (
            one.get("feedback", {}).get("value") if isinstance(one.get("feedback"), dict) else None
        )
        yield Judgement(
            name=clean_text(text_at(one, "assessment_name") or "assessment"),
            passed=value if isinstance(value, bool) else None,
            score=number_at({"value": value}, "value"),
            detail=text_at(one, "rationale"),
        )


# All of them


def _span(
    one: Item,
    attributes: Mapping[str, Any],
    *,
    trace_id: str,
    times: tuple[str, str],
    parent: str | None,
    error: str | None,
) -> Span:
    start_ns, end_ns = (_nanoseconds(one, name) for name in times)
    return Span(
        trace_id=_id(trace_id, 32),
        span_id=_id(text_at(one, "id") or "", 16),
        name=clean_text(text_at(one, "name") or ""),
        parent_id=None if parent is None else _id(parent, 16),
        start_ns=start_ns,
        end_ns=end_ns,
        attributes={str(name): _plain(value) for name, value in attributes.items()},
        events=tuple(_event(event) for event in items_at(one, "events")),
        is_error=error is not None,
        status=clean_text(error or ""),
    )


def _event(event: Item) -> SpanEvent:
    given = event.get("attributes")
    plain = {str(k): _plain(v) for k, v in given.items()} if isinstance(given, Mapping) else {}
    return SpanEvent(text_at(event, "name") or "", attributes=plain)


def _plain(value: Any) -> Any:
    return clean_text(value) if isinstance(value, str) else value


def _id(text: str, digits: int) -> str:
    """An id as OpenTelemetry has it; another one becomes such a one by its digest."""
    lowered = text.lower().removeprefix("0x").removeprefix("tr-")
    if len(lowered) == digits and _HEX.issuperset(lowered):
        return lowered
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:digits]


def _nanoseconds(one: Item, name: str) -> int | None:
    value = one.get(name)
    if isinstance(value, int) and not isinstance(value, bool) and value > 1 << 53:
        return value
    if isinstance(value, str) and value.isdecimal() and len(value) < 20:
        return int(value)
    at_us = time_at(one, name)
    return None if at_us is None else at_us * 1000
