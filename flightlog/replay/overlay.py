"""Overlays: reviewed data that says what goes wrong in a replay, and at which call."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from fnmatch import fnmatchcase
from pathlib import Path
from threading import Lock
from typing import Any, Final

from flightlog.config import load_yaml
from flightlog.errors import ConfigError, nearest
from flightlog.replay.cassette import Cassette
from flightlog.replay.misses import MissPolicies
from flightlog.replay.serve import StateAwareExecutor
from flightlog.runtime.calls import PendingCall, Served
from flightlog.trace.canonical import canonical_json
from flightlog.trace.vocab import Outcome

COUNTERFACTUAL: Final = "counterfactual"
"""Label of a run that was given what no recording holds."""

_KEYS: Final = ("tool", "nth", "step", "action", "value")


class Action(StrEnum):
    """What is done to a call."""

    TIMEOUT = "timeout"
    FAIL = "fail"
    DELAY = "delay"
    TRUNCATE = "truncate"
    REPLACE = "replace"


@dataclass(frozen=True, slots=True)
class Overlay:
    """One change of what calls are answered.

    Attributes:
        action: what is done.
        tool: name or glob of the tools; None where `step` says which calls.
        nth: which of their calls in the run, from 1, every try counted; None is each.
        step: all calls of this step, from 1.
        value: fail: {type, message}; delay: ms from 0 up; truncate: characters kept, from 0 up;
            replace: the result, a text or any JSON value; timeout: none.

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
        at = f"step {self.step}" if self.tool is None else self.tool
        nth = f"#{self.nth}" if self.nth else ""
        return f"{self.action} at {at}{nth}"


def _problem_of_value(action: Action, value: Any) -> tuple[str, str] | None:
    if action is Action.TIMEOUT and value is not None:
        return f"of action timeout has value={value!r:.80}", "Leave the value out."
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


def read_overlays(path: Path) -> tuple[Overlay, ...]:
    """The overlays of a YAML or JSON file: a list under the key `overlays`.

    Raises:
        ConfigError: not YAML, an unknown key or action, a value that does not fit.
    """
    content, lines = load_yaml(path)
    if not isinstance(content, dict) or set(content) != {"overlays"}:
        raise ConfigError("it must hold one key: overlays", where=f"{path}:1")
    items = content["overlays"]
    if not isinstance(items, list) or not items:
        where = f"{path}:{lines.get(('overlays',), 1)}"
        raise ConfigError("overlays must be a list that is not empty", where=where)
    found = []
    for place, item in enumerate(items):
        line = lines.get(("overlays", place), lines.get(("overlays",), 1))
        where = f"{path}:{line}"
        found.append(_overlay_of(item, where))
    return tuple(found)


def _overlay_of(item: Any, where: str) -> Overlay:
    if not isinstance(item, dict):
        raise ConfigError("an overlay must hold keys and values", where=where)
    for key in item:
        if key not in _KEYS:
            near = nearest(str(key), _KEYS)
            hint = f"nearest: {', '.join(near)}" if near else f"known: {', '.join(_KEYS)}"
            raise ConfigError(f"unknown key {key!r}", where=where, hint=hint)
    try:
        action = Action(str(item.get("action")))
    except ValueError as error:
        raise ConfigError(
            f"action is {item.get('action')!r:.80}",
            where=where,
            hint=f"Give one of: {', '.join(Action)}.",
        ) from error
    try:
        return Overlay(action, **{key: item[key] for key in item if key != "action"})
    except ConfigError as error:
        raise ConfigError(error.what, where=where, hint=error.hint) from error


class OverlayExecutor(StateAwareExecutor):
    """Serves one run from its recordings, but for the calls that an overlay changes.

    A failed write changes nothing and one that times out leaves its scopes unknown; so does
    a write whose result is changed. A changed read changes nothing.

    Args:
        cassette: the accepted recordings, indexed.
        overlays: the first that fits a call is taken.
        golden: name of what is replayed, for messages.
        misses: what happens to a call that no recording answers.

    Attributes:
        applied: calls that each overlay changed.
    """

    def __init__(
        self,
        cassette: Cassette,
        overlays: Sequence[Overlay],
        *,
        golden: str,
        misses: MissPolicies | None = None,
    ) -> None:
        super().__init__(cassette, golden=golden, misses=misses or MissPolicies())
        self.overlays = tuple(overlays)
        self.applied: Counter[int] = Counter()
        self._seen: Counter[int] = Counter()
        self._counting = Lock()

    def resolve(self, call: PendingCall) -> Served:
        """The answer to one call, in the order the candidate makes them."""
        overlay = self._overlay_of(call)
        if overlay is None:
            return super().resolve(call)
        if overlay.action is Action.FAIL:
            return Served(
                Outcome.FAILED,
                error=overlay.value["message"],
                error_type=overlay.value["type"],
                latency_ms=self.cassette.median_latency_ms(call.name),
            )
        if overlay.action is Action.TIMEOUT:
            timeout_s = call.tool.timeout_s if call.tool else None
            latency_ms = (timeout_s or 0.0) * 1000
            self._in_doubt(call)
            return Served(
                Outcome.TIMED_OUT,
                error=f"{call.name} timed out",
                error_type="TimeoutError",
                latency_ms=latency_ms or self.cassette.median_latency_ms(call.name),
            )
        return self._changed(overlay, call, super().resolve(call))

    def _overlay_of(self, call: PendingCall) -> Overlay | None:
        with self._counting:
            chosen: int | None = None
            for place, overlay in enumerate(self.overlays):
                if overlay.tool is None:
                    fits = overlay.step == call.step
                elif fits := fnmatchcase(call.name, overlay.tool):
                    self._seen[place] += 1
                    fits = overlay.nth in (None, self._seen[place])
                if fits and chosen is None:
                    chosen = place
            if chosen is None:
                return None
            self.applied[chosen] += 1
            return self.overlays[chosen]

    def _changed(self, overlay: Overlay, call: PendingCall, served: Served) -> Served:
        if served.outcome is Outcome.REPLAY_MISS:
            return served
        if overlay.action is Action.DELAY:
            latency_ms = (served.latency_ms or 0.0) + overlay.value
            timeout_s = call.tool.timeout_s if call.tool else None
            if timeout_s is not None and latency_ms > timeout_s * 1000:
                self._in_doubt(call)  # the gateway cuts it
            return replace(served, latency_ms=latency_ms)
        if overlay.action is Action.TRUNCATE:
            if served.result is None or len(served.result) <= overlay.value:
                return served
            self._in_doubt(call)
            return replace(served, result=served.result[: overlay.value])
        value = overlay.value
        self._in_doubt(call)
        text = value if isinstance(value, str) else canonical_json(value)
        return replace(served, outcome=Outcome.OK, result=text, error=None, error_type=None)

    def _in_doubt(self, call: PendingCall) -> None:
        """Nobody knows what a write did; a read did nothing."""
        rule = self.cassette.rules[call.request.name]
        with self._lock:
            self._walk.happened(
                rule, rule.args_of(call.request.arguments), Served(Outcome.TIMED_OUT)
            )
