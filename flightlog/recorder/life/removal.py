"""Removing files that no longer count, once nobody reads them."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final

from flightlog.recorder.journal_reader import is_alive
from flightlog.recorder.layout import SEGMENT_SUFFIX, TEMPORARY_SUFFIX, Layout
from flightlog.recorder.lease import no_readers, replaced_unread
from flightlog.recorder.life.dropped import DROPPED_SUFFIX
from flightlog.recorder.manifest import (
    MERGED_PREFIX,
    StoreState,
    add_checkpoint,
    manifest_files,
    sealing_lock,
    store_state,
)

MANY_MANIFESTS: Final = 100
"""From so many on they are moved into the history."""

_REMOVING: Final = ".removing"
_LOOK_EVERY_S: Final = 0.05


def remove_replaced(layout: Layout, *, wait_s: float = 0.0, anyway: bool = False) -> int:
    """Removes segments that were replaced, and what an interrupted rewriting left behind.

    The caller holds the sealing lock.

    Args:
        layout: the store.
        wait_s: how long to wait for readers; nobody can seal meanwhile.
        anyway: remove replaced segments also under their readers.

    Returns:
        How many replaced files are still there, for the next time.
    """
    state = store_state(layout)
    if state.problems:
        return 0  # a damaged manifest may be the one that lists a file
    _unlink(layout, _strays(layout, state))
    replaced = _replaced(layout, state)
    if not replaced:
        return 0
    with no_readers(layout, wait_s=wait_s) as is_alone:
        if is_alone or anyway:
            _unlink(layout, replaced)
            return 0
    known = replaced_unread(layout, state.number)
    unread = [path for path, number in replaced.items() if number <= known]
    _unlink(layout, unread)
    return len(replaced) - len(unread)


def wait_and_remove_replaced(layout: Layout, *, wait_s: float, anyway: bool = False) -> int:
    """As `remove_replaced`, trying for a while; others may seal between the tries.

    Args:
        layout: the store; the caller does not hold its sealing lock.
        wait_s: how long to wait for readers.
        anyway: remove the segments then also under their readers.
    """
    until_s = time.monotonic() + wait_s
    while True:
        is_over = time.monotonic() >= until_s
        with sealing_lock(layout):
            left = remove_replaced(layout, anyway=anyway and is_over)
        if not left or is_over:
            return left
        time.sleep(_LOOK_EVERY_S)


def _replaced(layout: Layout, state: StoreState) -> dict[Path, int]:
    """Replaced files that are still there, with the number of the manifest that replaced them."""
    found = {}
    for name, number in sorted(state.replaced.items()):
        path = layout.root / name
        for one in (path, path.with_suffix(DROPPED_SUFFIX)):
            if one.exists():
                found[one] = number
    return found


def _strays(layout: Layout, state: StoreState) -> list[Path]:
    """Segments, and files of dropped rows, that no manifest ever listed, and unfinished ones.

    Who else wrote segments or manifests is dead, since he had the sealing lock.
    """
    known = {layout.root / path for path in (*state.live, *state.replaced)}
    known |= {
        (layout.root / path).with_suffix(DROPPED_SUFFIX)
        for path in (*state.live, *state.replaced)
        if path in state.replaced or state.live[path].dropped_sha256 is not None
    }
    found = list(layout.manifests.glob(f".*{TEMPORARY_SUFFIX}"))
    for folder in (layout.events, layout.messages):
        found += folder.glob(f"date=*/.*{TEMPORARY_SUFFIX}")
        for suffix in (SEGMENT_SUFFIX, DROPPED_SUFFIX):
            merged = folder.glob(f"date=*/{MERGED_PREFIX}*{suffix}")
            found += [path for path in merged if path not in known]
    return found


def remove_unfinished_blobs(layout: Layout) -> None:
    """Removes what writers of blobs left when they died; one in the making is locked."""
    _unlink(
        layout,
        [path for path in layout.blobs.glob(f"*/.*{TEMPORARY_SUFFIX}") if not _is_locked(path)],
    )


def _is_locked(path: Path) -> bool:
    try:
        return is_alive(path)
    except FileNotFoundError:
        return False


def checkpoint_if_many(layout: Layout, *, many: int = MANY_MANIFESTS) -> bool:
    """Moves the manifests into the history when there are many; the caller holds the lock."""
    if len(manifest_files(layout)) < many:
        return False
    state = store_state(layout)
    if state.problems:
        return False
    # A removal that is not on the disk yet could come undone, and the checkpoint
    # no longer tells that the file was replaced.
    folders = {(layout.root / path).parent for path in state.replaced}
    for folder in sorted(folders):
        if folder.is_dir():
            layout.disk.sync_folder(folder)
    add_checkpoint(layout)
    return True


def remove_blobs(
    layout: Layout, digests: Collection[str], named_now: Callable[[], Collection[str]]
) -> int:
    """Removes blobs that nobody names.

    Args:
        layout: the store; the caller holds its sealing lock.
        digests: the blobs that may go.
        named_now: gives those that living writers name; asked after the blobs are out of
            the way, so that a writer either named its blob before or writes it again.

    Returns:
        Bytes of the removed files.
    """
    disk = layout.disk
    places = [path for digest in sorted(digests) for path in layout.blob_places(digest)]
    moved = {path: path.with_name(f".{path.name}{_REMOVING}") for path in places}
    for path, aside in moved.items():
        if path.exists():
            disk.rename(path, aside)
    kept = {
        path
        for digest in set(named_now()).intersection(digests)
        for path in layout.blob_places(digest)
    }
    size = 0
    for path, aside in moved.items():
        if not aside.exists():
            continue
        if path in kept and not path.exists():
            disk.rename(aside, path)
        else:
            size += aside.stat().st_size
            disk.unlink(aside)
    for folder in sorted({path.parent for path in places}):
        if folder.is_dir():
            disk.sync_folder(folder)
    return size


def _unlink(layout: Layout, paths: Collection[Path]) -> None:
    for path in paths:
        layout.disk.unlink(path)
    for folder in sorted({path.parent for path in paths}):
        layout.disk.sync_folder(folder)
