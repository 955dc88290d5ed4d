"""Bad input: what, where and what to do, exit 64, nothing half-written."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from flightlog.cli import CLOSED_PIPE, COMMANDS, TERMINATED, cli, run
from flightlog.recorder.record import record


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "store"
    for variant in ("baseline", "candidate"):
        for task in ("t1", "t2"):
            fields = {"agent": "a", "model": "m", "suite": "s", "trial": 0}
            with record(path, task_id=task, variant=variant, **fields) as writer:
                writer.model_call(step=1, request_model="m", input_tokens=1, output_tokens=1)
                writer.tool_call(step=1, tool_name="search", args="{}", result="x")
    return path


def fails(capsys: pytest.CaptureFixture[str], *argv: object, code: int = 64) -> str:
    assert run([str(part) for part in argv]) == code
    text = capsys.readouterr().err
    assert text.splitlines()[-1]
    assert "Traceback" not in text
    return text


def test_unknown_command_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert "Nearest: check" in fails(capsys, "chek")


def test_unknown_option_is_exit_64(capsys: pytest.CaptureFixture[str]) -> None:
    fails(capsys, "runs", "--nonsense")


@pytest.mark.parametrize("command", ["runs", "seal", "verify", "check"])
def test_missing_store_says_where_and_is_not_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    missing = tmp_path / "none"
    assert str(missing) in fails(capsys, command, "--store", missing)
    assert not missing.exists()


def test_unknown_run_names_the_nearest(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "unknown run" in fails(capsys, "show", "zzzz", "--store", store)


def test_unknown_run_is_answered_with_ids_that_resemble_it_or_none(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = fails(capsys, "show", "zzzz", "--store", store)
    assert f"flightlog runs --store {store}" in text
    assert "known:" not in text


def test_two_reports_never_share_a_file(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "report.md"
    text = fails(capsys, "check", "--store", store, "-o", out, "-o", out)
    assert "overwrite" in text
    assert not out.exists()


def test_a_report_has_an_ending_that_names_its_form(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = fails(capsys, "check", "--store", store, "-o", tmp_path / "report")
    assert "One of: .html, .md, .json, .xml, .sarif, .txt" in text


def test_misspelt_variant_names_the_nearest(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = fails(capsys, "check", "--store", store, "--candidate", "candidat")
    assert text.count("baseline") == 1
    assert "nearest: candidate" in text


def test_misspelt_metric_names_the_nearest(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = fails(capsys, "check", "--store", store, "--metric", "cost_us")
    assert "nearest: cost_usd" in text


def test_check_that_pairs_nothing_exits_2_and_says_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "store"
    for variant, task in (("baseline", "t1"), ("candidate", "t2")):
        with record(path, task_id=task, variant=variant):
            pass
    text = fails(capsys, "check", "--store", path, code=2)
    assert "t1" in text
    assert "t2" in text


def test_sql_error_is_the_users_and_names_the_nearest_column(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "tool_calls" in fails(capsys, "sql", "select tool_call from runs", "--store", store)


def test_sql_refuses_more_than_reading(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fails(capsys, "sql", "drop view runs", "--store", store)


def test_unknown_question_names_the_nearest(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "nearest: tool_histogram" in fails(capsys, "ask", "tool_histogramm", "--store", store)


def test_trace_file_cut_in_the_middle_leaves_no_store(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cut = tmp_path / "cut.json"
    cut.write_text('[{"task_id": 1, "traj": [', encoding="utf-8")
    store = tmp_path / "store"
    text = fails(capsys, "import", "--format", "tau-bench", cut, "--store", store)
    assert str(cut) in text
    assert not [path for path in store.rglob("*") if path.suffix in (".parquet", ".journal")]


def test_unknown_import_format_names_the_nearest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "x.json"
    file.write_text("[]", encoding="utf-8")
    text = fails(capsys, "import", "--format", "tau-bensh", file, "--store", tmp_path / "s")
    assert "nearest: tau-bench" in text


def test_replay_of_a_missing_goldens_folder_is_exit_64(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    agent = "flightlog.commands.demo_agent:steady"
    fails(capsys, "replay", tmp_path / "none", "--agent", agent, "--store", tmp_path / "s")


def test_replay_with_an_agent_that_is_not_there_says_how_to_name_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = fails(capsys, "replay", tmp_path, "--agent", "nowhere:agent", "--store", tmp_path / "s")
    assert "nowhere" in text


def test_demo_never_removes_a_folder_that_it_did_not_make(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "precious.txt").write_text("keep", encoding="utf-8")
    assert "not a demo folder" in fails(capsys, "demo", "--dir", tmp_path)
    assert (tmp_path / "precious.txt").read_text(encoding="utf-8") == "keep"


def test_config_with_an_unknown_key_names_file_and_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "flightlog.yaml"
    file.write_text("budgets:\n  max_stepz: 3\n", encoding="utf-8")
    assert f"{file}:2: unknown key" in fails(capsys, "config", "check", file)


def test_hostile_names_reach_the_terminal_escaped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evil = "\x1b]0;owned\x07\x1b[31mred\u202e"
    with record(tmp_path / "store", agent=evil, task_id=evil, variant=evil, model=evil) as writer:
        writer.tool_call(step=1, tool_name=evil, args="{}", result=evil, error=evil)
    for argv in (["runs"], ["show", "last", "--full"], ["sql", "select agent from runs"]):
        assert run([*argv, "--store", str(tmp_path / "store")]) == 0
        out = capsys.readouterr().out
        assert "\x1b]" not in out
        assert "\x1b[31mred" not in out
        assert "\u202e" not in out


@pytest.mark.parametrize(
    "argv",
    [
        ["sql", "--file", "nowhere.sql"],
        ["sql", "--file", "."],
        ["sql", "--file", "binary.sql"],
        ["check", "-o", "."],
        ["plot", "budgets", "--out", "nowhere/plot.png"],
    ],
)
def test_path_that_cannot_be_read_or_written_is_not_our_bug(
    store: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    argv: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("binary.sql").write_bytes(b"select \xff")
    fails(capsys, *argv, "--store", store)


@pytest.mark.parametrize("form", ["csv", "table"])
def test_closed_pipe_ends_quietly_and_is_no_verdict(store: Path, form: str) -> None:
    code = "from flightlog.cli import main; main()"
    wide = ", ".join(f"repeat('x', 150) c{number}" for number in range(20))
    query = f"select range, {wide} from range(500)"
    command = [sys.executable, "-c", code, "sql", query, "--format", form, "--store", str(store)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=60) == CLOSED_PIPE


def test_agent_code_that_calls_sys_exit_cannot_end_a_replay_as_a_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "leaving_agent.py").write_text("import sys\nsys.exit(0)\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    argv = ["replay", "goldens", "--agent", "leaving_agent:make", "--store", "s"]
    assert "sys.exit" in fails(capsys, *argv)


ENDED_AGENT = """
import os, signal, flightlog

class Model:
    name = "m"

    def complete(self, request):
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()

flightlog.run(flightlog.Agent("a", Model()), flightlog.Task("t", "go"))
"""


def test_a_command_that_is_ended_by_sigterm_in_a_run_says_so(tmp_path: Path) -> None:
    (tmp_path / "ended_agent.py").write_text(ENDED_AGENT, encoding="utf-8")
    code = "from flightlog.cli import main; main()"
    argv = ["replay", "goldens", "--agent", "ended_agent:make", "--store", "s"]
    done = subprocess.run(
        [sys.executable, "-c", code, *argv],
        check=False, cwd=tmp_path, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (TERMINATED, "error: terminated\n")


@pytest.mark.parametrize("argv", [["runs"], ["ask", "stop_reasons"], ["sql", "select 1"], ["-h"]])
def test_a_closed_output_changes_no_exit_code(store: Path, argv: list[str]) -> None:
    code = "import os, sys; os.close(1); os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    start = ["-c", "from flightlog.cli import main; main()"]
    done = subprocess.run(
        [sys.executable, "-c", code, *start, *argv],
        check=False, env={**os.environ, "FLIGHTLOG_STORE": str(store)},
        stderr=subprocess.PIPE, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has it")
@pytest.mark.parametrize("argv", [["runs"], ["ask"], ["-h"]])
def test_a_full_disk_behind_the_output_is_one_sentence(store: Path, argv: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", "from flightlog.cli import main; main()", *argv],
            check=False, env={**os.environ, "FLIGHTLOG_STORE": str(store)},
            stdout=full, stderr=subprocess.PIPE, text=True, timeout=60,
        )  # fmt: skip
    assert done.returncode == 64
    assert done.stderr.startswith("error: No space left on device")


def test_closed_error_pipe_leaves_the_exit_code(store: Path) -> None:
    code = "from flightlog.cli import main; main()"
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-c", code, "show", "nope", "--store", str(store)]
    with os.fdopen(writer, "w") as closed:
        assert subprocess.run(command, check=False, stderr=closed, timeout=60).returncode == 64


def test_terminal_that_lacks_a_character_gets_it_escaped(store: Path) -> None:
    code = "from flightlog.cli import main; main()"
    command = [sys.executable, "-c", code, "sql", "select '\u65e5' a", "--store", str(store)]
    ascii_only = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        command, check=False, env=ascii_only, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert r"\u65e5" in done.stdout


def _commands(group: click.Group, *names: str) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield " ".join((*names, name)), command
        if isinstance(command, click.Group):
            yield from _commands(command, *names, name)


def test_every_command_and_option_says_what_it_is_for() -> None:
    for name, command in _commands(cli):
        summary = command.get_short_help_str(64)
        # The commands of the first level are listed with a text of their own.
        assert name in COMMANDS or not summary.endswith("..."), (name, summary)
        for option in command.params:
            if isinstance(option, click.Option):
                assert option.help, (name, option.opts)
                assert option.help[-1] in ".]", (name, option.help)


@pytest.mark.parametrize("argv", [[], ["golden"], ["plot"], ["config"]])
def test_command_group_alone_shows_its_help_once(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    text = fails(capsys, *argv)
    assert text.count("Usage:") == 1
    assert "error:" not in text
