"""The figures of serving that the docs give are those of the benchmark, and reach their goals."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.serving import FILE, Airline, airline, deviations, judged, markdown, natural

PAGE = Path(__file__).resolve().parents[2] / "docs" / "serving_figures.md"
BEGIN, END = "<!-- figures: begin -->\n", "<!-- figures: end -->"
OURS = "state-aware, pure tools executed"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Airline:
    if not FILE.exists():
        pytest.skip(f"the shared data is absent: {FILE}")
    return airline(tmp_path_factory.mktemp("serving"))


def test_natural_pairs_are_served_as_much_as_promised_and_never_wrongly(world: Airline) -> None:
    found = natural(world)
    ours, pooled = found[OURS], found["the same, all other trials as recordings"]
    assert ours.total() == 546
    assert (found["state-aware"]["WRONG"], ours["WRONG"], pooled["WRONG"]) == (0, 0, 0)
    assert ours["ok"] / ours.total() >= 0.38
    assert pooled["ok"] / pooled.total() >= 0.57


def test_everyday_deviations_are_all_served_and_never_wrongly(world: Airline) -> None:
    found = deviations(world)
    for name, counts in found[OURS].items():
        assert counts.total() > 80, name
        assert counts["ok"] == counts.total(), name
    others = [found[name] for name in found if not name.startswith("state-aware")]
    for other in others:  # each of them misses or is wrong somewhere
        assert any(counts["ok"] < counts.total() for counts in other.values())


def test_judging_by_writes_agrees_with_the_reward_where_sequences_do_not(world: Airline) -> None:
    found = judged(world)
    total = found["writes"].total()
    assert total == 252
    assert found["writes"]["agrees"] / total >= 0.97
    assert found["exact sequence of calls"]["agrees"] / total < 0.5


def test_page_of_figures_shows_what_was_measured(world: Airline) -> None:
    """Write it anew with `python benchmarks/serving.py --markdown`."""
    shown = PAGE.read_text(encoding="utf-8").split(BEGIN)[1].split(END)[0]
    assert shown == markdown(world)
