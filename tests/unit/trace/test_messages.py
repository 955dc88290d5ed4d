"""Messages by digest, and prompts that come back exactly from their differences."""

from __future__ import annotations

import sys

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flightlog.trace.canonical import digest_of
from flightlog.trace.events import ModelCall
from flightlog.trace.messages import Message, PromptDelta, ToolRequest, json_pieces
from flightlog.trace.run_writer import RunWriter
from flightlog.trace.sink import MemorySink
from flightlog.trace.slices import SLICE_CHARS

DIGESTS = st.lists(st.sampled_from("abc"), max_size=8)
TEXT = st.text(max_size=5)
REQUESTS = st.builds(ToolRequest, TEXT, TEXT, TEXT)
MESSAGES = st.builds(
    Message,
    role=st.sampled_from(["system", "user", "assistant", "tool"]),
    text=st.none() | TEXT,
    tool_requests=st.lists(REQUESTS, max_size=2).map(tuple),
    tool_call_id=st.none() | TEXT,
    name=st.none() | TEXT,
)


@given(DIGESTS, DIGESTS)
def test_difference_gives_the_prompt_back(before, after):
    delta = PromptDelta.between(before, after, base_seq=7)
    assert delta.applied_to(before) == tuple(after)
    assert (delta.base_seq is None) == (delta.kept == 0)


@given(DIGESTS, DIGESTS)
def test_difference_stores_no_more_than_what_is_new(before, grown):
    delta = PromptDelta.between(before, [*before, *grown], base_seq=0)
    assert (delta.kept, len(delta.added)) == (len(before), len(grown))


@given(MESSAGES)
def test_cleaned_message_keeps_its_digest_and_is_valid_text(message):
    assert message.cleaned.digest == message.digest
    (message.cleaned.text or "").encode("utf-8")


@given(MESSAGES, MESSAGES)
def test_equal_messages_have_equal_digests_and_others_do_not(one, two):
    assert (one.cleaned == two.cleaned) == (one.digest == two.digest)


@given(st.lists(st.lists(MESSAGES, max_size=5), max_size=6))
def test_recorded_prompts_come_back_from_their_events(prompts):
    sink = MemorySink()
    writer = RunWriter(sink, "run")
    for prompt in prompts:
        writer.model_call(prompt=prompt)
    known: dict[int, tuple[str, ...]] = {}
    for event, prompt in zip(sink.events, prompts, strict=True):
        assert isinstance(event, ModelCall)
        base = known[event.prompt_base_seq] if event.prompt_base_seq is not None else ()
        full = (*base[: event.prompt_kept], *event.prompt_added)
        if full:
            known[event.seq] = full
        assert full == tuple(message.digest for message in prompt)
        assert [sink.messages[digest].digest for digest in full] == list(full)


def test_messages_of_a_growing_run_are_stored_once():
    sink = MemorySink()
    writer = RunWriter(sink, "run")
    messages = [Message("user", str(n)) for n in range(100)]
    for size in range(1, 101):
        writer.model_call(prompt=messages[:size])
    assert len(sink.messages) == 100
    assert sum(len(event.prompt_added) for event in sink.events) == 100


def test_a_message_never_holds_itself_since_no_collector_would_free_it() -> None:
    message = Message("user", "hello")
    before = sys.getrefcount(message)
    assert message.digest == message.cleaned.digest
    assert sys.getrefcount(message) == before


def test_message_in_pieces_is_what_msgspec_writes_of_it() -> None:
    long = Message(
        "assistant",
        'quote " slash \\ \x00 \x1f \u2028 é \U0001f600 </script>' * 3,
        (ToolRequest("1", "näme", '{"a":"\\"b\\""}'), ToolRequest("", "", "")),
        "id",
        None,
    )
    for message in (long, Message("user"), Message("user", "", (), "", "")):
        for chars in (1, 2, 7, 1000):
            assert b"".join(json_pieces(message, chars=chars)) == msgspec.json.encode(message)


@pytest.mark.parametrize("sign", ["a", "é", "\U0001f600", "\x00"])
def test_digest_of_a_long_message_is_that_of_its_json(sign: str) -> None:
    message = Message("user", sign * (SLICE_CHARS + 3))
    assert message.is_long
    assert message.digest == digest_of(msgspec.json.encode(message))
    assert message.size_bytes == len((sign * (SLICE_CHARS + 3)).encode())


def test_long_message_with_surrogates_has_the_digest_of_its_clean_form() -> None:
    message = Message("user", "\ud800" * (SLICE_CHARS + 3))
    assert message.digest == message.cleaned.digest


def test_message_of_other_values_becomes_one_of_texts() -> None:
    odd = Message("user", {"a": 1}, [5], None, b"n")  # type: ignore[arg-type]
    assert not odd.is_of_texts
    clean = Message("user", '{"a":1}', (ToolRequest("", "", "5"),), None, "n")
    assert odd.cleaned == clean
    assert odd.digest == clean.digest
    assert odd.size_bytes == clean.size_bytes
