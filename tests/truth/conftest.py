"""Stores made from real agent runs, and the figures that they must give.

The runs were recorded by others and the figures computed from the sources'
own files without flightlog. They are not part of the product: where they are
absent, these tests are skipped.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from flightlog.analysis.db import Traces
from flightlog.integrations.importers.importing import import_files

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
BFCL = "bfcl_2024-07-06.jsonl.gz"
TAU2_NATIVE = (
    "pr_azure-gpt-4o-2024-11-20_airline",
    "sierra_ft-gpt-4.1_airline",
    "sierra_ft-gpt-4.1_retail",
    "sierra_gpt-4.1_airline",
    "sierra_gpt-4.1_retail",
    "sub_claude-sonnet-4-5_airline",
)
SUMMARY_KEYS = ("n", "mean", "sd", "p50", "p95", "p99", "max", "sum")


def made_once(
    factory: pytest.TempPathFactory, name: str, files: Mapping[str, Sequence[Path]]
) -> Path:
    """A store of imported files (by format), made by whichever worker needs it first."""
    base = factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    store = shared / f"truth-{name}"
    with (shared / f"truth-{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not store.exists():
            making = shared / f"truth-{name}.making"
            for form, paths in files.items():
                import_files(form, paths, making)
            making.rename(store)
    return store


@pytest.fixture(scope="session")
def data() -> Path:
    if not (DATA / "truth.json").exists():
        pytest.skip(f"the shared data is absent: {DATA}")
    return DATA


@pytest.fixture(scope="session")
def truth(data: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((data / "truth.json").read_text(encoding="utf-8"))
    return loaded


@pytest.fixture(scope="session")
def normalised(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traces]:
    """All normalised files but the large one, through the importer of run lines."""
    files = [file for file in sorted((data / "normalised").iterdir()) if file.name != BFCL]
    store = made_once(tmp_path_factory, "normalised", {"run-lines": files})
    with Traces(store) as traces:
        yield traces


@pytest.fixture(scope="session")
def bfcl(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traces]:
    """The 83,300 function-calling runs."""
    files = {"run-lines": [data / "normalised" / BFCL]}
    store = made_once(tmp_path_factory, "bfcl", files)
    with Traces(store) as traces:
        yield traces


@pytest.fixture(scope="session")
def native(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traces]:
    """The untouched files of tau-bench and tau2, each through its own importer."""
    files = {
        "tau-bench": [data / "native" / "tau-bench" / "gpt-4o-airline.json"],
        "tau2": [data / "native" / "tau2" / f"{name}.json" for name in TAU2_NATIVE],
    }
    store = made_once(tmp_path_factory, "native", files)
    with Traces(store) as traces:
        yield traces


@dataclass(frozen=True)
class Figures:
    """Answers to questions about one group of runs, and how they are held against the truth."""

    traces: Traces
    chosen: dict[str, str]
    answers: dict[tuple[int, str, str], list[dict[str, Any]]]

    def ask(self, question: str) -> list[dict[str, Any]]:
        """All rows that the question gives for these runs."""
        # Each question is asked once for all groups: the stores are large, the groups many.
        by = ",".join(self.chosen)
        key = (id(self.traces), question, by)
        if key not in self.answers:
            self.answers[key] = self.traces.ask(question, by=by).to_pylist()
        return [
            row
            for row in self.answers[key]
            if all(row[name] == value for name, value in self.chosen.items())
        ]

    def one(self, question: str, **where: Any) -> dict[str, Any]:
        """The only row, or the only one with these values."""
        rows = [
            row
            for row in self.ask(question)
            if all(row[name] == value for name, value in where.items())
        ]
        assert len(rows) == 1, (question, where, rows)
        return rows[0]

    def mapping(self, question: str, key: str, value: str) -> dict[Any, Any]:
        """One column by another, with rows of the same key added up."""
        found: dict[Any, Any] = {}
        for row in self.ask(question):
            found[row[key]] = found.get(row[key], 0) + row[value]
        return found

    def rows(self, query: str) -> list[dict[str, Any]]:
        """Rows of a query; `source`, `model` and `variant` stand for the chosen runs."""
        return self.traces.rows(query, self.chosen)


@pytest.fixture(scope="session")
def figures() -> Callable[..., Figures]:
    answers: dict[tuple[int, str, str], list[dict[str, Any]]] = {}

    def of(traces: Traces, **chosen: str) -> Figures:
        return Figures(traces, chosen, answers)

    return of


@pytest.fixture(scope="session")
def assert_rounds_to() -> Callable[..., None]:
    """Checks a value against a figure that was rounded to so many digits."""

    def check(value: float | None, stated: float | None, digits: int, what: str = "") -> None:
        if stated is None:
            assert value is None, what
            return
        assert value is not None, what
        assert abs(value - stated) <= 0.5 * 10**-digits + 1e-9, (what, value, stated)

    return check


@pytest.fixture(scope="session")
def assert_summary(assert_rounds_to: Callable[..., None]) -> Callable[..., None]:
    """Checks n, mean, quantiles, max and sum against stated ones; None states: nothing known."""

    def check(
        row: dict[str, Any], stated: dict[str, float] | None, digits: int, scale: float = 1
    ) -> None:
        if stated is None:
            assert row["n"] == 0, row
            return
        for key in SUMMARY_KEYS:
            if key in stated:
                value = row[key] if key == "n" else row[key] / scale
                assert_rounds_to(value, stated[key], digits, key)

    return check
