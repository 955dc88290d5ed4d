"""One run's pen: numbers the events, stamps the times, turns prompts into differences.

The bounded runtime, the context manager for foreign agents and the importers
all write through it, so a run looks the same whoever made it.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, Final

from flightlog.trace.canonical import digest_of_bytes, digest_of_text
from flightlog.trace.clock import Clock, SystemClock
from flightlog.trace.events import (
    Evaluation,
    Event,
    ModelCall,
    RunStarted,
    RunStopped,
    StateChanged,
    ToolCall,
    ToolIntent,
)
from flightlog.trace.fitting import fitted, fitted_text
from flightlog.trace.foreign import args_fields, value_text
from flightlog.trace.messages import Message, PromptDelta
from flightlog.trace.sink import Sink
from flightlog.trace.slices import SLICE_CHARS, utf8_size
from flightlog.trace.vocab import (
    Actor,
    Effect,
    FinishReason,
    Origin,
    Outcome,
    RunStatus,
    ServedHow,
    StopReason,
)

_ENUMS: Final = (Actor, Effect, FinishReason, Origin, Outcome, RunStatus, ServedHow, StopReason)
_PLAIN: Final = frozenset((str, int, float, bool, type(None), *_ENUMS))


class RunWriter:
    """Writes the events of one run to a sink. Safe to use from several threads.

    Args:
        sink: where the events go.
        run_id: id of the run, unique in the store.
        clock: stamps `at` and `elapsed_ms`; None leaves both as the caller gives them
            (imported runs, whose times are in the past).
        syncs_later: what is to be durable waits for `sync`, where the sink can; only the
            intent of a write never does.
        first_seq: number of its first event; above 0 where the run has events already.

    Attributes:
        is_sync_due: something waits for `sync`.
    """

    def __init__(
        self,
        sink: Sink,
        run_id: str,
        *,
        clock: Clock | None = None,
        syncs_later: bool = False,
        first_seq: int = 0,
    ) -> None:
        self.run_id = run_id if type(run_id) is str else fitted_text(run_id)
        self.is_sync_due = False
        self._sink = sink
        self._sync_sink = getattr(sink, "sync", None)
        self._syncs_later = syncs_later and self._sync_sink is not None
        self._clock = clock
        self._lock = threading.RLock()
        self._seq = first_seq
        self._started_ms = clock.monotonic_ms() if clock else 0.0
        self._prompt: tuple[str, ...] = ()
        self._given: tuple[Message, ...] = ()
        self._prompt_seq: int | None = None

    @classmethod
    def with_system_clock(cls, sink: Sink, run_id: str) -> RunWriter:
        """A writer on the machine's clocks."""
        return cls(sink, run_id, clock=SystemClock())

    def started(self, *, messages: Sequence[Message] = (), **fields: Any) -> bool:
        """Writes `run_started`; fields are those of `RunStarted`."""
        bodies = [_of_texts(message) for message in messages]
        return self._write(RunStarted, fields, bodies, is_plain=_are_plain(fields))

    def model_call(
        self,
        *,
        prompt: Sequence[Message] = (),
        output: Message | None = None,
        **fields: Any,
    ) -> bool:
        """Writes one model call.

        Args:
            prompt: all messages that were sent; stored as the difference to the
                prompt of the previous call of this run.
            output: the answer.
            fields: those of `ModelCall`.
        """
        output = None if output is None else _of_texts(output)
        with self._lock:
            known = _same_objects(self._given, prompt)
            added = [_of_texts(message) for message in prompt[known:]]
            digests = (*self._prompt[:known], *(message.digest for message in added))
            delta = PromptDelta.between(self._prompt, digests, base_seq=self._prompt_seq)
            new = added[delta.kept - known :]
            bodies = [*new, *([output] if output is not None else [])]
            if digests:
                self._prompt, self._prompt_seq = digests, self._seq
                self._given = tuple(prompt)
            is_plain = _are_plain(fields)
            if output is not None:
                fields.setdefault("tool_requests", len(output.tool_requests))
            return self._write(
                ModelCall,
                {
                    "prompt_base_seq": delta.base_seq,
                    "prompt_kept": delta.kept,
                    "prompt_added": delta.added,
                    "prompt_messages": len(digests) if digests else None,
                    "output_digest": output.digest if output is not None else None,
                    **fields,
                },
                bodies,
                is_plain=is_plain,
            )

    def tool_call(self, *, result: Any = None, **fields: Any) -> bool:
        """Writes one attempt or refusal.

        Args:
            result: what the tool gave; digest and size are filled in. A text stays as it is,
                any other value becomes its JSON or the nearest text, with a `result_flag`.
            fields: those of `ToolCall`. `args` may be any value too: an object becomes
                canonical JSON with its digest.
        """
        if result is not None:
            if type(result) is not str:
                result, flag = value_text(result)
                fields.setdefault("result_flag", flag)
            if len(result) <= SLICE_CHARS:
                raw = result.encode("utf-8", "surrogatepass")
                if "result_digest" not in fields:
                    fields["result_digest"] = digest_of_bytes(raw)
                fields["result_bytes"] = len(raw)
            else:
                fields.setdefault("result_digest", digest_of_text(result))
                fields["result_bytes"] = utf8_size(result)
            fields["result"] = result
        fields = _with_args(fields)
        return self._write(ToolCall, fields, is_plain=_are_plain(fields))

    def tool_intent(self, **fields: Any) -> bool:
        """Writes the intent of a write, durably; False means: do not call the tool."""
        fields = _with_args(fields)
        fields.pop("args_flag", None)
        is_plain = _are_plain(fields)
        with self._lock:
            event = self._event(ToolIntent, fields, is_plain=is_plain)
        # Outside the lock: other threads go on writing while this one waits for the disk.
        return self._sink.emit(event, durable=True)

    def state_changed(self, *, durable: bool = True, **fields: Any) -> bool:
        """Writes a change of a guardrail's state; fields are those of `StateChanged`."""
        return self._write(StateChanged, fields, durable=durable, is_plain=_are_plain(fields))

    def stopped(self, **fields: Any) -> bool:
        """Writes `run_stopped`, durably; fields are those of `RunStopped`."""
        if self._clock and "duration_ms" not in fields:
            fields["duration_ms"] = self._elapsed_ms(self._clock)
        return self._write(RunStopped, fields, durable=True, is_plain=_are_plain(fields))

    def sync(self, *, is_last: bool = False) -> bool:
        """Makes durable what waits for it; False when it may not be. For any thread.

        Args:
            is_last: from here on nothing waits any more.
        """
        with self._lock:
            is_due, self.is_sync_due = self.is_sync_due, False
            if is_last:
                self._syncs_later = False
        # Outside the lock: who writes meanwhile does not wait for the disk.
        return self._sync_sink() is True if is_due and self._sync_sink is not None else True

    def evaluation(self, **fields: Any) -> bool:
        """Writes a judgement on the run; fields are those of `Evaluation`."""
        return self._write(Evaluation, fields, is_plain=_are_plain(fields))

    def _elapsed_ms(self, clock: Clock) -> float:
        # Whole microseconds; cheaper than round().
        return int((clock.monotonic_ms() - self._started_ms) * 1000 + 0.5) / 1000

    def _write(
        self,
        event_type: type[Event],
        fields: dict[str, Any],
        messages: Sequence[Message] = (),
        *,
        durable: bool = False,
        is_plain: bool,
    ) -> bool:
        with self._lock:
            event = self._event(event_type, fields, is_plain=is_plain)
            if durable and self._syncs_later:
                durable, self.is_sync_due = False, True
            if not durable:
                return self._sink.emit(event, messages=messages)
        # Outside the lock: other threads go on writing while this one waits for the disk.
        return self._sink.emit(event, messages=messages, durable=True)

    def _event(self, event_type: type[Event], fields: dict[str, Any], *, is_plain: bool) -> Event:
        """The next event; called under the lock."""
        clock = self._clock
        if clock is not None:
            if "at" not in fields:
                fields["at"] = clock.wall_us()
            if "elapsed_ms" not in fields:
                fields["elapsed_ms"] = self._elapsed_ms(clock)
        fields["run_id"] = self.run_id
        fields["seq"] = self._seq
        event = event_type(**fields)
        if not is_plain:
            event = fitted(event)
        self._seq += 1
        return event


def _same_objects(before: Sequence[Message], after: Sequence[Message]) -> int:
    """How many messages at the beginning are the very same objects; they need no second look."""
    pairs = zip(before, after, strict=False)
    same = min(len(before), len(after))
    return next((place for place, (old, new) in enumerate(pairs) if old is not new), same)


def _of_texts(message: Message) -> Message:
    return message if message.is_of_texts else message.cleaned


def _are_plain(fields: dict[str, Any]) -> bool:
    """False when some field needs a closer look before it goes into an event."""
    return _PLAIN.issuperset(map(type, fields.values()))


def _with_args(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields with arguments that are not text brought into their canonical form."""
    args = fields.get("args")
    if args is None or type(args) is str:
        return fields
    return {**args_fields(args), **{k: v for k, v in fields.items() if k != "args"}}
