"""Runs that are sent as spans when they end."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import flightlog
from flightlog.analysis.db import Traces
from flightlog.errors import UsageError
from flightlog.integrations.otlp.live import LiveExport
from flightlog.testing import ScriptedModel, asking, saying
from tests.unit.integrations.otlp.serving import collecting

SECRET = "sk-test-0123456789abcdefghijklmnop"


@flightlog.tool(effect="read")
def get_order(order_id: str) -> str:
    """Looks an order up."""
    return f"{order_id} is shipped, key {SECRET}"


def run_once(sink: Any, task: str = "t1") -> str:
    model = ScriptedModel(
        "model-a", [asking(("get_order", {"order_id": "A1"})), saying("It is shipped.")]
    )
    agent = flightlog.Agent("desk", model, [get_order])
    result = flightlog.run(agent, flightlog.Task(task, "Where is A1?"), sink=sink)
    result.writer.evaluation(name="success", passed=True)
    return result.run_id


@contextmanager
def endpoint(*statuses: int) -> Iterator[tuple[str, list[tuple[dict[str, str], Any]]]]:
    """It answers with these statuses, then 200, and keeps what it took."""
    left, taken = list(statuses), []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            raw = gzip.decompress(self.rfile.read(int(self.headers["content-length"])))
            status = left.pop(0) if left else 200
            if status == 200:
                named = {name.lower(): value for name, value in self.headers.items()}
                taken.append((named, json.loads(raw)))
            self.send_response(status)
            self.send_header("retry-after", "0")
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", taken
        finally:
            server.shutdown()
            thread.join()


def rows(store: Path, columns: str = "*") -> Sequence[dict[str, Any]]:
    with Traces(store) as traces:
        return traces.rows(f"SELECT {columns} FROM events WHERE run_id <> '' ORDER BY run_id, seq")


def test_what_a_collector_gets_is_what_was_recorded(tmp_path: Path) -> None:
    mine, theirs = tmp_path / "mine", tmp_path / "theirs"
    with collecting(theirs) as collector:
        with (
            flightlog.Recorder(mine) as recorder,
            LiveExport(recorder, collector.url, interval_s=0.2) as sink,
        ):
            for task in ("t1", "t2", "t3"):
                run_once(sink, task)
        assert (sink.counts.sent, sink.counts.left_out) == (3, 0)
        collector.end()
    kept = "run_id, seq, kind"
    assert rows(theirs, kept) == rows(mine, kept)
    with Traces(theirs) as traces:
        found = traces.rows("SELECT task_id, stop_reason, success FROM runs ORDER BY task_id")
    assert [one["task_id"] for one in found] == ["t1", "t2", "t3"]
    assert all(one["success"] for one in found)


def test_a_secret_that_the_recorder_took_out_is_not_sent(tmp_path: Path) -> None:
    with endpoint() as (url, taken):
        with flightlog.Recorder(tmp_path) as recorder, LiveExport(recorder, url) as sink:
            run_once(sink)
        [(_, body)] = taken
    assert SECRET not in json.dumps(body)
    assert "is shipped" in json.dumps(body)


@pytest.mark.parametrize("statuses", [(503,), (429, 502)], ids=str)
def test_an_endpoint_that_is_busy_is_asked_again(statuses: tuple[int, ...], tmp_path: Path) -> None:
    with endpoint(*statuses) as (url, taken):
        with (
            flightlog.Recorder(tmp_path) as recorder,
            LiveExport(recorder, url, interval_s=0) as sink,
        ):
            run_once(sink)
        assert (sink.counts.sent, len(taken)) == (1, 1)


@pytest.mark.parametrize("status", [400, 401, 413])
def test_a_refused_run_is_left_out_and_counted_and_is_in_the_store(
    status: int, tmp_path: Path
) -> None:
    with endpoint(status) as (url, taken):
        with (
            flightlog.Recorder(tmp_path) as recorder,
            LiveExport(recorder, url, interval_s=0) as sink,
        ):
            run_id = run_once(sink)
        assert (sink.counts.sent, sink.counts.left_out, taken) == (0, 1, [])
    assert sink.last_error == f"run {run_id}: the endpoint answers HTTP {status}"
    assert {one["run_id"] for one in rows(tmp_path)} == {run_id}


def test_an_endpoint_that_is_gone_holds_up_nothing(tmp_path: Path) -> None:
    with flightlog.Recorder(tmp_path) as recorder:
        sink = LiveExport(recorder, "http://127.0.0.1:9", interval_s=0)
        run_once(sink)
        sink.close(timeout_s=0.2)
    assert (sink.counts.sent, sink.counts.left_out) == (0, 1)
    assert "cannot be reached" in (sink.last_error or "")


def test_the_variables_of_opentelemetry_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with endpoint() as (url, taken):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20abc,x-team=desk")
        with flightlog.Recorder(tmp_path) as recorder, LiveExport(recorder) as sink:
            run_once(sink)
        [(headers, _)] = taken
    assert (headers["authorization"], headers["x-team"]) == ("Bearer abc", "desk")


@pytest.mark.parametrize("url", [None, "localhost:4317", "grpc://host", "file:///etc/passwd"])
def test_no_endpoint_is_an_error_that_says_what_to_set(
    url: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", raising=False)
    with flightlog.Recorder(tmp_path) as recorder, pytest.raises(UsageError) as error:
        LiveExport(recorder, url)
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" in str(error.value)
