"""Collected golden tasks: a folder, its tasks, their trials."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from flightlog.errors import FlightlogError, GoldenError
from flightlog.golden.entries import GoldenEntry, load_suite
from flightlog.golden.life.quarantine import in_force, load_quarantine
from flightlog.golden.task import task_files
from flightlog.recorder.recorder import Recorder
from flightlog.testing.golden_case import GoldenCase, shown_name, why_of
from flightlog.testing.pytest_plugin import session_of, setting
from flightlog.trace.terminal_text import escape_terminal

if TYPE_CHECKING:
    from flightlog.golden.life.quarantine import Quarantine

_RECORDER = pytest.StashKey[Recorder]()
_SUITES = pytest.StashKey[dict[Path, dict[str, GoldenEntry]]]()


class GoldenFolder(pytest.Directory):
    """A folder of golden tasks."""

    def collect(self) -> Iterator[pytest.Collector]:
        """Its tasks, in order of their folders."""
        try:
            files, quarantine = task_files(self.path), load_quarantine(self.path)
        except FlightlogError as error:
            raise self.CollectError(shown(error)) from None
        for file in files:
            nodeid = f"{self.nodeid}/{shown_name([file.parent.name])}"
            yield GoldenTaskFolder.from_parent(
                self, path=file.parent, nodeid=nodeid, quarantine=quarantine.get(file.parent.name)
            )


class GoldenTaskFolder(pytest.Directory):
    """One golden task."""

    def __init__(self, *, quarantine: Quarantine | None = None, **node: Any) -> None:
        super().__init__(**node)
        self._quarantine = quarantine

    def collect(self) -> Iterator[pytest.Item]:
        """Its trials."""
        for number in range(int(setting(self.config, "trials"))):
            yield GoldenTrial.from_parent(
                self, name=f"trial-{number}", number=number, quarantine=self._quarantine
            )


class GoldenTrial(pytest.Item):
    """One trial of a golden task."""

    def __init__(self, *, number: int, quarantine: Quarantine | None, **node: Any) -> None:
        super().__init__(**node)
        self.number = number
        self.played: list[dict[str, Any]] = []
        self.add_marker("golden")
        self._over = mark_quarantined(self, quarantine)

    def runtest(self) -> None:
        """Replays it; all but a pass fails."""
        try:
            if self._over:
                raise GoldenError(self._over)
            agent = setting(self.config, "agent")
            case = case_of(self.config, self.path, self.number, agent)
            self.played = case.played
            trial = case.replay(must_pass=False)
        except FlightlogError as error:
            pytest.fail(shown(error), pytrace=False)
        if trial.passed is True:
            return
        if trial.passed is None and self.config.getoption("flightlog_xfail_inconclusive"):
            pytest.xfail(why_of(trial))
        pytest.fail(why_of(trial), pytrace=False)

    def reportinfo(self) -> tuple[Path, int, str]:
        """Where it stands, and its name."""
        return self.path, 0, f"{shown_name([self.path.name])}::{self.name}"


def mark_quarantined(item: pytest.Item, quarantine: Quarantine | None) -> str:
    """Skips an item whose task is in quarantine; what is wrong where that is over, else empty."""
    if quarantine is None:
        return ""
    name, until = escape_terminal(quarantine.folder), quarantine.until
    if quarantine.is_over(datetime.now(tz=UTC).date()):
        return f"the quarantine of {name} is over since {until}: repair the task, or lift it"
    reason = f"in quarantine until {until}: {escape_terminal(quarantine.reason)}"
    item.add_marker(pytest.mark.skip(reason=reason))
    return ""


def params_of(folders: Sequence[Path], trials: int) -> list[Any]:
    """The parameters of the `golden` fixture: folder and trial, with their ids.

    Raises:
        GoldenError: a folder is missing, empty or its quarantine malformed.
    """
    found = []
    for folder in folders:
        quarantine = load_quarantine(folder)
        for file in task_files(folder):
            name = file.parent.name
            for number in range(trials):
                param = (file.parent, number, quarantine.get(name))
                found.append(pytest.param(param, id=shown_name([name, f"trial-{number}"])))
    return found


def case_of(config: pytest.Config, folder: Path, number: int, agent: str) -> GoldenCase:
    """One trial of a golden task, loaded with its suite, once for each process.

    Raises:
        GoldenError: the suite is malformed.
    """
    recorder = _recorder(config)
    entry = _suite(config, folder.parent, recorder).get(folder.name)
    if entry is None:
        raise GoldenError("the golden task is gone", where=str(folder))
    variant, session_id = setting(config, "variant"), session_of(config)
    return GoldenCase(entry, number, agent, recorder, variant, session_id)


def summary_of(played: Sequence[Mapping[str, Any]], store: str, variant: str) -> list[str]:
    """What all replays came to, as lines."""
    verdicts = Counter(one["verdict"] for one in played)
    served: Counter[str] = Counter()
    for one in played:
        served.update(one["served"])
    calls = served.total() + sum(one["misses"] for one in played)
    how = ", ".join(f"{count} {name}" for name, count in sorted(served.items()))
    words = ", ".join(f"{verdicts[word]} {word}" for word in ("passed", "failed", "inconclusive"))
    command = f"flightlog check --store {shlex.quote(store)} --candidate {shlex.quote(variant)}"
    return [
        f"replays: {words}",
        f"served: {served.total()} of {calls} calls ({how or 'none'})",
        f"live tool calls: {sum(one['live'] for one in played)}",
        escape_terminal(f"check: {command}"),
    ]


def shown(error: FlightlogError) -> str:
    """An error as pytest may print it."""
    return escape_terminal(str(error), keep_newlines=True)


def _suite(config: pytest.Config, goldens: Path, recorder: Recorder) -> dict[str, GoldenEntry]:
    suites = config.stash.setdefault(_SUITES, {})
    if goldens not in suites:
        without = in_force(load_quarantine(goldens), datetime.now(tz=UTC).date())
        entries = load_suite(goldens, redactor=recorder.redactor, without=without)
        suites[goldens] = {entry.name: entry for entry in entries}
    return suites[goldens]


def _recorder(config: pytest.Config) -> Recorder:
    """The recorder of this process, made when the first trial needs it."""
    if _RECORDER not in config.stash:
        recorder = Recorder(config.invocation_params.dir / setting(config, "store"))
        config.stash[_RECORDER] = recorder
        config.add_cleanup(recorder.close)
    return config.stash[_RECORDER]
