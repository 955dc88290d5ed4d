"""Guards against loops and lost context: found always, acted on as configured.

The detectors are pure: they see what a step was and say what they find. They keep
digests only, and of these a bounded number.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from flightlog.errors import ConfigError, nearest_text
from flightlog.runtime.episodes import Episodes, is_told, keep
from flightlog.trace.canonical import clean_text
from flightlog.trace.vocab import StopReason

BYTES_PER_TOKEN: Final = 4
"""Estimate for what no model has counted yet."""

_MAX_NAME_CHARS: Final = 60
_MAX_NAMES: Final = 8
_FAILED: Final = "failed"


class Guard(StrEnum):
    """What can be found about a run that goes wrong."""

    REPEATED_CALL = "repeated_call"
    CYCLE = "cycle"
    NO_PROGRESS = "no_progress"
    PROMPT_GROWTH = "prompt_growth"
    CONTEXT_LIMIT = "context_limit"
    TRUNCATED = "truncated"
    POLICY_LOST = "policy_lost"

    @property
    def stop_reason(self) -> StopReason:
        """Why a run ends that this guard stops."""
        return StopReason.LOOP_DETECTED if self in _LOOPS else StopReason.CONTEXT_OVERFLOW


_LOOPS = frozenset({Guard.REPEATED_CALL, Guard.CYCLE, Guard.NO_PROGRESS})


class GuardAction(StrEnum):
    """What a finding leads to; it is recorded in every case."""

    RECORD = "record"
    READ_ONLY = "read_only"
    STOP = "stop"


@dataclass(frozen=True)
class GuardPolicy:
    """Thresholds of the guards, and what each finding leads to.

    Attributes:
        actions: what a finding leads to; a guard that is not named only records.
        repeats: the same call with the same observation this often is `repeated_call`.
        cycles: a sequence of steps this often in a row is a `cycle`.
        max_period: steps in the longest cycle that is looked for.
        stalled_steps: steps in a row without a new observation are `no_progress`.
        growth_factor: a prompt this many times the first one is `prompt_growth`, ...
        growth_bytes: ... unless it is below this size.
        context_share: share of the context window from which on it is `context_limit`, 0 to 1.
    """

    actions: Mapping[Guard, GuardAction] = field(default_factory=dict)
    repeats: int = 3
    cycles: int = 3
    max_period: int = 4
    stalled_steps: int = 5
    growth_factor: float = 10.0
    growth_bytes: int = 64 * 1024
    context_share: float = 0.9

    def __post_init__(self) -> None:
        actions = {
            Guard(_known("guard", guard, Guard)): GuardAction(
                _known("action of a guard", action, GuardAction)
            )
            for guard, action in self.actions.items()
        }
        object.__setattr__(self, "actions", actions)
        for name in ("repeats", "cycles", "max_period", "stalled_steps"):
            value = getattr(self, name)
            if type(value) is not int or value < 2:
                raise ConfigError(
                    f"guard {name}={value!r} is not a threshold",
                    hint="Give a whole number from 2 up.",
                )
        for name, is_good in (
            ("growth_factor", _is_number(self.growth_factor) and self.growth_factor > 1),
            ("growth_bytes", type(self.growth_bytes) is int and self.growth_bytes >= 0),
            ("context_share", _is_number(self.context_share) and 0 < self.context_share <= 1),
        ):
            if not is_good:
                raise ConfigError(
                    f"guard {name}={getattr(self, name)!r} is out of range",
                    hint="growth_factor is above 1, growth_bytes a whole number from 0, "
                    "context_share above 0 and at most 1.",
                )

    def action_of(self, guard: Guard) -> GuardAction:
        """What a finding of this guard leads to."""
        return self.actions.get(guard, GuardAction.RECORD)


@dataclass(frozen=True, slots=True)
class StepCall:
    """One call of a finished step.

    Attributes:
        observation_digest: of what the model saw.
        is_ok: it was made, or answered from an earlier one, without an error.
        is_write: it may have changed the world.
    """

    tool: str
    args_digest: str
    observation_digest: str
    is_ok: bool
    is_write: bool = False

    @property
    def observed(self) -> str:
        """What it came to; errors are all one, since their texts hold ids and times."""
        return self.observation_digest if self.is_ok else _FAILED

    @property
    def news(self) -> _News:
        """What is new when it was not seen before: what a read gave, or that a write was made."""
        observed = self.observation_digest
        return (self.tool, self.args_digest, observed) if self.is_write else observed


@dataclass(frozen=True, slots=True)
class GuardFinding:
    """One thing that a guard found.

    Attributes:
        detail: what was found, in one sentence with its numbers.
        is_over: what was found earlier is so no longer; leads to nothing.
    """

    guard: Guard
    action: GuardAction
    tool: str | None
    detail: str
    is_over: bool = False


_News = str | tuple[str, ...]
_Element = tuple[tuple[str, str, str], ...]


class Guards:
    """The detectors of one run.

    A finding is given when it begins and whenever its number has doubled since:
    a thousand repeats are ten findings. All but `repeated_call` also tell their end.
    Something that comes and goes is told the first time, the second, the fourth
    and so on. Only what is told leads to something; the first time always is.
    """

    def __init__(self, policy: GuardPolicy) -> None:
        self._policy = policy
        self._repeats: dict[tuple[str, str], _Repeat] = {}
        self._times_of: dict[str, int] = {}
        self._steps: deque[_Element] = deque(maxlen=policy.max_period)
        self._same = [0] * (policy.max_period + 1)
        self._seen: dict[_News, None] = {}
        self._stalled = 0
        self._episodes = {guard: Episodes() for guard in Guard}
        self._first_bytes: int | None = None
        self._counted: tuple[int, int] | None = None

    def after_tools(self, step: int, calls: Sequence[StepCall]) -> list[GuardFinding]:
        """What the calls of a finished step show; their order within the step is none."""
        found = [
            *self._repeated(step, calls),
            *self._cycle(step, calls),
            *self._stalling(step, calls),
        ]
        for call in calls:
            if call.is_ok:
                keep(self._seen, call.news, None)
        return found

    def after_user(self, step: int, said_digest: str) -> list[GuardFinding]:
        """A user who says something new: the same calls again may now be right.

        Args:
            said_digest: of the message; one that was said before changes nothing.
        """
        news = ("user", said_digest)
        is_new = news not in self._seen
        keep(self._seen, news, None)
        if not is_new:
            return []
        self._repeats.clear()
        self._steps.clear()
        self._stalled = 0
        return [*self._over(Guard.CYCLE, step), *self._over(Guard.NO_PROGRESS, step)]

    def before_model(
        self,
        step: int,
        *,
        prompt_bytes: int,
        prompt_messages: int,
        conversation_messages: int,
        context_limit: int | None,
        is_truncated: bool,
        has_policy: bool | None,
    ) -> list[GuardFinding]:
        """What a prompt shows that is about to be sent.

        Args:
            prompt_bytes: UTF-8 bytes of its messages.
            prompt_messages: how many they are.
            conversation_messages: how many the conversation has.
            context_limit: context window of the model, tokens; None where unknown.
            is_truncated: it lacks messages of the conversation, or has them changed.
            has_policy: the system policy is among them; None where there is none.
        """
        policy = self._policy
        first = self._first_bytes = self._first_bytes or max(1, prompt_bytes)
        limit, growth = context_limit or 0, prompt_bytes / first
        tokens, how = self._tokens_of(prompt_bytes)
        size = f"prompt of {prompt_messages} messages, {prompt_bytes} bytes"
        is_grown = prompt_bytes >= policy.growth_bytes and growth >= policy.growth_factor
        is_near = limit > 0 and tokens >= policy.context_share * limit
        facts = (
            (
                Guard.TRUNCATED,
                is_truncated,
                f"the {size} lacks messages of the conversation, which has {conversation_messages}",
            ),
            (Guard.POLICY_LOST, has_policy is False, f"the {size} lacks the system policy"),
            (
                Guard.CONTEXT_LIMIT,
                is_near,
                f"the {size} has {tokens} of {limit} tokens of the context window ({how})",
            ),
            (
                Guard.PROMPT_GROWTH,
                growth / policy.growth_factor if is_grown else False,
                f"the {size} is {growth:.1f} times the first one",
            ),
        )
        return [
            finding
            for guard, ratio, detail in facts
            for finding in self._state(guard, step, float(ratio), detail)
        ]

    def after_model(self, *, input_tokens: int | None, prompt_bytes: int) -> None:
        """Learns how many tokens the prompt had that was just sent."""
        if input_tokens:
            self._counted = (input_tokens, prompt_bytes)

    def _repeated(self, step: int, calls: Sequence[StepCall]) -> list[GuardFinding]:
        threshold = self._policy.repeats
        by_place: dict[tuple[str, str], list[str]] = {}
        for call in calls:
            by_place.setdefault((call.tool, call.args_digest), []).append(call.observed)
        found = []
        for place, observed in sorted(by_place.items()):
            known = self._repeats.pop(place, None)
            if observed.count(observed[0]) < len(observed):  # its answer changes
                continue
            if known is None or known.observed != observed[0]:
                known = _Repeat(observed[0], due=threshold)
            known.times += len(observed)
            keep(self._repeats, place, known)
            if known.times >= known.due and self._is_told(place[0], known):
                result = "no success" if known.observed == _FAILED else "result"
                detail = (
                    f"{_shown(place[0])} was called {known.times} times with the same arguments "
                    f"and {result}, at step {step}"
                )
                tool = clean_text(place[0])
                found.append(self._finding(Guard.REPEATED_CALL, detail, tool=tool))
        return found

    def _is_told(self, tool: str, known: _Repeat) -> bool:
        """Books a finding that is due; True when this episode of the tool is one to tell."""
        if known.due == self._policy.repeats:
            episodes = self._times_of.get(tool, 0) + 1
            keep(self._times_of, tool, episodes)
            known.is_told = is_told(episodes)
        while known.due <= known.times:
            known.due *= 2
        return known.is_told

    def _cycle(self, step: int, calls: Sequence[StepCall]) -> list[GuardFinding]:
        policy, steps, same = self._policy, self._steps, self._same
        element = tuple(sorted((c.tool, c.args_digest, c.observed) for c in calls))
        for period in range(1, policy.max_period + 1):
            is_same = period <= len(steps) and steps[-period] == element
            same[period] = same[period] + 1 if is_same else 0
        steps.append(element)
        for period in range(2, policy.max_period + 1):
            times = same[period] // period + 1
            # One step again and again has every period; that is a repeated call.
            if times >= policy.cycles and same[1] < period - 1:
                tools = " -> ".join(_tools_of(one) for one in list(steps)[-period:][:_MAX_NAMES])
                detail = f"{period} steps were repeated {times} times: {tools}"
                return self._state(Guard.CYCLE, step, times / policy.cycles, detail)
        return self._over(Guard.CYCLE, step)

    def _stalling(self, step: int, calls: Sequence[StepCall]) -> list[GuardFinding]:
        is_new = any(call.is_ok and call.news not in self._seen for call in calls)
        self._stalled = 0 if is_new else self._stalled + 1
        detail = f"{self._stalled} steps in a row brought no new observation"
        return self._state(
            Guard.NO_PROGRESS, step, self._stalled / self._policy.stalled_steps, detail
        )

    def _state(self, guard: Guard, step: int, ratio: float, detail: str) -> list[GuardFinding]:
        """A finding where it is due.

        Args:
            ratio: the number that was found to its threshold; below 1 it is not so.
        """
        if ratio < 1:
            return self._over(guard, step)
        if self._episodes[guard].is_due(step, ratio):
            return [self._finding(guard, f"{detail}, at step {step}")]
        return []

    def _over(self, guard: Guard, step: int) -> list[GuardFinding]:
        since = self._episodes[guard].end()
        if since is None:
            return []
        detail = f"no longer so at step {step}; it was so from step {since} on"
        return [GuardFinding(guard, GuardAction.RECORD, None, detail, is_over=True)]

    def _finding(self, guard: Guard, detail: str, *, tool: str | None = None) -> GuardFinding:
        return GuardFinding(guard, self._policy.action_of(guard), tool, detail)

    def _tokens_of(self, size_bytes: int) -> tuple[int, str]:
        if self._counted is None:
            return size_bytes // BYTES_PER_TOKEN, "estimated"
        tokens, of_bytes = self._counted
        # What was counted has tools and wrapping in it, which do not grow with the messages.
        if size_bytes >= of_bytes:
            tokens += (size_bytes - of_bytes) // BYTES_PER_TOKEN
        else:
            tokens = tokens * size_bytes // of_bytes
        return tokens, "estimated from the last prompt's count"


@dataclass(slots=True)
class _Repeat:
    """One call that gives the same again.

    Attributes:
        due: how often it must have been made to be told next.
        is_told: this episode is one that is told.
    """

    observed: str
    due: int
    times: int = 0
    is_told: bool = False


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]


def _tools_of(element: _Element) -> str:
    return "+".join(_shown(tool) for tool, _, _ in element[:_MAX_NAMES])


def _shown(tool: str) -> str:
    return repr(clean_text(tool[:_MAX_NAME_CHARS]))


def _known(kind: str, name: str, members: type[StrEnum]) -> str:
    names = [member.value for member in members]
    if name not in names:
        raise ConfigError(f"unknown {kind} {name!r}", hint=f"{nearest_text(str(name), names)}.")
    return name
