"""Runs as spans to an OTLP endpoint, as soon as they end.

What is sent is what was recorded: a run is read out of the store after its end, redacted as it
is there. Source: OTLP specification 1.7, "OTLP/HTTP" (JSON, retries, Retry-After); the variables
are those of the OpenTelemetry SDKs.
"""

from __future__ import annotations

import gzip
import os
import threading
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import unquote, urlsplit

import msgspec

from flightlog.errors import FlightlogError, UsageError
from flightlog.integrations.otlp.out import request_of
from flightlog.recorder.recorder import Recorder
from flightlog.recorder.store import Store
from flightlog.replay.cassette import Recording
from flightlog.replay.recordings import read_recordings
from flightlog.trace.events import Event, RunStopped
from flightlog.trace.messages import Message

MAX_WAITING: Final = 10_000
"""Most runs that wait to be sent; further ones are left out and counted."""
MAX_TRIES: Final = 8
_AT_ONCE: Final = 200
_LONGEST_PAUSE_S: Final = 30.0
_TIMEOUT_S: Final = 10.0
_RETRIED: Final = frozenset({408, 429, 502, 503, 504})
_encode: Final = msgspec.json.Encoder().encode


@dataclass(slots=True)
class Counts:
    """What became of the runs.

    Attributes:
        sent: acknowledged by the endpoint.
        left_out: not sent: too many waited, the endpoint refused them or did not answer. They
            are in the store; `flightlog export --format otlp` writes them.
    """

    sent: int = 0
    left_out: int = 0


class LiveExport:
    """A sink in front of a recorder, that sends each run once it has ended; a context manager.

    Recording never waits for it, and what it cannot send is in the store.

    Args:
        recorder: takes the events.
        endpoint: base URL; None takes `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` (whole), else
            `OTEL_EXPORTER_OTLP_ENDPOINT`.
        headers: of each request; None takes `OTEL_EXPORTER_OTLP_HEADERS`.
        interval_s: how long a run waits after its end at least, for the judgements that follow.

    Attributes:
        counts: what became of the runs.
        last_error: why something was left out.

    Raises:
        UsageError: no endpoint, or none that is HTTP.
    """

    def __init__(
        self,
        recorder: Recorder,
        endpoint: str | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        interval_s: float = 1.0,
    ) -> None:
        self.counts = Counts()
        self.last_error: str | None = None
        self._recorder = recorder
        self._url = _url_of(endpoint)
        self._headers = dict(_headers_of_environment() if headers is None else headers)
        self._interval_s = interval_s
        self._waiting: deque[tuple[float, str]] = deque()
        self._changed = threading.Condition()
        self._closing_at: float | None = None
        self._thread = threading.Thread(target=self._work, name="flightlog-otlp", daemon=True)
        self._thread.start()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_recorder"], name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def emit(
        self, event: Event, *, messages: Sequence[Message] = (), durable: bool = False
    ) -> bool:
        """Records an event; the end of a run has it sent."""
        kept = self._recorder.emit(event, messages=messages, durable=durable)
        if isinstance(event, RunStopped):
            self._add(event.run_id)
        return kept

    def close(self, *, timeout_s: float = 30.0) -> None:
        """Sends what waits, for so long at most; the recorder stays open."""
        with self._changed:
            self._closing_at = time.monotonic() + timeout_s
            self._changed.notify_all()
        self._thread.join(timeout_s + _TIMEOUT_S)
        with self._changed:
            self._leave_out(len(self._waiting), "it was closed before they were sent")
            self._waiting.clear()

    def _add(self, run_id: str) -> None:
        with self._changed:
            if len(self._waiting) >= MAX_WAITING or self._closing_at is not None:
                self._leave_out(1, f"{len(self._waiting):,} runs wait already, or it is closed")
                return
            self._waiting.append((time.monotonic() + self._interval_s, run_id))
            self._changed.notify_all()

    def _leave_out(self, runs: int, why: str) -> None:
        if runs:
            self.counts.left_out += runs
            self.last_error = why

    def _work(self) -> None:
        while (run_ids := self._due()) is not None:
            for run_id, recording in self._read(run_ids):
                self._send(run_id, recording)

    def _due(self) -> list[str] | None:
        """Runs whose time has come; None at the end."""
        with self._changed:
            while True:
                now, closing = time.monotonic(), self._closing_at
                if closing is not None and (not self._waiting or now >= closing):
                    return None
                due: list[str] = []
                while self._waiting and len(due) < _AT_ONCE:
                    if closing is None and self._waiting[0][0] > now:
                        break
                    due.append(self._waiting.popleft()[1])
                if due:
                    return due
                until = self._waiting[0][0] - now if self._waiting else None
                self._changed.wait(until)

    def _read(self, run_ids: list[str]) -> list[tuple[str, Recording]]:
        try:
            found = read_recordings(Store.open(self._recorder.store_path), run_ids)
        except (FlightlogError, OSError) as error:
            with self._changed:
                self._leave_out(len(run_ids), f"the store cannot be read: {error}")
            return []
        return list(zip(run_ids, found, strict=False))

    def _send(self, run_id: str, recording: Recording) -> None:
        body = gzip.compress(_encode(request_of(recording)), compresslevel=5)
        why, pause_s = "", 0.5
        for _ in range(MAX_TRIES):
            why, asked_s, is_final = self._post(body)
            if not why:
                self.counts.sent += 1
                return
            if is_final or not self._paused(min(asked_s or pause_s, _LONGEST_PAUSE_S)):
                break
            pause_s *= 2
        with self._changed:
            self._leave_out(1, f"run {run_id}: {why}")

    def _paused(self, seconds: float) -> bool:
        """Waits before another try; False where there is no time for one."""
        with self._changed:
            if self._closing_at is not None:
                left_s = self._closing_at - time.monotonic()
                if left_s <= seconds:
                    return False
            self._changed.wait_for(lambda: False, seconds)
            return True

    def _post(self, body: bytes) -> tuple[str, float | None, bool]:
        """Why it was not taken, empty where it was; the pause asked for; no use in trying again."""
        kind = {"content-type": "application/json", "content-encoding": "gzip"}
        request = urllib.request.Request(self._url, body, self._headers | kind)  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310
                answer.read(1 << 16)
        except urllib.error.HTTPError as error:
            asked = error.headers.get("retry-after", "")
            with error:
                why = f"the endpoint answers HTTP {error.code}"
            return why, float(asked) if asked.isdecimal() else None, error.code not in _RETRIED
        except (OSError, ValueError) as error:
            return f"the endpoint cannot be reached: {type(error).__name__}", None, False
        return "", None, False


def _url_of(endpoint: str | None) -> str:
    whole = None if endpoint else os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    base = endpoint or os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    url = whole or (f"{base.rstrip('/')}/v1/traces" if base else "")
    if urlsplit(url).scheme not in ("http", "https"):
        raise UsageError(
            f"{url or 'nothing'!r} is no endpoint that takes OTLP over HTTP",
            hint="Give endpoint=, or set OTEL_EXPORTER_OTLP_ENDPOINT=http://HOST:4318.",
        )
    return url


def _headers_of_environment() -> dict[str, str]:
    pairs = os.environ.get("OTEL_EXPORTER_OTLP_HEADERS", "").split(",")
    split = (pair.partition("=") for pair in pairs if "=" in pair)
    return {name.strip(): unquote(value.strip()) for name, _, value in split}
