"""`flightlog compact`, `retain` and `erase`: what they say, and how they leave."""

from __future__ import annotations

from pathlib import Path

import pytest

from flightlog.cli import run
from flightlog.recorder.recorder import Recorder
from flightlog.recorder.store import Store
from flightlog.trace.run_writer import RunWriter
from tests.unit.recorder.store_life import all_events


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "store"
    for number, who in enumerate(("ann", "bob", "ann")):
        with Recorder(path) as recorder:
            write_run(recorder, f"r{number}", who)
    return path


def write_run(recorder: Recorder, run_id: str, who: str) -> None:
    run_ = RunWriter.with_system_clock(recorder, run_id)
    run_.started(agent="a", data_subject=who, tenant="acme", conversation_id=f"c-{who}")
    run_.stopped(stop_reason="ok", answer=f"answer for {who}")


def command(*argv: object) -> int:
    return run([str(part) for part in argv])


def answers(store: Path) -> list[str]:
    column = all_events(Store.open(store)).column("answer")
    return sorted(column.drop_null().to_pylist())


def test_compact_tells_what_it_merged(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("compact", "--store", store, "--dry-run") == 0
    assert "would merge 3 segments into 1 segment: 6 rows" in capsys.readouterr().out
    assert command("compact", "--store", store) == 0
    assert "merged 3 segments into 1 segment: 6 rows" in capsys.readouterr().out
    assert command("compact", "--store", store, "--target-bytes", "10MB") == 0
    assert "nothing to merge" in capsys.readouterr().out
    assert command("verify", "--store", store) == 0


def test_retain_tells_what_it_removed_and_what_goldens_keep(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("retain", "--store", store) == 64
    assert "--older-than" in capsys.readouterr().err
    assert command("retain", "--store", store, "--older-than", "1h") == 0
    assert "removed 0 runs with 0 events" in capsys.readouterr().out
    assert command("retain", "--store", store, "--older-than", "soon") == 64
    assert "'soon' is not an amount like 30d" in capsys.readouterr().err
    for much in ("99999999999999d", f"{'9' * 400}s"):
        assert command("retain", "--store", store, "--older-than", much) == 64
        assert "is too much" in capsys.readouterr().err
    assert command("retain", "--store", store, "--max-bytes", "0", "--dry-run") == 0
    assert "would remove 3 runs with 6 events: about" in capsys.readouterr().out
    empty = tmp_path / "goldens"
    empty.mkdir()
    keeping = ("retain", "--store", store, "--max-bytes", "0", "--goldens", empty)
    assert command(*keeping) == 64
    assert "no golden task with a recording" in capsys.readouterr().err
    assert len(answers(store)) == 3
    assert command("retain", "--store", store, "--older-than", "0s") == 0
    assert "removed 3 runs with 6 events" in capsys.readouterr().out
    assert answers(store) == []


def test_erase_says_what_it_erased_and_never_the_name(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("erase", "--store", store) == 64
    assert "--subject" in capsys.readouterr().err
    assert command("erase", "--store", store, "--subject", "ann", "--dry-run") == 0
    assert "would erase the payloads of 2 runs with 4 events" in capsys.readouterr().out
    assert command("erase", "--store", store, "--subject", "ann", "--why", "request 12") == 0
    assert "erased the payloads of 2 runs with 4 events" in capsys.readouterr().out
    assert answers(store) == ["answer for bob"]
    assert command("erase", "--store", store, "--subject", "ann") == 0
    assert "erased nothing" in capsys.readouterr().out
    assert command("erase", "--store", store, "--conversation", "c-bob") == 0
    assert answers(store) == []
    assert command("erase", "--store", store, "--run", "r0", "--tenant", "acme") == 0
    assert command("verify", "--store", store) == 0


def test_erase_is_exit_2_while_a_living_process_holds_such_a_run(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recorder = Recorder(store)
    write_run(recorder, "r9", "ann")
    assert command("erase", "--store", store, "--subject", "ann") == 2
    assert "not done: a living process holds such a run" in capsys.readouterr().err
    assert command("erase", "--store", store, "--subject", "ann") == 2
    recorder.close()
    assert command("erase", "--store", store, "--subject", "ann") == 0
    assert answers(store) == ["answer for bob"]


@pytest.mark.parametrize("name", ["compact", "retain", "erase"])
def test_a_folder_that_is_no_store_stays_as_it_is(name: str, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    more = {"retain": ["--older-than", "1d"], "erase": ["--subject", "ann"]}.get(name, [])
    assert command(name, "--store", tmp_path, *more) == 64
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
