"""A recording without its secrets still answers the candidate that makes the same calls."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from flightlog.golden.pin import pin_runs
from flightlog.golden.suite import Trial, replay_suite
from flightlog.recorder.recorder import Recorder
from flightlog.recorder.store import Store
from flightlog.redact.key_files import KEY_VARIABLE
from flightlog.redact.policy import Capture, Redaction
from flightlog.replay.cassette import Cassette
from flightlog.replay.matching import Rules
from flightlog.replay.recordings import read_recordings
from flightlog.replay.replayer import replay
from flightlog.replay.serve import StateAwareExecutor
from flightlog.runtime.agent import Agent
from flightlog.runtime.approvers import queue_approver
from flightlog.runtime.loop import RunContext, run
from flightlog.runtime.policy import Policy, approve_all
from flightlog.runtime.task import Task
from flightlog.runtime.tools import Tool
from flightlog.testing import ScriptedModel, asking, saying
from flightlog.trace.vocab import Effect, Origin, ServedHow

CARD = "4539578763621486"
OTHER_CARD = "5105105105105100"
TASK = Task("pay", f"Pay 5 EUR with the card {CARD}.", inputs={"card": CARD})


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)


def pay(card: str, amount: int) -> dict[str, Any]:
    return {"paid": amount, "card": card}


def balance(card: str) -> dict[str, Any]:
    return {"card": int(card), "left": 7}


def agent(card: str = CARD, *, live: bool = True, approver: Any = approve_all) -> Agent:
    model = ScriptedModel(
        "m",
        [
            asking(("balance", {"card": card})),
            asking(("pay", {"card": card, "amount": 5})),
            asking(("balance", {"card": card})),
            saying(f"Paid with {card}."),
        ],
    )
    tools = [
        Tool("pay", fn=pay if live else None, effect=Effect.WRITE, scopes=("card:{card}",)),
        Tool("balance", fn=balance if live else None, effect=Effect.READ, scopes=("card:{card}",)),
    ]
    return Agent("payer", model, tools, policy=Policy(allow=("*",), approver=approver))


def pinned(tmp_path: Path, **recorder: Any) -> Path:
    with Recorder(tmp_path / "store", **recorder) as sink:
        result = run(agent(), TASK, sink=sink)
    assert result.stop_reason == "ok"
    pin_runs(Store.open(tmp_path / "store"), [result.run_id], tmp_path / "goldens")
    return tmp_path / "goldens"


def replayed(store: Path, goldens: Path, card: str = CARD, **recorder: Any) -> Any:
    with Recorder(store, **recorder) as sink:
        report = replay_suite(goldens, lambda trial: agent(card, live=False), recorder=sink)
    [trial] = report.trials
    return trial


def bytes_under(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def test_a_golden_of_a_redacted_run_holds_pseudonyms_and_serves_the_raw_call(
    tmp_path: Path,
) -> None:
    goldens = pinned(tmp_path)
    assert CARD.encode() not in bytes_under(goldens)
    assert b"<card:" in bytes_under(goldens)
    trial = replayed(tmp_path / "store", goldens)
    assert (trial.passed, trial.level) == (True, "exact")


def test_a_candidate_that_read_the_pseudonym_in_its_prompt_is_served_too(tmp_path: Path) -> None:
    goldens = pinned(tmp_path)
    [recording] = read_recordings(Store.open(tmp_path / "store"))
    call = recording.tool_calls[0]
    shown = (call.args or "").partition(':"')[2].partition('"')[0]
    assert shown.startswith("<card:")
    with Recorder(tmp_path / "store") as sink:
        report = replay_suite(goldens, lambda trial: agent_of(trial, shown), recorder=sink)
    assert report.trials[0].passed


def agent_of(trial: Trial, card: str) -> Agent:
    assert card in trial.task.prompt
    return agent(card, live=False)


def test_another_card_is_another_pseudonym_and_a_miss(tmp_path: Path) -> None:
    trial = replayed(tmp_path / "store", pinned(tmp_path), OTHER_CARD)
    assert trial.passed is None
    assert "no match" in trial.judgement.detail


def test_under_another_key_the_miss_says_so(tmp_path: Path) -> None:
    trial = replayed(tmp_path / "elsewhere", pinned(tmp_path))
    assert trial.passed is None
    assert "another key" in trial.judgement.detail
    assert KEY_VARIABLE in trial.judgement.detail


def test_where_nothing_is_redacted_the_miss_says_so(tmp_path: Path) -> None:
    policy = Redaction(capture=Capture.FULL)
    trial = replayed(tmp_path / "elsewhere", pinned(tmp_path), redaction=policy)
    assert "does not redact" in trial.judgement.detail


def test_the_same_key_in_another_store_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "f" * 64)
    assert replayed(tmp_path / "elsewhere", pinned(tmp_path)).passed


def test_a_recording_with_raw_values_serves_a_candidate_that_redacts(tmp_path: Path) -> None:
    with Recorder(tmp_path / "raw", redaction=Redaction(capture=Capture.FULL)) as sink:
        run(agent(), TASK, sink=sink)
    recordings = read_recordings(Store.open(tmp_path / "raw"))
    assert CARD in (recordings[0].tool_calls[0].args or "")
    with Recorder(tmp_path / "store") as sink:
        rules = Rules(agent().tools, redactor=sink.redactor)
        executor = StateAwareExecutor(Cassette(recordings, rules), golden="pay")
        made = replay(
            agent(live=False), TASK, executor, sink=sink, context=RunContext(origin=Origin.REPLAY)
        )
    assert (made.result.stop_reason, executor.misses) == ("ok", [])
    assert executor.served[ServedHow.RECORDED] == 3
    assert CARD.encode() not in bytes_under(tmp_path / "store")


def test_a_write_that_waits_for_approval_keeps_its_binding_and_not_its_card(
    tmp_path: Path,
) -> None:
    store = tmp_path / "store"
    with Recorder(store) as sink:
        ask = queue_approver(sink.control)
        first = run(agent(approver=ask), TASK, sink=sink)
        assert first.stop_reason == "approval_pending"
        assert CARD.encode() not in bytes_under(store)
        [asked] = sink.control.approvals.requests(time.time())
        assert "<card:" in asked.write.args
        sink.control.approvals.decide(
            asked.id, is_approved=True, who="me", why="", now_s=time.time()
        )
        assert run(agent(approver=ask), TASK, sink=sink).stop_reason == "ok"
        other = run(agent(OTHER_CARD, approver=ask), TASK, sink=sink)
    assert other.stop_reason == "approval_pending"
