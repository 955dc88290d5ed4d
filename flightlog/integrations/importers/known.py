"""What a store holds already of runs that come from elsewhere."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from flightlog.recorder.recovery import CRASH_DETAIL
from flightlog.trace.vocab import EventKind

if TYPE_CHECKING:
    import pyarrow as pa


def stored_run_ids(store: str | Path) -> frozenset[str]:
    """Ids of the runs that a store holds, sealed or not, however they came into it.

    Raises:
        StoreError: there is no such store, or a newer flightlog wrote it.
    """
    import pyarrow.compute as pc  # noqa: PLC0415  - an import into another sink does without

    found: set[str] = set()
    for table in _tables(store, ["run_id"]):
        found.update(pc.unique(table["run_id"]).to_pylist())
    return frozenset(found - {""})


def recorded_events(store: str | Path, run_ids: Collection[str]) -> dict[str, int]:
    """How many events of each run a store holds, from the first without a gap.

    The end that is written for a run whose process died is none of the run's own events.

    Raises:
        StoreError: there is no such store, or a newer flightlog wrote it.
    """
    return {
        run_id: next((n for n in range(len(its)) if n not in its), len(its))
        for run_id, its in recorded_seqs(store, run_ids, with_crashed_ends=False).items()
    }


def recorded_seqs(
    store: str | Path, run_ids: Collection[str], *, with_crashed_ends: bool = True
) -> dict[str, set[int]]:
    """The numbers of the events of each run that a store holds; runs without any are absent.

    Args:
        store: its folder.
        run_ids: the runs.
        with_crashed_ends: count the end that is written for a run whose process died.

    Raises:
        StoreError: there is no such store, or a newer flightlog wrote it.
    """
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.compute as pc  # noqa: PLC0415

    wanted = pa.array(sorted(run_ids), pa.string())
    seen: dict[str, set[int]] = {}
    for table in _tables(store, ["run_id", "seq", "kind", "stop_detail"]):
        is_end = pc.and_(
            pc.equal(table["kind"], EventKind.RUN_STOPPED.value),
            pc.fill_null(pc.equal(table["stop_detail"], CRASH_DETAIL), fill_value=False),
        )
        is_left_out = pc.and_(is_end, not with_crashed_ends)
        chosen = table.filter(pc.and_not(pc.is_in(table["run_id"], wanted), is_left_out))
        for run_id, seq in zip(*(chosen[n].to_pylist() for n in ("run_id", "seq")), strict=True):
            seen.setdefault(run_id, set()).add(seq)
    return seen


def _tables(store: str | Path, names: list[str]) -> Iterator[pa.Table]:
    from flightlog.recorder.encryption.parquet import read_segment  # noqa: PLC0415
    from flightlog.recorder.store import Store  # noqa: PLC0415

    opened = Store.open(Path(store))
    snapshot = opened.snapshot()
    for file in snapshot.event_files:
        yield read_segment(opened.layout, file, columns=names)
    yield snapshot.unsealed_events.select(names)
