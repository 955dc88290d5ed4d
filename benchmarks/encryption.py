"""What encryption at rest costs in time and bytes: `python benchmarks/encryption.py`.

The same journal sealed plain and encrypted, and both stores asked the same. Sealing is in CPU
seconds, questions are wall time; medians of interleaved rounds. `--journals` cuts the events
into so many segments.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks._timing import rounds, table
from benchmarks.seal_throughput import recorded
from flightlog.analysis.db import Traces
from flightlog.recorder.blobs import read_blob, write_blob
from flightlog.recorder.encryption.keys import KEY_VARIABLE, new_key
from flightlog.recorder.life.rekey import rekey_store
from flightlog.recorder.seal import seal_store
from flightlog.recorder.store import Store
from flightlog.recorder.verify import verify_store
from flightlog.replay.recordings import read_recordings

QUESTIONS = {
    "open": "SELECT 1",
    "count runs by stop reason": "SELECT stop_reason, count(*) FROM runs GROUP BY ALL",
    "tool calls by name": "SELECT tool_name, avg(latency_ms) FROM tool_calls GROUP BY ALL",
    "longest result": "SELECT max(length(result)) FROM tool_calls",
    "events of one run": "SELECT * FROM events WHERE run_id = lpad('0', 36, '0')",
}
BLOB_CHARACTERS = 1 << 20


@contextmanager
def key_given(text: str | None) -> Iterator[None]:
    """A key in the environment, or none."""
    os.environ.pop(KEY_VARIABLE, None)
    if text is not None:
        os.environ[KEY_VARIABLE] = text
    try:
        yield
    finally:
        os.environ.pop(KEY_VARIABLE, None)


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*.parquet"))


def sealed(folder: Path, options: argparse.Namespace) -> tuple[dict[str, float], dict[str, Path]]:
    """CPU seconds of sealing plain and encrypted, and the two stores."""
    key = new_key().text
    made = {"plain": folder / "plain", "encrypted": folder / "encrypted"}
    with key_given(key):
        Store.create(made["encrypted"])  # is encrypted from its beginning
    seconds: dict[str, list[float]] = {name: [] for name in made}
    for number in range(options.journals):
        journal = recorded(folder / f"journal-{number}", options.events // options.journals)
        for name, store in made.items():
            (store / "journal").mkdir(parents=True, exist_ok=True)
            (file,) = (journal / "journal").iterdir()
            shutil.copy(file, store / "journal" / file.name)
            shutil.copy(journal / "FORMAT", store / "FORMAT")
            with key_given(key if name == "encrypted" else None):
                start = time.process_time()
                seal_store(Store.open(store))
                seconds[name].append(time.process_time() - start)
    os.environ[KEY_VARIABLE] = key
    return {name: statistics.median(values) for name, values in seconds.items()}, made


def asked(store: Path, query: str) -> Callable[[], None]:
    def ask() -> None:
        with Traces(store) as traces:
            traces.rows(query)

    return ask


def reading(store: Path) -> dict[str, Callable[[], object]]:
    """What is compared, by name."""
    run_ids = [f"{0:036}"]
    return {
        **{what: asked(store, query) for what, query in QUESTIONS.items()},
        "recording of one run": lambda: read_recordings(Store.open(store), run_ids),
        "verify": lambda: verify_store(Store.open(store)),
    }


def blobs(folder: Path) -> Callable[[], object]:
    """Writing and reading a blob of 1 MiB, another one each time."""
    layout, numbers = Store.open(folder).layout, iter(range(1_000_000))

    def write_and_read() -> None:
        text = f"{next(numbers):08}" + "x" * BLOB_CHARACTERS
        digest, _ = write_blob(layout, text)
        read_blob(layout, digest)

    return write_and_read


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--journals", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        seconds, made = sealed(Path(name), options)
        sizes = {which: size_of(store) for which, store in made.items()}
        per_journal = options.events // options.journals
        lines = [
            _line("bytes sealed", sizes["plain"], sizes["encrypted"], "{:,.0f}"),
            _line(
                "events/s sealed, one core",
                per_journal / seconds["plain"],
                per_journal / seconds["encrypted"],
                "{:,.0f}",
            ),
        ]
        cases = {which: reading(store) for which, store in made.items()}
        for what in cases["plain"]:
            pair = {which: case[what] for which, case in cases.items()}
            found = rounds(pair, repeat=options.rounds)  # type: ignore[arg-type]
            lines.append(_line(f"{what}, ms", found["plain"] * 1e3, found["encrypted"] * 1e3))
        plain = Path(name) / "plain-blobs"
        with key_given(None):
            Store.create(plain)
            pair = {"plain": blobs(plain)}
        os.environ[KEY_VARIABLE] = new_key().text
        encrypted = Store.create(Path(name) / "encrypted-blobs").path
        pair["encrypted"] = blobs(encrypted)
        found = rounds(pair, repeat=20)  # type: ignore[arg-type]
        lines.append(
            _line("blob of 1 MiB, out and in, ms", found["plain"] * 1e3, found["encrypted"] * 1e3)
        )
        os.environ[KEY_VARIABLE] = new_key().text
        start = time.process_time()
        rekey_store(Store.open(made["plain"]))
        rekeyed = options.events / (time.process_time() - start)
    print(f"{options.events:,} events in {options.journals} segments")
    print(table(lines, header=("", "plain", "encrypted", "more")))
    print(f"rekey: {rekeyed:,.0f} events/s on one core")


def _line(what: str, plain: float, encrypted: float, form: str = "{:.1f}") -> tuple[str, ...]:
    more = f"{(encrypted / plain - 1) * 100:+.1f} %"
    return what, form.format(plain), form.format(encrypted), more


if __name__ == "__main__":
    main()
