"""One request on its way: sent on, its answer passed back as it comes, both recorded."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from flightlog.integrations.dialects.dialect import Answered, Dialect, error_of, object_of
from flightlog.integrations.dialects.sse import EventReader
from flightlog.integrations.proxy.book import Book
from flightlog.integrations.proxy.open_run import Ending, Exchange
from flightlog.trace.vocab import Outcome

if TYPE_CHECKING:
    import httpx2

MAX_BODY_BYTES: Final = 64 << 20
"""Largest answer that is read whole."""
_ERROR_CHARS: Final = 2000


class UpstreamError(Exception):
    """The provider did not answer.

    Attributes:
        status: that the client is given.
        kind: of the error, in the API's form.
    """

    def __init__(self, why: str, status: int, kind: str) -> None:
        super().__init__(why)
        self.status = status
        self.kind = kind


@dataclass(slots=True)
class Timing:
    """When what came, by the monotonic clock."""

    started_s: float
    first_s: float | None = None

    def ending(self, answered: Answered, **fields: Any) -> Ending:
        """An end that is now."""
        now_s = time.perf_counter()
        first_ms = None if self.first_s is None else (self.first_s - self.started_s) * 1000
        return Ending(
            answered,
            latency_ms=(now_s - self.started_s) * 1000,
            first_token_ms=first_ms,
            **fields,
        )


def upstream_error(error: Exception) -> UpstreamError:
    """What went wrong on the way to the provider, in words that hold nothing of the request."""
    name = type(error).__name__
    if "Timeout" in name:
        where = "connecting took" if "Connect" in name else "it was silent for"
        return UpstreamError(f"the upstream gave no answer: {where} too long", 504, "timeout_error")
    return UpstreamError(f"the upstream cannot be reached: {name}", 502, "api_error")


async def whole_body(response: httpx2.Response) -> bytes:
    """The body of an answer.

    Raises:
        UpstreamError: it breaks off, or is larger than what is read.
    """
    import httpx2  # noqa: PLC0415

    pieces: list[bytes] = []
    size = 0
    try:
        async for piece in response.aiter_raw():
            size += len(piece)
            if size > MAX_BODY_BYTES:
                why = f"the upstream's answer has more than {MAX_BODY_BYTES:,} bytes"
                raise UpstreamError(why, 502, "api_error")
            pieces.append(piece)
    except httpx2.HTTPError as error:
        raise upstream_error(error) from error
    finally:
        await response.aclose()
    return b"".join(pieces)


def ending_of(response: httpx2.Response, raw: bytes, dialect: Dialect, timing: Timing) -> Ending:
    """How an exchange with a whole answer ended."""
    status = response.status_code
    packed = response.headers.get("content-encoding", "identity").lower()
    body = None if packed != "identity" else object_of(raw)
    if status >= 400:
        told = error_of(body) if body is not None else Answered(error=_plain(raw))
        answered = Answered(error=told.error, error_code=told.error_code)
        return timing.ending(
            answered, outcome=Outcome.FAILED, error=f"HTTP {status}: {told.error}"[:_ERROR_CHARS]
        )
    if body is None:
        why = f"it is packed ({packed[:40]})" if packed != "identity" else "it is no JSON object"
        failed = f"an answer that cannot be read: {why}"
        return timing.ending(Answered(), outcome=Outcome.FAILED, error=failed)
    answered = dialect.answered(body)
    if answered.error is not None:
        return timing.ending(answered, outcome=Outcome.FAILED, error=answered.error)
    return timing.ending(answered)


class Streaming:
    """An answer in pieces: passed on as they come, and put together for the record.

    An answer is recorded before the client has all of it: who saw its end finds it in the
    store, whatever happens to this process.

    Args:
        exchange: None passes on only.
    """

    def __init__(self, book: Book, exchange: Exchange, dialect: Dialect, timing: Timing) -> None:
        self._book = book
        self._exchange = exchange
        self._dialect = dialect
        self._timing = timing
        self._gatherer = dialect.gatherer()
        self._reader = EventReader()
        self._is_ended = False

    async def pieces(self, response: httpx2.Response) -> AsyncIterator[bytes]:
        """The pieces of the answer."""
        import anyio  # noqa: PLC0415  - starlette has it
        import httpx2  # noqa: PLC0415

        try:
            async for piece in response.aiter_raw():
                self._read(piece)
                if self._gatherer.is_done:
                    await self._end_once()
                yield piece
        except httpx2.HTTPError as error:
            failed = upstream_error(error)
            await self._end_once(f"it broke off: {failed}")
            yield self._dialect.error_event(str(failed), kind=failed.kind)
        except (asyncio.CancelledError, GeneratorExit):
            self._cancelled()
            raise
        finally:
            with anyio.CancelScope(shield=True):
                await response.aclose()
        await self._end_once(None if self._has_end else "the stream ended before the answer did")

    @property
    def _has_end(self) -> bool:
        answered = self._gatherer.answered()
        return self._gatherer.is_done or answered.finish_reason is not None

    def _read(self, piece: bytes) -> None:
        for name, data in self._reader.feed(piece):
            self._gatherer.feed(name, object_of(data.encode("utf-8", "replace")))
            if self._timing.first_s is None and self._gatherer.is_begun:
                self._timing.first_s = time.perf_counter()

    async def _end_once(self, why: str | None = None) -> None:
        if self._is_ended:
            return
        self._is_ended = True
        answered = self._gatherer.answered()
        why = why or answered.error
        outcome = Outcome.OK if why is None else Outcome.FAILED
        ending = self._timing.ending(answered, outcome=outcome, error=why)
        await asyncio.wrap_future(self._book.end(self._exchange, ending))

    def _cancelled(self) -> None:
        if self._is_ended:
            return
        self._is_ended = True
        ending = self._timing.ending(
            self._gatherer.answered(),
            outcome=Outcome.FAILED,
            error="the client went away in the middle of the answer",
            is_cancelled=True,
        )
        self._book.end(self._exchange, ending)


def _plain(raw: bytes) -> str:
    return raw[:_ERROR_CHARS].decode("utf-8", "replace")
