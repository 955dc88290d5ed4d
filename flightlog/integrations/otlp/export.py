"""Stores as files of OTLP: one export request a line, one run a request."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import msgspec

from flightlog.analysis.db import Traces
from flightlog.analysis.export_files import NewFile
from flightlog.analysis.export_tables import Chosen, Exported, chosen_runs, require_free
from flightlog.integrations.otlp.out import request_of
from flightlog.recorder.store import Store
from flightlog.replay.cassette import Recording
from flightlog.replay.recordings import read_recordings

_RUNS_AT_ONCE: Final = 2_000
_LINE_ENDS: Final = {
    "\u2028".encode(): rb"\u2028",
    "\u2029".encode(): rb"\u2029",
    "\x85".encode(): rb"\u0085",
}
_encode: Final = msgspec.json.Encoder().encode


def export_otlp(
    stores: Sequence[str | Path],
    out: Path,
    *,
    chosen: Chosen | None = None,
    overwrites: bool = False,
    strict: bool = False,
) -> Exported:
    """Writes runs as spans: the file is whole, or not there.

    `flightlog import --format otlp` gives the same events again; other tools find the names
    of the current GenAI convention. Prompts stand at each call in full, as the convention
    has them, so the file grows with the square of a run's length.

    Args:
        stores: folders.
        out: the file.
        chosen: which runs; None takes all.
        overwrites: replace a file that is there.
        strict: any damage is an error, not only that of segments.

    Returns:
        The file, and how many spans it holds.

    Raises:
        UsageError: the file is there already, its folder is not, or it would lie in a store.
        UnknownNameError: an unknown column, or a value that no run carries.
        DamagedError: a store is not as it was written; nothing is exported from it.
    """
    require_free(out, overwrites=overwrites)
    with Traces(*stores, strict=strict) as traces:
        traces.verify()
        runs = chosen_runs(traces, chosen or Chosen()).to_pylist()
    file = NewFile(out)
    spans = 0
    try:
        for store, its in groupby(runs, key=lambda row: row["store"]):
            for recording in _recordings(store, [row["run_id"] for row in its]):
                request = request_of(recording)
                spans += len(request["resourceSpans"][0]["scopeSpans"][0]["spans"])
                file.file.write(_line(request))
        file.finish()
        file.keep()
    finally:
        file.drop()
    return Exported(out, spans, 0)


def _line(request: dict[str, Any]) -> bytes:
    """One line, also for who takes every line end of Unicode for one."""
    line = _encode(request)
    for end, escaped in _LINE_ENDS.items():
        line = line.replace(end, escaped)
    return line + b"\n"


def _recordings(store: str, run_ids: Sequence[str]) -> Iterator[Recording]:
    opened = Store.open(store)
    for first in range(0, len(run_ids), _RUNS_AT_ONCE):
        yield from read_recordings(opened, run_ids[first : first + _RUNS_AT_ONCE])
