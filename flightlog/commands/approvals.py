"""`flightlog approvals`."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from flightlog.commands.changes import (
    echo,
    record_changes,
    short_text,
    user_at_host,
    warn_unrecorded,
)
from flightlog.commands.options import control_of, store_option
from flightlog.errors import UsageError

if TYPE_CHECKING:
    from flightlog.control.approval import Approval, WriteRequest
    from flightlog.control.approvals import ApprovalQueue

LISTED_CHARS: Final = 80
SHOWN_CHARS: Final = 4000
"""Of one argument, before it is approved; longer ones are read with `show` and pinned."""

who_option = click.option("--who", callback=short_text, help="Who decides.  [default: user@host]")
why_option = click.option(
    "--why", default="", callback=short_text, help="The reason; shown to the agent and in traces."
)
json_option = click.option("--json", "as_json", is_flag=True, help="As JSON, with every field.")


@click.group()
def approvals() -> None:
    """Decide the writes that agents ask for.

    An approval holds for one agent, tenant, task, tool and these very arguments, and
    one run can use it once. ID may be the beginning of an id.
    """


@approvals.command(name="list")
@click.option("--all", "everything", is_flag=True, help="Decided, used and expired ones too.")
@json_option
@store_option
def list_(everything: bool, as_json: bool, store: Path) -> None:
    """List the requests that wait for a decision or for their run."""
    now_s = time.time()
    kept = _queue(store).requests(now_s)
    found = [one for one in kept if everything or _is_open(one)]
    if as_json:
        click.echo(json.dumps([_plain(one) for one in found], indent=2))
    elif found:
        _print_table(found, now_s)
    else:
        decided = f"; {len(kept)} with --all" if kept else ""
        echo(f"no request waits{decided}")


@approvals.command()
@click.argument("approval_id", metavar="ID")
@json_option
@store_option
def show(approval_id: str, as_json: bool, store: Path) -> None:
    """Show one request whole."""
    found = _queue(store).find(approval_id, time.time())
    if as_json:
        click.echo(json.dumps(_plain(found), indent=2))
        return
    _print_request(found, max_chars=None)
    if found.decided_by is not None:
        why = f": {found.why}" if found.why else ""
        echo(f"  decided   by {found.decided_by}, {_time(found.decided_at_us)}{why}")
    if found.taken_by is not None:
        echo(f"  taken by  run {found.taken_by}")


@approvals.command()
@click.argument("approval_id", metavar="ID")
@click.option("--digest", help="Only if the arguments have this digest, as `show` tells it.")
@who_option
@why_option
@store_option
def approve(approval_id: str, digest: str | None, who: str | None, why: str, store: Path) -> None:
    """Approve one write; shows it first."""
    _decide(store, approval_id, is_approved=True, by=(who, why), digest=digest)


@approvals.command()
@click.argument("approval_id", metavar="ID")
@who_option
@why_option
@store_option
def deny(approval_id: str, who: str | None, why: str, store: Path) -> None:
    """Deny one write; shows it first."""
    _decide(store, approval_id, is_approved=False, by=(who, why), digest=None)


def _decide(
    store: Path,
    approval_id: str,
    *,
    is_approved: bool,
    by: tuple[str | None, str],
    digest: str | None,
) -> None:
    from flightlog.control.approval import ApprovalState

    queue = _queue(store)
    found = queue.find(approval_id, time.time())
    if found.state is ApprovalState.PENDING:
        is_cut = _print_request(found, max_chars=SHOWN_CHARS)
        if is_approved and is_cut and digest is None:
            raise UsageError(
                f"approval {found.id} was not given: its arguments are too long to be shown here",
                hint=f"Read them with: flightlog approvals show {found.id}\n"
                f"  Then approve with: --digest {found.write.args_digest}",
            )
    decided = queue.decide(
        found.id,
        is_approved=is_approved,
        who=by[0] or user_at_host(),
        why=by[1],
        now_s=time.time(),
        # What was shown is what is decided, even if the row changes in between.
        digest=digest or found.write.args_digest,
    )
    problem = _record(store, decided)
    until = f"; one run can use it until {_time(decided.expires_at_us)}" if is_approved else ""
    echo(f"{decided.state.value} {decided.id}, by {decided.decided_by}{until}")
    warn_unrecorded(problem)


def _record(store: Path, decided: Approval) -> str | None:
    """Records a decision. The run may be over, so the event belongs to none."""
    from flightlog.trace.events import StateChanged

    write = decided.write
    why = f": {decided.why}" if decided.why else ""
    detail = (
        f"approval {decided.id} of run {write.run_id}, step {write.step}, "
        f"arguments {write.args_digest}, by {decided.decided_by}{why}"
    )
    change = StateChanged(
        run_id="",
        seq=decided.decided_at_us or 0,
        at=decided.decided_at_us,
        subject="approval",
        tool_name=write.tool,
        state_from="pending",
        state_to=decided.state.value,
        detail=detail,
    )
    return record_changes(store, [change])


def _queue(store: Path) -> ApprovalQueue:
    """The queue of an existing store; nothing is made."""
    return control_of(store).approvals


def _print_request(found: Approval, *, max_chars: int | None) -> bool:
    """Shows what is asked for; True when a part was left out."""
    from flightlog.control.approval_text import write_lines

    lines, is_cut = write_lines(found.write, max_chars=max_chars)
    state = f"approval {found.id}: {found.state.value}"
    echo(f"{state}, asked {_time(found.created_at_us)}, expires {_time(found.expires_at_us)}")
    for line in lines:
        echo(line)
    return is_cut


def _print_table(found: list[Approval], now_s: float) -> None:
    import pyarrow as pa

    from flightlog.analysis.tables import print_table
    from flightlog.control.approval_text import shown_text

    def shown(name: str | None) -> str | None:
        return None if name is None else shown_text(name)

    rows = [
        {
            "id": one.id,
            "state": one.state.value,
            "agent": shown(one.write.agent),
            "tenant": shown(one.write.tenant),
            "task": shown(one.write.task_id),
            "tool": f"{shown_text(one.write.tool)} ({one.write.effect.value})",
            "arguments": _short(one.write.args),
            "expires": _left(one.expires_at_us / 1e6 - now_s) if _is_open(one) else None,
        }
        for one in found
    ]
    schema = pa.schema([(name, pa.string()) for name in rows[0]])
    print_table(pa.Table.from_pylist(rows, schema=schema))


def _is_open(one: Approval) -> bool:
    """Waits for its decision or for its run."""
    from flightlog.control.approval import ApprovalState

    return one.state in (ApprovalState.PENDING, ApprovalState.APPROVED)


def _short(args: str) -> str:
    from flightlog.control.approval_text import shown_text

    if len(args) <= LISTED_CHARS:
        return shown_text(args)
    return f"{shown_text(args[:LISTED_CHARS])}... ({len(args)} characters)"


def _left(seconds: float) -> str:
    if seconds <= 0:
        return "over"
    return f"in {seconds:.0f} s" if seconds < 120 else f"in {seconds / 60:.0f} min"


def _time(at_us: int | None) -> str:
    if at_us is None:
        return "-"
    return f"{datetime.fromtimestamp(at_us // 1_000_000, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _plain(found: Approval) -> dict[str, Any]:
    """A request as JSON; times in UTC."""
    write = found.write
    times = {
        "created_at": found.created_at_us,
        "expires_at": found.expires_at_us,
        "decided_at": found.decided_at_us,
    }
    return {
        "id": found.id,
        "state": found.state.value,
        "agent": write.agent,
        "tenant": write.tenant,
        "task_id": write.task_id,
        "task_digest": write.task_digest,
        "run_id": write.run_id,
        "step": write.step,
        "tool": write.tool,
        "effect": write.effect.value,
        "args": _args(write),
        "args_digest": write.args_digest,
        **{name: _iso(at_us) for name, at_us in times.items()},
        "decided_by": found.decided_by,
        "why": found.why,
        "taken_by": found.taken_by,
    }


def _args(write: WriteRequest) -> dict[str, Any] | None:
    """The arguments; None where a row was damaged, which can be denied but never approved."""
    try:
        return write.values
    except (ValueError, RecursionError):
        return None


def _iso(at_us: int | None) -> str | None:
    if at_us is None:
        return None
    return f"{datetime.fromtimestamp(at_us / 1e6, UTC):%Y-%m-%dT%H:%M:%S.%f}Z"
