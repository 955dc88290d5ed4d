"""Tamper evidence checked: the whole history of manifests, the chains of events, the anchor.

Who can write to a store can change it and make all digests in it anew. What they cannot
change is an anchor that was written down elsewhere: the number and SHA-256 of a manifest.
With it every change of what was sealed by then is found; without it those are found that
leave a digest or an order behind that does not fit.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

import msgspec

from flightlog.errors import DamagedError, StoreError, UsageError
from flightlog.recorder.layout import Layout, Problem
from flightlog.recorder.life.dropped import chains_of, dropped_file
from flightlog.recorder.manifest import (
    HISTORY,
    Manifest,
    Part,
    SegmentEntry,
    StoreState,
    Why,
    history_lines,
    manifest_files,
    read_manifest,
    sha256_of,
)
from flightlog.recorder.segment_rows import EVENTS, MESSAGES, part_rows, table_of
from flightlog.recorder.store import Store
from flightlog.trace.messages import Message, ToolRequest
from flightlog.trace.schema import messages_schema

_ANCHOR: Final = re.compile(r"flightlog-anchor/1:([1-9][0-9]{0,17}):([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Anchor:
    """What to write down elsewhere, so that later changes of the past can be found.

    Attributes:
        number: of the newest manifest.
        sha256: of that manifest.
    """

    number: int
    sha256: str

    def __str__(self) -> str:
        return f"flightlog-anchor/1:{self.number}:{self.sha256}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """The anchor that was written down.

        Raises:
            UsageError: it is none.
        """
        found = _ANCHOR.fullmatch(text.strip())
        if found is None:
            raise UsageError(
                f"not an anchor: {text[:100]!r}",
                hint="Give the line that flightlog verify --anchor printed, in quotes.",
            )
        return cls(int(found[1]), found[2])


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What the history and the chains of a store tell.

    Attributes:
        journals: journals whose chain was computed anew from the events.
        without_chain: segments of format 1, which have none.
        anchor: of the store as it is; None while nothing is sealed.
        removals: what was removed for good since the store began (or since the anchor that
            was given), one sentence per change.
        problems: what does not fit.
    """

    journals: int
    without_chain: int
    anchor: Anchor | None
    removals: tuple[str, ...]
    problems: tuple[Problem, ...]


@dataclass(slots=True)
class _Audit:
    """One audit in progress."""

    layout: Layout
    state: StoreState = field(default_factory=StoreState)
    parts: dict[str, Part] = field(default_factory=dict)
    sha256s: dict[int, str] = field(default_factory=dict)
    removals: list[tuple[int, str]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def tell(self, path: Path, what: str) -> None:
        self.problems.append(Problem(path, what))


def audit_store(store: Store, *, anchor: Anchor | None = None) -> AuditReport:
    """Follows all manifests from the first one on, and computes every chain anew.

    Args:
        store: the store, with its keys where it is encrypted.
        anchor: written down earlier.

    Raises:
        NewerFormatError: a newer flightlog wrote a manifest.
        StoreKeyError: the store is encrypted and its key is not given.
    """
    audit = _Audit(store.layout)
    try:
        history = history_lines(store.layout)
    except DamagedError as error:
        audit.tell(store.layout.manifests / HISTORY, error.what)
        history = []
    for number, (path, content) in enumerate(_all_manifests(store.layout, history), 1):
        _follow(audit, number, path, content)
    if anchor is not None:
        _compare(audit, anchor)
    journals, without_chain = 0, 0
    for entry in audit.state.live.values():
        if table_of(entry) == MESSAGES:
            _check_messages(audit, store, entry)
        elif entry.parts:
            journals += _check_heads(audit, entry)
        else:
            without_chain += 1
    last = audit.state.number
    return AuditReport(
        journals,
        without_chain,
        Anchor(last, audit.sha256s[last]) if last else None,
        tuple(text for at, text in audit.removals if anchor is None or at > anchor.number),
        tuple(audit.problems),
    )


def anchor_of(store: Store) -> Anchor:
    """The anchor of a store as it is.

    Raises:
        StoreError: nothing is sealed yet.
    """
    files = manifest_files(store.layout)
    if not files:
        raise StoreError(
            "nothing is sealed yet, so there is nothing to anchor",
            where=str(store.path),
            hint="Seal it first: flightlog seal",
        )
    return Anchor(int(files[-1].stem), sha256_of(files[-1]))


def _all_manifests(layout: Layout, history: Sequence[bytes]) -> Iterator[tuple[Path, bytes]]:
    """The manifests in order, those of the history first, each once."""
    moved = set(history)
    yield from ((layout.manifests / HISTORY, line) for line in history)
    for path in manifest_files(layout):
        content = path.read_bytes()
        if content not in moved:  # a checkpoint that was interrupted leaves both
            yield path, content


def _follow(audit: _Audit, number: int, path: Path, content: bytes) -> None:
    """Takes one manifest over, and tells what in it does not follow from those before."""
    state = audit.state
    try:
        manifest = read_manifest(content, where=str(path))
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError) as error:
        audit.tell(path, f"manifest {number} cannot be read ({error})")
        state.number, state.sha256 = number, hashlib.sha256(content).hexdigest()
        audit.sha256s[number] = state.sha256
        return
    if manifest.number != state.number + 1 or manifest.previous_sha256 != state.sha256:
        what = f"manifest {manifest.number} does not follow manifest {state.number}"
        audit.tell(path, f"{what}: one of them was changed or removed")
    if manifest.why == "checkpoint":
        if {entry.path: entry for entry in manifest.segments} != state.live:
            what = f"checkpoint {manifest.number} lists other segments than were live before it"
            audit.tell(path, what)
    else:
        _check_change(audit, path, manifest)
    state.apply(manifest)
    state.number, state.sha256 = manifest.number, hashlib.sha256(content).hexdigest()
    audit.sha256s[manifest.number] = state.sha256


def _check_change(audit: _Audit, path: Path, manifest: Manifest) -> None:
    """Each journal keeps its chain, and events go only where a manifest says so."""
    state, name = audit.state, f"manifest {manifest.number} ({manifest.why})"
    unknown = [one for one in manifest.replaced if one not in state.live]
    if unknown:
        audit.tell(path, f"{name} replaces {unknown[0]!r}, which is not live")
    before = _parts([state.live[one] for one in manifest.replaced if one in state.live])
    after = _parts(manifest.segments)
    if len(after) < sum(bool(part.head) for one in manifest.segments for part in one.parts):
        audit.tell(path, f"{name} lists a journal twice")
    for journal_id, now in after.items():
        known = audit.parts.get(journal_id)
        wrong = None if known is None else _wrong_step(known, now, manifest.why)
        if known is not None and journal_id not in before:
            wrong = "brings back or lists again the events of"
        if wrong is not None:
            audit.tell(path, f"{name} {wrong} journal {journal_id}")
        audit.parts[journal_id] = now
    lost = sorted(before.keys() - after.keys())
    if lost and manifest.why != "retain":
        audit.tell(path, f"{name} leaves out journal {lost[0]}")
    if manifest.why in ("erase", "retain"):
        old = [state.live[one] for one in manifest.replaced if one in state.live]
        audit.removals.append((manifest.number, _removal(manifest, old)))


def _wrong_step(was: Part, now: Part, why: Why) -> str | None:
    """What a change does to a journal that one of its kind does not do."""
    if (now.head, now.rows + now.dropped) != (was.head, was.rows + was.dropped):
        return "gives another chain than before to"
    if now.dropped != was.dropped and not (why == "retain" and now.dropped > was.dropped):
        return "says nothing of a removal, and other events are left of"
    is_erased = why == "erase" and now.erased > was.erased
    is_dropped = why == "retain" and now.erased < was.erased
    if now.erased != was.erased and not (is_erased or is_dropped):
        return "says nothing of an erasure, and other events are erased in"
    return None


def _removal(manifest: Manifest, old: Sequence[SegmentEntry]) -> str:
    """What a manifest says that it removed, and by how much the events became less."""
    said = f"manifest {manifest.number}, {manifest.why}: {manifest.detail or ''}"
    if manifest.why == "retain":
        return f"{said} ({_rows(old) - _rows(manifest.segments):,} events removed)"
    more = _erased(manifest.segments) - _erased(old)
    return f"{said} ({more:,} events emptied)" if more else said


def _rows(entries: Sequence[SegmentEntry]) -> int:
    return sum(entry.rows for entry in entries if table_of(entry) == EVENTS)


def _erased(entries: Sequence[SegmentEntry]) -> int:
    return sum(part.erased for entry in entries for part in entry.parts)


def _parts(entries: Sequence[SegmentEntry]) -> dict[str, Part]:
    """The journals that have a chain."""
    return {part.journal_id: part for entry in entries for part in entry.parts if part.head}


def _compare(audit: _Audit, anchor: Anchor) -> None:
    layout = audit.layout
    found = audit.sha256s.get(anchor.number)
    if found is None:
        what = (
            f"the anchor names manifest {anchor.number}, and the newest is "
            f"{audit.state.number}: what was sealed last has been cut off"
        )
        audit.tell(layout.manifests, what)
    elif found != anchor.sha256:
        what = f"manifest {anchor.number} is not the one that the anchor names: it was changed"
        audit.tell(layout.manifests, what)


def _check_heads(audit: _Audit, entry: SegmentEntry) -> int:
    """Computes the chains in one events segment; how many there are."""
    path = audit.layout.root / entry.path
    try:
        chains = chains_of(audit.layout, entry)
        beside = dropped_file(audit.layout, entry)
        if entry.dropped_sha256 is not None and sha256_of(beside) != entry.dropped_sha256:
            audit.tell(beside, "the bytes are not those that were written")
    except DamagedError as error:
        audit.tell(path, error.what)
        return 0
    except (ValueError, OSError) as error:
        audit.tell(path, f"its chain cannot be computed ({error})")
        return 0
    for part, found in zip(entry.parts, chains, strict=True):
        if part.head != found.head:
            what = f"the events of journal {part.journal_id} are not those that were sealed"
            audit.tell(path, what)
        elif part.head and (part.dropped, part.erased) != (found.dropped, found.erased):
            what = (
                f"of journal {part.journal_id} {found.erased} events are erased and "
                f"{found.dropped} removed, the manifest says {part.erased} and {part.dropped}"
            )
            audit.tell(path, what)
    return sum(bool(found.head) for found in chains)


def _check_messages(audit: _Audit, store: Store, entry: SegmentEntry) -> None:
    """Recomputes the digest of every message."""
    path = audit.layout.root / entry.path
    try:
        for _, pieces in part_rows(audit.layout, entry, messages_schema()):
            for piece in pieces:
                for row in piece.to_pylist():
                    if _message(store, row).digest != row["digest"]:
                        audit.tell(
                            path, f"the message {row['digest']} is not the one of its digest"
                        )
                        return
    except (DamagedError, StoreError, msgspec.MsgspecError) as error:
        what = error.what if isinstance(error, (DamagedError, StoreError)) else str(error)
        audit.tell(path, f"its messages cannot be checked: {what}")


def _message(store: Store, row: dict[str, str | None]) -> Message:
    requests = row["tool_requests"]
    blob = row["text_blob"]
    return Message(
        row["role"] or "",
        row["text"] if blob is None else store.blob(blob),
        msgspec.json.decode(requests, type=tuple[ToolRequest, ...]) if requests else (),
        row["tool_call_id"],
        row["name"],
    )
