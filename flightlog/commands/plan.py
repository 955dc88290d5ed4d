"""`flightlog plan`."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flightlog.commands.gating import metric_options
from flightlog.commands.options import stores_option

if TYPE_CHECKING:
    import pyarrow as pa

    from flightlog.analysis.gate.plan import MetricPlan, Plan


@click.command()
@click.option("--baseline", default="baseline", show_default=True, help="Side, as of check.")
@stores_option
@click.option(
    "--trials",
    default="1,2,3,5,8,12,20",
    show_default=True,
    help="Trials per task and side that are looked at.",
)
@click.option(
    "--effect",
    "effects",
    multiple=True,
    metavar="METRIC=SHARE",
    help="A change that is to be found: cost_usd=0.2; says how many trials that takes.",
)
@metric_options
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def plan(baseline: str, stores: tuple[Path, ...], trials: str, **how: Any) -> None:
    """Say what a suite can detect and prove, from the runs of a baseline that you have.

    For each number of trials: the smallest change for the worse that a check finds in 80 % of
    cases, and how likely OK is to be shown when nothing changed; what a check costs at the
    price of the baseline's runs. 2 or more runs per task are needed to know their spread.
    """
    from dataclasses import replace

    from flightlog.analysis.db import Traces
    from flightlog.analysis.gate.metrics import ALWAYS_GATED
    from flightlog.analysis.gate.plan import plan as planned
    from flightlog.analysis.gate.selection import Side
    from flightlog.commands.gate import rounds_of
    from flightlog.commands.gating import gating_of, shares_of
    from flightlog.commands.revision import resolved_side

    gating = gating_of(how)
    gates = gating.gated if gating.gated is None else gating.gated | {ALWAYS_GATED}
    metrics = [
        replace(metric, gates=True)
        for metric in gating.metrics
        if (metric.gates if gates is None else metric.name in gates)
    ]
    numbers = rounds_of(trials, "--trials")
    effects = shares_of(how["effects"], "--effect")
    with Traces(*stores) as traces:
        side = Side.parse(resolved_side(baseline))
        found = planned(traces, side, metrics, trials=numbers, effects=effects)
    if how["as_json"]:
        click.echo(json.dumps(_facts(found), indent=1))
        return
    _print(found)


def _print(found: Plan) -> None:
    from rich.text import Text

    from flightlog.analysis.tables import console, result_table
    from flightlog.analysis.terminal import escape_terminal
    from flightlog.analysis.wording import counted

    out = console()
    head = f"{found.side}: {counted(found.runs, 'run')} of {counted(found.tasks, 'task')}"
    out.print(Text(escape_terminal(head)))
    for title, table in (
        ("Smallest change for the worse that a check finds in 80 % of cases:", _effects(found)),
        ("Chance that OK is shown when nothing changed:", _chances(found)),
    ):
        out.print()
        out.print(Text(title, style="bold"))
        out.print(result_table(table))
    if found.unknown or found.effects:
        out.print()
    for name, why in found.unknown:
        out.print(Text(escape_terminal(f"{name}: {why}; without it OK is never shown")))
    for line in _wanted(found):
        out.print(Text(escape_terminal(line)))


def _effects(found: Plan) -> pa.Table:
    import pyarrow as pa

    from flightlog.analysis.wording import usd_text

    columns: dict[str, list[Any]] = {"trials": list(found.trials)}
    if any(usd is not None for usd in found.usd):
        columns["check costs"] = [None if usd is None else usd_text(usd) for usd in found.usd]
    for one in found.metrics:
        columns[one.metric.name] = [_change(one, reach.detectable) for reach in one.reach]
    return pa.table(columns)


def _chances(found: Plan) -> pa.Table:
    import pyarrow as pa

    columns: dict[str, list[Any]] = {"trials": list(found.trials)}
    for one in found.metrics:
        columns[one.metric.name] = [_percent(reach.ok_chance) for reach in one.reach]
    columns["all"] = [_percent(chance) for chance in found.all_ok]
    return pa.table(columns)


def _wanted(found: Plan) -> list[str]:
    """How many trials each wanted effect takes, and what a check then costs."""
    from flightlog.analysis.wording import counted, usd_text

    lines = []
    per_trial = found.usd[0] / found.trials[0] if found.usd[0] is not None else None
    for one in found.metrics:
        effect = found.effects.get(one.metric.name)
        if effect is None:
            continue
        asked = f"{one.metric.name} worse by {_change(one, effect)}"
        if effect <= one.metric.tolerance:
            lines.append(f"{asked}: within its tolerance, so no check ever calls it a drift")
        elif one.wanted is None:
            lines.append(f"{asked}: no number of trials up to 1,000 finds it; more tasks would")
        else:
            cost = "" if per_trial is None else f", {usd_text(per_trial * one.wanted)} a check"
            trials = f"{counted(one.wanted, 'trial')} per task and side"
            lines.append(f"{asked}: found in 80 % of cases with {trials}{cost}")
    return lines


def _change(one: MetricPlan, change: float) -> str:
    if not math.isfinite(change):
        return "none"
    unit = "pts" if one.metric.kind.is_share else "%"
    return f"{change * 100:.1f} {unit}"


def _percent(chance: float) -> str:
    return f"{chance * 100:.0f} %"


def _facts(found: Plan) -> dict[str, Any]:
    return {
        "side": found.side,
        "runs": found.runs,
        "tasks": found.tasks,
        "trials": list(found.trials),
        "usd": list(found.usd),
        "all_ok": list(found.all_ok),
        "metrics": [
            {
                "name": one.metric.name,
                "tolerance": one.metric.tolerance,
                "detectable": [
                    reach.detectable if math.isfinite(reach.detectable) else None
                    for reach in one.reach
                ],
                "ok_chance": [reach.ok_chance for reach in one.reach],
                "effect": found.effects.get(one.metric.name),
                "trials_for_effect": one.wanted,
            }
            for one in found.metrics
        ],
        "unknown": [{"name": name, "why": why} for name, why in found.unknown],
    }
