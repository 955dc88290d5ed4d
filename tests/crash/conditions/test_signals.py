"""Signal handlers that record, close and raise, wherever in `emit` they find the main thread."""

from __future__ import annotations

import itertools
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flightlog.trace.messages import Message
from tests.crash.conditions.counting import (
    CountingRecorder,
    Record,
    call,
    check,
    found_in,
    loaded,
    run_as_child,
    run_child,
)

pytestmark = pytest.mark.crash
MANY = 400


class InsideEmit(list[Message]):
    """A list of messages that does something when it is read, as a handler inside `emit` may."""

    def __init__(self, act: Callable[[], object]) -> None:
        super().__init__([Message("user", "outer")])
        self.act = act

    def __iter__(self) -> Iterator[Message]:
        self.act()
        return super().__iter__()


def test_handlers_record_while_journals_change_and_other_handlers_run(
    tmp_path: Path, record_property: Record
) -> None:
    path = tmp_path / "store"
    recorder = CountingRecorder(path, seal_at_bytes=3_000)
    numbers, busy = itertools.count(), [False]

    def handler(signum: int, frame: object) -> None:
        if not busy[0]:  # or handlers pile up on a slow machine
            busy[0] = True
            recorder.emit(call(f"handler-{signum}", next(numbers)), durable=signum % 2 == 0)
            busy[0] = False

    numbers_of_signals = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM)
    before = [signal.signal(one, handler) for one in numbers_of_signals]
    try:
        for seq in range(MANY):
            signal.setitimer(signal.ITIMER_REAL, 0.000_02 * (seq % 7 + 1))
            kept = recorder.emit(call("main", seq), messages=[Message("user", f"{seq}")])
            assert kept
            os.kill(os.getpid(), numbers_of_signals[seq % 2])
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for one, old in zip(numbers_of_signals, before, strict=True):
            signal.signal(one, old)
    recorder.close()
    told = recorder.told()
    assert told.dropped == 0
    assert next(numbers) > MANY // 2
    check(told, found_in(path), record_property, "signal handlers")


def test_what_a_handler_recorded_before_it_raised_is_there(
    tmp_path: Path, record_property: Record
) -> None:
    path = tmp_path / "store"
    recorder = CountingRecorder(path)
    for seq in range(MANY):

        def stop(seq: int = seq) -> None:
            assert recorder.emit(call("handler", seq)), "acknowledged"
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            recorder.emit(call("interrupted", seq), messages=InsideEmit(stop))
        recorder.emitted = [key for key in recorder.emitted if key[0] == "handler"]
        if seq == 0:
            assert found_in(path).calls == [("handler", 0)], "before anything else is recorded"
    recorder.close()
    check(recorder.told(), found_in(path), record_property, "handlers that raise")


def test_a_recorder_that_a_handler_closes_inside_emit_is_closed_after_it(
    tmp_path: Path, record_property: Record
) -> None:
    path = tmp_path / "store"
    recorder = CountingRecorder(path, seals=True)

    def close() -> None:
        recorder.emit(call("handler", 0))
        recorder.close()
        recorder.emit(call("handler", 1))

    assert recorder.emit(call("main", 0), messages=InsideEmit(close))
    assert not list((path / "journal").iterdir()), "closed, and sealed"
    told = recorder.told()
    assert recorder.emit(call("main", 1)) is False
    check(told, found_in(path), record_property, "closed by a handler")


def terminated(store: str, raising: str) -> None:
    """A service that closes its recorder when it is told to end."""
    recorder = CountingRecorder(Path(store), seals=True)

    def end(signum: int, frame: object) -> None:
        recorder.emit(call("handler", 0))
        recorder.close()
        if raising == "raising":
            print(recorder.told().dump())
            sys.exit(0)
        ended.append(True)

    ended: list[bool] = []
    signal.signal(signal.SIGTERM, end)
    print("ready", flush=True)
    seq = 0
    while not ended:
        recorder.emit(call("main", seq), messages=[Message("user", f"{seq}")])
        if seq == 200:
            signal.setitimer(signal.ITIMER_REAL, 0.000_3)
            signal.signal(signal.SIGALRM, end)
        seq += 1
    print(recorder.told().dump())


@pytest.mark.parametrize("how", ["raising", "returning"])
def test_a_service_that_closes_its_recorder_in_a_handler_ends(
    tmp_path: Path, record_property: Record, how: str
) -> None:
    path = tmp_path / "store"
    done = run_child(__name__, "terminated", path, how)
    assert (done.returncode, done.stderr) == (0, "")
    told = loaded(done.stdout.splitlines()[-1])
    found = found_in(path)
    # The emit that was interrupted said nothing; its event is there or not.
    interrupted = next(key for key in reversed(told.emitted) if key[0] == "main")
    if interrupted not in found.calls:
        told.emitted.remove(interrupted)
        # Interrupted before it had begun, it went on with a closed recorder: refused, no gap.
        told.dropped -= how == "returning"
    told.emitted = [key for key in told.emitted if key in set(told.acknowledged + found.calls)]
    check(told, found, record_property, "closed by SIGTERM")


if __name__ == "__main__":
    run_as_child(globals())
