"""Is this still the process, and is it still to go on? Cheap enough to ask at each event.

A child that a C library forks is told nothing by Python, yet must not write into its
parent's journal. To ask for the process id each time would cost a tenth of an append.
So a page of memory is asked that the kernel empties in every child (Linux 4.14).
"""

from __future__ import annotations

import atexit
import mmap
import os
import threading
import weakref
from typing import Final, Protocol

_WIPE_ON_FORK: Final = 18  # MADV_WIPEONFORK of <sys/mman.h>; Python has no name for it


class Mark(Protocol):
    """Something whose item 0 is 1 as long as nothing has to be looked at."""

    def __getitem__(self, index: int, /) -> int: ...

    def __setitem__(self, index: int, value: int, /) -> None: ...


class PidMark:
    """The same where the kernel cannot empty a page: asks for the process id."""

    def __init__(self) -> None:
        self._pid = 0

    def __getitem__(self, index: int, /) -> int:
        return int(self._pid == os.getpid())

    def __setitem__(self, index: int, value: int, /) -> None:
        self._pid = os.getpid() if value else 0


def new_mark() -> Mark:
    """A mark that is 1 in this process, and 0 in each of its children until they set it."""
    mark: Mark = PidMark()
    try:
        page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        page.madvise(_WIPE_ON_FORK)
    except (OSError, ValueError, AttributeError):
        pass
    else:
        mark = page
    mark[0] = 1
    return mark


class Watcher(Protocol):
    """Who has to know."""

    def after_fork_in_child(self) -> None:
        """This is a child now: what was open is the parent's."""
        ...

    def at_exit(self) -> None:
        """The interpreter is about to end."""
        ...


MARK: Final = new_mark()
"""Item 0 is 1, but in a child that has not noticed yet, and once the interpreter is about to end.

Where it is not, call `notice_fork`.
"""


def watch(watcher: Watcher) -> None:
    """Tells it of forks and of the end, as long as it lives."""
    _watchers.add(watcher)


def unwatch(watcher: Watcher) -> None:
    """Tells it no more."""
    _watchers.discard(watcher)


def notice_fork() -> None:
    """In a child that was not known to be one, tells all watchers."""
    global _pid  # noqa: PLW0603  # there is one process
    with _noticing:
        if os.getpid() == _pid:
            return
        for watcher in list(_watchers):
            watcher.after_fork_in_child()
        _pid = os.getpid()
        MARK[0] = 1


def _after_fork_in_child() -> None:
    global _noticing  # noqa: PLW0603  # its holder may not exist in the child
    _noticing = threading.RLock()
    notice_fork()


def _at_exit() -> None:
    for watcher in list(_watchers):
        watcher.at_exit()
    MARK[0] = 0


_watchers: weakref.WeakSet[Watcher] = weakref.WeakSet()
_noticing = threading.RLock()
_pid = os.getpid()
os.register_at_fork(after_in_child=_after_fork_in_child)
atexit.register(_at_exit)
