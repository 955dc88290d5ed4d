"""LangChain and LangGraph: tools behind the gateway, and model calls by callbacks.

Source: langchain-core 1.x, `BaseCallbackHandler` and `StructuredTool`; LangGraph 1.x.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flightlog.errors import MissingExtraError
from flightlog.runtime.own_loop import OwnLoop, Refused

if TYPE_CHECKING:
    from langchain_core.callbacks import BaseCallbackHandler
    from langchain_core.tools import StructuredTool


def langchain_tools(run: OwnLoop) -> list[StructuredTool]:
    """The tools of a run as LangChain takes them; each call passes the gateway.

    A call that is refused, or fails, is a tool message with the status `error`.

    Raises:
        MissingExtraError: the package langchain-core is not installed.
    """
    try:
        from langchain_core.tools import StructuredTool, ToolException  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise _missing() from error

    def told(observed: str) -> str:
        if isinstance(observed, Refused):
            raise ToolException(str(observed))
        return observed

    def made(name: str) -> StructuredTool:
        declared = run.agent.tools_by_name[name]

        def call(**arguments: Any) -> str:
            return told(run.call(name, **arguments))

        async def call_async(**arguments: Any) -> str:
            return told(await run.call_async(name, **arguments))

        return StructuredTool(
            name=name,
            description=declared.description or name,
            args_schema=dict(declared.input_schema or {"type": "object", "properties": {}}),
            func=call,
            coroutine=call_async,
            handle_tool_error=True,
        )

    return [made(one.name) for one in run.agent.tools]


def langchain_callbacks(run: OwnLoop) -> BaseCallbackHandler:
    """A callback handler that records the model calls of a run, and holds its budgets.

    Give it where the agent is invoked: `config={"callbacks": [langchain_callbacks(run)]}`.

    Raises:
        MissingExtraError: the package langchain-core is not installed.
    """
    try:
        from flightlog.integrations.langchain_handler import Handler  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise _missing() from error
    return Handler(run)


def _missing() -> MissingExtraError:
    return MissingExtraError(
        "LangChain's tools and callbacks need the package langchain-core",
        hint="pip install 'flightlog[langchain]'",
    )
