"""Events whose texts cannot be redacted are recorded without them, and counted."""

from __future__ import annotations

import json
from typing import Any

import pytest

from flightlog.redact.events import EventRedactor
from flightlog.redact.policy import Capture, Redaction
from flightlog.redact.pseudonyms import Pseudonyms
from flightlog.redact.redactor import Redactor
from flightlog.trace.canonical import canonical_args
from flightlog.trace.events import Label, ModelCall, RunStarted, ToolCall, ToolIntent
from flightlog.trace.messages import Message

CARD = "4539578763621486"


def redacting(key: Any = b"k" * 32, **policy: Any) -> EventRedactor:
    return EventRedactor(Redactor(Redaction(**policy), Pseudonyms(key)))


def broken_key() -> bytes:
    raise OSError(28, f"no space for the key of {CARD}")


def call(**fields: Any) -> ToolCall:
    args = canonical_args({"card": CARD})
    return ToolCall(
        run_id="run",
        seq=1,
        tool_name="pay",
        args=args.text,
        args_digest=args.digest,
        result=f"paid with {CARD}",
        result_digest="0" * 32,
        latency_ms=12.5,
        **fields,
    )


def test_where_redaction_fails_the_numbers_stay_and_the_texts_go() -> None:
    one = redacting(broken_key)
    kept = one.event(call())
    assert (kept.withheld, kept.args, kept.result, kept.latency_ms) == ("failed", None, None, 12.5)
    assert kept.tool_name == "pay"
    assert kept.args_digest != call().args_digest
    assert one.withheld_texts
    assert CARD not in (one.last_error or "")


def test_a_message_that_cannot_be_redacted_is_not_recorded_and_the_event_says_so() -> None:
    one = redacting(broken_key)
    message = Message("user", CARD)
    redacted = one.message(message)
    assert (redacted.message, redacted.why) == (None, "failed")
    event = ModelCall(run_id="run", seq=1, prompt_added=(message.digest,), input_tokens=7)
    kept = one.event(event, without_messages=redacted.why)
    assert kept.withheld == "failed"
    assert kept.input_tokens == 7
    assert message.digest not in kept.prompt_added


def test_what_takes_too_much_is_withheld_as_slow() -> None:
    one = redacting()
    kept = one.event(call(error="password=hunter2 " * 9_000))
    assert (kept.withheld, kept.error, kept.latency_ms) == ("slow", None, 12.5)
    assert one.withheld_texts == 1


def test_a_name_with_a_secret_is_not_kept_in_a_withheld_event() -> None:
    event = call(error="password=hunter2 " * 9_000, error_type=f"Card{CARD} {CARD}")
    assert CARD not in str(redacting().event(event).error_type).split()
    assert "withheld:" in str(redacting(broken_key).event(event).error_type)


def test_digests_of_withheld_texts_do_not_give_them_away() -> None:
    one, other = redacting(capture=Capture.METADATA), redacting(b"o" * 32, capture="metadata")
    digest = canonical_args({"card": CARD}).digest
    kept = one.event(call())
    assert kept.withheld == "metadata"
    assert kept.args_digest != digest
    assert kept.args_digest == one.event(call()).args_digest  # equal calls are seen as equal
    assert kept.args_digest != other.event(call()).args_digest


def test_metadata_keeps_names_numbers_and_labels_without_secrets() -> None:
    message = Message("task", json.dumps({"prompt": CARD}))
    one = redacting(capture=Capture.METADATA)
    assert one.message(message).message is None
    event = RunStarted(
        run_id="run",
        seq=0,
        agent="payer",
        task_id="t1",
        task_digest=message.digest,
        labels=(Label("team", "core"), Label("api_key", "hunter2"), Label("note", CARD)),
        max_steps=3,
    )
    kept = one.event(event)
    assert (kept.agent, kept.task_id, kept.max_steps) == ("payer", "t1", 3)
    assert kept.task_digest not in (None, message.digest)
    assert [label.key for label in kept.labels] == ["team", "api_key", "note"]
    assert kept.labels[0].value == "core"
    assert "hunter2" not in str(kept.labels)
    assert CARD not in str(kept.labels)


def test_later_events_name_a_changed_message_by_its_new_digest() -> None:
    one = redacting()
    message = Message("user", CARD)
    after = one.message(message).message
    assert after is not None
    for event in (
        ModelCall(run_id="run", seq=1, prompt_added=(message.digest, "a" * 32)),
        ModelCall(run_id="run", seq=2, prompt_added=(message.digest, "a" * 32)),
    ):
        assert not one.is_clean(event, b"{}")
        assert one.event(event).prompt_added == (after.digest, "a" * 32)


def test_intent_and_outcome_of_a_write_keep_one_key_that_tells_nothing() -> None:
    one, key = redacting(), "b" * 32
    fields: dict[str, Any] = {"run_id": "run", "seq": 1, "idempotency_key": key}
    args = canonical_args({"card": CARD}).text
    kept = [one.event(kind(args=args, **fields)).idempotency_key for kind in (ToolIntent, ToolCall)]
    assert kept[0] == kept[1] != key
    plain = one.event(ToolIntent(args='{"note":"password=hunter2x"}', **fields))
    assert plain.idempotency_key != key
    assert one.event(ToolIntent(args='{"a":1}', **fields)).idempotency_key == key


def test_an_event_without_anything_to_replace_is_the_same_object() -> None:
    event = ToolCall(run_id="run", seq=1, args='{"a":1}', result="fine")
    assert redacting().event(event) is event


@pytest.mark.parametrize("count", [1, 3])
def test_replaced_values_are_counted(count) -> None:
    event = ToolCall(run_id="run", seq=1, result=" ".join([CARD] * count), redacted=2)
    assert redacting().event(event, values=4).redacted == 2 + 4 + count
