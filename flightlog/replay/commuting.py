"""Whether two sequences of calls differ only in the order of calls that do not touch.

Two calls touch when they share a scope and one of them changes it. Calls that do not touch
can change places without anybody being able to tell. The Foata normal form puts each call
into the first layer after all earlier calls that it touches; two sequences are equal up to
commuting calls exactly when their layers hold the same calls.

Source: P. Cartier and D. Foata, Problèmes combinatoires de commutation et réarrangements
(1969); V. Diekert and G. Rozenberg, The Book of Traces (1995), chapter 1.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from flightlog.replay.state import EVERYTHING

Identity: TypeAlias = tuple[str, str]
"""Tool, and digest of its canonical arguments."""


@dataclass(frozen=True, slots=True)
class Access:
    """One call and what it touches.

    Attributes:
        identity: tool and digest of the arguments.
        scopes: resolved scopes; none for a pure tool, which commutes with every call.
        changes_state: it is a write, or a read that takes what it reads.
    """

    identity: Identity
    scopes: Sequence[str]
    changes_state: bool


def equal_up_to_commuting(one: Iterable[Access], other: Iterable[Access]) -> bool:
    """True when both sequences have the same calls in an order that nobody can tell apart."""
    return layers_of(one) == layers_of(other)


def layers_of(accesses: Iterable[Access]) -> list[Counter[Identity]]:
    """The Foata normal form: which calls are in which layer, and how often."""
    places = _Places()
    layers: list[Counter[Identity]] = []
    for access in accesses:
        layer = 1 + max(
            (places.last(scope, access.changes_state) for scope in access.scopes), default=0
        )
        for scope in access.scopes:
            places.put(scope, layer, access.changes_state)
        while len(layers) < layer:
            layers.append(Counter())
        layers[layer - 1][access.identity] += 1
    return layers


@dataclass(slots=True)
class _Last:
    """The last layers that read and that changed something; 0 for none."""

    read: int = 0
    changed: int = 0

    def seen_by(self, changes_state: bool) -> int:  # noqa: FBT001
        return max(self.read, self.changed) if changes_state else self.changed

    def put(self, layer: int, changes_state: bool) -> None:  # noqa: FBT001
        if changes_state:
            self.changed = max(self.changed, layer)
        else:
            self.read = max(self.read, layer)


@dataclass(slots=True)
class _Places:
    """The last layers by scope, as `WorldState` has versions by scope."""

    one: defaultdict[str, _Last] = field(default_factory=lambda: defaultdict(_Last))
    every: defaultdict[str, _Last] = field(default_factory=lambda: defaultdict(_Last))
    any: defaultdict[str, _Last] = field(default_factory=lambda: defaultdict(_Last))
    star: _Last = field(default_factory=_Last)
    total: _Last = field(default_factory=_Last)

    def last(self, scope: str, changes_state: bool) -> int:  # noqa: FBT001
        """The last layer with a call that touches one of this scope."""
        return max(one.seen_by(changes_state) for one in self._seen(scope))

    def put(self, scope: str, layer: int, changes_state: bool) -> None:  # noqa: FBT001
        for one in self._changed(scope):
            one.put(layer, changes_state)

    def _seen(self, scope: str) -> tuple[_Last, ...]:
        prefix, colon, name = scope.partition(":")
        if scope == EVERYTHING:
            return (self.total,)
        if colon and name == EVERYTHING:
            return (self.any[prefix], self.star)
        if colon:
            return (self.one[scope], self.every[prefix], self.star)
        return (self.one[scope], self.star)

    def _changed(self, scope: str) -> tuple[_Last, ...]:
        prefix, colon, name = scope.partition(":")
        if scope == EVERYTHING:
            return (self.star, self.total)
        if colon and name == EVERYTHING:
            return (self.every[prefix], self.any[prefix], self.total)
        if colon:
            return (self.one[scope], self.any[prefix], self.total)
        return (self.one[scope], self.total)
