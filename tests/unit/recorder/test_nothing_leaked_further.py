"""What is made of a store holds no secret either: pages, tables, files, goldens, messages."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import flightlog
from flightlog.analysis.questions import questions
from flightlog.cli import run
from flightlog.recorder.record import record
from flightlog.recorder.recorder import Recorder
from flightlog.redact.policy import Redaction
from flightlog.trace.messages import Message, ToolRequest
from tests.unit.redact.canaries import CANARIES, ENVIRON, EVERYTHING, VALUES, found_in

POLICY = Redaction(emails=True, phones=True, values=VALUES)
PLANTED = {one.name: one.planted for one in CANARIES} | {"password": CANARIES[17].secret}


def one_run(recorder: Recorder, *, task: int, variant: str) -> None:
    """A run with the secrets in all that a caller can say."""
    text = CANARIES[task % len(CANARIES)].planted
    with record(
        recorder, run_id=f"{variant}-{task}", task_id=f"{text} {task}", variant=variant, trial=0,
        session_id=EVERYTHING, agent=text, agent_version=text, model=EVERYTHING, suite=EVERYTHING,
        tenant=EVERYTHING, conversation_id=EVERYTHING, labels=PLANTED, source=text,
        source_run_id=EVERYTHING, max_steps=9, data_subject=EVERYTHING,
    ) as made:  # fmt: skip
        request = ToolRequest(EVERYTHING, text, json.dumps(PLANTED))
        made.model_call(
            step=1, request_model=EVERYTHING, response_model=text, provider=text,
            input_tokens=9 + task, output_tokens=1, error=EVERYTHING, latency_ms=5.0,
            prompt=[Message("system", EVERYTHING), Message("user", text, name=EVERYTHING)],
            output=Message("assistant", EVERYTHING, (request,)),
        )  # fmt: skip
        for _ in range(1 if variant == "baseline" else 3):
            made.tool_call(
                step=1, tool_name=text, tool_call_id=EVERYTHING, args=PLANTED, result=[PLANTED],
                error=EVERYTHING, error_type=text, outcome="failed",
            )  # fmt: skip
        made.tool_intent(step=1, tool_name=text, args=PLANTED)
        made.state_changed(subject=text, tool_name=text, state_from=text, detail=EVERYTHING)
        made.evaluation(name="success", passed=variant == "baseline", detail=EVERYTHING)
        made.stopped(
            stop_reason="tool_failed", status="failed", stop_tool=text, stop_detail=EVERYTHING,
            used_steps=3, answer=EVERYTHING, source_stop_reason=EVERYTHING,
        )  # fmt: skip


def fill(path: Path, redaction: Redaction) -> Path:
    with Recorder(path, redaction=redaction) as recorder:
        for variant in ("baseline", "candidate"):
            for task in range(8):
                one_run(recorder, task=task, variant=variant)
    return path


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRON.items():
            patch.setenv(name, value)
        return fill(tmp_path_factory.mktemp("leaks") / "store", POLICY)


COMMANDS = [
    ["runs"],
    ["show", "last", "--full"],
    ["verify"],
    ["doctor"],
    ["check"],
    ["retain", "--older-than", "1d", "--dry-run"],
    ["erase", "--tenant", "nobody", "--why", "x", "--dry-run"],
    *(["sql", f"SELECT * FROM {view}", "--format", "json"] for view in ("events", "messages")),
    *(["ask", question.name, "--format", "json"] for question in questions()),
]


@pytest.mark.parametrize("argv", COMMANDS, ids=lambda argv: "-".join(argv[:2]))
def test_no_command_prints_a_secret(
    store: Path, capsys: pytest.CaptureFixture[str], argv: list[str]
) -> None:
    run([*argv, "--store", str(store)])
    printed = capsys.readouterr()
    assert found_in((printed.out + printed.err).encode()) == []


@pytest.mark.parametrize("form", ["parquet", "jsonl", "csv"])
def test_no_exported_file_holds_a_secret(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    out = str(tmp_path / form)
    assert run(["export", "--out", out, "--format", form, "--store", str(store)]) == 0
    capsys.readouterr()
    files = [path for path in (tmp_path / form).rglob("*") if path.is_file()]
    assert files
    for path in files:
        assert found_in(path.name.encode() + path.read_bytes()) == []


def test_no_report_holds_a_secret(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    endings = ("html", "md", "json", "xml", "sarif", "txt")
    names = [tmp_path / f"report.{ending}" for ending in endings]
    options = [part for path in names for part in ("-o", str(path))]
    run(["check", "--store", str(store), *options])
    printed = capsys.readouterr()
    assert found_in((printed.out + printed.err).encode()) == []
    for path in names:
        assert found_in(path.read_bytes()) == []


def test_no_golden_holds_a_secret(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in ENVIRON.items():
        monkeypatch.setenv(name, value)
    store, goldens = tmp_path / "store", tmp_path / "goldens"
    with record(
        store, run_id="r", agent="a", task_id=CANARIES[0].planted, redaction=POLICY
    ) as made:
        made.model_call(
            step=1, request_model="m", prompt=[Message("user", EVERYTHING)],
            output=Message("assistant", EVERYTHING, (ToolRequest("1", "t", "{}"),)),
        )  # fmt: skip
        made.tool_call(step=1, tool_name="t", args=PLANTED, result=[PLANTED], effect="read")
        made.stopped(stop_reason="ok", status="completed", answer=EVERYTHING)
    done = run(["golden", "pin", "r", "--goldens", str(goldens), "--store", str(store)])
    printed = capsys.readouterr()
    assert done == 0, printed.err
    assert found_in((printed.out + printed.err).encode()) == []
    files = [path for path in goldens.rglob("*") if path.is_file()]
    assert files
    for path in files:
        assert found_in(str(path).encode() + path.read_bytes()) == []


def test_an_agent_that_dies_of_a_secret_prints_none_of_ours(tmp_path: Path) -> None:
    """What Python prints of the agent's own error is the agent's; the recorder adds nothing."""
    code = (
        "import sys, flightlog\n"
        "from flightlog.redact.policy import Redaction\n"
        "from tests.unit.redact.canaries import EVERYTHING, VALUES\n"
        "sys.excepthook = lambda *_: None\n"
        "policy = Redaction(emails=True, values=VALUES)\n"
        "with flightlog.record(sys.argv[1], agent='a', redaction=policy) as run:\n"
        "    run.tool_call(tool_name='t', args={'x': EVERYTHING})\n"
        "    raise RuntimeError(EVERYTHING)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "store")],
        cwd=Path(__file__).parents[3],
        env={**os.environ, **ENVIRON},
        check=False,
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert (done.stdout, done.stderr) == (b"", b"")
    with flightlog.open(tmp_path / "store") as traces:
        rows = traces.table("SELECT * FROM events").to_pylist()
    assert found_in(repr(rows).encode()) == []
    assert "RuntimeError" in str(rows[-1])


def test_equal_values_join_over_runs_and_columns(store: Path) -> None:
    """One account number is one pseudonym in arguments, messages and labels, in every run."""
    with flightlog.open(store) as traces:
        query = (
            "SELECT count(DISTINCT regexp_extract(args, '<iban:[0-9a-f]+>')), count(*)"
            " FROM tool_calls WHERE args LIKE '%<iban:%'"
        )
        [(ibans, calls)] = traces.sql(query).fetchall()
        assert (ibans, calls) == (1, 32)
        query = (
            "SELECT count(*) FROM tool_calls JOIN messages"
            " ON regexp_extract(args, '<iban:[0-9a-f]+>') ="
            " regexp_extract(text, '<iban:[0-9a-f]+>') WHERE text LIKE '%<iban:%'"
        )
        [(pairs,)] = traces.sql(query).fetchall()
        assert pairs >= 32


@pytest.mark.parametrize("capture", ["full", "redacted", "metadata"])
def test_each_run_says_what_was_recorded_of_it(tmp_path: Path, capture: str) -> None:
    policy = Redaction(capture=capture)  # type: ignore[arg-type]
    with Recorder(tmp_path / "store", redaction=policy) as recorder:
        one_run(recorder, task=0, variant="baseline")
    with flightlog.open(tmp_path / "store") as traces:
        [(said, version)] = traces.sql("SELECT capture, redaction_policy FROM runs").fetchall()
    assert said == capture
    assert version == (None if capture == "full" else policy.version)
