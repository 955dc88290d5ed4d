"""No crash of the simulated disk loses, doubles or changes what was promised."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.torture.programme import campaign
from tests.torture.scenarios import SCENARIOS
from tests.torture.size import SEED, sized

PARTS = range(sized(1, 8))
STATES = sized(30, 420)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_no_crash_breaks_a_promise(
    scenario: str, part: int, record_property: Callable[[str, object], None]
) -> None:
    start_s = time.perf_counter()
    tally = campaign(scenario, seed=SEED * 1_000 + part, states=STATES)
    figures = {
        "crash states": tally.states,
        "operations": tally.steps,
        "faults": tally.faults,
        "promised events checked": tally.promised,
        "violations": len(tally.violations),
        "seconds": time.perf_counter() - start_s,
    }
    record_property("figures", (f"crashes: {scenario}", figures))
    assert not tally.violations, "\n".join(tally.violations[:5])
