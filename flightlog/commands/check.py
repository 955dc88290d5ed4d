"""`flightlog check`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from flightlog.commands.options import stores_option

if TYPE_CHECKING:
    from flightlog.analysis.db import Traces
    from flightlog.analysis.gate.verdict import Verdict
    from flightlog.config import Config

_STRICT = "An undecided check exits 2 instead of 0, and any damage of a store is an error."
_TRACK = "monitoring.track"
_out = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.option("--baseline", default="baseline", show_default=True, help="Side, see above.")
@click.option("--candidate", default="candidate", show_default=True, help="Side, see above.")
@stores_option
@click.option("--metric", "metrics", multiple=True, help="Gate on this metric; repeat for more.")
@click.option(
    "--config",
    "config_file",
    type=_out,
    help="Settings whose monitoring.track gates. [default: ./flightlog.yaml if it is there]",
)
@click.option(
    "--goldens",
    type=click.Path(path_type=Path, file_okay=False),
    help="Also fail when golden tasks of this folder are unused, missing, stale or pending.",
)
@click.option("--strict", is_flag=True, help=_STRICT)
@click.option("--confirmed-only", is_flag=True, help="A drift that is only likely is undecided.")
@click.option("--interleaved", is_flag=True, help="Both sides ran together, in turn: gate latency.")
@click.option("--html", type=_out, help="Write the report as one HTML page.")
@click.option("--md", type=_out, help="Write the report as Markdown.")
@click.option("--json", "json_", type=_out, help="Write the verdict as JSON.")
@click.option("--junit", type=_out, help="Write the verdict as JUnit XML.")
def check(
    baseline: str,
    candidate: str,
    stores: tuple[Path, ...],
    metrics: tuple[str, ...],
    config_file: Path | None,
    goldens: Path | None,
    strict: bool,
    confirmed_only: bool,
    interleaved: bool,
    html: Path | None,
    md: Path | None,
    json_: Path | None,
    junit: Path | None,
) -> int:
    """Compare two sides, paired by task; exit 1 on drift.

    A side is a variant (`candidate`), or pairs joined by commas: variant=, model=, agent=,
    suite=, source=, store=, label:KEY=. Exit codes: 0 no drift, 1 drift, 2 cannot compare,
    void replays, or undecided with --strict, 3 golden tasks that cannot be trusted (--goldens).

    What gates: the metrics of --metric; else those that monitoring.track of the settings
    file names, and success where it is known; else the built-in table. The rest is advisory.
    """
    from dataclasses import replace

    from flightlog.analysis.db import Traces
    from flightlog.analysis.gate.drift import compare
    from flightlog.analysis.reports.render import print_verdict, write_report

    wanted = (("html", html), ("md", md), ("json", json_), ("junit", junit))
    _refuse_same([path for _, path in wanted if path is not None])
    settings = None if metrics else _settings(config_file)
    tracked = settings["monitoring.track"] if settings and settings.is_set(_TRACK) else None
    with Traces(*stores, strict=strict) as traces:
        verdict = compare(
            traces,
            baseline,
            candidate,
            metrics=metrics or None,
            gated=metrics or tracked,
            interleaved=interleaved,
        )
        notes, health = _goldens(traces, baseline, candidate, goldens)
    if notes:
        verdict = replace(verdict, notes=(*verdict.notes, *notes))
    if settings is not None:
        verdict = replace(verdict, notes=(_gates_text(settings, verdict), *verdict.notes))
    print_verdict(verdict)
    for form, path in wanted:
        if path is not None:
            write_report(verdict, path, form=form)
            click.echo(f"wrote {path}")
    return health or verdict.exit_code(strict=strict, confirmed_only=confirmed_only)


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


def _refuse_same(paths: list[Path]) -> None:
    from flightlog.errors import UsageError

    for path in paths:
        if paths.count(path) > 1:
            raise UsageError(
                f"two reports are to go to {str(path)!r}, where one would overwrite the other",
                hint="Give each report a file of its own.",
            )


def _settings(file: Path | None) -> Config | None:
    """The settings that were asked for, else those of the folder; None without any."""
    from flightlog.config import DEFAULT_CONFIG_NAME, load_config

    if file is None and not Path(DEFAULT_CONFIG_NAME).exists():
        return None
    return load_config(file or DEFAULT_CONFIG_NAME)


def _gates_text(settings: Config, verdict: Verdict) -> str:
    """Which file says what gates, and what does."""
    from flightlog.analysis.gate.metrics import ALWAYS_GATED

    gates = verdict.chosen_gates
    if gates is None:
        return f"{settings.file} sets no {_TRACK}: the built-in table says what gates."
    chosen = ", ".join(settings[_TRACK])
    text = f"Gated by {_TRACK} of {settings.sources[_TRACK]}: {chosen}"
    if ALWAYS_GATED in settings[_TRACK]:
        return f"{text}."
    if ALWAYS_GATED in gates:
        return f"{text}; and success, which gates wherever it is known."
    return f"{text}. Success would gate too, but no run records it."
