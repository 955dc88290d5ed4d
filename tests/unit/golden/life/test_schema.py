"""The published schema of task.yaml says what the reader of the file says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from flightlog.cli import run as flightlog
from flightlog.config import load_yaml
from flightlog.errors import FlightlogError, GoldenError
from flightlog.golden.life.schema import KEYS, task_schema
from flightlog.golden.pin import pin_runs
from flightlog.golden.task import load_task
from flightlog.golden.yaml_files import dump_yaml
from flightlog.recorder.store import Store
from tests.unit.golden.world import GET, REFUND, record_run

FULL: dict[str, Any] = {
    "format": 1,
    "task_id": "t",
    "suite": "s",
    "prompt": "p",
    "inputs": {"a": [1]},
    "digest": "d",
    "tools": ["refund"],
    "judge": {
        "writes": "ignore",
        "stop_reasons": ["ok", "max_steps"],
        "forbidden_tools": ["erase*"],
        "forbidden_calls": [{"tool": "refund", "args": {"amount": 3900}}],
        "answer_contains": ["x"],
        "answer_matches": ["y+"],
        "answer": {
            "contains": "a",
            "matches": ["b"],
            "schema": {"type": "object"},
            "number": [{"path": "/usd", "within": [1, 2]}, {"regex": "[0-9]+", "within": [1, 2]}],
            "function": "checks:polite",
        },
        "temporal": [
            {"never": "refund", "before": "get_order"},
            {"at_most": 1, "calls": "refund", "within_steps": 2},
            {"must_follow": "get_order", "after": "refund"},
            {"no_write_after_refusal": "refund"},
        ],
        "graded": [{"rubric": "polite", "required": True}],
    },
    "budgets": {"max_steps": 5, "max_usd": 0.5},
}


def schema_allows(value: Any) -> bool:
    return Draft202012Validator(task_schema()).is_valid(value)


def reader_allows(value: Any, path: Path) -> bool:
    path.write_text(dump_yaml(value, where=""), encoding="utf-8")
    try:
        load_task(path)
    except FlightlogError:
        return False
    return True


def test_the_schema_is_a_schema() -> None:
    Draft202012Validator.check_schema(task_schema())


def test_a_contract_with_every_kind_of_rule_is_allowed_by_both(tmp_path: Path) -> None:
    assert reader_allows(FULL, tmp_path / "task.yaml")
    assert schema_allows(FULL)


def test_what_pin_writes_fits_the_schema(tmp_path: Path) -> None:
    run_id = record_run(tmp_path / "store", [GET], [REFUND])
    pin_runs(Store.open(tmp_path / "store"), [run_id], tmp_path / "goldens", apply_drafts=True)
    assert schema_allows(load_yaml(tmp_path / "goldens" / "refund-17" / "task.yaml")[0])


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if isinstance(value, dict) else []
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for name, item in items if isinstance(value, (dict, list)) else ():
        if name not in ("inputs", "args", "schema") and isinstance(item, (dict, list)):
            found += places(item, (*path, name))
    return found


@pytest.mark.parametrize("path", places(FULL), ids=lambda p: ".".join(map(str, p)) or "top")
def test_an_unknown_key_is_refused_by_both(path: tuple[Any, ...], tmp_path: Path) -> None:
    value = json.loads(json.dumps(FULL))
    node = value
    for name in path:
        node = node[name]
    node["unknwon"] = 1
    assert not schema_allows(value)
    assert not reader_allows(value, tmp_path / "task.yaml")


@pytest.mark.parametrize("key", ["format", "task_id"])
def test_a_required_key_is_required_by_both(key: str, tmp_path: Path) -> None:
    value = {name: item for name, item in FULL.items() if name != key}
    assert not schema_allows(value)
    assert not reader_allows(value, tmp_path / "task.yaml")


def test_every_key_of_the_table_is_used_above() -> None:
    budgets = {key.path for key in KEYS if key.path.startswith("budgets.")}
    assert {key.path for key in KEYS} - budgets <= set(paths(FULL))


def paths(value: Any, path: str = "") -> list[str]:
    if isinstance(value, dict):
        inner = [(f"{path}.{name}" if path else name, item) for name, item in value.items()]
        return [one for name, item in inner for one in (name, *paths(item, name))]
    if isinstance(value, list):
        return [one for item in value for one in paths(item, f"{path}[]")]
    return []


def test_the_command_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert flightlog(["golden", "schema"]) == 0
    assert json.loads(capsys.readouterr().out) == task_schema()


@pytest.mark.parametrize("text", ["", "format: 99\n", "format: 1\ntask_id: t\njudge: [\n", "- 1\n"])
def test_an_empty_newer_truncated_or_foreign_contract_is_a_named_error(
    tmp_path: Path, text: str
) -> None:
    path = tmp_path / "task.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(FlightlogError) as caught:
        load_task(path)
    assert str(path) in caught.value.where


def test_an_error_names_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "task.yaml"
    path.write_text("format: 1\ntask_id: t\njudge:\n  wrties: ignore\n", encoding="utf-8")
    with pytest.raises(GoldenError, match="wrties") as caught:
        load_task(path)
    assert caught.value.where == f"{path}:4"
    assert "writes" in caught.value.hint
