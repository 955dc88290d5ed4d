"""Files of a store damaged in every way: no wrong row is read in silence, all else is kept."""

from __future__ import annotations

import random
import shutil
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
import pyarrow as pa
import pytest

from flightlog.analysis.db import Traces
from flightlog.cli import run
from flightlog.errors import FlightlogError
from flightlog.recorder.audit import audit_store
from flightlog.recorder.chain import segment_schema
from flightlog.recorder.frames import Damage
from flightlog.recorder.journal_reader import read_records
from flightlog.recorder.layout import DAMAGED_SUFFIX, Problem
from flightlog.recorder.manifest import Manifest
from flightlog.recorder.seal import seal_store
from flightlog.recorder.segment_rows import row_pieces
from flightlog.recorder.store import Snapshot, Store
from flightlog.recorder.verify import verify_store
from flightlog.trace.schema import events_schema, messages_schema
from tests.torture.damages import DAMAGES, Sound, sound_store
from tests.torture.size import SEED, sized

DAMAGED: Final = {
    "journal": sized(60, 600),
    "events": sized(50, 500),
    "messages": sized(25, 250),
    "manifest": sized(30, 300),
    "history": sized(15, 150),
    "blob": sized(20, 200),
}
CUTS = sized(12, 1 << 20)
"""At most this many places of each file at which it is cut off."""
THOROUGH = 25
"""Every n-th damage is also sealed, verified by command, and read by DuckDB."""


@dataclass
class Read:
    """What a store gives: rows as they can be counted, and what it tells."""

    events: Counter[str] = field(default_factory=Counter)
    ends: set[str] = field(default_factory=set)
    ended: set[str] = field(default_factory=set)
    runs: set[str] = field(default_factory=set)
    messages: set[str] = field(default_factory=set)
    blobs: dict[str, str] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    refusal: FlightlogError | None = None


def read(store: Store) -> Read:
    """Everything, the way that all readers of Python go."""
    try:
        snapshot = store.snapshot()
    except FlightlogError as error:
        return Read(refusal=error)
    found = Read(problems=snapshot.problems)
    for row in event_rows(store, snapshot):
        found.runs.add(row["run_id"])
        if row["stop_reason"] == "crashed":
            assert row["run_id"] not in found.ends, "two ends"
            found.ends.add(row["run_id"])
            continue
        if row["kind"] == "run_stopped":
            found.ended.add(row["run_id"])
        found.events[str(row)] += 1
    assert not found.ends & found.ended, "a run that ended has crashed, too"
    pieces = [
        piece
        for path in snapshot.message_files
        for piece in row_pieces(store.layout, path, messages_schema())
    ]
    rows = pa.concat_tables([*pieces, snapshot.unsealed_messages]).to_pylist()
    found.messages = set(map(str, rows))
    for path in store.layout.blob_files():
        try:
            found.blobs[path.name] = store.blob(path.name)
        except FlightlogError as error:
            found.refusal = error
    return found


def event_rows(store: Store, snapshot: Snapshot) -> list[dict[str, Any]]:
    names = events_schema().names
    pieces = [
        piece.cast(events_schema())
        for path in snapshot.event_files
        for piece in row_pieces(store.layout, path, segment_schema(), columns=names)
    ]
    rows: list[dict[str, Any]] = pa.concat_tables([*pieces, snapshot.unsealed_events]).to_pylist()
    return rows


def is_found_by_verify(store: Store) -> bool:
    """What `flightlog verify` would say."""
    try:
        return bool(verify_store(store).problems or audit_store(store).problems)
    except FlightlogError:
        return True


def is_strict_error(store: Store) -> bool:
    try:
        store.snapshot(strict=True)
    except FlightlogError:
        return True
    return False


def leaves_no_trace(kind: str, path: Path, was: bytes, content: bytes) -> bool:
    """True for the two damages that nothing in a store can tell.

    A journal that is cut off just after a record is what a process leaves that was killed
    then. In the newest manifest, which only an anchor vouches for, the time and the words
    that describe the change may have become others.
    """
    if kind == "journal":
        records = list(read_records(content, where=path))
        return not any(isinstance(record, Damage) for record in records)
    if kind != "manifest" or path != max(path.parent.glob("*.json")):
        return False
    try:
        now, before = (msgspec.json.decode(text, type=Manifest) for text in (content, was))
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return False
    told = {"at_us": None, "detail": None, "format": 0}
    return msgspec.structs.replace(now, **told) == msgspec.structs.replace(before, **told)


@dataclass
class Campaign:
    """Damages of one store, each made good again before the next."""

    sound: Sound
    truth: Read
    viewed: Counter[str]
    figures: Counter[str] = field(default_factory=Counter)

    def damage(
        self, kind: str, path: Path, content: bytes, *, is_thorough: bool, verifies: bool = True
    ) -> None:
        """Writes other bytes into a file and reads the store; in every way where it is thorough."""
        was = path.read_bytes()
        if content == was:
            return
        path.write_bytes(content)
        try:
            is_hidden = leaves_no_trace(kind, path, was, content)
            found = self._check(kind, path, is_hidden=is_hidden)
            if verifies:
                self._verify(kind, found, is_hidden=is_hidden)
            if is_thorough and kind == "journal" and found.refusal is None:
                self._seal(found)
            if is_thorough:
                self._run_commands(is_hidden=is_hidden)
        finally:
            path.write_bytes(was)

    def _check(self, kind: str, path: Path, *, is_hidden: bool) -> Read:
        store = Store.open(self.sound.store.path)
        found = read(store)
        self._check_rows(found)
        is_told, is_refused = bool(found.problems), found.refusal is not None
        lost = (self.truth.events - found.events).total()
        lost += len(self.truth.messages - found.messages)
        if lost and not is_hidden:
            assert is_told or is_refused, f"{lost} rows are left out in silence"
        if kind in ("events", "messages"):
            assert path in {problem.path for problem in found.problems}
            assert not is_refused
        if kind == "blob":
            assert path.name not in found.blobs
        self.figures.update(
            {
                "damages": 1,
                "wrong rows": 0,
                "rows kept": found.events.total() + len(found.messages),
                "rows left out": 0 if is_refused and kind != "blob" else lost,
                "told when read": is_told or is_refused,
                "without a trace": is_hidden,
            }
        )
        return found

    def _verify(self, kind: str, found: Read, *, is_hidden: bool) -> None:
        """Strict reading refuses what reading tells; verify tells that and more."""
        store = Store.open(self.sound.store.path)
        is_refused = found.refusal is not None and kind != "blob"
        assert is_strict_error(store) == (bool(found.problems) or is_refused)
        is_verified = is_found_by_verify(store)
        assert is_verified or is_hidden, "verify finds nothing"
        self.figures.update({"verified": 1, "found by verify": is_verified})

    def _check_rows(self, found: Read) -> None:
        """No row is another than it was, and none is there twice."""
        wrong = found.events - self.truth.events
        assert not wrong, f"wrong or doubled rows: {list(wrong)[:2]}"
        assert found.messages <= self.truth.messages, "a wrong message"
        assert found.blobs.items() <= self.truth.blobs.items(), "a wrong text"
        # An end that is made up is that of a run without one.
        assert found.ends <= found.runs - found.ended

    def _seal(self, before: Read) -> None:
        """Sealing keeps what was read, and puts the rest aside."""
        copy = self.sound.store.path.with_name("sealed")
        shutil.copytree(self.sound.store.path, copy)
        try:
            store = Store.open(copy)
            report = seal_store(store)
            after = read(store)
            assert (after.events, after.ends) == (before.events, before.ends)
            assert after.messages == before.messages
            aside = list(store.layout.quarantine.iterdir())
            assert bool(aside) == bool(before.problems) == bool(report.problems)
            is_damaged = any(path.suffix == DAMAGED_SUFFIX for path in aside)
            assert is_damaged == bool(after.problems)
            assert verify_store(store).ok != is_damaged
            self.figures["put aside"] += bool(aside)
        finally:
            shutil.rmtree(copy)

    def _run_commands(self, *, is_hidden: bool) -> None:
        """The commands, and the views of DuckDB."""
        where = ["--store", str(self.sound.store.path)]
        assert is_hidden or run(["verify", *where]) != 0
        assert is_hidden or run(["doctor", *where, "--min-free", "0"]) == 1
        try:
            rows = Counter(viewed(self.sound.store.path))
        except FlightlogError:
            return
        made_up = [row for row in rows - self.viewed if "'crashed'" not in row]
        assert not made_up, made_up[:2]


def viewed(path: Path) -> list[str]:
    """The events as DuckDB reads them."""
    columns = "run_id, seq, kind, tool_name, args, result, result_blob, stop_reason, answer"
    with Traces(path) as traces:
        return list(map(str, traces.rows(f"SELECT {columns} FROM events")))


def begin(sound: Sound) -> Campaign:
    truth = read(sound.store)
    assert not truth.problems
    assert not is_found_by_verify(sound.store)
    assert all(sound.files.values())
    assert truth.blobs
    return Campaign(sound, truth, Counter(viewed(sound.store.path)))


Record = Callable[[str, object], None]


@pytest.mark.parametrize("kind", DAMAGED)
def test_no_random_damage_gives_a_wrong_row_in_silence(
    kind: str, tmp_path: Path, record_property: Record
) -> None:
    start_s = time.perf_counter()
    campaign = begin(sound_store(tmp_path / "store"))
    rng = random.Random(f"{SEED} {kind}")
    files = campaign.sound.files[kind]
    while campaign.figures["damages"] < DAMAGED[kind]:
        path = rng.choice(files)
        others = [other for other in files if other != path] or campaign.sound.files["blob"]
        damage = rng.choice(DAMAGES)
        content = damage(path.read_bytes(), rng.choice(others).read_bytes(), rng)
        number = campaign.figures["damages"]
        try:
            campaign.damage(kind, path, content, is_thorough=number % THOROUGH == 0)
        except Exception as error:
            error.add_note(f"damage {number} of {path}: {damage.__name__}")
            raise
    seconds = time.perf_counter() - start_s
    record_property("figures", ("damages", {**campaign.figures, "seconds": seconds}))


@pytest.mark.parametrize("kind", DAMAGED)
def test_no_cut_at_any_byte_gives_a_wrong_row_in_silence(
    kind: str, tmp_path: Path, record_property: Record
) -> None:
    start_s = time.perf_counter()
    campaign = begin(sound_store(tmp_path / "store", is_tiny=True))
    path = min(campaign.sound.files[kind], key=lambda path: path.stat().st_size)
    content = path.read_bytes()
    places = CUTS if kind != "blob" else min(CUTS, 2_000)  # a long text is the same all along
    step = max(1, len(content) // places)
    for number, size in enumerate(range(0, len(content), step)):
        try:
            is_thorough, verifies = number % THOROUGH == 0, number % 5 == 0
            campaign.damage(kind, path, content[:size], is_thorough=is_thorough, verifies=verifies)
        except Exception as error:
            error.add_note(f"{path} cut at byte {size}")
            raise
    seconds = time.perf_counter() - start_s
    record_property("figures", ("cuts", {**campaign.figures, "seconds": seconds}))
