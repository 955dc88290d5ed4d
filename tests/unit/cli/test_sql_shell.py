"""The shell of `flightlog sql`: what it does with a line, what it completes, and a real one."""

from __future__ import annotations

import os
import pty
import select
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flightlog.analysis.columns_page import view_columns
from flightlog.analysis.sandbox import Bounds
from flightlog.cli import run
from flightlog.commands.shell.completion import COMMANDS, completions
from flightlog.commands.shell.prompt import history_file
from flightlog.commands.shell.shell import Shell
from flightlog.recorder.record import record

VIEWS = {"runs": ("run_id", "agent", "cost_usd"), "tool_calls": ("run_id", "tool_name")}
QUESTIONS = ("stop_reasons", "slowest_runs")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("shell") / "store"
    for agent in ("desk", "\x1b[31mevil"):
        with record(path, agent=agent) as one:
            one.tool_call(tool_name="search", outcome="ok")
    return path


@pytest.fixture
def shell(store: Path) -> Shell:
    return Shell([store], view_columns(), Bounds(seconds=30))


def offered(before: str) -> list[str]:
    return [one.text for one in completions(before, VIEWS, QUESTIONS)]


@pytest.mark.parametrize(
    ("before", "words"),
    [
        ("sel", ["SELECT"]),
        ("select * from ru", ["runs"]),
        ("select tool_name from tool_calls where tool", ["tool_calls", "tool_name"]),
        ("select agent from runs where c", ["cost_usd", "CASE WHEN", "count(", "coalesce("]),
        ("select r.a", []),
        ("from runs r select r.a", ["agent"]),
        ("from tool_calls as t join runs using (run_id) select t.", ["run_id", "tool_name"]),
        ("select runs.c", ["cost_usd"]),
        (".as", [".ask"]),
        (".ask s", ["stop_reasons", "slowest_runs"]),
        (".columns ru", ["runs"]),
        (".format ", ["table", "csv", "json"]),
        ("", []),
        ("select ", []),
    ],
)
def test_a_word_goes_on_as_what_fits_there(before: str, words: list[str]) -> None:
    assert offered(before) == words


def test_a_query_is_whole_when_it_ends_in_a_semicolon(shell: Shell) -> None:
    assert not shell.is_whole("select 1")
    assert not shell.is_whole("select\n1 -- ;\n")
    assert shell.is_whole("select 1;")
    assert shell.is_whole(".tables")
    assert shell.is_whole("  ")


def test_a_query_is_answered_and_its_rows_counted(
    shell: Shell, capsys: pytest.CaptureFixture[str]
) -> None:
    assert shell.handle("select count(*) as n from runs;")
    told = capsys.readouterr()
    assert "2" in told.out
    assert told.err == "1 row\n"


def test_what_a_terminal_would_obey_is_shown(
    shell: Shell, capsys: pytest.CaptureFixture[str]
) -> None:
    shell.handle("select agent from runs;")
    assert "\x1b" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("select nope from runs;", "unknown column 'nope'"),
        ("drop view runs;", "only a single SELECT"),
        ("select 1; select 2;", "one statement at a time"),
        (".nope", "unknown command"),
        (".columns nope", "unknown view"),
        (".format xml", "unknown format"),
        (".limit -1", "no number of rows"),
        (".ask nope", "unknown question"),
    ],
)
def test_an_error_is_told_and_the_shell_goes_on(
    shell: Shell, capsys: pytest.CaptureFixture[str], text: str, told: str
) -> None:
    assert shell.handle(text)
    assert told in capsys.readouterr().err


def test_commands_do_what_their_help_says(shell: Shell, capsys: pytest.CaptureFixture[str]) -> None:
    def out(text: str) -> str:
        assert shell.handle(text)
        return capsys.readouterr().out

    assert all(name in out(".help") for name in COMMANDS)
    assert "tool_calls" in out(".tables").split()
    assert "cost_usd" in out(".columns runs").split()
    assert "slowest_runs" in out(".questions")
    assert "running" in out(".ask stop_reasons") or "ok" in out(".ask stop_reasons")
    assert "Projection" in out(".explain select run_id from runs;")
    shell.handle(".format csv")
    shell.handle(".limit 1")
    assert out("select 1 as n union all select 1;") == "n\n1\n"
    shell.handle(".limit none")
    assert out("select 1 as n union all select 1;") == "n\n1\n1\n"
    assert not shell.handle(".quit")


def test_history_is_kept_where_the_user_keeps_state(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("FLIGHTLOG_HISTORY", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert history_file() == tmp_path / "flightlog" / "sql_history"
    monkeypatch.setenv("FLIGHTLOG_HISTORY", "")
    assert history_file() is None


def test_without_a_terminal_a_query_has_to_be_given(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["sql", "--store", str(store)]) == 64
    assert "give one query" in capsys.readouterr().err


def read_until(terminal: int, wanted: str, seconds: float = 30) -> str:
    seen, deadline = "", time.monotonic() + seconds
    while wanted not in seen and time.monotonic() < deadline:
        if select.select([terminal], [], [], 0.2)[0]:
            try:
                seen += os.read(terminal, 65_536).decode(errors="replace")
            except OSError:
                break
    assert wanted in seen, seen[-2_000:]
    return seen


@pytest.fixture
def terminal(store: Path, tmp_path: Path) -> Iterator[int]:
    """`flightlog sql` in a terminal of its own."""
    pid, opened = pty.fork()
    if pid == 0:
        os.environ.update(
            TERM="xterm", FLIGHTLOG_HISTORY=str(tmp_path / "history"), COLUMNS="100", LINES="40"
        )
        command = [sys.executable, "-m", "flightlog", "sql", "--store", str(store)]
        os.execv(command[0], command)
    yield opened
    os.close(opened)
    os.waitpid(pid, 0)


def test_a_real_shell_completes_answers_and_keeps_its_history(
    terminal: int, tmp_path: Path
) -> None:
    read_until(terminal, "flightlog>")
    os.write(terminal, b"select count(*) as many from messa\t")
    read_until(terminal, "messages")
    os.write(terminal, b"\r;\r")
    read_until(terminal, "1 row")
    os.write(terminal, b".quit\r")
    time.sleep(0.5)
    history = tmp_path / "history"
    assert "from messages" in history.read_text(encoding="utf-8")
    assert history.stat().st_mode & 0o077 == 0
