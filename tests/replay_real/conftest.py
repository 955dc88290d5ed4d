"""Real gpt-4o runs of tau-bench's airline as recordings; skipped where they are absent."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from flightlog.golden.files import load_tools
from flightlog.integrations.importers.importing import import_file
from flightlog.recorder.recorder import Recorder
from flightlog.recorder.store import Store
from flightlog.replay.cassette import Recording
from flightlog.replay.recordings import read_recordings
from flightlog.runtime.tools import Tool
from flightlog.trace.events import Evaluation

REPOSITORY = Path(__file__).resolve().parents[2]
FILE = REPOSITORY.parent / "shared" / "data" / "native" / "tau-bench" / "gpt-4o-airline.json"
TOOLS_FILE = REPOSITORY / "examples" / "tau_bench" / "tools.yaml"


@dataclass(frozen=True)
class Airline:
    """The imported runs.

    Attributes:
        store: what they were imported into.
        tools: the airline's tools as declared in the example.
        trials: task id to its runs.
    """

    store: Path
    tools: dict[str, Tool]
    trials: dict[str, list[Recording]]

    @property
    def runs(self) -> list[Recording]:
        """All runs."""
        return [run for runs in self.trials.values() for run in runs]


@pytest.fixture(scope="session")
def airline(tmp_path_factory: pytest.TempPathFactory) -> Airline:
    if not FILE.exists():
        pytest.skip(f"the shared data is absent: {FILE}")
    store = tmp_path_factory.mktemp("airline") / "runs"
    with Recorder(store) as recorder:
        import_file("tau-bench", FILE, recorder)
    trials: dict[str, list[Recording]] = {}
    for run in read_recordings(Store.open(store)):
        assert run.started is not None
        trials.setdefault(run.started.task_id or "", []).append(run)
    return Airline(store, load_tools(TOOLS_FILE), trials)


def is_solved(run: Recording) -> bool:
    """The benchmark's own reward is 1."""
    return [event for event in run.events if isinstance(event, Evaluation)][-1].passed is True
