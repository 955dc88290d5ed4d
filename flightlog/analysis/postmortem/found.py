"""What a postmortem gives: findings with their evidence, the load, the money, the remedies."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Number:
    """One figure of the evidence.

    Attributes:
        name: what it is, in words.
        value: the figure.
        unit: %, calls, runs, ms, tokens, USD, x (times), s; empty for none.
    """

    name: str
    value: float
    unit: str


@dataclass(frozen=True, slots=True)
class Remedy:
    """What a limit would have done, by rerunning the history's own events.

    Attributes:
        setting: the limit in words.
        config: lines for flightlog.yaml.
        runs_cut: runs that it would have ended earlier.
        tool_calls: tool calls that would not have been made.
        usd: money that would not have been spent.
        usd_of: money spent by the runs that were looked at.
        successes_lost: runs with a success that it would have ended.
        successes: runs with a success that were looked at.
        first_run: id of the run that it would have stopped first.
        first_call: number of the tool call in that run, from 1.
        first_at: when, UTC.
        is_exact: False where it is a bound: the model would have been told something else.
    """

    setting: str
    config: str
    runs_cut: int
    tool_calls: int
    usd: float
    usd_of: float
    successes_lost: int
    successes: int
    first_run: str
    first_call: int
    first_at: datetime
    is_exact: bool


@dataclass(frozen=True, slots=True)
class Evidence:
    """Where to look for oneself.

    Attributes:
        run_id: a run that shows it.
        seq: the event in it; None for the run as a whole.
        what: what is to be seen there.
    """

    run_id: str
    seq: int | None
    what: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was wrong.

    Attributes:
        number: its rank, from 1; findings that it explains follow it.
        kind: one of `flightlog.analysis.postmortem.Kind`.
        subject: agent, tool, model, tenant or run that it is about.
        of: what the subject is.
        detail: stop reason, refused tool and reason, model changed to; may be empty.
        title: the finding in one sentence.
        begins: first time that it was seen, UTC.
        ends: last time; None when it was still so at the end of the window.
        caused_by: number of the finding that explains it; None for a cause.
        numbers: what was measured.
        evidence: runs and events that show it.
        changes: what the agents concerned had changed just before.
        shown_by: arguments of `flightlog` that show it.
        remedies: what would have stopped it, the most effective first.
    """

    number: int
    kind: str
    subject: str
    of: str
    detail: str
    title: str
    begins: datetime
    ends: datetime | None
    caused_by: int | None
    numbers: tuple[Number, ...]
    evidence: tuple[Evidence, ...]
    changes: tuple[str, ...]
    shown_by: tuple[str, ...]
    remedies: tuple[Remedy, ...] = ()


@dataclass(frozen=True, slots=True)
class Share:
    """Part of the load of one subject.

    Attributes:
        of: agent, run, tenant, task or tool.
        name: which.
        calls: tool calls in the time of the incident.
        share: of all tool calls of that time.
        usual_share: of the tool calls in the rest of the window; None without a rest.
    """

    of: str
    name: str
    calls: int
    share: float
    usual_share: float | None


@dataclass(frozen=True, slots=True)
class Load:
    """Who made the tool calls in the time of the incident.

    Attributes:
        since: its begin, UTC.
        until: its end, UTC.
        calls: tool calls that went to tools.
        amplification: attempts per call that the models asked for.
        generators: subjects that made far more of the calls than usual, the largest first.
        shares: the largest shares, by kind of subject.
    """

    since: datetime
    until: datetime
    calls: int
    amplification: float
    generators: tuple[Share, ...]
    shares: tuple[Share, ...]


@dataclass(frozen=True, slots=True)
class Spent:
    """Money of one agent and tenant; see postmortem/money.sql for what counts as wasted."""

    agent: str | None
    tenant: str | None
    runs: int
    useless_runs: int
    usd: float
    wasted_usd: float


@dataclass(frozen=True, slots=True)
class Money:
    """What was spent in the time of the incident.

    Attributes:
        usd: all of it.
        usd_of_useless_runs: of runs that did not end with an answer, or a wrong one.
        usd_of_empty_steps: in the other runs, of steps whose tools told nothing new.
        unpriced_calls: answered model calls without a price, which the sums leave out.
        spent: by agent and tenant, the largest first.
    """

    usd: float
    usd_of_useless_runs: float
    usd_of_empty_steps: float
    unpriced_calls: int
    spent: tuple[Spent, ...]

    @property
    def wasted_usd(self) -> float:
        """What bought nothing."""
        return self.usd_of_useless_runs + self.usd_of_empty_steps


@dataclass(frozen=True, slots=True)
class Timeline:
    """The window in pieces, for a picture of it. Tuples have one entry per piece.

    Attributes:
        begin: of the first piece, UTC.
        width_s: of a piece in seconds.
        runs: runs that began then.
        tool_calls: of these runs.
        failures: of these tool calls.
        usd: spent by these runs.
    """

    begin: datetime
    width_s: float
    runs: tuple[int, ...]
    tool_calls: tuple[int, ...]
    failures: tuple[int, ...]
    usd: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Postmortem:
    """Everything that was found, and what was looked at.

    Attributes:
        stores: that were read.
        about: what was asked for, in words.
        runs: in the window.
        since: start of the first run, UTC; None without a run.
        until: start of the last run, UTC; None without a run.
        findings: causes by weight, each followed by what it explains.
        load: who made the calls; None where nothing was found.
        money: what was spent; None where nothing was found.
        timeline: the window in pieces; None for a single run.
        checked: what was looked for.
        notes: what could not be looked at, and why.
    """

    stores: tuple[str, ...]
    about: str
    runs: int
    since: datetime | None
    until: datetime | None
    findings: tuple[Finding, ...] = ()
    load: Load | None = None
    money: Money | None = None
    timeline: Timeline | None = None
    checked: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())
