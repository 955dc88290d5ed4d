"""`flightlog replay`."""

from __future__ import annotations

from pathlib import Path

import click

from flightlog.commands.options import config_option, redaction_of, store_option


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
@config_option
@click.option("--quiet", is_flag=True, help="No progress bar.")
def replay(
    goldens: Path,
    agent: str,
    store: Path,
    variant: str,
    trials: int,
    tasks: tuple[str, ...],
    session: str | None,
    config_file: Path | None,
    quiet: bool,
) -> int:
    """Replay golden tasks on a candidate; tools answer from the recordings, nothing runs live.

    Exit codes: 0 every replay passed, 1 one failed, 2 one could not be judged.
    """
    from flightlog.analysis.terminal import escape_terminal
    from flightlog.commands.progress import progress_bar
    from flightlog.golden.suite import Replaying, load_factory, replay_suite
    from flightlog.recorder.recorder import Recorder

    factory = load_factory(agent)
    redaction = redaction_of(config_file)
    with (
        Recorder(store, redaction=redaction) as recorder,
        progress_bar("replaying", enabled=not quiet) as on_progress,
    ):
        report = replay_suite(
            goldens,
            factory,
            recorder=recorder,
            variant=variant,
            trials=trials,
            tasks=tasks or None,
            session_id=session,
            how=Replaying(on_progress=on_progress),
        )
    for line in report.lines():
        click.echo(escape_terminal(line))
    return report.exit_code
