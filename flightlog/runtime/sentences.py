"""Why a run ended, in one sentence for the people who use the agent.

They get no internals: no arguments, no results, no errors of tools, no settings. Whoever
runs the agent finds these in `stop_detail` and in the trace.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from flightlog.runtime.budget import Budget, Used
from flightlog.trace.terminal_text import escape_terminal
from flightlog.trace.vocab import StopReason

MAX_NAME_CHARS: Final = 60

SENTENCES: Final[Mapping[StopReason, str]] = {
    StopReason.OK: "The agent finished and gave its answer.",
    StopReason.MAX_STEPS: "The agent stopped after {spent}, its limit.",
    StopReason.MAX_SECONDS: "The agent stopped after {spent}, its limit.",
    StopReason.MAX_TOOL_CALLS: "The agent stopped after {spent}, its limit.",
    StopReason.MAX_USD: "The agent stopped after spending {spent}; its limit is {allowed}.",
    StopReason.MAX_TOKENS: "The agent stopped after using {spent}; its limit is {allowed}.",
    StopReason.TOOL_DENIED: "The agent stopped because it may not use {tool}.",
    StopReason.APPROVAL_DENIED: "The agent stopped because a change through {tool} was not "
    "approved.",
    StopReason.APPROVAL_PENDING: "The agent stopped because a change through {tool} still waits "
    "for approval.",
    StopReason.INVALID_TOOL_OUTPUT: "The agent stopped because {tool} gave a result that cannot "
    "be used.",
    StopReason.INVALID_TOOL_INPUT: "The agent stopped because it used {tool} in a way that is "
    "not possible.",
    StopReason.TOOL_FAILED: "The agent stopped because {tool} failed.",
    StopReason.CIRCUIT_OPEN: "The agent stopped because {tool} failed too often and rests for a "
    "while.",
    StopReason.KILL_SWITCH: "The agent stopped because it, or a part of it, was switched off.",
    StopReason.LOOP_DETECTED: "The agent stopped because it repeated itself and made no progress.",
    StopReason.CONTEXT_OVERFLOW: "The agent stopped because the conversation no longer fits into "
    "its memory.",
    StopReason.MODEL_ERROR: "The agent stopped because its model gave no complete answer.",
    StopReason.MODEL_REFUSED: "The agent stopped because its model declined to answer.",
    StopReason.CANCELLED: "The agent was cancelled before it finished.",
    StopReason.REPLAY_MISS: "The replay stopped because the recording has no answer from {tool}.",
    StopReason.CRASHED: "The agent broke off because of an error of the program.",
    StopReason.RECORDER_FAILED: "The agent stopped because a change could not be put on record.",
}
"""One per stop reason. `{tool}` is the tool, `{spent}` and `{allowed}` are amounts."""

_WITHOUT_ANSWER: Final = "The agent finished and gave no answer."
_UNKNOWN: Final = (
    "The agent stopped because nobody can tell whether it kept within its limit of {allowed}."
)
_SOME_LIMIT: Final = "The agent stopped because a limit is used up."
_OF_TENANT: Final = (
    "The agent stopped because it shares a limit on {what} with other runs, and the limit is "
    "used up for now."
)
_SHARED: Final = {
    StopReason.MAX_TOOL_CALLS: "tool calls",
    StopReason.MAX_USD: "spending",
    StopReason.MAX_TOKENS: "tokens",
}
_UNITS: Final = {
    StopReason.MAX_STEPS: ("step", "steps"),
    StopReason.MAX_SECONDS: ("second", "seconds"),
    StopReason.MAX_TOOL_CALLS: ("tool call", "tool calls"),
    StopReason.MAX_TOKENS: ("token", "tokens"),
}


def sentence_of(
    reason: StopReason,
    *,
    budget: Budget,
    usage: Used,
    tool: str | None = None,
    has_answer: bool = True,
    is_of_tenant: bool = False,
) -> str:
    """The sentence for one stop.

    Args:
        budget: what the run was allowed.
        usage: what it spent.
        tool: tool that the stop is about; only its name is shown.
        has_answer: the agent said something.
        is_of_tenant: the limit is one that the tenant's runs share.
    """
    if reason is StopReason.OK and not has_answer:
        return _WITHOUT_ANSWER
    if is_of_tenant and reason in _SHARED:
        return _OF_TENANT.format(what=_SHARED[reason])
    sentence, limits = SENTENCES[reason], budget.limits()
    if reason.value not in limits:
        return sentence.format(tool=_tool(tool))
    allowed = limits[reason.value]
    if allowed is None:
        return _SOME_LIMIT
    spent = usage.spent()[f"used_{reason.value.removeprefix('max_')}"]
    if spent is None:
        return _UNKNOWN.format(allowed=_amount(reason, allowed))
    if reason is StopReason.MAX_SECONDS:
        spent = allowed  # that the last call took a moment more is not said
    return sentence.format(spent=_amount(reason, spent), allowed=_amount(reason, allowed))


def _tool(name: str | None) -> str:
    if not name:
        return "a tool"
    return f'the tool "{escape_terminal(name, max_chars=MAX_NAME_CHARS)}"'


def _amount(reason: StopReason, number: float) -> str:
    if reason is StopReason.MAX_USD:
        return _dollars(number)
    one, many = _UNITS[reason]
    shown = f"{number:,.3f}".rstrip("0").rstrip(".")
    return f"{shown} {one if number == 1 else many}"


def _dollars(usd: float) -> str:
    """Whole cents; below one cent as many digits as it takes."""
    if usd == 0 or usd >= 0.01:
        return f"${usd:,.2f}"
    return f"${usd:.9f}".rstrip("0").rstrip(".")
