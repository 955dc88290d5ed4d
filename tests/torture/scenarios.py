"""What is done to a store while the disk is watched; each ends with all writers dead.

A new scenario is a function of a `World` in `SCENARIOS`: it acts, and the world marks what
was promised. `crash_check` then looks at every crash that could have come in between.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from tests.torture.world import LONG, World, Writer


def _run(writer: Writer, run: str, calls: int, *, durable: bool = False) -> None:
    """A run with a start, calls of several sizes and messages, and an end."""
    writer.start(run)
    for number in range(calls):
        writer.call(run, size=(20, 400, 900, 2500)[number % 4], durable=durable)
        writer.ask(run, f"{run} asks {number}", f"{run} says".ljust(300 * (number % 3), "y"))
    writer.stop(run)


def plain(world: World) -> None:
    """Events that are recorded but not synced, then a close."""
    writer = world.writer()
    writer.start("a")
    for number in range(6):
        writer.call("a", size=100 + 300 * number)
        writer.ask("a", f"question {number}")
    writer.call("a", size=20)
    writer.close()


def killed(world: World) -> None:
    """A process dies, another one goes on; neither has synced."""
    for name in "ab":
        writer = world.writer()
        writer.start(name)
        for _ in range(4):
            writer.call(name, size=700)
        writer.kill()


def brief(world: World) -> None:
    """A little of everything, sealed."""
    writer = world.writer()
    writer.call("a", text="a" * LONG, durable=True)
    writer.ask("a", "question")
    writer.call("b", text="b" * LONG)
    writer.kill()
    world.seal()


def same_blob(world: World) -> None:
    """The same long result again, after it could perhaps not be synced."""
    writer = world.writer()
    for number in range(3):
        writer.call("a", text="same" * LONG, durable=True)
        writer.ask("a", f"question {number}")
    writer.kill()


def durable(world: World) -> None:
    """Durable events between others."""
    writer = world.writer()
    _run(writer, "a", 3)
    writer.start("b")
    for number in range(4):
        writer.call("b", size=600)
        writer.call("b", size=100, durable=True)
        writer.ask("b", f"question {number}")
    writer.kill()


def blobs(world: World) -> None:
    """Long results and messages, some of them the same in several processes."""
    same = world.rng.choice("pqrs") * LONG
    for name in "abc":
        writer = world.writer()
        writer.start(name)
        writer.call(name, text=same)
        writer.call(name, text=name * (LONG + 700))
        writer.call(name, size=10, durable=name != "a")
        writer.ask(name, "short", same + "m", durable=True)
        writer.kill()


def writers(world: World) -> None:
    """Several processes on one store at once; one is killed, one closes."""
    first, second = world.writer(), world.writer()
    for number in range(3):
        first.call("a", size=500, durable=number == 1)
        second.call("b", size=300)
        second.ask("b", "the same question")
        first.ask("a", "the same question")
    first.kill()
    third = world.writer()
    third.call("c", size=900, durable=True)
    world.seal()
    second.call("b", size=50, durable=True)
    second.close()
    third.stop("c")
    third.close()
    world.seal()


def sealing(world: World) -> None:
    """Sealing after a kill and after a close, each with messages and a blob."""
    writer = world.writer()
    _run(writer, "a", 2)
    writer.call("b", text="z" * LONG)
    writer.kill()
    world.seal()
    writer = world.writer()
    _run(writer, "c", 2)
    writer.close()
    world.seal()


def resealing(world: World) -> None:
    """Sealings that are killed, and done again from what is there."""
    writer = world.writer()
    _run(writer, "a", 2)
    writer.ask("b", "n" * LONG)
    writer.kill()
    other = world.writer()
    _run(other, "c", 1)
    other.close()
    for calls in sorted(world.rng.sample(range(1, 60), k=4)):
        world.disk.kill_after(calls)
        world.seal()
        world.disk.revive()
    world.seal()


def checkpoint(world: World) -> None:
    """Manifests that are moved into the history, also by a process that is killed."""
    for number, calls in enumerate((3, 9, None)):
        writer = world.writer()
        _run(writer, f"r{number}", 1)
        writer.close()
        world.seal()
        if calls is not None:
            world.disk.kill_after(world.rng.randint(1, calls))
            world.checkpoint()
            world.disk.revive()
        world.checkpoint()


def _sealed_runs(world: World, *names: str) -> None:
    """A journal per run, each sealed; they share messages and a blob."""
    for name in names:
        writer = world.writer()
        _run(writer, name, 1)
        writer.ask(f"{name}2", "the same", "m" * LONG)
        writer.call(f"{name}2", text=name * LONG)
        writer.close()
        world.seal()


def _often(world: World, work: Callable[[], bool], *, most: int) -> None:
    """Does something that is killed twice on its way, then to its end."""
    for calls in sorted(world.rng.sample(range(1, most), k=2)):
        world.disk.kill_after(calls)
        work()
        world.disk.revive()
    work()


def compact(world: World) -> None:
    """Merging of segments, also by processes that are killed."""
    _sealed_runs(world, "a", "b", "c")
    _often(world, world.compact, most=40)
    _sealed_runs(world, "d")
    world.compact()


def merging(world: World) -> None:
    """Merging of two segments that hardly hold anything."""
    for name in "ab":
        writer = world.writer()
        writer.call(name, durable=True)
        writer.ask(name, "the same question")
        writer.kill()
        world.seal()
    world.compact()


def heirs(world: World) -> None:
    """Mergings that are killed around their manifest; the next one removes what they replaced."""
    for number, calls in enumerate(range(8, 20)):
        writer = world.writer()
        writer.call(f"r{number}", durable=True)
        writer.kill()
        world.seal()
        world.disk.kill_after(calls)
        world.compact()
        world.disk.revive()
        world.compact()


def erase(world: World) -> None:
    """Erasing one of several runs, before and after merging."""
    _sealed_runs(world, "a", "b")
    _often(world, lambda: world.erase("a", "a2"), most=40)
    world.compact()
    world.erase("b2")


def retain(world: World) -> None:
    """Removing old runs but one, in journals that hold several."""
    _sealed_runs(world, "a", "b", "c")
    _often(world, lambda: world.retain(gone=("a", "a2", "b2", "c", "c2"), kept=("b",)), most=40)
    _sealed_runs(world, "d")


def rotation(world: World) -> None:
    """A journal takes over from another one, which is sealed while runs go on."""
    writer = world.writer(seal_at_bytes=3_000)
    for number in range(4):
        writer.start(f"r{number}")
        for _ in range(3):
            writer.call("long", size=900, durable=number == 1)
            writer.call(f"r{number}", size=500)
        writer.join()
        world.seal()
    writer.kill()
    world.seal()


def creation(world: World) -> None:
    """Processes that are killed while they make the store, then one that goes on."""
    for calls in (*range(1, 22, 4), 23):
        world.disk.kill_after(calls)
        world.writer().start(f"never {calls}")
        world.disk.revive()
    writer = world.writer()
    writer.call("a", durable=True)
    writer.kill()
    world.seal()


def group_commit(world: World) -> None:
    """Another thread's durable event comes while a sync is under way."""
    writer = world.writer()
    _run(writer, "a", 1)
    for number in range(3):
        late = [f"late {number}-{thread}" for thread in range(2)]
        threads = [threading.Thread(target=_late, args=(world, writer, run)) for run in late]

        def join_in(threads: list[threading.Thread] = threads) -> None:
            for thread in threads:
                with world.disk.written:
                    before = world.disk.calls["write"]
                    thread.start()
                    while thread.is_alive() and world.disk.calls["write"] == before:
                        world.disk.written.wait(timeout=0.01)  # it may also fail to write

        world.disk.hooks["fdatasync"] = join_in
        writer.call("a", size=300, durable=True, text="q" * LONG if number == 1 else "")
        for thread in threads:
            if thread.ident is not None:
                thread.join()
        world.disk.hooks.clear()
    writer.kill()


def _late(world: World, writer: Writer, run: str) -> None:
    writer.call(run, durable=True, text=f"{run} " * LONG)


Scenario = Callable[[World], None]

SCENARIOS: Final[dict[str, Scenario]] = {
    scenario.__name__: scenario
    for scenario in (
        plain,
        killed,
        brief,
        same_blob,
        durable,
        blobs,
        writers,
        sealing,
        resealing,
        checkpoint,
        group_commit,
        creation,
        rotation,
        merging,
        heirs,
        compact,
        erase,
        retain,
    )
}
