"""A sink before a sink: no known value of a credential passes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flightlog.redact.rewriting import (
    RUN_IDS,
    Rewriter,
    clean_labels,
    consequences,
    replaced,
    texts_of,
)
from flightlog.redact.scrubber import Scrubber
from flightlog.trace.events import Event
from flightlog.trace.messages import Message
from flightlog.trace.sink import Sink


class ScrubbingSink:
    """Passes events and messages on without any known value of a credential.

    Digests fit what is passed on: those of changed messages, arguments and results are
    those of the changed ones.

    Args:
        sink: where the events go; its other attributes, such as `control`, are this one's too.
        scrubber: knows the values of one run.
    """

    def __init__(self, sink: Sink, scrubber: Scrubber) -> None:
        self._sink = sink
        self._scrubber = scrubber
        self._rewriter = Rewriter()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._sink, name)

    def emit(
        self, event: Event, *, messages: Sequence[Message] = (), durable: bool = False
    ) -> bool:
        """As `Sink.emit`."""
        passed = [self._cleaned(message) for message in messages]
        return self._sink.emit(self._event(event), messages=passed, durable=durable)

    def _cleaned(self, message: Message) -> Message:
        clean = self._scrubber.clean_message(message)
        if clean is not message:
            self._rewriter.changed(message.digest, clean.digest)
        return clean

    def _event(self, event: Event) -> Event:
        changed = self._rewriter.references(event) if self._rewriter.has_changed else {}
        texts = {name: text for name, text in texts_of(event).items() if name not in RUN_IDS}
        clean = self._scrubber.clean
        # One look at all texts of an event, since nearly always there is nothing to find.
        if self._scrubber.holds("\0".join(texts.values())):
            for name, text in texts.items():
                if (cleaned := clean(text)) != text:
                    changed[name] = cleaned
            changed |= consequences(event, changed)
        if labels := getattr(event, "labels", ()):
            cleaned_labels = clean_labels(labels, lambda text, _key: clean(text))
            if cleaned_labels is not None:
                changed["labels"] = cleaned_labels
        return replaced(event, changed)
