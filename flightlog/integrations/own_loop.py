"""For an agent with a loop of its own: its tools behind the gateway, its model calls recorded.

Where the loop is a framework's, and no hook of it does, this does too: give the framework the
functions of `OwnLoop.tools`.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flightlog.integrations.stops import stop_of, stop_word
from flightlog.recorder.recorder import Recorder
from flightlog.runtime.agent import Agent
from flightlog.runtime.calls import error_text, named_error
from flightlog.runtime.credentials import Credentials
from flightlog.runtime.model import ModelResponse
from flightlog.runtime.policy import Policy
from flightlog.runtime.prices import PriceTable
from flightlog.runtime.result import RunContext, RunResult
from flightlog.runtime.session import Called, ForeignModel, Session
from flightlog.runtime.setting_up import Around
from flightlog.runtime.task import Task
from flightlog.runtime.tool_turn import Stop
from flightlog.runtime.tools import Tool, is_async, tool
from flightlog.trace.messages import Message, ToolRequest
from flightlog.trace.vocab import Outcome, StopReason, finish_reason_of

_INTERRUPTS = (KeyboardInterrupt, SystemExit, GeneratorExit)


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

    Attributes:
        response: what came; None until `answer` was called.
    """

    def __init__(self, model: str | None, prompt: Sequence[Message], step: int) -> None:
        self.model = model
        self.prompt = prompt
        self.step = step
        self.response: ModelResponse | None = None
        self.first_token_ms: float | None = None
        self._started_s = time.perf_counter()

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
        return (time.perf_counter() - self._started_s) * 1000


class OwnLoop:
    """One run of an agent that decides for itself what it does next.

    Args:
        session: bounds and records it.
        agent: with its tools.

    Attributes:
        tools: the tools by name, as functions of the same arguments that pass the gateway. They
            give the observation, a text for the model: also what was refused or failed.
        result: how the run ended; None until the block is over.
        agent: with its tools as declared.
    """

    def __init__(self, session: Session, agent: Agent) -> None:
        self.session = session
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

    @property
    def run_id(self) -> str:
        """Its id in the store."""
        return self.session.run_id

    @property
    def answer(self) -> str | None:
        """The last text of the model, which is the answer of the run."""
        return self._answer

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
        self, model: str | None = None, *, prompt: Sequence[Message] = ()
    ) -> ModelCall:
        """The beginning of `model_call`, for hooks that are told of begin and end apart.

        Raises:
            RunOverError: as there.
        """
        if self.session.is_killed:
            detail = "the kill switch stops everything"
            self.session.end(StopReason.KILL_SWITCH, answer=self._answer, detail=detail)
        if (stop := self.session.begin_step()) is not None:
            raise RunOverError(stop)
        self._is_in_step = True
        return ModelCall(model or self._model.name or None, prompt, self.session.step)

    def end_model_call(self, call: ModelCall, *, error: str | None = None) -> None:
        """The end of `model_call`: records and books it."""
        answer, took_ms = call.response or ModelResponse(), call.elapsed_ms
        usage = answer.usage
        names = tuple(one for one in (answer.model, call.model) if one)
        provider = getattr(self._model, "provider", None)
        cost = self._prices.cost(usage, names, provider)
        usd = answer.cost_usd if answer.cost_usd is not None or cost is None else cost.usd
        first_ms = answer.time_to_first_token_ms
        output = None
        if call.response is not None and error is None:
            output = Message("assistant", answer.text, answer.tool_requests)
            self._answer = answer.text if answer.text is not None else self._answer
            self.session.spend_model_call(usage, usd)
        self.session.writer.model_call(
            prompt=call.prompt,
            output=output,
            step=call.step,
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
            latency_ms=took_ms if answer.latency_ms is None else answer.latency_ms,
            time_to_first_token_ms=call.first_token_ms if first_ms is None else first_ms,
            finish_reason=finish_reason_of(answer.finish_reason),
        )

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

    @property
    def _how(self) -> dict[str, Any]:
        return {"begins_step": not self._is_in_step}

    def _request(self, name: str, arguments: Mapping[str, Any]) -> ToolRequest:
        if (stop := self.session.stop) is not None:
            raise RunOverError(stop)
        return ToolRequest(f"call-{next(self._ids)}", name, json.dumps(arguments, default=str))

    def _observed(self, called: Called) -> str:
        if called.stop is not None and not called.is_ok[0]:
            raise RunOverError(called.stop)
        text = called.messages[0].text or ""
        return text if called.is_ok[0] else Refused(text)

    def _function(self, declared: Tool) -> Callable[..., Any]:
        if is_async(declared.fn):

            async def calling_async(**arguments: Any) -> str:
                return await self.call_async(declared.name, **arguments)

            return _as(declared, calling_async)

        def calling(**arguments: Any) -> str:
            return self.call(declared.name, **arguments)

        return _as(declared, calling)


@contextmanager
def own_loop(
    name: str,
    tools: Sequence[Tool | Callable[..., Any]],
    *,
    store: str | Path | Recorder | None = None,
    policy: Policy | None = None,
    task: Task | str = "",
    model: ForeignModel | None = None,
    context: RunContext | None = None,
    credentials: Credentials | None = None,
) -> Iterator[OwnLoop]:
    """Runs the body as one bounded, recorded run of an agent.

    Once a bound stops the run, the next call of the loop raises `RunOverError`, which ends the
    block and goes no further; `result` says why. Another exception ends the run as what it means
    (a framework's own limit, an error of the provider, else crashed), and goes on.

    Args:
        name: of the agent.
        tools: what it may call; a plain function becomes a tool.
        store: folder of the store, or a recorder; None records nothing.
        policy: None allows exactly these tools under the default budget, and denies writes.
        task: what it is asked to do; a text is its prompt.
        model: the model that its loop asks, for prices and traces.
        context: what the run belongs to.
        credentials: secrets of tools.

    Raises:
        AgentError, ToolDefinitionError: the agent cannot be run so.
        StoreError: the store cannot be written to.
    """
    declared = tuple(one if isinstance(one, Tool) else tool(one) for one in tools)
    agent = Agent(name, model or ForeignModel(), declared, policy=policy, credentials=credentials)
    asked = task if isinstance(task, Task) else Task("", task)
    owned = None if store is None or isinstance(store, Recorder) else Recorder(store)
    sink = store if isinstance(store, Recorder) else owned
    try:
        session = Session(agent, asked, Around(sink=sink, context=context))
        run = OwnLoop(session, agent)
        try:
            yield run
        except RunOverError:
            pass
        except BaseException as error:
            if _is_over(error):  # out of a framework's group of tasks
                run.result = session.end(answer=run.answer)
                return
            run.result = session.end(
                _reason_of(error), answer=run.answer, detail=named_error(error)
            )
            raise
        run.result = session.end(answer=run.answer)
    finally:
        if owned is not None:
            owned.close()


def _is_over(error: BaseException) -> bool:
    """True for a group of nothing but the ends of runs."""
    if not isinstance(error, BaseExceptionGroup):
        return False
    _, others = error.split(RunOverError)
    return others is None


def _reason_of(error: BaseException) -> StopReason:
    """Why an exception ended a run: frameworks and SDKs tell their own limits so."""
    if isinstance(error, _INTERRUPTS) or type(error).__name__ == "CancelledError":
        return StopReason.CANCELLED
    word = stop_word(type(error).__name__, error_text(error))
    return stop_of(word, is_error=True) or StopReason.CRASHED


def _as(declared: Tool, calling: Callable[..., Any]) -> Callable[..., Any]:
    calling.__name__ = calling.__qualname__ = declared.name
    calling.__doc__ = declared.description
    return calling
