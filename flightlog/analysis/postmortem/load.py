"""Who made the calls in a piece of time, and what was spent in it."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from flightlog.analysis.postmortem.found import Load, Money, Share, Spent
from flightlog.analysis.window import Window

_GENERATES: Final = 0.4
_TIMES_USUAL: Final = 1.5
_LISTED: Final = 5
_SUBJECTS: Final = ("agent", "tenant", "task", "tool")
_ORDER: Final = ("agent", "run", "tenant", "task", "tool")


def load_of(window: Window, since: float, until: float, *, is_load: bool) -> Load:
    """Shares of the tool calls in a piece of time, by agent, tenant, task, tool and run.

    A load generator made at least 40 % of them, and one and a half times its usual share. What
    is alone in its window (one agent, tenant, task or tool) has no usual share to compare with;
    it is one where the findings are about load.

    Args:
        window: all runs.
        since: begin of the time, seconds since the epoch.
        until: its end.
        is_load: the findings are about load.
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
        if len(calls) == 1 and found and is_load:
            found = [replace(found[0], usual_share=None)]
        shares += found[:_LISTED]
    of_runs = window.ask("postmortem", "load_of_runs", since=since, until=until).to_pylist()
    shares += [
        Share("run", row["run_id"], row["calls"], row["calls"] / inside, None)
        for row in of_runs
        if is_load and row["calls"] >= _GENERATES * inside
    ]
    generators = [share for share in shares if share.name != "None" and _generates(share)]
    generators.sort(key=lambda share: (_ORDER.index(share.of), -share.calls, share.name))
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
