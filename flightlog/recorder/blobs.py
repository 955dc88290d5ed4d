"""Texts too long for an event or a message, each in a file of its own named by its digest."""

from __future__ import annotations

import fcntl
import os
import uuid
from pathlib import Path
from typing import Final

from flightlog.config.regular_file import NotRegularError, open_regular
from flightlog.errors import DamagedError, StoreError
from flightlog.recorder.encryption.boxes import BOX_BYTES, box_key_id, boxed, read_box, unboxed
from flightlog.recorder.layout import TEMPORARY_SUFFIX, Layout
from flightlog.trace.canonical import digest_of, digest_of_pieces
from flightlog.trace.slices import utf8_slices

INLINE_BYTES: Final = 16 * 1024
"""Longest observation or message text, in UTF-8, that stays in its row."""

_READ_BYTES: Final = 1 << 20


def is_long(text: str) -> bool:
    """True when the text in UTF-8 is above INLINE_BYTES."""
    if len(text) * 4 <= INLINE_BYTES:
        return False
    return len(text) > INLINE_BYTES or len(text.encode("utf-8", "surrogatepass")) > INLINE_BYTES


def write_blob(layout: Layout, text: str) -> tuple[str, Path]:
    """Stores a text; its digest, and its file, which is not synced yet.

    A long text is cleaned, hashed and written in slices, never copied as a whole. With
    a key it is encrypted. One that is there already is not written again; it is to be synced
    all the same, since whoever wrote it may not have come to it.

    Raises:
        OSError: it is not stored.
    """
    size = sum(map(len, utf8_slices(text)))
    digest = digest_of_pieces(size, utf8_slices(text))
    path = layout.blob_places(digest)[0]
    key = None if layout.keys is None else layout.keys.first
    is_there = path.exists()
    if not is_there:
        layout.disk.mkdir(path.parent)
    # A loss of power leaves files of the right size without their bytes.
    elif layout.trusts_cache and is_intact_file(layout, path):
        return digest, path
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}{TEMPORARY_SUFFIX}")
    disk = layout.disk
    try:
        descriptor = disk.create(temporary)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)  # tells whether its writer is alive
            pieces = utf8_slices(text)
            for piece in pieces if key is None else boxed(key, path.name, pieces):
                disk.write_all(descriptor, piece)
            if is_there:  # what earlier events have must not give way to what may get lost
                disk.fsync(descriptor)
            disk.rename(temporary, path)
        finally:
            disk.close(descriptor)
    except BaseException:
        disk.unlink(temporary)
        raise
    return digest, path


def read_blob(layout: Layout, digest: str) -> str:
    """The text of a blob, checked against its digest.

    Raises:
        StoreError: there is no such blob.
        StoreKeyError: it is encrypted and its key is not given.
        DamagedError: its bytes are not those that were written.
    """
    path = layout.blob_file(digest)
    try:
        content = _content(path) if path.name == digest else read_box(layout.keys, path)
    except (FileNotFoundError, NotADirectoryError):
        raise StoreError(
            f"no blob {digest!r}",
            where=str(layout.blobs),
            hint="Copy the store with its blobs/ folder.",
        ) from None
    except OSError as error:
        raise StoreError(
            f"cannot read the blob: {error.strerror or error}",
            where=str(path),
            hint="Read the store as a user that may read its files.",
        ) from error
    if digest_of(content) != digest:
        raise DamagedError(
            f"the blob's bytes have another digest than its name ({digest})",
            where=str(path),
            hint="Restore the file from a copy of the store.",
        )
    return content.decode()


def _content(path: Path) -> bytes:
    with open_regular(path) as file:
        return file.read()


def is_intact_file(layout: Layout, path: Path) -> bool:
    """True when the bytes of a blob are those that its name was made of; read in slices.

    Raises:
        StoreKeyError: it is encrypted and its key is not given.
    """
    try:
        digest_of_blob(layout, path)
    except DamagedError:
        return False
    return True


def digest_of_blob(layout: Layout, path: Path) -> str:
    """The digest of the text in a file of blobs/, checked against its name.

    Raises:
        StoreKeyError: it is encrypted and its key is not given.
        DamagedError: its bytes are not those that were written.
    """
    try:
        opened = open_regular(path)
    except NotRegularError as error:
        raise DamagedError(
            f"the blob {error.strerror}",
            where=str(path),
            hint="Restore the file from a copy of the store.",
        ) from error
    with opened as file:
        size = os.fstat(file.fileno()).st_size
        digest = digest_of_pieces(size, iter(lambda: file.read(_READ_BYTES), b""))
        if digest == path.name:
            return digest
        if box_key_id(path) is not None:
            file.seek(0)
            digest = digest_of_pieces(size - BOX_BYTES, unboxed(layout.keys, path, file))
            if any(key.blob_name(digest) == path.name for key in layout.keys or ()):
                return digest
    raise DamagedError(
        "the blob's bytes are not those that were written",
        where=str(path),
        hint="Restore the file from a copy of the store.",
    )
