"""From the inbox into the journal: the runs of traces whose time has come, each event once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from flightlog.errors import RecorderError
from flightlog.integrations.importers.foreign_run import (
    ForeignRun,
    Tally,
    steps_in,
    write_late,
    write_run,
)
from flightlog.integrations.importers.known import recorded_events, recorded_seqs
from flightlog.integrations.importers.native_run import NativeRun, write_native
from flightlog.integrations.otlp.inbox import Done, Inbox, Waiting, Written
from flightlog.integrations.otlp.runs import Trace, runs_of
from flightlog.recorder.recorder import Recorder
from flightlog.runtime.prices import PriceTable
from flightlog.trace.events import Event
from flightlog.trace.messages import Message

_TRACES_AT_ONCE: Final = 100


@dataclass(slots=True)
class Recorded:
    """What was recorded so far.

    Attributes:
        tally: runs, events, and what their sources do not say.
        spans: spans that were taken out of the inbox.
        merged: those of them that told of a call that another span tells of too.
        others: those that are neither a run nor a call.
        late: those that came when their run was recorded already.
    """

    tally: Tally = field(default_factory=Tally)
    spans: int = 0
    merged: int = 0
    others: int = 0
    late: int = 0


class Recording:
    """Records what waits in an inbox.

    Args:
        inbox: an object of this thread.
        recorder: of the inbox's store.
        prices: for calls whose span tells no cost; None leaves them unpriced.
        changes: what the caller sets in place of what a run says.
    """

    def __init__(
        self,
        inbox: Inbox,
        recorder: Recorder,
        *,
        prices: PriceTable | None = None,
        changes: Callable[[ForeignRun], ForeignRun] = lambda run: run,
    ) -> None:
        self._inbox = inbox
        self._recorder = recorder
        self._prices = prices
        self._changes = changes
        self._doubtful: set[str] = set(inbox.unfinished())
        self.recorded = Recorded()

    def go_on(self) -> None:
        """Records the lots that were begun when the last process ended."""
        self.record(self._inbox.unfinished())

    def record(self, trace_ids: Sequence[str]) -> None:
        """Records what waits of these traces.

        Raises:
            RecorderError: the store took no more; the rest is recorded later.
            StoreError: the inbox cannot be used.
        """
        for first in range(0, len(trace_ids), _TRACES_AT_ONCE):
            self._record(trace_ids[first : first + _TRACES_AT_ONCE])

    def _record(self, trace_ids: Sequence[str]) -> None:
        """A few traces, with one sync of the journal and one of the inbox."""
        done: list[tuple[Done, Trace]] = []
        for waiting in self._inbox.take(trace_ids):
            trace = runs_of(
                waiting.spans, prices=self._prices, owners=waiting.owners, is_strict=False
            )
            written = self._write_all(waiting, trace)
            done.append((Done(waiting, trace.owners, written), trace))
        if not self._recorder.sync():
            raise _took_no_more(self._recorder.store_path)
        self._inbox.done(lot for lot, _ in done)
        self._doubtful.difference_update(trace_ids)
        for lot, trace in done:
            self._count(lot.waiting, trace)

    def _write_all(self, waiting: Waiting, trace: Trace) -> dict[str, Written]:
        before: Mapping[str, int] = {}
        if waiting.trace_id in self._doubtful:
            ids = {run.run_id for run in trace.runs.values()}
            before = recorded_events(self._recorder.store_path, ids)
        self._doubtful.add(waiting.trace_id)
        came = {span.span_id for span in waiting.spans}
        written = {
            owner: self._write(
                self._changes(run), waiting.runs.get(owner), before, ends=owner in came
            )
            for owner, run in trace.runs.items()
        }
        if trace.native:
            self._write_native(trace.native)
        return written

    def _write(
        self,
        run: ForeignRun,
        before: Written | None,
        recorded: Mapping[str, int],
        *,
        ends: bool,
    ) -> Written:
        sink = _Resuming(self._recorder, recorded.get(run.run_id, 0))
        tally = self.recorded.tally
        if before is None:
            write_run(run, sink, tally)
            return Written(sink.events, steps_in(run))
        sink.events = before.events
        write_late(run, sink, tally, first_seq=before.events, steps=before.steps, ends=ends)
        return Written(sink.events, before.steps + steps_in(run))

    def _write_native(self, runs: Sequence[NativeRun]) -> None:
        known = recorded_seqs(self._recorder.store_path, {run.run_id for run in runs})
        for run in runs:
            before: Collection[int] = known.get(run.run_id, ())
            tally = self.recorded.tally
            tally.events += write_native(run, _Resuming(self._recorder, 0), without=before)
            tally.runs += not before

    def _count(self, waiting: Waiting, trace: Trace) -> None:
        self.recorded.spans += len(waiting.spans)
        self.recorded.merged += trace.merged
        self.recorded.others += trace.others
        if waiting.runs:
            self.recorded.late += len(waiting.spans)


class _Resuming:
    """Passes events on but for those of the run that are recorded already.

    Attributes:
        events: events of the run by now.
    """

    def __init__(self, recorder: Recorder, recorded: int) -> None:
        self._recorder = recorder
        self._recorded = recorded
        self.events = 0

    def emit(
        self, event: Event, *, messages: Sequence[Message] = (), durable: bool = False
    ) -> bool:
        self.events += 1
        if event.seq < self._recorded:
            return True
        # All of a lot is synced at its end.
        if self._recorder.emit(event, messages=messages):
            return True
        raise _took_no_more(self._recorder.store_path)


def _took_no_more(store: Path) -> RecorderError:
    return RecorderError(
        "the store took no more",
        where=str(store),
        hint="Make room: what waits is recorded then, and nothing of it is lost.",
    )
