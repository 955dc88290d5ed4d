"""`flightlog gate`."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flightlog.commands.gating import metric_options, outcome_options
from flightlog.commands.options import redaction_of, store_option
from flightlog.commands.outputs import report_options
from flightlog.commands.serving import serving_of, serving_options

if TYPE_CHECKING:
    from flightlog.golden.entries import GoldenEntry
    from flightlog.golden.factory import Factory
    from flightlog.golden.overrides import Overrides
    from flightlog.golden.replay_side import Replaying, ReplaySide
    from flightlog.golden.rounds import Demands, Looked
    from flightlog.recorder.recorder import Recorder

_file = click.Path(path_type=Path, dir_okay=False)
SIDES = ("baseline", "candidate")


def _side_options(command: Any) -> Any:
    """The options that each of both sides has."""
    for side in reversed(SIDES):
        for option in (
            click.option(
                f"--{side}-config", type=_file, help=f"Settings with the policy of the {side}."
            ),
            click.option(
                f"--{side}-system", type=_file, help=f"File with the system prompt of the {side}."
            ),
            click.option(
                f"--{side}-model",
                help=f"Model of the {side}: openai:NAME, anthropic:NAME, recorded, or a name for "
                "the factory.",
            ),
            click.option(
                f"--{side}-agent",
                metavar="MODULE:FUNCTION",
                help=f"What makes the agent of the {side}, where it is not --agent.",
            ),
        ):
            command = option(command)
    return command


@click.command()
@click.argument("goldens", type=click.Path(path_type=Path, file_okay=False))
@click.option("--agent", help="module:function that makes the agent of both sides.")
@_side_options
@click.option(
    "--rounds",
    default="1,2,3,5,8",
    show_default=True,
    help="Trials per task and side after each round; one number is a fixed plan.",
)
@click.option("--max-usd", type=click.FloatRange(min=0), help="Spending cap of both sides.")
@store_option
@click.option("--task", "tasks", multiple=True, help="Only this task; repeat for more.")
@click.option("--session", help="Session of these runs; new by default.")
@click.option("--resume", is_flag=True, help="Go on with --session; finished trials are kept.")
@click.option(
    "--concurrency",
    type=click.IntRange(min=1, max=256),
    default=1,
    show_default=True,
    help="Trials at the same time.",
)
@click.option(
    "--guard", metavar="COMMIT", help="Name what was loosened since: settings and golden tasks."
)
@click.option("--dry-run", is_flag=True, help="Only estimate calls, tokens and cost.")
@click.option(
    "--allow-host", "hosts", multiple=True, help="HOST[:PORT] to reach besides the models'."
)
@serving_options
@metric_options
@outcome_options
@report_options
@click.option("--quiet", is_flag=True, help="No progress.")
def gate(goldens: Path, **how: Any) -> int:
    """Replay golden tasks on two candidates in turn, until the verdict is settled.

    Baseline and candidate of each trial run one after the other, so that the day is the same
    for both. After each round it stops where the verdict is a drift, or is shown to be fine;
    the error rate is kept over all rounds. An interrupted gate goes on with --session and
    --resume. Exit codes as of flightlog check; 2 also where the spending cap came first.
    """
    from dataclasses import replace

    from flightlog.commands.gating import gating_of
    from flightlog.commands.guarding import loosened_since_commit
    from flightlog.commands.outputs import forms_of, report
    from flightlog.golden.rounds import Demands

    forms_of(how["outputs"])
    gating = gating_of(how)
    demands = Demands(
        gating.metrics,
        gating.gated,
        rounds_of(how["rounds"], "--rounds"),
        needs_confirmed=how["fail_on"] == "confirmed",
    )
    entries = _entries(goldens, how)
    if how["dry_run"]:
        _estimate(entries, demands, how)
        return 0
    weaker: tuple[str, ...] = ()
    if how["guard"] is not None:
        weaker = loosened_since_commit(how["guard"], gating, {**how, "goldens": goldens})
    last = _last_of(entries, demands, how)
    notes = (*gating.notes(last.verdict), *last.verdict.notes)
    report(replace(last.verdict, notes=notes, loosened=weaker), how)
    code = last.verdict.exit_code(
        strict=how["inconclusive"] == "fail" or last.is_capped,
        confirmed_only=how["fail_on"] == "confirmed",
    )
    return int(code)


def rounds_of(text: str, option: str) -> tuple[int, ...]:
    """Numbers of trials joined by commas.

    Raises:
        UsageError: something else.
    """
    from flightlog.errors import UsageError

    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdecimal() and len(part) < 6 for part in parts):
        raise UsageError(
            f"{option} {text!r} are no numbers", hint="Write trials such as 1,2,3,5,8."
        )
    return tuple(map(int, parts))


def _entries(goldens: Path, how: dict[str, Any]) -> list[GoldenEntry]:
    from flightlog.commands.golden_watch import today
    from flightlog.golden.entries import chosen, load_suite
    from flightlog.golden.life.quarantine import left_out

    without = left_out(goldens, today()) if not how["tasks"] else {}
    return chosen(load_suite(goldens, without=without), how["tasks"] or None)


def _factory(how: dict[str, Any], side: str) -> Factory:
    from flightlog.errors import UsageError
    from flightlog.golden.suite import load_factory

    name = how[f"{side}_agent"] or how["agent"]
    if name is None:
        raise UsageError(
            f"nothing says what makes the agent of the {side}",
            hint=f"Give --agent MODULE:FUNCTION, or --{side}-agent.",
        )
    factory: Factory = load_factory(name)
    return factory


def _overrides(how: dict[str, Any], side: str) -> Overrides:
    from flightlog.commands.candidates import overrides_of

    return overrides_of(how[f"{side}_model"], how[f"{side}_system"], how[f"{side}_config"])


def _side(name: str, session: str, recorder: Recorder, how: dict[str, Any]) -> ReplaySide:
    from flightlog.golden.replay_side import ReplaySide

    return ReplaySide(name, session, recorder, _factory(how, name), _replaying(how, name))


def _replaying(how: dict[str, Any], side: str) -> Replaying:
    from flightlog.commands.candidates import endpoint_of
    from flightlog.commands.revision import head_labels
    from flightlog.golden.replay_side import Replaying
    from flightlog.replay.guard import Endpoint

    return Replaying(
        concurrency=how["concurrency"],
        resume=how["resume"],
        overrides=_overrides(how, side),
        endpoints=tuple(Endpoint(*endpoint_of(text)) for text in how["hosts"]),
        labels=head_labels(),
        **serving_of(how),
    )


def _last_of(entries: list[GoldenEntry], demands: Demands, how: dict[str, Any]) -> Looked:
    from flightlog.commands.progress import progress_bar
    from flightlog.errors import GoldenError
    from flightlog.golden.rounds import run_rounds
    from flightlog.recorder.recorder import Recorder

    if how["resume"] and how["session"] is None:
        raise GoldenError(
            "nothing says which gate goes on", hint="Give the --session of the interrupted one."
        )
    session = how["session"] or str(uuid.uuid4())
    looks = []
    with (
        Recorder(how["store"], redaction=redaction_of(how["config_file"])) as recorder,
        progress_bar("replaying both sides", enabled=not how["quiet"]) as on_progress,
    ):
        base, cand = (_side(name, session, recorder, how) for name in SIDES)
        try:
            for looked in run_rounds(
                entries,
                (base, cand),
                demands,
                max_usd=how["max_usd"],
                on_progress=on_progress,
            ):
                looks.append(looked)
                _tell(looked, how)
        except KeyboardInterrupt:
            text = f"interrupted; the same command goes on with: --session {session} --resume"
            click.echo(text, err=True)
            raise
    return looks[-1]


def _tell(looked: Looked, how: dict[str, Any]) -> None:
    """One line after each round."""
    from flightlog.analysis.terminal import escape_terminal
    from flightlog.analysis.wording import counted, usd_text

    if how["quiet"]:
        return
    told = looked.verdict.sequential
    assert told is not None
    spent = "" if told.spent_usd is None else f", {usd_text(told.spent_usd)} so far"
    text = (
        f"round {looked.number} of {len(told.rounds)}, {counted(told.trials, 'trial')} each"
        f"{spent}: {looked.verdict.headline}"
    )
    click.echo(escape_terminal(text), err=True)


def _estimate(entries: list[GoldenEntry], demands: Demands, how: dict[str, Any]) -> None:
    from flightlog.analysis.terminal import escape_terminal
    from flightlog.commands.replay import estimated

    for side in SIDES:
        factory, overrides = _factory(how, side), _overrides(how, side)
        for number in sorted({0, len(demands.rounds) - 1}):
            trials = demands.rounds[number]
            lines = estimated(entries, factory, side, overrides, trials).lines()
            click.echo(escape_terminal(f"{side}, {trials} per task: {lines[0]}; {lines[2]}"))
