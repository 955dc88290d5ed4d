"""Hard cases of arguments: what is the same call, what is another, and what is none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from flightlog.runtime.tools import Tool
from flightlog.trace.vocab import Effect, Outcome
from tests.unit.replay.cases.story import Call, Story

SCHEMA = {
    "type": "object",
    "properties": {"n": {}, "unit": {"type": "string", "default": "EUR"}},
}


def convert() -> Sequence[Tool]:
    def fn(n: Any, unit: str = "EUR") -> str:
        return f"{n!r} {unit}"

    return [Tool("convert", fn=fn, effect=Effect.READ, scopes=("rates",), input_schema=SCHEMA)]


@pytest.mark.parametrize(
    ("recorded", "asked"),
    [
        ('{"n": 25}', '{"n": 25.0}'),
        ('{"n": 1, "unit": "USD"}', '{"unit": "USD", "n": 1}'),
        ('{"n": 1, "unit": "EUR"}', '{"n": 1}'),
        ('{"n": 1}', '{ "n" : 1 , "unit": "EUR" }'),
        ('{"n": 1e2}', '{"n": 100}'),
        ('{"n": "\\u00e9"}', '{"n": "é"}'),
        ('{"n": -0.0}', '{"n": 0}'),
    ],
)
def test_two_spellings_of_the_same_arguments_are_one_call(
    tmp_path: Path, recorded: str, asked: str
) -> None:
    story = Story(tmp_path, convert)
    story.record(("convert", recorded))
    told = story.replay(("convert", asked))
    assert told.calls[0].outcome is Outcome.OK
    assert told.trial.level == "exact"


@pytest.mark.parametrize(
    ("recorded", "asked"),
    [
        ('{"n": 1}', '{"n": true}'),
        ('{"n": 0}', '{"n": false}'),
        ('{"n": "1"}', '{"n": 1}'),
        ('{"n": null}', "{}"),
        ('{"n": 9007199254740993}', '{"n": 9007199254740992}'),
        ('{"n": 1}', '{"n": 1, "unit": "eur"}'),
        ('{"n": [1, 2]}', '{"n": [2, 1]}'),
        ('{"n": "é"}', '{"n": "e\\u0301"}'),
        ('{"n": 39.00}', '{"n": 3900.00}'),
    ],
)
def test_arguments_that_mean_something_else_are_another_call(
    tmp_path: Path, recorded: str, asked: str
) -> None:
    story = Story(tmp_path, convert)
    story.record(("convert", recorded))
    told = story.replay(("convert", asked))
    assert told.seen == ["replay_miss"]
    assert told.trial.passed is None


@pytest.mark.parametrize(
    "text",
    ['{"n": NaN}', '{"n": Infinity}', '{"n": 1, "n": 2}', "n=1", "[1]", '{"n": 1', "", "null"],
    ids=["nan", "infinity", "duplicate", "no-json", "list", "cut", "empty", "null"],
)
def test_arguments_that_are_none_are_treated_as_they_were_live(tmp_path: Path, text: str) -> None:
    story = Story(tmp_path, convert)
    live = story.record(("convert", text), ("convert", '{"n": 3}'))
    told = story.replay(("convert", text), ("convert", '{"n": 3}'))
    assert [call.outcome for call in told.calls] == [call.outcome for call in live]
    assert [call.result for call in told.calls] == [call.result for call in live]
    assert told.trial.level == "exact"
    assert told.trial.misses == ()


def _pay() -> Sequence[Tool]:
    def refund(order: str, amount: float) -> dict[str, Any]:
        return {"order": order, "amount": amount}

    return [Tool("refund", fn=refund, effect=Effect.WRITE, scopes=("order:{order}",))]


def test_changed_amount_of_a_write_is_loud(tmp_path: Path) -> None:
    story = Story(tmp_path, _pay)
    story.record(("refund", '{"order": "A1", "amount": 39.00}'))
    told = story.replay(("refund", '{"order": "A1", "amount": 3900.00}'))
    assert told.seen == ["replay_miss"]
    [miss] = told.trial.misses
    assert "39" in miss.why
    assert "3900" in miss.why
    assert miss.nearest[0].run_id == "run-1"
    assert "flightlog golden accept" in miss.accept
    assert told.trial.divergence is not None
    assert told.trial.passed is not True


def test_secrets_in_arguments_are_matched_by_their_pseudonyms(tmp_path: Path) -> None:
    card, other = "4539578763621486", "5105105105105100"

    def tools() -> Sequence[Tool]:
        return [
            Tool(
                "check",
                fn=lambda card: {"last": card[-4:]},
                effect=Effect.READ,
                scopes=("card:{card}",),
            )
        ]

    story = Story(tmp_path, tools)
    story.record(("check", {"card": card}))
    story.pin()
    kept = b"".join(path.read_bytes() for path in story.goldens.rglob("*") if path.is_file())
    assert card.encode() not in kept
    # Each store has a key of its own, so that a pseudonym of another store says that it is one.
    assert "another key" in story.replay(("check", {"card": card})).why
    assert "another key" in story.replay(("check", {"card": other})).why


def test_retried_write_is_one_effect_under_its_key_and_another_under_another(
    tmp_path: Path,
) -> None:
    def tools() -> Sequence[Tool]:
        def pay(amount: int, idempotency_key: str) -> dict[str, int]:
            return {"paid": amount}

        text, number = {"type": "string"}, {"type": "integer"}
        schema = {"type": "object", "properties": {"amount": number, "idempotency_key": text}}
        return [Tool("pay", fn=pay, effect=Effect.WRITE, scopes=("purse",), input_schema=schema)]

    def pay(key: str) -> Call:
        return "pay", {"amount": 5, "idempotency_key": key}

    story = Story(tmp_path, tools)
    live = story.record(pay("k1"), pay("k1"))
    same = story.replay(pay("k1"), pay("k1"))
    assert [call.outcome for call in same.calls] == [call.outcome for call in live]
    assert [call.result for call in same.calls] == [call.result for call in live]
    assert same.trial.level == "exact"
    assert story.replay(pay("k1"), pay("k2")).seen == [{"paid": 5}, "replay_miss"]
