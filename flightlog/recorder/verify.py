"""Verifying a store: are all bytes still those that were written?"""

from __future__ import annotations

from dataclasses import dataclass

from flightlog.errors import DamagedError
from flightlog.recorder.blobs import is_intact
from flightlog.recorder.layout import Layout, Problem
from flightlog.recorder.manifest import SegmentEntry, live_files, sha256_of, store_state
from flightlog.recorder.store import Store


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """The state of a store's bytes.

    Attributes:
        segments: segments that were compared with the manifests.
        events: events in the segments that are as written, and in journals.
        ok: True when there is no problem.
        problems: every file that is changed, missing, damaged or foreign.
        damaged: those of them that readers would take rows from: segments whose bytes
            have changed, or that are missing. Rows of such a store are not to be trusted.
        unsealed_events: those of the events that are in journals.
    """

    segments: int
    events: int
    ok: bool
    problems: tuple[Problem, ...]
    damaged: tuple[Problem, ...]
    unsealed_events: int = 0


def require_intact(store: Store) -> VerifyReport:
    """Verifies a store before its rows are used for a decision.

    Damage that was found and put aside earlier does not matter here: its rows are not read.

    Raises:
        DamagedError: a segment has changed or is missing.
        NewerFormatError: a newer flightlog wrote a part of the store.
    """
    report = verify_store(store)
    if report.damaged:
        found = "\n  ".join(f"{problem.path}: {problem.what}" for problem in report.damaged)
        raise DamagedError(
            f"{len(report.damaged)} damaged or missing segments\n  {found}",
            where=str(store.path),
            hint="Restore them from a copy; flightlog verify lists everything.",
        )
    return report


def verify_store(store: Store) -> VerifyReport:
    """Compares every segment's sha256 with the manifests, every blob with its
    name, and every journal record with its checksum.

    Raises:
        NewerFormatError: a newer flightlog wrote a part of the store.
    """
    layout = store.layout
    snapshot = store.snapshot()
    state = store_state(layout)
    known = dict(state.live)
    listed = [
        path
        for folder in (layout.events, layout.messages)
        for path in live_files(layout, folder, state)
    ]
    damaged: list[Problem] = []
    problems = list(snapshot.problems)
    unsealed = snapshot.unsealed_events.num_rows
    checked, events = 0, unsealed
    for path in listed:
        entry = known.pop(path.relative_to(layout.root).as_posix(), None)
        if entry is None:
            # Its journal is still there: it is being sealed, or will be sealed again.
            if not layout.journal_file(path.stem).exists():
                problems.append(
                    Problem(path, "no manifest lists the segment: it was not sealed here")
                )
            continue
        checked += 1
        if path.stat().st_size != entry.bytes or sha256_of(path) != entry.sha256:
            damaged.append(
                Problem(path, "the bytes are not those that were sealed: its rows may be wrong")
            )
        elif path.is_relative_to(layout.events):
            events += entry.rows
    damaged += [_missing(layout, entry) for entry in known.values()]
    problems += [*damaged, *_damaged_blobs(layout)]
    return VerifyReport(checked, events, not problems, tuple(problems), tuple(damaged), unsealed)


def _missing(layout: Layout, entry: SegmentEntry) -> Problem:
    return Problem(layout.root / entry.path, f"the segment is missing ({entry.rows} rows)")


def _damaged_blobs(layout: Layout) -> list[Problem]:
    return [
        Problem(path, "the blob's bytes are not those that were written")
        for path in sorted(layout.blobs.glob("*/*"))
        if not path.name.startswith(".") and not is_intact(path.name, path.read_bytes())
    ]
