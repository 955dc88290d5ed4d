"""`flightlog replay`: the options that say how calls are served."""

from __future__ import annotations

from pathlib import Path

import pytest

from flightlog.analysis.db import Traces
from flightlog.cli import run
from flightlog.golden.pin import pin_runs
from flightlog.recorder.store import Store
from flightlog.runtime.agent import Agent
from flightlog.runtime.tools import Tool
from flightlog.trace.vocab import Effect
from tests.unit.golden.world import GET, record_run, shop_agent

MODULE = "tests.unit.cli.test_replay_serving"
CALLED: list[str] = []


def _get_order(order_id: str) -> dict[str, str]:
    CALLED.append(order_id)
    return {"order_id": order_id, "from": "live"}


def agent(trial: object) -> Agent:
    """Reads an order that no recording has."""
    scopes = ("order:{order_id}",)
    tools = [Tool("get_order", fn=_get_order, effect=Effect.READ, scopes=scopes)]
    return shop_agent([[GET], [("get_order", {"order_id": "B2"})]], tools=tools)


def world() -> dict[str, object]:
    """A fixture."""
    return {"get_order": lambda order_id: {"order_id": order_id, "from": "fixture"}}


def stub(call: object) -> dict[str, str]:
    """A stub."""
    return {"from": "stub"}


def no_world() -> list[str]:
    """Not a fixture."""
    return []


@pytest.fixture
def goldens(tmp_path: Path) -> Path:
    record_run(tmp_path / "store", [GET])
    pin_runs(Store.open(tmp_path / "store"), ["run-1"], tmp_path / "goldens")
    CALLED.clear()
    return tmp_path / "goldens"


def replay(goldens: Path, *options: str) -> tuple[int, list[tuple[object, ...]]]:
    store = goldens.parent / "candidate"
    command = ["replay", str(goldens), "--agent", f"{MODULE}:agent", "--store", str(store)]
    code = run([*command, "--quiet", *options])
    if not store.exists():
        return code, []
    with Traces(store) as traces:
        return code, traces.sql(
            "SELECT outcome, served_how FROM tool_calls ORDER BY seq"
        ).fetchall()


@pytest.mark.parametrize(
    ("options", "last"),
    [
        ((), ("replay_miss", None)),
        (("--on-miss", "error"), ("failed", "error")),
        (("--on-miss", "effect:read=error"), ("failed", "error")),
        (("--fixture", f"{MODULE}:world"), ("ok", "fixture")),
        (("--on-miss", "get_*=stub", "--stub", f"get_order={MODULE}:stub"), ("ok", "stub")),
        (("--on-miss", "live_read", "--allow-live"), ("ok", "live_read")),
        (("--on-miss", "error", "--on-miss", "get_order=stop"), ("replay_miss", None)),
    ],
)
def test_miss_is_answered_as_the_options_say(
    goldens: Path, options: tuple[str, ...], last: tuple[object, ...]
) -> None:
    _, rows = replay(goldens, *options)
    assert rows == [("ok", "recorded"), last]
    assert (["B2"] if last[1] == "live_read" else []) == CALLED


def test_live_calls_are_counted_in_the_report(
    goldens: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    replay(goldens, "--on-miss", "live_read", "--allow-live")
    assert "live tool calls: 1" in capsys.readouterr().out


def test_runs_with_live_reads_become_pending_and_no_golden_changes(
    goldens: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in goldens.rglob("*") if path.is_file()}
    replay(goldens, "--on-miss", "live_read", "--allow-live")
    assert "1 run with live reads pending: flightlog golden review" in capsys.readouterr().out
    [pending] = (goldens / ".pending").rglob("*.jsonl")
    assert b"live_read" in pending.read_bytes()
    assert {path: path.read_bytes() for path in before} == before


def test_weaker_matcher_is_named_in_the_report(
    goldens: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    replay(goldens, "--match", "keyed")
    assert "matcher: keyed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--on-miss", "erorr"), "error"),
        (("--on-miss", "get_order="), "no policy"),
        (("--on-miss", "effect:reed=error"), "no effect"),
        (("--on-miss", "fixture"), "Add --fixture"),
        (("--on-miss", "stub"), "Add --stub"),
        (("--on-miss", "live_read"), "Add --allow-live"),
        (("--on-miss", "effect:write=live_read", "--allow-live"), "Only reads"),
        (("--allow-live",), "--on-miss TOOL=live_read"),
        (("--stub", f"x={MODULE}:stub"), "--on-miss TOOL=stub"),
        (("--on-miss", "stub", "--stub", "x"), "TOOL=MODULE:FUNCTION"),
        (("--fixture", f"{MODULE}:no_such"), "no_such"),
        (("--simulates-writes",), "without a fixture"),
        (("--grader", "gpt"), "names no client"),
    ],
)
def test_options_that_cannot_be_meant_are_refused_before_anything_runs(
    goldens: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], told: str
) -> None:
    code, rows = replay(goldens, *options)
    assert code != 0
    assert rows == []
    assert told in capsys.readouterr().err


def test_fixture_that_gives_no_functions_says_so(
    goldens: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert replay(goldens, "--fixture", f"{MODULE}:no_world")[0] != 0
    assert "the fixture gave a list" in capsys.readouterr().err
