"""An MCP server as a child process, and the lines both ways."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from flightlog.errors import UsageError
from flightlog.integrations.mcp.jsonrpc import TooLongError, lines_of

STDIN: Final = 0
STDOUT: Final = 1
_LEAVE_S: Final = 5.0


class ServerProcess:
    """A server that was started for one client. A context manager: it does not outlive it.

    Args:
        command: and its arguments. The server's stderr is ours.

    Attributes:
        broken: why the lines of one side cannot be read any more.

    Raises:
        UsageError: it cannot be started.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self.broken: str | None = None
        try:
            self._process = subprocess.Popen(  # noqa: S603  - the user's own server
                list(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
            )
        except (OSError, ValueError) as error:
            raise UsageError(
                f"the server cannot be started: {error}", hint="Write its command after `--`."
            ) from error
        self._lock = threading.Lock()

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.leave()

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative where a signal ended it."""
        return self._process.poll()

    def send(self, line: bytes) -> bool:
        """Sends a line; False once the server takes none."""
        stdin = self._process.stdin
        assert stdin is not None
        with self._lock:
            try:
                _write_all(stdin.fileno(), line)
            except (OSError, ValueError):
                return False
        return True

    def no_more(self) -> None:
        """Closes its stdin: the client has gone, and the server is to end."""
        stdin = self._process.stdin
        assert stdin is not None
        with self._lock, suppress(OSError):
            stdin.close()

    def serve(self, from_server: Callable[[bytes], None]) -> None:
        """Gives the server's lines until it has no more; blocks."""
        stdout = self._process.stdout
        assert stdout is not None
        try:
            for line in lines_of(stdout.fileno()):
                from_server(line)
        except TooLongError as error:
            self.broken = f"the server sent {error}"

    def leave(self) -> int:
        """Waits for its end, and sees to it; gives its exit code."""
        self.no_more()
        for end in (None, self._process.terminate, self._process.kill):
            if end is not None:
                end()
            with suppress(subprocess.TimeoutExpired):
                return self._process.wait(_LEAVE_S)
        return self._process.wait()

    def terminate(self) -> None:
        """Asks it to end."""
        with suppress(OSError):
            self._process.send_signal(signal.SIGTERM)


def from_client(take: Callable[[bytes], None], gone: Callable[[str | None], None]) -> None:
    """Gives the client's lines, in a thread that nobody waits for.

    Args:
        take: gets each line.
        gone: is called at their end, with what went wrong.
    """

    def read() -> None:
        why = None
        try:
            for line in lines_of(STDIN):
                take(line)
        except TooLongError as error:
            why = f"the client sent {error}"
        gone(why)

    threading.Thread(target=read, name="flightlog-mcp-client", daemon=True).start()


_to_client: Final = threading.Lock()


def to_client(line: bytes) -> bool:
    """Sends a line to the client; False once it takes none. For several threads."""
    with _to_client:
        try:
            _write_all(STDOUT, line)
        except OSError:
            return False
    return True


def _write_all(fd: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(fd, left) :]
