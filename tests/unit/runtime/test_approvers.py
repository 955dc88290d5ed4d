"""The ready-made approvers: a queue on the store, and the terminal. What goes wrong is a no."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import pytest

import flightlog
from flightlog.control.approval import Approval, ApprovalState
from flightlog.control.approvals import ApprovalQueue
from flightlog.control.control import Control
from flightlog.control.shared_state import SharedState
from flightlog.errors import ConfigError, StoreError, UsageError
from flightlog.recorder.recorder import Recorder
from flightlog.runtime.approvers import queue_approver, terminal_approver, write_of
from flightlog.runtime.cancel import CancelToken
from flightlog.runtime.policy import ApprovalRequest, Decision, Policy
from flightlog.runtime.result import RunContext
from flightlog.testing import FakeTool, ScriptedModel, asking, saying
from flightlog.trace.events import StateChanged, ToolCall
from flightlog.trace.sink import MemorySink
from flightlog.trace.vocab import Effect, Outcome
from tests.unit.control.approval_processes import ask_and_wait, run_agent
from tests.unit.control.processes import child, killed, told

NOW_S = 1_750_000_000.0
ARGS = {"order_id": "A1", "amount_usd": 5}


class Hook:
    """Stands for the time that a run has left: does one thing each time it is asked."""

    def __init__(self, *steps: Callable[[], float | None]) -> None:
        self._steps = list(steps)

    def __call__(self) -> float | None:
        return self._steps.pop(0)() if self._steps else 0.0


def left() -> float:
    return 60.0


def request(
    args: Any = None, *, run_id: str = "run-1", explained: list[str] | None = None, **more: Any
) -> ApprovalRequest:
    return ApprovalRequest(
        run_id,
        3,
        "refund",
        Effect.WRITE,
        ARGS if args is None else args,
        "unused",
        agent="shop",
        tenant="acme",
        task_id="t",
        task_digest="d",
        explain=(explained if explained is not None else []).append,
        **more,
    )


@pytest.fixture
def queue() -> ApprovalQueue:
    return ApprovalQueue(SharedState(None))


@pytest.fixture
def now() -> list[float]:
    return [NOW_S]


@pytest.fixture
def approver(queue: ApprovalQueue, now: list[float]) -> Callable[..., Any]:
    def made(**more: Any) -> Any:
        return queue_approver(queue, poll_s=0.001, now_s=lambda: now[0], **more)

    return made


def only(queue: ApprovalQueue) -> Approval:
    (found,) = queue.requests(NOW_S)
    return found


def decide(queue: ApprovalQueue, *, is_approved: bool = True, why: str = "") -> None:
    waiting = [one for one in queue.requests(NOW_S) if one.state is ApprovalState.PENDING]
    for one in waiting:
        queue.decide(one.id, is_approved=is_approved, who="ann", why=why, now_s=NOW_S)


# --- the queue


def test_without_a_wait_the_request_is_opened_and_pending(
    queue: ApprovalQueue, approver: Any
) -> None:
    explained: list[str] = []
    assert approver()(request(explained=explained)) is Decision.PENDING
    found = only(queue)
    assert explained == [f"flightlog approvals approve {found.id}"]
    assert found.write == write_of(request())
    assert found.write.values == ARGS
    assert found.expires_at_us - found.created_at_us == 3600e6


def test_the_next_run_goes_on_with_the_approval_and_the_one_after_asks_anew(
    queue: ApprovalQueue, approver: Any
) -> None:
    ask = approver()
    assert ask(request()) is Decision.PENDING
    assert ask(request(run_id="run-2")) is Decision.PENDING
    decide(queue)
    explained: list[str] = []
    assert ask(request(run_id="run-3", explained=explained)) is Decision.APPROVED
    assert explained == [f"approval {only(queue).id} approved by ann"]
    assert ask(request(run_id="run-4")) is Decision.PENDING
    assert len(queue.requests(NOW_S)) == 2


def test_arguments_changed_by_one_character_are_not_covered(
    queue: ApprovalQueue, approver: Any
) -> None:
    ask = approver()
    ask(request())
    decide(queue)
    assert ask(request({**ARGS, "order_id": "A2"})) is Decision.PENDING
    assert ask(request()) is Decision.APPROVED


def test_the_digest_is_of_the_very_arguments_whatever_the_request_says(
    queue: ApprovalQueue, approver: Any
) -> None:
    ask = approver()
    ask(request())
    assert only(queue).write.args_digest == write_of(request()).args_digest != "unused"


def test_a_decision_that_comes_during_the_wait_is_taken(
    queue: ApprovalQueue, approver: Any
) -> None:
    def agreed() -> float:
        decide(queue)
        return 60.0

    hook = Hook(left, left, agreed)
    assert approver(wait_s=60)(request(remaining_s=hook)) is Decision.APPROVED


def test_a_denial_is_told_with_its_reason(queue: ApprovalQueue, approver: Any) -> None:
    def refused() -> float:
        decide(queue, is_approved=False, why="too much")
        return 60.0

    explained: list[str] = []
    asked = request(remaining_s=Hook(refused), explained=explained)
    assert approver(wait_s=60)(asked) is Decision.DENIED
    assert explained == [f"approval {only(queue).id} denied by ann: too much"]
    assert approver()(request()) is Decision.DENIED


def test_the_run_s_own_deadline_ends_the_wait(queue: ApprovalQueue, approver: Any) -> None:
    hook = Hook(left, left, lambda: 0.0)
    assert approver(wait_s=float("inf"))(request(remaining_s=hook)) is Decision.PENDING


def test_an_approval_after_the_deadline_does_nothing(
    queue: ApprovalQueue, approver: Any, now: list[float]
) -> None:
    explained: list[str] = []

    def late() -> float:
        now[0] += 100
        with pytest.raises(UsageError, match="expired"):
            queue.decide(only(queue).id, is_approved=True, who="ann", why="", now_s=now[0])
        return 60.0

    asked = request(remaining_s=Hook(late), explained=explained)
    assert approver(wait_s=60, valid_s=100)(asked) is Decision.DENIED
    assert explained == [f"approval {queue.requests(now[0])[0].id} expired before it could be used"]


def test_a_cancelled_run_stops_waiting_and_takes_nothing(
    queue: ApprovalQueue, approver: Any
) -> None:
    token = CancelToken()
    hook = Hook(left, lambda: token.cancel() or 60.0)
    assert approver(wait_s=60)(request(remaining_s=hook, cancelled=token)) is Decision.PENDING
    decide(queue)
    assert approver()(request(cancelled=token)) is Decision.PENDING
    assert only(queue).state is ApprovalState.APPROVED


def test_who_loses_the_race_for_an_approval_asks_for_one_of_its_own(
    queue: ApprovalQueue, approver: Any
) -> None:
    def other_run_is_first() -> float:
        decide(queue)
        assert approver()(request(run_id="run-2")) is Decision.APPROVED
        return 60.0

    hook = Hook(other_run_is_first, left)
    assert approver(wait_s=60)(request(remaining_s=hook)) is Decision.PENDING
    assert [one.state for one in queue.requests(NOW_S)] == [
        ApprovalState.USED,
        ApprovalState.PENDING,
    ]


def test_a_state_that_cannot_be_read_is_no_approval(tmp_path: Path) -> None:
    (tmp_path / "control").mkdir()
    (tmp_path / "control" / "state.sqlite").write_bytes(b"no database, and long enough" * 100)
    with pytest.raises(StoreError):
        queue_approver(tmp_path)(request())


def test_a_state_that_is_damaged_during_the_wait_is_no_approval(tmp_path: Path) -> None:
    control = Control.at(tmp_path)

    def damage() -> float:
        control.close()
        for file in (tmp_path / "control").iterdir():
            file.write_bytes(b"no database, and long enough" * 100)
        return 60.0

    with pytest.raises(StoreError):
        queue_approver(control, wait_s=60, poll_s=0.001)(request(remaining_s=Hook(left, damage)))


@pytest.mark.parametrize("args", [{"x": float("inf")}, {"x": object()}])
def test_arguments_that_cannot_be_shown_are_no_approval(approver: Any, args: Any) -> None:
    with pytest.raises(UsageError):
        approver()(request(args))


def test_the_store_is_the_same_after_a_change_of_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ask = queue_approver("store")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    assert ask(request()) is Decision.PENDING
    assert (tmp_path / "store" / "control" / "state.sqlite").exists()


def test_approvers_say_what_they_are_the_same_in_every_process(tmp_path: Path) -> None:
    assert repr(queue_approver(tmp_path, wait_s=30)) == "queue_approver(wait_s=30, valid_s=3600)"
    assert repr(terminal_approver(timeout_s=9)) == "terminal_approver(timeout_s=9)"


@pytest.mark.parametrize(
    "wrong", [{"wait_s": -1}, {"valid_s": 0}, {"valid_s": float("inf")}, {"poll_s": 0}]
)
def test_a_time_that_is_none_is_an_error_at_once(tmp_path: Path, wrong: Any) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        queue_approver(tmp_path, **wrong)


# --- real processes


def flightlog_command(*argv: object) -> subprocess.CompletedProcess[str]:
    code = "import sys; from flightlog.cli import run; sys.exit(run(sys.argv[1:]))"
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, argv)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_an_agent_killed_while_it_waits_goes_on_after_its_restart(tmp_path: Path) -> None:
    Recorder(tmp_path).close()
    with child(ask_and_wait, tmp_path, "run-1") as (process, pipe):
        assert told(pipe) == "waiting"
        killed(process)
    control = Control.at(tmp_path)
    waiting = only(control.approvals)
    done = flightlog_command("approvals", "approve", waiting.id, "--store", tmp_path)
    assert done.returncode == 0, done.stderr
    with child(ask_and_wait, tmp_path, "run-2") as (_, pipe):
        assert told(pipe) == "approved"
    assert (only(control.approvals).state, only(control.approvals).taken_by) == (
        ApprovalState.USED,
        "run-2",
    )
    control.close()


def test_a_restarted_agent_waits_for_the_request_that_it_made_before(tmp_path: Path) -> None:
    Recorder(tmp_path).close()
    with child(ask_and_wait, tmp_path, "run-1") as (process, pipe):
        assert told(pipe) == "waiting"
        killed(process)
    control = Control.at(tmp_path)
    with child(ask_and_wait, tmp_path, "run-2") as (_, pipe):
        assert told(pipe) == "waiting"
        done = flightlog_command(
            "approvals", "deny", only(control.approvals).id, "--store", tmp_path
        )
        assert done.returncode == 0, done.stderr
        assert told(pipe) == "denied"
    control.close()


def pending(queue: ApprovalQueue) -> Approval:
    """The request that another process opens; looked for until it is there."""
    for _ in range(6000):
        for one in queue.requests(time.time()):
            if one.state is ApprovalState.PENDING:
                return one
        threading.Event().wait(0.01)
    raise AssertionError("nobody asks")


def test_of_two_agents_that_race_for_one_approval_one_writes(tmp_path: Path) -> None:
    Recorder(tmp_path).close()
    with (
        child(run_agent, tmp_path, 3600.0) as (_, a),
        child(run_agent, tmp_path, 3600.0) as (_, b),
    ):
        assert (told(a), told(b)) == ("started", "started")
        control = Control.at(tmp_path)
        for is_approved in (True, False):  # the loser asks for its own and is denied
            one = pending(control.approvals)
            control.approvals.decide(
                one.id,
                is_approved=is_approved,
                who="ann",
                why="",
                now_s=time.time(),
            )
            if is_approved:
                (first,) = wait([a, b], timeout=60)[:1]
                assert first.recv() == ARGS
                assert told(first) == "ok"
        assert told(b if first is a else a) == "ok"
        states = sorted(one.state.value for one in control.approvals.requests(NOW_S))
        assert states == ["denied", "used"]
        control.close()


# --- whole runs


def play(approver: Any, tool: FakeTool, *, sink: MemorySink | None = None, **more: Any) -> Any:
    script = [asking(("refund", ARGS)), saying("done")]
    policy = Policy(["refund"], approver=approver, **more)
    agent = flightlog.Agent("shop", ScriptedModel("m", script), [tool], policy=policy)
    task = flightlog.Task("t", "Refund A1.")
    return flightlog.run(agent, task, sink=sink, context=RunContext(tenant="acme"))


def refunds() -> FakeTool:
    return FakeTool("refund", effect=Effect.WRITE)


def test_a_run_stops_while_its_write_waits_and_the_next_goes_on(
    queue: ApprovalQueue, approver: Any
) -> None:
    tool, ask = refunds(), approver()
    first = play(ask, tool)
    one = only(queue)
    assert (first.stop, tool.calls) == ("approval_pending:refund", [])
    assert f"flightlog approvals approve {one.id}" in first.stop_detail
    decide(queue)
    second = play(ask, tool)
    assert (second.stop, tool.calls) == ("ok", [ARGS])
    assert play(ask, tool).stop == "approval_pending:refund"
    assert tool.calls == [ARGS]


def test_a_denied_write_is_not_made_and_the_trace_says_who_and_why(
    queue: ApprovalQueue, approver: Any
) -> None:
    tool, sink, ask = refunds(), MemorySink(), approver()
    play(ask, tool)
    decide(queue, is_approved=False, why="too much")
    assert play(ask, tool, sink=sink).stop == "ok"
    assert tool.calls == []
    (change,) = [event for event in sink.events if isinstance(event, StateChanged)]
    assert (change.subject, change.state_to) == ("approval", "denied")
    (call,) = [event for event in sink.events if isinstance(event, ToolCall)]
    for text in (change.detail, call.error):
        assert f"approval {only(queue).id} denied by ann: too much" in (text or "")


def test_an_unreadable_queue_denies_the_write_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "control").mkdir()
    (tmp_path / "control" / "state.sqlite").write_bytes(b"no database, and long enough" * 100)
    tool, sink = refunds(), MemorySink()
    assert play(queue_approver(tmp_path), tool, sink=sink).stop == "ok"
    assert tool.calls == []
    (call,) = [event for event in sink.events if isinstance(event, ToolCall)]
    assert (call.outcome, "damaged" in (call.error or "")) == (Outcome.APPROVAL_DENIED, True)


# --- the terminal

YES = [("yes\n", True), (" yes \n", True)]
NO = [
    "",
    "\n",
    "y\n",
    "YES\n",
    "Yes\n",
    "yes",
    "yes please\n",
    "no\nyes\n",
    "all\nyes\n",
    "ye\bs\n",
]


def ask_streams(typed: str, args: Any = None, **more: Any) -> tuple[Decision, str]:
    writer = io.StringIO()
    asked = request(args, **more)
    decision = terminal_approver(reader=io.StringIO(typed), writer=writer)(asked)
    assert isinstance(decision, Decision)
    return decision, writer.getvalue()


@pytest.mark.parametrize(("typed", "is_yes"), [*YES, *((typed, False) for typed in NO)])
def test_only_the_word_yes_approves(typed: str, is_yes: bool) -> None:
    wanted = Decision.APPROVED if is_yes else Decision.DENIED
    explained: list[str] = []
    assert ask_streams(typed, explained=explained)[0] is wanted
    assert explained[0].startswith(wanted.value)


def test_the_question_shows_what_is_asked_for() -> None:
    shown = ask_streams("no\n")[1]
    for text in ("refund (write)", "shop", "acme", "t (digest d)", "run-1, step 3"):
        assert text in shown
    assert '"amount_usd": 5\n' in shown
    assert '"order_id": "A1"\n' in shown
    assert write_of(request()).args_digest in shown
    assert "`all`" not in shown


def test_long_arguments_are_cut_with_their_length_and_shown_whole_on_demand() -> None:
    long = {"amount_usd": 5, "note": "x" * 5000 + "END"}
    decision, shown = ask_streams("no\n", long)
    assert "(cut: 400 of 5005 characters)" in shown
    assert "END" not in shown
    decision, shown = ask_streams("all\nyes\n", long)
    assert decision is Decision.APPROVED
    assert 'xEND"\n' in shown.split("Type `yes`")[1]


def test_no_argument_is_pushed_out_of_sight_by_others() -> None:
    many = {f"a{n:03}": "x" * 1000 for n in range(60)}
    _, shown = ask_streams("yes\n", many)
    assert "... and 10 more arguments" in shown
    assert "`all`" in shown


HOSTILE = "\x1b[2J\x1b]0;title\x07\r\n\u202eevil\u2066\u200b\u200d\u3164\x9b1m\x7f\u00a0"


def test_hostile_text_cannot_act_or_hide() -> None:
    asked = ApprovalRequest(
        HOSTILE,
        1,
        HOSTILE,
        Effect.UNKNOWN,
        {HOSTILE: HOSTILE},
        HOSTILE,
        agent=HOSTILE,
        tenant=HOSTILE,
        task_id=HOSTILE,
        task_digest=HOSTILE,
    )
    writer = io.StringIO()
    terminal_approver(reader=io.StringIO("no\n"), writer=writer)(asked)
    shown = writer.getvalue()
    assert {char for char in shown if not " " <= char <= "~"} == {"\n"}
    assert "U+202E RIGHT-TO-LEFT OVERRIDE" in shown
    assert len(shown.splitlines()) == len(ask_streams("no\n", {"a": 1})[1].splitlines()) + 1


def test_letters_that_look_like_others_are_named() -> None:
    assert "U+0430 CYRILLIC SMALL LETTER A" in ask_streams("no\n", {"to": "\u0430nn"})[1]


def test_a_cancelled_run_is_not_approved() -> None:
    token = CancelToken()
    token.cancel()
    assert ask_streams("yes\n", cancelled=token)[0] is Decision.DENIED


def test_a_run_without_time_is_not_approved() -> None:
    assert ask_streams("yes\n", remaining_s=lambda: 0.0)[0] is Decision.DENIED


def test_a_closed_stream_is_a_no() -> None:
    reader, writer = io.StringIO("yes\n"), io.StringIO()
    reader.close()
    explained: list[str] = []
    ask = terminal_approver(reader=reader, writer=writer)
    assert ask(request(explained=explained)) is Decision.DENIED
    assert "cannot be read" in explained[0]
    writer.close()
    assert terminal_approver(reader=io.StringIO(), writer=writer)(request()) is Decision.DENIED


@pytest.mark.parametrize("wrong", [{"reader": io.StringIO()}, {"timeout_s": 0}, {"shown_chars": 0}])
def test_a_terminal_approver_that_cannot_ask_is_an_error_at_once(wrong: Any) -> None:
    with pytest.raises(ConfigError):
        terminal_approver(**wrong)


@pytest.fixture
def terminal() -> Iterator[tuple[int, Any, Any]]:
    """Our end of a pseudo terminal, and the streams at its other end."""
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "r") as reader, os.fdopen(os.dup(theirs), "w") as writer:
        yield ours, reader, writer
    os.close(ours)


def seen(fd: int, word: bytes) -> bytes:
    """What the terminal shows, up to a word."""
    text = b""
    while word not in text:
        text += os.read(fd, 4096)
    return text


# A child that has the pseudo terminal as its controlling one, and no streams on it.
ON_TERMINAL = """
import os, sys
if sys.argv[1] != "none":
    os.open(sys.argv[1], os.O_RDWR)
if sys.argv[2] == "background" and os.fork():
    os.wait()
    os._exit(0)
if sys.argv[2] == "background":
    os.setpgid(0, 0)
from flightlog.runtime.approvers import terminal_approver
from tests.unit.runtime.test_approvers import request
told = []
decision = terminal_approver(timeout_s=float(sys.argv[3]))(request(explained=told))
print(decision.value, *told, flush=True)
"""


def on_terminal(name: str, how: str = "", timeout_s: float = 60.0) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", ON_TERMINAL, name, how, str(timeout_s)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        cwd=Path(__file__).parents[3],
    )


@pytest.mark.parametrize(
    ("typed", "answer"),
    [(b"yes\n", "approved"), (b"no\n", "denied"), (b"\x04", "denied")],
)
def test_the_controlling_terminal_is_asked_whatever_the_streams_are(
    terminal: Any, typed: bytes, answer: str
) -> None:
    ours, reader, _ = terminal
    with on_terminal(os.ttyname(reader.fileno())) as child_:
        question = seen(ours, b"to deny: ")
        assert b"refund (write)" in question
        os.write(ours, typed)
        out, _ = child_.communicate(timeout=60)
    assert out.split()[0] == answer


def test_what_was_typed_before_the_question_is_no_answer(terminal: Any) -> None:
    ours, reader, writer = terminal
    os.write(ours, b"yes\n")
    ask = terminal_approver(reader=reader, writer=writer, timeout_s=0.05)
    assert ask(request()) is Decision.DENIED


def test_without_a_terminal_nothing_is_approved() -> None:
    with on_terminal("none") as child_:
        out, _ = child_.communicate(timeout=60)
    assert out == "denied this process has no terminal\n"


def test_a_process_in_the_background_is_not_suspended_but_denied(terminal: Any) -> None:
    _, reader, _ = terminal
    with on_terminal(os.ttyname(reader.fileno()), "background") as child_:
        out, _ = child_.communicate(timeout=60)
    assert out == "denied this process runs in the background of its terminal\n"


@pytest.mark.parametrize("typed", [b"", b"yes", b"yes" + b"y" * 5000])
@pytest.mark.parametrize("is_closed", [True, False])
def test_no_whole_line_in_time_is_a_no(typed: bytes, is_closed: bool) -> None:
    theirs, ours = os.pipe()
    os.write(ours, typed)
    if is_closed:
        os.close(ours)
    explained: list[str] = []
    with os.fdopen(theirs) as reader:
        ask = terminal_approver(reader=reader, writer=io.StringIO(), timeout_s=0.05)
        assert ask(request(explained=explained)) is Decision.DENIED
    assert explained == ["denied: no answer on the terminal"]
    if not is_closed:
        os.close(ours)


def test_questions_of_several_threads_do_not_mix() -> None:
    """The second is denied when the first holds the terminal until its time is over."""
    theirs, ours = os.pipe()
    is_asking = threading.Event()

    class Writer(io.StringIO):
        def flush(self) -> None:
            is_asking.set()

    with os.fdopen(theirs) as reader:
        first = terminal_approver(reader=reader, writer=Writer())
        said: list[Any] = []
        thread = threading.Thread(target=lambda: said.append(first(request())))
        thread.start()
        assert is_asking.wait(60)
        writer, explained = io.StringIO(), list[str]()
        second = terminal_approver(reader=io.StringIO("yes\n"), writer=writer, timeout_s=0.05)
        assert second(request(explained=explained)) is Decision.DENIED
        assert (writer.getvalue(), "other questions held" in explained[0]) == ("", True)
        os.write(ours, b"yes\n")
        thread.join(60)
        assert said == [Decision.APPROVED]
    os.close(ours)
