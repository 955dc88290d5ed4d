"""The views, figure by figure, on the tiny store."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flightlog.analysis.db import VIEW_NAMES, Traces, open_traces
from flightlog.errors import DamagedError, StoreError, UnknownNameError, UsageError
from flightlog.recorder.recorder import Recorder
from flightlog.recorder.store import Snapshot, Store
from flightlog.trace.events import Gap
from flightlog.trace.messages import Message, ToolRequest
from flightlog.trace.run_writer import RunWriter
from flightlog.trace.schema import events_schema, messages_schema
from flightlog.trace.sink import Sink


def _column(traces: Traces, view: str, column: str) -> dict[str, Any]:
    return {row["run_id"]: row[column] for row in traces.table(view).to_pylist()}


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ("model", ["model-a"] * 4 + ["model-b"] * 3 + [None]),
        ("status", ["completed", "stopped", "completed", "completed", "completed", "stopped",
                    "failed", "stopped"]),
        ("stop_reason", ["ok", "max_tool_calls", "ok", "ok", "ok", "tool_denied", "crashed",
                         "cancelled"]),
        ("stop_tool", [None, None, None, None, None, "delete", None, None]),
        ("source_stop_reason", [None, None, None, None, None, "user_stop", None, None]),
        ("duration_ms", [350.0, 400.0, 400.0, 570.0, 805.0, 100.0, 2000.0, 0.0]),
        ("steps", [2, 1, 2, 1, 2, 1, 1, 0]),
        ("model_calls", [2, 1, 2, 1, 2, 1, 2, 0]),
        ("tool_calls", [1, 3, 0, 1, 1, 1, 1, 0]),
        ("tool_failures", [0, 1, 0, 0, 0, 0, 1, 0]),
        ("refused_calls", [0, 1, 0, 0, 0, 1, 0, 0]),
        ("retries", [0, 1, 0, 0, 0, 0, 1, 0]),
        ("input_tokens", [300, 100, None, 300, 500, 100, 100, None]),
        ("output_tokens", [30, 10, 30, 30, 50, 10, 10, None]),
        ("tokens", [330, 110, None, 330, 550, 110, 110, None]),
        ("tokens_per_request", [165.0, 110.0, None, 330.0, 275.0, 110.0, 110.0, None]),
        ("cost_usd", [0.03, 0.01, None, 0.03, 0.5, 0.01, 0.01, None]),
        ("success", [True, False, None, True, True, False, None, None]),
        ("score", [1.0, 0.0, None, None, 0.75, None, None, None]),
        ("user_turns", [0, 0, 0, 0, 1, 0, 0, 0]),
        ("replay_misses", [0] * 8),
        ("source_run_id", [None, None, None, None, None, "bench/7", None, None]),
        ("answer", ["Answer 2 of b1."] + [None] * 7),
        ("labels", [[("team", "ops")]] + [None] * 7),
    ],
)  # fmt: skip
def test_runs_have_the_figures_counted_by_hand(
    tiny: Traces, column: str, expected: list[Any]
) -> None:
    found = _column(tiny, "runs", column)
    assert list(found) == ["b1", "b2", "b3", "b4", "c1", "c2", "c3", "c4"]
    assert list(found.values()) == expected


def test_times_are_utc_without_a_zone(tiny: Traces) -> None:
    [(start, end)] = tiny.sql(
        "SELECT started_at, ended_at FROM runs WHERE run_id = 'b2'"
    ).fetchall()
    assert start == datetime(2025, 1, 1, 0, 1)
    assert end == datetime(2025, 1, 1, 0, 1, 0, 400_000)


@pytest.mark.parametrize("view", VIEW_NAMES)
def test_sealed_and_unsealed_stores_read_alike(
    tiny_store: Path, unsealed_store: Path, view: str
) -> None:
    sealed = Store.open(tiny_store).snapshot()
    unsealed = Store.open(unsealed_store).snapshot()
    assert sealed.event_files
    assert not unsealed.event_files
    with Traces.of_snapshots({"x": sealed}) as one, Traces.of_snapshots({"x": unsealed}) as two:
        assert one.table(view).num_rows > 0
        assert one.table(view).equals(two.table(view))


def test_a_run_whose_writer_lives_is_running(tmp_path: Path) -> None:
    with Recorder(tmp_path / "store") as recorder:
        writer = RunWriter(recorder, "r1")
        writer.started(agent="a")
        writer.tool_call(step=3, tool_name="t")
        with Traces(tmp_path / "store") as traces:
            [row] = traces.rows("SELECT status, stop_reason, ended_at, steps FROM runs")
    assert row == {"status": "running", "stop_reason": None, "ended_at": None, "steps": 3}


def test_a_run_without_its_start_is_still_listed(tmp_path: Path) -> None:
    with Recorder(tmp_path / "store") as recorder:
        RunWriter(recorder, "r1").tool_call(tool_name="t")
    with Traces(tmp_path / "store") as traces:
        assert traces.rows("SELECT run_id, agent, tool_calls FROM runs") == [
            {"run_id": "r1", "agent": None, "tool_calls": 1}
        ]


def test_a_gap_belongs_to_no_run(tmp_path: Path) -> None:
    with Recorder(tmp_path / "store") as recorder:
        recorder.emit(Gap(run_id="", seq=0, dropped_events=3))
    with Traces(tmp_path / "store") as traces:
        assert traces.rows("SELECT * FROM runs") == []
        assert traces.rows("SELECT dropped_events FROM events") == [{"dropped_events": 3}]


def test_steps_add_up_the_calls_of_the_agent(tiny: Traces) -> None:
    rows = tiny.rows(
        "SELECT model_calls, tool_calls, tool_failures, refused_calls, retries, input_tokens,"
        " cost_usd, model_latency_ms, tool_latency_ms, tools, elapsed_ms"
        " FROM steps WHERE run_id = 'b2'"
    )
    assert rows == [
        {
            "model_calls": 1, "tool_calls": 3, "tool_failures": 1, "refused_calls": 1,
            "retries": 1, "input_tokens": 100, "cost_usd": 0.01, "model_latency_ms": 300.0,
            "tool_latency_ms": 100.0, "tools": ["search", "search", "search"],
            "elapsed_ms": 300.0,
        }
    ]  # fmt: skip
    [unknown] = tiny.rows("SELECT * FROM steps WHERE run_id = 'b3' AND step = 2")
    assert (unknown["input_tokens"], unknown["output_tokens"]) == (None, 20)
    assert (unknown["cost_usd"], unknown["model_latency_ms"], unknown["tools"]) == (None, None, [])


def test_steps_leave_out_the_simulated_user(tiny: Traces) -> None:
    rows = tiny.rows("SELECT step, tools FROM steps WHERE run_id = 'c1' ORDER BY step")
    assert rows == [{"step": 1, "tools": ["save"]}, {"step": 2, "tools": []}]


def test_calls_carry_their_run(tiny: Traces) -> None:
    rows = tiny.rows(
        "SELECT tool_name, outcome, actor, model, variant, task_id FROM tool_calls"
        " WHERE run_id = 'c1' ORDER BY seq"
    )
    assert rows == [
        {"tool_name": name, "outcome": "ok", "actor": actor, "model": "model-b",
         "variant": "candidate", "task_id": "t1"}
        for name, actor in (("save", "agent"), ("phone", "user"))
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["model_call", "tool_call"])
def test_call_views_have_the_columns_of_their_kind(tiny: Traces, kind: str) -> None:
    found = set(tiny.connection.view(f"{kind}s").columns)
    other = {"model_call": "tool_name", "tool_call": "input_tokens"}[kind]
    assert {"store", "run_id", "seq", "latency_ms", "cost_usd", "suite"} <= found
    assert other not in found
    assert "kind" not in found


def test_a_message_is_listed_where_it_was_first_sent_or_answered(tiny: Traces) -> None:
    rows = tiny.rows(
        "SELECT seq, position, direction, role, text, tool_name FROM messages"
        " WHERE run_id = 'b1' ORDER BY seq, position"
    )
    assert [tuple(row.values()) for row in rows] == [
        (1, 0, "input", "system", "Be brief.", None),
        (1, 1, "input", "user", "Do it, b1.", None),
        (1, 2, "output", "assistant", None, None),
        (3, 3, "input", "tool", '{"search":1}', "search"),
        (3, 4, "output", "assistant", "Answer 2 of b1.", None),
    ]


def test_budgets_have_a_row_per_limit_that_is_set(tiny: Traces) -> None:
    rows = tiny.rows(
        "SELECT run_id, budget, unit, allowed, used, share, is_hit FROM budgets"
        " WHERE run_id IN ('b2', 'c3') ORDER BY run_id, budget"
    )
    assert [tuple(row.values()) for row in rows] == [
        ("b2", "max_seconds", "s", 10.0, 0.4, 0.04, False),
        ("b2", "max_steps", "steps", 4.0, 1.0, 0.25, False),
        ("b2", "max_tool_calls", "attempts", 2.0, 2.0, 1.0, True),
        # A killed run has spent what its events tell.
        ("c3", "max_seconds", "s", 10.0, 2.0, 0.2, False),
        ("c3", "max_steps", "steps", 4.0, 1.0, 0.25, False),
        ("c3", "max_tool_calls", "attempts", 2.0, 1.0, 0.5, False),
    ]
    assert tiny.rows("SELECT count(*) AS n FROM budgets") == [{"n": 24}]


def test_a_limit_of_zero_has_no_share(tmp_path: Path) -> None:
    with Recorder(tmp_path / "store") as recorder:
        writer = RunWriter(recorder, "r1")
        writer.started(max_tool_calls=0)
        writer.stopped(max_tool_calls=0, used_tool_calls=0)
    with Traces(tmp_path / "store") as traces:
        assert traces.rows("SELECT allowed, used, share, is_hit FROM budgets") == [
            {"allowed": 0.0, "used": 0.0, "share": None, "is_hit": None}
        ]


def test_tool_costs_add_to_the_cost_of_a_run(tmp_path: Path) -> None:
    with Recorder(tmp_path / "store") as recorder:
        writer = RunWriter(recorder, "r1")
        writer.model_call(cost_usd=0.25)
        writer.tool_call(tool_name="a", cost_usd=0.5)
        writer.tool_call(tool_name="b")
        RunWriter(recorder, "r2").tool_call(tool_name="a", cost_usd=0.5)
    with Traces(tmp_path / "store") as traces:
        assert _column(traces, "runs", "cost_usd") == {"r1": 0.75, "r2": None}


def test_a_failed_call_without_usage_leaves_the_totals_known(tmp_path: Path) -> None:
    with Recorder(tmp_path / "store") as recorder:
        writer = RunWriter(recorder, "r1")
        writer.model_call(outcome="failed")
        writer.model_call(input_tokens=7, output_tokens=3, cost_usd=0.5)
        only_failed = RunWriter(recorder, "r2")
        only_failed.model_call(outcome="failed")
    with Traces(tmp_path / "store") as traces:
        assert _column(traces, "runs", "tokens") == {"r1": 10, "r2": None}
        assert _column(traces, "runs", "cost_usd") == {"r1": 0.5, "r2": None}


def test_several_stores_are_one_with_their_names(
    tiny_store: Path, unsealed_store: Path, tiny: Traces
) -> None:
    with open_traces(tiny_store, str(unsealed_store)) as both:
        assert both.stores == (str(tiny_store), str(unsealed_store))
        counts = both.rows("SELECT store, count(*) AS n FROM runs GROUP BY store ORDER BY store")
        assert counts == [{"store": str(s), "n": 8} for s in sorted((tiny_store, unsealed_store))]
        calls = both.rows("SELECT count(*) AS n FROM tool_calls")[0]["n"]
    assert calls == 2 * tiny.table("tool_calls").num_rows


def test_a_store_has_one_name_however_its_path_is_written(tiny_store: Path) -> None:
    with Traces(f"{tiny_store}/", f"{tiny_store.parent}/./{tiny_store.name}") as traces:
        assert traces.stores == (str(tiny_store),)


def test_a_store_in_a_folder_with_odd_characters_is_read(
    tmp_path: Path, write_tiny: Callable[[Sink], None]
) -> None:
    path = tmp_path / "it's [1] *?{a,b} $x" / "store"
    path.parent.mkdir()
    with Recorder(path) as recorder:
        write_tiny(recorder)
    with Traces(path) as traces:
        assert traces.rows("SELECT DISTINCT store FROM runs") == [{"store": str(path)}]
        assert traces.table("runs").num_rows == 8


def test_a_segment_of_an_older_version_reads_with_nulls(tmp_path: Path) -> None:
    table = pa.table(
        {
            "kind": ["run_started", "tool_call"], "run_id": ["r1", "r1"], "seq": [0, 1],
            "agent": ["old", None], "actor": [None, "agent"], "outcome": [None, "ok"],
            "tool_name": [None, "search"],
        }
    )  # fmt: skip
    pq.write_table(table, tmp_path / "old.parquet")
    snapshot = Snapshot(
        (tmp_path / "old.parquet",), (), events_schema().empty_table(),
        messages_schema().empty_table(), (),
    )  # fmt: skip
    with Traces.of_snapshots({"s": snapshot}) as traces:
        for view in VIEW_NAMES:
            traces.table(view)
        [row] = traces.rows("SELECT agent, tool_calls, cost_usd, labels FROM runs")
    assert row == {"agent": "old", "tool_calls": 1, "cost_usd": None, "labels": None}


def test_values_are_parameters_and_never_sql(tiny: Traces) -> None:
    hostile = "x' OR '1'='1"
    assert tiny.rows("SELECT * FROM runs WHERE run_id = $id", {"id": hostile}) == []
    assert tiny.sql("SELECT count(*) FROM runs WHERE run_id = ?", ["b1"]).fetchall() == [(1,)]


def test_a_name_in_a_query_never_reaches_a_python_variable(tiny: Traces) -> None:
    secret = pa.table({"a": [1]})
    with pytest.raises(Exception, match="secret"):
        tiny.sql("SELECT * FROM secret").fetchall()
    assert secret.num_rows == 1


def test_frames_come_in_an_order_that_repeats(tiny: Traces) -> None:
    assert tiny.frame("runs")["run_id"].to_list() == [
        "b1",
        "b2",
        "b3",
        "b4",
        "c1",
        "c2",
        "c3",
        "c4",
    ]
    unordered = tiny.frame("SELECT variant, count(*) AS n FROM runs GROUP BY variant")
    assert unordered.rows() == [("baseline", 4), ("candidate", 4)]
    ordered = tiny.frame("SELECT run_id FROM runs ORDER BY run_id DESC LIMIT 2")
    assert ordered["run_id"].to_list() == ["c4", "c3"]
    params = {"v": "candidate"}
    assert tiny.frame("SELECT run_id FROM runs WHERE variant = $v", params).height == 4
    assert tiny.frame("DESCRIBE runs").height > 40


def test_a_missing_store_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="nowhere"):
        Traces(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="no store"):
        Traces()


def test_an_empty_store_has_all_views(tmp_path: Path) -> None:
    Store.create(tmp_path / "store")
    with Traces(tmp_path / "store") as traces:
        assert {view: traces.table(view).num_rows for view in VIEW_NAMES} == dict.fromkeys(
            VIEW_NAMES, 0
        )


def test_a_prompt_is_put_together_from_its_differences(tiny: Traces) -> None:
    asked = Message("assistant", None, (ToolRequest("id1", "search", '{"q":"x"}'),))
    first = [Message("system", "Be brief."), Message("user", "Do it, b1.")]
    assert tiny.prompt("b1", 1) == first
    assert tiny.prompt("b1", 3) == [*first, asked, Message("tool", '{"search":1}', name="search")]


def test_a_prompt_that_lost_messages_is_put_together(tmp_path: Path) -> None:
    one, two, three, four = (Message("user", text) for text in "abcd")
    with Recorder(tmp_path / "store") as recorder:
        writer = RunWriter(recorder, "r1")
        prompts = [[one, two, three], [one, three, four], [], [four], [four, two]]
        for prompt in prompts:
            writer.model_call(prompt=prompt)
    with Traces(tmp_path / "store") as traces:
        assert [traces.prompt("r1", seq) for seq in range(5)] == prompts


def test_a_prompt_of_no_model_call_is_an_unknown_name(tiny: Traces) -> None:
    with pytest.raises(UnknownNameError, match="no model call with seq 0"):
        tiny.prompt("b1", 0)


def test_a_prompt_in_two_stores_asks_which(tiny_store: Path, unsealed_store: Path) -> None:
    with Traces(tiny_store, unsealed_store) as both:
        with pytest.raises(UsageError, match="several stores"):
            both.prompt("b1", 1)
        assert len(both.prompt("b1", 1, store=str(tiny_store))) == 2


def test_a_prompt_with_a_missing_message_is_damage(tiny_store: Path) -> None:
    snapshot = Store.open(tiny_store).snapshot()
    bare = Snapshot(
        snapshot.event_files, (), snapshot.unsealed_events, messages_schema().empty_table(), ()
    )
    with Traces.of_snapshots({"s": bare}) as traces:
        with pytest.raises(DamagedError, match="2 of 2 messages"):
            traces.prompt("b1", 1)
        assert traces.rows("SELECT role FROM messages WHERE run_id = 'b4'") == [{"role": None}] * 3


def test_closing_twice_is_safe_and_the_exit_is_silent(tiny_store: Path) -> None:
    traces = Traces(tiny_store)
    traces.close()
    traces.close()
    script = (
        "import sys\nfrom flightlog.analysis.db import Traces\n"
        "traces = Traces(sys.argv[1])\nprint(len(traces.rows('SELECT * FROM runs')))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tiny_store)], capture_output=True, text=True, check=True
    )
    assert (done.stdout.strip(), done.stderr) == ("8", "")


def test_every_view_is_the_same_when_the_runs_are_kept(tiny_store: Path) -> None:
    with Traces(tiny_store) as fresh, Traces(tiny_store) as kept:
        kept.keep_runs()
        kept.keep_runs()
        for view in VIEW_NAMES:
            assert kept.table(view).equals(fresh.table(view)), view
        assert kept.ask("stop_reasons").equals(fresh.ask("stop_reasons"))
        assert kept.sql("SHOW TABLES").fetchall() == fresh.sql("SHOW TABLES").fetchall()


def test_questions_keep_the_runs_from_the_second_on(tiny_store: Path) -> None:
    with Traces(tiny_store) as traces:
        first = traces.ask("stop_reasons")
        assert traces.ask("stop_reasons").equals(first)
        [(count,)] = traces.sql("SELECT count(*) FROM base.kept_runs").fetchall()
    assert count == 8


@pytest.mark.parametrize(
    "query",
    [
        "SELECT count(*) FROM findings",
        'select count(*) from "Findings"',
        "FROM memory.main.findings SELECT count(*)",
        "SELECT '-- ' || count(*) FROM findings",
        "/* all */ SELECT count(*) FROM findings",
        "WITH f AS (FROM findings) SELECT count(*) FROM f",
        "(SELECT count(*) FROM findings)",
        "DESCRIBE findings",
        "SUMMARIZE findings",
        "PIVOT findings ON finding",
        "SELECT count(*) FROM query_table('findings')",
        "SELECT count(*) FROM query('FROM ' || 'find' || 'ings')",
    ],
)
def test_a_view_is_there_however_a_query_names_it(tiny_store: Path, query: str) -> None:
    with Traces(tiny_store) as traces:
        assert traces.sql(query).fetchall()


def test_all_views_are_listed_whatever_was_asked_before(tiny_store: Path) -> None:
    with Traces(tiny_store) as traces:
        traces.rows("SELECT count(*) FROM runs")
        assert {name for (name,) in traces.sql("SHOW TABLES").fetchall()} >= set(VIEW_NAMES)
        listed = "SELECT view_name FROM duckdb_views() WHERE schema_name = 'main' AND NOT internal"
        assert {row["view_name"] for row in traces.rows(listed)} >= set(VIEW_NAMES)
