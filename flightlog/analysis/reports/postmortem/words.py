"""A postmortem in words, for every form of its report; nothing here is escaped yet."""

from __future__ import annotations

import shlex
from datetime import datetime
from typing import Final

from flightlog.analysis.postmortem.found import (
    Finding,
    Load,
    Money,
    Number,
    Postmortem,
    Remedy,
    Share,
    Spent,
)
from flightlog.analysis.terminal import number_text
from flightlog.analysis.wording import counted

_SHOWN: Final = 3


def headline(found: Postmortem) -> str:
    """The result in one sentence."""
    if not found.runs:
        return "no runs to look at"
    if not found.findings:
        return "nothing found"
    causes = [one for one in found.findings if one.caused_by is None]
    more = f", and {counted(len(causes) - 1, 'other cause')}" if len(causes) > 1 else ""
    return f"{found.findings[0].title}{more}"


def looked_at(found: Postmortem) -> str:
    """Which runs were looked at."""
    if found.since is None or found.until is None:
        return f"{found.about}: {counted(found.runs, 'run')}"
    return (
        f"{found.about}: {counted(found.runs, 'run')}, {at(found.since)} to"
        f" {at(found.until, after=found.since)} UTC"
    )


def at(when: datetime, *, after: datetime | None = None) -> str:
    """A time to the second; without the day where it is that of `after`."""
    if after is not None and when.date() == after.date():
        return f"{when:%H:%M:%S}"
    return f"{when:%Y-%m-%d %H:%M:%S}"


def kind(finding: Finding) -> str:
    """The kind as words."""
    return finding.kind.replace("_", " ")


def time_of(finding: Finding) -> str:
    """When it was."""
    if finding.ends is None:
        return f"since {at(finding.begins)} UTC, and still so at the end"
    if finding.ends == finding.begins:
        return f"at {at(finding.begins)} UTC"
    return f"{at(finding.begins)} to {at(finding.ends, after=finding.begins)} UTC"


def evidence_of(finding: Finding) -> list[str]:
    """Runs and events that show it."""
    plain = [one.run_id for one in finding.evidence if one.seq is None and not one.what]
    found = [f"runs {', '.join(plain)}" if len(plain) > 1 else f"run {plain[0]}"] if plain else []
    for one in finding.evidence:
        if one.seq is not None:
            found.append(f"{one.what}: event {one.seq} of run {one.run_id}")
        elif one.what:
            found.append(f"{one.what}: run {one.run_id}")
    return found


def number(one: Number) -> str:
    """A figure with its unit."""
    if one.unit == "USD":
        return f"{one.name} ${one.value:,.4g}"
    if one.unit == "x":
        return f"{one.name} {one.value:.3g} times"
    unit = f" {one.unit}" if one.unit else ""
    value = f"{one.value:,.0f}" if one.value >= 1000 else number_text(round(one.value, 2))
    return f"{one.name} {value}{unit}"


def command(finding: Finding) -> str:
    """The command that shows it."""
    return shlex.join(("flightlog", *finding.shown_by))


def remedy(one: Remedy) -> str:
    """What a limit would have done."""
    bound = "" if one.is_exact else "at most "
    money = f" and ${one.usd:,.2f} of ${one.usd_of:,.2f}" if one.usd else ""
    lost = f"; {one.successes_lost:,} of {one.successes:,} successes lost" if one.successes else ""
    return (
        f"{one.setting}: stops first at call {one.first_call} of run {one.first_run},"
        f" {at(one.first_at)} UTC; {bound}{counted(one.tool_calls, 'tool call')}{money} saved{lost}"
    )


def load(found: Load) -> str:
    """Who made the load, in one sentence."""
    begin = (
        f"{counted(found.calls, 'tool call')} from {at(found.since)} to"
        f" {at(found.until, after=found.since)} UTC, {found.amplification:.2f} attempts per call"
    )
    if not found.generators:
        return f"{begin}; no agent, tenant, task or tool made far more of them than usual"
    return f"{begin}; load generator: {', '.join(share(one) for one in found.generators)}"


def share(one: Share) -> str:
    """One share of the load."""
    usual = "" if one.usual_share is None else f", usually {one.usual_share:.0%}"
    return f"{one.of} {one.name} ({one.share:.0%} of the calls{usual})"


def _spender(one: Spent) -> str:
    agent = one.agent or "an agent without a name"
    return agent if one.tenant is None else f"{agent} for {one.tenant}"


def money(found: Money) -> str:
    """What was spent and wasted, in one sentence."""
    if found.usd <= 0:
        return "nothing with a price was spent"
    text = (
        f"${found.usd:,.2f} spent, ${found.wasted_usd:,.2f} of it for nothing"
        f" ({found.wasted_usd / found.usd:.0%}): ${found.usd_of_useless_runs:,.2f} on runs without"
        f" a good answer, ${found.usd_of_empty_steps:,.2f} on steps that told nothing new"
    )
    if found.unpriced_calls:
        text += f"; {counted(found.unpriced_calls, 'model call')} without a price left out"
    most = [one for one in found.spent[:_SHOWN] if one.usd > 0]
    who = ", ".join(f"{_spender(one)} ${one.usd:,.2f}" for one in most)
    return f"{text}; most on {who}" if who else text


def depth(found: Postmortem, finding: Finding) -> int:
    """How many findings are above this one in its chain."""
    above = {one.number: one.caused_by for one in found.findings}
    steps, cause = 0, finding.caused_by
    while cause is not None:
        steps, cause = steps + 1, above.get(cause)
    return steps
