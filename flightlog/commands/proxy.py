"""`flightlog proxy`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flightlog.commands.options import config_option, prices_of, redaction_of, store_option
from flightlog.errors import GoldenError, StoreError, UsageError

if TYPE_CHECKING:
    from flightlog.integrations.proxy.recorded import Clean, RecordedAnswers
    from flightlog.recorder.recorder import Recorder
    from flightlog.replay.cassette import Recording

TOKEN_VARIABLE = "FLIGHTLOG_PROXY_TOKEN"  # noqa: S105  - its name
TOKEN_HEADER = "x-flightlog-token"  # noqa: S105  - its name
DEFAULT_PORT = 4319


@click.command()
@click.option("--upstream", metavar="URL", help="API that requests go on to.")
@click.option(
    "--replay",
    "sources",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    multiple=True,
    help="Answer from the runs of a store, or a folder of goldens, instead; repeat for more.",
)
@click.option("--run", "run_ids", multiple=True, help="Replay only this run; repeat for more.")
@click.option("--ignore-system", is_flag=True, help="In replay, system prompts may differ.")
@store_option
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=DEFAULT_PORT,
    show_default=True,
    help="Port to listen on; 0 takes a free one.",
)
@click.option(
    "--token",
    envvar=TOKEN_VARIABLE,
    show_envvar=True,
    help=f"What clients have to give in {TOKEN_HEADER}; better in the environment than here.",
)
@click.option("--provider", help="Provider of the models. [default: by the upstream's name]")
@click.option(
    "--idle",
    type=click.FloatRange(0, min_open=True),
    default=300.0,
    show_default=True,
    help="Seconds without a request after which a run is over.",
)
@click.option(
    "--stall",
    type=click.FloatRange(0, min_open=True),
    default=600.0,
    show_default=True,
    help="Longest silence of the upstream, in seconds.",
)
@click.option(
    "--max-request-mb",
    type=click.IntRange(1, 1024),
    default=64,
    show_default=True,
    help="Largest request, in MiB.",
)
@config_option
def proxy(
    upstream: str | None,
    sources: tuple[Path, ...],
    run_ids: tuple[str, ...],
    ignore_system: bool,
    store: Path,
    host: str,
    port: int,
    token: str | None,
    provider: str | None,
    idle: float,
    stall: float,
    max_request_mb: int,
    config_file: Path | None,
) -> None:
    """Record what an agent says to its model's API, or answer for it.

    Give an SDK of any language this address as its base URL. OpenAI's chat completions and
    responses and Anthropic's messages are recorded, plain and in pieces; all else passes. With
    --replay the recorded answers come back and nothing goes out. Ends with Ctrl-C.
    """
    from flightlog.integrations.door import Door
    from flightlog.integrations.loopback import is_loopback
    from flightlog.integrations.proxy.book import Book
    from flightlog.integrations.proxy.server import Proxying, app_of
    from flightlog.integrations.proxy.upstream import Upstream
    from flightlog.integrations.serving import serve
    from flightlog.recorder.recorder import Recorder
    from flightlog.trace.vocab import Origin

    if (upstream is None) == (not sources):
        raise UsageError(
            "where do answers come from?", hint="Give --upstream URL, or --replay STORE."
        )
    if not sources and (run_ids or ignore_system):
        raise UsageError("--run and --ignore-system are of --replay", hint="Add --replay STORE.")
    if not is_loopback(host) and not token:
        raise UsageError(
            f"anybody who reaches {host} could use it without a token",
            hint=f"Set {TOKEN_VARIABLE}, or listen on 127.0.0.1.",
        )
    with ExitStack() as closing:
        to = Upstream(upstream, stall_s=stall) if upstream is not None else None
        recorder = closing.enter_context(Recorder(store, redaction=redaction_of(config_file)))
        recorded = _recorded(sources, run_ids, recorder, ignore_system) if sources else None
        origin = Origin.LIVE if to is not None else Origin.REPLAY
        book = Book(recorder, prices=prices_of(config_file), idle_s=idle, origin=origin)
        closing.callback(book.close)
        door = Door(token, only_loopback=is_loopback(host) and not token, header=TOKEN_HEADER)
        proxying = Proxying(
            book,
            door,
            upstream=to,
            recorded=recorded,
            provider=provider,
            request_bytes=max_request_mb << 20,
        )

        def told(at: str) -> None:
            what = f"recording into {store}" if to is not None else f"replaying into {store}"
            click.echo(f"{what}: OPENAI_BASE_URL={at}/v1 ANTHROPIC_BASE_URL={at}")

        serve(app_of(proxying), host, port, on_ready=told, extra="proxy")
        book.close()
        _tell(book)


def _tell(book: Any) -> None:
    counts = book.counts
    click.echo(f"{counts.runs:,} runs, {counts.calls:,} model calls recorded")
    if counts.unread:
        click.echo(f"{counts.unread:,} requests could not be read and only passed on", err=True)
    if counts.lost:
        from flightlog.trace.terminal_text import escape_terminal

        why = escape_terminal(book.last_error or "the store took no more")
        click.echo(f"{counts.lost:,} calls and ends were not recorded: {why}", err=True)


def _recorded(
    sources: Sequence[Path], run_ids: Sequence[str], recorder: Recorder, ignores_system: bool
) -> RecordedAnswers:
    """The recorded answers of stores and goldens.

    Raises:
        GoldenError: there is none among them.
    """
    from flightlog.integrations.proxy.recorded import RecordedAnswers

    recordings: list[Recording] = []
    cleaners: list[Clean] = []
    for source in sources:
        found, cleaner = _from_store(source, run_ids, recorder) or (_from_goldens(source), None)
        wanted = [one for one in found if not run_ids or one.run_id in run_ids]
        recordings += wanted
        if cleaner is not None:
            cleaners.append(cleaner)
    answers = RecordedAnswers(recordings, ignores_system=ignores_system, cleaners=cleaners)
    if not answers.answers:
        raise GoldenError(
            f"no answer of a model in {len(recordings)} recordings",
            where=", ".join(map(str, sources)),
            hint="Give a store, or goldens, whose runs were recorded with their messages.",
        )
    click.echo(
        f"{answers.answers:,} answers of {len(recordings):,} runs, {answers.left_out:,} left out"
    )
    return answers


def _from_store(
    source: Path, run_ids: Sequence[str], recorder: Recorder
) -> tuple[list[Recording], Clean | None] | None:
    """The runs of a store, and what brings a message into the form in which it keeps them."""
    from flightlog.control.control import CONTROL_FOLDER
    from flightlog.control.redacting import redactor_at
    from flightlog.recorder.store import Store
    from flightlog.replay.recordings import read_recordings
    from flightlog.trace.vocab import Origin

    try:
        store = Store.open(source)
    except StoreError:
        if any(source.glob("*/task.yaml")):
            return None
        raise
    found = read_recordings(store, list(run_ids) or None)
    if not run_ids:
        made = (Origin.REPLAY, Origin.FORK)
        found = [one for one in found if one.started and one.started.origin not in made]
    redactor = recorder.redactor
    if redactor is not None and source.resolve() != recorder.store_path.resolve():
        redactor = redactor_at(source / CONTROL_FOLDER, redaction_of(None))
    if redactor is None:
        return found, None
    used = redactor
    return found, lambda message: used.message(message, used.work(message.size_bytes))[0]


def _from_goldens(source: Path) -> list[Recording]:
    from flightlog.golden.recording_files import load_recording, recording_files
    from flightlog.golden.task import TASK_FILE

    tasks = sorted(source.glob(f"*/{TASK_FILE}"))
    return [load_recording(file) for task in tasks for file in recording_files(task.parent)]
