"""A real LangChain agent, offline, on its own loop: bounded and recorded."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langgraph.errors import GraphRecursionError

import flightlog
from flightlog.analysis.db import Traces
from flightlog.integrations.langchain import langchain_callbacks, langchain_tools
from flightlog.integrations.own_loop import own_loop
from flightlog.runtime.own_loop import OwnLoop

USAGE = {"input_tokens": 100, "output_tokens": 20, "total_tokens": 120}
DETAILS = {"input_token_details": {"cache_read": 40}, "output_token_details": {"reasoning": 5}}


class Model(GenericFakeChatModel):
    """Their own fake model; it takes tools and lets them be."""

    def bind_tools(self, tools: Any, **_: Any) -> Any:
        return self


def asks(order_id: str, number: int) -> AIMessage:
    call = {"name": "get_order", "args": {"order_id": order_id}, "id": f"c{number}"}
    return AIMessage(
        content="",
        tool_calls=[call],
        usage_metadata=USAGE | DETAILS,  # type: ignore[arg-type]
        response_metadata={"model_name": "model-a-1", "finish_reason": "tool_calls"},
    )


@flightlog.tool(effect="read")
def get_order(order_id: str) -> str:
    """Looks an order up."""
    if order_id == "A0":
        raise LookupError("no order A0")
    return f"{order_id} is shipped"


def invoked(
    run: OwnLoop, answers: Sequence[AIMessage], *, is_async: bool = False, **options: Any
) -> Any:
    agent = create_agent(Model(messages=iter(answers)), tools=langchain_tools(run))
    asked: Any = {"messages": [{"role": "user", "content": "Where is A1?"}]}
    config: Any = {"callbacks": [langchain_callbacks(run)], **options}
    if is_async:
        return asyncio.run(agent.ainvoke(asked, config))
    return agent.invoke(asked, config)


def rows(store: Path, query: str) -> list[dict[str, Any]]:
    with Traces(store) as traces:
        return traces.rows(query)


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_an_agent_of_langchain_is_a_run(tmp_path: Path, is_async: bool) -> None:
    answers = [asks("A0", 1), asks("A1", 2), AIMessage("It is shipped.", usage_metadata=USAGE)]
    with own_loop("desk", [get_order], store=tmp_path, task="Where is A1?") as run:
        told = invoked(run, answers, is_async=is_async)
    assert told["messages"][-1].content == "It is shipped."
    statuses = [one.status for one in told["messages"] if one.type == "tool"]
    assert statuses == ["error", "success"]
    [found] = rows(tmp_path, "SELECT * FROM runs")
    assert (found["stop_reason"], found["steps"], found["tool_calls"]) == ("ok", 3, 2)
    assert (found["input_tokens"], found["answer"]) == (300, "It is shipped.")
    calls = rows(tmp_path, "SELECT * FROM model_calls ORDER BY seq")
    assert [one["prompt_messages"] for one in calls] == [1, 3, 5]
    first = calls[0]
    assert (first["response_model"], first["finish_reason"]) == ("model-a-1", "tool_call")
    assert (first["cache_read_tokens"], first["reasoning_tokens"]) == (40, 5)
    tools = rows(tmp_path, "SELECT * FROM tool_calls ORDER BY seq")
    assert [(one["step"], one["outcome"]) for one in tools] == [(1, "failed"), (2, "ok")]


def test_a_budget_ends_an_agent_that_never_has_enough(tmp_path: Path) -> None:
    policy = flightlog.Policy(
        allow=("get_order",), budget=flightlog.Budget(max_steps=4, max_tool_calls=None)
    )
    with own_loop("desk", [get_order], store=tmp_path, policy=policy) as run:
        invoked(run, [asks("A0", number) for number in range(1000)])
        pytest.fail("it went on to its end")
    assert run.result is not None
    assert run.result.stop_reason == "max_steps"
    [found] = rows(tmp_path, "SELECT model_calls, tool_calls FROM runs")
    assert found == {"model_calls": 4, "tool_calls": 4}


def test_what_the_policy_does_not_allow_is_an_error_message_for_the_model(tmp_path: Path) -> None:
    policy = flightlog.Policy(allow=("nothing",))
    with own_loop("desk", [get_order], store=tmp_path, policy=policy) as run:
        told = invoked(run, [asks("A1", 1), AIMessage("I may not.")])
    [refused] = [one for one in told["messages"] if one.type == "tool"]
    assert refused.status == "error"
    assert "is not allowed" in refused.content


def test_a_limit_of_langgraph_is_the_stop_reason_that_it_means(tmp_path: Path) -> None:
    answers = [asks("A1", number) for number in range(9)]
    with (
        pytest.raises(GraphRecursionError),
        own_loop("desk", [get_order], store=tmp_path) as run,
    ):
        invoked(run, answers, recursion_limit=4)
    [found] = rows(tmp_path, "SELECT stop_reason FROM runs")
    assert found["stop_reason"] == "max_steps"


def test_a_model_that_fails_is_a_failed_call(tmp_path: Path) -> None:
    with (
        pytest.raises(RuntimeError),
        own_loop("desk", [get_order], store=tmp_path) as run,
    ):
        invoked(run, [])  # the fake has no answer left
    [call] = rows(tmp_path, "SELECT outcome FROM model_calls")
    assert call["outcome"] == "failed"
