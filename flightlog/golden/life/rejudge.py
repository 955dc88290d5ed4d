"""Judges a run that is recorded already, as a replay of it would be judged."""

from __future__ import annotations

from collections.abc import Sequence

from flightlog.golden.judging.judge import Judgement, judge
from flightlog.golden.task import GoldenTask
from flightlog.replay.cassette import Cassette, Recording
from flightlog.runtime.budget import Budget, Used
from flightlog.runtime.result import RunResult
from flightlog.trace.events import Event
from flightlog.trace.messages import Message
from flightlog.trace.run_writer import RunWriter
from flightlog.trace.vocab import RunStatus, StopReason


class _Nowhere:
    """A sink for a run that is over: nothing more is written of it."""

    def emit(
        self, event: Event, *, messages: Sequence[Message] = (), durable: bool = False
    ) -> bool:
        return True


def rejudge(golden: GoldenTask, cassette: Cassette, run: Recording) -> Judgement:
    """What the contract says of a recorded run.

    Args:
        golden: the contract.
        cassette: the accepted recordings.
        run: a finished run.
    """
    return judge(golden, cassette, result_of(run), run.tool_calls)


def result_of(run: Recording) -> RunResult:
    """How a recorded run ended, as the loop would have returned it."""
    stopped = run.stopped
    reason = (stopped.stop_reason if stopped else StopReason.CRASHED) or StopReason.OK
    status = RunStatus.COMPLETED if reason is StopReason.OK else RunStatus.STOPPED
    limits = {name: getattr(stopped, name, None) for name in Budget().limits()}
    return RunResult(
        run_id=run.run_id,
        status=stopped.status if stopped else status,
        answer=stopped.answer if stopped else None,
        stop_reason=reason,
        stop_tool=stopped.stop_tool if stopped else None,
        stop_detail=stopped.stop_detail if stopped else None,
        usage=_used(run),
        budget=Budget(**limits),
        writer=RunWriter(_Nowhere(), run.run_id),
    )


def _used(run: Recording) -> Used:
    stopped = run.stopped
    steps = max((event.step or 0 for event in run.events), default=0)
    if stopped is None:
        return Used(steps, 0.0, len(run.tool_calls), None, None)
    seconds = stopped.used_seconds
    if seconds is None:
        seconds = (stopped.duration_ms or 0.0) / 1000
    calls = stopped.used_tool_calls
    return Used(
        steps=steps if stopped.used_steps is None else stopped.used_steps,
        seconds=seconds,
        tool_calls=len(run.tool_calls) if calls is None else calls,
        usd=stopped.used_usd if stopped.used_usd is not None else stopped.total_cost_usd,
        tokens=stopped.used_tokens,
    )
