"""Events made to fit their columns."""

from __future__ import annotations

from typing import Any

import pytest

from flightlog.trace.canonical import digest_of
from flightlog.trace.events import Label, ModelCall, RunStarted, RunStopped, ToolCall, encode_event
from flightlog.trace.fitting import MAX_TEXT_BYTES, fitted, fitted_text
from flightlog.trace.vocab import Outcome


def call(**fields: Any) -> ToolCall:
    return ToolCall(**{"run_id": "r", "seq": 0, **fields})


def test_event_that_fits_is_the_same() -> None:
    event = call(tool_name="t", args="{}", latency_ms=1.5, step=1, outcome=Outcome.FAILED)
    assert fitted(event) is event


@pytest.mark.parametrize(
    ("field", "value", "kept"),
    [
        ("tool_name", 5, "5"),
        ("tool_name", b"x", "x"),
        ("error", ValueError("no"), "ValueError('no')"),
        ("step", "3", 3),
        ("step", 3.0, 3),
        ("step", 2**63, str(2**63)),
        ("step", 1.5, 1.5),
        ("latency_ms", "1.5", 1.5),
        ("latency_ms", "fast", "fast"),
        ("outcome", "ok", "ok"),
        ("run_id", ["a"], '["a"]'),
    ],
)
def test_value_becomes_what_its_column_holds(field: str, value: Any, kept: Any) -> None:
    event = fitted(call(**{field: value}))
    assert getattr(event, field) == kept
    encode_event(event)


def test_result_and_arguments_are_flagged_where_they_are_less() -> None:
    event = fitted(call(args={"a": (1,)}, result="\ud800"))
    assert event.args_flag == "lossy: tuple as a list"
    assert event.result_flag == "lossy: lone surrogates as U+FFFD"


def test_earlier_flag_is_kept_beside_the_new_one() -> None:
    event = fitted(call(args="\ud800", args_flag="unparsable"))
    assert event.args_flag == "unparsable; lossy: lone surrogates as U+FFFD"


def test_labels_are_texts() -> None:
    event = RunStarted(run_id="r", seq=0, labels=(Label(1, None), 5))  # type: ignore[arg-type]
    assert fitted(event).labels == (Label("1", "null"), Label("label", "5"))


def test_list_of_digests_is_a_list_of_texts() -> None:
    event = ModelCall(run_id="r", seq=0, prompt_added=(1, b"a"))  # type: ignore[arg-type]
    assert fitted(event).prompt_added == ("1", "a")


@pytest.mark.parametrize("sign", ["a", "é", "\U0001f600"])
def test_long_text_is_cut_and_says_what_it_was(sign: str) -> None:
    text = sign * MAX_TEXT_BYTES
    size = len(text.encode())
    cut = fitted_text(text + "b")
    assert cut.endswith(
        f"… [cut: {MAX_TEXT_BYTES} of {size + 1} bytes kept; "
        f"digest of the whole: {digest_of(text + 'b')}]"
    )
    assert fitted_text("a" * MAX_TEXT_BYTES) == "a" * MAX_TEXT_BYTES


def test_long_arguments_are_flagged_and_a_long_answer_says_so_itself() -> None:
    long = "x" * (MAX_TEXT_BYTES + 1)
    flag = fitted(call(args=long)).args_flag
    assert flag == f"lossy: cut after {MAX_TEXT_BYTES} of {MAX_TEXT_BYTES + 1} bytes"
    assert "[cut:" in (fitted(RunStopped(run_id="r", seq=0, answer=long)).answer or "")


def test_long_result_stays_whole_for_its_blob() -> None:
    long = "x" * (MAX_TEXT_BYTES + 1)
    event = fitted(call(result=long, error=b"x"))
    assert (event.result, event.result_flag) == (long, None)
