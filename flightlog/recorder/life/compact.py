"""Merging small segments: fewer files for the same rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from flightlog.errors import DamagedError
from flightlog.recorder.encryption.store_key import for_writing
from flightlog.recorder.layout import Layout, Problem
from flightlog.recorder.life.erasing import go_on
from flightlog.recorder.life.removal import (
    checkpoint_if_many,
    remove_replaced,
    wait_and_remove_replaced,
)
from flightlog.recorder.life.removing import require_sound
from flightlog.recorder.life.rewriting import Edit, Edited, rewritten, unchanged
from flightlog.recorder.manifest import (
    SegmentEntry,
    add_manifest,
    sealing_lock,
    store_state,
)
from flightlog.recorder.segment_rows import EVENTS, require_unchanged, table_of
from flightlog.recorder.store import Store

TARGET_BYTES: Final = 128 << 20
"""Size of merged segments; two halves of it are one."""

_ALWAYS_BYTES: Final = 1 << 20
_MOST_AGAIN: Final = 4
_READERS_WAIT_S: Final = 1.0
_MOST_ROWS: Final = 4_000_000


@dataclass(frozen=True, slots=True)
class CompactReport:
    """What a merging did, or would do.

    Attributes:
        merged: segments that were merged.
        made: segments that they became.
        rows: rows in these.
        duplicates: messages that several of the segments held, and that are kept once.
        waiting: old files that somebody still reads; the next compact or seal removes them.
        problems: segments that were left alone, and why.
    """

    merged: int = 0
    made: int = 0
    rows: int = 0
    duplicates: int = 0
    waiting: int = 0
    problems: tuple[Problem, ...] = ()


def compact_store(
    store: Store, *, target_bytes: int = TARGET_BYTES, is_dry_run: bool = False
) -> CompactReport:
    """Merges small segments, day by day, events with events and messages with messages.

    Other processes may record, seal and read meanwhile: each merged segment is one
    short change of its own.

    Args:
        store: the store.
        target_bytes: size of merged segments; those of half of it stay as they are.
        is_dry_run: only tell what would be merged.

    Raises:
        DamagedError: a manifest is damaged.
        StoreError: the store cannot be written to.
        OSError: the disk is full or fails; nothing is lost.
    """
    layout = for_writing(store.layout)
    if is_dry_run:
        state = store_state(layout)
        require_sound(state)
        groups = list(_groups(state.live.values(), target_bytes))
        rows = sum(entry.rows for group in groups for entry in group)
        return CompactReport(sum(map(len, groups)), len(groups), rows)
    merged = made = rows = duplicates = 0
    problems: list[Problem] = []
    with sealing_lock(layout):
        problems += go_on(layout)
        remove_replaced(layout)
        todo = set(store_state(layout).live)  # and not what is sealed meanwhile, without end
    while True:
        with sealing_lock(layout):
            state = store_state(layout)
            require_sound(state)
            left = [entry for path, entry in state.live.items() if path in todo]
            group = next(_groups(left, target_bytes), None)
            if group is None:
                checkpoint_if_many(layout)
                break
            bad = _damaged(layout, group)
            if bad:
                todo -= {path.relative_to(layout.root).as_posix() for path in bad}
                problems += [Problem(path, what) for path, what in bad.items()]
                continue
            todo -= {entry.path for entry in group}
            entry = _merge(layout, group, state.number + 1)
            checkpoint_if_many(layout)
        merged += len(group)
        made += 1
        rows += entry.rows
        duplicates += sum(one.rows for one in group) - entry.rows
    waiting = wait_and_remove_replaced(layout, wait_s=_READERS_WAIT_S)
    return CompactReport(merged, made, rows, duplicates, waiting, tuple(problems))


def _merge(layout: Layout, group: Sequence[SegmentEntry], number: int) -> SegmentEntry:
    edit: Edit = unchanged if table_of(group[0]) == EVENTS else _Once().edit
    entry = rewritten(layout, group, edit, number=number)
    assert entry is not None
    add_manifest(layout, [entry], replaced=[one.path for one in group], why="compact")
    return entry


class _Once:
    """Keeps each message once."""

    def __init__(self) -> None:
        self._seen: set[bytes] = set()

    def edit(self, rows: pa.Table, _journal_id: str) -> Edited:
        """The rows whose digest did not come before."""
        fresh = []
        for digest in map(_short, rows.column("digest").to_pylist()):
            fresh.append(digest not in self._seen)
            self._seen.add(digest)
        return Edited(rows if all(fresh) else rows.filter(pa.array(fresh, pa.bool_())))


def _short(digest: Any) -> bytes:
    """A digest in as little memory as it needs."""
    try:
        return bytes.fromhex(digest)
    except (TypeError, ValueError):
        return repr(digest).encode("utf-8", "surrogatepass")


def _damaged(layout: Layout, group: Sequence[SegmentEntry]) -> dict[Path, str]:
    found = {}
    for entry in group:
        try:
            require_unchanged(layout, entry)
        except DamagedError as error:
            found[layout.root / entry.path] = f"{error.what}; not merged"
    return found


def _groups(entries: Iterable[SegmentEntry], target_bytes: int) -> Iterator[list[SegmentEntry]]:
    """Segments to be merged with each other: small ones of one table and day, oldest first."""
    by_folder: defaultdict[Path, list[SegmentEntry]] = defaultdict(list)
    for entry in entries:
        if entry.bytes * 2 <= target_bytes:
            by_folder[Path(entry.path).parent].append(entry)
    for _, small in sorted(by_folder.items()):
        group: list[SegmentEntry] = []
        for entry in sorted(small, key=_oldest):
            size, rows = _sizes([*group, entry])
            if group and (size > target_bytes or rows > _MOST_ROWS):
                yield from _worth_it(group)
                group = []
            group.append(entry)
        yield from _worth_it(group)


def _worth_it(group: list[SegmentEntry]) -> Iterator[list[SegmentEntry]]:
    """The group without segments so large that writing them again for the others is waste."""
    by_size = sorted(group, key=lambda entry: entry.bytes)
    while by_size and by_size[-1].bytes > _ALWAYS_BYTES:
        if by_size[-1].bytes <= _MOST_AGAIN * _sizes(by_size[:-1])[0]:
            break
        by_size.pop()
    if len(by_size) > 1:
        yield sorted(by_size, key=_oldest)


def _sizes(group: Sequence[SegmentEntry]) -> tuple[int, int]:
    return sum(entry.bytes for entry in group), sum(entry.rows for entry in group)


def _oldest(entry: SegmentEntry) -> tuple[str, str]:
    journals = [part.journal_id for part in entry.parts]
    return (min(journals) if journals else Path(entry.path).stem, entry.path)
