"""How much a run is like its recordings: every level that holds, not only the tightest."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from flightlog.golden.judging.calls import (
    JudgedCall,
    accepted_writes,
    identity_of,
    successful_writes,
)
from flightlog.replay.cassette import Cassette, RecordedCall
from flightlog.replay.commuting import Access, layers_of
from flightlog.replay.matching import KeyWalk
from flightlog.trace.vocab import Outcome


class Level(StrEnum):
    """How much a run is like its nearest recording, from most to least.

    `commuting`: the same calls, but for the order of calls that do not touch each other.
    """

    EXACT = "exact"
    COMMUTING = "commuting"
    SAME_WRITES = "same_writes"
    SAME_OUTCOME = "same_outcome"
    DIFFERENT = "different"


def levels_of(
    made: Sequence[JudgedCall], cassette: Cassette, *, is_outcome_accepted: bool
) -> tuple[Level, ...]:
    """The levels that hold of a run, tightest first; `different` where none does.

    Args:
        made: its calls.
        cassette: the recordings; any one of them will do at each level.
        is_outcome_accepted: its stop reason and its answer are what the contract asks for.
    """
    done = [one for one in made if not one.call.outcome.is_refusal and one.call.attempt == 1]
    identities = [one.identity for one in done]
    recorded = [_first_tries(calls) for calls in cassette.calls]
    found: list[Level] = []
    if any(identities == list(map(identity_of, calls)) for calls in recorded):
        found += [Level.EXACT, Level.COMMUTING]
    elif _commutes(done, cassette, recorded):
        found.append(Level.COMMUTING)
    if successful_writes(made) in accepted_writes(cassette):
        found.append(Level.SAME_WRITES)
    if is_outcome_accepted:
        found.append(Level.SAME_OUTCOME)
    return tuple(found) or (Level.DIFFERENT,)


def _commutes(
    done: Sequence[JudgedCall], cassette: Cassette, recorded: Sequence[Sequence[RecordedCall]]
) -> bool:
    calls = sorted(one.identity for one in done)
    same = [one for one in recorded if sorted(map(identity_of, one)) == calls]
    if not same:  # the layers need not be made
        return False
    mine = layers_of(one.access for one in done)
    return any(mine == layers_of(_access(call, cassette) for call in calls) for calls in same)


def _first_tries(calls: Sequence[RecordedCall]) -> list[RecordedCall]:
    return [call for call in calls if call.call.attempt == 1]


def _access(call: RecordedCall, cassette: Cassette) -> Access:
    rule = cassette.rules[call.tool_name]
    result = call.result if call.outcome is Outcome.OK else None
    return Access(identity_of(call), KeyWalk.touched(rule, call.args, result), rule.changes_state)
