"""Who made the calls in a piece of time, and what was spent in it."""

from __future__ import annotations

from typing import Final

from flightlog.analysis.postmortem.found import Load, Money, Share, Spent
from flightlog.analysis.window import Window

_GENERATES: Final = 0.4
_TIMES_USUAL: Final = 1.5
_LISTED: Final = 5
_SUBJECTS: Final = ("agent", "tenant", "tool")


def load_of(window: Window, since: float, until: float) -> Load:
    """Shares of the tool calls in a piece of time, by agent, tenant and tool.

    A load generator made at least 40 % of them, and one and a half times its usual share;
    where the window has no rest to compare with, it made at least 40 %.
    """
    rows = window.ask("postmortem", "load", since=since, until=until).to_pylist()
    inside = sum(row["inside"] for row in rows)
    outside = sum(row["outside"] for row in rows)
    asked = sum(row["asked"] for row in rows)
    shares: list[Share] = []
    for of in _SUBJECTS:
        calls: dict[str, list[int]] = {}
        for row in rows:
            one = calls.setdefault(str(row[of]), [0, 0])
            one[0] += row["inside"]
            one[1] += row["outside"]
        found = [
            Share(
                of,
                name,
                then,
                then / inside if inside else 0.0,
                rest / outside if outside else None,
            )
            for name, (then, rest) in calls.items()
            if then
        ]
        found.sort(key=lambda share: (-share.calls, share.name))
        shares += found[:_LISTED]
    generators = [share for share in shares if share.name != "None" and _generates(share)]
    generators.sort(key=lambda share: (_SUBJECTS.index(share.of), -share.calls, share.name))
    return Load(
        since=window.at(since),
        until=window.at(until),
        calls=inside,
        amplification=(asked + sum(row["retries"] for row in rows)) / asked if asked else 1.0,
        generators=tuple(generators),
        shares=tuple(shares),
    )


def _generates(share: Share) -> bool:
    if share.share < _GENERATES:
        return False
    return share.usual_share is None or share.share >= _TIMES_USUAL * share.usual_share


def money_of(window: Window, since: float | None, until: float | None) -> Money:
    """What runs that began in a piece of time spent, and how much of it bought nothing."""
    rows = window.ask("postmortem", "money", since=since, until=until).to_pylist()
    spent = [
        Spent(
            agent=str(row["agent"]),
            tenant=str(row["tenant"]),
            runs=row["runs"],
            useless_runs=row["useless_runs"],
            usd=row["usd"],
            wasted_usd=row["usd_of_useless_runs"] + row["usd_of_empty_steps"],
        )
        for row in rows
    ]
    return Money(
        usd=sum(row["usd"] for row in rows),
        usd_of_useless_runs=sum(row["usd_of_useless_runs"] for row in rows),
        usd_of_empty_steps=sum(row["usd_of_empty_steps"] for row in rows),
        unpriced_calls=int(sum(row["unpriced_calls"] for row in rows)),
        spent=tuple(spent),
    )
