"""Reads recorded runs back out of a store, as events and messages."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from flightlog.errors import DamagedError, UnknownNameError
from flightlog.replay.cassette import Recording
from flightlog.trace.events import EVENT_TYPES, AnyEvent, Event
from flightlog.trace.messages import Message, ToolRequest

if TYPE_CHECKING:
    import pyarrow as pa

    from flightlog.recorder.store import Snapshot, Store

_FIELDS = {
    str(event_type.__struct_config__.tag): event_type.__struct_fields__
    for event_type in EVENT_TYPES
}


def read_recordings(store: Store, run_ids: Sequence[str] | None = None) -> list[Recording]:
    """Runs of a store, each with its events in order and the messages they name.

    Args:
        store: sealed and unsealed events are read alike.
        run_ids: which runs, in the order wanted; None reads all, in order of their ids.

    Raises:
        UnknownNameError: a run that the store does not have.
    """
    snapshot = store.snapshot()
    wanted = None if run_ids is None else _one_of("run_id", run_ids)
    tables = _tables(store, snapshot.event_files, snapshot.unsealed_events, wanted)
    events = _events_by_run(tables)
    order = (
        sorted(run for run in events if run) if run_ids is None else list(dict.fromkeys(run_ids))
    )
    missing = [run_id for run_id in order if run_id not in events]
    if missing:
        raise UnknownNameError.of("run", missing[0], _all_run_ids(store), where=str(store.path))
    digests = {d for run_id in order for event in events[run_id] for d in _digests_of(event)}
    messages = _messages(store, snapshot, digests)
    return [
        Recording(tuple(sorted(events[run_id], key=lambda event: event.seq)), messages, store.blob)
        for run_id in order
    ]


def _one_of(column: str, values: Collection[str]) -> Any:
    import pyarrow as pa  # noqa: PLC0415  (only readers pay for it)
    import pyarrow.compute as pc  # noqa: PLC0415

    return pc.field(column).isin(pa.array(list(values), pa.string()))


def _tables(store: Store, files: Iterable[Path], unsealed: pa.Table, wanted: Any) -> list[pa.Table]:
    from flightlog.recorder.encryption.parquet import read_segment  # noqa: PLC0415

    tables = [read_segment(store.layout, file, filters=wanted) for file in files]
    return [*tables, unsealed if wanted is None else unsealed.filter(wanted)]


def _events_by_run(tables: Iterable[pa.Table]) -> dict[str, list[Event]]:
    import pyarrow as pa  # noqa: PLC0415

    found: defaultdict[str, list[Event]] = defaultdict(list)
    for table in tables:
        place = table.schema.get_field_index("at")
        if place >= 0:
            table = table.set_column(place, "at", table["at"].cast(pa.int64()))  # noqa: PLW2901
        for row in table.to_pylist():
            event = event_of(row)
            found[event.run_id].append(event)
    return found


def event_of(row: dict[str, Any]) -> AnyEvent:
    """The event that one row of the events table holds (`at` as microseconds).

    Raises:
        DamagedError: a value that its kind does not have, such as an unknown outcome.
    """
    fields = {name: row[name] for name in _FIELDS[row["kind"]] if row.get(name) is not None}
    if "labels" in fields:
        fields["labels"] = [{"key": key, "value": value} for key, value in fields["labels"]]
    try:
        event: AnyEvent = msgspec.convert({"kind": row["kind"], **fields}, AnyEvent)
    except msgspec.ValidationError as error:
        raise DamagedError(
            f"an event holds what its kind cannot: {error}",
            where=f"run {row.get('run_id')!r}, event {row.get('seq')!r}",
            hint="It was recorded so; such a run can be read with SQL, but not replayed.",
        ) from error
    return event


def _digests_of(event: Event) -> list[str]:
    names = ("system_digest", "toolset_digest", "task_digest", "output_digest")
    found = [digest for name in names if (digest := getattr(event, name, None))]
    return [*found, *getattr(event, "prompt_added", ())]


def _messages(store: Store, snapshot: Snapshot, digests: Collection[str]) -> dict[str, Message]:
    found: dict[str, Message] = {}
    wanted = _one_of("digest", digests)
    for table in _tables(store, snapshot.message_files, snapshot.unsealed_messages, wanted):
        for row in table.to_pylist():
            text, blob = row["text"], row.get("text_blob")  # no such column before format 2
            if blob is not None:
                text = store.blob(blob)
            requests = msgspec.json.decode(row["tool_requests"] or "[]", type=list[ToolRequest])
            found[row["digest"]] = Message(
                role=row["role"],
                text=text,
                tool_requests=tuple(requests),
                tool_call_id=row["tool_call_id"],
                name=row["name"],
            )
    return found


def _all_run_ids(store: Store) -> list[str]:
    snapshot = store.snapshot()
    tables = _tables(store, snapshot.event_files, snapshot.unsealed_events, None)
    return sorted({run_id for table in tables for run_id in table["run_id"].to_pylist()})
