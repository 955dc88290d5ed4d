"""How a replayed call finds its recorded one; weaker ways are chosen by name and never fallen to.

    state    tool, arguments, and the state of what it reads: the default, and the only one
             whose answers the recorded world could have given
    strict   the same calls with the same arguments in the same order from the start
    keyed    tool, arguments, and how often it was called with them before

`strict` and `keyed` are for imported cassettes whose tools nobody can declare. `strict` misses
whatever differs; `keyed` can serve what a write has made stale.
"""

from __future__ import annotations

from collections import Counter
from enum import StrEnum

from flightlog.replay.matching import Answer, CallKey, KeyWalk, ToolRule
from flightlog.trace.canonical import CanonicalArgs, digest_of


class Match(StrEnum):
    """What identifies a call."""

    STATE = "state"
    STRICT = "strict"
    KEYED = "keyed"


class StrictWalk(KeyWalk):
    """A call is known by all calls before it."""

    def __init__(self) -> None:
        super().__init__()
        self._before = ""

    def key_of(self, rule: ToolRule, args: CanonicalArgs, *, is_retry: bool = False) -> CallKey:
        """The key of the next call."""
        return CallKey(digest_of(Match.STRICT, self._before, rule.name, args.digest), "")

    def happened(
        self, rule: ToolRule, args: CanonicalArgs, answer: Answer, *, is_retry: bool = False
    ) -> None:
        """One call further."""
        super().happened(rule, args, answer, is_retry=is_retry)
        self._before = digest_of(self._before, rule.name, args.digest)


class KeyedWalk(KeyWalk):
    """A call is known by its arguments and by how often it was made before."""

    def __init__(self) -> None:
        super().__init__()
        self._times: Counter[tuple[str, str]] = Counter()

    def key_of(self, rule: ToolRule, args: CanonicalArgs, *, is_retry: bool = False) -> CallKey:
        """The key of the next call."""
        times = self._times[rule.name, args.digest]
        key = digest_of(Match.KEYED, rule.name, args.digest, str(times))
        return CallKey(key, "", is_repeat=times > 0)

    def happened(
        self, rule: ToolRule, args: CanonicalArgs, answer: Answer, *, is_retry: bool = False
    ) -> None:
        """Counts the call."""
        super().happened(rule, args, answer, is_retry=is_retry)
        self._times[rule.name, args.digest] += 1


def walk_of(match: Match) -> KeyWalk:
    """A fresh walk over the calls of one run."""
    kinds = {Match.STATE: KeyWalk, Match.STRICT: StrictWalk, Match.KEYED: KeyedWalk}
    return kinds[match]()
