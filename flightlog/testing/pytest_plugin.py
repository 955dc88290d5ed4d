"""pytest plugin: golden tasks as test items, `goldens/refund-17::trial-0`, and a fixture `golden`.

pytest imports this module in every project of an environment: what replays is imported only
where golden tasks are collected.
"""

from __future__ import annotations

import uuid
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from flightlog.testing.golden_case import GoldenCase
    from flightlog.testing.pytest_items import GoldenFolder

_SESSION = pytest.StashKey[str]()
_NOTHING = pytest.StashKey[int]()
_REPORT = "flightlog_replays"
_TEXTS = {
    "agent": ("", "function that makes the agent, as module:function"),
    "store": ("flightlog-store", "store that the replays are recorded in"),
    "variant": ("candidate", "name of the side"),
    "trials": ("1", "repeats of each golden task"),
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of the command line and of the ini file."""
    group = parser.getgroup("flightlog", "replay of golden tasks")
    group.addoption(
        "--flightlog-goldens", action="append", metavar="DIR", help="folder of golden tasks"
    )
    parser.addini("flightlog_goldens", "folders of golden tasks", type="paths")
    for name, (default, text) in _TEXTS.items():
        group.addoption(f"--flightlog-{name}", help=text)
        parser.addini(f"flightlog_{name}", text, default=default)
    group.addoption(
        "--flightlog-xfail-inconclusive",
        action="store_true",
        help="replays that nobody can judge are expected failures",
    )


def setting(config: pytest.Config, name: str) -> str:
    """A setting of the command line, else of the ini file, else its default."""
    return str(config.getoption(f"flightlog_{name}") or config.getini(f"flightlog_{name}"))


def session_of(config: pytest.Config) -> str:
    """Session that all replays share, those of other workers too."""
    return config.stash[_SESSION]


def _folders(config: pytest.Config) -> list[Path]:
    given = config.getoption("flightlog_goldens")
    if given:
        return [(config.invocation_params.dir / folder).resolve() for folder in given]
    return [Path(folder).resolve() for folder in config.getini("flightlog_goldens")]


def pytest_configure(config: pytest.Config) -> None:
    """Registers the marker; adds the folders to what is collected."""
    config.addinivalue_line(
        "markers",
        "golden(folder, agent=module:function, trials=1): replays golden tasks (flightlog)",
    )
    worker: dict[str, Any] = getattr(config, "workerinput", {})
    config.stash[_SESSION] = worker.get("flightlog_session") or str(uuid.uuid4())
    folders = _folders(config)
    if not folders:
        return
    for folder in folders:
        if not folder.is_dir():
            raise pytest.UsageError(f"flightlog: no such folder of golden tasks: {str(folder)!a}")
    if not setting(config, "agent"):
        raise pytest.UsageError("flightlog: no agent; give --flightlog-agent module:function")
    if not setting(config, "trials").isdecimal() or int(setting(config, "trials")) < 1:
        raise pytest.UsageError("flightlog: --flightlog-trials takes a number from 1")
    named = [Path(arg.split("::")[0]).resolve() for arg in config.args]
    is_asked = bool(config.getoption("flightlog_goldens"))
    if is_asked or config.args_source is not pytest.Config.ArgsSource.ARGS:
        config.args += [
            str(folder)
            for folder in folders
            if not any(one.is_relative_to(folder) or folder.is_relative_to(one) for one in named)
        ]


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Gives the session to a worker of pytest-xdist."""
    node.workerinput["flightlog_session"] = session_of(node.config)


def pytest_collect_directory(path: Path, parent: pytest.Collector) -> GoldenFolder | None:
    """Folders of golden tasks, and nothing else."""
    if path.resolve() not in _folders(parent.config):
        return None
    from flightlog.testing.pytest_items import GoldenFolder

    return GoldenFolder.from_parent(parent, path=path)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test with the fixture `golden` runs once for each trial of each golden task."""
    if "golden" not in metafunc.fixturenames or _is_overridden(metafunc):
        return
    marker = metafunc.definition.get_closest_marker("golden")
    given = marker.args if marker is not None else ()
    told = marker.kwargs if marker is not None else {}
    unknown = sorted(set(told) - {"agent", "trials"})
    if unknown:
        raise pytest.Collector.CollectError(f"marker golden: unknown argument {unknown[0]!a}")
    config = metafunc.config
    folders = [(config.rootpath / folder).resolve() for folder in given] or _folders(config)
    trials = told.get("trials", setting(config, "trials"))
    if not folders:
        raise pytest.Collector.CollectError(
            "no golden tasks: write @pytest.mark.golden('goldens'), or give --flightlog-goldens"
        )
    if not str(trials).isdecimal() or int(trials) < 1:
        raise pytest.Collector.CollectError(f"marker golden: trials={trials!a} is no number from 1")
    from flightlog.errors import FlightlogError
    from flightlog.testing.pytest_items import params_of, shown

    try:
        params = params_of(folders, int(trials))
    except FlightlogError as error:
        raise pytest.Collector.CollectError(shown(error)) from None
    metafunc.parametrize("golden", params, indirect=True)


def _is_overridden(metafunc: pytest.Metafunc) -> bool:
    """True where the project has a fixture of that name of its own."""
    named = metafunc.definition._fixtureinfo.name2fixturedefs.get("golden", ())
    return not named or named[-1].func.__module__ != __name__


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> GoldenCase:
    """One trial of one golden task; `golden.replay()` replays it on the agent."""
    from flightlog.errors import FlightlogError
    from flightlog.testing.pytest_items import case_of, mark_quarantined, shown

    folder, number, quarantine = request.param
    marker = request.node.get_closest_marker("golden")
    agent = (marker.kwargs.get("agent") if marker else None) or setting(request.config, "agent")
    if over := mark_quarantined(request.node, quarantine):
        pytest.fail(over, pytrace=False)
    if skip := request.node.get_closest_marker("skip"):
        pytest.skip(skip.kwargs["reason"])
    try:
        case = case_of(request.config, folder, number, agent)
    except FlightlogError as error:
        pytest.fail(shown(error), pytrace=False)
    request.node.played = case.played
    return case


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """Hands what a replay came to to the summary, across workers too."""
    report: Any = yield
    if item.get_closest_marker("golden") or "golden" in getattr(item, "fixturenames", ()):
        is_last = report.when == "call"
        setattr(report, _REPORT, list(getattr(item, "played", ())) if is_last else [])
    return report


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Golden tasks of which none was replayed are no success: the gate compared nothing."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or hasattr(session.config, "workerinput"):
        return
    reports = [one for one in _reports(reporter) if hasattr(one, _REPORT)]
    is_undone = reports and all(one.skipped and not getattr(one, _REPORT) for one in reports)
    if is_undone and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        session.config.stash[_NOTHING] = len(reports)


def _reports(reporter: pytest.TerminalReporter) -> list[Any]:
    """The reports that say how tests ended; under an empty name stand their other phases."""
    every = [report for name, reports in reporter.stats.items() if name for report in reports]
    return [one for one in every if isinstance(one, pytest.TestReport)]


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Verdicts, coverage, live calls and how to check; nothing where nothing was replayed."""
    played = [one for report in _reports(terminalreporter) for one in getattr(report, _REPORT, ())]
    if (count := config.stash.get(_NOTHING, 0)) > 0:
        terminalreporter.section("flightlog")
        terminalreporter.write_line(
            f"nothing was replayed: all {count} trials of golden tasks were skipped", red=True
        )
    if not played:
        return
    from flightlog.testing.pytest_items import summary_of

    terminalreporter.section("flightlog")
    for line in summary_of(played, setting(config, "store"), setting(config, "variant")):
        terminalreporter.write_line(line)
