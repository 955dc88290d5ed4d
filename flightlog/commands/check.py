"""`flightlog check`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flightlog.commands.baseline import baselines_option, pinned
from flightlog.commands.gating import metric_options, outcome_options
from flightlog.commands.options import stores_option
from flightlog.commands.outputs import report_options

if TYPE_CHECKING:
    from flightlog.analysis.db import Traces
    from flightlog.analysis.gate.selection import Side
    from flightlog.golden.baselines import Baseline

_STRICT = "As --inconclusive fail, and any damage of a store is an error."


@click.command()
@click.option("--baseline", default="baseline", show_default=True, help="Side, see above.")
@click.option("--candidate", default="candidate", show_default=True, help="Side, see above.")
@stores_option
@baselines_option
@metric_options
@click.option(
    "--goldens",
    type=click.Path(path_type=Path, file_okay=False),
    help="Also fail when golden tasks of this folder are unused, missing, stale or pending.",
)
@click.option(
    "--guard",
    metavar="COMMIT",
    help="Name what was loosened since a commit: in the settings, in --goldens. [default: since "
    "@NAME was set, else since the baseline's commit]",
)
@outcome_options
@click.option("--strict", is_flag=True, help=_STRICT)
@click.option("--interleaved", is_flag=True, help="Both sides ran together, in turn: gate latency.")
@report_options
def check(baseline: str, candidate: str, stores: tuple[Path, ...], **how: Any) -> int:
    """Compare two sides, paired by task; exit 1 on drift.

    A side is a variant (`candidate`), or pairs joined by commas: variant=, model=, agent=,
    suite=, source=, store=, session_id=, git=, since=, until=, label:KEY=. The baseline can be
    a pinned one: @NAME. Exit codes: 0 no drift, 1 drift, 2 cannot compare, void replays, or
    undecided with --inconclusive fail, 3 golden tasks that cannot be trusted (--goldens), 64
    usage or bad input, 70 a bug.

    What gates: the metrics of --metric; else those that monitoring.track of the settings
    file names, and success where it is known; else the built-in table. The rest is advisory.
    """
    from dataclasses import replace

    from flightlog.analysis.db import Traces
    from flightlog.analysis.gate.drift import compare
    from flightlog.commands.gating import gating_of
    from flightlog.commands.guarding import loosened_since
    from flightlog.commands.outputs import forms_of, report

    forms_of(how["outputs"])
    gating = gating_of(how)
    sides, kept = _sides(baseline, candidate, how["baselines"])
    with Traces(*stores, *([kept.store] if kept else []), strict=how["strict"]) as traces:
        verdict = compare(
            traces,
            *sides,
            metrics=gating.metrics,
            gated=gating.gated,
            interleaved=how["interleaved"],
        )
        notes, weaker, health = _goldens(traces, sides, how["goldens"])
        loosened = loosened_since(traces, sides[0], kept, gating, how)
    notes = [*gating.notes(verdict), *verdict.notes, *notes]
    report(replace(verdict, notes=tuple(notes), loosened=(*loosened, *weaker)), how)
    return health or verdict.exit_code(
        strict=how["strict"] or how["inconclusive"] == "fail",
        confirmed_only=how["fail_on"] == "confirmed",
    )


def _sides(
    baseline: str, candidate: str, baselines: Path
) -> tuple[tuple[Side, Side], Baseline | None]:
    """Both sides; and the pinned baseline that the first one names, if it does."""
    from dataclasses import replace

    from flightlog.analysis.gate.selection import Side, Term
    from flightlog.commands.revision import resolved_side

    other = Side.parse(resolved_side(candidate))
    if not baseline.startswith("@"):
        return (Side.parse(resolved_side(baseline)), other), None
    kept = pinned(baseline, baselines)
    store = str(kept.store)
    return (Side(baseline, (Term("store", store),)), replace(other, without_store=store)), kept


def _goldens(
    traces: Traces, sides: tuple[Side, Side], goldens: Path | None
) -> tuple[list[str], list[str], int]:
    """What the goldens of the compared runs say of themselves, which contracts are weaker now,
    and an exit code other than 0 where they cannot be trusted."""
    from flightlog.commands.golden_watch import today
    from flightlog.golden.life.health import check_goldens
    from flightlog.golden.life.sides import contract_notes, judged_by

    judged = judged_by(traces, *sides)
    notes, weaker = contract_notes(judged, goldens)
    if goldens is None:
        return notes, weaker, 0
    health = check_goldens(goldens, today=today(), replayed=set(judged.candidate))
    return [*health.lines(), *notes], weaker, health.exit_code
