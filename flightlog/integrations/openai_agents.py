"""The OpenAI Agents SDK: tools behind the gateway, and a model that tells of its calls.

Importing it needs the package openai-agents. Source: openai-agents 0.24, `Model`,
`FunctionTool`, `ModelResponse`.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from agents import FunctionTool, Tool
from agents.models.interface import Model

from flightlog.integrations.messages import answer_of, messages_of
from flightlog.runtime.calls import named_error
from flightlog.runtime.model import ModelResponse, Usage
from flightlog.runtime.own_loop import OwnLoop
from flightlog.trace.messages import Message


def agents_tools(run: OwnLoop) -> list[Tool]:
    """The tools of a run as the SDK takes them; each call passes the gateway.

    What is refused or failed is told to the model as text, as the SDK does with errors.
    """
    return [_tool(run, one.name) for one in run.agent.tools]


def agents_model(run: OwnLoop, model: Model) -> Model:
    """A model around another one, that records its calls and holds the run's budgets."""
    return _Recorded(run, model)


def _tool(run: OwnLoop, name: str) -> FunctionTool:
    declared = run.agent.tools_by_name[name]

    async def invoked(_: Any, arguments: str) -> str:
        try:
            given = json.loads(arguments or "{}")
        except ValueError:
            given = {"arguments": arguments}  # which the gateway refuses by the schema
        plain = given if isinstance(given, dict) else {"arguments": given}
        return str(await run.call_async(name, **plain))

    return FunctionTool(
        name=name,
        description=declared.description,
        params_json_schema=dict(declared.input_schema or {"type": "object", "properties": {}}),
        on_invoke_tool=invoked,
        strict_json_schema=False,
    )


class _Recorded(Model):
    """Records the calls of the model that it is around."""

    def __init__(self, run: OwnLoop, model: Model) -> None:
        self._run = run
        self._model = model
        self._name = getattr(model, "model", None)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_model"], name)

    async def get_response(self, *args: Any, **kwargs: Any) -> Any:
        """The other model's answer."""
        call = self._run.begin_model_call(_text(self._name), prompt=_prompt(*args, **kwargs))
        asking: Callable[..., Awaitable[Any]] = self._model.get_response
        try:
            answer = await asking(*args, **kwargs)
        except Exception as error:
            self._run.end_model_call(call, error=named_error(error))
            raise
        call.answer(_response(answer.output, answer.usage, answer.response_id, None))
        self._run.end_model_call(call)
        return answer

    async def stream_response(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        """The other model's answer, in pieces."""
        call = self._run.begin_model_call(_text(self._name), prompt=_prompt(*args, **kwargs))
        asking: Callable[..., AsyncIterator[Any]] = self._model.stream_response
        error: str | None = "the answer was not read to its end"
        try:
            async for event in asking(*args, **kwargs):
                if str(getattr(event, "type", "")).endswith(".delta"):
                    call.first_token()
                whole = getattr(event, "response", None)
                if getattr(event, "type", "") == "response.completed" and whole is not None:
                    call.answer(_response(whole.output, whole.usage, whole.id, whole.model))
                    error = None
                yield event
        except Exception as raised:
            error = named_error(raised)
            raise
        finally:
            self._run.end_model_call(call, error=error)


def _prompt(system: Any = None, given: Any = None, *_: Any, **kwargs: Any) -> list[Message]:
    system = kwargs.get("system_instructions", system)
    given = kwargs.get("input", given)
    head = [Message("system", system)] if isinstance(system, str) and system else []
    return [*head, *messages_of(given)]


def _response(output: Any, usage: Any, ident: Any, model: Any) -> ModelResponse:
    items = [
        one.model_dump(exclude_none=True) if hasattr(one, "model_dump") else one for one in output
    ]
    said = answer_of(items)
    inputs = getattr(usage, "input_tokens_details", None)
    outputs = getattr(usage, "output_tokens_details", None)
    # A model that does not count says 0 of both.
    is_counted = bool(getattr(usage, "input_tokens", 0) or getattr(usage, "output_tokens", 0))
    counted = Usage(
        getattr(usage, "input_tokens", None),
        getattr(usage, "output_tokens", None),
        getattr(inputs, "cached_tokens", None),
        reasoning_tokens=getattr(outputs, "reasoning_tokens", None),
    )
    return ModelResponse(
        text=None if said is None else said.text,
        tool_requests=() if said is None else said.tool_requests,
        usage=counted if is_counted else Usage(),
        model=_text(model),
        response_id=_text(ident),
    )


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
