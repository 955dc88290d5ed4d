"""Runs a scenario on a simulated disk, and checks the crashes that it could have had."""

from __future__ import annotations

import errno
import hashlib
import random
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from tests.torture.crash_check import Promised, ViolationError, check_crash, promised
from tests.torture.scenarios import SCENARIOS
from tests.torture.simulated_disk import Choice, Fault, SimulatedDisk, crash_states, materialise
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


class _State(NamedTuple):
    """One crash."""

    number: int
    choice: Choice
    promise: Promised
    tree: dict[str, bytes | None]

    @property
    def digest(self) -> bytes:
        """The same for states in which the same is there and was promised."""
        told = hashlib.blake2b(digest_size=16)
        for name, content in sorted(self.tree.items()):
            told.update(f"{name}\0{content is None}\0{len(content or b'')}\0".encode())
            told.update(content or b"")
        told.update(repr((self.promise.removals, self.promise.has_failed_syncs)).encode())
        for keys in (self.promise.keys, self.promise.with_blobs):
            told.update(repr(sorted(keys)).encode())
        told.update(repr(self.promise.safe and sorted(self.promise.safe.items())).encode())
        return told.digest()


@dataclass(slots=True)
class Tally:
    """What was tried.

    Attributes:
        states: crash states that were drawn.
        distinct: those of them that no other of the same run of a scenario is like; these were
            written to a folder and checked.
        steps: operations in the logs.
        promised: events that were promised, summed over the states.
        faults: calls that were made to fail.
        violations: what was not as promised, with the way to get it again.
        calls: how often each call of the disk was made.
    """

    states: int = 0
    distinct: int = 0
    steps: int = 0
    promised: int = 0
    faults: int = 0
    violations: list[str] = field(default_factory=list)
    calls: dict[str, int] = field(default_factory=dict)

    def add(self, other: Tally) -> None:
        """Adds what was tried elsewhere."""
        self.states += other.states
        self.distinct += other.distinct
        self.steps += other.steps
        self.promised += other.promised
        self.faults += other.faults
        self.violations += other.violations


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
        stop_at_first: end at the first violation; the states come in any order.
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
        tally.steps, tally.faults, tally.calls = len(disk.log), disk.failed, disk.calls
        share = 1.0 if at_most is None else at_most / (per_place * max(len(disk.log), 1))
        states: Iterable[_State] = (
            _State(number, choice, promised(machine, choice), tree)
            for number, (machine, choice, tree) in enumerate(
                crash_states(disk.log, rng, per_place=per_place)
            )
            if rng.random() < share
        )
        if stop_at_first:
            states = list(states)
            rng.shuffle(states)
        known = set[bytes]()
        for state in states:
            tally.states += 1
            tally.promised += len(state.promise.keys)
            if state.digest in known:
                continue
            known.add(state.digest)
            tally.distinct += 1
            crashed = top / f"{state.number}"
            materialise(state.tree, crashed)
            try:
                check_crash(world, crashed, state.promise)
            except ViolationError as error:
                place = f"{scenario} seed {seed} state {state.number} ({state.choice})"
                tally.violations.append(f"{place} faults {faults}: {error}")
                if stop_at_first:
                    break
            shutil.rmtree(crashed)
    return tally


def campaign(scenario: str, *, seed: int, states: int) -> Tally:
    """Checks so many crashes of a scenario: half of them on a disk that fails at random."""
    total, rng, number = Tally(), random.Random(f"{scenario} {seed} faults"), 0
    while total.states < states:
        of_run, number = seed * 100_003 + number, number + 1
        most = max(8, min(states - total.states, 400) // 4)
        clean = torture(scenario, seed=of_run, per_place=2, at_most=2 * most)
        total.add(clean)
        for _ in range(2):
            faults = [_fault(clean.calls, rng) for _ in range(rng.choice((1, 1, 2, 3)))]
            total.add(torture(scenario, seed=of_run, per_place=2, faults=faults, at_most=most))
    return total


def _fault(calls: dict[str, int], rng: random.Random) -> Fault:
    call = rng.choice(sorted(calls))
    error: int | None = rng.choice((errno.EIO, errno.ENOSPC))
    if call == "write" and rng.random() < 0.3:
        error = None
    times = rng.choice((1, 1, 2, 5, 1_000))
    part = rng.choice((rng.random(), rng.random(), 1.0))
    return Fault(call, rng.randrange(calls[call]), times, error, part)
