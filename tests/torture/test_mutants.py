"""The programme finds each rule of the recorder that is broken."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.torture.mutants import MUTANTS, Mutant, StaleMutantError, broken, source_of
from tests.torture.programme import torture
from tests.torture.size import SEED


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.name for mutant in MUTANTS])
def test_a_broken_rule_is_found(
    mutant: Mutant, record_property: Callable[[str, object], None]
) -> None:
    start_s = time.perf_counter()
    with broken(mutant) as program:
        tally = torture(
            mutant.scenario,
            seed=SEED,
            per_place=6,
            faults=mutant.faults,
            program=program,
            stop_at_first=True,
        )
    figures = {
        "broken rules": 1,
        "found": len(tally.violations),
        "crash states until then": tally.states,
        "seconds": time.perf_counter() - start_s,
    }
    record_property("figures", ("mutants", figures))
    assert tally.violations, f"not found: {mutant.rule}"


def test_the_same_recorder_loaded_again_breaks_no_rule() -> None:
    with broken(None) as program:
        assert program.journal.__name__.startswith("flightlog_with_all_rules")
        tally = torture("brief", seed=SEED, per_place=1, program=program)
    assert tally.states > 50
    assert not tally.violations, tally.violations[0]


def test_a_mutant_whose_place_is_gone_is_refused() -> None:
    with pytest.raises(StaleMutantError, match="0 places"):
        source_of(MUTANTS[0]._replace(old="no such line"))
