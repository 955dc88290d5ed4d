"""Findings as sentences and figures."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from flightlog.analysis.postmortem.found import Number
from flightlog.analysis.postmortem.kinds import Kind
from flightlog.analysis.postmortem.signals import Shift


def title_of(shift: Shift) -> str:
    """The change in one sentence."""
    return _TITLES[shift.kind](shift)


def numbers_of(shift: Shift) -> tuple[Number, ...]:
    """The figures of the change."""
    change = shift.change
    if shift.is_level:
        unit = _UNITS[shift.kind]
        scale = math.expm1 if shift.kind is Kind.CALLS else math.exp
        return (
            Number("then", scale(change.inside), unit),
            Number("usually", scale(change.outside), unit),
            Number("factor", shift.factor, "x"),
            Number("seen in", change.n_inside, "runs"),
            Number("log likelihood ratio", round(change.strength, 1), ""),
        )
    return (
        Number("then", 100 * change.inside, "%"),
        Number("usually", 100 * change.outside, "%"),
        Number("seen in", change.n_inside, "runs"),
        Number("log likelihood ratio", round(change.strength, 1), ""),
    )


_UNITS: Final = {
    Kind.TOOL_SLOW: "ms",
    Kind.MODEL_SLOW: "ms",
    Kind.CALLS: "calls",
    Kind.COST: "USD",
    Kind.PROMPT_GROWTH: "tokens per call",
    Kind.PROMPT_START: "tokens",
    Kind.OUTPUT: "tokens per call",
    Kind.DURATION: "ms",
}


def share(value: float) -> str:
    """A share as per cent, with a decimal where it is small."""
    return f"{value:.1%}" if value < 0.1 else f"{value:.0%}"


def _of_runs(what: str) -> Callable[[Shift], str]:
    """A sentence about the share of an agent's runs."""

    def sentence(shift: Shift) -> str:
        change = shift.change
        return (
            f"{share(change.inside)} of the runs of {shift.subject}"
            f" {what.replace('DETAIL', shift.detail)}, usually {share(change.outside)}"
        )

    return sentence


def _by_factor(what: str) -> Callable[[Shift], str]:
    """A sentence about a level that has gone up."""

    def sentence(shift: Shift) -> str:
        only = ""
        if shift.of in ("tool", "model") and len(shift.agents) == 1:
            only = f" for {shift.agents[0]}"
        return f"{what.replace('SUBJECT', shift.subject)}{only}: {shift.factor:.1f} times the usual"

    return sentence


def _failing(what: str) -> Callable[[Shift], str]:
    def sentence(shift: Shift) -> str:
        change = shift.change
        who = f" of {shift.agents[0]}" if len(shift.agents) == 1 else ""
        return (
            f"{shift.subject} {what} in {share(change.inside)} of the runs{who} that called it,"
            + (f" usually in {share(change.outside)}" if change.n_outside else " all along")
        )

    return sentence


def _surge(shift: Shift) -> str:
    change = shift.change
    return (
        f"{shift.of} {shift.subject} started {share(change.inside)} of all runs, usually"
        f" {share(change.outside)}: some {shift.detail} runs more than usual"
    )


def _cache(shift: Shift) -> str:
    change = shift.change
    return (
        f"{share(max(change.inside, 0))} of the prompt tokens of {shift.subject} came from the"
        f" cache, usually {share(change.outside)}"
    )


def _refused(shift: Shift) -> str:
    tool, reason = shift.refused
    change = shift.change
    return (
        f"{share(change.inside)} of the runs of {shift.subject} were refused {tool} ({reason}),"
        f" usually {share(change.outside)}"
    )


def _model_changed(shift: Shift) -> str:
    change = shift.change
    return (
        f"{shift.subject} went to the model {shift.detail}: in {share(change.inside)} of its"
        f" runs, usually in {share(change.outside)}"
    )


_TITLES: Final[dict[Kind, Callable[[Shift], str]]] = {
    Kind.TOOL_FAILING: _failing("failed"),
    Kind.TOOL_INVALID: _failing("answered what its output schema forbids"),
    Kind.MODEL_FAILING: _failing("failed"),
    Kind.TOOL_SLOW: _by_factor("SUBJECT was slow"),
    Kind.MODEL_SLOW: _by_factor("SUBJECT was slow"),
    Kind.MODEL_CHANGED: _model_changed,
    Kind.CACHE_LOST: _cache,
    Kind.PROMPT_START: _by_factor("SUBJECT begins with a longer prompt"),
    Kind.PROMPT_GROWTH: _by_factor("the prompts of SUBJECT grow faster with each call"),
    Kind.SURGE: _surge,
    Kind.LOOPS: _of_runs("asked the same three times or more and were told the same"),
    Kind.CALLS: _by_factor("SUBJECT makes more calls in a run"),
    Kind.DUPLICATE_WRITES: _of_runs("made the same write twice or more"),
    Kind.REFUSED: _refused,
    Kind.OUTPUT: _by_factor("the answers of SUBJECT are longer"),
    Kind.RETRIES: _of_runs("had to try a call again"),
    Kind.IN_DOUBT: _of_runs("left a write in doubt"),
    Kind.TRUNCATED: _of_runs("lost messages from their prompt"),
    Kind.POLICY_LOST: _of_runs("lost their policy message"),
    Kind.STOPS: _of_runs("ended with DETAIL"),
    Kind.USER_RETRIES: _of_runs("were tried again by the user after a run without an answer"),
    Kind.DURATION: _by_factor("the runs of SUBJECT took longer"),
    Kind.COST: _by_factor("the runs of SUBJECT were dearer"),
    Kind.FAILURES: _of_runs("were judged a failure"),
}
