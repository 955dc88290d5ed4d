"""Recording over the wire, with the official SDKs."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import openai
import pytest

from tests.unit.integrations.model_server import Answer, serving
from tests.unit.integrations.proxy import agents
from tests.unit.integrations.proxy.agents import KEY, PROMPT, rows
from tests.unit.integrations.running import running

CALLS = (
    ("call_1", "get_order", '{"order_id": "A0"}'),
    ("call_2", "get_order", '{"order_id":"A1"}'),
)
ANSWERS = (Answer("One moment.", CALLS[:1]), Answer(calls=CALLS[1:]), Answer("It is shipped."))
AGENTS = {
    "chat": agents.chat,
    "chat in pieces": partial(agents.chat, stream=True),
    "responses": agents.responses,
    "responses in pieces": partial(agents.responses, stream=True),
    "responses as a thread": partial(agents.responses, thread=True),
    "messages": agents.messages,
    "messages in pieces": partial(agents.messages, stream=True),
    "messages as a thread": partial(agents.messages, thread=True),
}


def bytes_of(store: Path) -> bytes:
    """All that a store holds."""
    return b"".join(path.read_bytes() for path in sorted(store.rglob("*")) if path.is_file())


@pytest.mark.parametrize("name", AGENTS)
def test_an_agent_is_recorded_by_changing_its_base_url(name: str, tmp_path: Path) -> None:
    store = tmp_path / "store"
    with (
        serving(*ANSWERS) as upstream,
        running("proxy", "--upstream", upstream.url, "--store", store) as proxy,
    ):
        assert AGENTS[name](proxy.url, {}) == "It is shipped."
        assert "1 runs, 3 model calls recorded" in proxy.end()
    [run] = rows(store, "SELECT * FROM runs")
    assert (run["stop_reason"], run["steps"], run["tool_calls"]) == ("ok", 3, 2)
    assert (run["input_tokens"], run["output_tokens"]) == (3 * 107, 3 * 20)
    calls = rows(store, "SELECT * FROM model_calls ORDER BY seq")
    assert [one["finish_reason"] for one in calls] == ["tool_call", "tool_call", "stop"]
    assert all(one["response_id"] and one["latency_ms"] > 0 for one in calls)
    assert {one["cache_read_tokens"] for one in calls} == {40}
    assert [one["prompt_messages"] for one in calls] == [2, 4, 6]
    if "pieces" in name:
        assert all(0 < one["time_to_first_token_ms"] <= one["latency_ms"] for one in calls)
    if "thread" in name:
        assert calls[1]["previous_response_id"] == calls[0]["response_id"]
    tools = rows(store, "SELECT * FROM tool_calls ORDER BY seq")
    assert [(one["tool_name"], one["step"], one["args"]) for one in tools] == [
        ("get_order", 1, '{"order_id":"A0"}'),
        ("get_order", 2, '{"order_id":"A1"}'),
    ]
    assert "shipped" in tools[1]["result"]
    if name.startswith("messages"):  # the other APIs have no mark for it
        assert [one["outcome"] for one in tools] == ["failed", "ok"]


def test_what_the_upstream_is_sent_is_what_the_client_sent(tmp_path: Path) -> None:
    with serving(Answer("It is here.")) as upstream:
        agents.chat(upstream.url, {"x-own": "1"})
        [straight], [headers] = list(upstream.bodies), list(upstream.headers)
        upstream.answers.append(Answer("It is here."))
        with running("proxy", "--upstream", f"{upstream.url}/v1", "--store", tmp_path) as proxy:
            agents.chat(proxy.url, {"x-own": "1", "x-flightlog-task": "t1"})
    assert upstream.bodies[1] == straight
    assert upstream.paths == ["/v1/chat/completions"] * 2
    told = upstream.headers[1]
    assert not [name for name in told if name.startswith("x-flightlog")]
    changed = {name for name in headers | told if headers.get(name) != told.get(name)}
    assert changed <= {"host", "accept-encoding", "connection"}


def test_credentials_are_passed_on_and_never_recorded(tmp_path: Path) -> None:
    store = tmp_path / "store"
    with serving(Answer("Yes."), Answer("Yes.")) as upstream:
        with running("proxy", "--upstream", upstream.url, "--store", store) as proxy:
            agents.chat(proxy.url, {"cookie": "session=0xsecret-cookie"})
            agents.messages(proxy.url, {})
            proxy.end()
        assert upstream.headers[0]["authorization"] == f"Bearer {KEY}"
        assert KEY in (upstream.headers[1].get("x-api-key") or upstream.headers[1]["authorization"])
    assert KEY.encode() not in bytes_of(store)
    assert b"secret-cookie" not in bytes_of(store)


def test_a_try_again_of_the_sdk_is_an_attempt_of_the_same_step(tmp_path: Path) -> None:
    store = tmp_path / "store"
    answers = (Answer(status=429), Answer(status=503), Answer("Yes."))
    with (
        serving(*answers) as upstream,
        running("proxy", "--upstream", upstream.url, "--store", store) as proxy,
    ):
        agents.chat(proxy.url, {})
        proxy.end()
    calls = rows(store, "SELECT step, attempt, outcome, error FROM model_calls ORDER BY seq")
    assert [(one["step"], one["attempt"], one["outcome"]) for one in calls] == [
        (1, 1, "failed"), (1, 2, "failed"), (1, 3, "ok"),
    ]  # fmt: skip
    assert calls[0]["error"] == "HTTP 429: no"
    [run] = rows(store, "SELECT stop_reason FROM runs")
    assert run["stop_reason"] == "ok"


def test_conversations_side_by_side_are_runs_of_their_own(tmp_path: Path) -> None:
    store = tmp_path / "store"
    with (
        serving(*(Answer(f"Answer {place}.") for place in range(4))) as upstream,
        running("proxy", "--upstream", upstream.url, "--store", store) as proxy,
        openai.OpenAI(base_url=f"{proxy.url}/v1", api_key=KEY) as client,
    ):
        said = [[{"role": "user", "content": PROMPT}] for _ in range(2)]
        for turn in range(2):
            for one in said:
                told = client.chat.completions.create(model="m", messages=one)
                one.append({"role": "assistant", "content": told.choices[0].message.content})
                one.append({"role": "user", "content": f"And {turn}?"})
        proxy.end()
    assert [one["steps"] for one in rows(store, "SELECT steps FROM runs")] == [2, 2]


def test_a_caller_with_other_credentials_never_joins_a_run(tmp_path: Path) -> None:
    store = tmp_path / "store"
    said = [{"role": "user", "content": PROMPT}, {"role": "assistant", "content": "A."}]
    with (
        serving(*(Answer("A.") for _ in range(3))) as upstream,
        running("proxy", "--upstream", upstream.url, "--store", store) as proxy,
    ):
        longer = [*said, said[0]]
        for key, messages in (("one", said[:1]), ("two", longer), ("one", longer)):
            with openai.OpenAI(base_url=f"{proxy.url}/v1", api_key=key) as client:
                client.chat.completions.create(model="m", messages=messages)
        proxy.end()
    assert sorted(one["steps"] for one in rows(store, "SELECT steps FROM runs")) == [1, 2]


@pytest.mark.parametrize("way", ["path", "header"])
def test_a_run_has_the_name_and_the_columns_that_its_caller_gives(way: str, tmp_path: Path) -> None:
    store = tmp_path / "store"
    headers = {
        "x-flightlog-task": "t1", "x-flightlog-suite": "desk", "x-flightlog-trial": "3",
        "x-flightlog-agent": "desk-agent", "x-flightlog-variant": "new%20prompt",
    }  # fmt: skip
    with (
        serving(Answer("A."), Answer("B.")) as upstream,
        running("proxy", "--upstream", upstream.url, "--store", store) as proxy,
    ):
        url = f"{proxy.url}/run/night%2F7" if way == "path" else proxy.url
        headers |= {} if way == "path" else {"x-flightlog-run": "night/7"}
        agents.chat(url, headers)
        agents.messages(url, headers)
        proxy.end()
    runs = rows(store, "SELECT * FROM runs")
    # Two keys, two callers: a name is its caller's own.
    assert {one["conversation_id"] for one in runs} == {"night/7"}
    assert all(
        (one["task_id"], one["suite"], one["trial"], one["agent"], one["variant"])
        == ("t1", "desk", 3, "desk-agent", "new prompt")
        for one in runs
    )
    assert {one["task_digest"] for one in runs} != {None}
    assert len({one["task_digest"] for one in runs}) == 1
