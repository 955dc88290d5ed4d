"""A run and its forks side by side, as text and as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from flightlog.errors import ExitCode
from flightlog.golden.run_facts import RunFacts


@dataclass(frozen=True)
class ForkTrial:
    """One fork.

    Attributes:
        number: from 0.
        facts: what the run did.
        divergence: where it left its nearest recording, in words; None when it did not.
        served: calls answered, by how.
        misses: calls that nothing answered, in words.
        live_tool_calls: functions that were really called live.
        changed_prompts: steps before the fork whose prompt is not the recorded one.
        is_counterfactual: it was given what no recording holds.
        overlaid: calls that overlays answered or changed, and steps that they ruled.
        unused_overlays: overlays that changed nothing.
    """

    number: int
    facts: RunFacts
    divergence: str | None
    served: Mapping[str, int]
    misses: tuple[str, ...]
    live_tool_calls: int
    changed_prompts: tuple[int, ...]
    is_counterfactual: bool
    overlaid: int
    unused_overlays: tuple[str, ...]


@dataclass(frozen=True)
class ForkReport:
    """A run and its forks.

    Attributes:
        step: first step of the candidate.
        steps: of the recorded run.
        recorded: what the recorded run did.
        trials: the forks.
        overlays: in words.
    """

    step: int
    steps: int
    recorded: RunFacts
    trials: tuple[ForkTrial, ...]
    overlays: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        """2 when a fork asked for what no recording holds, so that its end says nothing."""
        is_cut = any(trial.misses for trial in self.trials)
        return int(ExitCode.UNDECIDED if is_cut else ExitCode.OK)

    def as_dict(self) -> dict[str, Any]:
        """The report as plain values."""
        return asdict(self)

    def lines(self) -> list[str]:
        """The report as text: the runs side by side, then a word on each fork."""
        place = "before its first step" if self.step <= 1 else f"at step {self.step}"
        found = [f"run {self.recorded.run_id} of {self.steps} steps, forked {place}"]
        found += [f"  with {overlay}" for overlay in self.overlays]
        heads = ["recorded", *(f"fork {trial.number}" for trial in self.trials)]
        every = [self.recorded, *(trial.facts for trial in self.trials)]
        columns = [heads, *zip(*(facts.cells() for facts in every), strict=True)]
        names = ["", *self.recorded.names()]
        width = max(map(len, names))
        sizes = [max(len(row[n]) for row in columns) for n in range(len(every))]
        for name, row in zip(names, columns, strict=True):
            cells = "  ".join(cell.rjust(size) for cell, size in zip(row, sizes, strict=True))
            found.append(f"  {name.ljust(width)}  {cells}")
        for trial in self.trials:
            found += _lines_of(trial)
        return found


def _lines_of(trial: ForkTrial) -> list[str]:
    served = ", ".join(f"{count} {how}" for how, count in sorted(trial.served.items())) or "none"
    head = f"fork {trial.number} (run {trial.facts.run_id}): calls served: {served}"
    if trial.overlaid:
        head += f"; changed by overlays: {trial.overlaid}"
    found = [
        f"{head}; live tool calls: {trial.live_tool_calls}",
        f"    first divergence: {trial.divergence or 'none'}",
    ]
    if trial.changed_prompts:
        steps = ", ".join(map(str, trial.changed_prompts))
        found.append(f"    counterfactual: the prompt is not the recorded one at step {steps}")
    elif trial.is_counterfactual:
        found.append("    counterfactual: it met what no recording holds")
    found += [f"    no recording holds: {miss}" for miss in trial.misses]
    return found + [f"    changed nothing: {overlay}" for overlay in trial.unused_overlays]
