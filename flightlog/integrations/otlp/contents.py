"""Prompts and answers of a span: each dialect keeps them elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from flightlog.integrations.messages import answer_of, merged, messages_of, parsed
from flightlog.integrations.otlp.spans import Span
from flightlog.trace.messages import Message

_PLACE: Final = re.compile(r"(\d+)(?:\.(.*))?", re.DOTALL)
_LEGACY_ROLES: Final = {
    "gen_ai.system.message": "system",
    "gen_ai.user.message": "user",
    "gen_ai.assistant.message": "assistant",
    "gen_ai.tool.message": "tool",
}
_DETAILS: Final = "gen_ai.client.inference.operation.details"
MAX_PLACES: Final = 10_000
"""Most messages or parts that a list of numbered attributes may have."""


def prompt_of(span: Span) -> tuple[Message, ...] | None:
    """The messages that a model was sent; None where the span does not hold them."""
    for has in _holders(span):
        found = _standard_prompt(has) or _numbered(has, "llm.input_messages.", "message.")
        found = found or _numbered(has, "gen_ai.prompt.", "")
        if found:
            return tuple(found)
        for name in ("gen_ai.prompt", "ai.prompt.messages", "ai.prompt"):
            if has.get(name):
                return (*_system_of(has), *messages_of(has[name]))
    found = _of_legacy_events(_legacy_events(span), is_answer=False)
    if found:
        return tuple(found)
    for name in ("langfuse.observation.input", "mlflow.spanInputs", "input.value", "input"):
        if span.attributes.get(name):
            return tuple(messages_of(span.attributes[name]))
    return None


def output_of(span: Span) -> Message | None:
    """The answer of a model; None where the span does not hold it."""
    for has in _holders(span):
        if has.get("gen_ai.output.messages"):
            return answer_of(has["gen_ai.output.messages"])
        found = _numbered(has, "llm.output_messages.", "message.")
        found = found or _numbered(has, "gen_ai.completion.", "")
        if found:
            return merged(found)
        if has.get("gen_ai.completion"):
            return answer_of(has["gen_ai.completion"])
        if any(name in has for name in ("ai.response.text", "ai.response.toolCalls")):
            return answer_of(
                {
                    "role": "assistant",
                    "content": has.get("ai.response.text") or None,
                    "tool_calls": parsed(has.get("ai.response.toolCalls")),
                }
            )
        if has.get("ai.response.object"):
            return Message("assistant", str(has["ai.response.object"]))
    found = _of_legacy_events(_legacy_events(span), is_answer=True)
    if found:
        return merged(found)
    for name in ("langfuse.observation.output", "mlflow.spanOutputs", "output.value", "output"):
        if span.attributes.get(name):
            return _loose_answer(span.attributes[name])
    return None


def system_of(span: Span) -> Message | None:
    """The system prompt that a run's span tells."""
    found = _system_of(span.attributes)
    return found[0] if found else None


def _holders(span: Span) -> Iterable[Mapping[str, Any]]:
    yield span.attributes
    for event in span.events:
        if event.name == _DETAILS or event.name.startswith("gen_ai.content."):
            yield event.attributes


def _standard_prompt(has: Mapping[str, Any]) -> list[Message]:
    given = has.get("gen_ai.input.messages")
    if not given:
        return []
    return [*_system_of(has), *messages_of(given)]


def _system_of(has: Mapping[str, Any]) -> list[Message]:
    given = has.get("gen_ai.system_instructions") or has.get("ai.prompt.system")
    if not given:
        return []
    text = merged(messages_of(given, role="system")).text
    return [Message("system", text)] if text else []


def _numbered(has: Mapping[str, Any], prefix: str, inner: str) -> list[Message]:
    """Messages whose fields are attributes of their own: `prefix` N `.` field."""
    tree = _tree(has, prefix)
    if not isinstance(tree, list):
        return []
    found: list[Message] = []
    for one in tree:
        fields = one.get("message", one) if inner and isinstance(one, Mapping) else one
        if isinstance(fields, Mapping):
            fields = {
                name: [c.get("tool_call", c) if isinstance(c, Mapping) else c for c in value]
                if name == "tool_calls" and isinstance(value, list)
                else value
                for name, value in fields.items()
            }
        found += messages_of(fields if isinstance(fields, Mapping) else None)
    return found


def _tree(has: Mapping[str, Any], prefix: str) -> Any:
    """The attributes below a prefix as lists and objects."""
    root: dict[str, Any] = {}
    for name, value in has.items():
        if not name.startswith(prefix):
            continue
        at = root
        parts = name[len(prefix) :].split(".")
        if not parts[0].isdecimal():
            continue  # such as gen_ai.prompt.name
        for part in parts[:-1]:
            inner = at.setdefault(part, {})
            if not isinstance(inner, dict):
                break
            at = inner
        else:
            at[parts[-1]] = value
    return _listed(root)


def _listed(value: Any) -> Any:
    if not isinstance(value, dict) or not value:
        return value
    if all(_PLACE.fullmatch(name) and len(name) <= 5 for name in value):
        places = sorted((int(name), one) for name, one in value.items())[:MAX_PLACES]
        return [_listed(one) for _, one in places]
    return {name: _listed(one) for name, one in value.items()}


def _legacy_events(span: Span) -> list[Mapping[str, Any]]:
    """Events of the older convention: of the span, or as a list in one attribute."""
    found: list[Mapping[str, Any]] = []
    for event in span.events:
        if event.name in _LEGACY_ROLES or event.name == "gen_ai.choice":
            found.append({"event.name": event.name, **event.attributes})
    listed = parsed(span.attributes.get("events"))
    if not found and isinstance(listed, list):
        found = [one for one in listed if isinstance(one, Mapping)]
    return found


def _of_legacy_events(events: Iterable[Mapping[str, Any]], *, is_answer: bool) -> list[Message]:
    found: list[Message] = []
    for event in events:
        name = str(event.get("event.name") or "")
        if is_answer and name == "gen_ai.choice":
            found += messages_of(parsed(event.get("message")) or dict(event), role="assistant")
        elif not is_answer and name in _LEGACY_ROLES:
            body = parsed(event.get("body"))
            fields = dict(body) if isinstance(body, Mapping) else dict(event)
            fields = {key: parsed(one) for key, one in fields.items() if key != "event.name"}
            found += messages_of({"role": _LEGACY_ROLES[name], **fields})
    return found


def _loose_answer(given: Any) -> Message | None:
    """An answer in an attribute for any output: choices, generations, a message, or a text."""
    value = parsed(given)
    if isinstance(value, Mapping):
        for name in ("choices", "generations", "output", "candidates"):
            inner = value.get(name)
            if isinstance(inner, list) and inner:
                first = inner[0]
                while isinstance(first, list) and first:
                    first = first[0]
                one = first.get("content", first) if name == "candidates" else first
                return answer_of(inner if name == "output" else one)
    return answer_of(value)
