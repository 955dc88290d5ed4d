"""The list of runs."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from flightlog.analysis.db import Traces
from flightlog.analysis.runs import list_runs, print_runs
from flightlog.errors import UnknownNameError
from flightlog.recorder.record import record
from flightlog.recorder.store import Store


def _ids(traces: Traces, **filters: str) -> list[str]:
    found: list[str] = list_runs(traces, **filters)["run_id"].to_pylist()
    return found


def test_the_newest_run_comes_first(tiny: Traces) -> None:
    assert _ids(tiny) == ["c4", "c3", "c2", "c1", "b4", "b3", "b2", "b1"]
    assert list_runs(tiny, limit=2)["run_id"].to_pylist() == ["c4", "c3"]
    assert list_runs(tiny, limit=None).num_rows == 8


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({"variant": "baseline"}, ["b4", "b3", "b2", "b1"]),
        ({"model": "model-b"}, ["c3", "c2", "c1"]),
        ({"agent": "helper", "suite": "demo", "variant": "candidate"}, ["c4", "c3", "c2", "c1"]),
        ({"stop_reason": "max_tool_calls"}, ["b2"]),
        ({"stop_reason": "tool_denied"}, ["c2"]),
        ({"stop_reason": "tool_denied:delete"}, ["c2"]),
        ({"stop_reason": "user_stop"}, ["c2"]),
        ({"variant": "baseline", "model": "model-b"}, []),
    ],
)
def test_filters_choose_runs(tiny: Traces, filters: dict[str, str], found: list[str]) -> None:
    assert _ids(tiny, **filters) == found


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ({"variant": "baselin"}, "unknown variant 'baselin'\n  nearest: baseline"),
        ({"model": "model-c"}, "unknown model 'model-c'\n  nearest: model-"),
        ({"stop_reason": "max_tools"}, "unknown stop reason 'max_tools'"),
    ],
)
def test_a_value_that_no_run_has_is_refused(
    tiny: Traces, filters: dict[str, str], message: str
) -> None:
    with pytest.raises(UnknownNameError, match=message):
        list_runs(tiny, **filters)


def test_the_row_has_the_figures_of_the_run(tiny: Traces) -> None:
    row = list_runs(tiny, stop_reason="tool_denied").to_pylist()[0]
    row.pop("store"), row.pop("started_at")
    assert row == {
        "run_id": "c2", "agent": "helper", "tenant": None, "model": "model-b",
        "variant": "candidate",
        "task": "t1", "trial": 1, "status": "stopped", "stop": "tool_denied:delete",
        "success": False, "steps": 1, "tool_calls": 1, "cost_usd": 0.01, "seconds": 0.1,
    }  # fmt: skip


def test_a_narrow_terminal_keeps_the_id_and_the_end(
    tiny: Traces, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    stream = io.StringIO()
    print_runs(tiny, stream)
    lines = stream.getvalue().splitlines()
    assert all(len(line) <= 60 for line in lines)
    assert len([line for line in lines if line.strip()]) == 2 + 8
    assert lines[1].split()[0] == "run_id"
    assert {"stop", "success"} <= set(lines[1].split())


def test_a_pipe_gets_every_column_that_has_a_value(tiny: Traces) -> None:
    stream = io.StringIO()
    print_runs(tiny, stream, limit=3)
    header = stream.getvalue().splitlines()[1].split()
    assert header == [
        "run_id", "started_at", "agent", "model", "variant", "task", "trial", "status", "stop",
        "success", "steps", "tool_calls", "cost_usd", "seconds",
    ]  # fmt: skip


def test_runs_of_one_tenant_task_and_session_are_found(tmp_path: Path) -> None:
    for number, tenant in enumerate(("acme", "acme", "beta"), 1):
        fields = {"task_id": f"t{number % 2}", "tenant": tenant, "session_id": f"s{number}"}
        with record(tmp_path / "store", run_id=f"r{number}", agent="a", **fields):
            pass
    with Traces(tmp_path / "store") as traces:
        assert sorted(_ids(traces, tenant="acme")) == ["r1", "r2"]
        assert _ids(traces, tenant="acme", task="t1") == ["r1"]
        assert _ids(traces, session="s3") == ["r3"]
        with pytest.raises(UnknownNameError, match="unknown tenant 'acm'\n  nearest: acme"):
            _ids(traces, tenant="acm")
        with pytest.raises(UnknownNameError, match="unknown filter 'tenants'\n  nearest: tenant"):
            _ids(traces, tenants="acme")
        assert "tenant" in list_runs(traces).column_names


def test_a_list_that_is_cut_says_so(tiny: Traces) -> None:
    for limit, is_cut in ((7, True), (8, False), (9, False), (None, False)):
        stream = io.StringIO()
        print_runs(tiny, stream, limit=limit)
        assert ("the newest 7; --limit shows more" in stream.getvalue()) is is_cut
        assert stream.getvalue().count("baseline") + stream.getvalue().count("candidate") == (
            7 if is_cut else 8
        )


def test_an_empty_store_says_so(tmp_path: Path) -> None:
    Store.create(tmp_path / "store")
    stream = io.StringIO()
    with Traces(tmp_path / "store") as traces:
        print_runs(traces, stream)
    assert stream.getvalue() == "no runs\n"
