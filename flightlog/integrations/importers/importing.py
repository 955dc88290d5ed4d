"""Imports files of foreign traces into a store: all of them or nothing.

A file is read and checked to its end before the first event is written, so a
file that turns out to be broken leaves the store as it was. Files of run lines
are read twice for that, line by line, in flat memory.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Final, TypeAlias

import msgspec

from flightlog.errors import RecorderError, TraceFormatError, UnknownNameError
from flightlog.integrations.importers.foreign_run import ForeignRun, Tally, write_run
from flightlog.integrations.importers.json_input import read_head
from flightlog.integrations.importers.known import recorded_events, stored_run_ids
from flightlog.integrations.importers.native_run import NativeRun, write_native
from flightlog.integrations.importers.pricing import priced_run
from flightlog.recorder.recorder import Recorder
from flightlog.redact.policy import Redaction
from flightlog.runtime.prices import PriceTable
from flightlog.trace.events import AnyEvent, Event, Label, RunStarted
from flightlog.trace.messages import Message
from flightlog.trace.sink import Sink

_PLACE: Final = "flightlog.integrations."
READERS: Final[Mapping[str, str]] = {
    "otlp": "otlp.files:OtlpFile",
    "tau-bench": "importers.tau_bench:read",
    "tau2": "importers.tau2:read",
    "run-lines": "importers.run_lines:RunLines",
    "atif": "importers.atif:read",
    "swe-agent": "importers.swe_agent:read",
    "agentdojo": "importers.agentdojo:read",
    "inspect": "importers.inspect_log:InspectLog",
    "langfuse": "importers.span_exports:read_langfuse",
    "phoenix": "importers.span_exports:read_phoenix",
    "mlflow": "importers.span_exports:read_mlflow",
}
"""Per format a reader, loaded when it is used; what it returns can be iterated more than once."""

MAPPED: Final = "mapped"
FORMATS: Final = (*READERS, MAPPED)
_LOOKS: Final = (
    ((b'"schema_version"', b"ATIF-v"), "atif"),
    ((b'"suite_name"', b'"user_task_id"'), "agentdojo"),
    ((b'"eval"', b'"plan"'), "inspect"),
    ((b'"observations"',), "langfuse"),
    ((b'"mlflow.spanType"',), "mlflow"),
    ((b'"context"', b'"span_kind"'), "phoenix"),
    ((b'"exit_status"', b'"info"'), "swe-agent"),
)
PROGRESS_EVERY_RUNS: Final = 500
KNOWN: Final = "already imported"
Progress = Callable[[int, int], None]
AnyRun: TypeAlias = ForeignRun | NativeRun


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
    """What the import of one file did.

    Attributes:
        path: the file.
        runs: runs written.
        events: events written.
        unknown: per column (`model_call.latency_ms`) the rows where the source is silent
            or what it says is taken as unknown.
        zeros: per column the part of these where the source says 0.
        skipped: runs left out, by reason.
        finished: runs of which a part was in the store, from an import that was cut off.
    """

    path: str
    runs: int
    events: int
    unknown: Mapping[str, int]
    zeros: Mapping[str, int]
    skipped: tuple[Skipped, ...]
    finished: int = 0

    def lines(self) -> list[str]:
        """The report as text lines."""
        lines = [f"{self.path}: {self.runs} runs, {self.events} events"]
        if self.finished:
            lines.append(f"  finished {self.finished} runs that were there in part")
        lines += [f"  skipped {s.runs} runs: {s.why} (first: {s.where})" for s in self.skipped]
        for column, rows in self.unknown.items():
            zeros = self.zeros.get(column, 0)
            of_them = f", {zeros} of them 0 in the source" if zeros else ""
            lines.append(f"  unknown {column}: {rows} rows{of_them}")
        return lines


@dataclass(frozen=True, slots=True)
class Changes:
    """What the caller sets in place of, or besides, what a file says.

    Attributes:
        suite: suite of all runs, in place of the one in the file.
        variant: variant of all runs, in place of the one in the file.
        labels: labels that every run gets besides those from the file.
        prices: for calls whose source tells tokens and no cost; None leaves them unpriced.
    """

    suite: str | None = None
    variant: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    prices: PriceTable | None = None

    def on_own(self, run: NativeRun) -> NativeRun:
        """A run of our own with them; what was not priced when it was recorded is not now."""
        named = {"suite": self.suite, "variant": self.variant}
        changed = {name: text for name, text in named.items() if text is not None}

        def on(event: AnyEvent) -> AnyEvent:
            if not isinstance(event, RunStarted):
                return event
            labels = {label.key: label.value for label in event.labels} | dict(self.labels)
            listed = tuple(Label(key, text) for key, text in sorted(labels.items()))
            return msgspec.structs.replace(event, labels=listed, **changed)

        if not changed and not self.labels:
            return run
        return replace(run, events=tuple(on(event) for event in run.events))

    def on(self, run: ForeignRun) -> ForeignRun:
        """The run with them."""
        if self.prices is not None:
            run = priced_run(run, self.prices)
        named = {"suite": self.suite, "variant": self.variant}
        started = {name: text for name, text in named.items() if text is not None}
        if not started and not self.labels:
            return run
        return replace(
            run,
            started={**run.started, **started},
            labels={**run.labels, **self.labels},
        )


NO_CHANGES: Final = Changes()


def import_file(
    format_name: str,
    path: str | Path,
    recorder: Sink,
    *,
    changes: Changes = NO_CHANGES,
    known_run_ids: Collection[str] | None = None,
    on_progress: Progress | None = None,
    mapping: str | Path | None = None,
) -> ImportReport:
    """Imports all runs of a file that the store does not have yet.

    Args:
        format_name: one of `FORMATS`.
        path: the file, plain or gzipped.
        recorder: where the events go; usually a `Recorder`.
        changes: what is set in place of, or besides, what the file says.
        known_run_ids: runs that are in the store already; None looks into the
            store of the recorder.
        on_progress: is called with runs done and runs in the file.
        mapping: file that says where what stands, for the format `mapped`.

    Raises:
        UnknownNameError: there is no such format.
        TraceFormatError: the file is not of that format; nothing was written.
        RecorderError: the store took no more; the message says how far it came.
    """
    store = recorder.store_path if isinstance(recorder, Recorder) else None
    if known_run_ids is None:
        known_run_ids = () if store is None else stored_run_ids(store)
    read = reader_of(format_name, mapping)
    checked = _check(format_name, read, Path(path), set(known_run_ids))
    if store is not None:
        checked.find_parts(store)
    return checked.write(recorder, changes, on_progress)


def import_files(
    format_name: str,
    paths: Iterable[str | Path],
    store: str | Path,
    *,
    changes: Changes = NO_CHANGES,
    redaction: Redaction | None = None,
    on_progress: Progress | None = None,
    mapping: str | Path | None = None,
) -> list[ImportReport]:
    """Imports several files of one format into a store, which is made when absent.

    All files are checked before the first is written. The arguments are those of `import_file`,
    and `redaction` says what is taken out; None is the default.

    Returns:
        One report per file, in the order given.

    Raises:
        UnknownNameError: there is no such format.
        TraceFormatError: a file is not of that format; nothing was written.
        StoreError: the folder is not a store, or cannot be written to.
        RecorderError: the store took no more; the message says how far it came.
    """
    folder, read = Path(store), reader_of(format_name, mapping)
    is_there = folder.is_dir() and any(folder.iterdir())
    known = set(stored_run_ids(folder)) if is_there else set()
    checked = []
    for path in paths:
        checked.append(_check(format_name, read, Path(path), known))
        if is_there:
            checked[-1].find_parts(folder)
        known |= checked[-1].wanted
    with Recorder(folder, redaction=redaction or Redaction()) as recorder:
        return [one.write(recorder, changes, on_progress) for one in checked]


def likely_format(path: Path) -> str | None:
    """The format that the beginning of a file looks like; None when none or unreadable."""
    try:
        head = read_head(path)
    except TraceFormatError:
        return None
    if head.startswith(b"PK"):
        return "inspect"
    for marks, form in _LOOKS:
        if all(mark in head for mark in marks):
            return form
    if head.startswith(b"["):
        return "tau-bench" if b'"traj"' in head else None
    if b'"run_id"' in head and b'"events"' in head:
        return "run-lines"
    if b'"resourceSpans"' in head:
        return "otlp"
    return "tau2" if b'"simulations"' in head or b'"user_info"' in head else None


@dataclass(slots=True)
class _CheckedFile:
    """A file that was read to its end and found good.

    Attributes:
        wanted: ids of the runs to write.
        total: runs in the file.
        parts: events that the store has of runs that it has in part.
    """

    path: Path
    runs: Iterable[AnyRun]
    wanted: set[str] = field(default_factory=set)
    total: int = 0
    skipped: dict[str, Skipped] = field(default_factory=dict)
    parts: dict[str, int] = field(default_factory=dict)

    def read(self, known: Collection[str]) -> None:
        for run in self.runs:
            self.total += 1
            run_id = run.run_id
            if run_id in known:
                self._skip(run, KNOWN)
            elif run_id in self.wanted:
                self._skip(run, "same id as an earlier run of the file")
            else:
                self.wanted.add(run_id)
        if not self.total:
            raise TraceFormatError(
                "the file holds no runs", where=str(self.path), hint="Check how it was written."
            )

    def find_parts(self, store: Path) -> None:
        """Looks for runs of which an import that was cut off left a part; they are finished."""
        skipped = self.skipped.get(KNOWN)
        if skipped is None:
            return
        known = {run.run_id for run in self.runs} - self.wanted
        recorded = recorded_events(store, known)
        for run in self.runs:
            there = recorded.pop(run.run_id, None)
            if isinstance(run, NativeRun) or there is None:
                continue  # of our own runs the file may hold a part too
            if there < _events_of(run):
                self.parts[run.run_id] = there
                self.wanted.add(run.run_id)
        left = skipped.runs - len(self.parts)
        self.skipped[KNOWN] = replace(skipped, runs=left)
        if not left:
            del self.skipped[KNOWN]

    def _skip(self, run: AnyRun, why: str) -> None:
        before = self.skipped.get(why)
        where, runs = (before.where, before.runs) if before else (run.where, 0)
        self.skipped[why] = Skipped(where, why, runs + 1)

    def write(self, recorder: Sink, changes: Changes, on_progress: Progress | None) -> ImportReport:
        tally = Tally()
        sink = _BulkSink(recorder, self.path, tally)
        left = set(self.wanted)
        for done, run in enumerate(self.runs, start=1):
            if run.run_id in left:
                left.discard(run.run_id)
                sink.is_last_run = not left
                sink.left_out = self.parts.get(run.run_id, 0)
                _write(run, changes, sink, tally)
            if on_progress and (done % PROGRESS_EVERY_RUNS == 0 or done == self.total):
                on_progress(done, self.total)
        return ImportReport(
            str(self.path),
            tally.runs - len(self.parts),
            tally.events - sum(self.parts.values()),
            dict(sorted(tally.unknown.items())),
            dict(sorted(tally.zeros.items())),
            tuple(self.skipped.values()),
            finished=len(self.parts),
        )


def _events_of(run: ForeignRun) -> int:
    """How many events a run is."""
    counting = _Counting()
    write_run(run, counting, Tally())
    return counting.events


def reader_of(
    format_name: str, mapping: str | Path | None = None
) -> Callable[[Path], Iterable[AnyRun]]:
    """What reads a file of a format: it gives its runs, each time that it is iterated.

    Raises:
        UnknownNameError: there is no such format.
        TraceFormatError: a mapping that is none, is missing, or that the format has no use for.
    """
    if format_name not in FORMATS:
        raise UnknownNameError.of("trace format", format_name, FORMATS)
    if (format_name == MAPPED) == (mapping is None):
        what = "needs a mapping" if mapping is None else "takes no mapping"
        raise TraceFormatError(
            f"the format {format_name} {what}",
            where="import",
            hint="--format mapped --mapping FILE; docs/import.md describes the file.",
        )
    if mapping is not None:
        from flightlog.integrations.importers.mapped import (  # noqa: PLC0415
            load_mapping,
            mapped_reader,
        )

        return mapped_reader(load_mapping(Path(mapping)))
    module, name = READERS[format_name].split(":")
    reader: Callable[[Path], Iterable[AnyRun]] = getattr(import_module(_PLACE + module), name)
    return reader


def _check(
    format_name: str,
    read: Callable[[Path], Iterable[AnyRun]],
    path: Path,
    known: Collection[str],
) -> _CheckedFile:
    try:
        checked = _CheckedFile(path, read(path))
        checked.read(known)
    except TraceFormatError as error:
        likely = likely_format(path)
        if likely is None or likely == format_name:
            raise
        hint = f"The file looks like {likely}; import it with that format. {error.hint}"
        raise TraceFormatError(error.what, where=error.where, hint=hint) from error
    return checked


def _write(run: AnyRun, changes: Changes, sink: _BulkSink, tally: Tally) -> None:
    if isinstance(run, NativeRun):
        tally.events += write_native(changes.on_own(run), sink)
        tally.runs += 1
    else:
        write_run(changes.on(run), sink, tally)


class _BulkSink:
    """Passes events on; an import can be redone when power fails, so only its end is synced."""

    def __init__(self, sink: Sink, path: Path, tally: Tally) -> None:
        self._sink = sink
        self._path = path
        self._tally = tally
        self.is_last_run = False
        self.left_out = 0

    def emit(
        self, event: Event, *, messages: Sequence[Message] = (), durable: bool = False
    ) -> bool:
        if event.seq < self.left_out:
            return True
        if self._sink.emit(event, messages=messages, durable=durable and self.is_last_run):
            return True
        raise RecorderError(
            f"the store took no more after {self._tally.runs} whole runs",
            where=str(self._path),
            hint="Make room and import again: what is there is not taken twice.",
        )


class _Counting:
    """Counts events and keeps none."""

    def __init__(self) -> None:
        self.events = 0

    def emit(self, event: Event, **_: object) -> bool:
        self.events += 1
        return True
