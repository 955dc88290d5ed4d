"""The queue of approvals: bound to one write, decided once, used once, never after its time."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flightlog.control.approval import MAX_ARGS_BYTES, ApprovalState, WriteRequest
from flightlog.control.approvals import KEPT_S, ApprovalQueue
from flightlog.control.control import Control
from flightlog.control.shared_state import SharedState
from flightlog.errors import DamagedError, StoreError, UnknownNameError, UsageError
from flightlog.trace.vocab import Effect
from tests.unit.control.approval_processes import race
from tests.unit.control.processes import child, told

NOW_S, VALID_S = 1000.0, 100.0
PENDING, APPROVED, DENIED = ApprovalState.PENDING, ApprovalState.APPROVED, ApprovalState.DENIED
EXPIRED, USED = ApprovalState.EXPIRED, ApprovalState.USED


@pytest.fixture
def queue() -> ApprovalQueue:
    return ApprovalQueue(SharedState(None))


def write(args: Any = None, **changed: Any) -> WriteRequest:
    fields: dict[str, Any] = {
        "tool": "refund",
        "effect": Effect.WRITE,
        "run_id": "run-1",
        "step": 3,
        "agent": "shop",
        "tenant": "acme",
        "task_id": "t",
        "task_digest": "d",
        **changed,
    }
    return WriteRequest.of(args={"order_id": "A1"} if args is None else args, **fields)


def asked(queue: ApprovalQueue, one: WriteRequest | None = None, *, at_s: float = NOW_S) -> str:
    return queue.ask(one or write(), at_s, valid_s=VALID_S).id


def decide(queue: ApprovalQueue, approval_id: str, **more: Any) -> Any:
    fields = {"is_approved": True, "who": "ann", "why": "fine", "now_s": NOW_S + 1, **more}
    return queue.decide(approval_id, **fields)


def test_an_approval_is_used_once(queue: ApprovalQueue) -> None:
    one = asked(queue)
    assert queue.collect(one, write(), NOW_S) is PENDING
    decide(queue, one)
    assert queue.collect(one, write(), NOW_S + 2) is APPROVED
    assert queue.collect(one, write(), NOW_S + 2) is USED
    found = queue.get(one, NOW_S + 2)
    assert found is not None
    assert (found.state, found.decided_by, found.why, found.taken_by) == (
        USED,
        "ann",
        "fine",
        "run-1",
    )


def test_a_later_run_of_the_task_finds_the_open_and_the_approved_request(
    queue: ApprovalQueue,
) -> None:
    one = asked(queue)
    again = queue.ask(write(run_id="run-2", step=1), NOW_S + 50, valid_s=VALID_S)
    assert (again.id, again.state, again.write.run_id) == (one, PENDING, "run-1")
    assert again.expires_at_us == (NOW_S + VALID_S) * 1e6
    decide(queue, one)
    third = queue.ask(write(run_id="run-3"), NOW_S + 60, valid_s=VALID_S)
    assert (third.id, third.state) == (one, APPROVED)


@pytest.mark.parametrize(
    "other",
    [
        write({"order_id": "A2"}),
        write({"order_id": "A1 "}),
        write({"order_id": "A1", "more": None}),
        write({"order_id": ["A1"]}),
        write({"Order_id": "A1"}),
        write({}),
        write(agent="shop2"),
        write(agent=None),
        write(tenant="acme2"),
        write(tenant=None),
        write(tenant=""),
        write(task_digest="d2"),
        write(task_digest=None),
        write(tool="refund_all"),
    ],
    ids=lambda one: one.args + str(one.binding[:4]),
)
def test_what_differs_needs_an_approval_of_its_own(
    queue: ApprovalQueue, other: WriteRequest
) -> None:
    one = asked(queue)
    decide(queue, one)
    assert queue.ask(other, NOW_S, valid_s=VALID_S).id != one
    with pytest.raises(DamagedError, match="another write"):
        queue.collect(one, other, NOW_S)
    assert queue.collect(one, write(), NOW_S) is APPROVED


def test_equal_arguments_are_the_same_however_they_are_written(queue: ApprovalQueue) -> None:
    one = asked(queue, write({"a": 1, "b": {"x": 2.0, "y": 3}}))
    assert asked(queue, write({"b": {"y": 3, "x": 2}, "a": 1.0})) == one


def test_without_a_digest_the_task_is_known_by_its_id_and_without_both_by_the_run(
    queue: ApprovalQueue,
) -> None:
    by_id = asked(queue, write(task_digest=None))
    assert asked(queue, write(task_digest=None, run_id="run-2")) == by_id
    unknown = write(task_digest=None, task_id=None)
    by_run = asked(queue, unknown)
    assert asked(queue, unknown) == by_run
    assert asked(queue, write(task_digest=None, task_id=None, run_id="run-2")) != by_run
    # An id that looks like a digest is none.
    assert asked(queue, write(task_digest=None, task_id="d")) != asked(queue)


def test_an_approval_after_the_deadline_is_refused_and_never_usable(queue: ApprovalQueue) -> None:
    one = asked(queue)
    with pytest.raises(UsageError, match=f"approval {one} has expired"):
        decide(queue, one, now_s=NOW_S + VALID_S)
    assert queue.collect(one, write(), NOW_S + VALID_S + 1) is EXPIRED
    # Not even after the clock went back.
    with pytest.raises(UsageError, match="expired"):
        decide(queue, one, now_s=NOW_S)
    assert queue.collect(one, write(), NOW_S) is EXPIRED
    assert asked(queue, at_s=NOW_S) != one


def test_an_approval_that_was_not_used_in_time_is_void(queue: ApprovalQueue) -> None:
    one = asked(queue)
    decide(queue, one)
    assert queue.collect(one, write(), NOW_S + VALID_S) is EXPIRED
    assert queue.collect(one, write(), NOW_S + 2) is EXPIRED


def test_a_clock_that_goes_back_does_not_make_a_request_valid_for_longer(
    queue: ApprovalQueue,
) -> None:
    one = asked(queue, at_s=NOW_S + 10_000)
    assert asked(queue, at_s=NOW_S) == one
    with pytest.raises(UsageError, match="expired"):
        decide(queue, one, now_s=NOW_S + VALID_S)


def test_a_denial_holds_for_its_run_and_a_later_run_asks_anew(queue: ApprovalQueue) -> None:
    one = asked(queue)
    decide(queue, one, is_approved=False)
    assert queue.collect(one, write(), NOW_S + 2) is DENIED
    assert queue.collect(one, write(run_id="run-2"), NOW_S + 2) is DENIED  # waited for it too
    assert asked(queue) == one
    assert asked(queue, at_s=NOW_S + 10 * VALID_S) == one
    assert asked(queue, write(run_id="run-2")) != one


def test_a_denial_that_nobody_was_told_answers_the_next_run(queue: ApprovalQueue) -> None:
    one = asked(queue)
    decide(queue, one, is_approved=False)
    assert asked(queue, write(run_id="run-2")) == one
    assert asked(queue, write(run_id="run-2"), at_s=NOW_S + VALID_S) != one


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("second", [True, False])
def test_what_is_decided_stays_decided(queue: ApprovalQueue, first: bool, second: bool) -> None:
    one = asked(queue)
    decide(queue, one, is_approved=first)
    word = "approved" if first else "denied"
    with pytest.raises(UsageError, match=f"approval {one} is {word} already, by ann") as caught:
        decide(queue, one, is_approved=second, who="bob")
    assert caught.value.hint == f"Run the task again to {'use it' if first else 'ask anew'}."
    if first:
        queue.collect(one, write(), NOW_S)
        with pytest.raises(UsageError, match="is used already, by run run-1"):
            decide(queue, one, is_approved=second)


def test_a_decision_on_other_arguments_than_were_looked_at_is_refused(
    queue: ApprovalQueue,
) -> None:
    one = asked(queue)
    with pytest.raises(UsageError, match="is for arguments"):
        decide(queue, one, digest=write({"order_id": "A2"}).args_digest)
    assert decide(queue, one, digest=write().args_digest).state is APPROVED


def test_requests_are_found_by_the_beginning_of_their_id() -> None:
    ids = iter(["abc123", "abd456", "xyz789"])
    queue = ApprovalQueue(SharedState(None), new_id=lambda: next(ids))
    for n in range(3):
        asked(queue, write({"n": n}))
    assert queue.find("x", NOW_S).id == "xyz789"
    assert queue.find(" ABC ", NOW_S).id == "abc123"
    assert queue.find("abc123.", NOW_S).id == "abc123"
    with pytest.raises(UsageError, match="'ab' begins 2 approvals") as several:
        queue.find("ab", NOW_S)
    assert several.value.hint == "One of: abc123, abd456."
    with pytest.raises(UnknownNameError, match="unknown approval 'abc124'") as unknown:
        queue.find("abc124", NOW_S)
    assert "nearest: abc123" in unknown.value.hint
    for none in ("", "%", "abc123x"):
        with pytest.raises(UnknownNameError):
            queue.find(none, NOW_S)


def test_an_id_that_is_taken_is_not_given_again() -> None:
    ids = iter(["a", "a", "a", "b", *"b" * 100])
    queue = ApprovalQueue(SharedState(None), new_id=lambda: next(ids))
    assert asked(queue, write({"n": 0})) == "a"
    assert asked(queue, write({"n": 1})) == "b"
    with pytest.raises(StoreError, match="no free id"):
        asked(queue, write({"n": 2}))


def test_old_requests_are_forgotten_and_fresh_ones_kept(queue: ApprovalQueue) -> None:
    old = asked(queue)
    fresh = asked(queue, write({"n": 1}), at_s=NOW_S + 60)
    asked(queue, write({"n": 2}), at_s=NOW_S + VALID_S + KEPT_S + 1)
    assert queue.get(old, NOW_S) is None
    assert queue.get(fresh, NOW_S) is not None


@pytest.mark.parametrize("args", [{"x": float("nan")}, {"x": {1, 2}}, {1: 2}])
def test_arguments_without_a_json_form_cannot_be_asked_for(args: Any) -> None:
    with pytest.raises(UsageError, match="cannot be put before a person"):
        write(args)


def test_arguments_that_nobody_can_review_cannot_be_asked_for() -> None:
    with pytest.raises(UsageError, match="no person can review"):
        write({"x": "ä" * (MAX_ARGS_BYTES // 2)})
    write({"x": "y" * 1_000_000})


def test_names_with_lone_surrogates_and_zeros_are_kept_as_valid_text(
    queue: ApprovalQueue,
) -> None:
    one = write({"\ud800": "\x00"}, agent="a\udfff", tenant="\x00'; DROP TABLE approvals")
    found = queue.get(asked(queue, one), NOW_S)
    assert found is not None
    assert found.write == one
    assert found.write.tenant == "\x00'; DROP TABLE approvals"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.sqlite"


@pytest.fixture
def on_file(path: Path) -> Iterator[ApprovalQueue]:
    state = SharedState(path)
    yield ApprovalQueue(state)
    state.close()


def tamper(path: Path, statement: str) -> None:
    db = sqlite3.connect(path)
    with db:
        db.execute(statement)
    db.close()


def test_a_row_whose_arguments_were_changed_is_never_approved(
    on_file: ApprovalQueue, path: Path
) -> None:
    one = asked(on_file)
    tamper(path, """UPDATE approvals SET args = '{"order_id":"B2"}'""")
    with pytest.raises(DamagedError, match="its arguments do not have the digest"):
        decide(on_file, one)
    tamper(path, "UPDATE approvals SET state = 'approved'")
    with pytest.raises(DamagedError):
        on_file.collect(one, write(), NOW_S)


def test_a_row_that_was_made_to_answer_another_write_does_not(
    on_file: ApprovalQueue, path: Path
) -> None:
    one = asked(on_file)
    decide(on_file, one)
    other = write({"order_id": "B2"})
    tamper(path, f"UPDATE approvals SET binding = '{other.binding}'")
    assert asked(on_file, other) == one
    with pytest.raises(DamagedError, match="another write"):
        on_file.collect(one, other, NOW_S)


def test_a_request_that_is_gone_is_no_approval(on_file: ApprovalQueue, path: Path) -> None:
    one = asked(on_file)
    tamper(path, "DELETE FROM approvals")
    assert on_file.get(one, NOW_S) is None
    with pytest.raises(StoreError, match=f"approval {one} is gone"):
        on_file.collect(one, write(), NOW_S)


def test_requests_survive_the_processes_that_made_them(path: Path) -> None:
    first = SharedState(path)
    one = asked(ApprovalQueue(first))
    first.close()
    second = SharedState(path)
    decide(ApprovalQueue(second), one)
    second.close()
    third = SharedState(path)
    assert ApprovalQueue(third).collect(one, write(), NOW_S + 2) is APPROVED
    third.close()


def test_of_processes_that_race_for_an_approval_exactly_one_gets_it(tmp_path: Path) -> None:
    control = Control.at(tmp_path)
    queue, rounds = control.approvals, 40
    ids = []
    for n in range(rounds):
        one = WriteRequest.of(
            "refund", {"n": n}, effect=Effect.WRITE, run_id="asker", step=1, task_id="t"
        )
        ids.append(queue.ask(one, NOW_S, valid_s=VALID_S).id)
        queue.decide(ids[-1], is_approved=True, who="ann", why="", now_s=NOW_S)
    with child(race, tmp_path, "run-1") as (_, a), child(race, tmp_path, "run-2") as (_, b):
        for n, one_id in enumerate(ids):
            for pipe in (a, b):
                pipe.send((one_id, n))
            assert sorted((told(a), told(b))) == [False, True]
    control.close()


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["ask", "approve", "deny", "collect"]),
        st.integers(0, 1),  # which arguments
        st.sampled_from(["run-1", "run-2"]),
        st.floats(-300, 300),  # how far the clock jumps
    ),
    max_size=30,
)


@given(STEPS)
def test_whatever_the_order_no_write_is_made_without_an_approval_of_its_own(steps: Any) -> None:
    queue, now_s = ApprovalQueue(SharedState(None)), 10_000.0
    last: dict[int, str] = {}
    approved: dict[str, int] = {}
    used: set[str] = set()
    for what, n, run_id, jump_s in steps:
        now_s += jump_s
        one = write({"n": n}, run_id=run_id)
        if what == "ask":
            last[n] = asked(queue, one, at_s=now_s)
        elif n in last and what == "collect":
            if queue.collect(last[n], one, now_s) is APPROVED:
                assert approved[last[n]] == n
                assert last[n] not in used
                used.add(last[n])
        elif n in last:
            found = queue.get(last[n], now_s)
            assert found is not None
            if found.state is PENDING:
                decide(queue, last[n], is_approved=what == "approve", now_s=now_s)
                if what == "approve":
                    approved[last[n]] = n
            else:
                with pytest.raises(UsageError):
                    decide(queue, last[n], is_approved=what == "approve", now_s=now_s)


def test_forgotten_requests_leave_no_byte_while_others_have_the_file_open(tmp_path: Path) -> None:
    control, other = Control.at(tmp_path), Control.at(tmp_path)
    for run_id in ("run-1", "run-2"):
        one = write({"order_id": f"of-{run_id}"}, run_id=run_id)
        asked(control.approvals, one)
    (kept,) = [one.id for one in other.approvals.requests(NOW_S) if one.write.run_id == "run-2"]
    control.approvals.forget({"run-1", "no such run"})
    folder = tmp_path / "control"
    content = b"".join(path.read_bytes() for path in folder.glob("state.sqlite*"))
    assert b"of-run-1" not in content
    assert b"of-run-2" in content
    assert [one.id for one in other.approvals.requests(NOW_S)] == [kept]
    assert asked(other.approvals, write({"order_id": "of-run-1"}, run_id="run-1")) != kept
    for one_control in (control, other):
        one_control.close()


def test_a_run_that_took_another_ones_approval_is_forgotten_with_it(tmp_path: Path) -> None:
    control = Control.at(tmp_path)
    approval_id = asked(control.approvals, write(run_id="first"))
    control.approvals.decide(approval_id, is_approved=True, who="me", why="", now_s=NOW_S)
    assert control.approvals.collect(approval_id, write(run_id="second"), NOW_S) is APPROVED
    control.approvals.forget({"second"})
    assert control.approvals.requests(NOW_S) == []
    control.close()
