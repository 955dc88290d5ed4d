"""`flightlog demo`: the whole main job, offline, in seconds."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flightlog.errors import UsageError

if TYPE_CHECKING:
    from flightlog.analysis.gate.verdict import Verdict

TRIALS = 3
SESSION = "demo"
_MARK = "FLIGHTLOG-DEMO"
_AGENTS = "flightlog.commands.demo_agent"


@click.command()
@click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    default="flightlog-demo",
    show_default=True,
    help="Folder for the store, the goldens and the reports; made anew each time.",
)
def demo(folder: Path) -> int:
    """Record, pin, replay and gate a small agent: no key, no server, no network.

    Exits 1, as a gate must: one of the two candidates has drifted.
    """
    from flightlog.analysis.reports.render import print_verdict

    _fresh(folder)
    store, goldens = folder / "store", folder / "goldens"
    click.echo("1/4  run the baseline agent in bounds and record it")
    run_ids = _record_baseline(store)
    click.echo(f"     {len(run_ids)} runs of {len(run_ids) // TRIALS} tasks in {store}")
    click.echo("2/4  pin its runs as golden tasks")
    click.echo(f"     {_pin(store, run_ids, goldens)} golden tasks in {goldens}")
    click.echo("3/4  replay them on two candidates; tools answer from the recordings")
    for variant in ("steady", "drifted"):
        click.echo(f"     {variant}: {_replay(store, goldens, variant)}")
    click.echo("4/4  compare each candidate with the baseline\n")
    steady, drifted = (_verdict(store, variant) for variant in ("steady", "drifted"))
    print_verdict(steady, brief=True)
    click.echo()
    print_verdict(drifted)
    for path in _write_reports(folder, drifted):
        click.echo(f"wrote {path}")
    click.echo(_next_commands(folder))
    return drifted.exit_code()


def _fresh(folder: Path) -> None:
    if folder.exists():
        if any(folder.iterdir()) and not (folder / _MARK).exists():
            raise UsageError(
                f"{folder} is not empty and not a demo folder",
                hint="Choose another one: flightlog demo --dir NAME",
            )
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    (folder / _MARK).write_text("Made by `flightlog demo`; may be deleted.\n", encoding="utf-8")


def _record_baseline(store: Path) -> list[str]:
    import asyncio

    from flightlog.commands.demo_agent import live_agent, tasks
    from flightlog.commands.progress import progress_bar
    from flightlog.recorder.recorder import Recorder
    from flightlog.runtime.loop import RunContext, run_async
    from flightlog.trace.clock import SystemClock, VirtualClock

    run_ids = []
    todo = [(task, trial) for trial in range(TRIALS) for task in tasks()]
    with Recorder(store) as recorder, progress_bar("recording the baseline") as on_progress:
        for done, (task, trial) in enumerate(todo, 1):
            clock = VirtualClock(SystemClock().wall_us())
            context = RunContext(variant="baseline", trial=trial, session_id=SESSION)
            agent = live_agent(task, trial, clock)
            result = asyncio.run(
                run_async(agent, task, sink=recorder, clock=clock, context=context)
            )
            result.writer.evaluation(passed=result.status == "completed")
            run_ids.append(result.run_id)
            on_progress(done, len(todo))
    return run_ids


def _pin(store: Path, run_ids: list[str], goldens: Path) -> int:
    from flightlog.golden.pin import pin_runs
    from flightlog.recorder.store import Store

    return len(pin_runs(Store.open(store), run_ids, goldens).tasks)


def _replay(store: Path, goldens: Path, variant: str) -> str:
    from flightlog.commands.progress import progress_bar
    from flightlog.golden.suite import Replaying, load_factory, replay_suite
    from flightlog.recorder.recorder import Recorder

    factory = load_factory(f"{_AGENTS}:{variant}")
    with Recorder(store) as recorder, progress_bar(f"replaying {variant}") as on_progress:
        report = replay_suite(
            goldens,
            factory,
            recorder=recorder,
            variant=variant,
            trials=TRIALS,
            session_id=SESSION,
            how=Replaying(on_progress=on_progress),
        )
    return report.sentence()


def _verdict(store: Path, variant: str) -> Verdict:
    from flightlog.analysis.db import Traces
    from flightlog.analysis.gate.drift import compare

    with Traces(store) as traces:
        return compare(traces, "baseline", variant)


def _write_reports(folder: Path, verdict: Verdict) -> list[Path]:
    from flightlog.analysis.db import Traces
    from flightlog.analysis.plots import plot_budgets
    from flightlog.analysis.reports.render import write_report

    with Traces(folder / "store") as traces:
        plot = plot_budgets(traces, folder / "budgets.png", variants=("baseline", "drifted"))
    return [
        write_report(verdict, folder / "report.html", form="html", plot=plot),
        write_report(verdict, folder / "report.md", form="md"),
        plot,
    ]


def _next_commands(folder: Path) -> str:
    store = f"--store {folder / 'store'}"
    return "\n".join(
        (
            "\nTry next:",
            f"  flightlog check {store} --baseline baseline --candidate steady",
            f"  flightlog runs {store}",
            f"  flightlog show last {store}",
            f"  flightlog ask tool_histogram {store}",
            f'  flightlog sql {store} "select variant, avg(tool_calls) from runs group by variant"',
            f"  flightlog replay {folder / 'goldens'} {store} --agent {_AGENTS}:drifted",
        )
    )
