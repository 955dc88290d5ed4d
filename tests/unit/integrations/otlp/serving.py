"""A collector in a process of its own, and senders."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.unit.integrations.running import PATIENCE_S, Running, eventually, running

__all__ = ["PATIENCE_S", "Running", "collecting", "eventually", "post"]


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
) -> Iterator[Running]:
    """A collector into a store, on a free port; killed at the end when it still runs."""
    with running("collect", "--store", store, *options, env=env) as found:
        yield found


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
