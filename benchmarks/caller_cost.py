"""What recording costs the caller, per event: `python benchmarks/caller_cost.py`.

One tool call of about 1 KB per event, in the same run and round for round:
a plain JSON line with one `os.write` (the baseline of the ratios), this
recorder, and a span of the OpenTelemetry SDK with the same content as
attributes, in memory and exported as JSON lines by its batch processor.
The time that the exporter's thread takes from the caller is part of what the
caller waits for, so each round ends with a flush.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks._events import tool_call_fields
from benchmarks._timing import rounds, table
from flightlog.recorder.recorder import Recorder
from flightlog.trace.clock import SystemClock
from flightlog.trace.events import ToolCall
from flightlog.trace.run_writer import RunWriter

GOAL_US = 10.0
GOAL_OF_SPAN = 1 / 3


def json_lines(path: Path, rows: list[dict[str, Any]]) -> Callable[[], None]:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def case() -> None:
        for row in rows:
            os.write(descriptor, json.dumps(row).encode() + b"\n")

    return case


def built_events(recorder: Recorder, rows: list[dict[str, Any]]) -> Callable[[], None]:
    events = [ToolCall(run_id="r" * 36, seq=n, at=n, **row) for n, row in enumerate(rows)]

    def case() -> None:
        for event in events:
            recorder.emit(event)

    return case


def run_writer(recorder: Recorder, rows: list[dict[str, Any]]) -> Callable[[], None]:
    run = RunWriter(recorder, "r" * 36, clock=SystemClock())

    def case() -> None:
        for row in rows:
            run.tool_call(**row)

    return case


def spans(folder: Path, rows: list[dict[str, Any]]) -> dict[str, Callable[[], None]]:
    """The OpenTelemetry cases; empty, with the reason printed, when the SDK is absent."""
    try:
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    except ImportError as error:
        print(f"skipped: OpenTelemetry ({error}); install the dependency group 'bench'\n")
        return {}
    memory = InMemorySpanExporter()
    lines = (folder / "spans.jsonl").open("w")
    exporters = {
        "OpenTelemetry span, batch, in memory": memory,
        "OpenTelemetry span, batch, to a file": ConsoleSpanExporter(
            out=lines, formatter=lambda span: span.to_json(indent=None) + "\n"
        ),
    }

    def case_of(exporter: Any) -> Callable[[], None]:
        provider = TracerProvider(shutdown_on_exit=False)
        # A queue that never drops: a dropped span would be a cheap one.
        processor = BatchSpanProcessor(exporter, max_queue_size=4 * len(rows))
        provider.add_span_processor(processor)
        tracer = provider.get_tracer("benchmark")

        def case() -> None:
            for row in rows:
                with tracer.start_as_current_span("execute_tool") as span:
                    for name, value in row.items():
                        span.set_attribute(name, value)
            provider.force_flush()
            memory.clear()

        return case

    return {name: case_of(exporter) for name, exporter in exporters.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=2_000, help="per round")
    parser.add_argument("--repeat", type=int, default=15, help="rounds")
    options = parser.parse_args()
    rng = random.Random(7)
    rows = [tool_call_fields(rng, step) for step in range(options.events)]
    size = sum(len(json.dumps(row)) for row in rows) / len(rows)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recorder = Recorder(folder / "store", seal_on_close=False)
        baseline = "json.dumps + os.write"
        cases = {
            baseline: json_lines(folder / "plain.jsonl", rows),
            "flightlog: emit": built_events(recorder, rows),
            "flightlog: RunWriter.tool_call (clock, digest, event, emit)": run_writer(
                recorder, rows
            ),
            **spans(folder, rows),
        }
        seconds = rounds(cases, repeat=options.repeat)
        recorder.close()
    each = {name: value / len(rows) * 1e6 for name, value in seconds.items()}
    lines = [(name, f"{us:.1f}", f"{us / each[baseline]:.2f}") for name, us in each.items()]
    print(f"{len(rows)} events of {size:.0f} bytes, median of {options.repeat} rounds\n")
    print(table(lines, header=("case", "us/event", "ratio")))
    ours = each["flightlog: RunWriter.tool_call (clock, digest, event, emit)"]
    print(f"\ngoal <= {GOAL_US:.0f} us: {'held' if ours <= GOAL_US else 'MISSED'} ({ours:.1f})")
    for name, us in each.items():
        if name.startswith("OpenTelemetry"):
            state = "held" if ours <= us * GOAL_OF_SPAN else "MISSED"
            print(f"goal <= 1/3 of {name}: {state} ({ours / us:.2f})")


if __name__ == "__main__":
    main()
