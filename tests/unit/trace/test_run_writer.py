"""The pen of a run: numbers without holes, times from the clock, durable where it matters."""

from __future__ import annotations

import threading

import pytest

from flightlog.errors import NewerFormatError
from flightlog.trace.clock import VIRTUAL_EPOCH_US, SystemClock, VirtualClock
from flightlog.trace.messages import Message, ToolRequest
from flightlog.trace.run_writer import RunWriter
from flightlog.trace.sink import MemorySink, NullSink
from flightlog.trace.versions import FORMAT_VERSION, check_format


class WatchingSink(MemorySink):
    def __init__(self):
        super().__init__()
        self.durable = []

    def emit(self, event, *, messages=(), durable=False):
        self.durable.append(durable)
        return super().emit(event, messages=messages, durable=durable)


def test_events_are_numbered_without_holes_from_many_threads():
    sink = MemorySink()
    writer = RunWriter(sink, "r", clock=VirtualClock())

    def write():
        for _ in range(50):
            writer.tool_call(tool_name="a")

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [event.seq for event in sink.events] == list(range(200))


def test_times_come_from_the_clock():
    sink, clock = MemorySink(), VirtualClock()
    clock.advance_ms(5)
    writer = RunWriter(sink, "r", clock=clock)
    clock.advance_ms(250.5)
    writer.started()
    writer.stopped()
    assert [event.elapsed_ms for event in sink.events] == [250.5, 250.5]
    assert sink.events[0].at == VIRTUAL_EPOCH_US + 255_500
    assert sink.events[1].duration_ms == 250.5


def test_without_a_clock_times_are_the_callers():
    sink = MemorySink()
    writer = RunWriter(sink, "r")
    writer.started(at=17)
    writer.tool_call(tool_name="a")
    assert [event.at for event in sink.events] == [17, None]


def test_intents_state_changes_and_ends_are_durable():
    sink = WatchingSink()
    writer = RunWriter(sink, "r")
    writer.started()
    writer.model_call()
    writer.tool_call()
    writer.evaluation(passed=True)
    writer.tool_intent()
    writer.state_changed(subject="approval")
    writer.stopped()
    assert sink.durable == [False, False, False, False, True, True, True]


def test_result_gets_its_digest_and_its_size_in_bytes():
    sink = MemorySink()
    RunWriter(sink, "r").tool_call(tool_name="a", result="é")
    (event,) = sink.events
    assert (event.result, event.result_bytes, len(event.result_digest)) == ("é", 2, 32)


def test_answer_counts_its_tool_requests():
    sink = MemorySink()
    output = Message("assistant", tool_requests=(ToolRequest("1", "a", "{}"),))
    RunWriter(sink, "r").model_call(prompt=[Message("user", "x")], output=output)
    (event,) = sink.events
    assert (event.tool_requests, event.output_digest) == (1, output.digest)
    assert set(sink.messages) == {output.digest, Message("user", "x").digest}


def test_null_sink_takes_everything():
    assert RunWriter.with_system_clock(NullSink(), "r").tool_intent(tool_name="a") is True


def test_system_clock_never_goes_back():
    clock = SystemClock()
    times = [clock.monotonic_ms() for _ in range(100)]
    assert times == sorted(times)
    assert clock.is_virtual is False


def test_virtual_clock_does_not_go_back():
    clock = VirtualClock()
    clock.advance_ms(-5)
    assert clock.monotonic_ms() == 0


def test_newer_format_is_refused_by_name():
    check_format(FORMAT_VERSION, where="store")
    with pytest.raises(NewerFormatError, match=f"format {FORMAT_VERSION + 1} is newer"):
        check_format(FORMAT_VERSION + 1, where="store")
