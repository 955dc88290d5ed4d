"""Takes secrets and personal values out of texts and messages."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple, NoReturn

from flightlog.redact import checks
from flightlog.redact.disguises import undisguised
from flightlog.redact.finder import Finder
from flightlog.redact.finds import MAX_STEPS, Find, Work
from flightlog.redact.json_texts import Number, is_json, mapped, parsed, written
from flightlog.redact.known import known_values, scrubber_of, search_of
from flightlog.redact.linear import linear
from flightlog.redact.named import LIST
from flightlog.redact.patterns import PERSONAL
from flightlog.redact.policy import Redaction
from flightlog.redact.pseudonyms import PSEUDONYM, Pseudonyms
from flightlog.trace.canonical import CanonicalArgs, canonical_args
from flightlog.trace.messages import Message, ToolRequest

WINDOW_CHARS: Final = 1 << 20
"""Longer texts are looked at in windows, so that memory does not grow with them."""
_PER_LIMIT_BYTES: Final = 8 << 20
_WORK_OF_START_S: Final = 60.0
_BYTES_PER_KNOWN: Final = 512
"""What finding a known value again costs beside other candidates."""


class Redacted(NamedTuple):
    """A text, and how many values were replaced in it."""

    text: str
    values: int


class Redactor:
    """Replaces what a policy asks for by pseudonyms. Safe in threads.

    Attributes:
        redaction: the policy.
        pseudonyms: makes them.

    Args:
        redaction: the policy.
        pseudonyms: under the project's key.
        environ: where the values of secret variables are; it is read here, once.
    """

    def __init__(
        self,
        redaction: Redaction,
        pseudonyms: Pseudonyms,
        *,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.redaction = redaction
        self.pseudonyms = pseudonyms
        self._finder = Finder(
            off=redaction.off,
            emails=redaction.emails,
            phones=redaction.phones,
            key_names=redaction.key_names,
            ignored_names=redaction.ignored_names,
        )
        self._own = [(kind, linear(pattern)) for kind, pattern in redaction.patterns.items()]
        values = known_values(redaction, environ or {})
        start = Work(time.monotonic() + _WORK_OF_START_S)
        self._known = scrubber_of(values, self._finder, pseudonyms.of, start) if values else None
        self._known_search = search_of(self._known) if self._known else None

    def __repr__(self) -> str:
        return f"Redactor({self.redaction.capture.value})"

    def __reduce_ex__(self, _protocol: object) -> NoReturn:
        raise TypeError("a Redactor holds secret values and is not pickled")

    def work(self, size_bytes: int = 0) -> Work:
        """The most that one event of that size may cost."""
        ends_s = self.redaction.max_seconds * max(1.0, size_bytes / _PER_LIMIT_BYTES)
        steps = MAX_STEPS * max(1, size_bytes >> 20)
        return Work(time.monotonic() + ends_s, steps=steps)

    def is_clean(self, data: bytes) -> bool:
        """True when nothing can be found in a text, or in an encoded event."""
        return not (self._own or self._finder.may_hold(data) or self._may_hold_known(data))

    def clean(self, text: str) -> str:
        """The text without what the policy asks to take out.

        Raises:
            SlowError: there is too much to look at.
        """
        return self.text(text, self.work(len(text))).text

    def text(self, text: str, work: Work) -> Redacted:
        """The text with pseudonyms; the same object where nothing was found.

        What was JSON stays JSON: a number that is replaced becomes a text.

        Args:
            text: any; a lone surrogate stays as it is.
            work: what it may cost.

        Raises:
            SlowError: there is too much to look at.
        """
        if len(text) > WINDOW_CHARS:
            return self._long(text, work)
        return self._whole(text, work)

    def args(self, args: CanonicalArgs) -> CanonicalArgs:
        """Canonical arguments as they are recorded, with the digest of what is recorded.

        Raises:
            SlowError: there is too much to look at.
        """
        after = self.clean(args.text)
        return args if after is args.text else canonical_args(after)

    def message(self, message: Message, work: Work) -> tuple[Message, int]:
        """The message with pseudonyms; the same object where nothing was found.

        Raises:
            SlowError: there is too much to look at.
        """
        count = 0

        def clean(text: str | None) -> str | None:
            nonlocal count
            if text is None:
                return None
            after, values = self.text(text, work)
            count += values
            return after

        def sure(text: str) -> str:
            return clean(text) or ""

        requests = tuple(
            ToolRequest(sure(one.id), sure(one.name), sure(one.arguments))
            for one in message.tool_requests
        )
        text, call_id, name = (
            clean(one) for one in (message.text, message.tool_call_id, message.name)
        )
        role = sure(message.role)
        return (Message(role, text, requests, call_id, name) if count else message), count

    def is_secret(self, name: str, value: bytes) -> bool:
        """True when a value is secret by the name that it stands under."""
        return type(name) is str and self._finder.named.is_secret(name, value)

    def finds(self, data: bytes, work: Work) -> list[Find]:
        """What is to be replaced in a text without known values, from left to right."""
        found = list(self._finder.finds(data, work))
        own = list(self._own_finds(data, work)) if self._own else []
        return _joined([*found, *own], data) if own else found

    def replaced(self, data: bytes, finds: Iterable[Find]) -> bytes:
        """The text with a pseudonym in the place of each find."""
        parts, done = [], 0
        for find in finds:
            if find.rule == LIST:
                continue
            made = self.pseudonyms.of(find.kind, find.value)
            parts += [data[done : find.start], find.quote, made, find.quote]
            done = find.end
        return b"".join([*parts, data[done:]])

    def without_known(self, text: str, data: bytes, work: Work) -> Redacted:
        """The text without known values; `data` is its UTF-8.

        Raises:
            SlowError: there are too many.
        """
        if self._known is None or not self._may_hold_known(data):
            return Redacted(text, 0)
        at, search = 0, self._known_search
        while search is not None and (found := search.search(data, at)) is not None:
            at = found.span()[1]
            work.candidate()
            work.spend(_BYTES_PER_KNOWN)
        after = self._known.clean(text)
        if after == text:
            return Redacted(text, 0)
        return Redacted(after, max(1, _pseudonyms_in(after) - _pseudonyms_in(text)))

    def _may_hold_known(self, data: bytes) -> bool:
        if self._known is None:
            return False
        return self._known_search is None or self._known_search.search(data) is not None

    def _whole(self, text: str, work: Work) -> Redacted:
        data = text.encode("utf-8", "surrogatepass")
        if self.is_clean(data):
            return Redacted(text, 0)
        work.look()
        found = self._straight(text, data, work)
        after = found.text.encode("utf-8", "surrogatepass") if found.values else data
        plain = undisguised(after)
        if plain is after:
            return found
        more = self._straight(plain.decode("utf-8", "surrogatepass"), plain, work)
        return Redacted(more.text, found.values + more.values) if more.values else found

    def _straight(self, text: str, data: bytes, work: Work) -> Redacted:
        """The text with pseudonyms for what is found in it as it stands."""
        before, count = self.without_known(text, data, work)
        if count:
            data = before.encode("utf-8", "surrogatepass")
        finds = self.finds(data, work)
        if not finds:
            return Redacted(before, count)
        after = self.replaced(data, finds).decode("utf-8", "surrogatepass")
        is_deep = any(one.rule == LIST for one in finds) or _has_bare_number(data, finds)
        if is_json(text) and (is_deep or not is_json(after)):
            return self._as_json(before, after, count, len(finds), work)
        finds = [one for one in finds if one.rule != LIST]
        return Redacted(after if finds else before, count + len(finds))

    def _as_json(self, before: str, after: str, known: int, found: int, work: Work) -> Redacted:
        """The text once more, as a JSON value: a bare number in it was replaced."""
        count, named = known, self._finder.named

        def on_text(text: str, key: str | None, above: str | None) -> str:
            nonlocal count
            raw = text.encode("utf-8", "surrogatepass")
            is_one = key is not None and self.is_secret(key, raw)
            if is_one or (above is not None and is_one_of(above, raw)):
                count += 1
                return self.pseudonyms.of(*self._finder.kind_of(raw, work)).decode()
            clean, values = self._whole(text, work)
            if values and above is not None:
                # What is left may look like a secret only now: a key's own words were in its way.
                left = clean.encode("utf-8", "surrogatepass")
                if is_one_of(above, left):
                    count += 1
                    return self.pseudonyms.of(*self._finder.kind_of(raw, work)).decode()
            count += values
            return clean

        def is_one_of(above: str, raw: bytes) -> bool:
            is_random = b" " not in raw and checks.looks_random(raw)
            return is_random and self.is_secret(above, raw)

        def on_number(number: Number, key: str | None) -> str | Number:
            nonlocal count
            raw = number.encode()
            is_secret = key is not None and named.is_secret_number(key, len(raw))
            work.spend(len(raw))
            kind, value = self._finder.kind_of(raw, work)
            if not is_secret and kind not in PERSONAL:
                return number
            count += 1
            return self.pseudonyms.of(kind, value).decode()

        try:
            kept = written(mapped(parsed(before), on_text, on_number, named.is_secret_number))
        except (ValueError, RecursionError):
            return Redacted(after, known + found)
        return Redacted(kept, count) if count else Redacted(before, 0)

    def _long(self, text: str, work: Work) -> Redacted:
        from flightlog.redact.stream import StreamRedactor  # noqa: PLC0415  (it needs this one)

        stream = StreamRedactor(self, work)
        parts: list[str] = []
        same = 0  # so many characters came out as they went in
        for at in range(0, len(text), WINDOW_CHARS):
            out = stream.feed(text[at : at + WINDOW_CHARS])
            if not stream.values:
                same += len(out)
                continue
            parts += [out] if parts else [text[:same], out]
        out = stream.close()
        if not stream.values:
            return Redacted(text, 0)
        parts += [out] if parts else [text[:same], out]
        return Redacted("".join(parts), stream.values)

    def _own_finds(self, data: bytes, work: Work) -> Iterable[Find]:
        kept = [one.span() for one in PSEUDONYM.finditer(data)] if b"<" in data else []
        for kind, pattern in self._own:
            at = place = 0
            while (found := pattern.search(data, at)) is not None:
                start, end = found.span()
                work.spend(end - start)
                at = max(end, at + 1)
                while place < len(kept) and kept[place][1] <= start:
                    place += 1
                is_made = place < len(kept) and kept[place][0] < end
                if end > start and not is_made:
                    yield Find(start, end, kind, data[start:end], b"", kind, start)


def _joined(finds: list[Find], data: bytes) -> list[Find]:
    """Finds from left to right; those that overlap are one, of the kind of the first."""
    joined: list[Find] = []
    for find in sorted(finds, key=lambda one: (one.start, -one.end)):
        last = joined[-1] if joined else None
        if last is None or find.start >= last.end:
            joined.append(find)
        elif find.end > last.end:
            joined[-1] = last._replace(end=find.end, value=data[last.start : find.end])
    return joined


def _has_bare_number(data: bytes, finds: Iterable[Find]) -> bool:
    """True when a number was replaced that may stand in a list, perhaps of JSON within JSON."""
    return any(
        not find.quote
        and find.end - find.start == len(find.value)
        and find.value.isdigit()
        and data[max(0, find.start - 80) : find.start].rstrip(b" \t\r\n")[-1:] in (b"[", b",")
        for find in finds
    )


def _pseudonyms_in(text: str) -> int:
    return len(PSEUDONYM.findall(text.encode("utf-8", "surrogatepass")))
