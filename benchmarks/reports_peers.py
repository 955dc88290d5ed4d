"""The standard report set over the runs of the peer benchmarks, beside what a peer needs for it.

The folder of peer benchmarks generates the runs (its `gen.py`), holds each peer's store of them
as its own recording path made it (`mk_peer_stores.sh N`), and asks each for the same four
answers (`read_one.py`). Ours records the same runs through its own path. Answers are compared.

    python benchmarks/reports_peers.py --peers FOLDER --runs 2000 --names mlflow_api inspect_df
"""

from __future__ import annotations

import argparse
import importlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from _timing import table
from reports import OURS

from flightlog.analysis.db import Traces
from flightlog.recorder.record import record
from flightlog.recorder.recorder import Recorder
from flightlog.trace.messages import Message

VENVS = {"mlflow": "mlflow", "phoenix": "phoenix", "inspect": "inspect"}


def store_of(folder: Path, runs: int, path: Path) -> None:
    """Records the runs of the folder's generator as our own recorder does."""
    sys.path.insert(0, str(folder))
    gen: Any = importlib.import_module("gen")
    with Recorder(path) as recorder:
        for number in range(runs):
            first, *calls, last = gen.make_run(number)["events"]
            with record(
                recorder,
                run_id=first["run_id"],
                task_id=first["task"],
                variant=first["arm"],
                model=first["model"],
                tenant=first["tenant"],
            ) as one:
                for event in calls:
                    if event["kind"] == "model_call":
                        one.model_call(
                            step=event["step"],
                            request_model=event["model"],
                            outcome="ok",
                            input_tokens=event["tokens_in"],
                            output_tokens=event["tokens_out"],
                            cache_read_tokens=event["tokens_cached"],
                            cost_usd=event["cost_usd"],
                            latency_ms=event["latency_ms"],
                            prompt=[Message("user", event["prompt_delta"])],
                            output=Message("assistant", event["output"]),
                        )
                    else:
                        one.tool_call(
                            step=event["step"],
                            tool_name=event["tool"],
                            args=event["args"],
                            result=event["result"],
                            outcome="ok" if event["status"] == "ok" else "failed",
                            attempt=event["attempt"],
                            latency_ms=event["latency_ms"],
                        )
                # The reasons of the generator are not ours; they are kept as the source's.
                one.stopped(status="completed", source_stop_reason=last["stop_reason"])


def ours(path: Path, repeat: int) -> tuple[float, float]:
    """Seconds from opening the store to the answers, and of the answers once more, medians."""
    cold, warm = [], []
    for _ in range(repeat):
        begun = time.perf_counter()
        with Traces(path) as traces:
            traces.keep_runs()
            _answers(traces)
            cold.append(time.perf_counter() - begun)
            begun = time.perf_counter()
            _answers(traces)
            warm.append(time.perf_counter() - begun)
    return statistics.median(cold), statistics.median(warm)


def _answers(traces: Traces) -> list[list[tuple[Any, ...]]]:
    return [
        traces.connection.sql(query.replace("stop_reason", "source_stop_reason")).fetchall()
        for query in OURS.values()
    ]


def peer(folder: Path, name: str, runs: int, repeat: int) -> tuple[float, dict[str, Any]]:
    """Seconds that a peer needs for the four answers, median, and the answers."""
    base = name.split("_", maxsplit=1)[0]
    python = folder / "venvs" / VENVS[base] / "bin" / "python"
    data = folder / "data" / "r" / f"{base}_{runs}"
    command = [str(python), str(folder / "read_one.py"), name, str(data), str(repeat)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder)
    found = json.loads(done.stdout.strip().splitlines()[-1])
    return float(found["report"][0]), found["fp"]


def is_same(mine: list[list[tuple[Any, ...]]], theirs: dict[str, Any]) -> bool:
    """True when all four answers are equal, numbers to five figures."""
    for rows, other in zip(mine, theirs.values(), strict=True):
        if len(rows) != len(other):
            return False
        for row, told in zip(rows, other, strict=True):
            for a, b in zip(row, told, strict=True):
                is_number = isinstance(a, (int, float)) and isinstance(b, (int, float))
                if abs(a - b) > 2e-5 * max(1.0, abs(a)) if is_number else a != b:
                    return False
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", type=Path, required=True, help="folder `record` of the peers")
    parser.add_argument("--runs", type=int, default=2_000)
    parser.add_argument("--names", nargs="+", default=("mlflow_api", "mlflow_sql", "inspect_df"))
    parser.add_argument("--repeat", type=int, default=3)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        path = Path(made) / "store"
        store_of(chosen.peers.resolve(), chosen.runs, path)
        cold, warm = ours(path, chosen.repeat)
        with Traces(path) as traces:
            answers = _answers(traces)
    rows = [
        ("flightlog, from opening the store", f"{cold:.2f}", "1", "", ""),
        ("flightlog, warm", f"{warm:.3f}", "", "1", ""),
    ]
    for name in chosen.names:
        seconds, told = peer(chosen.peers.resolve(), name, chosen.runs, chosen.repeat)
        same = "yes" if is_same(answers, told) else "no"
        times = f"{seconds / cold:,.0f}", f"{seconds / warm:,.0f}"
        rows.append((name, f"{seconds:.2f}", *times, same))
    header = ("report set", "seconds", "times ours", "times ours, warm", "same answers")
    print(table(rows, header=header))


if __name__ == "__main__":
    main()
