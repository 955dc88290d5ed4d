"""The view `writes`: what became of each write, concluded from what was recorded."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from flightlog.analysis.db import Traces
from flightlog.analysis.settling import settling
from flightlog.control.kill_switch import KillMode, KillRule
from flightlog.errors import UnknownNameError, UsageError
from flightlog.recorder.life.erase import erase
from flightlog.recorder.recorder import Recorder
from flightlog.recorder.seal import seal_store
from flightlog.recorder.store import Store
from flightlog.runtime.agent import Agent
from flightlog.runtime.loop import run
from flightlog.runtime.model import ScriptedModel
from flightlog.runtime.policy import Policy, approve_all
from flightlog.runtime.task import Task
from flightlog.runtime.tools import Tool
from flightlog.testing import asking, saying
from flightlog.trace.run_writer import RunWriter
from flightlog.trace.vocab import Effect


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store"


class Pen:
    """Writes the writes of one run."""

    def __init__(self, recorder: Recorder, run_id: str = "r1", **started: Any) -> None:
        self.writer = RunWriter(recorder, run_id)
        self.writer.started(**started)

    def intent(self, call_ix: int | None, **fields: Any) -> None:
        fields = {"step": 1, "call_ix": call_ix, "tool_name": "pay", "effect": "write", **fields}
        assert self.writer.tool_intent(**fields)

    def call(self, call_ix: int | None, outcome: str, **fields: Any) -> None:
        fields = {"step": 1, "call_ix": call_ix, "tool_name": "pay", "effect": "write", **fields}
        assert self.writer.tool_call(outcome=outcome, **fields)


def rows(path: Path, run_id: str = "r1") -> list[dict[str, Any]]:
    with Traces(path) as traces:
        query = "SELECT * FROM writes WHERE run_id = $run_id ORDER BY seq"
        return traces.rows(query, {"run_id": run_id})


def states(path: Path, run_id: str = "r1") -> list[str]:
    return [row["state"] for row in rows(path, run_id)]


@pytest.mark.parametrize(
    ("outcome", "fields", "state"),
    [
        ("ok", {"served_how": "live"}, "done"),
        ("invalid_output", {"served_how": "live"}, "done"),
        ("failed", {"served_how": "live", "error_type": "ValueError"}, "failed"),
        ("timed_out", {"served_how": "live"}, "in_doubt"),
        ("kill_switch", {}, "not_done"),
        ("failed", {"error_type": "recorder_failed"}, "not_done"),
        ("ok", {"served_how": "recorded"}, "not_done"),
        ("timed_out", {"served_how": "recorded"}, "not_done"),
    ],
)
def test_the_outcome_says_what_became_of_an_intent(
    path: Path, outcome: str, fields: dict[str, Any], state: str
) -> None:
    with Recorder(path) as recorder:
        pen = Pen(recorder)
        pen.intent(0)
        pen.call(0, outcome, **fields)
        pen.writer.stopped()
    [row] = rows(path)
    assert (row["state"], row["outcome"], row["has_intent"]) == (state, outcome, True)


@pytest.mark.parametrize(
    "outcome",
    ["denied", "invalid_input", "circuit_open", "deduplicated", "approval_denied", "budget",
     "replay_miss", "kill_switch"],
)  # fmt: skip
def test_a_refused_write_was_not_done(path: Path, outcome: str) -> None:
    with Recorder(path) as recorder:
        pen = Pen(recorder)
        pen.call(0, outcome, error_type="why")
        pen.writer.stopped()
    [row] = rows(path)
    assert (row["state"], row["why"], row["has_intent"]) == ("not_done", "refused (why)", False)


def test_reads_are_no_writes_and_unknown_effects_are(path: Path) -> None:
    with Recorder(path) as recorder:
        pen = Pen(recorder)
        pen.call(0, "ok", effect="read")
        pen.call(1, "ok", effect="pure")
        pen.call(2, "ok", effect="unknown")
        pen.writer.stopped()
    assert [row["call_ix"] for row in rows(path)] == [2]


def test_an_open_intent_runs_in_a_living_run_and_is_in_doubt_in_one_that_is_over(
    path: Path,
) -> None:
    with Recorder(path) as recorder:
        pen = Pen(recorder, tenant="acme")
        pen.intent(0, idempotency_key="k", args={"usd": 1})
        assert states(path) == ["running"]
        pen.writer.stopped(stop_reason="cancelled", status="stopped")
        [row] = rows(path)
    assert row["state"] == "in_doubt"
    assert "cancelled" in row["why"]
    assert (row["idempotency_key"], row["args"], row["tenant"]) == ("k", '{"usd":1}', "acme")


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_write_of_a_crashed_process_is_in_doubt_before_and_after_sealing(path: Path) -> None:
    child = os.fork()
    if child == 0:
        pen = Pen(Recorder(path))
        pen.intent(0)
        os._exit(0)
    os.waitpid(child, 0)
    assert [row["run_stop_reason"] for row in rows(path)] == ["crashed"]
    assert states(path) == ["in_doubt"]
    seal_store(Store.open(path))
    assert states(path) == ["in_doubt"]


def test_each_attempt_is_a_row_and_a_done_one_settles_those_before_it_by_its_key(
    path: Path,
) -> None:
    with Recorder(path) as recorder:
        pen = Pen(recorder)
        for attempt, outcome in ((1, "timed_out"), (2, "failed"), (3, "ok")):
            pen.intent(0, attempt=attempt, idempotency_key="k")
            pen.call(0, outcome, attempt=attempt, idempotency_key="k", served_how="live")
        pen.intent(1, attempt=1)
        pen.call(1, "timed_out", attempt=1, served_how="live")
        pen.intent(1, attempt=2)
        pen.call(1, "ok", attempt=2, served_how="live")
        pen.writer.stopped()
    assert states(path) == ["done", "failed", "done", "in_doubt", "done"]


def test_writes_that_a_foreign_agent_does_not_number_are_paired_in_order(path: Path) -> None:
    with Recorder(path) as recorder:
        pen = Pen(recorder)
        for outcome in ("ok", None, "failed"):
            pen.intent(None, step=None)
            if outcome:
                pen.call(None, outcome, step=None)
        pen.writer.stopped()
    assert states(path) == ["done", "in_doubt", "failed"]


def test_an_outcome_without_an_intent_is_a_write_too(path: Path) -> None:
    with Recorder(path) as recorder:
        pen = Pen(recorder)
        pen.call(0, "ok")
        pen.call(1, "timed_out")
        pen.writer.stopped()
    assert [(row["state"], row["has_intent"]) for row in rows(path)] == [
        ("done", False),
        ("in_doubt", False),
    ]


def test_the_kill_switch_between_intent_and_call_leaves_a_write_not_done(path: Path) -> None:
    calls: list[int] = []

    def pay(usd: int) -> None:
        calls.append(usd)

    class Switching(Recorder):
        def emit(self, event: Any, **options: Any) -> bool:
            kept = super().emit(event, **options)
            if type(event).__name__ == "ToolIntent":
                self.control.kill_switch.put(KillRule(KillMode.STOP_ALL, who="ana"))
            return kept

    with Switching(path) as recorder:
        agent = Agent(
            "a",
            ScriptedModel("m", [asking(("pay", {"usd": 1})), saying("done")]),
            [Tool("pay", pay, effect=Effect.WRITE)],
            policy=Policy(("pay",), approver=approve_all),
        )
        result = run(agent, Task("t", "Pay."), sink=recorder)
    [row] = rows(path, result.run_id)
    assert calls == []
    assert (row["state"], row["has_intent"], row["outcome"]) == ("not_done", True, "kill_switch")


def settle(path: Path, place: tuple[int | None, int | None], *, is_done: bool) -> None:
    with Traces(path) as traces:
        found = settling(traces, "r1", place, is_done=is_done, who="ana", why="looked")
    with Recorder(path) as recorder:
        for change in found.changes:
            assert recorder.emit(change, durable=True)


def in_doubt(path: Path) -> None:
    with Recorder(path) as recorder:
        pen = Pen(recorder)
        pen.intent(0, tool_call_id="call_1")
        pen.intent(1)
        pen.call(2, "ok")
        pen.writer.stopped()


def test_settling_a_write_says_who_looked_and_touches_no_other(path: Path) -> None:
    in_doubt(path)
    settle(path, (1, 0), is_done=True)
    first, second, third = rows(path)
    assert (first["state"], first["why"]) == ("done", "settled by ana: looked")
    assert first["settled_at"] is not None
    assert (second["state"], third["state"]) == ("in_doubt", "done")
    with Traces(path) as traces:
        [run_] = traces.rows("SELECT status, stop_reason FROM runs")
        [last] = traces.rows("SELECT * FROM events ORDER BY seq DESC LIMIT 1")
    assert run_["status"] == "completed"
    assert (last["kind"], last["subject"], last["state_to"]) == ("state_changed", "write", "done")


def test_a_settled_write_can_be_corrected(path: Path) -> None:
    in_doubt(path)
    settle(path, (1, 1), is_done=True)
    settle(path, (1, 1), is_done=False)
    assert states(path) == ["in_doubt", "not_done", "done"]


def test_settling_makes_no_run_of_its_own_and_none_that_crashed(path: Path) -> None:
    in_doubt(path)
    with Traces(path) as traces:
        found = settling(traces, "r1", (1, 0), is_done=True, who="ana", why="looked")
    recorder = Recorder(path, seal_on_close=False)
    recorder.emit(found.changes[0])
    recorder.close()
    for _ in range(2):
        with Traces(path) as traces:
            query = "SELECT run_id, stop_reason FROM events WHERE kind = 'run_stopped'"
            assert traces.rows(query) == [{"run_id": "r1", "stop_reason": None}]
        seal_store(Store.open(path))


def test_what_is_not_in_doubt_cannot_be_settled(path: Path) -> None:
    in_doubt(path)
    with Traces(path) as traces:
        told = {"is_done": True, "who": "ana", "why": "looked"}
        with pytest.raises(
            UsageError, match=r"1 2 of run r1 is done(?s:.)*1 0 \(pay\), 1 1 \(pay\)"
        ):
            settling(traces, "r1", (1, 2), **told)
        with pytest.raises(UsageError, match="9 9 of run r1 is not there"):
            settling(traces, "r1", (9, 9), **told)
        with pytest.raises(UnknownNameError):
            settling(traces, "nobody", (1, 0), **told)


def test_a_write_of_a_run_that_goes_on_cannot_be_settled(path: Path) -> None:
    with Recorder(path) as recorder:
        pen = Pen(recorder)
        pen.intent(0)
        pen.call(0, "timed_out", served_how="live")
        with Traces(path) as traces, pytest.raises(UsageError, match="still goes on"):
            settling(traces, "r1", (1, 0), is_done=True, who="ana", why="looked")


def test_an_erased_run_keeps_the_states_of_its_writes(path: Path) -> None:
    in_doubt(path)
    settle(path, (1, 0), is_done=True)
    before = states(path)
    erase(Store.open(path), run_ids=["r1"])
    assert states(path) == before == ["done", "in_doubt", "done"]
    assert all(row["args"] is None for row in rows(path))
