"""`flightlog doctor`."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from flightlog.commands.amounts import SIZE, SPAN
from flightlog.commands.changes import echo, record_changes, user_at_host
from flightlog.commands.options import store_option
from flightlog.errors import ExitCode, RecorderError, UsageError

if TYPE_CHECKING:
    from flightlog.analysis.health import Finding

_SHOWN: Final = 20
_SHOWN_CHARS: Final = 400
_TITLES: Final = {
    "write_in_doubt": "Writes in doubt",
    "damage": "Damage",
    "unreadable": "Could not be looked into",
    "gap": "Gaps",
    "removal": "Removals that are not finished",
    "unsealed": "Not sealed",
    "uncollected": "Not recorded yet",
    "run_without_end": "Runs without an end",
    "quarantine": "Quarantine",
    "kill_switch": "Kill switch",
    "breaker": "Breakers",
    "approval": "Approvals",
    "permissions": "Permissions",
    "disk_space": "Disk",
    "clock": "Clock",
}


class _Number(click.ParamType[int | None]):
    """A step or a call; `-` where the recorder of the run gave none."""

    name = "number"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | None:
        if value == "-":
            return None
        try:
            return int(value)
        except ValueError:
            self.fail(f"{value!r} is not a number; '-' means none was recorded", param, ctx)


@click.group(invoke_without_command=True)
@store_option
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
@click.option(
    "--since", "since_s", type=SPAN, help="Gaps, quarantine, expiry: only of so long, such as 7d."
)
@click.option("--min-free", type=SIZE, default="1GB", show_default=True, help="Free disk space.")
@click.pass_context
def doctor(
    ctx: click.Context, store: Path, as_json: bool, since_s: float | None, min_free: float
) -> None:
    """Tell what is wrong with a store, or waits for somebody; exit 1 if anything is.

    First the writes in doubt: called in a run that ended before their outcome was known.
    """
    if ctx.invoked_subcommand is not None:
        return
    from flightlog.analysis.health import examine, in_order
    from flightlog.integrations.otlp.left import left_behind

    now_s = time.time()
    since = None if since_s is None else datetime.fromtimestamp(max(0.0, now_s - since_s), UTC)
    findings = examine(store, since=since, min_free_bytes=min_free, now_s=now_s)
    findings = in_order([*findings, *left_behind(store)])
    if as_json:
        shown = {"store": str(store), "healthy": not findings, "findings": _plain(findings)}
        click.echo(json.dumps(shown, indent=2, default=_json_text))
    else:
        _print(store, findings)
    if findings:
        ctx.exit(ExitCode.DRIFT)


@doctor.command()
@click.argument("run")
@click.argument("step", type=_Number())
@click.argument("call", type=_Number())
@click.option("--done/--not-done", "is_done", default=None, help="Whether it took effect.")
@click.option("--why", required=True, help="How you know; kept in the trace.")
@click.option("--who", help="Who looked.  [default: user@host]")
@store_option
@click.pass_context
def settle(
    ctx: click.Context,
    run: str,
    step: int | None,
    call: int | None,
    is_done: bool | None,
    why: str,
    who: str | None,
    store: Path,
) -> None:
    """Say whether a write in doubt was done; the answer is recorded.

    Doctor does not list the write any more.

    RUN is a run id or a unique start of one, STEP and CALL as doctor shows them.
    """
    from flightlog.analysis.db import Traces
    from flightlog.analysis.settling import settling

    if is_done is None or not why.strip():
        raise UsageError(
            "say whether the write was done, and how you know",
            hint="Give --done or --not-done, and --why TEXT.",
        )
    store = _store_of(ctx, store)
    with Traces(store) as traces:
        settled = settling(
            traces, run, (step, call), is_done=is_done, who=who or user_at_host(), why=why
        )
    problem = record_changes(store, settled.changes)
    if problem is not None:
        raise RecorderError(
            f"not settled, since it could not be recorded: {problem}", where=str(store)
        )
    for row in settled.writes:
        state = "done" if is_done else "not done"
        echo(f"{state}: {row['tool_name']} of run {row['run_id']}, attempt {row['attempt']}")


def _store_of(ctx: click.Context, store: Path) -> Path:
    """The store of the command, which may have been given before its name too."""
    given = click.core.ParameterSource.COMMANDLINE
    before = ctx.parent
    assert before is not None
    is_before = before.get_parameter_source("store") is given
    if is_before and ctx.get_parameter_source("store") is not given:
        return Path(before.params["store"])
    return store


def _print(store: Path, findings: Sequence[Finding]) -> None:
    from flightlog.analysis.wording import counted
    from flightlog.trace.terminal_text import escape_terminal

    if not findings:
        echo(f"ok: nothing is wrong with {store}")
        return
    echo(f"{counted(len(findings), 'finding')} in {store}")
    for kind in dict.fromkeys(finding.kind for finding in findings):
        of_kind = [finding for finding in findings if finding.kind == kind]
        echo(f"{_TITLES[kind]}: {len(of_kind)}")
        for finding in of_kind[:_SHOWN]:
            at = "" if finding.at is None else f"{finding.at:%Y-%m-%d %H:%M:%S} "
            click.echo("  " + escape_terminal(f"{at}{finding.what}", max_chars=_SHOWN_CHARS))
            echo(f"    {finding.do}")
        if len(of_kind) > _SHOWN:
            echo(f"  and {len(of_kind) - _SHOWN} more: --json lists all")


def _plain(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    return [
        {
            "kind": finding.kind,
            "what": finding.what,
            "do": finding.do,
            "at": finding.at,
            "details": finding.details,
        }
        for finding in findings
    ]


def _json_text(value: Any) -> str:
    """Times in UTC; the views give theirs without a zone."""
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC) if value.tzinfo else value:%Y-%m-%dT%H:%M:%S.%f}Z"
    raise TypeError(f"no JSON for {type(value).__name__}")
