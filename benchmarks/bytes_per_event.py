"""Bytes on disk per event, sealed, beside JSON lines: `python benchmarks/bytes_per_event.py`.

Runs of an agent with 12 steps: a model call and a tool call of about 1 KB per
step, and the messages between them. The JSON lines hold the same events and
the same message bodies, each once; gzip is at its default level. Texts are twice over: few
words that repeat, as in a customer's own data, and prose of which hardly anything comes twice,
the harder case for every codec.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import tempfile
from pathlib import Path

from benchmarks._events import distinct_call_fields, prose, step_messages, text, tool_call_fields
from benchmarks._timing import table
from flightlog.recorder.frames import Damage
from flightlog.recorder.journal_reader import read_records
from flightlog.recorder.record import record
from flightlog.recorder.recorder import Recorder
from flightlog.recorder.seal import seal_store
from flightlog.recorder.store import Store
from flightlog.trace.messages import Message

STEPS = 12
GOAL = 1 / 3


def write_runs(recorder: Recorder, runs: int, rng: random.Random, *, is_prose: bool) -> None:
    words, fields = (prose, distinct_call_fields) if is_prose else (text, tool_call_fields)
    system = Message("system", words(rng, 3_000))
    for _ in range(runs):
        with record(recorder, agent="support", model="gpt-x", suite="orders") as run:
            prompt = [system, Message("user", words(rng, 200))]
            for step in range(1, STEPS + 1):
                request, answer = step_messages(rng, step, words=words)
                run.model_call(
                    prompt=prompt,
                    output=request,
                    step=step,
                    provider="openai",
                    request_model="gpt-x",
                    input_tokens=rng.randrange(500, 9_000),
                    output_tokens=rng.randrange(10, 400),
                    latency_ms=round(rng.uniform(300, 5_000), 3),
                )
                run.tool_call(**fields(rng, step))
                prompt += [request, answer]


def payloads_of(store: Path) -> list[bytes]:
    """What is in the store's journals, one JSON object each."""
    found = []
    for path in (store / "journal").iterdir():
        for item in read_records(path.read_bytes(), where=path):
            assert not isinstance(item, Damage)
            found.append(item.payload)
    return found


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def measure(runs: int, *, is_prose: bool) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "store"
        with Recorder(path, seal_on_close=False) as recorder:
            write_runs(recorder, runs, random.Random(7), is_prose=is_prose)
        payloads = payloads_of(path)
        # As a plain logger writes them: the standard library's JSON, one object per line.
        lines = "".join(json.dumps(json.loads(payload)) + "\n" for payload in payloads).encode()
        journal = size_of(path / "journal")
        report = seal_store(Store.open(path))
        sealed = sum(size_of(path / one) for one in ("events", "messages", "blobs"))
    sizes = {
        "JSON lines": len(lines),
        "JSON lines, gzip": len(gzip.compress(lines)),
        "flightlog, journal": journal,
        "flightlog, sealed": sealed,
    }
    rows = [
        (name, f"{size:,}", f"{size / report.events:.0f}", f"{size / len(lines):.3f}")
        for name, size in sizes.items()
    ]
    kind = "prose" if is_prose else "few words"
    print(f"{kind}: {report.events:,} events, {report.messages:,} message bodies\n")
    print(table(rows, header=("form", "bytes", "bytes/event", "of JSON lines")))
    share = sealed / len(lines)
    state = "held" if share <= GOAL else "MISSED"
    print(f"\ngoal, sealed at most {GOAL:.2f} of JSON lines: {state} ({share:.3f})\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=400)
    parser.add_argument("--full", action="store_true", help="10,000 runs")
    options = parser.parse_args()
    for is_prose in (False, True):
        measure(10_000 if options.full else options.runs, is_prose=is_prose)


if __name__ == "__main__":
    main()
