"""Small parts: tasks, agents, policies, workers, fakes."""

from __future__ import annotations

import contextvars
import threading
from queue import SimpleQueue

import pytest

from flightlog.errors import AgentError, ConfigError
from flightlog.runtime.agent import Agent
from flightlog.runtime.budget import Budget
from flightlog.runtime.model import ModelRequest, ModelResponse, Usage
from flightlog.runtime.policy import Policy, approve_all
from flightlog.runtime.result import RunContext
from flightlog.runtime.task import Task
from flightlog.runtime.workers import Workers
from flightlog.testing import FakeClock, FakeTool, MemorySink, ScriptedModel, ScriptedUser, make_run
from flightlog.trace.events import Evaluation, RunStarted, RunStopped, ToolCall
from flightlog.trace.vocab import Outcome


def test_task_digest_is_of_its_content():
    one = Task("t", "p", inputs={"b": 1.0, "a": [2]})
    assert one.digest == Task("t", "p", inputs={"a": [2], "b": 1}).digest
    others = [Task("u", "p"), Task("t", "q"), Task("t", "p"), Task("t", "p", suite="s")]
    assert len({one.digest, *(other.digest for other in others)}) == 5
    assert Task("t", "p", content_digest="pinned").digest == "pinned"


def test_default_policy_allows_the_tools_of_the_agent_and_denies_writes():
    policy = Agent("a", ScriptedModel("m", []), [FakeTool("x")]).effective_policy
    assert (policy.allows("x"), policy.allows("y")) == (True, False)
    assert (policy.require_approval, policy.approver) == (True, None)
    assert policy.budget == Budget(30, 90, 15, None, None)


def test_two_tools_of_one_name_are_refused():
    with pytest.raises(AgentError, match="two tools are named 'x'"):
        Agent("a", ScriptedModel("m", []), [FakeTool("x"), FakeTool("x")])


def test_policy_digest_changes_with_what_binds_and_not_with_the_order():
    base = Policy(("a", "b"))
    assert base.digest == Policy(["b", "a"]).digest
    others = [
        Policy(("a",)),
        Policy(("a", "b"), Budget(max_steps=1)),
        Policy(("a", "b"), require_approval=False),
        Policy(("a", "b"), approver=approve_all),
        Policy(("a", "b"), approver=lambda request: True),
        Policy(("a", "b"), stop_on=frozenset()),
        Policy(("a", "b"), max_result_bytes=None),
    ]
    assert len({base.digest, *(other.digest for other in others)}) == len(others) + 1


def test_one_string_as_allowlist_is_refused():
    with pytest.raises(ConfigError, match="one string"):
        Policy("search")


def test_policy_cannot_stop_on_ok():
    with pytest.raises(ConfigError, match="stop_on"):
        Policy(stop_on=frozenset({Outcome.OK}))


def test_usage_total_is_unknown_when_a_part_is():
    assert (Usage(1, 2).tokens, Usage(1, None).tokens, Usage().tokens) == (3, None, None)


def test_workers_keep_the_context_and_meet_the_same_thread_again():
    where = contextvars.ContextVar("where", default="outside")
    where.set("inside")
    workers: Workers[tuple[str, int]] = Workers()
    done: SimpleQueue[tuple[str, int]] = SimpleQueue()
    results = []
    for _ in range(5):
        workers.submit(lambda: (where.get(), threading.get_ident()), done.put)
        results.append(done.get(timeout=20))
    workers.close()
    assert len(set(results)) == 1
    assert results[0][0] == "inside"


def test_closed_workers_leave_no_idle_thread_behind():
    before = set(threading.enumerate())
    workers: Workers[int] = Workers()
    done: SimpleQueue[int] = SimpleQueue()
    held = threading.Event()
    workers.submit(lambda: 1, done.put)
    done.get(timeout=20)
    workers.submit(lambda: int(held.wait(20)), done.put)
    (thread,) = set(threading.enumerate()) - before
    workers.close()
    assert thread.daemon
    held.set()
    done.get(timeout=20)
    thread.join(timeout=20)
    assert not thread.is_alive()


def test_scripted_model_takes_no_time_unless_told():
    model = ScriptedModel("m", [ModelResponse("a"), ModelResponse("b", latency_ms=5.0)])
    request = ModelRequest((), (), 1)
    assert [model.complete(request).latency_ms for _ in range(2)] == [0.0, 5.0]
    assert model.requests == [request, request]


def test_scripted_user_says_its_turns_and_then_nothing():
    user = ScriptedUser(["one"])
    assert user.reply([]).text == "one"
    assert user.reply([]) is None


def test_fake_tool_repeats_its_last_answer_and_keeps_the_arguments():
    tool = FakeTool("a", ["one", "two"])
    assert [tool.fn(n=n) for n in range(3)] == ["one", "two", "two"]
    assert tool.calls == [{"n": 0}, {"n": 1}, {"n": 2}]


def test_fake_tool_takes_one_string_as_one_answer():
    tool = FakeTool("a", "found")
    assert [tool.fn(), tool.fn()] == ["found", "found"]


def test_fake_clock_moves_only_when_told():
    clock = FakeClock()
    clock.sleep(1.5)
    assert (clock.is_virtual, clock.monotonic_ms()) == (True, 1500.0)


def test_make_run_writes_one_complete_judged_run():
    sink = MemorySink()
    result = make_run(sink, calls=[("a", {}, "x"), ("b", {"n": 1}, ValueError("no"))], passed=False)
    kinds = [type(event) for event in sink.events]
    assert (kinds[0], kinds[-2], kinds[-1]) == (RunStarted, RunStopped, Evaluation)
    assert [e.outcome for e in sink.events if isinstance(e, ToolCall)] == ["ok", "failed"]
    assert (result.stop, result.usage.tokens, result.usage.usd) == ("ok", 330, 0.0006)
    assert result.usage.seconds == 0.4
    assert sink.events[-1].passed is False


@pytest.mark.parametrize(
    "make",
    [
        lambda: Task(5, "go"),
        lambda: Task("t", None),
        lambda: Task("t", "go", suite=7),
        lambda: RunContext(trial="1"),
        lambda: RunContext(trial=True),
        lambda: RunContext(session_id=7),
        lambda: RunContext(data_subject=7),
    ],
)
def test_value_that_no_column_could_hold_is_refused_before_the_run(make):
    with pytest.raises(AgentError, match="is not"):
        make()
