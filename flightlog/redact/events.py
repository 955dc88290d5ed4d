"""Redacts whole events: what is recorded holds pseudonyms, or says why its texts are missing."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final, NamedTuple

import msgspec

from flightlog.redact.finds import UNSHAPED, SlowError, Work
from flightlog.redact.policy import Capture
from flightlog.redact.redactor import Redactor
from flightlog.redact.rewriting import (
    CONTENT_DIGESTS,
    MESSAGE_DIGESTS,
    Rewriter,
    clean_labels,
    consequences,
    message_of,
    replaced,
    texts_of,
)
from flightlog.trace.events import Event, RunStarted
from flightlog.trace.messages import Message

CONTENT: Final = frozenset({"args", "result", "error", "stop_detail", "answer", "detail"})
"""Columns that hold what agents, models and tools wrote."""
_LONGEST_NAME: Final = 1024


class Withheld(StrEnum):
    """Why the texts of an event were left out."""

    METADATA = "metadata"
    FAILED = "failed"
    SLOW = "slow"


class RedactedMessage(NamedTuple):
    """A message as it is recorded.

    Attributes:
        message: None when it is not recorded.
        values: how many were replaced in it.
        why: why it is not recorded; None also where only metadata is.
    """

    message: Message | None
    values: int
    why: Withheld | None


class EventRedactor:
    """Redacts the events of one recorder, in their order. For one thread at a time.

    Attributes:
        redactor: does the texts.
        withheld_texts: how often the texts of an event or a message were left out because
            redaction failed or was too slow.
        last_error: why the last of these failed.

    Args:
        redactor: says what is replaced.
    """

    def __init__(self, redactor: Redactor) -> None:
        self.redactor = redactor
        self.withheld_texts = 0
        self.last_error: str | None = None
        self._rewriter = Rewriter()
        self._version = redactor.redaction.version
        self._keeps_texts = redactor.redaction.capture is Capture.REDACTED

    def is_clean(self, event: Event, payload: bytes) -> bool:
        """True when an event is to be written just as it is.

        Args:
            event: any.
            payload: the event, encoded.
        """
        if not self._keeps_texts or not self.redactor.is_clean(payload):
            return False
        return not (self._rewriter.has_changed and self._rewriter.references(event))

    def is_clean_message(self, payload: bytes) -> bool:
        """True when a message is to be written just as it is; `payload` is its encoding."""
        return self._keeps_texts and self.redactor.is_clean(payload)

    def stamped(self, event: RunStarted) -> RunStarted:
        """The start of a run that says what was recorded of its texts, and under which policy."""
        redaction = self.redactor.redaction
        return msgspec.structs.replace(
            event, capture=redaction.capture.value, redaction_policy=self._version
        )

    def event(
        self, event: Event, *, values: int = 0, without_messages: Withheld | None = None
    ) -> Event:
        """The event as it is recorded; does not raise.

        Args:
            event: its messages were given to `message` before.
            values: replaced in these messages.
            without_messages: why one of these is not recorded; None where all are.
        """
        try:
            if not self._keeps_texts:
                return self._withheld(event, Withheld.METADATA)
            redacted = self._redacted(event, self.redactor.work(_size_of(event)), values)
        except Exception as error:
            return self._withheld(event, self._counted(error))
        if without_messages is None:
            return redacted
        return replaced(redacted, {"withheld": without_messages.value})

    def message(self, message: Message) -> RedactedMessage:
        """The message as it is recorded, or why it is not; does not raise."""
        digest = message.digest
        why: Withheld | None = None
        if self._keeps_texts:
            try:
                work = self.redactor.work(message.size_bytes)
                after, values = self.redactor.message(message_of(message), work)
                if values:
                    self._rewriter.changed(digest, after.digest)
                return RedactedMessage(after, values, None)
            except Exception as error:
                why = self._counted(error)
        self._rewriter.changed(digest, self._digest(digest))
        return RedactedMessage(None, 0, why)

    def detail(self, text: str) -> str:
        """A text of the recorder's own, such as an error; does not raise."""
        try:
            return self.redactor.clean(text)
        except Exception as error:
            return f"{text.partition(':')[0]} ({self._counted(error).value})"

    def _counted(self, error: Exception) -> Withheld:
        self.withheld_texts += 1
        self.last_error = type(error).__name__  # its text might hold what was to be hidden
        return Withheld.SLOW if isinstance(error, SlowError) else Withheld.FAILED

    def _redacted(self, event: Event, work: Work, values: int) -> Event:
        changed = self._rewriter.references(event)
        count = values
        for name, text in texts_of(event).items():
            after, found = self.redactor.text(text, work)
            if found:
                count += found
                changed[name] = after
        labels, found = self._labels(event, work)
        if labels is not None:
            count += found
            changed["labels"] = labels
        changed |= consequences(event, changed, self.redactor.pseudonyms.digest)
        if count:
            changed["redacted"] = _number(event.redacted) + count
        return replaced(event, changed)

    def _labels(self, event: Event, work: Work) -> tuple[Any, int]:
        count = 0

        def clean(text: str, key: str | None) -> str:
            nonlocal count
            raw = text.encode("utf-8", "surrogatepass")
            if key is not None and self.redactor.is_secret(key, raw):
                count += 1
                return self.redactor.pseudonyms.of(UNSHAPED, raw).decode()
            after, found = self.redactor.text(text, work)
            count += found
            return after

        labels = getattr(event, "labels", ())
        return (clean_labels(labels, clean) if labels else None), count

    def _withheld(self, event: Event, why: Withheld) -> Event:
        """The event without its texts; its numbers, and names without secrets, stay."""
        changed: dict[str, Any] = {"withheld": why.value}
        is_metadata = why is Withheld.METADATA
        for name in event.__struct_fields__:
            value = getattr(event, name)
            if value is None or name == "withheld":
                continue
            if name in CONTENT or name == "result_blob":
                changed[name] = None
            elif name in CONTENT_DIGESTS and (is_metadata or name not in MESSAGE_DIGESTS):
                changed[name] = self._digest(str(value))
            elif name == "prompt_added" and is_metadata and type(value) is tuple:
                changed[name] = tuple(self._digest(str(one)) for one in value)
            elif type(value) is str and name not in MESSAGE_DIGESTS:
                changed[name] = self._name(value)
        if getattr(event, "labels", ()):
            changed["labels"] = self._labels_of(event) if is_metadata else ()
        if not is_metadata:
            changed |= self._rewriter.references(event)
        return replaced(event, changed)

    def _labels_of(self, event: Event) -> Any:
        try:
            labels, _ = self._labels(event, self.redactor.work())
        except Exception as error:
            self._counted(error)
            return ()
        return getattr(event, "labels", ()) if labels is None else labels

    def _name(self, text: str) -> str:
        try:
            if len(text) <= _LONGEST_NAME:
                return self.redactor.text(text, self.redactor.work()).text
        except Exception as error:
            self._counted(error)
        return f"<withheld:{self._digest(text)[:20]}>"

    def _digest(self, digest: str) -> str:
        """What stands for a digest over what is not recorded: it must not give that away."""
        try:
            return self.redactor.pseudonyms.digest(digest)
        except Exception as error:  # no key can be had
            self.last_error = type(error).__name__
            return "0" * 32


def _size_of(event: Event) -> int:
    return sum(map(len, texts_of(event).values()))


def _number(value: Any) -> int:
    return value if type(value) is int else 0
