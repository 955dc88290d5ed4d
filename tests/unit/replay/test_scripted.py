"""A recorded run's decisions, played again."""

from __future__ import annotations

import pytest

from flightlog.errors import AgentError
from flightlog.replay.cassette import Recording
from flightlog.replay.scripted import scripted_model, scripted_user
from flightlog.runtime.agent import Agent
from flightlog.runtime.loop import run
from flightlog.runtime.model import ModelRequest, ModelResponse
from flightlog.runtime.task import Task
from flightlog.testing import FakeClock, ScriptedModel
from flightlog.trace.events import ModelCall
from flightlog.trace.messages import Message, ToolRequest
from flightlog.trace.run_writer import RunWriter
from flightlog.trace.sink import MemorySink
from flightlog.trace.vocab import Actor, FinishReason, Outcome

ASKS = Message("assistant", None, (ToolRequest("1", "get", '{"key":"a"}'),))
ANSWER = Message("assistant", "Done.")


def _recording(*calls: tuple[Message | None, dict[str, object]]) -> Recording:
    sink = MemorySink()
    writer = RunWriter(sink, "rec")
    writer.started(task_id="t", model="declared")
    for output, fields in calls:
        writer.model_call(output=output, **fields)
    return Recording(tuple(sink.events), sink.messages)


def _said(text: str) -> tuple[Message, dict[str, object]]:
    return Message("user", text), {"actor": Actor.USER}


def _play(recording: Recording) -> list[ModelResponse]:
    model = scripted_model(recording)
    request = ModelRequest((), (), 1)
    count = sum(1 for e in recording.events if getattr(e, "actor", None) is Actor.AGENT)
    return [model.complete(request) for _ in range(count)]


def test_answers_come_with_their_usage_cost_and_duration() -> None:
    fields = {
        "request_model": "m-1",
        "response_model": "m-1-2025",
        "provider": "p",
        "input_tokens": 10,
        "output_tokens": 2,
        "cost_usd": 0.5,
        "latency_ms": 30.0,
        "finish_reason": FinishReason.TOOL_CALL,
    }
    recording = _recording((ASKS, fields), (ANSWER, {"request_model": "m-1"}))
    model = scripted_model(recording)
    assert (model.name, model.provider) == ("m-1-2025", "p")
    first, second = _play(recording)
    assert first.tool_requests == ASKS.tool_requests
    assert (first.usage.tokens, first.cost_usd, first.latency_ms) == (12, 0.5, 30.0)
    assert first.finish_reason == "tool_call"
    assert (second.text, second.usage.tokens, second.cost_usd) == ("Done.", None, None)


def test_a_name_may_be_given_and_the_declared_one_is_the_last_resort() -> None:
    recording = _recording((ANSWER, {}))
    assert scripted_model(recording).name == "declared"
    assert scripted_model(recording, name="mine").name == "mine"


def test_a_script_that_ends_with_a_tool_call_ends_the_candidates_run_too() -> None:
    model = scripted_model(_recording((ASKS, {})))
    request = ModelRequest((), (), 1)
    assert model.complete(request).tool_requests
    last = model.complete(request)
    assert (last.text, last.tool_requests) == ("", ())
    assert last.usage.tokens is None


def test_a_failed_model_call_fails_again() -> None:
    recording = _recording((None, {"outcome": Outcome.FAILED, "error": "overloaded"}))
    with pytest.raises(AgentError, match="overloaded"):
        scripted_model(recording).complete(ModelRequest((), (), 1))


def test_a_failure_is_told_in_the_same_words_however_often_it_is_replayed() -> None:
    recording = _recording((None, {"outcome": Outcome.FAILED, "error": "overloaded"}))
    errors = []
    for _ in range(3):
        sink = MemorySink()
        run(Agent("a", scripted_model(recording)), Task("t", "go"), sink=sink, clock=FakeClock())
        recording = Recording(tuple(sink.events), sink.messages)
        errors.append([e.error for e in sink.events if isinstance(e, ModelCall)])
    assert errors == [["RecordedModelError: overloaded"]] * 3


def test_a_full_context_ends_the_candidates_run_as_it_ended_the_recorded_one() -> None:
    class FullError(Exception):
        code = "context_length_exceeded"

    sink = MemorySink()
    first = run(Agent("a", ScriptedModel("m", [FullError("full")])), Task("t", "go"), sink=sink)
    recording = Recording(tuple(sink.events), sink.messages)
    again = run(Agent("a", scripted_model(recording)), Task("t", "go"))
    assert (first.stop, again.stop) == ("context_overflow", "context_overflow")


def test_an_answer_whose_text_was_not_recorded_is_an_error() -> None:
    recording = _recording((ANSWER, {"step": 3}))
    with pytest.raises(AgentError, match="step 3 is not in the recording"):
        scripted_model(Recording(recording.events, {}))


def test_the_user_says_what_it_said_until_the_agents_last_answer() -> None:
    asks_tool = (ASKS, {"actor": Actor.USER})
    recording = _recording(
        _said("Hi"), (ANSWER, {}), asks_tool, _said("More"), (ANSWER, {}), _said("Bye")
    )
    user = scripted_user(recording)
    assert user is not None
    turns = [user.reply([]) for _ in range(3)]
    assert [turn.text if turn else None for turn in turns] == ["Hi", "More", None]


def test_a_run_without_a_user_has_none() -> None:
    assert scripted_user(_recording((ANSWER, {}))) is None
