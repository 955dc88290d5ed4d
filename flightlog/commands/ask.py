"""`flightlog ask`."""

from __future__ import annotations

from pathlib import Path

import click

from flightlog.commands.options import (
    format_option,
    key_values,
    opened_traces,
    stores_option,
    strict_option,
)


@click.command()
@click.argument("name", required=False, help="A question; without one, all are listed.")
@stores_option
@strict_option
@click.option(
    "-p",
    "--param",
    "params",
    multiple=True,
    callback=key_values,
    help="KEY=VALUE: a parameter of the question; repeat for more.",
)
@format_option
@click.option("--out", type=click.Path(path_type=Path), help="Write to a new file instead.")
def ask(
    name: str | None,
    stores: tuple[Path, ...],
    strict: bool,
    params: dict[str, str],
    form: str,
    out: Path | None,
) -> None:
    """Ask one of the ready questions; each is one SQL file.

    Parameters that every question takes: source, suite, model, variant (only runs of that
    one), and by (group by some of these, joined by commas).
    """
    from flightlog.analysis.questions import question, questions, without_empty_groups
    from flightlog.analysis.sandbox import write_result

    if name is None:
        for known in questions():
            click.echo(f"{known.name:<24} {known.title}")
        return
    asked = question(name)
    with opened_traces(stores, strict=strict) as traces:
        answer = asked.ask(traces, **params)
    write_result(without_empty_groups(answer) if form == "table" else answer, form=form, out=out)
