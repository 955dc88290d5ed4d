"""Readers' leases: files that somebody still reads are not removed.

A reader holds a shared lock on `manifest/.readers` from before it reads the manifests
until it is done with the files that they name. Who removes files takes the lock alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from flightlog.control.owner import lock_file
from flightlog.recorder.layout import Layout

LEASE_FILE: Final = ".readers"
_LOOK_EVERY_S: Final = 0.05


class Lease:
    """A reader's lease on a store; ends with `release`, or when nobody holds it any more.

    A reader that may not write to the store, where no lease file is yet, has none: nobody
    has removed anything from such a store so far.
    """

    def __init__(self, layout: Layout) -> None:
        descriptor = _open(layout)
        if descriptor is not None:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        self.release = weakref.finalize(self, _close, descriptor)
        """Ends the lease; further calls do nothing."""


@contextmanager
def no_readers(layout: Layout, *, wait_s: float) -> Iterator[bool]:
    """Keeps readers out; gives False where some are still there after `wait_s` seconds."""
    descriptor = _open(layout)
    if descriptor is None:
        yield False
        return
    try:
        yield _locked_alone(descriptor, time.monotonic() + wait_s)
    finally:
        os.close(descriptor)


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


def _open(layout: Layout) -> int | None:
    path = layout.manifests / LEASE_FILE
    with contextlib.suppress(OSError):
        return lock_file(path)
    with contextlib.suppress(OSError):
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    return None


def _close(descriptor: int | None) -> None:
    if descriptor is not None:
        os.close(descriptor)
