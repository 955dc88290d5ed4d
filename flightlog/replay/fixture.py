"""A fixture beside a replay: the initial state, brought to where the run is before it answers.

A fixture is trusted only while it agrees: the run's own successful writes are made on it in
their order, and each must give what the run was served. Then a read of it gives what the
recorded world would have given.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

from flightlog.replay.misses import FixtureFactory
from flightlog.replay.state import parse_result
from flightlog.runtime.calls import PendingCall, Served
from flightlog.runtime.tools import is_async
from flightlog.trace.canonical import canonical_json
from flightlog.trace.vocab import Outcome, ServedHow

if TYPE_CHECKING:
    from flightlog.redact.redactor import Redactor

_MAX_CHARS: Final = 100


class Fixture:
    """The fixture of one run.

    Args:
        factory: gives its functions over a fresh initial state; called when first needed.
        redactor: of the recordings, whose observations hold pseudonyms.
    """

    def __init__(self, factory: FixtureFactory, *, redactor: Redactor | None = None) -> None:
        self._factory = factory
        self._redactor = redactor
        self._functions: Mapping[str, Callable[..., Any]] | None = None
        self._writes: list[tuple[PendingCall, str | None]] = []
        self._problem: str | None = None

    def happened(self, call: PendingCall, result: str | None) -> None:
        """The run made a successful write, which was answered without the fixture."""
        self._writes.append((call, result))

    def answer(self, call: PendingCall, latency_ms: float) -> Served | str:
        """What the fixture answers in the run's state, or why it cannot be asked."""
        problem = self._catch_up()
        if problem is not None:
            return problem
        assert self._functions is not None
        function = self._functions.get(call.name)
        if function is None:
            return "the fixture has no function for it"
        values = call.values_for(function)
        return call_now(function, values, how=ServedHow.FIXTURE, latency_ms=latency_ms)

    def _catch_up(self) -> str | None:
        """Makes the run's writes that it lacks; gives why it does not agree."""
        if self._functions is None:
            self._functions = self._factory()
        while self._writes and self._problem is None:
            self._problem = self._disagreement(*self._writes.pop(0), self._functions)
        return self._problem

    def _disagreement(
        self, call: PendingCall, result: str | None, functions: Mapping[str, Callable[..., Any]]
    ) -> str | None:
        what = f"{call.name} {_short(canonical_json(call.values()))}"
        function = functions.get(call.name)
        if function is None:
            return f"the fixture has no function for {call.name}, which this run called"
        values = call.values_for(function)
        made = call_now(function, values, how=ServedHow.FIXTURE, latency_ms=None)
        if made.outcome is not Outcome.OK:
            return f"the fixture disagrees: {what} fails on it ({_short(made.error or '')})"
        if self._plain(made.result) != self._plain(result):
            return (
                f"the fixture disagrees: {what} gives {_short(made.result or '')}, "
                f"served {_short(result or '')}"
            )
        return None

    def _plain(self, text: str | None) -> str | None:
        clean = text if text is None or self._redactor is None else self._redactor.clean(text)
        try:
            return canonical_json(parse_result(clean))
        except ValueError:  # NaN, which JSON lacks
            return clean


def call_now(
    function: Callable[..., Any],
    values: Mapping[str, Any],
    *,
    how: ServedHow,
    latency_ms: float | None,
) -> Served:
    """What a function gives for named arguments; an async one gets an event loop of its own."""
    try:
        if is_async(function):

            async def call() -> Any:
                return await function(**values)

            with ThreadPoolExecutor(max_workers=1) as pool:
                value = pool.submit(lambda: asyncio.run(call())).result()
        else:
            value = function(**values)
    except (Exception, SystemExit) as error:  # foreign code; its error is the observation
        return Served.of_error(error, how=how, latency_ms=latency_ms)
    return Served.of_value(value, how=how, latency_ms=latency_ms)


def _short(text: str) -> str:
    return text if len(text) <= _MAX_CHARS else f"{text[: _MAX_CHARS - 1]}…"
