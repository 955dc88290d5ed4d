"""What recording costs the caller, per event: `python benchmarks/caller_cost.py`.

One tool call of about 1 KB per event, texts all different. In the same rounds: one `os.write`
of the same bytes (the lower bound), a plain JSON line (the baseline of the ratios), this
recorder with and without redaction, and a span of the OpenTelemetry SDK with the same values
as attributes, exported by its batch processor to memory and to a file.

`emit` has the event built before; `RunWriter.tool_call` is all that an agent's call costs:
clock, digests, event and emit. p50 and p99 time each event alone (the clock itself, some
0.05 us, is in all of them); `round` is the median round with the flush at its end, `best` the
quickest one, and `cpu` what all threads took.
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

from benchmarks._events import distinct_call_fields
from benchmarks._timing import Case, Each, each_item, load, table
from flightlog.recorder.recorder import Recorder
from flightlog.redact.policy import Capture, Redaction
from flightlog.trace.clock import SystemClock
from flightlog.trace.events import ToolCall, encode_event
from flightlog.trace.run_writer import RunWriter

Row = dict[str, Any]
BOUND = "os.write of the same bytes"
BASELINE = "json.dumps + os.write"
PLAIN = "flightlog: emit, no redaction"
REDACTED = "flightlog: emit, redaction (the default)"
WHOLE_PLAIN = "flightlog: RunWriter.tool_call, no redaction"
WHOLE = "flightlog: RunWriter.tool_call, redaction"
P50_US = {PLAIN: 5.0, REDACTED: 20.0}
P99_US = 100.0
GOAL_OF_SPAN = 1 / 3


def plain_cases(folder: Path, rows: list[Row], payloads: list[bytes]) -> dict[str, Case]:
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    bare, lines = os.open(folder / "bare", flags), os.open(folder / "lines", flags)
    return {
        BOUND: Case(lambda payload: os.write(bare, payload), payloads),
        BASELINE: Case(lambda row: os.write(lines, json.dumps(row).encode() + b"\n"), rows),
    }


def our_cases(
    recorder: Recorder, rows: list[Row], events: list[ToolCall], names: tuple[str, str]
) -> dict[str, Case]:
    run = RunWriter(recorder, "r" * 36, clock=SystemClock())
    return {
        names[0]: Case(recorder.emit, events),
        names[1]: Case(lambda row: run.tool_call(**row), rows),
    }


def spans(folder: Path, rows: list[Row]) -> dict[str, Case]:
    """The OpenTelemetry cases; empty, with the reason printed, when the SDK is absent."""
    try:
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    except ImportError as error:
        print(f"not installed: OpenTelemetry SDK ({error}); it is in the dependency group bench\n")
        return {}
    memory = InMemorySpanExporter()
    lines = (folder / "spans.jsonl").open("w")
    exporters = {
        "OpenTelemetry span, batch, in memory": memory,
        "OpenTelemetry span, batch, to a file": ConsoleSpanExporter(
            out=lines, formatter=lambda span: span.to_json(indent=None) + "\n"
        ),
    }

    def case_of(exporter: Any) -> Case:
        provider = TracerProvider(shutdown_on_exit=False)
        # A queue that never drops: a dropped span would be a cheap one.
        provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=4 * len(rows)))
        tracer = provider.get_tracer("benchmark")

        def one(row: Row) -> None:
            with tracer.start_as_current_span("execute_tool") as span:
                for name, value in row.items():
                    span.set_attribute(name, value)

        def finish() -> None:
            provider.force_flush()
            memory.clear()

        return Case(one, rows, finish)

    return {name: case_of(exporter) for name, exporter in exporters.items()}


def say_goals(found: dict[str, Each], say: Callable[[str], None]) -> None:
    def verdict(what: str, value: float, goal: float, unit: str) -> None:
        say(f"{what}: {value:.2f} {unit}, goal {goal:.2f}: {'held' if value <= goal else 'MISSED'}")

    for name, goal in P50_US.items():
        verdict(f"{name}, p50", found[name].p50, goal, "us")
        verdict(f"{name}, p99", found[name].p99, P99_US, "us")
    for name, each in found.items():
        if name.startswith("OpenTelemetry"):
            for ours in (PLAIN, REDACTED, WHOLE_PLAIN, WHOLE):
                ratio = found[ours].p50 / each.p50
                verdict(f"{ours}, of an {name}, p50", ratio, GOAL_OF_SPAN, "times")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=2_000, help="per round")
    parser.add_argument("--repeat", type=int, default=15, help="rounds")
    parser.add_argument("--full", action="store_true", help="100 rounds")
    options = parser.parse_args()
    repeat = 100 if options.full else options.repeat
    rng = random.Random(7)
    rows = [distinct_call_fields(rng, step) for step in range(options.events)]
    events = [ToolCall(run_id="r" * 36, seq=n, at=n, **row) for n, row in enumerate(rows)]
    payloads = [encode_event(event) for event in events]
    with tempfile.TemporaryDirectory() as name:
        folder, never = Path(name), 1 << 40
        full = Redaction(capture=Capture.FULL)
        plain = Recorder(folder / "plain", redaction=full, seal_on_close=False, seal_at_bytes=never)
        redacting = Recorder(folder / "redacted", seal_on_close=False, seal_at_bytes=never)
        found = each_item(
            {
                **plain_cases(folder, rows, payloads),
                **our_cases(plain, rows, events, (PLAIN, WHOLE_PLAIN)),
                **our_cases(redacting, rows, events, (REDACTED, WHOLE)),
                **spans(folder, rows),
            },
            repeat=repeat,
        )
        assert plain.dropped_events == redacting.dropped_events == 0
        plain.close()
        redacting.close()
    size = sum(map(len, payloads)) / len(payloads)
    print(f"{options.events} events of {size:.0f} bytes a round, {repeat} rounds\n")
    lines = [
        (name, *(f"{us:.1f}" for us in each), f"{each.p50 / found[BASELINE].p50:.2f}")
        for name, each in found.items()
    ]
    header = ("us per event", "p50", "p99", "round", "best", "cpu", "p50 to JSON")
    print(table(lines, header=header), end="\n\n")
    say_goals(found, print)
    print(load())


if __name__ == "__main__":
    main()
