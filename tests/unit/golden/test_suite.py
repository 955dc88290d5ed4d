"""Suites: loaded strictly, replayed whole, reported honestly."""

from __future__ import annotations

import gc
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flightlog.errors import AgentError, GoldenError, StaleGoldenError, UnknownNameError
from flightlog.golden.judging.judge import Level
from flightlog.golden.pin import pin_runs
from flightlog.golden.suite import Replaying, ReplayReport, Trial, load_suite, replay_suite
from flightlog.recorder.recorder import Recorder
from flightlog.recorder.store import Store
from flightlog.replay.recordings import read_recordings
from flightlog.runtime.agent import Agent
from flightlog.runtime.budget import Budget
from flightlog.runtime.task import Task
from flightlog.trace.events import Evaluation
from flightlog.trace.vocab import Origin, ServedHow
from tests.unit.golden.world import GET, REFUND, TASK, Call, candidate, record_run, shop_agent


@pytest.fixture
def goldens(tmp_path: Path) -> Path:
    """One golden task: look the order up, refund it, look again."""
    store, folder = tmp_path / "store", tmp_path / "goldens"
    run_id = record_run(store, [GET], [REFUND], [GET])
    pin_runs(Store.open(store), [run_id], folder)
    return folder


def _replay(goldens: Path, factory: Any, **options: Any) -> ReplayReport:
    with Recorder(goldens.parent / "replays") as recorder:
        return replay_suite(goldens, factory, recorder=recorder, **options)


def _change(goldens: Path, old: str, new: str) -> None:
    path = goldens / "refund-17" / "task.yaml"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_the_same_calls_pass_exactly(goldens: Path) -> None:
    report = _replay(goldens, candidate([GET], [REFUND], [GET]))
    (trial,) = report.trials
    assert (trial.passed, trial.level) == (True, Level.EXACT)
    assert (trial.coverage, trial.misses, trial.divergence) == (1.0, (), None)
    assert trial.served == {ServedHow.RECORDED: 3}
    assert report.exit_code == 0
    assert "live tool calls: 0" in report.sentence()


def test_fewer_reads_pass_as_the_same_writes_and_say_where_they_diverge(goldens: Path) -> None:
    (trial,) = _replay(goldens, candidate([GET], [REFUND])).trials
    assert (trial.passed, trial.level) == (True, Level.SAME_WRITES)
    assert trial.divergence is not None
    assert trial.divergence.step is None


def test_a_missing_write_fails_and_names_it(goldens: Path) -> None:
    report = _replay(goldens, candidate([GET]))
    (trial,) = report.trials
    assert trial.passed is False
    assert 'missing refund {"amount":5,"order_id":"A1"}' in trial.judgement.detail
    assert report.exit_code == 1
    assert report.lines()[0].startswith("FAILED refund-17 trial 0")
    assert "first divergence" in report.lines()[1]


def test_a_miss_is_inconclusive_and_neither_pass_nor_fail(goldens: Path) -> None:
    wrong: Call = ("refund", {"order_id": "A1", "amount": 6})
    report = _replay(goldens, candidate([GET], [wrong]))
    (trial,) = report.trials
    assert trial.passed is None
    assert trial.stop == "replay_miss:refund"
    assert trial.coverage == 0.5
    assert "args.amount is 6, recorded 5" in trial.judgement.detail
    assert "flightlog golden accept refund-17" in trial.judgement.detail
    assert report.exit_code == 2


def test_a_run_that_went_on_after_a_miss_is_inconclusive_too(goldens: Path) -> None:
    def factory(trial: Trial) -> Agent:
        agent = shop_agent([[("get_order", {"order_id": "zzz"})], [REFUND]], tools=trial.tools)
        assert agent.policy is not None
        return replace(agent, policy=replace(agent.policy, stop_on=frozenset()))

    (trial,) = _replay(goldens, factory).trials
    assert (trial.stop, trial.passed) == ("ok", None)
    assert "args.order_id is 'zzz', recorded 'A1'" in trial.judgement.detail


def test_a_golden_without_tool_calls_is_replayed_and_judged(tmp_path: Path) -> None:
    run_id = record_run(tmp_path / "s")
    pin_runs(Store.open(tmp_path / "s"), [run_id], tmp_path / "goldens")
    (trial,) = _replay(tmp_path / "goldens", candidate()).trials
    assert (trial.passed, trial.level, trial.coverage) == (True, Level.EXACT, None)
    (trial,) = _replay(tmp_path / "goldens", candidate([REFUND])).trials
    assert trial.passed is None


def test_failed_wins_over_inconclusive_in_the_exit_code(goldens: Path) -> None:
    def factory(trial: Trial) -> Agent:
        steps: list[list[Call]] = [[GET]] if trial.number else [[("refund", {"order_id": "x"})]]
        return shop_agent(steps, tools=trial.tools)

    report = _replay(goldens, factory, trials=2)
    assert (report.failed, report.inconclusive, report.exit_code) == (1, 1, 1)


def test_any_accepted_recording_will_do(goldens: Path, tmp_path: Path) -> None:
    other: Call = ("refund", {"order_id": "A1", "amount": 7})
    run_id = record_run(tmp_path / "store", [GET], [other], run_id="run-2")
    pin_runs(Store.open(tmp_path / "store"), [run_id], goldens)
    for call in (REFUND, other):
        assert _replay(goldens, candidate([GET], [call])).exit_code == 0


def test_writes_of_two_recordings_together_are_not_accepted(goldens: Path, tmp_path: Path) -> None:
    run_id = record_run(tmp_path / "store", [REFUND], [REFUND], run_id="run-2")
    pin_runs(Store.open(tmp_path / "store"), [run_id], goldens)
    thrice = _replay(goldens, candidate([REFUND], [REFUND], [REFUND]))
    assert thrice.trials[0].passed is None
    assert _replay(goldens, candidate([REFUND], [REFUND])).exit_code == 0


def test_writes_can_be_left_out_of_the_judgement(goldens: Path) -> None:
    _change(goldens, "writes: accepted", "writes: ignore")
    (trial,) = _replay(goldens, candidate([GET])).trials
    assert (trial.passed, trial.level) == (True, Level.SAME_OUTCOME)


@pytest.mark.parametrize(
    ("rule", "detail"),
    [
        ("forbidden_tools: [get_order]", "forbidden tool 'get_order' was asked for at step 1"),
        ("answer_contains: [10 USD]", "the answer does not contain '10 USD'"),
        ("answer_matches: ['^[0-9]+$']", "the answer does not match"),
    ],
)
def test_each_rule_of_the_contract_can_fail_a_run(goldens: Path, rule: str, detail: str) -> None:
    _change(goldens, f"{rule.partition(':')[0]}: []", rule)
    (trial,) = _replay(goldens, candidate([GET], [REFUND], [GET])).trials
    assert trial.passed is False
    assert detail in trial.judgement.detail


def test_a_forbidden_tool_fails_a_run_even_when_it_is_denied_or_missed(goldens: Path) -> None:
    _change(goldens, "forbidden_tools: []", "forbidden_tools: [delete_all, refund]")
    denied = _replay(goldens, candidate([("delete_all", {})], [GET]))
    assert denied.trials[0].passed is False
    missed = _replay(goldens, candidate([("refund", {"order_id": "zzz", "amount": 1})]))
    assert missed.trials[0].passed is False


def test_another_stop_reason_fails(goldens: Path) -> None:
    budget = Budget(max_tool_calls=1, max_seconds=None)
    (trial,) = _replay(goldens, candidate([GET], [REFUND], budget=budget)).trials
    assert trial.passed is False
    assert "stopped with max_tool_calls" in trial.judgement.detail
    assert "accepted: ok" in trial.judgement.detail


def test_a_budget_of_the_contract_is_kept(goldens: Path) -> None:
    _change(goldens, "max_tool_calls: 15", "max_tool_calls: 2")
    (trial,) = _replay(goldens, candidate([GET], [REFUND], [GET])).trials
    assert trial.judgement.detail == "used 3 of max_tool_calls=2"


def test_a_hallucinated_tool_is_denied_not_missed(goldens: Path) -> None:
    (trial,) = _replay(goldens, candidate([("get_ordr", {})], [GET], [REFUND])).trials
    assert (trial.passed, trial.misses) == (True, ())


def test_every_run_is_recorded_with_side_trial_session_and_judgement(goldens: Path) -> None:
    report = _replay(goldens, candidate([GET], [REFUND]), trials=2, variant="new", session_id="s")
    runs = read_recordings(Store.open(goldens.parent / "replays"))
    assert {run.run_id for run in runs} == {trial.run_id for trial in report.trials}
    for run in runs:
        started = run.started
        assert started is not None
        assert (started.origin, started.golden, started.variant) == (
            Origin.REPLAY,
            "refund-17",
            "new",
        )
        assert (started.session_id, started.task_digest) == ("s", TASK.digest)
        judged = run.events[-1]
        assert isinstance(judged, Evaluation)
        assert (judged.name, judged.passed) == ("success", True)
        assert (judged.detail or "").startswith("same_writes, same_outcome: ")
    assert sorted(run.started.trial or 0 for run in runs if run.started) == [0, 1]


def test_a_replay_can_itself_be_pinned_and_gives_the_same_answers(
    goldens: Path, tmp_path: Path
) -> None:
    (trial,) = _replay(goldens, candidate([GET], [REFUND], [GET])).trials
    again = tmp_path / "again"
    pin_runs(Store.open(goldens.parent / "replays"), [trial.run_id], again)
    report = _replay(again, candidate([GET], [REFUND], [GET]))
    assert (report.passed, report.coverage) == (1, 1.0)


def test_only_the_named_tasks_are_replayed(goldens: Path, tmp_path: Path) -> None:
    run_id = record_run(tmp_path / "store", [GET], run_id="r2", task=Task("Other Task", "x"))
    pin_runs(Store.open(tmp_path / "store"), [run_id], goldens)
    seen: list[tuple[int, int]] = []
    report = _replay(
        goldens,
        candidate([GET]),
        tasks=["Other Task"],
        how=Replaying(on_progress=lambda done, total: seen.append((done, total))),
    )
    assert [trial.task_id for trial in report.trials] == ["Other Task"]
    assert seen == [(1, 1)]
    with pytest.raises(UnknownNameError, match="refund-18") as caught:
        _replay(goldens, candidate([GET]), tasks=["refund-18"])
    assert "refund-17" in caught.value.hint


def test_a_missing_or_empty_folder_never_passes(tmp_path: Path) -> None:
    for folder in (tmp_path / "absent", tmp_path):
        with pytest.raises(GoldenError):
            load_suite(folder)


def test_a_task_without_recordings_or_with_an_undeclared_tool_is_stale(goldens: Path) -> None:
    (goldens / "tools.yaml").write_text("tools: {}\n", encoding="utf-8")
    with pytest.raises(StaleGoldenError, match="'get_order' of the golden task is not declared"):
        load_suite(goldens)
    _change(goldens, "tools:\n- get_order\n- refund\n", "")
    (goldens / "refund-17" / "1.jsonl").unlink()
    with pytest.raises(StaleGoldenError, match="no recording"):
        load_suite(goldens)


def test_a_copied_folder_is_refused_since_its_runs_would_count_twice(goldens: Path) -> None:
    shutil.copytree(goldens / "refund-17", goldens / "refund-17-copy")
    with pytest.raises(GoldenError, match="two golden tasks: refund-17 and refund-17-copy"):
        load_suite(goldens)


def test_an_edited_task_under_its_old_digest_is_stale(goldens: Path) -> None:
    _change(goldens, "Refund order A1.", "Refund order A2.")
    with pytest.raises(StaleGoldenError, match="differ from what was recorded"):
        load_suite(goldens)
    text = (goldens / "refund-17" / "task.yaml").read_text(encoding="utf-8")
    without = "".join(line for line in text.splitlines(True) if not line.startswith("digest:"))
    (goldens / "refund-17" / "task.yaml").write_text(without, encoding="utf-8")
    assert load_suite(goldens)[0].task.prompt == "Refund order A2."


def test_the_summary_of_a_task_counts_recordings_calls_and_writes(goldens: Path) -> None:
    (entry,) = load_suite(goldens)
    assert entry.summary() == (
        "refund-17: 1 recording, 3 calls, 1 accepted set of writes (1 write), "
        "tools: get_order, refund"
    )


@pytest.mark.parametrize("made", [None, "agent", 3])
def test_a_factory_that_gives_no_agent_is_an_error(goldens: Path, made: object) -> None:
    with pytest.raises(AgentError, match="not an Agent") as caught:
        _replay(goldens, lambda _: made)
    assert "refund-17" in caught.value.where


def test_a_side_without_a_name_is_refused(goldens: Path) -> None:
    with pytest.raises(GoldenError, match="variant is empty"):
        replay_suite(goldens, lambda _: None, recorder=None, variant="")  # type: ignore[arg-type]


def test_an_async_factory_is_told_to_be_a_plain_function(
    goldens: Path, recwarn: pytest.WarningsRecorder
) -> None:
    async def make(trial: Trial) -> Agent:
        raise NotImplementedError

    with pytest.raises(AgentError, match="plain def"):
        _replay(goldens, make)
    gc.collect()
    assert not recwarn.list


def test_a_factory_that_raises_is_an_error_that_says_what(goldens: Path) -> None:
    def fail(trial: Trial) -> Agent:
        raise KeyError("model")

    with pytest.raises(AgentError, match="KeyError: 'model'"):
        _replay(goldens, fail)


def test_a_factory_gets_task_tools_and_recordings(goldens: Path) -> None:
    seen: list[Trial] = []

    def factory(trial: Trial) -> Agent:
        seen.append(trial)
        return shop_agent([[GET], [REFUND]], tools=trial.tools)

    _replay(goldens, factory, trials=2, variant="v")
    assert [(t.number, t.variant, t.task.inputs) for t in seen] == [
        (0, "v", TASK.inputs),
        (1, "v", TASK.inputs),
    ]
    assert [tool.fn for tool in seen[0].tools] == [None, None]
    assert [recording.run_id for recording in seen[0].recordings] == ["run-1"]


def test_no_trials_is_an_error(goldens: Path) -> None:
    with pytest.raises(GoldenError, match="0 trials"):
        _replay(goldens, candidate([GET]), trials=0)


def test_functions_that_a_candidate_brings_are_never_called(goldens: Path) -> None:
    def explode(**_: object) -> None:
        raise AssertionError("a replay ran a live tool")

    def factory(trial: Trial) -> Agent:
        tools = [replace(tool, fn=explode) for tool in trial.tools]
        return shop_agent([[GET], [REFUND], [GET], [REFUND]], tools=tools)

    report = _replay(goldens, factory)
    assert report.live_tool_calls == 0
    assert report.trials[0].stop == "replay_miss:refund"


def test_a_misspelt_forbidden_tool_is_an_error_since_it_would_forbid_nothing(goldens: Path) -> None:
    _change(goldens, "forbidden_tools: []", "forbidden_tools: [get_ordr]")
    with pytest.raises(GoldenError, match=r"'get_ordr'.*not declared(.|\n)*nearest: get_order"):
        load_suite(goldens)
