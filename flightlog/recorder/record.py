"""`record`: one run of an agent that flightlog does not run itself."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flightlog.errors import UnknownNameError
from flightlog.recorder.recorder import Recorder
from flightlog.redact.policy import Redaction
from flightlog.trace.clock import SystemClock
from flightlog.trace.events import RunStarted
from flightlog.trace.fitting import fitted_labels, fitted_text
from flightlog.trace.ids import new_id
from flightlog.trace.messages import Message
from flightlog.trace.run_writer import RunWriter
from flightlog.trace.vocab import RunStatus, StopReason

_SET_BY_THE_WRITER = ("run_id", "seq", "at", "elapsed_ms", "step")
_CANCELLATIONS = (KeyboardInterrupt, asyncio.CancelledError, SystemExit, GeneratorExit)


class _Run(RunWriter):
    """A writer that knows whether its run was stopped."""

    is_stopped = False

    def stopped(self, **fields: Any) -> bool:
        self.is_stopped = True
        return super().stopped(**fields)


@contextmanager
def record(
    store: str | Path | Recorder,
    *,
    run_id: str | None = None,
    messages: Sequence[Message] = (),
    labels: Mapping[str, str] | None = None,
    redaction: Redaction | None = None,
    **run_started_fields: Any,
) -> Iterator[RunWriter]:
    """Records the body as one run and gives the writer of its events.

    The run ends with the body: `ok`, unless the body wrote the end itself
    (`run.stopped(...)`), was cancelled, or raised (`crashed`; the exception
    goes on).

    Args:
        store: folder of the store, or a recorder to share between runs.
        run_id: unique in the store; a fresh one by default.
        messages: bodies of messages that the run's digests name.
        labels: free key-value pairs of the run.
        redaction: what is taken out; a recorder that is given has its own.
        run_started_fields: the other columns of `run_started`, such as agent, model,
            suite, task_id, variant.

    Raises:
        UnknownNameError: a field that `run_started` does not have.
        StoreError: the store cannot be written to.
    """
    fields = _checked(run_started_fields)
    if labels is not None:
        fields["labels"] = fitted_labels(labels)
    owned = (
        None if isinstance(store, Recorder) else Recorder(store, redaction=redaction or Redaction())
    )
    sink = owned or store
    assert isinstance(sink, Recorder)
    try:
        run = _Run(sink, new_id() if run_id is None else run_id, clock=SystemClock())
        run.started(messages=messages, **fields)
        try:
            yield run
        except BaseException as error:
            if not run.is_stopped:
                run.stopped(**_end_of(error))
            raise
        if not run.is_stopped:
            run.stopped(status=RunStatus.COMPLETED, stop_reason=StopReason.OK)
    finally:
        if owned is not None:
            owned.close()


def _checked(fields: dict[str, Any]) -> dict[str, Any]:
    known = [name for name in RunStarted.__struct_fields__ if name not in _SET_BY_THE_WRITER]
    for name in fields:
        if name not in known:
            raise UnknownNameError.of("run_started field", name, known, where="record()")
    return dict(fields)


def _end_of(error: BaseException) -> dict[str, Any]:
    reason = StopReason.CANCELLED if isinstance(error, _CANCELLATIONS) else StopReason.CRASHED
    text = fitted_text(_said_by(error))
    return {
        "status": reason.status,
        "stop_reason": reason,
        "stop_detail": f"{type(error).__name__}: {text}" if text else type(error).__name__,
    }


def _said_by(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # of somebody's own class
        return ""
