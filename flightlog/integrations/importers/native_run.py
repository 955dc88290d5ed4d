"""A run that flightlog itself recorded, on its way back into a store."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from flightlog.trace.events import AnyEvent, Event, ModelCall, RunStarted
from flightlog.trace.messages import Message
from flightlog.trace.sink import Sink


@dataclass(frozen=True, slots=True)
class NativeRun:
    """A run as flightlog itself recorded it, read from what it exported.

    Attributes:
        run_id: its id; it keeps it.
        where: where it was read, for messages.
        events: by `seq`.
        messages: those that the events name, by digest.
    """

    run_id: str
    where: str
    events: tuple[AnyEvent, ...]
    messages: Mapping[str, Message] = field(default_factory=dict)


def messages_named(event: Event, messages: Mapping[str, Message]) -> list[Message]:
    """The bodies of the messages that an event is the first to name."""
    if isinstance(event, ModelCall):
        digests: Iterable[str | None] = (*event.prompt_added, event.output_digest)
    elif isinstance(event, RunStarted):
        digests = (event.system_digest, event.task_digest, event.toolset_digest)
    else:
        digests = ()
    return [messages[digest] for digest in digests if digest is not None and digest in messages]


def write_native(run: NativeRun, sink: Sink, *, without: Collection[int] = ()) -> int:
    """Records the events of a run as they are.

    Args:
        run: the run.
        sink: where its events go.
        without: numbers of events that are recorded already.

    Returns:
        How many were written.
    """
    left = [event for event in run.events if event.seq not in without]
    for event in left:
        sink.emit(event, messages=messages_named(event, run.messages))
    return len(left)
