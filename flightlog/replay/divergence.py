"""The first call in which a run differs from its nearest recording."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flightlog.replay.cassette import Cassette, RecordedCall
from flightlog.replay.wording import args_difference
from flightlog.trace.events import ToolCall
from flightlog.trace.vocab import Actor


@dataclass(frozen=True, slots=True)
class Divergence:
    """Where a run leaves its nearest recording.

    Attributes:
        step: step of the candidate's call; None when it made fewer calls.
        tool_name: the tool of the differing (or missing) call.
        what: the difference, one sentence.
        run_id: the recording that it was compared with.
    """

    step: int | None
    tool_name: str
    what: str
    run_id: str

    def __str__(self) -> str:
        place = f"step {self.step}" if self.step is not None else "its end"
        return f"{place}, {self.tool_name}: {self.what}"


def first_divergence(cassette: Cassette, calls: Sequence[ToolCall]) -> Divergence | None:
    """The first call that differs from the recording with the longest equal beginning.

    Args:
        cassette: the recordings.
        calls: the candidate's calls in order; refused ones, further tries of a call, and
            those of a simulated user do not count.

    Returns:
        None when the calls equal those of a recording, or nothing is recorded.
    """
    mine = [c for c in calls if c.actor is Actor.AGENT and _counts(c)]
    digests = [cassette.rules[call.tool_name].args_of(call.args or "") for call in mine]
    identities = [(c.tool_name, args.digest) for c, args in zip(mine, digests, strict=True)]
    best: tuple[int, Sequence[RecordedCall]] | None = None
    for every in reversed(cassette.calls):
        calls_there = [call for call in every if call.call.attempt == 1]
        theirs = [(call.tool_name, call.args.digest) for call in calls_there]
        if theirs == identities:
            return None
        length = _common(theirs, identities)
        if best is None or length > best[0]:
            best = (length, calls_there)
    if best is None:
        return None
    place, recorded = best
    run_id = recorded[0].run_id if recorded else ""
    if place == len(mine):
        missing = recorded[place]
        what = f"the recording goes on with {missing.tool_name} {_short(missing.args.text)}"
        return Divergence(None, missing.tool_name, what, run_id)
    call = mine[place]
    if place == len(recorded):
        what = "one call more than the recording made"
    elif recorded[place].tool_name != call.tool_name:
        what = f"the recording calls {recorded[place].tool_name} here"
    else:
        what = args_difference(recorded[place].args, digests[place])
    return Divergence(call.step, call.tool_name, what, run_id)


def _counts(call: ToolCall) -> bool:
    # A miss was asked for and is the very call that differs; a refusal was never served.
    is_served = not call.outcome.is_refusal or call.outcome.value == "replay_miss"
    return is_served and (call.attempt == 1 or call.outcome.value == "replay_miss")


def _common(one: Sequence[object], other: Sequence[object]) -> int:
    pairs = zip(one, other, strict=False)
    return next((ix for ix, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def _short(text: str, *, limit: int = 100) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
