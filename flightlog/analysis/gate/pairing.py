"""Pairs the runs of two sides by task, and says what could not be paired.

A task is its suite, its id and the digest of its content: equal ids in
different suites are different tasks, and a task whose text changed is not
compared with its old self. Runs without a digest pair by suite and id, as
long as the other runs of that task agree on one digest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flightlog.analysis.db import Traces
from flightlog.analysis.gate.custom import custom_facts
from flightlog.analysis.gate.facts import (
    Chosen,
    bad_stops,
    bools,
    coded,
    equals,
    series_of,
    stop_counts,
    tool_counts,
    values_of,
)
from flightlog.analysis.gate.metrics import Metric
from flightlog.analysis.gate.selection import Side
from flightlog.analysis.gate.verdict import VOID, LostTask, SkippedRun
from flightlog.analysis.sql_files import sql_text
from flightlog.analysis.stats.sample import UNKNOWN, Bools, Ints, Sample
from flightlog.errors import NothingToCompareError, UsageError

RUNNING = "running"
SEED_BYTES = 6


@dataclass(frozen=True, eq=False)
class Pairs:
    """The compared runs, and what was left out.

    Attributes:
        sample: one row per compared run.
        chosen: the same runs, for joining other tables to them.
        run_ids: run of each row.
        tasks: suite and task id by task number of the sample.
        lost_tasks: tasks (or versions of one) without runs on both sides.
        skipped_runs: void replays and runs that still go on.
        degraded: compared replays that are to be trusted less: run, side, and why.
    """

    sample: Sample
    chosen: Chosen
    run_ids: pa.Array
    tasks: tuple[tuple[str, str], ...]
    lost_tasks: tuple[LostTask, ...]
    skipped_runs: tuple[SkippedRun, ...]
    degraded: tuple[tuple[str, str, str], ...] = ()


def pair(
    traces: Traces, baseline: Side, candidate: Side, *, custom: Sequence[Metric] = ()
) -> Pairs:
    """Pairs the runs of the two sides.

    Args:
        traces: open stores.
        baseline: which runs are on it.
        candidate: which runs are on it.
        custom: metrics of your own, to be computed too.

    Raises:
        UnknownNameError: a side asks for a value that no run carries.
        UsageError: a run is on both sides, or in several stores.
        NothingToCompareError: no task has runs on both sides.
        ConfigError: a metric of your own that is no expression.
    """
    table = _selected(traces, baseline, candidate)
    arms = bools(table, "is_candidate")
    keys = _TaskKeys(table)
    is_void = bools(table, "is_void")
    is_running = equals(table, "status", RUNNING)
    eligible = ~is_void & ~is_running & keys.is_clear
    base = np.bincount(keys.of_run[eligible & ~arms], minlength=keys.count)
    cand = np.bincount(keys.of_run[eligible & arms], minlength=keys.count)
    paired = (base > 0) & (cand > 0)
    if not paired.any():
        raise _nothing(keys, arms, (baseline, candidate), is_void, is_running)
    rows = np.flatnonzero(eligible & paired[keys.of_run])
    compared, task = np.unique(keys.of_run[rows], return_inverse=True)
    run_ids = table.column("run_id").combine_chunks()
    chosen = Chosen(traces, table, rows)
    seed = _seed([keys.names[k] for k in compared], base[compared], cand[compared])
    sample = _sample(chosen, task.astype(np.int64), arms[rows], custom, seed=seed)
    return Pairs(
        sample=sample,
        chosen=chosen,
        run_ids=run_ids.take(pa.array(rows)),
        tasks=tuple(keys.names[k][:2] for k in compared),
        lost_tasks=_lost(keys, arms, paired),
        skipped_runs=_skipped(keys, arms, run_ids, is_void, is_running),
        degraded=_degraded(table, rows, arms),
    )


def one_side(traces: Traces, side: Side, *, custom: Sequence[Metric] = ()) -> Sample:
    """The finished, valid runs of one side, all as baseline.

    Args:
        traces: open stores.
        side: which runs.
        custom: metrics of your own, to be computed too.

    Raises:
        UnknownNameError: the side asks for a value that no run carries.
        NothingToCompareError: no run of it has a task, is finished, and is no void replay.
    """
    text, values = side.condition("b")
    table = _table(traces, text, "false", values)
    if not len(table):
        side.check_known(traces)
    keys = _TaskKeys(table) if len(table) else None
    eligible = np.zeros(len(table), np.bool_)
    if keys is not None:
        eligible = ~bools(table, "is_void") & ~equals(table, "status", RUNNING) & keys.is_clear
    if keys is None or not eligible.any():
        raise NothingToCompareError(
            f"no finished run of a task is {side.text}",
            hint="list what there is with: flightlog runs",
        )
    rows = np.flatnonzero(eligible)
    compared, task = np.unique(keys.of_run[rows], return_inverse=True)
    trials = np.bincount(task)
    seed = _seed([keys.names[k] for k in compared], trials, 0 * trials)
    arms = np.zeros(len(rows), np.bool_)
    return _sample(Chosen(traces, table, rows), task.astype(np.int64), arms, custom, seed=seed)


def _sample(
    chosen: Chosen, task: Ints, is_candidate: Bools, custom: Sequence[Metric], *, seed: int
) -> Sample:
    stops = stop_counts(chosen)
    is_bad, reasons = bad_stops(stops)
    values, series = values_of(chosen) | {"stop_reason": is_bad}, series_of(chosen)
    own_values, own_series = custom_facts(chosen, custom)
    return Sample(
        task=task,
        is_candidate=is_candidate,
        values=values | own_values,
        session=_sessions(chosen.table, chosen.rows),
        series=series | own_series,
        counts={
            "tool_mix": tool_counts(chosen),
            "stop_reason": reasons,
            "stop_mix": stops,
        },
        seed=seed,
    )


def _table(traces: Traces, baseline: str, candidate: str, values: Mapping[str, Any]) -> pa.Table:
    """The runs that meet one of two conditions."""
    query = sql_text("gate", "runs.sql")
    body = query[query.index("WITH") :]
    body = body.replace("$BASELINE", f"({baseline})").replace("$CANDIDATE", f"({candidate})")
    return traces.table(body, values)


def _selected(traces: Traces, baseline: Side, candidate: Side) -> pa.Table:
    base_text, base_values = baseline.condition("b")
    cand_text, cand_values = candidate.condition("c")
    table = _table(traces, base_text, cand_text, {**base_values, **cand_values})
    on_baseline, on_candidate = bools(table, "is_baseline"), bools(table, "is_candidate")
    for side, found in ((baseline, on_baseline), (candidate, on_candidate)):
        if not found.any():
            side.check_known(traces)
            raise NothingToCompareError(
                f"no run is {side.text}", hint="list what there is with: flightlog runs"
            )
    both = on_baseline & on_candidate
    if both.any():
        run_id = table.column("run_id")[int(np.flatnonzero(both)[0])].as_py()
        raise UsageError(
            f"{int(both.sum())} runs are on both sides, such as {run_id}",
            where=f"{baseline.text!r} against {candidate.text!r}",
            hint="narrow a side: FIELD=VALUE parts joined by commas",
        )
    ids = table.column("run_id")
    if len(traces.stores) > 1 and pc.count_distinct(ids).as_py() < len(ids):
        raise UsageError("a run is in more than one of the stores", hint="give each store once")
    return table


class _TaskKeys:
    """The task of every selected run, as a number and as a name."""

    def __init__(self, table: pa.Table) -> None:
        suite, suites = coded(table, "suite")
        task, tasks = coded(table, "task_id")
        digest, digests = coded(table, "task_digest")
        _, pair_of = np.unique(np.column_stack([suite, task]), axis=0, return_inverse=True)
        pair_of = pair_of.ravel()
        known = digest != UNKNOWN
        versions = np.unique(np.column_stack([pair_of, digest])[known], axis=0)
        version_count = np.bincount(versions[:, 0], minlength=pair_of.max() + 1)
        only_version = np.full(version_count.size, UNKNOWN)
        only_version[versions[:, 0]] = versions[:, 1]
        fits = ~known & (version_count[pair_of] == 1)
        filled = np.where(fits, only_version[pair_of], digest)
        rows = np.column_stack([suite, task, filled])
        keys, self.of_run = np.unique(rows, axis=0, return_inverse=True)
        self.of_run = self.of_run.ravel()
        self.count = len(keys)
        self.names = [
            (suites[s], tasks[t], "" if d == UNKNOWN else digests[d]) for s, t, d in keys.tolist()
        ]
        has_task = np.array([bool(name[1]) for name in self.names])
        self.is_clear: Bools = has_task[self.of_run] & ~(~known & (version_count[pair_of] > 1))


def _sessions(table: pa.Table, rows: Ints) -> Ints | None:
    codes, _ = coded(table, "session_id")
    return codes[rows] if (codes[rows] != UNKNOWN).any() else None


def _seed(names: Sequence[tuple[str, str, str]], base: Ints, cand: Ints) -> int:
    """First 48 bits of a hash of the sorted list of tasks and arms."""
    counted = sorted((*name, int(b), int(c)) for name, b, c in zip(names, base, cand, strict=True))
    text = json.dumps(counted, ensure_ascii=True, separators=(",", ":"))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:SEED_BYTES], "big")


def _lost(keys: _TaskKeys, arms: Bools, paired: Bools) -> tuple[LostTask, ...]:
    """Tasks without runs on both sides, each with why."""
    base = np.bincount(keys.of_run[~arms], minlength=keys.count)
    cand = np.bincount(keys.of_run[arms], minlength=keys.count)
    unclear = np.bincount(keys.of_run[~keys.is_clear], minlength=keys.count)
    sides: dict[tuple[str, str], set[str]] = {}
    for key, name in enumerate(keys.names):
        found = sides.setdefault(name[:2], set())
        found.update(side for side, n in (("baseline", base[key]), ("candidate", cand[key])) if n)
    lost = []
    for key in np.flatnonzero(~paired).tolist():
        name, here = keys.names[key], (base[key] > 0, cand[key] > 0)
        if not name[1]:
            why = "runs without a task"
        elif unclear[key]:
            why = "no task digest, while the task has several versions"
        elif all(here):
            why = "no finished, valid run on one side"
        elif len(sides[name[:2]]) > 1:
            why = "task content differs between the sides"
        else:
            why = "only in the candidate" if here[1] else "only in the baseline"
        lost.append(LostTask(name[0], name[1], why, int(base[key] + cand[key])))
    return tuple(sorted(lost, key=lambda t: (t.why, t.suite, t.task_id)))


def _degraded(table: pa.Table, rows: Ints, arms: Bools) -> tuple[tuple[str, str, str], ...]:
    chosen = table.select(["run_id", "degraded"]).take(pa.array(rows))
    found = zip(*(chosen.column(name).to_pylist() for name in chosen.column_names), strict=True)
    return tuple(
        (run_id, "candidate" if arm else "baseline", why)
        for (run_id, why), arm in zip(found, arms[rows].tolist(), strict=True)
        if why is not None
    )


def _skipped(
    keys: _TaskKeys, arms: Bools, run_ids: pa.Array, is_void: Bools, is_running: Bools
) -> tuple[SkippedRun, ...]:
    skipped = []
    for row in np.flatnonzero(is_void | is_running).tolist():
        suite, task_id, _ = keys.names[keys.of_run[row]]
        skipped.append(
            SkippedRun(
                run_id=run_ids[row].as_py(),
                side="candidate" if arms[row] else "baseline",
                suite=suite,
                task_id=task_id,
                why="still running" if is_running[row] else VOID,
            )
        )
    return tuple(skipped)


def _nothing(
    keys: _TaskKeys, arms: Bools, sides: tuple[Side, Side], is_void: Bools, is_running: Bools
) -> NothingToCompareError:
    held = []
    hint = "Sides pair by suite, task id and task content; run the same tasks on both."
    for side, rows in zip(sides, (~arms, arms), strict=True):
        names = sorted({keys.names[k][:2] for k in np.unique(keys.of_run[rows])})
        shown = ", ".join(
            "/".join(part for part in name if part) or "no task" for name in names[:3]
        )
        more = ", ..." if len(names) > 3 else ""
        void, running = int((rows & is_void).sum()), int((rows & is_running).sum())
        text = f"{side.text} has {int(rows.sum())} runs of {len(names)} tasks ({shown}{more})"
        text += f", {void} of them void replays" if void else ""
        text += f", {running} still running" if running else ""
        held.append(text)
        if void == int(rows.sum()) > 0:
            hint = (
                "A void replay missed a recorded call or was cut off: flightlog replay says which "
                "and why."
            )
    return NothingToCompareError(
        f"no task has finished runs on both sides: {'; '.join(held)}",
        hint=hint,
    )
