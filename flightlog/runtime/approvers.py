"""Approvers: a queue on the store that people decide from anywhere, and the terminal.

An approver is any function of an `ApprovalRequest`; these two are ready-made.
Whatever goes wrong is a no: the gateway takes an exception of an approver as a
denial and records its text.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TextIO

from flightlog.control.approval import Approval, ApprovalState, WriteRequest
from flightlog.control.approval_text import write_lines
from flightlog.control.control import Control
from flightlog.errors import ConfigError
from flightlog.runtime.policy import ApprovalRequest, Approver, Decision
from flightlog.runtime.terminal import NoTerminalError, Terminal, controlling_terminal

if TYPE_CHECKING:
    from flightlog.control.approvals import ApprovalQueue

DEFAULT_VALID_S: Final = 3600.0
DEFAULT_TIMEOUT_S: Final = 300.0
MAX_VALID_S: Final = 366 * 86_400.0
SHOWN_CHARS: Final = 400
"""Of one argument, before it is cut."""

_terminal_lock = threading.Lock()


def queue_approver(
    queue: ApprovalQueue | Control | str | Path,
    *,
    wait_s: float = 0.0,
    valid_s: float = DEFAULT_VALID_S,
    poll_s: float = 0.2,
    now_s: Callable[[], float] = time.time,
) -> Approver:
    """An approver that asks people through the store; they answer with `flightlog approvals`.

    It opens a request, or finds the one that an earlier run of the task opened for
    the same write, and waits for a decision as long as the run has time. One that
    nobody decided is `PENDING`: the run ends with `approval_pending`, and the next
    run of the task goes on with the decision.

    Args:
        queue: the store, its `Control`, or the queue itself.
        wait_s: longest wait for a decision, seconds; also ended by the run's own deadline.
        valid_s: how long a new request can be decided and used, seconds.
        poll_s: time between two looks, seconds.
        now_s: wall clock, seconds since the Unix epoch.

    Raises:
        ConfigError: a time that is none.
    """
    for name, value, is_right in (
        ("wait_s", wait_s, wait_s >= 0),
        ("valid_s", valid_s, 0 < valid_s <= MAX_VALID_S),
        ("poll_s", poll_s, 0 < poll_s < math.inf),
    ):
        if not is_right:
            raise ConfigError(
                f"{name}={value!r} of an approver is no time",
                hint=f"Give seconds above 0, valid_s up to {MAX_VALID_S:.0f}.",
            )
    # Made absolute now, so that a process that changes its folder asks at the same store.
    source = Control.at(Path(queue).absolute()) if isinstance(queue, (str, Path)) else queue
    return _QueueApprover(source, wait_s, valid_s, poll_s, now_s)


def terminal_approver(
    *,
    reader: TextIO | None = None,
    writer: TextIO | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    shown_chars: int = SHOWN_CHARS,
) -> Approver:
    """An approver that asks on the terminal; only the typed word `yes` approves.

    Anything else, the end of input, no terminal, or no answer in time is a no. `all`
    shows arguments whole that were too long.

    Args:
        reader, writer: given together; without them the controlling terminal, also
            where the process's own streams are pipes.
        timeout_s: longest wait for the answer, seconds; also ended by the run's own deadline.
        shown_chars: of one argument, before it is cut.

    Raises:
        ConfigError: only one of the streams is given, or a limit that is none.
    """
    if (reader is None) is not (writer is None):
        raise ConfigError("an approver has one stream only", hint="Give reader and writer.")
    if not timeout_s > 0 or shown_chars < 1:
        raise ConfigError(
            f"timeout_s={timeout_s!r}, shown_chars={shown_chars!r}: not above 0",
            hint="Leave them out for the defaults.",
        )
    streams = None if reader is None or writer is None else (reader, writer)
    return _TerminalApprover(streams, timeout_s, shown_chars)


@dataclass(frozen=True, slots=True)
class _QueueApprover:
    """What `queue_approver` gives."""

    asks_people = True

    source: ApprovalQueue | Control
    wait_s: float
    valid_s: float
    poll_s: float
    now_s: Callable[[], float]

    def __repr__(self) -> str:
        return f"queue_approver(wait_s={self.wait_s:g}, valid_s={self.valid_s:g})"

    def __call__(self, request: ApprovalRequest) -> Decision:
        queue = self.source.approvals if isinstance(self.source, Control) else self.source
        write = write_of(request)
        started_s = time.monotonic()
        asked = queue.ask(write, self.now_s(), valid_s=self.valid_s)
        while True:
            found = self._answer(queue, asked, request, started_s)
            if found.state is ApprovalState.PENDING or request.cancelled.is_cancelled:
                request.explain(f"flightlog approvals approve {found.id}")
                return Decision.PENDING
            state = queue.collect(found.id, write, self.now_s())
            if state in (ApprovalState.USED, ApprovalState.PENDING):
                # Another run was first; this one needs an approval of its own.
                asked = queue.ask(write, self.now_s(), valid_s=self.valid_s)
                continue
            request.explain(_told(found, state))
            return Decision.APPROVED if state is ApprovalState.APPROVED else Decision.DENIED

    def _answer(
        self, queue: ApprovalQueue, asked: Approval, request: ApprovalRequest, started_s: float
    ) -> Approval:
        """The request once it is decided, or as it is when the wait or the run is over."""
        found: Approval | None = asked
        while found is not None and found.state is ApprovalState.PENDING:
            left_s = self.wait_s - (time.monotonic() - started_s)
            if (run_left_s := request.remaining_s()) is not None:
                left_s = min(left_s, run_left_s)
            if left_s <= 0 or request.cancelled.wait(min(self.poll_s, left_s)):
                return found
            found = queue.get(asked.id, self.now_s())
        return found or asked


@dataclass(frozen=True, slots=True)
class _TerminalApprover:
    """What `terminal_approver` gives."""

    asks_people = True

    streams: tuple[TextIO, TextIO] | None
    timeout_s: float
    shown_chars: int

    def __repr__(self) -> str:
        return f"terminal_approver(timeout_s={self.timeout_s:g})"

    def __call__(self, request: ApprovalRequest) -> Decision:
        run_left_s = request.remaining_s()
        wait_s = self.timeout_s if run_left_s is None else min(self.timeout_s, run_left_s)
        until_s = time.monotonic() + wait_s
        write = write_of(request)
        try:
            with _one_question(until_s, request), self._terminal() as terminal:
                is_yes = self._asked(terminal, write, request, until_s)
        except NoTerminalError as error:
            request.explain(str(error))
            return Decision.DENIED
        return Decision.APPROVED if is_yes else Decision.DENIED

    def _asked(
        self, terminal: Terminal, write: WriteRequest, request: ApprovalRequest, until_s: float
    ) -> bool:
        max_chars: int | None = self.shown_chars
        while True:
            lines, is_cut = write_lines(write, max_chars=max_chars)
            more = "`all` to see the arguments whole, " if is_cut else ""
            text = "\n".join(["", "An agent asks to write:", *lines])
            terminal.forget_typed()
            terminal.show(f"{text}\nType `yes` to approve, {more}anything else to deny: ")
            typed = terminal.line(until_s, lambda: request.cancelled.is_cancelled)
            if typed is not None and typed.strip() == "all" and is_cut:
                max_chars = None
                continue
            is_yes = typed is not None and typed.strip() == "yes"
            is_yes = is_yes and time.monotonic() < until_s and not request.cancelled.is_cancelled
            why = "approved" if is_yes else "denied"
            if typed is None:
                why = "denied: no answer"
            terminal.show(f"{why}\n")
            request.explain(f"{why} on the terminal")
            return is_yes

    @contextmanager
    def _terminal(self) -> Iterator[Terminal]:
        if self.streams is not None:
            yield Terminal(*self.streams)
            return
        with controlling_terminal() as terminal:
            yield terminal


def write_of(request: ApprovalRequest) -> WriteRequest:
    """The request as the queue and the terminal show it, with the digest of its very arguments.

    Raises:
        UsageError: the arguments cannot be put before a person.
    """
    return WriteRequest.of(
        request.tool,
        request.args,
        effect=request.effect,
        run_id=request.run_id,
        step=request.step,
        agent=request.agent,
        tenant=request.tenant,
        task_id=request.task_id,
        task_digest=request.task_digest,
    )


@contextmanager
def _one_question(until_s: float, request: ApprovalRequest) -> Iterator[None]:
    """Holds the terminal, so that questions of several threads do not mix."""
    while not _terminal_lock.acquire(timeout=0.05):
        if time.monotonic() >= until_s or request.cancelled.is_cancelled:
            raise NoTerminalError("other questions held the terminal until the time was over")
    try:
        yield
    finally:
        _terminal_lock.release()


def _told(found: Approval, state: ApprovalState) -> str:
    """What became of a request, for the trace and the model."""
    if state is ApprovalState.EXPIRED:
        return f"approval {found.id} expired before it could be used"
    why = f": {found.why}" if found.why else ""
    return f"approval {found.id} {state.value} by {found.decided_by}{why}"
