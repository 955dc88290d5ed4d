"""What a linter of goldens finds before anybody is served a wrong observation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from flightlog.cli import run as flightlog
from flightlog.errors import AgentError, GoldenError
from flightlog.golden.life.doubts import DoubtKind
from flightlog.golden.life.lint import LintReport, lint, load_fixture_factory
from flightlog.golden.pin import pin_runs
from flightlog.recorder.record import record
from flightlog.recorder.store import Store
from tests.unit.golden.world import GET, REFUND, record_run, shop_tools

LIST = "  list_refunds:\n    effect: read\n    scopes: [{scopes}]\n"


def shop_fixture() -> Mapping[str, Callable[..., Any]]:
    """The functions of the shop over a fresh world."""
    return {tool.name: tool.fn for tool in shop_tools() if tool.fn is not None}


def other_fixture() -> Mapping[str, Callable[..., Any]]:
    """A world in which refunds are answered otherwise."""
    return {**shop_fixture(), "refund": lambda order_id, amount: {"refunded": -1}}


def broken_fixture() -> Mapping[str, Callable[..., Any]]:
    raise RuntimeError("no world")


NOT_A_FIXTURE = 1


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def goldens(tmp_path: Path, store: Path) -> Path:
    record_run(store, [GET], [REFUND], run_id="r1")
    pin_runs(Store.open(store), ["r1"], tmp_path / "goldens")
    return tmp_path / "goldens"


def change(goldens: Path, old: str, new: str, *, count: int = -1) -> None:
    path = goldens / "tools.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, count), encoding="utf-8")


def kinds(report: LintReport) -> list[tuple[DoubtKind, str]]:
    return [(one.kind, one.tool_name) for one in report.doubts]


def test_sound_goldens_have_no_finding(goldens: Path) -> None:
    report = lint(goldens, fixture=shop_fixture)
    assert (report.doubts, report.exit_code) == ((), 0)
    assert report.lines() == ["1 golden task: 0 errors, 0 notes; fixture asked"]


def test_a_scope_that_a_write_lacks_is_unsound_with_tool_and_call(goldens: Path) -> None:
    scopes = "    effect: write\n    scopes:\n    - "
    change(goldens, scopes + '"order:{order_id}"', scopes + "refunds")
    assert (DoubtKind.UNSOUND, "refund") not in kinds(lint(goldens))
    report = lint(goldens, fixture=shop_fixture)
    assert (DoubtKind.UNSOUND, "refund") in kinds(report)
    assert report.exit_code == 1
    (line,) = [one for one in report.lines() if one.startswith("unsound_scope")]
    assert 'refund {"amount":5,"order_id":"A1"} (step 2 of run r1)' in line
    assert 'get_order {"order_id":"A1"}' in line


def test_a_scope_that_a_read_lacks_is_unsound(goldens: Path) -> None:
    change(goldens, '"order:{order_id}"', '"catalogue:{order_id}"', count=1)
    report = lint(goldens, fixture=shop_fixture)
    (doubt,) = [one for one in report.doubts if one.kind is DoubtKind.UNSOUND]
    assert (doubt.tool_name, doubt.other) == ("refund", "get_order")


def test_a_fixture_that_is_another_world_is_not_trusted(goldens: Path) -> None:
    report = lint(goldens, fixture=other_fixture)
    assert kinds(report) == [(DoubtKind.FIXTURE, "refund")]
    assert report.exit_code == 0


def test_the_same_call_answered_differently_in_one_state_is_a_conflict(
    store: Path, tmp_path: Path
) -> None:
    goldens = tmp_path / "goldens"
    for run_id, result in (("a", "1"), ("b", "2")):
        with record(store, run_id=run_id, task_id="t") as run:
            run.tool_call(tool_name="get", args="{}", result=result, step=1, call_ix=0)
    pin_runs(Store.open(store), ["a", "b"], goldens)
    assert kinds(lint(goldens)) == [(DoubtKind.CONFLICT, "get"), (DoubtKind.UNKNOWN, "get")]


def test_calls_that_raced_a_write_are_told(store: Path, tmp_path: Path) -> None:
    goldens = tmp_path / "goldens"
    record_run(store, [GET, REFUND], run_id="r1")
    pin_runs(Store.open(store), ["r1"], goldens)
    assert (DoubtKind.RACING, "get_order") in kinds(lint(goldens))


def test_misspelt_arguments_and_scopes_are_told(goldens: Path) -> None:
    change(goldens, '"order:{order_id}"', '"order:{ordr_id}"', count=1)
    report = lint(goldens)
    assert kinds(report) == [(DoubtKind.MISSPELT, "get_order")]
    assert "names 'ordr_id', which no call of it has" in report.lines()[0]
    assert "nearest: order_id" in report.lines()[0]


def test_a_scope_that_one_tool_alone_names_and_others_nearly_is_misspelt(goldens: Path) -> None:
    change(goldens, "tools:\n", "tools:\n" + LIST.format(scopes='"orders:*"'))
    report = lint(goldens)
    assert (DoubtKind.MISSPELT, "list_refunds") in kinds(report)


def test_a_scope_that_is_written_and_never_read_is_unused(goldens: Path) -> None:
    scopes = "    effect: write\n    scopes:\n"
    change(goldens, scopes, scopes + "    - ledger\n")
    report = lint(goldens)
    assert kinds(report) == [(DoubtKind.UNUSED, "refund")]
    assert report.exit_code == 0


def test_the_fixture_of_the_command_line_is_a_named_function(
    goldens: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(AgentError):
        load_fixture_factory("nothing:here")
    with pytest.raises(AgentError, match="not a function"):
        load_fixture_factory("tests.unit.golden.life.test_lint:NOT_A_FIXTURE")
    with pytest.raises(GoldenError, match="the fixture failed: RuntimeError: no world"):
        load_fixture_factory("tests.unit.golden.life.test_lint:broken_fixture")()
    with pytest.raises(GoldenError, match="gave a PosixPath"):
        load_fixture_factory("pathlib:Path.cwd")()
    fixture = "tests.unit.golden.life.test_lint:shop_fixture"
    assert flightlog(["golden", "lint", str(goldens), "--fixture", fixture]) == 0
    assert "fixture asked" in capsys.readouterr().out


def test_hostile_names_and_arguments_are_harmless_in_the_report(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    goldens = tmp_path / "goldens"
    for run_id, result in (("a", "1"), ("b", "2")):
        with record(store, run_id=run_id, task_id="t\x1b[2J") as run:
            run.tool_call(tool_name="get", args='{"a":"\\u001b[2J\\u202e"}', result=result, step=1)
    pin_runs(Store.open(store), ["a", "b"], goldens)
    assert flightlog(["golden", "lint", str(goldens)]) == 1
    printed = capsys.readouterr().out
    assert all(line.isprintable() for line in printed.splitlines())
