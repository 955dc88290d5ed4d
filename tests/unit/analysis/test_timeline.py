"""Finding a run, and showing it."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from flightlog.analysis.db import Traces
from flightlog.analysis.timeline import print_timeline, resolve_run, timeline
from flightlog.errors import UnknownNameError, UsageError
from flightlog.recorder.recorder import Recorder
from flightlog.recorder.store import Store
from flightlog.trace.clock import VirtualClock
from flightlog.trace.messages import Message
from flightlog.trace.run_writer import RunWriter

ESCAPES = "\x1b[31m[bold]\u202eevil\u2069\x07\r\nnext"


def _printed(traces: Traces, run_id: str, *, full: bool = False) -> str:
    stream = io.StringIO()
    print_timeline(timeline(traces, run_id), full=full, file=stream)
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines())


@pytest.mark.parametrize(
    ("text", "run_id"), [("last", "c4"), ("b2", "b2"), ("c1", "c1"), ("bench/7", "c2")]
)
def test_a_run_is_found_by_what_a_person_types(tiny: Traces, text: str, run_id: str) -> None:
    assert resolve_run(tiny, text) == run_id


def test_an_ambiguous_start_lists_the_runs(tiny: Traces) -> None:
    with pytest.raises(UsageError, match="several runs start with 'b': b1, b2, b3, b4"):
        resolve_run(tiny, "b")


@pytest.mark.parametrize("text", ["b9", "", "B1", "%", "b_"])
def test_an_unknown_run_is_refused(tiny: Traces, text: str) -> None:
    with pytest.raises(UnknownNameError, match="unknown run"):
        resolve_run(tiny, text)


def test_a_whole_id_wins_over_a_start(tmp_path: Path) -> None:
    with Recorder(tmp_path / "store") as recorder:
        for run_id in ("r1", "r10"):
            RunWriter(recorder, run_id).started()
    with Traces(tmp_path / "store") as traces:
        assert resolve_run(traces, "r1") == "r1"
        assert resolve_run(traces, "r10") == "r10"


def test_a_store_without_runs_says_so(tmp_path: Path) -> None:
    Store.create(tmp_path / "store")
    with Traces(tmp_path / "store") as traces, pytest.raises(UnknownNameError, match="no runs"):
        resolve_run(traces, "last")


def test_a_timeline_is_the_events_in_order(tiny: Traces) -> None:
    shown = timeline(tiny, "c1")
    assert [entry.kind for entry in shown.entries] == [
        "run_started", "model_call", "model_call", "tool_intent", "tool_call", "tool_call",
        "model_call", "run_stopped", "evaluation", "evaluation", "evaluation",
    ]  # fmt: skip
    assert [entry.fields.get("score") for entry in shown.entries[-3:]] == [None, None, 0.75]
    first = shown.entries[2]
    assert [message["text"] for message in first.sent] == ["Be brief.", "Do it, c1."]
    assert first.answer is not None
    assert first.answer["text"] == "Answer 1 of c1."
    assert [row["budget"] for row in shown.budgets] == [
        "max_steps",
        "max_seconds",
        "max_tool_calls",
    ]


def test_a_run_of_two_stores_asks_which(tiny_store: Path, unsealed_store: Path) -> None:
    with Traces(tiny_store, unsealed_store) as both:
        with pytest.raises(UsageError, match="several stores"):
            timeline(both, "b1")
        assert timeline(both, "b1", store=str(tiny_store)).run["run_id"] == "b1"
        with pytest.raises(UnknownNameError, match="unknown run 'b9'"):
            timeline(both, "b9")


def test_the_timeline_reads_as_text(tiny: Traces) -> None:
    lines = _printed(tiny, "b2").splitlines()
    assert lines[0] == "run b2"
    assert lines[1].startswith(
        "agent helper   model model-a   variant baseline   suite demo   task t1   trial 1"
    )
    assert (
        lines[2]
        == "stopped: max_tool_calls. budget max_tool_calls=2 used up at step 1.   success: no"
    )
    assert lines[3] == (
        "1 step   1 model call   3 tool calls (1 failed, 1 refused, 1 retried)"
        "   100 in, 10 out tokens   0.01 USD   400 ms"
    )
    assert lines[5:8] == [
        "max_steps       █████░░░░░░░░░░░░░░░  1 of 4 steps  25%",
        "max_seconds     █░░░░░░░░░░░░░░░░░░░  0.4 of 10 s  4%",
        "max_tool_calls  ████████████████████  2 of 2 attempts  100%  stopped the run",
    ]
    assert lines[9:] == [
        "step 1  +0 ms",
        "  system: Be brief.",
        "  user: Do it, b2.",
        "  model model-b   100 in, 10 out tokens   0.01 USD   300 ms   tool_call",
        '    search(q="x")   failed   40 ms   it broke',
        '    search(q="x")   ok   60 ms   attempt 2   {"search":1}',
        '    search(q="x")   budget   max_tool_calls=2 used up',
        "evaluation success: failed   score 0",
    ]


def test_the_header_tells_what_is_unknown(tiny: Traces) -> None:
    text = _printed(tiny, "b3")
    assert "- in, 30 out tokens   cost unknown" in text
    assert "  model model-b   - in, 20 out tokens   stop\n" in text
    text = _printed(tiny, "c3")
    assert "failed: crashed." in text
    assert "1 of 4 steps  25%" in text  # as far as the events of a killed run tell
    assert "  model model-b   900 ms   failed: 503" in text


def test_a_simulated_user_and_an_import_are_visible(tiny: Traces) -> None:
    text = _printed(tiny, "c1")
    assert "  user model simulator   50 in, 5 out tokens" in text
    assert "  user: Please save." in text
    assert '    user phone(q="x")   ok' in text
    assert "evaluation polite: passed" in text
    text = _printed(tiny, "c2")
    assert "stopped: tool_denied:delete (in the source: user_stop)" in text
    assert "source bench bench/7" in text
    assert '    delete(q="x")   denied   not on the allowlist' in text


def test_a_user_turn_of_which_nothing_is_known_is_its_message(tmp_path: Path) -> None:
    with Recorder(tmp_path / "store") as recorder:
        writer = RunWriter(recorder, "r1")
        writer.model_call(actor="user", output=Message("user", "Hello."))
        writer.model_call(step=1, prompt=[Message("user", "Hello.")], is_truncated=True)
        writer.model_call(actor="judge", outcome="failed", error="503", has_policy=False)
    with Traces(tmp_path / "store") as traces:
        lines = _printed(traces, "r1").splitlines()[-4:]
    assert lines == [
        "  user: Hello.",
        "step 1",
        "  model    prompt truncated",
        "  judge model    policy not sent   failed: 503",
    ]


def test_the_answer_comes_last(tiny: Traces) -> None:
    assert _printed(tiny, "b1").splitlines()[-2:] == ["answer", "  Answer 2 of b1."]


def test_full_cuts_nothing(tmp_path: Path) -> None:
    long = "line one\n" + "x" * 3000
    with Recorder(tmp_path / "store") as recorder:
        writer = RunWriter(recorder, "r1", clock=VirtualClock())
        writer.started()
        writer.model_call(step=1, prompt=[Message("user", long)], output=Message("assistant", "y"))
        writer.tool_call(step=1, tool_name="t", args='{"q": "' + "z" * 500 + '"}', result=long)
        writer.tool_call(step=1, tool_name="u", result_blob="ab" * 16, result_bytes=70_000)
    with Traces(tmp_path / "store") as traces:
        short, full = _printed(traces, "r1"), _printed(traces, "r1", full=True)
    assert full.count("x") >= 6000
    assert full.count("z") == 500
    assert short.count("x") < 1000
    assert all(len(line) <= 240 for line in short.splitlines())
    for text in (short, full):
        assert f"(in blob {'ab' * 16}, 70000 bytes)" in text


def test_an_intent_without_an_outcome_is_in_doubt(tmp_path: Path) -> None:
    with Recorder(tmp_path / "store") as recorder:
        writer = RunWriter(recorder, "r1")
        writer.started()
        for number, digest in enumerate(("a" * 32, "b" * 32)):
            writer.tool_intent(
                step=1, tool_name="pay", call_ix=number, args='{"n":1}', args_digest=digest
            )
        writer.tool_call(step=1, tool_name="pay", call_ix=0, args='{"n":1}', args_digest="a" * 32)
        writer.state_changed(
            subject="breaker", tool_name="pay", state_from="closed", state_to="open"
        )
    with Traces(tmp_path / "store") as traces:
        text = _printed(traces, "r1")
    assert text.count("in doubt: intent without an outcome") == 1
    assert "    breaker pay   closed -> open" in text


@pytest.mark.parametrize("full", [False, True])
def test_hostile_content_cannot_act(tmp_path: Path, full: bool) -> None:
    with Recorder(tmp_path / "store") as recorder:
        writer = RunWriter(recorder, f"r{ESCAPES}")
        names = ("agent", "model", "suite", "task_id", "variant", "golden", "source")
        writer.started(max_steps=1, **dict.fromkeys(names, ESCAPES))
        message = Message("user", ESCAPES)
        writer.model_call(
            step=1, prompt=[message], output=Message("assistant", ESCAPES), request_model=ESCAPES,
            outcome="failed", error=ESCAPES,
        )  # fmt: skip
        writer.tool_call(step=1, tool_name=ESCAPES, args=ESCAPES, result=ESCAPES)
        writer.tool_call(
            step=1, tool_name="t", args='{"\\u001b[2J": "\\u202e"}', outcome="failed",
            error=ESCAPES,
        )  # fmt: skip
        writer.tool_intent(step=1, tool_name=ESCAPES, args=ESCAPES)
        writer.state_changed(subject=ESCAPES, detail=ESCAPES)
        writer.stopped(stop_detail=ESCAPES, source_stop_reason=ESCAPES, answer=ESCAPES)
        writer.evaluation(name=ESCAPES, passed=None, detail=ESCAPES)
    with Traces(tmp_path / "store") as traces:
        text = _printed(traces, resolve_run(traces, "last"), full=full)
    assert not set("\x1b\u202e\u2069\x07\r") & set(text)
    assert "[bold]" in text
    assert "inconclusive" in text
