"""Erasing what a store holds of one subject: the payloads go, that something happened stays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from flightlog.control.control import CONTROL_FOLDER
from flightlog.control.redacting import redactor_at
from flightlog.errors import UsageError
from flightlog.recorder.encryption.store_key import for_writing
from flightlog.recorder.layout import Layout, Problem
from flightlog.recorder.life.erasing import (
    READERS_WAIT_S,
    ErasureMask,
    erase_now,
    finish_erasure,
    go_on,
    journals_with,
    remove_quarantined,
    runs_to_erase,
)
from flightlog.recorder.life.pending import Column, Pending, new_pending, save_pending
from flightlog.recorder.life.pins import Pin, pins_of
from flightlog.recorder.life.removal import checkpoint_if_many, wait_and_remove_replaced
from flightlog.recorder.life.removing import require_sound, surveyed
from flightlog.recorder.manifest import sealing_lock, store_state
from flightlog.recorder.seal import seal_journals
from flightlog.recorder.store import Store
from flightlog.redact.policy import Redaction


@dataclass(frozen=True, slots=True)
class ErasureReport:
    """What an erasure did, or would do.

    Attributes:
        runs: runs that lost their payloads, with those that they started and those that
            replay them.
        events: their events.
        messages: messages that nobody else refers to, which were removed.
        quarantined: damaged pieces of journals that were removed.
        waiting: journals of living writers that hold such runs: what is in them is erased
            when they are sealed.
        pins: goldens that hold a copy of one of the runs, outside the store.
        problems: other removals that could not be finished.
    """

    runs: tuple[str, ...]
    events: int
    messages: int = 0
    quarantined: int = 0
    waiting: tuple[str, ...] = ()
    pins: tuple[Pin, ...] = ()
    problems: tuple[Problem, ...] = ()

    @property
    def is_done(self) -> bool:
        """True when nothing is left to erase."""
        return not self.waiting


def erase(
    store: Store,
    *,
    names: Sequence[tuple[Column, str]] = (),
    run_ids: Sequence[str] = (),
    reason: str | None = None,
    is_dry_run: bool = False,
    readers_wait_s: float = READERS_WAIT_S,
) -> ErasureReport:
    """Erases the payloads of the runs of one subject, conversation or tenant, or of single runs.

    What is interrupted is gone on with by the next sealing, or when it is asked for again.

    Args:
        store: the store; journals of dead writers are sealed first.
        names: column of `run_started` and the value that the runs have in it.
        run_ids: single runs.
        reason: for the manifest; must not name the subject.
        is_dry_run: only tell what would be done.
        readers_wait_s: how long to wait for readers of the old files, which go then all the same.

    Raises:
        UsageError: nothing to look for was given, or the reason holds it.
        DamagedError: a segment or manifest is damaged.
        StoreError: the store, or its shared state, cannot be written to.
        OSError: the disk is full or fails; ask again.
    """
    _check(names, run_ids, reason)
    layout = for_writing(store.layout)
    asked = [pair for name in names for pair in _spellings(layout, name)]
    pending = new_pending("erase", names=asked, run_ids=run_ids, reason=reason)
    if is_dry_run:
        return _dry_run(layout, pending)
    with sealing_lock(layout):
        seal_journals(layout)
        layout.disk.sync_folder(layout.journals)  # a sealed one must not come back
        require_sound(store_state(layout))
        others = go_on(layout)
        save_pending(layout, pending)
        pieces = remove_quarantined(layout, set(), {value for _, value in asked})
        done = erase_now(layout, pending)
    wait_and_remove_replaced(layout, wait_s=readers_wait_s, anyway=True)
    with sealing_lock(layout):
        finish_erasure(layout, done.pending)
        checkpoint_if_many(layout)
    return ErasureReport(
        tuple(sorted(done.runs)),
        done.events,
        done.changed.messages,
        done.quarantined + pieces,
        done.pending.journals,
        _pinned(layout, done.runs),
        tuple(others),
    )


def _check(names: Sequence[tuple[Column, str]], run_ids: Sequence[str], reason: str | None) -> None:
    values = [value for _, value in names] + list(run_ids)
    if not values or not all(values):
        raise UsageError(
            "nothing to erase was named",
            hint="Name one: --subject, --run, --conversation or --tenant.",
        )
    for column, _ in names:
        if column not in get_args(Column):
            raise UsageError(f"cannot erase by column {column!r}")
    if reason and any(value in reason for _, value in names):
        raise UsageError(
            "the reason names the subject, and it is kept in the store",
            hint="Give the number of the request instead.",
        )


def _spellings(layout: Layout, name: tuple[Column, str]) -> set[tuple[Column, str]]:
    """The name, and what redaction made of it where it was recorded."""
    column, value = name
    found = {name}
    folder = layout.root / CONTROL_FOLDER
    for policy in (Redaction(), Redaction(emails=True, phones=True)):
        redactor = redactor_at(folder, policy)
        if redactor is not None:
            found.add((column, redactor.clean(value)))
    return found


def _dry_run(layout: Layout, pending: Pending) -> ErasureReport:
    state = store_state(layout)
    require_sound(state)
    runs = runs_to_erase(layout, state, pending, with_journals=True)
    survey = surveyed(layout, state, ErasureMask(runs))
    waiting = journals_with(layout, runs)
    return ErasureReport(
        tuple(sorted(survey.runs)),
        survey.rows,
        waiting=tuple(waiting),
        pins=_pinned(layout, survey.runs),
    )


def _pinned(layout: Layout, runs: frozenset[str] | set[str]) -> tuple[Pin, ...]:
    return tuple(pin for pin in pins_of(layout).values() if pin.run_id in runs)
