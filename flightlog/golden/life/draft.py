"""Drafts the contract of a golden task out of its recordings, each part with its evidence.

What a recording proves is put in force: its writes, its way to stop, its limits. What it only
suggests (tools that nobody asked for, facts of the answer) is written beside it as a comment,
since one recording of a task says little of what other good runs may do; `apply` puts it in
force too.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from flightlog.analysis.wording import counted
from flightlog.golden.life.comments import Keys
from flightlog.golden.task import GoldenTask
from flightlog.replay.cassette import Recording
from flightlog.runtime.budget import Budget
from flightlog.runtime.tools import Tool
from flightlog.trace.events import ToolCall
from flightlog.trace.vocab import Actor, Effect, Outcome

MAX_FACTS: Final = 5
MAX_NAMED: Final = 3
HEADROOM: Final = 2
"""A budget that no recording had is suggested at this many times what was used at most."""
_FACT: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.:/-]*[A-Za-z0-9])?")
_MIN_FACT_CHARS: Final = 3
_LIMITS: Final = tuple(Budget().limits())
_NOT_IN_FORCE: Final = "drafted, not in force:"


@dataclass(frozen=True)
class Draft:
    """A contract and what it was drafted from.

    Attributes:
        golden: the contract.
        evidence: comment lines by the key that they stand before.
    """

    golden: GoldenTask
    evidence: Mapping[Keys, tuple[str, ...]]


def draft(
    golden: GoldenTask,
    recordings: Sequence[Recording],
    tools: Mapping[str, Tool],
    *,
    apply: bool = False,
) -> Draft:
    """Fills in what recordings prove and suggest of a contract.

    Args:
        golden: the contract with task, tools, stop reasons and recorded limits.
        recordings: the runs that it is made of.
        tools: the declarations.
        apply: puts what is only suggested in force too.
    """
    runs = _runs(recordings)
    unused = _unused_writes(golden, recordings, tools)
    facts = _facts(recordings, tools)
    limits = _suggested_limits(golden, recordings)
    evidence: dict[Keys, tuple[str, ...]] = {
        ("tools",): (f"offered to, or called by, the agent in {runs}",),
        ("judge", "writes"): (_writes_text(recordings, tools),),
        ("judge", "stop_reasons"): (_stops_text(recordings),),
    }
    for name in golden.budgets:
        evidence["budgets", name] = (_used_text(name, recordings),)
    suggestions = []
    why_tools = f"offered, declared as writes, asked for in none of {runs}"
    why_facts = f"in what writes gave or were given, and in the answer of {runs}"
    if unused:
        suggestions.append((f"forbidden_tools: {json.dumps(unused)}", why_tools))
    if facts:
        suggestions.append((f"answer_contains: {json.dumps(facts)}", why_facts))
    for name, limit in limits.items():
        why = f"{_used_text(name, recordings)}; {HEADROOM} times that"
        suggestions.append((f"budgets.{name}: {limit:g}", why))
    if not apply:
        lines = tuple(
            line for what, why in suggestions for line in (f"{_NOT_IN_FORCE} {what}", f"  {why}")
        )
        if lines:
            evidence["judge",] = lines
        return Draft(golden, evidence)
    if unused:
        evidence["judge", "forbidden_tools"] = (why_tools,)
    if facts:
        evidence["judge", "answer_contains"] = (why_facts,)
    for name in limits:
        evidence["budgets", name] = (f"{_used_text(name, recordings)}; {HEADROOM} times that",)
    judge = replace(golden.judge, forbidden_tools=tuple(unused), answer_contains=tuple(facts))
    return Draft(replace(golden, judge=judge, budgets={**golden.budgets, **limits}), evidence)


def _runs(recordings: Sequence[Recording]) -> str:
    ids = [recording.run_id for recording in recordings]
    named = ", ".join(ids[:MAX_NAMED])
    return named if len(ids) <= MAX_NAMED else f"{named} and {len(ids) - MAX_NAMED} more runs"


def _writes_text(recordings: Sequence[Recording], tools: Mapping[str, Tool]) -> str:
    texts = []
    for recording in recordings[:MAX_NAMED]:
        done = Counter(
            call.tool_name
            for call in recording.tool_calls
            if call.actor is Actor.AGENT and call.outcome is Outcome.OK and _is_write(call, tools)
        )
        named = ", ".join(f"{name} x{count}" for name, count in sorted(done.items()))
        texts.append(f"{recording.run_id}: {named or 'no write'}")
    more = len(recordings) - MAX_NAMED
    return f"successful writes of {'; '.join(texts)}" + (f"; {more} more runs" if more > 0 else "")


def _is_write(call: ToolCall, tools: Mapping[str, Tool]) -> bool:
    tool = tools.get(call.tool_name)
    return (tool.effect if tool else Effect.UNKNOWN).is_write


def _stops_text(recordings: Sequence[Recording]) -> str:
    reasons = Counter(
        str(one.stopped.stop_reason or "ok, since its source does not say")
        for one in recordings
        if one.stopped
    )
    return ", ".join(f"{name} in {counted(n, 'run')}" for name, n in sorted(reasons.items()))


def _used(name: str, recordings: Sequence[Recording]) -> float | None:
    """The most that a recording used of a budget; None where one does not say."""
    column = name.replace("max_", "used_")
    used = [getattr(one.stopped, column, None) for one in recordings if one.stopped]
    known = [amount for amount in used if amount is not None]
    return max(known) if known and len(known) == len(recordings) else None


def _used_text(name: str, recordings: Sequence[Recording]) -> str:
    used = _used(name, recordings)
    what = "an unknown amount" if used is None else f"at most {used:g}"
    return f"{_runs(recordings)} used {what}"


def _unused_writes(
    golden: GoldenTask, recordings: Sequence[Recording], tools: Mapping[str, Tool]
) -> list[str]:
    asked = {call.tool_name for one in recordings for call in one.tool_calls}
    return [
        name
        for name in golden.tools
        if name in tools and tools[name].effect is Effect.WRITE and name not in asked
    ]


def _facts(recordings: Sequence[Recording], tools: Mapping[str, Tool]) -> list[str]:
    """Numbers and ids that stand in what the writes of every run did and in its answer."""
    common: set[str] | None = None
    for recording in recordings:
        answer = (recording.stopped.answer if recording.stopped else None) or ""
        told = {text for text in _FACT.findall(answer) if _is_fact(text)}
        done = {
            text
            for call in recording.tool_calls
            if call.outcome is Outcome.OK and _is_write(call, tools)
            for source in (call.args, recording.result_of(call))
            for text in _scalars(source)
        }
        common = (told & done) if common is None else common & told & done
    return sorted(common or ())[:MAX_FACTS]


def _is_fact(text: str) -> bool:
    return len(text) >= _MIN_FACT_CHARS and any(char.isdigit() for char in text)


def _scalars(text: str | None) -> Iterator[str]:
    try:
        value = json.loads(text or "null")
    except (ValueError, RecursionError):
        yield from _FACT.findall(text or "")
        return
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one
        elif isinstance(one, str):
            yield one
        elif isinstance(one, (int, float)) and not isinstance(one, bool):
            yield f"{one}"


def _suggested_limits(golden: GoldenTask, recordings: Sequence[Recording]) -> dict[str, float]:
    found: dict[str, float] = {}
    for name in _LIMITS:
        used = _used(name, recordings)
        if name not in golden.budgets and used and name != "max_seconds":
            found[name] = used * HEADROOM
    return found
