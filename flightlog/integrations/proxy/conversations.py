"""Which run a request goes on with: by name, by thread, by what was said, by open tool calls."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any, Final

from flightlog.integrations.messages import parsed
from flightlog.trace.canonical import canonical_json
from flightlog.trace.messages import Message, ToolRequest

_SEPARATOR: Final = b"\x1e"


def conversation_keys(messages: Sequence[Message], scope: str) -> Iterator[str]:
    """After each message a key of all that was said up to it.

    System messages do not count: agents change them as they go. Two ways to write the same
    JSON are the same.
    """
    state = hashlib.sha256(scope.encode())
    for message in messages:
        if message.role != "system":
            state.update(_content(message))
            state.update(_SEPARATOR)
        yield state.hexdigest()


def key_of(messages: Sequence[Message], scope: str) -> str:
    """A key of all that was said."""
    return list(conversation_keys(messages, scope))[-1] if messages else ""


def _content(message: Message) -> bytes:
    plain: list[Any] = [
        message.role,
        (message.text or "").strip(),
        message.tool_call_id or "",
        [[one.id, one.name, canonical_arguments(one)] for one in message.tool_requests],
    ]
    return json.dumps(plain).encode()


def canonical_arguments(request: ToolRequest) -> str:
    """The arguments in canonical JSON; as they are where they are none."""
    value = parsed(request.arguments)
    if isinstance(value, str):
        return value.strip()
    try:
        return canonical_json(value)
    except (ValueError, TypeError, RecursionError):
        return request.arguments
