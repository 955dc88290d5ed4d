"""What the importers of other tools' formats make of them: made-up files, and real ones."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest

from flightlog.analysis.db import Traces
from flightlog.errors import TraceFormatError
from flightlog.integrations.importers.importing import import_file, import_files
from flightlog.trace.events import Evaluation, ModelCall, RunStarted, RunStopped
from flightlog.trace.sink import MemorySink, NullSink
from tests.unit.integrations.importers.made_files import MADE

NATIVE = Path(__file__).resolve().parents[5] / "shared" / "data" / "native"


@pytest.fixture
def found(write_json: Any, imported: Any) -> Any:
    return lambda name: imported(name, write_json(MADE[name](), f"{name}.json"))


def native(folder: str, pattern: str) -> list[Path]:
    """Real files, of which nothing is in this repository."""
    files = sorted((NATIVE / folder).glob(pattern))
    if not files:
        pytest.skip(f"{NATIVE / folder} is absent")
    return files


def test_atif_steps_that_were_copied_are_context_and_cost_nothing(found: Any) -> None:
    atif = found("atif")
    [start] = atif.of(RunStarted)
    assert (start.agent, start.agent_version, start.model) == ("desk", "1.0", "model-a")
    first, last = atif.of(ModelCall)
    assert (first.input_tokens, first.cache_read_tokens, first.cost_usd) == (90, 40, 0.01)
    assert last.input_tokens is None
    [tool] = atif.tools()
    assert (tool.tool_name, tool.args, tool.result) == (
        "get_order",
        '{"order_id":"R1"}',
        "shipped",
    )
    assert len(atif.of(ModelCall, 1)) == 1
    assert len(atif.tools(1)) == 0
    assert len(atif.prompts(1)[0]) > 3


def test_an_atif_of_another_version_is_refused_by_name(write_json: Any) -> None:
    document = MADE["atif"]()[0] | {"schema_version": "ATIF-v2.0"}
    with pytest.raises(TraceFormatError, match=r"'ATIF-v2\.0' is not known"):
        import_file("atif", write_json(document, "a.json"), NullSink())


def test_swe_agent_commands_are_tool_calls(found: Any) -> None:
    swe = found("swe-agent")
    [mini] = swe.tools()
    assert (mini.tool_name, mini.args, mini.outcome) == ("bash", '{"command":"cat R1"}', "failed")
    assert mini.error == "exit code 1"
    assert [one.tool_name for one in swe.tools(1)] == ["open", "submit"]
    assert swe.tools(1)[0].latency_ms == 250
    stops = [swe.of(RunStopped, run)[0] for run in (0, 1)]
    assert [stop.stop_reason for stop in stops] == ["ok", "ok"]
    assert [stop.total_cost_usd for stop in stops] == [0.05, 0.07]


@pytest.mark.parametrize(
    ("status", "spent", "reason"),
    [
        ("LimitsExceeded", 3.0, "max_usd"),
        ("LimitsExceeded", 0.5, "max_steps"),
        ("exit_context", 0.5, "context_overflow"),
        ("submitted (exit_cost)", 0.5, "max_usd"),
        ("exit_format", 0.5, "model_error"),
        ("made up", 0.5, None),
    ],
)
def test_swe_agent_exits_are_stop_reasons(
    write_json: Any, imported: Any, status: str, spent: float, reason: str | None
) -> None:
    document = MADE["swe-agent"]()[0]
    document["info"] |= {"exit_status": status, "model_stats": {"instance_cost": spent}}
    document["info"]["config"]["agent"] = {"cost_limit": 3.0}
    [stop] = imported("swe-agent", write_json(document, "a.traj.json")).of(RunStopped)
    assert stop.stop_reason == reason
    assert stop.source_stop_reason is not None


def test_agentdojo_judges_utility_and_security_apart(found: Any) -> None:
    dojo = found("agentdojo")
    judged = {one.name: one.passed for one in dojo.of(Evaluation)}
    assert judged == {"success": True, "security": True}
    assert {one.name: one.passed for one in dojo.of(Evaluation, 1)} == {
        "success": False,
        "security": False,
    }
    [tool] = dojo.tools()
    assert (tool.outcome, tool.error_type) == ("failed", "ValueError")
    stops = [dojo.of(RunStopped, run)[0].stop_reason for run in (0, 1)]
    assert stops == ["ok", "context_overflow"]


def test_inspect_tells_the_judge_from_the_agent_and_fills_in_attachments(found: Any) -> None:
    log = found("inspect")
    calls = log.of(ModelCall)
    assert [call.actor for call in calls] == ["agent", "agent", "judge"]
    # Cached tokens stood beside the others in that log, as its total tells.
    assert {call.input_tokens for call in calls} == {100}
    [stop] = log.of(RunStopped)
    assert (stop.stop_reason, stop.answer) == ("ok", "It is shipped.")
    [tool] = log.tools()
    assert (tool.outcome, tool.error, tool.latency_ms) == ("timed_out", "too slow", 1500)
    [judged] = log.of(Evaluation)
    assert (judged.passed, judged.score) == (True, 1.0)


def test_an_inspect_sample_without_events_is_told_by_its_messages(found: Any) -> None:
    log = found("inspect")
    [stop] = log.of(RunStopped, 1)
    assert (stop.stop_reason, stop.source_stop_reason) == ("max_steps", "max_steps")
    [start] = log.of(RunStarted, 1)
    assert (start.task_id, start.trial) == ("t2", 1)
    assert [tool.outcome for tool in log.tools(1)] == ["failed"]


def _archive(path: Path, log: dict[str, Any], **more: bytes) -> Path:
    samples = log.pop("samples")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for sample in samples:
            name = f"samples/{sample['id']}_epoch_{sample['epoch']}.json"
            archive.writestr(name, json.dumps(sample))
        archive.writestr("header.json", json.dumps(log))
        for name, content in more.items():
            archive.writestr(name.replace("__", "/"), content)
    return path


def test_an_eval_archive_is_the_same_log(found: Any, imported: Any, tmp_path: Path) -> None:
    packed = imported("inspect", _archive(tmp_path / "log.eval", MADE["inspect"]()))
    assert packed.sink.events == found("inspect").sink.events


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.99])
def test_a_half_written_eval_is_refused(tmp_path: Path, part: float) -> None:
    whole = _archive(tmp_path / "log.eval", MADE["inspect"]()).read_bytes()
    cut = tmp_path / "cut.eval"
    cut.write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(TraceFormatError, match="damaged, cut or packed"):
        import_file("inspect", cut, NullSink())


def test_a_bomb_in_an_eval_is_refused_by_its_ratio(tmp_path: Path) -> None:
    path = _archive(tmp_path / "log.eval", MADE["inspect"](), samples__x_epoch_1=b" " * (40 << 20))
    # It is no sample by its name's ending, and still nothing is unpacked beyond what it may be.
    with pytest.raises(TraceFormatError, match="unpacked from"):
        import_file("inspect", path, NullSink())


def test_a_log_of_an_unknown_version_is_refused_by_name(write_json: Any) -> None:
    log = MADE["inspect"]() | {"version": 9}
    with pytest.raises(TraceFormatError, match="version 9 of the log format is not known"):
        import_file("inspect", write_json(log, "log.json"), NullSink())


@pytest.mark.parametrize("name", ["langfuse", "phoenix", "mlflow"])
def test_spans_of_a_platform_are_runs_with_their_calls(found: Any, name: str) -> None:
    export = found(name)
    [start] = export.of(RunStarted)
    assert start.source == name
    [call] = export.of(ModelCall)
    assert (call.input_tokens, call.output_tokens) == (100, 9)
    assert call.response_model == "model-a" or call.request_model == "model-a"
    if name != "mlflow":  # which tells neither
        assert (call.cost_usd, call.cache_read_tokens) == (0.01, 40)
        assert start.conversation_id == "sess-1"
    assert export.prompts()[0][-1] == "Where is R1?"
    good, bad = export.tools()[0], export.tools(1)[0]
    assert (good.tool_name, good.args, good.result, good.outcome) == (
        "get_order",
        '{"order_id":"R1"}',
        "shipped",
        "ok",
    )
    assert bad.outcome == "failed"
    assert good.latency_ms == 500
    if name != "phoenix":
        assert [(one.name, one.passed) for one in export.of(Evaluation)] == [("good", True)]


MAPPING = """
source: my-harness
each_line: {each_line}
{events}
run: {{run_id: meta.id, task_id: meta.task, model: meta.model, success: meta.ok}}
event:
  type: kind
  name: tool
  args: input
  result: output
  calls: asks
  call_id: id
  input_tokens: usage.0.in
  output_tokens: usage.0.out
types: {{llm: model, call: tool, human: user}}
"""
STEPS = [
    {"kind": "human", "output": "Where?"},
    {"kind": "llm", "output": "", "asks": [{"id": "c1"}], "usage": [{"in": 5, "out": 2}]},
    {"kind": "noise", "output": "left out"},
    {"kind": "call", "tool": "look", "id": "c1", "input": {"a": 1}, "output": {"b": [2]}},
    {"kind": "llm", "output": "There.", "usage": []},
]
META = {"id": "r1", "task": "t1", "model": "model-a", "ok": True}


def mapping(folder: Path, each_line: str) -> Path:
    path = folder / f"{each_line}.yaml"
    events = "events: steps" if each_line == "run" else ""
    path.write_text(MAPPING.format(each_line=each_line, events=events))
    return path


@pytest.mark.parametrize("each_line", ["run", "event"])
def test_lines_of_any_shape_are_read_by_a_mapping(
    each_line: str, tmp_path: Path, write_lines: Any
) -> None:
    lines: list[Any] = [{"meta": META, "steps": STEPS}, {"meta": META | {"id": "r2"}, "steps": []}]
    if each_line == "event":
        lines = [{"meta": META, **step} for step in STEPS]
        lines += [{"meta": META | {"id": "r2"}, **step} for step in STEPS[:1]]
    path = write_lines(lines)
    store, how = tmp_path / "store", mapping(tmp_path, each_line)
    [report] = import_files("mapped", [path], store, mapping=how)
    assert report.runs == 2
    with Traces(store) as traces:
        runs = traces.rows("SELECT * FROM runs ORDER BY source_run_id")
        calls = traces.rows("SELECT * FROM tool_calls")
        models = traces.rows("SELECT * FROM model_calls WHERE actor = 'agent' ORDER BY seq")
    assert (runs[0]["task_id"], runs[0]["model"], runs[0]["success"]) == ("t1", "model-a", True)
    assert [(one["tool_name"], one["args"], one["result"]) for one in calls] == [
        ("look", '{"a":1}', '{"b":[2]}')
    ]
    assert [one["input_tokens"] for one in models] == [5, None]
    [again] = import_files("mapped", [path], store, mapping=how)
    assert again.runs == 0


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("source: a\n", "missing required field"),
        (MAPPING.format(each_line="run", events=""), "the path of a run's events"),
        (MAPPING.format(each_line="event", events="events: steps"), "the path of a run's events"),
        (MAPPING.format(each_line="event", events="").replace("run_id: meta.id,", ""), "run_id"),
        (MAPPING.format(each_line="event", events="").replace("calls:", "call:"), "'call'"),
        ("[1, 2]\n", "not a mapping"),
    ],
)
def test_a_mapping_that_is_none_is_refused(
    text: str, why: str, tmp_path: Path, write_lines: Any
) -> None:
    how = tmp_path / "how.yaml"
    how.write_text(text)
    with pytest.raises(TraceFormatError, match=why):
        import_file("mapped", write_lines([]), NullSink(), mapping=how)


def test_lines_of_a_run_that_do_not_stand_together_are_refused(
    tmp_path: Path, write_lines: Any
) -> None:
    lines = [{"meta": META | {"id": name}, **STEPS[0]} for name in ("r1", "r2", "r1")]
    with pytest.raises(TraceFormatError, match="do not stand together"):
        import_file("mapped", write_lines(lines), NullSink(), mapping=mapping(tmp_path, "event"))


@pytest.mark.parametrize("form", ["mapped", "run-lines"])
def test_a_mapping_is_of_its_format_alone(form: str, tmp_path: Path, run_rows: Any) -> None:
    how = None if form == "mapped" else mapping(tmp_path, "run")
    with pytest.raises(TraceFormatError, match="mapping"):
        import_file(form, tmp_path / "none.jsonl", NullSink(), mapping=how)


def test_an_import_that_is_killed_is_finished_by_the_next_one(
    tmp_path: Path, write_lines: Any, run_rows: Any
) -> None:
    rows = [run_rows[0] | {"run_id": f"run-{n}", "variant": "x" * 2000} for n in range(3000)]
    path, store = write_lines(rows), tmp_path / "store"
    command = [sys.executable, "-m", "flightlog", "import", str(path), "--format", "run-lines"]
    rng = random.Random(8)
    for _ in range(3):
        with subprocess.Popen(
            [*command, "--store", str(store)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            until = time.monotonic() + 60
            while not any(store.glob("journal/*")) and time.monotonic() < until:
                time.sleep(0.01)
            time.sleep(rng.uniform(0.05, 0.4))
            process.send_signal(signal.SIGKILL)
    import_files("run-lines", [path], store)
    straight = tmp_path / "straight"
    import_files("run-lines", [path], straight)
    query = "SELECT run_id, seq, kind, count(*) AS n FROM events WHERE run_id <> '' GROUP BY ALL"
    found = []
    for one in (store, straight):
        with Traces(one) as traces:
            found.append(sorted(map(str, traces.rows(query))))
    assert found[0] == found[1]


def test_a_run_that_is_there_in_part_is_finished(
    tmp_path: Path, write_lines: Any, run_rows: Any
) -> None:
    from flightlog.recorder.recorder import Recorder

    path, store = write_lines(run_rows), tmp_path / "store"
    whole = MemorySink()
    import_file("run-lines", path, whole)
    for kept in range(1, 8):
        part = store / str(kept)
        with Recorder(part) as recorder:
            for event in whole.events[:kept]:
                needed = [whole.messages[one] for one in getattr(event, "prompt_added", ())]
                recorder.emit(event, messages=needed)
        [report] = import_files("run-lines", [path], part)
        assert report.finished == (1 if kept < 7 else 0)
        with Traces(part) as traces:
            # A run whose recorder left it was ended by that; its own events are there once.
            query = "SELECT count(DISTINCT (run_id, seq)) AS n FROM events WHERE run_id <> ''"
            assert traces.rows(query) == [{"n": len(whole.events)}]
        [again] = import_files("run-lines", [path], part)
        assert (again.runs, again.events, again.finished) == (0, 0, 0)


REAL = {
    "atif": ("atif", "*.json", 4),
    "swe-agent": ("mini-swe-agent", "*.json", 2),
    "langfuse": ("langfuse/framework-traces", "*.json", 40),
}


@pytest.mark.parametrize("form", REAL)
def test_real_files_are_imported_whole(form: str, tmp_path: Path) -> None:
    folder, pattern, runs = REAL[form]
    reports = import_files(form, native(folder, pattern), tmp_path / "store")
    assert sum(report.runs for report in reports) == runs
    with Traces(tmp_path / "store") as traces:
        [row] = traces.rows("SELECT count(*) AS n, sum(model_calls) AS calls FROM runs")
        assert row["n"] == runs
        assert row["calls"] >= runs / 2


def test_real_inspect_logs_are_imported_and_tell_their_own_totals(tmp_path: Path) -> None:
    files = native("inspect", "inspect_scout_logs/*.eval")
    reports = import_files("inspect", files, tmp_path / "store")
    assert sum(report.runs for report in reports) == 217
    with Traces(tmp_path / "store") as traces:
        rows = traces.rows(
            "SELECT r.suite, sum(m.input_tokens) AS read, sum(m.output_tokens) AS said "
            "FROM model_calls AS m JOIN runs AS r USING (run_id) GROUP BY 1"
        )
    told = {row["suite"]: (row["read"], row["said"]) for row in rows}
    # stats.model_usage of the log itself, the scorer's calls in it.
    assert told["security_guide"] == (5279, 5622)
