"""Where events go: the one protocol between the runtime and a recorder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from flightlog.trace.events import Event
from flightlog.trace.messages import Message


class Sink(Protocol):
    """Takes complete events, in order, from any thread.

    One that can make durable later what it has taken has a `sync() -> bool` too, which may be
    called from any thread: an event loop need not wait for a disk then.
    """

    def emit(
        self, event: Event, *, messages: Sequence[Message] = (), durable: bool = False
    ) -> bool:
        """Takes one event and the messages whose digests it names.

        Args:
            event: complete and final.
            messages: bodies of the messages that the event refers to; a sink
                stores each only once.
            durable: survive the loss of power, not only of the process.

        Returns:
            True when the event is kept as asked; False when it was dropped
            (and counted). A sink does not raise.
        """
        ...


class NullSink:
    """Keeps nothing; for agents that run bounded but unrecorded."""

    def emit(
        self, event: Event, *, messages: Sequence[Message] = (), durable: bool = False
    ) -> bool:
        return True


class MemorySink:
    """Keeps events and messages in memory; for tests and for looking at one run."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.messages: dict[str, Message] = {}

    def emit(
        self, event: Event, *, messages: Sequence[Message] = (), durable: bool = False
    ) -> bool:
        for message in messages:
            self.messages.setdefault(message.digest, message)
        self.events.append(event)
        return True
