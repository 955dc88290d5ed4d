"""The rules of what is sent of a conversation: in order, accepted by providers, within limits."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flightlog.errors import ConfigError
from flightlog.runtime.prompt_fit import keep_last, keep_policy_and_last
from flightlog.trace.messages import Message, ToolRequest

SYSTEM = Message("system", "Never refund more than 50 USD.")
Conversation = tuple[Message, ...]


def step(number: int, calls: int, size: int = 1) -> list[Message]:
    """A request for tools with its results."""
    requests = tuple(
        ToolRequest(f"{number}.{place}", "look", json.dumps({"n": place})) for place in range(calls)
    )
    results = [
        Message("tool", "r" * size, tool_call_id=request.id, name="look") for request in requests
    ]
    return [Message("assistant", None, requests), *results]


@st.composite
def conversations(draw: st.DrawFn) -> Conversation:
    """What a run sends: steps with tools, answers, turns of users; at least one message."""
    messages = [SYSTEM] if draw(st.booleans()) else []
    kinds = draw(st.lists(st.sampled_from(["step", "user", "answer"]), max_size=12))
    if draw(st.booleans()) or not (messages or kinds):
        messages.append(Message("user", "the task"))
    for number, kind in enumerate(kinds):
        if kind == "step":
            messages += step(number, draw(st.integers(1, 4)), draw(st.integers(1, 50)))
        elif kind == "user":
            messages.append(Message("user", f"turn {number}" * draw(st.integers(1, 9))))
        else:
            messages.append(Message("assistant", f"answer {number}"))
    return tuple(messages)


fits = st.one_of(
    st.builds(keep_last, st.integers(1, 20)),
    st.builds(keep_policy_and_last, st.integers(1, 20)),
    st.builds(lambda size: keep_policy_and_last(max_bytes=size), st.integers(1, 400)),
    st.builds(
        lambda count, size: keep_policy_and_last(count, max_bytes=size),
        st.integers(1, 20),
        st.integers(1, 400),
    ),
)


def size_of(messages: Sequence[Message]) -> int:
    return sum(message.size_bytes for message in messages)


def places(sent: Sequence[Message], conversation: Conversation) -> list[int]:
    """Where the very messages that are sent stand in the conversation."""
    by_id = {id(message): place for place, message in enumerate(conversation)}
    return [by_id[id(message)] for message in sent]


def needed(conversation: Conversation) -> set[int]:
    """Places of what is sent in any case."""
    of_user = [p for p, message in enumerate(conversation) if message.role == "user"]
    first = len(conversation) - 1
    while first > 0 and conversation[first].role == "tool":
        first -= 1
    return {
        *(p for p, message in enumerate(conversation) if message.role == "system"),
        *of_user[:1],
        *of_user[-1:],
        *range(first, len(conversation)),
    }


@given(conversations(), fits)
def test_messages_are_sent_in_their_order_and_unchanged(conversation, fit):
    sent = places(fit(conversation), conversation)
    assert sent == sorted(set(sent))
    assert sent


@given(conversations(), fits)
def test_no_result_without_its_request_and_no_request_without_its_results(conversation, fit):
    sent = list(fit(conversation))
    while sent:
        message = sent.pop(0)
        assert message.role != "tool"
        for request in message.tool_requests:
            result = sent.pop(0)
            assert (result.role, result.tool_call_id) == ("tool", request.id)


@given(conversations(), fits)
def test_the_latest_message_is_always_sent(conversation, fit):
    assert fit(conversation)[-1] is conversation[-1]


@given(conversations(), st.integers(1, 20), st.integers(1, 400))
def test_policy_and_what_the_user_wants_are_kept_whatever_the_limits(conversation, count, size):
    sent = places(keep_policy_and_last(count, max_bytes=size)(conversation), conversation)
    assert needed(conversation) <= set(sent)


@given(conversations(), st.integers(1, 20), st.integers(1, 400))
def test_limits_hold_unless_what_is_needed_exceeds_them(conversation, count, size):
    sent = keep_policy_and_last(count, max_bytes=size)(conversation)
    if set(places(sent, conversation)) != needed(conversation):
        assert len(sent) <= count
        assert size_of(sent) <= size


@given(conversations())
def test_conversation_that_fits_is_sent_whole(conversation):
    count, size = len(conversation), max(1, size_of(conversation))
    assert tuple(keep_last(count)(conversation)) == conversation
    assert tuple(keep_policy_and_last(count, max_bytes=size)(conversation)) == conversation


@given(conversations(), st.integers(1, 20))
def test_a_higher_limit_never_sends_less(conversation, count):
    for fit in (keep_last, keep_policy_and_last):
        fewer = places(fit(count)(conversation), conversation)
        more = places(fit(count + 1)(conversation), conversation)
        assert set(fewer) <= set(more) or len(fewer) > count  # a step that is too large is whole


@given(conversations(), st.integers(1, 20))
def test_last_messages_are_what_is_sent_of_them(conversation, count):
    sent = keep_last(count)(conversation)
    if len(sent) <= count:
        assert sent == conversation[-len(sent) :]


def test_prototype_style_loses_the_policy_and_the_other_does_not():
    conversation = (SYSTEM, Message("user", "Refund A1."), *step(1, 1), *step(2, 1), *step(3, 1))
    assert [m.role for m in keep_last(4)(conversation)] == ["assistant", "tool"] * 2
    assert [m.role for m in keep_policy_and_last(4)(conversation)] == [
        "system",
        "user",
        "assistant",
        "tool",
    ]


def test_more_parallel_results_than_are_sent_are_sent_with_their_request():
    conversation = (SYSTEM, Message("user", "go"), *step(1, 1), *step(2, 9))
    assert keep_last(4)(conversation) == conversation[4:]
    assert keep_policy_and_last(4)(conversation) == (*conversation[:2], *conversation[4:])


def test_the_latest_question_survives_a_long_step_sequence():
    steps = [message for number in range(9) for message in step(number, 1)]
    asked = Message("user", "And order B2?")
    conversation = (SYSTEM, Message("user", "A1?"), Message("assistant", "Sent."), asked, *steps)
    sent = keep_policy_and_last(6)(conversation)
    assert [message.role for message in sent] == [
        "system", "user", "user", "assistant", "tool",
    ]  # fmt: skip
    assert asked in sent


def test_what_is_kept_of_the_latest_has_no_gap():
    conversation = (Message("user", "go"), *step(1, 1), *step(2, 1, size=500), *step(3, 1))
    sent = keep_policy_and_last(max_bytes=100)(conversation)
    assert places(sent, conversation) == [0, 5, 6]


@pytest.mark.parametrize("wrong", [0, -1, 1.5, True, "8"])
def test_limits_that_mean_nothing_are_errors(wrong):
    for make in (
        lambda: keep_last(wrong),
        lambda: keep_policy_and_last(wrong),
        lambda: keep_policy_and_last(max_bytes=wrong),
    ):
        with pytest.raises(ConfigError, match="is no limit") as caught:
            make()
        assert caught.value.hint
    with pytest.raises(ConfigError, match="no limit to fit"):
        keep_policy_and_last()
