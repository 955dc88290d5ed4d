"""Declared write-through on real runs: reads that a candidate adds after its writes."""

from __future__ import annotations

from collections import Counter

from flightlog.replay.cassette import Cassette
from flightlog.replay.matching import Rules
from flightlog.replay.serve import StateAwareExecutor
from flightlog.runtime.calls import PendingCall, Served
from flightlog.trace.canonical import canonical_json
from flightlog.trace.events import ToolCall
from flightlog.trace.messages import ToolRequest
from flightlog.trace.vocab import Outcome
from tests.replay_real.conftest import Airline

READ = "get_reservation_details"


def _resolve(executor: StateAwareExecutor, airline: Airline, name: str, args: str) -> Served:
    call = PendingCall.of(ToolRequest("x", name, args), airline.tools[name], step=1, call_ix=0)
    return executor.resolve(call)


def _writes(airline: Airline, calls: tuple[ToolCall, ...]) -> list[ToolCall]:
    return [c for c in calls if airline.tools[c.tool_name].write_through and c.outcome == "ok"]


def test_reservation_read_after_each_write_is_served_with_what_the_write_showed(
    airline: Airline,
) -> None:
    rules = Rules(airline.tools.values())
    found: Counter[str] = Counter()
    for run in airline.runs:
        executor = StateAwareExecutor(Cassette([run], rules), golden="g")
        writes = _writes(airline, run.tool_calls)
        for call in run.tool_calls:
            _resolve(executor, airline, call.tool_name, call.args or "")
            through = rules[call.tool_name].write_through if call in writes else ()
            for one in through:
                args = one.args_after(rules[call.tool_name].args_of(call.args or ""), call.result)
                assert args is not None
                served = _resolve(executor, airline, READ, canonical_json(args))
                assert (served.outcome, served.result) == (Outcome.OK, call.result)
                found[str(served.served_how)] += 1
    assert found["derived"] > 100


def test_refused_write_of_the_airline_answers_no_read(airline: Airline) -> None:
    for run in airline.runs:
        for call in _writes(airline, run.tool_calls):
            assert not (call.result or "").startswith("Error")
