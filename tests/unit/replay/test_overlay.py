"""Overlays: which calls they change, and what the state is afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flightlog.errors import ConfigError
from flightlog.replay.overlaid import OverlayExecutor
from flightlog.replay.overlay import Action, Overlay
from flightlog.replay.overlay_files import read_overlays
from flightlog.trace.vocab import Outcome
from tests.unit.replay.world import Call, executor_over, pending, record

GET: Call = ("get", {"key": "a"})
PUT: Call = ("put", {"key": "a", "value": 5})


def _executor(*overlays: Overlay) -> OverlayExecutor:
    cassette = executor_over(record([GET, PUT, GET])).cassette
    return OverlayExecutor(cassette, overlays, golden="one")


def _written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "overlays.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_only_the_nth_call_of_a_tool_is_changed() -> None:
    fail = Overlay(Action.FAIL, tool="g*", nth=2, value={"type": "OSError", "message": "down"})
    executor = _executor(fail)
    answers = [executor.resolve(pending(*GET)) for _ in range(3)]
    assert [one.outcome for one in answers] == [Outcome.OK, Outcome.FAILED, Outcome.OK]
    assert (answers[1].error_type, answers[1].error) == ("OSError", "down")
    assert executor.applied == {0: 1}


def test_a_write_that_an_overlay_fails_changes_nothing() -> None:
    fail = Overlay(Action.FAIL, tool="put", nth=1, value={"type": "OSError", "message": "down"})
    executor = _executor(fail)
    before = executor.resolve(pending(*GET)).result
    executor.resolve(pending(*PUT))
    assert executor.resolve(pending(*GET)).result == before
    assert executor.resolve(pending(*PUT)).outcome is Outcome.OK


@pytest.mark.parametrize(
    "overlay",
    [
        Overlay(Action.TIMEOUT, tool="put"),
        Overlay(Action.REPLACE, tool="put", value={"id": 7}),
        Overlay(Action.TRUNCATE, tool="put", value=0),
    ],
    ids=str,
)
def test_a_read_after_a_write_of_unknown_outcome_is_a_miss(overlay: Overlay) -> None:
    executor = _executor(overlay)
    executor.resolve(pending(*PUT))
    assert executor.resolve(pending(*GET)).outcome is Outcome.REPLAY_MISS


def test_a_replaced_read_changes_nothing() -> None:
    executor = _executor(Overlay(Action.REPLACE, tool="get", nth=1, value={"b": 1, "a": [2]}))
    assert executor.resolve(pending(*GET)).result == '{"a":[2],"b":1}'
    assert executor.resolve(pending(*GET)).result == "1"


@pytest.mark.parametrize(
    ("item", "what"),
    [
        ("{action: explode, tool: get}", "action is 'explode'"),
        ("{action: timeout}", "must name either"),
        ("{action: timeout, step: 1, nth: 2}", "must name either"),
        ("{action: timeout, tool: get, nth: 0}", "nth=0"),
        ("{action: timeout, tool: get, nth: true}", "nth=True"),
        ("{action: timeout, tool: get, value: 1}", "timeout has value"),
        ("{action: delay, tool: get, value: .nan}", "delay has value"),
        ("{action: truncate, tool: get, value: -1}", "truncate has value"),
        ("{action: fail, tool: get, value: {type: E}}", "fail has value"),
        ("{action: fail, tol: get}", "unknown key 'tol'"),
        ("get", "must hold keys and values"),
    ],
)
def test_a_malformed_overlay_is_an_error_with_file_and_line(
    tmp_path: Path, item: str, what: str
) -> None:
    path = _written(tmp_path, f"overlays:\n  - {{action: timeout, tool: a}}\n  - {item}\n")
    with pytest.raises(ConfigError) as caught:
        read_overlays(path)
    assert what in caught.value.what
    assert caught.value.where.startswith(f"{path}:")


def test_overlays_are_read_in_their_order(tmp_path: Path) -> None:
    text = "overlays:\n  - {action: timeout, step: 2}\n  - {action: delay, tool: a, value: 5}\n"
    expected: tuple[Any, ...] = (
        Overlay(Action.TIMEOUT, step=2),
        Overlay(Action.DELAY, tool="a", value=5),
    )
    assert read_overlays(_written(tmp_path, text)) == expected


def test_a_replacement_without_a_json_form_is_refused_before_the_run() -> None:
    with pytest.raises(ConfigError, match="without a JSON form"):
        Overlay(Action.REPLACE, tool="get", value=float("nan"))
