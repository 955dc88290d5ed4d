"""What commands say of stores that are empty, damaged, foreign or newer."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flightlog.cli import run
from flightlog.recorder.record import record
from flightlog.recorder.recorder import Recorder
from flightlog.trace.versions import FORMAT_VERSION
from tests.torture.size import sized


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "store"
    for variant in ("baseline", "candidate"):
        with record(path, task_id="t1", variant=variant) as writer:
            writer.tool_call(step=1, tool_name="search", args="{}", result="x")
    return path


def command(*argv: object) -> int:
    return run([str(part) for part in argv])


@pytest.mark.parametrize("argv", [["runs"], ["show", "last"], ["check"], ["verify"], ["seal"]])
def test_folder_that_is_no_store_is_exit_64_and_stays_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], argv: list[str]
) -> None:
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    assert command(*argv, "--store", tmp_path) == 64
    assert "not a flightlog store" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_store_of_a_newer_format_is_refused_by_name(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    marker = store / "FORMAT"
    newer = marker.read_text(encoding="utf-8").replace(str(FORMAT_VERSION), "99")
    marker.write_text(newer, encoding="utf-8")
    for argv in (["runs"], ["check"], ["verify"], ["seal"], ["sql", "select 1"]):
        assert command(*argv, "--store", store) == 64
        text = capsys.readouterr().err
        assert "format 99 is newer" in text
        assert "Upgrade" in text


def test_empty_store_has_no_runs_and_nothing_to_compare(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Recorder(tmp_path / "store").close()
    assert command("runs", "--store", tmp_path / "store") == 0
    assert "no runs" in capsys.readouterr().out
    assert command("show", "last", "--store", tmp_path / "store") == 64
    assert command("verify", "--store", tmp_path / "store") == 0
    assert command("check", "--store", tmp_path / "store") in (2, 64)
    assert "baseline" in capsys.readouterr().err


def test_foreign_parquet_file_is_named_and_not_read(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    foreign = next((store / "events").glob("date=*")) / "other.parquet"
    pq.write_table(pa.table({"kind": ["run_started"], "run_id": ["evil"]}), foreign)
    assert command("sql", "select count(*) as n from runs", "--store", store) == 0
    assert "2" in capsys.readouterr().out
    assert command("verify", "--store", store) == 64
    text = capsys.readouterr().err
    assert "other.parquet" in text
    assert command("show", "evil", "--store", store) == 64


def test_damaged_segment_is_found_before_anything_is_compared(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    segment = next((store / "events").glob("date=*/*.parquet"))
    content = bytearray(segment.read_bytes())
    content[len(content) // 2] ^= 0xFF
    segment.write_bytes(content)
    assert command("check", "--store", store) == 64
    text = capsys.readouterr().err
    assert segment.name in text


WRITER = """
import os, signal, sys
from flightlog.recorder.recorder import Recorder
from flightlog.trace.run_writer import RunWriter
writer = RunWriter.with_system_clock(Recorder(sys.argv[1]), "killed-run")
assert writer.started(task_id="t9", variant="baseline")
assert writer.tool_call(step=1, tool_name="search", args="{}", result="x")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_torn_journal_keeps_its_complete_events_and_the_run_is_crashed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "store"
    done = subprocess.run([sys.executable, "-c", WRITER, str(store)], check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    [journal] = (store / "journal").glob("*.journal")
    os.truncate(journal, journal.stat().st_size - 3)
    query = "select stop_reason, tool_calls from runs"
    assert command("sql", query, "--format", "csv", "--store", store) == 0
    unsealed = capsys.readouterr().out
    assert "crashed,0" in unsealed
    assert command("seal", "--store", store) == 0
    assert "ends within a record" in capsys.readouterr().err
    assert command("sql", query, "--format", "csv", "--store", store) == 0
    assert capsys.readouterr().out == unsealed


def test_flipped_bytes_never_pass_a_check_and_never_look_like_our_bug(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = random.Random(11)
    segments = sorted(store.rglob("*.parquet"))
    for _ in range(sized(8, 100)):
        segment = rng.choice(segments)
        intact = segment.read_bytes()
        content = bytearray(intact)
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        segment.write_bytes(content)
        assert command("check", "--store", store) == 64
        assert command("sql", "select * from runs", "--store", store) in (0, 64)
        assert command("show", "last", "--store", store) in (0, 64)
        segment.write_bytes(intact)
    capsys.readouterr()
    assert command("verify", "--store", store) == 0
