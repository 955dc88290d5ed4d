"""Runs whose process died: which they are, and the end that is written for them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from flightlog.errors import DamagedError
from flightlog.recorder.encryption.parquet import read_segment
from flightlog.recorder.layout import Layout
from flightlog.recorder.manifest import live_files, store_state
from flightlog.recorder.tables import events_table
from flightlog.trace.events import RunStopped, encode_event
from flightlog.trace.vocab import Actor, EventKind, Outcome, StopReason

CRASH_DETAIL = "The process that recorded the run ended before the run did."
_BUDGET = ("max_steps", "max_seconds", "max_tool_calls", "max_usd", "max_tokens")
_NEEDED = [
    *("kind", "run_id", "seq", "at", "elapsed_ms", "step", "actor", "outcome"),
    *("cost_usd", "input_tokens", "output_tokens", "subject", *_BUDGET),
]
SETTLED_SUBJECT: Final = "write"
"""`subject` of the change that settles a write of a run that is over."""
_BEFORE_BUDGET = pa.array([Outcome.DENIED.value, Outcome.KILL_SWITCH.value, Outcome.BUDGET.value])
_AFTER_A_RUN = pa.array([EventKind.EVALUATION.value, EventKind.GAP.value])


@dataclass(slots=True)
class _Seen:
    """What is known of one run so far."""

    seq: int
    at_us: int | None
    elapsed_ms: float | None


@dataclass(slots=True)
class _Spent:
    """What the agent of one run spent, as far as its events tell; None is unknown."""

    steps: int | None = None
    tool_calls: int = 0
    usd: float | None = 0.0
    tokens: int | None = 0

    def add(self, row: dict[str, Any]) -> None:
        """Adds what one batch of events holds."""
        if row["step_max"] is not None:
            self.steps = max(self.steps or 0, row["step_max"])
        self.tool_calls += row["is_attempt_sum"] or 0
        is_priced = self.usd is not None and not row["is_unpriced_sum"]
        self.usd = (self.usd or 0.0) + (row["cost_usd_sum"] or 0.0) if is_priced else None
        is_counted = self.tokens is not None and not row["is_uncounted_sum"]
        self.tokens = (self.tokens or 0) + (row["tokens_sum"] or 0) if is_counted else None

    def join(self, other: _Spent) -> None:
        """Adds what other events of the same run tell."""
        if other.steps is not None:
            self.steps = max(self.steps or 0, other.steps)
        self.tool_calls += other.tool_calls
        self.usd = None if self.usd is None or other.usd is None else self.usd + other.usd
        is_counted = self.tokens is not None and other.tokens is not None
        self.tokens = (self.tokens or 0) + (other.tokens or 0) if is_counted else None

    def fields(self, elapsed_ms: float | None) -> dict[str, Any]:
        """Under the names of the columns."""
        return {
            "used_steps": self.steps,
            "used_seconds": None if elapsed_ms is None else elapsed_ms / 1000,
            "used_tool_calls": self.tool_calls,
            "used_usd": None if self.usd is None else round(self.usd, 12),
            "used_tokens": self.tokens,
        }


class OpenRuns:
    """Follows the runs of one or several journals and knows which have not ended.

    A run counts only by events that happen while it runs: a judgement written later, by
    another process, does not make it a run of that process, nor does settling its writes.
    """

    def __init__(self) -> None:
        self.stopped: set[str] = set()
        self._carried: set[str] = set()
        self._seen: dict[str, _Seen] = {}
        self._budgets: dict[str, dict[str, Any]] = {}
        self._spent: dict[str, _Spent] = {}

    def carry(self, run_ids: Iterable[str]) -> None:
        """Takes note of runs that went on when their writer began a journal."""
        self._carried.update(run_ids)

    def add(self, events: pa.Table) -> None:
        """Takes note of some events, in recorded order."""
        if not events.num_rows:
            return
        events = events.select(_NEEDED)  # texts are not copied by the filters below
        kind = events.column("kind")
        self.stopped.update(_ids(events, pc.equal(kind, EventKind.RUN_STOPPED.value)))
        started = events.filter(pc.equal(kind, EventKind.RUN_STARTED.value))
        for row in started.select(["run_id", *_BUDGET]).to_pylist():
            self._budgets[row.pop("run_id")] = row
        is_settling = pc.equal(events.column("subject"), SETTLED_SUBJECT)
        is_settling = pc.fill_null(is_settling, fill_value=False)
        is_after = pc.or_(pc.is_in(kind, value_set=_AFTER_A_RUN), is_settling)
        # A change of the kill switch belongs to no run.
        is_of_a_run = pc.not_equal(events.column("run_id"), "")
        during = events.filter(pc.and_not(is_of_a_run, is_after))
        self._add_last(during)
        self._add_spent(during)
        for run_id in self.stopped:
            self._seen.pop(run_id, None)
            self._spent.pop(run_id, None)

    def _add_last(self, events: pa.Table) -> None:
        rows = events.select(["run_id", "seq", "elapsed_ms"])
        rows = rows.append_column("at_us", events.column("at").cast(pa.int64()))
        last = rows.group_by("run_id", use_threads=False).aggregate(
            [("seq", "max"), ("at_us", "last"), ("elapsed_ms", "last")]
        )
        for row in last.to_pylist():
            before = self._seen.get(row["run_id"])
            at_us, elapsed_ms, seq = row["at_us_last"], row["elapsed_ms_last"], row["seq_max"]
            if before is not None:
                at_us = before.at_us if at_us is None else at_us
                elapsed_ms = before.elapsed_ms if elapsed_ms is None else elapsed_ms
                seq = max(before.seq, -1 if seq is None else seq)
            self._seen[row["run_id"]] = _Seen(-1 if seq is None else seq, at_us, elapsed_ms)

    def _add_spent(self, events: pa.Table) -> None:
        """Sums over the calls of the agent; a refusal before the budget is no attempt."""
        calls = events.filter(pc.equal(events.column("actor"), Actor.AGENT.value))
        kind, outcome = calls.column("kind"), calls.column("outcome")
        is_tool = pc.equal(kind, EventKind.TOOL_CALL.value)
        is_answer = pc.and_(
            pc.equal(kind, EventKind.MODEL_CALL.value), pc.equal(outcome, Outcome.OK.value)
        )
        tokens = pc.add(calls.column("input_tokens"), calls.column("output_tokens"))
        is_lacking = pc.is_null(calls.column("cost_usd"))
        facts = pa.table(
            {
                "run_id": calls.column("run_id"),
                "step": calls.column("step"),
                "cost_usd": calls.column("cost_usd"),
                "tokens": tokens,
                "is_attempt": pc.and_not(is_tool, pc.is_in(outcome, value_set=_BEFORE_BUDGET)),
                "is_unpriced": pc.and_(is_answer, is_lacking),
                "is_uncounted": pc.and_(is_answer, pc.is_null(tokens)),
            }
        )
        sums = ["cost_usd", "tokens", "is_attempt", "is_unpriced", "is_uncounted"]
        found = facts.group_by("run_id", use_threads=False).aggregate(
            [("step", "max"), *((name, "sum") for name in sums)]
        )
        for row in found.to_pylist():
            self._spent.setdefault(row["run_id"], _Spent()).add(row)

    @property
    def unfinished(self) -> set[str]:
        """Runs with events but without an end."""
        return (set(self._seen) | self._carried) - self.stopped

    def recall(
        self, layout: Layout, run_ids: Iterable[str], *, except_journal: str | None = None
    ) -> None:
        """Adds what sealed segments tell of runs that began in another journal.

        Args:
            layout: the store.
            run_ids: runs that have not ended.
            except_journal: the journal that is sealed just now; an interrupted sealing may
                have left its segment, in which the runs have ended.
        """
        # Not only those that the journal says it goes on with: its header may be damaged.
        wanted = sorted(run_ids)
        earlier = OpenRuns()
        for rows in _rows_of(layout, wanted, _NEEDED, except_journal):
            earlier.add(rows)
        for run_id in wanted:
            before, spent = earlier._seen.get(run_id), earlier._spent.get(run_id)
            self._budgets.setdefault(run_id, earlier._budgets.get(run_id, {}))
            if before is not None:
                now = self._seen.get(run_id, before)
                self._seen[run_id] = _Seen(
                    max(now.seq, before.seq),
                    before.at_us if now.at_us is None else now.at_us,
                    before.elapsed_ms if now.elapsed_ms is None else now.elapsed_ms,
                )
            if spent is not None:
                self._spent.setdefault(run_id, _Spent()).join(spent)

    def crashed_ends(self, run_ids: Set[str]) -> pa.Table:
        """The `run_stopped` rows of runs that ended with their process, in order of run id.

        A run of which nothing else is left, as after a loss of power, gets none.
        """
        payloads = []
        for run_id in sorted(self._seen.keys() & run_ids):
            seen = self._seen[run_id]
            payloads.append(
                encode_event(
                    RunStopped(
                        run_id=run_id,
                        seq=seen.seq + 1,
                        at=seen.at_us,
                        elapsed_ms=seen.elapsed_ms,
                        status=StopReason.CRASHED.status,
                        stop_reason=StopReason.CRASHED,
                        stop_detail=CRASH_DETAIL,
                        duration_ms=seen.elapsed_ms,
                        **self._budgets.get(run_id, {}),
                        **self._spent.get(run_id, _Spent()).fields(seen.elapsed_ms),
                    )
                )
            )
        return events_table(payloads)[0]


def stopped_in_segments(
    layout: Layout,
    run_ids: set[str],
    *,
    except_journal: str | None = None,
) -> set[str]:
    """Those of the runs whose end is in a sealed segment already.

    A run that goes on in a forked child, or in another process, has its events
    in several journals; only the last one without an end tells of a crash.
    """
    found: set[str] = set()
    for rows in _rows_of(layout, sorted(run_ids), ["run_id", "kind"], except_journal):
        found |= _ids(rows, pc.equal(rows.column("kind"), EventKind.RUN_STOPPED.value))
    return found


def _rows_of(
    layout: Layout, run_ids: list[str], names: list[str], except_journal: str | None = None
) -> Iterator[pa.Table]:
    """The rows of some runs, segment by segment."""
    for path in live_files(layout, layout.events, store_state(layout)) if run_ids else ():
        if path.stem == except_journal:
            continue
        try:
            rows = read_segment(layout, path, columns=names, filters=[("run_id", "in", run_ids)])
        except DamagedError:
            continue  # a damaged or foreign file is the finding of `verify` and `snapshot`
        if rows.num_columns == len(names):
            yield rows


def _ids(events: pa.Table, mask: Any) -> set[str]:
    return set(events.filter(mask).column("run_id").to_pylist())
