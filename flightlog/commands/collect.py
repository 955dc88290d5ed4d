"""`flightlog collect`."""

from __future__ import annotations

from pathlib import Path

import click

from flightlog.commands.options import config_option, prices_of, redaction_of, store_option
from flightlog.errors import UsageError

TOKEN_VARIABLE = "FLIGHTLOG_COLLECT_TOKEN"  # noqa: S105  - its name
DEFAULT_PORT = 4318


@click.command()
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
    help="What senders have to give as a bearer token; better in the environment than here.",
)
@click.option(
    "--grace",
    type=click.FloatRange(0),
    default=2.0,
    show_default=True,
    help="Seconds to wait for more of a trace once its top has come.",
)
@click.option(
    "--idle",
    type=click.FloatRange(0),
    default=300.0,
    show_default=True,
    help="Seconds without a span after which a trace is recorded without its top.",
)
@click.option(
    "--max-request-mb",
    type=click.IntRange(1, 1024),
    default=32,
    show_default=True,
    help="Largest request, unpacked, in MiB.",
)
@click.option(
    "--max-waiting-mb",
    type=click.IntRange(1),
    default=128,
    show_default=True,
    help="Most of all requests that are not kept yet, in MiB; then senders are told to wait.",
)
@click.option(
    "--max-spans-per-second",
    type=click.FloatRange(0, min_open=True),
    help="On average; who sends more is told to wait. [default: no limit]",
)
@config_option
def collect(
    store: Path,
    host: str,
    port: int,
    token: str | None,
    grace: float,
    idle: float,
    max_request_mb: int,
    max_waiting_mb: int,
    max_spans_per_second: float | None,
    config_file: Path | None,
) -> None:
    """Receive OpenTelemetry spans over HTTP and record their runs.

    Senders use OTLP over HTTP, as protobuf or JSON: OTEL_EXPORTER_OTLP_ENDPOINT=http://HOST:PORT.
    A span that is acknowledged is kept, whatever happens to this process. Ends with Ctrl-C.
    """
    from flightlog.integrations.door import Door
    from flightlog.integrations.loopback import is_loopback
    from flightlog.integrations.otlp.collector import Collector, Waits
    from flightlog.integrations.otlp.intake import Limits
    from flightlog.integrations.otlp.server import app_of
    from flightlog.integrations.serving import serve

    if not is_loopback(host) and not token:
        raise UsageError(
            f"anybody who reaches {host} could send without a token",
            hint=f"Set {TOKEN_VARIABLE}, or listen on 127.0.0.1.",
        )
    limits = Limits(max_request_mb << 20, max_waiting_mb << 20, max_spans_per_second)
    with Collector(
        store,
        redaction=redaction_of(config_file),
        prices=prices_of(config_file),
        limits=limits,
        waits=Waits(grace, idle),
    ) as collector:
        app = app_of(collector, Door(token, only_loopback=is_loopback(host) and not token))

        def told(at: str) -> None:
            click.echo(f"collecting into {store}: OTEL_EXPORTER_OTLP_ENDPOINT={at}")

        serve(app, host, port, on_ready=told)
        collector.close()
        counts, recorded = collector.intake.counts, collector.recorded
        click.echo(
            f"{counts.spans:,} spans kept, {recorded.tally.runs:,} runs and "
            f"{recorded.tally.events:,} events recorded"
        )
