"""Readers' leases: files that somebody still reads are not removed.

A reader holds a shared lock on `manifest/.readers` from before it reads the manifests
until it is done with the files that they name. Who removes files takes the lock alone.

Where readers follow on each other without end, that would never be possible. Then a new
generation of readers is begun, with a file of its own: when those of older generations
are done, nobody reads any more what was replaced before it began.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from flightlog.config.regular_file import read_regular
from flightlog.control.owner import lock_file
from flightlog.recorder.layout import MAX_RECORD_BYTES, Layout, write_file

LEASE_FILE: Final = ".readers"
GENERATION_FILE: Final = ".generation"
_LOOK_EVERY_S: Final = 0.05


class Generation(msgspec.Struct, frozen=True):
    """The readers that begin now.

    Attributes:
        number: counts them, from 0.
        manifest: number of the manifest that each of them knows.
    """

    number: int = 0
    manifest: int = 0


class Lease:
    """A reader's lease on a store; ends with `release`, or when nobody holds it any more.

    A reader that may not write to the store, where no lease file is yet, has none: nobody
    has removed anything from such a store so far.
    """

    def __init__(self, layout: Layout) -> None:
        self.release = weakref.finalize(self, _close, _joined(layout))
        """Ends the lease; further calls do nothing."""


def _joined(layout: Layout) -> int | None:
    """A shared lock on the file of the newest generation."""
    while True:
        number = generation_of(layout).number
        descriptor = _open(_file(layout, number))
        if descriptor is None:
            return None
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        if generation_of(layout).number == number:
            return descriptor
        os.close(descriptor)


@contextmanager
def no_readers(layout: Layout, *, wait_s: float) -> Iterator[bool]:
    """Keeps readers out; gives False where some are still there after `wait_s` seconds.

    The caller holds the sealing lock.
    """
    until_s = time.monotonic() + wait_s
    newest = _file(layout, generation_of(layout).number)
    with contextlib.ExitStack() as held:
        is_alone = True
        for path in {newest, *_files(layout)}:
            descriptor = _open(path)
            if descriptor is None:
                is_alone = False
                break
            held.callback(os.close, descriptor)
            is_alone = is_alone and _locked_alone(descriptor, until_s)
        yield is_alone


def replaced_unread(layout: Layout, manifest: int) -> int:
    """The number of a manifest that all readers know: what it and those before replaced is unread.

    Begins a new generation of readers where that helps, later or at once. The caller holds
    the sealing lock.

    Args:
        layout: the store.
        manifest: number of the newest manifest.
    """
    generation = generation_of(layout)
    if not _are_done(layout, generation.number):
        return 0
    if generation.manifest >= manifest:
        return generation.manifest
    following = Generation(generation.number + 1, manifest)
    write_file(layout, layout.manifests / GENERATION_FILE, msgspec.json.encode(following))
    return manifest if _are_done(layout, following.number) else generation.manifest


def generation_of(layout: Layout) -> Generation:
    """The generation that a reader who begins now belongs to."""
    try:
        content = read_regular(layout.manifests / GENERATION_FILE, MAX_RECORD_BYTES)
        return msgspec.json.decode(content, type=Generation)
    except (OSError, msgspec.MsgspecError):
        return Generation()


def _are_done(layout: Layout, generation: int) -> bool:
    """True when no reader of an older generation is left; their files are removed then."""
    newest = _file(layout, generation)
    for path in _files(layout) - {newest}:
        descriptor = _open(path)
        if descriptor is None:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Who has opened it, and waits for the lock, sees then that it is too late.
            layout.disk.unlink(path)
        except BlockingIOError:
            return False
        finally:
            os.close(descriptor)
    return True


def _file(layout: Layout, generation: int) -> Path:
    return layout.manifests / (f"{LEASE_FILE}-{generation}" if generation else LEASE_FILE)


def _files(layout: Layout) -> set[Path]:
    return set(layout.manifests.glob(f"{LEASE_FILE}*"))


def _locked_alone(descriptor: int, until_s: float) -> bool:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until_s:
                return False
            time.sleep(_LOOK_EVERY_S)
        else:
            return True


def _open(path: Path) -> int | None:
    with contextlib.suppress(OSError):
        return lock_file(path)
    with contextlib.suppress(OSError):
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    return None


def _close(descriptor: int | None) -> None:
    if descriptor is not None:
        os.close(descriptor)
