"""Agents on the providers' own SDKs, against a server that speaks their wire formats."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from flightlog.integrations.models import AnthropicModel, OpenAIModel
from flightlog.integrations.models.wire import ToolNames, endpoints_at, object_of
from flightlog.replay.cassette import Cassette, Recording
from flightlog.replay.matching import Rules
from flightlog.replay.replayer import replay
from flightlog.replay.serve import StateAwareExecutor
from flightlog.runtime.agent import Agent
from flightlog.runtime.loop import run, run_async
from flightlog.runtime.policy import Policy
from flightlog.runtime.result import RunContext
from flightlog.runtime.task import Task
from flightlog.runtime.tools import Tool
from flightlog.trace.events import ModelCall
from flightlog.trace.sink import MemorySink
from flightlog.trace.vocab import Effect, FinishReason, Outcome, StopReason
from tests.unit.integrations.model_server import Answer, Server, serving

SCHEMA = {"type": "object", "properties": {"order_id": {"type": "string"}}}
GET = Tool(
    "orders.get",
    lambda order_id: {"order_id": order_id, "status": "shipped"},
    description="Looks an order up.",
    effect=Effect.READ,
    scopes=("order:{order_id}",),
    input_schema=SCHEMA,
)
ASK = Answer("Let me look.", [("call_1", "orders_get", '{"order_id": "A1"}')])
SAY = Answer("It is on its way.")


_made: list[OpenAIModel | AnthropicModel] = []


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    while _made:
        _made.pop().close()


def openai_model(server: Server, **options: Any) -> OpenAIModel:
    made = OpenAIModel("gpt-6", base_url=f"{server.url}/v1", api_key="sk-test", **options)
    _made.append(made)
    return made


def anthropic_model(server: Server, **options: Any) -> AnthropicModel:
    made = AnthropicModel("claude-sonnet-5", base_url=server.url, api_key="sk-test", **options)
    _made.append(made)
    return made


MAKERS: dict[str, Callable[..., Any]] = {
    "openai": openai_model,
    "openai streaming": lambda server, **o: openai_model(server, stream=True, **o),
    "anthropic": anthropic_model,
    "anthropic streaming": lambda server, **o: anthropic_model(server, stream=True, **o),
}
each_model = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


def agent_of(model: Any) -> Agent:
    policy = Policy(allow=["orders.get"])
    return Agent("support", model, tools=[GET], policy=policy, system="Be kind.")


def played(make: Callable[..., Any], *answers: Answer) -> tuple[Any, MemorySink, Server]:
    sink = MemorySink()
    with serving(*answers) as server:
        result = run(agent_of(make(server)), Task("t", "Where is A1?"), sink=sink)
    return result, sink, server


@each_model
def test_a_run_with_a_tool_call_goes_through_both_ways(make: Callable[..., Any]) -> None:
    result, sink, _ = played(make, ASK, SAY)
    assert (result.stop_reason, result.answer) == (StopReason.OK, "It is on its way.")
    call = next(event for event in sink.events if event.__class__.__name__ == "ToolCall")
    assert (call.tool_name, call.args) == ("orders.get", '{"order_id":"A1"}')  # type: ignore[attr-defined]


@each_model
def test_usage_finish_reason_and_names_are_recorded(make: Callable[..., Any]) -> None:
    _, sink, _ = played(make, ASK, SAY)
    first, last = (event for event in sink.events if isinstance(event, ModelCall))
    assert (first.input_tokens, first.output_tokens, first.cache_read_tokens) == (107, 20, 40)
    assert (first.finish_reason, last.finish_reason) == (FinishReason.TOOL_CALL, FinishReason.STOP)
    assert first.response_model != first.request_model
    assert first.response_id
    assert first.provider in ("openai", "anthropic")


@each_model
def test_time_to_the_first_token_is_known_of_streams_only(
    make: Callable[..., Any], request: pytest.FixtureRequest
) -> None:
    _, sink, _ = played(make, SAY)
    (call,) = (event for event in sink.events if isinstance(event, ModelCall))
    is_stream = "streaming" in request.node.name
    assert (call.time_to_first_token_ms is not None) == is_stream


def test_the_chat_api_gets_the_whole_conversation() -> None:
    _, _, server = played(openai_model, ASK, SAY)
    first, last = server.bodies
    assert [one["role"] for one in last["messages"]] == ["system", "user", "assistant", "tool"]
    assert last["messages"][2]["tool_calls"][0]["function"]["name"] == "orders_get"
    assert last["messages"][3]["tool_call_id"] == "call_1"
    function = first["tools"][0]["function"]
    assert (function["name"], function["parameters"]) == ("orders_get", SCHEMA)
    assert server.headers[0]["authorization"] == "Bearer sk-test"


def test_the_messages_api_gets_turns_of_user_and_assistant() -> None:
    both = Answer("", [("a", "orders_get", "{}"), ("b", "orders_get", "{}")])
    _, _, server = played(anthropic_model, both, SAY)
    last = server.bodies[-1]
    assert last["system"] == [{"type": "text", "text": "Be kind."}]
    assert [turn["role"] for turn in last["messages"]] == ["user", "assistant", "user"]
    kinds = [block["type"] for block in last["messages"][2]["content"]]
    assert kinds == ["tool_result", "tool_result"]
    assert last["max_tokens"] == 4096


@each_model
def test_the_sdk_tries_again_by_its_own_rules(make: Callable[..., Any]) -> None:
    result, _, server = played(make, Answer(status=429), Answer(status=529), SAY)
    assert result.stop_reason is StopReason.OK
    assert len(server.bodies) == 3


@each_model
def test_an_error_that_stays_ends_the_run_as_a_model_error(make: Callable[..., Any]) -> None:
    result, sink, _ = played(make, Answer(status=400))
    assert result.stop_reason is StopReason.MODEL_ERROR
    assert "BadRequestError" in (result.stop_detail or "")
    (call,) = (event for event in sink.events if isinstance(event, ModelCall))
    assert call.outcome is Outcome.FAILED
    assert call.input_tokens is None


@each_model
def test_most_tokens_of_an_answer_and_options_are_sent(make: Callable[..., Any]) -> None:
    with serving(SAY) as server:
        model = make(server, max_output_tokens=99, options={"temperature": 0})
        run(agent_of(model), Task("t", "x"))
    body = server.bodies[0]
    assert body.get("max_completion_tokens", body.get("max_tokens")) == 99
    assert body["temperature"] == 0


@each_model
def test_async_agents_use_them_too(make: Callable[..., Any]) -> None:
    with serving(ASK, SAY) as server:
        result = asyncio.run(run_async(agent_of(make(server)), Task("t", "x")))
    assert result.stop_reason is StopReason.OK


@each_model
def test_a_replay_reaches_the_model_and_nothing_else(make: Callable[..., Any]) -> None:
    _, sink, _ = played(make, ASK, SAY)
    cassette = Cassette([Recording(tuple(sink.events), sink.messages)], Rules([GET]))
    with serving(ASK, SAY) as server:
        executor = StateAwareExecutor(cassette, golden="t")
        agent = agent_of(make(server))
        task = Task("t", "Where is A1?")
        done = replay(agent, task, executor, sink=MemorySink(), context=RunContext())
    assert (done.result.stop_reason, done.refused) == (StopReason.OK, ())
    assert len(server.bodies) == 2


def test_a_tool_that_the_model_made_up_keeps_its_name() -> None:
    result, sink, _ = played(openai_model, Answer("", [("c", "no_such_tool", "{}")]), SAY)
    assert result.stop_reason is StopReason.OK
    assert any(getattr(event, "tool_name", None) == "no_such_tool" for event in sink.events)


@pytest.mark.parametrize(
    ("names", "sent"),
    [
        (["get_order"], ["get_order"]),
        (["kb.search"], ["kb_search"]),
        (["a.b", "a_b"], ["a_b_", "a_b"]),
        (["ä" * 80], ["_" * 64]),
    ],
)
def test_names_go_out_in_the_providers_letters_and_come_back(
    names: list[str], sent: list[str]
) -> None:
    wire = ToolNames(names)
    out = [wire.out(name) for name in names]
    assert all(one.startswith(start) for one, start in zip(out, sent, strict=True))
    assert all(len(one) <= 64 and one.isascii() for one in out)
    assert [wire.back(one) for one in out] == names
    assert len(set(out)) == len(names)


@pytest.mark.parametrize(
    ("text", "value"),
    [("", {}), ('{"a":1}', {"a": 1}), ("[1]", {"arguments": "[1]"}), ("{", {"arguments": "{"})],
)
def test_arguments_of_earlier_calls_are_always_an_object(text: str, value: object) -> None:
    assert object_of(text) == value


def test_the_proxy_in_between_is_an_endpoint_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("no_proxy", "")
    found = endpoints_at("https://api.example/v1")
    assert found == (("api.example", 443), ("proxy.example", 3128))
    monkeypatch.setenv("no_proxy", "api.example")
    assert endpoints_at("https://api.example/v1") == (("api.example", 443),)
    monkeypatch.delenv("https_proxy")
    assert endpoints_at("http://[::1]:8080/v1") == (("::1", 8080),)
