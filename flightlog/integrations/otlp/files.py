"""Files of OTLP: what collectors and exporters write, one export request per line or one in all."""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from flightlog.errors import TraceFormatError
from flightlog.integrations.importers.foreign_run import ForeignRun
from flightlog.integrations.importers.json_input import (
    LineFile,
    decode,
    read_document,
    read_head,
)
from flightlog.integrations.importers.native_run import NativeRun
from flightlog.integrations.otlp.inbox import Inbox
from flightlog.integrations.otlp.runs import FORMAT, runs_of
from flightlog.integrations.otlp.sealing import Sealing
from flightlog.integrations.otlp.spans import LOOKS_LIKE, Batch, ExportRequest, spans_of_request
from flightlog.recorder.layout import Layout
from flightlog.runtime.prices import PriceTable

__all__ = ["FORMAT", "OtlpFile"]

_GROUP_SPANS: Final = 5_000


class OtlpFile:
    """The runs of a file of OTLP, in JSON, plain or gzipped.

    The spans of a trace may lie anywhere in it, so they are put in order in a temporary file;
    memory holds one trace at a time.

    Args:
        path: one export request, a list of them, or one a line.
        prices: for calls whose span tells no cost.

    Attributes:
        spans: spans in it that could be read.
        refused: reason -> spans that could not.
        merged: spans that told of a call that another span tells of too.
        others: spans that are neither a run nor a call.

    Raises:
        TraceFormatError: while iterating, where it is no such file.
    """

    def __init__(self, path: Path, *, prices: PriceTable | None = None) -> None:
        self._path = path
        self._prices = prices
        self._inbox: Inbox | None = None
        self.spans = self.merged = self.others = 0
        self.refused: dict[str, int] = {}

    def __iter__(self) -> Iterator[ForeignRun | NativeRun]:
        if self._inbox is None:
            self._inbox = self._filled()
        self.merged = self.others = 0
        for trace_id in self._inbox.traces():
            trace = runs_of(self._inbox.spans_of(trace_id), prices=self._prices)
            self.merged += trace.merged
            self.others += trace.others
            for native in trace.native:
                yield replace(native, where=f"{self._path}: {native.where}")
            for owner in sorted(trace.runs, key=lambda one: (trace.runs[one].started_us or 0, one)):
                run = trace.runs[owner]
                yield replace(run, where=f"{self._path}: {run.where}")

    def _filled(self) -> Inbox:
        folder = tempfile.TemporaryDirectory(prefix="flightlog-otlp-")
        inbox = Inbox(Path(folder.name) / "spans.sqlite", Sealing(Layout(Path(folder.name)), None))
        weakref.finalize(inbox, folder.cleanup)
        waiting = Batch()
        for batch in self._batches():
            waiting.spans += batch.spans
            waiting.refused.update(batch.refused)
            if len(waiting.spans) >= _GROUP_SPANS:
                self.spans += inbox.add(waiting.spans)
                waiting.spans = []
        self.spans += inbox.add(waiting.spans)
        self.refused = dict(waiting.refused)
        if not self.spans:
            raise TraceFormatError(
                "the file holds no spans",
                where=str(self._path),
                hint="Check how it was written. Nothing was imported.",
            )
        return inbox

    def _batches(self) -> Iterator[Batch]:
        if not self._is_of_lines():
            if read_head(self._path).startswith(b"["):
                listed = read_document(self._path, list[ExportRequest], looks_like=LOOKS_LIKE)
            else:
                listed = [read_document(self._path, ExportRequest, looks_like=LOOKS_LIKE)]
            for request in listed:
                yield spans_of_request(request)
            return
        for number, line in LineFile(self._path):
            where = f"{self._path}:{number}"
            yield spans_of_request(decode(line, ExportRequest, where=where, looks_like=LOOKS_LIKE))

    def _is_of_lines(self) -> bool:
        """True when the first line is a whole object: a document is broken into many, or is one."""
        head = read_head(self._path)
        first, end, _ = head.partition(b"\n")
        return head.startswith(b"{") and (not end or first.rstrip().endswith(b"}"))
