"""What a replay will ask of a model and cost, from what the recordings asked and cost."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from flightlog.analysis.wording import counted
from flightlog.golden.entries import GoldenEntry
from flightlog.replay.cassette import Recording
from flightlog.runtime.model import Usage
from flightlog.trace.events import ModelCall
from flightlog.trace.vocab import Actor

Priced = Callable[[Usage], float | None]
"""USD of one call's tokens on the candidate's model; None where it is not priced."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """The expected size of a replay, on the assumption that the candidate does as recorded.

    Attributes:
        trials: trials in all.
        model_calls: calls of the agent's model.
        input_tokens: None where a recording does not state them.
        output_tokens: as for input.
        recorded_usd: what the recorded calls cost; None where one is unknown.
        candidate_usd: what their tokens cost on the candidate's model; None where unknown.
    """

    trials: int
    model_calls: float
    input_tokens: float | None
    output_tokens: float | None
    recorded_usd: float | None
    candidate_usd: float | None

    def lines(self) -> list[str]:
        """The estimate as text."""
        known = [_amount(self.input_tokens, "input"), _amount(self.output_tokens, "output")]
        calls = f"{counted(self.trials, 'trial')}, about {self.model_calls:,.0f} model calls"
        return [
            f"{calls} with {' and '.join(known)}",
            f"the recordings cost {_usd(self.recorded_usd)} for as many",
            f"on the candidate's model: {_usd(self.candidate_usd)}",
            "a candidate that makes more calls, or longer ones, costs more",
        ]


def estimate_replay(
    entries: Sequence[GoldenEntry], trials: int, priced: Callable[[GoldenEntry], Priced]
) -> Estimate:
    """The median recording of each task, times the number of trials.

    Args:
        entries: golden tasks.
        trials: repeats of each.
        priced: gives the prices of a task's candidate.
    """
    parts = [_median(map(_of_recording(priced(entry)), entry.recordings)) for entry in entries]
    whole = [_sum(column) for column in zip(*parts, strict=True)]
    calls, given, got, recorded, candidate = (
        None if value is None else value * trials for value in whole
    )
    return Estimate(len(entries) * trials, calls or 0.0, given, got, recorded, candidate)


def _of_recording(priced: Priced) -> Callable[[Recording], tuple[float | None, ...]]:
    def of(recording: Recording) -> tuple[float | None, ...]:
        calls = [
            event
            for event in recording.events
            if isinstance(event, ModelCall) and event.actor is Actor.AGENT
        ]
        tokens = [(call.input_tokens, call.output_tokens) for call in calls]
        return (
            float(len(calls)),
            _sum(given for given, _ in tokens),
            _sum(got for _, got in tokens),
            _sum(call.cost_usd for call in calls),
            _sum(priced(Usage(given, got)) for given, got in tokens),
        )

    return of


def _median(rows: Iterable[tuple[float | None, ...]]) -> tuple[float | None, ...]:
    return tuple(_middle(column) for column in zip(*rows, strict=True))


def _middle(column: Iterable[float | None]) -> float | None:
    known = [value for value in column if value is not None]
    return statistics.median(known) if known else None


def _sum(values: Iterable[float | None]) -> float | None:
    total = 0.0
    for value in values:
        if value is None:
            return None
        total += value
    return total


def _amount(tokens: float | None, what: str) -> str:
    return f"unknown {what} tokens" if tokens is None else f"{tokens:,.0f} {what} tokens"


def _usd(usd: float | None) -> str:
    return "an unknown amount (no price)" if usd is None else f"${usd:,.4f}"
