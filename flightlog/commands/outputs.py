"""Options that say where a report goes: files by their ending, stdout as JSON, GitHub."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from flightlog.errors import UsageError

if TYPE_CHECKING:
    from flightlog.analysis.gate.verdict import Verdict

F = TypeVar("F", bound=Callable[..., Any])

ENDINGS: Final = {
    ".html": "html",
    ".md": "md",
    ".json": "json",
    ".xml": "junit",
    ".sarif": "sarif",
    ".txt": "text",
}
"""Ending of a file -> form of the report."""

files_option = click.option(
    "-o",
    "--output",
    "outputs",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a report, in the form of its ending: .html, .md, .json, .xml (JUnit), .sarif, "
    ".txt; repeat for more.",
)
json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print the result as JSON, and nothing else."
)
github_option = click.option(
    "--github",
    is_flag=True,
    help="In GitHub Actions: annotations, and the report in the summary of the step.",
)


def report_options(command: F) -> F:
    """Adds the options for a verdict's reports to a command."""
    for option in (github_option, json_option, files_option):
        command = option(command)
    return command


def forms_of(paths: Sequence[Path], known: Mapping[str, str] = ENDINGS) -> list[tuple[str, Path]]:
    """The form that each file asks for by its ending.

    Raises:
        UsageError: an ending that is none of them, one file twice, or no folder for it.
    """
    found = []
    for path in paths:
        form = known.get(path.suffix.lower())
        if form is None:
            raise UsageError(
                f"{str(path)!r} has no ending that names a form",
                hint=f"One of: {', '.join(known)}.",
            )
        if list(paths).count(path) > 1:
            raise UsageError(
                f"two reports are to go to {str(path)!r}, where one would overwrite the other",
                hint="Give each report a file of its own.",
            )
        if path.parent.exists() and not path.parent.is_dir():
            raise UsageError(f"cannot write {path}: its folder is a file")
        found.append((form, path))
    return found


def report(verdict: Verdict, how: Mapping[str, Any]) -> None:
    """Prints and writes a verdict as the options of `report_options` say.

    Raises:
        UsageError: as `forms_of`; give it the files before anything is paid for.
        StoreError: a file cannot be written.
    """
    from flightlog.analysis.reports.github import annotation_lines, write_step_summary
    from flightlog.analysis.reports.json_ import to_json
    from flightlog.analysis.reports.render import print_verdict, write_report

    quiet = how["as_json"]
    if quiet:
        click.echo(to_json(verdict), nl=False)
    else:
        print_verdict(verdict)
    for form, path in forms_of(how["outputs"]):
        write_report(verdict, path, form=form)
        click.echo(f"wrote {path}", err=quiet)
    if how["github"]:
        for line in annotation_lines(verdict):
            click.echo(line, err=quiet)
        summary = write_step_summary(verdict)
        if summary is not None:
            click.echo(f"wrote {summary}", err=True)
