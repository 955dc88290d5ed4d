"""What is put aside when a journal is sealed: damaged parts, and records that fit no column."""

from __future__ import annotations

from pathlib import Path

from flightlog.recorder.encryption.boxes import box_key_id, boxed, read_box
from flightlog.recorder.layout import Layout, write_file


def put_aside(layout: Layout, path: Path, content: bytes) -> None:
    """Writes a piece to the quarantine of a store, encrypted where there is a key.

    Raises:
        OSError: it cannot be written.
    """
    layout.disk.mkdir(layout.quarantine)
    if layout.keys is not None:
        content = b"".join(boxed(layout.keys.first, path.name, [content]))
    write_file(layout, path, content)


def read_aside(layout: Layout, path: Path) -> bytes:
    """A piece as it was before it was encrypted, if it was.

    Raises:
        StoreKeyError: it is encrypted and its key is not given.
        DamagedError: it is encrypted, and not as it was written.
        OSError: it cannot be read.
    """
    if box_key_id(path) is None:
        return path.read_bytes()
    return read_box(layout.keys, path)
