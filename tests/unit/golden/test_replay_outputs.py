"""What came of a replay as JSON, Markdown and JUnit XML; texts out of traces stay texts."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from flightlog.cli import run
from flightlog.golden.pin import pin_runs
from flightlog.golden.replay_outputs import as_json, as_junit, as_markdown
from flightlog.golden.replay_report import ReplayReport
from flightlog.golden.suite import replay_suite
from flightlog.recorder.recorder import Recorder
from flightlog.recorder.store import Store
from flightlog.runtime.task import Task
from tests.unit.golden.world import GET, REFUND, Call, candidate, record_run

HOSTILE = "a|b\x1b[31m<img src=x onerror=alert(1)> [x](http://e.example) @all `c`"
OTHER: Call = ("get_order", {"order_id": HOSTILE})
AGENTS = {"good": ([GET], [REFUND]), "lazy": ([GET],), "curious": ([OTHER], [REFUND])}


@pytest.fixture(scope="module")
def goldens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("outputs")
    task = Task(HOSTILE, "Refund order A1.", suite="shop")
    record_run(folder / "live", [GET], [REFUND], task=task)
    pin_runs(Store.open(folder / "live"), ["run-1"], folder / "goldens")
    return folder / "goldens"


@pytest.fixture(scope="module")
def reports(goldens: Path) -> list[ReplayReport]:
    """A side that passes, one that fails, one that nobody can judge."""
    with Recorder(goldens.parent / "replays") as recorder:
        return [
            replay_suite(goldens, candidate(*steps), recorder=recorder, variant=name)
            for name, steps in AGENTS.items()
        ]


def test_json_holds_each_trial_with_its_reasons(reports: list[ReplayReport]) -> None:
    sides = {side["variant"]: side for side in json.loads(as_json(reports))["sides"]}
    assert {name: side["verdict"] for name, side in sides.items()} == {
        "good": "passed",
        "lazy": "failed",
        "curious": "inconclusive",
    }
    [good], [lazy], [curious] = (sides[name]["trials"] for name in AGENTS)
    assert (good["task_id"], good["levels"][0], good["divergence"]) == (HOSTILE, "exact", None)
    assert "refund" in lazy["why"]
    assert lazy["divergence"]["cause"] == "model"
    [miss] = curious["misses"]
    assert miss["nearest"][0]["run_id"] == "run-1"
    assert "golden accept" in miss["accept"]
    assert curious["validity"] == "void"
    assert sides["good"]["live_tool_calls"] == 0


def test_junit_has_a_case_for_each_trial_and_inconclusive_is_an_error(
    reports: list[ReplayReport],
) -> None:
    suites = ElementTree.fromstring(as_junit(reports))
    ends = {
        suite.attrib["name"]: [child.tag for case in suite.iter("testcase") for child in case]
        for suite in suites
    }
    assert ends == {
        "flightlog replay good": [],
        "flightlog replay lazy": ["failure"],
        "flightlog replay curious": ["error"],
    }
    told = [(s.attrib["tests"], s.attrib["failures"], s.attrib["errors"]) for s in suites]
    assert told == [("1", "0", "0"), ("1", "1", "0"), ("1", "0", "1")]


def test_markdown_lists_what_did_not_pass(reports: list[ReplayReport]) -> None:
    text = as_markdown(reports)
    assert "### ✅ replay of good" in text
    assert "### ❌ replay of lazy" in text
    assert "### ❔ replay of curious" in text
    assert text.count("| failed |") == text.count("| inconclusive |") == 1


def test_texts_of_traces_do_nothing_in_any_form(reports: list[ReplayReport]) -> None:
    for text in (as_json(reports), as_markdown(reports), as_junit(reports)):
        assert "\x1b" not in text
    assert "<img" not in as_markdown(reports)
    assert "<img" not in as_junit(reports)
    rows = [line for line in as_markdown(reports).splitlines() if "| failed |" in line]
    assert rows[0].replace("\\|", "").count("|") == 5


def test_command_writes_the_files_that_are_asked_for(
    goldens: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module = tmp_path / "outputs_agent.py"
    module.write_text(
        "from tests.unit.golden.world import GET, REFUND, candidate\n"
        "make = candidate([GET], [REFUND])\n"
    )
    command = ["replay", str(goldens), "--agent", "outputs_agent:make", "--quiet"]
    command += ["--store", str(tmp_path / "s")]
    files = {form: tmp_path / f"replay.{form}" for form in ("json", "md", "xml")}
    options = [word for path in files.values() for word in ("-o", str(path))]
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(tmp_path))
        assert run([*command, *options]) == 0
        assert all(path.stat().st_size for path in files.values())
        assert run([*command, "-o", str(tmp_path / "no" / "such.json")]) == 64
        assert run([*command, "--dry-run", *options]) == 64
    assert "cannot write" in capsys.readouterr().err
