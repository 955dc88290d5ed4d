"""pytest plugin: golden tasks as test items, `goldens/refund-17::trial-0`.

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
    from flightlog.testing.pytest_items import GoldenFolder

_SESSION = pytest.StashKey[str]()
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
    config.addinivalue_line("markers", "golden: a replay of a golden task (flightlog)")
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


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """Hands what a replay came to to the summary, across workers too."""
    report: Any = yield
    played = getattr(item, "played", None)
    if played is not None and report.when == "call":
        setattr(report, _REPORT, played)
    return report


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Verdicts, coverage, live calls and how to check; nothing where nothing was replayed."""
    every = [report for reports in terminalreporter.stats.values() for report in reports]
    played = [one for report in every if (one := getattr(report, _REPORT, None)) is not None]
    if not played:
        return
    from flightlog.testing.pytest_items import summary_of

    terminalreporter.section("flightlog")
    for line in summary_of(played, setting(config, "store"), setting(config, "variant")):
        terminalreporter.write_line(line)
