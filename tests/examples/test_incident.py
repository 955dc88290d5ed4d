"""What README and docs/incident.md say about the incident, asked of a store made anew."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import flightlog
from flightlog.analysis.db import Traces
from flightlog.analysis.postmortem import Scope, postmortem
from flightlog.runtime.from_config import policy_from

SETTINGS = Path(__file__).resolve().parents[2] / "examples" / "incident" / "flightlog.yaml"
ONE_RUN = "session_id = 'one run'"
BOUNDED = f"{ONE_RUN} AND variant NOT IN ('unbounded', 'kill switch')"
REPEATED = "session_id LIKE 'a fresh run%'"

OPERATED = """
import subprocess, sys
from pathlib import Path
import flightlog
from day import TENANT, WORLD, AlarmClock
from incident import SETTINGS, UNBOUNDED
from flightlog.runtime.from_config import prices_from
import vendor

def kill():
    command = [Path(sys.executable).with_name("flightlog"), "kill", "on", "--store", "store"]
    subprocess.run([*command, "--mode", "disable_tools:browse"], check=True, capture_output=True)

with flightlog.Recorder("store") as recorder:
    clock = AlarmClock(3600, kill)
    prices = prices_from(flightlog.load_config(SETTINGS))
    agent = vendor.brief_agent(UNBOUNDED, prices, clock, WORLD)
    result = flightlog.run(agent, vendor.TASK, sink=recorder, clock=clock)
print(result.stop, result.usage.tool_calls)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("incident")


@pytest.fixture(scope="module")
def printed(folder: Path, run_example: Callable[..., object]) -> str:
    return run_example("incident.py", folder=folder).stdout


@pytest.fixture(scope="module")
def traces(folder: Path, printed: str) -> Iterator[Traces]:
    with flightlog.open(folder / "flightlog-incident" / "store") as opened:
        yield opened


def one(traces: Traces, query: str) -> dict[str, object]:
    (row,) = traces.rows(query)
    return row


def test_readme_shows_what_the_incident_prints(
    printed: str, check_published: Callable[[str, str, str], None]
) -> None:
    """Set FLIGHTLOG_UPDATE_README=1 to write it anew."""
    table, rest = printed.split("\nTry next:")
    assert max(len(line) for line in printed.splitlines()) <= 100
    assert rest.count("flightlog ") >= 3
    check_published("README.md", "incident", table)


def test_without_bounds_a_day_has_some_1800_browser_calls_and_costs_some_1300_usd(
    traces: Traces,
) -> None:
    run = one(
        traces,
        "select tool_calls, cost_usd, duration_ms, success, tool_failures from runs "
        "where variant = 'unbounded'",
    )
    assert 1_700 <= run["tool_calls"] <= 1_900
    assert 1_250 <= run["cost_usd"] <= 1_350
    assert 86_400 <= run["duration_ms"] / 1000 <= 86_460
    assert run["success"] is True
    assert run["tool_failures"] == 1_800


def test_with_bounds_the_same_outage_ends_after_a_handful_of_calls(traces: Traces) -> None:
    made = traces.rows(
        "select variant, count(*) filter (served_how = 'live') calls, sum(cost_usd) usd "
        "from tool_calls where run_id in (select run_id from runs "
        f"where {BOUNDED}) group by variant"
    )
    assert {row["variant"]: row["calls"] for row in made} == {
        "flightlog.yaml": 2,
        "patient": 15,
        "loop guard": 9,
        "breaker": 3,
    }
    dearest = one(traces, f"select max(cost_usd) usd from runs where {BOUNDED}")
    assert dearest["usd"] < 2


def test_each_bounded_run_says_why_it_ended_and_what_it_spent(traces: Traces) -> None:
    ends = traces.rows(
        "select runs.variant, stop_reason, used_tool_calls, used_usd, events.stop_detail "
        "from events join runs using (run_id, stop_reason) where kind = 'run_stopped' "
        f"and runs.{ONE_RUN}"
    )
    assert {row["variant"]: row["stop_reason"] for row in ends} == {
        "unbounded": "ok",
        "kill switch": "kill_switch",
        "flightlog.yaml": "max_seconds",
        "patient": "max_tool_calls",
        "loop guard": "loop_detected",
        "breaker": "ok",
    }
    assert all(row["used_usd"] > 0 and row["used_tool_calls"] > 0 for row in ends)
    assert all(row["stop_detail"] for row in ends if row["stop_reason"] != "ok")


def test_what_a_run_cost_is_the_sum_of_its_events(traces: Traces) -> None:
    wrong = traces.rows(
        "with summed as (select run_id, sum(cost_usd) usd from events "
        "where kind in ('model_call', 'tool_call') group by run_id) "
        "select runs.run_id from runs left join summed using (run_id) "
        "join events as stopped on stopped.run_id = runs.run_id and stopped.kind = 'run_stopped' "
        "where abs(coalesce(usd, 0) - runs.cost_usd) > 1e-6 "
        "or abs(runs.cost_usd - stopped.used_usd) > 1e-6"
    )
    assert wrong == []


def test_only_the_policy_differs_between_the_sides(traces: Traces) -> None:
    same = one(
        traces,
        "select count(distinct toolset_digest) toolsets, count(distinct task_digest) tasks, "
        "count(distinct system_digest) systems, count(distinct model) models, "
        "count(distinct agent) agents, count(distinct tenant) tenants "
        "from events where kind = 'run_started'",
    )
    assert set(same.values()) == {1}
    policies = traces.rows(
        "select variant, list(distinct config_digest) digests from events "
        "where kind = 'run_started' group by variant"
    )
    by_side = {row["variant"]: row["digests"] for row in policies}
    assert all(len(digests) == 1 for digests in by_side.values())
    assert by_side.pop("kill switch") == by_side["unbounded"]
    assert len({digests[0] for digests in by_side.values()}) == len(by_side)


def test_the_settings_file_is_the_documented_default_for_this_tool(tmp_path: Path) -> None:
    empty = tmp_path / "flightlog.yaml"
    empty.write_text("{}\n", encoding="utf-8")
    default = policy_from(flightlog.load_config(empty))
    here = policy_from(flightlog.load_config(SETTINGS))
    assert here.digest == replace(default, allow=["browse"]).digest


def test_a_day_of_runs_under_a_daily_budget_never_exceeds_it_in_any_window(traces: Traces) -> None:
    spent = one(
        traces,
        "select max(usd) usd, sum(cost_usd) total from (select events.cost_usd, "
        "sum(events.cost_usd) over (order by events.at "
        "range between interval 24 hours preceding and current row) usd "
        "from events join runs using (run_id) where runs.variant = 'daily budget' "
        "and kind in ('model_call', 'tool_call'))",
    )
    assert 1.9 <= spent["usd"] <= 2.0
    assert spent["total"] < 2.2


def test_after_a_breaker_has_opened_all_runs_together_make_one_call_an_hour(
    traces: Traces,
) -> None:
    gaps = traces.rows(
        'select epoch("at" - lag("at") over (order by "at")) as s from tool_calls '
        f"where served_how = 'live' and run_id in (select run_id from runs where {REPEATED} "
        "and variant = 'breaker') order by \"at\""
    )
    assert 20 <= len(gaps) <= 30
    assert min(row["s"] for row in gaps[3:]) >= 3_600


def test_every_side_that_goes_on_has_the_brief_within_an_hour_of_the_vendors_return(
    traces: Traces,
) -> None:
    written = traces.rows(
        "select variant, count(*) runs, epoch(max(ended_at) - min(started_at)) / 3600 as hours "
        f"from runs where {REPEATED} group by variant having bool_or(success)"
    )
    assert {row["variant"] for row in written} == {"flightlog.yaml", "daily budget", "breaker"}
    assert all(24 <= row["hours"] <= 25 for row in written)


def test_the_real_command_stops_a_run_in_its_middle(
    tmp_path: Path, run_example: Callable[..., object]
) -> None:
    done = run_example("-c", OPERATED, folder=tmp_path)
    assert done.stdout.split() == ["kill_switch", "75"]


def test_a_second_run_makes_the_store_anew_with_the_same_numbers(
    folder: Path, printed: str, traces: Traces, run_example: Callable[..., object]
) -> None:
    other = folder / "second"
    shutil.copytree(folder / "flightlog-incident", other / "flightlog-incident")
    assert run_example("incident.py", folder=other).stdout == printed
    with flightlog.open(other / "flightlog-incident" / "store") as again:
        assert again.rows("select count(*) runs from runs") == traces.rows(
            "select count(*) runs from runs"
        )


def test_a_folder_of_somebody_else_is_left_alone(
    tmp_path: Path, run_example: Callable[..., object]
) -> None:
    kept = tmp_path / "flightlog-incident" / "store" / "mine.txt"
    kept.parent.mkdir(parents=True)
    kept.write_text("mine", encoding="utf-8")
    for example in ("incident.py", "lost_policy.py"):
        done = run_example(example, folder=tmp_path, code=1)
        assert "--dir" in done.stderr
        assert "Traceback" not in done.stderr
    assert kept.read_text(encoding="utf-8") == "mine"


def test_the_page_shows_what_the_day_costs_under_other_assumptions(
    tmp_path: Path,
    run_example: Callable[..., object],
    check_published: Callable[[str, str, str], None],
) -> None:
    """Set FLIGHTLOG_UPDATE_README=1 to write it anew."""
    printed = run_example("assumptions.py", folder=tmp_path).stdout
    check_published("docs/incident.md", "assumptions", printed)


def test_a_postmortem_of_the_incident_names_the_agent_as_load_generator(traces: Traces) -> None:
    worst = one(traces, "SELECT run_id FROM runs ORDER BY tool_calls DESC LIMIT 1")
    found = postmortem(traces, Scope(run_ids=[str(worst["run_id"])]))
    whole = postmortem(traces)
    first = found.findings[0]
    assert first.title == "browse failed in 1,800 of 1,801 calls"
    assert {finding.kind for finding in found.findings} >= {
        "runaway",
        "cost",
        "prompt_growth",
        "truncated",
    }
    for told in (found, whole):
        assert told.load is not None
        generator = told.load.generators[0]
        assert (generator.of, generator.name) == ("agent", "market-brief")
    guard = next(each for each in first.remedies if each.setting.startswith("guard no_progress"))
    assert guard.first_call == 6
    assert guard.usd > 1_300
    assert whole.findings[0].kind == "runaway"
