"""Which run a request goes on with: by name, by thread, by what was said, by open tool calls."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

from flightlog.integrations.messages import parsed
from flightlog.trace.canonical import canonical_json
from flightlog.trace.messages import Message, ToolRequest

_SEPARATOR: Final = b"\x1e"
_CACHED_CHARS: Final = 2048


class Conversation:
    """What was said, with a key of it after each message.

    System messages do not count: agents change them as they go. Two ways to write the same
    JSON are the same.

    Args:
        messages: from the beginning.
        scope: keys of one scope are never those of another.

    Attributes:
        keys: after each message.
    """

    def __init__(self, messages: Sequence[Message], scope: str) -> None:
        self._state = hashlib.sha256(scope.encode())
        self.keys = [self._after(message) for message in messages]

    @property
    def key(self) -> str:
        """Of all that was said."""
        return self.keys[-1] if self.keys else ""

    def key_after(self, message: Message) -> str:
        """The key once this is said too, after which nothing more is added."""
        return self._after(message)

    def _after(self, message: Message) -> str:
        if message.role != "system":
            self._state.update(_content(message))
            self._state.update(_SEPARATOR)
        return self._state.hexdigest()


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
    text = request.arguments
    return _canonical(text) if len(text) > _CACHED_CHARS else _canonical_short(text)


def _canonical(text: str) -> str:
    value = parsed(text)
    if isinstance(value, str):
        return value.strip()
    try:
        return canonical_json(value)
    except (ValueError, TypeError, RecursionError):
        return text


@lru_cache(maxsize=4096)
def _canonical_short(text: str) -> str:
    """Conversations send the same arguments again with every step."""
    return _canonical(text)
