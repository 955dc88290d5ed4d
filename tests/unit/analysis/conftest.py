"""A store small enough to check every figure by hand.

Fixtures:
    tiny_store: path of the sealed store, made once per test session; do not write to it.
    tiny: `Traces` over it, opened once per test session; do not close it.
    unsealed_store: path of a store with the same events, all still in a journal.
    write_tiny: function(sink) that writes the eight runs to any sink.

The runs, oldest first, one minute apart from 2025-01-01T00:00 UTC; 2 tasks x 2 trials x
2 variants of suite `demo`. Costs in USD, latencies in ms, tokens as input/output:

    run  variant    task  model calls of the agent            tool calls              end
    b1   baseline   t1    100/10 .01 100, 200/20 .02 200      search ok 50            ok
    b2   baseline   t1    100/10 .01 300                      search failed 40,
                                                              search ok 60 (retry),
                                                              search budget           max_tool_calls
    b3   baseline   t2    100/10 .01 400, ?/20 ? ?            -                       ok
    b4   baseline   t2    300/30 .03 500                      lookup ok 70            ok
    c1   candidate  t1    100/10 .01 100, 400/40 .04 600      save ok 80 (write)      ok, total .5
    c2   candidate  t1    100/10 .01 100                      delete denied           tool_denied
    c3   candidate  t2    failed ?/? ? 900, 100/10 .01 100    lookup timed_out 1000   none: crashed
    c4   candidate  t2    -                                   -                       cancelled

success: b1 true, b2 false, b3 inconclusive, b4 true, c1 true (false at first, judged again),
c2 false, c3 and c4 unknown. The candidate declares no model. c1 has one turn of a simulated
user (50/5 .005) and one of its tools; c2 is imported from source `bench`, its id there is
`bench/7`, its stop reason there `user_stop`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flightlog.analysis.db import Traces
from flightlog.recorder.recorder import Recorder
from flightlog.trace.clock import VIRTUAL_EPOCH_US, VirtualClock
from flightlog.trace.events import Label
from flightlog.trace.messages import Message, ToolRequest
from flightlog.trace.run_writer import RunWriter
from flightlog.trace.sink import Sink

LIMITS = {"max_steps": 4, "max_seconds": 10.0, "max_tool_calls": 2}
SYSTEM = Message("system", "Be brief.")
MINUTE_US = 60_000_000


class Pen:
    """Writes one run; its clock moves by the latency of each call."""

    def __init__(self, sink: Sink, run_id: str, minute: int, **started: Any) -> None:
        self.clock = VirtualClock(VIRTUAL_EPOCH_US + minute * MINUTE_US)
        self.writer = RunWriter(sink, run_id, clock=self.clock)
        self.prompt = [SYSTEM, Message("user", f"Do it, {run_id}.")]
        self.writer.started(
            **{"agent": "helper", "suite": "demo", "session_id": "s1", **LIMITS, **started}
        )

    def model(
        self,
        step: int,
        tokens: tuple[int | None, int | None],
        cost: float | None,
        latency: float | None,
        *,
        answer: Message | None = None,
        **fields: Any,
    ) -> None:
        answer = answer or Message("assistant", f"Answer {step} of {self.writer.run_id}.")
        is_ok = fields.get("outcome", "ok") == "ok"
        self.clock.advance_ms(latency or 0)
        self.writer.model_call(
            prompt=self.prompt if fields.get("actor") != "user" else (),
            output=answer if is_ok else None,
            step=step,
            input_tokens=tokens[0],
            output_tokens=tokens[1],
            cost_usd=cost,
            latency_ms=latency,
            **{"request_model": "model-b", "finish_reason": "stop" if is_ok else None, **fields},
        )
        if is_ok:
            self.prompt.append(answer)

    def tool(
        self, step: int, name: str, outcome: str, latency: float | None, **fields: Any
    ) -> None:
        self.clock.advance_ms(latency or 0)
        if outcome == "ok":
            fields.setdefault("result", f'{{"{name}":1}}')
            fields.setdefault("served_how", "live")
        self.writer.tool_call(
            step=step, tool_name=name, outcome=outcome, latency_ms=latency,
            **{"args": '{"q":"x"}', "args_digest": "d" * 32, "call_ix": 0, **fields},
        )  # fmt: skip
        self.prompt.append(Message("tool", fields.get("result"), name=name))

    def stop(self, reason: str, steps: int, tools: int, **fields: Any) -> None:
        seconds = self.clock.monotonic_ms() / 1000
        status = {"ok": "completed"}.get(reason, "stopped")
        used = {"used_steps": steps, "used_seconds": seconds, "used_tool_calls": tools}
        self.writer.stopped(status=status, stop_reason=reason, **LIMITS, **used, **fields)

    def judge(self, passed: bool | None, **fields: Any) -> None:
        self.writer.evaluation(passed=passed, **fields)


def write_tiny_runs(sink: Sink) -> None:
    """Writes the eight runs of the module's docstring."""
    _write_baseline(sink)
    _write_candidate(sink)


def _write_baseline(sink: Sink) -> None:
    declared: dict[str, Any] = {"variant": "baseline", "model": "model-a"}
    search = Message("assistant", None, (ToolRequest("id1", "search", '{"q":"x"}'),))

    pen = Pen(sink, "b1", 0, task_id="t1", trial=0, labels=(Label("team", "ops"),), **declared)
    pen.model(1, (100, 10), 0.01, 100, answer=search, finish_reason="tool_call")
    pen.tool(1, "search", "ok", 50, effect="read")
    pen.model(2, (200, 20), 0.02, 200)
    pen.stop("ok", 2, 1, answer="Answer 2 of b1.")
    pen.judge(True, score=1.0)

    pen = Pen(sink, "b2", 1, task_id="t1", trial=1, **declared)
    pen.model(1, (100, 10), 0.01, 300, answer=search, finish_reason="tool_call")
    pen.tool(1, "search", "failed", 40, error="it broke", error_type="ValueError")
    pen.tool(1, "search", "ok", 60, attempt=2)
    pen.tool(1, "search", "budget", None, call_ix=1, error="max_tool_calls=2 used up")
    pen.stop("max_tool_calls", 1, 2, stop_detail="budget max_tool_calls=2 used up at step 1.")
    pen.judge(False, score=0.0)

    pen = Pen(sink, "b3", 2, task_id="t2", trial=0, **declared)
    pen.model(1, (100, 10), 0.01, 400)
    pen.model(2, (None, 20), None, None)
    pen.stop("ok", 2, 0)
    pen.judge(None)

    pen = Pen(sink, "b4", 3, task_id="t2", trial=1, **declared)
    pen.model(1, (300, 30), 0.03, 500)
    pen.tool(1, "lookup", "ok", 70)
    pen.stop("ok", 1, 1)
    pen.judge(True)


def _write_candidate(sink: Sink) -> None:
    pen = Pen(sink, "c1", 4, task_id="t1", trial=0, variant="candidate")
    pen.model(
        0, (50, 5), 0.005, 20, actor="user", request_model="simulator",
        answer=Message("user", "Please save."),
    )  # fmt: skip
    pen.model(1, (100, 10), 0.01, 100)
    pen.writer.tool_intent(
        step=1, tool_name="save", call_ix=0, effect="write", args='{"q":"x"}', args_digest="d" * 32
    )
    pen.tool(1, "save", "ok", 80, effect="write")
    pen.tool(1, "phone", "ok", 5, actor="user")
    pen.model(2, (400, 40), 0.04, 600)
    pen.stop("ok", 2, 1, total_cost_usd=0.5)
    pen.judge(False)
    pen.judge(True, name="polite")
    pen.clock.advance_ms(1000)
    # Another process judges again: its writer numbers from 0.
    RunWriter(sink, "c1", clock=pen.clock).evaluation(passed=True, score=0.75)

    pen = Pen(
        sink, "c2", 5, task_id="t1", trial=1, variant="candidate", origin="imported",
        source="bench", source_run_id="bench/7",
    )  # fmt: skip
    pen.model(1, (100, 10), 0.01, 100)
    pen.tool(1, "delete", "denied", None, effect="unknown", error="not on the allowlist")
    pen.stop("tool_denied", 1, 0, stop_tool="delete", source_stop_reason="user_stop")
    pen.judge(False)

    pen = Pen(sink, "c3", 6, task_id="t2", trial=0, variant="candidate")
    pen.model(1, (None, None), None, 900, outcome="failed", error="503")
    pen.model(1, (100, 10), 0.01, 100, attempt=2)
    pen.tool(1, "lookup", "timed_out", 1000)

    pen = Pen(sink, "c4", 7, task_id="t2", trial=1, variant="candidate")
    pen.stop("cancelled", 0, 0)


@pytest.fixture(scope="session")
def write_tiny() -> Callable[[Sink], None]:
    return write_tiny_runs


@pytest.fixture(scope="session")
def tiny_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tiny") / "store"
    with Recorder(path) as recorder:
        write_tiny_runs(recorder)
    return path


@pytest.fixture(scope="session")
def unsealed_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("unsealed") / "store"
    with Recorder(path, seal_on_close=False) as recorder:
        write_tiny_runs(recorder)
    return path


@pytest.fixture(scope="session")
def tiny(tiny_store: Path) -> Iterator[Traces]:
    with Traces(tiny_store) as traces:
        yield traces
