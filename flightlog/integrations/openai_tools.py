"""The tools of a run in the forms of OpenAI's APIs, for a loop of your own on its client.

Nothing of the SDK is imported: its objects are read by their attributes. Source: OpenAI API
reference, "Chat Completions" and "Responses", 2026.
"""

from __future__ import annotations

from typing import Any

from flightlog.integrations.models.wire import ToolNames, schema_of
from flightlog.runtime.own_loop import OwnLoop
from flightlog.trace.messages import ToolRequest


def chat_tools(run: OwnLoop) -> list[dict[str, Any]]:
    """What `tools=` of the chat completions takes."""
    return [{"type": "function", "function": one} for one in _declared(run)]


def chat_results(run: OwnLoop, message: Any) -> list[dict[str, Any]]:
    """Makes the calls that a message asks for; gives the messages that answer them.

    Args:
        run: whose tools they are.
        message: `choices[0].message` of an answer.

    Raises:
        RunOverError: the run is over.
    """
    requests = [_requested(run, one) for one in message.tool_calls or ()]
    return [_message(*one) for one in zip(requests, _made(run, requests), strict=True)]


async def chat_results_async(run: OwnLoop, message: Any) -> list[dict[str, Any]]:
    """The same for coroutines; the tools may be async."""
    requests = [_requested(run, one) for one in message.tool_calls or ()]
    made = await run.call_all_async(requests) if requests else []
    return [_message(*one) for one in zip(requests, made, strict=True)]


def responses_tools(run: OwnLoop) -> list[dict[str, Any]]:
    """What `tools=` of the responses takes."""
    return [{"type": "function", "strict": False, **one} for one in _declared(run)]


def responses_results(run: OwnLoop, response: Any) -> list[dict[str, Any]]:
    """Makes the calls that a response asks for; gives the items that answer them.

    Raises:
        RunOverError: the run is over.
    """
    requests = _requests_of(run, response)
    return [_item(*one) for one in zip(requests, _made(run, requests), strict=True)]


async def responses_results_async(run: OwnLoop, response: Any) -> list[dict[str, Any]]:
    """The same for coroutines; the tools may be async."""
    requests = _requests_of(run, response)
    made = await run.call_all_async(requests) if requests else []
    return [_item(*one) for one in zip(requests, made, strict=True)]


def _declared(run: OwnLoop) -> list[dict[str, Any]]:
    names = _names(run)
    return [
        {
            "name": names.out(one.name),
            "description": one.description,
            "parameters": schema_of(one),
        }
        for one in run.agent.tools
    ]


def _names(run: OwnLoop) -> ToolNames:
    return ToolNames(one.name for one in run.agent.tools)


def _requested(run: OwnLoop, call: Any) -> ToolRequest:
    asked = getattr(call, "function", None) or call.custom
    arguments = getattr(asked, "arguments", None) or getattr(asked, "input", None) or "{}"
    return ToolRequest(call.id, _names(run).back(asked.name), arguments)


def _requests_of(run: OwnLoop, response: Any) -> list[ToolRequest]:
    names = _names(run)
    return [
        ToolRequest(item.call_id, names.back(item.name), item.arguments or "{}")
        for item in response.output
        if item.type == "function_call"
    ]


def _made(run: OwnLoop, requests: list[ToolRequest]) -> list[str]:
    return run.call_all(requests) if requests else []


def _message(request: ToolRequest, observed: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": request.id, "content": str(observed)}


def _item(request: ToolRequest, observed: str) -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": request.id, "output": str(observed)}
