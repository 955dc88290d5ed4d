"""Imports a file of foreign traces into a store: all of it or nothing.

A file is read and checked to its end before the first event is written, so a
file that turns out to be broken leaves the store as it was. Large files of run
lines are read twice for that, line by line, in flat memory.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from flightlog.errors import RecorderError, TraceFormatError, UnknownNameError
from flightlog.integrations import run_lines, tau2, tau_bench
from flightlog.integrations.foreign_run import ForeignRun, Tally, write_run
from flightlog.integrations.json_input import read_head
from flightlog.recorder.recorder import Recorder
from flightlog.trace.events import Event
from flightlog.trace.messages import Message
from flightlog.trace.sink import Sink
from flightlog.trace.vocab import Origin

READERS: Final[Mapping[str, Callable[[Path], Iterable[ForeignRun]]]] = {
    tau_bench.FORMAT: tau_bench.read,
    tau2.FORMAT: tau2.read,
    run_lines.FORMAT: run_lines.RunLines,
}
"""Per format a reader; what it returns can be iterated more than once."""

FORMATS: Final = tuple(READERS)
PROGRESS_EVERY_RUNS: Final = 500


@dataclass(frozen=True, slots=True)
class Skipped:
    """Runs of the file that were not imported, and why.

    Attributes:
        where: file and line or item of the first one.
        why: the reason, the same for all of them.
        runs: how many.
    """

    where: str
    why: str
    runs: int


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import did.

    Attributes:
        runs: runs written.
        events: events written.
        unknown: per column (`model_call.latency_ms`) the rows where the source is silent.
        zeros: per column the rows where the source says 0 and that is taken as unknown.
        skipped: runs left out, by reason.
    """

    runs: int
    events: int
    unknown: Mapping[str, int]
    zeros: Mapping[str, int]
    skipped: tuple[Skipped, ...]


def import_file(
    format_name: str,
    path: str | Path,
    recorder: Sink,
    *,
    suite: str | None = None,
    variant: str | None = None,
    labels: Mapping[str, str] | None = None,
    known_run_ids: Collection[str] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> ImportReport:
    """Imports all runs of a file that the store does not have yet.

    Args:
        format_name: one of `FORMATS`.
        path: the file, plain or gzipped.
        recorder: where the events go; usually a `Recorder`.
        suite: suite of all runs, in place of the one in the file.
        variant: variant of all runs, in place of the one in the file.
        labels: labels that every run gets besides those from the file.
        known_run_ids: runs that are in the store already; None looks into the
            store of the recorder. Give it (`stored_run_ids`) for several files in a row.
        on_progress: is called with runs done and runs in the file.

    Raises:
        UnknownNameError: there is no such format.
        TraceFormatError: the file is not of that format; nothing was written.
        RecorderError: the store took no more; the message says how far it came.
    """
    if format_name not in READERS:
        raise UnknownNameError.of(
            "trace format", format_name, FORMATS, hint=f"Formats: {', '.join(FORMATS)}"
        )
    path = Path(path)
    if known_run_ids is None:
        known_run_ids = (
            stored_run_ids(recorder.store_path) if isinstance(recorder, Recorder) else ()
        )
    try:
        runs = READERS[format_name](path)
        plan = _plan(runs, path, frozenset(known_run_ids))
    except TraceFormatError as error:
        raise _with_likely_format(error, path, format_name) from error
    changes = {"suite": suite, "variant": variant}
    started = {name: value for name, value in changes.items() if value is not None}
    tally = Tally()
    sink = _BulkSink(recorder, path, tally)
    for done, run in enumerate(runs, start=1):
        if run.run_id in plan.wanted:
            plan.wanted.discard(run.run_id)
            sink.is_last_run = not plan.wanted
            write_run(_changed(run, started, labels or {}), sink, tally)
        if on_progress and (done % PROGRESS_EVERY_RUNS == 0 or done == plan.total):
            on_progress(done, plan.total)
    return ImportReport(
        tally.runs,
        tally.events,
        dict(sorted(tally.unknown.items())),
        dict(sorted(tally.zeros.items())),
        plan.skipped,
    )


def stored_run_ids(store: str | Path) -> frozenset[str]:
    """Ids of the imported runs that a store holds, sealed or not.

    Raises:
        StoreError: there is no such store, or a newer flightlog wrote it.
    """
    # Parquet is needed for this alone; an import into a fresh sink does without.
    import pyarrow.compute as pc  # noqa: PLC0415
    import pyarrow.parquet as pq  # noqa: PLC0415

    from flightlog.recorder.store import Store  # noqa: PLC0415

    snapshot = Store.open(Path(store)).snapshot()
    names = ["run_id", "origin"]
    tables = [pq.ParquetFile(file).read(columns=names) for file in snapshot.event_files]
    tables.append(snapshot.unsealed_events.select(names))
    found: set[str] = set()
    for table in tables:
        imported = table.filter(pc.equal(table["origin"], Origin.IMPORTED.value))
        found.update(imported["run_id"].to_pylist())
    return frozenset(found)


@dataclass(slots=True)
class _Plan:
    """What the first reading of a file found: which runs to write, which not and why."""

    wanted: set[str]
    total: int
    skipped: tuple[Skipped, ...]


def _plan(runs: Iterable[ForeignRun], path: Path, known: frozenset[str]) -> _Plan:
    wanted: set[str] = set()
    skipped: dict[str, Skipped] = {}
    total = 0
    for run in runs:
        total += 1
        run_id = run.run_id
        if run_id not in known and run_id not in wanted:
            wanted.add(run_id)
            continue
        why = "already imported" if run_id in known else "same id as an earlier run of the file"
        before = skipped.get(why)
        skipped[why] = Skipped(
            before.where if before else run.where, why, before.runs + 1 if before else 1
        )
    if not total:
        raise TraceFormatError(
            "the file holds no runs", where=str(path), hint="Check how it was written."
        )
    return _Plan(wanted, total, tuple(skipped.values()))


def _changed(run: ForeignRun, started: Mapping[str, str], labels: Mapping[str, str]) -> ForeignRun:
    if not started and not labels:
        return run
    return replace(run, started={**run.started, **started}, labels={**run.labels, **labels})


class _BulkSink:
    """Passes events on; an import is redone when power fails, so only its end is synced."""

    def __init__(self, sink: Sink, path: Path, tally: Tally) -> None:
        self._sink = sink
        self._path = path
        self._tally = tally
        self.is_last_run = False

    def emit(
        self, event: Event, *, messages: Sequence[Message] = (), durable: bool = False
    ) -> bool:
        if self._sink.emit(event, messages=messages, durable=durable and self.is_last_run):
            return True
        raise RecorderError(
            f"the store took no more after {self._tally.runs} whole runs",
            where=str(self._path),
            hint="Make room for the store, then import into a new one: the last run is in part "
            "in this one.",
        )


def _with_likely_format(error: TraceFormatError, path: Path, format_name: str) -> TraceFormatError:
    likely = likely_format(path)
    if likely is None or likely == format_name:
        return error
    hint = f"The file looks like {likely}; import it with that format. {error.hint}"
    return TraceFormatError(error.what, where=error.where, hint=hint)


def likely_format(path: Path) -> str | None:
    """The format that the beginning of a file looks like; None when none or unreadable."""
    try:
        head = read_head(path)
    except (OSError, TraceFormatError):
        return None
    if head.startswith(b"["):
        return tau_bench.FORMAT if b'"traj"' in head else None
    if b'"run_id"' in head and b'"events"' in head:
        return run_lines.FORMAT
    return tau2.FORMAT if b'"simulations"' in head or b'"user_info"' in head else None
