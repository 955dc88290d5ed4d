"""`flightlog verify`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from flightlog.commands.options import store_option
from flightlog.errors import DamagedError

if TYPE_CHECKING:
    from flightlog.recorder.audit import AuditReport
    from flightlog.recorder.store import Store
    from flightlog.recorder.verify import VerifyReport


_PRINT: Final = "print"


@click.command()
@store_option
@click.option(
    "--anchor",
    is_flag=False,
    flag_value=_PRINT,
    metavar="[ANCHOR]",
    help="Print the anchor of the store, or check the one that was printed earlier.",
)
@click.option("--quick", is_flag=True, help="Compare digests only; do not compute the chains anew.")
def verify(store: Path, anchor: str | None, quick: bool) -> None:
    """Check that a store is as it was written: every segment, blob and journal, the chain
    of manifests and the chains of events.

    An anchor is what somebody who can change the store cannot change: write it down
    elsewhere, and check it later with --anchor ANCHOR. What was erased or removed since is
    told.

    Exit code 0 when nothing is wrong, 64 when anything is.
    """
    from flightlog.analysis.wording import counted
    from flightlog.recorder.audit import Anchor, audit_store
    from flightlog.recorder.encryption.store_key import lacking_keys
    from flightlog.recorder.manifest import store_state
    from flightlog.recorder.store import Store
    from flightlog.recorder.verify import verify_store
    from flightlog.trace.terminal_text import escape_terminal

    # An empty one is a variable that is not set, and must not pass for a check.
    given = None if anchor in (None, _PRINT) else Anchor.parse(anchor)
    opened = Store.open(store)
    report = verify_store(opened)
    is_keyless = bool(lacking_keys(opened.layout, store_state(opened.layout)))
    is_auditing = given is not None or not (quick or is_keyless)
    audit = audit_store(opened, anchor=given) if is_auditing else None
    _refuse_problems(store, report, audit)
    unsealed = ""
    if report.unsealed_events:
        unsealed = f", {report.unsealed_events:,} of them not sealed yet"
    chains = "" if audit is None else f", {counted(audit.journals, 'chain')}"
    sizes = f"{counted(report.segments, 'segment')}, {counted(report.events, 'event')}"
    click.echo(f"ok: {sizes}{unsealed}{chains}")
    since = "removed" if given is None else "removed since the anchor"
    for text in audit.removals if audit is not None else ():
        click.echo(f"{since}: {escape_terminal(text)}")
    for note in (*report.notes, *_notes(audit)):
        click.echo(f"note: {note}", err=True)
    if anchor == _PRINT:
        click.echo(str(_anchor(opened)))


def _refuse_problems(store: Path, report: VerifyReport, audit: AuditReport | None) -> None:
    problems = list(dict.fromkeys((*report.problems, *(audit.problems if audit else ()))))
    if problems:
        from flightlog.analysis.wording import counted

        found = "\n  ".join(f"{problem.path}: {problem.what}" for problem in problems)
        raise DamagedError(
            f"{counted(len(problems), 'problem')}\n  {found}",
            where=str(store),
            hint="Restore what is named from a copy; where the history or the anchor does not "
            "fit, compare the whole store with it.",
        )


def _notes(audit: AuditReport | None) -> list[str]:
    from flightlog.analysis.wording import counted

    if audit is None or not audit.without_chain:
        return []
    found = counted(audit.without_chain, "segment")
    return [f"{found} of format 1 without a chain: their sha256 alone holds"]


def _anchor(store: Store) -> object:
    from flightlog.recorder.audit import anchor_of

    return anchor_of(store)
