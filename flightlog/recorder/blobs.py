"""Observations too long for an event, each in a file of its own named by its digest."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import Final

from flightlog.control.owner import give_to_owner, make_folder
from flightlog.errors import DamagedError, StoreError
from flightlog.recorder.layout import TEMPORARY_SUFFIX, Layout, write_all
from flightlog.trace.canonical import clean_text, digest_of

INLINE_BYTES: Final = 16 * 1024
"""Longest observation, in UTF-8, that stays in its event."""


def is_long(text: str) -> bool:
    """True when the text in UTF-8 is above INLINE_BYTES."""
    if len(text) * 4 <= INLINE_BYTES:
        return False
    return len(text) > INLINE_BYTES or len(text.encode("utf-8", "surrogatepass")) > INLINE_BYTES


def write_blob(layout: Layout, text: str) -> tuple[str, Path | None]:
    """Stores a text; its digest, and its file when it was not there before (and is not synced).

    Raises:
        OSError: it is not stored.
    """
    content = clean_text(text).encode()
    digest = digest_of(content)
    path = layout.blob_file(digest)
    try:
        if path.stat().st_size == len(content):
            return digest, None
    except FileNotFoundError:
        make_folder(path.parent)
    temporary = path.with_name(f".{digest}.{uuid.uuid4().hex}{TEMPORARY_SUFFIX}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    give_to_owner(descriptor, path.parent)
    try:
        try:
            write_all(descriptor, content)
        finally:
            os.close(descriptor)
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return digest, path


def read_blob(layout: Layout, digest: str) -> str:
    """The text of a blob, checked against its digest.

    Raises:
        StoreError: there is no such blob.
        DamagedError: its bytes are not those that were written.
    """
    path = layout.blob_file(digest)
    try:
        content = path.read_bytes()
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
    if not is_intact(digest, content):
        raise DamagedError(
            f"the blob's bytes have another digest than its name ({digest})",
            where=str(path),
            hint="Restore the file from a copy of the store.",
        )
    return content.decode()


def is_intact(digest: str, content: bytes) -> bool:
    """True when the content is what the digest was made of."""
    return digest_of(content) == digest
