"""Bytes per run as runs get longer: `python benchmarks/prompt_growth.py`.

Every model call sends all messages so far. The naive form writes that prompt
out at each call, so a run grows with the square of its steps; flightlog
writes each message once and each prompt as a difference.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from pathlib import Path

import msgspec

from benchmarks._events import step_messages, text, tool_call_fields
from benchmarks._timing import table
from flightlog.recorder.record import record
from flightlog.recorder.recorder import Recorder
from flightlog.recorder.seal import seal_store
from flightlog.recorder.store import Store
from flightlog.trace.messages import Message

STEPS = (5, 20, 80)


def write_run(recorder: Recorder, steps: int, rng: random.Random) -> int:
    """Records one run; how many bytes its calls take with the full prompt in each, as JSON."""
    naive = 0
    with record(recorder, agent="support", model="gpt-x") as run:
        prompt = [Message("system", text(rng, 3_000)), Message("user", text(rng, 200))]
        for step in range(1, steps + 1):
            request, answer = step_messages(rng, step)
            call = {"step": step, "request_model": "gpt-x", "input_tokens": 100 * step}
            tool = tool_call_fields(rng, step)
            run.model_call(prompt=prompt, output=request, **call)
            run.tool_call(**tool)
            sent = {"prompt": msgspec.to_builtins(prompt), "output": msgspec.to_builtins(request)}
            naive += len(json.dumps({**call, **sent})) + len(json.dumps(tool)) + 2
            prompt += [request, answer]
    return naive


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=40, help="per length")
    options = parser.parse_args()
    rows = []
    for steps in STEPS:
        with tempfile.TemporaryDirectory() as name:
            path = Path(name) / "store"
            rng = random.Random(steps)
            with Recorder(path, seal_on_close=False) as recorder:
                naive = sum(write_run(recorder, steps, rng) for _ in range(options.runs))
            journal = _size(path / "journal")
            seal_store(Store.open(path))
            sealed = _size(path / "events") + _size(path / "messages")
        each = [size / options.runs for size in (naive, journal, sealed)]
        rows.append(
            (
                str(steps),
                *(f"{size:,.0f}" for size in each),
                *(f"{size / steps:,.0f}" for size in each),
            )
        )
    header = ("steps", "naive", "journal", "sealed", "naive/step", "journal/step", "sealed/step")
    print(f"bytes per run and per step, mean of {options.runs} runs\n")
    print(table(rows, header=header))


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    main()
