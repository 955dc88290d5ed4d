"""What accepting a run would change: the semantic difference to its nearest recording."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any, Final

from flightlog.golden.judging.judge import Judgement
from flightlog.golden.life.json_patch import Operation, json_patch
from flightlog.golden.life.rejudge import rejudge, result_of
from flightlog.golden.task import GoldenTask
from flightlog.replay.cassette import Cassette, RecordedCall, Recording
from flightlog.trace.canonical import CanonicalArgs
from flightlog.trace.events import ModelCall
from flightlog.trace.vocab import Actor, stop_text

ADDED: Final = "added"
REMOVED: Final = "removed"
CHANGED: Final = "changed"
ANSWERED: Final = "answered"
AMOUNTS: Final = ("cost_usd", "latency_ms", "tool_calls", "tokens", "steps")


@dataclass(frozen=True, slots=True)
class CallChange:
    """One call in which a run differs from a recording.

    Attributes:
        kind: `added`, `removed`, `changed` (other arguments), `answered` (other observation).
        tool_name: the tool.
        step: of the run's call; of the recorded one where it is removed.
        is_write: whether the tool is, or may be, a write.
        args: canonical arguments of the run's call, or of the removed one.
        patch: from the recorded arguments to the run's, as JSON Patch; empty but for `changed`.
        before, after: digests of the observations; None where there is none.
    """

    kind: str
    tool_name: str
    step: int | None
    is_write: bool
    args: str
    patch: tuple[Operation, ...] = ()
    before: str | None = None
    after: str | None = None


@dataclass(frozen=True)
class Review:
    """What a run would change in a golden task.

    Attributes:
        task_id, folder: the golden task.
        run_id: the run under review.
        nearest: the recording that it is compared with; None where there is none.
        calls: what differs: calls first, then observations.
        stops: how the recording and the run stopped.
        amounts: cost, latency, calls, tokens and steps of both; None is unknown.
        verdict: of the run against the accepted recordings.
        verdict_after: against them and itself; the contract may still refuse it.
        is_pending: it lies in the folder of pending recordings.
    """

    task_id: str
    folder: str
    run_id: str
    nearest: str | None
    calls: tuple[CallChange, ...]
    stops: tuple[str | None, str]
    amounts: Mapping[str, tuple[float | None, float | None]]
    verdict: Judgement
    verdict_after: Judgement
    is_pending: bool = False

    def as_plain(self) -> dict[str, Any]:
        """The review as JSON values."""
        return {
            "task_id": self.task_id,
            "folder": self.folder,
            "run_id": self.run_id,
            "is_pending": self.is_pending,
            "nearest_recording": self.nearest,
            "calls": [
                {
                    "kind": one.kind,
                    "tool_name": one.tool_name,
                    "step": one.step,
                    "is_write": one.is_write,
                    "args": one.args,
                    "patch": list(one.patch),
                    "observation_before": one.before,
                    "observation_after": one.after,
                }
                for one in self.calls
            ],
            "stop": {"before": self.stops[0], "after": self.stops[1]},
            "amounts": {
                name: {"before": before, "after": after}
                for name, (before, after) in self.amounts.items()
            },
            "verdict": {
                "before": _plain_verdict(self.verdict),
                "after": _plain_verdict(self.verdict_after),
            },
        }


def review(
    golden: GoldenTask,
    cassette: Cassette,
    run: Recording,
    *,
    folder: str,
    is_pending: bool = False,
) -> Review:
    """Compares a run with the accepted recordings of its task.

    Args:
        golden: the contract.
        cassette: the accepted recordings; may hold none.
        run: a finished run.
        folder: name of the task's folder.
        is_pending: for the report.
    """
    accepted = [one for one in cassette.recordings if one.run_id != run.run_id]
    before = Cassette(accepted, cassette.rules)
    after = Cassette([*accepted, run], cassette.rules)
    mine = after.calls[-1]
    nearest = _nearest(before, mine)
    theirs = before.calls[nearest] if nearest is not None else ()
    recording = before.recordings[nearest] if nearest is not None else None
    return Review(
        task_id=golden.task.task_id,
        folder=folder,
        run_id=run.run_id,
        nearest=recording.run_id if recording else None,
        calls=tuple(_changes(theirs, mine)),
        stops=(_stop_of(recording) if recording else None, _stop_of(run)),
        amounts=_amounts(recording, run),
        verdict=rejudge(golden, before, run),
        verdict_after=rejudge(golden, after, run),
        is_pending=is_pending,
    )


def _nearest(cassette: Cassette, mine: Sequence[RecordedCall]) -> int | None:
    """The recording whose calls are most like the run's; the newest of equals."""
    best, best_ratio = None, -1.0
    for place, calls in enumerate(cassette.calls):
        ratio = _matcher(calls, mine).ratio()
        if ratio >= best_ratio:
            best, best_ratio = place, ratio
    return best


def _matcher(theirs: Sequence[RecordedCall], mine: Sequence[RecordedCall]) -> SequenceMatcher[Any]:
    return SequenceMatcher(
        None,
        [(call.tool_name, call.args.digest) for call in theirs],
        [(call.tool_name, call.args.digest) for call in mine],
        autojunk=False,
    )


def _changes(theirs: Sequence[RecordedCall], mine: Sequence[RecordedCall]) -> list[CallChange]:
    found: list[CallChange] = []
    old_only: list[RecordedCall] = []
    new_only: list[RecordedCall] = []
    for tag, a, b, c, d in _matcher(theirs, mine).get_opcodes():
        if tag != "equal":
            old_only += theirs[a:b]
            new_only += mine[c:d]
            continue
        found += [
            _change(ANSWERED, new, before=old, after=new)
            for old, new in zip(theirs[a:b], mine[c:d], strict=True)
            if old.answer_digest != new.answer_digest
        ]
    return _replaced(old_only, new_only) + found


def _replaced(theirs: Sequence[RecordedCall], mine: Sequence[RecordedCall]) -> list[CallChange]:
    """Calls of one tool are paired in their order; the others were added or removed."""
    waiting = list(theirs)
    found: list[CallChange] = []
    for new in mine:
        old = next((call for call in waiting if call.tool_name == new.tool_name), None)
        if old is None:
            found.append(_change(ADDED, new, after=new))
            continue
        waiting.remove(old)
        patch = tuple(json_patch(_value(old.args), _value(new.args)))
        found.append(_change(CHANGED, new, before=old, after=new, patch=patch))
    return [_change(REMOVED, old, before=old) for old in waiting] + found


def _value(args: CanonicalArgs) -> Any:
    return args.text if args.flag else args.value


def _change(
    kind: str,
    call: RecordedCall,
    *,
    before: RecordedCall | None = None,
    after: RecordedCall | None = None,
    patch: tuple[Operation, ...] = (),
) -> CallChange:
    return CallChange(
        kind=kind,
        tool_name=call.tool_name,
        step=call.call.step,
        is_write=call.is_write,
        args=call.args.text,
        patch=patch,
        before=before.answer_digest if before else None,
        after=after.answer_digest if after else None,
    )


def _stop_of(run: Recording) -> str:
    result = result_of(run)
    return stop_text(result.stop_reason, result.stop_tool)


def _amounts(
    before: Recording | None, after: Recording
) -> dict[str, tuple[float | None, float | None]]:
    old = _amounts_of(before) if before else dict.fromkeys(AMOUNTS)
    new = _amounts_of(after)
    return {name: (old[name], new[name]) for name in AMOUNTS}


def _amounts_of(run: Recording) -> dict[str, float | None]:
    stopped = run.stopped
    models = [one for one in run.events if isinstance(one, ModelCall) and one.actor is Actor.AGENT]
    costs = [one.cost_usd for one in models]
    total = stopped.total_cost_usd if stopped else None
    known = [cost for cost in costs if cost is not None]
    return {
        "cost_usd": sum(known) if models and len(known) == len(costs) else total,
        "latency_ms": stopped.duration_ms if stopped else None,
        "tool_calls": float(len(run.tool_calls)),
        "tokens": stopped.used_tokens if stopped else None,
        "steps": stopped.used_steps if stopped else None,
    }


def _plain_verdict(judgement: Judgement) -> dict[str, Any]:
    return {
        "passed": judgement.passed,
        "level": str(judgement.level),
        "detail": judgement.detail,
    }
