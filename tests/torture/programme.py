"""Runs a scenario on a simulated disk, and checks the crashes that it could have had."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.torture.crash_check import ViolationError, check_crash, promised
from tests.torture.scenarios import SCENARIOS
from tests.torture.simulated_disk import Fault, SimulatedDisk, crash_states, materialise
from tests.torture.world import Program, World

_MEMORY: Final = Path("/dev/shm")
REAL: Final = Program()


@contextmanager
def folder_in_memory() -> Iterator[Path]:
    """A new folder, in memory where the system has such a place."""
    place = _MEMORY if _MEMORY.is_dir() else None
    path = Path(tempfile.mkdtemp(prefix="flightlog-torture-", dir=place))
    try:
        yield path
    finally:
        shutil.rmtree(path)


@dataclass(slots=True)
class Tally:
    """What was tried.

    Attributes:
        states: crash states that were materialised and checked.
        steps: operations in the logs.
        promised: events that were promised, summed over the states.
        faults: calls that were made to fail.
        violations: what was not as promised, with the way to get it again.
    """

    states: int = 0
    steps: int = 0
    promised: int = 0
    faults: int = 0
    violations: list[str] = field(default_factory=list)


def torture(
    scenario: str,
    *,
    seed: int,
    per_place: int,
    faults: Sequence[Fault] = (),
    program: Program = REAL,
    disk_type: type[SimulatedDisk] = SimulatedDisk,
    stop_at_first: bool = False,
    at_most: int | None = None,
) -> Tally:
    """Checks `per_place` crashes after each operation of a scenario.

    Args:
        scenario: name in `SCENARIOS`.
        seed: of the scenario and of what each crash leaves.
        per_place: crashes per operation; where `at_most` is less, they are spread evenly.
        faults: calls that fail while the scenario runs.
        program: the code under test.
        disk_type: the disk under it.
        stop_at_first: end at the first violation.
        at_most: states to check.
    """
    tally, rng = Tally(), random.Random(f"{scenario} {seed}")
    with folder_in_memory() as top:
        base = top / "disk"
        base.mkdir()
        disk = disk_type(base, faults)
        world = World(disk, program, seed=seed)
        SCENARIOS[scenario](world)
        world.end()
        shutil.rmtree(base)
        tally.steps, tally.faults = len(disk.log), disk.failed
        share = 1.0 if at_most is None else at_most / (per_place * len(disk.log))
        for number, (machine, choice, tree) in enumerate(
            crash_states(disk.log, rng, per_place=per_place)
        ):
            if rng.random() >= share:
                continue
            promise = promised(machine, choice)
            tally.states += 1
            tally.promised += len(promise.keys)
            crashed = top / f"{number}"
            materialise(tree, crashed)
            try:
                check_crash(world, crashed, promise)
            except ViolationError as error:
                place = f"{scenario} seed {seed} state {number} ({choice}) faults {faults}"
                tally.violations.append(f"{place}: {error}")
                if stop_at_first:
                    break
            shutil.rmtree(crashed)
    return tally
