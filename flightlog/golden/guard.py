"""What a check demands, so that a later one can say what was loosened since."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from flightlog.analysis.gate.metrics import Metric
from flightlog.errors import GoldenError
from flightlog.golden.life.contracts import contract_changes, contract_text
from flightlog.golden.life.quarantine import load_quarantine
from flightlog.golden.recording_files import load_recording, recording_files
from flightlog.golden.task import load_task, task_files

MOST_NAMED = 3


@dataclass(frozen=True, slots=True)
class Demand:
    """What is demanded of one metric.

    Attributes:
        tolerance: largest change for the worse that is OK.
        gates: it can fail the check.
        sql: expression of a metric of your own; None for a built-in one.
        view: view that the expression is over.
    """

    tolerance: float
    gates: bool
    sql: str | None = None
    view: str = "runs"


@dataclass(frozen=True)
class CheckState:
    """All that a check demands.

    Attributes:
        metrics: by name.
        goldens: contract of each golden task by folder, as `contract_text` gives it; None where
            no folder was given.
        quarantined: reason and last day of those in quarantine, by folder.
    """

    metrics: Mapping[str, Demand]
    goldens: Mapping[str, str] | None = None
    quarantined: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As it is kept beside a pinned baseline."""
        return asdict(self)

    @classmethod
    def of_json(cls, value: Any, where: str) -> CheckState:
        """Reads what `to_json` gave.

        Raises:
            GoldenError: something else.
        """
        try:
            metrics = {name: Demand(**one) for name, one in value["metrics"].items()}
            return cls(metrics, value["goldens"], value["quarantined"])
        except (KeyError, TypeError, AttributeError) as error:
            raise GoldenError(
                "what the baseline demanded cannot be read", where=where, hint="Set it anew."
            ) from error


def state_of(
    metrics: Sequence[Metric], gated: frozenset[str] | None, goldens: Path | None
) -> CheckState:
    """What a check over these metrics and golden tasks demands.

    Raises:
        GoldenError: a golden task is malformed.
    """
    demands = {
        metric.name: Demand(
            metric.tolerance,
            metric.gates if gated is None else metric.name in gated,
            metric.sql,
            metric.view,
        )
        for metric in metrics
    }
    if goldens is None:
        return CheckState(demands)
    contracts = {
        path.parent.name: contract_text(
            load_task(path), [load_recording(file) for file in recording_files(path.parent)]
        )
        for path in task_files(goldens)
    }
    quarantined = {
        name: f"until {one.until}, since {one.reason}"
        for name, one in load_quarantine(goldens).items()
    }
    return CheckState(demands, contracts, quarantined)


def loosened(before: CheckState, after: CheckState) -> tuple[str, ...]:
    """What lets more pass than before, one sentence each."""
    return (*_of_metrics(before.metrics, after.metrics), *_of_goldens(before, after))


def _of_metrics(before: Mapping[str, Demand], after: Mapping[str, Demand]) -> Iterator[str]:
    for name, old in sorted(before.items()):
        new = after.get(name)
        if new is None:
            if old.gates:
                yield f"metric {name} is no longer compared"
            continue
        if old.gates and not new.gates:
            yield f"metric {name} no longer gates"
        if new.tolerance > old.tolerance:
            yield f"tolerance of {name}: {old.tolerance * 100:g} % -> {new.tolerance * 100:g} %"
        if (old.sql, old.view) != (new.sql, new.view):
            yield f"metric {name} measures something else: {old.sql} -> {new.sql}"


def _of_goldens(before: CheckState, after: CheckState) -> Iterator[str]:
    if before.goldens is None or after.goldens is None:
        return
    gone = sorted(set(before.goldens) - set(after.goldens))
    for name in gone:
        yield f"golden task {name} is gone"
    for name, contract in sorted(before.goldens.items()):
        if name not in after.goldens:
            continue
        weaker = [c for c in contract_changes(contract, after.goldens[name]) if c.way.is_weaker]
        if weaker:
            more = f"; and {len(weaker) - MOST_NAMED} more" if len(weaker) > MOST_NAMED else ""
            told = "; ".join(map(str, weaker[:MOST_NAMED]))
            yield f"golden task {name}: {told}{more}"
    for name, why in sorted(after.quarantined.items()):
        if name not in before.quarantined:
            yield f"golden task {name} is in quarantine: {why}"
