"""Every figure of the 49 models of the function-calling leaderboard, from the store by SQL."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

SOURCE = "bfcl-result@2024-07-06"
CALLS = "SELECT model, avg(tool_requests) AS mean_calls FROM model_calls GROUP BY ALL"


@pytest.fixture(scope="module")
def stated(truth: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = truth["bfcl"]["2024-07-06"]
    return found


@pytest.fixture(scope="module")
def models(
    bfcl: Any, stated: dict[str, Any], figures: Callable[..., Any]
) -> list[tuple[Any, dict[str, Any]]]:
    return [
        (figures(bfcl, source=SOURCE, model=model), per_model)
        for model, per_model in stated["per_model"].items()
    ]


def test_entries_agree(models: list[Any], stated: dict[str, Any]) -> None:
    assert len(models) == stated["models"] == 49
    entries = [found.one("success_rate")["runs"] for found, _ in models]
    assert entries == [per_model["entries"] for _, per_model in models]
    assert sum(entries) == stated["entries"]


def test_latency_agrees(models: list[Any], assert_rounds_to: Callable[..., None]) -> None:
    compared = 0
    for found, per_model in models:
        row = found.one("latency_quantiles", measure="model_call")
        assert row["n"] == per_model["entries_with_latency"], found.chosen
        # Models without a published latency have none in the truth either.
        if per_model.get("latency_s") is None:
            continue
        for key, digits in {"mean": 2, "sd": 2, "p50": 3, "p95": 2, "p99": 2, "max": 2}.items():
            value = row[key] / 1000
            assert_rounds_to(value, per_model["latency_s"][key], digits, f"{found.chosen} {key}")
        assert row["n"] == per_model["latency_s"]["n"]
        compared += 1
    assert compared == 42


def test_latency_agrees_with_the_published_table(
    models: list[Any], assert_rounds_to: Callable[..., None]
) -> None:
    compared = 0
    for found, per_model in models:
        if per_model["agrees"].get("p95"):
            row = found.one("latency_quantiles", measure="model_call")
            for key in ("mean", "sd", "p95"):
                assert_rounds_to(row[key] / 1000, per_model["published"][key], 2, key)
            compared += 1
    assert compared == 42


def test_tokens_agree_because_zero_is_unknown(
    models: list[Any], assert_rounds_to: Callable[..., None]
) -> None:
    for found, per_model in models:
        for measure in ("input_tokens", "output_tokens"):
            row = found.one("tokens_per_call", measure=measure)
            assert_rounds_to(row["mean"], per_model[f"mean_{measure}"], 3, str(found.chosen))


def test_cost_agrees_where_every_call_is_priced(
    models: list[Any], assert_rounds_to: Callable[..., None]
) -> None:
    # Where some calls are unpriced the leaderboard multiplies two means over different
    # calls; the mean cost of the priced calls is another figure.
    compared = 0
    for found, per_model in models:
        row = found.one("cost_per_run")
        if row["n"] and not row["unknown"]:
            assert_rounds_to(row["mean"] * 1000, per_model["cost_usd_per_1k_calls"], 2)
            compared += 1
    assert compared == 29


def test_accuracy_by_category_agrees(bfcl: Any, stated: dict[str, Any]) -> None:
    rates: dict[str, dict[str, float]] = {}
    for row in bfcl.ask("success_rate", by="model,suite").to_pylist():
        rates.setdefault(row["model"], {})[row["suite"]] = row["rate"]
    for model, per_model in stated["per_model"].items():
        assert rates[model] == pytest.approx(per_model["accuracy_by_category"]), model


def test_requested_calls_agree(
    bfcl: Any, stated: dict[str, Any], assert_rounds_to: Callable[..., None]
) -> None:
    # The calls were never carried out, so they are requests in the answer and no tool calls.
    found = {row["model"]: row["mean_calls"] for row in bfcl.rows(CALLS)}
    for model, per_model in stated["per_model"].items():
        assert_rounds_to(found[model], per_model["mean_calls_per_entry"], 4, model)
    assert bfcl.rows("SELECT count(*) AS n FROM tool_calls") == [{"n": 0}]
