"""What the loop of an agent is given that has one of its own: tools, and model calls."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from flightlog.runtime.agent import Agent
from flightlog.runtime.calls import named_error
from flightlog.runtime.model import ModelResponse, provider_of
from flightlog.runtime.prices import PriceTable
from flightlog.runtime.result import RunResult
from flightlog.runtime.session import Called, Session
from flightlog.runtime.task import Task
from flightlog.runtime.tool_turn import Stop
from flightlog.runtime.tools import Tool, is_async
from flightlog.trace.messages import Message, ToolRequest
from flightlog.trace.vocab import Outcome, StopReason, finish_reason_of


class RunOverError(BaseException):
    """Raised in the loop of an agent whose run a bound has ended; ends the block `own_loop`.

    No `Exception`, so that a loop that tries everything again does not try this.
    """

    def __init__(self, stop: Stop) -> None:
        super().__init__(stop.detail or stop.reason)
        self.stop = stop


class Refused(str):
    """The observation of a call that was refused, or failed."""

    __slots__ = ()


class ModelCall:
    """One model call under way.

    Args:
        model: the one that is asked.
        prompt: all messages that it is sent.
        step: of the run.
        attempt: from 1.

    Attributes:
        response: what came; None until `answer` was called.
        provider: in the words of OpenTelemetry; None is that of the agent's model.
        previous_response_id: answer whose server-side thread goes on.
        started_s: when it went out, by `time.perf_counter`.
    """

    def __init__(
        self, model: str | None, prompt: Sequence[Message], step: int, attempt: int = 1
    ) -> None:
        self.model = model
        self.prompt = prompt
        self.step = step
        self.attempt = attempt
        self.provider: str | None = None
        self.previous_response_id: str | None = None
        self.response: ModelResponse | None = None
        self.first_token_ms: float | None = None
        self.started_s = time.perf_counter()

    def answer(self, response: ModelResponse) -> None:
        """Tells what the model answered."""
        self.response = response

    def first_token(self) -> None:
        """Tells that the first piece of the answer has come; further ones change nothing."""
        if self.first_token_ms is None:
            self.first_token_ms = self.elapsed_ms

    @property
    def elapsed_ms(self) -> float:
        """Since it began."""
        return (time.perf_counter() - self.started_s) * 1000


class OwnLoop:
    """One run of an agent that decides for itself what it does next.

    Args:
        session: bounds and records it.
        agent: with its tools.

    Attributes:
        tools: the tools by name, as functions of the same arguments that pass the gateway. They
            give the observation, a text for the model: also what was refused or failed.
        result: how the run ended; None until the block is over.
        agent: with its tools as declared, and its system prompt.
        catch_up: called before each call; for hooks that are told of an end late.
        task: what it is asked to do.
    """

    def __init__(self, session: Session, agent: Agent, task: Task) -> None:
        self.session = session
        self.task = task
        self.result: RunResult | None = None
        self.tools: Mapping[str, Callable[..., Any]] = {
            one.name: self._function(one) for one in agent.tools
        }
        self.agent = agent
        self._model = agent.model
        self._prices = agent.prices or PriceTable()
        self._ids = itertools.count(1)
        self._is_in_step = False
        self._answer: str | None = None
        self._answered_in = 0
        self.catch_up: Callable[[], None] | None = None

    @property
    def run_id(self) -> str:
        """Its id in the store."""
        return self.session.run_id

    @property
    def answer(self) -> str | None:
        """The last text of the model, which is the answer of the run."""
        return self._answer

    @property
    def prompt(self) -> str:
        """What it is asked to do, as text."""
        return self.task.prompt

    @contextmanager
    def model_call(
        self, model: str | None = None, *, prompt: Sequence[Message] = ()
    ) -> Iterator[ModelCall]:
        """A step: one request to a model. Tell the answer in it; an exception is a failed call.

        Args:
            model: the one that is asked; None is the agent's.
            prompt: all messages that it is sent.

        Raises:
            RunOverError: a budget does not allow a step, or the kill switch stops everything.
        """
        call = self.begin_model_call(model, prompt=prompt)
        try:
            yield call
        except Exception as error:
            self.end_model_call(call, error=named_error(error))
            raise
        self.end_model_call(call)

    def begin_model_call(
        self, model: str | None = None, *, prompt: Sequence[Message] = (), attempt: int = 1
    ) -> ModelCall:
        """The beginning of `model_call`, for hooks that are told of begin and end apart.

        A further attempt of a call that failed is no step of its own.

        Raises:
            RunOverError: as there.
        """
        if self.catch_up is not None:
            self.catch_up()
        if self.session.is_killed:
            detail = "the kill switch stops everything"
            self.session.end(StopReason.KILL_SWITCH, answer=self._answer, detail=detail)
        if (stop := self.session.begin_model_call(is_new_step=attempt == 1)) is not None:
            raise RunOverError(stop)
        self._is_in_step = True
        return ModelCall(model or self._model.name or None, prompt, self.session.step, attempt)

    def end_model_call(self, call: ModelCall, *, error: str | None = None) -> None:
        """The end of `model_call`: records and books it. Once the run is over it does nothing."""
        if self.session.is_finished:
            return
        answer, took_ms = call.response or ModelResponse(), call.elapsed_ms
        took_ms = took_ms if answer.latency_ms is None else answer.latency_ms
        self.session.advance_ms(took_ms)
        usage = answer.usage
        names = tuple(one for one in (answer.model, call.model) if one)
        provider = provider_of(self._model) or call.provider
        cost = self._prices.cost(usage, names, provider)
        usd = answer.cost_usd if answer.cost_usd is not None or cost is None else cost.usd
        first_ms = answer.time_to_first_token_ms
        output = None
        if call.response is not None and error is None:
            output = Message("assistant", answer.text, answer.tool_requests)
            if answer.text is not None and call.step >= self._answered_in:
                self._answer, self._answered_in = answer.text, call.step
            self.session.spend_model_call(usage, usd)
        self.session.writer.model_call(
            prompt=call.prompt,
            output=output,
            step=call.step,
            attempt=call.attempt,
            previous_response_id=call.previous_response_id,
            outcome=Outcome.OK if error is None else Outcome.FAILED,
            error=error,
            provider=provider,
            request_model=call.model,
            response_model=answer.model,
            response_id=answer.response_id,
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cache_read_tokens=usage.cache_read_tokens,
            cache_write_tokens=usage.cache_write_tokens,
            reasoning_tokens=usage.reasoning_tokens,
            cost_usd=usd,
            price_id=cost.price_id if cost is not None and answer.cost_usd is None else None,
            latency_ms=round(took_ms, 3),
            time_to_first_token_ms=call.first_token_ms if first_ms is None else first_ms,
            finish_reason=finish_reason_of(answer.finish_reason),
        )
        self.session.end_model_call()

    def call(self, name: str, /, **arguments: Any) -> str:
        """Makes a tool call; gives the observation.

        Raises:
            RunOverError: the run is over.
        """
        return self._observed(self.session.call([self._request(name, arguments)], **self._how))

    async def call_async(self, name: str, /, **arguments: Any) -> str:
        """The same for coroutines; the tool may be async."""
        request = self._request(name, arguments)
        return self._observed(await self.session.call_async([request], **self._how))

    def call_all(self, requests: Sequence[ToolRequest]) -> list[str]:
        """Makes the calls that one answer of a model asks for; gives the observation of each.

        Raises:
            RunOverError: the run is over.
        """
        self._look()
        return self._all_observed(self.session.call(requests, **self._how))

    async def call_all_async(self, requests: Sequence[ToolRequest]) -> list[str]:
        """The same for coroutines; the tools may be async."""
        self._look()
        return self._all_observed(await self.session.call_async(requests, **self._how))

    def stop(self, reason: StopReason, detail: str | None = None) -> None:
        """Ends the run, as for a limit of the loop's own.

        Raises:
            RunOverError: always; it ends the block, or the loop.
        """
        self.session.end(reason, answer=self._answer, detail=detail)
        raise RunOverError(self.session.stop or Stop(reason, detail=detail))

    @property
    def _how(self) -> dict[str, Any]:
        return {"begins_step": not self._is_in_step}

    def _request(self, name: str, arguments: Mapping[str, Any]) -> ToolRequest:
        self._look()
        return ToolRequest(f"call-{next(self._ids)}", name, json.dumps(arguments, default=str))

    def _look(self) -> None:
        if self.catch_up is not None:
            self.catch_up()
        if (stop := self.session.stop) is not None:
            raise RunOverError(stop)

    def _observed(self, called: Called) -> str:
        return self._all_observed(called)[0]

    def _all_observed(self, called: Called) -> list[str]:
        if called.stop is not None and not all(called.is_ok):
            raise RunOverError(called.stop)
        told = zip(called.messages, called.is_ok, strict=True)
        return [one.text or "" if is_ok else Refused(one.text or "") for one, is_ok in told]

    def _function(self, declared: Tool) -> Callable[..., Any]:
        if is_async(declared.fn):

            async def calling_async(**arguments: Any) -> str:
                return await self.call_async(declared.name, **arguments)

            return _as(declared, calling_async)

        def calling(**arguments: Any) -> str:
            return self.call(declared.name, **arguments)

        return _as(declared, calling)


def _as(declared: Tool, calling: Callable[..., Any]) -> Callable[..., Any]:
    calling.__name__ = calling.__qualname__ = declared.name
    calling.__doc__ = declared.description
    return calling
