"""How the incident is run: one agent, one outage, under different policies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import vendor

import flightlog
from flightlog.control.control import Control
from flightlog.control.kill_switch import KillMode
from flightlog.runtime.prices import PriceTable
from flightlog.trace.clock import VirtualClock

WORLD = vendor.World()
EVERY_S = 600
"""How often a scheduler starts the agent again."""
HOUR_S = 3600
TENANT = "research"
ONE_RUN = "one run"
REPEATED = "a fresh run every ten minutes, until one has written the brief"


class AlarmClock(VirtualClock):
    """A virtual clock that calls a function once, when its time has come."""

    def __init__(self, at_s: float, ring: Callable[[], None]) -> None:
        super().__init__()
        self._at_ms = at_s * 1000
        self._ring: Callable[[], None] | None = ring

    def advance_ms(self, milliseconds: float) -> None:
        super().advance_ms(milliseconds)
        if self._ring is not None and self.monotonic_ms() >= self._at_ms:
            ring, self._ring = self._ring, None
            ring()


class Days:
    """Runs the agent during the outage, each time as if nothing had been before.

    Args:
        sink: records every run.
        prices: prices of the model.
    """

    def __init__(self, sink: flightlog.Recorder, prices: PriceTable) -> None:
        self._sink = sink
        self._prices = prices

    def run_once(self, side: str, policy: flightlog.Policy) -> None:
        """One run, started as the outage begins."""
        with _control() as control:
            self._run(_context(side, ONE_RUN), policy, VirtualClock(), control)

    def run_until_switched_off(self, side: str, policy: flightlog.Policy, after_s: float) -> None:
        """One run; an operator does `flightlog kill on --mode disable_tools:browse` meanwhile."""
        with _control() as control:

            def switch_off() -> None:
                control.kill_switch.turn_on(
                    KillMode.DISABLE_TOOLS,
                    tools="browse",
                    who="operator",
                    why="vendor outage",
                    at_us=clock.wall_us(),
                )

            clock = AlarmClock(after_s, switch_off)
            self._run(_context(side, ONE_RUN), policy, clock, control)

    def run_until_written(self, side: str, policy: flightlog.Policy) -> None:
        """A fresh run every ten minutes until one has written the brief.

        Breaker and tenant's budget are shared by the runs.
        """
        clock = VirtualClock()
        with _control() as control:
            for start_s in range(0, 2 * round(WORLD.outage_s), EVERY_S):
                clock.sleep(start_s - clock.monotonic_ms() / 1000)
                if self._run(_context(side, REPEATED), policy, clock, control):
                    break

    def _run(
        self,
        context: flightlog.RunContext,
        policy: flightlog.Policy,
        clock: VirtualClock,
        control: Control,
    ) -> bool:
        """True when the brief was written."""
        result = flightlog.run(
            vendor.brief_agent(policy, self._prices, clock, WORLD),
            vendor.TASK,
            sink=self._sink,
            clock=clock,
            context=context,
            control=control,
        )
        is_written = result.answer == vendor.BRIEF
        result.writer.evaluation(passed=is_written)
        return is_written


def _context(side: str, session: str) -> flightlog.RunContext:
    return flightlog.RunContext(variant=side, session_id=session, tenant=TENANT)


@contextmanager
def _control() -> Iterator[Control]:
    """Shared by the runs of one side only. Left out, `run` takes the one of the store."""
    control = Control.in_process()
    try:
        yield control
    finally:
        control.end()
