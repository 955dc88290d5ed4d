"""The HTTP side of the proxy: what is recorded on its way, and what only passes.

Source: the paths and error forms of OpenAI's and Anthropic's APIs (`dialects`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from flightlog.errors import MissingExtraError, UsageError
from flightlog.integrations.dialects.dialect import Answered, Dialect
from flightlog.integrations.dialects.known import DIALECTS, dialect_of
from flightlog.integrations.door import Door
from flightlog.integrations.proxy.arrivals import (
    RefusedError,
    asked_of,
    body_of,
    drained,
    end_of,
)
from flightlog.integrations.proxy.book import Book
from flightlog.integrations.proxy.open_run import Ending, Exchange
from flightlog.integrations.proxy.recorded import Miss, RecordedAnswers
from flightlog.integrations.proxy.relay import (
    Streaming,
    Timing,
    UpstreamError,
    ending_of,
    upstream_error,
    whole_body,
)
from flightlog.integrations.proxy.upstream import Upstream, headers_down, headers_up
from flightlog.integrations.proxy.who import Who, split_path, who_of
from flightlog.trace.vocab import Outcome

if TYPE_CHECKING:
    import httpx2
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

EVENT_STREAM: Final = "text/event-stream"
HEALTH_PATH: Final = "/healthz"
_LOOK_S: Final = 1.0
_NO_RETRY: Final = {"x-should-retry": "false"}


@dataclass(frozen=True, slots=True)
class Proxying:
    """What a proxy does.

    Attributes:
        book: records.
        door: who may send.
        upstream: where requests go on to; None where recordings answer.
        recorded: answers in its place.
        provider: of all models; None tells it by the upstream's name, or the API.
        request_bytes: of the largest request.
        open_requests: most of them at a time.
    """

    book: Book
    door: Door
    upstream: Upstream | None = None
    recorded: RecordedAnswers | None = None
    provider: str | None = None
    request_bytes: int = 64 << 20
    open_requests: int = 2000


def app_of(proxying: Proxying) -> Starlette:
    """The ASGI application of a proxy.

    Raises:
        MissingExtraError: a package that it needs is not installed.
    """
    try:
        from starlette.applications import Starlette  # noqa: PLC0415  - an extra
        from starlette.routing import Route  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtraError(
            "the proxy needs the packages httpx2, starlette and uvicorn",
            hint="pip install 'flightlog[proxy]'",
        ) from error
    serving = _Serving(proxying)

    async def health(_: Request) -> Response:
        from starlette.responses import JSONResponse  # noqa: PLC0415

        counts = proxying.book.counts
        plain = {
            "runs": counts.runs,
            "open_runs": proxying.book.open_runs,
            "model_calls": counts.calls,
            "requests_unread": counts.unread,
            "not_recorded": counts.lost,
            "last_error": proxying.book.last_error,
        }
        return JSONResponse(plain, status_code=200 if not counts.lost else 503)

    methods = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"]
    return Starlette(
        routes=[
            Route(HEALTH_PATH, health, methods=["GET"]),
            Route("/{path:path}", serving.handle, methods=methods),
        ],
        lifespan=serving.lifespan,
    )


class _Serving:
    """Answers the requests of one proxy."""

    def __init__(self, proxying: Proxying) -> None:
        self._how = proxying
        self._book = proxying.book
        self._client: httpx2.AsyncClient | None = None
        self._open = 0

    @asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncIterator[None]:
        """Connections, and the clock of runs that nothing is heard of."""
        upstream = self._how.upstream
        self._client = upstream.client() if upstream is not None else None
        looking = asyncio.create_task(self._look())
        try:
            yield
        finally:
            looking.cancel()
            with suppress(asyncio.CancelledError):
                await looking
            if self._client is not None:
                await self._client.aclose()

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            await asyncio.wrap_future(self._book.look())

    async def handle(self, request: Request) -> Response:
        """Any request."""
        from starlette.requests import ClientDisconnect  # noqa: PLC0415

        dialect: Dialect = DIALECTS[0]
        self._open += 1
        try:
            path = request.scope["raw_path"].decode("latin-1").partition("?")[0]
            dialect = dialect_of(path) or DIALECTS[0]
            if (refused := self._how.door.refuses(request.headers)) is not None:
                raise RefusedError(*refused)
            if self._open > self._how.open_requests:
                raise RefusedError(503, "the proxy has as many requests as it takes", "overloaded")
            name, path = split_path(path)
            who = who_of(request.headers, name)
            if request.method == "DELETE" and path in ("", "/"):
                return await self._stop(request, who)
            return await self._answered(request, path, who)
        except ClientDisconnect:
            return _error(dialect, RefusedError(400, "the client went away"))
        except UsageError as error:
            await drained(request)
            return _error(dialect, RefusedError(400, f"{error.what} {error.hint or ''}".strip()))
        except RefusedError as error:
            await drained(request)
            return _error(dialect, error)
        except UpstreamError as error:
            return _error(dialect, RefusedError(error.status, str(error), error.kind))
        finally:
            self._open -= 1

    async def _answered(self, request: Request, path: str, who: Who) -> Response:
        dialect = dialect_of(path) if request.method == "POST" else None
        if dialect is None:
            return await self._passed(request, path)
        raw = await body_of(request, self._how.request_bytes)
        exchange = await self._begun(raw, request, who, dialect)
        if self._how.recorded is not None:
            return await self._replayed(exchange, dialect)
        timing = Timing(time.perf_counter())
        try:
            response = await self._sent(request, path, raw)
        except UpstreamError as error:
            if exchange is not None:
                late = Outcome.TIMED_OUT if error.status == 504 else Outcome.FAILED
                ending = timing.ending(Answered(), outcome=late, error=str(error))
                await self._ended(exchange, ending)
            raise
        except asyncio.CancelledError:
            if exchange is not None:
                self._book.end(exchange, _cancelled(timing))
            raise
        if exchange is None:
            return _streamed(response)
        return await self._recorded(response, exchange, dialect, timing)

    async def _recorded(
        self, response: httpx2.Response, exchange: Exchange, dialect: Dialect, timing: Timing
    ) -> Response:
        headers = headers_down(response.headers.raw) | _run_header(exchange)
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        is_plain = response.headers.get("content-encoding", "identity").lower() == "identity"
        if response.status_code < 400 and kind == EVENT_STREAM and is_plain:
            from starlette.responses import StreamingResponse  # noqa: PLC0415

            pieces = Streaming(self._book, exchange, dialect, timing).pieces(response)
            return StreamingResponse(pieces, status_code=response.status_code, headers=headers)
        from starlette.responses import Response  # noqa: PLC0415

        try:
            raw = await whole_body(response)
        except UpstreamError as error:
            late = Outcome.TIMED_OUT if error.status == 504 else Outcome.FAILED
            await self._ended(
                exchange, timing.ending(Answered(), outcome=late, error=f"it broke off: {error}")
            )
            raise
        except asyncio.CancelledError:
            self._book.end(exchange, _cancelled(timing))
            raise
        await self._ended(exchange, ending_of(response, raw, dialect, timing))
        return Response(raw, status_code=response.status_code, headers=headers)

    async def _replayed(self, exchange: Exchange | None, dialect: Dialect) -> Response:
        from starlette.responses import JSONResponse, StreamingResponse  # noqa: PLC0415

        assert self._how.recorded is not None
        if exchange is None:
            raise RefusedError(400, "a request that cannot be read cannot be answered")
        timing = Timing(time.perf_counter())
        recorded, before = self._how.recorded, exchange.run.served_from
        found = await asyncio.to_thread(recorded.answer, exchange.prompt, after=before)
        if isinstance(found, Miss):
            answered = Answered(error=found.why, error_code=Outcome.REPLAY_MISS)
            ending = timing.ending(answered, outcome=Outcome.REPLAY_MISS, error=found.why)
            await self._ended(exchange, ending)
            body = dialect.error_body(found.why, kind=Outcome.REPLAY_MISS)
            return JSONResponse(body, 404, headers=_NO_RETRY | _run_header(exchange))
        exchange.run.served_from = found.run_id
        await self._ended(exchange, timing.ending(found.answer))
        headers = _run_header(exchange) | {"x-flightlog-served-from": found.run_id}
        if not exchange.asked.is_streamed:
            return JSONResponse(dialect.body_of(found.answer), headers=headers)
        events = dialect.events_of(found.answer, wants_usage=exchange.asked.wants_usage)
        return StreamingResponse(iter(list(events)), media_type=EVENT_STREAM, headers=headers)

    async def _begun(
        self, raw: bytes, request: Request, who: Who, dialect: Dialect
    ) -> Exchange | None:
        """The exchange that a request begins; None for one that cannot be read."""
        retries = request.headers.get("x-stainless-retry-count", "")
        tries = int(retries) if retries.isdecimal() and len(retries) < 4 else 0
        try:
            asked = asked_of(raw, request.headers, dialect)
            if asked is None:
                self._book.counts.unread += 1
                return None
            upstream = self._how.upstream
            named = upstream.provider if upstream is not None else None
            provider = self._how.provider or named or dialect.provider
            return await asyncio.wrap_future(self._book.begin(asked, who, provider, tries))
        except Exception as error:  # the agent's request goes on, whatever it holds
            self._book.not_recorded(error)
            return None

    async def _ended(self, exchange: Exchange, ending: Ending) -> None:
        await asyncio.wrap_future(self._book.end(exchange, ending))

    async def _sent(self, request: Request, path: str, content: Any) -> httpx2.Response:
        import httpx2  # noqa: PLC0415

        assert self._client is not None
        assert self._how.upstream is not None
        url = self._how.upstream.url_of(path, request.scope["query_string"])
        headers = headers_up(request.scope["headers"])
        sent = self._client.build_request(request.method, url, headers=headers, content=content)
        try:
            return await self._client.send(sent, stream=True)
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise upstream_error(error) from error

    async def _passed(self, request: Request, path: str) -> Response:
        """A request of another kind: it passes as it is, and nothing is recorded."""
        if self._how.upstream is None:
            raise RefusedError(404, "in replay only model calls are answered", "not_found_error")
        raw = await body_of(request, self._how.request_bytes)
        return _streamed(await self._sent(request, path, raw or None))

    async def _stop(self, request: Request, who: Who) -> Response:
        """The end of a run, as its caller tells it."""
        from starlette.responses import JSONResponse  # noqa: PLC0415

        if who.run is None:
            raise RefusedError(400, "which run? DELETE /run/NAME")
        raw = await body_of(request, self._how.request_bytes)
        given, judged = end_of(raw)
        run_id = await asyncio.wrap_future(self._book.stop(who, given, judged))
        if not run_id:
            raise RefusedError(404, f"no run {who.run!r} is going on", "not_found_error")
        return JSONResponse({"run_id": run_id})


def _cancelled(timing: Timing) -> Ending:
    why = "the client went away before the answer came"
    return timing.ending(Answered(), outcome=Outcome.FAILED, error=why, is_cancelled=True)


def _run_header(exchange: Exchange) -> dict[str, str]:
    return {"x-flightlog-run-id": exchange.run.run_id}


def _streamed(response: httpx2.Response) -> Response:
    from starlette.background import BackgroundTask  # noqa: PLC0415
    from starlette.responses import StreamingResponse  # noqa: PLC0415

    return StreamingResponse(
        response.aiter_raw(),
        status_code=response.status_code,
        headers=headers_down(response.headers.raw),
        background=BackgroundTask(response.aclose),
    )


def _error(dialect: Dialect, error: RefusedError) -> Response:
    from starlette.responses import JSONResponse  # noqa: PLC0415

    headers = {"retry-after": "1"} if error.status == 503 else {}
    body = dialect.error_body(f"flightlog proxy: {error.why}", kind=error.kind)
    return JSONResponse(body, status_code=error.status, headers=headers)
