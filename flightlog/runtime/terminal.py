"""The terminal of the person who runs an agent: text out, one line in, with a time limit."""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Callable, Iterator
from typing import Final, TextIO

MAX_LINE_BYTES: Final = 4096
_POLL_S: Final = 0.1


class NoTerminalError(Exception):
    """There is nobody to ask, with the reason."""


class Terminal:
    """A pair of streams that a person sits at.

    Args:
        reader: a stream without a file descriptor is read as it is, without a time limit.
        writer: gets text that was escaped already.
    """

    def __init__(self, reader: TextIO, writer: TextIO) -> None:
        self._reader = reader
        self._writer = writer
        self._left = b""
        try:
            self._fd: int | None = reader.fileno()
        except (OSError, ValueError, AttributeError):
            self._fd = None

    def show(self, text: str) -> None:
        """Writes text as it is.

        Raises:
            NoTerminalError: it cannot be written.
        """
        try:
            self._writer.write(text)
            self._writer.flush()
        except (OSError, ValueError) as error:
            raise NoTerminalError(f"the terminal cannot be written to: {error}") from error

    def forget_typed(self) -> None:
        """Drops what was typed before the question, which cannot be an answer to it.

        Raises:
            NoTerminalError: this process may not read from its terminal.
        """
        self._left = b""
        if self._fd is not None and os.isatty(self._fd):
            import termios  # noqa: PLC0415 - only where there is a terminal

            if _is_in_background(self._fd):
                # To read would suspend the whole process.
                raise NoTerminalError("this process runs in the background of its terminal")
            termios.tcflush(self._fd, termios.TCIFLUSH)

    def line(self, until_s: float, is_over: Callable[[], bool]) -> str | None:
        """One line without its end; None at the end of input, in time or of the run.

        Args:
            until_s: as `time.monotonic`.
            is_over: True when nobody waits for the answer any more.

        Raises:
            NoTerminalError: it cannot be read.
        """
        try:
            if self._fd is None:
                text = self._reader.readline(MAX_LINE_BYTES)
                return text[:-1] if text.endswith("\n") else None
            return self._typed(self._fd, until_s, is_over)
        except (OSError, ValueError) as error:
            raise NoTerminalError(f"the terminal cannot be read: {error}") from error

    def _typed(self, fd: int, until_s: float, is_over: Callable[[], bool]) -> str | None:
        while b"\n" not in self._left:
            left_s = until_s - time.monotonic()
            if left_s <= 0 or is_over() or len(self._left) > MAX_LINE_BYTES:
                return None
            if select.select([fd], [], [], min(_POLL_S, left_s))[0]:
                got = os.read(fd, MAX_LINE_BYTES)
                if not got:
                    return None
                self._left += got
        line, _, self._left = self._left.partition(b"\n")
        return line.decode("utf-8", "replace")


def _is_in_background(fd: int) -> bool:
    try:
        return os.tcgetpgrp(fd) != os.getpgrp()
    except OSError:  # a terminal, but not the one that controls this process
        return False


@contextlib.contextmanager
def controlling_terminal() -> Iterator[Terminal]:
    """The terminal that this process was started from, even where its streams are pipes.

    Raises:
        NoTerminalError: there is none.
    """
    try:
        fd = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        raise NoTerminalError("this process has no terminal") from error
    with (
        os.fdopen(fd, "r", encoding="utf-8", errors="replace") as reader,
        os.fdopen(os.dup(fd), "w", encoding="utf-8", errors="backslashreplace") as writer,
    ):
        yield Terminal(reader, writer)
