"""Which change explains which: the roots are the causes, the others what came of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from flightlog.analysis.postmortem.kinds import (
    EXPLAINED_BY,
    NEAREST_FIRST,
    NEEDS_EARLIER,
    ONLY_AS_CAUSE,
    Kind,
)
from flightlog.analysis.postmortem.signals import Shift

_SLACK_PIECES: Final = 2
_LEAST_OVERLAP: Final = 0.5
_OF_EFFECTS: Final = 0.5
"""What the strength of an effect adds to that of its cause."""


@dataclass(slots=True)
class Link:
    """One change in the chain.

    Attributes:
        shift: the change.
        effects: changes that it explains, by their begin.
    """

    shift: Shift
    effects: list[Link] = field(default_factory=list)

    def walked(self) -> list[Link]:
        """This one and all that came of it, causes before effects."""
        return [self, *(one for effect in self.effects for one in effect.walked())]

    @property
    def weight(self) -> float:
        """Strength with that of its effects; causes are ranked by it."""
        return self.shift.change.strength + _OF_EFFECTS * sum(
            effect.weight for effect in self.effects
        )


def chains_of(shifts: Sequence[Shift]) -> list[Link]:
    """The causes with their effects, the weightiest first.

    A change is explained by another that can cause such a one (`EXPLAINED_BY`), concerns the
    same agent, tool, model or tenant, and does not begin later. Of several, the nearest link of
    the chain of the prompt, else the strongest.
    A cause that is gone without the pieces of time of a weightier one on the same agents is a
    shadow of that one, and left out.
    """
    ordered = sorted(shifts, key=_order)
    links = [Link(shift) for shift in ordered]
    parent: dict[int, int] = {}
    for at, shift in enumerate(ordered):
        found = [
            (_nearness(ordered[other], shift), ordered[other].change.strength, -other)
            for other in range(len(ordered))
            if other != at
            and can_explain(ordered[other], shift)
            and not _is_above(parent, other, at)
        ]
        if found:
            parent[at] = -max(found)[2]
    for at, above in parent.items():
        links[above].effects.append(links[at])
    for link in links:
        link.effects.sort(key=lambda effect: _order(effect.shift))
    roots = [
        link
        for at, link in enumerate(links)
        if at not in parent and (link.effects or link.shift.kind not in ONLY_AS_CAUSE)
    ]
    roots.sort(key=lambda root: (-root.weight, _order(root.shift)))
    return _without_shadows(roots)


def can_explain(cause: Shift, effect: Shift) -> bool:
    """True when one change can be the cause of the other."""
    if cause.kind not in EXPLAINED_BY.get(effect.kind, ()) or not _is_related(cause, effect):
        return False
    slack = -1 if effect.kind in NEEDS_EARLIER else _SLACK_PIECES
    if effect.change.first + slack < cause.change.first:
        return False
    first = max(cause.change.first, effect.change.first)
    end = min(cause.change.end, effect.change.end)
    length = effect.change.end - effect.change.first
    return end - first >= _LEAST_OVERLAP * length


def _nearness(cause: Shift, effect: Shift) -> int:
    """How near a cause stands to its effect, where the kinds are a chain of several links."""
    if effect.kind not in NEAREST_FIRST:
        return 0
    return -EXPLAINED_BY[effect.kind].index(cause.kind)


def _is_related(cause: Shift, effect: Shift) -> bool:
    if effect.kind is Kind.SURGE:
        if cause.kind is Kind.SURGE:
            # A tenant starts runs of agents, not the other way round.
            return cause.of == "tenant" and effect.of == "agent" and _shares(cause, effect)
        return effect.of == "agent" and _shares(cause, effect)
    return _shares(cause, effect)


def _shares(cause: Shift, effect: Shift) -> bool:
    return bool(set(cause.agents) & set(effect.agents))


def _is_above(parent: dict[int, int], at: int, other: int) -> bool:
    """True when `other` is already a cause of `at`, through whatever is between."""
    while at in parent:
        at = parent[at]
        if at == other:
            return True
    return False


def _without_shadows(roots: list[Link]) -> list[Link]:
    kept: list[Link] = []
    for root in roots:
        if all(_stands_beside(root.shift, other.shift) for other in kept):
            kept.append(root)
    return kept


def _stands_beside(shift: Shift, weightier: Shift) -> bool:
    if not _shares(weightier, shift):
        return True
    return shift.is_told_without(weightier.change.first, weightier.change.end)


def _order(shift: Shift) -> tuple[int, int, str, str]:
    return (shift.change.first, list(Kind).index(shift.kind), shift.subject, shift.detail)
