"""What a store holds already of runs that come from elsewhere."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

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

    Raises:
        StoreError: there is no such store, or a newer flightlog wrote it.
    """
    return {
        run_id: next((n for n in range(len(its)) if n not in its), len(its))
        for run_id, its in recorded_seqs(store, run_ids).items()
    }


def recorded_seqs(store: str | Path, run_ids: Collection[str]) -> dict[str, set[int]]:
    """The numbers of the events of each run that a store holds; runs without any are absent.

    Raises:
        StoreError: there is no such store, or a newer flightlog wrote it.
    """
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.compute as pc  # noqa: PLC0415

    wanted = pa.array(sorted(run_ids), pa.string())
    seen: dict[str, set[int]] = {}
    for table in _tables(store, ["run_id", "seq"]):
        chosen = table.filter(pc.is_in(table["run_id"], wanted))
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
