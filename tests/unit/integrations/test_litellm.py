"""LiteLLM's calls, told by its own logger."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

import flightlog
from flightlog.analysis.db import Traces
from flightlog.integrations.own_loop import own_loop
from tests.unit.integrations.frameworks import (  # which has it ask no network when imported
    ANSWER,
    get_order,
    litellm,
    litellm_calls,
    litellm_loop,
)

ASKED: Any = [{"role": "user", "content": "Where is A1?"}]
MOCKED: dict[str, Any] = {"model": "openai/gpt-4o", "messages": ASKED, "mock_response": ANSWER}


def rows(store: Path, query: str) -> list[dict[str, Any]]:
    with Traces(store) as traces:
        return traces.rows(query)


def test_tokens_cost_and_provider_are_those_that_litellm_tells(tmp_path: Path) -> None:
    with own_loop("d", [], store=tmp_path) as run, litellm_calls(run):
        litellm.completion(**MOCKED)
    [call] = rows(tmp_path, "SELECT * FROM model_calls")
    assert (call["outcome"], call["provider"], call["finish_reason"]) == ("ok", "openai", "stop")
    assert (call["input_tokens"], call["output_tokens"]) == (10, 20)
    assert call["cost_usd"] == pytest.approx(10 * 2.5e-6 + 20 * 1e-5)


def test_an_answer_in_pieces_is_one_call_with_its_first_token(tmp_path: Path) -> None:
    with own_loop("d", [], store=tmp_path) as run, litellm_calls(run):
        text = "".join(
            piece.choices[0].delta.content or ""
            for piece in litellm.completion(**MOCKED, stream=True)
        )
    assert text == ANSWER
    [call] = rows(tmp_path, "SELECT * FROM model_calls")
    assert (call["outcome"], call["output_digest"] is not None) == ("ok", True)
    assert 0 <= call["time_to_first_token_ms"] <= call["latency_ms"]


def test_a_call_that_fails_is_a_failed_call_and_the_stop_reason(tmp_path: Path) -> None:
    with (
        pytest.raises(litellm.exceptions.InternalServerError),
        own_loop("d", [], store=tmp_path) as run,
        litellm_calls(run),
    ):
        litellm.completion(**MOCKED | {"mock_response": RuntimeError("overloaded")})
    [call] = rows(tmp_path, "SELECT outcome, error FROM model_calls")
    assert call["outcome"] == "failed"
    assert "overloaded" in call["error"]
    assert rows(tmp_path, "SELECT stop_reason FROM runs") == [{"stop_reason": "model_error"}]


async def _beside_each_other(count: int) -> None:
    await asyncio.gather(*(litellm.acompletion(**MOCKED) for _ in range(count)))


def test_coroutines_beside_each_other_are_all_told(tmp_path: Path) -> None:
    async def loop() -> None:
        async with litellm_calls(run):
            await _beside_each_other(8)

    with own_loop("d", [], store=tmp_path) as run:
        asyncio.run(loop())
    calls = rows(tmp_path, "SELECT outcome, step FROM model_calls ORDER BY step")
    assert [one["outcome"] for one in calls] == ["ok"] * 8
    assert [one["step"] for one in calls] == list(range(1, 9))


def test_a_token_budget_holds_before_the_next_call(tmp_path: Path) -> None:
    policy = flightlog.Policy(
        allow=("get_order",), budget=flightlog.Budget(max_tokens=60, max_steps=None)
    )
    with own_loop("d", [get_order], store=tmp_path, policy=policy) as run:
        litellm_loop(run, ["A1"] * 30)
        pytest.fail("it went on to its end")
    assert run.result is not None
    assert (run.result.stop_reason, run.result.usage.steps) == ("max_tokens", 2)


def test_calls_outside_are_not_those_of_the_run(tmp_path: Path) -> None:
    with own_loop("d", [], store=tmp_path) as run:
        with litellm_calls(run):
            litellm.completion(**MOCKED)
        litellm.completion(**MOCKED)
    assert rows(tmp_path, "SELECT model_calls FROM runs") == [{"model_calls": 1}]
