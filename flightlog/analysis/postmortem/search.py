"""The postmortem of a window or of a run: from the store to findings, in one pass."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from flightlog.analysis.db import Traces
from flightlog.analysis.postmortem.chain import Link, chains_of
from flightlog.analysis.postmortem.describe import (
    PER_RUN,
    about,
    checked_of,
    timeline_of,
    unseen_of,
)
from flightlog.analysis.postmortem.evidence import (
    begin_of,
    changes_before,
    end_of,
    examples_of,
    witnesses_of,
)
from flightlog.analysis.postmortem.found import Evidence, Finding, Postmortem, Remedy
from flightlog.analysis.postmortem.kinds import LOAD_KINDS, Kind
from flightlog.analysis.postmortem.load import load_of, money_of
from flightlog.analysis.postmortem.queries import shown_by
from flightlog.analysis.postmortem.remedies import Trouble, remedies_for
from flightlog.analysis.postmortem.runaways import runaways_of
from flightlog.analysis.postmortem.signals import Shift, shifts_of
from flightlog.analysis.postmortem.single import of_agents, of_run, of_runaways, ranked
from flightlog.analysis.postmortem.titles import numbers_of, title_of
from flightlog.analysis.stats.sample import Ints
from flightlog.analysis.window import EVERYTHING, Scope, Window, close_window, open_window
from flightlog.errors import UnknownNameError, nearest

FEWEST_RUNS: Final = 20
_CLOSEUPS: Final = 5


def postmortem(traces: Traces, scope: Scope = EVERYTHING) -> Postmortem:
    """What went wrong among some runs, when, through whom, at what cost, and what would have
    stopped it.

    Deterministic: the same events give the same findings. A window of 20 runs or more is
    searched for changes against the rest of it; fewer runs, or runs that are named, are looked
    at one by one, beside the other runs of their agents.

    Args:
        traces: the stores.
        scope: which runs.

    Raises:
        UnknownNameError: a run that is not in the stores.
    """
    try:
        if scope.run_ids:
            return _of_runs(traces, scope)
        window = open_window(traces, scope)
        if window.runs < FEWEST_RUNS:
            return _one_by_one(window, np.arange(window.runs), scope)
        return _of_window(window, scope)
    finally:
        close_window(traces)


def _of_runs(traces: Traces, scope: Scope) -> Postmortem:
    """Named runs, beside all other runs of their agents."""
    window = open_window(traces, Scope())
    ids = window.table.column("run_id").to_pylist()
    place = {run_id: number for number, run_id in enumerate(ids)}
    for run_id in scope.run_ids:
        if run_id not in place:
            near = nearest(run_id, [one for one in ids[-2_000:] if one])
            raise UnknownNameError.of("run", run_id, near, hint="flightlog runs lists them.")
    return _one_by_one(window, np.array([place[run_id] for run_id in scope.run_ids]), scope)


def _one_by_one(window: Window, runs: Ints, scope: Scope) -> Postmortem:
    """A few runs, each on its own; those with the most calls first."""
    calls = window.floats("tool_calls") + window.floats("model_calls") if window.runs else None
    chosen = runs if calls is None else runs[np.argsort(-calls[runs], kind="stable")]
    findings: list[Finding] = []
    for run in chosen[:_CLOSEUPS].tolist():
        findings += of_run(window, run, len(findings))
    began = window.floats("began") if window.runs else np.zeros(0)
    notes = []
    if len(runs) > _CLOSEUPS:
        notes.append(f"of {len(runs)} runs the {_CLOSEUPS} with the most calls were looked at")
    if not scope.run_ids and len(runs):
        notes.append(
            f"fewer than {FEWEST_RUNS} runs: each was looked at on its own, and nothing could be"
            " compared with a time before"
        )
    report = Postmortem(
        stores=window.traces.stores,
        about=about(scope),
        runs=len(runs),
        since=window.at(began[runs].min()) if len(runs) else None,
        until=window.at(began[runs].max()) if len(runs) else None,
        findings=tuple(findings),
        checked=(PER_RUN,),
        notes=(*notes, *unseen_of(window)),
    )
    if not findings:
        return report
    since = min(finding.begins for finding in findings).timestamp()
    ended = window.floats("ended")[runs]
    until = max(
        since + 1.0,
        float(np.nanmax(ended)) if not np.isnan(ended).all() else since,
        max(finding.begins for finding in findings).timestamp(),
    )
    of_runs = (float(began[runs].min()), float(began[runs].max()) + 1e-3)
    return replace(
        report,
        load=load_of(window, since, until + 1, is_load=_is_load(findings)),
        money=money_of(window, *of_runs),
    )


def _of_window(window: Window, scope: Scope) -> Postmortem:
    runaways = runaways_of(window)
    chains = chains_of(shifts_of(window, runaways))
    findings: list[Finding] = []
    for link in chains:
        findings += _of_chain(window, link, runaways, None, len(findings))
    alone = of_runaways(window, runaways, len(findings))
    if alone:
        findings = ranked(findings, alone)
    began = window.floats("began")
    report = Postmortem(
        stores=window.traces.stores,
        about=about(scope),
        runs=window.runs,
        since=window.at(began[0]),
        until=window.at(began[-1]),
        findings=tuple(findings),
        timeline=timeline_of(window),
        checked=checked_of(window),
        notes=unseen_of(window),
    )
    if not findings:
        return report
    since, until = _time_of(window, findings[0])
    return replace(
        report,
        load=load_of(window, since, until, is_load=_is_load(findings)),
        money=money_of(window, since, until),
    )


def _is_load(findings: list[Finding]) -> bool:
    return any(finding.kind in LOAD_KINDS for finding in findings)


def _of_chain(
    window: Window, link: Link, runaways: Ints, cause: int | None, numbered: int
) -> list[Finding]:
    """The finding of a change, followed by those that it explains."""
    shift = link.shift
    seen = witnesses_of(window, shift, runaways)
    begin = begin_of(window, shift, seen)
    end = end_of(window, shift, seen)
    examples = examples_of(window, shift, seen, begin)
    if shift.kind is Kind.POLICY_LOST:
        examples += _bad_action(window, shift)
    remedies: tuple[Remedy, ...] = ()
    if cause is None:
        kinds = frozenset(one.shift.kind for one in link.walked())
        concerned = _concerned(window, shift)
        usual = of_agents(window, set(shift.agents))
        usual[concerned] = False
        usual[runaways] = False
        trouble = Trouble(kinds, shift.of, shift.subject, concerned, begin)
        remedies = remedies_for(window, trouble, usual)
    number = numbered + 1
    found = [
        Finding(
            number=number,
            kind=shift.kind,
            subject=shift.subject,
            of=shift.of,
            detail=shift.detail,
            title=title_of(shift),
            begins=window.at(begin),
            ends=None if end is None else window.at(end),
            caused_by=cause,
            numbers=numbers_of(shift),
            evidence=tuple(examples),
            changes=changes_before(window, shift, begin) if cause is None else (),
            shown_by=shown_by(shift.kind, shift.subject, shift.of),
            remedies=remedies,
        )
    ]
    for effect in link.effects:
        found += _of_chain(window, effect, runaways, number, numbered + len(found))
    return found


def _time_of(window: Window, finding: Finding) -> tuple[float, float]:
    since = finding.begins.timestamp()
    if finding.ends is None:
        return since, window.begin_of(window.pieces) + window.width
    return since, max(finding.ends.timestamp() + 1, since + 1)


def _bad_action(window: Window, shift: Shift) -> list[Evidence]:
    """The first write or refused call after the policy was lost, in the runs concerned."""
    lost = window.bools("lost_policy") & of_agents(window, set(shift.agents))
    rows = window.ask("postmortem", "bad_action", runs=np.flatnonzero(lost).tolist()).to_pylist()
    ids = window.table.column("run_id")
    return [
        Evidence(
            ids[row["run"]].as_py(),
            row["seq"],
            f"the first bad action after it: {row['tool']} ({row['outcome']})",
        )
        for row in rows
    ]


def _concerned(window: Window, shift: Shift) -> Ints:
    """Runs of the agents of a change that began in it."""
    inside = (window.piece >= shift.change.first) & (window.piece < shift.change.end)
    if shift.kind is Kind.SURGE:
        names, which = window.texts(shift.of)
        return np.flatnonzero(inside & (which == names.index(shift.subject)))
    return np.flatnonzero(inside & of_agents(window, set(shift.agents)))
