"""`flightlog fork` and `flightlog minimise`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flightlog.commands.options import config_option, redaction_of, store_option

if TYPE_CHECKING:
    from flightlog.golden.forking import ForkedRun, Forking
    from flightlog.recorder.recorder import Recorder
    from flightlog.replay.overlay import Overlay

_file = click.Path(path_type=Path, dir_okay=False)
_BUDGETS = ("max_steps", "max_seconds", "max_tool_calls", "max_usd", "max_tokens")


def _shared(command: Any) -> Any:
    """The options that say what is forked, where, and by whom."""
    options = (
        click.argument("run", help="Run id; 'last' works."),
        store_option,
        click.option("--agent", required=True, help="module:function that makes the agent."),
        click.option(
            "--step",
            type=click.IntRange(min=0),
            default=1,
            show_default=True,
            help="First step that the agent's own model answers.",
        ),
        click.option("--model", help="openai:NAME, anthropic:NAME, recorded, or a name."),
        click.option("--system", "--prompt", type=_file, help="File with the system prompt."),
        click.option("--agent-config", type=_file, help="Settings file with the policy to use."),
        click.option(
            "--goldens",
            type=click.Path(path_type=Path, file_okay=False),
            help="Golden tasks whose recordings of this task answer too.",
        ),
        click.option("--tools", "tools_file", type=_file, help="Declarations (effect, scopes)."),
        click.option("--overlay", type=_file, help="Overlay file: what goes wrong, and where."),
        click.option(
            "--budget",
            "budgets",
            multiple=True,
            metavar="NAME=LIMIT",
            help="Another limit, such as max_steps=5; repeat for more.",
        ),
        click.option(
            "--allow-host", "hosts", multiple=True, help="HOST[:PORT] to reach besides the model's."
        ),
        config_option,
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.command()
@_shared
@click.option(
    "--tool-result",
    "results",
    multiple=True,
    metavar="TOOL[#N]=RESULT",
    help="Another result of a tool's (nth) call: JSON, text, or @FILE.",
)
@click.option(
    "--trials", type=click.IntRange(min=1), default=1, show_default=True, help="How many forks."
)
@click.option("--variant", default="fork", show_default=True, help="Name of the new runs.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def fork(run: str, *, as_json: bool, trials: int, **how: Any) -> int:
    """Rerun a recorded run from a step on: another model, prompt, tool result or budget.

    Before the step the answers of the model are the recorded ones; tools answer from the
    recordings throughout, nothing runs live. Forks are recorded with the origin `fork`, which
    no comparison counts.

    Exit codes: 0 every fork came to an end, 2 one asked for what no recording holds.
    """
    from flightlog.analysis.terminal import escape_terminal
    from flightlog.golden.factory import load_factory
    from flightlog.golden.forking import fork_run

    factory = load_factory(how["agent"])
    with _recorder(how) as recorder:
        forked = _forked_run(run, how, recorder)
        report = fork_run(forked, factory, trials, sink=recorder, how=_forking(how, recorder))
    if as_json:
        click.echo(json.dumps(report.as_dict(), indent=2))
    else:
        for line in report.lines():
            click.echo(escape_terminal(line))
    return report.exit_code


@click.command()
@_shared
@click.option("--out", type=_file, help="Write the smallest overlay file there, not to stdout.")
def minimise(run: str, *, out: Path | None, **how: Any) -> int:
    """Find the smallest set of overlays that still ends a fork with the same stop reason.

    The set is that of --overlay, or the failures that the run itself recorded.

    Exit codes: 0 found, 2 the end is not the same each time.
    """
    from flightlog.analysis.terminal import escape_terminal
    from flightlog.errors import ExitCode, NothingToCompareError
    from flightlog.golden.factory import load_factory
    from flightlog.golden.forking import end_with, failures_of, overlays_text, save_overlays
    from flightlog.replay.minimise import minimise as minimised
    from flightlog.replay.overlay_files import read_overlays

    how |= {"results": (), "variant": "fork"}
    factory = load_factory(how["agent"])
    with _recorder(how) as recorder:
        forked = _forked_run(run, how, recorder)
        overlays = read_overlays(how["overlay"]) if how["overlay"] else failures_of(forked)
        if not overlays:
            raise NothingToCompareError(
                "the run recorded no failed call, so there is nothing to minimise",
                hint="Give overlays: --overlay FILE.",
            )
        forking = _forking({**how, "overlay": None}, recorder)
        end = end_with(forked.without_failures(), factory, sink=recorder, how=forking)
        found = minimised(overlays, end)
    enough = f"{len(found.kept)} of {len(overlays)} overlays are enough for {found.end}"
    told = [f"{enough} ({found.replays} replays)"]
    if not found.is_deterministic:
        told.append("the same overlays ended in two ways: this is one answer of several")
    for line in told:
        click.echo(escape_terminal(line), err=True)
    if out is not None:
        save_overlays(found.kept, out)
    elif found.kept:
        click.echo(escape_terminal(overlays_text(found.kept, where="stdout")), nl=False)
    return int(ExitCode.OK if found.is_deterministic else ExitCode.UNDECIDED)


def _recorder(how: dict[str, Any]) -> Recorder:
    from flightlog.recorder.layout import open_layout
    from flightlog.recorder.recorder import Recorder

    open_layout(how["store"])  # a misspelt store is not made
    return Recorder(how["store"], redaction=redaction_of(how["config_file"]))


def _forked_run(run: str, how: dict[str, Any], recorder: Recorder) -> ForkedRun:
    from flightlog.analysis.db import Traces
    from flightlog.analysis.timeline import resolve_run
    from flightlog.golden.entries import load_suite
    from flightlog.golden.files import load_tools
    from flightlog.golden.forking import ForkedRun
    from flightlog.golden.pin import task_of
    from flightlog.recorder.store import Store
    from flightlog.recorder.verify import require_intact
    from flightlog.replay.recordings import read_recordings

    with Traces(how["store"]) as traces:
        run_id = resolve_run(traces, run)
    store = Store.open(how["store"])
    require_intact(store)
    (recording,) = read_recordings(store, [run_id])
    task = task_of(recording)
    entries = load_suite(how["goldens"], redactor=recorder.redactor) if how["goldens"] else []
    same = [e for e in entries if e.golden.key == (task.suite, task.task_id)]
    given = {tool.name: tool for entry in same for tool in entry.tools}
    given |= load_tools(how["tools_file"]) if how["tools_file"] else {}
    return ForkedRun.of(
        recording,
        others=[one for entry in same for one in entry.recordings],
        given=given,
        redactor=recorder.redactor,
    )


def _forking(how: dict[str, Any], recorder: Recorder) -> Forking:
    import uuid

    from flightlog.commands.candidates import endpoint_of, overrides_of
    from flightlog.golden.forking import Forking
    from flightlog.replay.guard import Endpoint
    from flightlog.replay.overlay_files import read_overlays
    from flightlog.replay.replayer import Around

    file = how["overlay"]
    overlays = (*map(_result, how["results"]), *(read_overlays(file) if file else ()))
    return Forking(
        step=how["step"],
        overlays=overlays,
        overrides=overrides_of(how["model"], how["system"], how["agent_config"]),
        budgets=dict(map(_budget, how["budgets"])),
        variant=how["variant"],
        session_id=str(uuid.uuid4()),
        around=Around(tuple(Endpoint(*endpoint_of(text)) for text in how["hosts"])),
    )


def _budget(text: str) -> tuple[str, float]:
    from flightlog.errors import UnknownNameError, UsageError

    name, sign, value = text.partition("=")
    if not sign:
        raise UsageError(f"{text!r} is no budget", hint="Write NAME=LIMIT, such as max_steps=5.")
    if name not in _BUDGETS:
        raise UnknownNameError.of("budget", name, _BUDGETS)
    try:
        return name, int(value) if value.isdecimal() else float(value)
    except ValueError as error:
        raise UsageError(f"{value!r} is no limit", hint="Give a number from 0 up.") from error


def _result(text: str) -> Overlay:
    """The overlay that an option such as `search#2={"hits": []}` means."""
    from flightlog.commands.candidates import text_of
    from flightlog.errors import UsageError
    from flightlog.replay.overlay import Action, Overlay

    place, sign, value = text.partition("=")
    tool, has_nth, nth = place.partition("#")
    if not sign or not tool or (has_nth and not nth.isdecimal()):
        raise UsageError(
            f"{text!r} is no result of a tool", hint="Write TOOL=RESULT or TOOL#N=RESULT."
        )
    if value.startswith("@"):
        value = text_of(Path(value[1:]), "the result")
    try:
        parsed = json.loads(value)
    except (ValueError, RecursionError):
        parsed = value
    return Overlay(Action.REPLACE, tool=tool, nth=int(nth) if has_nth else None, value=parsed)
