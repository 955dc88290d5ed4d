"""Servers of ours in processes of their own."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

PATIENCE_S = 30.0
_URL = re.compile(r"http://[^\s/]+")


@dataclass
class Running:
    """A running `flightlog` that serves."""

    url: str
    process: subprocess.Popen[str]

    def kill(self) -> None:
        """SIGKILL, as the kernel gives it."""
        self.process.kill()
        self.process.wait()

    def end(self) -> str:
        """SIGTERM, after which it ends well; what it printed."""
        self.process.send_signal(signal.SIGTERM)
        said, _ = self.process.communicate(timeout=PATIENCE_S)
        assert self.process.returncode == 0, said
        return said


@contextmanager
def running(
    *arguments: object, env: Mapping[str, str] | None = None, within: tuple[str, ...] = ()
) -> Iterator[Running]:
    """A command that serves, on a free port; killed at the end when it still runs.

    Args:
        arguments: of flightlog.
        env: the environment; None is that of the tests.
        within: a command that runs it, such as `prlimit`.
    """
    command = [*within, sys.executable, "-m", "flightlog", *map(str, arguments), "--port", "0"]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=None if env is None else dict(env),
    ) as process:
        try:
            assert process.stdout is not None
            said = ""
            while (found := _URL.search(said)) is None:
                line = process.stdout.readline()
                assert line, said
                said += line
            yield Running(found[0], process)
        finally:
            with suppress(ProcessLookupError):
                process.kill()


def eventually(what: Any, *, patience_s: float = PATIENCE_S) -> Any:
    """Waits until a function gives something that is true, and gives it."""
    until = time.monotonic() + patience_s
    while not (found := what()):
        assert time.monotonic() < until, f"not within {patience_s:g} s: {found}"
        time.sleep(0.05)
    return found
