"""The rule of replay: what is served is what the world would have answered."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from flightlog.replay.matching import KeyWalk, Rules, ToolRule
from flightlog.runtime.calls import Served
from flightlog.runtime.tools import Tool
from flightlog.trace.vocab import Effect, Outcome
from tests.torture.size import sized
from tests.unit.replay.world import TOOLS, Call, World, executor_over, record, walk

KEYS = st.sampled_from(["a", "b", "n1", "*"])
VALUES = st.integers(0, 2)


def _call(name: str, **fields: st.SearchStrategy[object]) -> st.SearchStrategy[Call]:
    return st.tuples(st.just(name), st.fixed_dictionaries(fields))


CALLS = st.one_of(
    _call("get", key=KEYS),
    _call("get_many", keys=st.lists(KEYS, max_size=3)),
    _call("put", key=KEYS, value=VALUES),
    _call("rename", key=KEYS, new=KEYS),
    _call("list_items"),
    _call("clear"),
    _call("create", value=VALUES),
    _call("push", value=VALUES),
    _call("pop"),
    _call("queue_size"),
    _call("audit"),
    _call("add", one=VALUES, other=VALUES),
)
UNDECLARED = st.just(("shake", {}))
SLOW = _call("slow_put", key=KEYS, value=VALUES)
RUNS = st.lists(st.one_of(CALLS, CALLS, CALLS, UNDECLARED), max_size=14)
SLOW_RUNS = st.lists(st.one_of(CALLS, CALLS, SLOW), max_size=12)


@settings(max_examples=sized(300, 10_000), deadline=None)
@given(recorded=st.lists(RUNS, min_size=1, max_size=3), candidate=RUNS)
def test_whatever_is_served_is_what_the_world_would_answer(
    recorded: list[list[Call]], candidate: list[Call]
) -> None:
    executor = executor_over(*(record(calls, run_id=f"r{ix}") for ix, calls in enumerate(recorded)))
    _, wrong = walk(executor, candidate, world=World())
    assert wrong == 0


@settings(max_examples=sized(200, 10_000), deadline=None)
@given(recorded=RUNS, data=st.data())
def test_reordered_and_thinned_out_recordings_are_never_served_wrong(
    recorded: list[Call], data: st.DataObject
) -> None:
    executor = executor_over(record(recorded))
    chosen = data.draw(st.lists(st.sampled_from(recorded), max_size=14)) if recorded else []
    _, wrong = walk(executor, chosen, world=World())
    assert wrong == 0


@settings(max_examples=sized(150, 10_000), deadline=None)
@given(recorded=SLOW_RUNS, candidate=SLOW_RUNS, lands=st.booleans())
def test_nothing_is_served_wrong_after_a_write_of_unknown_outcome(
    recorded: list[Call], candidate: list[Call], lands: bool
) -> None:
    executor = executor_over(record(recorded, world=World(lands=lands)))
    _, wrong = walk(executor, candidate, world=World(lands=not lands))
    assert wrong == 0


@settings(max_examples=sized(150, 10_000), deadline=None)
@given(recorded=RUNS)
def test_a_recording_serves_itself_to_its_end(recorded: list[Call]) -> None:
    executor = executor_over(record(recorded))
    served, wrong = walk(executor, recorded, world=World())
    assert (served, wrong) == (len(recorded), 0)
    assert executor.misses == []


READS = st.one_of(_call("get", key=KEYS), _call("list_items"), _call("queue_size"))


def _is_read(call: Call) -> bool:
    return call[0] in ("get", "list_items", "queue_size", "audit", "get_many")


@settings(max_examples=sized(150, 10_000), deadline=None)
@given(recorded=RUNS, read=READS)
def test_verify_an_added_read_after_each_write_is_never_stale(
    recorded: list[Call], read: Call
) -> None:
    verified = [c for call in recorded for c in ([call] if _is_read(call) else [call, read])]
    _, wrong = walk(executor_over(record(recorded)), verified, world=World())
    assert wrong == 0


@settings(max_examples=sized(150, 10_000), deadline=None)
@given(recorded=RUNS, data=st.data())
def test_drop_a_recording_without_one_of_its_reads_is_served_whole(
    recorded: list[Call], data: st.DataObject
) -> None:
    reads = [ix for ix, call in enumerate(recorded) if _is_read(call)]
    dropped = list(recorded)
    if reads:
        del dropped[data.draw(st.sampled_from(reads))]
    assert walk(executor_over(record(recorded)), dropped, world=World()) == (len(dropped), 0)


@settings(max_examples=sized(150, 10_000), deadline=None)
@given(recorded=RUNS)
def test_retry_every_read_asked_twice_is_served_whole(recorded: list[Call]) -> None:
    twice = [c for call in recorded for c in ([call, call] if _is_read(call) else [call])]
    assert walk(executor_over(record(recorded)), twice, world=World()) == (len(twice), 0)


@settings(max_examples=sized(150, 10_000), deadline=None)
@given(recorded=RUNS, data=st.data())
def test_swap_neighbouring_reads_in_the_other_order_are_served_whole(
    recorded: list[Call], data: st.DataObject
) -> None:
    places = [ix for ix in range(len(recorded) - 1) if all(map(_is_read, recorded[ix : ix + 2]))]
    swapped = list(recorded)
    if places:
        ix = data.draw(st.sampled_from(places))
        swapped[ix], swapped[ix + 1] = swapped[ix + 1], swapped[ix]
    assert walk(executor_over(record(recorded)), swapped, world=World()) == (len(swapped), 0)


def _key(walk: KeyWalk, rules: Rules, name: str, raw: str = "{}") -> str | None:
    return walk.key_of(rules[name], rules[name].args_of(raw)).key


def test_a_failed_write_changes_no_state() -> None:
    rules, keys = Rules(TOOLS), KeyWalk()
    before = _key(keys, rules, "get", '{"key":"a"}')
    put = rules["put"]
    keys.happened(put, put.args_of('{"key":"a"}'), Served(Outcome.FAILED, error="no"))
    assert _key(keys, rules, "get", '{"key":"a"}') == before


def test_a_timed_out_write_leaves_no_key_for_reads_of_its_scope() -> None:
    rules, keys = Rules(TOOLS), KeyWalk()
    put = rules["put"]
    keys.happened(put, put.args_of('{"key":"a"}'), Served(Outcome.TIMED_OUT))
    assert _key(keys, rules, "get", '{"key":"a"}') is None
    assert _key(keys, rules, "list_items") is None
    assert _key(keys, rules, "get", '{"key":"b"}') is not None


def test_a_refused_write_changes_no_state() -> None:
    rules, keys = Rules(TOOLS), KeyWalk()
    before = _key(keys, rules, "list_items")
    put = rules["put"]
    for outcome in (Outcome.DENIED, Outcome.BUDGET, Outcome.APPROVAL_DENIED):
        keys.happened(put, put.args_of('{"key":"a"}'), Served(outcome))
    assert _key(keys, rules, "list_items") == before


def test_other_results_of_the_same_write_are_other_states() -> None:
    rules = Rules(TOOLS)
    keys = []
    for result in ("1", "2"):
        made = KeyWalk()
        made.happened(rules["put"], rules["put"].args_of('{"key":"a"}'), Served(Outcome.OK, result))
        keys.append(_key(made, rules, "get", '{"key":"a"}'))
    assert keys[0] != keys[1]


def test_an_undeclared_tool_reads_and_writes_everything() -> None:
    rules, keys = Rules(TOOLS), KeyWalk()
    first = _key(keys, rules, "shake")
    put = rules["put"]
    keys.happened(put, put.args_of('{"key":"a"}'), Served(Outcome.OK, "1"))
    assert _key(keys, rules, "shake") != first
    before = _key(keys, rules, "queue_size")
    keys.happened(rules["shake"], rules["shake"].args_of("{}"), Served(Outcome.OK, "x"))
    assert _key(keys, rules, "queue_size") != before


def test_an_unknown_effect_with_scopes_still_touches_everything() -> None:
    rule = ToolRule.of(Tool("t", scopes=("a",)))
    assert [template.text for template in rule.templates] == ["*"]
    assert rule.changes_state


def test_a_scope_over_the_result_is_left_out_of_a_writes_key_and_widened_for_a_read() -> None:
    write = ToolRule.of(Tool("create", effect=Effect.WRITE, scopes=("o:{result.id}", "os")))
    read = ToolRule.of(Tool("latest", effect=Effect.READ, scopes=("o:{result.id}",)))
    keys = KeyWalk()
    assert keys.key_of(write, write.args_of("{}")).signature == "os@0.0"
    assert keys.key_of(read, read.args_of("{}")).signature == "o:*@0.0"


def test_an_argument_called_result_is_not_the_result() -> None:
    read = ToolRule.of(Tool("latest", effect=Effect.READ, scopes=("o:{result.id}",)))
    key = KeyWalk().key_of(read, read.args_of('{"result":{"id":"7"}}'))
    assert key.signature == "o:*@0.0"


def test_numbers_key_order_and_defaults_do_not_change_a_key() -> None:
    schema = {"type": "object", "properties": {"limit": {"default": 10}}}
    tool = Tool("s", effect=Effect.READ, scopes=("x",), input_schema=schema, volatile=("trace",))
    rules, keys = Rules([tool]), KeyWalk()
    same = {
        _key(keys, rules, "s", raw)
        for raw in (
            '{"q":25}',
            '{"limit":10,"q":25.0}',
            '{"q":25,"limit":10.0,"trace":"t-1"}',
            '{ "trace": "t-2", "q": 25 }',
        )
    }
    assert len(same) == 1
    assert _key(keys, rules, "s", '{"q":true}') != _key(keys, rules, "s", '{"q":1}')


def test_a_pure_tool_has_no_state_in_its_key() -> None:
    rules, keys = Rules(TOOLS), KeyWalk()
    before = _key(keys, rules, "add", '{"one":1}')
    keys.happened(rules["shake"], rules["shake"].args_of("{}"), Served(Outcome.OK, "x"))
    assert _key(keys, rules, "add", '{"one":1}') == before
