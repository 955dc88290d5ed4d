"""What a wire format tells of a request and of its answer, in one form for all."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from flightlog.errors import FlightlogError
from flightlog.integrations.messages import merged
from flightlog.runtime.model import Usage
from flightlog.runtime.tools import Tool
from flightlog.trace.canonical import clean_text
from flightlog.trace.messages import Message

MAX_ANSWER_CHARS: Final = 32 << 20
"""Longest answer that is put together out of its pieces."""
MAX_PIECES: Final = 4096
"""Most tool calls and blocks of one answer that are read."""
_ERROR_CHARS: Final = 1000


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request asks of a model.

    Attributes:
        model: the one that is asked for.
        messages: the prompt, as far as the request holds it; system messages first.
        is_streamed: the answer is wanted in pieces.
        wants_usage: tokens are wanted at the end of the pieces.
        previous_id: answer whose server-side thread goes on.
        thread_id: server-side thread that takes the question and its answer.
        tools: declarations that the request offers.
        failed_calls: ids of tool calls that the request says went wrong.
    """

    model: str | None
    messages: tuple[Message, ...]
    is_streamed: bool = False
    wants_usage: bool = True
    previous_id: str | None = None
    thread_id: str | None = None
    tools: tuple[Tool, ...] = ()
    failed_calls: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Answered:
    """What a model answered.

    Attributes:
        output: None where there is no answer, or none that can be read.
        model: the one that answered.
        response_id: the provider's id of the answer.
        usage: tokens; those of the input include cached ones.
        finish_reason: in the provider's word.
        error: what went wrong.
        error_code: the provider's word for it.
    """

    output: Message | None = None
    model: str | None = None
    response_id: str | None = None
    usage: Usage = field(default_factory=Usage)
    finish_reason: str | None = None
    error: str | None = None
    error_code: str | None = None


class Gatherer(Protocol):
    """Puts an answer together out of its pieces.

    Attributes:
        is_begun: some of its content has come.
        is_done: it is whole; nothing follows that matters.
    """

    is_begun: bool
    is_done: bool

    def feed(self, name: str, data: Mapping[str, Any] | None) -> None:
        """Takes one event; data is None where the event holds no JSON object."""

    def answered(self) -> Answered:
        """What has come so far."""


class Dialect(Protocol):
    """One wire format.

    Attributes:
        name: of the format.
        path: what the path of its requests ends with.
        provider: who speaks it, in the words of OpenTelemetry.
    """

    name: str
    path: str
    provider: str

    def asked(self, body: Mapping[str, Any]) -> Asked:
        """What a request asks."""

    def answered(self, body: Mapping[str, Any]) -> Answered:
        """What a whole answer, or an error, says."""

    def gatherer(self) -> Gatherer:
        """For an answer in pieces."""

    def body_of(self, answer: Answered) -> dict[str, Any]:
        """An answer as the API gives it."""

    def events_of(self, answer: Answered, *, wants_usage: bool) -> Iterator[bytes]:
        """An answer in pieces as the API gives it."""

    def error_body(self, text: str, *, kind: str) -> dict[str, Any]:
        """An error as the API gives it."""

    def error_event(self, text: str, *, kind: str) -> bytes:
        """An error in the middle of an answer in pieces."""


def text_at(value: Any, *path: str) -> str | None:
    """The text at a path of names; None where there is none."""
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return clean_text(value) if isinstance(value, str) else None


def count_at(value: Any, *path: str) -> int | None:
    """The whole number of at least 0 at a path of names; None where there is none."""
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    is_count = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 53
    return value if is_count else None


def mappings(value: Any) -> list[Mapping[str, Any]]:
    """The objects of a list; none where it is no list."""
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []


def one_answer(messages: list[Message]) -> Message | None:
    """All of an answer as one message; None for nothing."""
    return merged(messages) if messages else None


def joined(messages: list[Message]) -> tuple[Message, ...]:
    """Messages with those that an assistant said in a row as one, as they were answered."""
    found: list[Message] = []
    for message in messages:
        if found and message.role == found[-1].role == "assistant":
            found[-1] = merged([found[-1], message])
        else:
            found.append(message)
    return tuple(found)


def tools_of(value: Any, schema: str) -> tuple[Tool, ...]:
    """The declarations of a request; what is none is left out.

    Args:
        value: a list of objects with a name, a description and a schema.
        schema: name under which the schema stands.
    """
    found = (_tool(one, schema) for one in mappings(value))
    return tuple(one for one in found if one is not None)


def _tool(value: Mapping[str, Any], schema: str) -> Tool | None:
    name, plain = text_at(value, "name"), value.get(schema)
    if not name:
        return None
    about = text_at(value, "description") or ""
    try:
        given = dict(plain) if isinstance(plain, Mapping) else None
        return Tool(name, description=about, input_schema=given)
    except (FlightlogError, ValueError, TypeError, RecursionError):
        return None


def error_of(body: Any) -> Answered:
    """The error that a provider tells, whatever else it says."""
    error = body.get("error") if isinstance(body, Mapping) else None
    if isinstance(error, str):
        return Answered(error=clean_text(error)[:_ERROR_CHARS])
    told = error if isinstance(error, Mapping) else body
    text = text_at(told, "message") or text_at(body, "detail")
    code = text_at(told, "code") or text_at(told, "type")
    if text is None:
        text = clean_text(json.dumps(body, default=repr))
    return Answered(error=text[:_ERROR_CHARS], error_code=code)


def whole_prompt(before: tuple[Message, ...], asked: tuple[Message, ...]) -> tuple[Message, ...]:
    """What a server-side thread holds and what it is sent; a new system prompt is for the old."""
    system = tuple(one for one in asked if one.role == "system")
    if not system or not before:
        return (*before, *asked)
    said = (one for one in (*before, *asked) if one.role != "system")
    return (*system, *said)


def object_of(raw: bytes) -> Mapping[str, Any] | None:
    """The JSON object of a body; None where it is none."""
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
