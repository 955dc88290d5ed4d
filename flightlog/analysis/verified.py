"""What is known of the bytes that a comparison is made of: verified before anything else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from flightlog.errors import DamagedError
from flightlog.recorder.audit import audit_store
from flightlog.recorder.layout import Problem
from flightlog.recorder.store import Store
from flightlog.recorder.verify import require_intact

GAPS: Final = """
SELECT count(*)::BIGINT AS gaps, coalesce(sum(dropped_events), 0)::BIGINT AS dropped_events
FROM events WHERE kind = 'gap'
"""
"""The query for the two numbers of gaps."""


@dataclass(frozen=True, slots=True)
class Verified:
    """What `flightlog verify` found in the stores, added up.

    Attributes:
        segments: segments whose sha256 is that of the manifests.
        events: events in them, and in journals.
        unsealed_events: those in journals, which have a CRC each and no chain yet.
        chains: journals whose chain over their events was computed anew and is as sealed.
        without_chain: segments of format 1, which have none.
        gaps: records that tell of dropped events.
        dropped_events: events that they tell of; they were counted, and are lost.
        problems: what is damaged and holds no row of the comparison, see the notes.
    """

    segments: int
    events: int
    unsealed_events: int
    chains: int
    without_chain: int
    gaps: int
    dropped_events: int
    problems: int


def verify_stores(stores: Sequence[Store], *, gaps: int, dropped_events: int) -> Verified | None:
    """Verifies stores as `flightlog verify` does: sha256, CRC, manifests, chains.

    Args:
        stores: none for traces that came from memory.
        gaps: records of gaps in them.
        dropped_events: what these count.

    Returns:
        None without a store.

    Raises:
        DamagedError: a segment has changed or is missing, or does not fit its chain.
    """
    if not stores:
        return None
    reports = [require_intact(store) for store in stores]
    audits = [audit_store(store) for store in stores]
    problems: set[Problem] = {problem for one in reports for problem in one.problems}
    for store, audit in zip(stores, audits, strict=True):
        problems.update(audit.problems)
        folders = (store.layout.events, store.layout.messages)
        forged = [one for one in audit.problems if set(folders) & set(one.path.parents)]
        if forged:
            found = "\n  ".join(map(str, forged))
            raise DamagedError(
                f"{len(forged)} segments do not fit their chains\n  {found}",
                where=str(store.path),
                hint="Somebody changed them after they were sealed; flightlog verify lists all.",
            )
    return Verified(
        segments=sum(one.segments for one in reports),
        events=sum(one.events for one in reports),
        unsealed_events=sum(one.unsealed_events for one in reports),
        chains=sum(one.journals for one in audits),
        without_chain=sum(one.without_chain for one in audits),
        gaps=gaps,
        dropped_events=dropped_events,
        problems=len(problems),
    )
