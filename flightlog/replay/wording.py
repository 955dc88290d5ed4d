"""Says in one sentence how a call differs from what was recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from heapq import nsmallest
from typing import Any, Final

from flightlog.redact.key_files import KEY_VARIABLE
from flightlog.redact.pseudonyms import key_ids
from flightlog.replay.cassette import RecordedCall
from flightlog.replay.matchers import Match
from flightlog.replay.matching import CallKey, ToolRule
from flightlog.trace.canonical import CanonicalArgs, canonical_json

MAX_NEAREST: Final = 3
MAX_VALUE_CHARS: Final = 80
MAX_DIFFERENCES: Final = 3
_ABSENT: Final = object()


@dataclass(frozen=True, slots=True)
class Nearest:
    """A recorded call that is like a missed one.

    Attributes:
        run_id: the recording.
        step: its step there; None where unknown.
        args: its canonical arguments.
        differences: argument path by path, such as `args.amount is 3900, recorded 39`; none
            where only the state differs.
    """

    run_id: str
    step: int | None
    args: str
    differences: tuple[str, ...]


def nearest_calls(
    args: CanonicalArgs, recorded: Sequence[RecordedCall]
) -> tuple[RecordedCall, ...]:
    """The recorded calls of a tool whose arguments differ least, the nearest first."""
    return tuple(nsmallest(MAX_NEAREST, recorded, key=lambda call: _distance(call.args, args)))


def nearest_of(call: RecordedCall, args: CanonicalArgs) -> Nearest:
    """One recorded call beside the arguments of a missed one."""
    is_raw = call.args.flag or args.flag
    changes = [] if is_raw else _changes("args", call.args.value, args.value)
    if is_raw and call.args.digest != args.digest:
        changes = [args_difference(call.args, args)]
    return Nearest(call.run_id, call.call.step, call.args.text, tuple(changes))


def describe_difference(
    rule: ToolRule,
    args: CanonicalArgs,
    found: CallKey,
    recorded: Sequence[RecordedCall],
    *,
    match: Match = Match.STATE,
) -> str:
    """Why a call matches none of the recorded calls of its tool.

    Args:
        rule: how the tool is keyed.
        args: canonical arguments of the call.
        found: its key in the current state.
        recorded: the recorded calls of the tool, newest recording first.
        match: how calls are found.
    """
    if not recorded:
        return "the tool was never called in the recordings"
    if found.signature is None:
        return "a write of unknown outcome touched what it reads, so its state cannot be known"
    same_args = [call for call in recorded if call.args.digest == args.digest]
    if not same_args:
        near = min(recorded, key=lambda call: _distance(call.args, args))
        what = f"{args_difference(near.args, args)}; nearest recorded: step {near.call.step}"
        return what + _key_difference(rule, near.args, args)
    if match is Match.STRICT:
        place = same_args[0].call.step
        return f"the same call is recorded at step {place}, but not after the same calls"
    same_state = [call for call in same_args if call.signature == found.signature]
    if same_state:
        if found.is_repeat:
            return (
                f"it was made {_times(len(same_state))} in this state in the recordings, "
                "and the candidate makes it once more"
            )
        return (
            f"the same call is recorded at step {same_state[0].call.step}, but with no answer "
            "that is certain (a parallel call raced it, or its result is unknown)"
        )
    near = same_args[0]
    return (
        f"the same arguments are recorded at step {near.call.step}, but in another state of "
        f"{_changed_scopes(near.signature, found.signature)}"
    )


def args_difference(recorded: CanonicalArgs, args: CanonicalArgs) -> str:
    """How arguments differ from recorded ones: `args.query is 'a', recorded 'b'`."""
    if recorded.flag or args.flag:
        return f"arguments are {_short(args.text)}, recorded {_short(recorded.text)}"
    changes = list(_changes("args", recorded.value, args.value))
    shown = "; ".join(changes[:MAX_DIFFERENCES])
    more = len(changes) - MAX_DIFFERENCES
    return f"{shown}; and {more} more" if more > 0 else shown or "arguments are equal"


def _key_difference(rule: ToolRule, recorded: CanonicalArgs, args: CanonicalArgs) -> str:
    """That two sides have pseudonyms under different keys; empty where it cannot be that."""
    theirs, ours = key_ids(recorded.text), key_ids(args.text)
    if not theirs or theirs & ours:
        return ""
    if rule.redactor is None:
        return "; the recording holds pseudonyms, and this replay does not redact"
    if not ours:
        return ""
    return (
        f"; the recording's pseudonyms were made under another key ({', '.join(sorted(theirs))}, "
        f"here {', '.join(sorted(ours))}): set {KEY_VARIABLE} to the key of the recording"
    )


def _changes(path: str, old: Any, new: Any) -> list[str]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        return [
            change
            for name in sorted({*old, *new})
            for change in _changes(f"{path}.{name}", old.get(name, _ABSENT), new.get(name, _ABSENT))
        ]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = enumerate(zip(old, new, strict=True))
        return [c for ix, (a, b) in pairs for c in _changes(f"{path}[{ix}]", a, b)]
    if old is _ABSENT:
        return [f"{path} is {_shown(new)}, recorded without it"]
    if new is _ABSENT:
        return [f"{path} is missing, recorded {_shown(old)}"]
    same = canonical_json(old) == canonical_json(new)
    return [] if same else [f"{path} is {_shown(new)}, recorded {_shown(old)}"]


def _distance(recorded: CanonicalArgs, args: CanonicalArgs) -> int:
    if recorded.flag or args.flag:
        return 1_000_000
    return len(_changes("args", recorded.value, args.value))


def _changed_scopes(recorded: str | None, found: str) -> str:
    before = set((recorded or "").split("\n"))
    changed = [line.rpartition("@")[0] for line in found.split("\n") if line not in before]
    names = ["everything (the tool declares no scopes)" if n == "*" else n for n in changed]
    return ", ".join(names[:MAX_DIFFERENCES]) or "what it reads"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _shown(value: Any) -> str:
    return _short(repr(value) if isinstance(value, str) else canonical_json(value))


def _short(text: str) -> str:
    return text if len(text) <= MAX_VALUE_CHARS else f"{text[: MAX_VALUE_CHARS - 1]}…"
