"""`flightlog baseline`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flightlog.commands.gating import metric_options
from flightlog.commands.options import stores_option

if TYPE_CHECKING:
    from flightlog.golden.baselines import Baseline

baselines_option = click.option(
    "--baselines",
    type=click.Path(path_type=Path, file_okay=False),
    default="baselines",
    envvar="FLIGHTLOG_BASELINES",
    show_default=True,
    show_envvar=True,
    help="Folder of pinned baselines.",
)
_json = click.option("--json", "as_json", is_flag=True, help="As JSON.")


@click.group()
def baseline() -> None:
    """Pin the runs that later ones are compared with, as a small store without texts.

    `flightlog check --baseline @NAME` compares with it.
    """


@baseline.command(name="set")
@click.argument("name")
@stores_option
@click.option("--side", default="variant=baseline", show_default=True, help="Which runs.")
@baselines_option
@click.option(
    "--goldens",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keep their contracts too, so that a check can say what was loosened.",
)
@metric_options
@click.option("--replace", is_flag=True, help="Replace the one of this name.")
def set_(
    name: str,
    stores: tuple[Path, ...],
    side: str,
    baselines: Path,
    goldens: Path | None,
    **how: Any,
) -> None:
    """Pin the runs of a side, and what a check demands now."""
    from flightlog.analysis.db import Traces
    from flightlog.analysis.gate.selection import Side
    from flightlog.commands.gating import gating_of
    from flightlog.commands.revision import head_labels, resolved_side
    from flightlog.golden.baselines import pin_baseline
    from flightlog.golden.guard import state_of

    gating = gating_of(how)
    with Traces(*stores) as traces:
        made = pin_baseline(
            traces,
            Side.parse(resolved_side(side)),
            _folder(baselines, name),
            state_of(gating.metrics, gating.gated, goldens),
            revision=head_labels().get("git_revision"),
            replaces=how["replace"],
        )
    for line in _lines(made):
        click.echo(line)


@baseline.command()
@click.argument("name")
@baselines_option
@_json
def show(name: str, baselines: Path, *, as_json: bool) -> None:
    """Show what a pinned baseline holds and demanded."""
    from flightlog.golden.baselines import load_baseline

    found = load_baseline(_folder(baselines, name))
    if as_json:
        about = {**_facts(found), "state": found.state.to_json()}
        click.echo(json.dumps(about, indent=1))
        return
    for line in _lines(found):
        click.echo(line)
    gates = [
        f"{metric} ({demand.tolerance * 100:g} %)"
        for metric, demand in found.state.metrics.items()
        if demand.gates
    ]
    click.echo(_plain(f"gates: {', '.join(gates)}"))
    if found.state.goldens is not None:
        click.echo(f"golden tasks: {len(found.state.goldens)}")
    for folder, why in found.state.quarantined.items():
        click.echo(_plain(f"in quarantine: {folder} {why}"))


@baseline.command(name="list")
@baselines_option
@_json
def list_(baselines: Path, *, as_json: bool) -> None:
    """List the pinned baselines of the folder."""
    from flightlog.golden.baselines import baselines_in

    found = baselines_in(baselines)
    if as_json:
        click.echo(json.dumps([_facts(one) for one in found], indent=1))
        return
    for one in found:
        click.echo(_lines(one)[0])
    if not found:
        click.echo(_plain(f"no pinned baseline in {baselines}"))


def pinned(name: str, baselines: Path) -> Baseline:
    """The pinned baseline that `@NAME` means.

    Raises:
        NothingToCompareError: there is none.
    """
    from flightlog.golden.baselines import load_baseline

    return load_baseline(_folder(baselines, name.removeprefix("@")))


def _folder(baselines: Path, name: str) -> Path:
    from flightlog.errors import UsageError

    if not name or name in (".", "..") or Path(name).name != name or name.startswith((".", "-")):
        raise UsageError(f"{name!r} is no name of a baseline", hint="One word, such as main.")
    return baselines / name


def _facts(one: Baseline) -> dict[str, Any]:
    return {
        "name": one.name,
        "folder": str(one.folder),
        "side": one.side,
        "sources": list(one.sources),
        "made_at": one.made_at,
        "runs": one.runs,
        "tasks": one.tasks,
        "sessions": one.sessions,
        "revision": one.revision,
        "size_bytes": one.size_bytes,
    }


def _lines(one: Baseline) -> list[str]:
    from flightlog.analysis.wording import counted

    commit = f", commit {one.revision[:12]}" if one.revision else ""
    held = f"{counted(one.runs, 'run')} of {counted(one.tasks, 'task')} in "
    held += f"{counted(one.sessions, 'session')}, {one.side} of {', '.join(one.sources)}"
    lines = [f"@{one.name}: {held}, {one.made_at}{commit}, {one.size_bytes:,} bytes"]
    if one.sessions < 3:
        lines.append(
            "with fewer than 3 sessions latency, tokens and cost are advisory against it: they "
            "follow the day. Better run the baseline again beside the candidate: flightlog gate"
        )
    return [_plain(line) for line in lines]


def _plain(text: str) -> str:
    from flightlog.analysis.terminal import escape_terminal

    return escape_terminal(text)
