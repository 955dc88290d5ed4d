"""Encrypted stores: nothing of the content in any byte, and nothing without the key."""

from __future__ import annotations

import base64
import dataclasses
import os
import random
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import flightlog
from flightlog.analysis.sandbox import user_sql
from flightlog.errors import DamagedError, StoreError, StoreKeyError, UsageError
from flightlog.recorder.blobs import write_blob
from flightlog.recorder.encryption.boxes import BOX_BYTES, boxed, read_box
from flightlog.recorder.encryption.keys import (
    KEY_FILE_VARIABLE,
    KEY_VARIABLE,
    StoreKey,
    StoreKeys,
    new_key,
)
from flightlog.recorder.encryption.parquet import is_encrypted, open_segment, read_segment
from flightlog.recorder.encryption.store_key import for_writing
from flightlog.recorder.frames import FILE_MAGIC
from flightlog.recorder.quarantine import put_aside, read_aside
from flightlog.recorder.recorder import Recorder
from flightlog.recorder.seal import seal_store
from flightlog.recorder.store import Store
from flightlog.recorder.verify import require_intact, verify_store
from flightlog.redact.policy import Capture, Redaction
from flightlog.replay.recordings import read_recordings
from flightlog.trace.events import RunStarted, RunStopped, ToolCall
from flightlog.trace.messages import Message

Call = Callable[..., ToolCall]
CANARY = "canary-of-the-content"
LONG = f"{CANARY} " * 2_000
"""Becomes a blob."""

UNREDACTED = Redaction(capture=Capture.FULL)


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> StoreKey:
    """A key that is given in the environment."""
    made = new_key()
    monkeypatch.setenv(KEY_VARIABLE, made.text)
    return made


@pytest.fixture
def give(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Gives other keys, or none."""

    def give_keys(*keys: StoreKey) -> None:
        monkeypatch.setenv(KEY_VARIABLE, " ".join(one.text for one in keys))

    return give_keys


def fill(path: Path, call: Call, *, runs: int = 1) -> None:
    """Some runs with the canary in every kind of place."""
    with Recorder(path, redaction=UNREDACTED) as recorder:
        for number in range(runs):
            run = f"{CANARY}-{number}"
            start = RunStarted(run_id=run, seq=0, at=1, agent=CANARY, variant=CANARY, model=CANARY)
            recorder.emit(start, messages=[Message("user", LONG), Message("system", CANARY)])
            recorder.emit(call(1, run_id=run, args=f'{{"{CANARY}": 1}}', result=CANARY))
            recorder.emit(call(2, run_id=run, tool_name=CANARY, result=f"{LONG}{number}"))
            recorder.emit(RunStopped(run_id=run, seq=3, at=4, answer=CANARY))


def bytes_of(path: Path) -> dict[str, bytes]:
    files = (file for file in path.rglob("*") if file.is_file())
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in files}


def forms_of(key: StoreKey) -> list[bytes]:
    text = key.text.encode()
    encoded = base64.b64encode(key.secret)
    return [text, text[-43:], key.secret, encoded.rstrip(b"="), key.secret.hex().encode()]


def test_no_byte_of_a_sealed_store_tells_its_content_or_its_key(
    store_path: Path, call: Call, key: StoreKey
) -> None:
    fill(store_path, call, runs=3)
    files = bytes_of(store_path)
    assert {name.partition("/")[0] for name in files} >= {"events", "messages", "blobs"}
    names = "\n".join(files).encode()
    # Names of columns and kinds are in every footer; that one is not there tells of the others.
    hidden = [CANARY.encode(), b"tool_call", b"run_id", b"search", *forms_of(key)]
    for content in (*files.values(), names):
        assert [one for one in hidden if one in content] == []


def test_blobs_do_not_bear_the_digest_of_their_text(
    store_path: Path, call: Call, key: StoreKey
) -> None:
    fill(store_path, call)
    with flightlog.open(store_path) as traces:
        (row,) = traces.rows("SELECT result_blob FROM base.events WHERE result_blob IS NOT NULL")
    digest = row["result_blob"]
    assert Store.open(store_path).blob(digest) == f"{LONG}0"
    assert not [path for path in store_path.rglob("*") if digest in path.name]
    assert Store.open(store_path).layout.blob_file(digest).name == key.blob_name(digest)


def test_rows_of_an_encrypted_store_are_those_of_a_plain_one(
    tmp_path: Path, call: Call, give: Callable[..., None]
) -> None:
    plain, encrypted = tmp_path / "plain", tmp_path / "encrypted"
    fill(plain, call, runs=4)
    give(new_key())
    fill(encrypted, call, runs=4)
    queries = [
        "SELECT * EXCLUDE (store) FROM runs ORDER BY run_id",
        "SELECT * EXCLUDE (store) FROM tool_calls ORDER BY run_id, seq",
        "SELECT * EXCLUDE (store) FROM messages ORDER BY digest",
        "SELECT count(*), sum(seq) FROM events WHERE kind = 'tool_call' AND seq > 1",
    ]
    with flightlog.open(plain) as one, flightlog.open(encrypted) as other:
        assert [one.rows(query) for query in queries] == [other.rows(query) for query in queries]
    expected = read_recordings(Store.open(plain))
    found = read_recordings(Store.open(encrypted), [f"{CANARY}-{number}" for number in range(4)])
    assert [one.events for one in found] == [one.events for one in expected]
    assert [one.messages for one in found] == [one.messages for one in expected]


def test_plain_and_encrypted_stores_are_read_side_by_side(
    tmp_path: Path, call: Call, give: Callable[..., None]
) -> None:
    plain, first, second = tmp_path / "plain", tmp_path / "first", tmp_path / "second"
    keys = new_key(), new_key()
    fill(plain, call, runs=1)
    for path, key in zip((first, second), keys, strict=True):
        give(key)
        fill(path, call, runs=2)
    give(*keys)
    with flightlog.open(plain, first, second) as traces:
        counted = traces.rows("SELECT store, count(*) AS n FROM runs GROUP BY store ORDER BY store")
    assert [row["n"] for row in counted] == [2, 1, 2]


def test_journals_that_are_not_sealed_are_read_too(
    store_path: Path, call: Call, key: StoreKey
) -> None:
    fill(store_path, call)
    with Recorder(store_path, seal_on_close=False) as recorder:
        recorder.emit(call(1, run_id="later", result=LONG))
    with flightlog.open(store_path) as traces:
        assert len(traces.rows("SELECT * FROM runs")) == 2
        (row,) = traces.rows("SELECT result_blob FROM tool_calls WHERE run_id = 'later'")
    assert Store.open(store_path).blob(row["result_blob"]) == LONG


def test_analyst_of_an_encrypted_store_reaches_no_files_and_no_keys(
    store_path: Path, call: Call, key: StoreKey, tmp_path: Path
) -> None:
    fill(store_path, call)
    other = tmp_path / "other.txt"
    other.write_text("mine", encoding="utf-8")
    assert user_sql([store_path], "SELECT count(*) FROM runs").table.to_pylist() == [
        {"count_star()": 1}
    ]
    for query in (f"SELECT * FROM read_text('{other}')", f"SELECT getenv('{KEY_VARIABLE}')"):
        with pytest.raises(UsageError) as caught:
            user_sql([store_path], query)
        assert not [form for form in forms_of(key) if form in str(caught.value).encode()]


def test_queries_on_an_encrypted_store_spill_nothing_to_the_disk(
    store_path: Path, call: Call, key: StoreKey
) -> None:
    fill(store_path, call)
    with flightlog.open(store_path) as traces:
        (row,) = traces.rows("SELECT current_setting('temp_directory') AS folder")
    assert row["folder"] == ""


@pytest.mark.parametrize("others", [0, 1])
def test_without_the_key_everything_that_reads_or_seals_says_so(
    store_path: Path, call: Call, key: StoreKey, give: Callable[..., None], others: int
) -> None:
    fill(store_path, call)
    wrong = [new_key() for _ in range(others)]
    give(*wrong)
    before = bytes_of(store_path)
    attempts: list[Callable[[], object]] = [
        lambda: flightlog.open(store_path),
        lambda: Recorder(store_path),
        lambda: Store.create(store_path),
        lambda: Store.open(store_path).snapshot(),
        lambda: seal_store(Store.open(store_path)),
        lambda: read_recordings(Store.open(store_path)),
        lambda: user_sql([store_path], "SELECT 1"),
    ]
    for attempt in attempts:
        with pytest.raises(StoreKeyError) as caught:
            attempt()
        assert key.id in caught.value.what
        assert caught.value.where == str(store_path)
        assert KEY_FILE_VARIABLE in caught.value.hint
        assert all(one.id in caught.value.what for one in wrong)
        shown = f"{caught.value} {caught.value!r}".encode()
        assert not [form for one in wrong for form in forms_of(one) if form in shown]
    after = bytes_of(store_path)
    after.pop("manifest/.readers", None)
    before.pop("manifest/.readers", None)
    assert after == before


def test_journals_stay_when_a_sealer_has_no_key(
    store_path: Path, call: Call, key: StoreKey, give: Callable[..., None]
) -> None:
    with Recorder(store_path, seal_on_close=False) as recorder:
        recorder.emit(call(1))
    (journal,) = (store_path / "journal").iterdir()
    give()
    with pytest.raises(StoreKeyError, match="no key is given"):
        seal_store(Store.open(store_path))
    assert journal.exists()
    assert not list(store_path.rglob("*.parquet"))
    give(key)
    assert seal_store(Store.open(store_path)).sealed_journals == 1
    assert not journal.exists()
    assert all(is_encrypted(path) for path in store_path.rglob("*.parquet"))


def test_recorder_whose_key_is_taken_away_keeps_its_journal_and_says_so(
    store_path: Path, call: Call, key: StoreKey, give: Callable[..., None]
) -> None:
    recorder = Recorder(store_path)
    recorder.emit(call(1, result=LONG))
    give()
    recorder.close()
    assert recorder.last_error is not None
    assert "no key is given" in recorder.last_error
    assert len(list((store_path / "journal").iterdir())) == 1
    give(key)
    with flightlog.open(store_path) as traces:
        (row,) = traces.rows("SELECT result_blob FROM tool_calls")
    assert Store.open(store_path).blob(row["result_blob"]) == LONG


def test_sealing_beside_the_recording_is_encrypted_too(
    store_path: Path, call: Call, key: StoreKey
) -> None:
    with Recorder(store_path, seal_at_bytes=1 << 15, redaction=UNREDACTED) as recorder:
        for number in range(200):
            recorder.emit(call(number, result=f"{CANARY} {number} " * 40))
    segments = list(store_path.rglob("*.parquet"))
    assert len(segments) > 3
    assert all(is_encrypted(path) for path in segments)
    assert not [name for name, content in bytes_of(store_path).items() if b"canary" in content]
    with flightlog.open(store_path) as traces:
        assert traces.rows("SELECT count(*) AS n FROM tool_calls") == [{"n": 200}]


def test_key_for_a_store_that_is_not_encrypted_is_refused_for_writing_and_not_for_reading(
    store_path: Path, call: Call, give: Callable[..., None]
) -> None:
    fill(store_path, call)
    give(new_key())
    for attempt in (lambda: Recorder(store_path), lambda: seal_store(Store.open(store_path))):
        with pytest.raises(StoreKeyError, match="the store is not encrypted") as caught:
            attempt()
        assert "flightlog rekey" in caught.value.hint
    assert not (store_path / "ENCRYPTION").exists()
    with flightlog.open(store_path) as traces:
        assert len(traces.rows("SELECT * FROM runs")) == 1


def test_store_that_lost_its_mark_is_neither_read_in_part_nor_written_plain(
    store_path: Path, call: Call, key: StoreKey, give: Callable[..., None]
) -> None:
    fill(store_path, call)
    (store_path / "ENCRYPTION").unlink()
    with pytest.raises(StoreKeyError, match="not encrypted"):
        Recorder(store_path)
    give()
    with pytest.raises(StoreKeyError, match=key.id):
        flightlog.open(store_path)


def test_mark_that_cannot_be_read_is_damage(store_path: Path, call: Call, key: StoreKey) -> None:
    fill(store_path, call)
    (store_path / "ENCRYPTION").write_bytes(b"{")
    for attempt in (lambda: flightlog.open(store_path), lambda: Recorder(store_path)):
        with pytest.raises(DamagedError, match="which key"):
            attempt()


def test_key_in_the_store_itself_is_refused(
    store_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(store_path, call)
    file = store_path / "control" / "key"
    file.write_text(new_key().text, encoding="utf-8")
    monkeypatch.setenv(KEY_FILE_VARIABLE, str(file))
    with pytest.raises(StoreKeyError, match="lies in the store"):
        flightlog.open(store_path)


def test_verify_without_the_key_checks_the_bytes_and_says_what_it_could_not(
    store_path: Path, call: Call, key: StoreKey, give: Callable[..., None]
) -> None:
    fill(store_path, call)
    assert verify_store(Store.open(store_path)).notes == ()
    give()
    report = verify_store(Store.open(store_path))
    assert report.ok
    assert (report.segments, report.events) == (2, 4)
    assert any(key.id in note for note in report.notes)
    assert any("2 blobs" in note for note in report.notes)
    segment = next((store_path / "events").rglob("*.parquet"))
    segment.write_bytes(segment.read_bytes()[:-1])
    assert [problem.path for problem in verify_store(Store.open(store_path)).damaged] == [segment]


@pytest.mark.parametrize("table", ["events", "messages", "blobs"])
def test_any_changed_byte_is_found_and_never_gives_other_rows(
    store_path: Path, call: Call, key: StoreKey, table: str
) -> None:
    fill(store_path, call)
    store = Store.open(store_path)
    file = next(path for path in (store_path / table).rglob("*") if path.is_file())

    def read() -> object:
        if table == "blobs":
            return read_box(store.layout.keys, file)
        return read_segment(store.layout, file)

    good, content = file.read_bytes(), read()
    for place in range(0, len(good), max(1, len(good) // 40)):
        changed = bytearray(good)
        changed[place] ^= 0x40
        file.write_bytes(changed)
        report = verify_store(store)
        assert [problem.path for problem in report.problems] == [file]
        with suppress(StoreError):
            assert read() == content


@pytest.mark.parametrize("is_keyed", [False, True])
def test_damaged_segment_is_read_or_refused_with_its_name_and_nothing_else(
    store_path: Path, call: Call, give: Callable[..., None], is_keyed: bool
) -> None:
    give(*([new_key()] if is_keyed else []))
    fill(store_path, call)
    store = Store.open(store_path)
    file = next((store_path / "events").rglob("*.parquet"))
    good, rng = file.read_bytes(), random.Random(11)
    for number in range(300):
        changed = bytearray(good)
        for _ in range(rng.choice([1, 1, 4])):
            changed[rng.randrange(len(changed))] = rng.randrange(256)
        file.write_bytes(changed[: rng.randrange(len(changed))] if number % 5 == 0 else changed)
        try:
            read_segment(store.layout, file)
        except StoreError as error:
            assert error.where == str(file)  # noqa: PT017


def test_damage_that_a_query_meets_is_named(store_path: Path, call: Call, key: StoreKey) -> None:
    fill(store_path, call)
    segment = next((store_path / "events").rglob("*.parquet"))
    content = bytearray(segment.read_bytes())
    content[len(content) // 3] ^= 1
    with flightlog.open(store_path) as traces:
        segment.write_bytes(content)  # what is damaged before is left out and told
        with pytest.raises(DamagedError, match="not those that were sealed") as caught:
            traces.table("SELECT * FROM base.events")
    assert str(segment) in str(caught.value)


def test_one_blob_cannot_stand_in_for_another(store_path: Path, call: Call, key: StoreKey) -> None:
    fill(store_path, call, runs=2)
    first, second, *_ = Store.open(store_path).layout.blob_files()
    second.write_bytes(first.read_bytes())
    assert [problem.path for problem in verify_store(Store.open(store_path)).problems] == [second]
    with pytest.raises(DamagedError):
        read_box(StoreKeys((key,)), second)


def test_plain_segment_that_is_put_in_place_of_an_encrypted_one_is_found(
    tmp_path: Path, call: Call, give: Callable[..., None]
) -> None:
    plain, encrypted = tmp_path / "plain", tmp_path / "encrypted"
    fill(plain, call)
    give(new_key())
    fill(encrypted, call)
    forged = next((plain / "events").rglob("*.parquet")).read_bytes()
    next((encrypted / "events").rglob("*.parquet")).write_bytes(forged)
    with pytest.raises(DamagedError):
        require_intact(Store.open(encrypted))


def test_segment_under_a_foreign_key_is_left_out_and_told(
    tmp_path: Path, call: Call, give: Callable[..., None]
) -> None:
    mine, theirs = tmp_path / "mine", tmp_path / "theirs"
    key = new_key()
    give(new_key())
    fill(theirs, call)
    give(key)
    fill(mine, call)
    segment = next((theirs / "events").rglob("*.parquet"))
    target = mine / segment.relative_to(theirs)
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(segment.read_bytes())
    (problem,) = Store.open(mine).snapshot().problems
    assert problem.path == target
    assert "not given" in problem.what
    with flightlog.open(mine) as traces:
        assert len(traces.rows("SELECT * FROM runs")) == 1


def test_every_segment_has_a_data_key_of_its_own(
    store_path: Path, call: Call, key: StoreKey
) -> None:
    for _ in range(3):
        fill(store_path, call)
    wrapped = {
        path.read_bytes().rpartition(b'"wrappedDEK":"')[2].partition(b'"')[0]
        for path in store_path.rglob("*.parquet")
    }
    assert len(wrapped) == 6


def test_segment_of_an_encrypted_store_is_what_its_manifest_says(
    store_path: Path, call: Call, key: StoreKey
) -> None:
    fill(store_path, call)
    store = Store.open(store_path)
    for path in store_path.rglob("*.parquet"):
        assert path.read_bytes()[:4] == path.read_bytes()[-4:] == b"PARE"
        with pytest.raises((pa.ArrowException, OSError)):
            pq.ParquetFile(path)
        assert open_segment(store.layout, path).metadata.num_rows > 0


def test_what_is_put_aside_at_sealing_is_encrypted(
    store_path: Path, call: Call, key: StoreKey
) -> None:
    with Recorder(store_path, seal_on_close=False, redaction=UNREDACTED) as recorder:
        for number in range(3):
            recorder.emit(call(number, result=CANARY))
    (journal,) = (store_path / "journal").iterdir()
    content = bytearray(journal.read_bytes())
    assert content.startswith(FILE_MAGIC)
    content[content.index(CANARY.encode())] ^= 1  # within the first record
    journal.write_bytes(content)
    store = Store.open(store_path)
    assert seal_store(store).problems
    (piece,) = (store_path / "quarantine").iterdir()
    assert CANARY[1:].encode() not in piece.read_bytes()
    assert CANARY[1:].encode() in read_aside(store.layout, piece)


def test_pieces_and_boxes_of_any_size_come_back(
    store_path: Path, key: StoreKey, give: Callable[..., None]
) -> None:
    layout = for_writing(Store.create(store_path).layout)
    for size in (0, 1, 15, 16, 17, (1 << 20) - 1, (1 << 20) + 1):
        path = layout.quarantine / f"{size}.damaged"
        content = os.urandom(size)
        put_aside(layout, path, content)
        assert path.stat().st_size == size + BOX_BYTES
        assert read_aside(layout, path) == content
        path.write_bytes(path.read_bytes()[:-1])
        with pytest.raises(DamagedError):
            read_aside(layout, path)
    give()
    with pytest.raises(StoreKeyError, match=key.id):
        read_aside(dataclasses.replace(layout, keys=None), path)


def test_same_text_is_one_blob_and_never_the_same_bytes(store_path: Path, key: StoreKey) -> None:
    layout = Store.create(store_path).layout
    digest, _ = write_blob(layout, LONG)
    before = layout.blob_file(digest).read_bytes()
    assert write_blob(layout, LONG)[0] == digest
    assert layout.blob_file(digest).read_bytes() == before
    assert len(layout.blob_files()) == 1
    pieces = [b"".join(boxed(key, "name", [b"text"])) for _ in range(2)]
    assert pieces[0] != pieces[1]


def test_key_that_a_tool_shows_is_taken_out_of_the_trace(
    store_path: Path, call: Call, key: StoreKey, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "keys"
    file.write_text(key.text, encoding="utf-8")
    file.chmod(0o600)
    monkeypatch.delenv(KEY_VARIABLE)
    monkeypatch.setenv(KEY_FILE_VARIABLE, str(file))
    with Recorder(store_path, seal_on_close=False) as recorder:
        recorder.emit(call(1, result=f"the file says {key.text}."))
    for content in bytes_of(store_path).values():
        assert not [form for form in forms_of(key) if form in content]


@pytest.mark.parametrize("is_new", [True, False])
def test_without_cryptography_the_error_names_the_extra(
    store_path: Path, call: Call, key: StoreKey, is_new: bool
) -> None:
    if not is_new:
        fill(store_path, call)
    blocked = "import sys; sys.modules['cryptography'] = None\n"
    commands = [f"import flightlog; flightlog.Recorder({str(store_path)!r})"]
    if not is_new:
        run = "from flightlog.cli import run; sys.exit(run"
        commands += [
            f"{run}({[*argv, '--store', str(store_path)]!r}))"
            for argv in (["runs"], ["seal"], ["ask", "stop_reasons"], ["rekey"])
        ]
    for command in commands:
        done = subprocess.run(
            [sys.executable, "-c", blocked + command],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode in (1, 64), (command, done.stderr)
        assert "pip install 'flightlog[encryption]'" in done.stderr, command
        assert key.text not in done.stderr
