"""Holds the contracts that two sides were judged by against each other, and against the folder."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from flightlog.analysis.db import Traces
from flightlog.analysis.gate.selection import Side
from flightlog.analysis.sql_files import sql_text
from flightlog.golden.life.contracts import contract_changes, contract_text
from flightlog.golden.recording_files import load_recording, recording_files
from flightlog.golden.task import load_task, task_files

MAX_NAMED: Final = 5


@dataclass(frozen=True)
class JudgedBy:
    """Which contracts the replayed runs of two sides were judged by.

    Attributes:
        baseline, candidate: contracts by golden task, as `contract_text` gives them; a task
            whose contract changed between the runs of one side has several, and one whose runs
            do not keep it none.
    """

    baseline: Mapping[str, Sequence[str]]
    candidate: Mapping[str, Sequence[str]]


def judged_by(traces: Traces, baseline: Side, candidate: Side) -> JudgedBy:
    """Reads the contracts of both sides."""
    base_text, base_values = baseline.condition("b")
    cand_text, cand_values = candidate.condition("c")
    query = sql_text("gate", "contracts.sql")
    body = query[query.index("WITH") :]
    body = body.replace("$BASELINE", f"({base_text})").replace("$CANDIDATE", f"({cand_text})")
    found: dict[bool, defaultdict[str, list[str]]] = {
        is_candidate: defaultdict(list) for is_candidate in (False, True)
    }
    for row in traces.table(body, {**base_values, **cand_values}).to_pylist():
        contracts = found[row["is_candidate"]][row["golden"]]
        if row["contract"] is not None:
            contracts.append(row["contract"])
    return JudgedBy(found[False], found[True])


def contract_notes(judged: JudgedBy, goldens: Path | None = None) -> tuple[list[str], list[str]]:
    """What changed between the contracts, one sentence per golden task.

    Args:
        judged: of both sides.
        goldens: also holds the candidate's against this folder.

    Returns:
        Changes that are no weakening, and weakenings.
    """
    found = [*_between_sides(judged), *(_against_folder(judged, goldens) if goldens else ())]
    notes = [text for text, is_weaker in found if not is_weaker]
    return notes, [text for text, is_weaker in found if is_weaker]


def _between_sides(judged: JudgedBy) -> Iterator[tuple[str, bool]]:
    for golden, candidate in judged.candidate.items():
        if len(candidate) > 1:
            yield f"golden {golden}: the candidate's runs were judged by different contracts", False
        baseline = judged.baseline.get(golden, ())
        if candidate and baseline:
            told, is_weaker = _told(baseline[-1], candidate[-1])
            if told:
                yield f"golden {golden}: since the baseline its contract has {told}", is_weaker


def _against_folder(judged: JudgedBy, goldens: Path) -> Iterator[tuple[str, bool]]:
    now = {
        path.parent.name: contract_text(
            load_task(path), [load_recording(file) for file in recording_files(path.parent)]
        )
        for path in task_files(goldens)
        if path.parent.name in judged.candidate
    }
    for golden, candidate in judged.candidate.items():
        if candidate and golden in now:
            told, is_weaker = _told(candidate[-1], now[golden])
            if told:
                what = f"golden {golden}: since the candidate's runs its contract has {told}"
                yield what, is_weaker


def _told(before: str, after: str) -> tuple[str, bool]:
    """What changed in words, and whether it lets more pass; empty where nothing did."""
    changes = contract_changes(before, after)
    if not changes:
        return "", False
    weaker = [one for one in changes if one.way.is_weaker]
    head = "become weaker" if weaker else "changed"
    named = "; ".join(map(str, changes[:MAX_NAMED]))
    more = len(changes) - MAX_NAMED
    return f"{head}: {named}" + (f"; and {more} more" if more > 0 else ""), bool(weaker)
