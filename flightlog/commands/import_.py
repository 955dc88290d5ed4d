"""`flightlog import`."""

from __future__ import annotations

from pathlib import Path

import click

from flightlog.commands.options import (
    config_option,
    key_values,
    prices_of,
    redaction_of,
    store_option,
)


@click.command("import")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--format",
    "form",
    required=True,
    help="otlp, langfuse, phoenix, mlflow, inspect, atif, swe-agent, tau-bench, tau2, agentdojo, "
    "run-lines or mapped.",
)
@click.option(
    "--mapping",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where what stands in a line, for --format mapped.",
)
@store_option
@click.option("--suite", help="Suite of the imported tasks; from the file by default.")
@click.option("--variant", help="Variant of the imported runs; from the file by default.")
@click.option(
    "--label",
    "labels",
    multiple=True,
    callback=key_values,
    help="KEY=VALUE: a label of the imported runs; repeat for more.",
)
@click.option(
    "--price",
    "is_priced",
    is_flag=True,
    help="Price calls that tell tokens and no cost, with the prices of their day.",
)
@config_option
def import_(
    files: tuple[Path, ...],
    form: str,
    mapping: Path | None,
    store: Path,
    suite: str | None,
    variant: str | None,
    labels: dict[str, str],
    is_priced: bool,
    config_file: Path | None,
) -> None:
    """Import foreign traces; each file whole or not at all, and never twice."""
    from flightlog.analysis.terminal import escape_terminal
    from flightlog.commands.progress import progress_bar
    from flightlog.integrations.importers import Changes, import_files

    with progress_bar("importing") as on_progress:
        reports = import_files(
            form,
            files,
            store,
            changes=Changes(suite, variant, labels, prices_of(config_file) if is_priced else None),
            redaction=redaction_of(config_file),
            on_progress=on_progress,
            mapping=mapping,
        )
    for report in reports:
        for line in report.lines():
            click.echo(escape_terminal(line))
