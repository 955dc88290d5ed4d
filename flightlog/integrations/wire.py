"""The clients of the providers' own SDKs: each request that they send is a model call of a run.

For the packages openai and anthropic, sync and async; importing it needs httpx2, which both
have. It stands where the SDK hands a request to the connection: retries of the SDK are seen,
and what frameworks ask through such a client too. Source: openai 3.x, anthropic 2.x,
`with_options(http_client=)`; httpx2 2.x, `Client.send`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any, Final, TypeVar

import httpx2

from flightlog.errors import AgentError
from flightlog.integrations.dialects.dialect import (
    Answered,
    Asked,
    Dialect,
    error_of,
    object_of,
    whole_prompt,
)
from flightlog.integrations.dialects.known import dialect_of
from flightlog.integrations.dialects.sse import EventReader
from flightlog.runtime.calls import named_error
from flightlog.runtime.model import ModelResponse
from flightlog.runtime.own_loop import ModelCall, OwnLoop
from flightlog.trace.messages import Message

C = TypeVar("C")

MAX_THREADS: Final = 256
"""Most server-side threads of one run whose prompts are known."""
_MAX_BODY_BYTES: Final = 64 << 20
_ERROR_CHARS: Final = 500
_UNREAD: Final = "the answer was not read to its end"


def recorded_client(run: OwnLoop, client: C) -> C:
    """A copy of a client whose model calls are those of a run; budgets hold before each.

    It sends by the connections of the one that is given, which stays as it is.

    Args:
        run: that is told.
        client: an `OpenAI`, `AsyncOpenAI`, `Anthropic` or `AsyncAnthropic`, or one derived of it.

    Raises:
        AgentError: it is no such client.
    """
    given: Any = client
    inner = getattr(given, "_client", None)
    wire = _Wire(run)
    http: Any
    if isinstance(inner, httpx2.Client):
        http = _Client(wire, inner)
    elif isinstance(inner, httpx2.AsyncClient):
        http = _AsyncClient(wire, inner)
    else:
        raise AgentError(
            f"a {type(client).__name__} is no client of the SDKs openai or anthropic",
            hint="Give an OpenAI, AsyncOpenAI, Anthropic or AsyncAnthropic.",
        )
    copied: C = given.with_options(http_client=http)
    return copied


class _Wire:
    """What a run is told of requests and answers."""

    def __init__(self, run: OwnLoop) -> None:
        self._run = run
        self._threads: dict[str, tuple[Message, ...]] = {}

    def begin(self, request: httpx2.Request) -> _Exchange | None:
        """A request goes out; None for one that asks no model."""
        dialect = dialect_of(request.url.path)
        body = object_of(_content(request)) if dialect is not None else None
        if dialect is None or body is None or request.method != "POST":
            return None
        asked = dialect.asked(body)
        before = self._threads.get(asked.previous_id or asked.thread_id or "", ())
        call = self._run.begin_model_call(
            asked.model,
            prompt=whole_prompt(before, asked.messages),
            attempt=_retries(request) + 1,
        )
        call.provider = dialect.provider
        call.previous_response_id = asked.previous_id
        return _Exchange(self, dialect, asked, call)

    def end(self, exchange: _Exchange, answered: Answered, error: str | None) -> None:
        """An answer came, or did not."""
        call, output = exchange.call, answered.output
        if output is not None and error is None:
            for ident in (answered.response_id, exchange.asked.thread_id):
                if ident:
                    self._threads.pop(ident, None)
                    self._threads[ident] = (*call.prompt, output)
            while len(self._threads) > MAX_THREADS:
                del self._threads[next(iter(self._threads))]
        call.answer(
            ModelResponse(
                text=None if output is None else output.text,
                tool_requests=() if output is None else output.tool_requests,
                usage=answered.usage,
                model=answered.model,
                response_id=answered.response_id,
                finish_reason=answered.finish_reason,
            )
        )
        self._run.end_model_call(call, error=error)


class _Exchange:
    """One request, and what comes of it."""

    def __init__(self, wire: _Wire, dialect: Dialect, asked: Asked, call: ModelCall) -> None:
        self.asked = asked
        self.call = call
        self._wire = wire
        self._dialect = dialect
        self._gatherer = dialect.gatherer()
        self._reader = EventReader()
        self._is_in_pieces = False
        self._body = bytearray()
        self._status = 200
        self._is_ended = False

    def failed(self, error: BaseException) -> None:
        """No answer came."""
        self._end(Answered(), named_error(error))

    def begin_answer(self, response: httpx2.Response) -> bool:
        """The head of the answer came; True where its body is still to be read."""
        self._status = response.status_code
        kind = response.headers.get("content-type", "")
        self._is_in_pieces = self.asked.is_streamed and "event-stream" in kind
        if not response.is_stream_consumed:
            return True
        self._body += response.content
        self.is_over()
        return False

    def feed(self, piece: bytes) -> None:
        """A piece of the body came."""
        if not self._is_in_pieces:
            if len(self._body) <= _MAX_BODY_BYTES:
                self._body += piece
            return
        for name, data in self._reader.feed(piece):
            self._gatherer.feed(name, object_of(data.encode("utf-8", "replace")))
            if self._gatherer.is_begun:
                self.call.first_token()
        if self._gatherer.is_done:
            self.is_over()

    def is_over(self) -> None:
        """The body is at its end."""
        if self._is_in_pieces:
            answered = self._gatherer.answered()
            has_end = self._gatherer.is_done or answered.finish_reason is not None
            self._end(answered, answered.error if has_end else _UNREAD)
            return
        body = object_of(bytes(self._body))
        if self._status >= 400:
            told = Answered() if body is None else error_of(body)
            said = told.error or bytes(self._body[:_ERROR_CHARS]).decode("utf-8", "replace")
            self._end(Answered(), f"HTTP {self._status}: {said}"[:_ERROR_CHARS])
        elif body is None:
            self._end(Answered(), "an answer that cannot be read: it is no JSON object")
        else:
            answered = self._dialect.answered(body)
            self._end(answered, answered.error)

    def broken(self, error: BaseException | None) -> None:
        """The reading ended before the body did."""
        if self._is_ended:
            return
        answered = self._gatherer.answered() if self._is_in_pieces else Answered()
        if error is None and answered.finish_reason is not None:
            self._end(answered, None)  # nothing was left that matters
        else:
            self._end(answered, _UNREAD if error is None else named_error(error))

    def _end(self, answered: Answered, error: str | None) -> None:
        if not self._is_ended:
            self._is_ended = True
            self._wire.end(self, answered, error)


class _Client(httpx2.Client):
    """Sends by another client, and tells the run."""

    def __init__(self, wire: _Wire, inner: httpx2.Client) -> None:
        super().__init__(transport=httpx2.MockTransport(_unused), trust_env=False)
        self._wire = wire
        self._inner = inner

    def build_request(self, *args: Any, **kwargs: Any) -> httpx2.Request:
        """As the other client builds it."""
        return self._inner.build_request(*args, **kwargs)

    def send(self, request: httpx2.Request, **how: Any) -> httpx2.Response:
        """Sends one attempt."""
        exchange = self._wire.begin(request)
        if exchange is None:
            return self._inner.send(request, **how)
        if how.get("stream"):
            request.headers["accept-encoding"] = "identity"  # so that its pieces can be read
        try:
            response = self._inner.send(request, **how)
        except BaseException as error:
            exchange.failed(error)
            raise
        if exchange.begin_answer(response):
            response.stream = _Stream(exchange, response.stream)
        return response


class _AsyncClient(httpx2.AsyncClient):
    """The same for coroutines."""

    def __init__(self, wire: _Wire, inner: httpx2.AsyncClient) -> None:
        super().__init__(transport=httpx2.MockTransport(_unused), trust_env=False)
        self._wire = wire
        self._inner = inner

    def build_request(self, *args: Any, **kwargs: Any) -> httpx2.Request:
        """As the other client builds it."""
        return self._inner.build_request(*args, **kwargs)

    async def send(self, request: httpx2.Request, **how: Any) -> httpx2.Response:
        """Sends one attempt."""
        exchange = self._wire.begin(request)
        if exchange is None:
            return await self._inner.send(request, **how)
        if how.get("stream"):
            request.headers["accept-encoding"] = "identity"
        try:
            response = await self._inner.send(request, **how)
        except BaseException as error:
            exchange.failed(error)
            raise
        if exchange.begin_answer(response):
            response.stream = _AsyncStream(exchange, response.stream)
        return response


class _Stream(httpx2.SyncByteStream):
    """A body that is looked at while it is read."""

    def __init__(self, exchange: _Exchange, body: Any) -> None:
        self._exchange = exchange
        self._body = body

    def __iter__(self) -> Iterator[bytes]:
        try:
            for piece in self._body:
                self._exchange.feed(piece)
                yield piece
        except BaseException as error:
            self._exchange.broken(None if isinstance(error, GeneratorExit) else error)
            raise
        self._exchange.is_over()

    def close(self) -> None:
        self._body.close()
        self._exchange.broken(None)


class _AsyncStream(httpx2.AsyncByteStream):
    """The same for coroutines."""

    def __init__(self, exchange: _Exchange, body: Any) -> None:
        self._exchange = exchange
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for piece in self._body:
                self._exchange.feed(piece)
                yield piece
        except BaseException as error:
            self._exchange.broken(None if isinstance(error, GeneratorExit) else error)
            raise
        self._exchange.is_over()

    async def aclose(self) -> None:
        await self._body.aclose()
        self._exchange.broken(None)


def _unused(_: httpx2.Request) -> httpx2.Response:
    raise AssertionError("the other client sends")


def _content(request: httpx2.Request) -> bytes:
    try:
        return request.content
    except httpx2.RequestNotRead:  # a body that is made while it is sent
        return b""


def _retries(request: httpx2.Request) -> int:
    """How often the SDK has tried before."""
    told = request.headers.get("x-stainless-retry-count", "0")
    return int(told) if told.isdecimal() and len(told) < 4 else 0
