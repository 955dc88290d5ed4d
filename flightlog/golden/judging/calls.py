"""The calls of a candidate under the golden's declarations, and the writes among them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias

from flightlog.replay.cassette import Cassette, RecordedCall, writes_of
from flightlog.replay.commuting import Access, Identity
from flightlog.replay.matching import KeyWalk, Rules, ToolRule
from flightlog.trace.canonical import CanonicalArgs
from flightlog.trace.events import ToolCall
from flightlog.trace.vocab import Actor, Outcome

MAX_ARGS_CHARS: Final = 120

Writes: TypeAlias = Counter[Identity]
"""How often each write (tool, digest of its canonical arguments) was done."""


@dataclass(frozen=True, slots=True)
class JudgedCall:
    """One tool call of the candidate under the golden's declarations."""

    call: ToolCall
    args: CanonicalArgs
    rule: ToolRule

    @property
    def is_write(self) -> bool:
        """True for a tool that is, or may be, a write."""
        return self.rule.effect.is_write

    @property
    def identity(self) -> Identity:
        """Tool and digest of the canonical arguments."""
        return (self.call.tool_name, self.args.digest)

    @property
    def place(self) -> str:
        """The call in words: tool, arguments, step."""
        step = f" at step {self.call.step}" if self.call.step is not None else ""
        return f"{self.call.tool_name!r} {short_args(self.args.text)}{step}"

    @property
    def access(self) -> Access:
        """What it touched."""
        result = self.call.result if self.call.outcome is Outcome.OK else None
        scopes = KeyWalk.touched(self.rule, self.args, result)
        return Access(self.identity, scopes, self.rule.changes_state)


def judged_calls(calls: Iterable[ToolCall], rules: Rules) -> list[JudgedCall]:
    """The agent's calls, refused ones too, keyed as the recordings are."""
    return [
        JudgedCall(call, rules[call.tool_name].args_of(call.args or ""), rules[call.tool_name])
        for call in calls
        if call.actor is Actor.AGENT
    ]


def successful_writes(made: Iterable[JudgedCall]) -> Writes:
    """The writes of a candidate that succeeded."""
    return Counter(c.identity for c in made if c.is_write and c.call.outcome is Outcome.OK)


def accepted_writes(cassette: Cassette) -> list[Writes]:
    """The successful writes of each recording."""
    return [Counter(map(identity_of, writes_of(calls))) for calls in cassette.calls]


def identity_of(call: RecordedCall) -> Identity:
    """Tool and digest of the canonical arguments of a recorded call."""
    return (call.tool_name, call.args.digest)


def short_args(text: str) -> str:
    """Arguments, cut where they are long."""
    return text if len(text) <= MAX_ARGS_CHARS else f"{text[: MAX_ARGS_CHARS - 1]}…"
