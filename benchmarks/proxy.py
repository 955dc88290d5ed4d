"""What the proxy adds to a model call: p50 and p99, and with 200 answers in pieces at a time.

Real processes: an upstream that answers at once (plain) or in 40 pieces over two seconds (in
pieces, 200 begun within a second and all open at a time), `flightlog proxy`, and a client here;
all share the machine. Baseline: the same client straight at the same upstream, in alternating
rounds of the same run. Each conversation sends its whole history of tool calls again, as agents
do.

    python benchmarks/proxy.py
    python benchmarks/proxy.py --calls 2000 --streams 200 --json
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from _timing import table

from flightlog.analysis.db import Traces

PIECES = 40
UPSTREAM = """
import asyncio, json, socket, sys
import uvicorn
CALL = {"index": 0, "id": "c1", "type": "function",
        "function": {"name": "get_order", "arguments": '{"order_id": "A1"}'}}
def body(call):
    return {"id": "r", "object": "chat.completion", "created": 1, "model": "m-1",
        "choices": [{"index": 0, "finish_reason": "tool_calls",
                     "message": {"role": "assistant", "content": None, "tool_calls": [call]}}],
        "usage": {"prompt_tokens": 900, "completion_tokens": 20, "total_tokens": 920}}
def piece(delta, finish=None):
    told = {"id": "r", "object": "chat.completion.chunk", "created": 1, "model": "m-1",
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
    return b"data: " + json.dumps(told).encode() + b"\\n\\n"
async def app(scope, receive, send):
    raw = b""
    while True:
        got = await receive()
        raw += got.get("body", b"")
        if not got.get("more_body"):
            break
    asked = json.loads(raw)
    streamed = asked.get("stream")
    kind = b"text/event-stream" if streamed else b"application/json"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
    if not streamed:
        call = CALL | {"id": f"c{len(asked['messages'])}"}
        await send({"type": "http.response.body", "body": json.dumps(body(call)).encode()})
        return
    for _ in range(PIECES):
        told = {"body": piece({"content": "word "}), "more_body": True}
        await send({"type": "http.response.body"} | told)
        await asyncio.sleep(2 / PIECES)
    end = piece({}, "stop") + b"data: [DONE]\\n\\n"
    await send({"type": "http.response.body", "body": end})
listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
listening.bind(("127.0.0.1", 0))
listening.listen(512)
print(f"http://127.0.0.1:{listening.getsockname()[1]}", flush=True)
config = uvicorn.Config(app, log_level="critical", lifespan="off")
uvicorn.Server(config).run(sockets=[listening])
""".replace("PIECES", str(PIECES))


def started(command: list[str]) -> tuple[subprocess.Popen[str], str]:
    """A process, and the address that it tells."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said = process.stdout.readline()
    found = re.search(r"http://[^\s/]+", said)
    assert found, said
    return process, found[0]


async def conversation(client: Any, url: str, number: int, steps: int) -> list[float]:
    """A conversation of so many steps; how long each took, in ms."""
    said: list[dict[str, Any]] = [
        {"role": "system", "content": "You are a desk. " * 60},
        {"role": "user", "content": f"Where is order {number}? " + "Please look. " * 20},
    ]
    took = []
    for _ in range(steps):
        raw = json.dumps({"model": "m", "messages": said}).encode()
        start = time.perf_counter()
        answer = await client.post(f"{url}/v1/chat/completions", content=raw)
        took.append((time.perf_counter() - start) * 1000)
        message = answer.json()["choices"][0]["message"]
        call = message["tool_calls"][0]
        result = json.dumps({"order": number, "status": "shipped", "note": "x" * 300})
        said += [message, {"role": "tool", "tool_call_id": call["id"], "content": result}]
    return took


async def stream(client: Any, url: str, number: int, wait_s: float) -> tuple[float, float]:
    """Until the first piece and until the end, in ms."""
    await asyncio.sleep(wait_s)
    body = {
        "model": "m",
        "stream": True,
        "messages": [{"role": "user", "content": f"Tell {number}."}],
    }
    start = time.perf_counter()
    first = 0.0
    path = f"{url}/v1/chat/completions"
    async with client.stream("POST", path, content=json.dumps(body).encode()) as answer:
        async for _ in answer.aiter_raw():
            first = first or (time.perf_counter() - start) * 1000
    return first, (time.perf_counter() - start) * 1000


async def measured(upstream: str, proxy: str, calls: int, streams: int) -> dict[str, Any]:
    """Rounds of both, one after the other."""
    import httpx2

    limits = httpx2.Limits(max_connections=None)
    plain: dict[str, list[float]] = {upstream: [], proxy: []}
    first: dict[str, list[float]] = {upstream: [], proxy: []}
    whole: dict[str, list[float]] = {upstream: [], proxy: []}
    async with httpx2.AsyncClient(timeout=60, limits=limits) as client:
        for url in plain:
            await conversation(client, url, -1, 10)
        number = 0
        while len(plain[proxy]) < calls:
            for url in plain:
                number += 1
                plain[url] += await conversation(client, url, number, 20)
        for round_ in range(3):
            for url in plain:
                asked = (stream(client, url, number + n, n / 200) for n in range(streams))
                done = await asyncio.gather(*asked)
                number += streams
                if round_:  # the first one makes the connections
                    first[url] += [one for one, _ in done]
                    whole[url] += [one for _, one in done]
    found: dict[str, Any] = {}
    for name, times in (("plain", plain), ("first piece", first), ("whole stream", whole)):
        found[name] = {
            "straight": percentiles(times[upstream]),
            "proxy": percentiles(times[proxy]),
        }
    found["calls"] = sum(len(one) for one in plain.values()) // 2 + 10
    found["streams"] = 3 * streams
    return found


def percentiles(times: list[float]) -> dict[str, float]:
    """In ms."""
    ranks = statistics.quantiles(times, n=100)
    return {"p50": statistics.median(times), "p99": ranks[98]}


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=1000)
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "store"
        upstream, at = started([sys.executable, "-c", UPSTREAM])
        command = [
            "-m",
            "flightlog",
            "proxy",
            "--upstream",
            at,
            "--store",
            str(store),
            "--port",
            "0",
        ]
        proxy, through = started([sys.executable, *command])
        try:
            found = asyncio.run(measured(at, through, given.calls, given.streams))
            status = Path(f"/proc/{proxy.pid}/status").read_text()
            peak = re.search(r"VmHWM:\s+(\d+)", status)
            found["peak_mib"] = int(peak[1]) // 1024 if peak else None
            proxy.send_signal(signal.SIGTERM)
            proxy.communicate(timeout=60)
        finally:
            for process in (proxy, upstream):
                process.kill()
                process.wait()
        with Traces(store) as traces:
            query = "SELECT count(*), count(*) FILTER (outcome = 'ok') FROM model_calls"
            [(found["recorded"], found["recorded_ok"])] = traces.sql(query).fetchall()
    assert found["recorded"] == found["calls"] + found["streams"], found
    if given.json:
        print(json.dumps(found))
        return
    rows: list[tuple[str, ...]] = []
    for name in ("plain", "first piece", "whole stream"):
        straight, over = found[name]["straight"], found[name]["proxy"]
        cells = [*(f"{one[p]:.1f}" for one in (straight, over) for p in ("p50", "p99"))]
        cells += [f"{over[p] - straight[p]:+.1f}" for p in ("p50", "p99")]
        rows.append((name, *cells))
    heads = ("ms", "straight p50", "p99", "proxy p50", "p99", "added p50", "p99")
    print(table(rows, header=heads))
    print(
        f"{given.streams} streams at a time; {found['recorded']:,} of "
        f"{found['calls'] + found['streams']:,} calls recorded, {found['recorded_ok']:,} ok; "
        f"peak {found['peak_mib']} MiB; {os.cpu_count()} cores"
    )


if __name__ == "__main__":
    main()
