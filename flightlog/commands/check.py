"""`flightlog check`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flightlog.commands.gating import metric_options, outcome_options
from flightlog.commands.options import stores_option
from flightlog.commands.outputs import report_options

if TYPE_CHECKING:
    from flightlog.analysis.db import Traces

_STRICT = "As --inconclusive fail, and any damage of a store is an error."


@click.command()
@click.option("--baseline", default="baseline", show_default=True, help="Side, see above.")
@click.option("--candidate", default="candidate", show_default=True, help="Side, see above.")
@stores_option
@metric_options
@click.option(
    "--goldens",
    type=click.Path(path_type=Path, file_okay=False),
    help="Also fail when golden tasks of this folder are unused, missing, stale or pending.",
)
@outcome_options
@click.option("--strict", is_flag=True, help=_STRICT)
@click.option("--interleaved", is_flag=True, help="Both sides ran together, in turn: gate latency.")
@report_options
def check(baseline: str, candidate: str, stores: tuple[Path, ...], **how: Any) -> int:
    """Compare two sides, paired by task; exit 1 on drift.

    A side is a variant (`candidate`), or pairs joined by commas: variant=, model=, agent=,
    suite=, source=, store=, session_id=, git=, since=, until=, label:KEY=. Exit codes: 0 no
    drift, 1 drift, 2 cannot compare, void replays, or undecided with --inconclusive fail, 3
    golden tasks that cannot be trusted (--goldens), 64 usage or bad input, 70 a bug.

    What gates: the metrics of --metric; else those that monitoring.track of the settings
    file names, and success where it is known; else the built-in table. The rest is advisory.
    """
    from dataclasses import replace

    from flightlog.analysis.db import Traces
    from flightlog.analysis.gate.drift import compare
    from flightlog.commands.gating import gating_of
    from flightlog.commands.outputs import forms_of, report

    forms_of(how["outputs"])
    gating = gating_of(how)
    with Traces(*stores, strict=how["strict"]) as traces:
        verdict = compare(
            traces,
            baseline,
            candidate,
            metrics=gating.metrics,
            gated=gating.gated,
            interleaved=how["interleaved"],
        )
        notes, health = _goldens(traces, baseline, candidate, how["goldens"])
    notes = [*gating.notes(verdict), *verdict.notes, *notes]
    report(replace(verdict, notes=tuple(notes)), how)
    return health or verdict.exit_code(
        strict=how["strict"] or how["inconclusive"] == "fail",
        confirmed_only=how["fail_on"] == "confirmed",
    )


def _goldens(
    traces: Traces, baseline: str, candidate: str, goldens: Path | None
) -> tuple[list[str], int]:
    """What the goldens of the compared runs say of themselves, and an exit code other than 0
    where they cannot be trusted."""
    from flightlog.commands.golden_watch import today
    from flightlog.golden.life.health import check_goldens
    from flightlog.golden.life.sides import contract_notes, judged_by

    judged = judged_by(traces, baseline, candidate)
    notes = contract_notes(judged, goldens)
    if goldens is None:
        return notes, 0
    health = check_goldens(goldens, today=today(), replayed=set(judged.candidate))
    return [*health.lines(), *notes], health.exit_code
