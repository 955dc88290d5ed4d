"""What the loop asks of a model and of a simulated user, and scripted ones."""

from __future__ import annotations

import math
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Protocol

from flightlog.errors import AgentError
from flightlog.trace.canonical import canonical_json
from flightlog.trace.messages import Message, ToolRequest

if TYPE_CHECKING:
    from flightlog.runtime.tools import Tool


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one model call; None is unknown, never zero.

    Attributes:
        input_tokens: prompt tokens, cached ones included.
        output_tokens: answer tokens, reasoning included.
        cache_read_tokens: prompt tokens read from a cache.
        cache_write_tokens: prompt tokens put in a cache.
        reasoning_tokens: answer tokens spent on reasoning.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None

    @property
    def tokens(self) -> int | None:
        """Input and output tokens together; None when one of them is unknown."""
        if self.input_tokens is None or self.output_tokens is None:
            return None
        return self.input_tokens + self.output_tokens


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """What a model is asked: the conversation so far and the tools it may ask for."""

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...]
    step: int


@dataclass(frozen=True, slots=True)
class ModelResponse:
    """One answer of a model.

    Attributes:
        text: what it says; None where it only asks for tools.
        tool_requests: the tool calls that it asks for; empty ends the turn.
        usage: tokens, as far as the provider states them.
        model: model that answered, where it differs from the one asked for.
        response_id: provider's id of the answer.
        finish_reason: in the provider's own word.
        latency_ms: duration of the call; None has the loop measure it.
        time_to_first_token_ms: until the first token came.
        cost_usd: cost where the provider states it; None computes it from the prices.
    """

    text: str | None = None
    tool_requests: tuple[ToolRequest, ...] = ()
    usage: Usage = Usage()
    model: str | None = None
    response_id: str | None = None
    finish_reason: str | None = None
    latency_ms: float | None = None
    time_to_first_token_ms: float | None = None
    cost_usd: float | None = None


class Model(Protocol):
    """A model behind any SDK.

    More attributes are read where a model has them: `provider`, in the
    words of OpenTelemetry, None when unknown; `states_cost`, True
    when every response carries `cost_usd` (then a USD budget needs no price);
    `context_limit`, the context window in tokens; `max_output_tokens`, the most
    that an answer can have (then a USD or token budget is never overshot), with
    `count_tokens(request)`, the tokens of a prompt, where it can tell; and
    `never_blocks`, True when it answers from memory, so that no deadline need
    guard the call with a thread of its own (a simulated user may say so too).
    """

    @property
    def name(self) -> str:
        """Name that prices and traces know the model by."""
        ...

    def complete(self, request: ModelRequest) -> ModelResponse | Awaitable[ModelResponse]:
        """Answers one request. An exception is a failed call and ends the run."""
        ...


@dataclass(frozen=True, slots=True)
class ForeignModel:
    """The model of an agent whose loop asks it itself.

    Attributes:
        name: empty where it is not known.
        provider: in the words of OpenTelemetry.
        endpoints: host and port of each server that it is reached at; a replay lets nothing else
            through.
        programs: names of the programs that it is reached by, such as `claude`; a replay lets
            no other start. What such a program reaches is not looked at.
    """

    name: str = ""
    provider: str | None = None
    endpoints: tuple[tuple[str, int], ...] = ()
    programs: tuple[str, ...] = ()
    states_cost: bool = True

    def complete(self, request: ModelRequest) -> ModelResponse:
        """Is never asked.

        Raises:
            AgentError: always.
        """
        raise AgentError(
            f"model {self.name!r} is asked by a loop of its agent's own, and there is none",
            hint="Give the agent loop=, or a model that answers.",
        )


_FRAME_TOKENS: Final = 16
"""More than any chat format known puts around a message."""


def provider_of(model: Model) -> str | None:
    """Provider that the model names; None when it names none."""
    provider: str | None = getattr(model, "provider", None)
    return provider


def usage_bound(model: Model, request: ModelRequest) -> Usage | None:
    """The most tokens that a call can take; None where the model states no `max_output_tokens`.

    Without `count_tokens` a prompt counts with its bytes, tool declarations
    included: a token of a byte-level tokenizer stands for one byte at least.
    """
    output = getattr(model, "max_output_tokens", None)
    if type(output) is not int or output < 0:
        return None
    count = getattr(model, "count_tokens", None)
    if callable(count):
        try:
            counted = count(request)
        except Exception:  # foreign code; the bytes are a bound too
            counted = None
        if type(counted) is int and counted >= 0:
            return Usage(counted, output)
    tokens = sum(message.size_bytes + _FRAME_TOKENS for message in request.messages)
    tokens += sum(len(canonical_json(tool.declaration())) for tool in request.tools)
    return Usage(tokens, output)


@dataclass(frozen=True, slots=True)
class UserTurn:
    """What a simulated user says; recorded as a model call of the actor `user`."""

    text: str
    usage: Usage = Usage()
    cost_usd: float | None = None
    latency_ms: float | None = None


class User(Protocol):
    """A simulated user, asked whenever the agent answers without tool calls."""

    @property
    def name(self) -> str:
        """Name of the user, or of the model that plays it."""
        ...

    def reply(self, messages: Sequence[Message]) -> UserTurn | Awaitable[UserTurn | None] | None:
        """Answers the agent; None ends the run."""
        ...


_TEXTS: Final = ("text", "model", "response_id", "finish_reason")
_AMOUNTS: Final = ("latency_ms", "time_to_first_token_ms", "cost_usd")


def problem_of_answer(answer: Any, expected: type[ModelResponse | UserTurn]) -> str | None:
    """What is wrong with the form of an answer of foreign code; None when nothing is.

    An amount that is negative or no number would break the budgets, and a
    value of another type could be written into no column.
    """
    if not isinstance(answer, expected):
        return f"{type(answer).__name__} is not a {expected.__name__}"
    for name in _TEXTS:
        value = getattr(answer, name, None)
        if not isinstance(value, str) and (value is not None or name in _needed(answer)):
            return f"{name} is {_shown(value)}, not text"
    for name in _AMOUNTS:
        value = getattr(answer, name, None)
        if value is not None and not _is_amount(value):
            return f"{name} is {_shown(value)}, not a finite number from 0 up"
    return _problem_of_usage(answer.usage) or _problem_of_requests(answer)


def _needed(answer: ModelResponse | UserTurn) -> tuple[str, ...]:
    return ("text",) if isinstance(answer, UserTurn) else ()


def _problem_of_usage(usage: Any) -> str | None:
    if not isinstance(usage, Usage):
        return f"usage is {_shown(usage)}, not a Usage"
    for name in Usage.__slots__:
        value = getattr(usage, name)
        if value is not None and not (type(value) is int and value >= 0):
            return f"usage.{name} is {_shown(value)}, not a whole number from 0 up"
    return None


def _problem_of_requests(answer: ModelResponse | UserTurn) -> str | None:
    requests = getattr(answer, "tool_requests", ())
    if not isinstance(requests, (tuple, list)):
        return f"tool_requests is {_shown(requests)}, not a tuple"
    for request in requests:
        if not isinstance(request, ToolRequest):
            return f"tool_requests holds {_shown(request)}, not a ToolRequest"
        for name in ToolRequest.__struct_fields__:
            value = getattr(request, name)
            if not isinstance(value, str):
                return f"{name} of a ToolRequest is {_shown(value)}, not text"
    return None


def _is_amount(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value) and value >= 0


def _shown(value: Any) -> str:
    return f"{value!r:.80}"


Script = Sequence[ModelResponse | Exception] | Callable[[ModelRequest], ModelResponse]


class ScriptedModel:
    """A model that answers from a list or from a function; nothing is measured.

    A response without a latency takes 0 ms, so that a scripted run is the same
    each time.

    Args:
        name: as `Model.name`.
        answers: responses in order (an exception is raised instead of given),
            or a function of the request.
        provider: provider, as `Model` says.
    """

    def __init__(self, name: str, answers: Script, *, provider: str | None = None) -> None:
        self.name = name
        self.provider = provider
        self.requests: list[ModelRequest] = []
        self.never_blocks = not callable(answers)
        self._answers = answers
        self._lock = threading.Lock()

    def complete(self, request: ModelRequest) -> ModelResponse:
        """The next answer of the script.

        Raises:
            AgentError: the script is exhausted.
        """
        with self._lock:
            place = len(self.requests)
            self.requests.append(request)
        answer = self._answers(request) if callable(self._answers) else self._at(place)
        if isinstance(answer, Exception):
            raise answer
        return answer if answer.latency_ms is not None else replace(answer, latency_ms=0.0)

    def _at(self, place: int) -> ModelResponse | Exception:
        assert not callable(self._answers)
        if place >= len(self._answers):
            raise AgentError(
                f"the script of model {self.name!r} has {len(self._answers)} answers and was "
                f"asked for answer {place + 1}",
                hint="Add an answer without tool calls, which ends the run.",
            )
        return self._answers[place]


class ScriptedUser:
    """A user that says the given turns and then ends the run."""

    never_blocks = True

    def __init__(self, turns: Sequence[UserTurn | str], *, name: str = "scripted_user") -> None:
        self.name = name
        self._turns = [UserTurn(turn) if isinstance(turn, str) else turn for turn in turns]
        self._place = 0

    def reply(self, messages: Sequence[Message]) -> UserTurn | None:
        """The next turn; None after the last one."""
        if self._place >= len(self._turns):
            return None
        turn = self._turns[self._place]
        self._place += 1
        return turn if turn.latency_ms is not None else replace(turn, latency_ms=0.0)
