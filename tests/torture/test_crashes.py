"""No crash of the simulated disk loses, doubles or changes what was promised."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import pytest

from tests.torture.programme import campaign
from tests.torture.scenarios import SCENARIOS
from tests.torture.size import SEED, sized

PARTS = range(sized(1, 8))
STATES = sized(30, 400)
LONG_STATES = sized(30, 140)
"""Of scenarios whose stores have many files, each of which is read for each state."""
LONG: Final = frozenset(("writers", "rotation", "heirs", "compact", "erase", "retain"))


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_no_crash_breaks_a_promise(
    scenario: str, part: int, record_property: Callable[[str, object], None]
) -> None:
    start_s = time.perf_counter()
    states = LONG_STATES if scenario in LONG else STATES
    tally = campaign(scenario, seed=SEED * 1_000 + part, states=states)
    figures = {
        "crash states": tally.states,
        "distinct": tally.distinct,
        "operations": tally.steps,
        "faults": tally.faults,
        "promised events checked": tally.promised,
        "violations": len(tally.violations),
        "seconds": time.perf_counter() - start_s,
    }
    record_property("figures", (f"crashes: {scenario}", figures))
    assert not tally.violations, "\n".join(tally.violations[:5])
