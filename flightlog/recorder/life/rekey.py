"""Encrypting what a store holds with the first key that is given, whatever it was before."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from flightlog.errors import DamagedError, StoreKeyError
from flightlog.recorder.blobs import digest_of_blob
from flightlog.recorder.encryption.boxes import box_key_id, boxed, require_cryptography, unboxed
from flightlog.recorder.encryption.keys import KEY_FILE_VARIABLE, StoreKey, given_keys
from flightlog.recorder.encryption.store_key import require_keys, set_encryption
from flightlog.recorder.layout import TEMPORARY_SUFFIX, Layout, Problem
from flightlog.recorder.lease import no_readers
from flightlog.recorder.life.removal import remove_replaced
from flightlog.recorder.life.rewriting import rewritten, unchanged
from flightlog.recorder.manifest import add_manifest, sealing_lock, store_state
from flightlog.recorder.quarantine import put_aside, read_aside
from flightlog.recorder.store import Store

_READERS_WAIT_S: Final = 10.0
_PER_MANIFEST: Final = 64
_READ_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class RekeyReport:
    """What was encrypted anew.

    Attributes:
        key_id: the key that the store has now.
        segments: segments that were written anew.
        blobs: blobs that were.
        pieces: files of quarantine/ that were.
        journals: journals there, which are plain until they are sealed.
        left: old files that somebody still reads; they go when it is done again.
        problems: files that could not be read, and stay as they are.
    """

    key_id: str
    segments: int
    blobs: int
    pieces: int
    journals: int
    left: int
    problems: tuple[Problem, ...]


def rekey_store(store: Store, *, wait_s: float = _READERS_WAIT_S) -> RekeyReport:
    """Encrypts all files of a store with the first key that is given, and makes it the store's.

    It can be repeated after a crash at any point; until it is done, readers need all keys.

    Args:
        store: encrypted or not.
        wait_s: how long to wait for readers of files that are replaced.

    Raises:
        StoreKeyError: no key is given, or one that a file needs is not.
        MissingExtraError: the package `cryptography` is not installed.
        DamagedError: a segment is not as it was written; the others may be done.
        StoreError: the store cannot be written to.
        OSError: the disk is full or fails.
    """
    keys = given_keys()
    if keys is None:
        raise StoreKeyError(
            "no key is given to encrypt the store with",
            where=str(store.path),
            hint=f"flightlog keygen --out FILE makes one; name it in {KEY_FILE_VARIABLE}.",
        )
    require_cryptography()
    layout, key = replace(store.layout, keys=keys), keys.first
    with sealing_lock(layout):
        require_keys(layout, store_state(layout))
        set_encryption(layout, key)
        segments = _rekey_segments(layout, key)
        problems: list[Problem] = []
        pieces = _rekey_pieces(layout, key, problems)
        old = _rekey_blobs(layout, key, problems)
        left = remove_replaced(layout, wait_s=wait_s) + _remove(layout, old, wait_s)
    journals = len(layout.journal_files())
    return RekeyReport(key.id, segments, len(old), pieces, journals, left, tuple(problems))


def _rekey_segments(layout: Layout, key: StoreKey) -> int:
    entries = [one for one in store_state(layout).live.values() if one.key != key.id]
    for start in range(0, len(entries), _PER_MANIFEST):
        batch = entries[start : start + _PER_MANIFEST]
        number = store_state(layout).number + 1
        made = [rewritten(layout, [entry], unchanged, number=number) for entry in batch]
        add_manifest(
            layout,
            [entry for entry in made if entry is not None],
            replaced=[entry.path for entry in batch],
            why="rekey",
        )
    return len(entries)


def _rekey_pieces(layout: Layout, key: StoreKey, problems: list[Problem]) -> int:
    done = 0
    for path in sorted(layout.quarantine.glob("[!.]*")):
        if not path.is_file() or path.is_symlink() or box_key_id(path) == key.id:
            continue
        try:
            content = read_aside(layout, path)
        except (StoreKeyError, DamagedError) as error:
            problems.append(Problem(path, error.what))
            continue
        put_aside(layout, path, content)
        done += 1
    return done


def _rekey_blobs(layout: Layout, key: StoreKey, problems: list[Problem]) -> list[Path]:
    """Writes blobs anew beside the old ones; gives the old ones."""
    old, folders = [], set()
    for path in layout.blob_files():
        if path.is_symlink() or box_key_id(path) == key.id:
            continue
        try:
            digest = digest_of_blob(layout, path)
        except (StoreKeyError, DamagedError) as error:
            problems.append(Problem(path, error.what))
            continue
        target = layout.blob_places(digest)[0]
        layout.disk.mkdir(target.parent)
        _write(layout, target, boxed(key, target.name, _content(layout, path, digest)))
        old.append(path)
        folders.add(target.parent)
    for folder in sorted(folders):
        layout.disk.sync_folder(folder)
    return old


def _content(layout: Layout, path: Path, digest: str) -> Iterator[bytes]:
    with path.open("rb") as file:
        if path.name == digest:
            yield from iter(lambda: file.read(_READ_BYTES), b"")
        else:
            yield from unboxed(layout.keys, path, file)


def _write(layout: Layout, target: Path, pieces: Iterator[bytes]) -> None:
    disk = layout.disk
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}{TEMPORARY_SUFFIX}")
    try:
        descriptor = disk.create(temporary)
        try:
            for piece in pieces:
                disk.write_all(descriptor, piece)
            disk.fsync(descriptor)
        finally:
            disk.close(descriptor)
        disk.rename(temporary, target)
    except BaseException:
        disk.unlink(temporary)
        raise


def _remove(layout: Layout, paths: list[Path], wait_s: float) -> int:
    """Removes files once nobody reads them; how many are left."""
    if not paths:
        return 0
    with no_readers(layout, wait_s=wait_s) as is_alone:
        if not is_alone:
            return len(paths)
        for path in paths:
            layout.disk.unlink(path)
        for folder in sorted({path.parent for path in paths}):
            layout.disk.sync_folder(folder)
    return 0
