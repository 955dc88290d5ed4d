"""Where a run first differs from its nearest recording, and what that comes from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from flightlog.replay.cassette import Cassette, RecordedCall, Recording
from flightlog.replay.wording import args_difference
from flightlog.trace.canonical import CanonicalArgs, canonical_json, digest_of
from flightlog.trace.events import ModelCall, RunStopped, ToolCall
from flightlog.trace.vocab import Actor, Outcome, StopReason, stop_text

if TYPE_CHECKING:
    from flightlog.redact.redactor import Redactor


class Cause(StrEnum):
    """What the first difference comes from.

    A difference of the candidate's own decision is `toolset` or `prompt` where those
    differ from the recorded ones, else `model`.
    """

    MODEL = "model"
    PROMPT = "prompt"
    TOOLSET = "toolset"
    TOOL = "tool"
    RUNTIME = "runtime"
    HARNESS = "harness"


_OF_MODEL: Final = frozenset(
    {StopReason.OK, StopReason.MODEL_ERROR, StopReason.MODEL_REFUSED, StopReason.CONTEXT_OVERFLOW}
)
_MAX_CHARS: Final = 100


@dataclass(frozen=True, slots=True)
class Divergence:
    """Where a run leaves its nearest recording.

    Attributes:
        step: step of the candidate's call; None at its end.
        tool_name: the tool of the differing (or missing) call; empty where only the end differs.
        what: the difference, one sentence.
        run_id: the recording that it was compared with.
        cause: what it comes from.
        changed: what the candidate was given otherwise than the recorded run: `model` with
            both names, `prompt`, `toolset`.
    """

    step: int | None
    tool_name: str
    what: str
    run_id: str
    cause: Cause = Cause.MODEL
    changed: tuple[str, ...] = ()

    def __str__(self) -> str:
        place = f"step {self.step}" if self.step is not None else "its end"
        tool = f", {self.tool_name}" if self.tool_name else ""
        changed = f"; other: {', '.join(self.changed)}" if self.changed else ""
        return f"{place}{tool}: {self.what} (cause: {self.cause}{changed})"


@dataclass(frozen=True, slots=True)
class _Made:
    """One call of the candidate, under the declarations of the golden."""

    call: ToolCall
    args: CanonicalArgs

    @property
    def identity(self) -> tuple[str, str]:
        return (self.call.tool_name, self.args.digest)


def first_divergence(cassette: Cassette, candidate: Recording) -> Divergence | None:
    """The first difference to the recording with the longest equal beginning.

    Calls are compared with their answers, then the ways to stop. What a model says beside
    its calls is not compared: no two models say the same.

    Args:
        cassette: the recordings.
        candidate: the run, as recorded. Further tries of a call, and calls of a simulated
            user, do not count; a refused one does where the recording made that very call.

    Returns:
        None when calls, answers and stop equal those of a recording, or nothing is recorded.
    """
    every = [
        _Made(call, cassette.rules[call.tool_name].args_of(call.args or ""))
        for call in candidate.tool_calls
        if call.actor is Actor.AGENT and (call.attempt == 1 or _is_miss(call))
    ]
    mine = [one for one in every if not one.call.outcome.is_refusal or _is_miss(one.call)]
    nearest = _nearest(cassette, mine)
    if nearest is None:
        return None
    place, theirs, recording = nearest
    found = (
        _other_answer(mine, theirs, place, recording)
        or _refused(every, mine, theirs, place, recording)
        or _other_call(mine, theirs, place, recording)
        or _other_stop(candidate, recording)
    )
    if found is None:
        return None
    changed = _changed(recording, candidate, cassette.rules.redactor)
    return _with_cause(found, changed, candidate)


def _nearest(
    cassette: Cassette, mine: Sequence[_Made]
) -> tuple[int, Sequence[RecordedCall], Recording] | None:
    """Length of the common beginning, the recorded calls, and their recording; newest first."""
    identities = [one.identity for one in mine]
    best: tuple[int, Sequence[RecordedCall], Recording] | None = None
    for (first_tries, theirs), recording in zip(
        reversed(cassette.first_tries), reversed(cassette.recordings), strict=True
    ):
        if theirs == identities:
            return len(theirs), first_tries, recording
        length = _common(theirs, identities)
        if best is None or length > best[0]:
            best = (length, first_tries, recording)
    return best


def _other_answer(
    mine: Sequence[_Made], theirs: Sequence[RecordedCall], place: int, recording: Recording
) -> Divergence | None:
    for one, recorded in zip(mine[:place], theirs[:place], strict=True):
        call = one.call
        if _is_miss(call):
            what = "no recording answers it in this state"
            return _found(call, what, recording, Cause.HARNESS)
        if call.outcome is not recorded.outcome:
            what = f"it ended as {call.outcome}, recorded {recorded.outcome}"
            by_runtime = call.outcome in (Outcome.TIMED_OUT, Outcome.INVALID_OUTPUT)
            return _found(call, what, recording, Cause.RUNTIME if by_runtime else Cause.TOOL)
        if _answer(call, call.result) != _answer(recorded.call, recorded.result):
            return _found(call, "it was answered otherwise than recorded", recording, Cause.TOOL)
    return None


def _refused(
    every: Sequence[_Made],
    mine: Sequence[_Made],
    theirs: Sequence[RecordedCall],
    place: int,
    recording: Recording,
) -> Divergence | None:
    """A call that the recording made and the candidate's gateway refused."""
    if place >= len(theirs):
        return None
    wanted = (theirs[place].tool_name, theirs[place].args.digest)
    before = every.index(mine[place - 1]) + 1 if place else 0
    for one in every[before:]:
        if place < len(mine) and one is mine[place]:
            return None
        if one.identity == wanted:
            what = f"it was refused ({one.call.outcome}), and the recording made it"
            return _found(one.call, what, recording, Cause.RUNTIME)
    return None


def _other_call(
    mine: Sequence[_Made], theirs: Sequence[RecordedCall], place: int, recording: Recording
) -> Divergence | None:
    if place == len(mine) == len(theirs):
        return None
    if place == len(mine):
        missing = theirs[place]
        what = f"the recording goes on with {missing.tool_name} {_short(missing.args.text)}"
        return Divergence(None, missing.tool_name, what, recording.run_id)
    one = mine[place]
    if place == len(theirs):
        what = "one call more than the recording made"
    elif theirs[place].tool_name != one.call.tool_name:
        what = f"the recording calls {theirs[place].tool_name} here"
    else:
        what = args_difference(theirs[place].args, one.args)
    return _found(one.call, what, recording, Cause.MODEL)


def _other_stop(candidate: Recording, recording: Recording) -> Divergence | None:
    mine, theirs = candidate.stopped, recording.stopped
    if mine is None or theirs is None or _stop_of(mine) == _stop_of(theirs):
        return None
    what = f"it stopped with {_stop_of(mine)}, the recording with {_stop_of(theirs)}"
    return Divergence(None, "", what, recording.run_id)


def _with_cause(found: Divergence, changed: tuple[str, ...], candidate: Recording) -> Divergence:
    cause = found.cause
    stopped = candidate.stopped.stop_reason if candidate.stopped else None
    if cause is Cause.MODEL and found.step is None and stopped not in (None, *_OF_MODEL):
        is_miss = stopped is StopReason.REPLAY_MISS
        cause = Cause.HARNESS if is_miss else Cause.RUNTIME
    elif cause is Cause.MODEL and "toolset" in changed:
        cause = Cause.TOOLSET
    elif cause is Cause.MODEL and "prompt" in changed:
        cause = Cause.PROMPT
    return Divergence(found.step, found.tool_name, found.what, found.run_id, cause, changed)


def _changed(
    recording: Recording, candidate: Recording, redactor: Redactor | None
) -> tuple[str, ...]:
    """What both runs were given, where it is known of both and differs."""
    changed: list[str] = []
    theirs, mine = recording.started, candidate.started
    if theirs and mine and theirs.model and mine.model and theirs.model != mine.model:
        changed.append(f"model {mine.model}, recorded {theirs.model}")
    their_head, my_head = _head(recording, None), _head(candidate, redactor)
    if their_head and my_head and their_head != my_head:
        changed.append("prompt")
    their_tools, my_tools = _offered(recording), _offered(candidate)
    if their_tools is not None and my_tools is not None and their_tools != my_tools:
        changed.append("toolset")
    return tuple(changed)


def _head(run: Recording, redactor: Redactor | None) -> list[tuple[str, str]] | None:
    """Role and text of the messages before the first answer; None where they are unknown."""
    for event in run.events:
        if isinstance(event, ModelCall) and event.actor is Actor.AGENT:
            messages = [run.messages.get(digest) for digest in event.prompt_added]
            known = [one for one in messages if one is not None]
            if not messages or len(known) < len(messages):
                return None
            clean = redactor.clean if redactor is not None else str
            return [(one.role, clean(one.text or "")) for one in known]
    return None


def _offered(run: Recording) -> frozenset[str] | None:
    """What the model saw of the tools; None where it is unknown."""
    started = run.started
    message = run.messages.get(started.toolset_digest or "") if started else None
    if message is None:
        return None
    try:
        tools = json.loads(message.text or "[]")
        return frozenset(canonical_json({name: tool.get(name) for name in _SEEN}) for tool in tools)
    except (ValueError, AttributeError, TypeError):
        return None


_SEEN: Final = ("name", "description", "input_schema")


def _answer(call: ToolCall, result: str | None) -> tuple[str, str]:
    digest = digest_of(result) if result is not None else call.result_digest or ""
    return digest, call.error or ""


def _found(call: ToolCall, what: str, recording: Recording, cause: Cause) -> Divergence:
    return Divergence(call.step, call.tool_name, what, recording.run_id, cause)


def _stop_of(stopped: RunStopped) -> str:
    return stop_text(stopped.stop_reason or StopReason.CRASHED, stopped.stop_tool)


def _is_miss(call: ToolCall) -> bool:
    return call.outcome is Outcome.REPLAY_MISS


def _common(one: Sequence[object], other: Sequence[object]) -> int:
    pairs = zip(one, other, strict=False)
    return next((ix for ix, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def _short(text: str) -> str:
    return text if len(text) <= _MAX_CHARS else f"{text[: _MAX_CHARS - 1]}…"
