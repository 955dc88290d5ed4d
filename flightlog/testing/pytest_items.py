"""Collected golden tasks: a folder, its tasks, their trials."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from flightlog.errors import FlightlogError
from flightlog.golden.suite import Replaying, load_factory, replay_suite
from flightlog.golden.task import task_files
from flightlog.recorder.recorder import Recorder
from flightlog.testing.pytest_plugin import session_of, setting
from flightlog.trace.terminal_text import escape_terminal

_RECORDER = pytest.StashKey[Recorder]()


class GoldenFolder(pytest.Directory):
    """A folder of golden tasks."""

    def collect(self) -> Iterator[pytest.Collector]:
        """Its tasks, in order of their folders."""
        try:
            files = task_files(self.path)
        except FlightlogError as error:
            raise self.CollectError(escape_terminal(str(error), keep_newlines=True)) from None
        for file in files:
            nodeid = escape_terminal(f"{self.nodeid}/{file.parent.name}")
            yield GoldenTaskFolder.from_parent(self, path=file.parent, nodeid=nodeid)


class GoldenTaskFolder(pytest.Directory):
    """One golden task."""

    def collect(self) -> Iterator[pytest.Item]:
        """Its trials."""
        for number in range(int(setting(self.config, "trials"))):
            yield GoldenTrial.from_parent(self, name=f"trial-{number}", number=number)


class GoldenTrial(pytest.Item):
    """One trial of a golden task."""

    played: dict[str, Any] | None = None

    def __init__(self, *, number: int, **node: Any) -> None:
        super().__init__(**node)
        self.number = number
        self.add_marker("golden")

    def runtest(self) -> None:
        """Replays it; all but a pass fails."""
        try:
            failure, is_open = self._play()
        except FlightlogError as error:
            failure, is_open = escape_terminal(str(error), keep_newlines=True), False
        if is_open and self.config.getoption("flightlog_xfail_inconclusive"):
            pytest.xfail(failure)
        if failure:
            pytest.fail(failure, pytrace=False)

    def _play(self) -> tuple[str, bool]:
        factory = load_factory(setting(self.config, "agent"))
        report = replay_suite(
            self.path.parent,
            factory,
            recorder=_recorder(self.config),
            variant=setting(self.config, "variant"),
            tasks=[self.path.name],
            session_id=session_of(self.config),
            how=Replaying(only_trial=self.number),
        )
        trial = report.trials[0]
        verdict = {True: "passed", False: "failed", None: "inconclusive"}[trial.passed]
        self.played = {
            "verdict": verdict,
            "served": {how.value: count for how, count in trial.served.items()},
            "misses": len(trial.misses),
            "live": trial.live_tool_calls,
        }
        if trial.passed is True:
            return "", False
        lines = [f"{verdict}: {trial.judgement.detail}"]
        if trial.divergence is not None:
            lines.append(f"first divergence: {trial.divergence}")
        lines += [f"miss at step {one.step}: {one.tool_name}: {one.why}" for one in trial.misses]
        lines.append(f"run {trial.run_id}")
        return "\n".join(map(escape_terminal, lines)), trial.passed is None

    def reportinfo(self) -> tuple[Path, None, str]:
        """Where it stands, and its name."""
        return self.path, None, escape_terminal(f"{self.path.name}::{self.name}")


def summary_of(played: Sequence[dict[str, Any]], store: str, variant: str) -> list[str]:
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


def _recorder(config: pytest.Config) -> Recorder:
    """The recorder of this process, made when the first trial needs it."""
    if _RECORDER not in config.stash:
        recorder = Recorder(config.invocation_params.dir / setting(config, "store"))
        config.stash[_RECORDER] = recorder
        config.add_cleanup(recorder.close)
    return config.stash[_RECORDER]
