"""Reading real journals that were cut or damaged, through the store as users do."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from flightlog.errors import FlightlogError
from flightlog.recorder.frames import FILE_MAGIC, Damage, pack
from flightlog.recorder.journal_reader import mapped, read_records
from flightlog.recorder.recorder import Recorder
from flightlog.recorder.store import Store
from flightlog.trace.events import Evaluation, ToolCall, encode_event
from flightlog.trace.messages import Message

Call = Callable[..., ToolCall]


@pytest.fixture
def journal(store_path: Path) -> Path:
    """A dead journal of four judgements (which need no run) and two messages."""
    with Recorder(store_path, seal_on_close=False) as recorder:
        for seq in range(4):
            messages = [Message("user", f"m{seq}")] if seq < 2 else []
            recorder.emit(Evaluation(run_id="run", seq=seq, passed=True), messages=messages)
    (path,) = (store_path / "journal").iterdir()
    return path


def ends_of(path: Path) -> list[int]:
    """Where each event of the journal ends."""
    content, ends = path.read_bytes(), []
    for seq in range(4):
        payload = encode_event(Evaluation(run_id="run", seq=seq, passed=True))
        ends.append(content.index(payload) + len(payload) + 4)
    return ends


def test_journal_cut_at_any_byte_gives_exactly_its_complete_events(
    store_path: Path, journal: Path
) -> None:
    content, ends = journal.read_bytes(), ends_of(journal)
    store = Store.open(store_path)
    for cut in range(len(content), -1, -1):
        journal.write_bytes(content[:cut])
        snap = store.snapshot()
        complete = [seq for seq, end in enumerate(ends) if end <= cut]
        assert snap.unsealed_events.column("seq").to_pylist() == complete
        assert all("records before it are kept" in p.what for p in snap.problems)
        assert len(snap.problems) <= 1


def test_flipped_byte_never_gives_a_wrong_row_in_silence(store_path: Path, journal: Path) -> None:
    content = journal.read_bytes()
    store = Store.open(store_path)
    sound = store.snapshot().unsealed_events.to_pylist()
    rng = random.Random(5)
    for _ in range(150):
        damaged = bytearray(content)
        for _ in range(rng.choice([1, 1, 1, 5])):
            damaged[rng.randrange(len(damaged))] ^= rng.randrange(1, 256)
        if damaged == content:
            continue
        journal.write_bytes(damaged)
        try:
            snap = store.snapshot()
        except FlightlogError as error:
            pytest.fail(f"one damaged journal made the store unreadable: {error}")
        rows = snap.unsealed_events.to_pylist()
        assert snap.problems
        assert [row for row in sound if row in rows] == rows


def test_records_of_an_unknown_header_are_still_found(tmp_path: Path, call: Call) -> None:
    path = tmp_path / "x.journal"
    path.write_bytes(FILE_MAGIC + pack(2, 1, encode_event(call(0))))
    with mapped(path) as data:
        items = list(read_records(data, where=path))
    assert isinstance(items[0], Damage)
    assert len(items) == 2


def test_torn_end_of_a_living_journal_is_no_problem(store_path: Path, call: Call) -> None:
    with Recorder(store_path, seal_on_close=False) as recorder:
        recorder.emit(call(0))
        (path,) = (store_path / "journal").iterdir()
        with path.open("ab") as file:
            file.write(b"\xf7\xffFL\x02")
        snap = Store.open(store_path).snapshot()
        assert snap.problems == ()
        assert snap.unsealed_events.num_rows == 1
