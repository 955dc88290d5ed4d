"""The sink that lets no value of a credential pass, and keeps digests in step."""

from __future__ import annotations

import base64
import json
from functools import cache
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flightlog.runtime.credentials import Scrubber, ScrubbingSink
from flightlog.testing import FakeClock
from flightlog.trace.canonical import canonical_args, digest_of_bytes
from flightlog.trace.events import EVENT_TYPES, Event, Label, ToolCall, encode_event
from flightlog.trace.messages import Message, ToolRequest
from flightlog.trace.run_writer import RunWriter
from flightlog.trace.sink import MemorySink

SECRET = 'p/w"Zr8qLw+3é'
DIGESTS = {
    "args_digest",
    "result_digest",
    "result_blob",
    "task_digest",
    "system_digest",
    "toolset_digest",
    "config_digest",
    "output_digest",
    "prompt_added",
    "run_id",
    "parent_run_id",
    "source_run_id",
    "served_from",
}
ENCODED = st.sampled_from(
    [
        SECRET,
        json.dumps(SECRET),
        json.dumps(json.dumps(SECRET)),
        quote(SECRET),
        quote(SECRET, safe=""),
        SECRET.encode().hex(),
        *(base64.b64encode(b"x" * n + SECRET.encode() + b"yz").decode() for n in range(3)),
        base64.urlsafe_b64encode(SECRET.encode()).decode(),
    ]
)
TEXTS = st.tuples(st.text(max_size=20), ENCODED, st.text(max_size=20)).map("".join)


def scrubbing(inner: Any = None) -> tuple[ScrubbingSink, Any]:
    inner = inner or MemorySink()
    return ScrubbingSink(inner, Scrubber([("pw", SECRET)])), inner


def writing() -> tuple[RunWriter, MemorySink]:
    sink, inner = scrubbing()
    return RunWriter(sink, "run", clock=FakeClock()), inner


def forms(secret: str = SECRET) -> list[str]:
    raw = secret.encode()
    middles = [base64.b64encode(b"x" * n + raw).decode()[4:-4] for n in range(3)]
    plain = [secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]]
    return [*plain, quote(secret), quote(secret, safe=""), raw.hex(), *middles]


@cache
def text_fields(kind: type[Event]) -> list[str]:
    hints = msgspec.structs.fields(kind)
    names = [one.name for one in hints if one.name not in DIGESTS]
    return [name for name in names if takes_text(kind, name)]


def takes_text(kind: type[Event], name: str) -> bool:
    raw = json.dumps(
        {"kind": kind.__struct_config__.tag, "run_id": "r", "seq": 0, name: "any text"}
    )
    try:
        msgspec.json.decode(raw, type=kind)
    except msgspec.ValidationError:
        return False
    return True


@pytest.mark.parametrize("kind", EVENT_TYPES, ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_no_event_encoded_as_json_holds_the_value(kind: type[Event], data: st.DataObject):
    fields: dict[str, Any] = {name: data.draw(TEXTS, label=name) for name in text_fields(kind)}
    if "labels" in kind.__struct_fields__:
        fields["labels"] = (Label(data.draw(TEXTS), data.draw(TEXTS)),)
    sink, inner = scrubbing()
    sink.emit(kind(run_id="r", seq=0, **fields))
    encoded = json.dumps(msgspec.to_builtins(inner.events[0]), ensure_ascii=False)
    assert not [form for form in forms() if form in encoded]


def test_there_are_texts_to_clean_in_every_kind_of_event_but_none_is_a_digest():
    assert all(text_fields(kind) for kind in EVENT_TYPES)
    assert {"args", "result", "error", "tool_name", "idempotency_key"} < set(text_fields(ToolCall))


@given(TEXTS, TEXTS)
def test_no_message_holds_the_value(text, more):
    sink, inner = scrubbing()
    request = ToolRequest(text, more, text)
    sink.emit(
        ToolCall(run_id="r", seq=0),
        messages=[Message("user", text, (request,), more, text)],
    )
    encoded = json.dumps(
        [msgspec.to_builtins(one) for one in inner.messages.values()], ensure_ascii=False
    )
    assert not [form for form in forms() if form in encoded]
    assert all(digest == one.digest for digest, one in inner.messages.items())


def test_every_digest_of_a_message_in_an_event_is_that_of_a_kept_message():
    writer, inner = writing()
    task, system = Message("task", f"use {SECRET}"), Message("system", f"You know {SECRET}.")
    toolset, user = Message("tools", "[]"), Message("user", f"use {SECRET}")
    writer.started(
        messages=[toolset, system, task],
        task_digest=task.digest,
        system_digest=system.digest,
        toolset_digest=toolset.digest,
    )
    answer = Message("assistant", None, (ToolRequest("1", "echo", json.dumps({"q": SECRET})),))
    writer.model_call(prompt=[system, user], output=answer)
    observed = Message("tool", f"it is {SECRET}", tool_call_id="1", name="echo")
    writer.model_call(prompt=[system, user, answer, observed], output=Message("assistant", "ok"))
    started, first, second = inner.events
    referred = [started.task_digest, started.system_digest, started.toolset_digest]
    referred += [*first.prompt_added, *second.prompt_added, first.output_digest]
    assert second.prompt_kept == 2
    assert set(referred) <= set(inner.messages)
    assert inner.messages[started.system_digest].text == "You know <credential:pw>."
    assert second.prompt_added[0] == first.output_digest


def test_digest_and_size_of_a_result_are_those_of_what_is_kept():
    writer, inner = writing()
    writer.tool_call(tool_name="t", result=f"a {SECRET} é")
    event = inner.events[0]
    raw = "a <credential:pw> é".encode()
    assert event.result.encode() == raw
    assert (event.result_digest, event.result_bytes) == (digest_of_bytes(raw), len(raw))


def test_the_digest_of_arguments_is_that_of_what_is_kept_in_canonical_order():
    writer, inner = writing()
    args = canonical_args({SECRET: 1, "a": SECRET, "zz": 2})
    writer.tool_intent(tool_name="t", args=args.text, args_digest=args.digest)
    writer.tool_call(tool_name="t", args=args.text, args_digest=args.digest)
    wanted = canonical_args({"<credential:pw>": 1, "a": "<credential:pw>", "zz": 2})
    for event in inner.events:
        assert (event.args, event.args_digest) == (wanted.text, wanted.digest)
        assert getattr(event, "args_flag", None) is None


def test_raw_arguments_keep_their_flag():
    writer, inner = writing()
    args = canonical_args(f"{{broken {SECRET}")
    writer.tool_call(tool_name="t", args=args.text, args_digest=args.digest, args_flag=args.flag)
    event = inner.events[0]
    assert event.args == "{broken <credential:pw>"
    assert event.args_digest == canonical_args(event.args).digest
    assert event.args_flag == "unparsable"


def test_what_holds_no_value_passes_as_the_same_object():
    sink, inner = scrubbing()
    event, message = ToolCall(run_id="r", seq=0, result="fine"), Message("user", "fine")
    assert sink.emit(event, messages=[message], durable=True) is True
    assert inner.events == [event]
    assert inner.events[0] is event
    assert inner.messages[message.digest] is message


def test_digests_and_names_of_runs_are_not_searched():
    sink = ScrubbingSink(inner := MemorySink(), Scrubber([("short", "abcd")]))
    digest = "abcd" * 8
    event = ToolCall(run_id="run-abcd", seq=0, args_digest=digest, served_from="run-abcd")
    sink.emit(event)
    assert inner.events[0] is event


def test_what_the_sink_says_and_offers_is_passed_on():
    class Refusing(MemorySink):
        control = "the control"

        def emit(self, event: Any, *, messages: Any = (), durable: bool = False) -> bool:
            self.durable = durable
            return False

    sink, inner = scrubbing(Refusing())
    assert sink.emit(ToolCall(run_id="r", seq=0), durable=True) is False
    assert inner.durable is True
    assert sink.control == "the control"
    plain, _ = scrubbing()
    assert getattr(plain, "control", None) is None


def test_encoded_events_of_a_run_hold_no_value():
    writer, inner = writing()
    writer.state_changed(subject="breaker", tool_name="t", detail=f"failed: {SECRET}")
    writer.stopped(stop_detail=f"failed: {SECRET}", answer=SECRET)
    writer.evaluation(name="success", passed=False, detail=f"said {SECRET}")
    written = b"".join(encode_event(event) for event in inner.events).decode()
    assert not [form for form in forms() if form in written]
    assert written.count("<credential:pw>") == 4
