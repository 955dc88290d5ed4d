"""What a replayed suite says: levels, validity, forbidden calls, graded questions."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flightlog.analysis.db import Traces
from flightlog.errors import GoldenError
from flightlog.golden.judging.levels import Level
from flightlog.golden.pin import pin_runs
from flightlog.golden.suite import Replaying, ReplayReport, Trial, replay_suite
from flightlog.recorder.recorder import Recorder
from flightlog.recorder.store import Store
from flightlog.replay.misses import MissPolicies, MissPolicy
from flightlog.replay.validity import Trust, Validity
from flightlog.runtime.agent import Agent
from flightlog.runtime.model import ModelRequest, ModelResponse, ScriptedModel
from tests.unit.golden.world import GET, REFUND, Call, candidate, record_run

OTHER: Call = ("get_order", {"order_id": "B2"})
SAME = candidate([OTHER], [GET], [REFUND])


@pytest.fixture
def goldens(tmp_path: Path) -> Path:
    run_id = record_run(tmp_path / "store", [OTHER], [GET], [REFUND])
    pin_runs(Store.open(tmp_path / "store"), [run_id], tmp_path / "goldens")
    return tmp_path / "goldens"


def _judge(goldens: Path, text: str) -> None:
    path = goldens / "refund-17" / "task.yaml"
    path.write_text(path.read_text("utf-8").replace("judge:\n", f"judge:\n{text}"), "utf-8")


def _replay(goldens: Path, factory: Any = SAME, **how: Any) -> ReplayReport:
    with Recorder(goldens.parent / "replays") as recorder:
        return replay_suite(
            goldens, factory, recorder=recorder, session_id="s", how=Replaying(**how)
        )


def test_calls_that_do_not_touch_may_change_places(goldens: Path) -> None:
    (trial,) = _replay(goldens, candidate([GET], [OTHER], [REFUND])).trials
    assert trial.passed is True
    assert trial.judgement.levels == (Level.COMMUTING, Level.SAME_WRITES, Level.SAME_OUTCOME)


def test_calls_that_touch_may_not(goldens: Path) -> None:
    misses = MissPolicies(by_tool={"get_order": MissPolicy.ERROR})
    (trial,) = _replay(goldens, candidate([OTHER], [REFUND], [GET]), misses=misses).trials
    assert trial.judgement.levels == (Level.SAME_WRITES, Level.SAME_OUTCOME)
    assert trial.trust.validity is Validity.DEGRADED


def test_all_levels_that_hold_are_reported(goldens: Path) -> None:
    report = _replay(goldens)
    assert report.trials[0].levels == "exact, commuting, same_writes, same_outcome"
    assert "levels: 1 exact; validity: 1 comparable" in report.lines()


@pytest.mark.parametrize(
    ("args", "is_forbidden"),
    [
        ("{amount: 5}", True),
        ("{amount: 6}", False),
        ("{amount: [4, 5]}", True),
        ("{amount: {minimum: 5}, order_id: A1}", True),
        ("{amount: {minimum: 6}}", False),
        ("{note: {}}", False),
    ],
)
def test_a_call_is_forbidden_when_all_its_arguments_are(
    goldens: Path, args: str, is_forbidden: bool
) -> None:
    _judge(goldens, f'  forbidden_calls:\n    - tool: "ref*"\n      args: {args}\n')
    (trial,) = _replay(goldens).trials
    assert trial.passed is not is_forbidden
    assert ("forbidden call 'refund'" in trial.judgement.detail) is is_forbidden


def test_a_forbidden_call_fails_a_replay_that_it_made_void(goldens: Path) -> None:
    _judge(goldens, "  forbidden_calls:\n    - tool: refund\n      args: {amount: {minimum: 6}}\n")
    wrong: Call = ("refund", {"order_id": "A1", "amount": 3900})
    (trial,) = _replay(goldens, candidate([wrong])).trials
    assert (trial.passed, trial.trust.validity) == (False, Validity.VOID)


def test_a_forbidden_tool_may_be_a_glob(goldens: Path) -> None:
    _judge(goldens, '  forbidden_calls:\n    - tool: "get_*"\n')
    assert _replay(goldens).failed == 1


def test_several_problems_are_all_told(goldens: Path) -> None:
    _judge(goldens, "  temporal:\n    - {must_follow: get_order, after: refund}\n")
    _judge(goldens, "  answer:\n    contains: ['7 USD']\n    number: {path: '', within: [1, 2]}\n")
    (trial,) = _replay(goldens).trials
    for part in ("does not contain '7 USD'", "is not JSON", "no 'get_order' succeeded after"):
        assert part in trial.judgement.detail


def test_a_miss_makes_a_replay_void_and_the_store_says_why(goldens: Path) -> None:
    report = _replay(goldens, candidate([("get_order", {"order_id": "zzz"})]))
    (trial,) = report.trials
    assert (trial.passed, trial.trust) == (
        None,
        Trust(Validity.VOID, ("no recording answers get_order",)),
    )
    assert any("replay void: no recording answers get_order" in line for line in report.lines())
    with Traces(goldens.parent / "replays") as traces:
        rows = traces.sql(
            "SELECT passed, detail FROM events WHERE kind = 'evaluation' AND name = 'validity'"
        ).fetchall()
    assert rows == [(False, "void: no recording answers get_order")]


class Calling(ScriptedModel):
    """A model that tries to reach its provider, which nobody allowed."""

    def complete(self, request: ModelRequest) -> ModelResponse:
        import socket

        with socket.socket() as tried:
            tried.connect(("127.0.0.1", 9))
        return super().complete(request)


def test_a_model_that_the_guard_keeps_from_its_provider_makes_the_replay_void(
    goldens: Path,
) -> None:
    def factory(trial: Trial) -> Agent:
        agent: Agent = SAME(trial)
        return replace(agent, model=Calling("m", []))

    (trial,) = _replay(goldens, factory).trials
    assert (trial.stop, trial.passed) == ("model_error", None)
    assert trial.trust.validity is Validity.VOID
    assert "connect 127.0.0.1:9" in trial.judgement.detail


def test_a_stand_in_for_a_recording_degrades_and_the_report_says_so(goldens: Path) -> None:
    stubs = {"get_order": lambda call: {"order_id": call.args["order_id"]}}
    misses = MissPolicies(by_tool={"get_order": MissPolicy.STUB}, stubs=stubs)
    extra: Call = ("get_order", {"order_id": "C3"})
    report = _replay(goldens, candidate([extra], [GET], [REFUND]), misses=misses)
    (trial,) = report.trials
    assert (trial.passed, trial.trust.validity) == (True, Validity.DEGRADED)
    assert trial.trust.reasons == ("1 served by stub",)
    assert report.lines()[0].startswith("passed refund-17 trial 0")


class Grader(ScriptedModel):
    """Says the same of every run; remembers what it was asked."""

    def __init__(self, text: str, cost_usd: float | None = 0.25) -> None:
        super().__init__("grader", [])
        self.answer = ModelResponse(text, cost_usd=cost_usd)
        self.asked: list[ModelRequest] = []

    def complete(self, request: ModelRequest) -> ModelResponse:
        self.asked.append(request)
        return self.answer


GRADED = "  graded:\n    - {rubric: It is polite., required: REQUIRED}\n"


@pytest.mark.parametrize(
    ("text", "required", "passed"),
    [
        ('{"passed": true, "reason": "kind"}', "true", True),
        ('{"passed": false, "reason": "rude"}', "true", False),
        ('{"passed": false, "reason": "rude"}', "false", True),
        ('Sure:\n```json\n{"passed": false}\n```', "true", False),
        ("I pass it", "true", None),
        ('{"passed": "yes"}', "true", None),
        ('{"passed": NaN}', "true", None),
        ("{" * 50_000, "true", None),
        ("I pass it", "false", True),
    ],
)
def test_a_grade_counts_only_where_it_is_required(
    goldens: Path, text: str, required: str, passed: bool | None
) -> None:
    _judge(goldens, GRADED.replace("REQUIRED", required))
    (trial,) = _replay(goldens, grader=Grader(text)).trials
    assert trial.passed is passed
    assert len(trial.judgement.detail) < 1000


def test_a_grade_is_recorded_as_a_call_of_the_judge_and_paid_for(goldens: Path) -> None:
    _judge(goldens, GRADED.replace("REQUIRED", "true"))
    grader = Grader('{"passed": true, "reason": "kind"}')
    report = _replay(goldens, grader=grader)
    with Traces(goldens.parent / "replays") as traces:
        rows = traces.sql(
            "SELECT request_model, cost_usd, outcome FROM model_calls WHERE actor = 'judge'"
        ).fetchall()
    assert rows == [("grader", 0.25, "ok")]
    assert report.trials[0].grades == ((True, "required: It is polite.: kind"),)
    asked = json.loads(grader.asked[0].messages[1].text or "")
    assert asked["criterion"] == "It is polite."
    assert asked["answer"] == "Done: 5 USD are on their way."


def test_a_graded_trial_is_resumed_as_it_was(goldens: Path) -> None:
    _judge(goldens, GRADED.replace("REQUIRED", "false"))
    grader = Grader('{"passed": false, "reason": "rude"}')
    before = _replay(goldens, grader=grader)
    after = _replay(goldens, grader=grader, resume=True)
    assert after.resumed == 1
    assert after.trials == before.trials
    assert len(grader.asked) == 1


def test_a_grader_that_fails_leaves_the_question_open(goldens: Path) -> None:
    _judge(goldens, GRADED.replace("REQUIRED", "true"))
    (trial,) = _replay(goldens, grader=ScriptedModel("empty", [])).trials
    assert trial.passed is None
    assert "not graded" in trial.judgement.detail


def test_a_required_question_without_a_grader_is_an_error_before_the_replay(
    goldens: Path,
) -> None:
    _judge(goldens, GRADED.replace("REQUIRED", "true"))
    with pytest.raises(GoldenError, match="no grader is given"):
        _replay(goldens)
