"""Messages, stored once by digest, and prompts as differences of message lists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import msgspec

from flightlog.trace.canonical import clean_text, digest_of


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
        try:
            raw = msgspec.json.encode(self)
        except UnicodeEncodeError:
            raw = msgspec.json.encode(self.cleaned)
        return digest_of(raw)

    @cached_property
    def size_bytes(self) -> int:
        """UTF-8 bytes of the text and of the tool requests."""
        parts = [self.text or "", self.name or ""]
        for request in self.tool_requests:
            parts += [request.name, request.arguments]
        return sum(len(part.encode("utf-8", "surrogatepass")) for part in parts)

    @property
    def cleaned(self) -> Message:
        """The same message as valid UTF-8 (lone surrogates replaced)."""
        # Not cached: a message that holds itself is never freed, since the garbage
        # collector does not track a struct of plain texts.
        try:
            msgspec.json.encode(self)
        except UnicodeEncodeError:
            return Message(
                role=clean_text(self.role),
                text=None if self.text is None else clean_text(self.text),
                tool_requests=tuple(
                    ToolRequest(clean_text(r.id), clean_text(r.name), clean_text(r.arguments))
                    for r in self.tool_requests
                ),
                tool_call_id=None if self.tool_call_id is None else clean_text(self.tool_call_id),
                name=None if self.name is None else clean_text(self.name),
            )
        return self


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
