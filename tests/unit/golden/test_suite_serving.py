"""A suite replayed under a weaker matcher and with miss policies."""

from __future__ import annotations

from pathlib import Path

from flightlog.golden.pin import pin_runs
from flightlog.golden.suite import Replaying, ReplayReport, replay_suite
from flightlog.recorder.recorder import Recorder
from flightlog.recorder.store import Store
from flightlog.replay.matchers import Match
from flightlog.replay.misses import MissPolicies, MissPolicy
from flightlog.trace.vocab import Effect, ServedHow
from tests.unit.golden.world import GET, REFUND, candidate, record_run

TWICE = candidate([GET], [GET], [REFUND], [GET])


def _replay(tmp_path: Path, how: Replaying) -> ReplayReport:
    store, goldens = tmp_path / "store", tmp_path / "goldens"
    run_id = record_run(store, [GET], [REFUND], [GET])
    pin_runs(Store.open(store), [run_id], goldens)
    with Recorder(tmp_path / "replays") as recorder:
        return replay_suite(goldens, TWICE, recorder=recorder, how=how)


def test_report_names_a_weaker_matcher(tmp_path: Path) -> None:
    report = _replay(tmp_path, Replaying(match=Match.STRICT))
    assert (report.match, report.misses) == (Match.STRICT, 1)
    assert "matcher: strict" in report.sentence()


def test_report_of_the_default_matcher_serves_the_read_asked_twice(tmp_path: Path) -> None:
    report = _replay(tmp_path, Replaying())
    assert (report.match, report.misses) == (Match.STATE, 0)
    assert "matcher" not in report.sentence()


def test_calls_answered_by_a_stub_are_told_apart(tmp_path: Path) -> None:
    policies = MissPolicies(
        by_effect={Effect.READ: MissPolicy.STUB}, stubs={"*": lambda call: {"stub": True}}
    )
    report = _replay(tmp_path, Replaying(match=Match.STRICT, misses=policies))
    assert report.served[ServedHow.STUB] >= 1
