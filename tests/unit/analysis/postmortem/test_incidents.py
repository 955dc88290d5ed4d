"""A postmortem names the true cause first, and finds nothing where nothing is wrong.

Two seeds of each kind; benchmarks/postmortem.py has twenty and a hundred healthy windows.
"""

from __future__ import annotations

from datetime import timedelta

import pyarrow as pa
import pytest

from benchmarks._traffic import BEGIN, CAUSES, INCIDENTS, Incident, Traffic, incident
from flightlog.analysis.db import Traces
from flightlog.analysis.postmortem import Postmortem, Scope, postmortem
from flightlog.analysis.postmortem.found import Money, Spent
from flightlog.analysis.postmortem.kinds import EXPLAINED_BY, Kind
from flightlog.analysis.reports.postmortem import to_json, words

HOURS = 48.0
PIECE = timedelta(hours=0.5)


def shown(traces: Traces, command: tuple[str, ...]) -> pa.Table:
    """What the command that a finding names shows."""
    if command[0] == "show":
        return traces.table("SELECT * FROM events WHERE run_id = $id", {"id": command[1]})
    verb, name, option, value = command
    assert verb == "ask"
    key, text = value.split("=", 1) if option == "-p" else (option.removeprefix("--"), value)
    return traces.ask(name, **{key: text})


def searched(kind: str, seed: int) -> tuple[Incident, Postmortem]:
    wrong = incident(kind, seed, HOURS)
    with Traffic(seed, wrong=wrong).traces() as traces:
        found = postmortem(traces)
        for finding in found.findings:
            assert shown(traces, finding.shown_by).num_rows, finding.kind
    return wrong, found


@pytest.mark.parametrize("seed", [101, 102])
@pytest.mark.parametrize("kind", INCIDENTS)
def test_the_true_cause_is_named_first(kind: str, seed: int) -> None:
    wrong, found = searched(kind, seed)
    first = found.findings[0]
    assert first.kind in CAUSES[kind]
    assert first.subject == wrong.subject
    assert first.caused_by is None
    assert abs(first.begins - (BEGIN + timedelta(seconds=wrong.begin_s))) < 3 * PIECE
    for finding in found.findings:
        if finding.caused_by is not None and found.findings[0].kind != Kind.RUNAWAY:
            cause = found.findings[finding.caused_by - 1]
            assert cause.kind in EXPLAINED_BY[Kind(finding.kind)]


@pytest.mark.parametrize("seed", range(6))
def test_nothing_is_found_in_healthy_traffic(seed: int) -> None:
    with Traffic(seed).traces() as traces:
        found = postmortem(traces)
    assert found.findings == ()
    assert found.load is None
    assert len(found.checked) == 4


def test_the_chain_goes_from_the_prompt_to_the_bad_action() -> None:
    _, found = searched("prompt_growth", 3)
    kinds = {finding.number: finding.kind for finding in found.findings}
    because = {finding.kind: kinds.get(finding.caused_by or 0) for finding in found.findings}
    assert because["truncated"] == "prompt_growth"
    assert because["policy_lost"] == "truncated"
    assert because["refused"] == "policy_lost"
    [lost] = [finding for finding in found.findings if finding.kind == "policy_lost"]
    assert any("first bad action" in one.what for one in lost.evidence)
    assert any("version" in text for text in found.findings[0].changes)


def test_a_runaway_agent_is_named_as_load_generator_with_what_stops_it() -> None:
    wrong, found = searched("runaway", 3)
    assert found.load is not None
    assert next((one.of, one.name) for one in found.load.generators) == ("agent", wrong.subject)
    assert {remedy.setting for remedy in found.findings[0].remedies} >= {
        "guard no_progress: stop after 5 steps without anything new"
    }
    assert found.money is not None
    assert found.money.wasted_usd > 0.5 * found.money.usd


def test_users_who_try_again_are_a_consequence_of_runs_without_an_answer() -> None:
    _, found = searched("unusable_ends", 3)
    [again] = [finding for finding in found.findings if finding.kind == "user_retries"]
    assert again.caused_by == 1
    assert found.findings[0].detail == "crashed"


def test_a_window_can_be_narrowed_to_an_agent_or_a_tenant() -> None:
    wrong = incident("loop", 3, HOURS)
    with Traffic(3, wrong=wrong).traces() as traces:
        [*findings] = postmortem(traces, Scope(agent=wrong.subject)).findings
        assert findings[0].kind == "loops"
        others = postmortem(traces, Scope(agent="support"))
        assert wrong.subject != "support"
        assert others.findings == ()


def test_the_same_events_give_the_same_bytes() -> None:
    reports = {to_json(searched("flaky_tool", 3)[1]) for _ in range(2)}
    assert len(reports) == 1


def test_money_that_was_spent_for_no_tenant_is_told_without_one() -> None:
    spent = [Spent("a", None, 1, 0, 1.5, 0.0), Spent(None, "t", 1, 0, 0.5, 0.0)]
    told = Money(2.0, 0.0, 0.0, 0, tuple(spent))
    assert words.money(told).endswith("most on a $1.50, an agent without a name for t $0.50")
