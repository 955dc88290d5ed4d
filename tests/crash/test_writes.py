"""Processes killed with SIGKILL around writes: no effect is unknown, none happens twice.

FLIGHTLOG_TORTURE_SIZE=full kills 300 of them.
"""

from __future__ import annotations

import json
import os
import random
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flightlog.analysis.db import Traces
from flightlog.analysis.health import examine
from flightlog.cli import run as run_command
from flightlog.recorder.disk import Disk
from flightlog.recorder.recorder import Recorder
from flightlog.recorder.seal import seal_store
from flightlog.recorder.store import Store
from flightlog.runtime.agent import Agent
from flightlog.runtime.loop import RunContext, run
from flightlog.runtime.model import ScriptedModel
from flightlog.runtime.policy import Policy, approve_all
from flightlog.runtime.task import Task
from flightlog.runtime.tools import Tool
from flightlog.testing import asking, saying
from flightlog.trace.vocab import Effect
from tests.crash.writing_agent import World, effects, write_until_killed
from tests.torture.size import SEED, sized

KILLS = sized(10, 300)
SETTLED = 3
pytestmark = [
    pytest.mark.crash,
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]


def kill_one(store: Path, counted: Path, seed: int) -> None:
    """Starts a writing child and kills it: at a random moment, or in it at a random place."""
    rng = random.Random(seed)
    wanted = rng.randrange(1, 120)
    dies_at = wanted if rng.random() < 0.5 else None
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reader)
            write_until_killed(store, World(counted, writer, seed, dies_at), seed)
        finally:
            os._exit(1)
    os.close(writer)
    while dies_at is not None or wanted > 0:
        told = os.read(reader, 1 if dies_at else wanted)
        wanted -= len(told)
        if not told:
            break
    for _ in range(rng.randrange(20_000)):  # a moment, so that it is any
        pass
    if dies_at is None:
        os.kill(child, signal.SIGKILL)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    os.close(reader)


def writes(store: Path) -> list[dict[str, Any]]:
    with Traces(store) as traces:
        return traces.rows("SELECT * FROM writes ORDER BY run_id, seq")


Call = tuple[str, str, int, int]


def call_of(row: dict[str, Any]) -> Call:
    number = json.loads(row["args"])["number"]
    return (row["run_id"], row["tool_name"], number, row["attempt"])


def check(rows: list[dict[str, Any]], counted: Path) -> Counter[str]:
    """Every effect has its intent and its state; the figures."""
    found = Counter((one.run_id, one.tool, one.number, one.attempt) for one in effects(counted))
    keys = {(one.run_id, one.tool, one.number): one.key for one in effects(counted)}
    known = {call_of(row): row for row in rows}
    assert len(known) == len(rows), "an attempt is two rows"
    assert all(row["has_intent"] for row in rows)
    assert set(found) <= set(known), "an effect that no journal knows of"
    assert set(found.values()) <= {1}, "an attempt was executed twice"
    paid = Counter((run_id, number) for run_id, tool, number, _ in found if tool == "pay")
    assert set(paid.values()) <= {1}, "a write without a key was executed twice"
    figures = Counter[str]()
    done_by_key = {row["idempotency_key"] for row in rows if row["state"] == "done"}
    for call, row in known.items():
        figures[row["state"]] += 1
        if row["state"] == "done" and "later attempt" not in row["why"]:
            assert found[call] == 1, row
        elif row["state"] == "not_done":
            assert found[call] == 0, row
        elif row["state"] == "in_doubt":
            figures["in doubt and done"] += found[call]
            assert row["run_stop_reason"] == "crashed"
        if found[call]:
            assert row["idempotency_key"] == keys[call[:3]]
            assert row["state"] in ("done", "failed", "in_doubt")
    assert figures["running"] == 0
    assert len(done_by_key) <= figures["done"]
    return figures + Counter(writes=len(rows), effects=sum(found.values()))


def test_every_write_is_known_as_done_not_done_or_in_doubt_after_sigkill(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    record_property: Callable[[str, object], None],
) -> None:
    store, counted = tmp_path / "store", tmp_path / "effects"
    for kill in range(KILLS):
        kill_one(store, counted, SEED * 1_000 + kill)
    before = writes(store)
    figures = check(before, counted)
    assert figures["writes"] > KILLS
    assert figures["in_doubt"] > 0
    assert len(seal_store(Store.open(store)).problems) == 0
    assert writes(store) == before, "sealing changed what is known of a write"
    record_property("figures", ("writes", {"kills": KILLS, **figures}))
    settle_some(store, counted, capsys)


def settle_some(store: Path, counted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Doctor lists the writes in doubt first, and those no more that somebody settled."""
    assert run_command(["doctor", "--store", str(store), "--min-free", "0", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    kinds = [finding["kind"] for finding in told["findings"]]
    doubted = [one["details"] for one in told["findings"] if one["kind"] == "write_in_doubt"]
    assert kinds[: len(doubted)] == ["write_in_doubt"] * len(doubted)
    assert {call_of(row) for row in doubted} == {
        call_of(row) for row in writes(store) if row["state"] == "in_doubt"
    }
    happened = {(one.run_id, one.tool, one.number, one.attempt) for one in effects(counted)}
    chosen = doubted[:SETTLED]
    for row in chosen:
        verdict = "--done" if call_of(row) in happened else "--not-done"
        place = [row["run_id"], str(row["step"]), str(row["call_ix"])]
        command = ["doctor", "settle", *place, verdict, "--why", "counted", "--store", str(store)]
        assert run_command(command) == 0
    after = {call_of(row): row for row in writes(store)}
    for row in chosen:
        is_done = call_of(row) in happened
        assert after[call_of(row)]["state"] == ("done" if is_done else "not_done")
    left = [one for one in examine(store, min_free_bytes=0) if one.kind == "write_in_doubt"]
    assert len(left) == len(doubted) - len(chosen)


class SyncedDisk(Disk):
    """Remembers how much of each file a sync has brought to the disk."""

    def __init__(self) -> None:
        self.synced: dict[int, int] = {}

    def fdatasync(self, descriptor: int) -> None:  # type: ignore[override]
        size = os.fstat(descriptor).st_size
        os.fdatasync(descriptor)
        self.synced[os.fstat(descriptor).st_ino] = size


def test_the_intent_is_on_the_disk_when_its_tool_is_called(tmp_path: Path) -> None:
    disk = SyncedDisk()
    sink = Recorder(tmp_path / "store", disk=disk, sync_interval_s=3600.0, seal_on_close=False)
    [journal] = sink.store_path.glob("journal/*.journal")
    on_disk = []

    def pay(what: str) -> str:
        synced = journal.read_bytes()[: disk.synced[journal.stat().st_ino]]
        on_disk.append(what.encode() in synced and b'"kind":"tool_intent"' in synced)
        return "paid"

    calls = [asking(("pay", {"what": f"mark-{step}-a"}), ("pay", {"what": f"mark-{step}-b"}))
             for step in range(5)]  # fmt: skip
    model = ScriptedModel("m", [*calls, saying("done")])
    agent = Agent(
        "a",
        model,
        [Tool("pay", pay, effect=Effect.WRITE)],
        policy=Policy(("pay",), approver=approve_all),
    )
    assert run(agent, Task("t", "Pay."), sink=sink, context=RunContext()).answer == "done"
    assert on_disk == [True] * 10
    sink.close()
