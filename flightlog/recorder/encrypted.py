"""Whether a store is encrypted, with which key, and whether that key is at hand.

The file ENCRYPTION names the key by its id. It is written by whoever first records or
seals with a key; from then on nothing is sealed into the store without that key.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import msgspec

from flightlog.errors import DamagedError, StoreKeyError
from flightlog.recorder.boxes import require_cryptography
from flightlog.recorder.keys import KEY_FILE_VARIABLE, StoreKey, given_keys
from flightlog.recorder.layout import Layout, write_file
from flightlog.recorder.manifest import StoreState, sealing_lock


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
        return msgspec.json.decode(layout.encryption_file.read_bytes(), type=Encryption)
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
    told = encryption_of(layout)
    return replace(layout, keys=keys if told is None else keys.led_by(told.key))


def for_writing(layout: Layout) -> Layout:
    """The layout for who records into a store or seals: a key that is given encrypts it.

    Raises:
        StoreKeyError: the store is encrypted and its key is not given.
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
                set_encryption(layout, layout.keys.first)
    return replace(layout, keys=layout.keys.led_by(required_key(layout).id))


def set_encryption(layout: Layout, key: StoreKey) -> None:
    """Makes this the key of all new files; the caller holds the sealing lock."""
    content = msgspec.json.encode(Encryption(key.id)) + b"\n"
    write_file(layout, layout.encryption_file, content)


def writing_key(layout: Layout) -> StoreKey | None:
    """The key that new files of a store are encrypted with; None for a store that is plain.

    Raises:
        StoreKeyError: the store is encrypted and its key is not given.
    """
    if encryption_of(layout) is not None:
        return required_key(layout)
    return None if layout.keys is None else layout.keys.first


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


def encryption_notes(layout: Layout, state: StoreState, unread_blobs: int) -> tuple[str, ...]:
    """What is to be known of a store that is encrypted, or was meant to be.

    Args:
        layout: the store.
        state: of its manifests.
        unread_blobs: blobs whose key is not given.
    """
    notes = []
    if lacking := lacking_keys(layout, state):
        notes.append(
            f"not checked without key {', '.join(lacking)}: what is in the segments, "
            f"which blobs they name, and {unread_blobs} blobs"
        )
    if encryption_of(layout) is not None:
        plain = sum(entry.key is None for entry in state.live.values())
        if plain:
            notes.append(f"{plain} segments are older than the key and not encrypted")
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
        hint=f"Set {KEY_FILE_VARIABLE} to the file of that key. Without it nobody can read it.",
    )
