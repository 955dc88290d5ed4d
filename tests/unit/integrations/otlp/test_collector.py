"""A collector keeps what it acknowledges, records each span once, and bounds what it takes."""

from __future__ import annotations

import gzip
import http.client
import os
import random
import socket
import sqlite3
import subprocess
import sys
import threading
import zlib
from pathlib import Path
from typing import Any

import pytest

from flightlog.analysis.db import Traces
from flightlog.cli import run
from flightlog.errors import StoreError
from tests.torture.size import SEED, sized
from tests.unit.integrations.otlp.made_spans import agent_spans, export_request
from tests.unit.integrations.otlp.serving import Running, collecting, eventually, post

FAST = ("--grace", "0.1", "--idle", "1")
SECRET = "sk-proj-" + "a1B2c3D4" * 6


def trace_id(number: int) -> str:
    return f"{number:032x}"


def rows(store: Path, query: str) -> list[dict[str, Any]]:
    with Traces(store) as traces:
        return traces.rows(query)


def runs_in(store: Path) -> list[dict[str, Any]]:
    """The runs that are recorded to their end."""
    return rows(store, "SELECT * FROM runs WHERE status <> 'running' ORDER BY source_run_id")


def test_what_an_exporter_sends_is_a_run(tmp_path: Path) -> None:
    store = tmp_path / "store"
    with collecting(store, *FAST) as collector:
        answer = post(collector.url, export_request(agent_spans(trace_id(1), "R1")))
        assert (answer.status, answer.json) == (200, {})
        [found] = eventually(lambda: runs_in(store))
        assert (found["agent"], found["stop_reason"], found["tool_calls"]) == ("desk", "ok", 1)
        assert "4 spans kept, 1 runs and 5 events recorded" in collector.end()
    assert collector.process.returncode == 0


@pytest.mark.parametrize("form", ["protobuf", "protobuf, gzip", "json"])
def test_the_sdk_s_own_exporters_are_understood(tmp_path: Path, form: str) -> None:
    store = tmp_path / "store"
    program = """
import sys
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
packing = Compression.Gzip if sys.argv[2] == "gzip" else Compression.NoCompression
provider = TracerProvider()
exporter = OTLPSpanExporter(sys.argv[1] + "/v1/traces", compression=packing)
provider.add_span_processor(BatchSpanProcessor(exporter))
tracer = provider.get_tracer("made")
operation = "gen_ai.operation.name"
with tracer.start_as_current_span("a", attributes={operation: "invoke_agent"}):
    chat = {operation: "chat", "gen_ai.request.model": "m", "gen_ai.usage.input_tokens": 5}
    with tracer.start_as_current_span("chat m", attributes=chat):
        pass
    try:
        tool = {operation: "execute_tool", "gen_ai.tool.name": "t"}
        with tracer.start_as_current_span("execute_tool t", attributes=tool):
            raise ValueError("no such order")
    except ValueError:
        pass
provider.shutdown()
"""
    with collecting(store, *FAST) as collector:
        if form == "json":
            assert post(collector.url, export_request(agent_spans(trace_id(1), "R"))).status == 200
        else:
            packing = "gzip" if "gzip" in form else "none"
            command = [sys.executable, "-c", program, collector.url, packing]
            subprocess.run(command, check=True, timeout=60)
        [found] = eventually(lambda: runs_in(store))
    assert (found["tool_calls"], found["status"]) == (1, "completed")
    if form != "json":
        [call] = rows(store, "SELECT outcome, error, error_type FROM tool_calls")
        assert call == {
            "outcome": "failed",
            "error": "ValueError: no such order",
            "error_type": "ValueError",
        }


def test_spans_that_come_twice_count_once(tmp_path: Path) -> None:
    store, request = tmp_path / "store", export_request(agent_spans(trace_id(1), "R1"))
    with collecting(store, *FAST) as collector:
        for _ in range(3):
            assert post(collector.url, request).status == 200
        eventually(lambda: runs_in(store))
        assert post(collector.url, request).status == 200
        collector.end()
    with collecting(store, *FAST) as collector:
        assert post(collector.url, request).status == 200
        assert "0 runs and 0 events" in collector.end()
    assert rows(store, "SELECT count(*) AS n FROM events") == [{"n": 5}]


def test_a_span_that_comes_late_is_added_to_its_run(tmp_path: Path) -> None:
    store, spans = tmp_path / "store", agent_spans(trace_id(1), "R1")
    with collecting(store, *FAST) as collector:
        post(collector.url, export_request([spans[0], spans[3]]))
        eventually(lambda: runs_in(store))
        post(collector.url, export_request(spans[1:3]))
        [found] = eventually(
            lambda: [one for one in runs_in(store) if one["model_calls"] == 2 and one["tool_calls"]]
        )
    assert found["steps"] == 2
    order = rows(store, "SELECT kind, seq, step FROM events ORDER BY seq")
    assert [(row["kind"], row["step"]) for row in order] == [
        ("run_started", None), ("model_call", 1), ("run_stopped", None), ("tool_call", 1),
        ("model_call", 2),
    ]  # fmt: skip


def test_a_trace_whose_top_never_comes_is_recorded_after_a_while(tmp_path: Path) -> None:
    store, spans = tmp_path / "store", agent_spans(trace_id(1), "R1")
    with collecting(store, *FAST) as collector:
        post(collector.url, export_request(spans[:3]))
        [found] = eventually(lambda: runs_in(store))
        assert (found["stop_reason"], found["model_calls"]) == (None, 2)
        post(collector.url, export_request(spans[3:]))
        eventually(lambda: runs_in(store)[0]["stop_reason"] == "ok")


def test_what_was_acknowledged_survives_sigkill_and_is_recorded_once(tmp_path: Path) -> None:
    """SIZE=full kills 100 times; half of the spans come in a second request, in any order."""
    store, rng, sent = tmp_path / "store", random.Random(SEED), 0
    for _ in range(sized(6, 100)):
        with collecting(store, "--grace", "0", "--idle", "600") as collector:
            timer = threading.Timer(rng.uniform(0.05, 0.6), collector.kill)
            timer.start()
            sent = _send_until_it_dies(collector, rng, sent)
            timer.join()
    with collecting(store, "--grace", "0", "--idle", "0") as collector:
        eventually(lambda: len(runs_in(store)) >= sent)
        collector.end()
    [found] = rows(
        store,
        "SELECT count(DISTINCT run_id) AS runs, count(*) AS events, "
        "count(DISTINCT (run_id, seq)) AS numbered FROM events WHERE run_id <> '' "
        "AND kind <> 'run_stopped'",
    )
    assert found["runs"] >= sent
    assert found["events"] == found["numbered"]
    whole = rows(store, "SELECT source_run_id, model_calls, tool_calls FROM runs")
    acknowledged = {f"{trace_id(number)}/{1:016x}" for number in range(1, sent + 1)}
    assert {row["source_run_id"] for row in whole} >= acknowledged
    for row in whole:
        if row["source_run_id"] in acknowledged:
            assert (row["model_calls"], row["tool_calls"]) == (2, 1)
    assert run(["verify", "--store", str(store)]) == 0
    print(f"collector: {sized(6, 100)} kills, {sent} traces acknowledged, all recorded once")


def _send_until_it_dies(collector: Running, rng: random.Random, sent: int) -> int:
    """Sends traces in two parts; a trace counts once both were acknowledged."""
    while True:
        spans = agent_spans(trace_id(sent + 1), f"R{sent + 1}")
        rng.shuffle(spans)
        for part in (spans[:2], spans[2:]):
            try:
                if post(collector.url, export_request(part)).status != 200:
                    return sent
            except (OSError, http.client.HTTPException):  # killed in the middle of an answer
                return sent
        sent += 1


def test_secrets_are_taken_out_before_anything_lies_on_the_disk(tmp_path: Path) -> None:
    store = tmp_path / "store"
    with collecting(store, "--grace", "600", "--idle", "600") as collector:
        post(
            collector.url,
            export_request(agent_spans(trace_id(1), SECRET)),
            authorization=f"Bearer {SECRET}",
        )
        collector.kill()
    texts = b"".join(file.read_bytes() for file in store.rglob("*") if file.is_file())
    assert SECRET.encode() not in texts
    assert b"<openai_key:" in texts


@pytest.mark.parametrize(
    ("body", "headers", "status", "why"),
    [
        (b"{", {}, 400, "the JSON ends too early"),
        (b"\xff\xff\xff", {"content_type": "application/x-protobuf"}, 400, "protobuf"),
        (b"<xml/>", {"content_type": "text/xml"}, 415, "application/json"),
        (b"\x1f\x8b garbage", {"content_encoding": "gzip"}, 400, "not gzip"),
        (gzip.compress(b"{}" * 500, mtime=0)[:-9], {"content_encoding": "gzip"}, 400, "too early"),
        (b"{}", {"content_encoding": "br"}, 415, "gzip"),
        (b" " * (1 << 21), {}, 413, "is the most"),
        (gzip.compress(b" " * (1 << 26), mtime=0), {"content_encoding": "gzip"}, 413, "unpacked"),
        (zlib.compress(b"[" * (1 << 19)), {"content_encoding": "deflate"}, 400, "shape"),
    ],
    ids=["cut", "no protobuf", "xml", "no gzip", "cut gzip", "brotli", "large", "bomb", "deep"],
)
def test_a_bad_request_is_refused_by_name(
    small: Running, body: bytes, headers: dict[str, str], status: int, why: str
) -> None:
    answer = post(small.url, body, **headers)
    assert answer.status == status
    assert why in answer.json["message"]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A collector that takes requests of 1 MiB."""
    store = tmp_path_factory.mktemp("small") / "store"
    with collecting(store, *FAST, "--max-request-mb", "1") as collector:
        yield collector


def test_spans_without_ids_are_refused_and_the_others_are_kept(small: Running) -> None:
    spans = agent_spans(trace_id(7), "R7")
    bad = [{**spans[0], "traceId": "00" * 16}, {**spans[1], "spanId": "xyz"}]
    answer = post(small.url, export_request([*bad, *spans[2:]]))
    assert answer.status == 200
    assert answer.json["partialSuccess"]["rejectedSpans"] == "2"
    assert "no valid trace id" in answer.json["partialSuccess"]["errorMessage"]


def test_attributes_of_ten_megabytes_are_kept(tmp_path: Path) -> None:
    store, long = tmp_path / "store", "x" * 10_000_000
    _, call, _, top = agent_spans(trace_id(1), "R1")
    call["attributes"][-1]["value"] = {"stringValue": long}
    with collecting(store, *FAST) as collector:
        assert post(collector.url, export_request([call, top])).status == 200
        eventually(lambda: runs_in(store))
    [found] = rows(store, "SELECT result_bytes, result_blob FROM tool_calls")
    assert found["result_bytes"] == len(long)
    with Traces(store) as traces:
        assert traces.blob(str(store), found["result_blob"]) == long


def test_a_sender_that_goes_away_in_the_middle_changes_nothing(small: Running) -> None:
    host, port = small.url.removeprefix("http://").split(":")
    for _ in range(20):
        with socket.create_connection((host, int(port))) as half:
            half.sendall(
                b"POST /v1/traces HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
                b"Content-Length: 100000\r\n\r\n" + b'{"resourceSpans": ['
            )
    assert post(small.url, export_request(agent_spans(trace_id(8), "R8"))).status == 200


def test_who_has_no_token_is_refused(tmp_path: Path) -> None:
    request = export_request(agent_spans(trace_id(1), "R1"))
    env = {**os.environ, "FLIGHTLOG_COLLECT_TOKEN": "right"}
    with collecting(tmp_path / "store", *FAST, env=env) as collector:
        assert post(collector.url, request).status == 401
        assert post(collector.url, request, authorization="Bearer wrong").status == 401
        assert post(collector.url, request, authorization="Bearer right").status == 200


def test_a_page_in_a_browser_cannot_send(small: Running) -> None:
    answer = post(small.url, export_request(agent_spans(trace_id(9), "R9")), host="evil.example")
    assert answer.status == 403


def test_other_machines_need_a_token(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["collect", "--store", str(tmp_path / "s"), "--host", "0.0.0.0", "--port", "0"]
    assert run(command) == 64
    assert "FLIGHTLOG_COLLECT_TOKEN" in capsys.readouterr().err


def test_one_process_collects_into_a_store(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "store"
    with collecting(store, *FAST):
        assert run(["collect", "--store", str(store), "--port", "0"]) == 64
        assert "another process collects into this store" in capsys.readouterr().err


def test_a_slow_disk_makes_senders_wait_and_loses_nothing(tmp_path: Path) -> None:
    store = tmp_path / "store"
    options = ("--max-request-mb", "2", "--max-waiting-mb", "4")
    with collecting(store, *FAST, *options) as collector:
        answers: dict[int, Any] = {}

        def send(number: int) -> None:
            spans = agent_spans(trace_id(number), "x" * 300_000)
            answers[number] = post(collector.url, export_request(spans))

        blocking = sqlite3.connect(store / "inbox" / "spans.sqlite", isolation_level=None)
        blocking.execute("BEGIN IMMEDIATE")  # what a disk does that does not answer
        threads = [threading.Thread(target=send, args=(number,)) for number in range(1, 13)]
        for thread in threads:
            thread.start()
        eventually(lambda: sum(answer.status == 429 for answer in answers.values()) >= 4)
        blocking.execute("ROLLBACK")
        blocking.close()
        for thread in threads:
            thread.join()
        told = [answer for answer in answers.values() if answer.status == 429]
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in told)
        kept = [number for number, answer in answers.items() if answer.status == 200]
        assert len(kept) + len(told) == 12
        assert kept
        eventually(lambda: len(runs_in(store)) == len(kept))


def test_more_spans_than_are_allowed_wait(tmp_path: Path) -> None:
    with collecting(tmp_path / "store", *FAST, "--max-spans-per-second", "4") as collector:
        found = [
            post(collector.url, export_request(agent_spans(trace_id(n), "R"))) for n in range(1, 6)
        ]
    assert found[0].status == 200
    assert {answer.status for answer in found[1:]} <= {200, 429}
    late = [answer for answer in found if answer.status == 429]
    assert late
    assert int(late[0].headers["retry-after"]) >= 1


def test_an_inbox_that_is_no_longer_one_is_named(tmp_path: Path) -> None:
    from flightlog.integrations.otlp.collector import Collector

    store = tmp_path / "store"
    Collector(store).close()
    (store / "inbox" / "spans.sqlite").write_bytes(b"no database at all" * 500)
    with pytest.raises(StoreError, match="inbox is damaged"):
        Collector(store)


def test_metrics_and_logs_are_refused_with_what_is_taken(small: Running) -> None:
    answer = post(small.url + "/v1/metrics?", {})
    assert answer.status == 404
