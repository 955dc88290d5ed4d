"""Messages in the forms that providers, frameworks and conventions write them, as ours.

One reader for all: OpenTelemetry's role and parts, OpenAI's chat messages and responses
items, Anthropic's content blocks, Gemini's parts, Vercel's and LangChain's messages. What
a form says that ours has no place for (images, reasoning, citations) is described or left
out, never invented.

Source: OpenTelemetry GenAI conventions (messages schema, 2026), OpenAI chat completions and
responses, Anthropic messages, Gemini generateContent, Vercel `ai` 6 and 7.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from flightlog.trace.canonical import canonical_json, clean_text
from flightlog.trace.messages import Message, ToolRequest

MAX_DEPTH: Final = 8
"""Deepest nesting of content within content that is looked into."""
_ROLES: Final[Mapping[str, str]] = {
    "human": "user",
    "ai": "assistant",
    "aimessage": "assistant",
    "model": "assistant",
    "agent": "assistant",
    "developer": "system",
    "systemmessage": "system",
    "humanmessage": "user",
    "function": "tool",
    "toolmessage": "tool",
}
_UNSEEN: Final = frozenset(
    {"reasoning", "thinking", "redacted_thinking", "compaction", "refusal_reason", "citation",
     "server_tool_call", "server_tool_call_response", "step-start", "item_reference"}
)  # fmt: skip
_ASKS: Final = frozenset(
    {"tool_call", "tool-call", "tool_use", "function_call", "functioncall", "server_tool_use",
     "mcp_call", "custom_tool_call"}
)  # fmt: skip
_ANSWERS: Final = frozenset(
    {"tool_call_response", "tool-result", "tool_result", "function_call_output",
     "function_response", "functionresponse", "custom_tool_call_output"}
)  # fmt: skip


def messages_of(value: Any, *, role: str = "user") -> list[Message]:
    """All messages of a prompt or an answer.

    Args:
        value: a list of messages, one message, an object that holds `messages`, or a text;
            JSON text of any of these is read.
        role: of what does not name its own.
    """
    value = parsed(value)
    if isinstance(value, Mapping):
        for name in ("messages", "input", "contents", "message"):
            inner = value.get(name)
            if isinstance(inner, (list, Mapping)) and "role" not in value:
                return [*_instructions(value), *messages_of(inner, role=role)]
    if isinstance(value, list):
        if value and all(_is_part(one) for one in value):
            return _message({"role": role, "content": value}, role)
        # LangChain wraps a batch of one prompt in a list of its own.
        if len(value) == 1 and isinstance(value[0], list):
            return messages_of(value[0], role=role)
        return [message for one in value for message in _message(one, role)]
    return _message(value, role)


def answer_of(value: Any) -> Message | None:
    """The one answer of a model; choices beyond the first are left out; None for none."""
    found = messages_of(value, role="assistant")
    return merged(found) if found else None


def merged(messages: Iterable[Message]) -> Message:
    """Several pieces of one answer as one message: texts and requests in their order."""
    texts: list[str] = []
    requests: list[ToolRequest] = []
    for message in messages:
        if message.text:
            texts.append(message.text)
        requests += message.tool_requests
    return Message("assistant", "\n".join(texts) if texts else None, tuple(requests))


def parsed(value: Any) -> Any:
    """JSON text of an object or a list as its value; anything else as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            return json.loads(value, parse_constant=lambda _: None)
        except (ValueError, RecursionError):
            return value
    return value


def text_of(value: Any) -> str | None:
    """A value as the text that a model would be shown: texts as they are, the rest as JSON."""
    if value is None or isinstance(value, str):
        return None if value is None else clean_text(value)
    if isinstance(value, list) and value and all(_is_text_part(one) for one in value):
        return clean_text("\n".join(str(one.get("text", one.get("content", ""))) for one in value))
    try:
        return canonical_json(value)
    except (ValueError, TypeError, RecursionError):
        return clean_text(repr(value)[:10_000])


def request_of(part: Mapping[str, Any]) -> ToolRequest:
    """A tool request in any of the forms."""
    inner = part.get("function")
    named = inner if isinstance(inner, Mapping) else part
    call = part.get("function_call") or part.get("functionCall")
    if isinstance(call, Mapping):
        named = call
    call_id = _first(part, "id", "call_id", "tool_call_id", "toolCallId", "toolUseId")
    if part.get("type") in ("function_call", "custom_tool_call"):
        call_id = part.get("call_id") or call_id  # `id` names the item there, not the call
    name = _first(named, "name", "toolName", "tool_name")
    args = _first(named, "arguments", "input", "args", "parameters")
    return ToolRequest(
        clean_text(str(call_id or "")),
        clean_text(str(name or "")),
        clean_text(args) if isinstance(args, str) else text_of({} if args is None else args) or "",
    )


def _message(value: Any, role: str, depth: int = 0) -> list[Message]:
    if value is None or depth > MAX_DEPTH:
        return []
    if isinstance(value, str):
        return [Message(role, clean_text(value))]
    if not isinstance(value, Mapping):
        return [Message(role, text_of(value))]
    inner = value.get("message")
    if isinstance(inner, Mapping) and "role" not in value:
        return _message(inner, role, depth + 1)
    kwargs = value.get("kwargs")
    if isinstance(kwargs, Mapping) and value.get("type") == "constructor":  # LangChain's dump
        named = value.get("id")
        kind = named[-1] if isinstance(named, list) and named else role
        return _message({"role": kind, **kwargs}, role, depth + 1)
    own = str(_first(value, "role", "author") or _role_of_type(value) or role).lower()
    own = _ROLES.get(own.removesuffix("chunk"), own)
    kind = str(value.get("type") or "").lower()
    if kind in _UNSEEN:
        return []
    if kind in _ASKS and "role" not in value:
        return [Message("assistant", None, (request_of(value),))]
    if kind in _ANSWERS and "role" not in value:
        return [_tool_answer(value)]
    return _of_parts(own, value)


def _of_parts(role: str, value: Mapping[str, Any]) -> list[Message]:
    texts: list[str] = []
    requests: list[ToolRequest] = []
    answers: list[Message] = []
    content = next((value[n] for n in ("parts", "content", "contents", "text") if n in value), None)
    if isinstance(content, str) and role == "assistant":
        content = parsed_parts(content)
    for part in content if isinstance(content, list) else [content]:
        _add_part(part, texts.append, requests.append, answers.append)
    calls = _first(value, "tool_calls", "toolCalls")
    requests += [request_of(one) for one in _mappings(parsed(calls))]
    if not requests:
        extra = value.get("additional_kwargs")
        if isinstance(extra, Mapping):
            requests += [request_of(one) for one in _mappings(extra.get("tool_calls"))]
    call = value.get("function_call")
    if isinstance(call, Mapping):
        requests.append(request_of(call))
    if answers and not texts and not requests:
        return answers
    call_id = _first(value, "tool_call_id", "toolCallId", "call_id")
    if role == "tool" and call_id is None:
        call_id = value.get("id")
    name = value.get("name") if role == "tool" else None
    text = "\n".join(texts) if texts else None
    message = Message(
        role,
        text,
        tuple(requests),
        clean_text(str(call_id)) if role == "tool" and call_id else None,
        clean_text(str(name)) if name else None,
    )
    return [*answers, message]


def parsed_parts(content: str) -> Any:
    """The parts that a text holds as JSON; the text itself where it is one."""
    value = parsed(content)
    is_parts = isinstance(value, list) and value and all(_is_part(one) for one in value)
    return value if is_parts else content


def _add_part(
    part: Any,
    text: Callable[[str], None],
    request: Callable[[ToolRequest], None],
    answer: Callable[[Message], None],
) -> None:
    if part is None:
        return
    if isinstance(part, str):
        text(clean_text(part))
        return
    if not isinstance(part, Mapping):
        text(text_of(part) or "")
        return
    if isinstance(part.get("message_content"), Mapping):  # OpenInference
        part = part["message_content"]
    kind = str(part.get("type") or part.get("part_kind") or "").lower()
    if kind in _UNSEEN or part.get("thought") is True:
        return
    if kind in _ASKS or "functionCall" in part or ("function_call" in part and not kind):
        request(request_of(part))
    elif kind in _ANSWERS or "functionResponse" in part or "function_response" in part:
        answer(_tool_answer(part))
    elif (plain := _plain(part)) is not None:
        text(plain)
    else:
        text(described(part))


def _plain(part: Mapping[str, Any]) -> str | None:
    """The text of a text part."""
    for name in ("text", "content"):
        value = part.get(name)
        if isinstance(value, str) and not _is_medium(part):
            return clean_text(value)
        if isinstance(value, Mapping) and isinstance(value.get("value"), str):
            return clean_text(str(value["value"]))
    return None


def _is_medium(part: Mapping[str, Any]) -> bool:
    kind = str(part.get("type") or "")
    return kind in ("blob", "image", "file", "audio", "input_image", "image_url") or (
        "mime_type" in part and kind != "text"
    )


def described(part: Mapping[str, Any]) -> str:
    """A part that is no text: its kind, and size and digest in place of long contents."""
    told: dict[str, Any] = {}
    for name, value in part.items():
        if isinstance(value, (str, bytes)) and len(value) > 256:
            raw = value if isinstance(value, bytes) else value.encode("utf-8", "surrogatepass")
            told[str(name)] = f"sha256:{hashlib.sha256(raw).hexdigest()}, {len(raw)} bytes"
        elif isinstance(value, Mapping):
            told[str(name)] = {
                str(k): v if not isinstance(v, str) or len(v) <= 256 else f"{len(v)} characters"
                for k, v in value.items()
            }
        else:
            told[str(name)] = value
    return text_of(told) or ""


def _tool_answer(part: Mapping[str, Any]) -> Message:
    given = part.get("functionResponse") or part.get("function_response")
    inner = given if isinstance(given, Mapping) else part
    result = _first(inner, "response", "result", "output", "content")
    if isinstance(result, Mapping) and set(result) <= {"type", "value", "providerOptions"}:
        result = result.get("value", result)
    call_id = _first(part, "tool_call_id", "tool_use_id", "toolCallId", "call_id", "id")
    name = _first(inner, "name", "toolName", "tool_name")
    return Message(
        "tool",
        text_of(result),
        tool_call_id=clean_text(str(call_id)) if call_id else None,
        name=clean_text(str(name)) if name else None,
    )


def _instructions(value: Mapping[str, Any]) -> list[Message]:
    """The system prompt that a request carries beside its messages."""
    given = _first(value, "system", "instructions", "system_instruction", "systemInstruction")
    if given is None:
        return []
    return [Message("system", merged(messages_of(given, role="assistant")).text)]


def _role_of_type(value: Mapping[str, Any]) -> str | None:
    """LangChain tells the role as a type."""
    kind = str(value.get("type") or "").lower().removesuffix("chunk")
    return kind if kind in _ROLES or kind in ("system", "user", "assistant", "tool") else None


def _is_part(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and "role" not in value
        and isinstance(value.get("type"), str)
        and value["type"] not in ("message", "human", "ai", "system", "tool", "constructor")
        and value["type"] not in _ANSWERS - {"tool_result", "tool-result", "tool_call_response"}
        and value["type"] not in ("function_call", "custom_tool_call")
    )


def _is_text_part(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and value.get("type") in ("text", "input_text", "output_text")
        and isinstance(value.get("text", value.get("content")), str)
    )


def _mappings(value: Any) -> list[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []


def _first(value: Mapping[str, Any], *names: str) -> Any:
    return next((value[name] for name in names if value.get(name) is not None), None)
