"""A collector in a process of its own, and senders."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PATIENCE_S = 30.0
_URL = re.compile(r"http://\S+")


@dataclass
class Collecting:
    """A running `flightlog collect`."""

    url: str
    process: subprocess.Popen[str]

    def kill(self) -> None:
        """SIGKILL, as the kernel gives it."""
        self.process.kill()
        self.process.wait()

    def end(self) -> str:
        """SIGTERM; what it printed."""
        self.process.send_signal(signal.SIGTERM)
        said, _ = self.process.communicate(timeout=PATIENCE_S)
        return said


@dataclass
class Answer:
    """What a server answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@contextmanager
def collecting(
    store: Path, *options: str, env: Mapping[str, str] | None = None
) -> Iterator[Collecting]:
    """A collector into a store, on a free port; killed at the end when it still runs."""
    command = [sys.executable, "-m", "flightlog", "collect", "--store", str(store), "--port", "0"]
    with subprocess.Popen(
        [*command, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=None if env is None else dict(env),
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            found = _URL.search(line)
            assert found, line + process.stdout.read()
            yield Collecting(found[0], process)
        finally:
            with suppress(ProcessLookupError):
                process.kill()


def post(
    url: str,
    body: bytes | dict[str, Any],
    *,
    content_type: str = "application/json",
    timeout_s: float = PATIENCE_S,
    **headers: str,
) -> Answer:
    """Sends one request; underscores in names of headers are hyphens."""
    raw = json.dumps(body).encode() if isinstance(body, dict) else body
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    request = urllib.request.Request(
        f"{url}/v1/traces", data=raw, headers={"content-type": content_type, **named}
    )
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as done:
            return Answer(done.status, done.headers, done.read())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.headers, error.read())


def eventually(what: Any, *, patience_s: float = PATIENCE_S) -> Any:
    """Waits until a function gives something that is true, and gives it."""
    until = time.monotonic() + patience_s
    while not (found := what()):
        assert time.monotonic() < until, f"not within {patience_s:g} s: {found}"
        time.sleep(0.05)
    return found
