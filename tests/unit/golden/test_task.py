"""The contract file: strict to read, the same after a round trip, never a path."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flightlog.errors import GoldenError, NewerFormatError
from flightlog.golden.task import (
    GoldenTask,
    JudgeRules,
    folder_name,
    load_task,
    save_task,
    task_files,
)
from flightlog.runtime.task import Task
from flightlog.trace.vocab import StopReason

GOLDEN = GoldenTask(
    Task("refund-17", "Refund A1.\nNow.\n", suite="shop", inputs={"n": 1}, content_digest="d" * 32),
    tools=("get_order", "refund"),
    judge=JudgeRules(
        writes="ignore",
        stop_reasons=(StopReason.OK, StopReason.MAX_STEPS),
        forbidden_tools=("delete_all",),
        answer_contains=("5 USD",),
        answer_matches=(r"\d+ USD",),
    ),
    budgets={"max_steps": 12, "max_usd": 0.05},
)


def _written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "task.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_task_comes_back_as_it_was(tmp_path: Path) -> None:
    save_task(GOLDEN, tmp_path / "task.yaml")
    assert load_task(tmp_path / "task.yaml") == GOLDEN


def test_what_is_left_out_has_its_default(tmp_path: Path) -> None:
    golden = load_task(_written(tmp_path, 'format: 1\ntask_id: "1"\n'))
    assert golden == GoldenTask(Task("1", ""))


@pytest.mark.parametrize(
    ("text", "line", "message", "hint"),
    [
        ("task_id: a\n", 1, "format is None", "number 1"),
        ("format: 1\n", 1, "task_id is None", "id of the task"),
        ("format: 1\ntask_id: 7\n", 2, "task_id is 7", "quotes"),
        ("format: 1\ntask_id: a\npromt: x\n", 3, "unknown key 'promt'", "prompt"),
        ("format: 1\ntask_id: a\njudge:\n  write: accepted\n", 4, "unknown key 'write'", "writes"),
        ("format: 1\ntask_id: a\njudge:\n  writes: some\n", 4, "judge.writes is 'some'", "ignore"),
        ("format: 1\ntask_id: a\njudge:\n  stop_reasons: [okk]\n", 4, "stop_reasons", "ok"),
        (
            "format: 1\ntask_id: a\njudge:\n  answer_matches: ['(']\n",
            4,
            "answer_matches",
            "regular",
        ),
        ("format: 1\ntask_id: a\njudge: yes\n", 3, "judge is 'yes'", "keys and values"),
        ("format: 1\ntask_id: a\ntools: get\n", 3, "tools is 'get'", "list"),
        (
            "format: 1\ntask_id: a\nbudgets:\n  max_step: 3\n",
            4,
            "unknown key 'max_step'",
            "max_steps",
        ),
        ("format: 1\ntask_id: a\nbudgets:\n  max_usd: -1\n", 4, "max_usd is -1", "from 0"),
        ("format: 1\ntask_id: a\nbudgets:\n  max_usd: true\n", 4, "max_usd is True", "from 0"),
    ],
)
def test_a_mistake_names_file_line_and_what_would_be_right(
    tmp_path: Path, text: str, line: int, message: str, hint: str
) -> None:
    path = _written(tmp_path, text)
    with pytest.raises(GoldenError, match=message) as caught:
        load_task(path)
    assert caught.value.where == f"{path}:{line}"
    assert hint in caught.value.hint


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NewerFormatError, match="format 99"):
        load_task(_written(tmp_path, "format: 99\ntask_id: a\n"))


@pytest.mark.parametrize("task_id", ["0", "refund-17", "a.b_c", "x" * 64])
def test_a_safe_task_id_is_its_folder(task_id: str) -> None:
    assert folder_name(task_id) == task_id


@pytest.mark.parametrize(
    "task_id",
    [
        "../x",
        "/etc/passwd",
        "a/b",
        "a\\b",
        "nul\0byte",
        "x" * 300,
        "",
        ".",
        "..",
        ".hidden",
        "UPPER",
        "ü",
        "\ud800",
        "blobs",
        "tools.yaml",
        "a b",
        "-x",
        "con\n",
    ],
)
def test_any_other_task_id_becomes_a_slug_with_a_digest(task_id: str) -> None:
    name = folder_name(task_id)
    assert name != task_id
    assert len(name) <= 64
    assert name.rpartition("-")[2].isalnum()


@given(st.text())
def test_no_task_id_leaves_the_folder_of_goldens(task_id: str) -> None:
    name = folder_name(task_id)
    assert (Path("/goldens") / name).resolve().parent == Path("/goldens")
    assert not name.startswith((".", "-"))
    assert name == name.lower()


def test_ids_that_slug_alike_have_folders_of_their_own() -> None:
    names = {folder_name(task_id) for task_id in ("a b", "a/b", "A b", "a?b", "a  b")}
    assert len(names) == 5
    assert folder_name("x", suite="s1", is_unique=False) != folder_name(
        "x", suite="s2", is_unique=False
    )


def test_a_missing_or_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(GoldenError, match="no such folder"):
        task_files(tmp_path / "absent")
    with pytest.raises(GoldenError, match="no golden task"):
        task_files(tmp_path)


def test_tasks_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for name in ("10", "9", "a"):
        (tmp_path / name).mkdir()
        save_task(GOLDEN, tmp_path / name / "task.yaml")
    assert [path.parent.name for path in task_files(tmp_path)] == ["a", "9", "10"]
