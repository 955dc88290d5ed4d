"""LiteLLM: its model calls, by a logger of its own; also those of frameworks built on it.

Importing it needs the package litellm. LiteLLM asks its loggers before each request, in the
caller's context, and tells them of its end later, from a thread or task of its own. Source:
litellm 1.110, `CustomLogger`, `litellm.callbacks`.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping
from contextvars import ContextVar, Token
from datetime import datetime
from typing import Any, Final

import litellm
from litellm.integrations.custom_logger import CustomLogger

from flightlog.integrations.messages import answer_of, messages_of
from flightlog.runtime.calls import error_text
from flightlog.runtime.model import ModelResponse, Usage
from flightlog.runtime.own_loop import ModelCall, OwnLoop

SETTLE_S: Final = 5.0
"""How long the end of a run waits for what LiteLLM has not told yet."""

CATCH_UP_S: Final = 1.0
"""How long the next call of a thread waits for LiteLLM to tell of the one before."""


class litellm_calls:  # noqa: N801 - stands after `with`, where functions do
    """While it is open, LiteLLM's calls in this context are model calls of the run.

    For `with`, and in coroutines for `async with`. Budgets and the kill switch hold before each
    call; for coroutines those in tokens and USD one call late, since LiteLLM tells of an end
    after it gave the answer.

    Args:
        run: that is told. Threads that do not inherit the context are not seen.
    """

    def __init__(self, run: OwnLoop) -> None:
        self._run = run
        self._calls = _Calls(run)
        self._token: Token[_Calls | None] | None = None

    def __enter__(self) -> None:
        if not any(one is _LOGGER for one in litellm.callbacks):
            litellm.callbacks.append(_LOGGER)
        self._token, self._run.catch_up = _CALLS.set(self._calls), self._calls.catch_up

    def __exit__(self, *_: object) -> None:
        self._close()
        self._calls.settle(SETTLE_S)

    async def __aenter__(self) -> None:
        self.__enter__()

    async def __aexit__(self, *_: object) -> None:
        self._close()
        until_s = time.monotonic() + SETTLE_S
        while self._calls.is_waiting and time.monotonic() < until_s:
            await asyncio.sleep(0.01)  # LiteLLM tells in this event loop
        self._calls.settle(0)

    def _close(self) -> None:
        if self._token is not None:
            _CALLS.reset(self._token)
        self._run.catch_up = None


class _Calls:
    """The calls of one run that are under way, by LiteLLM's id. For several threads."""

    def __init__(self, run: OwnLoop) -> None:
        self._run = run
        self._open: dict[str, ModelCall] = {}
        self._changed = threading.Condition()

    def begin(self, model: Any, messages: Any, kwargs: Mapping[str, Any]) -> None:
        """A request goes out."""
        call = self._run.begin_model_call(_text(model), prompt=messages_of(messages))
        call.provider = _text(kwargs.get("custom_llm_provider"))
        ident = str(kwargs.get("litellm_call_id"))
        with self._changed:
            self._open[ident] = call
        with _LOCK:
            _OPEN[ident] = self
        _LAST.set(ident)  # not for coroutines, whose requests go out in a copy of their context

    def end(
        self, ident: str, response: ModelResponse | None, error: str | None, took_ms: float | None
    ) -> None:
        """A request is over; the second time it is told changes nothing."""
        with _LOCK:
            if _OPEN.pop(ident, None) is None:
                return
        call = self._open[ident]
        if took_ms is not None:  # until LiteLLM had the answer, not until it told of it
            call.started_s = time.perf_counter() - took_ms / 1000
        if response is not None:
            call.answer(response)
        self._run.end_model_call(call, error=error)
        with self._changed:  # only now, so that the run does not end before it is recorded
            del self._open[ident]
            self._changed.notify_all()

    def catch_up(self) -> None:
        """Waits until LiteLLM has told of the last call of this context."""
        last = _LAST.get()
        if last in self._open:
            with self._changed:
                self._changed.wait_for(lambda: last not in self._open, CATCH_UP_S)

    @property
    def is_waiting(self) -> bool:
        """True while something is not told yet."""
        return bool(self._open)

    def settle(self, seconds: float) -> None:
        """Waits for what is not told yet; records what never is as a failed call."""
        with self._changed:
            self._changed.wait_for(lambda: not self._open, seconds)
            left = list(self._open)
        for ident in left:
            self.end(ident, None, "LiteLLM did not tell how it ended", None)


_CALLS: Final[ContextVar[_Calls | None]] = ContextVar("flightlog_litellm", default=None)
_LAST: Final[ContextVar[str | None]] = ContextVar("flightlog_litellm_last", default=None)
_LOCK: Final = threading.Lock()
_OPEN: Final[dict[str, _Calls]] = {}


class _Logger(CustomLogger):
    """Tells runs of LiteLLM's calls; one for all of them."""

    def log_pre_api_call(self, model: Any, messages: Any, kwargs: Any) -> None:
        """A request goes out, in the context of the caller."""
        if (calls := _CALLS.get()) is not None:
            calls.begin(model, messages, kwargs)

    def log_success_event(
        self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        """A request was answered."""
        _told(kwargs, response_obj, start_time, end_time)

    async def async_log_success_event(
        self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        """The same for coroutines."""
        _told(kwargs, response_obj, start_time, end_time)

    def log_failure_event(
        self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        """A request failed."""
        _failed(kwargs, start_time, end_time)

    async def async_log_failure_event(
        self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        """The same for coroutines."""
        _failed(kwargs, start_time, end_time)


_LOGGER: Final = _Logger()


def _told(kwargs: Mapping[str, Any], response: Any, start: Any, end: Any) -> None:
    ident = str(kwargs.get("litellm_call_id"))
    with _LOCK:
        calls = _OPEN.get(ident)
    if calls is None:
        return
    whole = kwargs.get("complete_streaming_response") if kwargs.get("stream") else response
    if whole is not None and getattr(whole, "choices", None):
        first = _ms(start, kwargs.get("completion_start_time")) if kwargs.get("stream") else None
        calls.end(
            ident, _response(whole, kwargs.get("response_cost"), first), None, _ms(start, end)
        )


def _failed(kwargs: Mapping[str, Any], start: Any, end: Any) -> None:
    ident, error = str(kwargs.get("litellm_call_id")), kwargs.get("exception")
    with _LOCK:
        calls = _OPEN.get(ident)
    if calls is not None:
        named = type(error).__name__ if isinstance(error, BaseException) else "error"
        said = error_text(error) if isinstance(error, BaseException) else str(error)
        calls.end(ident, None, f"{named}: {said}", _ms(start, end))


def _response(response: Any, cost: Any, first_ms: float | None) -> ModelResponse:
    choice, usage = response.choices[0], getattr(response, "usage", None)
    output = answer_of(choice.message.model_dump(exclude_none=True))
    inputs = getattr(usage, "prompt_tokens_details", None)
    outputs = getattr(usage, "completion_tokens_details", None)
    return ModelResponse(
        text=None if output is None else output.text,
        tool_requests=() if output is None else output.tool_requests,
        usage=Usage(
            getattr(usage, "prompt_tokens", None),
            getattr(usage, "completion_tokens", None),
            getattr(inputs, "cached_tokens", None),
            getattr(inputs, "cache_creation_tokens", None),
            getattr(outputs, "reasoning_tokens", None),
        ),
        model=_text(getattr(response, "model", None)),
        response_id=_text(getattr(response, "id", None)),
        cost_usd=cost if isinstance(cost, float) and cost > 0 else None,
        finish_reason=_text(choice.finish_reason),
        time_to_first_token_ms=first_ms,
    )


def _ms(start: Any, end: Any) -> float | None:
    if isinstance(start, datetime) and isinstance(end, datetime):
        return max(0.0, (end - start).total_seconds() * 1000)
    return None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
