"""Only accept changes a golden task: whole or not at all, and it shows what it changes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flightlog.errors import GoldenError, NothingToCompareError, UnknownNameError
from flightlog.golden.life.accept import Mode, accept, review_pending, review_runs
from flightlog.golden.life.json_patch import json_patch
from flightlog.golden.life.pending import leftovers, pending_files, propose
from flightlog.golden.life.review_text import review_lines, review_markdown
from flightlog.golden.pin import pin_runs
from flightlog.golden.recording_files import load_recording
from flightlog.golden.suite import load_suite
from flightlog.recorder.record import record
from flightlog.recorder.recorder import Recorder
from flightlog.recorder.store import Store
from flightlog.redact.policy import Capture, Redaction
from flightlog.replay.cassette import Recording
from flightlog.replay.recordings import read_recordings
from flightlog.runtime.task import Task
from flightlog.runtime.tools import Tool
from flightlog.trace.run_writer import RunWriter
from flightlog.trace.vocab import Effect
from tests.unit.golden.world import GET, REFUND, TASK, Call, record_run, shop_tools

OTHER_REFUND: Call = ("refund", {"order_id": "A1", "amount": 3900})

LOOKUP = Tool("lookup", fn=lambda: 1, effect=Effect.READ, scopes=("prices",))


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def goldens(tmp_path: Path, store: Path) -> Path:
    """A golden task of one recording, that reads and refunds."""
    record_run(store, [GET], [REFUND], run_id="r1")
    pin_runs(Store.open(store), ["r1"], tmp_path / "goldens")
    return tmp_path / "goldens"


def read(store: Path, *run_ids: str) -> list[Recording]:
    return read_recordings(Store.open(store), run_ids)


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def run_ids(goldens: Path) -> list[str]:
    (entry,) = load_suite(goldens)
    return [one.run_id for one in entry.recordings]


def test_adding_keeps_what_is_there_and_replacing_does_not(store: Path, goldens: Path) -> None:
    record_run(store, [GET], [REFUND], [GET], run_id="r2")
    accept(goldens, "refund-17", read(store, "r2"))
    assert run_ids(goldens) == ["r1", "r2"]
    record_run(store, [REFUND], run_id="r3")
    done = accept(goldens, TASK.task_id, read(store, "r3"), mode=Mode.REPLACE)
    assert run_ids(goldens) == ["r3"]
    assert sorted(p.name for p in (goldens / "refund-17").iterdir()) == ["1.jsonl", "task.yaml"]
    assert done.removed == ("1.jsonl", "2.jsonl")


def test_a_dry_run_and_a_review_write_nothing(store: Path, goldens: Path) -> None:
    record_run(store, [REFUND], run_id="r2")
    before = files(goldens)
    accept(goldens, "refund-17", read(store, "r2"), mode=Mode.REPLACE, dry_run=True)
    review_runs(goldens, read(store, "r2"))
    review_pending(goldens)
    assert files(goldens) == before


def test_a_pending_recording_is_never_served_until_it_is_accepted(
    store: Path, goldens: Path
) -> None:
    record_run(store, [REFUND], run_id="r2")
    (path,) = propose(goldens, read(store, "r2"))
    assert propose(goldens, read(store, "r2")) == []
    assert path.as_posix() == ".pending/refund-17/1.jsonl"
    assert run_ids(goldens) == ["r1"]
    (found,) = review_pending(goldens)
    assert (found.run_id, found.is_pending) == ("r2", True)
    accept(goldens, "refund-17")
    assert run_ids(goldens) == ["r1", "r2"]
    assert pending_files(goldens) == []


def test_blobs_of_a_pending_recording_move_with_it(tmp_path: Path, store: Path) -> None:
    goldens = tmp_path / "goldens"
    for run_id, char in (("b1", "x"), ("b2", "y")):
        with record(store, run_id=run_id, task_id="t") as run:
            run.tool_call(tool_name="get", args="{}", result=char * 50_000, step=1, call_ix=0)
    pin_runs(Store.open(store), ["b1"], goldens)
    propose(goldens, read(store, "b2"))
    accept(goldens, "t")
    assert [path for path in goldens.rglob(".pending/**/*") if path.is_file()] == []
    recording = load_recording(goldens / "t" / "2.jsonl")
    assert recording.result_of(recording.tool_calls[0]) == "y" * 50_000
    assert leftovers(goldens, []) == []


def test_review_names_added_removed_and_changed_calls(store: Path, goldens: Path) -> None:
    record_run(store, [OTHER_REFUND], [GET], run_id="r2", answer="3900 USD")
    record_run(store, [REFUND], [("lookup", {})], run_id="r3", tools=[*shop_tools(), LOOKUP])
    (other,) = review_runs(goldens, read(store, "r3"))
    assert [(c.kind, c.tool_name) for c in other.calls] == [
        ("removed", "get_order"),
        ("added", "lookup"),
    ]
    (found,) = review_runs(goldens, read(store, "r2"))
    kinds = [(call.kind, call.tool_name) for call in found.calls]
    assert kinds == [("changed", "refund"), ("answered", "get_order")]
    changed = [call for call in found.calls if call.kind == "changed"]
    assert changed[0].patch == ({"op": "replace", "path": "/amount", "value": 3900},)
    assert changed[0].is_write
    assert found.verdict.passed is False
    assert "refund" in found.verdict.detail
    assert found.verdict_after.passed is True
    text = "\n".join(review_lines([found]))
    assert '~ refund {"amount":3900,"order_id":"A1"} (changed at step 1, write)' in text
    assert "FAILS" in text


def test_review_tells_observations_apart_by_digest(store: Path, tmp_path: Path) -> None:
    goldens = tmp_path / "goldens"
    for run_id, result in (("o1", "1"), ("o2", "2")):
        with record(store, run_id=run_id, task_id="t") as run:
            run.tool_call(tool_name="get", args="{}", result=result, step=1, call_ix=0)
    pin_runs(Store.open(store), ["o1"], goldens)
    (found,) = review_runs(goldens, read(store, "o2"))
    (call,) = found.calls
    assert call.kind == "answered"
    assert call.before != call.after


def test_review_as_json_is_json(store: Path, goldens: Path) -> None:
    record_run(store, [REFUND], run_id="r2")
    (found,) = review_runs(goldens, read(store, "r2"))
    plain = json.loads(json.dumps(found.as_plain()))
    assert plain["nearest_recording"] == "r1"
    assert plain["verdict"]["before"]["passed"] is True
    assert plain["amounts"]["tool_calls"] == {"before": 2.0, "after": 1.0}


@pytest.mark.parametrize(
    "hostile",
    ["\x1b[2J\x1b]0;x\x07", "</code><script>alert(1)</script>", "| a | b |", "\u202e", "a\n# b"],
)
def test_hostile_arguments_are_harmless_in_a_review(
    store: Path, goldens: Path, hostile: str
) -> None:
    record_run(store, [("refund", {"order_id": hostile, "amount": 1})], run_id="r2")
    (found,) = review_runs(goldens, read(store, "r2"))
    for line in review_lines([found]):
        assert line.isprintable()
    page = review_markdown([found])
    assert "<script" not in page
    assert "\x1b" not in page
    assert "\n# b" not in page


def test_a_run_of_another_task_or_version_is_refused(store: Path, goldens: Path) -> None:
    before = files(goldens)
    record_run(store, [GET], run_id="other", task=Task("another", "x", suite="shop"))
    record_run(store, [GET], run_id="version", task=Task("refund-17", "Other.", suite="shop"))
    with pytest.raises(GoldenError, match="a run of task 'another'"):
        accept(goldens, "refund-17", read(store, "other"))
    with pytest.raises(GoldenError, match="has other content"):
        accept(goldens, "refund-17", read(store, "version"))
    with pytest.raises(UnknownNameError, match="another"):
        propose(goldens, read(store, "other"))
    assert files(goldens) == before


def test_a_recording_is_not_accepted_twice_and_nothing_is_an_error(
    store: Path, goldens: Path
) -> None:
    with pytest.raises(GoldenError, match="is a recording of the task already"):
        accept(goldens, "refund-17", read(store, "r1"))
    with pytest.raises(NothingToCompareError, match="is pending"):
        accept(goldens, "refund-17")
    with pytest.raises(UnknownNameError, match="refund-18"):
        accept(goldens, "refund-18", read(store, "r1"))


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"outcome": "replay_miss", "error": "no match"}, "it missed 'get_order'"),
        ({"served_how": "stub", "result": "1"}, "was made up"),
        ({"served_how": "error", "outcome": "failed", "error": "x"}, "was made up"),
    ],
)
def test_observations_that_the_world_never_gave_are_not_accepted(
    store: Path, goldens: Path, fields: dict[str, Any], what: str
) -> None:
    with Recorder(store) as recorder:
        writer = RunWriter(recorder, "r2")
        writer.started(task_id=TASK.task_id, suite=TASK.suite, task_digest=TASK.digest)
        writer.tool_call(tool_name="get_order", args="{}", step=1, call_ix=0, **fields)
        writer.stopped(stop_reason="ok")
    with pytest.raises(GoldenError, match=what):
        accept(goldens, "refund-17", read(store, "r2"))


def test_a_secret_is_neither_accepted_nor_left_pending(store: Path, goldens: Path) -> None:
    secret = "sk-proj-" + "a1B2c3D4" * 6
    with Recorder(store, redaction=Redaction(capture=Capture.FULL)) as recorder:
        writer = RunWriter(recorder, "r2")
        writer.started(task_id=TASK.task_id, suite=TASK.suite, task_digest=TASK.digest)
        writer.tool_call(tool_name="get_order", args="{}", result=secret, step=1, call_ix=0)
        writer.stopped(stop_reason="ok")
    before = files(goldens)
    for call in (lambda r: accept(goldens, "refund-17", r), lambda r: propose(goldens, r)):
        with pytest.raises(GoldenError, match="should not be in a repository") as caught:
            call(read(store, "r2"))
        assert secret not in str(caught.value)
    assert files(goldens) == before


def test_an_accept_that_cannot_write_puts_everything_back(store: Path, goldens: Path) -> None:
    record_run(store, [REFUND], run_id="r2")
    (goldens / "refund-17" / "2.jsonl").mkdir()
    before = files(goldens)
    with pytest.raises(GoldenError):
        accept(goldens, "refund-17", read(store, "r2"))
    assert files(goldens) == before


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(_JSON, _JSON)
def test_a_patch_turns_one_value_into_the_other(before: Any, after: Any) -> None:
    value = json.loads(json.dumps(before))
    for operation in json_patch(before, after):
        value = _applied(value, operation)
    assert json.dumps(value, sort_keys=True) == json.dumps(after, sort_keys=True)


def _applied(value: Any, operation: dict[str, Any]) -> Any:
    if operation["path"] == "":
        return operation["value"]
    *path, last = [
        part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]
    ]
    node = value
    for part in path:
        node = node[int(part)] if isinstance(node, list) else node[part]
    key = int(last) if isinstance(node, list) else last
    if operation["op"] == "remove":
        del node[key]
    else:
        node[key] = operation["value"]
    return value
