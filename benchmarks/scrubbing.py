"""What keeping credentials out of traces costs: `python benchmarks/scrubbing.py`.

Texts that hold no value, since nearly all do not: realistic ones of 1 KB and 1 MB, for one,
three and ten known values; and a recorded tool call of about 1 KB with and without a
scrubbing sink before a sink that keeps nothing.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable

from benchmarks._events import text, tool_call_fields
from benchmarks._timing import rounds, table
from flightlog.runtime.credentials import Credentials, Scrubber, ScrubbingSink
from flightlog.trace.clock import SystemClock
from flightlog.trace.run_writer import RunWriter
from flightlog.trace.sink import NullSink, Sink


def scrubber_of(count: int) -> Scrubber:
    """Knows that many values; every second one has characters that encodings escape."""
    rng = random.Random(7)
    values = {
        f"k{place}": f"sk-{rng.randrange(16**32):032x}{'/+=' if place % 2 else ''}"
        for place in range(count)
    }
    return Credentials({"*": {"*": values}}).scrubber(None)


def looks(scrubber: Scrubber, searched: str, count: int) -> Callable[[], None]:
    def case() -> None:
        for _ in range(count):
            scrubber.clean(searched)

    return case


def tool_calls(sink: Sink, count: int) -> Callable[[], None]:
    rng = random.Random(1)
    calls = [tool_call_fields(rng, step) for step in range(count)]
    writer = RunWriter(sink, "bench", clock=SystemClock())

    def case() -> None:
        for fields in calls:
            writer.tool_call(**fields)

    return case


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--looks", type=int, default=500, help="texts of 1 KB per round")
    parser.add_argument("--calls", type=int, default=500, help="tool calls per round")
    parser.add_argument("--repeat", type=int, default=15, help="rounds")
    options = parser.parse_args()
    rng = random.Random(3)
    short, long = text(rng, 1_000), text(rng, 1_000_000)
    cases: dict[str, tuple[int, Callable[[], None]]] = {}
    for count in (1, 3, 10):
        scrubber = scrubber_of(count)
        name = f"{count} value{'s' if count > 1 else ''}"
        cases[f"1 KB, {name}"] = (options.looks, looks(scrubber, short, options.looks))
        cases[f"1 MB, {name}"] = (1, looks(scrubber, long, 1))
    plain, scrubbed = NullSink(), ScrubbingSink(NullSink(), scrubber_of(3))
    cases["tool call recorded, no credentials"] = (options.calls, tool_calls(plain, options.calls))
    cases["tool call recorded, 3 values"] = (options.calls, tool_calls(scrubbed, options.calls))
    seconds = rounds({name: case for name, (_, case) in cases.items()}, repeat=options.repeat)
    lines = [(name, f"{seconds[name] / count * 1e6:,.2f}") for name, (count, _) in cases.items()]
    print(f"median of {options.repeat} rounds\n")
    print(table(lines, header=("case", "us")))


if __name__ == "__main__":
    main()
