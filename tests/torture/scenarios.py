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
                    world.disk.written.wait_for(lambda b=before: world.disk.calls["write"] > b)

        world.disk.hooks["fdatasync"] = join_in
        writer.call("a", size=300, durable=True)
        for thread in threads:
            if thread.ident is not None:
                thread.join()
        world.disk.hooks.clear()
    writer.kill()


def _late(world: World, writer: Writer, run: str) -> None:
    writer.call(run, size=700, durable=True)


Scenario = Callable[[World], None]

SCENARIOS: Final[dict[str, Scenario]] = {
    scenario.__name__: scenario
    for scenario in (
        plain,
        killed,
        durable,
        blobs,
        writers,
        sealing,
        resealing,
        checkpoint,
        group_commit,
    )
}
