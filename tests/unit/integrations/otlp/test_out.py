"""Runs as spans: what we export we read again unchanged, and others read by the names they know."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flightlog.analysis.db import Traces
from flightlog.cli import run
from flightlog.integrations.importers import Changes, import_files
from flightlog.recorder.recorder import Recorder
from flightlog.trace.events import Label
from flightlog.trace.messages import Message, ToolRequest
from flightlog.trace.run_writer import RunWriter
from tests.unit.integrations.otlp.made_spans import agent_spans, export_request, pairs
from tests.unit.integrations.otlp.serving import collecting, eventually, post

TABLES = ("events", "messages", "runs", "model_calls", "tool_calls", "steps", "budgets", "findings")
HOSTILE = ("\x00\x1b[2J", "=cmd|' /C calc'!A0", "<script>", "\u2028\u202e", "ünï", "NULL", '{"a":')
LONG = "a long result " * 3_000


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs with everything that events can say, and one that never ended."""
    path = tmp_path_factory.mktemp("out") / "store"
    with Recorder(path) as recorder:
        for run_id in ("r1", "r2"):
            writer = RunWriter.with_system_clock(recorder, run_id)
            write_run(writer, parent="r1" if run_id == "r2" else None)
        RunWriter.with_system_clock(recorder, "open").started(agent="desk")
    return path


def write_run(writer: RunWriter, parent: str | None) -> None:
    system = Message("system", "Be brief.")
    writer.started(
        messages=[system], system_digest=system.digest, agent="desk", agent_version="3", suite="s",
        task_id="t", trial=0, variant="v", tenant="acme", conversation_id="c", parent_run_id=parent,
        labels=(Label("k", "v"),), max_steps=5, max_usd=0.5,
    )  # fmt: skip
    prompt = [system, Message("user", f"hello {writer.run_id}")]
    for step, text in enumerate(HOSTILE, start=1):
        asks = Message(
            "assistant", None, (ToolRequest(f"c{step}", "get", json.dumps({"q": text})),)
        )
        writer.model_call(
            prompt=list(prompt), output=asks, step=step, request_model="m", response_model="m-1",
            provider="p", input_tokens=10, output_tokens=2, cost_usd=0.25, price_id="own",
            latency_ms=12.5, time_to_first_token_ms=3.0, finish_reason="tool_call", attempt=1,
        )  # fmt: skip
        prompt.append(asks)
        writer.tool_call(
            tool_name="get", step=step, call_ix=0, tool_call_id=f"c{step}", args={"q": text},
            result=LONG if step == 2 else text, effect="read", latency_ms=4.0, served_how="live",
        )  # fmt: skip
        prompt.append(Message("tool", text, tool_call_id=f"c{step}", name="get"))
    writer.tool_call(
        tool_name="refund", step=7, args={"id": 1}, outcome="approval_denied", effect="write",
        error="nobody is there",
    )  # fmt: skip
    writer.state_changed(subject="breaker", tool_name="get", state_from="closed", state_to="open")
    writer.model_call(
        step=8, request_model="m", outcome="failed", error="RateLimitError: slow down", attempt=2
    )
    writer.stopped(
        status="stopped", stop_reason="max_steps", stop_detail="too many", max_steps=5,
        used_steps=5, used_usd=0.25, answer="none",
    )  # fmt: skip
    writer.evaluation(name="success", passed=False, score=0.5, detail="Late.")


@pytest.fixture(scope="module")
def exported(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out") / "spans.jsonl"
    assert run(["export", "--store", str(store), "--format", "otlp", "--out", str(out)]) == 0
    return out


def check_same(first: Path, second: Path) -> None:
    """Both stores hold the same rows in every view."""
    with Traces(first) as traces, Traces(second) as others:
        for name in TABLES:
            mine = traces.table(name).drop_columns(["store"])
            theirs = others.table(name).drop_columns(["store"])
            assert mine.num_rows or name in ("budgets", "findings")
            for column in mine.column_names:
                assert mine[column].to_pylist() == theirs[column].to_pylist(), f"{name}.{column}"
        blobs = [row["result_blob"] for row in traces.rows("FROM events") if row["result_blob"]]
        assert [others.blob(str(second), blob) for blob in blobs] == [LONG] * len(blobs)
        assert blobs


def test_what_is_exported_is_imported_again_unchanged(
    store: Path, exported: Path, tmp_path: Path
) -> None:
    [report] = import_files("otlp", [exported], tmp_path / "again")
    assert report.runs == 3
    check_same(store, tmp_path / "again")


def test_a_collector_takes_it_unchanged_too(store: Path, exported: Path, tmp_path: Path) -> None:
    with collecting(tmp_path / "again", "--grace", "0", "--idle", "1") as collector:
        for line in exported.read_bytes().splitlines():
            assert post(collector.url, line).status == 200
            assert post(collector.url, line).status == 200
        counted = "SELECT count(*) AS n FROM events"

        def is_all() -> bool:
            with Traces(store) as traces, Traces(tmp_path / "again") as others:
                return traces.rows(counted) == others.rows(counted)

        eventually(is_all)
        collector.end()
    check_same(store, tmp_path / "again")


def test_importing_into_the_store_that_it_came_from_changes_nothing(
    store: Path, exported: Path
) -> None:
    [report] = import_files("otlp", [exported], store)
    assert (report.runs, report.events) == (0, 0)
    assert [(one.why, one.runs) for one in report.skipped] == [("already imported", 3)]


def test_what_the_caller_sets_holds_for_runs_of_ours_too(exported: Path, tmp_path: Path) -> None:
    changes = Changes(variant="old", labels={"from": "file"})
    import_files("otlp", [exported], tmp_path / "again", changes=changes)
    with Traces(tmp_path / "again") as traces:
        rows = traces.rows("SELECT DISTINCT variant, labels['from'] AS origin FROM runs")
    assert rows == [{"variant": "old", "origin": "file"}]


def test_others_find_the_names_of_the_convention(exported: Path, tmp_path: Path) -> None:
    """Without our own attributes the spans still tell of the same calls."""
    bare = tmp_path / "bare.jsonl"
    lines = [json.loads(line) for line in exported.read_text(encoding="utf-8").splitlines()]
    for line in lines:
        for span in line["resourceSpans"][0]["scopeSpans"][0]["spans"]:
            own = [one for one in span["attributes"] if not one["key"].startswith("flightlog.")]
            span["attributes"] = own
    bare.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    import_files("otlp", [bare], tmp_path / "bare")
    with Traces(tmp_path / "bare") as traces:
        runs = traces.rows("SELECT * FROM runs WHERE model_calls > 0 ORDER BY started_at")
        calls = traces.rows("SELECT * FROM tool_calls WHERE run_id = $id ORDER BY seq",
                            {"id": runs[0]["run_id"]})  # fmt: skip
        models = traces.rows("SELECT * FROM model_calls WHERE run_id = $id ORDER BY seq",
                             {"id": runs[0]["run_id"]})  # fmt: skip
        prompt = traces.prompt(runs[0]["run_id"], models[-2]["seq"])
        judged = traces.rows("FROM events WHERE kind = 'evaluation'")
    assert [(one["agent"], one["conversation_id"], one["success"]) for one in runs] == [
        ("desk", "c", False),
    ] * 2  # fmt: skip
    assert len(calls) == len(HOSTILE) + 1
    assert [call["result"] for call in calls[2:5]] == list(HOSTILE[2:5])
    assert (calls[-1]["outcome"], calls[-1]["error_type"]) == ("failed", "approval_denied")
    told = models[0]
    assert (told["provider"], told["request_model"], told["response_model"]) == ("p", "m", "m-1")
    assert (told["latency_ms"], told["time_to_first_token_ms"]) == (12.5, 3.0)
    assert (models[-1]["outcome"], models[-1]["attempt"]) == ("failed", 2)
    assert len(prompt) == 2 + 2 * (len(HOSTILE) - 1)
    assert {(one["name"], one["passed"], one["score"]) for one in judged} == {
        ("success", False, 0.5)
    }


def test_only_chosen_runs_are_exported(store: Path, tmp_path: Path) -> None:
    out = tmp_path / "spans.jsonl"
    command = ["export", "--store", str(store), "--format", "otlp", "--out", str(out)]
    assert run([*command, "--where", "parent_run_id=r1"]) == 0
    [line] = out.read_text(encoding="utf-8").splitlines()
    assert '"r2"' in line


@pytest.mark.parametrize(
    ("argv", "why"),
    [
        (["--out", "{out}"], "exists already"),
        (["--out", "{new}", "--table", "runs"], "spans are of whole runs"),
        (["--out", "{store}/spans.jsonl"], "is in the store"),
        (["--out", "{new}", "--where", "agent=nobody"], "nobody"),
    ],
)
def test_what_cannot_be_exported_says_why(
    store: Path,
    exported: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    argv: list[str],
    why: str,
) -> None:
    places = {"out": exported, "new": tmp_path / "new.jsonl", "store": store}
    filled = [part.format(**places) for part in argv]
    assert run(["export", "--store", str(store), "--format", "otlp", *filled]) == 64
    assert why in capsys.readouterr().err
    assert not (tmp_path / "new.jsonl").exists()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"kind":"teleported","run_id":"r","seq":0}', "none of this format"),
        ('{"kind":"run_started"}', "none of this format"),
        ("[]", "none of this format"),
        ('{"kind":"tool_call","run_id":"r","seq":"x"}', "none of this format"),
    ],
)
def test_an_event_that_is_none_is_refused_by_name(
    exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, why: str
) -> None:
    line = json.loads(exported.read_text(encoding="utf-8").splitlines()[0])
    span = line["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
    for one in span["attributes"]:
        if one["key"] == "flightlog.event":
            one["value"] = {"stringValue": text}
    bad = tmp_path / "bad.jsonl"
    bad.write_text(json.dumps(line) + "\n", encoding="utf-8")
    assert run(["import", str(bad), "--format", "otlp", "--store", str(tmp_path / "s")]) == 64
    assert why in capsys.readouterr().err


def test_a_collector_takes_what_only_looks_like_ours_for_foreign_spans(tmp_path: Path) -> None:
    spans = agent_spans("d" * 32, "R1")
    for one in spans:
        one["attributes"] += pairs({"flightlog.event": '{"kind":"teleported"}'})
    with collecting(tmp_path / "store", "--grace", "0", "--idle", "1") as collector:
        assert post(collector.url, export_request(spans, scope="flightlog")).status == 200

        def ended() -> bool:
            with Traces(tmp_path / "store") as traces:
                return bool(traces.rows("FROM runs WHERE status <> 'running'"))

        eventually(ended)
    with Traces(tmp_path / "store") as traces:
        [found] = traces.rows("SELECT agent, model_calls, tool_calls FROM runs")
    assert found == {"agent": "desk", "model_calls": 2, "tool_calls": 1}
