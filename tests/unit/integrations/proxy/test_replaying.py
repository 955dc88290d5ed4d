"""Answers out of recordings, over the wire."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import openai
import pytest

from tests.unit.integrations.model_server import Answer, serving
from tests.unit.integrations.proxy import agents
from tests.unit.integrations.proxy.agents import PROMPT, rows
from tests.unit.integrations.proxy.test_recording import AGENTS, ANSWERS
from tests.unit.integrations.running import running

TASK = {"x-flightlog-task": "t1", "x-flightlog-suite": "desk"}


def record(store: Path, name: str, headers: dict[str, str] = TASK) -> None:
    """One run of an agent against a made model."""
    with (
        serving(*ANSWERS) as upstream,
        running("proxy", "--upstream", upstream.url, "--store", store) as proxy,
    ):
        AGENTS[name](proxy.url, headers)
        proxy.end()


@pytest.mark.parametrize("name", AGENTS)
def test_a_replay_answers_as_recorded_and_nothing_goes_out(name: str, tmp_path: Path) -> None:
    store, again = tmp_path / "store", tmp_path / "again"
    record(store, name)
    with running("proxy", "--replay", store, "--store", again) as proxy:
        assert AGENTS[name](proxy.url, {}) == "It is shipped."
        proxy.end()
    columns = "finish_reason, input_tokens, output_tokens, cache_read_tokens, response_id"
    query = f"SELECT {columns}, prompt_messages FROM model_calls ORDER BY seq"
    assert rows(again, query) == rows(store, query)
    [run] = rows(again, "SELECT origin, stop_reason, tool_calls FROM runs")
    assert run == {"origin": "replay", "stop_reason": "ok", "tool_calls": 2}


def test_what_was_recorded_plain_is_replayed_in_pieces_and_the_other_way(tmp_path: Path) -> None:
    store = tmp_path / "store"
    record(store, "chat")
    with running("proxy", "--replay", store, "--store", tmp_path / "again") as proxy:
        assert AGENTS["chat in pieces"](proxy.url, {}) == "It is shipped."
        # A model is asked in any of its languages: what it was told is the same.
        assert AGENTS["messages in pieces"](proxy.url, {}) == "It is shipped."
        assert AGENTS["responses"](proxy.url, {}) == "It is shipped."


def test_a_prompt_that_nobody_recorded_is_a_miss_that_names_the_difference(
    tmp_path: Path,
) -> None:
    store, again = tmp_path / "store", tmp_path / "again"
    record(store, "chat")
    with (
        running("proxy", "--replay", store, "--store", again) as proxy,
        openai.OpenAI(base_url=f"{proxy.url}/v1", api_key="k") as client,
    ):
        asked = [
            {"role": "system", "content": agents.SYSTEM},
            {"role": "user", "content": "Where is order B2?"},
        ]
        with pytest.raises(openai.NotFoundError, match="differs at message 2") as missed:
            client.chat.completions.create(model="gpt-x", messages=asked)
        assert PROMPT in str(missed.value)
        assert "Where is order B2?" in str(missed.value)
        proxy.end()
    [call] = rows(again, "SELECT outcome, attempt FROM model_calls")
    assert call == {"outcome": "replay_miss", "attempt": 1}
    assert rows(again, "SELECT stop_reason FROM runs") == [{"stop_reason": "replay_miss"}]


def test_system_prompts_may_differ_where_that_is_said(tmp_path: Path) -> None:
    store = tmp_path / "store"
    record(store, "chat")
    asked = [
        {"role": "system", "content": "Today is another day."},
        {"role": "user", "content": PROMPT},
    ]
    options = ("--replay", store, "--store", tmp_path / "again")
    with (
        running("proxy", *options, "--ignore-system") as proxy,
        openai.OpenAI(base_url=f"{proxy.url}/v1", api_key="k") as client,
    ):
        told = client.chat.completions.create(model="gpt-x", messages=asked)
        assert told.choices[0].message.content == "One moment."


def test_the_same_prompt_in_several_runs_is_answered_in_their_order(tmp_path: Path) -> None:
    store = tmp_path / "store"
    asked = [{"role": "user", "content": "Say a number."}]
    with (
        serving(Answer("1"), Answer("2")) as upstream,
        running("proxy", "--upstream", upstream.url, "--store", store) as proxy,
        openai.OpenAI(base_url=f"{proxy.url}/v1", api_key="k") as client,
    ):
        for _ in range(2):
            client.chat.completions.create(model="m", messages=asked)
        proxy.end()
    with (
        running("proxy", "--replay", store, "--store", tmp_path / "again") as proxy,
        openai.OpenAI(base_url=f"{proxy.url}/v1", api_key="k") as client,
    ):
        said = [client.chat.completions.create(model="m", messages=asked) for _ in range(4)]
    assert [one.choices[0].message.content for one in said] == ["1", "2", "1", "2"]


def test_secrets_in_prompts_are_found_again_though_they_were_never_recorded(
    tmp_path: Path,
) -> None:
    store, secret = tmp_path / "store", "AKIAIOSFODNN7EXAMPLQ"
    asked = [{"role": "user", "content": f"Use {secret} please."}]
    with (
        serving(Answer("I will not.")) as upstream,
        running("proxy", "--upstream", upstream.url, "--store", store) as proxy,
        openai.OpenAI(base_url=f"{proxy.url}/v1", api_key="k") as client,
    ):
        client.chat.completions.create(model="m", messages=asked)
        proxy.end()
    assert secret not in json.dumps(rows(store, "SELECT * FROM messages"), default=str)
    with (
        running("proxy", "--replay", store, "--store", tmp_path / "again") as proxy,
        openai.OpenAI(base_url=f"{proxy.url}/v1", api_key="k") as client,
    ):
        told = client.chat.completions.create(model="m", messages=asked)
        assert told.choices[0].message.content == "I will not."


@pytest.mark.parametrize("name", ["chat", "messages as a thread"])
def test_a_golden_answers_too(name: str, tmp_path: Path) -> None:
    store, goldens = tmp_path / "store", tmp_path / "goldens"
    record(store, name)
    [run] = rows(store, "SELECT run_id FROM runs")
    pin = ["golden", "pin", run["run_id"], "--store", str(store), "--goldens", str(goldens)]
    subprocess.run([sys.executable, "-m", "flightlog", *pin], check=True, capture_output=True)
    with running("proxy", "--replay", goldens, "--store", tmp_path / "again") as proxy:
        assert AGENTS[name](proxy.url, {}) == "It is shipped."


def test_a_replay_of_nothing_is_refused(tmp_path: Path) -> None:
    store = tmp_path / "store"
    with (
        serving() as upstream,
        running("proxy", "--upstream", upstream.url, "--store", store) as proxy,
    ):
        proxy.end()
    command = ["proxy", "--replay", str(store), "--store", str(tmp_path / "again")]
    shown = [sys.executable, "-m", "flightlog", *command]
    done = subprocess.run(shown, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 64
    assert "no answer of a model in 0 recordings" in done.stderr
