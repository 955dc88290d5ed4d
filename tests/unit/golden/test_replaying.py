"""A suite replayed with changes, several trials at a time, and after an interruption."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flightlog.analysis.db import Traces
from flightlog.errors import AgentError, GoldenError
from flightlog.golden.overrides import Overrides
from flightlog.golden.pin import pin_runs
from flightlog.golden.suite import Replaying, ReplayReport, Trial, replay_suite
from flightlog.recorder.recorder import Recorder
from flightlog.recorder.store import Store
from flightlog.replay.attempts import Attempts
from flightlog.replay.matchers import Match
from flightlog.replay.misses import MissPolicies, MissPolicy
from flightlog.runtime.agent import Agent
from flightlog.runtime.model import ModelRequest, ModelResponse
from flightlog.testing import ScriptedModel, asking, saying
from flightlog.trace.vocab import Effect
from tests.unit.golden.world import GET, REFUND, candidate, record_run

SAME = candidate([GET], [REFUND], [GET])


@pytest.fixture
def goldens(tmp_path: Path) -> Path:
    store, folder = tmp_path / "store", tmp_path / "goldens"
    run_id = record_run(store, [GET], [REFUND], [GET])
    pin_runs(Store.open(store), [run_id], folder)
    return folder


def _replay(goldens: Path, factory: Any = SAME, **options: Any) -> ReplayReport:
    with Recorder(goldens.parent / "replays") as recorder:
        return replay_suite(goldens, factory, recorder=recorder, **options)


def _runs(goldens: Path) -> list[tuple[Any, ...]]:
    with Traces(goldens.parent / "replays") as traces:
        return traces.sql("SELECT trial, stop_reason FROM runs ORDER BY trial, run_id").fetchall()


def test_trials_at_the_same_time_give_the_same_report_in_the_same_order(goldens: Path) -> None:
    one = _replay(goldens, trials=6)
    many = _replay(goldens, trials=6, how=Replaying(concurrency=4))
    assert [trial.number for trial in many.trials] == list(range(6))
    assert [t.judgement for t in many.trials] == [t.judgement for t in one.trials]
    assert many.served == one.served
    assert many.live_tool_calls == 0


class Priced(ScriptedModel):
    """A model that states what each answer cost."""

    states_cost = True

    def complete(self, request: ModelRequest) -> ModelResponse:
        answer = super().complete(request)
        return ModelResponse(answer.text, answer.tool_requests, cost_usd=0.25)


def _priced(trial: Trial) -> Agent:
    agent: Agent = SAME(trial)
    answers = [asking(GET), asking(REFUND), asking(GET), saying("Done.")]
    return Agent("a", Priced("m", answers), tools=agent.tools, policy=agent.policy)


def test_the_spending_cap_leaves_trials_out_and_says_so(goldens: Path) -> None:
    report = _replay(goldens, _priced, trials=5, how=Replaying(max_usd=2.5))
    assert report.cost_usd == pytest.approx(2.0)
    assert report.skipped == (("refund-17", 2), ("refund-17", 3), ("refund-17", 4))
    assert report.exit_code == 2
    assert "3 trials left out, since the spending cap is reached" in report.lines()


def _dies_at(number: int) -> Callable[[Trial], Agent]:
    def factory(trial: Trial) -> Agent:
        if trial.number == number:
            raise KeyboardInterrupt
        return _priced(trial)

    return factory


@pytest.mark.parametrize("concurrency", [1, 3])
def test_an_interrupted_replay_goes_on_without_paying_again(
    goldens: Path, concurrency: int
) -> None:
    how = Replaying(concurrency=concurrency)
    with pytest.raises(KeyboardInterrupt):
        _replay(goldens, _dies_at(4), trials=8, session_id="s", how=how)
    finished = {trial for trial, stop in _runs(goldens) if stop == "ok"}
    assert 4 - concurrency <= len(finished) < 8

    asked = []

    def factory(trial: Trial) -> Agent:
        asked.append(trial.number)
        return _priced(trial)

    how = Replaying(concurrency=concurrency, resume=True)
    report = _replay(goldens, factory, trials=8, session_id="s", how=how)
    assert sorted(asked) == sorted(set(range(8)) - finished)
    assert [trial.number for trial in report.trials] == list(range(8))
    assert report.resumed == len(finished)
    assert report.cost_usd == pytest.approx(8.0)


def test_a_resumed_trial_is_reported_as_it_was(goldens: Path) -> None:
    other = candidate([GET], [REFUND])
    before = _replay(goldens, other, trials=2, session_id="s")
    after = _replay(goldens, other, trials=2, session_id="s", how=Replaying(resume=True))
    assert after.resumed == 2
    assert after.trials == before.trials


def test_another_variant_or_session_is_not_resumed(goldens: Path) -> None:
    _replay(goldens, session_id="s")
    how = Replaying(resume=True)
    assert _replay(goldens, session_id="other", how=how).resumed == 0
    assert _replay(goldens, session_id="s", variant="other", how=how).resumed == 0
    with pytest.raises(GoldenError, match="which replay goes on"):
        _replay(goldens, how=how)


def test_the_recorded_model_differs_in_nothing(goldens: Path) -> None:
    def factory(trial: Trial) -> Agent:
        return candidate([])(trial)

    how = Replaying(overrides=Overrides(model="recorded"))
    (trial,) = _replay(goldens, factory, how=how).trials
    assert (trial.passed, trial.level.value, trial.divergence) == (True, "exact", None)


def test_a_system_prompt_takes_the_place_of_the_agents(goldens: Path) -> None:
    how = Replaying(overrides=Overrides(system="Be brief."))
    _replay(goldens, how=how)
    with Traces(goldens.parent / "replays") as traces:
        rows = traces.sql("SELECT text FROM messages WHERE role = 'system'").fetchall()
    assert rows == [("Be brief.",)]


def test_a_settings_file_takes_the_place_of_the_policy(goldens: Path, tmp_path: Path) -> None:
    config = tmp_path / "flightlog.yaml"
    config.write_text("tools: {allow: [get_order, refund]}\nbudgets: {max_tool_calls: 1}\n")
    (trial,) = _replay(goldens, how=Replaying(overrides=Overrides(config=config))).trials
    assert trial.stop == "max_tool_calls"


def test_a_model_name_reaches_the_factory_and_must_be_used(goldens: Path) -> None:
    how = Replaying(overrides=Overrides(model="m2"))
    with pytest.raises(AgentError, match="not on 'm2'"):
        _replay(goldens, how=how)

    def factory(trial: Trial) -> Agent:
        agent: Agent = candidate([])(trial)
        answers = [asking(GET), asking(REFUND), asking(GET), saying("Done.")]
        model = ScriptedModel(trial.model or "m", answers)
        return Agent("a", model, tools=agent.tools, policy=agent.policy)

    assert _replay(goldens, factory, how=how).passed == 1


def test_a_client_is_made_anew_for_each_trial_and_closed(goldens: Path) -> None:
    closed = []

    class Client(ScriptedModel):
        def close(self) -> None:
            closed.append(self)

    def client() -> Client:
        return Client("m", [asking(GET), asking(REFUND), asking(GET), saying("Done.")])

    report = _replay(goldens, trials=2, how=Replaying(overrides=Overrides(client=client)))
    assert report.passed == 2
    assert len(set(map(id, closed))) == 2


def test_the_cost_of_trials_is_unknown_where_a_model_states_none(goldens: Path) -> None:
    assert _replay(goldens).cost_usd is None


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"match": Match.KEYED}, "match was 'state', is 'keyed'"),
        ({"attempts": Attempts.COLLAPSED}, "attempts was 'faithful', is 'collapsed'"),
        ({"misses": MissPolicies(by_effect={Effect.READ: MissPolicy.ERROR})}, "on_miss was None"),
        ({"overrides": Overrides(system="Be brief.")}, "system was None"),
    ],
)
def test_a_session_goes_on_only_under_the_conditions_that_it_began_with(
    goldens: Path, changed: dict[str, Any], told: str
) -> None:
    _replay(goldens, session_id="s")
    with pytest.raises(GoldenError, match="told otherwise") as caught:
        _replay(goldens, session_id="s", how=Replaying(resume=True, **changed))
    assert told in str(caught.value)


def test_a_session_does_not_go_on_with_a_changed_golden_task(goldens: Path) -> None:
    _replay(goldens, session_id="s")
    [task] = goldens.glob("*/task.yaml")
    text = task.read_text()
    changed = text.replace("  - ok\n", "  - ok\n  - max_steps\n", 1)
    assert changed != text
    task.write_text(changed)
    with pytest.raises(GoldenError, match="was changed since run"):
        _replay(goldens, session_id="s", how=Replaying(resume=True))
