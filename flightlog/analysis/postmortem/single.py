"""Runs that are looked at one by one, and what concerns them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from flightlog.analysis.postmortem.closeup import Fact, cause_of, facts_of
from flightlog.analysis.postmortem.found import Evidence, Finding, Number
from flightlog.analysis.postmortem.kinds import EXPLAINED_BY, Kind
from flightlog.analysis.postmortem.queries import shown_by
from flightlog.analysis.postmortem.remedies import Trouble, remedies_for
from flightlog.analysis.stats.sample import Bools, Ints
from flightlog.analysis.window import Window

_RUNS_OF_RUNAWAYS: Final = 3


def of_run(window: Window, run: int, numbered: int) -> list[Finding]:
    """Findings of one run, causes first."""
    facts = facts_of(window, run)
    parents = {id(fact): cause_of(fact, facts) for fact in facts}
    order: list[Fact] = []

    def walk(fact: Fact) -> None:
        order.append(fact)
        for other in facts:
            if parents[id(other)] is fact and all(other is not one for one in order):
                walk(other)

    kinds = list(Kind)
    roots = [fact for fact in facts if parents[id(fact)] is None]
    for fact in sorted(roots, key=lambda fact: (kinds.index(fact.kind), fact.begin)):
        walk(fact)
    number = {id(fact): numbered + place for place, fact in enumerate(order, start=1)}
    run_id = window.table.column("run_id")[run].as_py()
    agent = str(window.table.column("agent")[run].as_py())
    references = of_agents(window, {agent})
    references[run] = False
    found = []
    for fact in order:
        cause = parents[id(fact)]
        trouble = Trouble(
            frozenset(one.kind for one in facts),
            "tool" if fact.kind in (Kind.TOOL_FAILING, Kind.TOOL_INVALID) else "run",
            fact.tool,
            np.array([run]),
            fact.begin,
            is_of_runs=True,
        )
        found.append(
            Finding(
                number=number[id(fact)],
                kind=fact.kind,
                subject=run_id,
                of="run",
                detail=fact.tool,
                title=fact.title,
                begins=window.at(fact.begin),
                ends=window.at(fact.end),
                caused_by=None if cause is None else number[id(cause)],
                numbers=fact.numbers,
                evidence=fact.evidence,
                changes=(),
                shown_by=shown_by(fact.kind, run_id, "run"),
                remedies=remedies_for(window, trouble, references) if cause is None else (),
            )
        )
    return found


def of_runaways(window: Window, runaways: Ints, numbered: int) -> list[Finding]:
    """Per agent one finding about its runs that made far more calls than the others."""
    names, which = window.texts("agent")
    calls, began = window.floats("tool_calls"), window.floats("began")
    ended, usd = window.floats("ended"), window.floats("usd")
    found: list[Finding] = []
    groups = [runaways[which[runaways] == number] for number in range(len(names))]
    for mine in sorted((one for one in groups if one.size), key=lambda one: -calls[one].sum()):
        agent = str(names[which[mine[0]]])
        usual = of_agents(window, {agent})
        usual[runaways] = False
        median = float(np.median(calls[usual]))
        worst = mine[np.argsort(-calls[mine], kind="stable")]
        ids = [window.table.column("run_id")[int(run)].as_py() for run in worst]
        trouble = Trouble(
            frozenset({Kind.RUNAWAY}),
            "agent",
            agent,
            mine,
            float(began[mine].min()),
            is_of_runs=True,
        )
        number = numbered + len(found) + 1
        spent = usd[mine][~np.isnan(usd[mine])].sum()
        what = f"{mine.size} runs of {agent}" if mine.size > 1 else f"one run of {agent}"
        found.append(
            Finding(
                number=number,
                kind=Kind.RUNAWAY,
                subject=agent,
                of="agent",
                detail=ids[0],
                title=f"{what} made {int(calls[mine].sum()):,} tool calls"
                f" ({calls[mine].sum() / max(calls.sum(), 1):.0%} of all); usual are {median:g}"
                " a run",
                begins=window.at(float(began[mine].min())),
                ends=None if np.isnan(ended[mine]).any() else window.at(float(ended[mine].max())),
                caused_by=None,
                numbers=(
                    Number("tool calls", float(calls[mine].sum()), "calls"),
                    Number("usually in a run", median, "calls"),
                    Number("cost", float(spent), "USD"),
                ),
                evidence=tuple(Evidence(one, None, "") for one in ids[:_RUNS_OF_RUNAWAYS]),
                changes=(),
                shown_by=shown_by(Kind.RUNAWAY, agent, "agent"),
                remedies=remedies_for(window, trouble, usual),
            )
        )
        inside = of_run(window, int(worst[0]), number)
        kept = [one for one in inside if one.kind != Kind.RUNAWAY]
        found += _below(kept, number)
    return found


def ranked(changes: list[Finding], alone: list[Finding]) -> list[Finding]:
    """Runaway runs first where they began before the weightiest change or nothing else was
    found, else after it; numbers follow."""
    first = changes[0] if changes else None
    if first is None or (
        alone[0].begins <= first.begins
        and Kind(alone[0].kind) in EXPLAINED_BY.get(Kind(first.kind), ())
    ):
        ordered = [*alone, *changes]
    else:
        ordered = [*changes, *alone]
    number = {id(one): at for at, one in enumerate(ordered, start=1)}
    by_old = {
        **{("changes", one.number): number[id(one)] for one in changes},
        **{("alone", one.number): number[id(one)] for one in alone},
    }
    mine = {id(one) for one in alone}
    return [
        replace(
            one,
            number=number[id(one)],
            caused_by=None
            if one.caused_by is None
            else by_old["alone" if id(one) in mine else "changes", one.caused_by],
        )
        for one in ordered
    ]


def of_agents(window: Window, agents: set[str]) -> Bools:
    """Runs of these agents, shape (runs,)."""
    names, which = window.texts("agent")
    wanted = [number for number, name in enumerate(names) if str(name) in agents]
    return np.isin(which, wanted)


def _below(findings: Sequence[Finding], parent: int) -> list[Finding]:
    """Findings numbered anew from the number of their parent on; those without a cause among
    them are the parent's."""
    place = {one.number: parent + at for at, one in enumerate(findings, start=1)}
    return [
        replace(
            one,
            number=place[one.number],
            caused_by=parent if one.caused_by is None else place.get(one.caused_by, parent),
            remedies=(),
        )
        for one in findings
    ]
