"""Overlays: reviewed data that says what goes wrong in a replay, and where."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from flightlog.errors import ConfigError
from flightlog.trace.canonical import canonical_json

COUNTERFACTUAL: Final = "counterfactual"
"""Label of a run that was given what no recording holds."""

BYTES_PER_TOKEN: Final = 4
"""UTF-8 bytes that count as one token where a context is cut; no provider's own count."""


class Action(StrEnum):
    """What is done: to a call, or (the last two) to the run from a step on."""

    TIMEOUT = "timeout"
    FAIL = "fail"
    DELAY = "delay"
    TRUNCATE = "truncate"
    REPLACE = "replace"
    TRUNCATE_CONTEXT = "truncate_context"
    DISABLE_WRITES = "disable_writes"

    @property
    def is_of_run(self) -> bool:
        """True for what begins at a step and lasts, instead of changing calls."""
        return self in (Action.TRUNCATE_CONTEXT, Action.DISABLE_WRITES)


@dataclass(frozen=True, slots=True)
class Overlay:
    """One change of what a run meets.

    Attributes:
        action: what is done.
        tool: name or glob of the tools; None where `step` says which calls.
        nth: which of their calls in the run, from 1, every try counted; None is each.
        step: all calls of this step, from 1; of an action on the run, where that begins.
        value: fail: {type, message}; delay: ms from 0 up; truncate: characters kept, from 0 up;
            replace: the result, a text or any JSON value; truncate_context: tokens kept, from 1
            up; timeout, disable_writes: none.

    Raises:
        ConfigError: it names no call, or its value does not fit its action.
    """

    action: Action
    tool: str | None = None
    nth: int | None = None
    step: int | None = None
    value: Any = None

    def __post_init__(self) -> None:
        if problem := self._problem():
            raise ConfigError(f"an overlay {problem[0]}", hint=problem[1])

    def _problem(self) -> tuple[str, str] | None:
        if self.action.is_of_run and (self.step is None or self.tool is not None):
            return (
                f"of action {self.action} must name a step and no tool",
                "It begins at that step and lasts until the run ends.",
            )
        if (self.tool is None) == (self.step is None) or (
            self.step is not None and self.nth is not None
        ):
            return (
                "must name either a tool (and nth) or a step",
                "Give tool, tool and nth, or step.",
            )
        tool: Any = self.tool  # a file may hold anything
        if tool is not None and (not isinstance(tool, str) or not tool):
            return f"has tool={tool!r:.80}", "Give a name or a glob such as 'get_*'."
        for name in ("nth", "step"):
            number = getattr(self, name)
            if number is not None and (type(number) is not int or number < 1):
                return f"has {name}={number!r}", "Give a whole number from 1 up."
        return _problem_of_value(self.action, self.value)

    def __str__(self) -> str:
        if self.action.is_of_run:
            size = f" to {self.value} tokens" if self.value is not None else ""
            return f"{self.action}{size} from step {self.step}"
        at = f"step {self.step}" if self.tool is None else self.tool
        nth = f"#{self.nth}" if self.nth else ""
        return f"{self.action} at {at}{nth}"


def _problem_of_value(action: Action, value: Any) -> tuple[str, str] | None:
    if action in (Action.TIMEOUT, Action.DISABLE_WRITES) and value is not None:
        return f"of action {action} has value={value!r:.80}", "Leave the value out."
    if action is Action.TRUNCATE_CONTEXT and (type(value) is not int or value < 1):
        return f"of action truncate_context has value={value!r:.80}", "Give tokens, from 1 up."
    if action is Action.FAIL:
        is_whole = isinstance(value, dict) and set(value) == {"type", "message"}
        if not is_whole or not all(isinstance(text, str) and text for text in value.values()):
            return f"of action fail has value={value!r:.80}", "Give type and message, two texts."
    if action is Action.DELAY:
        is_number = type(value) in (int, float) and math.isfinite(value)
        if not is_number or value < 0:
            return f"of action delay has value={value!r:.80}", "Give milliseconds from 0 up."
    if action is Action.TRUNCATE and (type(value) is not int or value < 0):
        return f"of action truncate has value={value!r:.80}", "Give characters, from 0 up."
    if action is Action.REPLACE:
        try:
            canonical_json(value)
        except (ValueError, TypeError, RecursionError):
            return "of action replace has a value without a JSON form", "Give a text or plain JSON."
    return None
