"""`flightlog init`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import click

EXAMPLE_AGENT: Final = "my_agent:make_agent"
FILES: Final = {
    "flightlog.yaml": "flightlog.yaml",
    "goldens-README.md": "goldens/README.md",
}
"""Template -> place in the repository."""
CI_FILES: Final = {
    "github": {"github.yml": ".github/workflows/flightlog.yml"},
    "gitlab": {"gitlab.yml": "flightlog.gitlab-ci.yml"},
    "none": {},
}
_AGENT: Final = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*\Z", re.ASCII)


@click.command()
@click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    default=".",
    show_default=True,
    help="Folder of the repository.",
)
@click.option(
    "--agent",
    default=EXAMPLE_AGENT,
    show_default=True,
    metavar="MODULE:FUNCTION",
    help="What makes the agent, for the CI job.",
)
@click.option(
    "--ci",
    type=click.Choice(list(CI_FILES)),
    default="github",
    show_default=True,
    help="Which CI the job is for.",
)
def init(folder: Path, agent: str, ci: str) -> None:
    """Write flightlog.yaml, goldens/ and a CI job into a repository; nothing is overwritten."""
    from flightlog.errors import UsageError

    if not _AGENT.match(agent):
        raise UsageError(
            f"{agent!r} names no function", hint=f"Write MODULE:FUNCTION, such as {EXAMPLE_AGENT}."
        )
    for template, place in {**FILES, **CI_FILES[ci]}.items():
        path = folder / place
        text = template_text(template).replace("__AGENT__", agent)
        click.echo(f"{'wrote' if _written(path, text) else 'kept '} {path}")
    click.echo(
        "\nNext:\n"
        "  1. name your tools and budgets in flightlog.yaml, then: flightlog config check\n"
        "  2. record runs, and pin good ones: flightlog golden pin RUN --goldens goldens\n"
        "  3. see what the suite can find: flightlog plan\n"
        "  4. leave the store out of git: echo flightlog-store/ >> .gitignore\n"
        "  5. commit goldens/, flightlog.yaml and the CI job"
    )


def template_text(name: str) -> str:
    """The text of one template."""
    from importlib import resources

    folder = resources.files("flightlog.commands").joinpath("templates")
    return folder.joinpath(name).read_text(encoding="utf-8")


def _written(path: Path, text: str) -> bool:
    """True where the file was written; False where something is there already.

    Raises:
        UsageError: it cannot be written.
    """
    from flightlog.errors import UsageError

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
    except FileExistsError:
        if path.parent.is_dir():
            return False
        raise UsageError(f"cannot write {path}: {path.parent} is no folder") from None
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error
    return True
