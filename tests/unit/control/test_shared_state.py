"""The shared state: made at first use, atomic, safe in threads and over fork."""

from __future__ import annotations

import os
import resource
import sqlite3
import stat
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from flightlog.control.shared_state import SharedState
from flightlog.control.state_file import SCHEMA_VERSION, StateFile, committed
from flightlog.errors import DamagedError, NewerFormatError, StoreError
from tests.unit.control.processes import child, hold_transaction, killed, list_things, told

TABLE = "CREATE TABLE IF NOT EXISTS things (name TEXT PRIMARY KEY) STRICT"
ALL = "SELECT name FROM things ORDER BY name"
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store" / "control" / "state.sqlite"


def things(path: Path | None, *, timeout_s: float = 10.0) -> SharedState:
    state = SharedState(path, timeout_s=timeout_s)
    state.declare(TABLE)
    return state


def add(state: SharedState, name: str) -> None:
    with state.transaction() as db:
        db.execute("INSERT INTO things VALUES (?)", (name,))


def names(state: SharedState) -> list[str]:
    return [name for (name,) in state.read(ALL)]


def in_fork(work: object) -> int:
    """Exit code of a forked child that runs the function: 0 when it came to its end."""
    pid = os.fork()
    if pid == 0:
        try:
            work()  # type: ignore[operator]
        except BaseException as error:
            print(repr(error), file=sys.stderr)
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_reading_makes_no_file_and_no_folder(path: Path) -> None:
    state = things(path)
    assert not state.exists
    assert state.read(ALL) == []
    assert not path.parent.exists()


def test_the_first_transaction_makes_a_file_that_only_its_owner_reads(path: Path) -> None:
    state = things(path)
    add(state, "a")
    assert state.exists
    for file in path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    state.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can write for somebody else")
def test_a_file_that_root_makes_belongs_to_the_owner_of_the_store(path: Path) -> None:
    path.parent.mkdir(parents=True)
    os.chown(path.parent, 12345, 12345)
    state = things(path)
    add(state, "a")
    made = {file.name: file.stat() for file in path.parent.iterdir()}
    assert set(made) == {"state.sqlite", "state.sqlite-wal", "state.sqlite-shm"}
    for name, one in made.items():
        assert (one.st_uid, one.st_gid, stat.S_IMODE(one.st_mode)) == (12345, 12345, 0o600), name
    other = things(path)
    add(other, "b")
    assert names(state) == ["a", "b"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can write for somebody else")
def test_root_gives_away_no_file_that_was_there_before(path: Path) -> None:
    path.parent.mkdir(parents=True)
    os.chown(path.parent, 12345, 12345)
    elsewhere = path.parent / "of_root"
    elsewhere.touch(mode=0o600)
    path.symlink_to(elsewhere)
    add(things(path), "a")
    assert elsewhere.stat().st_uid == 0


def test_what_one_commits_another_reads(path: Path) -> None:
    one, other = things(path), things(path)
    add(one, "a")
    assert names(other) == ["a"]
    add(other, "b")
    assert names(one) == ["a", "b"]


def test_those_who_make_the_file_at_the_same_moment_take_it_for_their_own(tmp_path: Path) -> None:
    together = threading.Barrier(3, timeout=60)

    def first_use(file: Path, name: str) -> None:
        state = things(file)
        together.wait()
        add(state, name)
        state.close()

    with ThreadPoolExecutor(3) as pool:
        for number in range(300):
            file = tmp_path / str(number) / "state.sqlite"
            list(pool.map(first_use, [file] * 3, "abc"))
            assert names(things(file)) == ["a", "b", "c"]


def test_a_second_object_on_a_file_does_not_take_the_locks_of_the_first(path: Path) -> None:
    """Else a command of another process would think itself alone and take the WAL away."""
    one, other = things(path), things(path)
    add(one, "a")
    add(other, "b")
    with child(list_things, path) as (_, pipe):
        assert told(pipe) == ["a", "b"]
        assert told(pipe) == "closed"
    add(one, "c")
    with child(list_things, path) as (_, pipe):
        assert told(pipe) == ["a", "b", "c"]


def test_a_commit_does_not_wait_for_the_disk(path: Path) -> None:
    state = things(path)
    add(state, "a")
    assert state.read("PRAGMA journal_mode") == [("wal",)]
    assert state.read("PRAGMA synchronous") == [(1,)]


def test_a_transaction_that_an_interrupt_left_open_is_rolled_back() -> None:
    file = StateFile.at(None, 1.0)
    file.db.execute(TABLE)
    file.db.execute("BEGIN IMMEDIATE")
    file.db.execute("INSERT INTO things VALUES ('left')")
    with committed(file.db, 1.0):
        file.db.execute("INSERT INTO things VALUES ('a')")
    assert file.db.execute(ALL).fetchall() == [("a",)]
    file.close()


def test_a_body_that_raises_changes_nothing(path: Path) -> None:
    for state in (things(path), things(None)):
        with suppress(ZeroDivisionError), state.transaction() as db:
            db.execute("INSERT INTO things VALUES ('a')")
            _ = 1 / 0
        assert names(state) == []


def test_tables_declared_later_are_made_too(path: Path) -> None:
    state = things(path)
    add(state, "a")
    state.declare("CREATE TABLE IF NOT EXISTS others (name TEXT) STRICT")
    assert state.read("SELECT * FROM others") == []
    assert names(state) == ["a"]


def test_state_in_memory_is_of_one_object() -> None:
    one, other = things(None), things(None)
    add(one, "a")
    assert names(one) == ["a"]
    assert names(other) == []


def test_threads_lose_nothing(path: Path) -> None:
    for state in (things(path), things(None)):
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda number, state=state: add(state, f"{number:03}"), range(200)))
        assert names(state) == [f"{number:03}" for number in range(200)]


def test_asking_in_the_midst_of_a_transaction_is_an_error_and_breaks_nothing(path: Path) -> None:
    state = things(path)
    with state.transaction() as db:
        with pytest.raises(StoreError, match="in the midst"):
            add(state, "b")
        db.execute("INSERT INTO things VALUES ('a')")
    assert names(state) == ["a"]


def test_a_file_locked_by_a_process_is_an_error_that_says_what_to_do(path: Path) -> None:
    add(things(path), "a")
    state = things(path, timeout_s=0.05)
    with child(hold_transaction, path) as (process, pipe):
        assert told(pipe) == "held"
        assert names(state) == ["a"]  # readers do not wait
        with pytest.raises(StoreError, match=r"locked by another process for longer than 0\.05 s"):
            add(state, "b")
        killed(process)
    add(state, "c")
    assert names(state) == ["a", "c"]


def test_a_process_killed_in_mid_transaction_leaves_nothing_of_it(path: Path) -> None:
    with child(hold_transaction, path) as (process, pipe):
        assert told(pipe) == "held"
        killed(process)
    state = things(path)
    assert state.read("SELECT a FROM sliding_entries") == [(1,)]
    assert state.read("SELECT a FROM sliding_sums") == [(1,)]
    assert state.read("PRAGMA integrity_check") == [("ok",)]


def test_a_forked_child_and_its_parent_go_on_with_files_of_their_own(path: Path) -> None:
    state = things(path)
    add(state, "before")
    assert in_fork(lambda: (add(state, "child"), names(state).index("before"))) == 0
    add(state, "parent")
    assert names(state) == ["before", "child", "parent"]


def test_a_forked_child_does_not_hold_the_locks_of_its_parent(path: Path) -> None:
    """A child that outlives its parent's connection must hold locks that others see."""
    state = things(path)
    add(state, "a")
    go_read, go_write = os.pipe()
    done_read, done_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        add(state, "child 1")
        os.write(done_write, b"1")
        os.read(go_read, 1)
        add(state, "child 2")
        os._exit(0 if names(state) == ["a", "b", "child 1", "child 2"] else 1)
    os.read(done_read, 1)
    state.close()  # the last connection of the parent: must not take the WAL away
    other = things(path)
    add(other, "b")
    other.close()
    os.write(go_write, b"1")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert names(state) == ["a", "b", "child 1", "child 2"]
    assert state.read("PRAGMA integrity_check") == [("ok",)]


def test_forks_while_threads_write_leave_a_whole_file(path: Path) -> None:
    state = things(path)
    is_over = threading.Event()
    written: list[str] = []

    def write(number: int) -> None:
        count = 0
        while not is_over.is_set():
            add(state, f"{number}-{count}")
            written.append(f"{number}-{count}")
            count += 1

    with ThreadPoolExecutor(3) as pool:
        running = [pool.submit(write, number) for number in range(3)]
        codes = [
            in_fork(lambda number=number: add(state, f"fork {number}")) for number in range(20)
        ]
        is_over.set()
        for one in running:
            one.result()
    assert codes == [0] * 20
    assert set(names(state)) == {*written, *(f"fork {number}" for number in range(20))}
    assert state.read("PRAGMA integrity_check") == [("ok",)]


def test_a_forked_child_has_a_copy_of_state_in_memory() -> None:
    state = things(None)
    add(state, "a")

    def check() -> None:
        add(state, "child")
        assert names(state) == ["a", "child"]

    assert in_fork(check) == 0
    assert names(state) == ["a"]


def test_a_child_forked_inside_a_transaction_refuses_and_its_parent_goes_on(path: Path) -> None:
    state = things(path)

    def check() -> None:
        with pytest.raises(StoreError, match="forked in the midst"):
            names(state)

    with state.transaction() as db:
        db.execute("INSERT INTO things VALUES ('a')")
        assert in_fork(check) == 0
    add(state, "b")
    assert names(state) == ["a", "b"]


def test_a_newer_schema_is_refused(path: Path) -> None:
    add(things(path), "a")
    raw = sqlite3.connect(path)
    raw.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    raw.close()
    with pytest.raises(NewerFormatError, match="Upgrade flightlog"):
        names(things(path))


def test_a_database_of_another_program_is_refused_and_left_as_it_is(path: Path) -> None:
    path.parent.mkdir(parents=True)
    raw = sqlite3.connect(path)
    raw.execute("CREATE TABLE theirs (name TEXT)")
    raw.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="another program"):
        add(things(path), "a")
    assert path.read_bytes() == before


@pytest.mark.parametrize("damage", [b"not a database, " * 300, None])
def test_a_damaged_file_says_what_to_do_and_works_again_once_moved(
    path: Path, damage: bytes | None
) -> None:
    state = things(path)
    for number in range(2000):
        add(state, f"{number:0200}")
    state.close()
    good = path.read_bytes()
    # Either another file altogether, or every page but the first torn out.
    path.write_bytes(damage or good[:4096] + b"\x55" * (len(good) - 4096))
    with pytest.raises(DamagedError, match="Move it away") as found:
        names(state)
    assert found.value.where == str(path)
    path.rename(path.with_name("damaged"))
    add(state, "a")
    assert names(state) == ["a"]


def test_a_file_moved_away_under_a_running_process_is_made_again(path: Path) -> None:
    state = things(path)
    add(state, "a")
    for file in sorted(path.parent.iterdir()):
        file.unlink()
    assert names(state) == []
    assert not path.exists()
    add(state, "b")
    assert names(state) == names(things(path)) == ["b"]


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file")
    with pytest.raises(StoreError, match="cannot be used") as found:
        add(things(tmp_path / "store" / "control" / "state.sqlite"), "a")
    assert "rights of the folder" in found.value.hint


def test_a_full_disk_is_an_error_and_what_was_committed_stays(path: Path) -> None:
    state = things(path)
    add(state, "a")

    def fill() -> None:
        for number in range(100_000):
            add(state, f"{number:0500}")

    def fill_a_small_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
        with pytest.raises(StoreError, match="cannot be used"):
            fill()

    assert in_fork(fill_a_small_disk) == 0
    assert "a" in names(state)
    add(state, "b")
    assert state.read("PRAGMA integrity_check") == [("ok",)]


def test_scrubbing_waits_for_readers_and_fails_where_they_do_not_end(path: Path) -> None:
    state = things(path)
    add(state, "deleted")
    add(state, "kept")
    with state.transaction() as db:
        db.execute("DELETE FROM things WHERE name = 'deleted'")
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM things").fetchall()
    short = things(path, timeout_s=0.05)
    with pytest.raises(StoreError, match="locked"):
        short.scrub()
    reader.close()
    state.scrub()
    assert b"deleted" not in b"".join(p.read_bytes() for p in path.parent.glob(f"{path.name}*"))
    assert names(state) == ["kept"]
    things(path.with_name("absent")).scrub()
    assert not path.with_name("absent").exists()
