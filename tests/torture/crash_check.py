"""Is a store that a crash left behind what was promised? Each difference is a violation."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pyarrow.parquet as pq

from flightlog.errors import FlightlogError, StoreError
from tests.torture.simulated_disk import Choice, Machine
from tests.torture.world import Key, Promise, World

_PLACE = re.compile(r"bytes (\d+) to")
_decode = msgspec.json.decode


class Promised(NamedTuple):
    """What must be there, and what is on the medium for sure."""

    keys: set[Key]
    safe: dict[str, int] | None
    """Bytes by path below the base; None where nothing was lost, only the process died."""


def promised(machine: Machine, choice: Choice) -> Promised:
    """What was promised for such a crash."""
    marks = [mark for mark in machine.marks if isinstance(mark, Promise)]
    is_killed = choice == "killed"
    keys = {key for mark in marks if mark.durable or is_killed for key in mark.keys}
    return Promised(keys, None if is_killed else machine.safe_sizes())


class ViolationError(AssertionError):
    """The store is not what was promised."""


def check_crash(world: World, base: Path, promise: Promised) -> None:
    """Opens, reads, seals and verifies what a crash left; see `docs/durability.md`.

    Raises:
        ViolationError: something is lost, doubled, wrong, or not as reported.
    """
    program, root = world.program, base / "store"
    try:
        store = program.store.Store.open(root)
    except StoreError as error:
        _check_unmade(world, root, promise, error)
        return
    try:
        before = _check_rows(world, store, promise)
        _check_report(world, store, promise, when="before sealing")
        report = program.seal.seal_store(store)
        _explained(world, report.problems, promise, when="while sealing")
        after = _check_rows(world, store, promise)
        if sorted(before) != sorted(after):
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
    recorder = world.program.recorder.Recorder(root, seal_on_close=False)
    recorder.close()
    world.program.store.Store.open(root).snapshot()


def rows_of(world: World, snap: Any) -> list[bytes]:
    """All events of a snapshot as they were encoded when emitted, in reading order."""
    chain, schema = world.program.chain, world.program.tables.events_schema()
    rows = []
    for path in snap.event_files:
        table = pq.ParquetFile(path).read(columns=schema.names).cast(schema)
        rows += chain.encoded_events(table)
    return rows + list(chain.encoded_events(snap.unsealed_events))


def _check_rows(world: World, store: Any, promise: Promised) -> list[bytes]:
    snap = store.snapshot()
    _explained(world, snap.problems, promise, when="in the snapshot")
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
        elif world.emitted.get(key) != row:
            raise ViolationError(f"wrong row {row!r} instead of {world.emitted.get(key)!r}")
        else:
            events.append(key)
    _check_keys(events, promise)
    _check_ends(world, events, ends)
    _check_needs(world, store, snap, promise)
    return rows


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


def _check_ends(world: World, events: list[Key], ends: dict[str, int]) -> None:
    """Each run without an end has a crashed one, after its last event; no other run has."""
    stopped, last = set[str](), dict[str, int]()
    for key in events:
        last[key[0]] = key[1]
        if b'"run_stopped"' in world.emitted[key]:
            stopped.add(key[0])
    for run_id in last.keys() - stopped:
        if ends.pop(run_id, None) != last[run_id] + 1:
            raise ViolationError(f"run {run_id} has no end, and none that says crashed")
    if ends:
        raise ViolationError(f"crashed ends of runs that ended or were not: {ends}")


def _check_needs(world: World, store: Any, snap: Any, promise: Promised) -> None:
    """Messages and blobs of what was promised are there, and no message is wrong."""
    found: dict[str, dict[str, Any]] = {}
    tables = [pq.ParquetFile(path).read() for path in snap.message_files]
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
    for key in promise.keys:
        messages, blobs = world.needs[key]
        if messages - found.keys():
            raise ViolationError(f"event {key} lacks messages {messages - found.keys()}")
        for digest in blobs:
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
    needed = {digest for key in promise.keys for digest in world.needs[key][1]}
    for problem in problems:
        path, what = problem.path, problem.what
        place = _PLACE.search(what)
        match path.parent.name:
            case "journal" if promise.safe is None and "ends within a record" in what:
                continue
            case "journal" if promise.safe is not None and place is not None:
                if int(place[1]) >= promise.safe.get(f"store/journal/{path.name}", 0):
                    continue
            case "quarantine" if promise.safe is not None:
                journal, _, start = path.stem.rpartition("-")
                if int(start) >= promise.safe.get(f"store/journal/{journal}.journal", 0):
                    continue
            case _ if path.parent.parent.name == "blobs" and promise.safe is not None:
                if path.name not in needed:
                    continue
        raise ViolationError(f"{when}: {problem}")


def _check_history(world: World, store: Any) -> None:
    """All manifests that ever were are there, as files or in the history."""
    manifest = world.program.manifest
    texts = [*manifest.history_lines(store.layout)]
    texts += [path.read_bytes() for path in manifest.manifest_files(store.layout)]
    previous, wanted = None, 1
    for text in dict.fromkeys(texts):
        one = msgspec.json.decode(text, type=manifest.Manifest)
        if one.number != wanted or one.previous_sha256 != previous:
            raise ViolationError(f"the manifests have a hole before {one.number}")
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
