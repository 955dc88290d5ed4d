"""The system calls that change a store, in one place, so that a test can give a disk that fails.

A simulated disk derives from `Disk`, does what the real one does, and remembers what
was synced: from that it knows every state that a loss of power could leave behind.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from flightlog.control.owner import give_to_owner, make_folder

PRIVATE_FILE: Final = 0o600


def _sync_through(descriptor: int) -> None:
    """fsync that reaches the medium also where the system's own stops at the drive (macOS)."""
    fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)  # type: ignore[attr-defined,unused-ignore]


def _moved_up(descriptor: int) -> int:
    """The same file under a number that nobody takes for standard input, output or error.

    In a process that was started without them, what a library prints would go into the file.
    """
    try:
        return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _STANDARD_ERROR + 1)
    finally:
        os.close(descriptor)


_STANDARD_ERROR: Final = 2
_is_linux: Final = not hasattr(fcntl, "F_FULLFSYNC")


class Disk:
    """The machine's disk. Arguments and errors are those of the functions of `os`."""

    write = staticmethod(os.write)
    fdatasync = staticmethod(os.fdatasync if _is_linux else _sync_through)
    fsync = staticmethod(os.fsync if _is_linux else _sync_through)
    ftruncate = staticmethod(os.ftruncate)
    close = staticmethod(os.close)

    def create(self, path: Path, *, append: bool = False) -> int:
        """A new file, open for writing; only its owner may read it."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(path, flags | (os.O_APPEND if append else 0), PRIVATE_FILE)
        if descriptor <= _STANDARD_ERROR:
            descriptor = _moved_up(descriptor)
        give_to_owner(descriptor, path.parent)
        return descriptor

    def rename(self, source: Path, target: Path) -> None:
        """Gives a file its name; one that had it is gone."""
        source.replace(target)

    def unlink(self, path: Path) -> None:
        """Removes a file; absent ones do not matter."""
        path.unlink(missing_ok=True)

    def mkdir(self, path: Path) -> None:
        """Makes a folder, and those above it, that only its owner may enter."""
        make_folder(path)

    def sync_file(self, path: Path) -> None:
        """Brings the bytes of a file to the disk."""
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            self.fdatasync(descriptor)
        finally:
            self.close(descriptor)

    def sync_folder(self, folder: Path) -> None:
        """Makes new, renamed and removed names in a folder survive the loss of power."""
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self.fsync(descriptor)
        finally:
            self.close(descriptor)

    def write_all(self, descriptor: int, content: bytes | memoryview) -> None:
        """Writes all bytes, however many calls that takes."""
        view = memoryview(content)
        while view:
            view = view[self.write(descriptor, view) :]


def sync_files(disk: Disk, paths: Iterable[Path]) -> None:
    """Brings files two levels below a folder to the disk, with their names."""
    folders = set[Path]()
    for path in paths:
        disk.sync_file(path)
        folders.update((path.parent, path.parent.parent))
    for folder in folders:
        disk.sync_folder(folder)


DISK: Final = Disk()
"""The real one."""


_GATHERED_BYTES: Final = 1 << 20


class DiskFile(io.RawIOBase):
    """A new file that is written from its beginning to its end, hashed on the way.

    What is not synced at the end may not be in the file.

    Attributes:
        size: bytes written so far.

    Args:
        disk: what writes.
        path: must not exist.
    """

    def __init__(self, disk: Disk, path: Path) -> None:
        super().__init__()
        self.size = 0
        self._gathered = bytearray()
        self._disk = disk
        self._sha256 = hashlib.sha256()
        self._descriptor = disk.create(path)

    @property
    def sha256(self) -> str:
        """Of all bytes that were synced, in hex."""
        return self._sha256.hexdigest()

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.size

    def write(self, content: Any, /) -> int:
        view = memoryview(content).cast("B")
        self._gathered += view
        self.size += len(view)
        if len(self._gathered) >= _GATHERED_BYTES:
            self._write_gathered()
        return len(view)

    def _write_gathered(self) -> None:
        # A Parquet file comes in hundreds of pieces, most of them a few bytes long.
        content, self._gathered = self._gathered, bytearray()
        self._disk.write_all(self._descriptor, memoryview(content))
        self._sha256.update(content)

    def sync(self) -> None:
        """Brings all that was written to the disk."""
        self._write_gathered()
        self._disk.fsync(self._descriptor)

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._disk.close(self._descriptor)
