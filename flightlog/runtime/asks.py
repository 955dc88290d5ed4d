"""What the loop asks its driver to do: call a function, or several beside each other."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, TypeVar

from flightlog.trace.clock import Clock, SystemClock

MAX_PARALLEL: Final = 64
"""Most calls that a driver is asked to run beside each other."""

VIRTUAL_GRACE_MS: Final = 2_000.0
"""Real time that a call on a virtual clock has at least: how busy a machine is decides nothing."""

LONGEST_SLEEP_S: Final = 0.5
"""Between two looks while something is waited for. A signal that the system delivers to another
thread does not wake a waiting main thread; nor does a kill switch."""

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Ask:
    """Call one function.

    Attributes:
        cut_ms: give up waiting after this long; None waits for ever.
    """

    fn: Callable[..., Any]
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] | None = None
    cut_ms: float | None = None

    def call(self) -> Any:
        """Calls it; the result may be awaitable."""
        return self.fn(*self.args, **(self.kwargs or {}))


@dataclass(frozen=True, slots=True)
class Asked:
    """What came of an `Ask`.

    Attributes:
        value: what the function returned.
        error: what it raised.
        latency_ms: real time that it took.
        is_cut: it did not answer in time; nobody waits for it any more.
    """

    value: Any = None
    error: BaseException | None = None
    latency_ms: float = 0.0
    is_cut: bool = False

    def settled(self) -> Asked:
        """Itself, unless a worker thread met an interrupt: that is raised here.

        A SystemExit in a worker is only a failed call: no signal is delivered there.
        """
        if self.error and not isinstance(self.error, (Exception, SystemExit)):
            raise self.error
        return self


@dataclass(frozen=True, slots=True)
class AskAll:
    """Call several functions beside each other, at most `MAX_PARALLEL`.

    Attributes:
        on_done: gets the place of an ask and what came of it, as soon as it is
            known; never called twice at a time.
    """

    asks: tuple[Ask, ...]
    on_done: Callable[[int, Asked], None]


@dataclass(frozen=True, slots=True)
class Wait:
    """Let real time pass, such as before another try.

    Attributes:
        is_over: looked at before and during the wait, which ends where it says True;
            it must not raise.
    """

    seconds: float
    is_over: Callable[[], bool] = lambda: False


Request: TypeAlias = Ask | AskAll | Wait
Loop: TypeAlias = Generator[Request, Any, R]


def real_cut_ms(clock: Clock, cut_ms: float | None) -> float | None:
    """When a call is cut in real time.

    On a virtual clock the stated durations decide what is late, and real time
    only ends what would block for ever.
    """
    if cut_ms is None or not clock.is_virtual:
        return cut_ms
    return max(cut_ms, VIRTUAL_GRACE_MS) if cut_ms > 0 else cut_ms


def attempt_in_worker(ask: Ask, stopwatch: SystemClock) -> Asked:
    """Calls the function in a worker thread, which keeps whatever it raises."""
    started = stopwatch.monotonic_ms()
    try:
        value = ask.call()
    except BaseException as error:  # judged in the waiting thread, by `settled`
        return Asked(error=error, latency_ms=stopwatch.monotonic_ms() - started)
    return Asked(value, latency_ms=stopwatch.monotonic_ms() - started)
