"""`flightlog replay`: which candidates, how many at a time, for how much, and again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flightlog.analysis.db import Traces
from flightlog.cli import run
from flightlog.commands.candidates import endpoint_of
from flightlog.commands.demo import _pin, _record_baseline
from flightlog.errors import UsageError

AGENT = "flightlog.commands.demo_agent:baseline"


@pytest.fixture(scope="module")
def goldens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The 40 golden tasks of the demo."""
    folder = tmp_path_factory.mktemp("demo")
    _pin(folder / "store", _record_baseline(folder / "store"), folder / "goldens")
    return folder / "goldens"


def replayed(
    capsys: pytest.CaptureFixture[str], goldens: Path, store: Path, *options: str, code: int = 0
) -> str:
    argv = ["replay", str(goldens), "--agent", AGENT, "--store", str(store), "--quiet", *options]
    found = run(argv)
    text = capsys.readouterr()
    assert found == code, text.err
    return text.out + text.err


def test_a_dry_run_estimates_and_records_nothing(
    goldens: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = replayed(capsys, goldens, tmp_path / "s", "--trials", "2", "--dry-run")
    assert "80 trials, about 296 model calls with 147,350 input tokens" in text
    assert "on the candidate's model: $0.0978" in text
    assert not (tmp_path / "s").exists()


def test_trials_at_the_same_time_and_the_rest_later(
    goldens: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, session = tmp_path / "s", ["--session", "one"]
    text = replayed(capsys, goldens, store, *session, "--trials", "2", "--concurrency", "4")
    assert "80 of 80 replays passed" in text
    text = replayed(capsys, goldens, store, *session, "--trials", "3", "--resume")
    assert "80 trials finished before, not replayed again" in text
    assert "120 of 120 replays passed" in text


def test_recorded_answers_of_the_model_pass_without_a_model(
    goldens: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = replayed(capsys, goldens, tmp_path / "s", "--model", "recorded")
    assert "40 of 40 replays passed" in text


def test_a_matrix_replays_every_side(
    goldens: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "brief.txt").write_text("Be brief.\n")
    matrix = tmp_path / "sides.yaml"
    matrix.write_text("variants:\n  brief: {system: brief.txt}\n  same: {model: recorded}\n")
    text = replayed(
        capsys, goldens, tmp_path / "s", "--matrix", str(matrix), "--task", "damaged-00"
    )
    assert "variant 'brief': 1 of 1" in text
    assert "variant 'same': 1 of 1" in text
    with Traces(tmp_path / "s") as traces:
        rows = traces.sql("SELECT variant FROM runs ORDER BY 1").fetchall()
    assert rows == [("brief",), ("same",)]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("variants: {}\n", "1 to 100 variants"),
        ("variants: {a: {modle: x}}\n", "unknown key 'modle'"),
        ("variants: {a: {system: none.txt}}\n", "the prompt cannot be read"),
        ("varients: {}\n", "nearest: variants"),
        ("variants: {a: {model: 'openai:'}}\n", "names no model"),
    ],
)
def test_a_malformed_matrix_is_refused_by_name(
    goldens: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    content: str,
    problem: str,
) -> None:
    matrix = tmp_path / "sides.yaml"
    matrix.write_text(content)
    text = replayed(capsys, goldens, tmp_path / "s", "--matrix", str(matrix), code=64)
    assert problem in text


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--resume"], "nothing says which replay goes on"),
        (["--model", "other"], "not on 'other'"),
        (["--allow-host", "a:b"], "is no host"),
        (["--matrix", "m.yaml", "--model", "x"], "--matrix says what each side is given"),
        (["--system", "none.txt"], "the prompt cannot be read"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    goldens: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    problem: str,
) -> None:
    assert problem in replayed(capsys, goldens, tmp_path / "s", *options, code=64)


def test_a_spending_cap_that_is_reached_exits_2(
    goldens: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = replayed(capsys, goldens, tmp_path / "s", "--max-usd", "0.02", code=2)
    assert "left out, since the spending cap is reached" in text


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("api.example", ("api.example", 0)),
        ("api.example:8443", ("api.example", 8443)),
        ("[::1]:80", ("[::1]", 80)),
        ("[::1]", ("[::1]", 0)),
    ],
)
def test_hosts_are_read_with_or_without_a_port(text: str, endpoint: tuple[str, int]) -> None:
    assert endpoint_of(text) == endpoint


@pytest.mark.parametrize("text", ["", ":80", "host:", "host:70000"])
def test_what_is_no_host_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        endpoint_of(text)


def _finished(store: Path) -> int:
    with Traces(store) as traces:
        rows = traces.sql(
            "SELECT count(*) FROM events WHERE kind = 'evaluation' AND \"name\" = 'success'"
        ).fetchall()
    return int(rows[0][0])


@pytest.mark.crash
@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT], ids=["SIGKILL", "SIGINT"])
def test_a_killed_replay_of_200_trials_goes_on_where_it_was(
    goldens: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], sent: signal.Signals
) -> None:
    store = tmp_path / "s"
    options = ["--trials", "5", "--session", "s", "--concurrency", "2"]
    argv = ["replay", str(goldens), "--agent", AGENT, "--store", str(store), *options]
    child = subprocess.Popen(
        [sys.executable, "-m", "flightlog.cli", *argv],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    journals = store / "journal"
    while not journals.is_dir() or sum(f.stat().st_size for f in journals.iterdir()) < 100_000:
        assert child.poll() is None, child.stderr and child.stderr.read()
        time.sleep(0.01)
    child.send_signal(sent)
    _, told = child.communicate(timeout=60)
    assert child.returncode == (-signal.SIGKILL if sent is signal.SIGKILL else 130)
    if sent is signal.SIGINT:
        assert "goes on with: --session s --resume" in told

    before = _finished(store)
    assert 0 < before < 200
    text = replayed(capsys, goldens, store, *options, "--resume")
    assert f"{before} trials finished before, not replayed again" in text
    assert "200 of 200 replays passed" in text
    assert _finished(store) == 200
