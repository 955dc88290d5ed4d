"""What stands between the requests of a collector and its inbox: one thread that writes.

Requests that come together are committed together. What they hold in memory is bounded: who
comes when the bound is reached is told to come again.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Final

from flightlog.errors import FlightlogError, StoreError
from flightlog.integrations.otlp.inbox import Inbox
from flightlog.integrations.otlp.spans import Batch, spans_of_json, spans_of_protobuf

DECODERS: Final[Mapping[str, Callable[[bytes], Batch]]] = {
    "application/json": spans_of_json,
    "application/x-protobuf": spans_of_protobuf,
}
_GROUP_REQUESTS: Final = 64
_GROUP_SPANS: Final = 20_000
_LONGEST_WAIT_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a collector takes.

    Attributes:
        request_bytes: most of one request, unpacked.
        waiting_bytes: most of all requests that are not yet kept.
        spans_per_second: on average; None for as many as it can.
    """

    request_bytes: int = 32 << 20
    waiting_bytes: int = 128 << 20
    spans_per_second: float | None = None


class OverloadedError(Exception):
    """The collector holds as much as it may; `retry_after_s` says when to come again."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(f"come again in {retry_after_s:g} s")
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of one request.

    Attributes:
        spans: kept now, or kept before.
        new: of them, those that were not known.
        refused: reason -> spans that cannot be taken.
    """

    spans: int
    new: int
    refused: Mapping[str, int]


@dataclass(slots=True)
class Counts:
    """What a collector has done."""

    requests: int = 0
    spans: int = 0
    known: int = 0
    overloaded: int = 0
    refused: Counter[str] = field(default_factory=Counter)


class Hold:
    """The bytes that one request holds in memory."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self.bytes = 0

    def grow(self, size: int) -> None:
        """Takes more.

        Raises:
            OverloadedError: all requests together hold too much.
        """
        self._intake.hold(size)
        self.bytes += size

    def release(self) -> None:
        """Gives all of it back."""
        self._intake.hold(-self.bytes)
        self.bytes = 0


class Intake:
    """Decodes requests and keeps their spans.

    Args:
        open_inbox: gives the writing thread its own object.
        limits: how much is taken.
    """

    def __init__(self, open_inbox: Callable[[], Inbox], limits: Limits) -> None:
        self.limits = limits
        self.counts = Counts()
        self._open_inbox = open_inbox
        self._queue: queue.SimpleQueue[tuple[bytes, str, Future[Receipt]] | None]
        self._queue = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._held = 0
        self._balance = limits.spans_per_second or 0.0
        self._refilled_s = time.monotonic()
        self._commit_s = 0.05
        self._thread = threading.Thread(target=self._run, name="flightlog-intake", daemon=True)
        self._thread.start()

    def hold(self, size: int) -> None:
        """Counts bytes that requests hold; see `Hold`."""
        with self._lock:
            if size > 0 and self._held + size > self.limits.waiting_bytes:
                self.counts.overloaded += 1
                raise OverloadedError(min(_LONGEST_WAIT_S, max(1.0, 4 * self._commit_s)))
            self._held += size

    def require_within_rate(self) -> None:
        """Lets a request in, or not.

        Raises:
            OverloadedError: more spans came than `spans_per_second`.
        """
        rate = self.limits.spans_per_second
        if rate is None:
            return
        with self._lock:
            now_s = time.monotonic()
            self._balance = min(rate, self._balance + (now_s - self._refilled_s) * rate)
            self._refilled_s = now_s
            if self._balance <= 0:
                self.counts.overloaded += 1
                raise OverloadedError(min(_LONGEST_WAIT_S, max(1.0, -self._balance / rate)))

    def offer(self, raw: bytes, content_type: str) -> Future[Receipt]:
        """Hands a request over; the future has its receipt once its spans are kept.

        The future raises TraceFormatError for what is no request, MissingExtraError without
        opentelemetry-proto, and StoreError where the spans could not be kept.
        """
        future: Future[Receipt] = Future()
        self._queue.put((raw, content_type, future))
        return future

    @property
    def is_busy(self) -> bool:
        """True while requests wait for the thread that keeps them."""
        return not self._queue.empty()

    def close(self) -> None:
        """Keeps what was offered, and ends the thread."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        inbox = self._open_inbox()
        is_open = True
        while is_open:
            group = [self._queue.get()]
            is_open = group[0] is not None
            decoded: list[tuple[Future[Receipt], Batch]] = []
            while is_open:
                one = group.pop()
                if one is None:
                    is_open = False
                    break
                self._decode(one, decoded)
                spans = sum(len(batch.spans) for _, batch in decoded)
                if len(decoded) >= _GROUP_REQUESTS or spans >= _GROUP_SPANS:
                    break
                try:
                    group.append(self._queue.get_nowait())
                except queue.Empty:
                    break
            if decoded:
                self._keep(inbox, decoded)
        inbox.close()

    def _decode(
        self,
        one: tuple[bytes, str, Future[Receipt]],
        decoded: list[tuple[Future[Receipt], Batch]],
    ) -> None:
        raw, content_type, future = one
        try:
            decoded.append((future, DECODERS[content_type](raw)))
        except FlightlogError as error:
            future.set_exception(error)

    def _keep(self, inbox: Inbox, decoded: list[tuple[Future[Receipt], Batch]]) -> None:
        begun_s = time.monotonic()
        try:
            new = inbox.add_all([batch.spans for _, batch in decoded])
        except StoreError as error:
            for future, _ in decoded:
                future.set_exception(error)
            return
        self._commit_s = 0.8 * self._commit_s + 0.2 * (time.monotonic() - begun_s)
        counts = self.counts
        for (future, batch), added in zip(decoded, new, strict=True):
            counts.requests += 1
            counts.spans += added
            counts.known += len(batch.spans) - added
            counts.refused.update(batch.refused)
            with self._lock:
                self._balance -= len(batch.spans)
            future.set_result(Receipt(len(batch.spans), added, batch.refused))
