"""Takes known secrets out of texts, in all their usual encodings."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, NoReturn

import msgspec

from flightlog.redact.secret_forms import Form, forms_of
from flightlog.trace.canonical import canonical_json
from flightlog.trace.messages import Message, ToolRequest

_ROUNDS: Final = 4
_ESCAPE_SIGNS: Final = "\\%&+"
_JSON_SIGNS: Final = ("{", "[")


def placeholder(name: str) -> str:
    """What stands in a text in the place of a credential's value."""
    return f"<credential:{name}>"


class Scrubber:
    """Replaces known secret values in texts, those of credentials by `<credential:name>`.

    A text is searched as it stands: a value that is compressed, encrypted, cut into
    parts or encoded in two unlike ways is not recognised.

    Args:
        values: pairs of name and value; a value is at least 4 characters long without the
            white space around it, and no part of a placeholder.
        stand_in: what stands in the place of the value of a name.
    """

    __slots__ = ("_base64", "_escaped", "_plain", "_shortest", "_stand_in")

    def __init__(
        self,
        values: Iterable[tuple[str, str]],
        *,
        stand_in: Callable[[str], str] = placeholder,
    ) -> None:
        self._stand_in = stand_in
        pairs = [(name, value.strip()) for name, value in values]
        pairs.sort(key=lambda pair: (-len(pair[1]), pair[0]))
        self._plain: list[tuple[str, Form]] = []
        self._escaped: list[tuple[str, Form]] = []
        self._base64: list[tuple[str, Form]] = []
        seen: set[str] = set()
        for name, value in pairs:
            if value in seen:
                continue
            seen.add(value)
            for form in forms_of(value):
                lists = {"escaped": self._escaped, "base64": self._base64}
                lists.get(form.kind, self._plain).append((name, form))
        self._shortest = min((len(value) for value in seen), default=0)

    def __repr__(self) -> str:
        return f"Scrubber({len({name for name, _ in self._plain})} names)"

    def __reduce_ex__(self, _protocol: object) -> NoReturn:
        raise TypeError("a Scrubber holds values of credentials and is not pickled")

    @property
    def forms(self) -> tuple[Form, ...]:
        """All forms of all values."""
        return tuple(form for _, form in (*self._plain, *self._escaped, *self._base64))

    def holds(self, text: str) -> bool:
        """True when the text holds a known value."""
        return any(True for _ in self._spans(text))

    def clean(self, text: str) -> str:
        """The text without any known value; the same object where it holds none.

        A JSON object or list stays one: a number that is a value becomes a string.
        """
        after = self._without_values(text)
        if after == text or text.lstrip()[:1] not in _JSON_SIGNS:
            return after
        return self._as_json(text, after)

    def clean_message(self, message: Message) -> Message:
        """The message without any known value; the same object where it holds none."""
        requests = message.tool_requests
        parts = [message.role, message.text or "", message.tool_call_id or "", message.name or ""]
        for request in requests:
            parts += [request.id, request.name, request.arguments]
        if not any(self._may_hold(part) and self.holds(part) for part in parts):
            return message
        return Message(
            self.clean(message.role),
            self.clean_optional(message.text),
            tuple(
                ToolRequest(self.clean(r.id), self.clean(r.name), self.clean(r.arguments))
                for r in requests
            ),
            self.clean_optional(message.tool_call_id),
            self.clean_optional(message.name),
        )

    def clean_values(self, value: Any) -> Any:
        """Plain JSON without any known value; a number that is one becomes a text."""
        if isinstance(value, dict):
            return {
                self._without_values(key): self.clean_values(item) for key, item in value.items()
            }
        if isinstance(value, list):
            return [self.clean_values(item) for item in value]
        if isinstance(value, str):
            return self._without_values(value)
        if isinstance(value, bool) or value is None:
            return value
        text = json.dumps(value)
        return self._without_values(text) if self.holds(text) else value

    def clean_optional(self, text: str | None) -> str | None:
        """As `clean`; None stays None."""
        return None if text is None else self.clean(text)

    def _may_hold(self, text: str) -> bool:
        return bool(self._plain) and len(text) >= self._shortest

    def _spans(self, text: str) -> Iterator[tuple[int, int, str]]:
        """Where values stand in the text, in no order; they may overlap."""
        if not self._may_hold(text):
            return
        for name, form in self._plain:
            if form.needle in text:
                yield from ((start, end, name) for start, end in form.spans(text))
        if self._escaped and any(sign in text for sign in _ESCAPE_SIGNS):
            for name, form in self._escaped:
                if form.needle in text:
                    yield from ((start, end, name) for start, end in form.spans(text))
        flat = _without_breaks(text)
        for name, form in self._base64:
            if form.needle in flat:
                yield from ((start, end, name) for start, end in form.spans(text))

    def _without_values(self, text: str) -> str:
        for _ in range(_ROUNDS):
            spans = _joined(self._spans(text))
            if not spans:
                return text
            text = _replaced(text, spans, self._stand_in)
        # What stands around the placeholders makes up values again and again.
        return "" if self.holds(text) else text

    def _as_json(self, before: str, after: str) -> str:
        """The cleaned text; where only it is no JSON any more, the cleaned JSON value."""
        if _is_json(after) or not _is_json(before):
            return after
        try:
            kept = canonical_json(self.clean_values(json.loads(before)))
        except (ValueError, RecursionError):
            return after
        return after if self.holds(kept) else kept


def _without_breaks(text: str) -> str:
    r"""The text without line breaks and their escapes, since Base64 is often wrapped."""
    if "\n" in text:
        text = text.replace("\r", "").replace("\n", "")
    if "\\n" in text:
        text = text.replace("\\r", "").replace("\\n", "")
    return text


def _joined(spans: Iterable[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
    """The spans from left to right, overlapping ones as one, by the name of the longest."""
    joined: list[tuple[int, int, str]] = []
    longest = 0
    for start, end, name in sorted(spans, key=lambda span: (span[0], -span[1])):
        if joined and start < joined[-1][1]:
            first, last, kept = joined[-1]
            if end - start > longest:
                longest, kept = end - start, name
            joined[-1] = (first, max(last, end), kept)
        else:
            joined.append((start, end, name))
            longest = end - start
    return joined


def _replaced(text: str, spans: list[tuple[int, int, str]], stand_in: Callable[[str], str]) -> str:
    parts, done = [], 0
    for start, end, name in spans:
        parts += [text[done:start], stand_in(name)]
        done = end
    return "".join([*parts, text[done:]])


def _is_json(text: str) -> bool:
    try:
        msgspec.json.decode(text)
    except (ValueError, RecursionError):  # also of a lone surrogate
        return False
    return True
