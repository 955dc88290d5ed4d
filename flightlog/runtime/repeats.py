"""Idempotency keys, and what a run remembers so that a repeated call is not made again."""

from __future__ import annotations

from typing import Final

from flightlog.runtime.calls import EarlierCall, PendingCall, Refusal, Settled
from flightlog.runtime.tools import Tool
from flightlog.trace.canonical import digest_of
from flightlog.trace.vocab import Effect, Outcome

_IN_DOUBT: Final = frozenset({Outcome.TIMED_OUT})
_WITHOUT_EFFECT: Final = frozenset({Outcome.FAILED, Outcome.REPLAY_MISS})


class CallMemory:
    """The calls of one run that a later one may repeat.

    A write is known by its idempotency key: the run, the step (or not, where the
    tool says `dedupe_writes="run"`), the tool and its arguments; or the key that
    the model gives, where the tool takes one from it. A read is known by tool and
    arguments, where the tool says `reuse_result`, until the next write.
    """

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        self._writes: dict[str, EarlierCall] = {}
        self._reads: dict[tuple[str, str], EarlierCall] = {}
        self._approved: set[tuple[str, str, str]] = set()

    def key_of(self, call: PendingCall) -> str | None:
        """The idempotency key of a write; None for any other call, and for broken arguments."""
        tool = call.tool
        if tool is None or not call.effect.is_write or call.args.flag is not None:
            return None
        if tool.key_argument is not None:
            given = call.values().get(tool.key_argument)
            if isinstance(given, str) and given:
                return given
        step = "run" if tool.dedupe_writes == "run" else str(call.step)
        return digest_of("write", self._run_id, step, call.name, call.args.digest)

    def repeated(self, call: PendingCall) -> Refusal | None:
        """The answer to a call that repeats an earlier one; None for one that is to be made."""
        place = self._place(call)
        if place is None or call.attempt > 1:
            return None
        earlier = self._writes.get(place) if isinstance(place, str) else self._reads.get(place)
        return None if earlier is None else self._answer(call, earlier)

    def begin(self, call: PendingCall) -> None:
        """Remembers a call that is about to be made."""
        place = self._place(call)
        if place is None or call.attempt > 1:
            return
        begun = EarlierCall(call.step, call.call_ix, call.args.digest, before=self._earlier(place))
        if isinstance(place, str):
            self._writes[place] = begun
        else:
            self._reads[place] = begun

    def forget(self, call: PendingCall) -> None:
        """Forgets a call that was not made after all, unless it only repeated another."""
        place = self._place(call)
        earlier = self._earlier(place)
        if call.attempt > 1 or earlier is None:
            return
        if (earlier.step, earlier.call_ix) != (call.step, call.call_ix):
            return
        if isinstance(place, str):
            self._writes.pop(place)
            if earlier.before is not None:  # its outcome is still unknown
                self._writes[place] = earlier.before
        elif place is not None:
            self._reads.pop(place)

    def end(self, call: PendingCall, settled: Settled) -> None:
        """Keeps what a call came to, once no further try of it will be made."""
        if call.effect.is_write:
            self._reads = {key: read for key, read in self._reads.items() if read.settled is None}
            for read in self._reads.values():  # it may have seen the world before the write
                read.is_stale = True
        place = self._place(call)
        earlier = self._earlier(place)
        if earlier is None or place is None:
            return
        earlier.settled, earlier.before = settled, None
        outcome = settled.served.outcome
        if isinstance(place, tuple) and (earlier.is_stale or outcome is not Outcome.OK):
            self._reads.pop(place)
        elif isinstance(place, str) and outcome in _WITHOUT_EFFECT:
            self._writes.pop(place)

    def is_approved(self, call: PendingCall) -> bool:
        """True when this very write was approved already in this run."""
        return _write_of(call) in self._approved

    def approve(self, call: PendingCall) -> None:
        """Remembers an approval, so that a repeat or another try is not asked for again."""
        self._approved.add(_write_of(call))

    def _place(self, call: PendingCall) -> str | tuple[str, str] | None:
        if call.key is not None:
            return f"{call.name}\n{call.key}"
        tool = call.tool
        if tool and tool.reuse_result and call.effect is Effect.READ and not tool.is_consuming:
            return (call.name, call.args.digest)
        return None

    def _earlier(self, place: str | tuple[str, str] | None) -> EarlierCall | None:
        if place is None:
            return None
        return self._writes.get(place) if isinstance(place, str) else self._reads.get(place)

    def _answer(self, call: PendingCall, earlier: EarlierCall) -> Refusal | None:
        if earlier.args_digest != call.args.digest:
            error = (
                f"the idempotency key was used at step {earlier.step} with other arguments; "
                "use a new key for another write"
            )
            return Refusal(Outcome.INVALID_INPUT, "idempotency_conflict", error)
        settled = earlier.settled
        if settled is not None and settled.served.outcome in _IN_DOUBT:
            if _is_repeatable(call.tool):
                return None
            error = (
                f"this write was made at step {earlier.step} and its outcome is unknown; "
                "it is not made again"
            )
            return Refusal(Outcome.DEDUPLICATED, "in_doubt", error)
        error = f"answered from the same call at step {earlier.step}"
        return Refusal(Outcome.DEDUPLICATED, "deduplicated", error, repeat_of=earlier)


def _write_of(call: PendingCall) -> tuple[str, str, str]:
    """What an approval holds for; the key alone may be a model's, and the same for two tools."""
    return (call.name, call.key or "", call.args.digest)


def _is_repeatable(tool: Tool | None) -> bool:
    """True for a write that may be made again without harm."""
    return tool is not None and (
        tool.takes_key or tool.key_argument is not None or tool.is_idempotent
    )


def may_try_again(call: PendingCall) -> bool:
    """True for a call whose repetition does no harm: a read, or a write that is idempotent."""
    return not call.effect.is_write or _is_repeatable(call.tool)
