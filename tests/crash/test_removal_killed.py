"""Merging, retention and erasure, killed at any of their file operations: done again, all is well.

FLIGHTLOG_TORTURE_SIZE=full kills at each of them, else at every 13th.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from flightlog.control.control import Control
from flightlog.recorder.life.compact import compact_store
from flightlog.recorder.life.erase import erase
from flightlog.recorder.life.erasing import go_on
from flightlog.recorder.life.retain import retain
from flightlog.recorder.manifest import sealing_lock
from flightlog.recorder.recorder import Recorder
from flightlog.recorder.seal import seal_store
from flightlog.recorder.store import Store
from tests.torture.size import sized
from tests.unit.recorder.store_life import (
    all_events,
    all_messages,
    check_has_all_it_names,
    check_sound,
    dies_at,
    events_of,
    everything_in,
    texts_of,
    write_run,
    write_store,
)

EVERY = sized(13, 1)
pytestmark = [
    pytest.mark.crash,
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]


@pytest.fixture
def template(tmp_path: Path) -> Path:
    """A store with two sealed journals and an unsealed one of a dead writer."""
    path = tmp_path / "template"
    write_store(path, journals=2, runs=2)
    with Recorder(path, seal_on_close=False) as recorder:
        write_run(recorder, "9-0-alice", "alice", long=True)
        write_run(recorder, "9-1-bob", "bob")
    return path


def killed_at_each_step(
    template: Path,
    body: Callable[[Store], object],
    check_after_kill: Callable[[Store], None],
    check_after_redo: Callable[[Store], None],
) -> int:
    """Checks each store that a kill leaves, before and after it is done again; the steps."""
    step, code = 0, -1
    while code != 0:
        path = shutil.copytree(template, template.with_name("killed"))
        store = Store.open(path)
        code = dies_at(step, lambda store=store: body(store))  # type: ignore[misc]
        assert code in (0, -9), step
        check_after_kill(store)
        body(store)
        check_after_redo(store)
        check_sound(store)
        shutil.rmtree(path)
        step += EVERY
    return step


def test_merging_killed_at_any_step_loses_and_doubles_nothing(template: Path) -> None:
    store = Store.open(template)
    seal_store(store)
    events = texts_of(all_events(store))
    messages = {row["digest"] for row in all_messages(store)}

    def after_kill(store: Store) -> None:
        assert texts_of(all_events(store)) == events
        assert {row["digest"] for row in all_messages(store)} == messages

    def after_redo(store: Store) -> None:
        after_kill(store)
        assert len(list(store.path.glob("*/date=*/*"))) == 2
        assert len(list(store.path.glob("*/date=*/.*"))) == 0

    assert killed_at_each_step(template, compact_store, after_kill, after_redo) > 25


def test_retention_killed_at_any_step_removes_whole_runs_only(template: Path) -> None:
    store = Store.open(template)
    kept = events_of(store, "alice")
    pinned = {run for run in all_events(store).column("run_id").to_pylist() if "alice" in run}
    all_of_bob = events_of(store, "bob")

    def after_kill(store: Store) -> None:
        assert events_of(store, "alice") == kept
        assert events_of(store, "bob") in ([], all_of_bob)
        check_has_all_it_names(store)

    def after_redo(store: Store) -> None:
        assert events_of(store, "alice") == kept
        assert events_of(store, "bob") == []
        check_has_all_it_names(store)
        assert b"canary-bob" not in everything_in(store.path)

    def body(store: Store) -> None:
        retain(store, older_than_s=0, pinned=pinned)

    assert killed_at_each_step(template, body, after_kill, after_redo) > 25


def test_erasure_killed_at_any_step_is_finished_by_the_next_sealing(template: Path) -> None:
    control = Control.at(template)
    control.state.declare("CREATE TABLE IF NOT EXISTS others (text TEXT) STRICT")
    control.close()
    kept = events_of(Store.open(template), "bob")

    def body(store: Store) -> None:
        erase(store, names=[("data_subject", "canary-alice")])

    def after_kill(store: Store) -> None:
        assert events_of(store, "bob") == kept
        # What was begun is gone on with by whoever seals next, without the name.
        has_begun = bool(list(store.layout.pending.glob("*.json")))
        seal_store(store)
        assert not list(store.layout.pending.glob("*.json"))
        if has_begun:
            assert b"canary-alice" not in everything_in(store.path)

    def after_redo(store: Store) -> None:
        assert events_of(store, "bob") == kept
        check_has_all_it_names(store)
        assert b"canary-alice" not in everything_in(store.path)
        with sealing_lock(store.layout):
            assert go_on(store.layout) == []

    assert killed_at_each_step(template, body, after_kill, after_redo) > 25
