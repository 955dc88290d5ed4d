"""Limits for a wanted loss of successes, from what runs with a success needed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from flightlog.analysis.stats.sample import Floats
from flightlog.analysis.whatif.history import History
from flightlog.analysis.whatif.limits import Limits, Saved, rerun, succeeded
from flightlog.errors import UsageError

FEWEST_SUCCESSES: Final = 20
_NAMES: Final = ("max_steps", "max_seconds", "max_tool_calls", "max_usd", "max_tokens")
_UNITS: Final = {
    "max_steps": "steps",
    "max_seconds": "s",
    "max_tool_calls": "calls",
    "max_usd": "USD",
    "max_tokens": "tokens",
}


@dataclass(frozen=True, slots=True)
class Proposal:
    """One limit.

    Attributes:
        name: as in `budgets` of flightlog.yaml.
        unit: of its values.
        value: what is proposed.
        median: what the median run with a success needed.
        p95: 95th percentile of the same.
        largest: the most that one needed.
        lost: runs with a success that this limit alone would end.
    """

    name: str
    unit: str
    value: float
    median: float
    p95: float
    largest: float
    lost: int


@dataclass(frozen=True, slots=True)
class Advice:
    """Limits that together lose no more successes than wanted.

    Attributes:
        proposals: one per budget that the history knows the use of.
        saved: history under all of them.
        wanted_loss: largest share of successes that may be lost.
    """

    proposals: tuple[Proposal, ...]
    saved: Saved
    wanted_loss: float

    @property
    def limits(self) -> Limits:
        """The proposals as limits."""
        return _limits({one.name: one.value for one in self.proposals})


def advise(history: History, wanted_loss: float) -> Advice:
    """Proposes the budgets of a run.

    Each limit is set where it alone would end a part of the wanted share of the runs with a
    success; the parts are made smaller until all limits together end no more than that share.

    Args:
        history: the calls.
        wanted_loss: largest share of successes that may be lost, 0 to 1.

    Raises:
        UsageError: fewer than 20 runs with a success: a limit would be a guess.
    """
    is_success = succeeded(history.window)[history.run[history.first]]
    if is_success.sum() < FEWEST_SUCCESSES:
        raise UsageError(
            f"{int(is_success.sum())} runs with a success are too few to set limits by",
            hint=f"{FEWEST_SUCCESSES} or more are needed; widen --since, or drop --agent.",
        )
    needs = {name: need[is_success] for name, need in needs_of(history).items()}
    needs = {name: need for name, need in needs.items() if need.max() > 0}
    part = wanted_loss
    while True:
        values = {name: _above(name, need, part) for name, need in needs.items()}
        saved = rerun(history, _limits(values))
        if saved.lost_share <= wanted_loss or part < 1 / (4 * is_success.sum()):
            break
        part *= 0.8
    proposals = tuple(
        Proposal(
            name,
            _UNITS[name],
            values[name],
            float(np.median(need)),
            float(np.quantile(need, 0.95)),
            float(need.max()),
            rerun(history, _limits({name: values[name]})).successes_lost,
        )
        for name, need in needs.items()
    )
    return Advice(proposals, saved, wanted_loss)


def needs_of(history: History) -> dict[str, Floats]:
    """For each budget the least value that would not have ended each run, shape (runs with
    calls,); for USD and tokens it has to be above, since a run ends when it is used up."""
    began = history.window.floats("began")[history.run]
    spent = history.counted(history.usd) - history.usd
    tokens = history.counted(history.tokens) - history.tokens
    per_call: dict[str, Floats] = {
        "max_steps": history.step.astype(np.float64),
        "max_seconds": np.ceil(history.s - began),
        "max_tool_calls": history.counted(history.is_tool),
        "max_usd": spent,
        "max_tokens": tokens,
    }
    if not len(history):
        return {name: np.zeros(0) for name in _NAMES}
    return {name: np.maximum.reduceat(per_call[name], history.first) for name in _NAMES}


def snippet(advice: Advice) -> str:
    """The proposals as lines for flightlog.yaml."""
    lines = ["budgets:"]
    lines += [f"  {one.name}: {number(one)}" for one in advice.proposals]
    return "\n".join(lines)


def number(one: Proposal) -> str:
    """The value as it is written in the settings."""
    return f"{one.value:.10g}" if one.name == "max_usd" else f"{one.value:.0f}"


def _above(name: str, need: Floats, share: float) -> float:
    """A limit that ends at most this share of the runs, rounded up to two figures."""
    order = np.sort(need)
    keep = math.ceil((1 - share) * len(order)) - 1
    value = float(order[min(max(keep, 0), len(order) - 1)])
    if name in ("max_usd", "max_tokens"):
        # A run ends when it is used up, so the limit has to lie above.
        value = value * (1 + 1e-9) + (1e-9 if name == "max_usd" else 1)
    if name in ("max_steps", "max_tool_calls"):
        return max(1.0, math.ceil(value))
    return _two_figures(value)


def _two_figures(value: float) -> float:
    step = 10.0 ** (math.floor(math.log10(max(value, 1e-9))) - 1)
    return round(math.ceil(value / step - 1e-9) * step, 12)


def _limits(values: dict[str, float]) -> Limits:
    def whole(name: str) -> int | None:
        return int(values[name]) if name in values else None

    return Limits(
        max_steps=whole("max_steps"),
        max_tool_calls=whole("max_tool_calls"),
        max_tokens=whole("max_tokens"),
        max_usd=values.get("max_usd"),
        max_seconds=values.get("max_seconds"),
    )
