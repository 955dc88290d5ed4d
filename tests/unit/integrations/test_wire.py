"""Clients of the official SDKs against a loopback server: what a run is told of their requests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import openai
import pytest

import flightlog
from flightlog.analysis.db import Traces
from flightlog.errors import AgentError
from flightlog.integrations.anthropic_tools import (
    anthropic_async_tools,
    anthropic_tools,
    until_done,
    until_done_async,
)
from flightlog.integrations.openai_tools import chat_results_async, chat_tools
from flightlog.integrations.own_loop import own_loop
from flightlog.integrations.wire import recorded_client
from flightlog.runtime.own_loop import OwnLoop
from tests.unit.integrations.frameworks import ANSWER, get_order
from tests.unit.integrations.model_server import Answer, Server, serving

LOOK = Answer(calls=[("c1", "get_order", '{"order_id": "A1"}')])
ASKED: Any = [{"role": "user", "content": "Where is A1?"}]


def rows(store: Path, query: str) -> list[dict[str, Any]]:
    with Traces(store) as traces:
        return traces.rows(query)


def openai_client(server: Server, kind: Any = openai.OpenAI) -> Any:
    return kind(api_key="k", base_url=f"{server.url}/v1", max_retries=2)


def anthropic_client(server: Server, kind: Any = anthropic.Anthropic) -> Any:
    return kind(api_key="k", base_url=server.url, max_retries=2)


def streamed_chat(run: OwnLoop, server: Server) -> None:
    with openai_client(server) as made:
        options = {"include_usage": True}
        client = recorded_client(run, made)
        for _ in client.chat.completions.create(
            model="model-a", messages=ASKED, stream=True, stream_options=options
        ):
            pass


def streamed_response(run: OwnLoop, server: Server) -> None:
    with openai_client(server) as made:
        client = recorded_client(run, made)
        for _ in client.responses.create(model="model-a", input=ASKED, stream=True):
            pass


def streamed_message(run: OwnLoop, server: Server) -> None:
    with anthropic_client(server) as made:
        client = recorded_client(run, made)
        asked = {"model": "model-a", "max_tokens": 9, "messages": ASKED}
        with client.messages.stream(**asked) as events:
            events.until_done()


async def _streamed_async(run: OwnLoop, server: Server) -> None:
    async with openai_client(server, openai.AsyncOpenAI) as made:
        client = recorded_client(run, made)
        options = {"include_usage": True}
        asked = {"model": "model-a", "messages": ASKED, "stream_options": options}
        async for _ in await client.chat.completions.create(**asked, stream=True):
            pass


def streamed_async(run: OwnLoop, server: Server) -> None:
    asyncio.run(_streamed_async(run, server))


@pytest.mark.parametrize(
    "ask", [streamed_chat, streamed_response, streamed_message, streamed_async]
)
def test_an_answer_in_pieces_is_one_model_call(
    ask: Callable[[OwnLoop, Server], None], tmp_path: Path
) -> None:
    with serving(LOOK) as server, own_loop("desk", [], store=tmp_path) as run:
        ask(run, server)
    [call] = rows(tmp_path, "SELECT * FROM model_calls")
    assert (call["outcome"], call["tool_requests"], call["finish_reason"]) == (
        "ok",
        1,
        "tool_call",
    )
    assert (call["request_model"], call["input_tokens"]) == ("model-a", 107)
    assert call["time_to_first_token_ms"] <= call["latency_ms"]
    assert call["provider"] == ("anthropic" if ask is streamed_message else "openai")


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
def test_retries_of_the_sdk_are_attempts_of_one_step(kind: str, tmp_path: Path) -> None:
    policy = flightlog.Policy(allow=(), budget=flightlog.Budget(max_steps=1))
    flaky = (Answer(status=429), Answer(status=503), Answer(ANSWER))
    with serving(*flaky) as server, own_loop("d", [], store=tmp_path, policy=policy) as run:
        if kind == "openai":
            with openai_client(server) as made:
                client = recorded_client(run, made)
                client.chat.completions.create(model="model-a", messages=ASKED)
        else:
            with anthropic_client(server) as made:
                client = recorded_client(run, made)
                client.messages.create(model="model-a", max_tokens=9, messages=ASKED)
    calls = rows(tmp_path, "SELECT step, attempt, outcome, error FROM model_calls ORDER BY seq")
    assert [(one["step"], one["attempt"], one["outcome"]) for one in calls] == [
        (1, 1, "failed"),
        (1, 2, "failed"),
        (1, 3, "ok"),
    ]
    assert [one["error"] for one in calls] == ["HTTP 429: no", "HTTP 503: no", None]
    assert run.result is not None
    assert (run.result.stop_reason, run.result.answer) == ("ok", ANSWER)


def test_an_answer_that_is_not_read_to_its_end_is_a_failed_call(tmp_path: Path) -> None:
    long = Answer("word " * 400_000)
    with (
        serving(long) as server,
        own_loop("d", [], store=tmp_path) as run,
        openai_client(server) as made,
    ):
        stream = recorded_client(run, made).chat.completions.create(
            model="model-a", messages=ASKED, stream=True
        )
        next(iter(stream))
        stream.close()
    [call] = rows(tmp_path, "SELECT outcome, error FROM model_calls")
    assert call == {"outcome": "failed", "error": "the answer was not read to its end"}


def test_a_server_that_cannot_be_reached_is_a_failed_call_and_the_stop_reason(
    tmp_path: Path,
) -> None:
    made = openai.OpenAI(api_key="k", base_url="http://127.0.0.1:9/v1", max_retries=0)
    with (
        made,
        pytest.raises(openai.APIConnectionError),
        own_loop("d", [], store=tmp_path) as run,
    ):
        recorded_client(run, made).chat.completions.create(model="model-a", messages=ASKED)
    [call] = rows(tmp_path, "SELECT outcome, error FROM model_calls")
    assert call["outcome"] == "failed"
    assert "ConnectError" in call["error"]
    assert rows(tmp_path, "SELECT stop_reason FROM runs") == [{"stop_reason": "model_error"}]


def test_a_full_context_is_the_stop_reason_that_the_api_names(tmp_path: Path) -> None:
    error = {"message": "too long", "type": "t", "code": "context_length_exceeded"}

    def answered(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(400, json={"error": error})

    http = httpx2.Client(transport=httpx2.MockTransport(answered))
    with (
        openai.OpenAI(api_key="k", http_client=http) as made,
        pytest.raises(openai.BadRequestError),
        own_loop("d", [], store=tmp_path) as run,
    ):
        recorded_client(run, made).chat.completions.create(model="model-a", messages=ASKED)
    assert rows(tmp_path, "SELECT stop_reason FROM runs") == [{"stop_reason": "context_overflow"}]


@pytest.mark.parametrize("text", ["not json", "[1]", '{"choices": 3}'])
def test_rubbish_is_a_failed_call_and_reaches_the_sdk_as_it_is(text: str, tmp_path: Path) -> None:
    def answered(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, text=text, headers={"content-type": "application/json"})

    http = httpx2.Client(transport=httpx2.MockTransport(answered))
    with (
        own_loop("d", [], store=tmp_path) as run,
        openai.OpenAI(api_key="k", http_client=http) as c,
    ):
        raw = recorded_client(run, c).chat.completions.with_raw_response
        assert raw.create(model="model-a", messages=ASKED).text == text
    [call] = rows(tmp_path, "SELECT outcome FROM model_calls")
    assert call["outcome"] == "failed"


def test_a_key_in_a_header_is_never_recorded(tmp_path: Path) -> None:
    with serving(Answer(ANSWER)) as server, own_loop("d", [], store=tmp_path) as run:
        base = f"{server.url}/v1"
        with openai.OpenAI(api_key="sk-secret-key-of-mine", base_url=base) as made:
            recorded_client(run, made).chat.completions.create(model="model-a", messages=ASKED)
    assert server.headers[0]["authorization"] == "Bearer sk-secret-key-of-mine"
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or b"secret-key-of-mine" not in file.read_bytes()


def test_what_asks_no_model_passes_unseen(tmp_path: Path) -> None:
    def answered(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, json={"object": "list", "data": []})

    http = httpx2.Client(transport=httpx2.MockTransport(answered))
    with (
        own_loop("d", [], store=tmp_path) as run,
        openai.OpenAI(api_key="k", http_client=http) as c,
    ):
        assert recorded_client(run, c).models.list().data == []
    assert rows(tmp_path, "SELECT model_calls FROM runs") == [{"model_calls": 0}]


def test_the_client_that_is_given_stays_as_it_is(tmp_path: Path) -> None:
    with (
        serving(Answer(ANSWER)) as server,
        openai_client(server) as made,
        own_loop("d", [], store=tmp_path) as run,
    ):
        recorded_client(run, made).close()
        made.chat.completions.create(model="model-a", messages=ASKED)
    assert rows(tmp_path, "SELECT model_calls FROM runs") == [{"model_calls": 0}]


def test_something_else_than_a_client_is_refused() -> None:
    with own_loop("d", []) as run, pytest.raises(AgentError, match="no client of the SDKs"):
        recorded_client(run, object())


async def _looping(run: OwnLoop, server: Server) -> None:
    async with openai_client(server, openai.AsyncOpenAI) as made:
        client, messages = recorded_client(run, made), list(ASKED)
        while True:
            answer = await client.chat.completions.create(
                model="model-a", messages=messages, tools=chat_tools(run)
            )
            message = answer.choices[0].message
            messages += [message.to_dict(), *await chat_results_async(run, message)]


@pytest.mark.parametrize("bound", ["max_steps", "max_tool_calls", "max_tokens"])
def test_a_budget_ends_an_async_agent_before_the_next_request(bound: str, tmp_path: Path) -> None:
    limits = {"max_steps": None, "max_tool_calls": None}
    limits[bound] = 3 if bound != "max_tokens" else 3 * 127
    policy = flightlog.Policy(allow=("get_order",), budget=flightlog.Budget(**limits))
    with serving(*[LOOK] * 20) as server:
        with own_loop("d", [get_order], store=tmp_path, policy=policy) as run:
            asyncio.run(_looping(run, server))
            pytest.fail("it went on to its end")
        assert len(server.bodies) == (4 if bound == "max_tool_calls" else 3)
    assert run.result is not None
    assert run.result.stop_reason == bound


async def _running(run: OwnLoop, server: Server, **limits: Any) -> Any:
    async with anthropic_client(server, anthropic.AsyncAnthropic) as made:
        runner = recorded_client(run, made).beta.messages.tool_runner(
            model="model-a",
            max_tokens=9,
            messages=ASKED,
            tools=anthropic_async_tools(run),
            **limits,
        )
        return await until_done_async(run, runner)


def test_the_async_tool_runner_is_a_run(tmp_path: Path) -> None:
    with (
        serving(LOOK, Answer(ANSWER)) as server,
        own_loop("d", [get_order], store=tmp_path) as run,
    ):
        message = asyncio.run(_running(run, server))
    assert message.content[0].text == ANSWER
    [found] = rows(tmp_path, "SELECT steps, tool_calls, stop_reason FROM runs")
    assert found == {"steps": 2, "tool_calls": 1, "stop_reason": "ok"}


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_the_limit_of_the_tool_runner_is_max_steps(is_async: bool, tmp_path: Path) -> None:
    with serving(*[LOOK] * 9) as server, own_loop("d", [get_order], store=tmp_path) as run:
        if is_async:
            asyncio.run(_running(run, server, max_iterations=3))
        else:
            with anthropic_client(server) as made:
                runner = recorded_client(run, made).beta.messages.tool_runner(
                    model="model-a",
                    max_tokens=9,
                    messages=ASKED,
                    tools=anthropic_tools(run),
                    max_iterations=3,
                )
                until_done(run, runner)
        pytest.fail("it is no answer")
    assert run.result is not None
    assert (run.result.stop_reason, run.result.usage.steps) == ("max_steps", 3)


def test_a_failed_tool_is_an_error_result_for_the_runner(tmp_path: Path) -> None:
    broken = Answer(calls=[("c1", "get_order", '{"order_id": "A0"}')])
    with serving(broken, Answer(ANSWER)) as server:
        with own_loop("d", [get_order]) as run, anthropic_client(server) as made:
            runner = recorded_client(run, made).beta.messages.tool_runner(
                model="model-a", max_tokens=9, messages=ASKED, tools=anthropic_tools(run)
            )
            until_done(run, runner)
        told = server.bodies[1]["messages"][-1]["content"][0]
    assert told["is_error"] is True
    assert "no order A0" in str(told["content"])
