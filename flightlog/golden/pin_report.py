"""What pinning did, in words."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from flightlog.analysis.wording import counted
from flightlog.errors import nearest
from flightlog.golden.task import TOOLS_FILE


@dataclass(frozen=True, slots=True)
class PinnedTask:
    """What pinning did to one golden task.

    Attributes:
        folder: name of its folder.
        task_id: the task.
        added: run ids that became recordings.
        kept: run ids that were recordings of it already.
    """

    folder: str
    task_id: str
    added: tuple[str, ...]
    kept: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PinReport:
    """What was pinned, and what a reviewer should look at.

    Attributes:
        goldens: the folder.
        tasks: one entry per golden task that a run belongs to.
        undeclared_tools: called tools without a declared effect: unknown, so each call of
            one may change everything and little can be served.
        notes: conflicts, racing calls and other doubts, one sentence each.
        declared_tools: tools with a declared effect.
    """

    goldens: Path
    tasks: tuple[PinnedTask, ...]
    undeclared_tools: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    declared_tools: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """The report as text."""
        added = sum(len(task.added) for task in self.tasks)
        tasks = counted(len(self.tasks), "golden task")
        found = [f"pinned {counted(added, 'run')} as {tasks} in {self.goldens}"]
        for task in self.tasks:
            text = f"  {task.task_id}: {counted(len(task.added), 'recording')} added"
            found.append(f"{text}, {len(task.kept)} were there" if task.kept else text)
        if self.undeclared_tools:
            names = ", ".join(map(self._with_nearest, self.undeclared_tools))
            found.append(
                f"undeclared tools: {names}. Their effect is unknown, so each call counts as a "
                f"write to everything. Declare effect and scopes in {self.goldens / TOOLS_FILE}"
            )
        return [*found, *(f"note: {note}" for note in self.notes)]

    def _with_nearest(self, name: str) -> str:
        near = nearest(name, self.declared_tools, limit=1, cutoff=0.8)
        return f"{name} (declared is {near[0]})" if near else name
