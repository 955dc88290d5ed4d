"""Guards against loops and lost context: found always, acted on as configured.

The detectors are pure: they see what a step was and say what they find, once an
episode. They keep digests only, and of these no more than the longest cycle needs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from flightlog.errors import ConfigError, nearest_text
from flightlog.trace.vocab import StopReason

BYTES_PER_TOKEN: Final = 4
"""Estimate until a model has said how many tokens a prompt had."""

MAX_SEEN: Final = 1 << 16
"""Observations that are remembered; one forgotten counts as new again."""


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
            ("growth_factor", self.growth_factor > 1),
            ("growth_bytes", type(self.growth_bytes) is int and self.growth_bytes >= 0),
            ("context_share", 0 < self.context_share <= 1),
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
    """

    tool: str
    args_digest: str
    observation_digest: str
    is_ok: bool


@dataclass(frozen=True, slots=True)
class GuardFinding:
    """One thing that a guard found.

    Attributes:
        detail: what was found, in one sentence with its numbers.
    """

    guard: Guard
    action: GuardAction
    tool: str | None
    detail: str


_Element = tuple[tuple[str, str, str], ...]


class Guards:
    """The detectors of one run."""

    def __init__(self, policy: GuardPolicy) -> None:
        self._policy = policy
        self._runs: dict[tuple[str, str], tuple[str, int]] = {}
        self._steps: deque[_Element] = deque(maxlen=policy.max_period * policy.cycles)
        self._seen: dict[str, None] = {}
        self._stalled = 0
        self._active: dict[Guard, int] = {}
        self._first_bytes: int | None = None
        self._tokens_per_byte: float | None = None

    def after_tools(self, step: int, calls: Sequence[StepCall]) -> list[GuardFinding]:
        """What the calls of a finished step show."""
        found = [
            *self._repeated(calls),
            *self._cycle(calls),
            *self._stalling(calls),
        ]
        self._seen.update((call.observation_digest, None) for call in calls)
        while len(self._seen) > MAX_SEEN:
            del self._seen[next(iter(self._seen))]
        return found

    def before_model(
        self,
        step: int,
        *,
        prompt_bytes: int,
        prompt_messages: int,
        context_limit: int | None,
        is_truncated: bool,
        has_policy: bool | None,
    ) -> list[GuardFinding]:
        """What a prompt shows that is about to be sent.

        Args:
            prompt_bytes: UTF-8 bytes of its messages.
            prompt_messages: how many they are.
            context_limit: context window of the model, tokens; None where unknown.
            is_truncated: it lacks messages of the conversation.
            has_policy: the system policy is among them; None where there is none.
        """
        first = self._first_bytes = self._first_bytes or max(1, prompt_bytes)
        limit = context_limit or 0
        tokens, how = self._tokens_of(prompt_bytes)
        size = f"prompt of {prompt_messages} messages, {prompt_bytes} bytes"
        facts = (
            (
                Guard.TRUNCATED,
                is_truncated,
                f"the {size} lacks messages of the conversation",
            ),
            (Guard.POLICY_LOST, has_policy is False, f"the {size} lacks the system policy"),
            (
                Guard.CONTEXT_LIMIT,
                limit > 0 and tokens >= self._policy.context_share * limit,
                f"the {size} has {tokens} of {limit} tokens of the context window ({how})",
            ),
            (
                Guard.PROMPT_GROWTH,
                prompt_bytes >= self._policy.growth_bytes
                and prompt_bytes >= self._policy.growth_factor * first,
                f"the {size} is {prompt_bytes / first:.1f} times the first one",
            ),
        )
        return [
            finding
            for guard, is_so, detail in facts
            for finding in self._episode(guard, f"{detail}, at step {step}", is_so=is_so)
        ]

    def after_model(self, *, input_tokens: int | None, prompt_bytes: int) -> None:
        """Learns how many tokens a byte of this run's prompts has."""
        if input_tokens and prompt_bytes:
            self._tokens_per_byte = input_tokens / prompt_bytes

    def _repeated(self, calls: Sequence[StepCall]) -> list[GuardFinding]:
        found = []
        for call in calls:
            place = (call.tool, call.args_digest)
            before, times = self._runs.get(place, ("", 0))
            times = times + 1 if before == call.observation_digest else 1
            self._runs[place] = (call.observation_digest, times)
            if _is_due(times, self._policy.repeats):
                detail = (
                    f"{call.tool!r} was called {times} times with the same arguments and result"
                )
                found.append(self._finding(Guard.REPEATED_CALL, call.tool, detail))
        while len(self._runs) > MAX_SEEN:
            del self._runs[next(iter(self._runs))]
        return found

    def _cycle(self, calls: Sequence[StepCall]) -> list[GuardFinding]:
        # Parallel calls of a step have no order.
        element = tuple(sorted((c.tool, c.args_digest, c.observation_digest) for c in calls))
        self._steps.append(element)
        steps = list(self._steps)
        for period in range(2, self._policy.max_period + 1):
            length = period * self._policy.cycles
            tail = steps[-length:]
            if len(tail) < length or len(set(tail[:period])) == 1:
                continue
            if all(tail[place] == tail[place % period] for place in range(length)):
                tools = " -> ".join(one[0][0] if one else "-" for one in tail[:period])
                detail = f"{period} steps were repeated {self._policy.cycles} times: {tools}"
                return self._episode(Guard.CYCLE, detail, is_so=True)
        return self._episode(Guard.CYCLE, "", is_so=False)

    def _stalling(self, calls: Sequence[StepCall]) -> list[GuardFinding]:
        is_new = any(call.is_ok and call.observation_digest not in self._seen for call in calls)
        self._stalled = 0 if is_new else self._stalled + 1
        if not _is_due(self._stalled, self._policy.stalled_steps):
            return []
        detail = f"{self._stalled} steps in a row brought no new observation"
        return [self._finding(Guard.NO_PROGRESS, None, detail)]

    def _episode(self, guard: Guard, detail: str, *, is_so: bool) -> list[GuardFinding]:
        """A finding at the start of an episode and whenever its length has doubled."""
        if not is_so:
            self._active.pop(guard, None)
            return []
        self._active[guard] = times = self._active.get(guard, 0) + 1
        return [self._finding(guard, None, detail)] if _is_due(times, 1) else []

    def _finding(self, guard: Guard, tool: str | None, detail: str) -> GuardFinding:
        return GuardFinding(guard, self._policy.action_of(guard), tool, detail)

    def _tokens_of(self, size_bytes: int) -> tuple[int, str]:
        if self._tokens_per_byte is None:
            return size_bytes // BYTES_PER_TOKEN, "estimated"
        return round(size_bytes * self._tokens_per_byte), "as its last prompts had"


def _is_due(times: int, threshold: int) -> bool:
    """True at the threshold and at each doubling of it, so that findings stay few."""
    if times < threshold or times % threshold:
        return False
    ratio = times // threshold
    return ratio & (ratio - 1) == 0


def _known(kind: str, name: str, members: type[StrEnum]) -> str:
    if name not in list(members):
        raise ConfigError(f"unknown {kind} {name!r}", hint=nearest_text(name, list(members)) + ".")
    return name
