"""Is a store that a crash left behind what was promised? Each difference is a violation."""

from __future__ import annotations

import contextlib
import hashlib
import io
import re
import struct
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Set
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pyarrow.parquet as pq

from flightlog.errors import FlightlogError, StoreError
from flightlog.recorder import manifest
from flightlog.recorder.layout import Layout
from tests.torture.simulated_disk import Choice, Machine
from tests.torture.world import Key, Promise, Removal, World

_HEAD = struct.Struct("<4sBIQ")
_FRAME_MAGIC = b"\xf7\xffFL"
_JOURNAL_MAGIC = b"\xffFLJRNL\n"
_PLACE = re.compile(r"bytes (\d+) to")
_decode = msgspec.json.decode


class Promised(NamedTuple):
    """What must be there, and what is on the medium for sure."""

    keys: set[Key]
    with_blobs: set[Key]
    removals: list[Removal]
    safe: dict[str, int] | None
    """Bytes by path below the base; None where nothing was lost, only the process died.

    Of a journal, up to the end of a record: another thread may sync while one is half written.
    """

    has_failed_syncs: bool = False
    """A sync has failed: what was only recorded may be in a segment and no more in its journal."""

    def runs(self, *, erased: bool, done: bool = False) -> set[str]:
        """Runs that are erased or removed, or that may be by now."""
        wanted = [one for one in self.removals if one.is_erasure is erased]
        return {run for one in wanted if one.is_done or not done for run in one.runs}


def promised(machine: Machine, choice: Choice) -> Promised:
    """What was promised for such a crash."""
    marks = [mark for mark in machine.marks if isinstance(mark, Promise)]
    is_killed = choice == "killed"
    keys = {key for mark in marks if mark.durable or is_killed for key in mark.keys}
    removals = [mark for mark in machine.marks if isinstance(mark, Removal)]
    gone = {run for one in removals if not one.is_erasure for run in one.runs}
    keys = {key for key in keys if key[0] not in gone}
    with_blobs = {
        key for mark in marks if (mark.durable and mark.blobs) or is_killed for key in mark.keys
    }
    safe = None if is_killed else machine.safe_sizes()
    return Promised(keys, with_blobs & keys, removals, safe, machine.has_failed_syncs)


class ViolationError(AssertionError):
    """The store is not what was promised."""


def check_crash(world: World, base: Path, promise: Promised) -> None:
    """Opens, reads, seals and verifies what a crash left; see `docs/durability.md`.

    Raises:
        ViolationError: something is lost, doubled, wrong, or not as reported.
    """
    program, root = world.program, base / "store"
    if promise.safe is not None:
        promise = promise._replace(safe=_whole_sizes(base, promise.safe))
    try:
        store = program.store.Store.open(root)
    except StoreError as error:
        _check_unmade(world, root, promise, error)
        return
    try:
        damaged = _damaged_journals(root)
        before = _check_rows(world, store, promise, damaged)
        _check_report(world, store, promise, when="before sealing")
        report = program.seal.seal_store(store)
        _explained(world, report.problems, promise, when="while sealing")
        _check_told(report.problems, damaged, when="while sealing")
        after = _check_rows(world, store, promise)
        is_erasing = promise.runs(erased=True) != promise.runs(erased=True, done=True)
        may_change = is_erasing or promise.has_failed_syncs
        if not may_change and sorted(before) != sorted(after):
            raise ViolationError(f"sealing changed the rows: {_difference(before, after)}")
        _check_report(world, store, promise, when="after sealing")
        _check_history(world, store)
        files = _digests(root)
        again = program.seal.seal_store(store)
        if again.sealed_journals or _digests(root) != files:
            raise ViolationError(f"sealing again changed the store: {again}")
    except (FlightlogError, OSError, ValueError) as error:
        raise ViolationError(f"{type(error).__name__}: {error}") from error


def _check_unmade(world: World, root: Path, promise: Promised, error: StoreError) -> None:
    """A store whose making was interrupted: nothing was promised, and it can be made."""
    if promise.keys:
        raise ViolationError(f"the store cannot be opened: {error}") from error
    try:
        world.program.recorder.Recorder(root, seal_on_close=False).close()
        world.program.store.Store.open(root).snapshot()
    except FlightlogError as another:
        raise ViolationError(f"the store cannot be made again: {another}") from another


def rows_of(world: World, snap: Any) -> list[bytes]:
    """All events of a snapshot as they were encoded when emitted, in reading order."""
    rows = [row for path in snap.event_files for row in _sealed_rows(world, path)]
    chain = world.program.chain
    return rows + list(chain.encoded_events(snap.unsealed_events))


def _sealed_rows(world: World, path: Path) -> list[bytes]:
    content = path.read_bytes()
    digest = hashlib.sha256(content).digest()
    if digest not in world.sealed_rows:  # the crashes of a scenario leave many files alike
        chain, schema = world.program.chain, world.program.tables.events_schema()
        table = pq.ParquetFile(io.BytesIO(content)).read(columns=schema.names, use_threads=False)
        world.sealed_rows[digest] = list(chain.encoded_events(table.cast(schema)))
    return world.sealed_rows[digest]


def _check_rows(
    world: World, store: Any, promise: Promised, damaged: Set[Path] = frozenset()
) -> list[bytes]:
    snap = store.snapshot()
    _explained(world, snap.problems, promise, when="in the snapshot")
    _check_told(snap.problems, damaged, when="in the snapshot")
    rows = rows_of(world, snap)
    events: list[Key] = []
    ends: dict[str, int] = {}
    for row in rows:
        fields = _decode(row)
        key = (fields["run_id"], fields["seq"])
        if fields["kind"] == "gap":
            continue
        if fields.get("stop_reason") == "crashed":
            if fields["run_id"] in ends:
                raise ViolationError(f"two crashed ends of run {fields['run_id']}")
            ends[fields["run_id"]] = fields["seq"]
            continue
        _check_row(world, key, row, promise)
        events.append(key)
    _check_keys(events, promise)
    _check_ends(world, events, ends, promise)
    _check_needs(world, store, snap, promise)
    return rows


def _check_row(world: World, key: Key, row: bytes, promise: Promised) -> None:
    emitted = world.emitted.get(key)
    if key[0] in promise.runs(erased=False, done=True):
        raise ViolationError(f"an event of a run that was removed: {row!r}")
    if row == emitted and key[0] not in promise.runs(erased=True, done=True):
        return
    fields = _decode(row)
    if emitted is None or fields.pop("withheld", None) != "erased":
        raise ViolationError(f"wrong row {row!r} instead of {emitted!r}")
    original = _decode(emitted)
    is_allowed = key[0] in promise.runs(erased=True)
    if (
        not is_allowed
        or any(original.get(k) != v for k, v in fields.items())
        or fields.get("result_blob")
    ):
        raise ViolationError(f"wrongly erased: {row!r} instead of {emitted!r}")


def _check_keys(events: list[Key], promise: Promised) -> None:
    count = Counter(events)
    doubled = [key for key, times in count.items() if times > 1]
    if doubled:
        raise ViolationError(f"events are there twice: {doubled}")
    lost = sorted(promise.keys - set(events))
    if lost:
        raise ViolationError(f"promised and lost: {lost}")
    last: dict[str, int] = {}
    for run_id, seq in events:
        if seq < last.get(run_id, -1):
            raise ViolationError(f"run {run_id} is out of order at {seq}")
        last[run_id] = seq


def _check_ends(world: World, events: list[Key], ends: dict[str, int], promise: Promised) -> None:
    """Each run without an end has a crashed one, after its last event; no other run has."""
    stopped, last = set[str](), dict[str, int]()
    for key in events:
        last[key[0]] = key[1]
        if b'"run_stopped"' in world.emitted[key]:
            stopped.add(key[0])
    for run_id in last.keys() - stopped:
        end = ends.pop(run_id, None)
        if end != last[run_id] + 1 and not (end is None and promise.has_failed_syncs):
            raise ViolationError(f"run {run_id} does not end as crashed: {last[run_id]}, {end}")
    # Where a sync failed, all events of a run may be lost but that another journal goes on with
    # it, or that other journal may be.
    carried = {run_id for run_id, _ in world.emitted} if promise.has_failed_syncs else set()
    if ends.keys() - carried:
        raise ViolationError(f"crashed ends of runs that ended or were not: {ends}")


def _check_needs(world: World, store: Any, snap: Any, promise: Promised) -> None:
    """Messages and blobs of what was promised are there, and no message is wrong."""
    found: dict[str, dict[str, Any]] = {}
    tables = [pq.ParquetFile(path).read(use_threads=False) for path in snap.message_files]
    for table in (*tables, snap.unsealed_messages):
        for row in table.to_pylist():
            found[row["digest"]] = row
    for digest, row in found.items():
        message = world.messages.get(digest)
        text = message.text if message is not None else None
        if message is None or row["role"] != message.role:
            raise ViolationError(f"wrong message {row}")
        if row["text"] != text and row["text_blob"] not in world.texts:
            raise ViolationError(f"wrong message {row}")
    erased = promise.runs(erased=True)
    for key in (key for key in promise.keys if key[0] not in erased):
        messages, blobs = world.needs[key]
        if messages - found.keys():
            raise ViolationError(f"event {key} lacks messages {messages - found.keys()}")
        for digest in blobs if key in promise.with_blobs else ():
            try:
                text = store.blob(digest)
            except StoreError as error:
                raise ViolationError(f"event {key} lacks a blob: {error}") from error
            if text != world.texts[digest]:
                raise ViolationError(f"wrong blob {digest}")


def _check_report(world: World, store: Any, promise: Promised, *, when: str) -> None:
    report = world.program.verify.verify_store(store)
    _explained(world, report.problems, promise, when=f"by verify {when}")
    if report.damaged:
        raise ViolationError(f"damaged segments {when}: {report.damaged}")


def _explained(world: World, problems: Iterable[Any], promise: Promised, *, when: str) -> None:
    """Each problem is a loss of what nobody was promised: the unsynced part of a journal or
    a blob of it. Where only the process died, a record that it was writing is."""
    needed = {digest for key in promise.with_blobs for digest in world.needs[key][1]}
    for problem in problems:
        path, what = problem.path, problem.what
        place = _PLACE.search(what)
        match path.parent.name:
            case "journal" if promise.safe is None and "ends within a record" in what:
                if place is not None and int(place[1]) > 0:  # it had its header before its name
                    continue
            case "journal" if promise.safe is not None and place is not None:
                if int(place[1]) >= promise.safe.get(f"store/journal/{path.name}", 0):
                    continue
            case "quarantine" if promise.safe is not None:
                journal, _, start = path.stem.rpartition("-")
                if int(start) >= promise.safe.get(f"store/journal/{journal}.journal", 0):
                    continue
            case _ if promise.has_failed_syncs and "no manifest lists the segment" in what:
                # The journal could be read but no more be brought to the disk, so that a loss
                # of power within its sealing left the segment and not the journal.
                continue
            case _ if path.parent.parent.name == "blobs" and promise.safe is not None:
                if path.name not in needed:
                    continue
        raise ViolationError(f"{when}: {problem}")


def _check_told(problems: Iterable[Any], damaged: Set[Path], *, when: str) -> None:
    """No damage is passed over in silence."""
    untold = damaged - {problem.path for problem in problems}
    if untold:
        raise ViolationError(f"{when}: nothing is told of the damage of {sorted(untold)}")


def _damaged_journals(root: Path) -> set[Path]:
    """Journals that do not consist of whole records alone, where nothing is sealed of them yet."""
    sealed = {path.stem for path in root.glob("events/*/*.parquet")}
    sealed |= manifest.store_state(Layout(root)).sealed_journals
    return {
        path
        for path in root.glob("journal/*.journal")
        if path.stem not in sealed and not _is_whole(path.read_bytes(), path.stem)
    }


def _whole_sizes(base: Path, safe: dict[str, int]) -> dict[str, int]:
    """The same sizes without a record of a journal that was only begun."""
    sizes = dict(safe)
    for name, size in safe.items():
        path = base / name
        if path.parent.name == "journal" and path.suffix == ".journal" and path.is_file():
            sizes[name] = _whole_end(path.read_bytes()[:size])
    return sizes


def _whole_end(content: bytes) -> int:
    """Where the first record begins that is not there to its end; the size where all are."""
    place = len(_JOURNAL_MAGIC)
    while len(content) - place >= _HEAD.size:
        magic, _, length, _ = _HEAD.unpack_from(content, place)
        end = place + _HEAD.size + length + 4
        if magic != _FRAME_MAGIC:
            return len(content)
        if end > len(content):
            break
        place = end
    return min(place, len(content))


def _is_whole(content: bytes, journal_id: str) -> bool:
    """True for a journal of format 2 as its writer leaves it, whatever the readers say of it."""
    place, sequence = len(_JOURNAL_MAGIC), 0
    while place < len(content):
        if len(content) - place < _HEAD.size + 4:
            return False
        magic, _, length, number = _HEAD.unpack_from(content, place)
        end = place + _HEAD.size + length + 4
        seed = zlib.crc32(journal_id.encode()) if sequence else 0
        told = int.from_bytes(content[end - 4 : end], "little")
        if (magic, number) != (_FRAME_MAGIC, sequence) or end > len(content):
            return False
        if told != zlib.crc32(content[place : end - 4], seed):
            return False
        place, sequence = end, sequence + 1
    return sequence > 0 and content.startswith(_JOURNAL_MAGIC)


def _check_history(world: World, store: Any) -> None:
    """All manifests that ever were are there, and no segment changed that one of them lists."""
    found = world.program.manifest
    texts = [*found.history_lines(store.layout)]
    texts += [path.read_bytes() for path in found.manifest_files(store.layout)]
    previous, wanted, listed = None, 1, dict[str, str]()
    for text in dict.fromkeys(texts):
        one = msgspec.json.decode(text, type=found.Manifest)
        if one.number != wanted or one.previous_sha256 != previous:
            raise ViolationError(f"the manifests have a hole before {one.number}")
        for path in one.replaced:
            listed.pop(path, None)
        for entry in one.segments:
            if listed.setdefault(entry.path, entry.sha256) != entry.sha256:
                raise ViolationError(f"{entry.path} was sealed again after it was listed")
        previous, wanted = hashlib.sha256(text).hexdigest(), wanted + 1


def _digests(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).digest()
        for path in _files(root)
    }


def _files(root: Path) -> Iterator[Path]:
    with contextlib.suppress(FileNotFoundError):
        yield from (path for path in root.rglob("*") if path.is_file())


def _difference(before: list[bytes], after: list[bytes]) -> str:
    lost, new = Counter(before) - Counter(after), Counter(after) - Counter(before)
    return f"lost {list(lost)[:2]}, new {list(new)[:2]}"
