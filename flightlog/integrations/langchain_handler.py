"""Tells a run of LangChain's model calls; importing it needs the package langchain-core.

Source: langchain-core 1.x, `BaseCallbackHandler`, `UsageMetadata`.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import convert_to_openai_messages

from flightlog.integrations.messages import answer_of, messages_of
from flightlog.runtime.calls import error_text
from flightlog.runtime.model import ModelResponse, Usage
from flightlog.runtime.own_loop import ModelCall, OwnLoop


class Handler(BaseCallbackHandler):
    """Records the model calls of a run, and holds its budgets. For several threads.

    Args:
        run: that is told.
    """

    raise_error = True
    run_inline = True

    def __init__(self, run: OwnLoop) -> None:
        self._run = run
        self._calls: dict[Any, ModelCall] = {}
        self._lock = threading.Lock()

    def on_chat_model_start(
        self,
        serialized: dict[str, Any],
        messages: Sequence[Sequence[Any]],
        *,
        run_id: Any,
        **kwargs: Any,
    ) -> None:
        """A chat model is asked."""
        plain = convert_to_openai_messages(list(messages[0]) if messages else [])
        self._begin(run_id, messages_of(plain), kwargs)

    def on_llm_start(
        self, serialized: dict[str, Any], prompts: list[str], *, run_id: Any, **kwargs: Any
    ) -> None:
        """A model of plain text is asked."""
        self._begin(run_id, messages_of(prompts[0] if prompts else ""), kwargs)

    def on_llm_new_token(self, token: Any, *, run_id: Any, **kwargs: Any) -> None:
        """A piece of the answer came."""
        if (call := self._calls.get(run_id)) is not None:
            call.first_token()

    def on_llm_end(self, response: Any, *, run_id: Any, **kwargs: Any) -> None:
        """A model answered."""
        if (call := self._taken(run_id)) is not None:
            call.answer(_response(response))
            self._run.end_model_call(call)

    def on_llm_error(self, error: BaseException, *, run_id: Any, **kwargs: Any) -> None:
        """A model call failed."""
        if (call := self._taken(run_id)) is not None:
            self._run.end_model_call(call, error=f"{type(error).__name__}: {error_text(error)}")

    def _begin(self, run_id: Any, prompt: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        given = kwargs.get("metadata") or {}
        call = self._run.begin_model_call(given.get("ls_model_name"), prompt=prompt)
        call.provider = given.get("ls_provider")
        with self._lock:
            self._calls[run_id] = call

    def _taken(self, run_id: Any) -> ModelCall | None:
        with self._lock:
            return self._calls.pop(run_id, None)


def _response(result: Any) -> ModelResponse:
    """The first answer of a result, as far as the provider's integration tells it."""
    generation = result.generations[0][0]
    message = getattr(generation, "message", None)
    if message is None:
        return ModelResponse(generation.text)
    output = answer_of(convert_to_openai_messages(message))
    usage: Mapping[str, Any] = getattr(message, "usage_metadata", None) or {}
    told: Mapping[str, Any] = getattr(message, "response_metadata", None) or {}
    inputs, outputs = (usage.get(f"{side}_token_details") or {} for side in ("input", "output"))
    return ModelResponse(
        text=None if output is None else output.text,
        tool_requests=() if output is None else output.tool_requests,
        usage=Usage(
            usage.get("input_tokens"),
            usage.get("output_tokens"),
            inputs.get("cache_read"),
            inputs.get("cache_creation"),
            outputs.get("reasoning"),
        ),
        model=told.get("model_name") or told.get("model"),
        response_id=getattr(message, "id", None),
        finish_reason=told.get("finish_reason") or told.get("stop_reason"),
    )
