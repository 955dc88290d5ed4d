"""`record`: however the body ends, its run has exactly one end that says so."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from flightlog.errors import UnknownNameError
from flightlog.recorder.ids import day_of
from flightlog.recorder.record import record
from flightlog.recorder.recorder import Recorder
from flightlog.recorder.store import Store
from flightlog.trace.ids import new_id
from flightlog.trace.vocab import RunStatus, StopReason


def rows(path: Path) -> list[dict[str, Any]]:
    with Recorder(path, seal_on_close=False):
        return list(Store.open(path).snapshot().unsealed_events.to_pylist())


def run_and_end(path: Path, error: BaseException | None) -> dict[str, Any]:
    recorder = Recorder(path, seal_on_close=False)
    try:
        with record(recorder, agent="a") as run:
            run.tool_call(tool_name="t", args="{}")
            if error is not None:
                raise error
    finally:
        recorder.close()
    return rows(path)[-1]


def test_body_that_ends_gives_a_completed_run(store_path: Path) -> None:
    end = run_and_end(store_path, None)
    assert (end["kind"], end["status"], end["stop_reason"]) == ("run_stopped", "completed", "ok")
    assert [r["seq"] for r in rows(store_path)] == [0, 1, 2]


@pytest.mark.parametrize(
    ("error", "status", "reason", "detail"),
    [
        (ValueError("no such order"), "failed", "crashed", "ValueError: no such order"),
        (KeyboardInterrupt(), "stopped", "cancelled", "KeyboardInterrupt"),
        (asyncio.CancelledError(), "stopped", "cancelled", "CancelledError"),
        (SystemExit(2), "stopped", "cancelled", "SystemExit: 2"),
    ],
)
def test_exception_ends_the_run_and_goes_on(
    store_path: Path, error: BaseException, status: str, reason: str, detail: str
) -> None:
    with pytest.raises(type(error)):
        run_and_end(store_path, error)
    end = rows(store_path)[-1]
    assert (end["status"], end["stop_reason"], end["stop_detail"]) == (status, reason, detail)


def test_end_that_the_body_wrote_is_the_only_one(store_path: Path) -> None:
    def body(recorder: Recorder) -> None:
        with record(recorder) as run:
            run.stopped(status=RunStatus.STOPPED, stop_reason=StopReason.MAX_STEPS)
            raise ValueError("late")

    with (
        Recorder(store_path, seal_on_close=False) as recorder,
        pytest.raises(ValueError, match="late"),
    ):
        body(recorder)
    ends = [r for r in rows(store_path) if r["kind"] == "run_stopped"]
    assert [r["stop_reason"] for r in ends] == ["max_steps"]


def test_run_carries_its_fields_and_labels(store_path: Path) -> None:
    with (
        Recorder(store_path, seal_on_close=False) as recorder,
        record(
            recorder, run_id="r-1", agent="billing", max_usd=1.5, labels={"team": "x"}, trial=2
        ) as run,
    ):
        assert run.run_id == "r-1"
    first = rows(store_path)[0]
    assert (first["run_id"], first["agent"], first["max_usd"], first["trial"]) == (
        "r-1",
        "billing",
        1.5,
        2,
    )
    assert first["labels"] == [("team", "x")]


def test_unknown_field_is_refused_with_the_nearest_name(store_path: Path) -> None:
    with (
        pytest.raises(UnknownNameError, match=r"(?s)'varient'.*nearest: variant"),
        record(store_path, varient="candidate"),
    ):
        raise AssertionError("the body must not run")
    assert not store_path.exists()


def test_path_is_recorded_into_and_sealed(store_path: Path) -> None:
    with record(store_path, agent="a"):
        pass
    snap = Store.open(store_path).snapshot()
    assert (len(snap.event_files), snap.unsealed_events.num_rows) == (1, 0)


def test_run_ids_are_unique_and_in_order() -> None:
    ids = [new_id() for _ in range(1_000)]
    assert sorted(set(ids)) == ids


@pytest.mark.parametrize("odd", ["x", "00000000-0000-4000-8000-000000000000"])
def test_day_is_a_function_of_the_journals_name(odd: str) -> None:
    journal_id = new_id()
    assert day_of(journal_id) == day_of(journal_id) >= "2025-01-01"
    assert day_of("01936f2a-0000-7000-8000-000000000000") == "2024-11-27"
    assert day_of(odd) == "1970-01-01"
