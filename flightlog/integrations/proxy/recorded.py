"""Answers out of recorded runs, found by the whole prompt."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from flightlog.integrations.dialects.dialect import Answered
from flightlog.integrations.proxy.conversations import canonical_arguments
from flightlog.replay.cassette import Recording
from flightlog.runtime.model import Usage
from flightlog.trace.events import ModelCall
from flightlog.trace.messages import Message
from flightlog.trace.vocab import Actor, Outcome

_EXCERPT_CHARS: Final = 80
Clean = Callable[[Message], Message]


@dataclass(slots=True)
class _Call:
    """One recorded answer."""

    run_id: str
    place: int
    parts: tuple[str, ...]
    prompt: tuple[Message, ...]
    answer: Answered
    served: int = 0


@dataclass(frozen=True, slots=True)
class Served:
    """What answers a prompt.

    Attributes:
        answer: as it was recorded.
        run_id: the run that it is from.
    """

    answer: Answered
    run_id: str


@dataclass(frozen=True, slots=True)
class Miss:
    """No recording holds the prompt.

    Attributes:
        why: in one sentence, with the nearest prompt that was recorded.
    """

    why: str


class RecordedAnswers:
    """The answers of all models of some recorded runs. For several threads.

    A prompt is found by its messages: roles, texts, tools that were asked for with their
    arguments in canonical JSON. Ids do not count, since providers make new ones. The same
    prompt in several runs, or several times, is answered in the order that was recorded, and
    a conversation that was answered from one run stays with it while it can; then it begins
    again.

    Args:
        recordings: the runs.
        ignores_system: system messages do not count either.
        cleaners: bring a prompt into the form in which it was recorded (redaction), each
            tried when the ones before it find nothing.

    Attributes:
        answers: that can be given.
        left_out: that cannot: failed calls, and those whose prompt the recording does not hold.
    """

    def __init__(
        self,
        recordings: Iterable[Recording],
        *,
        ignores_system: bool = False,
        cleaners: Sequence[Clean] = (),
    ) -> None:
        self.answers = 0
        self.left_out = 0
        self._ignores_system = ignores_system
        self._cleaners = cleaners
        self._by_key: defaultdict[str, list[_Call]] = defaultdict(list)
        self._calls: list[_Call] = []
        self._lock = threading.Lock()
        for recording in recordings:
            self._add(recording)

    def answer(self, prompt: Sequence[Message], *, after: str | None) -> Served | Miss:
        """The answer to a prompt.

        Args:
            prompt: all of it.
            after: the run that this conversation was answered from before.
        """
        wanted = self._parts(prompt)
        with self._lock:
            call = self._found(wanted, after)
            for clean in self._cleaners:
                if call is None:
                    call = self._found(self._parts([clean(one) for one in prompt]), after)
            if call is None:
                return Miss(self._why(prompt, wanted))
            call.served += 1
            return Served(call.answer, call.run_id)

    def _found(self, parts: tuple[str, ...], after: str | None) -> _Call | None:
        calls = self._by_key.get(_key(parts))
        if not calls:
            return None
        return min(calls, key=lambda one: (one.served, one.run_id != after, one.place))

    def _add(self, recording: Recording) -> None:
        for event, prompt in _prompts(recording):
            output = recording.messages.get(event.output_digest or "")
            if event.outcome is not Outcome.OK or output is None or prompt is None:
                self.left_out += 1
                continue
            parts = self._parts(prompt)
            place = len(self._calls)
            call = _Call(recording.run_id, place, parts, prompt, _answer(event, output))
            self._calls.append(call)
            self._by_key[_key(parts)].append(call)
            self.answers += 1

    def _parts(self, prompt: Iterable[Message]) -> tuple[str, ...]:
        kept = (one for one in prompt if not (self._ignores_system and one.role == "system"))
        return tuple(_part(one) for one in kept)

    def _why(self, prompt: Sequence[Message], wanted: tuple[str, ...]) -> str:
        shown = f"no recording answers this prompt of {len(prompt)} messages"
        if not self._calls:
            return f"{shown}: there is no answer in them at all"
        nearest = max(self._calls, key=lambda one: _same(one.parts, wanted))
        same = _same(nearest.parts, wanted)
        kept = [one for one in prompt if not (self._ignores_system and one.role == "system")]
        there = [
            one for one in nearest.prompt if not (self._ignores_system and one.role == "system")
        ]
        return (
            f"{shown}; the nearest is of run {nearest.run_id}, and differs at message {same + 1}: "
            f"{_excerpt(kept, same)} here, {_excerpt(there, same)} there"
        )


def _prompts(recording: Recording) -> Iterator[tuple[ModelCall, tuple[Message, ...] | None]]:
    """The agent's model calls with their prompts; None for one that is not all there."""
    by_seq: dict[int | None, tuple[str, ...]] = {}
    rebuilt = _tool_messages(recording)
    for event in recording.events:
        if not isinstance(event, ModelCall):
            continue
        kept = by_seq.get(event.prompt_base_seq, ())[: event.prompt_kept]
        digests = by_seq[event.seq] = (*kept, *event.prompt_added)
        if event.actor is not Actor.AGENT:
            continue
        found = [recording.messages.get(one) or rebuilt.get(one) for one in digests]
        messages = tuple(one for one in found if one is not None)
        yield event, messages if len(messages) == len(found) else None


def _tool_messages(recording: Recording) -> dict[str, Message]:
    """The messages that tool results were, by digest: recordings of goldens leave them out."""
    found: dict[str, Message] = {}
    for call in recording.tool_calls:
        for text in {recording.result_of(call), call.error, ""}:
            for name in (call.tool_name, None):
                made = Message("tool", text, tool_call_id=call.tool_call_id, name=name)
                found[made.digest] = made
    return found


def _answer(event: ModelCall, output: Message) -> Answered:
    return Answered(
        output=output,
        model=event.response_model or event.request_model,
        response_id=event.response_id,
        usage=Usage(
            event.input_tokens,
            event.output_tokens,
            event.cache_read_tokens,
            event.cache_write_tokens,
            event.reasoning_tokens,
        ),
        finish_reason=event.finish_reason,
    )


def _part(message: Message) -> str:
    plain = [
        message.role,
        (message.text or "").strip(),
        [[one.name, canonical_arguments(one)] for one in message.tool_requests],
    ]
    return hashlib.sha256(json.dumps(plain).encode()).hexdigest()


def _key(parts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _same(one: Sequence[str], other: Sequence[str]) -> int:
    pairs = zip(one, other, strict=False)
    most = min(len(one), len(other))
    return next((place for place, (a, b) in enumerate(pairs) if a != b), most)


def _excerpt(messages: Sequence[Message], place: int) -> str:
    if place >= len(messages):
        return "its end"
    message = messages[place]
    text = message.text or ", ".join(one.name for one in message.tool_requests)
    short = text if len(text) <= _EXCERPT_CHARS else text[: _EXCERPT_CHARS - 3] + "..."
    return f"{message.role} {short!r}"
