"""One run, looked at on its own: what went wrong in it, in which order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from flightlog.analysis.postmortem.found import Evidence, Number
from flightlog.analysis.postmortem.kinds import EXPLAINED_BY, NEAREST_FIRST, NEEDS_EARLIER, Kind
from flightlog.analysis.window import Window

_FEWEST_FAILING: Final = 5
_FAILING: Final = 0.5
_MANY_CALLS: Final = 50
_TIMES_USUAL: Final = 10.0
_REPEATS: Final = 3
_AMPLIFIED: Final = 2.0
_GROWN: Final = 4.0
_GROWN_TOKENS: Final = 8_000
_REFUSALS: Final = 3
_BAD: Final = ("failed", "timed_out", "invalid_output")

_Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing that went wrong in a run.

    Attributes:
        kind: what.
        title: in one sentence.
        begin: first seen, seconds since the epoch.
        end: last seen.
        numbers: the figures.
        evidence: where in the run.
        tool: the tool that it is about; empty for none.
    """

    kind: Kind
    title: str
    begin: float
    end: float
    numbers: tuple[Number, ...]
    evidence: tuple[Evidence, ...]
    tool: str = ""


@dataclass(frozen=True, slots=True)
class Usual:
    """Medians of the other runs of the agent; NaN without others."""

    calls: float
    usd: float


def facts_of(window: Window, run: int) -> list[Fact]:
    """What went wrong in one run, by the time at which it began.

    Args:
        window: the run and others to compare it with.
        run: its number in the window.
    """
    run_id = window.table.column("run_id")[run].as_py()
    tools = window.ask("postmortem", "run_tools", run=run).to_pylist()
    models = window.ask("postmortem", "run_models", run=run).to_pylist()
    found = [
        *_failing_tools(run_id, tools),
        *_calls(window, run, run_id, tools),
        *_repeats(run_id, tools),
        *_retries(run_id, tools),
        *_prompts(run_id, tools, models),
        *_refusals(run_id, tools),
        *_doubts(run_id, tools),
        *_end(window, run, run_id),
    ]
    return sorted(found, key=lambda fact: (fact.begin, list(Kind).index(fact.kind), fact.title))


def cause_of(fact: Fact, facts: list[Fact]) -> Fact | None:
    """The fact of the same run that explains this one; of several the most upstream, or
    along the chain of the prompt the nearest."""
    order = list(Kind)
    above = [
        one
        for one in facts
        if one is not fact
        and one.kind in EXPLAINED_BY.get(fact.kind, ())
        and one.begin <= fact.end
        # That the calls of one run made a tool fail is nothing that the run can show.
        and not (one.kind is Kind.RUNAWAY and fact.kind in NEEDS_EARLIER)
    ]
    if fact.kind in NEAREST_FIRST:
        order = list(EXPLAINED_BY[fact.kind])
    return min(above, key=lambda one: (order.index(one.kind), one.begin), default=None)


def usual_of(window: Window, run: int) -> Usual:
    """Medians of the other runs of the same agent."""
    _, which = window.texts("agent")
    others = which == which[run]
    others[run] = False
    if not others.any():
        return Usual(np.nan, np.nan)
    usd = window.floats("usd")[others]
    known = usd[~np.isnan(usd)]
    return Usual(
        float(np.median(window.floats("tool_calls")[others])),
        float(np.median(known)) if known.size else np.nan,
    )


def _failing_tools(run_id: str, tools: list[_Row]) -> Iterator[Fact]:
    for tool in sorted({row["tool"] for row in tools if row["tool"] is not None}):
        ran = [row for row in tools if row["tool"] == tool and row["has_run"]]
        bad = [row for row in ran if row["outcome"] in _BAD]
        if len(bad) < _FEWEST_FAILING or len(bad) < _FAILING * len(ran):
            continue
        outcome, _ = Counter(row["outcome"] for row in bad).most_common(1)[0]
        kind = Kind.TOOL_INVALID if outcome == "invalid_output" else Kind.TOOL_FAILING
        verb = {"timed_out": "timed out", "invalid_output": "answered what its schema forbids"}
        yield Fact(
            kind,
            f"{tool} {verb.get(outcome, 'failed')} in {len(bad):,} of {len(ran):,} calls",
            bad[0]["s"],
            bad[-1]["s"],
            (Number("failed", len(bad), "calls"), Number("calls", len(ran), "calls")),
            (Evidence(run_id, bad[0]["seq"], f"the first call of {tool} that went wrong"),),
            tool,
        )


def _calls(window: Window, run: int, run_id: str, tools: list[_Row]) -> Iterator[Fact]:
    usual = usual_of(window, run)
    ran = [row for row in tools if row["has_run"]]
    if len(ran) < _MANY_CALLS:
        return
    useless = sum(row["outcome"] != "ok" for row in ran) + _repeated(ran)
    is_far = len(ran) >= _TIMES_USUAL * max(usual.calls, 1)
    if not is_far and useless < _FAILING * len(ran):
        return
    agent = window.table.column("agent")[run].as_py()
    tool, calls = Counter(row["tool"] for row in ran).most_common(1)[0]
    others = "" if np.isnan(usual.calls) else f"; its other runs make {usual.calls:g}"
    yield Fact(
        Kind.RUNAWAY,
        f"{agent} made {len(ran):,} tool calls in one run, {calls:,} of {tool}{others}",
        ran[0]["s"],
        ran[-1]["s"],
        (
            Number("tool calls", len(ran), "calls"),
            Number("of them failed or repeated", useless, "calls"),
            Number("usually", usual.calls, "calls"),
        ),
        (Evidence(run_id, ran[-1]["seq"], "the last of the calls"),),
        str(tool),
    )


def _repeated(rows: list[_Row]) -> int:
    """Successful calls that asked the same and were told the same as one before."""
    asked = Counter(
        (row["same"], row["told"]) for row in rows if row["outcome"] == "ok" and not row["is_write"]
    )
    return sum(count - 1 for count in asked.values())


def _repeats(run_id: str, tools: list[_Row]) -> Iterator[Fact]:
    groups: dict[tuple[Any, ...], list[_Row]] = {}
    for row in tools:
        if row["has_run"] and row["attempt"] == 1:
            groups.setdefault((row["same"], row["told"], row["is_write"]), []).append(row)
    told: set[tuple[str, bool]] = set()
    for (_, _, is_write), rows in sorted(groups.items(), key=lambda one: -len(one[1])):
        if (str(rows[0]["tool"]), is_write) in told:
            continue
        done = [row for row in rows if row["outcome"] == "ok"] if is_write else rows
        if len(done) < (2 if is_write else _REPEATS):
            continue
        told.add((str(rows[0]["tool"]), is_write))
        kind = Kind.DUPLICATE_WRITES if is_write else Kind.LOOPS
        what = "was written the same" if is_write else "was asked the same, with the same answer,"
        yield Fact(
            kind,
            f"{done[0]['tool']} {what} {len(done):,} times",
            done[1]["s"],
            done[-1]["s"],
            (Number("times", len(done), "calls"),),
            (Evidence(run_id, done[1]["seq"], "the second time"),),
            str(done[0]["tool"]),
        )


def _retries(run_id: str, tools: list[_Row]) -> Iterator[Fact]:
    again = [row for row in tools if row["attempt"] > 1 and row["has_run"]]
    asked = sum(row["attempt"] == 1 for row in tools if row["has_run"])
    if len(again) < _FEWEST_FAILING or len(again) + asked < _AMPLIFIED * max(asked, 1):
        return
    factor = (len(again) + asked) / max(asked, 1)
    yield Fact(
        Kind.RETRIES,
        f"{asked:,} calls became {len(again) + asked:,} attempts, {factor:.1f} each",
        again[0]["s"],
        again[-1]["s"],
        (Number("amplification", factor, "x"),),
        (Evidence(run_id, again[0]["seq"], "the first second attempt"),),
    )


def _prompts(run_id: str, tools: list[_Row], models: list[_Row]) -> Iterator[Fact]:
    sized = [row for row in models if row["input_tokens"]]
    if sized:
        first, largest = sized[0], max(sized, key=lambda row: row["input_tokens"])
        grown = largest["input_tokens"] / first["input_tokens"]
        if grown >= _GROWN and largest["input_tokens"] >= _GROWN_TOKENS:
            yield Fact(
                Kind.PROMPT_GROWTH,
                f"the prompt grew from {first['input_tokens']:,} to"
                f" {largest['input_tokens']:,} tokens",
                first["s"],
                largest["s"],
                (Number("factor", grown, "x"),),
                (Evidence(run_id, largest["seq"], "the longest prompt"),),
            )
    cut = [row for row in models if row["is_truncated"]]
    if cut:
        yield Fact(
            Kind.TRUNCATED,
            f"messages were left out of {len(cut):,} prompts, first in step {cut[0]['step']}",
            cut[0]["s"],
            cut[-1]["s"],
            (Number("prompts", len(cut), "calls"),),
            (Evidence(run_id, cut[0]["seq"], "the first truncated prompt"),),
        )
    had = next((at for at, row in enumerate(models) if row["has_policy"]), None)
    lost = [row for row in models[had:] if row["has_policy"] is False] if had is not None else []
    if not lost:
        return
    yield Fact(
        Kind.POLICY_LOST,
        f"the policy message was gone from the prompt from step {lost[0]['step']} on",
        lost[0]["s"],
        lost[-1]["s"],
        (Number("prompts without it", len(lost), "calls"),),
        (Evidence(run_id, lost[0]["seq"], "the first prompt without the policy message"),),
    )
    after = [
        row
        for row in tools
        if row["seq"] > lost[0]["seq"] and (row["is_write"] or not row["has_run"])
    ]
    if after:
        first = after[0]
        how = "went through" if first["outcome"] == "ok" else f"ended {first['outcome']}"
        yield Fact(
            Kind.WRITE_WITHOUT_POLICY,
            f"{first['tool']} was called without the policy in step {first['step']}; it {how}",
            first["s"],
            after[-1]["s"],
            (Number("such calls", len(after), "calls"),),
            (Evidence(run_id, first["seq"], "the first bad action after the policy was lost"),),
            str(first["tool"]),
        )


def _refusals(run_id: str, tools: list[_Row]) -> Iterator[Fact]:
    groups: dict[tuple[str, str], list[_Row]] = {}
    for row in tools:
        if not row["has_run"] and row["outcome"] != "deduplicated":
            why = str(row["error_type"] or row["outcome"])
            groups.setdefault((str(row["tool"]), why), []).append(row)
    for (tool, why), rows in groups.items():
        if len(rows) >= _REFUSALS:
            yield Fact(
                Kind.REFUSED,
                f"{tool} was refused {len(rows):,} times ({why})",
                rows[0]["s"],
                rows[-1]["s"],
                (Number("refusals", len(rows), "calls"),),
                (Evidence(run_id, rows[0]["seq"], "the first refusal"),),
                tool,
            )


def _doubts(run_id: str, tools: list[_Row]) -> Iterator[Fact]:
    rows = [row for row in tools if row["is_write"] and row["outcome"] == "timed_out"]
    if rows:
        yield Fact(
            Kind.IN_DOUBT,
            f"{len(rows):,} writes of {rows[0]['tool']} timed out: whether they were done is"
            " not known",
            rows[0]["s"],
            rows[-1]["s"],
            (Number("writes", len(rows), "calls"),),
            (Evidence(run_id, rows[0]["seq"], "the first of them"),),
            str(rows[0]["tool"]),
        )


def _end(window: Window, run: int, run_id: str) -> Iterator[Fact]:
    row = window.table.slice(run, 1).to_pylist()[0]
    at = row["ended"] if row["ended"] is not None else row["began"]
    if row["stop_reason"] != "ok":
        words = (
            "has no end: it still goes on, or its process died without a word"
            if row["stop_reason"] == "none"
            else f"ended with {row['stop_reason']}"
        )
        yield Fact(Kind.STOPS, f"the run {words}", at, at, (), (Evidence(run_id, None, ""),))
    usual = usual_of(window, run)
    if row["usd"] and row["usd"] >= _TIMES_USUAL * max(usual.usd, 0.0) > 0:
        factor = row["usd"] / usual.usd
        yield Fact(
            Kind.COST,
            f"the run cost ${row['usd']:,.2f}, {factor:,.0f} times the usual",
            row["began"],
            at,
            (Number("cost", row["usd"], "USD"), Number("usually", usual.usd, "USD")),
            (Evidence(run_id, None, ""),),
        )
    if row["success"] is False:
        yield Fact(
            Kind.FAILURES, "the run was judged a failure", at, at, (), (Evidence(run_id, None, ""),)
        )
