"""Whether a store is encrypted, with which key, and whether that key is at hand.

The file ENCRYPTION names the key by its id. A store gets it when it is made with a key,
or by `rekey`; from then on nothing is sealed into the store without that key. A key that
is given for a store that is not encrypted is an error too, and never made light of.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import msgspec

from flightlog.config.regular_file import read_regular
from flightlog.errors import DamagedError, StoreKeyError
from flightlog.recorder.encryption.boxes import box_key_id, require_cryptography
from flightlog.recorder.encryption.keys import KEY_FILE_VARIABLE, StoreKey, given_keys
from flightlog.recorder.layout import MAX_RECORD_BYTES, Layout, segment_files, write_file
from flightlog.recorder.manifest import StoreState, manifest_files, sealing_lock


class Encryption(msgspec.Struct, frozen=True):
    """What the file ENCRYPTION says.

    Attributes:
        key: id of the key that new files are encrypted with.
    """

    key: str


def encryption_of(layout: Layout) -> Encryption | None:
    """What a store says of its encryption; None when it is not encrypted.

    Raises:
        DamagedError: it cannot be read.
    """
    try:
        return msgspec.json.decode(
            read_regular(layout.encryption_file, MAX_RECORD_BYTES), type=Encryption
        )
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        raise DamagedError(
            f"cannot read which key the store is encrypted with: {error}",
            where=str(layout.encryption_file),
            hint="Restore the file from a copy of the store.",
        ) from error


def with_keys(layout: Layout) -> Layout:
    """The layout with the keys that the environment names, the store's own first.

    Raises:
        StoreKeyError: what it names holds no key, or lies in the store.
    """
    keys = given_keys()
    if keys is None:
        return layout
    file = os.environ.get(KEY_FILE_VARIABLE)
    if file and Path(file).resolve().is_relative_to(layout.root.resolve()):
        raise StoreKeyError(
            "the key lies in the store that it is for, so whoever has the one has both",
            where=file,
            hint=f"Move it elsewhere, and name its new place in {KEY_FILE_VARIABLE}.",
        )
    told = encryption_of(layout)
    return replace(layout, keys=keys if told is None else keys.led_by(told.key))


def for_writing(layout: Layout) -> Layout:
    """The layout for who records into a store or seals: a new one with a key is encrypted.

    Raises:
        StoreKeyError: the store is encrypted and its key is not given, or the other way round.
        MissingExtraError: the package `cryptography` is not installed.
    """
    layout = with_keys(layout)
    if layout.keys is None:
        writing_key(layout)
        return layout
    require_cryptography()
    if encryption_of(layout) is None:
        with sealing_lock(layout):
            if encryption_of(layout) is None:
                _refuse_plain(layout)
                set_encryption(layout, layout.keys.first)
    return replace(layout, keys=layout.keys.led_by(required_key(layout).id))


def _refuse_plain(layout: Layout) -> None:
    if segment_files(layout.events) or layout.journal_files() or manifest_files(layout):
        raise StoreKeyError(
            "a key is given, and the store is not encrypted",
            where=str(layout.root),
            hint=f"Encrypt it with flightlog rekey, or unset {KEY_FILE_VARIABLE}.",
        )


def set_encryption(layout: Layout, key: StoreKey) -> None:
    """Makes this the key of all new files; the caller holds the sealing lock."""
    content = msgspec.json.encode(Encryption(key.id)) + b"\n"
    write_file(layout, layout.encryption_file, content)


def writing_key(layout: Layout) -> StoreKey | None:
    """The key that new files of a store are encrypted with; None for a store that is plain.

    Raises:
        StoreKeyError: the store is encrypted and its key is not given.
    """
    return None if encryption_of(layout) is None else required_key(layout)


def required_key(layout: Layout) -> StoreKey:
    """The key that an encrypted store names.

    Raises:
        StoreKeyError: it is not given.
    """
    told = encryption_of(layout)
    key_id = "" if told is None else told.key
    key = None if layout.keys is None else layout.keys.get(key_id)
    if key is None:
        raise _lacking(layout, [key_id])
    return key


def require_keys(layout: Layout, state: StoreState) -> None:
    """Makes sure that all segments can be read.

    Raises:
        StoreKeyError: the key of the store, or of a segment, is not given.
        MissingExtraError: the package `cryptography` is not installed.
    """
    if lacking := lacking_keys(layout, state):
        raise _lacking(layout, lacking)
    if encryption_of(layout) is not None:
        require_cryptography()


def lacking_keys(layout: Layout, state: StoreState) -> list[str]:
    """Ids of the keys that the store or its live segments need and that are not given."""
    told = encryption_of(layout)
    needed = {entry.key for entry in state.live.values() if entry.key is not None}
    needed |= set() if told is None else {told.key}
    return sorted(needed.difference(() if layout.keys is None else layout.keys.ids))


def encryption_notes(layout: Layout, state: StoreState, *, unread: int) -> tuple[str, ...]:
    """What is to be known of an encrypted store, one sentence each; none of another.

    Args:
        layout: the store, with the keys that are given.
        state: of its manifests.
        unread: blobs whose key is not given.
    """
    notes = []
    if lacking := lacking_keys(layout, state):
        notes.append(
            f"not checked without key {', '.join(lacking)}: what the segments hold beyond their "
            f"sha256, and which blobs they name"
        )
    if unread:
        notes.append(f"not checked without their keys: {unread} blobs")
    told = encryption_of(layout)
    if told is not None:
        others = [entry for entry in state.live.values() if entry.key != told.key]
        blobs = [path for path in layout.blob_files() if box_key_id(path) != told.key]
        if others or blobs:
            notes.append(
                f"{len(others)} segments and {len(blobs)} blobs are not encrypted with the "
                f"store's key {told.key}; flightlog rekey encrypts them"
            )
    return tuple(notes)


def _lacking(layout: Layout, key_ids: Collection[str]) -> StoreKeyError:
    wanted = ", ".join(key_ids)
    if layout.keys is None:
        what = f"the store is encrypted with key {wanted}, and no key is given"
    else:
        given = ", ".join(layout.keys.ids)
        what = f"the store is encrypted with key {wanted}, and the key given is {given}"
    return StoreKeyError(
        what,
        where=str(layout.root),
        hint=f"Set {KEY_FILE_VARIABLE} to the file of that key; it may hold several, one a line.",
    )
