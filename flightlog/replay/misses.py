"""What happens to a call that no recording answers: one policy per effect and per tool."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeAlias

from flightlog.errors import ConfigError, nearest_text
from flightlog.replay.cassette import RecordedCall
from flightlog.replay.matching import ToolRule
from flightlog.runtime.policy import chosen
from flightlog.trace.vocab import Effect


class MissPolicy(StrEnum):
    """What happens to a call that nothing answers.

    stop: a named miss, which ends the run undecided. fixture: asked of a fixture that has made
    this run's own writes. stub: asked of a function. error: the model sees a typed error, and
    the run goes on tainted. live_read: a read is really made, while nothing that it reads was
    changed in this run.
    """

    STOP = "stop"
    FIXTURE = "fixture"
    STUB = "stub"
    ERROR = "error"
    LIVE_READ = "live_read"


@dataclass(frozen=True, slots=True)
class StubCall:
    """What a stub is told of the call that it answers.

    Attributes:
        tool: name of the tool.
        args: what its function would get.
        state_key: key of the call; None where the state cannot be known.
        neighbours: the most similar recorded calls of the tool, the nearest first.
    """

    tool: str
    args: Mapping[str, Any]
    state_key: str | None
    neighbours: tuple[RecordedCall, ...]


Stub: TypeAlias = Callable[[StubCall], Any]
FixtureFactory: TypeAlias = Callable[[], Mapping[str, Callable[..., Any]]]


@dataclass(frozen=True)
class MissPolicies:
    """What happens to calls that no recording answers.

    Attributes:
        by_tool: tool name or glob -> policy; its own name wins, then the first glob.
        by_effect: effect -> policy, for tools that `by_tool` does not name. Without either,
            a read is asked of the fixture where there is one, and all else stops.
        stubs: tool name or glob -> function of a `StubCall`.
        fixture: gives tool name -> function over a fresh initial state.
        live: functions of reads that may be called live, by tool name or glob; where it names
            none, that is the candidate's own.
        allow_live: nothing is called live without it.
        simulates_writes: the fixture is a full simulator, and may answer writes too.
    """

    by_tool: Mapping[str, MissPolicy] = field(default_factory=dict)
    by_effect: Mapping[Effect, MissPolicy] = field(default_factory=dict)
    stubs: Mapping[str, Stub] = field(default_factory=dict)
    fixture: FixtureFactory | None = None
    live: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    allow_live: bool = False
    simulates_writes: bool = False

    def __post_init__(self) -> None:
        for name, policies in (("by_tool", self.by_tool), ("by_effect", self.by_effect)):
            for of, policy in policies.items():
                if policy not in list(MissPolicy):
                    raise ConfigError(
                        f"unknown miss policy {policy!r}",
                        where=f"{name}[{str(of)!r}]",
                        hint=nearest_text(str(policy), [str(one) for one in MissPolicy]),
                    )
        for effect, policy in self.by_effect.items():
            if effect not in list(Effect):
                raise ConfigError(
                    f"unknown effect {effect!r}",
                    where="by_effect",
                    hint=f"Use one of: {', '.join(Effect)}.",
                )
            if policy == MissPolicy.LIVE_READ and effect != Effect.READ:
                raise ConfigError(
                    f"live_read for tools of effect {effect}",
                    where="by_effect",
                    hint="Only reads may be made live in a replay.",
                )

    def of(self, rule: ToolRule) -> MissPolicy:
        """The policy for the calls of one tool."""
        named = chosen(self.by_tool, rule.name)
        if named is None:
            named = self.by_effect.get(rule.effect)
        if named is None:
            is_asked = self.fixture is not None and rule.effect is Effect.READ
            named = MissPolicy.FIXTURE if is_asked else MissPolicy.STOP
        return MissPolicy(named)
