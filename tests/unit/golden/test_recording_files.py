"""Recordings and declarations as files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flightlog.errors import GoldenError
from flightlog.golden.files import load_tools, parse_toolset, tools_text
from flightlog.golden.recording_files import load_recording, recording_files, recording_lines
from flightlog.replay.cassette import Recording
from flightlog.runtime.tools import Tool, toolset_message
from flightlog.trace.canonical import digest_of
from flightlog.trace.messages import Message, ToolRequest
from flightlog.trace.run_writer import RunWriter
from flightlog.trace.sink import MemorySink
from flightlog.trace.vocab import Effect

ASKS = Message("assistant", None, (ToolRequest("1", "get", '{"key":"a"}'),))
LONG = Message("system", "policy " * 1000)
LARGE = "large \u2028 result" * 2000


def _recording() -> Recording:
    sink = MemorySink()
    writer = RunWriter(sink, "rec")
    writer.started(task_id="t", system_digest=LONG.digest, messages=[LONG])
    writer.model_call(prompt=[LONG, Message("user", "Hi\u2028")], output=ASKS, step=1)
    digest = digest_of(LARGE)
    writer.tool_call(tool_name="get", result_blob=digest, step=1, call_ix=0, latency_ms=2.0)
    tool = Message("tool", LARGE, tool_call_id="1", name="get")
    writer.model_call(prompt=[LONG, Message("user", "Hi\u2028"), ASKS, tool], output=ASKS, step=2)
    writer.stopped(stop_reason="ok")
    return Recording(tuple(sink.events), sink.messages, {digest: LARGE}.__getitem__)


def _saved(recording: Recording, goldens: Path) -> Path:
    lines, blobs = recording_lines(recording)
    (goldens / "blobs").mkdir()
    (goldens / "t").mkdir()
    for digest, text in blobs.items():
        (goldens / "blobs" / digest).write_bytes(text.encode())
    path = goldens / "t" / "1.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
    return path


def test_a_recording_comes_back_with_messages_and_blobs(tmp_path: Path) -> None:
    recording = _recording()
    back = load_recording(_saved(recording, tmp_path))
    assert back.events == recording.events
    assert back.messages[ASKS.digest] == ASKS
    assert back.messages[LONG.digest] == LONG
    assert back.result_of(back.tool_calls[0]) == LARGE


def test_lines_are_canonical_sorted_and_hold_no_text_twice(tmp_path: Path) -> None:
    lines, blobs = recording_lines(_recording())
    for line in lines:
        parsed = json.loads(line)
        assert list(parsed) == sorted(parsed)
        assert "\n" not in line
    assert set(blobs.values()) == {LARGE, LONG.text}
    kinds = [json.loads(line)["kind"] for line in lines]
    assert kinds[-1] == "sealed"
    assert kinds.count("message") == 3  # system, user, assistant; tool messages are results


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        '{"kind":"unknown"}',
        '{"kind":"message"}',
        '{"kind":"tool_call"}',
        "\xff",
        "[" * 100_000,
        "<<<<<<< HEAD",
    ],
)
def test_a_line_that_is_no_event_names_its_place(tmp_path: Path, line: str) -> None:
    path = _saved(_recording(), tmp_path)
    with path.open("ab") as file:
        file.write(line.encode("latin-1") + b"\n")
    with pytest.raises(GoldenError, match="not an event") as caught:
        load_recording(path)
    assert caught.value.where.startswith(f"{path}:")


def test_an_empty_recording_is_refused(tmp_path: Path) -> None:
    path = _saved(_recording(), tmp_path)
    path.write_text("", encoding="utf-8")
    with pytest.raises(GoldenError, match="empty"):
        load_recording(path)


def test_a_recording_that_is_not_one_whole_run_is_refused(tmp_path: Path) -> None:
    path = _saved(_recording(), tmp_path)
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    other = [line.replace('"run_id":"', '"run_id":"other-') for line in lines]
    for kept, problem in (
        ([*lines, *lines], "holds an event twice"),
        ([*lines, *other], "holds 2 runs"),
        ([line for line in lines if '"run_stopped"' not in line], "it has no run_stopped"),
        ([line for line in lines if '"run_started"' not in line], "it has no run_started"),
    ):
        path.write_text("".join(kept), encoding="utf-8")
        with pytest.raises(GoldenError, match=problem):
            load_recording(path)


def test_a_blob_that_is_missing_or_changed_is_an_error(tmp_path: Path) -> None:
    path = _saved(_recording(), tmp_path)
    blob = tmp_path / "blobs" / digest_of(LARGE)
    recording = load_recording(path)
    blob.write_text("other", encoding="utf-8")
    with pytest.raises(GoldenError, match="another digest"):
        recording.result_of(recording.tool_calls[0])
    blob.unlink()
    with pytest.raises(GoldenError, match="cannot be read"):
        recording.result_of(recording.tool_calls[0])


@pytest.mark.parametrize("digest", ["../../secret", "/etc/passwd", "", "z" * 32])
def test_a_blob_name_never_becomes_a_path(tmp_path: Path, digest: str) -> None:
    path = _saved(_recording(), tmp_path)
    with path.open("a", encoding="utf-8") as file:
        line = {"kind": "message", "digest": "d", "role": "user", "text_blob": digest}
        file.write(json.dumps(line) + "\n")
    with pytest.raises(GoldenError, match="not the digest of a blob"):
        load_recording(path)


def test_recordings_are_counted_by_number(tmp_path: Path) -> None:
    for name in ("10.jsonl", "9.jsonl", "notes.jsonl", "1.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in recording_files(tmp_path)] == ["9.jsonl", "10.jsonl"]


TOOLS = {
    "get": Tool("get", effect=Effect.READ, scopes=("order:{id}",), volatile=("trace",)),
    "next": Tool("next", effect=Effect.READ, scopes=("queue",), is_consuming=True),
    "shake": Tool("shake", description="Nobody: knows"),
}


def test_declarations_come_back_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "tools.yaml"
    path.write_text(tools_text(TOOLS, where="x"), encoding="utf-8")
    assert load_tools(path) == TOOLS


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("tool: {}\n", 1, "unknown key 'tool'"),
        ("tools:\n  get:\n    efect: read\n", 3, "unknown key 'efect'"),
        ("tools:\n  get:\n    effect: reed\n", 2, "unknown effect 'reed'"),
        ("tools:\n  get:\n    effect: read\n    scopes: ['{id}']\n", 2, "cannot be used"),
        ("tools:\n  get:\n    scopes: orders\n", 2, "scopes='orders' is not a list"),
        ("tools:\n  get:\n    input_schema: []\n", 2, "not a JSON Schema: a list"),
        ("tools:\n  get: read\n", 2, "tools.get is 'read'"),
        ("tools:\n  'a b':\n    effect: read\n", 2, "no white space"),
        ("tools: []\n", 1, "tools is \\[\\]"),
    ],
)
def test_a_mistake_in_a_declaration_names_its_line(
    tmp_path: Path, text: str, line: int, message: str
) -> None:
    path = tmp_path / "tools.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(GoldenError, match=message) as caught:
        load_tools(path)
    assert caught.value.where == f"{path}:{line}"


def test_a_recorded_toolset_is_read(tmp_path: Path) -> None:
    message = toolset_message(list(TOOLS.values()))
    assert parse_toolset(message.text, where="run r") == TOOLS


@pytest.mark.parametrize("text", ["{", "[1]", '[{"nam":"x"}]', '[{"name":"x","scopes":["{"]}]'])
def test_a_toolset_that_cannot_be_read_is_an_error(text: str) -> None:
    with pytest.raises(GoldenError):
        parse_toolset(text, where="run r")


def test_write_through_is_kept_in_the_tools_file_and_checked_against_its_tools(
    tmp_path: Path,
) -> None:
    path = tmp_path / "tools.yaml"
    get = Tool("get", effect=Effect.READ, scopes=("item:{id}",))
    put = Tool("put", effect=Effect.WRITE, write_through={"get": {"id": "result.id"}})
    text = tools_text({"get": get, "put": put}, where="tools.yaml")
    path.write_text(text, encoding="utf-8")
    assert load_tools(path)["put"].write_through == {"get": {"id": "result.id"}}
    path.write_text(text.replace("effect: read", "effect: write"), encoding="utf-8")
    with pytest.raises(GoldenError, match="only a plain read can be") as raised:
        load_tools(path)
    assert str(path) in raised.value.where
