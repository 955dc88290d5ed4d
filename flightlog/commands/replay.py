"""`flightlog replay`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flightlog.commands.options import config_option, redaction_of, store_option
from flightlog.commands.outputs import json_option
from flightlog.commands.serving import serving_of, serving_options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flightlog.golden.entries import GoldenEntry
    from flightlog.golden.estimate import Estimate
    from flightlog.golden.factory import Factory
    from flightlog.golden.overrides import Overrides
    from flightlog.golden.suite import ReplayReport

_file = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.argument("goldens", type=click.Path(path_type=Path, file_okay=False))
@click.option("--agent", required=True, help="module:function that makes the candidate's agent.")
@store_option
@click.option("--variant", default="candidate", show_default=True, help="Name of this side.")
@click.option(
    "--trials",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Replays of each task.",
)
@click.option("--task", "tasks", multiple=True, help="Only this task; repeat for more.")
@click.option("--session", help="Session that these runs share; new by default.")
@click.option(
    "--model",
    help="openai:NAME, anthropic:NAME, recorded (its recorded answers), or a name for the factory.",
)
@click.option("--system", "--prompt", type=_file, help="File with the system prompt to use.")
@click.option("--agent-config", type=_file, help="Settings file with the policy to use.")
@click.option("--matrix", type=_file, help="File of variants, each with model, system, config.")
@click.option(
    "--concurrency",
    type=click.IntRange(min=1, max=256),
    default=1,
    show_default=True,
    help="Trials at the same time.",
)
@click.option("--max-usd", type=click.FloatRange(min=0), help="Spending cap of each side.")
@click.option("--resume", is_flag=True, help="Go on with --session; finished trials are kept.")
@click.option("--dry-run", is_flag=True, help="Only estimate calls, tokens and cost.")
@click.option(
    "--allow-host", "hosts", multiple=True, help="HOST[:PORT] to reach besides the model's."
)
@click.option(
    "-o",
    "--output",
    "outputs",
    multiple=True,
    type=_file,
    help="Write what came of it, in the form of its ending: .json, .md, .xml (JUnit).",
)
@json_option
@serving_options
@config_option
@click.option("--quiet", is_flag=True, help="No progress bar.")
def replay(
    goldens: Path,
    agent: str,
    variant: str,
    model: str | None,
    system: Path | None,
    agent_config: Path | None,
    matrix: Path | None,
    **how: Any,
) -> int:
    """Replay golden tasks on a candidate; tools answer from the recordings, nothing runs live.

    Exit codes: 0 every replay passed, 1 one failed, 2 one could not be judged or was left out
    by the spending cap. An interrupted replay goes on with --session and --resume.
    """
    from flightlog.analysis.terminal import escape_terminal
    from flightlog.commands.candidates import Side, overrides_of, read_matrix
    from flightlog.commands.outputs import forms_of
    from flightlog.errors import UsageError
    from flightlog.golden.replay_outputs import ENDINGS, as_json, write_outputs
    from flightlog.golden.suite import load_factory

    factory = load_factory(agent)
    if matrix is not None:
        if model or system or agent_config:
            raise UsageError(
                "--matrix says what each side is given",
                hint="Put model, system and config into it, or leave it out.",
            )
        sides = read_matrix(matrix)
    else:
        sides = [Side(variant, overrides_of(model, system, agent_config))]
    files = forms_of(how["outputs"], ENDINGS)
    if how["dry_run"]:
        if files or how["as_json"]:
            raise UsageError("--dry-run replays nothing to report", hint="Leave the file out.")
        for side in sides:
            for line in _estimate(goldens, factory, side.variant, side.overrides, how):
                click.echo(escape_terminal(line))
        return 0
    for _, path in files:
        if not path.parent.is_dir():  # said before anything is paid for
            raise UsageError(
                f"cannot write {path}: no such folder", hint="Make it, or name another."
            )
    reports = [_one_side(goldens, factory, side.variant, side.overrides, how) for side in sides]
    for path in write_outputs(reports, files):
        click.echo(escape_terminal(f"wrote {path}"), err=how["as_json"])
    if how["as_json"]:
        click.echo(as_json(reports), nl=False)
    return _worst([report.exit_code for report in reports])


def _one_side(
    goldens: Path, factory: Factory, variant: str, overrides: Overrides, how: dict[str, Any]
) -> ReplayReport:
    from flightlog.analysis.terminal import escape_terminal

    report = _replayed(goldens, factory, variant, overrides, how)
    for line in report.lines():
        click.echo(escape_terminal(line), err=how["as_json"])
    if report.live_tool_calls:
        for line in _proposed(goldens, report, how):
            click.echo(escape_terminal(line), err=how["as_json"])
    return report


def _proposed(goldens: Path, report: ReplayReport, how: dict[str, Any]) -> list[str]:
    """Puts runs with live reads among the pending recordings: no golden holds their answers."""
    from flightlog.analysis.wording import counted
    from flightlog.golden.life.pending import propose
    from flightlog.recorder.store import Store
    from flightlog.replay.recordings import read_recordings

    run_ids = [trial.run_id for trial in report.trials if trial.live_tool_calls]
    recordings = read_recordings(Store.open(how["store"]), run_ids)
    made = propose(goldens, recordings, redaction=redaction_of(how["config_file"]))
    runs = sum(path.suffix == ".jsonl" for path in made)
    waiting = f"{counted(runs, 'run')} with live reads pending"
    return [f"{waiting}: flightlog golden review --goldens {goldens}"]


def _replayed(
    goldens: Path, factory: Factory, variant: str, overrides: Overrides, how: dict[str, Any]
) -> ReplayReport:
    import uuid

    from flightlog.commands.candidates import endpoint_of
    from flightlog.commands.progress import progress_bar
    from flightlog.commands.revision import head_labels
    from flightlog.golden.suite import Replaying, replay_suite
    from flightlog.recorder.recorder import Recorder
    from flightlog.replay.guard import Endpoint

    serving = serving_of(how)
    session = how["session"] or (None if how["resume"] else str(uuid.uuid4()))
    endpoints = tuple(Endpoint(*endpoint_of(text)) for text in how["hosts"])
    with (
        Recorder(how["store"], redaction=redaction_of(how["config_file"])) as recorder,
        progress_bar(f"replaying {variant}", enabled=not how["quiet"]) as on_progress,
    ):
        try:
            return replay_suite(
                goldens,
                factory,
                recorder=recorder,
                variant=variant,
                trials=how["trials"],
                tasks=how["tasks"] or None,
                session_id=session,
                how=Replaying(
                    concurrency=how["concurrency"],
                    max_usd=how["max_usd"],
                    resume=how["resume"],
                    overrides=overrides,
                    endpoints=endpoints,
                    labels=head_labels(),
                    on_progress=on_progress,
                    **serving,
                ),
            )
        except KeyboardInterrupt:
            text = f"interrupted; the same command goes on with: --session {session} --resume"
            click.echo(text, err=True)
            raise


def _estimate(
    goldens: Path, factory: Factory, variant: str, overrides: Overrides, how: dict[str, Any]
) -> list[str]:
    from flightlog.golden.entries import chosen, load_suite

    entries = chosen(load_suite(goldens), how["tasks"] or None)
    estimate = estimated(entries, factory, variant, overrides, how["trials"])
    return [f"variant {variant!r}: nothing was replayed", *estimate.lines()]


def estimated(
    entries: Sequence[GoldenEntry],
    factory: Factory,
    variant: str,
    overrides: Overrides,
    trials: int,
) -> Estimate:
    """What a replay would take, priced on the candidate's model."""
    from flightlog.golden.estimate import Priced, estimate_replay
    from flightlog.golden.factory import Trial, make_agent
    from flightlog.runtime.model import Usage, provider_of
    from flightlog.runtime.prices import PriceTable

    def priced(entry: GoldenEntry) -> Priced:
        trial = Trial(entry.task, 0, variant, entry.tools, entry.recordings, overrides.model)
        agent = overrides.applied(make_agent(factory, trial), trial)
        prices, model = agent.prices or PriceTable(), agent.model

        def cost_of(usage: Usage) -> float | None:
            found = prices.cost(usage, (model.name,), provider_of(model))
            return None if found is None else found.usd

        return cost_of

    return estimate_replay(entries, trials, priced)


def _worst(codes: list[int]) -> int:
    """A failed side before one that could not be judged."""
    return 1 if 1 in codes else max(codes, default=0)
