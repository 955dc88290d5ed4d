"""Doctor tells what a collector acknowledged and left behind."""

from __future__ import annotations

import json
import shlex
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from flightlog.analysis.db import Traces
from flightlog.cli import run
from flightlog.integrations.otlp.collector import Collector
from flightlog.integrations.otlp.inbox import FOLDER, INBOX_FILE
from flightlog.integrations.otlp.left import left_behind
from tests.unit.integrations.otlp.made_spans import agent_spans, export_request
from tests.unit.integrations.otlp.serving import collecting, eventually, post

SLOW = ("--grace", "600", "--idle", "600")
TRACE = f"{1:032x}"


def findings(store: Path, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    run(["doctor", "--json", "--min-free", "0", "--store", str(store)])
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["findings"]
    return [one for one in found if one["kind"] not in ("unsealed", "run_without_end")]


def recorded(store: Path) -> list[str | None]:
    with Traces(store) as traces:
        return [row["stop_reason"] for row in traces.rows("SELECT stop_reason FROM runs")]


def files(store: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (store / FOLDER).iterdir()}


def test_spans_that_a_killed_collector_kept_are_told_with_the_command_that_records_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "store"
    with collecting(store, *SLOW) as collector:
        post(collector.url, export_request(agent_spans(TRACE, "R1")))
        assert findings(store, capsys) == []
        collector.process.kill()
        collector.process.wait()
    [found] = findings(store, capsys)
    assert found["kind"] == "uncollected"
    assert found["what"].startswith("4 spans of 1 traces are acknowledged and not recorded yet")
    assert (found["details"]["spans"], found["details"]["traces"]) == (4, 1)
    words = shlex.split(found["do"])
    assert words == ["flightlog", "collect", "--idle", "0", "--store", str(store)]
    with collecting(store, *words[2:4], "--grace", "0") as collector:
        eventually(lambda: recorded(store) == ["ok"])
    assert findings(store, capsys) == []


def test_looking_changes_no_file_of_the_inbox(tmp_path: Path) -> None:
    store = tmp_path / "store"
    with collecting(store, *SLOW) as collector:
        post(collector.url, export_request(agent_spans(TRACE, "R1")[:3]))
        collector.end()
    before = files(store)
    [found] = left_behind(store)
    assert found.details["spans"] == 3
    assert files(store) == before


def test_an_empty_inbox_and_none_are_nothing_to_tell(tmp_path: Path) -> None:
    assert left_behind(tmp_path) == []
    Collector(tmp_path / "store").close()
    assert left_behind(tmp_path / "store") == []


def test_a_damaged_inbox_is_told_as_damage(tmp_path: Path) -> None:
    store = tmp_path / "store"
    Collector(store).close()
    (store / FOLDER / INBOX_FILE).write_bytes(b"no database at all" * 500)
    [found] = left_behind(store)
    assert (found.kind, "damaged" in found.what) == ("damage", True)
    assert "Move the file away" in found.do


def test_an_inbox_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    store = tmp_path / "store"
    Collector(store).close()
    with sqlite3.connect(store / FOLDER / INBOX_FILE) as inbox:
        inbox.execute("PRAGMA user_version = 7")
    inbox.close()
    [found] = left_behind(store)
    assert (found.kind, "version (7, known 1)" in found.what) == ("unreadable", True)
