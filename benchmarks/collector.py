"""A collector on one core: spans acknowledged and recorded per second, and none lost.

Real processes: `flightlog collect` on one core, a sender on another, batches of 512 spans as
protobuf, gzipped, as the OpenTelemetry SDK sends them. Each run is an agent span with six
model calls and six tool calls, prompts and results in them. Baseline: a server of the standard
library that only parses the same requests.

    python benchmarks/collector.py
    python benchmarks/collector.py --spans 130000 --json
"""

from __future__ import annotations

import argparse
import gzip
import http.client
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from _timing import table

from flightlog.analysis.db import Traces

BATCH = 512
CALLS = 6
SINK = """
import gzip, os, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        raw = gzip.decompress(self.rfile.read(int(self.headers["content-length"])))
        ExportTraceServiceRequest.FromString(raw)
        self.send_response(200); self.send_header("content-length", "0"); self.end_headers()
    def log_message(self, *_): pass
server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
server.serve_forever()
"""


def requests_of(spans: int) -> list[bytes]:
    """Export requests of 512 spans, packed; the spans of a run lie in one or two of them."""
    from google.protobuf.json_format import ParseDict
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
    from opentelemetry.proto.trace.v1.trace_pb2 import Span

    made: list[Any] = []
    number = 0
    while len(made) < spans:
        number += 1
        made += [ParseDict(one, Span()) for one in _run(number)]
    packed = []
    for first in range(0, spans, BATCH):
        request = ExportTraceServiceRequest()
        scoped = request.resource_spans.add().scope_spans.add()
        scoped.spans.extend(made[first : min(first + BATCH, spans)])
        packed.append(gzip.compress(request.SerializeToString(), 3))
    return packed


def _run(number: int) -> list[dict[str, Any]]:
    import base64

    def code(value: int, size: int) -> str:
        return base64.b64encode(value.to_bytes(size, "big")).decode()

    trace, start = code(number, 16), 1_780_000_000_000_000_000 + number * 1_000_000
    spans = []
    for call in range(CALLS):
        prompt = [_message("user", f"Where is order {number}? {'Please. ' * 20}")] * (call + 1)
        shared = {"traceId": trace, "parentSpanId": code(number * 100, 8), "kind": 3}
        begin = start + call * 10_000_000
        times = {"startTimeUnixNano": str(begin), "endTimeUnixNano": str(begin + 4_000_000)}
        spans.append({
            **shared, **times, "spanId": code(number * 100 + 2 * call + 1, 8), "name": "chat m",
            "attributes": _pairs({
                "gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai",
                "gen_ai.request.model": "gpt-4o", "gen_ai.response.model": "gpt-4o-2024-08-06",
                "gen_ai.response.id": f"resp-{number}-{call}", "gen_ai.usage.input_tokens": 900,
                "gen_ai.usage.output_tokens": 60, "gen_ai.usage.cache_read.input_tokens": 512,
                "server.address": "api.openai.com", "server.port": 443,
                "gen_ai.input.messages": json.dumps(prompt),
                "gen_ai.output.messages": json.dumps([_message("assistant", "I look it up.")]),
            }),
        })  # fmt: skip
        spans.append({
            **shared, **times, "spanId": code(number * 100 + 2 * call + 2, 8),
            "name": "execute_tool get_order",
            "attributes": _pairs({
                "gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "get_order",
                "gen_ai.tool.call.id": f"c{call}", "gen_ai.tool.type": "function",
                "gen_ai.tool.call.arguments": json.dumps({"id": number, "page": call}),
                "gen_ai.tool.call.result": json.dumps({"state": "shipped", "page": call}),
            }),
        })  # fmt: skip
    spans.append({
        "traceId": trace, "spanId": code(number * 100, 8), "name": "invoke_agent desk",
        "startTimeUnixNano": str(start), "endTimeUnixNano": str(start + 90_000_000),
        "attributes": _pairs({
            "gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "desk",
        }),
    })  # fmt: skip
    return spans


def _message(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "parts": [{"type": "text", "content": text}]}


def _pairs(values: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "key": key,
            "value": {"intValue": str(one)} if isinstance(one, int) else {"stringValue": one},
        }
        for key, one in values.items()
    ]


def sent(url: str, packed: list[bytes]) -> float:
    """Seconds until all requests were acknowledged, over four connections in turn."""
    host = url.removeprefix("http://")
    connections = [http.client.HTTPConnection(host, timeout=120) for _ in range(4)]
    headers = {"content-type": "application/x-protobuf", "content-encoding": "gzip"}
    begun = time.perf_counter()
    waiting: list[http.client.HTTPConnection] = []
    for raw in packed:
        if len(waiting) == len(connections):
            _finish(waiting.pop(0))
        free = next(one for one in connections if one not in waiting)
        free.request("POST", "/v1/traces", raw, headers)
        waiting.append(free)
    for one in waiting:
        _finish(one)
    return time.perf_counter() - begun


def _finish(connection: http.client.HTTPConnection) -> None:
    answer = connection.getresponse()
    answer.read()
    assert answer.status == 200, answer.status


def collected(folder: Path, packed: list[bytes], spans: int) -> dict[str, float]:
    """Spans per second acknowledged and recorded by a collector on core 0, and its memory."""
    store = folder / "store"
    command = [sys.executable, "-m", "flightlog", "collect", "--store", str(store), "--port", "0"]
    with _on_core_0([*command, "--grace", "0.5", "--idle", "5"]) as process:
        url = _url(process)
        begun = time.perf_counter()
        acknowledged = sent(url, packed)
        while _health(url)["spans_waiting"]:
            time.sleep(0.1)
        recorded = time.perf_counter() - begun
        memory = _peak_mb(process.pid)
        process.terminate()
        process.wait()
    with Traces(store) as traces:
        [found] = traces.rows(
            "SELECT count(*) FILTER (kind IN ('model_call', 'tool_call')) AS calls, "
            "count(*) FILTER (kind = 'run_started') AS runs FROM events"
        )
    lost = spans - found["calls"] - found["runs"]
    return {"ack": acknowledged, "all": recorded, "mb": memory, "lost": lost}


def parsed_only(packed: list[bytes]) -> float:
    """Seconds that a server needs that only parses."""
    with _on_core_0([sys.executable, "-c", SINK]) as process:
        seconds = sent(_url(process), packed)
        process.kill()
    return seconds


def _on_core_0(command: list[str]) -> subprocess.Popen[str]:
    pinned = ["taskset", "--cpu-list", "0", *command]
    return subprocess.Popen(pinned, stdout=subprocess.PIPE, text=True)


def _url(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    found = re.search(r"http://\S+", process.stdout.readline())
    assert found
    return found[0]


def _health(url: str) -> dict[str, Any]:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=60)
    connection.request("GET", "/healthz")
    found: dict[str, Any] = json.loads(connection.getresponse().read())
    return found


def _peak_mb(pid: int) -> float:
    text = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+)", text)
    return int(found[1]) / 1024 if found else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--spans", type=int, default=39_000)
    parser.add_argument("--repeat", type=int, default=3)
    chosen = parser.parse_args()
    os.sched_setaffinity(0, {1})
    packed = requests_of(chosen.spans)
    found = []
    for _ in range(chosen.repeat):
        with tempfile.TemporaryDirectory() as made:
            found.append({**collected(Path(made), packed, chosen.spans),
                          "sink": parsed_only(packed)})  # fmt: skip
    middle = {name: statistics.median(one[name] for one in found) for name in found[0]}
    spans = chosen.spans
    size = sum(map(len, packed)) / 1e6
    print(f"{spans:,} spans in {len(packed)} requests of {size:.1f} MB in all, packed")
    rows = [
        ("acknowledged: kept, synced", f"{spans / middle['ack']:,.0f}"),
        ("recorded: runs in the journal", f"{spans / middle['all']:,.0f}"),
        ("a server that only parses", f"{spans / middle['sink']:,.0f}"),
    ]
    print(table(rows, header=("on one core", "spans/s")))
    lost = max(one["lost"] for one in found)
    print(f"lost {lost:,.0f} of {spans * len(found):,}; peak memory {middle['mb']:,.0f} MB")


if __name__ == "__main__":
    main()
