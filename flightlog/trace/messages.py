"""Messages, stored once by digest, and prompts as differences of message lists."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import msgspec

from flightlog.trace.canonical import clean_text, digest_of_bytes, digest_of_pieces
from flightlog.trace.foreign import value_text
from flightlog.trace.slices import (
    SLICE_CHARS,
    clean_slice,
    is_valid_utf8,
    text_slices,
    utf8_size,
)

_TEXTS: Final = frozenset({str, type(None)})
_encode = msgspec.json.Encoder().encode


class ToolRequest(msgspec.Struct, frozen=True):
    """One tool call that a model asked for.

    Attributes:
        id: the provider's id of the call; never part of a replay key.
        name: the tool.
        arguments: the arguments as the model wrote them: JSON text, perhaps broken.
    """

    id: str
    name: str
    arguments: str


class Message(msgspec.Struct, frozen=True, dict=True):
    """One message of a conversation with a model.

    Attributes:
        role: system, user, assistant or tool.
        text: the content; None where an assistant only asks for tools.
        tool_requests: what an assistant message asks for.
        tool_call_id: in a tool message, the request that it answers.
        name: in a tool message, the tool.
    """

    role: str
    text: str | None = None
    tool_requests: tuple[ToolRequest, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None

    @cached_property
    def digest(self) -> str:
        """32 hex digits over all fields; equal messages have equal digests."""
        if not self.is_of_texts:
            return self.cleaned.digest
        try:
            if self.is_long:
                size = sum(map(len, json_pieces(self)))
                return digest_of_pieces(size, json_pieces(self))
            return digest_of_bytes(_encode(self))
        except UnicodeEncodeError:
            return digest_of_bytes(_encode(self.cleaned))

    @property
    def is_long(self) -> bool:
        """True when a text in it is looked at in slices only."""
        if not self.is_of_texts:
            return False
        if self.text is not None and len(self.text) > SLICE_CHARS:
            return True
        requests = self.tool_requests
        return bool(requests) and any(len(one.arguments) > SLICE_CHARS for one in requests)

    @cached_property
    def size_bytes(self) -> int:
        """UTF-8 bytes of the text and of the tool requests."""
        if not self.is_of_texts:
            return self.cleaned.size_bytes
        parts = [self.text or "", self.name or ""]
        for request in self.tool_requests:
            parts += [request.name, request.arguments]
        return sum(map(utf8_size, parts))

    @property
    def cleaned(self) -> Message:
        """The same message as texts of valid UTF-8: lone surrogates are replaced, and what
        is no text becomes the text nearest to it."""
        # Not cached: a message that holds itself is never freed, since the garbage
        # collector does not track a struct of plain texts.
        if self._is_clean():
            return self
        return Message(
            role=_clean(self.role) or "",
            text=_clean(self.text),
            tool_requests=_requests(self.tool_requests),
            tool_call_id=_clean(self.tool_call_id),
            name=_clean(self.name),
        )

    def _is_clean(self) -> bool:
        if not self.is_of_texts:
            return False
        texts = [self.role, self.text, self.tool_call_id, self.name]
        for request in self.tool_requests:
            texts += [request.id, request.name, request.arguments]
        return all(one is None or is_valid_utf8(one) for one in texts)

    @property
    def is_of_texts(self) -> bool:
        """False when a field holds something else; in `cleaned` none does."""
        known: bool | None = self.__dict__.get("is_of_texts")
        if known is None:
            texts = (self.role, self.text, self.tool_call_id, self.name)
            known = type(self.tool_requests) is tuple and _TEXTS.issuperset(map(type, texts))
            known = known and all(
                type(one) is ToolRequest
                and type(one.id) is type(one.name) is type(one.arguments) is str
                for one in self.tool_requests
            )
            self.__dict__["is_of_texts"] = known
        return known


def json_pieces(message: Message, *, chars: int = SLICE_CHARS) -> Iterator[bytes]:
    """The cleaned message as JSON, in pieces; joined they are what msgspec writes of it."""
    yield b'{"role":'
    yield from _string(message.role, chars)
    yield b',"text":'
    yield from _string(message.text, chars)
    yield b',"tool_requests":['
    for number, request in enumerate(message.tool_requests):
        yield b',{"id":' if number else b'{"id":'
        yield from _string(request.id, chars)
        yield b',"name":'
        yield from _string(request.name, chars)
        yield b',"arguments":'
        yield from _string(request.arguments, chars)
        yield b"}"
    yield b'],"tool_call_id":'
    yield from _string(message.tool_call_id, chars)
    yield b',"name":'
    yield from _string(message.name, chars)
    yield b"}"


def _string(text: str | None, chars: int) -> Iterator[bytes]:
    if text is None:
        yield b"null"
        return
    yield b'"'
    for piece in text_slices(text, chars=chars):
        yield _encode(clean_slice(piece))[1:-1]
    yield b'"'


def _requests(given: Any) -> tuple[ToolRequest, ...]:
    if type(given) not in (tuple, list):
        return ()
    return tuple(
        ToolRequest(_clean(one.id) or "", _clean(one.name) or "", _clean(one.arguments) or "")
        if type(one) is ToolRequest
        else ToolRequest("", "", _clean(one) or "")
        for one in given
    )


def _clean(value: Any) -> str | None:
    return None if value is None else clean_text(value_text(value)[0])


@dataclass(frozen=True, slots=True)
class PromptDelta:
    """A prompt as the difference to an earlier one of the same run.

    Storing differences keeps a run of n steps linear in size: a list of all
    digests at every call would itself grow with the square of the steps.

    Attributes:
        base_seq: `seq` of the model call whose prompt is extended; None for the first.
        kept: how many leading messages of that prompt are kept.
        added: digests of the messages that follow them.
    """

    base_seq: int | None
    kept: int
    added: tuple[str, ...]

    @classmethod
    def between(
        cls, before: Sequence[str], after: Sequence[str], *, base_seq: int | None
    ) -> PromptDelta:
        """The difference of two digest lists: longest common prefix, then the rest."""
        kept = 0
        for old, new in zip(before, after, strict=False):
            if old != new:
                break
            kept += 1
        return cls(base_seq if kept else None, kept, tuple(after[kept:]))

    def applied_to(self, before: Sequence[str]) -> tuple[str, ...]:
        """The full digest list again; the inverse of `between`."""
        return (*before[: self.kept], *self.added)
