"""Miss policies: what answers a call that no recording answers, and what never does."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flightlog.errors import ConfigError, NetworkRefusedError
from flightlog.replay.cassette import Cassette, Recording
from flightlog.replay.matching import Rules, ToolRule
from flightlog.replay.misses import MissPolicies, MissPolicy, StubCall
from flightlog.replay.serve import StateAwareExecutor
from flightlog.runtime.calls import Served
from flightlog.runtime.tools import Tool
from flightlog.trace.canonical import canonical_json
from flightlog.trace.run_writer import RunWriter
from flightlog.trace.sink import MemorySink
from flightlog.trace.vocab import Effect, Outcome, ServedHow
from tests.torture.size import sized
from tests.unit.replay.world import TOOLS, Call, World, pending, record, write_call

GET_A: Call = ("get", {"key": "a"})
GET_B: Call = ("get", {"key": "b"})
PUT: Call = ("put", {"key": "a", "value": 5})
PUT_B: Call = ("put", {"key": "b", "value": 7})
AUDIT: Call = ("audit", {})
RULES = Rules(TOOLS)


def world_functions() -> dict[str, Any]:
    """The functions of a fresh world."""
    world = World()

    def function(name: str) -> Any:
        return lambda **args: canonical_json(getattr(world, f"_{name}")(**args))

    return {tool.name: function(tool.name) for tool in TOOLS}


def _executor(recording: Recording, **policies: Any) -> StateAwareExecutor:
    return StateAwareExecutor(
        Cassette([recording], RULES), golden="g", misses=MissPolicies(**policies)
    )


def _ask(executor: StateAwareExecutor, *calls: Call) -> list[Served]:
    return [executor.resolve(pending(*call, step=step)) for step, call in enumerate(calls, 1)]


@pytest.mark.parametrize("effect", list(Effect))
def test_without_a_policy_every_effect_stops(effect: Effect) -> None:
    assert MissPolicies().of(ToolRule.of(Tool("t", effect=effect))) is MissPolicy.STOP


def test_with_a_fixture_reads_are_asked_of_it_and_all_else_stops() -> None:
    policies = MissPolicies(fixture=world_functions)
    found = {rule: policies.of(RULES[rule]) for rule in ("get", "put", "shake")}
    assert found == {"get": "fixture", "put": "stop", "shake": "stop"}


def test_policy_of_a_tool_beats_that_of_its_effect_and_a_name_beats_a_glob() -> None:
    policies = MissPolicies(
        by_tool={"g*": MissPolicy.STUB, "get": MissPolicy.ERROR},
        by_effect={Effect.READ: MissPolicy.STOP},
    )
    found = [policies.of(RULES[name]) for name in ("get", "get_many", "audit")]
    assert found == ["error", "stub", "stop"]


@pytest.mark.parametrize(
    "given",
    [
        {"by_tool": {"get": "liveread"}},
        {"by_effect": {"reads": "stop"}},
        {"by_effect": {Effect.WRITE: MissPolicy.LIVE_READ}},
        {"by_effect": {Effect.UNKNOWN: MissPolicy.LIVE_READ}},
    ],
)
def test_policy_that_cannot_be_meant_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        MissPolicies(**given)


def test_fixture_answers_a_missed_read_in_the_state_of_this_run() -> None:
    executor = _executor(record([PUT]), fixture=world_functions)
    _, a, b, everything = _ask(executor, PUT, GET_A, GET_B, AUDIT)
    assert (a.result, b.result) == ("5", "2")
    assert everything.result == '[[["a",5],["b",2]],[10,20,30],0]'
    assert executor.served == {ServedHow.RECORDED: 1, ServedHow.FIXTURE: 3}
    assert (executor.misses, executor.live_tool_calls) == ([], 0)


def test_recorded_answer_beats_the_fixture() -> None:
    executor = _executor(record([GET_A]), fixture=world_functions)
    assert _ask(executor, GET_A)[0].served_how is ServedHow.RECORDED


def test_each_run_gets_a_fixture_of_its_own() -> None:
    made: list[int] = []

    def fixture() -> dict[str, Any]:
        made.append(1)
        return world_functions()

    for _ in range(2):
        _ask(_executor(record([PUT]), fixture=fixture), PUT, GET_A, GET_B)
    assert len(made) == 2


def test_fixture_is_not_made_before_it_is_needed() -> None:
    def fixture() -> dict[str, Any]:
        raise AssertionError("nobody asked for it")

    _ask(_executor(record([GET_A]), fixture=fixture), GET_A)


def test_fixture_that_answers_a_write_otherwise_is_never_asked_again() -> None:
    other = World(items={"a": 100, "b": 2})
    executor = _executor(record([PUT]), fixture=lambda: {"get": other._get, "put": other._put})
    _, *reads = _ask(executor, PUT, GET_B, GET_B)
    assert [read.outcome for read in reads] == [Outcome.REPLAY_MISS] * 2
    assert "the fixture disagrees: put" in (reads[0].error or "")
    assert "gives 100, served 1" in (reads[0].error or "")


def test_fixture_without_a_function_of_a_write_is_not_asked() -> None:
    executor = _executor(record([PUT]), fixture=lambda: {"get": World()._get})
    assert "no function for put" in (_ask(executor, PUT, GET_B)[1].error or "")


def test_failed_writes_are_not_made_on_the_fixture() -> None:
    rename: Call = ("rename", {"key": "a", "new": "b"})
    executor = _executor(record([rename]), fixture=world_functions)
    assert _ask(executor, rename, AUDIT)[1].result == '[[["a",1],["b",2]],[10,20,30],0]'


def test_queue_that_was_read_from_is_so_on_the_fixture_too() -> None:
    executor = _executor(record([("pop", {})]), fixture=world_functions)
    _, second, size = _ask(executor, ("pop", {}), ("pop", {}), ("queue_size", {}))
    assert (second.result, size.result) == ("20", "1")


def test_fixture_is_not_asked_where_a_write_may_or_may_not_have_landed() -> None:
    slow: Call = ("slow_put", {"key": "a", "value": 9})
    executor = _executor(record([slow]), fixture=world_functions)
    _, a, b = _ask(executor, slow, GET_A, GET_B)
    assert (a.outcome, b.result) == (Outcome.REPLAY_MISS, "2")


def test_write_is_answered_by_a_fixture_only_where_that_simulates_writes() -> None:
    given: dict[str, Any] = {
        "fixture": world_functions,
        "by_effect": {Effect.WRITE: MissPolicy.FIXTURE},
    }
    refused = _ask(_executor(record([]), **given), PUT)[0]
    assert "not declared a full simulator" in (refused.error or "")
    executor = _executor(record([]), **given, simulates_writes=True)
    done = _ask(executor, PUT, PUT_B, GET_A, AUDIT)
    assert [one.result for one in done[:3]] == ["1", "2", "5"]
    assert done[3].result == '[[["a",5],["b",7]],[10,20,30],0]'


def test_what_a_fixture_raises_is_the_observation() -> None:
    served = _ask(_executor(record([]), fixture=world_functions), ("get", {"key": "zz"}))[0]
    assert (served.outcome, served.error_type) == (Outcome.FAILED, "KeyError")


def test_stub_is_told_of_the_call_and_of_its_recorded_neighbours() -> None:
    told: list[StubCall] = []

    def stub(call: StubCall) -> Any:
        told.append(call)
        return {"of": call.args["key"]}

    executor = _executor(record([GET_A]), by_tool={"get": MissPolicy.STUB}, stubs={"g*": stub})
    served = _ask(executor, GET_B)[0]
    assert (served.result, served.served_how) == ('{"of":"b"}', ServedHow.STUB)
    assert (told[0].tool, told[0].neighbours[0].result) == ("get", "1")
    assert told[0].state_key == served.state_key


def test_what_a_stub_raises_is_a_typed_error() -> None:
    def stub(call: StubCall) -> Any:
        raise PermissionError("no")

    executor = _executor(record([]), by_effect={Effect.READ: MissPolicy.STUB}, stubs={"get": stub})
    served = _ask(executor, GET_A)[0]
    assert (served.outcome, served.error_type) == (Outcome.FAILED, "PermissionError")


def test_policy_without_what_it_needs_is_a_miss_that_says_so() -> None:
    for policy, why in (
        ("stub", "no stub"),
        ("fixture", "no fixture"),
        ("live_read", "allow_live"),
    ):
        executor = _executor(record([]), by_tool={"get": MissPolicy(policy)})
        assert why in (_ask(executor, GET_A)[0].error or "")
        assert len(executor.misses) == 1


def test_after_a_stubbed_write_recorded_answers_of_the_old_state_are_misses() -> None:
    executor = _executor(
        record([GET_A]), by_tool={"put": MissPolicy.STUB}, stubs={"put": lambda call: 1}
    )
    outcomes = [one.outcome for one in _ask(executor, PUT, GET_A)]
    assert outcomes == [Outcome.OK, Outcome.REPLAY_MISS]


def test_error_policy_shows_a_typed_error_and_taints_the_run_from_there() -> None:
    executor = _executor(record([GET_A]), by_effect={Effect.READ: MissPolicy.ERROR})
    served = _ask(executor, GET_A, GET_B, ("audit", {}))
    assert [one.outcome for one in served] == [Outcome.OK, Outcome.FAILED, Outcome.FAILED]
    assert (served[1].error_type, served[1].served_how) == ("ReplayMiss", ServedHow.ERROR)
    assert served[1].is_final
    assert executor.tainted_from == 2
    assert [miss.policy for miss in executor.misses] == [MissPolicy.ERROR] * 2
    assert executor.served == {ServedHow.RECORDED: 1}


LIVE: dict[str, Any] = {"by_effect": {Effect.READ: MissPolicy.LIVE_READ}, "allow_live": True}


def test_live_read_is_made_once_per_state_and_counted() -> None:
    asked: list[str] = []

    def get(key: str) -> str:
        asked.append(key)
        return "live"

    executor = _executor(record([GET_A]), **LIVE, live={"get": get})
    served = _ask(executor, GET_A, GET_B, GET_B)
    assert [one.served_how for one in served] == ["recorded", "live_read", "live_read"]
    assert (asked, executor.live_tool_calls) == (["b"], 1)


def test_async_live_read_gets_an_event_loop_of_its_own() -> None:
    async def get(key: str) -> str:
        return key * 2

    assert _ask(_executor(record([]), **LIVE, live={"get": get}), GET_B)[0].result == "bb"


@pytest.mark.parametrize(
    ("before", "call", "given", "why"),
    [
        ([], GET_A, {**LIVE, "allow_live": False}, "allow_live"),
        ([PUT], GET_A, LIVE, "has changed what it reads"),
        ([PUT], AUDIT, LIVE, "has changed what it reads"),
        ([("slow_put", {"key": "a", "value": 1})], GET_A, LIVE, "has changed what it reads"),
        ([], ("pop", {}), LIVE, "only a read that changes nothing"),
        ([], PUT, {**LIVE, "by_tool": {"*": MissPolicy.LIVE_READ}}, "only a read"),
        ([], ("shake", {}), {**LIVE, "by_tool": {"*": MissPolicy.LIVE_READ}}, "only a read"),
        ([], GET_A, {**LIVE, "live": {}}, "no live function"),
    ],
)
def test_live_call_beyond_its_conditions_is_a_named_miss(
    before: list[Call], call: Call, given: dict[str, Any], why: str
) -> None:
    def explode(**_: Any) -> None:
        raise AssertionError("it ran live")

    executor = _executor(record(before), **{"live": {"*": explode}, **given})
    served = _ask(executor, *before, call)[-1]
    assert served.outcome is Outcome.REPLAY_MISS
    assert why in (served.error or "")
    assert executor.live_tool_calls == 0


def test_live_read_while_another_scope_is_dirty_is_made() -> None:
    executor = _executor(record([PUT]), **LIVE, live={"get": lambda key: 2})
    assert _ask(executor, PUT, GET_B)[1].served_how is ServedHow.LIVE_READ


def test_live_read_that_the_network_refuses_is_a_miss() -> None:
    def get(key: str) -> str:
        raise NetworkRefusedError("connect api.example:443")

    served = _ask(_executor(record([]), **LIVE, live={"get": get}), GET_A)[0]
    assert served.outcome is Outcome.REPLAY_MISS
    assert "the network refused it" in (served.error or "")


def test_changed_amount_is_loud_and_names_key_nearest_call_difference_and_command() -> None:
    tools = (Tool("refund", effect=Effect.WRITE, scopes=("order:{order}",)),)
    memory = MemorySink()
    writer = RunWriter(memory, "rec")
    args = {"order": "17", "amount": 39.00}
    write_call(writer, "refund", args, Served(Outcome.OK, "done"), step=3)
    executor = StateAwareExecutor(
        Cassette([Recording(tuple(memory.events))], Rules(tools)),
        golden="refund-17",
        accept_hint="flightlog golden accept {golden}",
    )
    changed = {**args, "amount": 3900.00}
    served = executor.resolve(pending("refund", changed, step=4, tools=tools))
    (miss,) = executor.misses
    assert served.outcome is Outcome.REPLAY_MISS
    assert miss.nearest[0].differences == ("args.amount is 3900, recorded 39",)
    assert (miss.nearest[0].run_id, miss.nearest[0].step) == ("rec", 3)
    assert miss.accept == "flightlog golden accept refund-17"
    for part in ("args.amount is 3900, recorded 39", miss.key, miss.accept):
        assert str(part) in (served.error or "")


KEYS = st.sampled_from(["a", "b", "c"])
CALLS: st.SearchStrategy[Call] = st.one_of(
    st.builds(lambda key: ("get", {"key": key}), KEYS),
    st.builds(lambda key, value: ("put", {"key": key, "value": value}), KEYS, st.integers(0, 2)),
    st.builds(lambda key, new: ("rename", {"key": key, "new": new}), KEYS, KEYS),
    st.builds(lambda value: ("create", {"value": value}), st.integers(0, 2)),
    st.sampled_from(
        [("list_items", {}), ("clear", {}), ("pop", {}), ("queue_size", {}), ("audit", {})]
    ),
)


@settings(max_examples=sized(150, 10_000), deadline=None)
@given(recorded=st.lists(CALLS, max_size=8), made=st.lists(CALLS, max_size=8), full=st.booleans())
def test_no_answer_of_recording_or_fixture_differs_from_the_truth(
    recorded: list[Call], made: list[Call], full: bool
) -> None:
    policies: dict[str, Any] = {"fixture": world_functions}
    if full:
        policies |= {"by_tool": {"*": MissPolicy.FIXTURE}, "simulates_writes": True}
    executor, world = _executor(record(recorded), **policies), World()
    for step, call in enumerate(made, 1):
        served = executor.resolve(pending(*call, step=step))
        if served.outcome is Outcome.REPLAY_MISS:
            assert not full
            return
        truth = world.call(*call)
        assert (served.outcome, served.result) == (truth.outcome, truth.result)
