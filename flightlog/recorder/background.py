"""Sealing beside a recording: a process of its own, so that no caller of `emit` waits for it.

python -m flightlog.recorder.background STORE
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from pathlib import Path
from typing import Final

_NICENESS: Final = 10


class BackgroundSealer:
    """Starts a process that seals a store's finished journals; one at a time.

    Args:
        store: the store's folder.
    """

    def __init__(self, store: Path) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._pid: int | None = None

    def start(self) -> None:
        """Starts it, unless one is at work; that it cannot be started loses nothing."""
        with self._lock:
            if not sys.executable or self._is_at_work():
                return
            command = [sys.executable, "-m", __name__, str(self._store.absolute())]
            with contextlib.suppress(OSError):
                nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
                try:
                    streams = [(os.POSIX_SPAWN_DUP2, nothing, number) for number in range(3)]
                    self._pid = os.posix_spawn(
                        sys.executable, command, os.environ, file_actions=streams
                    )
                finally:
                    os.close(nothing)

    def wait(self) -> None:
        """Returns once none is at work."""
        with self._lock:
            self._is_at_work(wait=True)

    def forget(self) -> None:
        """In a forked child: the process belongs to the parent."""
        self._lock = threading.Lock()
        self._pid = None

    def _is_at_work(self, *, wait: bool = False) -> bool:
        if self._pid is None:
            return False
        try:
            ended, _ = os.waitpid(self._pid, 0 if wait else os.WNOHANG)
        except ChildProcessError:  # the application has waited for all of its children
            ended = self._pid
        if ended:
            self._pid = None
        return not ended


def main() -> None:
    """Seals the store named on the command line; what fails is left for the next sealing."""
    from flightlog.recorder.seal import seal_after_recording  # noqa: PLC0415

    os.nice(_NICENESS)
    seal_after_recording(Path(sys.argv[1]))


if __name__ == "__main__":
    main()
