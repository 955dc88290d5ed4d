"""How far a replay can be trusted: comparable, degraded or void, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Protocol

from flightlog.replay.matchers import Match
from flightlog.trace.vocab import Outcome, ServedHow, StopReason

if TYPE_CHECKING:
    from flightlog.replay.replayer import Replayed

MAX_NAMED: Final = 3
_SUBSTITUTES: Final = (
    ServedHow.FIXTURE,
    ServedHow.STUB,
    ServedHow.LIVE_READ,
    ServedHow.LIVE,
    ServedHow.ERROR,
)
_INTERRUPTED: Final = frozenset({StopReason.CANCELLED, StopReason.CRASHED})


class Validity(StrEnum):
    """What a replay is worth.

    `comparable`: every observation is one that the recorded world gave. `degraded`: something
    else stood in for the recordings, and the reasons say what. `void`: it says nothing of the
    candidate, and never counts as a pass.
    """

    COMPARABLE = "comparable"
    DEGRADED = "degraded"
    VOID = "void"


@dataclass(frozen=True, slots=True)
class Trust:
    """The validity of one replay.

    Attributes:
        validity: comparable, degraded or void.
        reasons: what it comes from, one phrase each; none for a comparable one.
    """

    validity: Validity = Validity.COMPARABLE
    reasons: tuple[str, ...] = ()

    @property
    def is_void(self) -> bool:
        """True when it says nothing of the candidate."""
        return self.validity is Validity.VOID

    def __str__(self) -> str:
        return f"{self.validity}: {'; '.join(self.reasons)}" if self.reasons else self.validity

    @classmethod
    def parse(cls, text: str) -> Trust:
        """What `str` gave; comparable for anything else."""
        word, _, rest = text.partition(": ")
        known = Validity(word) if word in list(Validity) else Validity.COMPARABLE
        return cls(known, tuple(rest.split("; ")) if rest else ())


class Ended(Protocol):
    """How a run ended; `RunResult` has it."""

    @property
    def stop_reason(self) -> StopReason: ...
    @property
    def stop_detail(self) -> str | None: ...


def trust_of(replayed: Replayed) -> Trust:
    """The validity of a finished replay."""
    executor = replayed.executor
    misses = [call.tool_name for call in replayed.calls if call.outcome is Outcome.REPLAY_MISS]
    void = void_reasons(replayed.result, misses, replayed.refused)
    degraded = degraded_reasons(
        executor.match, executor.tainted_from, executor.served, replayed.refused
    )
    if void:
        return Trust(Validity.VOID, (*void, *degraded))
    return Trust(Validity.DEGRADED, degraded) if degraded else Trust()


def void_reasons(
    ended: Ended, misses: Sequence[str], refused: Sequence[str] = ()
) -> tuple[str, ...]:
    """Why a replay says nothing of the candidate; empty where it does.

    Args:
        ended: how the run ended.
        misses: tools of the calls that nothing answered.
        refused: what the guard of the network refused.
    """
    reason, found = ended.stop_reason, []
    if misses:
        found.append(f"no recording answers {_named(misses)}")
    elif reason is StopReason.REPLAY_MISS:
        found.append("it was stopped by a miss")
    if reason in _INTERRUPTED:
        found.append(f"it was interrupted ({reason})")
    if reason is StopReason.RECORDER_FAILED:
        found.append("the recorder failed")
    if reason is StopReason.MODEL_ERROR and refused:
        found.append(f"the model could not be reached, since the network is shut: {refused[0]}")
    return tuple(_one_line(one) for one in found)


def degraded_reasons(
    match: Match,
    tainted_from: int | None,
    served: Mapping[ServedHow, int],
    refused: Sequence[str],
) -> tuple[str, ...]:
    """What stood in for the recordings; empty where nothing did.

    Args:
        match: how calls were found.
        tainted_from: step from which on it went on after the typed error of a miss.
        served: calls answered, by how.
        refused: what the guard of the network refused.
    """
    found = []
    if match is not Match.STATE:
        found.append(f"calls were matched by {match}, which does not look at state")
    if tainted_from is not None:
        found.append(f"tainted from step {tainted_from}, which a miss was answered at")
    found += [f"{served[how]} served by {how}" for how in _SUBSTITUTES if served.get(how)]
    if refused:
        found.append(f"refused by the guard of the network: {_named(refused)}")
    return tuple(_one_line(one) for one in found)


def _named(names: Sequence[str]) -> str:
    distinct = list(dict.fromkeys(names))
    more = len(distinct) - MAX_NAMED
    shown = ", ".join(distinct[:MAX_NAMED])
    return f"{shown} and {more} more" if more > 0 else shown


def _one_line(text: str) -> str:
    # Reasons are joined by semicolons in the store and taken apart again.
    return " ".join(text.replace(";", ",").split())
