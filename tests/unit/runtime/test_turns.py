"""The rules of the loop: what a run is made of and what ends it."""

from __future__ import annotations

import math

import pytest

from flightlog.errors import AgentError, PriceError
from flightlog.runtime.agent import Agent
from flightlog.runtime.budget import Budget
from flightlog.runtime.loop import RunContext, run
from flightlog.runtime.model import ModelRequest, ModelResponse, Usage, UserTurn
from flightlog.runtime.policy import Policy
from flightlog.runtime.prices import Price, PriceTable
from flightlog.runtime.task import Task
from flightlog.runtime.tools import Tool, toolset_message
from flightlog.testing import FakeTool, ScriptedModel, ScriptedUser, asking
from flightlog.trace.events import Label
from flightlog.trace.messages import Message, ToolRequest
from flightlog.trace.vocab import Actor, FinishReason, Origin, Outcome, RunStatus, StopReason

PRICES = PriceTable({"m": Price(1.0, 10.0)}, use_public=False)


def test_answer_without_tool_calls_completes_the_run(play, rows, done):
    result = play([done])
    assert (result.status, result.stop, result.answer) == (RunStatus.COMPLETED, "ok", "done")
    assert result.stop_detail is None
    assert [rows("run_stopped")[0].stop_reason, rows("run_stopped")[0].answer] == ["ok", "done"]


def test_model_needs_a_name_and_an_answer_and_nothing_else(sink, rows):
    class Plain:
        name = "m"

        def complete(self, request: ModelRequest) -> ModelResponse:
            return ModelResponse("done", usage=Usage(1, 1))

    policy = Policy((), Budget(max_usd=1.0))
    result = run(Agent("a", Plain(), policy=policy, prices=PRICES), Task("t", "Go."), sink=sink)
    assert (result.stop, rows("model_call")[0].provider) == ("ok", None)


def test_one_turn_is_one_model_call_and_its_tool_calls(play, rows, done):
    result = play(
        [asking(("a", {}), ("b", {})), asking(("a", {})), done], [FakeTool("a"), FakeTool("b")]
    )
    assert [call.step for call in rows("model_call")] == [1, 2, 3]
    # Calls of one step run side by side; their rows come as they end.
    calls = sorted((call.step, call.call_ix, call.tool_name) for call in rows("tool_call"))
    assert calls == [(1, 0, "a"), (1, 1, "b"), (2, 0, "a")]
    assert (result.usage.steps, result.usage.tool_calls) == (3, 3)


def test_model_sees_observations_in_call_order_under_their_call_ids(play, done):
    seen: list[ModelRequest] = []

    def answer(request: ModelRequest) -> ModelResponse:
        seen.append(request)
        return done if request.step == 2 else asking(("b", {}), ("a", {}))

    play(
        answer,
        [FakeTool("a", ["from a"]), FakeTool("b", [{"y": 1.0, "x": None}])],
        system="Be good.",
    )
    assert seen[0].messages == (Message("system", "Be good."), Message("user", "Do it."))
    assert seen[1].messages[3:] == (
        Message("tool", '{"x":null,"y":1}', tool_call_id="call_0", name="b"),
        Message("tool", "from a", tool_call_id="call_1", name="a"),
    )


def test_run_started_says_who_runs_what_under_which_budget(play, rows, done, sink):
    tool = FakeTool("a")
    context = RunContext(
        "run-1", variant="baseline", trial=2, labels={"team": "x"}, origin=Origin.REPLAY
    )
    play([done], [tool], Budget(max_tokens=7), system="Be good.", context=context, version="3")
    started = rows("run_started")[0]
    assert (started.run_id, started.agent, started.agent_version, started.model) == (
        "run-1",
        "agent",
        "3",
        "m",
    )
    assert (started.task_id, started.task_digest) == ("task", Task("task", "Do it.").digest)
    assert (started.variant, started.trial, started.origin) == ("baseline", 2, Origin.REPLAY)
    assert started.labels == (Label("team", "x"),)
    assert (started.max_steps, started.max_seconds, started.max_tool_calls) == (30, 90, 15)
    assert (started.max_usd, started.max_tokens) == (None, 7)
    assert started.system_digest == Message("system", "Be good.").digest
    assert started.toolset_digest == toolset_message([tool]).digest
    assert {started.system_digest, started.toolset_digest} <= set(sink.messages)


def test_model_call_carries_usage_price_and_normalised_finish_reason(play, rows):
    usage = Usage(1_000_000, 100_000, cache_read_tokens=10, reasoning_tokens=5)
    response = ModelResponse(
        "hi",
        usage=usage,
        model="m-2026",
        response_id="r1",
        finish_reason="end_turn",
        latency_ms=12.5,
        time_to_first_token_ms=3.0,
    )
    result = play([response], prices=PRICES, system="Be good.")
    call = rows("model_call")[0]
    assert (call.request_model, call.response_model, call.response_id) == ("m", "m-2026", "r1")
    assert (call.input_tokens, call.output_tokens, call.cache_read_tokens) == (
        1_000_000,
        100_000,
        10,
    )
    assert (call.cache_write_tokens, call.reasoning_tokens) == (None, 5)
    assert (call.cost_usd, call.price_id) == (2.0, "own:m")
    assert (call.latency_ms, call.time_to_first_token_ms) == (12.5, 3.0)
    assert (call.finish_reason, call.has_policy, call.is_truncated) == (
        FinishReason.STOP,
        True,
        False,
    )
    assert (result.usage.usd, result.usage.tokens) == (2.0, 1_100_000)


def test_cost_that_the_provider_states_wins_over_the_prices(play, rows):
    play([ModelResponse("hi", usage=Usage(1, 1), cost_usd=0.5)], prices=PRICES)
    assert (rows("model_call")[0].cost_usd, rows("model_call")[0].price_id) == (0.5, "stated")


def test_unknown_cost_and_tokens_stay_null_in_the_totals(play, rows, done):
    play([done])
    stopped = rows("run_stopped")[0]
    assert (stopped.used_usd, stopped.used_tokens, stopped.used_steps) == (None, None, 1)


def test_every_model_call_extends_the_prompt_of_the_one_before(play, rows, done):
    play([asking(("a", {})), asking(("a", {})), done], [FakeTool("a")])
    calls = rows("model_call")
    assert [(call.prompt_kept, len(call.prompt_added), call.prompt_messages) for call in calls] == [
        (0, 1, 1),
        (1, 2, 3),
        (3, 2, 5),
    ]


def test_model_exception_is_a_failed_call_and_model_error(play, rows):
    result = play([ValueError("no such deployment")])
    call = rows("model_call")[0]
    assert (call.outcome, call.error) == (Outcome.FAILED, "ValueError: no such deployment")
    assert (result.status, result.stop) == (RunStatus.FAILED, "model_error")
    assert result.stop_detail == "model 'm' failed at step 1: ValueError: no such deployment."


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        (ModelResponse(5), "text is 5, not text"),
        (ModelResponse("x", finish_reason=5), "finish_reason is 5, not text"),
        (ModelResponse("x", usage={"in": 1}), "usage is {'in': 1}, not a Usage"),
        (ModelResponse("x", usage=Usage(-5, 2)), "usage.input_tokens is -5, not a whole number"),
        (ModelResponse("x", usage=Usage(1, 2.5)), "usage.output_tokens is 2.5, not a whole"),
        (ModelResponse("x", cost_usd=-5.0), "cost_usd is -5.0, not a finite number from 0 up"),
        (ModelResponse("x", cost_usd=math.nan), "cost_usd is nan, not a finite number"),
        (ModelResponse("x", latency_ms=math.inf), "latency_ms is inf, not a finite number"),
        (ModelResponse("x", latency_ms="5"), "latency_ms is '5', not a finite number"),
        (ModelResponse("x", tool_requests=None), "tool_requests is None, not a tuple"),
        (ModelResponse("x", tool_requests=({},)), "tool_requests holds {}, not a ToolRequest"),
        (
            ModelResponse("x", tool_requests=(ToolRequest("1", "a", {"n": 1}),)),
            "arguments of a ToolRequest is {'n': 1}, not text",
        ),
    ],
)
def test_malformed_answer_is_a_model_error_and_never_spends_below_zero(play, rows, answer, what):
    result = play(lambda request: answer, budget=Budget(max_seconds=None))
    assert (result.stop, result.usage.usd, result.usage.tokens) == ("model_error", 0.0, 0)
    assert what in result.stop_detail
    assert rows("model_call")[0].outcome is Outcome.FAILED


def test_malformed_turn_of_a_user_is_a_model_error(play):
    user = ScriptedUser([UserTurn("And?", Usage(-1, 1))])
    result = play([ModelResponse("one")], user=user)
    assert "usage.input_tokens is -1" in result.stop_detail


def test_failure_of_a_scripted_model_takes_no_time_on_a_virtual_clock(play, rows):
    assert play([ValueError("x")]).usage.seconds == 0.0
    assert rows("model_call")[0].latency_ms == 0.0


def test_virtual_deadline_cuts_a_user_exactly(play, rows):
    user = ScriptedUser([UserTurn("And?", latency_ms=2000.0)])
    result = play([ModelResponse("one")], budget=Budget(max_seconds=1), user=user)
    assert (result.stop, result.usage.seconds) == ("max_seconds", 1.0)
    said = rows("model_call")[1]
    assert (said.outcome, said.latency_ms, said.output_digest) == (Outcome.TIMED_OUT, 1000.0, None)


def test_exhausted_script_says_so(play):
    result = play([])
    assert "has 0 answers and was asked for answer 1" in result.stop_detail


def test_model_that_returns_something_else_is_a_model_error(play):
    assert play(lambda request: ModelResponse("x")).stop == "ok"

    class Wrong:
        name, provider = "w", None

        def complete(self, request):
            return "text"

    result = run(Agent("a", Wrong()), Task("t", "go"))
    assert "str is not a ModelResponse" in result.stop_detail


@pytest.mark.parametrize("word", ["content_filter", "refusal"])
def test_refusal_of_the_model_stops_even_with_tool_requests(play, rows, word):
    result = play([asking(("a", {}), finish_reason=word)], [FakeTool("a")])
    assert result.stop == "model_refused"
    assert rows("tool_call") == []


def test_answer_cut_at_the_output_limit_is_a_model_error_with_its_part_kept(play):
    result = play([ModelResponse("The first ha", finish_reason="max_tokens")])
    assert (result.stop, result.answer) == ("model_error", "The first ha")


def test_tool_requests_cut_at_the_output_limit_are_checked_as_any(play, done):
    result = play([asking(("a", '{"x": '), finish_reason="length"), done], [FakeTool("a")])
    assert result.stop == "ok"


def test_context_overflow_only_when_the_provider_says_so(play):
    error = ValueError("too long")
    error.code = "context_length_exceeded"
    assert play([error]).stop == "context_overflow"
    assert (
        play([ModelResponse("x", finish_reason="model_context_window_exceeded")]).stop
        == "context_overflow"
    )


def test_finish_reason_error_is_a_model_error(play):
    assert play([ModelResponse("x", finish_reason="error")]).stop == "model_error"


def test_user_goes_on_until_it_has_nothing_to_say(play, rows):
    user = ScriptedUser([UserTurn("And mine?", Usage(3, 4), cost_usd=9.0)])
    result = play([ModelResponse("one"), ModelResponse("two")], user=user)
    assert (result.stop, result.answer, result.usage.steps) == ("ok", "two", 2)
    said = rows("model_call")[1]
    assert (said.actor, said.request_model, said.input_tokens) == (Actor.USER, "scripted_user", 3)
    assert rows("model_call")[2].prompt_messages == 3


def test_user_spends_nothing_of_the_agents_budget(play, rows):
    told = {"usage": Usage(1, 1), "cost_usd": 0.0}
    user = ScriptedUser([UserTurn("And?", Usage(500, 500), cost_usd=9.0)])
    budget = Budget(max_usd=1.0, max_tokens=100)
    result = play(
        [ModelResponse("one", **told), ModelResponse("two", **told)],
        budget=budget,
        user=user,
        prices=PRICES,
    )
    assert (result.stop, result.usage.tokens, result.usage.usd) == ("ok", 4, 0.0)


def test_user_speaks_first_where_the_task_has_no_prompt(play, rows):
    result = play([ModelResponse("hello")], user=ScriptedUser(["Hi"]), task=Task("t", ""))
    assert [call.actor for call in rows("model_call")] == [Actor.USER, Actor.AGENT]
    assert rows("model_call")[0].step is None
    assert result.usage.steps == 1


def test_failing_user_ends_the_run_as_a_model_error(play, rows):
    class Broken:
        name = "broken"

        def reply(self, messages):
            raise ValueError("gone")

    result = play([ModelResponse("one")], user=Broken())
    assert (result.stop, result.answer) == ("model_error", "one")
    assert rows("model_call")[1].outcome is Outcome.FAILED


def test_interrupt_is_recorded_as_cancelled_and_raised_again(play, rows):
    def interrupt(request):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        play(interrupt)
    stopped = rows("run_stopped")[0]
    assert (stopped.status, stopped.stop_reason) == (RunStatus.STOPPED, StopReason.CANCELLED)
    assert stopped.stop_detail == "interrupted (KeyboardInterrupt, such as by Ctrl-C) at step 1."


def test_interrupted_write_is_a_row_of_unknown_outcome(play, rows):
    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        play([asking(("pay", {}))], [FakeTool("pay", interrupt, effect="write")])
    (call,) = rows("tool_call")
    assert len(rows("tool_intent")) == 1
    assert (call.outcome, call.error_type) == (Outcome.TIMED_OUT, "cancelled")
    assert call.error == "the run was cancelled while the call was under way"


def test_broken_executor_is_recorded_as_crashed_and_raised_again(play, rows):
    class Broken:
        def resolve(self, call):
            raise LookupError("no index")

    with pytest.raises(LookupError):
        play([asking(("a", {}))], [FakeTool("a")], executor=Broken())
    assert rows("run_stopped")[0].stop_reason is StopReason.CRASHED
    assert rows("run_stopped")[0].stop_detail == "LookupError: no index."


def test_exception_beyond_all_classes_is_raised_again_and_still_ends_the_run(play, rows):
    class Panic(BaseException):
        """As the panics of extension modules."""

    def panic():
        raise Panic("index out of bounds")

    with pytest.raises(Panic):
        play([asking(("a", {}))], [FakeTool("a", panic)])
    assert rows("run_stopped")[0].stop_detail == "Panic: index out of bounds."


def test_usd_budget_without_a_price_is_refused_before_the_run(play, sink, done):
    with pytest.raises(PriceError, match=r"no price for model 'm' but budgets.max_usd=0.005 is"):
        play([done], budget=Budget(max_usd=0.005), prices=PriceTable(use_public=False))
    assert sink.events == []


def test_model_that_states_its_cost_needs_no_price(sink):
    model = ScriptedModel("m", [ModelResponse("x", cost_usd=0.25)])
    model.states_cost = True
    agent = Agent(
        "a", model, policy=Policy((), Budget(max_usd=1.0)), prices=PriceTable(use_public=False)
    )
    assert run(agent, Task("t", "go"), sink=sink).usage.usd == 0.25


def test_allowed_tool_without_a_function_is_refused_before_the_run(play, sink, done):
    with pytest.raises(AgentError, match="tool 'a' is allowed and has no function"):
        play([done], [Tool("a")])
    assert sink.events == []


def test_async_tool_in_a_sync_run_names_run_async(play, done):
    async def fetch():
        return 1

    with pytest.raises(AgentError, match="run_async"):
        play([done], [Tool("a", fetch)])


def test_hidden_awaitable_in_a_sync_run_fails_with_run_async_in_the_text(play, rows, done):
    async def fetch():
        return 1

    def hidden():
        return fetch()

    play([asking(("a", {})), done], [Tool("a", hidden, effect="read")])
    assert "run_async" in rows("tool_call")[0].error


def test_judge_can_add_an_evaluation_through_the_writer(play, rows, done):
    play([done]).writer.evaluation(name="success", passed=True)
    assert rows("evaluation")[0].passed is True
    assert rows("evaluation")[0].seq == rows("run_stopped")[0].seq + 1


def test_labels_are_written_as_text_whatever_they_are(play, rows, done):
    play([done], context=RunContext(labels={1: None, "a": "b"}))
    assert rows("run_started")[0].labels == (Label("1", "null"), Label("a", "b"))


def test_run_started_says_whose_data_the_run_holds(play, rows, done):
    play([done], context=RunContext(tenant="acme", conversation_id="c", data_subject="cust-1007"))
    started = rows("run_started")[0]
    assert (started.tenant, started.conversation_id) == ("acme", "c")
    assert started.data_subject == "cust-1007"
