"""What redaction costs the caller: `python benchmarks/redaction.py`.

A recorded tool call of about 1 KB without anything to find, with redaction and without; the
same with three secrets; and 1 MB of text of shapes that were made to be slow. Beside them, where
it is installed, detect-secrets on the lines of the same texts.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks._events import text, tool_call_fields
from benchmarks._timing import table
from flightlog.recorder.recorder import Recorder
from flightlog.redact.finds import SlowError
from flightlog.redact.policy import Capture, Redaction
from flightlog.redact.pseudonyms import Pseudonyms
from flightlog.redact.redactor import Redactor
from flightlog.trace.events import ToolCall

GOAL_US = 20.0
GOAL_MS = 100.0
HOSTILE = {
    "digits": "0123456789",
    "card numbers": "4539578763621486 ",
    "nearly card numbers": "4539578763621487 ",
    "groups of digits": "4539 5787 ",
    "keys without an end": "sk-",
    "keys": "sk-ant-api03-abcdefghijk ",
    "heads of tokens": "-eyJhbGciOiJ",
    "nearly tokens": " eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOi ",
    "secret names": "password ",
    "names with open quotes": 'password="',
    "names with values": "password=hunter2 ",
    "names in JSON": '"password":"x1",',
    "names with lists": '"password":[',
    "backslashes": "\\",
    "escaped quotes": 'password\\\\"',
    "heads of URLs": "://a:",
    "URLs": "://a:b@",
    "bearer": "bearer abcdefgh ",
    "private keys": "-----BEGIN PRIVATE KEY-----",
    "account numbers": "DE89370400440532013001 ",
    "addresses": "a@b.c ",
    "telephones": "+49 170 1234567 ",
    "pseudonyms": "<secret:00000000000000001111> ",
    "pairs": '["password", "x1y2z3"], ',
    "fields": '{"name": "token", "value": ',
    "blocks": "password: |\n  x\n",
    "parts of forms": 'name="password"\r\n\r\n',
    "sentences": "the password is ",
    "objects": '{"credentials":{',
    "ends of keys": "\n-----END PRIVATE KEY-----",
    "lines before an end": "AAAABBBBCCCCDDDD\n-----END PRIVATE KEY-----",
    "quoted keys": '> -----BEGIN PRIVATE KEY-----\n> "',
    "web keys": '"d":"AAAABBBBCCCCDDDDEEEEFF',
    "JSON in Base64": "-eyJwYXNzd29yZCI",
    "commands": "curl -u a:b ",
    "errors": "[type=x, input_value='",
    "errors with names": "password\n too short [type=x, input_value='",
    "signatures": "?sig=AAAABBBB",
    "escapes": "\\u0041",
    "signs of no width": "a\u200b",
    "masked keys": "sk-***",
    "prose": "the quick brown fox jumps over the lazy dog. ",
}


def rows_of(count: int, note: str) -> list[dict[str, Any]]:
    """Tool calls whose results also hold the note, at the same size."""
    rng = random.Random(7)
    rows = [tool_call_fields(rng, step) for step in range(count)]
    for row in rows:
        value = json.loads(row["result"])
        value["note"] = value["note"][: len(value["note"]) - len(note)] + note
        row["result"] = json.dumps(value)
    return rows


def quantiles(recorder: Recorder, rows: list[dict[str, Any]]) -> tuple[float, float]:
    """p50 and p99 of one emit, microseconds."""
    events = [ToolCall(run_id="r" * 36, seq=n, at=n, **row) for n, row in enumerate(rows)]
    taken: list[int] = []
    for event in events:
        start = time.perf_counter_ns()
        recorder.emit(event)
        taken.append(time.perf_counter_ns() - start)
    taken.sort()
    return taken[len(taken) // 2] / 1e3, taken[len(taken) * 99 // 100] / 1e3


def callers(folder: Path, count: int, repeat: int) -> bool:
    clean = rows_of(count, "")
    secrets = rows_of(
        count, " 4539578763621486 password=hunter2 sk-ant-api03-abcdefghijklmnopqrstuvwx"
    )
    full, redacted = Redaction(capture=Capture.FULL), Redaction(environment=False)
    cases = {
        "clean, everything recorded": (full, clean),
        "clean, redacted": (redacted, clean),
        "3 secrets, redacted": (redacted, secrets),
    }
    recorders = {
        name: Recorder(folder / str(number), redaction=policy, seal_on_close=False)
        for number, (name, (policy, _)) in enumerate(cases.items())
    }
    best: dict[str, list[tuple[float, float]]] = {name: [] for name in cases}
    for _ in range(repeat):
        for name, (_, rows) in cases.items():
            best[name].append(quantiles(recorders[name], rows))
    for recorder in recorders.values():
        recorder.close()
    middle = {name: sorted(values)[len(values) // 2] for name, values in best.items()}
    lines = [(name, f"{p50:.1f}", f"{p99:.1f}") for name, (p50, p99) in middle.items()]
    print(f"one event of about 1 KB, median of {repeat} rounds of {count}\n")
    print(table(lines, header=("case", "p50 us", "p99 us")))
    return middle["clean, redacted"][0] <= GOAL_US


def hostile(size: int, repeat: int) -> bool:
    policy = Redaction(emails=True, phones=True, environment=False)
    redactor = Redactor(policy, Pseudonyms(b"a key for the benchmark"))
    lines, slowest = [], 0.0
    for name, part in HOSTILE.items():
        content = (part * (size // len(part) + 1))[:size]
        taken, came = [], ""
        for _ in range(repeat):
            start = time.process_time()
            try:
                came = f"{redactor.text(content, redactor.work(size)).values} replaced"
            except SlowError:
                came = "withheld"
            taken.append(time.process_time() - start)
        taken.sort()
        slowest = max(slowest, taken[len(taken) // 2])
        lines.append((name, f"{taken[len(taken) // 2] * 1e3:.1f}", came))
    print(f"\n{size / 1e6:.1f} MB of text, processor time, median of {repeat}\n")
    print(table(lines, header=("text", "ms", "came to")))
    return slowest * 1e3 <= GOAL_MS


def peer(repeat: int) -> None:
    """detect-secrets, line by line over 40 KB of prose."""
    scan: Callable[[str], Any]
    try:
        from detect_secrets.core.scan import scan_line as scan
        from detect_secrets.settings import default_settings
    except ImportError as error:
        print(f"\nskipped: detect-secrets ({error})")
        return
    rng = random.Random(3)
    content = [text(rng, 400) for _ in range(100)]
    redactor = Redactor(Redaction(environment=False), Pseudonyms(b"a key for the benchmark"))
    with default_settings():
        start = time.process_time()
        for line in content:
            list(scan(line))
        theirs = time.process_time() - start
    start = time.process_time()
    for _ in range(repeat):
        for line in content:
            redactor.clean(line)
    ours = (time.process_time() - start) / repeat
    print(f"\n40 KB of prose: detect-secrets {theirs * 1e3:.1f} ms, flightlog {ours * 1e3:.2f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=2_000, help="per round")
    parser.add_argument("--repeat", type=int, default=9, help="rounds")
    parser.add_argument("--size", type=int, default=1_000_000, help="bytes of hostile text")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        is_quick = callers(Path(name), options.events, options.repeat)
    is_linear = hostile(options.size, min(3, options.repeat))
    peer(options.repeat)
    print(f"\ngoal p50 <= {GOAL_US:.0f} us redacted: {'held' if is_quick else 'MISSED'}")
    print(f"goal <= {GOAL_MS:.0f} ms for each text: {'held' if is_linear else 'MISSED'}")


if __name__ == "__main__":
    main()
