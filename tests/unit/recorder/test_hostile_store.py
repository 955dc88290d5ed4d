"""Stores that somebody else made: Parquet that declares more than it holds, pickles in
metadata, pipes in place of files.
"""

from __future__ import annotations

import io
import os
import pickle
import random
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import flightlog
from flightlog.cli import run as run_command
from flightlog.errors import DamagedError, FlightlogError
from flightlog.recorder.chain import segment_schema
from flightlog.recorder.manifest import sha256_of
from flightlog.recorder.seal import seal_store
from flightlog.recorder.store import MAX_ROWS_PER_BYTE, Store
from flightlog.recorder.verify import verify_store
from flightlog.trace.schema import FORMAT_KEY
from flightlog.trace.versions import FORMAT_VERSION
from tests.torture.size import SEED, sized

FORMAT = {FORMAT_KEY: str(FORMAT_VERSION).encode()}


@pytest.fixture
def store(store_path: Path) -> Store:
    """One sealed run."""
    with flightlog.record(store_path) as run:
        run.tool_call(tool_name="t", args={"a": 1}, result="x")
    store = Store.open(store_path)
    seal_store(store)
    return store


def planted(store: Store, table: pa.Table) -> Path:
    """The table as a segment that no manifest lists."""
    path = next(store.layout.events.glob("date=*")) / "0192f0c1-0000-7000-8000-000000000000.parquet"
    fields = [segment_schema().field(name) for name in table.column_names]
    pq.write_table(table.cast(pa.schema(fields, metadata=FORMAT)), path, compression="zstd")
    return path


def rows_of(store: Store) -> list[dict[str, Any]]:
    with flightlog.open(store.path) as traces:
        return traces.rows("SELECT tool_name FROM tool_calls")


def test_segment_that_declares_more_rows_than_its_bytes_can_hold_is_left_out(store: Store) -> None:
    names = pa.array(["x"]).take(pa.array([0] * 4_000_000, pa.int32()))
    path = planted(store, pa.table({"tool_name": names}))
    assert path.stat().st_size * MAX_ROWS_PER_BYTE < 4_000_000
    [problem] = store.snapshot().problems
    assert problem.path == path
    assert "declares 4,000,000 rows" in problem.what
    assert rows_of(store) == [{"tool_name": "t"}]


def test_listed_segment_that_declares_too_much_is_left_out(store: Store) -> None:
    listed(store, rows=10**12)
    [problem] = [p for p in store.snapshot().problems if "declares" in p.what]
    assert "declares 1,000,000,000,000 rows" in problem.what


def test_segment_of_other_rows_than_its_manifest_lists_is_damage(store: Store) -> None:
    listed(store, rows=7)
    [problem] = [p for p in verify_store(store).damaged if "rows" in p.what]
    assert "the manifest lists 7" in problem.what
    with pytest.raises(DamagedError, match="damaged or missing"), flightlog.open(store.path) as one:
        one.verify()


def listed(store: Store, *, rows: int) -> None:
    """Has the manifest tell other rows of the events segment, its digest being right."""
    [path] = [
        path for path in store.layout.manifests.glob("*.json") if "events/" in path.read_text()
    ]
    manifest = msgspec.json.decode(path.read_bytes())
    for entry in manifest["segments"]:
        if entry["path"].startswith("events/"):
            assert entry["sha256"] == sha256_of(store.path / entry["path"])
            entry["rows"] = rows
    path.write_bytes(msgspec.json.encode(manifest))


class Trap:
    """Unpickled, it would leave a folder behind."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("trap-was-sprung",)


def test_pickle_in_the_metadata_of_a_segment_is_never_read(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    trap = pickle.dumps(Trap())
    metadata = {
        b"ARROW:extension:name": b"arrow.py_extension_type",
        b"ARROW:extension:metadata": trap,
    }
    schema = pa.schema(
        [pa.field("tool_name", pa.string(), metadata=metadata)],
        metadata={**FORMAT, b"pandas": trap, b"pickle": trap},
    )
    folder = next(store.layout.events.glob("date=*"))
    path = folder / "0192f0c1-0000-7000-8000-000000000000.parquet"
    pq.write_table(pa.table({"tool_name": ["evil"]}).cast(schema), path)
    store.snapshot()
    rows_of(store)
    verify_store(store)
    assert not (tmp_path / "trap-was-sprung").exists()


@pytest.mark.parametrize(
    "place",
    [
        "FORMAT",
        "events/date=2026-01-01/x.parquet",
        "journal/x.journal",
        "manifest/x.json",
        "manifest/00000099.json",
        "manifest/history.jsonl",
        f"blobs/00/{'0' * 32}",
    ],
)
def test_pipe_in_place_of_a_file_does_not_stall_a_reader(store: Store, place: str) -> None:
    path = store.path / place
    path.unlink(missing_ok=True)
    path.parent.mkdir(exist_ok=True)
    os.mkfifo(path)
    if place == "FORMAT":
        with pytest.raises(DamagedError, match="not a regular file but a pipe"):
            Store.open(store.path)
    else:
        assert rows_of(Store.open(store.path)) == [{"tool_name": "t"}]
        verify_store(Store.open(store.path))


@pytest.mark.parametrize("place", ["ENCRYPTION", "pins/x.json", "pending/x.json"])
def test_pipe_in_place_of_a_record_is_refused_by_name(
    store: Store, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    path = store.path / place
    path.parent.mkdir(exist_ok=True)
    os.mkfifo(path)
    argv = ["retain", "--older-than", "1d", "--store", str(store.path)]
    # A removal that cannot be finished is told of; the others must be known before any removal.
    assert run_command(argv) == (0 if place.startswith("pending") else 64)
    told = capsys.readouterr().err
    assert "is not a regular file but a pipe" in told
    assert path.name in told


FOOTER_TAIL = 8  # its length and the magic word
ODD_BYTES = (b"\0", b"\x7f", b"\xff", b"\x80", b"\xff\xff\xff\xff\x7f", b"\xff" * 9 + b"\x7f")


def resealed(store: Store, raw: bytes) -> Path:
    """The bytes as the store's events segment, with a manifest that says that they are right."""
    [manifest_path] = [
        path for path in store.layout.manifests.glob("*.json") if "events/" in path.read_text()
    ]
    manifest = msgspec.json.decode(manifest_path.read_bytes())
    [entry] = [one for one in manifest["segments"] if one["path"].startswith("events/")]
    path = store.path / str(entry["path"])
    path.write_bytes(raw)
    entry["sha256"], entry["bytes"] = sha256_of(path), len(raw)
    manifest_path.write_bytes(msgspec.json.encode(manifest))
    return path


def segment_bytes(store: Store) -> bytes:
    [path] = store.layout.events.rglob("*.parquet")
    return path.read_bytes()


@pytest.mark.parametrize(
    "argv",
    [
        ["runs"],
        ["show", "last"],
        ["sql", "SELECT * FROM events"],
        ["export", "--format", "csv", "--out"],
        ["verify"],
        ["check"],
        ["erase", "--tenant", "acme", "--why", "request 7", "--dry-run"],
    ],
    ids=lambda argv: argv[0],
)
def test_listed_segment_that_no_engine_can_unpack_is_named_in_one_error(
    store: Store, capsys: pytest.CaptureFixture[str], argv: list[str]
) -> None:
    raw = bytearray(segment_bytes(store))
    while (at := raw.find(b"\x28\xb5\x2f\xfd")) >= 0:  # each page, all of them
        raw[at : at + 8] = b"\xff" * 8
    path = resealed(store, bytes(raw))
    if argv[0] == "export":
        argv = [*argv, str(store.path.parent / "exported")]
    assert run_command([*argv, "--store", str(store.path)]) == 64
    told = capsys.readouterr().err
    assert path.name in told
    assert "Traceback" not in told


def test_listed_segment_whose_columns_hold_nothing_is_refused_by_name(store: Store) -> None:
    """DuckDB alone looks at how many values the footer gives to a column."""
    sound = segment_bytes(store)
    footer = len(sound) - FOOTER_TAIL - int.from_bytes(sound[-8:-4], "little")
    rows = pq.ParquetFile(io.BytesIO(sound)).metadata.num_rows
    for at in range(footer, len(sound)):
        if sound[at : at + 2] == bytes((0x16, 2 * rows)):  # a field of 64 bits with that value
            resealed(store, sound[: at + 1] + b"\0" + sound[at + 2 :])
            try:
                rows_of(store)
            except FlightlogError as error:
                assert error.where  # noqa: PT017 - not all of these fields are counts
                return
    pytest.fail("no field of the footer mattered")


def test_listed_segment_of_any_bytes_is_read_or_refused_by_name(store: Store) -> None:
    chance = random.Random(SEED)
    sound = segment_bytes(store)
    start = len(sound) - FOOTER_TAIL - int.from_bytes(sound[-8:-4], "little")
    for _ in range(sized(25, 2_000)):
        raw = bytearray(sound)
        for _ in range(chance.choice((1, 1, 2, 5))):
            first, stop = (start, len(sound) - FOOTER_TAIL) if chance.random() < 0.8 else (4, start)
            at, odd = chance.randrange(first, stop), chance.choice(ODD_BYTES)
            raw[at : at + 1] = odd  # longer: a number beyond all sizes in place of a byte
        raw[-8:-4] = (len(raw) - FOOTER_TAIL - start).to_bytes(4, "little")
        resealed(store, bytes(raw))
        for read in (rows_of, verify_store, Store.snapshot):
            try:
                read(store)
            except FlightlogError as error:
                assert error.where  # noqa: PT017 - mostly there is no error
